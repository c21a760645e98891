"""Which engine computes a posterior: what each can do, what it would cost, and why it is taken."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from hiermodels.engines.assembly import check_independent
from hiermodels.engines.marginal import unsupported
from hiermodels.engines.native import native_unavailable
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.gram import design_groupings
from hiermodels.spec.gram_parts import Grouping
from hiermodels.spec.gram_tree import find_chain
from hiermodels.spec.priors import ResolvedPriors

ENGINES: Final = ("auto", "marginal", "conditional")

# An effective draw takes about so many more gradients where group effects are coordinates:
# longer trajectories, and fewer effective draws of them.
_MORE_GRADIENTS: Final = 8.0
_MOST_BYTES: Final = 1e9


@dataclass(frozen=True)
class Choice:
    """An engine, and why it was taken.

    Attributes
    ----------
    engine : str
        ``"marginal"`` or ``"conditional"``.
    reason : str
    """

    engine: str
    reason: str


def choose_engine(design: Design, family: Family, priors: ResolvedPriors, engine: str) -> Choice:
    """Return the engine of a model.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors
    engine : {"auto", "marginal", "conditional"}

    Raises
    ------
    EngineError
        For another name, or where the engine asked for cannot run the model, with the reason.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine must be one of {', '.join(map(repr, ENGINES))}; got {engine!r}.")
    if engine == "conditional":
        check_independent(design)
        return Choice("conditional", "asked for")
    why_not = unsupported(design, family, priors) or native_unavailable()
    if engine == "marginal":
        if why_not is not None:
            raise EngineError(f"The marginal engine cannot run this model: {why_not}.")
        return Choice("marginal", "asked for")
    if design.residual is not None and not design.residual.independent:
        if why_not is not None:
            raise EngineError(
                f"This residual structure needs the marginal engine, which cannot run it: "
                f"{why_not}."
            )
        return Choice("marginal", "the residual structure needs it")
    if why_not is not None:
        return Choice("conditional", why_not)
    return _cheaper(design, priors)


def _cheaper(design: Design, priors: ResolvedPriors) -> Choice:
    """Return the engine whose effective draws cost less."""
    marginal, size = _marginal_cost(design, priors)
    conditional = _conditional_cost(design) * _MORE_GRADIENTS
    if size > _MOST_BYTES:
        return Choice(
            "conditional",
            f"the crossed groups' cross-products would take {size / 1e9:.1f} GB in marginal form",
        )
    ratio = marginal / conditional
    if ratio <= 1.0:
        return Choice(
            "marginal",
            "coefficients and group effects are integrated out exactly; an effective draw costs "
            f"about {_share(ratio)} of the conditional engine's",
        )
    return Choice(
        "conditional",
        f"with groups crossed this widely an effective draw costs about {ratio:.0f} times as much "
        "in marginal form",
    )


def _share(ratio: float) -> str:
    return f"1/{1.0 / ratio:.0f}" if ratio < 0.7 else f"{100 * ratio:.0f} %"


def _marginal_cost(design: Design, priors: ResolvedPriors) -> tuple[float, float]:
    """Return operations of one gradient and bytes of the cross-products, roughly."""
    groupings = design_groupings(design, priors)
    p = len(design.coefs) + 1
    if not groupings:
        return float(p**3), 8.0 * p * p
    chain = find_chain(groupings)
    crossed = [g for k, g in enumerate(groupings) if k not in chain]
    corner = sum(g.n_levels * g.q for g in crossed) + p
    bases = 1 if design.residual is None else max(len(design.residual.bases), 1)
    operations, numbers = float(corner) ** 3 / 3.0, float(corner) ** 2
    later = sum(groupings[k].q for k in chain)
    for k in chain:
        grouping = groupings[k]
        later -= grouping.q
        width = p + later + _touched(grouping, crossed)
        q = grouping.q
        level = q**3 + q**2 * width * (1 + bases) + q * width**2
        operations += float(np.sum(level))
        numbers += float(np.sum(bases * q * width))
    return 3.0 * operations, 8.0 * numbers


def _touched(grouping: Grouping, crossed: list[Grouping]) -> np.ndarray:
    """Return at most how many columns of crossed groupings each level meets (J,)."""
    rows = np.bincount(grouping.index, minlength=grouping.n_levels).astype(np.float64)
    total = np.zeros(grouping.n_levels)
    for other in crossed:
        total += np.minimum(rows, other.n_levels) * other.q
    return total


def _conditional_cost(design: Design) -> float:
    """Return operations of one gradient, roughly."""
    effects = sum(len(term.coefs) for term in design.terms)
    levels = sum(len(term.levels) * len(term.coefs) ** 2 for term in design.terms)
    return 6.0 * (design.n * (len(design.coefs) + effects + 2) + levels)

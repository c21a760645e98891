"""Which engine computes a posterior: what each can do, what it would cost, and why it is taken."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hiermodels.engines.assembly import check_independent
from hiermodels.engines.integrable import unsupported
from hiermodels.engines.native import kernels_unavailable
from hiermodels.engines.standing import not_conditional
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.gram import design_groupings
from hiermodels.spec.gram_parts import Grouping
from hiermodels.spec.gram_tree import find_chain
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.whole import Whole

_CORRELATED: Final = "the residual structure needs it"
ENGINES: Final = ("auto", "marginal", "conditional")

# An effective draw takes about so many more gradients where group effects are coordinates:
# longer trajectories, and fewer effective draws of them.
_MORE_GRADIENTS: Final = 8.0
# Where levels have a structure of their own its coordinates are not whitened, and an effective draw
# takes so many times more still.
_NOT_WHITENED: Final = 2.5
_MOST_BYTES: Final = 1e9
# A product summed from the rows takes so many times as long as an operation of the other counts:
# it is added to memory, and each row's variance takes an exponential and a logarithm.
_ROW_COST: Final = 8.0
# What a processor does in a second, roughly; and what a step may take where there is no choice.
_A_SECOND: Final = 2e9
_MOST_OPERATIONS: Final = 4e9


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
    standing = isinstance(design.whole, Whole)
    if engine == "conditional":
        check_independent(design)
        reason = not_conditional(design, family, priors) if standing else None
        if reason is not None:
            raise EngineError(
                f"The conditional engine needs the rows, which were not kept: {reason}. Leave "
                "engine at 'auto', or hold the rows: "
                "hm.Model(formula, source, memory='64 GB')."
            )
        return Choice("conditional", "asked for")
    why_not = unsupported(design, family, priors) or kernels_unavailable()
    if engine == "marginal":
        if why_not is not None:
            raise EngineError(f"The marginal engine cannot run this model: {why_not}.")
        return Choice("marginal", "asked for")
    correlated = design.residual is not None and not design.residual.independent
    if correlated and why_not is not None:
        raise EngineError(
            f"This residual structure needs the marginal engine, which cannot run it: {why_not}."
        )
    if standing:
        return _of_products(design, family, priors, why_not)
    if correlated:
        return Choice("marginal", _CORRELATED)
    why_not = why_not or _too_many_rows(design, priors)
    if why_not is not None:
        return Choice("conditional", why_not)
    return _cheaper(design, priors)


def _of_products(
    design: Design, family: Family, priors: ResolvedPriors, why_not: str | None
) -> Choice:
    """Return the engine for rows of which cross-products alone were kept.

    Raises
    ------
    EngineError
        Neither can run the model, or the only one would take too long at it or too much memory.
    """
    wanted = _cheaper(design, priors) if why_not is None else Choice("conditional", why_not)
    if wanted.engine == "marginal":
        correlated = design.residual is not None and not design.residual.independent
        return replace(wanted, reason=_CORRELATED) if correlated else wanted
    unfit = not_conditional(design, family, priors)
    if unfit is None:
        return wanted
    if why_not is None:
        operations, size = _marginal_cost(design, priors)
        if size <= _MOST_BYTES and operations <= _MOST_OPERATIONS:
            return Choice("marginal", f"{unfit}, and cross-products are all that is kept of them")
        why_not = (
            f"a step of the sampler would take {size / 1e9:.1f} GB and about "
            f"{operations / _A_SECOND:.1f} s in marginal form, the groups being crossed so widely"
        )
    raise EngineError(
        f"Rows that were not kept need the marginal engine here, as {unfit}; and it cannot run "
        f"this model: {why_not}. Hold the rows: hm.Model(formula, source, memory='64 GB')."
    )


def _too_many_rows(design: Design, priors: ResolvedPriors) -> str | None:
    """Return why the rows cannot be kept for sums that are made again, None where they can."""
    size = _rows_cost(design, design_groupings(design, priors))[1]
    if size <= _MOST_BYTES:
        return None
    return (
        f"its residual variances differ from row to row, and keeping {design.n:,} rows with the "
        f"places of their products would take {size / 1e9:.1f} GB"
    )


def _rows_cost(design: Design, groupings: tuple[Grouping, ...]) -> tuple[float, float]:
    """Return operations and bytes of products summed from the rows at every evaluation."""
    residual = design.residual
    if residual is None or not residual.by_rows:
        return 0.0, 0.0
    tail = len(design.coefs) + 1
    # each membership of a row has columns of its own
    effects = [g.q for g in groupings for _ in range(g.slots.shape[1])]
    # each grouping's columns with its own and every later one's, and with the coefficients'
    products = sum(q * (sum(effects[k:]) + tail) for k, q in enumerate(effects)) + tail**2
    families = sum(len(effects) - k + 1 for k in range(len(effects))) + 1
    numbers = sum(effects) + tail + 2 * families + 3
    operations = _ROW_COST * len(design.y) * products * (1 + residual.n_sigma)
    return operations, 8.0 * len(design.y) * numbers


def _cheaper(design: Design, priors: ResolvedPriors) -> Choice:
    """Return the engine whose effective draws cost less."""
    marginal, size = _marginal_cost(design, priors)
    conditional = _conditional_cost(design) * _MORE_GRADIENTS
    if not all(term.plain for term in design.terms):
        conditional *= _NOT_WHITENED
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
    why = "groups crossed this widely"
    if _rows_cost(design, design_groupings(design, priors))[0] > 0.5 * marginal:
        why = "a residual variance that takes so many values"
    return Choice(
        "conditional",
        f"with {why} an effective draw costs about {ratio:.0f} times as much in marginal form",
    )


def _share(ratio: float) -> str:
    return f"1/{1.0 / ratio:.0f}" if ratio < 0.7 else f"{100 * ratio:.0f} %"


def _marginal_cost(design: Design, priors: ResolvedPriors) -> tuple[float, float]:
    """Return operations of one gradient and bytes of the cross-products, roughly."""
    groupings = design_groupings(design, priors)
    p = len(design.coefs) + 1
    again, kept = _rows_cost(design, groupings)
    if not groupings:
        return 3.0 * float(p**3) + again, 8.0 * p * p + kept
    chain = find_chain(groupings)
    crossed = [g for k, g in enumerate(groupings) if k not in chain]
    corner = sum(g.n_levels * g.q for g in crossed) + p
    bases = _n_bases(design)
    operations, numbers = float(corner) ** 3 / 3.0, float(corner) ** 2 + kept / 8.0
    later = sum(groupings[k].q for k in chain)
    for k in chain:
        grouping = groupings[k]
        later -= grouping.q
        width = p + later + _touched(grouping, crossed)
        q = grouping.q
        level = q**3 + q**2 * width * (1 + bases) + q * width**2
        operations += float(np.sum(level))
        numbers += float(np.sum(bases * q * width))
    return 3.0 * operations + again, 8.0 * numbers


def _n_bases(design: Design) -> int:
    """Return of how many matrices cross-products are kept."""
    residual = design.residual
    if residual is None or residual.found is None:
        return 1
    return 1 + residual.n_sigma if residual.by_rows else residual.found.n_bases


def _touched(grouping: Grouping, crossed: list[Grouping]) -> np.ndarray:
    """Return at most how many columns of crossed groupings each level meets (J,)."""
    rows = np.bincount(grouping.index, minlength=grouping.n_levels).astype(np.float64)
    total = np.zeros(grouping.n_levels)
    for other in crossed:
        total += np.minimum(rows * other.slots.shape[1], other.n_levels) * other.q
    return total


def _conditional_cost(design: Design) -> float:
    """Return operations of one gradient, roughly."""
    effects, levels = 0, 0.0
    for term in design.terms:
        q = len(term.coefs)
        effects += q if term.members is None else q * term.members.index.shape[1]
        levels += len(term.levels) * q**2
        # a known covariance's factor takes a pass over its triangle
        levels += 0.0 if term.cov is None else len(term.levels) ** 2 * q
    return 6.0 * (len(design.y) * (len(design.coefs) + effects + 2) + levels)

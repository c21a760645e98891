"""R2D2M2: one R squared, shared out among coefficients and the sds of group effects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import PriorError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import JOINT, Prior
from hiermodels.spec.families import Family
from hiermodels.spec.names import indexed, sd_name
from hiermodels.spec.predictors import Predictor, Term

Array = NDArray[np.float64]


class _TermPriors(Protocol):
    @property
    def sd(self) -> tuple[Prior, ...]: ...


class _Parameter(Protocol):
    @property
    def name(self) -> str: ...


class _Priors(Protocol):
    @property
    def coef(self) -> tuple[Prior, ...]: ...
    @property
    def terms(self) -> Sequence[_TermPriors]: ...
    @property
    def residual(self) -> Any: ...
    @property
    def parameters(self) -> Sequence[_Parameter]: ...


@dataclass(frozen=True, eq=False)
class Shares:
    """What an R2D2M2 prior is shared out among.

    With R squared and shares that sum to 1, the sd of part k is
    ``scales[k] * sigma * sqrt(share[k] * R2 / (1 - R2))``: of a coefficient's prior, or of group
    effects. Without a residual sd, sigma is 1.

    Attributes
    ----------
    prior : Prior
        Its mean, precision and concentration.
    coefs : tuple of int
        Positions of coefficients: the first parts.
    sds : tuple of (int, int)
        Bars, and positions among their sds: the other parts.
    scales : ndarray (C,)
        What multiplies each part: 1 / sd of its column.
    residual : bool
        Whether a residual sd multiplies them all.
    """

    prior: Prior
    coefs: tuple[int, ...]
    sds: tuple[tuple[int, int], ...]
    scales: Array
    residual: bool

    @property
    def size(self) -> int:
        """Number of parts."""
        return len(self.scales)

    @property
    def beta(self) -> tuple[float, float]:
        """The two shapes of R squared's beta distribution."""
        mean, precision = self.prior.values[:2]
        return mean * precision, (1.0 - mean) * precision

    @property
    def concentration(self) -> float:
        """Of the symmetric Dirichlet distribution of the shares."""
        return self.prior.values[2]

    def part_sds(self, r2: Any, share: Any, sigma: Any) -> Any:
        """Return the parts' sds (..., C).

        Parameters
        ----------
        r2 : ndarray or tensor (...)
        share : ndarray or tensor (..., C)
        sigma : ndarray or tensor (...), or None
            The residual sd; None for 1.

        Notes
        -----
        Aguilar and Buerkner (2023), https://doi.org/10.1214/23-EJS2136.
        """
        whole = (r2 / (1.0 - r2))[..., None]
        found = self.scales * (share * whole) ** 0.5
        return found if sigma is None else found * sigma[..., None]

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return draws of R squared (size,) and of the shares (size, C)."""
        r2 = rng.beta(*self.beta, size)
        return r2, rng.dirichlet(np.full(self.size, self.concentration), size)


def find_shares(priors: _Priors) -> Shares | None:
    """Return what an R2D2M2 prior of the mean governs, None where there is none.

    Parameters
    ----------
    priors : ResolvedPriors
    """
    coefs = tuple(k for k, prior in enumerate(priors.coef) if prior.name == JOINT)
    sds = tuple(
        (t, k)
        for t, own in enumerate(priors.terms)
        for k, prior in enumerate(own.sd)
        if prior.name == JOINT
    )
    found = [priors.coef[k] for k in coefs] + [priors.terms[t].sd[k] for t, k in sds]
    if not found:
        return None
    scales = np.array([prior.values[3] for prior in found])
    residual = priors.residual is not None or any(p.name == "sigma" for p in priors.parameters)
    return Shares(found[0], coefs, sds, scales, residual)


def share_labels(part: Predictor, shares: Shares) -> tuple[str, ...]:
    """Return what the table of priors calls each part: ``b[Days]``, ``sd_Subject[Days]``."""
    slopes = [indexed("b", part.coefs[k]) for k in shares.coefs]
    bars = [tuple(_sd_labels(term)) for term in part.terms]
    return (*slopes, *(bars[t][k] for t, k in shares.sds))


def _sd_labels(term: Term) -> Iterator[str]:
    """Yield what each sd of a bar is called, subpopulation by subpopulation."""
    name = sd_name(term.group)
    for label in ("",) if term.by is None else term.by.labels:
        for coef in term.coefs:
            yield indexed(name, label, coef) if label else indexed(name, coef)


def check_shares(design: Design, family: Family) -> None:
    """Raise PriorError where R squared of a model has no meaning.

    Parameters
    ----------
    design : Design
    family : Family
    """
    if design.intercept is None and not design.thresholds:
        raise PriorError(
            f"{JOINT} shares out the variance about an intercept, and this formula has none. Add "
            "the intercept, or give 'b' and 'sd' priors of their own."
        )
    sigma = None if design.residual is None else design.residual.sigma
    several = sigma is not None and sigma.kind != "one"
    several = several or any(own.name == "sigma" for own in design.parameters)
    if several or (design.residual is not None and sigma is None):
        what = "several residual sds" if several else "no residual sd, only known errors"
        raise PriorError(
            f"{JOINT} holds the explained variance against that of the residuals, and this model "
            f"has {what}. Use one sigma for all rows, or give 'b' and 'sd' priors of their own."
        )

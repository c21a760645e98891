"""The parts of a conditional problem: priors, bars and further parameters as arrays."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_POSITIVE: Final = (0.0, math.inf)
_ANY: Final = (-math.inf, math.inf)

# By kind, the open interval in which each argument lies.
_Kinds = dict[str, tuple[tuple[float, float], ...]]
COEF_KINDS: Final[_Kinds] = {
    "Normal": (_ANY, _POSITIVE),
    "StudentT": (_POSITIVE, _ANY, _POSITIVE),
    "Cauchy": (_ANY, _POSITIVE),
    "Laplace": (_ANY, _POSITIVE),
}
SD_KINDS: Final[_Kinds] = {
    "HalfStudentT": (_POSITIVE, _POSITIVE),
    "HalfNormal": (_POSITIVE,),
    "HalfCauchy": (_POSITIVE,),
    "Exponential": (_POSITIVE,),
    "Gamma": (_POSITIVE, _POSITIVE),
    "InverseGamma": (_POSITIVE, _POSITIVE),
    "LogNormal": (_ANY, _POSITIVE),
}
# Of a probability, on (0, 1).
UNIT_KINDS: Final[_Kinds] = {"Beta": (_POSITIVE, _POSITIVE)}


@dataclass(frozen=True)
class PriorRow:
    """A prior of one coefficient or one sd, resolved to numbers, with PyMC's parameters.

    Parameters
    ----------
    kind
        For coefficients "Normal" (mu, sigma), "StudentT" (nu, mu, sigma), "Cauchy" (alpha, beta),
        "Laplace" (mu, b); for sds "HalfStudentT" (nu, sigma), "HalfNormal" (sigma), "HalfCauchy"
        (beta), "Exponential" (lam), "Gamma" (alpha, beta), "InverseGamma" (alpha, beta),
        "LogNormal" (mu, sigma); for probabilities "Beta" (alpha, beta).
    args
        The numbers, in the order above.

    Examples
    --------
    >>> PriorRow("Normal", (0.0, 2.5))
    PriorRow(kind='Normal', args=(0.0, 2.5))
    """

    kind: str
    args: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class BarBlock:
    """One bar: its predictors, its grouping and the priors of its scale.

    Parameters
    ----------
    z
        Predictors of the effects, (n, q).
    index
        Level of each row, (n,), from 0 to n_levels - 1. Without meaning where `members` is given.
    n_levels
        Number of levels J.
    sd_priors
        Priors of the q sds; with `by`, these for each subpopulation, or q for each, subpopulation
        by subpopulation.
    lkj_eta
        Shape of the LKJ prior of the correlation matrix; None where uncorrelated. Without meaning
        for q = 1.
    centred
        True: the coordinates are the group effects; False: standard normal, times sds and factor.
    shift
        Centred bars only, (n_levels, q, p): the coordinates are the group effects plus `shift`
        times the coefficients, which frees the coefficients from the effects where the data say
        much about each group (hierarchical centring). None: no shift.
    by
        Subpopulation of each level, (n_levels,), from 0: each has its own sds and correlations.
        None: all levels share them.
    cov
        Known covariance between the levels up to the sds, (n_levels, n_levels), symmetric and
        positive definite: Cov(b_ja, b_kc) = cov_jk Sigma_ac. None: independent levels.
    nu_prior
        Prior of the degrees of freedom of Student's t: the levels' effects are multivariate t,
        with Sigma as scale matrix. None: normal.
    members, member_weights
        Multi-membership, (n, M) both: a row's effect is the weighted sum of those of its M levels.
        Weights that differ by effect are (n, M, q).

    Examples
    --------
    >>> prior = PriorRow("HalfNormal", (1.0,))
    >>> bar = BarBlock(np.ones((4, 1)), np.array([0, 0, 1, 1]), 2, (prior,), None, False)
    >>> bar.q, bar.n_correlations, bar.n_by
    (1, 0, 1)
    """

    z: Floats
    index: NDArray[np.intp]
    n_levels: int
    sd_priors: tuple[PriorRow, ...]
    lkj_eta: float | None
    centred: bool
    shift: Floats | None = None
    by: NDArray[np.intp] | None = None
    cov: Floats | None = None
    nu_prior: PriorRow | None = None
    members: NDArray[np.intp] | None = None
    member_weights: Floats | None = None

    @property
    def q(self) -> int:
        """Number of effects."""
        return int(self.z.shape[1])

    @property
    def n_by(self) -> int:
        """Number of subpopulations with their own sds and correlations; 1 without `by`."""
        if self.by is None:
            return 1
        # on some of the rows a subpopulation may have no level left, and keeps its sds
        return max(int(self.by.max()) + 1, len(self.sd_priors) // self.q)

    @property
    def every_sd_prior(self) -> tuple[PriorRow, ...]:
        """Priors of the sds of all subpopulations, subpopulation by subpopulation."""
        if len(self.sd_priors) == self.q:
            return self.sd_priors * self.n_by
        return self.sd_priors

    @property
    def order(self) -> NDArray[np.intp]:
        """Levels in the order of their coordinates, (J,): subpopulation by subpopulation."""
        if self.by is None:
            return np.arange(self.n_levels)
        return np.argsort(self.by, kind="stable")

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Number of levels of each subpopulation, (n_by,)."""
        if self.by is None:
            return np.array([self.n_levels])
        return np.bincount(self.by, minlength=self.n_by).astype(np.intp)

    @property
    def n_correlations(self) -> int:
        """Free correlations of a subpopulation: q (q - 1) / 2, or 0 where uncorrelated."""
        return 0 if self.lkj_eta is None else self.q * (self.q - 1) // 2


@dataclass(frozen=True, eq=False)
class ParameterBlock:
    """A further parameter of a family: one value, a value by stratum, cutpoints, or a predictor.

    Parameters
    ----------
    name
        "sigma", "nu", "shape", "phi", "zi" or "cutpoints".
    link
        Of the linear predictor, and of the coordinates of values: "log" or "logit"; "ordered" for
        cutpoints, whose coordinates are the first one and the logarithms of the differences.
    values
        Priors on the response scale: one; one for each stratum; or one for each of the K - 1
        cutpoints, whose density is the product of these on increasing cutpoints. Empty for a
        linear predictor.
    index
        Stratum of each row, (n,), from 0; None where all rows share one value.
    X
        Model matrix of the linear predictor, (n, p); None for values.
    offset
        Added to the linear predictor, (n,); None for zeros.
    coef_priors
        Priors of the p coefficients, on the link scale.
    bars
        The linear predictor's bars. A `shift` refers to this block's coefficients.

    Examples
    --------
    >>> ParameterBlock("shape", "log", (PriorRow("HalfStudentT", (3.0, 5.0)),)).linear
    False
    >>> ParameterBlock("shape", "log", X=np.ones((4, 1)),
    ...                coef_priors=(PriorRow("Normal", (0.0, 2.5)),)).linear
    True
    """

    name: str
    link: str
    values: tuple[PriorRow, ...] = ()
    index: NDArray[np.intp] | None = None
    X: Floats | None = None
    offset: Floats | None = None
    coef_priors: tuple[PriorRow, ...] = ()
    bars: tuple[BarBlock, ...] = ()

    @property
    def linear(self) -> bool:
        """Whether it is a linear predictor."""
        return self.X is not None

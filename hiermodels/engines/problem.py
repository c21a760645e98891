"""What the conditional engine computes: one model as arrays, and the layout of its coordinates."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_POSITIVE: Final = (0.0, math.inf)
_ANY: Final = (-math.inf, math.inf)

# By kind, the open interval in which each argument lies.
COEF_KINDS: Final = {
    "Normal": (_ANY, _POSITIVE),
    "StudentT": (_POSITIVE, _ANY, _POSITIVE),
    "Cauchy": (_ANY, _POSITIVE),
    "Laplace": (_ANY, _POSITIVE),
}
SD_KINDS: Final = {
    "HalfStudentT": (_POSITIVE, _POSITIVE),
    "HalfNormal": (_POSITIVE,),
    "HalfCauchy": (_POSITIVE,),
    "Exponential": (_POSITIVE,),
    "Gamma": (_POSITIVE, _POSITIVE),
    "InverseGamma": (_POSITIVE, _POSITIVE),
    "LogNormal": (_ANY, _POSITIVE),
}
LINKS: Final = {
    "gaussian": "identity",
    "bernoulli": "logit",
    "binomial": "logit",
    "poisson": "log",
}


@dataclass(frozen=True)
class PriorRow:
    """A prior of one coefficient or one sd, resolved to numbers, with PyMC's parameters.

    Parameters
    ----------
    kind
        For coefficients "Normal" (mu, sigma), "StudentT" (nu, mu, sigma), "Cauchy" (alpha, beta),
        "Laplace" (mu, b); for sds "HalfStudentT" (nu, sigma), "HalfNormal" (sigma), "HalfCauchy"
        (beta), "Exponential" (lam), "Gamma" (alpha, beta), "InverseGamma" (alpha, beta),
        "LogNormal" (mu, sigma).
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
        Level of each row, (n,), from 0 to n_levels - 1.
    n_levels
        Number of levels J.
    sd_priors
        Priors of the q sds.
    lkj_eta
        Shape of the LKJ prior of the correlation matrix; None where uncorrelated. Without meaning
        for q = 1.
    centred
        True: the coordinates are the group effects; False: standard normal, times sds and factor.
    shift
        Centred bars only, (n_levels, q, p): the coordinates are the group effects plus `shift`
        times the coefficients, which frees the coefficients from the effects where the data say
        much about each group (hierarchical centring). None: no shift.

    Examples
    --------
    >>> prior = PriorRow("HalfNormal", (1.0,))
    >>> bar = BarBlock(np.ones((4, 1)), np.array([0, 0, 1, 1]), 2, (prior,), None, False)
    >>> bar.q, bar.n_correlations
    (1, 0)
    """

    z: Floats
    index: NDArray[np.intp]
    n_levels: int
    sd_priors: tuple[PriorRow, ...]
    lkj_eta: float | None
    centred: bool
    shift: Floats | None = None

    @property
    def q(self) -> int:
        """Number of effects."""
        return int(self.z.shape[1])

    @property
    def n_correlations(self) -> int:
        """Number of free correlations: q (q - 1) / 2, or 0 where uncorrelated."""
        return 0 if self.lkj_eta is None else self.q * (self.q - 1) // 2


@dataclass(frozen=True)
class BarSlices:
    """Where one bar stands in the unconstrained vector.

    Parameters
    ----------
    sds
        Logarithms of the q sds.
    correlations
        Partial correlations' arctanh y_ij, i > j, row by row; empty where there are none.
    effects
        J * q values, level by level: standard normal, or the group effects where centred.

    Examples
    --------
    >>> BarSlices(slice(0, 1), slice(1, 1), slice(1, 19)).effects.stop
    19
    """

    sds: slice
    correlations: slice
    effects: slice


@dataclass(frozen=True)
class Layout:
    """The parts of the unconstrained vector, in their order.

    Parameters
    ----------
    coef
        The p population coefficients.
    bars
        One record for each bar.
    sigma
        Position of log sigma, the last one; None where the model has no sigma.
    ndim
        Length of the vector.

    Examples
    --------
    >>> Layout(slice(0, 2), (), 2, 3).ndim
    3
    """

    coef: slice
    bars: tuple[BarSlices, ...]
    sigma: int | None
    ndim: int


@dataclass(frozen=True, eq=False)
class ConditionalProblem:
    """A model in conditional form: group effects explicit, everything resolved to numbers.

    Parameters
    ----------
    family, link
        Names: gaussian/identity, bernoulli/logit, binomial/logit or poisson/log have kernels.
    y
        Response, (n,); successes for binomial.
    X
        Model matrix of the population coefficients, (n, p).
    offset
        Added to the linear predictor, (n,).
    trials
        Binomial only, (n,).
    weights
        Each row's log likelihood is multiplied by it, (n,).
    precision
        Gaussian only, (n,): variance sigma^2 / precision.
    se
        Gaussian only, (n,): known sds. With `sigma_prior` the variance is se^2 + sigma^2, without
        it se^2.
    sigma_prior
        Prior of the residual sd; None where there is none.
    coef_priors
        Priors of the p coefficients.
    bars
        The bars, in written order.

    Examples
    --------
    >>> normal, half = PriorRow("Normal", (0.0, 2.5)), PriorRow("HalfNormal", (1.0,))
    >>> problem = ConditionalProblem(
    ...     "gaussian", "identity", np.array([1.0, 2.0]), np.ones((2, 1)), np.zeros(2),
    ...     None, None, None, None, half, (normal,), ())
    >>> supports(problem) is None
    True
    >>> layout(problem).ndim
    2
    """

    family: str
    link: str
    y: Floats
    X: Floats
    offset: Floats
    trials: Floats | None
    weights: Floats | None
    precision: Floats | None
    se: Floats | None
    sigma_prior: PriorRow | None
    coef_priors: tuple[PriorRow, ...]
    bars: tuple[BarBlock, ...]

    @cached_property
    def layout(self) -> Layout:
        """The parts of the unconstrained vector; see `layout`."""
        at = self.X.shape[1]
        bars = []
        for bar in self.bars:
            sds = slice(at, at + bar.q)
            correlations = slice(sds.stop, sds.stop + bar.n_correlations)
            effects = slice(correlations.stop, correlations.stop + bar.n_levels * bar.q)
            bars.append(BarSlices(sds, correlations, effects))
            at = effects.stop
        sigma = None if self.sigma_prior is None else at
        ndim = at if sigma is None else at + 1
        return Layout(slice(0, self.X.shape[1]), tuple(bars), sigma, ndim)


def layout(problem: ConditionalProblem) -> Layout:
    """Return where each part stands in the unconstrained vector.

    Parameters
    ----------
    problem
        The model.

    Returns
    -------
    Layout
        Coefficients; by bar log sds, correlations and effects; log sigma last.

    Examples
    --------
    >>> half = PriorRow("HalfNormal", (1.0,))
    >>> bar = BarBlock(np.ones((4, 2)), np.array([0, 0, 1, 1]), 2, (half, half), 2.0, False)
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(4), np.ones((4, 1)), np.zeros(4),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), (bar,))
    >>> layout(problem).bars[0]
    BarSlices(sds=slice(1, 3, None), correlations=slice(3, 4, None), effects=slice(4, 8, None))
    """
    return problem.layout


def supports(problem: ConditionalProblem) -> str | None:
    """Return None where the compiled kernel can run the model, else the reason in words.

    Parameters
    ----------
    problem
        The model.

    Returns
    -------
    str or None
        The first reason found.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "gamma", "log", np.ones(2), np.ones((2, 0)), np.zeros(2),
    ...     None, None, None, None, None, (), ())
    >>> supports(problem)
    'there is no kernel for the family gamma with link log'
    """
    if LINKS.get(problem.family) != problem.link:
        return f"there is no kernel for the family {problem.family} with link {problem.link}"
    return _unsupported_shape(problem) or _unsupported_rows(problem) or _unsupported_prior(problem)


def _unsupported_shape(problem: ConditionalProblem) -> str | None:
    """Return what is wrong with the arrays' shapes."""
    n, p = problem.X.shape
    rows = {
        "y": problem.y, "offset": problem.offset, "trials": problem.trials,
        "weights": problem.weights, "precision": problem.precision, "se": problem.se,
    }  # fmt: skip
    for name, values in rows.items():
        if values is not None and values.shape != (n,):
            return f"{name} has shape {values.shape}, where X has {n} rows"
    if len(problem.coef_priors) != p:
        return f"there are {len(problem.coef_priors)} coefficient priors for {p} coefficients"
    for bar in problem.bars:
        if bar.z.shape[0] != n or bar.index.shape != (n,):
            return f"a bar has {bar.z.shape[0]} rows of z and {bar.index.size} of index, not {n}"
        if n and not 0 <= bar.index.min() <= bar.index.max() < bar.n_levels:
            return f"a bar's index leaves the range of its {bar.n_levels} levels"
        if bar.shift is not None and (
            not bar.centred or bar.shift.shape != (bar.n_levels, bar.q, p)
        ):
            return "a shift belongs to a centred bar, (levels, effects, coefficients)"
        if len(bar.sd_priors) != bar.q:
            return f"there are {len(bar.sd_priors)} sd priors for {bar.q} effects"
    return None


def _unsupported_rows(problem: ConditionalProblem) -> str | None:
    """Return what the family lacks, or has and cannot use."""
    gaussian = problem.family == "gaussian"
    if not gaussian and (problem.sigma_prior or problem.se is not None):
        return f"the family {problem.family} has no sigma and no se"
    if not gaussian and problem.precision is not None:
        return f"the family {problem.family} has no precision"
    if gaussian and problem.sigma_prior is None and problem.se is None:
        return "a gaussian model needs a prior of sigma or known sds"
    if problem.precision is not None and problem.se is not None:
        return "precision and se together are not defined"
    if (problem.family == "binomial") != (problem.trials is not None):
        return "trials belong to the binomial family, and it needs them"
    return None


def _unsupported_prior(problem: ConditionalProblem) -> str | None:
    """Return which prior the kernel does not know, or cannot take."""
    sigma = () if problem.sigma_prior is None else (problem.sigma_prior,)
    sds = [prior for bar in problem.bars for prior in bar.sd_priors]
    for priors, kinds, what in (
        (problem.coef_priors, COEF_KINDS, "a coefficient"),
        ([*sds, *sigma], SD_KINDS, "an sd"),
    ):
        for prior in priors:
            ranges = kinds.get(prior.kind)
            if ranges is None:
                return f"the kernel has no prior {prior.kind} of {what}"
            if len(ranges) != len(prior.args):
                return f"{prior.kind} takes {len(ranges)} numbers, not {prior.args}"
            if not all(lo < value < hi for (lo, hi), value in zip(ranges, prior.args, strict=True)):
                return f"{prior.kind}{prior.args} has a number out of its range"
    for bar in problem.bars:
        if bar.lkj_eta is not None and not 0.0 < bar.lkj_eta < math.inf:
            return f"the shape of an LKJ prior is positive, not {bar.lkj_eta}"
    return None

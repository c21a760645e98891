"""What the conditional engine computes: one model as arrays, and the layout of its coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.blocks import (
    COEF_KINDS,
    SD_KINDS,
    BarBlock,
    Floats,
    ParameterBlock,
    PriorRow,
)

__all__ = [
    "COEF_KINDS",
    "SD_KINDS",
    "BarBlock",
    "BarSlices",
    "ConditionalProblem",
    "Floats",
    "Layout",
    "ParameterBlock",
    "ParameterSlices",
    "PriorRow",
    "layout",
]


@dataclass(frozen=True)
class BarSlices:
    """Where one bar stands in the unconstrained vector.

    Parameters
    ----------
    sds
        Logarithms of the q sds; subpopulation by subpopulation where there are several.
    correlations
        Partial correlations' arctanh y_ij, i > j, row by row, subpopulation by subpopulation;
        empty where there are none.
    effects
        J * q values, level by level in the bar's `order`: standard normal, or the group effects
        where centred.
    nu
        Position of the logarithm of Student's degrees of freedom; None for normal effects.

    Examples
    --------
    >>> BarSlices(slice(0, 1), slice(1, 1), slice(1, 19)).effects.stop
    19
    """

    sds: slice
    correlations: slice
    effects: slice
    nu: int | None = None


@dataclass(frozen=True)
class ParameterSlices:
    """Where one further parameter stands in the unconstrained vector.

    Parameters
    ----------
    name
        As in `ParameterBlock`.
    values
        Values on the link; the first cutpoint and the log differences. Empty for a predictor.
    coef
        Coefficients of its linear predictor; empty for values.
    bars
        One record for each bar of its linear predictor.

    Examples
    --------
    >>> ParameterSlices("shape", slice(3, 4), slice(4, 4), ()).values.start
    3
    """

    name: str
    values: slice
    coef: slice
    bars: tuple[BarSlices, ...]


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
        Position of log sigma; None where the model has no sigma, or not one for all rows.
    ndim
        Length of the vector.
    parameters
        One record for each further parameter, `sigma` included.

    Examples
    --------
    >>> Layout(slice(0, 2), (), 2, 3).ndim
    3
    """

    coef: slice
    bars: tuple[BarSlices, ...]
    sigma: int | None
    ndim: int
    parameters: tuple[ParameterSlices, ...] = ()


@dataclass(frozen=True, eq=False)
class ConditionalProblem:
    """A model in conditional form: group effects explicit, everything resolved to numbers.

    Parameters
    ----------
    family, link
        Names; `hiermodels.engines.supported.supports` knows those that have a kernel.
    y
        Response, (n,); successes for binomial and beta_binomial, the category from 0 to K - 1 for
        cumulative. Where censored, the bound; for an interval its lower end.
    X
        Model matrix of the population coefficients, (n, p).
    offset
        Added to the linear predictor, (n,).
    trials
        Binomial and beta_binomial only, (n,).
    weights
        Each row's log likelihood is multiplied by it, (n,).
    precision
        Gaussian only, (n,): variance sigma^2 / precision.
    se
        Gaussian only, (n,): known sds. With `sigma_prior` the variance is se^2 + sigma^2, without
        it se^2.
    sigma_prior
        Gaussian only: prior of one residual sd; None where there is none, or where `parameters`
        holds sigma.
    coef_priors
        Priors of the p coefficients.
    bars
        The bars, in written order.
    parameters
        The family's further parameters, in their order.
    censoring
        (n,), -1 where y is an upper bound of the value (left), 0 where it is the value, 1 where it
        is a lower bound (right), 2 where the value lies between y and y_upper; None without.
    y_upper
        Upper ends of intervals, (n,); other rows are not read.
    truncation
        Lower and upper bound of each row's response, (n, 2), infinite where there is none: the
        density is that given that the response lies between. None without.
    constant
        Added to the log density: what merging rows has taken out of it.

    Examples
    --------
    >>> normal, half = PriorRow("Normal", (0.0, 2.5)), PriorRow("HalfNormal", (1.0,))
    >>> problem = ConditionalProblem(
    ...     "gaussian", "identity", np.array([1.0, 2.0]), np.ones((2, 1)), np.zeros(2),
    ...     None, None, None, None, half, (normal,), ())
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
    parameters: tuple[ParameterBlock, ...] = ()
    censoring: NDArray[np.int8] | None = None
    y_upper: Floats | None = None
    truncation: Floats | None = None
    constant: float = 0.0

    @cached_property
    def blocks(self) -> tuple[ParameterBlock, ...]:
        """Further parameters, with `sigma_prior` as the block it stands for."""
        if self.sigma_prior is None:
            return self.parameters
        return (*self.parameters, ParameterBlock("sigma", "log", (self.sigma_prior,)))

    @cached_property
    def layout(self) -> Layout:
        """The parts of the unconstrained vector; see `layout`."""
        coef = slice(0, self.X.shape[1])
        bars, at = _bar_slices(self.bars, coef.stop)
        parameters = []
        sigma = None
        for block in self.blocks:
            values = slice(at, at + len(block.values))
            own = slice(values.stop, values.stop + len(block.coef_priors))
            own_bars, at = _bar_slices(block.bars, own.stop)
            parameters.append(ParameterSlices(block.name, values, own, own_bars))
            if block.name == "sigma" and len(block.values) == 1:
                sigma = values.start
        return Layout(coef, bars, sigma, at, tuple(parameters))


def _bar_slices(bars: Sequence[BarBlock], at: int) -> tuple[tuple[BarSlices, ...], int]:
    """Return the slices of bars that begin at a position, and where they end."""
    found = []
    for bar in bars:
        sds = slice(at, at + bar.n_by * bar.q)
        correlations = slice(sds.stop, sds.stop + bar.n_by * bar.n_correlations)
        at = correlations.stop
        nu = None if bar.nu_prior is None else at
        at = at if nu is None else at + 1
        effects = slice(at, at + bar.n_levels * bar.q)
        found.append(BarSlices(sds, correlations, effects, nu))
        at = effects.stop
    return tuple(found), at


def layout(problem: ConditionalProblem) -> Layout:
    """Return where each part stands in the unconstrained vector.

    Parameters
    ----------
    problem
        The model.

    Returns
    -------
    Layout
        Coefficients; by bar log sds, correlations, degrees of freedom and effects; the same for
        each further parameter, or its values; log sigma last.

    Examples
    --------
    >>> half = PriorRow("HalfNormal", (1.0,))
    >>> bar = BarBlock(np.ones((4, 2)), np.array([0, 0, 1, 1]), 2, (half, half), 2.0, False)
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(4), np.ones((4, 1)), np.zeros(4),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), (bar,))
    >>> layout(problem).bars[0].effects
    slice(4, 8, None)
    """
    return problem.layout

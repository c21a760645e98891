"""The mode of the Laplace-marginal posterior, where the sampler's coordinates are whitened.

Coefficients and standard scores of the group effects (the locations) are integrated out by
Laplace's approximation; what is left is a function of the scales: log sds, correlations, further
parameters, in the sampler's own coordinates, priors and Jacobians included. Its mode is never at a
variance of zero.

References
----------
.. [1] Tierney and Kadane (1986), https://doi.org/10.1080/01621459.1986.10478240.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_rows import RowArrow
from hiermodels.engines.conditional import _correlation_factor
from hiermodels.spec.gram_parts import Grouping

Array = NDArray[np.float64]
Index = NDArray[np.intp]
# A step may still promise so much: whitening need not be exact.
_PROMISE: Final = 1e-9
_STEPS: Final = 50
# Steps of differences, in the scales' coordinates.
_DIFFERENCE: Final = 1e-2
_ROUNDS: Final = 30
# What a step of the scales may still promise: their mode to a tenth of an sd is near enough.
_NEAR: Final = 1e-2
# Rows' information is at least so much of its mean.
_FLOOR: Final = 1e-8


@dataclass(frozen=True, eq=False)
class WhiteBar:
    """One bar of independent levels with a covariance of its own.

    Attributes
    ----------
    z : ndarray (n, q)
    index : ndarray of int (n,)
    n_levels : int
    sds, correlations, effects : slice
        Of the unconstrained vector: log sds, partial correlations (empty where there are none),
        and effects or scores, level by level.
    """

    z: Array
    index: Index
    n_levels: int
    sds: slice
    correlations: slice
    effects: slice

    @property
    def q(self) -> int:
        """Number of effects."""
        return int(self.z.shape[1])

    def factor(self, x: Array) -> Array:
        """Return the factor (q, q) of the effects' covariance at a point (ndim,)."""
        sds = np.exp(x[self.sds])
        if self.correlations.stop == self.correlations.start:
            return np.diag(sds)
        return sds[:, None] * _correlation_factor(x[self.correlations], self.q)


@dataclass(frozen=True, eq=False)
class WhiteModel:
    """What whitening reads of a model.

    Attributes
    ----------
    X : ndarray (n, p)
    offset : ndarray (n,)
    coef : slice
        The coefficients' place in the unconstrained vector.
    centre, precision : ndarray (p,)
        Of the coefficients' priors, or of normal ones like them.
    bars : tuple of WhiteBar
    ndim : int
    density : callable
        Log density and gradient (ndim,) with every bar in standard scores.
    rows : callable
        First derivative of the rows' log likelihoods by their linear predictor, and expected
        information, both (n,), at a linear predictor (n,) and a point (ndim,).
    """

    X: Array
    offset: Array
    coef: slice
    centre: Array
    precision: Array
    bars: tuple[WhiteBar, ...]
    ndim: int
    density: Callable[[Array], tuple[float, Array]]
    rows: Callable[[Array, Array], tuple[Array, Array]]

    @property
    def scales(self) -> Index:
        """Places of everything but coefficients and effects."""
        inside = np.ones(self.ndim, dtype=bool)
        inside[self.coef] = False
        for bar in self.bars:
            inside[bar.effects] = False
        return np.flatnonzero(inside)


class MarginalMode:
    """The approximate marginal posterior of the scales, and the locations' modes.

    Holds working memory: an object serves one thread.

    Parameters
    ----------
    model : WhiteModel
    """

    def __init__(self, model: WhiteModel) -> None:
        self.model = model
        groupings = [
            Grouping(str(k), np.ascontiguousarray(bar.z), bar.index, bar.n_levels)
            for k, bar in enumerate(model.bars)
        ]
        self.arrow = RowArrow(groupings, model.X, model.precision)
        self.base = model.offset + model.X @ model.centre

    def factors(self, x: Array) -> Array:
        """Return all bars' factors, flat."""
        return np.concatenate([np.zeros(0), *(bar.factor(x).ravel() for bar in self.model.bars)])

    def _part(self, x: Array, factors: list[Array]) -> Array:
        """Return the locations' part of the linear predictor, less the priors' centre."""
        model = self.model
        part = model.X @ (x[model.coef] - model.centre)
        for bar, factor in zip(model.bars, factors, strict=True):
            effects = x[bar.effects].reshape(-1, bar.q) @ factor.T
            for k in range(bar.q):
                part += bar.z[:, k] * effects[:, k][bar.index]
        return np.asarray(part)

    def locate(self, x: Array) -> tuple[Array, float] | None:
        """Return x with its locations at their mode, and log|A| there; None where there is none.

        Fisher scoring on the log density, steps halved until it grows. The factor stays in the
        arrow's working memory.
        """
        model, x = self.model, x.copy()
        lam = self.factors(x)
        factors = [bar.factor(x) for bar in model.bars]
        value, gradient = model.density(x)
        if not math.isfinite(value):
            return None
        for _ in range(_STEPS):
            part = self._part(x, factors)
            slope, information = model.rows(self.base + part, x)
            d = np.maximum(information, _FLOOR * float(np.mean(information)))
            if not (np.all(np.isfinite(slope)) and np.all(np.isfinite(d))):
                return None
            self.arrow.fill(d, slope + d * part)
            solved = self.arrow.solve(lam)
            if not math.isfinite(solved.log_det):
                return None
            step = -x
            step[model.scales] = 0.0
            step[model.coef] += model.centre + solved.coefficients
            for bar, scores in zip(model.bars, solved.scores, strict=True):
                step[bar.effects] += scores.ravel()
            promise, share = float(gradient @ step), 1.0
            if promise < _PROMISE:
                return x, solved.log_det
            for _half in range(20):
                new, new_gradient = model.density(x + share * step)
                if new >= value - 1e-10 * abs(value):
                    break
                share *= 0.5
            else:
                return x, solved.log_det
            x, value, gradient = x + share * step, new, new_gradient
        return None

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the log marginal posterior of x's scales, and x with its locations' mode."""
        found = self.locate(x)
        if found is None:
            return -math.inf, x
        x, log_det = found
        return self.model.density(x)[0] - 0.5 * log_det, x


@dataclass(frozen=True, eq=False)
class Peak:
    """The mode found, in standard scores.

    Attributes
    ----------
    x : ndarray (ndim,)
    sizes : ndarray (scales,)
        Approximate posterior sds of the scales, one at a time; at most 1.
    slopes : ndarray (scales, ndim)
        Derivatives of x by each scale, the locations following it.
    """

    x: Array
    sizes: Array
    slopes: Array


def find_peak(marginal: MarginalMode, start: Array) -> Peak | None:
    """Return the mode of the approximate marginal posterior; None where none is found.

    Newton steps with the curvature of each scale alone, by differences, at most one unit long.

    Parameters
    ----------
    marginal : MarginalMode
    start : ndarray (ndim,)
        Where scales and locations start.
    """
    value, x = marginal(start)
    if not math.isfinite(value):
        return None
    for _ in range(_ROUNDS):
        around = _differences(marginal, x, value)
        if around is None:
            return None
        gradient, curvature, slopes = around
        step = np.clip(gradient / np.maximum(curvature, 1.0), -1.0, 1.0)
        if float(gradient @ step) < _NEAR:
            break
        for share in (1.0, 0.5, 0.25, 0.125):
            trial = x + share * (step @ slopes)
            new, moved = marginal(trial)
            if new > value:
                break
        else:
            break
        x, value = moved, new
    sizes = np.where(curvature > 1.0, np.maximum(curvature, 1.0) ** -0.5, 1.0)
    return Peak(x, sizes, slopes)


def _differences(
    marginal: MarginalMode, x: Array, value: float
) -> tuple[Array, Array, Array] | None:
    """Return gradient and curvature by each scale, and how x follows it (scales, ndim)."""
    scales = marginal.model.scales
    gradient, curvature = np.zeros(len(scales)), np.zeros(len(scales))
    slopes = np.zeros((len(scales), len(x)))
    for k, at in enumerate(scales):
        ends, values = [], []
        for sign in (1.0, -1.0):
            moved = x.copy()
            moved[at] += sign * _DIFFERENCE
            found, moved = marginal(moved)
            values.append(found)
            ends.append(moved)
        if not np.all(np.isfinite(values)):
            return None
        gradient[k] = (values[0] - values[1]) / (2.0 * _DIFFERENCE)
        curvature[k] = (2.0 * value - values[0] - values[1]) / _DIFFERENCE**2
        slopes[k] = (ends[0] - ends[1]) / (2.0 * _DIFFERENCE)
    return gradient, curvature, slopes

"""Maximum likelihood on a short vector: several starts, bounds, and proof at the end.

L-BFGS-B finds the neighbourhood of an optimum; Newton steps with differences of the exact gradient
finish it. What is returned carries what was verified: the gradient, the curvature, and whether
different starts met.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from hiermodels.errors import EngineError
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]
Objective = Callable[[Array], tuple[float, Array]]

# Log likelihoods that differ by less are the same optimum.
AGREE: Final = 1e-5
# What a Newton step may still promise at the end.
PROMISE: Final = 1e-8
_STEP: Final = 1e-5
_FLAT: Final = 1e-7
_NEAR: Final = 1e-3
# Curvature by differences that is told from none, relative to the largest.
_CURVED: Final = 1e-6
# A step over which curvature stays as it is.
_SMALL: Final = 1e-3
# Newton steps that gain more have left the place where the starts met.
_AWAY: Final = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class Optimum(Brief):
    """The best point found, and what is known of it.

    Attributes
    ----------
    x : ndarray (k,)
    value : float
        Of the function that was maximised.
    gradient : ndarray (k,)
    hessian : ndarray (k, k)
    values : tuple of float
        Reached from each start.
    evaluations : int
    stationary : bool
        Whether no step within the bounds promises more than 1e-8.
    curved : bool
        Whether the function falls in every direction that the bounds leave free.
    """

    x: Array
    value: float
    gradient: Array
    hessian: Array
    values: tuple[float, ...]
    evaluations: int
    stationary: bool
    curved: bool

    @property
    def agreed(self) -> bool:
        """Whether at least two starts reached one value, and the end lies next to it."""
        best = max(self.values)
        near = [v for v in self.values if v > best - AGREE]
        return not self.x.size or (len(near) > 1 and self.value < best + _AWAY)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is not certain, in words."""
        found = []
        if not self.stationary:
            found.append("the gradient at the end is not zero")
        if not self.curved:
            found.append(
                "the likelihood is flat in some direction at the end, so that other values of the "
                "parameters are as likely"
            )
        if not self.agreed:
            best = max(self.values)
            if sum(v > best - AGREE for v in self.values) > 1:
                found.append(
                    f"the searches met at a log likelihood of {best:.4f}, but a better one, "
                    f"{self.value:.4f}, lay beyond it, which only one search has seen"
                )
            else:
                reached = ", ".join(f"{v:.5f}" for v in self.values)
                found.append(f"different starts end at different log likelihoods ({reached})")
        return tuple(found)


class _Counted:
    """The function with its sign turned, counted, and finite for a line search."""

    def __init__(self, function: Objective) -> None:
        self.function, self.count = function, 0
        self.worst = 0.0
        self.last: tuple[Array, float, Array] | None = None

    def __call__(self, x: Array) -> tuple[float, Array]:
        if self.last is not None and np.array_equal(x, self.last[0]):
            return self.last[1], self.last[2].copy()
        self.count += 1
        value, gradient = self.function(x)
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            # beyond what can be computed: worse than anything seen, so that the search turns back
            return self.worst + 1e4, np.zeros_like(x)
        self.worst = max(self.worst, -value)
        self.last = x.copy(), -value, -gradient
        return -value, -gradient

    def finite(self, x: Array) -> bool:
        """Return whether the function can be computed at a point."""
        self(x)
        return self.last is not None and np.array_equal(x, self.last[0])


def maximise(
    function: Objective,
    starts: Sequence[Array],
    lower: Array,
    upper: Array,
    snap: NDArray[np.intp],
    units: Array | None = None,
    slope: float = 1e-4,
) -> Optimum:
    """Maximise a function of a short vector between bounds.

    Parameters
    ----------
    function : callable
        Value and gradient (k,) at x (k,).
    starts : sequence of ndarray (k,)
        At least two; the best end of them is finished by Newton steps.
    lower, upper : ndarray (k,)
    snap : ndarray of int
        Coordinates that are set to exactly zero where that costs nothing.
    units : ndarray (k,), optional
        Sizes of steps in each coordinate that change the function about alike.
    slope : float
        Derivative by those steps at which a search ends.

    Returns
    -------
    Optimum

    Raises
    ------
    EngineError
        The function is not finite at any start.
    """
    counted = _Counted(function)
    # A likelihood is even in the last entry of a factor's diagonal: at zero its slope says nothing,
    # and a search that touches zero would stay there.
    above = lower.copy()
    above[snap] += _NEAR
    if not len(lower):
        value, gradient = function(lower)
        return Optimum(lower, value, gradient, np.empty((0, 0)), (value,), 1, True, True)
    found: list[tuple[float, Array]] = []
    for start in starts:
        inside = np.maximum(start, above)
        if not counted.finite(inside):
            continue
        known = min((value for value, _ in found), default=-np.inf)
        steps = np.ones_like(lower) if units is None else units
        run = _Run(counted, above, upper, steps, known, slope)
        found.append(run.end(inside))
    if not found:
        raise EngineError(
            "The likelihood cannot be computed at any starting point. Look for predictors that "
            "determine each other almost exactly, for a response that does not vary, and for known "
            "standard errors far below the differences between groups."
        )
    _, x = min(found, key=lambda pair: pair[0])
    x, value, gradient, hessian = _finish(counted, x, lower, upper, snap)
    values = tuple(-v for v, _ in found)
    stationary, curved = _verify(x, gradient, hessian, lower, upper)
    return Optimum(x, -value, -gradient, -hessian, values, counted.count, stationary, curved)


@dataclass(frozen=True, eq=False)
class _Run:
    """One search by L-BFGS-B, in coordinates of like curvature."""

    counted: _Counted
    lower: Array
    upper: Array
    units: Array
    known: float
    slope: float

    def __call__(self, t: Array) -> tuple[float, Array]:
        value, gradient = self.counted(t * self.units)
        return value, gradient * self.units

    def end(self, start: Array) -> tuple[float, Array]:
        """Return where the search ends, or where it meets the value that is known already."""
        bounds = optimize.Bounds(self.lower / self.units, self.upper / self.units)
        enough = self.known + 0.1 * AGREE

        def met(intermediate_result: optimize.OptimizeResult) -> None:
            if intermediate_result.fun <= enough:
                raise StopIteration

        t = start / self.units
        for _ in range(3):
            # restarts drop a memory of curvature that no longer fits
            result = optimize.minimize(
                self, t, jac=True, method="L-BFGS-B", bounds=bounds, callback=met,
                options={"maxiter": 500, "ftol": 1e-12, "gtol": self.slope, "maxcor": 20},
            )  # fmt: skip
            before, t = t, np.asarray(result.x, dtype=np.float64)
            if result.success or result.fun <= enough or np.allclose(before, t):
                break
        return float(result.fun), t * self.units


def _finish(
    counted: _Counted, x: Array, lower: Array, upper: Array, snap: NDArray[np.intp]
) -> tuple[Array, float, Array, Array]:
    """Return the point that Newton steps reach, with value, gradient and Hessian there."""
    value, gradient = counted(x)
    hessian, exact = _hessian(counted, x), True
    for _ in range(20):
        new = _snapped(counted, x, value, snap)
        if new is not None:
            x, value, gradient = new
            hessian, exact = _hessian(counted, x), True
        promise, step = _newton(x, gradient, hessian, lower, upper)
        if promise < 0.1 * PROMISE:
            break
        moved = _search(counted, x, value, step, lower, upper)
        if moved is None:
            break
        size = float(np.max(np.abs(moved[0] - x)))
        x, value, gradient = moved
        exact = size > _SMALL
        if exact:
            hessian = _hessian(counted, x)
    if not exact:
        # a direction that looks nearly flat from beside the optimum may be flat at it
        values = np.linalg.eigvalsh(hessian)
        if values[0] < 0.02 * values[-1]:
            hessian = _hessian(counted, x)
    return x, value, gradient, hessian


def _snapped(
    counted: _Counted, x: Array, value: float, snap: NDArray[np.intp]
) -> tuple[Array, float, Array] | None:
    """Return the point with small coordinates at zero, where that costs nothing."""
    moved = None
    for k in snap:
        if not 0.0 < x[k] < 0.02:
            continue
        trial = x.copy()
        trial[k] = 0.0
        new, gradient = counted(trial)
        if new <= value + PROMISE:
            x, moved = trial, (trial, new, gradient)
            value = min(value, new)
    return moved


def _hessian(counted: _Counted, x: Array) -> Array:
    """Return central differences of the gradient; the function goes on beyond a bound at zero."""
    k = len(x)
    rows = np.empty((k, k))
    for j in range(k):
        h = _STEP * max(1.0, abs(x[j]))
        ahead, behind = x.copy(), x.copy()
        ahead[j] += h
        behind[j] -= h
        rows[j] = (counted(ahead)[1] - counted(behind)[1]) / (2.0 * h)
    return 0.5 * (rows + rows.T)


def _held(x: Array, gradient: Array, lower: Array, upper: Array) -> NDArray[np.bool_]:
    """Return which coordinates a bound holds: the function grows outside only."""
    return ((x <= lower) & (gradient > _FLAT)) | ((x >= upper) & (gradient < -_FLAT))


def _newton(
    x: Array, gradient: Array, hessian: Array, lower: Array, upper: Array
) -> tuple[float, Array]:
    """Return what a step within the bounds promises, and the step; concave directions turned."""
    free = np.flatnonzero(~_held(x, gradient, lower, upper))
    step = np.zeros_like(x)
    if not free.size:
        return 0.0, step
    values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)])
    floor = max(1e-9 * float(np.max(np.abs(values))), 1e-12)
    along = vectors.T @ gradient[free]
    # a direction without curvature promises nothing beyond what its slope says
    sizes = np.where(np.abs(values) > floor, np.abs(values), np.inf)
    flat = np.abs(values) <= floor
    promise = float(0.5 * np.sum(along**2 / sizes) + np.sum(np.abs(along[flat])) * 1e-3)
    step[free] = -vectors @ (along / np.where(flat, max(float(np.max(values)), floor), sizes))
    if not np.any(along**2 / sizes > PROMISE) and np.any(values < -1e-4 * np.max(np.abs(values))):
        # a saddle: the gradient says nothing, the curvature where to go
        down = vectors[:, 0]
        inside = np.where(x[free] <= lower[free], np.abs(down), down)
        step[free] = 0.1 * inside / np.linalg.norm(inside)
        promise = 1.0
    return promise, step


def _search(
    counted: _Counted, x: Array, value: float, step: Array, lower: Array, upper: Array
) -> tuple[Array, float, Array] | None:
    """Return the first point along a step that is better, halving it; None where there is none."""
    share = 1.0
    for _ in range(30):
        trial = np.clip(x + share * step, lower, upper)
        new, gradient = counted(trial)
        if new < value:
            return trial, new, gradient
        share *= 0.5
    return None


def _verify(
    x: Array, gradient: Array, hessian: Array, lower: Array, upper: Array
) -> tuple[bool, bool]:
    """Return whether the point is stationary, and whether the function is curved there."""
    promise, _ = _newton(x, gradient, hessian, lower, upper)
    free = np.flatnonzero(~_held(x, gradient, lower, upper))
    if not free.size:
        return True, True
    values = np.linalg.eigvalsh(hessian[np.ix_(free, free)])
    return promise < PROMISE, bool(values[0] > _CURVED * max(float(values[-1]), 1.0))

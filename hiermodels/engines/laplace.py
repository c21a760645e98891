"""Laplace's approximation to the likelihood of generalised models, its gradient and its maximum.

Given coefficients and variances, Newton steps on the arrow find the mode of the scores u; the
likelihood is that of a normal there, with the observed information d of the rows:
l(y | u) - |u|^2 / 2 - log|I + D'Z'diag(d)ZD| / 2. Scores of levels with a known covariance K have
the precision K^-1 in place of I, and log|K| / 2 is taken off. The gradient takes into account that
mode and information move.

References
----------
.. [1] Tierney and Kadane (1986), https://doi.org/10.1080/01621459.1986.10478240.
.. [2] Bates, Maechler, Bolker and Walker (2015), https://doi.org/10.18637/jss.v067.i01.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_rows import RowArrow, Solution
from hiermodels.engines.laplace_problem import LaplaceProblem
from hiermodels.engines.optimise import Optimum, maximise
from hiermodels.engines.profiling import one_thread
from hiermodels.engines.response_derivatives import Derivatives
from hiermodels.errors import EngineError
from hiermodels.spec.gram_parts import Grouping

Array = NDArray[np.float64]
# Twice what a Newton step may still promise at the mode.
_PROMISE: Final = 1e-20
_STEPS: Final = 60
# Near a variance of zero the likelihood is flatter than the units of its coordinates say.
_SLOPE: Final = 1e-5


@dataclass(frozen=True, eq=False)
class Mode:
    """The mode of the scores given everything else.

    Attributes
    ----------
    scores : tuple of ndarray (J, q)
        By grouping, standard scores u.
    rows : Derivatives
        Of the response at the mode.
    log_det : float
        Of the scores' precision, with the observed information.
    """

    scores: tuple[Array, ...]
    rows: Derivatives
    log_det: float


class ModeFinder:
    """Finds modes of the scores, from the last one found.

    Holds working memory: an object serves one thread.

    Parameters
    ----------
    problem : LaplaceProblem
    """

    def __init__(self, problem: LaplaceProblem) -> None:
        self.problem = problem
        self.arrow = RowArrow(problem.groupings, np.zeros((problem.n, 0)))
        self.known = tuple(grouping.known for grouping in problem.groupings)
        self.last = self.nothing()

    def nothing(self) -> tuple[Array, ...]:
        """Return scores of zero."""
        return tuple(np.zeros((g.n_levels, g.q)) for g in self.problem.groupings)

    def square(self, scores: Sequence[Array], others: Sequence[Array] | None = None) -> float:
        """Return u'Pu, or u'Pv with other scores, P being the scores' prior precision."""
        total = 0.0
        for known, u, v in zip(self.known, scores, others or scores, strict=True):
            total += float(np.vdot(u, v if known is None else known @ v.ravel()))
        return total

    def matrices(self, lam: Array) -> tuple[Array, ...]:
        """Return each grouping's factor (q, q)."""
        starts = self.arrow.starts
        return tuple(
            lam[starts[k] : starts[k] + g.q**2].reshape(g.q, g.q)
            for k, g in enumerate(self.problem.groupings)
        )

    def part(self, lam: Array, scores: Sequence[Array]) -> Array:
        """Return the scores' part of the linear predictor (n,)."""
        total = np.zeros(self.problem.n)
        matrices = self.matrices(lam)
        for grouping, factor, own in zip(self.problem.groupings, matrices, scores, strict=True):
            effects = own @ factor.T
            for k in range(grouping.q):
                total += grouping.z[:, k] * effects[:, k][grouping.index]
        return total

    def find(self, lam: Array, base: Array, phi: float) -> Mode | None:
        """Return the mode given factors and the rest of the linear predictor (n,).

        None where it cannot be computed; a search from zero follows one that fails.
        """
        found = self._climb(lam, base, phi, self.last)
        if found is None:
            found = self._climb(lam, base, phi, self.nothing())
        if found is not None:
            self.last = found.scores
        return found

    def _climb(self, lam: Array, base: Array, phi: float, scores: tuple[Array, ...]) -> Mode | None:
        response = self.problem.response
        part = self.part(lam, scores)
        rows = response.derivatives(base + part, phi)
        value = float(np.sum(rows.value)) - 0.5 * self.square(scores)
        if not math.isfinite(value):
            return None
        for _ in range(_STEPS):
            solved, observed = self._solve(lam, rows, part)
            if solved is None:
                return None
            steps = [new - old for new, old in zip(solved.scores, scores, strict=True)]
            along = self.part(lam, steps)
            # the slope along the step, which is its length in the precision
            promise = float(rows.slope @ along) - self.square(scores, steps)
            if promise < _PROMISE and observed:
                return Mode(scores, rows, solved.log_det)
            share = 1.0
            for _half in range(40):
                trial = tuple(old + share * step for old, step in zip(scores, steps, strict=True))
                new_rows = response.derivatives(base + part + share * along, phi)
                new = float(np.sum(new_rows.value)) - 0.5 * self.square(trial)
                if new >= value - 1e-13 * abs(value):
                    break
                share *= 0.5
            else:
                return Mode(scores, rows, solved.log_det) if observed else None
            scores, part, rows, value = trial, part + share * along, new_rows, new
        return None

    def _solve(self, lam: Array, rows: Derivatives, part: Array) -> tuple[Solution | None, bool]:
        """Return the Newton step's end, and whether it used the observed information."""
        for d, observed in ((rows.curvature, True), (rows.expected, False)):
            self.arrow.fill(d, rows.slope + d * part)
            solved = self.arrow.solve(lam)
            if math.isfinite(solved.log_det):
                return solved, observed
        return None, False


# --- value and gradient ---------------------------------------------------------------------


class LaplaceLikelihood:
    """The approximate log likelihood as a function of the coordinates.

    Holds working memory and the last mode: an object serves one thread. What it returns hangs on
    the coordinates alone, up to rounding.

    Parameters
    ----------
    problem : LaplaceProblem
    """

    def __init__(self, problem: LaplaceProblem) -> None:
        self.problem = problem
        self.finder = ModeFinder(problem)

    def mode(self, x: Array) -> Mode | None:
        """Return the mode of the scores at coordinates (ndim,); None where there is none."""
        problem = self.problem
        lam = problem.factors(x, self.finder.arrow.starts)
        base = problem.offset + problem.X @ problem.coefficients(x)
        return self.finder.find(lam, base, problem.phi(x))

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the log likelihood and its gradient (ndim,); -inf where there is no mode."""
        problem, finder = self.problem, self.finder
        mode = self.mode(x)
        if mode is None:
            return -math.inf, np.zeros(problem.ndim)
        lam = problem.factors(x, finder.arrow.starts)
        rows = mode.rows
        inside = finder.square(mode.scores) + mode.log_det + finder.arrow.gram.log_known
        value = float(np.sum(rows.value)) - 0.5 * inside
        v, log_det_lam = finder.arrow.leverages(lam)
        r = -0.5 * v * rows.bend
        finder.arrow.fill(rows.curvature, r)
        t = finder.arrow.solve(lam).scores
        e = finder.part(lam, t)
        moved = rows.slope + r - rows.curvature * e
        by_lam = -log_det_lam
        starts = finder.arrow.starts
        for k, grouping in enumerate(problem.groupings):
            own = self._sums(grouping, moved).T @ mode.scores[k]
            own += self._sums(grouping, rows.slope).T @ t[k]
            by_lam[starts[k] : starts[k + 1]] += own.ravel()
        gradient = np.empty(problem.ndim)
        for block in problem.blocks:
            gradient[block.x] = by_lam[block.places] / block.scale[block.rows]
        at = problem.n_theta
        if problem.n_phi:
            by_phi = rows.value_phi - 0.5 * v * rows.curvature_phi + e * rows.slope_phi
            gradient[at] = float(np.sum(by_phi))
        gradient[at + problem.n_phi :] = problem.root.T @ (problem.X.T @ moved)
        return value, gradient

    @staticmethod
    def _sums(grouping: Grouping, values: Array) -> Array:
        """Return Z' times values of the rows (J, q)."""
        columns = [
            np.bincount(grouping.index, grouping.z[:, k] * values, grouping.n_levels)
            for k in range(grouping.q)
        ]
        return np.stack(columns, axis=1)


# --- what is known at the maximum -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ModeMoments:
    """Group effects of one grouping at the mode, in its bars' centred columns.

    Attributes
    ----------
    mean : ndarray (J, q)
    covariance : ndarray (J, q, q)
        Given variances and coefficients.
    follow : ndarray (J, q, p)
        Derivatives of the mode by the coefficients of the centred columns.
    """

    mean: Array
    covariance: Array
    follow: Array


def mode_moments(
    problem: LaplaceProblem, likelihood: LaplaceLikelihood, x: Array
) -> tuple[ModeMoments, ...]:
    """Return the group effects at a point's mode, with their covariances, by grouping.

    Raises
    ------
    EngineError
        There is no mode.
    """
    mode, finder = likelihood.mode(x), likelihood.finder
    if mode is None:
        raise EngineError("The group effects could not be computed at the estimate.")
    lam = problem.factors(x, finder.arrow.starts)
    d = mode.rows.curvature
    finder.arrow.fill(d, np.zeros(problem.n))
    finder.arrow.solve(lam)
    given, _, _ = finder.arrow.blocks()
    # how a mode follows the coefficients does not hang on their prior; it keeps the pivots
    sizes = np.einsum("np,n,np->p", problem.X, np.abs(d), problem.X)
    joint = RowArrow(problem.groupings, problem.X, 1e-6 * sizes + 1e-300)
    joint.fill(d, np.zeros(problem.n))
    joint.solve(lam)
    _, cross, coefficients = joint.blocks()
    turn = np.linalg.inv(coefficients) if problem.p else coefficients
    return tuple(
        ModeMoments(u @ factor.T, factor @ own @ factor.T, factor @ both @ turn)
        for factor, u, own, both in zip(
            finder.matrices(lam), mode.scores, given, cross, strict=True
        )
    )


def coefficient_covariance(problem: LaplaceProblem, optimum: Optimum) -> Array:
    """Return the covariance (p, p) of the centred columns' coefficients at an optimum.

    From the curvature in all parameters; variances at zero, and a family's parameter at its
    bound, are held. A direction without curvature gets a variance of 1e12 times the smallest.
    """
    lower, upper = problem.bounds
    phi = np.arange(problem.n_theta, problem.n_theta + problem.n_phi)
    free = np.ones(problem.ndim, dtype=bool)
    free[problem.diagonal] = optimum.x[problem.diagonal] > 0.0
    free[phi] = (optimum.x[phi] > lower[phi] + 1.0) & (optimum.x[phi] < upper[phi] - 1.0)
    if not problem.p:
        return np.zeros((0, 0))
    information = -optimum.hessian[np.ix_(free, free)]
    values, vectors = np.linalg.eigh(information)
    values = np.maximum(values, 1e-12 * max(float(values[-1]), 1e-300))
    covariance = (vectors / values) @ vectors.T
    own = covariance[-problem.p :, -problem.p :]
    return np.asarray(problem.root @ own @ problem.root.T)


def starting_points(problem: LaplaceProblem) -> tuple[Array, ...]:
    """Return where to start: group effects by moments, and of sd 1 (or 0.3) on the link scale."""
    by_moments, alike = np.zeros(problem.ndim), np.zeros(problem.ndim)
    by_moments[: problem.n_theta] = problem.guess
    alike[problem.diagonal] = 1.0
    if problem.n_theta and np.max(np.abs(by_moments - alike)) < 0.3:
        alike[problem.diagonal] = 0.3
    for x in (by_moments, alike):
        x[problem.n_theta : problem.n_theta + problem.n_phi] = problem.phi_start
    return by_moments, alike


def maximise_approximation(problem: LaplaceProblem, likelihood: LaplaceLikelihood) -> Optimum:
    """Return where an approximate likelihood is largest, with what is known of it.

    Parameters
    ----------
    problem : LaplaceProblem
    likelihood : LaplaceLikelihood
        Or another approximation on the same coordinates.

    Raises
    ------
    EngineError
        It is not finite at any starting point.
    """
    lower, upper = problem.bounds
    with one_thread():
        return maximise(
            likelihood, starting_points(problem), lower, upper, problem.diagonal, problem.units,
            slope=_SLOPE,
        )  # fmt: skip

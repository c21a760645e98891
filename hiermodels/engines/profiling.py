"""The profiled (restricted) likelihood of Gaussian models, its maximum, and the effects there.

The scale of the residuals is profiled wherever it is free; coefficients always are.

References
----------
.. [1] Bates, Maechler, Bolker and Walker (2015), https://doi.org/10.18637/jss.v067.i01.
"""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.linalg import lapack
from threadpoolctl import ThreadpoolController

from hiermodels.engines.arrow_layout import (
    ARROW,
    CORNER,
    CROSSED,
    INVERSE,
    SCRATCH,
    P,
    lambda_starts,
)
from hiermodels.engines.likelihood_problem import Estimation
from hiermodels.engines.optimise import Optimum, maximise
from hiermodels.engines.profile_kernels import (
    EFFECTS,
    FACTOR,
    GRADIENT,
    LOG_A,
    LOG_X,
    MOMENTS,
    RHO2,
    profile_kernel,
    weights_kernel,
)
from hiermodels.engines.row_kernels import refill_kernel
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.deviations import Deviations

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_LOG_2PI: Final = math.log(2.0 * math.pi)
VALUE: Final = 0
# Corners from here on are inverted by LAPACK.
_WIDE: Final = 150


@dataclass(frozen=True, eq=False)
class Point:
    """The likelihood at one point.

    Attributes
    ----------
    loglik : float
        -inf where it could not be computed.
    gradient : ndarray (ndim,)
        Of the log likelihood; with a given scale by its logarithm besides (ndim + 1,).
    scale : float
        Residual scale: estimated, or as given; 1 where the residual has none to estimate.
    U : ndarray (p, p)
        Triangular factor of the precision of the kernel's coefficients, for scale 1.
    gamma : ndarray (p,)
        Their estimates.
    """

    loglik: float
    gradient: Array
    scale: float
    U: Array
    gamma: Array


# --- the likelihood -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Residual:
    w: Array
    dw: Array
    log_det: float
    slopes: Array


def _residual(problem: Estimation, x: Array) -> _Residual | None:
    packed = problem.residual
    w, dw = np.zeros(packed.n_bases), np.zeros((packed.n_phi, packed.n_bases))
    out = np.zeros(1 + packed.n_phi)
    if not weights_kernel(packed.code, packed.block, problem.phi(x), w, dw, out):
        return None
    return _Residual(w, dw, float(out[0]), out[1:])


def _summed(problem: Estimation, x: Array) -> tuple[_Residual, Array] | None:
    """Return the residual and the arrow's buffer, its products summed from the rows if need be.

    These are then summed under the rows' precision and its derivatives: the weights are 1 for the
    first and 0 for the others, which their slopes single out.
    """
    if problem.rows is None:
        found = _residual(problem, x)
        return None if found is None else (found, problem.arrow.buffer)
    n_phi = problem.residual.n_phi
    filled, out = np.empty_like(problem.arrow.buffer), np.zeros(1 + n_phi)
    if not refill_kernel()(problem.rows, problem.phi(x), out, filled):
        return None
    chain = np.eye(1 + n_phi)
    return _Residual(chain[0], chain[1:], float(out[0]), out[1:]), filled


def _factors(problem: Estimation, x: Array) -> Array:
    """Return all groupings' relative factors, flat."""
    lam = np.zeros(lambda_starts(problem.arrow.gram)[-1])
    for block in problem.blocks:
        lam[block.places] = x[block.x] / block.scale[block.rows]
    return lam


def _call(
    problem: Estimation, x: Array, want: int, fixed: bool, n_free: float, kappa: float,
    places: Index | None = None, effects: Array | None = None,
) -> tuple[_Residual, Array, Array, Array] | None:  # fmt: skip
    """Return the residual, the pieces of the likelihood and the gradients; None if not finite."""
    summed = _summed(problem, x)
    if summed is None:
        return None
    found, buffer = summed
    arrow = problem.arrow
    if want == EFFECTS and problem.rows is None:
        arrow, buffer = problem.whole, problem.whole.buffer
    lam = _factors(problem, x)
    g_lam, g_w = np.zeros_like(lam), np.zeros_like(found.w)
    pieces = np.zeros(3 + problem.p * (problem.p + 1))
    head = buffer.view(np.int64)[arrow.head : arrow.head + ARROW]
    s = np.empty(head[SCRATCH])
    n = int(head[CROSSED] + head[P]) + 1

    def do(steps: int) -> bool:
        done = profile_kernel(
            buffer, arrow.head, lam, found.w, steps, fixed, n_free, kappa, s, pieces, g_lam,
            g_w, np.zeros((0, 4), dtype=np.int64) if places is None else places,
            np.zeros(0) if effects is None else effects,
        )  # fmt: skip
        return bool(done)

    if want == VALUE or n <= _WIDE:
        return (found, pieces, g_lam, g_w) if do(FACTOR | (want and MOMENTS) | want) else None
    if not do(FACTOR):
        return None
    kappa = n_free / float(pieces[RHO2]) if n_free > 0.0 else kappa
    wide_moments(s, int(head[CORNER]), int(head[INVERSE]), n, problem.p, fixed, kappa)
    do(want)
    return found, pieces, g_lam, g_w


def wide_moments(
    s: Array, corner: int, out: int, n: int, p: int, fixed: bool, kappa: float
) -> None:
    """Write the second moments of a wide corner by LAPACK; see `profile_kernels.corner_moments`."""
    factor = s[corner : corner + n * n].reshape(n, n)
    moments = s[out : out + n * n].reshape(n, n)
    U = np.asfortranarray(factor[: n - 1, : n - 1])
    covariance, _ = lapack.dpotri(U)
    upper = np.triu(covariance)
    covariance = upper + np.triu(upper, 1).T
    mean = np.append(linalg.solve_triangular(U, factor[: n - 1, n - 1]), -1.0)
    if fixed and p:
        unit = np.zeros((n - 1, p))
        unit[-p:] = np.eye(p)
        columns = linalg.solve_triangular(U, unit)
        covariance -= columns @ columns.T
        covariance[-p:] = 0.0
        covariance[:, -p:] = 0.0
    np.multiply.outer(kappa * mean, mean, out=moments)
    moments[: n - 1, : n - 1] += covariance


def evaluate(
    problem: Estimation, x: Array, *, log_scale: float | None = None, gradient: bool = True
) -> Point:
    """Return the log likelihood, restricted where so asked, and its gradient.

    Parameters
    ----------
    problem : Estimation
    x : ndarray (ndim,)
    log_scale : float, optional
        Log of the residual scale; its estimate at x by default.
    gradient : bool

    Returns
    -------
    Point
    """
    profiled = problem.along is not None
    n_free, kappa = (problem.n_free, 1.0) if profiled else (0.0, 1.0)
    if profiled and log_scale is not None:
        n_free, kappa = 0.0, (problem.y_scale * math.exp(-log_scale)) ** 2
    called = _call(problem, x, GRADIENT if gradient else VALUE, not problem.reml, n_free, kappa)
    size = problem.ndim + (log_scale is not None)
    p = problem.p
    if called is None:
        return Point(-math.inf, np.zeros(size), math.nan, np.eye(p), np.zeros(p))
    found, pieces, g_lam, g_w = called
    rho2 = float(pieces[RHO2])
    total = problem.n_free * _LOG_2PI + found.log_det + float(pieces[LOG_A])
    total += problem.arrow.gram.log_known
    if problem.reml:
        R = problem.arrow.gram.R
        total += 2.0 * float(np.sum(np.log(np.abs(np.diag(R))))) if p else 0.0
    else:
        total -= float(pieces[LOG_X])
    scale = 1.0
    if not profiled:
        total += rho2
    else:
        estimated = problem.y_scale * math.sqrt(rho2 / problem.n_free)
        scale = estimated if log_scale is None else math.exp(log_scale)
        if not scale > 0.0:
            return Point(-math.inf, np.zeros(size), math.nan, np.eye(p), np.zeros(p))
        total += problem.n_free * (2.0 * math.log(scale) + (estimated / scale) ** 2)
    slopes = np.zeros(size)
    for block in problem.blocks:
        slopes[block.x] = g_lam[block.places] / block.scale[block.rows]
    by_phi = found.dw @ g_w - 0.5 * found.slopes
    slopes[problem.n_theta : problem.ndim] = by_phi[problem.free]
    if profiled and log_scale is not None:
        slopes[-1] = problem.n_free * ((estimated / scale) ** 2 - 1.0)
    rest = pieces[3:].reshape(p, p + 1)
    U = rest[:, :p]
    gamma = np.linalg.solve(U, rest[:, p]) if p else np.zeros(p)
    return Point(-0.5 * total, slopes, scale, U, gamma)


def starting_points(problem: Estimation) -> tuple[Array, ...]:
    """Return where to start: by moments, and group effects as large as the residuals."""
    by_moments, alike = np.zeros(problem.ndim), np.zeros(problem.ndim)
    by_moments[: problem.n_theta] = problem.guess
    alike[problem.diagonal] = 1.0
    if problem.n_theta and np.max(np.abs(by_moments - alike)) < 0.3:
        alike[problem.diagonal] = 0.3
    if problem.along is None:
        for x in (by_moments, alike):
            x[: problem.n_theta] *= _typical_error(problem)
            x[problem.n_theta :] = math.log(_typical_error(problem))
    return by_moments, alike


def _typical_error(problem: Estimation) -> float:
    """Return the root mean square of what the coefficients leave, of known errors' order."""
    x = np.zeros(problem.ndim)
    x[problem.n_theta :] = -20.0
    called, found = _call(problem, x, VALUE, False, 0.0, 1.0), _residual(problem, x)
    if called is None or found is None:
        return 1.0
    pieces = called[1]
    # rho^2 sums squares over variances: multiplied by a typical variance it sums squares
    spread = math.sqrt(max(float(pieces[RHO2]) / problem.n, 1.0))
    return spread / math.sqrt(float(np.mean(found.w)))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """Hold linear algebra to one thread: on small matrices its threads wait for each other.

    Where other work keeps the processors busy they wait fifty times as long as they compute.
    """
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit


def maximise_likelihood(problem: Estimation) -> Optimum:
    """Return the maximum likelihood or REML estimate's coordinates, with what is known of them.

    Parameters
    ----------
    problem : Estimation

    Raises
    ------
    EngineError
        The likelihood is not finite at any starting point.
    """

    def function(x: Array) -> tuple[float, Array]:
        point = evaluate(problem, x)
        return point.loglik, point.gradient

    lower, upper = problem.bounds
    with one_thread():
        return maximise(
            function, starting_points(problem), lower, upper, problem.diagonal, problem.units
        )


# --- group effects --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class EffectMoments:
    """Group effects of one grouping, in its bars' centred columns, given the variances.

    Attributes
    ----------
    mean : ndarray (J, q)
    covariance : ndarray (J, q, q)
        Given the coefficients too.
    joint : ndarray (J, q, q)
        With the coefficients' uncertainty.
    cross : ndarray (J, q, p)
        Covariance with the kernel's coefficients.
    """

    mean: Array
    covariance: Array
    joint: Array
    cross: Array


def effect_moments(problem: Estimation, x: Array, scale: float) -> tuple[EffectMoments, ...]:
    """Return the conditional modes of all group effects and their covariances, by grouping.

    Parameters
    ----------
    problem : Estimation
    x : ndarray (ndim,)
    scale : float
        The residual scale.
    """
    gram, p = problem.whole.gram, problem.p
    sizes = [g.n_levels * g.q * (g.q + p + 1) for g in gram.groupings]
    at = np.cumsum([0, *sizes])
    places = np.full((len(gram.groupings), 4), -1, dtype=np.int64)
    for k, grouping in enumerate(gram.groupings):
        places[k] = at[k], grouping.n_levels, -1, grouping.q
    for k, column in zip(gram.border, gram.corner.first, strict=True):
        places[k, 2] = column
    passes = []
    for fixed, kappa in ((True, 1.0), (True, 0.0), (False, 0.0)):
        out = np.zeros(at[-1])
        with one_thread():
            called = _call(problem, x, EFFECTS, fixed, 0.0, kappa, places, out)
        if called is None:
            raise EngineError("The group effects could not be computed at the estimate.")
        passes.append(out)
    order = {level.grouping: level.levels for level in gram.levels}
    lam, starts = _factors(problem, x), lambda_starts(gram)
    found = []
    for k, g in enumerate(gram.groupings):
        shape = (g.n_levels, g.q, g.q + p + 1)
        means, given, joint = (out[at[k] : at[k + 1]].reshape(shape) for out in passes)
        factor = scale * lam[starts[k] : starts[k] + g.q**2].reshape(g.q, g.q)
        levels = order.get(k, np.arange(g.n_levels))
        moments = [np.empty_like(part) for part in (means, given, joint)]
        for target, source in zip(moments, (means, given, joint), strict=True):
            target[levels] = source
        mean, given, joint = moments
        found.append(
            EffectMoments(
                -mean[..., -1] @ factor.T * (problem.y_scale / scale),
                factor @ given[..., : g.q] @ factor.T,
                factor @ joint[..., : g.q] @ factor.T,
                factor @ joint[..., g.q : g.q + p] * scale,
            )
        )
    return tuple(found)


def residual_precision(problem: Estimation, design: Design, x: Array) -> Array | sparse.csr_array:
    """Return the residuals' precision for scale 1: its diagonal (n,), or a matrix (n, n)."""
    found = _residual(problem, x)
    if found is None or design.residual is None:
        raise EngineError("The residual precision is not finite here.")
    if design.residual.by_rows and design.residual.found is not None:
        return np.asarray(found.w[design.residual.found.classes] * design.residual.row_scale)
    total: Array | sparse.csr_array | None = None
    for weight, basis in zip(found.w, design.residual.bases, strict=True):
        part: Any = np.ones(design.n) if basis is None else basis
        if isinstance(part, Deviations):
            part = part.matrix
        if design.residual.term is not None and isinstance(part, np.ndarray):
            part = sparse.diags_array(part, format="csr")
        total = weight * part if total is None else total + weight * part
    if total is None:
        raise EngineError("The residual has no matrices.")
    return total

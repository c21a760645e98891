r"""The profiled (restricted) likelihood of Gaussian models, as functions of a short vector.

Coordinates x are, by bar, the entries of the relative factor theta (lower triangle, or the diagonal
where effects are independent), then the residual's parameters. With Lambda = scale diag(1/s) theta,
s the root mean squares of the bar's centred columns, theta is free of the columns' units. The scale
of the residuals is profiled wherever it is free; coefficients always are.

References
----------
.. [1] Bates, Maechler, Bolker and Walker (2015), https://doi.org/10.18637/jss.v067.i01.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiermodels.engines.arrow_layout import Writer, lambda_starts, write_arrow
from hiermodels.engines.optimise import Optimum, maximise
from hiermodels.engines.profile_kernels import (
    EFFECTS,
    GRADIENT,
    LOG_A,
    LOG_X,
    RHO2,
    VALUE,
    profile_kernel,
    weights_kernel,
)
from hiermodels.engines.residual_packing import PackedResidual, pack_residual
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.gram import Gram, build_gram, compress, design_groupings
from hiermodels.spec.priors import ResolvedPriors

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_LOG_2PI: Final = math.log(2.0 * math.pi)
# Log sds and transformed correlations beyond this are at the edge of what doubles can tell apart.
_EDGE: Final = 12.0


@dataclass(frozen=True, eq=False)
class Block:
    """Where one bar's relative factor stands.

    Attributes
    ----------
    at : int
        First entry of its grouping's factor among all factors.
    wide : int
        Columns of its grouping.
    first : int
        Its first column there.
    rows, columns : ndarray of int
        Places of its coordinates in its (q, q) factor.
    scale : ndarray (q,)
        Root mean squares of its centred columns.
    x : slice
        Its coordinates.
    """

    at: int
    wide: int
    first: int
    rows: Index
    columns: Index
    scale: Array
    x: slice

    @property
    def q(self) -> int:
        """Number of effects."""
        return len(self.scale)

    @property
    def places(self) -> Index:
        """Places of its coordinates among all factors."""
        return self.at + (self.first + self.rows) * self.wide + self.first + self.columns

    def factor(self, x: Array) -> Array:
        """Return the relative factor (q, q) of the centred effects."""
        theta = np.zeros((self.q, self.q))
        theta[self.rows, self.columns] = x[self.x]
        return theta / self.scale[:, None]


@dataclass(frozen=True, eq=False)
class Arrow:
    """Cross-products in a buffer.

    Attributes
    ----------
    gram : Gram
    buffer : ndarray
    head : int
    """

    gram: Gram
    buffer: Array
    head: int


@dataclass(frozen=True, eq=False)
class Estimation:
    """A Gaussian model as its likelihood is maximised.

    Attributes
    ----------
    arrow, whole : Arrow
        Cross-products with like groups merged, for the likelihood; and of every group.
    blocks : tuple of Block
        By bar.
    residual : PackedResidual
    along : ndarray (n_phi,) or None
        Moving the residual's parameters along it multiplies all residual sds; the first coordinate
        where it is not zero is held at zero and the scale profiled. None where no scale is free.
    reml : bool
    y_scale : float
        What the response was divided by.
    n, p : int
    """

    arrow: Arrow
    whole: Arrow
    blocks: tuple[Block, ...]
    residual: PackedResidual
    along: Array | None
    reml: bool
    y_scale: float
    n: int
    p: int

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of the residual's parameters are coordinates (n_phi,)."""
        free = np.ones(self.residual.n_phi, dtype=bool)
        if self.along is not None:
            free[np.flatnonzero(self.along)[0]] = False
        return free

    @property
    def n_theta(self) -> int:
        """Number of coordinates of the factors."""
        return self.blocks[-1].x.stop if self.blocks else 0

    @property
    def ndim(self) -> int:
        """Number of coordinates."""
        return self.n_theta + int(self.free.sum())

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the model, as counted in AIC."""
        return self.p + self.n_theta + self.residual.n_phi

    @property
    def n_free(self) -> float:
        """What multiplies the log of the residual variance: n, or n - p."""
        return self.residual.total_weight - (self.p if self.reml else 0)

    @property
    def diagonal(self) -> NDArray[np.intp]:
        """Coordinates on the diagonal of a factor: at least zero."""
        found = [
            block.x.start + np.flatnonzero(block.rows == block.columns) for block in self.blocks
        ]
        return np.concatenate([np.zeros(0, dtype=np.intp), *found]).astype(np.intp)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper ends of the coordinates."""
        lower, upper = np.full(self.ndim, -np.inf), np.full(self.ndim, np.inf)
        lower[self.diagonal] = 0.0
        lower[self.n_theta :], upper[self.n_theta :] = -_EDGE, _EDGE
        if self.along is None:
            lower[self.n_theta :], upper[self.n_theta :] = -40.0, 40.0
        return lower, upper

    def phi(self, x: Array) -> Array:
        """Return the residual's parameters, the profiled scale being 1."""
        phi = np.zeros(self.residual.n_phi)
        phi[self.free] = x[self.n_theta :]
        return phi


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


def estimation_problem(
    design: Design, priors: ResolvedPriors, reml: bool, y: Array | None = None
) -> Estimation:
    """Return a model as its likelihood is maximised; this computes the cross-products.

    Parameters
    ----------
    design : Design
    priors : ResolvedPriors
        Defaults: their coordinates of the residual are used, nothing else.
    reml : bool
    y : ndarray (n,), optional
        In place of the design's response.

    Raises
    ------
    EngineError
        The residual precision is no sum of few matrices.
    """
    if design.residual is None or priors.residual is None:
        raise EngineError("A likelihood in closed form needs a Gaussian response.")
    packed = pack_residual(design.residual, priors.residual)
    along = _scale_direction(priors.residual.predictors, packed, design)
    response = (design.y if y is None else y) - design.offset
    scale = 1.0
    if along is not None:
        left = response - design.X_centred @ np.linalg.lstsq(design.X_centred, response)[0]
        scale = float(np.sqrt(np.mean(left**2))) or 1.0
    groupings = design_groupings(design, priors)
    gram = build_gram(
        groupings, design.X_centred, np.zeros((design.n, 0)), response / scale,
        design.residual.bases,
    )  # fmt: skip
    whole = _write(gram)
    merged = compress(gram)
    arrow = whole if merged is gram else _write(merged)
    blocks = _blocks(design, gram)
    p = design.X_centred.shape[1]
    return Estimation(arrow, whole, blocks, packed, along, reml, scale, design.n, p)


def _write(gram: Gram) -> Arrow:
    writer = Writer(1)
    head = write_arrow(gram, np.zeros((gram.n_coefs + 1, gram.n_coefs + 1)), writer)
    buffer = np.concatenate([np.zeros(1), *writer.parts])
    buffer.flags.writeable = False
    return Arrow(gram, buffer, head)


def _scale_direction(predictors: Array, packed: PackedResidual, design: Design) -> Array | None:
    """Return along which parameters all residual sds grow together, None where they cannot."""
    known = design.se is not None and design.se_with_sigma
    k = predictors.shape[1]
    if k == 0 or known:
        return None
    ones = np.ones(len(predictors))
    found = np.linalg.lstsq(predictors, ones)[0]
    found = np.where(np.abs(found) < 1e-10, 0.0, found)
    if np.linalg.norm(predictors @ found - ones) > 1e-9 * math.sqrt(len(ones)):
        return None
    return np.concatenate([found, np.zeros(packed.n_phi - k)])


def _blocks(design: Design, gram: Gram) -> tuple[Block, ...]:
    """Return the bars' places, in written order."""
    starts = lambda_starts(gram)
    owner = {t: g for g, grouping in enumerate(gram.groupings) for t in grouping.terms}
    blocks, end = [], 0
    for k, term in enumerate(design.terms):
        g = owner[k]
        before = gram.groupings[g].terms
        first = sum(design.terms[t].z.shape[1] for t in before[: before.index(k)])
        q = len(term.coefs)
        rows, columns = np.tril_indices(q) if term.correlated else (np.arange(q), np.arange(q))
        scale = np.sqrt(np.mean(term.z_centred**2, axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        x = slice(end, end + len(rows))
        blocks.append(
            Block(
                starts[g], gram.groupings[g].q, first, rows.astype(np.int64),
                columns.astype(np.int64), scale, x,
            )
        )  # fmt: skip
        end = x.stop
    return tuple(blocks)


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
    found = _residual(problem, x)
    if found is None:
        return None
    arrow = problem.arrow if want != EFFECTS else problem.whole
    lam = _factors(problem, x)
    g_lam, g_w = np.zeros_like(lam), np.zeros_like(found.w)
    pieces = np.zeros(3 + problem.p * (problem.p + 1))
    done = profile_kernel(
        arrow.buffer, arrow.head, lam, found.w, want, fixed, n_free, kappa, pieces, g_lam, g_w,
        np.zeros((0, 4), dtype=np.int64) if places is None else places,
        np.zeros(0) if effects is None else effects,
    )  # fmt: skip
    return (found, pieces, g_lam, g_w) if done else None


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
    called = _call(
        problem, x, GRADIENT if gradient else VALUE, not problem.reml, n_free, kappa
    )
    size = problem.ndim + (log_scale is not None)
    p = problem.p
    if called is None:
        return Point(-math.inf, np.zeros(size), math.nan, np.eye(p), np.zeros(p))
    found, pieces, g_lam, g_w = called
    rho2 = float(pieces[RHO2])
    total = problem.n_free * _LOG_2PI + found.log_det + float(pieces[LOG_A])
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
    gamma = np.linalg.solve(U, rest[:, p]) if p and gradient else np.zeros(p)
    return Point(-0.5 * total, slopes, scale, U, gamma)


def starting_points(problem: Estimation) -> tuple[Array, ...]:
    """Return where to start: group effects as large as the residuals, and a fifth of that."""
    starts = []
    for size in (1.0, 0.2):
        x = np.zeros(problem.ndim)
        x[problem.diagonal] = size
        if problem.along is None:
            x[: problem.n_theta] *= _typical_error(problem)
            x[problem.n_theta :] = math.log(_typical_error(problem))
        starts.append(x)
    return tuple(starts)


def _typical_error(problem: Estimation) -> float:
    """Return the root mean square of what the coefficients leave, of known errors' order."""
    x = np.zeros(problem.ndim)
    x[problem.n_theta :] = -20.0
    called = _call(problem, x, VALUE, False, 0.0, 1.0)
    if called is None:
        return 1.0
    found, pieces, *_ = called
    # rho^2 sums squares over variances: multiplied by a typical variance it sums squares
    spread = math.sqrt(max(float(pieces[RHO2]) / problem.n, 1.0))
    return spread / math.sqrt(float(np.mean(found.w)))


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
    return maximise(function, starting_points(problem), lower, upper, problem.diagonal)


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
        if _call(problem, x, EFFECTS, fixed, 0.0, kappa, places, out) is None:
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




def residual_precision(
    problem: Estimation, design: Design, x: Array
) -> Array | sparse.csr_array:
    """Return the residuals' precision for scale 1: its diagonal (n,), or a matrix (n, n)."""
    found = _residual(problem, x)
    if found is None or design.residual is None:
        raise EngineError("The residual precision is not finite here.")
    total: Array | sparse.csr_array | None = None
    for weight, basis in zip(found.w, design.residual.bases, strict=True):
        part: Any = np.ones(design.n) if basis is None else basis
        if design.residual.term is not None and isinstance(part, np.ndarray):
            part = sparse.diags_array(part, format="csr")
        total = weight * part if total is None else total + weight * part
    if total is None:
        raise EngineError("The residual has no matrices.")
    return total

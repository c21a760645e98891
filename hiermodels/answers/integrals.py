"""Integrals of rows' densities over group effects, for many draws at a time.

The effects are scores times what a score adds to a linear predictor: standard normal, or standard
t level by level. About their mode, by Newton steps, stand the nodes of adaptive quadrature where
scores are few and normal, else the points of importance sampling.

References
----------
.. [1] Pinheiro and Bates (1995), https://doi.org/10.1080/10618600.1995.10474663.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

Floats = npt.NDArray[np.float64]
# Nodes of adaptive quadrature by the number of scores; beyond, importance sampling.
_NODES: Final = {0: 1, 1: 15, 2: 9, 3: 7}
POINTS: Final = 150
_STEPS: Final = 30
# Degrees of freedom of the points: tails that hold off heavy weights, heavier for t scores.
_TAILS: Final = 7
_HEAVY: Final = 3
# Of a precision away from the mode: a third of the scores' prior one, squared.
_LEAST: Final = 0.1
# Sd of normal scores that let the rows alone say where a level with t scores is.
_WIDE: Final = 10.0
_LOG_2: Final = float(np.log(2.0))
_LOG_2PI: Final = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one level, or of levels that belong together.

    Attributes
    ----------
    predictor : int
        The linear predictor that they add to.
    load : ndarray (S, m, d)
        What each adds.
    nu : ndarray (S,) or None
        Degrees of freedom of their multivariate t distribution; None: normal.
    """

    predictor: int
    load: Floats
    nu: Floats | None


@dataclass(frozen=True, eq=False)
class Held:
    """What the log density of some rows is, as a function of scores v (S, d).

    Attributes
    ----------
    bases : tuple of ndarray (S, m)
        Linear predictors where all scores are zero.
    scores : tuple of Scores
        One after another in v.
    rows : callable
        Log densities (S, m) at linear predictors.
    """

    bases: tuple[Floats, ...]
    scores: tuple[Scores, ...]
    rows: Callable[[tuple[Floats, ...]], Floats]

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Where the scores stand in v."""
        ends = np.cumsum([0, *(own.load.shape[2] for own in self.scores)])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))

    @property
    def size(self) -> int:
        """Number of scores."""
        return sum(own.load.shape[2] for own in self.scores)

    @property
    def normal(self) -> bool:
        """Whether all scores are normal."""
        return all(own.nu is None for own in self.scores)

    @cached_property
    def steps(self) -> tuple[float, ...]:
        """Of differences, by predictor."""
        found = []
        for p, base in enumerate(self.bases):
            loads = [np.sum(own.load**2, axis=2) for own in self.scores if own.predictor == p]
            scale = float(np.sqrt(np.mean(np.var(base, axis=0)) + sum(map(np.mean, loads))))
            found.append(1e-3 * scale if scale > 0 else 1e-3)
        return tuple(found)

    @cached_property
    def moving(self) -> tuple[int, ...]:
        """The predictors that scores add to."""
        return tuple(sorted({own.predictor for own in self.scores}))

    def _predictors(self, v: Floats) -> tuple[Floats, ...]:
        """Return the linear predictors (S, m)."""
        etas = list(self.bases)
        for own, place in zip(self.scores, self.places, strict=True):
            etas[own.predictor] = etas[own.predictor] + (own.load @ v[:, place, None])[..., 0]
        return tuple(etas)

    def total(self, v: Floats) -> Floats:
        """Return the joint log density (S,) of the rows and the scores, without (2 pi)^-d/2."""
        # far out a density and what truncation leaves of it may both round to zero: no weight there
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            value = self.rows(self._predictors(v)).sum(axis=1)
        value = np.where(np.isfinite(value), value, -np.inf)
        for own, place in zip(self.scores, self.places, strict=True):
            square, q = np.sum(v[:, place] ** 2, axis=1), own.load.shape[2]
            if own.nu is None:
                value = value - 0.5 * square
                continue
            half = 0.5 * (own.nu + q)
            constant = gammaln(half) - gammaln(0.5 * own.nu) + 0.5 * q * (_LOG_2 - np.log(own.nu))
            value = value + constant - half * np.log1p(square / own.nu)
        return np.asarray(value)

    def slopes(self, v: Floats) -> tuple[Floats, Floats]:
        """Return gradient (S, d) and precision (S, d, d) of the scores at v."""
        first, second = self._differences(v)
        gradient, precision = np.empty_like(v), np.empty((*v.shape, v.shape[1]))
        pairs = list(zip(self.scores, self.places, strict=True))
        for own, place in pairs:
            left = np.swapaxes(own.load, 1, 2)
            gradient[:, place] = (left @ first[own.predictor][..., None])[..., 0]
            for other, there in pairs:
                ends = sorted((own.predictor, other.predictor))
                middle = second[ends[0], ends[1]][..., None]
                precision[:, place, there] = left @ (other.load * middle)
            down, up = _prior(own.nu, v[:, place])
            gradient[:, place] -= down
            precision[:, place, place] += up
        if len(self.moving) > 1 or not self.normal:
            values, vectors = np.linalg.eigh(precision)
            values = np.maximum(values, _LEAST)
            precision = (vectors * values[:, None, :]) @ np.swapaxes(vectors, 1, 2)
        return gradient, precision

    def _differences(self, v: Floats) -> tuple[dict[int, Floats], dict[tuple[int, int], Floats]]:
        """Return the rows' slopes by each predictor that moves, and minus their curvatures."""
        etas, steps = self._predictors(v), self.steps

        def at(moves: dict[int, int]) -> Floats:
            moved = list(etas)
            for p, sign in moves.items():
                moved[p] = moved[p] + sign * steps[p]
            return self.rows(tuple(moved))

        first, second, sums = {}, {}, {}
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            middle = at({})
            for p in self.moving:
                low, high = at({p: -1}), at({p: 1})
                sums[p] = low + high
                first[p] = _known((high - low) / (2.0 * steps[p]))
                curved = (2.0 * middle - sums[p]) / steps[p] ** 2
                second[p, p] = np.maximum(_known(curved), 0.0)
            for p, q in itertools.combinations(self.moving, 2):
                both = at({p: 1, q: 1}) + at({p: -1, q: -1})
                mixed = both - sums[p] - sums[q] + 2.0 * middle
                second[p, q] = _known(-mixed / (2.0 * steps[p] * steps[q]))
        return first, second


def _known(slopes: Floats) -> Floats:
    """Return slopes, 0 where rows have no density: the others and the scores' own lead back."""
    return np.where(np.isfinite(slopes), slopes, 0.0)


def _prior(nu: Floats | None, v: Floats) -> tuple[Floats, Floats]:
    """Return minus the slope of the scores' log density, and minus its curvature."""
    unit = np.eye(v.shape[1])
    if nu is None:
        return v, unit
    rest = nu + np.sum(v**2, axis=1)
    pull = ((nu + v.shape[1]) / rest)[:, None]
    outer = v[:, :, None] * v[:, None, :] / rest[:, None, None]
    return pull * v, pull[..., None] * (unit - 2.0 * outer)


def integrate(own: Held, rng: np.random.Generator) -> tuple[Floats, float]:
    """Return the log integral over the scores, and how far it may be trusted.

    Parameters
    ----------
    own : Held
    rng : numpy.random.Generator
        For importance sampling.

    Returns
    -------
    values : ndarray (S,)
    inner_ess : float
        The smallest number of effective points of any draw; NaN under quadrature.
    """
    size = own.size
    if not size:
        return own.total(np.zeros((len(own.bases[0]), 0))), np.nan
    if own.normal and size in _NODES:
        return _quadrature(own), np.nan
    return _sampled(own, rng)


def _quadrature(own: Held) -> Floats:
    """Return the log integral by adaptive Gauss-Hermite quadrature (S,)."""
    size = own.size
    mode, chol = _peak(own, np.zeros((len(own.bases[0]), size)))
    # rows of the inverse: v = mode + root' t has the precision's covariance
    root = np.linalg.inv(chol)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES[size])
    points = np.array(list(itertools.product(nodes, repeat=size)))
    products = [np.prod(w) for w in itertools.product(weights, repeat=size)]
    log_weights = np.log(products) - 0.5 * size * _LOG_2PI
    values = np.empty((len(points), len(mode)))
    for k, (point, weight) in enumerate(zip(points, log_weights, strict=True)):
        values[k] = own.total(mode + np.einsum("sde,d->se", root, point)) + weight
    values += 0.5 * np.sum(points**2, axis=1)[:, None]
    return np.asarray(logsumexp(values, axis=0) - _log_det(chol))


def _sampled(own: Held, rng: np.random.Generator) -> tuple[Floats, float]:
    """Return the log integral by importance sampling (S,), and the fewest effective points.

    Points come from t distributions about the mode. Under t scores a level far out may have two,
    one near the others and one where its rows are: half of the points about each.
    """
    size = own.size
    start = np.zeros((len(own.bases[0]), size))
    peaks = [_peak(own, start)]
    if not own.normal:
        peaks.append(_peak(own, _wide_mode(own, start)))
    df = _TAILS if own.normal else _HEAVY
    points = rng.standard_normal((POINTS, size))
    points *= np.sqrt(df / rng.chisquare(df, POINTS))[:, None]
    roots = [np.linalg.inv(chol) for _, chol in peaks]
    values = np.empty((POINTS, len(start)))
    for k, point in enumerate(points):
        which = k % len(peaks)
        v = peaks[which][0] + np.einsum("sde,d->se", roots[which], point)
        logs = [_log_density(v - mode, chol, df) for mode, chol in peaks]
        values[k] = own.total(v) - logsumexp(logs, axis=0)
    values += np.log(len(peaks) / POINTS) - 0.5 * size * _LOG_2PI
    total = np.asarray(logsumexp(values, axis=0))
    ess = np.exp(2.0 * total - logsumexp(2.0 * values, axis=0))
    return total, float(np.min(ess))


def _log_det(chol: Floats) -> Floats:
    """Return half the log determinants of precisions (S,), given their factors."""
    return np.asarray(np.sum(np.log(np.einsum("sdd->sd", chol)), axis=1))


def _log_density(off: Floats, chol: Floats, df: int) -> Floats:
    """Return log densities (S,) of t distributions with these precisions, at distances (S, d)."""
    size = off.shape[1]
    square = np.sum(np.einsum("sde,sd->se", chol, off) ** 2, axis=1)
    half = 0.5 * (df + size)
    constant = float(gammaln(half) - gammaln(0.5 * df)) - 0.5 * size * np.log(df * np.pi)
    return np.asarray(constant + _log_det(chol) - half * np.log1p(square / df))


def _peak(own: Held, start: Floats) -> tuple[Floats, Floats]:
    """Return a mode (S, d) and the factor of the precision there (S, d, d)."""
    mode = _mode(own, start)
    return mode, np.linalg.cholesky(own.slopes(mode)[1])


def _wide_mode(own: Held, start: Floats) -> Floats:
    """Return the scores' mode (S, d) where t scores are normal with a large sd instead."""
    wide = tuple(
        part if part.nu is None else replace(part, load=_WIDE * part.load, nu=None)
        for part in own.scores
    )
    found = _mode(replace(own, scores=wide), start)
    for part, place in zip(own.scores, own.places, strict=True):
        if part.nu is not None:
            found[:, place] *= _WIDE
    return found


def _mode(own: Held, start: Floats) -> Floats:
    """Return the scores' mode for every draw (S, d), by Newton steps that never go down."""
    v = start
    value = own.total(v)
    for _ in range(_STEPS):
        gradient, precision = own.slopes(v)
        step = np.linalg.solve(precision, gradient[..., None])[..., 0]
        share = np.ones(len(v))
        new = own.total(v + step)
        for _ in range(10):
            worse = ~(new >= value - 1e-10 * (1.0 + np.abs(value)))
            if not worse.any():
                break
            share = np.where(worse, 0.5 * share, share)
            new = np.where(worse, own.total(v + share[:, None] * step), new)
        v, value = v + share[:, None] * step, new
        if np.max(np.abs(share[:, None] * step)) < 1e-4:
            break
    return v

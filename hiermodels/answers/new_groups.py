"""Rows of a group that the model has not seen: its effects integrated out, draw by draw."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import multivariate_t

from hiermodels.answers.new_levels import effect_factor
from hiermodels.answers.pointwise import coded_rows, density
from hiermodels.answers.predictors import GroupEffects, linear_draws
from hiermodels.answers.rows import Rows, parameter_designs
from hiermodels.errors import FitError
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design
from hiermodels.spec.names import nu_name

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
# Nodes of adaptive quadrature by the number of effects; beyond, importance sampling.
_NODES: Final = {0: 1, 1: 15, 2: 9, 3: 7}
_POINTS: Final = 150
_STEPS: Final = 30
_BLOCK: Final = 20_000_000


@dataclass(frozen=True, eq=False)
class _Held:
    """What the log density of the rows held out is, as a function of d standard normal scores.

    Attributes
    ----------
    base : ndarray (S, m)
        Linear predictor without the effects that are integrated out.
    load : ndarray (S, m, d)
        What each score adds.
    rows : callable
        Log densities (S, m) at a linear predictor.
    step : float
        Of differences, in units of the linear predictor.
    """

    base: Floats
    load: Floats
    rows: Callable[[Floats], Floats]
    step: float

    def total(self, v: Floats) -> Floats:
        """Return the joint log density (S,) of the rows and the scores' kernel, at v (S, d)."""
        eta = self.base + np.einsum("smd,sd->sm", self.load, v)
        return np.asarray(self.rows(eta).sum(axis=1) - 0.5 * np.sum(v**2, axis=1))

    def slopes(self, v: Floats) -> tuple[Floats, Floats]:
        """Return gradient (S, d) and precision (S, d, d) of the scores at v."""
        eta = self.base + np.einsum("smd,sd->sm", self.load, v)
        low, middle, high = (self.rows(eta + k * self.step) for k in (-1, 0, 1))
        first = (high - low) / (2.0 * self.step)
        second = np.maximum((2.0 * middle - high - low) / self.step**2, 0.0)
        gradient = np.einsum("smd,sm->sd", self.load, first) - v
        precision = np.swapaxes(self.load * second[..., None], 1, 2) @ self.load
        return gradient, precision + np.eye(v.shape[1])


def group_terms(model: Model, posterior: xr.Dataset, held: Ints, seed: int) -> tuple[Floats, float]:
    """Return log p(rows | draw), the effects of levels that lie in them integrated out.

    Parameters
    ----------
    model : Model
        Of all rows.
    posterior : xarray.Dataset
        Of this model, or of the model without these rows.
    held : ndarray of int
    seed : int
        For importance sampling.

    Returns
    -------
    terms : ndarray (S,)
    inner_ess : float
        The smallest number of effective points of any draw; NaN under quadrature.

    Raises
    ------
    FitError
        The effects are not normal with one covariance for all levels, or a parameter's formula
        has bars.
    """
    design, rows = coded_rows(model, posterior, held)
    _check(design, posterior)
    inside = _inside(model.design, held)
    n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    size = sum(len(inside[g.name]) * len(g.coefs) for g in design.groups)
    step = max(_BLOCK // (len(held) * (size + 4)), 1)
    parts, least = [], np.inf
    for start in range(0, n_draws, step):
        take = np.arange(start, min(start + step, n_draws))
        own = _held(model, design, posterior, rows, inside, take)
        found, inner = _integrate(own, np.random.default_rng([seed, int(held[0]), start]))
        parts.append(found)
        least = min(least, inner)
    return np.concatenate(parts), np.nan if size in _NODES else least


def _check(design: Design, posterior: xr.Dataset) -> None:
    """Raise FitError where the effects cannot be integrated out."""
    for own in parameter_designs(design):
        if own.terms:
            raise FitError(
                f"The formula for {own.name} has bars, whose effects logo() cannot integrate out. "
                "Use hm.kfold(fit, group=...), which fits the model again."
            )
    for group in design.groups:
        if nu_name(group.name) in posterior:
            raise FitError(
                f"The effects of {group.name!r} follow a t distribution, which logo() cannot "
                "integrate out. Use hm.kfold(fit, group=...), which fits the model again."
            )


def _inside(design: Design, held: Ints) -> dict[str, tuple[str, ...]]:
    """Return by grouping the levels that have no other rows."""
    out = np.ones(design.n, dtype=bool)
    out[held] = False
    return {
        group.name: tuple(
            group.levels[k] for k in np.setdiff1d(group.index[held], group.index[out])
        )
        for group in design.groups
    }


def _held(
    model: Model,
    design: Design,
    posterior: xr.Dataset,
    rows: Rows,
    inside: dict[str, tuple[str, ...]],
    take: Ints,
) -> _Held:
    """Return the rows' log density given some draws."""
    levels, loads = dict(rows.levels), []
    for group in design.groups:
        own = levels[group.name]
        integrated = np.isin(own.labels, inside[group.name])
        levels[group.name] = replace(own, known=np.where(integrated, -1, own.known))
        if not integrated.any():
            continue
        factor = effect_factor(posterior, design, group, "", take)
        z = np.concatenate([design.terms[k].z for k in group.terms], axis=1)
        each = np.einsum("mq,sqd->smd", z, factor)
        loads += [
            each * (own.index[:, 0] == level)[:, None] for level in np.flatnonzero(integrated)
        ]
    rows = replace(rows, levels=levels)
    effects = GroupEffects(frozenset(levels), frozenset(), "zero", 0)
    base = linear_draws(design, posterior, rows, take, effects)
    load = np.concatenate(loads, axis=2) if loads else np.zeros((*base.shape, 0))
    scale = float(np.sqrt(np.mean(np.var(base, axis=0)) + np.mean(np.sum(load**2, axis=2))))

    def every(eta: Floats) -> Floats:
        return density(model, design, posterior, rows, take, effects, eta)

    return _Held(base, load, every, 1e-3 * scale if scale > 0 else 1e-3)


def _integrate(own: _Held, rng: np.random.Generator) -> tuple[Floats, float]:
    """Return the log integral over the scores (S,), and the fewest effective points."""
    size = own.load.shape[2]
    if not size:
        return own.total(np.zeros((len(own.base), 0))), np.inf
    mode = _mode(own)
    root = np.linalg.inv(np.linalg.cholesky(own.slopes(mode)[1]))
    # rows of the inverse: v = mode + root' t has the precision's covariance
    log_det = np.sum(np.log(np.einsum("sdd->sd", root)), axis=1)
    if size in _NODES:
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES[size])
        points = np.array(list(itertools.product(nodes, repeat=size)))
        log_weights = np.log(
            [np.prod(w) for w in itertools.product(weights, repeat=size)]
        ) - 0.5 * size * np.log(2.0 * np.pi)
    else:
        # a t distribution with 7 degrees of freedom, whose tails hold off heavy weights
        points = rng.standard_normal((_POINTS, size))
        points *= np.sqrt(7.0 / rng.chisquare(7.0, _POINTS))[:, None]
        log_weights = _log_ratio(points) - np.log(_POINTS)
    values = np.empty((len(points), len(mode)))
    for k, (point, weight) in enumerate(zip(points, log_weights, strict=True)):
        values[k] = own.total(mode + np.einsum("sde,d->se", root, point)) + weight
    values += 0.5 * np.sum(points**2, axis=1)[:, None]
    total = logsumexp(values, axis=0)
    ess = np.exp(2.0 * total - logsumexp(2.0 * values, axis=0))
    return np.asarray(total + log_det), float(np.min(ess))


def _log_ratio(points: Floats) -> Floats:
    """Return log of the normal density over that of the t distribution with 7 degrees."""
    size = points.shape[1]
    square = np.sum(points**2, axis=1)
    normal = -0.5 * square - 0.5 * size * np.log(2.0 * np.pi)
    return np.asarray(normal - multivariate_t(np.zeros(size), np.eye(size), df=7).logpdf(points))


def _mode(own: _Held) -> Floats:
    """Return the scores' mode for every draw (S, d), by Newton steps that never go down."""
    v = np.zeros((len(own.base), own.load.shape[2]))
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

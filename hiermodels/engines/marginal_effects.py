"""After sampling: exact draws of coefficients and group effects, and the effects' moments."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.conditional import Coordinates, _correlation_factor
from hiermodels.engines.marginal import MarginalProblem, pack_marginal
from hiermodels.engines.marginal_draws import many_draws
from hiermodels.engines.problem import SD_KINDS, Floats
from hiermodels.errors import EngineError


@dataclass(frozen=True, eq=False)
class EffectMoments:
    """Means and covariances of the group effects, by bar, without the noise of drawing them.

    Parameters
    ----------
    means
        By bar (J, q), in the priors' coordinates.
    covariances
        By bar (J, q, q): the mean of conditional covariances plus the covariance of conditional
        means, over the draws of scales.
    """

    means: tuple[Floats, ...]
    covariances: tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class MarginalDraws:
    """What sampling the scales leads to.

    Parameters
    ----------
    coordinates
        As the conditional engine has them; `effects` is empty where they were not asked for, and
        `sigma` is None unless there is exactly one.
    phi
        The residual's unconstrained parameters, (..., n_phi).
    moments
        Of the group effects; None where they were not asked for.
    """

    coordinates: Coordinates
    phi: Floats
    moments: EffectMoments | None


def effects_size(problem: MarginalProblem, n_draws: int) -> int:
    """Return the bytes that so many draws of all group effects take."""
    return 8 * n_draws * sum(bar.q * bar.n_levels for bar in problem.bars)


def draw_effects(
    problem: MarginalProblem,
    draws: Floats,
    seed: int,
    *,
    effects: bool = True,
    moments: bool = True,
    cores: int = 1,
) -> MarginalDraws:
    """Draw coefficients and group effects exactly, given draws of everything else.

    Parameters
    ----------
    problem
        The model.
    draws
        Unconstrained vectors, (chains, draws, ndim).
    seed
        The same seed gives the same draws, whatever the cores.
    effects
        Whether to keep every draw of the group effects.
    moments
        Whether to compute the group effects' exact means and covariances.
    cores
        Chains that run at a time.

    Returns
    -------
    MarginalDraws

    Raises
    ------
    EngineError
        Where the draws have another number of coordinates.
    """
    parts = problem.layout
    if draws.ndim != 3 or draws.shape[-1] != parts.ndim:
        raise EngineError(
            f"The draws have shape {draws.shape}; the model needs (chains, draws, {parts.ndim})."
        )
    buffer = pack_marginal(problem, compressed=False)
    sizes = [bar.q * bar.n_levels for bar in problem.bars]
    squares = [bar.q**2 * bar.n_levels for bar in problem.bars]
    n_chains, n_draws = draws.shape[:2]
    p = problem.gram.n_coefs
    gamma = np.empty((n_chains, n_draws, p))
    every = np.empty((n_chains, n_draws, sum(sizes) if effects else 0))
    mean, within, between = (
        np.zeros((n_chains, sum(size) if moments else 0)) for size in (sizes, squares, squares)
    )
    at_bars, at_squares = (np.cumsum([0, *size]).astype(np.int64) for size in (sizes, squares))
    levels, places = _places(problem)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n_chains)]

    kernel = many_draws(not problem.plain_residual)

    def one(chain: int) -> int:
        return int(
            kernel(
                buffer, np.ascontiguousarray(draws[chain]), streams[chain], at_bars, at_squares,
                levels, places, gamma[chain], every[chain], mean[chain], within[chain],
                between[chain],
            )
        )  # fmt: skip

    with ThreadPoolExecutor(max(1, min(cores, n_chains))) as pool:
        failed = list(pool.map(one, range(n_chains)))
    counts = n_draws - np.array(failed, dtype=np.float64)
    found = None
    if moments:
        pooled = _pool(counts, mean, within, between, problem)
        found = _split_moments(problem, *pooled)
    return MarginalDraws(_coordinates(problem, draws, gamma, every), draws[..., parts.phi], found)


def _places(problem: MarginalProblem) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the levels of all nodes, and by grouping its first node, levels, column, effects."""
    gram = problem.gram
    places = np.full((len(gram.groupings), 4), -1, dtype=np.int64)
    for k, grouping in enumerate(gram.groupings):
        places[k, 1], places[k, 3] = grouping.n_levels, grouping.q
    for k, column in zip(gram.border, gram.corner.first, strict=True):
        places[k, 2] = column
    levels: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
    at = 0
    for level in gram.levels:
        places[level.grouping, 0] = at
        at += len(level.levels)
        levels.append(level.levels)
    return np.concatenate(levels).astype(np.int64), places


def _pool(
    counts: Floats, mean: Floats, within: Floats, between: Floats, problem: MarginalProblem
) -> tuple[Floats, Floats]:
    """Return means and covariances over all chains from each chain's."""
    share = counts / counts.sum()
    total = share @ mean
    covariance = (within + between).sum(axis=0) / counts.sum()
    at = square = 0
    for bar in problem.bars:
        q, size = bar.q, bar.q * bar.n_levels
        off = (mean[:, at : at + size] - total[at : at + size]).reshape(-1, bar.n_levels, q)
        spread = np.einsum("c,cjx,cjy->jxy", share, off, off)
        covariance[square : square + size * q] += spread.ravel()
        at, square = at + size, square + size * q
    return total, covariance


def _split_moments(problem: MarginalProblem, mean: Floats, covariance: Floats) -> EffectMoments:
    means = _split(mean, [(bar.n_levels, bar.q) for bar in problem.bars])
    shapes = [(bar.n_levels, bar.q, bar.q) for bar in problem.bars]
    return EffectMoments(means, _split(covariance, shapes))


def _split(values: Floats, shapes: Sequence[tuple[int, ...]]) -> tuple[Floats, ...]:
    """Return the last dimension cut into arrays of these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(values, ends[:-1], axis=-1) if shapes else []
    return tuple(
        part.reshape(*values.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
    )


def _coordinates(
    problem: MarginalProblem, draws: Floats, gamma: Floats, effects: Floats
) -> Coordinates:
    """Return constrained values."""
    gram, parts = problem.gram, problem.layout
    coef = np.empty((*draws.shape[:-1], len(problem.coef_priors)))
    coef[..., problem.normal] = gram.centre + gamma @ np.linalg.inv(gram.R).T
    coef[..., problem.others] = draws[..., parts.others]
    sds, chols = [], []
    for bar, own, correlations in zip(problem.bars, parts.sds, parts.correlations, strict=True):
        sds.append(np.exp(draws[..., own]))
        identity = np.broadcast_to(np.eye(bar.q), (*draws.shape[:-1], bar.q, bar.q))
        free = bar.n_correlations > 0
        chols.append(_correlation_factor(draws[..., correlations], bar.q) if free else identity)
    shapes = [(bar.n_levels, bar.q) for bar in problem.bars]
    kept = _split(effects, shapes) if effects.shape[-1] or not shapes else ()
    one = problem.residual.n_phi == 1 and problem.residual_sds[0].kind in SD_KINDS
    found = np.exp(draws[..., parts.phi.start]) if one else None
    return Coordinates(coef, tuple(sds), tuple(chols), kept, found)

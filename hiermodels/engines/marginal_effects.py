"""After sampling: exact draws of coefficients and group effects, and the effects' moments."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.conditional import Coordinates, _correlation_factor
from hiermodels.engines.lanes_draws import many_lane_draws
from hiermodels.engines.lanes_layout import Lanes, suits_lanes
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_draws import many_draws
from hiermodels.engines.marginal_packing import pack_marginal, pack_rows
from hiermodels.engines.problem import SD_KINDS, Floats
from hiermodels.engines.row_kernels import refill_kernel
from hiermodels.errors import EngineError

#: Numbers that effects may take which are drawn and not kept.
_PART: Final = 2_000_000


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
    lanes: bool | None = None,
) -> MarginalDraws:
    """Draw coefficients and group effects exactly, given draws of everything else.

    Parameters
    ----------
    problem
        The model.
    draws
        Unconstrained vectors, (chains, draws, ndim), all sds among them.
    seed
        The same seed gives the same draws, whatever the cores.
    effects
        Whether to keep every draw of the group effects; else they are drawn a part at a time
        where coefficients are among them.
    moments
        Whether to compute the group effects' exact means and covariances.
    cores
        Chains that run at a time.
    lanes
        As `pack_marginal` takes it; the draws differ, their distribution does not.

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
    side_by_side = suits_lanes(problem.gram) if lanes is None else lanes
    apart = not effects and len(problem.shrunk) > 0
    side_by_side = side_by_side and problem.rows is None and not apart
    buffer = pack_marginal(problem, compressed=False, lanes=side_by_side)
    # side by side effects come by grouping, in the cross-products' columns; else by bar
    shapes = [(g.n_levels, g.q) for g in problem.gram.groupings]
    if not side_by_side:
        shapes = [(bar.n_levels, bar.q) for bar in problem.bars]
    blocks = Lanes(problem.gram) if side_by_side else None
    kept = shapes if blocks is None else blocks.shapes
    at = np.cumsum([0, *(n * q for n, q in shapes)]).astype(np.int64)
    at_means = np.cumsum([0, *(n * q for n, q in kept)]).astype(np.int64)
    at_squares = np.cumsum([0, *(n * q * q for n, q in kept)]).astype(np.int64)
    n_chains, n_draws = draws.shape[:2]
    gamma = np.empty((n_chains, n_draws, problem.gram.n_coefs))
    every = np.empty((n_chains, n_draws, at[-1] if effects else 0))
    shrunk = np.empty((n_chains, n_draws, len(problem.shrunk)))
    mean, within, between = (
        np.zeros((n_chains, int(size[-1]) if moments else 0))
        for size in (at_means, at_squares, at_squares)
    )
    levels, places = _places(problem, blocks)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n_chains)]
    rest: tuple[NDArray[np.int64], ...] = (at, at_squares, levels, places)
    kernel = many_draws(not problem.plain_residual)
    if blocks is not None:
        kernel = many_lane_draws(not problem.plain_residual)
        starts = np.column_stack([at[:-1], at_means[:-1], at_squares[:-1]])
        rest = (levels, np.column_stack([places, starts]))

    def one(chain: int) -> int:
        own = np.ascontiguousarray(draws[chain])
        out = gamma[chain], every[chain], mean[chain], within[chain], between[chain]
        if problem.rows is not None or apart:
            more = *out, shrunk[chain]
            return _in_parts(problem, kernel, buffer, own, streams[chain], rest, more, shapes)
        return int(kernel(buffer, own, streams[chain], *rest, *out))

    with ThreadPoolExecutor(max(1, min(cores, n_chains))) as pool:
        failed = list(pool.map(one, range(n_chains)))
    counts = n_draws - np.array(failed, dtype=np.float64)
    found = None
    if moments:
        if blocks is not None:
            mean, within, between = blocks.by_level(mean, within, between)
        found = _pool(counts, mean, within, between, shapes)
    drawn = _split(every, shapes) if effects else ()
    if side_by_side:
        drawn, found = _by_bar(problem, drawn, found)
    if effects and shrunk.shape[-1]:
        shrunk = drawn[-1][..., 0, :]
    drawn, found = _by_term(problem, drawn, found)
    coordinates = _coordinates(problem, draws, gamma, drawn)
    if shrunk.shape[-1]:
        coordinates, found = _without_coefficients(problem, coordinates, found, shrunk)
    return MarginalDraws(coordinates, draws[..., parts.phi], found)


def _without_coefficients(
    problem: MarginalProblem, found: Coordinates, moments: EffectMoments | None, shrunk: Floats
) -> tuple[Coordinates, EffectMoments | None]:
    """Return what was drawn with coefficients where they belong, not as effects of the last bar."""
    coef = found.coef.copy()
    coef[..., problem.shrunk] = shrunk
    if moments is not None:
        moments = EffectMoments(moments.means[:-1], moments.covariances[:-1])
    bars = replace(found, sds=found.sds[:-1], chols=found.chols[:-1], effects=found.effects[:-1])
    return replace(bars, coef=coef), moments


def _in_parts(
    problem: MarginalProblem, kernel: Any, inner: Floats, draws: Floats, rng: np.random.Generator,
    rest: tuple[NDArray[np.int64], ...], out: tuple[Floats, ...], shapes: list[tuple[int, int]],
) -> int:  # fmt: skip
    """Do what the kernel over draws does for some draws at a time.

    For one, where products are summed from the rows for each draw; for so many that all effects
    can be held, where those that stand for coefficients are kept and the others are not.
    """
    gamma, every, mean, within, between, shrunk = out
    size, rowwise = sum(n * q for n, q in shapes), problem.rows is not None
    squares = [(n, q, q) for n, q in shapes]
    step = 1 if rowwise else max(_PART // max(size, 1), 1)
    whole, filled = pack_rows(problem) if rowwise else inner, np.empty_like(inner)
    phi, numbers = problem.layout.phi, np.empty(1 + problem.residual.n_phi)
    failed, count = 0, 0
    for start in range(0, len(draws), step):
        part = slice(start, start + step)
        if rowwise:
            refill_kernel()(whole, draws[start, phi], numbers, filled)
        own = tuple(np.zeros_like(total) for total in (mean, within, between))
        apart = shrunk.shape[1] > 0 and every.shape[1] == 0
        kept = np.empty((len(draws[part]), size)) if apart else every[part]
        buffer = filled if rowwise else inner
        lost = int(kernel(buffer, draws[part], rng, *rest, gamma[part], kept, *own))
        if apart:
            shrunk[part] = kept[:, size - shrunk.shape[1] :]
        failed += lost
        more = len(draws[part]) - lost
        if not more or not len(mean):
            continue
        # the moments of two parts together: Chan, Golub and LeVeque (1983)
        off = own[0] - mean
        within += own[1]
        between += own[2]
        for shift, square in zip(_split(off, shapes), _split(between, squares), strict=True):
            square += np.einsum("jx,jy->jxy", shift, shift) * (count * more / (count + more))
        count += more
        mean += off * (more / count)
    return failed


def _by_bar(
    problem: MarginalProblem, effects: tuple[Floats, ...], moments: EffectMoments | None
) -> tuple[tuple[Floats, ...], EffectMoments | None]:
    """Return effects and moments by bar, in the priors' coordinates, from those by grouping."""
    kept, means, covariances = [], [], []
    for bar in problem.bars:
        own, g = slice(bar.first, bar.first + bar.q), bar.grouping
        back = np.linalg.inv(bar.map)
        change = not np.array_equal(bar.map, np.eye(bar.q))
        if effects:
            part = effects[g][..., own]
            kept.append(part @ back.T if change else part)
        if moments is not None:
            means.append(moments.means[g][..., own] @ back.T)
            covariances.append(back @ moments.covariances[g][:, own, own] @ back.T)
    if moments is not None:
        moments = EffectMoments(tuple(means), tuple(covariances))
    return tuple(kept), moments


def _by_term(
    problem: MarginalProblem, effects: tuple[Floats, ...], moments: EffectMoments | None
) -> tuple[tuple[Floats, ...], EffectMoments | None]:
    """Return effects and moments by bar of the formula: each level's of its own subpopulation."""
    if all(bar.by is None for bar in problem.bars):
        return effects, moments
    if effects:
        effects = tuple(_own_levels(problem, own, effects, -2) for own in problem.terms)
    if moments is not None:
        means, covariances = (
            tuple(_own_levels(problem, own, parts, 0) for own in problem.terms)
            for parts in (moments.means, moments.covariances)
        )
        moments = EffectMoments(means, covariances)
    return effects, moments


def _own_levels(
    problem: MarginalProblem, bars: tuple[int, ...], parts: tuple[Floats, ...], axis: int
) -> Floats:
    """Return what each level has of its own subpopulation's bar, levels being on one axis."""
    out = parts[bars[0]]
    for k in bars[1:]:
        by = problem.bars[k].by
        if by is not None:
            own = (by[0] == by[1]).reshape((-1, *[1] * (-1 - axis if axis < 0 else out.ndim - 1)))
            out = np.where(own, parts[k], out)
    return out


def _places(
    problem: MarginalProblem, blocks: Lanes | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the levels of all nodes, and by grouping its first node, levels, column, effects.

    Side by side a node is a place of a block; places without a node have level -1.
    """
    gram = problem.gram
    places = np.full((len(gram.groupings), 4), -1, dtype=np.int64)
    for k, grouping in enumerate(gram.groupings):
        places[k, 1], places[k, 3] = grouping.n_levels, grouping.q
    for k, column in zip(gram.border, gram.corner.first, strict=True):
        places[k, 2] = column
    levels: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
    at = 0
    for h, level in enumerate(gram.levels):
        places[level.grouping, 0] = at
        levels.append(level.levels if blocks is None else blocks.levels(h))
        at += len(levels[-1])
    return np.concatenate(levels).astype(np.int64), places


def _pool(
    counts: Floats, mean: Floats, within: Floats, between: Floats, shapes: list[tuple[int, int]]
) -> EffectMoments:
    """Return means and covariances over all chains from each chain's."""
    share = counts / counts.sum()
    squares = [(n, q, q) for n, q in shapes]
    means, covariances = [], []
    for own, square in zip(
        _split(mean, shapes), _split((within + between).sum(axis=0), squares), strict=True
    ):
        total = np.einsum("c,cjx->jx", share, own)
        off = own - total
        spread = np.einsum("c,cjx,cjy->jxy", share, off, off)
        means.append(total)
        covariances.append(square / counts.sum() + spread)
    return EffectMoments(tuple(means), tuple(covariances))


def _split(values: Floats, shapes: Sequence[tuple[int, ...]]) -> tuple[Floats, ...]:
    """Return the last dimension cut into arrays of these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(values, ends[:-1], axis=-1) if shapes else []
    return tuple(
        part.reshape(*values.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
    )


def _coordinates(
    problem: MarginalProblem, draws: Floats, gamma: Floats, effects: tuple[Floats, ...]
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
    by_term = _by_subpopulation(problem, sds), _by_subpopulation(problem, chols)
    one = problem.residual.n_phi == 1 and problem.residual_sds[0].kind in SD_KINDS
    found = np.exp(draws[..., parts.phi.start]) if one else None
    return Coordinates(coef, *by_term, effects, found)


def _by_subpopulation(problem: MarginalProblem, parts: Sequence[Floats]) -> tuple[Floats, ...]:
    """Return by bar of the formula (chain, draw, ...), or (chain, draw, subpopulation, ...)."""
    return tuple(
        parts[own[0]]
        if problem.bars[own[0]].by is None
        else np.stack([parts[k] for k in own], axis=2)
        for own in problem.terms
    )

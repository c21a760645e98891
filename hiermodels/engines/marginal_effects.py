"""After sampling: exact draws of coefficients and group effects, and the effects' moments."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.conditional import Coordinates, _correlation_factor
from hiermodels.engines.effect_moments import (
    EffectMoments,
    Sums,
    add_sums,
    find_moments,
    own_levels,
    split_parts,
)
from hiermodels.engines.lanes_draws import many_lane_draws
from hiermodels.engines.lanes_layout import Lanes, suits_lanes
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_draws import many_draws
from hiermodels.engines.marginal_packing import pack_marginal, pack_rows
from hiermodels.engines.problem import SD_KINDS, Floats
from hiermodels.engines.row_kernels import refill_kernel
from hiermodels.engines.total_moments import Added, Targets, drawn_totals, find_targets
from hiermodels.errors import EngineError

#: Numbers that effects may take which are drawn and not kept.
_PART: Final = 2_000_000


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
    added: Added | None = None,
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
    added
        Which coefficients the effects are added to: the variances of these sums are computed
        besides, where draws of the effects are not kept. They are exact unless coefficients are
        effects of a bar, which takes drawn ones.
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
    added = added if moments and not effects else None
    targets = find_targets(problem, draws, added, side_by_side)
    squares = int(at_squares[-1]) if moments else 0
    sums = Sums(
        mean=np.zeros((n_chains, int(at_means[-1]) if moments else 0)),
        within=np.zeros((n_chains, squares)),
        between=np.zeros((n_chains, squares)),
        cross=np.zeros((n_chains, squares if len(targets.beside) and not apart else 0)),
        target=np.zeros((n_chains, len(targets.beside), 2)),
        total=np.zeros((n_chains, 2, int(at[-1]) if len(targets.beside) and apart else 0)),
    )
    levels, places = _places(problem, blocks)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(n_chains)]
    rest: tuple[NDArray[np.int64], ...] = (at, at_squares, levels, places)
    kernel = many_draws(not problem.plain_residual)
    if blocks is not None:
        kernel = many_lane_draws(not problem.plain_residual)
        first = np.cumsum([0, *(q for _, q in shapes)])[:-1]
        starts = np.column_stack([at[:-1], at_means[:-1], at_squares[:-1], first])
        rest = (levels, np.column_stack([places, starts]))

    def one(chain: int) -> int:
        own, mine = np.ascontiguousarray(draws[chain]), sums.of(chain)
        out = gamma[chain], every[chain]
        known = targets.known[chain]
        if problem.rows is not None or apart:
            parts = _Parts(problem, kernel, buffer, rest, shapes, added, targets, known)
            return _in_parts(parts, own, streams[chain], (*out, shrunk[chain]), mine)
        return _run(kernel, buffer, own, streams[chain], rest, out, targets.beside, known, mine)

    with ThreadPoolExecutor(max(1, min(cores, n_chains))) as pool:
        failed = list(pool.map(one, range(n_chains)))
    counts = n_draws - np.array(failed, dtype=np.float64)
    found = None
    if moments:
        found = find_moments(problem, counts, sums, shapes, blocks, added, targets)
    drawn = split_parts(every, shapes) if effects else ()
    if side_by_side and effects:
        drawn = _by_bar(problem, drawn)
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
        moments = EffectMoments(moments.means[:-1], moments.covariances[:-1], moments.totals[:-1])
    bars = replace(found, sds=found.sds[:-1], chols=found.chols[:-1], effects=found.effects[:-1])
    return replace(bars, coef=coef), moments


@dataclass(frozen=True, eq=False)
class _Parts:
    """What all parts of a chain's draws share."""

    problem: MarginalProblem
    kernel: Any
    inner: Floats
    rest: tuple[NDArray[np.int64], ...]
    shapes: list[tuple[int, int]]
    added: Added | None
    targets: Targets
    known: Floats


def _run(
    kernel: Any, buffer: Floats, draws: Floats, rng: np.random.Generator,
    rest: tuple[NDArray[np.int64], ...], out: tuple[Floats, ...], beside: Floats, known: Floats,
    sums: Sums,
) -> int:  # fmt: skip
    """Return how many draws could not be factored, after the kernel has run over all."""
    # without room for covariances there is nothing that effects are added to
    many = len(beside) if sums.cross.size else 0
    return int(
        kernel(
            buffer, draws, rng, *rest, *out, sums.mean, sums.within, sums.between, beside[:many],
            known[:, :many], sums.cross, sums.target[:many],
        )
    )  # fmt: skip


def _in_parts(
    own: _Parts, draws: Floats, rng: np.random.Generator, out: tuple[Floats, ...], sums: Sums
) -> int:
    """Do what the kernel over draws does for some draws at a time.

    For one, where products are summed from the rows for each draw; for so many that all effects
    can be held, where those that stand for coefficients are kept and the others are not.
    """
    gamma, every, shrunk = out
    problem, shapes, targets = own.problem, own.shapes, own.targets
    size, rowwise = sum(n * q for n, q in shapes), problem.rows is not None
    step = 1 if rowwise else max(_PART // max(size, 1), 1)
    whole = pack_rows(problem) if rowwise else own.inner
    filled, numbers = np.empty_like(own.inner), np.empty(1 + problem.residual.n_phi)
    failed, count = 0, 0
    for start in range(0, len(draws), step):
        part = slice(start, start + step)
        if rowwise:
            refill_kernel()(whole, draws[start, problem.layout.phi], numbers, filled)
        new = sums.nothing()
        apart = shrunk.shape[1] > 0 and every.shape[1] == 0
        kept = np.empty((len(draws[part]), size)) if apart else every[part]
        buffer = filled if rowwise else own.inner
        lost = _run(
            own.kernel, buffer, draws[part], rng, own.rest, (gamma[part], kept), targets.beside,
            own.known[part], new,
        )  # fmt: skip
        if apart:
            shrunk[part] = kept[:, size - shrunk.shape[1] :]
        failed += lost
        more = len(draws[part]) - lost
        if not more or not len(sums.mean):
            continue
        if sums.total.size and own.added is not None:
            added = gamma[part] @ targets.beside.T + own.known[part]
            added += shrunk[part] @ targets.shrunk.T
            both = drawn_totals(problem, own.added, targets, split_parts(kept, shapes), added)
            both = both[np.isfinite(both[:, 0])]
            new.total[0], new.total[1] = both.mean(axis=0), more * both.var(axis=0)
        add_sums(sums, new, shapes, count, more)
        count += more
    return failed


def _by_bar(problem: MarginalProblem, effects: tuple[Floats, ...]) -> tuple[Floats, ...]:
    """Return effects by bar, in the priors' coordinates, from those by grouping."""
    kept = []
    for bar in problem.bars:
        own = slice(bar.first, bar.first + bar.q)
        part = effects[bar.grouping][..., own]
        same = np.array_equal(bar.map, np.eye(bar.q))
        kept.append(part if same else part @ np.linalg.inv(bar.map).T)
    return tuple(kept)


def _by_term(
    problem: MarginalProblem, effects: tuple[Floats, ...], moments: EffectMoments | None
) -> tuple[tuple[Floats, ...], EffectMoments | None]:
    """Return effects and moments by bar of the formula: each level's of its own subpopulation."""
    if all(bar.by is None for bar in problem.bars):
        return effects, moments
    if effects:
        effects = tuple(own_levels(problem, own, effects, -2) for own in problem.terms)
    if moments is not None:
        found = (moments.means, moments.covariances, moments.totals)
        moments = EffectMoments(
            *(tuple(own_levels(problem, own, parts, 0) for own in problem.terms if parts)
              for parts in found)
        )  # fmt: skip
    return effects, moments


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

"""Moments of group effects: what the kernels over draws add up, put together over all chains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hiermodels.engines.lanes_layout import Lanes
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.problem import Floats
from hiermodels.engines.total_moments import Added, Targets, total_variances


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
    totals
        By bar (J, q): the variances of effects plus coefficients, as `Added` says; empty where
        these were not asked for.
    """

    means: tuple[Floats, ...]
    covariances: tuple[Floats, ...]
    totals: tuple[Floats, ...] = ()


@dataclass(frozen=True, eq=False)
class Sums:
    """What the kernels add up, with a leading dimension of chains or of one chain.

    Running means of conditional means; sums of conditional covariances, and of squares about the
    means; both of effects with coefficients; of coefficients, means beside sums of squares. Where
    these are effects of a bar, the same of drawn sums of both.
    """

    mean: Floats
    within: Floats
    between: Floats
    cross: Floats
    target: Floats
    total: Floats

    def of(self, chain: int) -> "Sums":
        """Return one chain's."""
        return Sums(*(value[chain] for value in vars(self).values()))

    def nothing(self) -> "Sums":
        """Return zeros of the same shapes."""
        return Sums(*(np.zeros_like(value) for value in vars(self).values()))


def add_sums(sums: Sums, new: Sums, shapes: list[tuple[int, int]], count: int, more: int) -> None:
    """Add the sums of more draws: Chan, Golub and LeVeque (1983)."""
    share, part = count * more / (count + more), more / (count + more)
    squares = [(n, q, q) for n, q in shapes]
    off, moved = new.mean - sums.mean, new.target[:, 0] - sums.target[:, 0]
    sums.within[:] += new.within
    sums.between[:] += new.between
    sums.cross[:] += new.cross
    shifts = split_parts(off, shapes)
    for shift, square in zip(shifts, split_parts(sums.between, squares), strict=True):
        square += np.einsum("jx,jy->jxy", shift, shift) * share
    if sums.cross.size:
        at = np.cumsum([0, *(q for _, q in shapes)])
        for k, (shift, square) in enumerate(
            zip(shifts, split_parts(sums.cross, squares), strict=True)
        ):
            square += np.einsum("jx,y->jxy", shift, moved[at[k] : at[k + 1]]) * share
        sums.target[:, 1] += new.target[:, 1] + moved**2 * share
        sums.target[:, 0] += moved * part
    if sums.total.size:
        step = new.total[0] - sums.total[0]
        sums.total[1] += new.total[1] + step**2 * share
        sums.total[0] += step * part
    sums.mean[:] += off * part


def find_moments(
    problem: MarginalProblem,
    counts: Floats,
    sums: Sums,
    shapes: list[tuple[int, int]],
    blocks: Lanes | None,
    added: Added | None,
    targets: Targets,
) -> EffectMoments:
    """Return moments by bar, in the priors' coordinates, over all chains."""
    mean, inner, cross = sums.mean, sums.within + sums.between, sums.cross
    if blocks is not None:
        mean, inner, *more = blocks.by_level(mean, inner, *([cross] if cross.size else []))
        cross = more[0] if more else cross
    share, total = counts / counts.sum(), counts.sum()
    target = sums.target[:, :, 0]
    middle = share @ target
    variances = sums.target[:, :, 1].sum(axis=0) / total + share @ (target - middle) ** 2
    squares = [(n, q, q) for n, q in shapes]
    at = np.cumsum([0, *(q for _, q in shapes)])
    means, covariances, crosses = [], [], []
    for k, (own, square) in enumerate(
        zip(split_parts(mean, shapes), split_parts(inner.sum(axis=0), squares), strict=True)
    ):
        means.append(np.einsum("c,cjx->jx", share, own))
        off = own - means[-1]
        covariances.append(square / total + np.einsum("c,cjx,cjy->jxy", share, off, off))
        if cross.size:
            moved = (target - middle)[:, at[k] : at[k + 1]]
            both = split_parts(cross.sum(axis=0), squares)[k] / total
            crosses.append(both + np.einsum("c,cjx,cy->jxy", share, off, moved))
    if blocks is not None:
        means, covariances, crosses = _moments_by_bar(problem, means, covariances, crosses)
    totals: tuple[Floats, ...] = ()
    if cross.size and added is not None:
        totals = total_variances(problem, added, targets, covariances, crosses, variances)
    elif sums.total.size:
        own_mean = sums.total[:, 0]
        off = own_mean - share @ own_mean
        totals = split_parts(sums.total[:, 1].sum(axis=0) / total + share @ off**2, shapes)
    return EffectMoments(tuple(means), tuple(covariances), totals)


def _moments_by_bar(
    problem: MarginalProblem, means: list[Floats], covariances: list[Floats], crosses: list[Floats]
) -> tuple[list[Floats], list[Floats], list[Floats]]:
    """Return moments by bar, in the priors' coordinates, from those by grouping."""
    found: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
    for bar in problem.bars:
        own, g, back = slice(bar.first, bar.first + bar.q), bar.grouping, np.linalg.inv(bar.map)
        found[0].append(means[g][..., own] @ back.T)
        found[1].append(back @ covariances[g][:, own, own] @ back.T)
        if crosses:
            found[2].append(back @ crosses[g][:, own, own])
    return found


def own_levels(
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


def split_parts(values: Floats, shapes: Sequence[tuple[int, ...]]) -> tuple[Floats, ...]:
    """Return the last dimension cut into arrays of these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(values, ends[:-1], axis=-1) if shapes else []
    return tuple(
        part.reshape(*values.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
    )

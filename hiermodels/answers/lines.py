"""Lines through the groups: one regression for all, one for each group, and partial pooling.

Everything is on the response scale: the expected response (for the binomial family, the expected
share of successes) along one predictor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.counted_rows import counts_of
from hiermodels.answers.fitted import (
    Fitted,
    dataset,
    effect_means,
    find_pooled_group,
    population_draws,
    population_means,
)
from hiermodels.answers.line_rows import (
    held_rows,
    line_predictor,
    mean_offset,
    numeric_predictors,
    parent_levels,
    parents_of,
    seen_values,
    varies,
)
from hiermodels.answers.product_rows import with_product_rows
from hiermodels.answers.row_responses import given_response
from hiermodels.answers.rows import needed_column, new_rows
from hiermodels.answers.shrinkage import choose, complete_estimates, own_estimates
from hiermodels.errors import FitError
from hiermodels.fitting.tables import check_prob
from hiermodels.spec.design import Design, Group
from hiermodels.spec.rowless import RowlessDesign

__all__ = [
    "BAND_DRAWS",
    "group_lines",
    "group_points",
    "held_rows_of",
    "line_predictor",
    "numeric_predictors",
]

Floats = npt.NDArray[np.float64]

#: At most this many draws are carried through to a band; they are taken evenly.
BAND_DRAWS = 1000


@dataclass(frozen=True)
class _Point:
    """New rows for lines: X (m, p), z by bar (m, q), level of each row (m,), offset."""

    X: Floats
    z: tuple[Floats, ...]
    level: npt.NDArray[np.intp]
    offset: float


def held_rows_of(design: Design, group: Group, x: str | None) -> pd.DataFrame:
    """Return one row a level of a factor, with every predictor but x held."""
    return held_rows(design, group, x)[0]


def _check_levels(group: Group, levels: Sequence[str] | None, order: Floats, n: int) -> list[int]:
    """Return the positions of the levels to draw."""
    at = {level: k for k, level in enumerate(group.levels)}
    if levels is None:
        return [at[level] for level in choose(group.levels, n, order)]
    unknown = [str(level) for level in levels if str(level) not in at]
    if unknown:
        some = ", ".join(group.levels[:6]) + (", ..." if len(group.levels) > 6 else "")
        raise FitError(f"got group {unknown[0]!r}; the levels of {group.name} are {some}")
    return [at[str(level)] for level in levels]


def _ordering(fit: Fitted, group: Group, x: str | None) -> Floats:
    """Return what the groups are ordered by: their effect of x where they have one."""
    k = group.coefs.index(x) if x in group.coefs else 0
    return effect_means(fit, group)[:, k]


def group_lines(
    fit: Fitted,
    x: str | None = None,
    groups: Sequence[str] | None = None,
    *,
    group: str | None = None,
    grid: int = 50,
    prob: float = 0.95,
    max_groups: int = 12,
    data: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the three lines of each group along one predictor, on the response scale.

    Parameters
    ----------
    fit : Fit
    x : str, optional
        A numeric predictor. By default the first of the factor's bars, else of the common part,
        one that varies within groups and has more than two values going first; without any the
        lines are flat along the row number.
    groups : sequence of str, optional
        Levels; by default at most ``max_groups``, spread over the ranks of their effect.
    group : str, optional
        The grouping factor, the first by default.
    grid : int
        Points along x, at least 2.
    prob : float
        Probability of the equal-tailed band around partial pooling.
    max_groups : int
        How many levels to choose where ``groups`` is not given.
    data : pandas.DataFrame, optional
        Rows that the lines are to reach over besides those of the fit.

    Returns
    -------
    pandas.DataFrame
        Columns level, x, complete, no_pool, partial, partial_low, partial_high. ``no_pool`` is
        NaN for a group without an own estimate. ``attrs`` holds ``x`` (None without a numeric
        predictor), ``group``, ``held`` (each other predictor, and where it is held: at the
        group's own value where it does not vary within groups, else at its mean or reference
        level), ``n_levels`` (all levels), ``chosen`` (whether a choice was made), ``shared``
        (whether the slope of x is common to all groups), ``other_groups`` (factors held at an
        average level), ``prob``.

    Raises
    ------
    FitError
        No groups, an unknown predictor or level.
    """
    check_prob(prob)
    if grid < 2:
        raise FitError(f"got grid={grid}; a line needs at least 2 points")
    _, g = find_pooled_group(fit, group)
    design = fit.model.design
    x = line_predictor(design, x, g)
    picked = _check_levels(g, groups, _ordering(fit, g, x), max_groups)
    frame, held = held_rows(design, g, x)
    values = _x_values(design, g, x, picked, grid, data)
    rows = frame.iloc[np.repeat(picked, grid)].reset_index(drop=True)
    if x is not None:
        rows[x] = values
    X, z = design.encode(rows)
    at = _Point(X, tuple(z), np.repeat(picked, grid), mean_offset(design))
    parents = parents_of(design, g)
    mean, low, high = _partial(fit, g, parents, at, prob)
    everyone, alone = _unpooled(fit, g, parents, at)
    out = pd.DataFrame(
        {
            "level": np.repeat(np.array([g.levels[j] for j in picked], dtype=object), grid),
            "x": values,
            "complete": fit.model.family.linkinv(everyone),
            "no_pool": fit.model.family.linkinv(alone),
            "partial": mean,
            "partial_low": low,
            "partial_high": high,
        }
    )
    out.attrs.update(
        x=x,
        group=g.name,
        held=held,
        n_levels=len(g.levels),
        chosen=groups is None and len(picked) < len(g.levels),
        shared=x is not None and not varies(design, g, x),
        other_groups=[o.name for o in design.groups if o.name != g.name and o not in parents],
        prob=prob,
    )
    return out


def _x_values(
    design: Design,
    group: Group,
    x: str | None,
    picked: Sequence[int],
    grid: int,
    data: pd.DataFrame | None,
) -> Floats:
    """Return the grid of every picked level in turn, (len(picked) * grid,)."""
    if x is None:
        ends = np.asarray(group.n_rows)[list(picked)]
        return np.concatenate([np.linspace(1, max(int(n), 2), grid) for n in ends])
    column = seen_values(design, x)
    if data is not None:
        column = np.append(column, needed_column(data, x).to_numpy(dtype=np.float64))
    return np.tile(np.linspace(column.min(), column.max(), grid), len(picked))


def _group_z(group: Group, at: _Point) -> Floats:
    """Return the columns of a factor's bars at new rows, (m, q)."""
    return np.concatenate([at.z[t] for t in group.terms], axis=1)


def _unpooled(
    fit: Fitted, group: Group, parents: Sequence[Group], at: _Point
) -> tuple[Floats, Floats]:
    """Return the linear predictors of one regression for all, and of each group's own, (m,).

    NaN where rows were not kept and residuals are correlated: sums under one matrix say neither.
    """
    design = fit.model.design
    structured = design.residual is not None and design.residual.term is not None
    if isinstance(design, RowlessDesign) and structured:
        nothing = np.full(len(at.X), np.nan)
        return nothing, nothing
    seen = with_product_rows(fit)
    complete = complete_estimates(seen)
    everyone = at.X @ np.array([complete[c] for c in design.coefs], dtype=np.float64) + at.offset
    return everyone, _own_line(seen, find_pooled_group(seen, group.name)[1], parents, at)


def _own_line(fit: Fitted, group: Group, parents: Sequence[Group], at: _Point) -> Floats:
    """Return the linear predictor of each group's own regression, (m,)."""
    design = fit.model.design
    own = own_estimates(fit, group).estimate
    outside = [k for k, c in enumerate(design.coefs) if c not in group.coefs]
    eta = at.offset + at.X[:, outside] @ population_means(fit)[outside]
    for parent in parents:
        level = parent_levels(fit.model.design, group, parent)[at.level]
        eta = eta + np.einsum("mq,mq->m", _group_z(parent, at), effect_means(fit, parent)[level])
    return np.asarray(eta + np.einsum("mq,mq->m", _group_z(group, at), own[at.level]))


def _effect_draws(
    fit: Fitted, group: Group, level: npt.NDArray[np.intp], take: npt.NDArray[np.intp]
) -> Floats | None:
    """Return draws (S, levels, q) of some levels' effects; None where they were not kept."""
    posterior = dataset(fit, "posterior")
    name = f"r_{group.name}"
    if name not in posterior:
        return None
    array = posterior[name].transpose("chain", "draw", group.name, f"{group.name}_coef")
    order = {str(v): k for k, v in enumerate(array[group.name].values)}
    rows = [order[group.levels[j]] for j in level]
    array = array.isel({group.name: rows}).sel({f"{group.name}_coef": list(group.coefs)})
    values = np.asarray(array.values, dtype=np.float64)
    return values.reshape(-1, *values.shape[2:])[take]


def _partial(
    fit: Fitted, group: Group, parents: Sequence[Group], at: _Point, prob: float
) -> tuple[Floats, Floats, Floats]:
    """Return posterior mean and band of the expected response, each (m,)."""
    design = fit.model.design
    names, draws = population_draws(fit)
    take = np.unique(np.linspace(0, len(draws) - 1, min(len(draws), BAND_DRAWS)).astype(np.intp))
    order = [names.index(c) for c in design.coefs]
    eta = at.offset + draws[take][:, order] @ at.X.T
    for factor in (group, *parents):
        levels, z = at.level, _group_z(factor, at)
        if factor is not group:
            levels = parent_levels(design, group, factor)[levels]
        used, where = np.unique(levels, return_inverse=True)
        effects = _effect_draws(fit, factor, used, take)
        if effects is None:
            return _without_draws(fit, group, parents, at)
        for k in range(z.shape[1]):
            eta += effects[:, where, k] * z[:, k]
    mu = np.asarray(fit.model.family.linkinv(eta), dtype=np.float64)
    low, high = np.quantile(mu, ((1 - prob) / 2, (1 + prob) / 2), axis=0)
    return mu.mean(axis=0), low, high


def _without_draws(
    fit: Fitted, group: Group, parents: Sequence[Group], at: _Point
) -> tuple[Floats, Floats, Floats]:
    """Return the response at posterior means, and no band: the draws were not kept."""
    design = fit.model.design
    eta = at.offset + at.X @ population_means(fit)
    for factor in (group, *parents):
        levels = at.level if factor is group else parent_levels(design, group, factor)[at.level]
        means = effect_means(fit, factor)[levels]
        eta = eta + np.einsum("mq,mq->m", _group_z(factor, at), means)
    nothing = np.full(len(eta), np.nan)
    return np.asarray(fit.model.family.linkinv(eta)), nothing, nothing


def group_points(
    fit: Fitted,
    levels: Sequence[str],
    x: str | None,
    group: str | None = None,
    data: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the observed responses of some groups along one predictor.

    Parameters
    ----------
    fit : Fit
    levels : sequence of str
    x : str or None
        A numeric predictor; None for the number of the row within its group, from 1.
    group : str, optional
        The grouping factor, the first by default.
    data : pandas.DataFrame, optional
        Rows with response, predictor and grouping; those of the fit by default.

    Returns
    -------
    pandas.DataFrame
        Columns level, x, y, n; y is the share of successes for the binomial family, n how many
        rows a line stands for. Without lines where the fit's rows were not kept.
    """
    design = fit.model.design
    _, g = find_pooled_group(fit, group)
    if data is not None:
        label, along, y = _given_points(fit, g, x, data)
        counts = np.ones(len(y))
    elif isinstance(design, RowlessDesign):
        return pd.DataFrame({"level": [], "x": [], "y": [], "n": []})
    else:
        y = np.asarray(design.y, dtype=np.float64)
        if design.trials is not None:
            y = y / np.asarray(design.trials, dtype=np.float64)
        known = counts_of(design)
        counts = np.ones(len(y)) if known is None else known
        label = np.array(g.levels, dtype=object)[g.index]
        along = _row_numbers(label, counts) if x is None else design.data[x].to_numpy(np.float64)
    keep = np.isin(label, list(levels))
    columns = {"level": label, "x": along, "y": y, "n": counts}
    found = pd.DataFrame({name: values[keep] for name, values in columns.items()})
    if not np.any(counts > 1):
        return found
    # distinct rows that differ elsewhere are one point here
    return found.groupby(["level", "x", "y"], sort=False, as_index=False)[["n"]].sum()


def _row_numbers(label: npt.NDArray[np.object_], counts: Floats) -> Floats:
    """Return the number of each row within its group, the middle one of those counted together."""
    ends = pd.Series(counts).groupby(label, sort=False).cumsum().to_numpy(dtype=np.float64)
    return np.asarray(ends - 0.5 * (counts - 1.0))


def _given_points(
    fit: Fitted, group: Group, x: str | None, data: pd.DataFrame
) -> tuple[npt.NDArray[np.object_], Floats, Floats]:
    """Return level, place along the predictor and response of rows that are given."""
    rows = new_rows(fit.model.design, data, (), (group.name,))
    own = rows.levels[group.name]
    label = np.array(own.labels, dtype=object)[own.index[:, 0]]
    y = given_response(fit.model, data)
    if rows.trials is not None:
        y = y / rows.trials
    if x is None:
        return label, _row_numbers(label, np.ones(len(y))), y
    return label, needed_column(data, x).to_numpy(dtype=np.float64), y

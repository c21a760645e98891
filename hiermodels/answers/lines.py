"""Lines through the groups: one regression for all, one for each group, and partial pooling.

Everything is on the response scale: the expected response (for the binomial family, the expected
share of successes) along one predictor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import (
    Fitted,
    dataset,
    effect_means,
    find_pooled_group,
    population_draws,
    population_means,
)
from hiermodels.answers.shrinkage import choose, complete_estimates, own_estimates
from hiermodels.errors import FitError
from hiermodels.fitting.tables import check_prob
from hiermodels.spec.design import Design, Group

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


def _factor_columns(design: Design, labels: Sequence[str]) -> list[str]:
    """Return the data columns that factors of these labels name."""
    factors = design.encoding.factors
    named = {expression.label: expression.columns for expression in factors.values()}
    named |= {key: expression.columns for key, expression in factors.items()}
    return [c for label in labels for c in named.get(label, ())]


def numeric_predictors(design: Design, group: Group | None = None) -> list[str]:
    """Return the numeric columns that the model uses as numbers, those of a factor's bars first.

    Parameters
    ----------
    design : Design
    group : Group, optional

    Returns
    -------
    list of str
    """
    bars = [] if group is None else [design.terms[t].columns for t in group.terms]
    as_numbers: list[str] = []
    as_levels: list[str] = []
    for column in [c for bar in bars for c in bar] + list(design.columns):
        for label, _ in column.parts:
            target = as_numbers if label in column.numeric else as_levels
            target.extend(_factor_columns(design, [label]))
    kinds = design.encoding.levels
    return [
        c for c in dict.fromkeys(as_numbers) if kinds.get(c, ...) is None and c not in as_levels
    ]


def _check_x(design: Design, x: str | None, group: Group) -> str | None:
    """Return the predictor along which the lines run; None where there is no numeric one."""
    known = numeric_predictors(design, group)
    if x is None:
        return min(known, key=lambda c: _dull(design, group, c)) if known else None
    if x not in known:
        allowed = ", ".join(known) if known else "none, for this model has no numeric predictor"
        raise FitError(f"got x={x!r}; the lines run along a numeric predictor: {allowed}")
    return x


def line_predictor(design: Design, x: str | None, group: Group) -> str | None:
    """Return the numeric predictor along which a factor's lines run; None where there is none.

    Raises
    ------
    FitError
        ``x`` is not a numeric predictor.
    """
    return _check_x(design, x, group)


def held_rows_of(design: Design, group: Group, x: str | None) -> pd.DataFrame:
    """Return one row a level of a factor, with every predictor but x held."""
    return _held(design, group, x)[0]


def _dull(design: Design, group: Group, column: str) -> tuple[bool, bool, bool]:
    """Return what makes a predictor a poor choice of axis, the worst first.

    It has no effect that varies by the factor; it is the same in all rows of a group; it has two
    values only.
    """
    values = design.data[column].to_numpy(dtype=np.float64)
    first = np.unique(group.index, return_index=True)[1]
    fixed = bool((values == values[first][group.index]).all())
    return not _varies(design, group, column), fixed, len(np.unique(values)) <= 2


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


def _held(design: Design, group: Group, x: str | None) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return one row a level with every predictor but x held, and how each is held."""
    first = np.unique(group.index, return_index=True)[1]
    frame = design.data.iloc[first].reset_index(drop=True)
    said: dict[str, str] = {}
    numbers = numeric_predictors(design, group)
    for name, kind in design.encoding.levels.items():
        if name == x:
            continue
        column = design.data[name]
        own = column.iloc[first].to_numpy()[group.index]
        if bool(np.all(np.asarray(column.to_numpy() == own))):
            said[name] = "each group's own value"
        elif kind is None and name in numbers:
            mean = float(column.to_numpy(dtype=np.float64).mean())
            frame[name] = mean
            said[name] = f"mean, {mean:.4g}"
        else:
            value = _reference(column)
            frame[name] = pd.Series([value] * len(frame), dtype=column.dtype)
            said[name] = f"{value} (reference)"
    return frame, said


def _reference(column: "pd.Series[str]") -> object:
    """Return the first category in use, else the smallest value."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = set(column.unique())
        return next(c for c in column.cat.categories if c in used)
    return sorted(column.unique())[0]


def _parents(design: Design, group: Group) -> list[Group]:
    """Return the other factors in which each level of this one lies whole."""
    found = []
    for other in design.groups:
        if other.name == group.name:
            continue
        first = np.unique(group.index, return_index=True)[1]
        if (other.index == other.index[first][group.index]).all():
            found.append(other)
    return found


def _parent_levels(group: Group, parent: Group) -> npt.NDArray[np.intp]:
    """Return the parent's level of each level of the group, (J,)."""
    first = np.unique(group.index, return_index=True)[1]
    return np.asarray(parent.index[first])


def group_lines(
    fit: Fitted,
    x: str | None = None,
    groups: Sequence[str] | None = None,
    *,
    group: str | None = None,
    grid: int = 50,
    prob: float = 0.95,
    max_groups: int = 12,
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
    x = _check_x(design, x, g)
    picked = _check_levels(g, groups, _ordering(fit, g, x), max_groups)
    frame, held = _held(design, g, x)
    values = _x_values(design, g, x, picked, grid)
    rows = frame.iloc[np.repeat(picked, grid)].reset_index(drop=True)
    if x is not None:
        rows[x] = values
    X, z = design.encode(rows)
    at = _Point(X, tuple(z), np.repeat(picked, grid), float(np.mean(design.offset)))
    parents = _parents(design, g)
    mean, low, high = _partial(fit, g, parents, at, prob)
    complete = complete_estimates(fit)
    everyone = X @ np.array([complete[c] for c in design.coefs], dtype=np.float64) + at.offset
    out = pd.DataFrame(
        {
            "level": np.repeat(np.array([g.levels[j] for j in picked], dtype=object), grid),
            "x": values,
            "complete": fit.model.family.linkinv(everyone),
            "no_pool": fit.model.family.linkinv(_own_line(fit, g, parents, at)),
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
        shared=x is not None and not _varies(design, g, x),
        other_groups=[o.name for o in design.groups if o.name != g.name and o not in parents],
        prob=prob,
    )
    return out


def _varies(design: Design, group: Group, x: str) -> bool:
    """Return whether an effect of this factor depends on x."""
    labels = [label for t in group.terms for c in design.terms[t].columns for label in c.labels]
    return x in _factor_columns(design, labels)


def _x_values(
    design: Design, group: Group, x: str | None, picked: Sequence[int], grid: int
) -> Floats:
    """Return the grid of every picked level in turn, (len(picked) * grid,)."""
    if x is None:
        ends = np.asarray(group.n_rows)[list(picked)]
        return np.concatenate([np.linspace(1, max(int(n), 2), grid) for n in ends])
    column = design.data[x].to_numpy(dtype=np.float64)
    return np.tile(np.linspace(column.min(), column.max(), grid), len(picked))


def _group_z(group: Group, at: _Point) -> Floats:
    """Return the columns of a factor's bars at new rows, (m, q)."""
    return np.concatenate([at.z[t] for t in group.terms], axis=1)


def _own_line(fit: Fitted, group: Group, parents: Sequence[Group], at: _Point) -> Floats:
    """Return the linear predictor of each group's own regression, (m,)."""
    design = fit.model.design
    own = own_estimates(fit, group).estimate
    outside = [k for k, c in enumerate(design.coefs) if c not in group.coefs]
    eta = at.offset + at.X[:, outside] @ population_means(fit)[outside]
    for parent in parents:
        level = _parent_levels(group, parent)[at.level]
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
            levels = _parent_levels(group, factor)[levels]
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
    eta = at.offset + at.X @ population_means(fit)
    for factor in (group, *parents):
        levels = at.level if factor is group else _parent_levels(group, factor)[at.level]
        means = effect_means(fit, factor)[levels]
        eta = eta + np.einsum("mq,mq->m", _group_z(factor, at), means)
    nothing = np.full(len(eta), np.nan)
    return np.asarray(fit.model.family.linkinv(eta)), nothing, nothing


def group_points(
    fit: Fitted, levels: Sequence[str], x: str | None, group: str | None = None
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

    Returns
    -------
    pandas.DataFrame
        Columns level, x, y; y is the share of successes for the binomial family.
    """
    design = fit.model.design
    _, g = find_pooled_group(fit, group)
    y = np.asarray(design.y, dtype=np.float64)
    if design.trials is not None:
        y = y / np.asarray(design.trials, dtype=np.float64)
    index = pd.Series(g.index)
    along = index.groupby(index).cumcount() + 1 if x is None else design.data[x]
    label = np.array(g.levels, dtype=object)[g.index]
    keep = np.isin(g.index, [k for k, level in enumerate(g.levels) if level in set(levels)])
    return pd.DataFrame(
        {"level": label[keep], "x": along.to_numpy(dtype=np.float64)[keep], "y": y[keep]}
    )

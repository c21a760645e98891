"""Shrinkage: from each group's own estimate to the partially pooled one."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from hiermodels.answers.fitted import Fitted, find_pooled_group
from hiermodels.answers.movements import level_ellipses, movements, typical_distances
from hiermodels.answers.shrinkage import choose, group_estimates, population_ellipse
from hiermodels.answers.units import effect_units
from hiermodels.errors import FitError
from hiermodels.show.plots.plane import Plane, draw_plane, shrinkage_title
from hiermodels.show.plots.style import (
    COMPLETE,
    FAINT,
    OWN,
    PARTIAL,
    axes,
    coefficient_label,
    legend_below,
    percent,
    plain,
    row_axis,
    short,
    short_names,
    tidy,
    title,
)
from hiermodels.spec.design import Group

Floats = npt.NDArray[np.float64]
_MEDIAN = "median of levels of like size"


def plot_shrinkage(
    fit: Fitted,
    group: str | None = None,
    ax: Axes | None = None,
    *,
    effects: str | tuple[str, str] | None = None,
    by: Literal["size"] | None = None,
    max_levels: int = 40,
    max_ellipses: int = 3,
) -> Axes:
    """Draw how far partial pooling moves each group from its own estimate.

    With two effects or more: the plane of two, an arrow from the group's own estimate to the
    partially pooled one, the posterior ellipses of a few groups, the population's centre and the
    ellipses that hold 50 % and 95 % of it. With one effect: for each group its own estimate
    joined to the posterior mean and interval. With ``by="size"``: the distance that each group is
    moved, against its number of rows.

    Parameters
    ----------
    fit : Fit
    group : str, optional
        The grouping factor, the first by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure (``ax.figure`` of what is returned) by default.
    effects : str or tuple of str, optional
        One effect, or the two that span the plane; by default the first two, or the only one.
    by : {"size"}, optional
        What to draw one effect against, the first unless ``effects`` names one.
    max_levels : int
        With more levels, this many are drawn, evenly spread over the ranks; the title says so.
        ``by="size"`` draws all.
    max_ellipses : int
        How many groups get their posterior ellipse, spread over the ranks of the second effect;
        none where the draws of the group effects were left out.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FitError
        No groups, none of these names, or ``by="size"`` where no level has an own estimate.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> ax = hm.plot_shrinkage(model.fit(seed=1, progress=False))
    >>> ax.get_xlabel()
    'Intercept of each level (Yield)'
    """
    _, g = find_pooled_group(fit, group)
    if by not in (None, "size"):
        raise FitError(f"got by={by!r}; allowed are None and 'size' (against numbers of rows)")
    if by == "size":
        if effects is not None and not isinstance(effects, str):
            raise FitError(f"got effects={effects!r} and by='size', which draws one: name it")
        return _by_size(ax, movements(fit, effects, g.name), effect_units(fit.model, g))
    table = group_estimates(fit, group=g.name)
    if isinstance(effects, str) or (len(g.coefs) == 1 and effects is None):
        effect = effects if isinstance(effects, str) else g.coefs[0]
        if effect not in g.coefs:
            raise FitError(f"got effects={effect!r}; {g.name} has {', '.join(g.coefs)}")
        unit = effect_units(fit.model, g)[effect]
        return _one_effect(ax, table[table["effect"] == effect], g, unit, max_levels)
    return draw_plane(ax, _plane(fit, g, table, effects, (max_levels, max_ellipses)))


def _plane(
    fit: Fitted,
    g: Group,
    table: pd.DataFrame,
    effects: tuple[str, str] | None,
    most: tuple[int, int],
) -> Plane:
    """Return what the plane of two effects shows: at most so many arrows and ellipses."""
    population = population_ellipse(fit, g.name, effects)
    a, b = (table[table["effect"] == e].set_index("level") for e in population.effects)
    points = pd.DataFrame(
        {"own_x": a["no_pool"], "own_y": b["no_pool"], "x": a["mean"], "y": b["mean"]}
    )
    shown = choose([str(v) for v in points.index], most[0], points["y"])
    known = points.loc[list(shown)]
    known = known.dropna() if known["own_x"].notna().any() else known
    some: tuple[str, ...] = ()
    if most[1] > 0 and len(known):
        some = choose([str(v) for v in known.index], most[1], known["y"])
    levels = level_ellipses(fit, some, g.name, population.effects)
    units = effect_units(fit.model, g)
    x, y = (units[e] for e in population.effects)
    return Plane(points, shown, population, levels, (x, y), g.name, len(g.coefs))


# --- by the number of rows --------------------------------------------------------------------


def _by_size(ax: Axes | None, table: pd.DataFrame, units: dict[str, str]) -> Axes:
    """Draw the distance that each level is moved against its number of rows."""
    group, effect = str(table.attrs["group"]), str(table.attrs["effect"])
    known = table.dropna(subset=["distance"])
    if known.empty:
        raise FitError(
            f"by='size' draws distances from own estimates, and no level of {group} has one: "
            f"{table['reason'].iloc[0]}. plot_pooling() needs none."
        )
    ax = axes(ax, 5.6, 4.0)
    typical = typical_distances(table)
    many = len(known) > 150
    ax.plot(known["n"], known["distance"], "o", color=PARTIAL, ms=2.5 if many else 4.5,
            alpha=0.35 if many else 0.75)  # fmt: skip
    ax.plot(typical["n"], typical["distance"], "D-", color=OWN, lw=1.6, ms=5, mfc="white")
    row_axis(ax, table["n"].to_numpy())
    beyond = _distance_limit(ax, known["distance"].to_numpy())
    ax.set_xlabel(plain(f"rows of each level of {short(group, 30)}"), fontsize=9)
    what = f"distance moved ({short(units[effect], 40)})"
    ax.set_ylabel(plain(what), fontsize=9)
    tidy(ax, "both")
    handles = [
        Line2D([], [], color=PARTIAL, marker="o", ls="", label="a level"),
        Line2D([], [], color=OWN, lw=1.6, marker="D", mfc="white", label=_MEDIAN),
    ]
    legend_below(ax, handles, 2)
    text = f"How far partial pooling moves {len(table):,} levels of {short(group, 30)} from their "
    text += f"own estimates, by size: {short(effect, 30)}"
    if table["n"].nunique() == 1:
        text += f"; all have {table['n'].iloc[0]:,} rows"
    missing = len(table) - len(known)
    if missing:
        text += f"; {missing:,} without an own estimate"
    if beyond:
        text += f"; {beyond:,} beyond the upper edge"
    title(ax, plain(text))
    return ax


def _distance_limit(ax: Axes, distance: Floats) -> int:
    """Set limits from 0 that no wild level can stretch; return how many lie beyond them."""
    if not len(distance):
        return 0
    top = min(float(distance.max()), 2.0 * float(np.quantile(distance, 0.98))) or 1.0
    ax.set_ylim(-0.03 * top, 1.06 * top)
    return int((distance > 1.06 * top).sum())


# --- one effect -------------------------------------------------------------------------------


def _one_effect(ax: Axes | None, table: pd.DataFrame, g: Group, unit: str, most: int) -> Axes:
    """Draw own estimate, posterior mean and interval of each level, by its mean."""
    shown = choose([str(v) for v in table["level"]], most, table["mean"])
    rows = table.set_index("level").loc[list(shown)]
    effect = str(rows["effect"].iloc[0])
    ax = axes(ax, 5.5, 2.0 + 0.19 * len(rows))
    y = np.arange(len(rows))
    complete = float(rows["complete"].iloc[0])
    ax.axvline(complete, color=COMPLETE, linewidth=1, linestyle=(0, (4, 3)))
    ax.hlines(y, rows["no_pool"], rows["mean"], color=FAINT, linewidth=0.9)
    ax.hlines(y, rows["ci_low"], rows["ci_high"], color=PARTIAL, linewidth=1.8)
    ax.plot(rows["no_pool"], y, "o", color=OWN, fillstyle="none", markersize=5.5)
    ax.plot(rows["mean"], y, "o", color=PARTIAL, markersize=4.5)
    ax.set_yticks(y, short_names(list(rows.index)))
    ax.set_ylim(-0.8, len(rows) - 0.2)
    tidy(ax, "x")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(coefficient_label(effect, unit), fontsize=9)
    ax.set_ylabel(plain(short(g.name, 40)), fontsize=9)
    outside = _one_limits(ax, rows)
    missing = int(rows["no_pool"].isna().sum())
    _one_legend(ax, float(table.attrs.get("prob", 0.95)), rows)
    text = shrinkage_title(g.name, len(rows), len(table), missing, outside)
    if len(g.coefs) > 1:
        text += f"; {plain(short(effect, 30))}, one of {len(g.coefs)} effects"
    title(ax, text)
    return ax


def _one_limits(ax: Axes, rows: pd.DataFrame) -> int:
    """Set limits that no wild own estimate can stretch; return how many lie beyond them."""
    low, high = float(rows["ci_low"].min()), float(rows["ci_high"].max())
    complete = float(rows["complete"].iloc[0])
    if not np.isnan(complete):
        low, high = min(low, complete), max(high, complete)
    own = rows["no_pool"].dropna().to_numpy()
    room = high - low
    near = own[(own > low - room) & (own < high + room)]
    low, high = near.min(initial=low), near.max(initial=high)
    margin = 0.04 * (high - low) or 1.0
    ax.set_xlim(low - margin, high + margin)
    return len(own) - len(near)


def _one_legend(ax: Axes, prob: float, rows: pd.DataFrame) -> None:
    """Name the marks below the axes that are there."""
    pooled = f"partial pooling, {percent(prob)} interval"
    own = Line2D([], [], color=OWN, marker="o", fillstyle="none", ls="", label="own estimate")
    complete = Line2D([], [], color=COMPLETE, ls=(0, (4, 3)), label="one estimate for all")
    handles = [own] if rows["no_pool"].notna().any() else []
    handles.append(Line2D([], [], color=PARTIAL, marker="o", linewidth=1.8, label=pooled))
    handles += [complete] if rows["complete"].notna().all() else []
    legend_below(ax, handles, len(handles))

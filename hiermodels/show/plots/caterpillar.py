"""The caterpillar: group effects in order, with their intervals."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from hiermodels.answers.fitted import Fitted, dataset, drawn, find_group, labels
from hiermodels.answers.shrinkage import choose
from hiermodels.answers.units import effect_units
from hiermodels.errors import FitError
from hiermodels.fitting.draws import all_group_labels
from hiermodels.fitting.tables import ranef
from hiermodels.show.plots.style import (
    COMPLETE,
    PARTIAL,
    SMALL,
    axes,
    percent,
    plain,
    root,
    short,
    short_names,
    tidy,
    title,
)

_COLUMNS = ("group", "effect", "level", "mean", "ci_low", "ci_high")


def plot_caterpillar(
    fit_or_table: Fitted | pd.DataFrame,
    group: str | None = None,
    effect: str | None = None,
    ax: Axes | None = None,
    *,
    max_levels: int = 50,
) -> Axes:
    """Draw the group effects of one effect in order, with their posterior intervals.

    Parameters
    ----------
    fit_or_table : Fit or pandas.DataFrame
        A fit, or the table of its ``ranef()``.
    group, effect : str, optional
        The grouping factor and its effect; the first ones by default. Where each level of the
        response has a linear predictor, effects are called as ``mu_b_Intercept``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure (``ax.figure`` of what is returned) by default.
    max_levels : int
        With more levels, this many are shown, evenly spread over the ranks; the title says so.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FitError
        No groups, or none of these names.
    """
    if not isinstance(fit_or_table, pd.DataFrame):
        drawn(fit_or_table)
        if fit_or_table.model.family.by_level:
            # effects on each level's linear predictor, as mu_b_Intercept
            fit_or_table = ranef(
                dataset(fit_or_table, "posterior"),
                dataset(fit_or_table, "group_effects"),
                all_group_labels(fit_or_table.model.design),
            )
    if isinstance(fit_or_table, pd.DataFrame):
        table = fit_or_table
        lacks = [c for c in _COLUMNS if c not in table]
        if lacks:
            raise FitError(
                f"the table has no column {', '.join(lacks)}: give what fit.ranef() returned, or "
                "the fit"
            )
        if table.empty:
            raise FitError("got a table without rows: the model has no group effects to draw")
        group = str(table["group"].iloc[0]) if group is None else group
        units: dict[str, str] = {}
    else:
        found = find_group(fit_or_table, group)[1]
        group, units = found.name, effect_units(fit_or_table.model, found)
        table = ranef(
            dataset(fit_or_table, "posterior"),
            dataset(fit_or_table, "group_effects"),
            [g for g in labels(fit_or_table) if g.name == group],
        )
    prob = float(table.attrs.get("prob", 0.95))
    rows = _one_effect(table, group, effect)
    effect = str(rows["effect"].iloc[0])
    shown = choose([str(v) for v in rows["level"]], max_levels, rows["mean"])
    picked = rows.set_index("level").loc[list(shown)]
    ax = axes(ax, 5.4, 1.5 + 0.19 * len(picked))
    _draw(ax, picked)
    unit = f" ({short(units[effect], 40)})" if effect in units else ""
    ax.set_xlabel(plain(f"{short(effect, 30)}: deviation from the population{unit}"), fontsize=9)
    ax.set_ylabel(plain(short(group, 40)), fontsize=9)
    count = f"all {len(rows):,} levels"
    if len(shown) < len(rows):
        count = f"{len(shown)} of {len(rows):,} levels, evenly spread over the ranks"
    what = f"{short(effect, 30)} by {short(group, 30)}"
    normal = "normal " if group in table.attrs.get("normal_interval", ()) else ""
    ends = f"{percent(prob)} {normal}intervals"
    title(ax, plain(f"Group effects of {what}: posterior means, {ends}; {count}"))
    return ax


def _one_effect(table: pd.DataFrame, group: str, effect: str | None) -> pd.DataFrame:
    """Return the rows of one factor and effect."""
    mine = table[table["group"] == group]
    if mine.empty:
        known = ", ".join(map(str, table["group"].unique()))
        raise FitError(f"got group {group!r}; the table has {known}")
    effects = [str(e) for e in mine["effect"].unique()]
    chosen = effects[0] if effect is None else effect
    if chosen not in effects:
        raise FitError(f"got effect {effect!r}; {group} has {', '.join(effects)}")
    return mine[mine["effect"] == chosen]


def _draw(ax: Axes, picked: pd.DataFrame) -> None:
    """Draw intervals and means from the smallest at the bottom to the largest."""
    y = np.arange(len(picked))
    ax.axvline(0, color=COMPLETE, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.hlines(y, picked["ci_low"], picked["ci_high"], color=PARTIAL, linewidth=1.6)
    ax.plot(picked["mean"], y, "o", color=PARTIAL, markersize=4)
    # An axes that the caller brought may be lower than the names need: then fewer are written.
    height = ax.get_window_extent().height / root(ax).dpi * 72
    step = max(1, int(np.ceil(len(picked) * (SMALL + 1.5) / max(height, 1))))
    names = short_names(list(picked.index))
    ax.set_yticks(y[::step], names[::step])
    tidy(ax, "x")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.8, len(picked) - 0.2)

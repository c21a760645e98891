"""Pooling factors against the number of rows, and one figure of five simulated studies."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from hiermodels.answers.pooling_factors import Pooling, measure_pooling
from hiermodels.answers.shrinkage_panels import ShrinkagePanels, simulate_panels
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.show.plots.style import (
    COMPLETE,
    FAINT,
    OWN,
    PARTIAL,
    POPULATION,
    SMALL,
    axes,
    legend_below,
    new_figure,
    percent,
    plain,
    root,
    row_axis,
    short,
    short_names,
    tidy,
    title,
    wrapped,
)

# By effect: marker and colour, told apart in grey too.
Floats = npt.NDArray[np.float64]
#: The same in all panels: where nearly all students lie.
_DEMO_LIMITS = ((1.6, 3.6), (-0.25, 0.45))
#: With more different points than this, intervals would hide them.
_MOST_BARS = 150
_MARKS = (("o", PARTIAL), ("s", OWN), ("^", POPULATION), ("D", COMPLETE), ("v", "#CC79A7"))


def plot_pooling(
    fit: Fit | Pooling, group: str | None = None, ax: Axes | None = None, *, max_effects: int = 5
) -> Axes:
    """Draw each level's pooling factor against its number of rows.

    Parameters
    ----------
    fit : Fit or Pooling
        A fit, or what :func:`hiermodels.pooling` returned for it.
    group : str, optional
        The grouping factor, the first by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    max_effects : int
        With more effects, the first ones are shown, at most 5; the title says so.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FitError
        No groups, or none of this name.
    """
    found = fit if isinstance(fit, Pooling) else measure_pooling(fit, group=group)
    groups = list(found.table["group"].unique())
    chosen = groups[0] if group is None else group
    if chosen not in groups:
        raise FitError(f"got group {group!r}; the groups are {', '.join(groups)}")
    table = found.table[found.table["group"] == chosen]
    effects = list(table["effect"].unique())
    shown = effects[: max(1, min(max_effects, len(_MARKS)))]
    ax = axes(ax, 5.6, 4.2)
    parts = [distinct_points(table[table["effect"] == effect]) for effect in shown]
    crowded = max(map(len, parts)) > _MOST_BARS
    one_size = table["n"].nunique() == 1
    names = short_names(shown, 30 if len(shown) < 3 else 13)
    handles = _effects(ax, parts, names, crowded, one_size)
    for y, text in ((0.0, "own estimate"), (1.0, "population")):
        ax.axhline(y, color=COMPLETE, lw=0.8, ls=(0, (4, 3)), zorder=0)
        ax.annotate(
            text, (0, y), (4, -10 if y else 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=SMALL, ha="left", color="#333333",
        )  # fmt: skip
    ax.set_ylim(-0.05, 1.05)
    if one_size:
        rows = f"{int(table['n'].iloc[0]):,} rows"
        ax.set_xlabel(plain(f"effect; every level of {short(chosen, 30)} has {rows}"), fontsize=9)
    else:
        row_axis(ax, table["n"].to_numpy())
        ax.set_xlabel(plain(f"rows of each level of {short(chosen, 30)}"), fontsize=9)
        legend_below(ax, handles, min(3, len(handles)))
    ax.set_ylabel("pooling factor", fontsize=9)
    tidy(ax, "both")
    bars = percent(float(found.table.attrs.get("prob", 0.95)))
    text = f"How far {table['level'].nunique():,} levels of {short(chosen, 30)} are pooled"
    text += "; line: median" if crowded and not one_size else ""
    text += "" if crowded else f"; bars: {bars} intervals"
    if len(shown) < len(effects):
        text += f"; {len(shown)} of {len(effects)} effects"
    title(ax, plain(text))
    return ax


def distinct_points(rows: pd.DataFrame) -> Floats:
    """Return rows, factor and interval (m, 4) of levels that differ in one of them."""
    columns = ["n", "pooling_factor", "pooling_factor_low", "pooling_factor_high"]
    return np.asarray(rows[columns].round(6).drop_duplicates().to_numpy(dtype=np.float64))


def _effects(
    ax: Axes, parts: list[Floats], names: list[str], crowded: bool, one_size: bool
) -> list[Line2D]:
    """Draw every effect's points, and return the legend's entries.

    Effects stand beside each other: on an axis of their own where all levels have as many rows,
    else a few points apart.
    """
    handles = []
    for k, (points, (marker, colour)) in enumerate(zip(parts, _MARKS, strict=False)):
        x, shift = points[:, 0], 5.0 * (k - 0.5 * (len(parts) - 1))
        if one_size:
            spread = 0.0 if len(points) == 1 else 0.3
            x, shift = k + spread * np.linspace(-1, 1, len(points)), 0.0
        beside = ScaledTranslation(shift / 72, 0, root(ax).dpi_scale_trans)
        where = ax.transData + beside
        if not crowded:
            ends = points[:, 2], points[:, 3]
            ax.vlines(x, *ends, color=colour, lw=0.8, alpha=0.6, transform=where)
        size = 2.5 if crowded else 4.5
        ax.plot(x, points[:, 1], marker, color=colour, ms=size, alpha=0.8, transform=where)
        if crowded and not one_size:
            typical = pd.Series(points[:, 1]).groupby(points[:, 0]).median()
            ax.plot(typical.index, typical, color="white", lw=3.2, transform=where)
            ax.plot(typical.index, typical, color=colour, lw=1.6, transform=where)
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", label=names[k]))
    if one_size:
        ax.set_xlim(-0.6, len(parts) - 0.4)
        ax.set_xticks(range(len(parts)), names)
    return handles


def plot_shrinkage_demo(panels: ShrinkagePanels | None = None, *, seed: int = 1) -> Figure:
    """Draw five simulated studies: what makes partial pooling shrink more, and what less.

    Parameters
    ----------
    panels : ShrinkagePanels, optional
        What :func:`hiermodels.shrinkage_demo` returned; simulated by default.
    seed : int
        Where ``panels`` is not given.

    Returns
    -------
    matplotlib.figure.Figure
    """
    found = simulate_panels(seed=seed) if panels is None else panels
    names = list(dict.fromkeys(found.table["panel"]))
    figure = new_figure(2.35 * len(names), 3.9)
    grid = np.atleast_1d(figure.subplots(1, len(names), sharex=True, sharey=True))
    for panel, name in zip(grid, names, strict=True):
        factors = found.by_panel[found.by_panel["panel"] == name]
        _study(panel, found.table[found.table["panel"] == name], factors)
    grid[0].set_ylabel("slope of occasion (grade points a semester)", fontsize=SMALL)
    grid[len(names) // 2].set_xlabel(
        "intercept (grade points at the first semester)", fontsize=SMALL
    )
    handles = [
        Line2D([], [], color=OWN, marker="o", fillstyle="none", ls="", label="own estimate"),
        Line2D([], [], color=PARTIAL, marker="o", ls="", label="partial pooling (REML)"),
        Line2D([], [], color=POPULATION, marker="D", ls="", label="population"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL,
                  frameon=False)  # fmt: skip
    text = "Partial pooling shrinks what the data leave open: few rows, little group variance "
    text += "(factors: mean pooling factors, 0 = own estimate, 1 = population)"
    figure.suptitle(wrapped(text, 150), fontsize=10, x=0.01, ha="left")
    return figure


def _study(ax: Axes, table: pd.DataFrame, factors: pd.DataFrame) -> None:
    """Draw one study: each student from own estimate to partially pooled."""
    wide = table.pivot_table(
        index="student", columns="effect", values=["own", "partial"], dropna=False
    )
    own = wide["own"][["Intercept", "occasion"]].to_numpy()
    pooled = wide["partial"][["Intercept", "occasion"]].to_numpy()
    for line in np.stack([own, pooled], axis=1):
        ax.plot(line[:, 0], line[:, 1], color=FAINT, lw=0.5, alpha=0.7)
    ax.plot(own[:, 0], own[:, 1], "o", color=OWN, fillstyle="none", ms=3, mew=0.7)
    ax.plot(pooled[:, 0], pooled[:, 1], "o", color=PARTIAL, ms=2.5)
    population = table.drop_duplicates("effect").set_index("effect")["population"]
    ax.plot([population["Intercept"]], [population["occasion"]], "D", color=POPULATION,
            ms=6, mec="k")  # fmt: skip
    (low_x, high_x), (low_y, high_y) = _DEMO_LIMITS
    ax.set_xlim(low_x, high_x)
    ax.set_ylim(low_y, high_y)
    known = own[~np.isnan(own).any(axis=1)]
    outside = (known < (low_x, low_y)) | (known > (high_x, high_y))
    tidy(ax, "both")
    first = table.iloc[0]
    mean = factors.set_index("effect")["mean_factor"]
    words = f"factors {mean['Intercept']:.2f} (intercept), {mean['occasion']:.2f} (slope)"
    beyond = int(outside.any(axis=1).sum())
    more = f"{beyond} own estimates beyond the edges" if beyond else ""
    ax.set_title(f"{first['panel']}\n{first['what']}\n{words}\n{more}", fontsize=SMALL, loc="left")

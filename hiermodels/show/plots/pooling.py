"""Pooling factors against the number of rows, and one figure of five simulated studies."""

import matplotlib.ticker as ticker
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    plain,
    short,
    tidy,
    title,
    wrapped,
)

# By effect: marker and colour, told apart in grey too.
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
    groups = list(dict.fromkeys(found.table["group"]))
    chosen = groups[0] if group is None else group
    if chosen not in groups:
        raise FitError(f"got group {group!r}; the groups are {', '.join(groups)}")
    table = found.table[found.table["group"] == chosen]
    effects = list(dict.fromkeys(table["effect"]))
    shown = effects[: max(1, min(max_effects, len(_MARKS)))]
    ax = axes(ax, 5.6, 4.2)
    handles = []
    for k, (effect, (marker, colour)) in enumerate(zip(shown, _MARKS, strict=False)):
        _points(ax, table[table["effect"] == effect], k, len(shown), marker, colour)
        label = plain(short(effect, 30))
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", label=label))
    for y, text in ((0.0, "own estimate"), (1.0, "population")):
        ax.axhline(y, color=COMPLETE, lw=0.8, ls=(0, (4, 3)), zorder=0)
        ax.annotate(
            text, (0, y), (4, -10 if y else 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=SMALL, ha="left", color="#333333",
        )  # fmt: skip
    ax.set_ylim(-0.05, 1.05)
    _row_axis(ax, table["n"].to_numpy())
    ax.set_xlabel(plain(f"rows of each level of {short(chosen, 30)}"), fontsize=9)
    ax.set_ylabel("pooling factor", fontsize=9)
    tidy(ax, "both")
    legend_below(ax, handles, min(3, len(handles)))
    count = table["level"].nunique()
    text = f"How far {count:,} levels of {short(chosen, 30)} are pooled; bars: 95 % intervals"
    if len(shown) < len(effects):
        text += f"; {len(shown)} of {len(effects)} effects"
    title(ax, plain(text))
    return ax


def _points(ax: Axes, rows: pd.DataFrame, k: int, count: int, marker: str, colour: str) -> None:
    """Draw the levels of one effect; levels with as many rows and as large a factor are one."""
    columns = ["n", "pooling_factor", "pooling_factor_low", "pooling_factor_high"]
    distinct = rows[columns].round(6).drop_duplicates().to_numpy()
    # effects stand beside each other: on the scale of rows a few per cent apart
    x = distinct[:, 0] * (1.0 + 0.03 * (k - 0.5 * (count - 1)))
    many = len(distinct) > 150
    if not many:
        ax.vlines(x, distinct[:, 2], distinct[:, 3], color=colour, lw=0.8, alpha=0.6)
    ax.plot(x, distinct[:, 1], marker, color=colour, ms=2.5 if many else 4.5, alpha=0.8)


def _row_axis(ax: Axes, n: npt.NDArray[np.intp]) -> None:
    """Give rows a logarithmic axis where they differ by much, with whole numbers as ticks."""
    least, most = float(n.min()), float(n.max())
    if most > 8 * max(1.0, least):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.0f}"))
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        pad = max(1.0, 0.15 * (most - least))
        ax.set_xlim(least - pad, most + pad)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


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
    figure = new_figure(2.35 * len(names), 3.5)
    grid = np.atleast_1d(figure.subplots(1, len(names), sharex=True, sharey=True))
    for panel, name in zip(grid, names, strict=True):
        _study(panel, found.table[found.table["panel"] == name])
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
    text = "Partial pooling shrinks what the data leave open: few rows, little group variance"
    figure.suptitle(wrapped(text, 110), fontsize=10, x=0.01, ha="left")
    return figure


def _study(ax: Axes, table: pd.DataFrame) -> None:
    """Draw one study: each student from own estimate to partially pooled."""
    wide = table.pivot_table(
        index="student", columns="effect", values=["own", "partial"], dropna=False
    )
    own = wide["own"][["Intercept", "occasion"]].to_numpy()
    pooled = wide["partial"][["Intercept", "occasion"]].to_numpy()
    lines = np.stack([own, pooled], axis=1)
    for line in lines:
        ax.plot(line[:, 0], line[:, 1], color=FAINT, lw=0.5, alpha=0.7)
    ax.plot(own[:, 0], own[:, 1], "o", color=OWN, fillstyle="none", ms=3, mew=0.7)
    ax.plot(pooled[:, 0], pooled[:, 1], "o", color=PARTIAL, ms=2.5)
    population = table.drop_duplicates("effect").set_index("effect")["population"]
    ax.plot([population["Intercept"]], [population["occasion"]], "D", color=POPULATION,
            ms=6, mec="k")  # fmt: skip
    ax.set_xlim(1.6, 3.6)
    ax.set_ylim(-0.25, 0.45)
    tidy(ax, "both")
    first = table.iloc[0]
    ax.set_title(f"{first['panel']}\n{first['what']}", fontsize=SMALL, loc="left")

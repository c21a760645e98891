"""The rivals in one picture: posterior, REML, ML, one regression for all."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hiermodels.answers.rivals import Rivals, compare_rivals
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.show.plots.style import (
    COMPLETE,
    GRID,
    OWN,
    PARTIAL,
    POPULATION,
    SMALL,
    new_figure,
    short_names,
    tidy,
    wrapped,
)

_MARKS = {
    "reml": ("s", OWN, "REML"),
    "ml": ("^", POPULATION, "maximum likelihood"),
    "laplace": ("s", OWN, "Laplace"),
    "complete": ("x", COMPLETE, "one regression for all"),
}


def plot_estimates(fit: Fit | Rivals, *, max_parameters: int = 24) -> Figure:
    """Draw the table of rivals: each parameter on an axis of its own.

    Parameters
    ----------
    fit : Fit or Rivals
        A fit, or what :func:`hiermodels.compare_estimates` returned for it.
    max_parameters : int
        With more parameters, the first ones are shown; the title says so.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    FitError
        ``max_parameters`` is less than 1.
    """
    if max_parameters < 1:
        raise FitError(f"got max_parameters={max_parameters}; at least one must be shown")
    table = (fit if isinstance(fit, Rivals) else compare_rivals(fit)).table
    shown = table.iloc[:max_parameters]
    rivals = [name for name in _MARKS if name in shown.columns]
    figure = new_figure(6.4, 0.42 * len(shown) + 1.3)
    grid = np.atleast_1d(figure.subplots(len(shown), 1))
    names = short_names(list(shown.index), 30)
    for ax, name, (_, row) in zip(grid, names, shown.iterrows(), strict=True):
        _line(ax, row, rivals)
        text = f"{name} *" if row["flag"] else name
        ax.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=SMALL)
    handles = [
        Line2D([], [], color=PARTIAL, marker="o", lw=1.8, label="posterior mean, 95 % interval")
    ]
    for name in rivals:
        if shown[name].notna().any():
            marker, colour, label = _MARKS[name]
            handles.append(
                Line2D([], [], color=colour, marker=marker, fillstyle="none", ls="", label=label)
            )
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=SMALL,
                  frameon=False)  # fmt: skip
    first = "REML" if "reml" in shown.columns else "Laplace"
    text = "Posterior beside its rivals, each parameter on an axis of its own"
    if shown["flag"].any():
        text += f"; *: mean and {first} part by more than a quarter of the posterior sd"
    if len(shown) < len(table):
        text += f"; the first {len(shown)} of {len(table)} parameters"
    figure.suptitle(wrapped(text, 80), fontsize=10, x=0.01, ha="left")
    return figure


def _line(ax: Axes, row: "pd.Series[float]", rivals: list[str]) -> None:
    """Draw one parameter: interval, posterior mean, and the rivals near enough to be shown."""
    mean, sd = float(row["mean"]), float(row["sd"])
    ends = float(row["ci_low"]), float(row["ci_high"])
    ax.hlines(0, *ends, color=PARTIAL, lw=1.8)
    ax.plot([mean], [0], "o", color=PARTIAL, ms=5)
    reach = 4.0 * sd or 1.0
    margin = 0.1 * (ends[1] - ends[0]) or 0.1 * max(abs(mean), 1.0)
    low, high = ends[0] - margin, ends[1] + margin
    for name in rivals:
        value = float(row[name])
        if np.isnan(value):
            continue
        marker, colour, _ = _MARKS[name]
        at = min(max(value, mean - reach), mean + reach)
        hollow = at != value
        ax.plot([at], [0], marker, color=colour, ms=5.5, fillstyle="none", mew=1.2)
        if hollow:
            ax.annotate(f"{value:.3g}", (at, 0), (0, 5), textcoords="offset points",
                        fontsize=7, ha="center")  # fmt: skip
        low, high = min(low, at - margin), max(high, at + margin)
    if low < 0 < high:
        ax.axvline(0, color=GRID, lw=1.2, zorder=0)
    ax.set_xlim(low, high)
    ax.set_ylim(-1, 1)
    ax.set_yticks([])
    tidy(ax)
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(labelsize=7)

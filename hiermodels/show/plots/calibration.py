"""Simulation-based calibration in one picture: how far ranks are from uniform ones."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hiermodels.answers.calibration import Calibration
from hiermodels.answers.uniformity import Bands
from hiermodels.errors import FitError
from hiermodels.fitting.draws import check_prob
from hiermodels.show.plots.style import (
    GRID,
    OWN,
    PARTIAL,
    SMALL,
    new_figure,
    percent,
    short_names,
    tidy,
    wrapped,
)

_COLUMNS = 4


def plot_sbc(
    calibration: Calibration,
    quantities: Sequence[str] | None = None,
    *,
    prob: float = 0.95,
    max_panels: int = 12,
) -> Figure:
    """Draw the distribution function of the ranks of each quantity, less the uniform one.

    Parameters
    ----------
    calibration : Calibration
        What :func:`hiermodels.sbc` returned.
    quantities : sequence of str, optional
        Columns of ``calibration.ranks``; those with the smallest p-values unless given.
    prob : float
        Of the band that holds the whole lines of all quantities together where ranks are uniform
        (Bonferroni's inequality); a line leaves the band of 95 % where ``calibration.uniform`` is
        False.
    max_panels : int
        With more quantities, the worst are shown; the title says so.

    Returns
    -------
    matplotlib.figure.Figure
        A line above the band at its left says that draws lie too high; an S that rises first,
        that draws are too narrow.

    Raises
    ------
    FitError
        This is no calibration, there is no such quantity, no replication could be fitted, or
        ``max_panels`` is less than 1.
    """
    if not isinstance(calibration, Calibration):
        raise FitError(
            f"plot_sbc draws what hiermodels.sbc(model) returns; got {type(calibration).__name__}."
        )
    if max_panels < 1:
        raise FitError(f"got max_panels={max_panels}; at least one must be shown")
    if not len(calibration.ranks):
        raise FitError(calibration.text)
    every = list(calibration.table.index if quantities is None else quantities)
    names = every[:max_panels]
    bands = calibration.bands(1.0 - (1.0 - check_prob(prob)) / len(calibration.ranks.columns))
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(1.2 + 2.1 * columns, 1.3 + 1.7 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, name, label in zip(grid, names, short_names(names, 26), strict=False):
        _panel(ax, calibration, name, bands)
        ax.set_title(label, loc="left", fontsize=SMALL)
    for ax in grid[len(names) :]:
        ax.set_visible(False)
    for k in range(max(0, len(names) - columns), len(names)):
        grid[k].set_xlabel("rank, as a share", fontsize=SMALL)
        grid[k].tick_params(labelbottom=True)
    figure.supylabel("distribution function less uniform", fontsize=9)
    _explain(figure, calibration, prob, len(every) - len(names))
    return figure


def _panel(ax: Axes, calibration: Calibration, name: str, bands: Bands) -> None:
    """Draw one quantity's line on its band."""
    x = np.concatenate([[0.0], bands.points, [1.0]])
    low, high, line = (
        np.concatenate([[0.0], values - bands.points, [0.0]])
        for values in (bands.lower, bands.upper, calibration.ecdf(name))
    )
    outside = bool(((line < low - 1e-12) | (line > high + 1e-12)).any())
    ax.fill_between(x, low, high, color=GRID, step="post", linewidth=0)
    ax.axhline(0, color="white", linewidth=1)
    ax.step(x, line, where="post", color=OWN if outside else PARTIAL,
            linewidth=1.6, linestyle="--" if outside else "-")  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1])
    tidy(ax)


def _explain(figure: Figure, calibration: Calibration, prob: float, left: int) -> None:
    """Write the title and name the marks."""
    n, size = len(calibration.ranks), calibration.size
    verdict = "consistent with uniform ranks" if calibration.uniform else "ranks are not uniform"
    text = f"Calibration by {n:,} replications, ranks among {size} draws: {verdict}"
    if left:
        text += f"; {left} more are not shown"
    figure.suptitle(wrapped(text, 78), fontsize=10, x=0.01, ha="left")
    handles = [
        Patch(color=GRID, label=f"{percent(prob)} band of uniform ranks, all quantities together"),
        Line2D([], [], color=PARTIAL, label="inside"),
        Line2D([], [], color=OWN, linestyle="--", label="leaves the band"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL,
                  frameon=False)  # fmt: skip

"""Posterior densities of sds and correlations."""

from typing import overload

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hiermodels.answers.fitted import Fitted, dataset, labels
from hiermodels.errors import FitError
from hiermodels.fitting.tables import densities
from hiermodels.show.plots.style import (
    PARTIAL,
    SMALL,
    new_figure,
    plain,
    short,
    short_names,
    tidy,
    wrapped,
)


@overload
def plot_varcorr(
    fit: Fitted, ax: None = None, *, quantity: str | None = None, max_panels: int = 15
) -> Figure: ...
@overload
def plot_varcorr(
    fit: Fitted, ax: Axes, *, quantity: str | None = None, max_panels: int = 15
) -> Axes: ...
def plot_varcorr(
    fit: Fitted, ax: Axes | None = None, *, quantity: str | None = None, max_panels: int = 15
) -> Figure | Axes:
    """Draw the posterior of the sds of group effects, their correlations and the residual sd.

    Each quantity has its own axis, because their units differ: sds from 0 where 0 is near,
    correlations from -1 to 1.

    Parameters
    ----------
    fit : Fit
    ax : matplotlib.axes.Axes, optional
        Where to draw one quantity. By default a new figure shows all of them.
    quantity : str, optional
        With ``ax``: which one, such as ``"sd_Subject[Days]"``; the first by default.
    max_panels : int
        Without ``ax``: with more quantities, the first ones are shown; the title says so.

    Returns
    -------
    matplotlib.figure.Figure or matplotlib.axes.Axes
        The axes where ``ax`` was given.

    Raises
    ------
    FitError
        The model has no such quantity.
    """
    table = densities(dataset(fit, "posterior"), labels(fit))
    names = list(dict.fromkeys(str(q) for q in table["quantity"]))
    if not names:
        raise FitError(f"the model {fit.model.formula} has neither group sds nor a residual sd")
    if quantity is not None and quantity not in names:
        raise FitError(f"got quantity={quantity!r}; the model has {', '.join(names)}")
    if ax is not None:
        _panel(ax, table[table["quantity"] == (quantity or names[0])])
        return ax
    shown = [quantity] if quantity else names[:max_panels]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(max(1.85 * columns, 3.6), 1.55 * rows + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False)
    heads = short_names(shown, 28)
    for k, panel in enumerate(grid.ravel()):
        if k < len(shown):
            _panel(panel, table[table["quantity"] == shown[k]])
            panel.set_title(heads[k], fontsize=SMALL, loc="left")
        else:
            panel.set_visible(False)
    head = "Posterior densities of sds and correlations; dot and bar: mean and 95 % interval"
    if len(shown) < len(names) and quantity is None:
        head += f"; the first {len(shown)} of {len(names)}"
    width = int(figure.get_figwidth() * 12)
    figure.suptitle(wrapped(head, width), fontsize=10, x=0.01, ha="left")
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw one density with its mean and interval."""
    first = rows.iloc[0]
    top = float(rows["density"].max())
    ax.fill_between(rows["x"], rows["density"], color=PARTIAL, alpha=0.2, lw=0)
    ax.plot(rows["x"], rows["density"], color=PARTIAL, lw=1.2)
    ax.hlines(-0.1 * top, first["ci_low"], first["ci_high"], color="k", lw=1.6)
    ax.plot([first["mean"]], [-0.1 * top], "o", color="k", markersize=4)
    if first["kind"] == "cor":
        ax.axvline(0, color="k", lw=0.8, ls=(0, (4, 3)))
        ax.set_xlim(-1, 1)
    else:
        ax.set_xlim(float(rows["x"].min()), float(rows["x"].max()))
    ax.set_ylim(-0.2 * top, 1.08 * top)
    tidy(ax)
    ax.set_yticks([])
    ax.locator_params(axis="x", nbins=4)
    ax.spines["left"].set_visible(False)
    ax.set_title(plain(short(first["quantity"], 32)), fontsize=SMALL, loc="left")

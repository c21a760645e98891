"""Posterior densities of sds, correlations and family parameters against their priors."""

from typing import overload

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.variance_curves import variance_curves
from hiermodels.errors import FitError
from hiermodels.show.plots.style import (
    COMPLETE,
    PARTIAL,
    SMALL,
    legend_below,
    new_figure,
    percent,
    plain,
    short,
    short_names,
    tidy,
    wrapped,
)

#: A prior stated for the quantity itself, and one that follows from others.
_STATED, _IMPLIED = (0, (5, 2)), (0, (1, 1.3))


@overload
def plot_varcorr(
    fit: Fitted | pd.DataFrame,
    ax: None = None,
    *,
    quantity: str | None = None,
    max_panels: int = 15,
) -> Figure: ...
@overload
def plot_varcorr(
    fit: Fitted | pd.DataFrame, ax: Axes, *, quantity: str | None = None, max_panels: int = 15
) -> Axes: ...
def plot_varcorr(
    fit: Fitted | pd.DataFrame,
    ax: Axes | None = None,
    *,
    quantity: str | None = None,
    max_panels: int = 15,
) -> Figure | Axes:
    """Draw the posteriors of sds, correlations and family parameters against their priors.

    Each quantity has its own axis, because their units differ: correlations go from -1 to 1,
    others over the posterior and as much of the prior as leaves the posterior a third of it. A
    default prior is stated for predictors at their means: where the published, raw quantity is
    another one, its prior follows from all effects of the bar and is drawn dotted.

    Parameters
    ----------
    fit : Fit or pandas.DataFrame
        A fit, or what :func:`hiermodels.answers.variance_curves.variance_curves` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw one quantity. By default a new figure shows all of them.
    quantity : str, optional
        Which one, such as ``"sd_Subject[Days]"``; with ``ax`` the first by default.
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
    if max_panels < 1:
        raise FitError(f"got max_panels={max_panels}; at least one panel must be shown")
    table = fit if isinstance(fit, pd.DataFrame) else variance_curves(fit)
    names = list(dict.fromkeys(str(q) for q in table["quantity"]))
    if not names:
        raise FitError(
            "the model has neither group sds nor a residual sd nor another parameter to draw; "
            "fit.fixef() holds its coefficients"
        )
    if quantity is not None and quantity not in names:
        raise FitError(f"got quantity={quantity!r}; the model has {', '.join(names)}")
    if ax is not None:
        rows = table[table["quantity"] == (quantity or names[0])]
        _panel(ax, rows)
        handles = _handles(rows)
        legend_below(ax, handles, len(handles))
        return ax
    shown = [quantity] if quantity else names[:max_panels]
    return _figure(table, shown, len(names) if quantity is None else 1)


def _figure(table: pd.DataFrame, shown: list[str], count: int) -> Figure:
    """Draw a panel for each quantity shown, of so many."""
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(max(2.2 * columns, 4.2), 1.7 * rows + 1.1)
    grid = figure.subplots(rows, columns, squeeze=False)
    heads = short_names(shown, 30)
    for k, panel in enumerate(grid.ravel()):
        if k < len(shown):
            _panel(panel, table[table["quantity"] == shown[k]])
            panel.set_title(heads[k], fontsize=SMALL, loc="left")
        else:
            panel.set_visible(False)
    handles = _handles(table[table["quantity"].isin(shown)])
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 2 if columns < 3 else 3),
        fontsize=SMALL,
        frameon=False,
    )
    prob = percent(float(table.attrs.get("prob", 0.95)))
    kinds = set(table.loc[table["quantity"].isin(shown), "kind"])
    words = {"sd": "sds", "cor": "correlations", "parameter": "other parameters"}
    what = [text for kind, text in words.items() if kind in kinds]
    head = f"Posteriors of {' and '.join(what)} against their priors; dot and bar: mean and {prob} "
    head += "interval"
    if len(shown) < count:
        head += f"; the first {len(shown)} of {count}"
    width = int(figure.get_figwidth() * 12)
    figure.suptitle(wrapped(head, width), fontsize=10, x=0.01, ha="left")
    return figure


def _handles(rows: pd.DataFrame) -> list[Line2D]:
    """Return the legend's entries."""
    found = [Line2D([], [], color=PARTIAL, lw=1.4, label="posterior")]
    known = rows[rows["prior_density"].notna()]
    for implied, style, label in (
        (False, _STATED, "prior"),
        (True, _IMPLIED, "prior, implied by that at the predictors' means"),
    ):
        if (known["implied"] == implied).any():
            found.append(Line2D([], [], color=COMPLETE, lw=1.2, ls=style, label=label))
    return found


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw one posterior with its mean and interval, and its prior."""
    first = rows.iloc[0]
    top = float(rows["density"].max())
    ax.fill_between(rows["x"], rows["density"], color=PARTIAL, alpha=0.2, lw=0)
    ax.plot(rows["x"], rows["density"], color=PARTIAL, lw=1.4)
    if rows["prior_density"].notna().all():
        style = _IMPLIED if first["implied"] else _STATED
        ax.plot(rows["x"], rows["prior_density"], color=COMPLETE, lw=1.2, ls=style)
        # a prior that presses against 0 would flatten the posterior beside it
        top = max(top, min(float(rows["prior_density"].max()), 1.5 * top))
    else:
        words = "prior without a density of one number"
        ax.text(0.98, 0.95, words, transform=ax.transAxes, fontsize=6.5, ha="right", va="top")
    ax.hlines(-0.1 * top, first["ci_low"], first["ci_high"], color="k", lw=1.6)
    ax.plot([first["mean"]], [-0.1 * top], "o", color="k", markersize=4)
    if first["kind"] == "cor" and first["lower"] < 0:
        ax.axvline(0, color="k", lw=0.6, alpha=0.5)
    ax.set_xlim(float(rows["x"].min()), float(rows["x"].max()))
    ax.set_ylim(-0.2 * top, 1.08 * top)
    tidy(ax)
    ax.set_yticks([])
    ax.locator_params(axis="x", nbins=4)
    ax.spines["left"].set_visible(False)
    ax.set_title(plain(short(first["quantity"], 32)), fontsize=SMALL, loc="left")
    ax.set_xlabel(plain(short(first["unit"], 34)), fontsize=7)

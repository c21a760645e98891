"""Model checks in one figure: predictions, residuals, group effects, influence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_plots import (
    plot_ppc_dist,
    plot_ppc_interval,
    plot_ppc_pava,
    plot_ppc_rootogram,
)
from arviz_plots.plot_collection import PlotCollection
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.model_checks import Checks, check_model
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.show.plots.style import (
    COMPLETE,
    DATA,
    FAINT,
    OWN,
    PARTIAL,
    POPULATION,
    SMALL,
    new_figure,
    plain,
    short,
    short_names,
    tidy,
    wrapped,
)

# ArviZ's class carries no types: what comes from it is Any at the border.
_COLLECTION: Any = PlotCollection
#: With more levels, this many are drawn, evenly spread over their observed means.
MOST_LEVELS = 60
_LINES = 50
_WORDLESS: Any = {"title": False, "xlabel": False, "ylabel": False}
_MOST_VALUES = 40
_MARKS = (("o", PARTIAL), ("s", OWN), ("^", POPULATION), ("D", "#555555"), ("v", "#CC79A7"))
Panel = Callable[[Axes, Checks, str], None]


def plot_check(
    fit: Fit | Fitted | Checks, group: str | None = None, *, draws: int = 400, seed: int = 1
) -> Figure:
    """Draw what :func:`hiermodels.check` holds against a fit, in one figure.

    Parameters
    ----------
    fit : Fit or Checks
        A fit, or what ``check`` returned for it.
    group : str, optional
        The grouping whose levels are shown; the first by default.
    draws, seed : int
        Of the check, where a fit is given.

    Returns
    -------
    matplotlib.figure.Figure
        Predictions by ArviZ (the density; of counts a rootogram; of a yes or no a calibration
        curve), means and sds of groups beside those predicted, residuals against fitted values and
        by group, quantiles of the group effects with their band, and what leaving out each level
        does.

    Raises
    ------
    FitError
        As for ``check``; or there is no such grouping.
    """
    found = fit if isinstance(fit, Checks) else check_model(fit, draws=draws, seed=seed)
    known = list(dict.fromkeys([*found.groups["group"], *found.quantiles["group"]]))
    if group is not None and group not in known:
        raise FitError(
            f"got group={group!r}; the groupings checked are {', '.join(known) or 'none'}."
        )
    chosen = group or (known[0] if known else "")
    panels = _panels(found, chosen)
    columns = min(4 if len(panels) > 6 else 3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(3.8 * columns, 3.4 * lines)
    grid = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for ax, panel in zip(grid, panels, strict=False):
        panel(ax, found, chosen)
    for ax in grid[len(panels) :]:
        ax.set_axis_off()
    off, every = len(found.unexpected), len(found.table)
    words = f"all {every} are as the model expects"
    if off:
        words = f"{off} of {every} {'is' if off == 1 else 'are'} not as the model expects"
    head = f"Checks of {short(found.formula, 70)}: {words}"
    figure.suptitle(plain(wrapped(head, 36 * columns)), fontsize=10, x=0.01, ha="left")
    return figure


def _panels(found: Checks, group: str) -> list[Panel]:
    """Return the panels that there is something to draw for."""
    panels: list[Panel] = [_predictive]
    levels = found.groups[found.groups["group"] == group]
    if len(levels):
        panels.append(_group_means)
        if "sd" in levels and levels["sd"].notna().any() and found.kind != "binary":
            panels.append(_group_sds)
    panels.append(_residuals)
    if len(levels):
        panels.append(_residuals_by_level)
    if (found.quantiles["group"] == group).any():
        panels.append(_quantiles)
    if len(found.influence) and (found.influence["group"] == group).any():
        panels.append(_influence)
    return panels


# --- predictions, by ArviZ ------------------------------------------------------------------


def _on(ax: Axes, name: str, data: xr.Dataset, by_draw: bool = False) -> Any:
    """Return ArviZ's collection of plots that holds given axes alone, a line a draw if asked."""
    plots = xr.Dataset({name: xr.DataArray(np.array(ax, dtype=object))})
    viz = xr.DataTree.from_dict({"plot": plots})
    viz["figure"] = xr.DataArray(np.array(ax.get_figure(root=True), dtype=object))
    if not by_draw:
        return _COLLECTION(data, viz, backend="matplotlib")
    stacked = data.stack(sample=("chain", "draw"))
    return _COLLECTION(stacked, viz, aes={"overlay_ppc": ["sample"]}, backend="matplotlib")


def _predictive(ax: Axes, found: Checks, group: str) -> None:
    """Draw the observed response over simulated ones."""
    tree = found.tree
    predicted = tree["posterior_predictive"].to_dataset()
    name = next(iter(predicted.data_vars))
    own = xr.DataTree.from_dict(
        {
            "posterior_predictive": predicted[[name]],
            "observed_data": tree["observed_data"].to_dataset()[[name]],
        }
    )
    values = tree["observed_data"][str(name)].to_numpy()
    distinct = len(np.unique(values))
    if found.kind == "binary" and distinct == 2:
        collection = _on(ax, str(name), predicted[[name]])
        plot_ppc_pava(own, plot_collection=collection, visuals=_WORDLESS)
        _name(ax, "Calibration (ArviZ's PAVA)", "predicted probability", "observed share")
    elif found.kind in ("count", "ordered") and 2 < distinct <= _MOST_VALUES:
        whole = own.map_over_datasets(lambda node: node.astype(np.int64))
        plot_ppc_rootogram(
            whole,
            plot_collection=_on(ax, str(name), predicted[[name]]),
            visuals={**_WORDLESS, "grid": False},
        )
        _name(ax, "Counts of each value, observed and predicted", short(name, 30), "rows (root)")
        labels = list(tree.attrs["categories"])
        if labels:
            ax.set_xticks(np.arange(len(labels)), short_names(labels, 12))
    else:
        draws = predicted.sizes["chain"] * predicted.sizes["draw"]
        own = own.map_over_datasets(lambda node: node.astype(np.float64))
        plot_ppc_dist(
            own,
            kind="ecdf" if found.kind != "continuous" else "kde",
            num_samples=min(_LINES, draws),
            plot_collection=_on(ax, str(name), predicted[[name]], by_draw=True),
            visuals={
                "predictive_dist": {"color": PARTIAL, "alpha": 0.2, "width": 0.7},
                "observed_dist": {"color": COMPLETE, "width": 1.8},
                "title": False,
                "remove_axis": False,
            },
        )
        what = "Density" if found.kind == "continuous" else "Distribution"
        _name(ax, f"{what}, observed and predicted", short(name, 30), what.lower())
    handles = [
        Line2D([], [], color=COMPLETE, label="observed"),
        Line2D([], [], color=PARTIAL, label="predicted"),
    ]
    if found.kind != "binary":
        ax.legend(handles=handles, fontsize=SMALL, frameon=False)
    tidy(ax)


def _name(ax: Axes, title: str, x: str, y: str) -> None:
    """Write title and labels."""
    ax.set_title(plain(title), loc="left", fontsize=9)
    ax.set_xlabel(plain(x), fontsize=SMALL)
    ax.set_ylabel(plain(y), fontsize=SMALL)


def _group_means(ax: Axes, found: Checks, group: str) -> None:
    _intervals(ax, found, group, "mean")


def _group_sds(ax: Axes, found: Checks, group: str) -> None:
    _intervals(ax, found, group, "sd")


def _intervals(ax: Axes, found: Checks, group: str, what: str) -> None:
    """Draw each level's mean or sd over its predictive interval, by ArviZ where it has all."""
    levels = found.groups[(found.groups["group"] == group) & found.groups[what].notna()]
    levels = levels.sort_values(what, kind="stable")
    shown = np.unique(np.linspace(0, len(levels) - 1, MOST_LEVELS).round().astype(np.intp))
    levels = levels.iloc[shown]
    key = f"{what}_{group}"
    if key in found.tree["posterior_predictive"]:
        own = {
            name: found.tree[name].to_dataset()[[key]].sel({group: list(levels["level"])})
            for name in ("posterior_predictive", "observed_data")
        }
        own = {
            name: part.assign_coords({group: np.arange(len(levels))}) for name, part in own.items()
        }
        tree = xr.DataTree.from_dict(own)
        plot_ppc_interval(
            tree,
            ci_kind="eti",
            ci_probs=(0.5, 0.95),
            point_estimate="median",
            plot_collection=_on(ax, key, own["posterior_predictive"]),
            visuals={
                **_WORDLESS,
                "trunk": {"color": PARTIAL, "width": 1.2},
                "twig": {"color": PARTIAL, "width": 2.4},
                "prediction_markers": False,
                "observed_markers": {"color": COMPLETE, "size": 14},
            },
        )
    else:
        at = np.arange(len(levels))
        ax.vlines(at, levels[f"{what}_low"], levels[f"{what}_high"], color=PARTIAL, lw=1.2)
        ax.plot(at, levels[what], "o", color=COMPLETE, ms=3)
    total = int((found.groups["group"] == group).sum())
    outside = int(
        np.sum((levels[what] < levels[f"{what}_low"]) | (levels[what] > levels[f"{what}_high"]))
    )
    count = f"{len(levels)} of {total:,}" if len(levels) < total else f"all {total:,}"
    unit = "category, from 0" if found.kind == "ordered" else "response"
    title = f"Group {what}s, {count} levels: {outside} outside 95 %"
    _name(ax, title, f"{short(group, 24)}, by observed {what}", f"{what} of the {unit}")
    _level_ticks(ax, list(levels["level"]))
    tidy(ax)


def _level_ticks(ax: Axes, names: list[str]) -> None:
    """Write levels' names along the axis where there is room."""
    step = max(1, -(-len(names) // 20))
    at = np.arange(0, len(names), step)
    labels = short_names([names[k] for k in at], 10)
    ax.set_xticks(at, labels, rotation=90, fontsize=6.5)


# --- residuals ------------------------------------------------------------------------------


def _residuals(ax: Axes, found: Checks, group: str) -> None:
    """Draw residuals against fitted values, with medians and the middle 80 % along them."""
    rows = found.rows
    ax.plot(
        rows["fitted"], rows["residual"], "o", color=DATA, ms=2.5, mew=0,
        alpha=float(np.clip(60 / np.sqrt(len(rows)) / 4, 0.08, 0.7)),
        rasterized=len(rows) > 5000,
    )  # fmt: skip
    _bands(ax, rows)
    ax.axhline(0, color=COMPLETE, lw=0.8, ls=(0, (4, 3)))
    _name(ax, "Residuals against fitted values", "expected response", "quantile residual")
    tidy(ax)


def _bands(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw running quantiles of the residuals: flat at -1.28, 0 and 1.28 at the right model."""
    bins = min(10, len(rows) // 15)
    if bins < 3 or rows["fitted"].nunique() < bins:
        return
    place = pd.qcut(rows["fitted"].rank(method="first"), bins, labels=False)
    parts = rows.groupby(place)
    middle = parts["fitted"].median()
    for level, style in ((0.1, ":"), (0.5, "-"), (0.9, ":")):
        ax.plot(middle, parts["residual"].quantile(level), ls=style, color=OWN, lw=1.4)
    handles = [
        Line2D([], [], color=OWN, label="running median"),
        Line2D([], [], color=OWN, ls=":", label="middle 80 %"),
    ]
    ax.legend(handles=handles, fontsize=6.5, frameon=False, loc="lower right")


def _residuals_by_level(ax: Axes, found: Checks, group: str) -> None:
    """Draw mean and spread of the residuals of each level, and what is expected of them."""
    levels = found.groups[found.groups["group"] == group]
    levels = levels.sort_values("residual_sd", kind="stable")
    shown = np.unique(np.linspace(0, len(levels) - 1, MOST_LEVELS).round().astype(np.intp))
    own = levels.iloc[shown]
    at = np.arange(len(own))
    mean, sd = own["residual_mean"].to_numpy(), own["residual_sd"].to_numpy()
    ax.vlines(at, mean - sd, mean + sd, color=PARTIAL, lw=1.6)
    ax.plot(at, mean, "o", color=PARTIAL, ms=3)
    for y in (-1.0, 1.0):
        ax.axhline(y, color=FAINT, lw=0.8, ls=":")
    ax.axhline(0, color=COMPLETE, lw=0.8, ls=(0, (4, 3)))
    title = "Residuals by level: mean ± root mean square"
    _name(ax, title, f"{short(group, 24)}, by spread", "quantile residual")
    _level_ticks(ax, list(own["level"]))
    tidy(ax)


# --- group effects and influence ------------------------------------------------------------


def _quantiles(ax: Axes, found: Checks, group: str) -> None:
    """Draw sorted effects against normal quantiles, with the band."""
    own = found.quantiles[found.quantiles["group"] == group]
    effects = list(dict.fromkeys(own["effect"]))[: len(_MARKS)]
    first = own[own["effect"] == effects[0]]
    ax.fill_between(first["normal"], first["low"], first["high"], color="#e6e6e6", lw=0)
    ends = [float(first["normal"].min()), float(first["normal"].max())]
    ax.plot(ends, ends, color=COMPLETE, lw=0.8, ls=(0, (4, 3)))
    for effect, name, (mark, colour) in zip(
        effects, short_names(effects, 18), _MARKS, strict=False
    ):
        part = own[own["effect"] == effect]
        ax.plot(part["normal"], part["value"], mark, color=colour, ms=3.5, label=name, mew=0.5)
    ax.legend(fontsize=6.5, frameon=False, loc="upper left")
    title = f"Effects by {short(group, 20)} over their sd; 95 % band"
    _name(ax, title, "normal quantile", "mean over draws")
    tidy(ax)


def _influence(ax: Axes, found: Checks, group: str) -> None:
    """Draw how well each level is foretold by the others, against how far it moves the fit."""
    own = found.influence[found.influence["group"] == group]
    moved = own["influential"].astype(bool)
    for part, mark, colour in ((own[~moved], "o", PARTIAL), (own[moved], "s", OWN)):
        ax.plot(part["pareto_k"], part["elpd_per_row"], mark, color=colour, ms=4)
    worst = own.loc[[*own["pareto_k"].nlargest(2).index, *own["elpd_per_row"].nsmallest(1).index]]
    for _, row in worst.drop_duplicates("level").iterrows():
        right = row["pareto_k"] > own["pareto_k"].median()
        ax.annotate(
            plain(short(row["level"], 16)), (row["pareto_k"], row["elpd_per_row"]),
            (-5 if right else 5, 0), textcoords="offset points", fontsize=6.5,
            ha="right" if right else "left", va="center",
        )  # fmt: skip
    if moved.any():
        checks = found.table[
            (found.table["check"] == "influence") & (found.table["about"] == group)
        ]
        ax.axvline(float(checks["high"].iloc[0]), color=FAINT, lw=0.8, ls=":")
    title = f"Influence: each level of {short(group, 18)} left out"
    _name(
        ax, title, "Pareto k (squares move the posterior alone)", "log density a row by the others"
    )
    tidy(ax)

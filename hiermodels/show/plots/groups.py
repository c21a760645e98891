"""Small multiples: the data of some groups with the three lines."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.lines import group_lines, group_points
from hiermodels.errors import FitError
from hiermodels.show.plots.style import (
    COMPLETE,
    DATA,
    LABEL,
    OWN,
    PARTIAL,
    SMALL,
    new_figure,
    percent,
    plain,
    short,
    short_names,
    tidy,
    wrapped,
)


def plot_groups(
    fit: Fitted,
    x: str | None = None,
    *,
    group: str | None = None,
    groups: Sequence[str] | None = None,
    max_panels: int = 12,
) -> Figure:
    """Draw the data of some groups with three lines: one for all, one each, partial pooling.

    Parameters
    ----------
    fit : Fit
    x : str, optional
        A numeric predictor; as of ``hiermodels.answers.lines.group_lines`` by default.
    group : str, optional
        The grouping factor, the first by default.
    groups : sequence of str, optional
        Levels to draw; by default ``max_panels`` of them, spread over the ranks of their effect.
    max_panels : int
        How many panels at most.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    FitError
        No groups, an unknown predictor or level, more levels asked for than panels.
    """
    if groups is not None and len(groups) > max_panels:
        raise FitError(
            f"got {len(groups)} groups and max_panels={max_panels}: ask for fewer groups, or "
            "for more panels"
        )
    lines = group_lines(fit, x, groups, group=group, max_groups=max_panels)
    levels = list(dict.fromkeys(str(v) for v in lines["level"]))
    along, factor = lines.attrs["x"], str(lines.attrs["group"])
    points = group_points(fit, levels, along, factor)
    columns = min(3, len(levels))
    rows = -(-len(levels) // columns)
    width = max(1.75 * columns, 3.6)
    foot_text = wrapped(plain(_held_text(fit, lines.attrs)), int(width * 15))
    foot_height = (0.3 if width > 6 else 0.5) + 0.16 * (foot_text.count("\n") + bool(foot_text))
    body_height = 1.55 * rows + 0.9
    figure = new_figure(width, body_height + foot_height)
    # A part of its own for legend and note: beside an axis label the two would overlap.
    heights = [body_height, foot_height]
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
    body, foot = parts[0, 0], parts[1, 0]
    grid = body.subplots(rows, columns, sharex=along is not None, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.ravel())
    names = short_names(levels, 17)
    for k, ax in enumerate(panels[: len(levels)]):
        mine = points[points["level"] == levels[k]]
        _panel(ax, lines[lines["level"] == levels[k]], mine)
        ax.set_title(f"{names[k]} (n = {len(mine):,})", fontsize=SMALL, loc="left")
    _unused(panels, len(levels), columns)
    _limits(panels[0], lines, points)
    for level, ax in zip(levels, panels, strict=False):
        _mark_missing(ax, lines[lines["level"] == level])
    _words(body, fit, lines, len(levels), int(width * 13))
    _foot(foot, panels[0], foot_text, float(lines.attrs["prob"]), 4 if width > 6 else 2)
    return figure


def _panel(ax: Axes, line: pd.DataFrame, mine: pd.DataFrame) -> None:
    """Draw one group."""
    many = len(mine) > 60
    size, alpha = (2.2, 0.35) if many else (3.2, 0.75)
    ax.plot(mine["x"], mine["y"], "o", color=DATA, markersize=size, alpha=alpha, label="data")
    if line["partial_low"].notna().all():
        ax.fill_between(
            line["x"], line["partial_low"], line["partial_high"], color=PARTIAL, alpha=0.18, lw=0
        )
    ax.plot(line["x"], line["complete"], color=COMPLETE, lw=1.1, ls=(0, (1, 1.4)))
    ax.plot(line["x"], line["no_pool"], color=OWN, lw=1.3, ls=(0, (5, 2)))
    ax.plot(line["x"], line["partial"], color=PARTIAL, lw=1.7)
    tidy(ax)


def _mark_missing(ax: Axes, line: pd.DataFrame) -> None:
    """Say that a group has no own line, in the corner that the pooled line leaves free."""
    if line["no_pool"].notna().any():
        return
    low, high = ax.get_ylim()
    above = float(line["partial"].iloc[0]) < (low + high) / 2
    y, align = (0.97, "top") if above else (0.03, "bottom")
    words = "no own estimate"
    ax.text(0.03, y, words, transform=ax.transAxes, fontsize=6.5, color=OWN, va=align)


def _unused(panels: Sequence[Axes], used: int, columns: int) -> None:
    """Hide empty panels; give tick labels to the panels above them."""
    for k in range(used, len(panels)):
        panels[k].set_visible(False)
        panels[k - columns].tick_params(labelbottom=True)


def _limits(ax: Axes, lines: pd.DataFrame, points: pd.DataFrame) -> None:
    """Set the shared y limits from data, pooled lines and band: own lines may run far out."""
    core = [points["y"], lines["partial"], lines["complete"]]
    low = min(float(c.min()) for c in core)
    high = max(float(c.max()) for c in core)
    margin = 0.06 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)


def _words(body: SubFigure, fit: Fitted, lines: pd.DataFrame, count: int, width: int) -> None:
    """Write title and axis labels."""
    about = lines.attrs
    response = _response_name(fit)
    along = "row within the group" if about["x"] is None else short(about["x"], 40)
    which = f"{count} of {about['n_levels']:,} levels"
    if count == about["n_levels"]:
        which = f"all {count} levels"
    order = ", spread over the ranks of their effects" if about["chosen"] else ""
    head = f"{response} by {along}, for {which} of {short(about['group'], 30)}{order}"
    body.suptitle(wrapped(plain(head), width), fontsize=10, x=0.01, ha="left")
    body.supxlabel(plain(along), fontsize=9)
    body.supylabel(plain(response), fontsize=9)


def _response_name(fit: Fitted) -> str:
    """Return what the vertical axis shows."""
    design, family = fit.model.design, fit.model.family.name
    response = short(design.response, 40)
    if family == "bernoulli":
        success = design.response_levels[1] if design.response_levels else "1"
        return f"probability of {response} = {short(success, 20)}"
    return f"share of successes, {response}" if design.trials is not None else response


def _held_text(fit: Fitted, about: Mapping[Hashable, Any]) -> str:
    """Return where everything stands that the lines do not run along."""
    held = [f"{short(k, 24)} at {v}" for k, v in about["held"].items()]
    held += [f"{short(o, 24)} at an average level" for o in about["other_groups"]]
    if about["shared"]:
        held.insert(0, f"The slope of {short(about['x'], 24)} is the same in all groups")
    if np.any(fit.model.design.offset):
        held.append("the offset at its mean")
    return "; ".join(held)


def _foot(foot: SubFigure, first: Axes, text: str, prob: float, columns: int) -> None:
    """Write legend and note below the panels."""
    pooled = f"{LABEL['partial']}, {percent(prob)} band"
    names = ["data", LABEL["complete"], LABEL["own"], pooled]
    foot.legend(
        first.lines[:4], names, loc="upper center", ncols=columns, fontsize=SMALL, frameon=False
    )
    if text:
        foot.text(0.5, 0.02, text, fontsize=7.5, ha="center", va="bottom")

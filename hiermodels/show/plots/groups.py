"""Small multiples: the data of some groups with the three lines."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from hiermodels.answers.fitted import Fitted, drawn
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
from hiermodels.spec.rowless import RowlessDesign, product_rows

Floats = npt.NDArray[np.float64]
#: A panel that reaches over this many times what the middle one does gets an axis of its own.
_UNEVEN = 4.0
#: Area of the point that stands for most rows, in square points.
_AREA = 60.0
_LINES: dict[str, dict[str, Any]] = {
    "complete": {"color": COMPLETE, "lw": 1.1, "ls": (0, (1, 1.4))},
    "no_pool": {"color": OWN, "lw": 1.3, "ls": (0, (5, 2))},
    "partial": {"color": PARTIAL, "lw": 1.7},
}


def plot_groups(
    fit: Fitted,
    x: str | None = None,
    *,
    group: str | None = None,
    groups: Sequence[str] | None = None,
    max_panels: int = 12,
    data: pd.DataFrame | None = None,
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
    data : pandas.DataFrame, optional
        Rows to draw as points, with response, predictor and grouping; those of the fit by default.

    Returns
    -------
    matplotlib.figure.Figure
        Of rows that were counted together, the area of a point says how many they are. Where the
        rows of the fit were not kept there are lines alone, along what a sample of them reaches
        over, unless ``data`` gives some.

    Raises
    ------
    FitError
        No groups, an unknown predictor or level, more levels asked for than panels, or a family
        whose response has no mean on the scale of the data.
    DataError
        The rows given lack a column.
    """
    if groups is not None and len(groups) > max_panels:
        raise FitError(
            f"got {len(groups)} groups and max_panels={max_panels}: ask for fewer groups, or "
            "for more panels"
        )
    drawn(fit)
    _check_family(fit)
    lines = group_lines(fit, x, groups, group=group, max_groups=max_panels, data=data)
    levels = list(dict.fromkeys(str(v) for v in lines["level"]))
    along, factor = lines.attrs["x"], str(lines.attrs["group"])
    points = group_points(fit, levels, along, factor, data)
    columns = min(3, len(levels))
    rows = -(-len(levels) // columns)
    width = max(1.75 * columns, 3.6)
    notes = [*_family_notes(fit, lines), *_point_notes(fit, points, data)]
    notes.append(_held_text(fit, lines.attrs))
    foot_text = wrapped(plain("; ".join(n for n in notes if n)), int(width * 15))
    foot_height = (0.3 if width > 6 else 0.5) + 0.16 * (foot_text.count("\n") + bool(foot_text))
    body_height = 1.55 * rows + 0.9
    figure = new_figure(width, body_height + foot_height)
    # A part of its own for legend and note: beside an axis label the two would overlap.
    heights = [body_height, foot_height]
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
    body, foot = parts[0, 0], parts[1, 0]
    cores = {level: _core(lines, points, level) for level in levels}
    alone = _uneven(cores)
    grid = body.subplots(rows, columns, sharex=along is not None, sharey=not alone, squeeze=False)
    panels: list[Axes] = list(grid.ravel())
    names = short_names(levels, 17)
    rows_of = _rows_by_level(fit, factor)
    largest = float(points["n"].max()) if len(points) else 1.0
    for k, ax in enumerate(panels[: len(levels)]):
        mine = points[points["level"] == levels[k]]
        _panel(ax, lines[lines["level"] == levels[k]], mine, largest)
        ax.set_title(f"{names[k]} (n = {rows_of[levels[k]]:,})", fontsize=SMALL, loc="left")
    _unused(panels, len(levels), columns)
    if alone:
        for level, ax in zip(levels, panels, strict=False):
            _limits(ax, cores[level])
    else:
        _limits(panels[0], np.concatenate(list(cores.values())))
    for level, ax in zip(levels, panels, strict=False):
        if not lines["no_pool"].isna().all() or len(levels) == 1:
            _mark_missing(ax, lines[lines["level"] == level])
    _words(body, fit, lines, (len(levels), alone), int(width * 13))
    shown = [name for name in _LINES if lines[name].notna().any()]
    prob = float(lines.attrs["prob"])
    _foot(foot, foot_text, prob, shown, len(points) > 0, 4 if width > 6 else 2)
    return figure


def _panel(ax: Axes, line: pd.DataFrame, mine: pd.DataFrame, largest: float) -> None:
    """Draw one group; where points stand for several rows, by area up to the largest of all."""
    many = len(mine) > 60
    size, alpha = (2.2, 0.35) if many else (3.2, 0.75)
    if largest > 1:
        area = np.maximum(_AREA * mine["n"] / largest, 1.5)
        ax.scatter(mine["x"], mine["y"], s=area, color=DATA, alpha=0.5, linewidths=0)
    else:
        ax.plot(mine["x"], mine["y"], "o", color=DATA, markersize=size, alpha=alpha)
    if line["partial_low"].notna().all():
        ax.fill_between(
            line["x"], line["partial_low"], line["partial_high"], color=PARTIAL, alpha=0.18, lw=0
        )
    for name, style in _LINES.items():
        ax.plot(line["x"], line[name], **style)
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


def _core(lines: pd.DataFrame, points: pd.DataFrame, level: str) -> Floats:
    """Return what a panel must show: data and pooled lines; own lines may run far out."""
    mine = lines[lines["level"] == level]
    parts = [points.loc[points["level"] == level, "y"], mine["partial"], mine["complete"]]
    return np.concatenate([part.dropna().to_numpy(dtype=np.float64) for part in parts])


def _uneven(cores: Mapping[str, Floats]) -> bool:
    """Return whether one axis for all would press most panels flat."""
    reach = np.array([np.ptp(core) for core in cores.values()])
    return bool(reach.max() > _UNEVEN * np.median(reach))


def _limits(ax: Axes, core: Floats) -> None:
    """Set the y limits."""
    low, high = float(core.min()), float(core.max())
    margin = 0.06 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)


def _words(
    body: SubFigure, fit: Fitted, lines: pd.DataFrame, shown: tuple[int, bool], width: int
) -> None:
    """Write title and axis labels."""
    count, alone = shown
    about = lines.attrs
    response = _response_name(fit)
    along = "row within the group" if about["x"] is None else short(about["x"], 40)
    which = f"{count} of {about['n_levels']:,} levels"
    if count == about["n_levels"]:
        which = f"all {count} levels"
    order = ", spread over the ranks of their effects" if about["chosen"] else ""
    head = f"{response} by {along}, for {which} of {short(about['group'], 30)}{order}"
    head += "; vertical axes differ" if alone else ""
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
    if np.any(product_rows(fit.model.design).offset):
        held.append("the offset at its mean")
    return "; ".join(held)


def _foot(
    foot: SubFigure, text: str, prob: float, shown: Sequence[str], points: bool, columns: int
) -> None:
    """Write legend and note below the panels."""
    pooled = f"{LABEL['partial']}, {percent(prob)} band"
    names = {"complete": LABEL["complete"], "no_pool": LABEL["own"], "partial": pooled}
    handles = [Line2D([], [], label=names[name], **_LINES[name]) for name in shown]
    if points:
        data = Line2D([], [], ls="", marker="o", color=DATA, markersize=3.2, label="data")
        handles = [data, *handles]
    foot.legend(handles=handles, loc="upper center", ncols=columns, fontsize=SMALL, frameon=False)
    if text:
        foot.text(0.5, 0.02, text, fontsize=7.5, ha="center", va="bottom")


def _rows_by_level(fit: Fitted, factor: str) -> dict[str, int]:
    """Return how many rows of the fit each level has."""
    group = next(own for own in fit.model.design.groups if own.name == factor)
    return dict(zip(group.levels, (int(n) for n in group.n_rows), strict=True))


def _point_notes(fit: Fitted, points: pd.DataFrame, data: pd.DataFrame | None) -> list[str]:
    """Return what is to be said of the points."""
    design, notes = fit.model.design, []
    if data is not None:
        notes.append(f"Points: {len(points):,} rows that were given")
    elif isinstance(design, RowlessDesign):
        notes.append(f"The {design.n:,} rows were read and not kept: lines alone are drawn")
    elif len(points) and float(points["n"].max()) > 1:
        most = float(points["n"].max())
        notes.append(f"A point's area says how many rows it stands for, up to {most:,.0f}")
    return notes


def _check_family(fit: Fitted) -> None:
    """Raise FitError where the response's mean is nothing that could be drawn among the data."""
    drawn(fit)
    family = fit.model.family
    if family.ordinal:
        raise FitError(
            f"plot_groups() draws the mean of the response, and the categories of a {family.name} "
            "model have none. hm.predict() gives the probability of each; plot_caterpillar() and "
            "plot_shrinkage() draw the group effects."
        )
    if family.logarithmic:
        raise FitError(
            f"plot_groups() draws the mean among the data, and the linear predictor of a "
            f"{family.name} model is the mean of log(y). Model log(y) with family='gaussian' to "
            "see the lines, or ask hm.predict()."
        )


def _family_notes(fit: Fitted, lines: pd.DataFrame) -> list[str]:
    """Return what is to be said of the lines of families besides the common ones."""
    family, notes = fit.model.family.name, []
    if family.startswith("zero_inflated"):
        notes.append("Lines are means without the added zeros")
    if family.startswith("hurdle"):
        notes.append("Lines are means of the distribution without its hurdle")
    if lines[["complete", "no_pool"]].isna().to_numpy().all():
        notes.append("Regressions without pooling are not computed here")
    return notes

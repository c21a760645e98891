"""The plane of two effects: arrows from own to partially pooled estimates, and ellipses."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from hiermodels.answers.shrinkage import CoefficientEllipse
from hiermodels.show.plots.style import (
    FAINT,
    OWN,
    PARTIAL,
    POPULATION,
    axes,
    coefficient_label,
    legend_below,
    plain,
    root,
    short,
    short_names,
    tidy,
    title,
)

_INNER, _OUTER = (0, (4, 2)), (0, (1, 1.5))
#: The population's ellipse may stretch the axes to so many times the spread of the levels.
_STRETCH = 1.5


@dataclass(frozen=True)
class Plane:
    """What is drawn.

    Attributes
    ----------
    points : pandas.DataFrame
        Indexed by level: own_x, own_y, x, y.
    shown : tuple of str
        The levels with an arrow.
    population : CoefficientEllipse
    levels : mapping of str to CoefficientEllipse
        Posteriors of a few levels.
    units : tuple of str
        Of the two axes.
    group : str
    effects : int
        How many effects the factor has.
    """

    points: pd.DataFrame
    shown: tuple[str, ...]
    population: CoefficientEllipse
    levels: Mapping[str, CoefficientEllipse]
    units: tuple[str, str]
    group: str
    effects: int


def draw_plane(ax: Axes | None, plane: Plane) -> Axes:
    """Return the axes on which a plane was drawn."""
    ax = axes(ax, 5.5, 5.5)
    points, population = plane.points, plane.population
    both = points.loc[list(plane.shown)]
    arrows = both.dropna()
    for prob, style in ((0.5, _INNER), (0.95, _OUTER)):
        line = population.outline(prob)
        ax.plot(line[:, 0], line[:, 1], color=POPULATION, linewidth=1.3, linestyle=style)
    for own in plane.levels.values():
        line = own.outline(0.95)
        ax.fill(line[:, 0], line[:, 1], facecolor=PARTIAL, alpha=0.1, lw=0)
        ax.plot(line[:, 0], line[:, 1], color=PARTIAL, linewidth=0.9)
    if len(both) < len(points):
        ax.plot(points["x"], points["y"], ".", color=FAINT, markersize=2, alpha=0.5, zorder=1)
    ax.plot(arrows["own_x"], arrows["own_y"], "o", color=OWN, fillstyle="none", markersize=5)
    ax.plot(both["x"], both["y"], "o", color=PARTIAL, markersize=4)
    centre = population.centre
    ax.plot([centre[0]], [centre[1]], "D", color=POPULATION, markersize=8, markeredgecolor="k")
    outside = _limits(ax, plane, arrows)
    _arrows(ax, arrows)
    ax.set_xlabel(coefficient_label(population.effects[0], plane.units[0]), fontsize=9)
    ax.set_ylabel(coefficient_label(population.effects[1], plane.units[1]), fontsize=9)
    tidy(ax, "both")
    _legend(ax, own=len(arrows) > 0, all_shown=len(both) == len(points), some=bool(plane.levels))
    missing = int(both["own_x"].isna().sum())
    text = shrinkage_title(plane.group, len(both), len(points), missing, outside)
    if plane.effects > 2:
        text += f"; 2 of {plane.effects} effects"
    title(ax, text)
    names = both if len(both) == len(points) else both.loc[list(plane.levels)]
    if len(names):
        _label_points(ax, names, both)
    return ax


def shrinkage_title(group: str, shown: int, total: int, missing: int, outside: int) -> str:
    """Return what is seen, and what is not."""
    count = f"all {total:,} levels" if shown == total else f"{shown} of {total:,} levels"
    text = f"Shrinkage by {short(group, 30)}: own estimates and partial pooling, {count}"
    if missing:
        text += f"; {missing} without an own estimate"
    if outside:
        text += f"; {outside} own estimate{'s' if outside > 1 else ''} beyond the edges"
    return plain(text)


def _limits(ax: Axes, plane: Plane, arrows: pd.DataFrame) -> int:
    """Set limits that no wild own estimate can stretch; return how many lie beyond them."""
    outlines = [plane.population.outline(0.95), *(e.outline(0.95) for e in plane.levels.values())]
    inside = np.ones(len(arrows), dtype=bool)
    for k, (own, pooled) in enumerate((("own_x", "x"), ("own_y", "y"))):
        core = [plane.points[pooled].to_numpy(), plane.population.centre[k : k + 1]]
        core += [line[:, k] for line in outlines[1:]]
        low, high = _ends(np.concatenate(core))
        # with few levels the ellipse of the population is all doubt: it may leave the picture
        room = max(_STRETCH * (high - low), 1e-9)
        out_low, out_high = _ends(outlines[0][:, k])
        low, high = min(low, max(out_low, low - room)), max(high, min(out_high, high + room))
        room = 0.6 * (high - low)
        values = arrows[own].to_numpy()
        near = values[(values > low - room) & (values < high + room)]
        low, high = min(low, near.min(initial=low)), max(high, near.max(initial=high))
        margin = 0.05 * (high - low) or 1.0
        (ax.set_xlim, ax.set_ylim)[k](low - margin, high + margin)
        inside &= (values > low - margin) & (values < high + margin)
    return int((~inside).sum())


def _ends(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _arrows(ax: Axes, arrows: pd.DataFrame) -> None:
    """Draw an arrow from each own estimate to the partially pooled one."""
    properties = {"arrowstyle": "-|>", "color": FAINT, "shrinkA": 3, "shrinkB": 2.5}
    properties |= {"mutation_scale": 8, "linewidth": 0.9}
    for own_x, own_y, x, y in arrows[["own_x", "own_y", "x", "y"]].to_numpy():
        mark = ax.annotate("", (x, y), (own_x, own_y), arrowprops=properties, zorder=1.5)
        if mark.arrow_patch is not None:
            mark.arrow_patch.set_clip_box(ax.bbox)


def _legend(ax: Axes, *, own: bool, all_shown: bool, some: bool) -> None:
    """Name the marks below the axes, where they cover nothing."""
    handles: list[Artist] = [
        Line2D([], [], color=OWN, marker="o", fillstyle="none", linestyle="", label="own estimate"),
        Line2D([], [], color=PARTIAL, marker="o", linestyle="", label="partial pooling"),
        Line2D([], [], color=POPULATION, marker="D", linestyle="", label="population mean"),
        Line2D([], [], color=POPULATION, linestyle=_INNER, label="50 % of groups"),
        Line2D([], [], color=POPULATION, linestyle=_OUTER, label="95 % of groups"),
    ]
    if some:
        label = "95 % posterior of a level"
        handles.append(Patch(facecolor="#dbe9f3", edgecolor=PARTIAL, label=label))
    if not all_shown:
        other = "partial pooling, the other levels"
        handles.append(Line2D([], [], color=FAINT, marker=".", linestyle="", label=other))
    legend_below(ax, handles if own else handles[1:], 3)


def _label_points(ax: Axes, points: pd.DataFrame, drawn: pd.DataFrame) -> None:
    """Write level names beside their partially pooled points, where no mark is in the way."""
    figure = root(ax)
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    at = ax.transData.transform(points[["x", "y"]].to_numpy())
    pairs = np.concatenate([drawn[["x", "y"]], drawn[["own_x", "own_y"]].dropna()])
    marks = ax.transData.transform(pairs)
    taken: list[Bbox] = []
    for (x, y), name in zip(at, short_names(list(points.index), 16), strict=True):
        width, height = 0.62 * 7 * scale * len(name), 8.5 * scale
        for dx, dy in ((4, -3), (-4, -3), (0, 5), (0, -12)):
            left = x + dx * scale - (0 if dx > 0 else width if dx < 0 else width / 2)
            box = Bbox.from_bounds(left, y + dy * scale, width, height)
            covered = (
                (marks[:, 0] > box.x0 - 2)
                & (marks[:, 0] < box.x1 + 2)
                & (marks[:, 1] > box.y0 - 2)
                & (marks[:, 1] < box.y1 + 2)
            ).any()
            inside = ax.bbox.containsx(box.x0) and ax.bbox.containsx(box.x1)
            inside = inside and ax.bbox.containsy(box.y0) and ax.bbox.containsy(box.y1)
            if inside and not covered and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                corner = ax.transData.inverted().transform((box.x0, box.y0))
                x0, y0 = float(corner[0]), float(corner[1])
                text = ax.text(x0, y0, name, fontsize=7, color="#333333", va="bottom")
                text.set_path_effects([withStroke(linewidth=2, foreground="white")])
                break

"""Shrinkage: from each group's own estimate to the partially pooled one."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from hiermodels.answers.fitted import Fitted, find_pooled_group
from hiermodels.answers.shrinkage import (
    PopulationEllipse,
    choose,
    group_estimates,
    population_ellipse,
)
from hiermodels.show.plots.style import (
    COMPLETE,
    FAINT,
    OWN,
    PARTIAL,
    POPULATION,
    axes,
    legend_below,
    percent,
    plain,
    root,
    short,
    short_names,
    tidy,
    title,
)


def plot_shrinkage(
    fit: Fitted,
    group: str | None = None,
    ax: Axes | None = None,
    *,
    effects: tuple[str, str] | None = None,
    max_levels: int = 40,
) -> Axes:
    """Draw how far partial pooling moves each group from its own estimate.

    With two effects or more: the plane of two, an arrow from the group's own estimate to the
    partially pooled one, the population's centre and the ellipses that hold 50 % and 95 % of it.
    With one effect: for each group its own estimate joined to the posterior mean and interval.

    Parameters
    ----------
    fit : Fit
    group : str, optional
        The grouping factor, the first by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    effects : tuple of str, optional
        Which two effects span the plane; the first two by default.
    max_levels : int
        With more levels, this many are drawn, evenly spread over the ranks; the title says so.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    FitError
        No groups, or none of these names.
    """
    _, g = find_pooled_group(fit, group)
    table = group_estimates(fit, group=g.name)
    if len(g.coefs) == 1 and effects is None:
        return _one_effect(ax, table, g.name, max_levels)
    ellipse = population_ellipse(fit, g.name, effects)
    a, b = (table[table["effect"] == e].set_index("level") for e in ellipse.effects)
    plane = pd.DataFrame(
        {"own_x": a["no_pool"], "own_y": b["no_pool"], "x": a["mean"], "y": b["mean"]}
    )
    return _plane(ax, plane, ellipse, g.name, max_levels)


# --- two effects ----------------------------------------------------------------------------


def _plane(
    ax: Axes | None, plane: pd.DataFrame, ellipse: PopulationEllipse, group: str, most: int
) -> Axes:
    """Draw the plane of two effects."""
    ax = axes(ax, 5.5, 5.4)
    shown = list(choose([str(v) for v in plane.index], most, plane["y"]))
    both = plane.loc[shown]
    arrows = both.dropna()
    for prob, style in ((0.5, (0, (4, 2))), (0.95, (0, (1, 1.5)))):
        line = ellipse.outline(prob)
        ax.plot(line[:, 0], line[:, 1], color=POPULATION, linewidth=1.3, linestyle=style)
    if len(shown) < len(plane):
        ax.plot(plane["x"], plane["y"], ".", color=FAINT, markersize=2, alpha=0.5, zorder=1)
    ax.plot(arrows["own_x"], arrows["own_y"], "o", color=OWN, fillstyle="none", markersize=5)
    ax.plot(both["x"], both["y"], "o", color=PARTIAL, markersize=4)
    centre = ellipse.centre
    ax.plot([centre[0]], [centre[1]], "D", color=POPULATION, markersize=8, markeredgecolor="k")
    outside = _limits(ax, plane, arrows, ellipse)
    _arrows(ax, arrows)
    label_x, label_y = (
        plain(f"{short(e, 40)} (population + group effect)") for e in ellipse.effects
    )
    ax.set_xlabel(label_x, fontsize=9)
    ax.set_ylabel(label_y, fontsize=9)
    tidy(ax, "both")
    _plane_legend(ax, all_shown=len(shown) == len(plane))
    missing = int(both["own_x"].isna().sum())
    title(ax, _plane_title(group, len(shown), len(plane), missing, outside))
    if len(plane) <= most:
        _label_points(ax, both)
    return ax


def _plane_title(group: str, shown: int, total: int, missing: int, outside: int) -> str:
    """Return what is seen, and what is not."""
    count = f"all {total:,} levels" if shown == total else f"{shown} of {total:,} levels"
    text = f"Shrinkage by {short(group, 30)}: own estimates and partial pooling, {count}"
    if missing:
        text += f"; {missing} without an own estimate"
    if outside:
        text += f"; {outside} own estimate{'s' if outside > 1 else ''} beyond the edges"
    return plain(text)


def _limits(ax: Axes, plane: pd.DataFrame, arrows: pd.DataFrame, ellipse: PopulationEllipse) -> int:
    """Set limits that no wild own estimate can stretch; return how many lie beyond them."""
    outline = ellipse.outline(0.95)
    inside = np.ones(len(arrows), dtype=bool)
    for k, (own, pooled) in enumerate((("own_x", "x"), ("own_y", "y"))):
        core = np.concatenate([outline[:, k], plane[pooled].to_numpy(), [ellipse.centre[k]]])
        low, high = float(core.min()), float(core.max())
        room = 0.6 * (high - low)
        values = arrows[own].to_numpy()
        near = values[(values > low - room) & (values < high + room)]
        low, high = min(low, near.min(initial=low)), max(high, near.max(initial=high))
        margin = 0.05 * (high - low) or 1.0
        (ax.set_xlim, ax.set_ylim)[k](low - margin, high + margin)
        inside &= (values > low - margin) & (values < high + margin)
    return int((~inside).sum())


def _arrows(ax: Axes, arrows: pd.DataFrame) -> None:
    """Draw an arrow from each own estimate to the partially pooled one."""
    properties = {"arrowstyle": "-|>", "color": FAINT, "shrinkA": 3, "shrinkB": 2.5}
    properties |= {"mutation_scale": 8, "linewidth": 0.9}
    for own_x, own_y, x, y in arrows[["own_x", "own_y", "x", "y"]].to_numpy():
        mark = ax.annotate("", (x, y), (own_x, own_y), arrowprops=properties, zorder=1.5)
        if mark.arrow_patch is not None:
            mark.arrow_patch.set_clip_box(ax.bbox)


def _plane_legend(ax: Axes, *, all_shown: bool) -> None:
    """Name the marks below the axes, where they cover nothing."""
    handles = [
        Line2D([], [], color=OWN, marker="o", fillstyle="none", linestyle="", label="own estimate"),
        Line2D([], [], color=PARTIAL, marker="o", linestyle="", label="partial pooling"),
        Line2D([], [], color=POPULATION, marker="D", linestyle="", label="population mean"),
        Line2D([], [], color=POPULATION, linestyle=(0, (4, 2)), label="50 % of groups"),
        Line2D([], [], color=POPULATION, linestyle=(0, (1, 1.5)), label="95 % of groups"),
    ]
    if not all_shown:
        other = "partial pooling, the other levels"
        handles.append(Line2D([], [], color=FAINT, marker=".", linestyle="", label=other))
    legend_below(ax, handles, 3)


def _label_points(ax: Axes, points: pd.DataFrame) -> None:
    """Write level names beside their partially pooled points, where there is room."""
    figure = root(ax)
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    at = ax.transData.transform(points[["x", "y"]].to_numpy())
    own = ax.transData.transform(points[["own_x", "own_y"]].dropna().to_numpy())
    marks = np.concatenate([at, own]) if len(own) else at
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


# --- one effect -----------------------------------------------------------------------------


def _one_effect(ax: Axes | None, table: pd.DataFrame, group: str, most: int) -> Axes:
    """Draw own estimate, posterior mean and interval of each level, by its mean."""
    shown = choose([str(v) for v in table["level"]], most, table["mean"])
    rows = table.set_index("level").loc[list(shown)]
    effect = str(rows["effect"].iloc[0])
    ax = axes(ax, 5.5, 2.0 + 0.19 * len(rows))
    y = np.arange(len(rows))
    complete = float(rows["complete"].iloc[0])
    ax.axvline(complete, color=COMPLETE, linewidth=1, linestyle=(0, (4, 3)))
    ax.hlines(y, rows["no_pool"], rows["mean"], color=FAINT, linewidth=0.9)
    ax.hlines(y, rows["ci_low"], rows["ci_high"], color=PARTIAL, linewidth=1.8)
    ax.plot(rows["no_pool"], y, "o", color=OWN, fillstyle="none", markersize=5.5)
    ax.plot(rows["mean"], y, "o", color=PARTIAL, markersize=4.5)
    ax.set_yticks(y, short_names(list(rows.index)))
    ax.set_ylim(-0.8, len(rows) - 0.2)
    tidy(ax, "x")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(plain(f"{short(effect, 40)} (population + group effect)"), fontsize=9)
    ax.set_ylabel(plain(short(group, 40)), fontsize=9)
    outside = _one_limits(ax, rows)
    missing = int(rows["no_pool"].isna().sum())
    _one_legend(ax, float(table.attrs.get("prob", 0.95)))
    title(ax, _plane_title(group, len(rows), len(table), missing, outside))
    return ax


def _one_limits(ax: Axes, rows: pd.DataFrame) -> int:
    """Set limits that no wild own estimate can stretch; return how many lie beyond them."""
    low = min(float(rows["ci_low"].min()), float(rows["complete"].iloc[0]))
    high = max(float(rows["ci_high"].max()), float(rows["complete"].iloc[0]))
    own = rows["no_pool"].dropna().to_numpy()
    room = high - low
    near = own[(own > low - room) & (own < high + room)]
    low, high = near.min(initial=low), near.max(initial=high)
    margin = 0.04 * (high - low) or 1.0
    ax.set_xlim(low - margin, high + margin)
    return len(own) - len(near)


def _one_legend(ax: Axes, prob: float) -> None:
    """Name the marks below the axes."""
    pooled = f"partial pooling, {percent(prob)} interval"
    handles = [
        Line2D([], [], color=OWN, marker="o", fillstyle="none", linestyle="", label="own estimate"),
        Line2D([], [], color=PARTIAL, marker="o", linewidth=1.8, label=pooled),
        Line2D([], [], color=COMPLETE, linestyle=(0, (4, 3)), label="one estimate for all"),
    ]
    legend_below(ax, handles, 3)

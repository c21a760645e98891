"""What all pictures share: colours, line styles, short names, new figures."""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from hiermodels.errors import FitError

# Okabe and Ito's palette: distinct for the common kinds of colour blindness. Line styles and
# markers differ too, so that nothing hangs on colour.
PARTIAL = "#0072B2"
OWN = "#D55E00"
COMPLETE = "#000000"
DATA = "#555555"
POPULATION = "#009E73"
FAINT = "#9a9a9a"
GRID = "#dddddd"

LABEL = {
    "partial": "partial pooling",
    "own": "each group alone",
    "complete": "one regression for all",
}
SMALL = 8.0


def plain(text: object) -> str:
    """Return text that Matplotlib shows as it is: no mathematics, no line breaks, one line."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in line).replace("$", r"\$")


def short(name: object, width: int = 22) -> str:
    """Return a name of at most ``width`` characters, its middle left out where it is longer."""
    line = " ".join(str(name).split())
    if len(line) <= width:
        return line
    tail = (width - 1) // 2
    return f"{line[: width - 1 - tail].rstrip()}…{line[-tail:].lstrip()}"


def short_names(names: Sequence[object], width: int = 22) -> list[str]:
    """Return plain names of at most ``width`` characters, different where the full ones are.

    Where a name is too long, words that all names share are left out first, then the middle of
    each name; names that still coincide are numbered.
    """
    full = [" ".join(str(n).split()) for n in names]
    if any(len(n) > width for n in full):
        full = _without_shared_words(full)
    found = [short(n, width) for n in full]
    out = []
    for k, name in enumerate(found):
        twins = [i for i, other in enumerate(found) if other == name and names[i] != names[k]]
        if twins:
            mark = f" #{sorted([*twins, k]).index(k) + 1}"
            name = short(full[k], max(width - len(mark), 4)) + mark
        out.append(plain(name))
    return out


def _without_shared_words(names: Sequence[str]) -> list[str]:
    """Return names in which runs of words that are the same in all are replaced by an ellipsis."""
    words = [n.split() for n in names]
    if len(names) < 2 or len({len(w) for w in words}) > 1:
        return list(names)
    shared = [len({w[k] for w in words}) == 1 for k in range(len(words[0]))]
    if all(shared):
        return list(names)
    out = []
    for w in words:
        kept: list[str] = []
        for word, same in zip(w, shared, strict=True):
            if not same:
                kept.append(word)
            elif not kept or kept[-1] != "…":
                kept.append("…")
        out.append(" ".join(kept).removesuffix(" …"))
    return out


def wrapped(text: str, width: int) -> str:
    """Return text broken into lines of at most ``width`` characters."""
    return "\n".join(textwrap.wrap(text, width, break_long_words=True))


def new_figure(width: float, height: float) -> Figure:
    """Return a new figure, known to pyplot: notebooks show it, and so does ``plt.show()``."""
    return plt.figure(figsize=(width, height), layout="constrained")


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes given, or those of a new figure."""
    return new_figure(width, height).add_subplot() if ax is None else ax


def tidy(ax: Axes, grid: str | None = None) -> None:
    """Take away what carries no information."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    if grid == "x":
        ax.grid(axis="x", color=GRID, linewidth=0.7)
    elif grid is not None:
        ax.grid(color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)


def title(ax: Axes, text: str) -> None:
    """Write what is seen above the axes, on the left, in lines as wide as the axes.

    Call it when ticks and labels stand: they decide how wide the axes are.
    """
    figure = root(ax)
    figure.draw_without_rendering()
    points = ax.get_window_extent().width / figure.dpi * 72
    ax.set_title(wrapped(text, max(20, int(points / 5.6))), loc="left", fontsize=10)


def root(ax: Axes) -> Figure:
    """Return the figure that holds the axes."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise FitError("got axes that belong to no figure; make them with figure.subplots()")
    return figure


def legend_below(ax: Axes, handles: Sequence[Artist], columns: int) -> None:
    """Name the marks below the axis label, where they cover nothing."""
    down = ScaledTranslation(0, -38 / 72, root(ax).dpi_scale_trans)
    ax.legend(
        handles=list(handles),
        loc="upper center",
        bbox_to_anchor=(0.45, 0),
        bbox_transform=ax.transAxes + down,
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
    )


def coefficient_label(effect: str, unit: str) -> str:
    """Return the label of an axis along the coefficients of levels, with its unit."""
    return plain(f"{short(effect, 30)} of each level ({short(unit, 40)})")


def row_axis(ax: Axes, n: npt.NDArray[np.int_]) -> None:
    """Give numbers of rows a logarithmic axis where they differ by much, with whole ticks."""
    least, most = float(n.min()), float(n.max())
    if most > 8 * max(1.0, least):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.0f}"))
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())
        ax.set_xlim(least / 1.25, most * 1.25)
    else:
        pad = max(1.0, 0.15 * (most - least))
        ax.set_xlim(least - pad, most + pad)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def percent(prob: float) -> str:
    """Return a probability as text: ``95 %``."""
    return f"{100 * prob:.4g} %"

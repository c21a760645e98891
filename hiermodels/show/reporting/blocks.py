"""What a page is made of: text, tables, formulas and pictures, ready for the template."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hiermodels.show.plots.style import root
from hiermodels.show.reporting.words import number

#: Columns that say nothing of some rows: a rival without such a parameter, another scale.
MAY_LACK = ("reml", "ml", "laplace", "complete", "var_prop")
#: Dots an inch of pictures: sharp in print and on dense screens.
DPI = 200


@dataclass(frozen=True)
class Block:
    """A piece of a section; ``kind`` tells the template how to write ``value``."""

    kind: str
    value: object


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    id: str
    name: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Heading:
    """A column's name, and whether its cells are numbers."""

    name: str
    number: bool


@dataclass(frozen=True)
class Table:
    """Cells as text."""

    caption: str
    columns: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture inside the page, in CSS pixels, with words for those who cannot see it."""

    uri: str
    width: int
    height: int
    alt: str
    note: str


def text(value: str) -> Block:
    """Return a paragraph."""
    return Block("text", value)


def heading(value: str) -> Block:
    """Return a heading within a section."""
    return Block("heading", value)


def table(
    frame: pd.DataFrame,
    caption: str,
    names: Mapping[str, str] | None = None,
    *,
    index: str | None = None,
    hidden: bool = False,
) -> Block:
    """Return a data frame as a block.

    Parameters
    ----------
    frame : pandas.DataFrame
    caption : str
    names : mapping of str to str, optional
        Columns to show and what to call them; all as they are by default.
    index : str, optional
        What to call the index; without it the index is not shown.
    hidden : bool
        Whether the table stays folded until it is asked for.
    """
    shown = names or {str(c): str(c) for c in frame.columns}
    kept = frame[list(shown)]
    headings = [Heading(n, pd.api.types.is_numeric_dtype(kept[c])) for c, n in shown.items()]
    cells = [
        [_cell(c, v) for c, v in zip(shown, row, strict=True)] for row in kept.to_numpy(object)
    ]
    if index is not None:
        headings.insert(0, Heading(index, number=False))
        cells = [[str(i), *row] for i, row in zip(frame.index, cells, strict=True)]
    value = Table(caption, tuple(headings), tuple(tuple(row) for row in cells))
    return Block("hidden" if hidden else "table", value)


def _cell(column: str, value: object) -> str:
    """Return a cell's text: whole effective sample sizes, R-hat to a thousandth, shares in %."""
    if isinstance(value, float) and value == value:
        if column.startswith("ess"):
            return f"{value:,.0f}"
        if column.startswith("rows_"):
            return f"{value:,.10g}"
        if column == "r_hat":
            return f"{value:.3f}"
        if column == "var_prop":
            return f"{100 * value:.1f} %"
    if isinstance(value, float) and value != value and column in ("no_pool", "no_pool_se"):
        return "none"
    if isinstance(value, float) and value != value and column in MAY_LACK:
        return ""
    return number(value)


def rows_table(rows: Sequence[tuple[str, ...]], caption: str, names: Sequence[str]) -> Block:
    """Return rows of text as a block."""
    columns = tuple(Heading(n, number=False) for n in names)
    return Block("table", Table(caption, columns, tuple(rows)))


def picture(drawn: Figure | Axes, alt: str, note: str = "") -> Block:
    """Return a figure as a block: PNG within the page.

    Parameters
    ----------
    drawn : Figure or Axes
    alt : str
        What is seen, with numbers.
    note : str
        A line below the picture.
    """
    figure = root(drawn) if isinstance(drawn, Axes) else drawn
    width, height = figure.get_size_inches()
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Names in scripts that Matplotlib's own font lacks: boxes are better than no report.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    uri = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return Block("picture", Picture(uri, round(96 * width), round(96 * height), alt, note))

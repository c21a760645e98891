"""The Python blocks of a page: found, run in order in one namespace, and answered by what they say.

A block is what stands between a fence ``python`` and its end. After ``python`` may stand

- ``figure="words"``: the block's last expression is a picture, which ``words`` describe to those
  who cannot see it; it is placed under the block;
- ``raises="Name"``: the block ends in this error, whose message is shown;
- ``warns="Name"``: the block gives this warning, whose message is shown.

What a block prints, and the value of its last expression, is shown under it, as at the prompt.
"""

import ast
import contextlib
import io
import re
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FENCE = re.compile(
    r"^(?P<indent> *)```python(?P<options>[^\n`]*)\n(?P<code>.*?)\n(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
OPTION = re.compile(r'(\w+)="([^"]*)"')
OPTIONS = ("figure", "raises", "warns")
_CHANCE = "chains do not quite agree yet"
WIDTH = 92
LONGEST_MARK = 12
DISPLAY = {
    "display.width": WIDTH,
    "display.max_columns": 20,
    "display.max_rows": 14,
    "display.float_format": "{:.4g}".format,
}
# The same drawing gives the same file: names inside it are made from this.
DRAWING: dict[Any, Any] = {"svg.hashsalt": "hiermodels", "figure.dpi": 100}


class PageError(Exception):
    """A block of a page that does not do what the page says."""


@dataclass(frozen=True)
class CodeBlock:
    """A Python block of a page.

    Attributes
    ----------
    page : str
    number : int
        From 1, in the page's order.
    line : int
        Of the fence, in the page.
    indent : str
    code : str
        Without the indent.
    options : dict of str to str
    start, end : int
        Where the block stands in the page's text.
    """

    page: str
    number: int
    line: int
    indent: str
    code: str
    options: dict[str, str]
    start: int
    end: int

    @property
    def place(self) -> str:
        """The block in words, for messages."""
        return f"{self.page}, line {self.line} (block {self.number})"


@dataclass(frozen=True)
class Outcome:
    """What a block said: text, and a picture as SVG where it drew one."""

    block: CodeBlock
    text: str
    svg: bytes | None


def find_blocks(page: str, text: str) -> tuple[CodeBlock, ...]:
    """Return the Python blocks of a page.

    Parameters
    ----------
    page : str
        The page's name, for messages.
    text : str
        Its Markdown.

    Raises
    ------
    PageError
        An option is misspelt, or a fence is not closed.
    """
    found = []
    for number, match in enumerate(FENCE.finditer(text), start=1):
        line = text.count("\n", 0, match.start()) + 1
        given = match["options"].strip()
        options = dict(OPTION.findall(given))
        if OPTION.sub("", given).strip() or not set(options) <= set(OPTIONS):
            raise PageError(f"{page}, line {line}: after python stands {given!r}; see code_blocks")
        code = textwrap.dedent(match["code"])
        found.append(
            CodeBlock(
                page, number, line, match["indent"], code, options, match.start(), match.end()
            )
        )
    opened = len(re.findall(r"^ *```python", text, re.MULTILINE))
    if opened != len(found):
        raise PageError(f"{page}: {opened} Python blocks are opened, {len(found)} are whole")
    return tuple(found)


def run_blocks(page: str, text: str) -> Iterator[Outcome]:
    """Run the blocks of a page in one namespace, in an empty folder, and yield what each says.

    Raises
    ------
    PageError
        A block fails, warns, or does not fail or warn where the page says so.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        matplotlib.rc_context(DRAWING),
        pd.option_context(DISPLAY),
    ):
        for block in find_blocks(page, text):
            yield _run(block, namespace)


def _run(block: CodeBlock, namespace: dict[str, Any]) -> Outcome:
    """Return what a block says, having run it in the namespace."""
    said = io.StringIO()
    error: Exception | None = None
    value = None
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        try:
            value = _value(block, namespace)
        except Exception as raised:  # whatever it is, the page's place is added to it
            error = raised
    _check_error(block, error)
    # chance carries an R-hat over 1.01 in one of some hundred fits, and other machines draw others
    ours = [
        w
        for w in warned
        if w.category.__module__.startswith("hiermodels") and _CHANCE not in str(w.message)
    ]
    _check_warnings(block, [w.category.__name__ for w in ours])
    parts = [said.getvalue().rstrip()]
    if error is not None:
        parts.append(f"{type(error).__name__}: {error}")
    parts += [f"{w.category.__name__}: {w.message}" for w in ours]
    svg = None
    if isinstance(value, Figure | Axes):
        svg = _svg(block, value)
    elif "figure" in block.options:
        raise PageError(f"{block.place}: the last expression is no picture but {value!r}")
    elif value is not None:
        parts.append(repr(value))
    return Outcome(block, _wrapped("\n".join(part for part in parts if part)), svg)


def _wrapped(text: str) -> str:
    """Return the text with long sentences on several lines; tables stay as they are."""
    lines = []
    for line in text.split("\n"):
        # A table has gaps between its columns; a sentence has one after its mark at the most.
        if len(line) > WIDTH and "  " not in line[LONGEST_MARK:]:
            indent = " " * (len(line) - len(line.lstrip()) + 2 if line[:1] == " " else 0)
            lines += textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False)
        else:
            lines.append(line)
    return "\n".join(lines)


def _value(block: CodeBlock, namespace: dict[str, Any]) -> Any:
    """Return the value of the block's last expression, None where it ends in a statement."""
    tree = ast.parse(block.code, filename=block.place)
    last = None
    if tree.body and isinstance(final := tree.body[-1], ast.Expr):
        last = ast.Expression(final.value)
        del tree.body[-1]
    exec(compile(tree, block.place, "exec"), namespace)
    return None if last is None else eval(compile(last, block.place, "eval"), namespace)


def _check_error(block: CodeBlock, error: Exception | None) -> None:
    """Raise where the block's error is not the one that the page shows."""
    wanted = block.options.get("raises")
    got = None if error is None else type(error).__name__
    if got != wanted:
        raise PageError(f"{block.place}: raises {got}, not {wanted}: {error}") from error


def _check_warnings(block: CodeBlock, names: list[str]) -> None:
    """Raise where the package's warnings are not the one that the page shows."""
    wanted = block.options.get("warns")
    if set(names) != ({wanted} if wanted else set()):
        raise PageError(f"{block.place}: warns {names}, not {wanted}")


def _svg(block: CodeBlock, value: Figure | Axes) -> bytes:
    """Return the picture as a file."""
    if not block.options.get("figure"):
        raise PageError(f"{block.place}: draws a picture that no words describe (figure=)")
    figure = value.get_figure(root=True) if isinstance(value, Axes) else value
    if figure is None:
        raise PageError(f"{block.place}: the axes stand in no figure")
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close("all")
    return file.getvalue()

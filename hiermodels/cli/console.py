"""What the command line prints: tables, the package's messages, errors as one line."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hiermodels.errors import SamplingWarning


class _Unheard(Console):
    """A console that falls silent when its reader has gone, as in ``hiermodels fit ... | head``."""

    def on_broken_pipe(self) -> None:
        """Print nothing more, so that the files that were asked for are written all the same."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_MOST_ROWS = 40
_out = _Unheard()
_err = Console(stderr=True)

_TITLES = {
    "fixef": "Population coefficients",
    "varcorr": "Variance components",
    "correlations": "Correlations of the group effects",
    "ranef": "Group effects (deviations from the population)",
}


def print_table(name: str, frame: pd.DataFrame) -> None:
    """Print the first rows of a table, and say how many there are."""
    if frame.empty:
        return
    shown = frame.head(_MOST_ROWS)
    more = len(frame) - len(shown)
    caption = f"the first {len(shown)} of {len(frame):,} rows" if more else None
    # Light rules and narrow gaps: eight columns of numbers have to fit a terminal of 80 characters.
    table = Table(
        title=_TITLES[name], caption=caption, box=SIMPLE_HEAD, title_justify="left",
        collapse_padding=True,
    )  # fmt: skip
    labelled = shown.reset_index() if shown.index.name else shown
    for column in labelled.columns:
        numeric = pd.api.types.is_numeric_dtype(labelled[column])
        # Where there is no room, names are folded; a number is never cut.
        table.add_column(
            Text(str(column)), justify="right" if numeric else "left", no_wrap=numeric,
            overflow="fold",
        )  # fmt: skip
    for row in labelled.itertuples(index=False):
        cells = zip(row, labelled.columns, strict=True)
        table.add_row(*(Text(cell(value, str(column))) for value, column in cells))
    _out.print(table)


def cell(value: object, column: str) -> str:
    """Return a number with four digits, sample sizes and R-hat as usual, all else as text."""
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "–"
    if column == "r_hat":
        return f"{value:.3f}"
    if column.startswith("ess_") or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".")


def is_terminal() -> bool:
    """Return whether somebody can watch a progress bar."""
    return _err.is_terminal


@contextlib.contextmanager
def messages() -> Iterator[None]:
    """Send the package's log and its warnings to stderr as plain lines."""
    logger = logging.getLogger("hiermodels")
    handler = logging.StreamHandler(sys.stderr)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            usual = warnings.showwarning

            def show(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                if issubclass(category, SamplingWarning):
                    print(f"warning: {message}", file=sys.stderr)
                else:
                    usual(message, category, filename, lineno, file, line)

            warnings.simplefilter("always", SamplingWarning)
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def say(text: str) -> None:
    """Print a text as it is."""
    _out.print(text, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, code: int) -> int:
    """Print one line on stderr and return the exit code."""
    print(f"hiermodels: error: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """Return a message as one line; a place underlined by ^ is put between » and «."""
    lines: list[str] = []
    for line in message.splitlines():
        marks = line.strip()
        if lines and marks and set(marks) == {"^"}:
            start = line.index("^")
            above = lines.pop().ljust(start)
            end = start + len(marks)
            line = f"{above[:start]}»{above[start:end]}«{above[end:]}"
        lines.append(line)
    return " ".join(" ".join(lines).split())

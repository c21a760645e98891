"""Data of any kind to a design: held as rows where they fit in memory, streamed where not."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from operator import add
from typing import Any, Final

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from hiermodels.errors import DataError
from hiermodels.spec.collapsing import collapse
from hiermodels.spec.design import Design, build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import Dropped
from hiermodels.spec.grouping import Covariances
from hiermodels.spec.kept_rows import check_expressions
from hiermodels.spec.opening import frame_within, is_list_of_paths, open_stream
from hiermodels.spec.reading import Reading
from hiermodels.spec.streamable import has_products
from hiermodels.spec.streaming import Progress as Report
from hiermodels.spec.streaming import schema_of, stream_design
from hiermodels.spec.streams import Stream
from hiermodels.spec.survey import make_plan

# A design takes about so many times the bytes of the columns that it is made from.
_COPIES: Final = 10


def read_design(
    formula: ModelFormula,
    data: Any,
    family: Family,
    covariances: Covariances | None,
    memory: int,
    progress: bool,
) -> Design:
    """Return the design of a data frame, or of a source: with rows, or without them.

    Parameters
    ----------
    formula : ModelFormula
    data : object
        As :class:`hiermodels.Model` takes it.
    family : Family
    covariances : mapping, optional
    memory : int
        Bytes that the rows of a source may take.
    progress : bool

    Raises
    ------
    FormulaError, DataError, EngineError
        With the file or partition where it is one's.
    """
    if isinstance(data, pd.DataFrame) or _is_plain(data):
        return build_design(formula, data, family, covariances)
    stream = open_stream(data).settled(formula.columns)
    plan = make_plan(formula, schema_of(stream))
    started = time.perf_counter()
    frame = frame_within(stream, plan.columns, memory // _COPIES)
    if frame is not None:
        design = build_design(formula, frame, family, covariances)
        seconds = (time.perf_counter() - started,)
        reading = Reading(stream.description, len(frame), stream.n_parts, seconds, 0)
        return replace(design, reading=reading)
    with _reports(progress, *stream.counts) as report:
        if has_products(family):
            return stream_design(formula, stream, family, report, covariances)
        return _collapsed(formula, stream, family, covariances, memory // _COPIES, report)


def _collapsed(
    formula: ModelFormula,
    stream: Stream,
    family: Family,
    covariances: Covariances | None,
    limit: int,
    report: Report | None,
) -> Design:
    """Return the design of a source's distinct rows, weighted by their numbers."""
    started = time.perf_counter()
    each = None if report is None else partial(report, "distinct rows")
    weighted, frame, count, missing, read = collapse(formula, stream, family, limit, each)
    try:
        design = build_design(weighted, frame, family, covariances, count)
    except DataError:
        # of a distinct row; a number that is not finite has a row of its own in the source
        columns = tuple(dict.fromkeys(formula.columns))
        stream.fold(partial(check_expressions, formula, columns), add, columns)
        raise
    seconds = (time.perf_counter() - started,)
    kept = int(frame[count].sum())
    reading = Reading(stream.description, read, stream.n_parts, seconds, len(frame), "distinct row")
    return replace(design, reading=reading, dropped=Dropped(read - kept, missing))


def _is_plain(data: Any) -> bool:
    """Return whether data are nothing that could be a source, so that the frame's check speaks."""
    plain = data is None or isinstance(data, int | float | dict | list | tuple)
    return plain and not is_list_of_paths(data)


@contextmanager
def _reports(wanted: bool, unit: str, total: int | None) -> Iterator[Report | None]:
    """Yield what the passes report to: a line on the terminal with what was read and time."""
    console = Console(stderr=True)
    if not wanted or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:,}} {unit}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def report(name: str, rows: int) -> None:
            nonlocal total
            if name not in tasks:
                if tasks and total is None:
                    # as many as the pass before
                    total = int(bar.tasks[-1].completed)
                    bar.update(bar.tasks[-1].id, total=total)
                tasks[name] = bar.add_task(f"Reading: {name}", total=total)
            bar.advance(tasks[name], rows)

        yield report

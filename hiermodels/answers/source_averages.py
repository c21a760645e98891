"""Comparisons and slopes averaged over the rows of a source, which stream through."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.column_sums import ColumnSums, is_linear
from hiermodels.answers.contrasted import Averages, Collected
from hiermodels.answers.measures import Measure, Measures, coded_points
from hiermodels.answers.new_levels import unseen
from hiermodels.answers.predicting import (
    LARGEST,
    Asked,
    categories_of,
    integration_notes,
    new_level_notes,
    values_at,
)
from hiermodels.answers.rows import Rows
from hiermodels.answers.source_rows import Chosen, chosen_columns, distinct_rows
from hiermodels.errors import DataError, FitError
from hiermodels.spec.design import Design, group_structures
from hiermodels.spec.functions import level_label
from hiermodels.spec.kept_rows import complete
from hiermodels.spec.streams import Chunk, Stream, summarise_named

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Numbers that the predictions of some rows may take.
_BLOCK: Final = 8_000_000
_MOST_POINTS: Final = 5


class _Sums(Protocol):
    """Sums over rows of what each measure averages."""

    error: float

    def add(self, number: int, measure: Measure, cells: Ints, counts: Floats) -> Rows:
        """Add the rows of a measure, and return them coded."""

    def averages(self, number: int, sizes: Floats) -> list[Floats]:
        """Return the averages (S, cells, K) of each part of a measure."""


def average_source(
    asked: Asked,
    collected: Collected,
    measures: Measures,
    stream: Stream,
    by: bool | str | Sequence[str],
) -> None:
    """Add comparisons or slopes, averaged over the complete rows of a source.

    Parameters
    ----------
    asked : Asked
    collected : Collected
        What they are added to.
    measures : Measures
    stream : Stream
    by : True, str or sequence of str
        Over all rows, or by columns.

    Raises
    ------
    DataError
        The source cannot be read, lacks a column, or holds what the fit has not seen; the message
        names the file.
    FitError
        There are too many averages for the draws.
    """
    names = () if by is True else (by,) if isinstance(by, str) else tuple(by or ())
    chosen = chosen_columns(asked, stream, names)
    linear = measures.linear and is_linear(asked.fit.model, asked.kind)
    sums: _Sums = ColumnSums(asked) if linear else _PredictionSums(asked)
    reader = _Reader(asked, measures, sums, chosen, None if linear else _step(asked))
    first = 0
    for chunk in stream.chunks(chosen.columns):
        numbered = Chunk(chunk.table, chunk.where, first)
        first += len(chunk.table)
        summarise_named(reader.read, numbered)
    if not reader.kept:
        raise DataError(
            f"{stream.description}: no row is left to average over, of {reader.rows:,} rows that "
            f"were read; the columns in use are {', '.join(chosen.columns) or 'none'}."
        )
    about, order = reader.cells.sorted(asked.fit.model.design)
    sizes = np.array(reader.cells.sizes)
    for number, (term, contrast, finish) in enumerate(reader.known):
        parts = sums.averages(number, sizes)
        result = finish([part[:, order] for part in parts])
        categories = categories_of(asked.fit, result.shape[2], asked.kind)
        collected.add(term, contrast, result, about, categories)
    counts = {name: len(labels) for name, labels in reader.new.items()}
    collected.note(reader.notes)
    collected.note([_reading_note(reader, stream)])
    collected.note(new_level_notes(counts, asked.effects.new_levels))
    collected.note(integration_notes(sums.error))


def _step(asked: Asked) -> int:
    """Return how many rows are predicted at a time."""
    levels = max(1, len(asked.fit.model.design.response_levels))
    return max(1, _BLOCK // (len(asked.take) * _MOST_POINTS * levels))


def _reading_note(reader: "_Reader", stream: Stream) -> str:
    """Return what was averaged over."""
    text = f"averages over {reader.kept:,} rows of {stream.description}"
    left = reader.rows - reader.kept
    return text if not left else f"{text}; {left:,} with missing values left out"


class _Cells:
    """The averages that were met: one a combination of columns' values, with their rows."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.sizes: list[float] = []

    def numbers_of(self, frame: pd.DataFrame, counts: Floats) -> Ints:
        """Return the average that each row belongs to (m,)."""
        averages = Averages.of(frame, self.names or True, counts)
        found = np.empty(len(averages.about), dtype=np.int64)
        values = averages.about[self.names].astype(object).itertuples(index=False, name=None)
        keys = list(values) if self.names else [()]
        for k, (key, size) in enumerate(zip(keys, averages.sizes, strict=True)):
            if key not in self.numbers:
                self.numbers[key] = len(self.numbers)
                self.sizes.append(0.0)
            found[k] = self.numbers[key]
            self.sizes[found[k]] += float(size)
        return found[averages.cell]

    def sorted(self, design: Design) -> tuple[pd.DataFrame, Ints]:
        """Return what the averages are of, in order, and where they stood before."""
        if not self.names:
            return pd.DataFrame(index=[0]), np.zeros(1, dtype=np.int64)
        about = pd.DataFrame(list(self.numbers), columns=self.names)
        known = _known_orders(design)

        def place(column: "pd.Series[Any]") -> "pd.Series[Any]":
            order = known.get(str(column.name))
            if order is None:
                return column
            last = len(order)
            return column.map(lambda value: order.get(level_label(value), last))

        found = about.sort_values(self.names, key=place, kind="stable")
        return found.reset_index(drop=True), found.index.to_numpy(dtype=np.int64)


def _known_orders(design: Design) -> dict[str, dict[str, int]]:
    """Return the place of each level of the columns that the fit knows as factors or groupings."""
    found: dict[str, dict[str, int]] = {}
    for name, levels in design.encoding.levels.items():
        if levels is not None:
            found[name] = {label: k for k, label in enumerate(levels.labels)}
    structures = group_structures(design)
    for group in design.groups:
        columns = structures[group.name].columns
        if len(columns) == 1:
            found[columns[0]] = {label: k for k, label in enumerate(group.levels)}
    return found


class _Reader:
    """What reads chunks, and what it has met."""

    def __init__(
        self, asked: Asked, measures: Measures, sums: _Sums, chosen: Chosen, step: int | None
    ) -> None:
        self.asked, self.measures, self.sums, self.chosen = asked, measures, sums, chosen
        self.step = step
        self.cells = _Cells(chosen.by)
        self.known: list[tuple[str, str, Any]] = []
        self.new: dict[str, set[str]] = {}
        self.notes: dict[str, None] = {}
        self.rows = self.kept = 0
        self.merge = True

    def read(self, chunk: Chunk) -> None:
        """Add a chunk's complete rows."""
        kept, _ = complete(chunk.table, self.chosen.columns)
        self.rows += len(chunk.table)
        self.kept += len(kept)
        if not len(kept):
            return
        frame, counts = distinct_rows(kept, self.chosen.columns, merge=self.merge)
        # rows that are all different are not looked at for equal ones again
        self.merge = len(frame) < 0.5 * len(kept)
        cells = self.cells.numbers_of(frame, counts)
        self._check_size()
        step = self.step or len(frame)
        for start in range(0, len(frame), step):
            rows = slice(start, start + step)
            self._add(frame.iloc[rows].reset_index(drop=True), cells[rows], counts[rows])

    def _add(self, frame: pd.DataFrame, cells: Ints, counts: Floats) -> None:
        """Add some rows."""
        for number, measure in enumerate(self.measures.of(frame)):
            if number == len(self.known):
                self.known.append((measure.term, measure.contrast, measure.finish))
            rows = self.sums.add(number, measure, cells, counts)
            self.notes |= dict.fromkeys(rows.notes)
            for name, levels in rows.levels.items():
                self.new.setdefault(name, set()).update(unseen(levels))

    def _check_size(self) -> None:
        """Raise FitError where the averages of all draws are too many numbers."""
        levels = max(1, len(self.asked.fit.model.design.response_levels))
        draws, cells = len(self.asked.take), len(self.cells.sizes)
        size = 8 * draws * cells * levels * 2 * max(1, len(self.known))
        if size > LARGEST:
            raise FitError(
                f"by={list(self.chosen.by)!r} makes {cells:,} averages or more, of {draws:,} draws "
                f"each: {size / 1e9:.1f} GB. Name columns of fewer values, or ask for fewer draws, "
                "such as draws=100."
            )


class _PredictionSums:
    """Sums of what measures make of each row's predictions."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.error = 0.0
        self.sums: dict[tuple[int, int], dict[int, Floats]] = {}

    def add(self, number: int, measure: Measure, cells: Ints, counts: Floats) -> Rows:
        """Add the rows of a measure, and return them coded."""
        points = range(len(measure.frames))
        rows = coded_points(self.asked, measure, points)
        found = values_at(self.asked, rows)
        self.error = max(self.error, found.error)
        values = found.draws.reshape(len(found.draws), len(points), len(cells), -1)
        used, own = np.unique(cells, return_inverse=True)
        averages = Averages(own, pd.DataFrame(index=range(len(used))), counts)
        for part, made in enumerate(measure.parts(values)):
            into = self.sums.setdefault((number, part), {})
            sums = averages.sums(made)
            for k, cell in enumerate(used):
                before = into.get(int(cell))
                into[int(cell)] = sums[:, k].copy() if before is None else before + sums[:, k]
        return rows

    def averages(self, number: int, sizes: Floats) -> list[Floats]:
        """Return the averages (S, cells, K) of each part of a measure."""
        parts = sorted(part for own, part in self.sums if own == number)
        every = [self.sums[number, part] for part in parts]
        return [
            np.stack([own[cell] / sizes[cell] for cell in range(len(sizes))], axis=1)
            for own in every
        ]

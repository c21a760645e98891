"""Which columns of a source a prediction needs, and its rows as frames, equal ones counted."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from hiermodels.answers.predicting import Asked
from hiermodels.errors import DataError, FitError
from hiermodels.spec.column_kinds import TEXT, kind_of, plain_type
from hiermodels.spec.design import Design, group_structures
from hiermodels.spec.streaming import schema_of
from hiermodels.spec.streams import Stream

Floats = npt.NDArray[np.float64]
_COUNT = "__count__"


@dataclass(frozen=True)
class Chosen:
    """The columns of a source that are read.

    Attributes
    ----------
    columns : tuple of str
    by : tuple of str
        Those by which is averaged.
    """

    columns: tuple[str, ...]
    by: tuple[str, ...]


def chosen_columns(asked: Asked, stream: Stream, by: Sequence[str]) -> Chosen:
    """Return the columns that predictions need, and those that help where they are there.

    Raises
    ------
    DataError
        A column that is needed is not there.
    FitError
        A column by which is averaged is not there.
    """
    known = schema_of(stream)
    for name in by:
        if name not in known:
            raise FitError(
                f"got by={list(by)!r}; allowed are True and columns of the source, which are "
                f"{', '.join(list(known)[:12])}."
            )
    needed, helpful = needed_columns(asked.fit.model.design, asked.names, asked.wanted)
    check_columns(stream, known, needed)
    columns = (*needed, *(name for name in helpful if name in known), *by)
    return Chosen(tuple(dict.fromkeys(columns)), tuple(by))


def needed_columns(
    design: Design, parameters: Sequence[str], groups: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the columns of predictors, offsets and groupings, and those that may lack.

    Parameters
    ----------
    design : Design
    parameters : sequence of str
        Whose linear predictors are asked for; the mean's name is empty.
    groups : sequence of str
        Groupings whose effects are asked for.
    """
    needed: list[str] = []
    for name in parameters:
        encoding = design.encoding.parameters[name] if name else design.encoding
        needed += encoding.levels
        needed += [column for offset in encoding.offsets for column in offset.columns]
    helpful: list[str] = []
    structures = group_structures(design)
    for name in groups:
        structure = structures[name]
        needed += structure.columns
        needed += [column for weight in structure.weights for column in weight.columns]
        helpful += [structure.by] if structure.by else []
    trials = design.formula.additions.get("trials")
    helpful += [] if trials is None else trials.expression.columns
    if design.formula.counts:
        helpful += design.formula.response.columns
    return needed, helpful


def check_columns(stream: Stream, known: Container[str], needed: Iterable[str]) -> None:
    """Raise DataError where a source lacks a column that is needed."""
    for name in needed:
        if name not in known:
            raise DataError(
                f"{stream.description} has no column {name!r}, which the fit's formula needs; its "
                f"columns are {', '.join(map(repr, stream.names[:12]))}."
            )


def distinct_rows(
    table: pa.Table, columns: Sequence[str], *, merge: bool
) -> tuple[pd.DataFrame, Floats]:
    """Return complete rows as a frame, and for how many rows each of its rows stands.

    Parameters
    ----------
    table : pyarrow.Table
    columns : sequence of str
    merge : bool
        Whether rows that agree in every column become one.
    """
    kept = table.select(list(columns))
    if not merge:
        return _as_frame(kept), np.ones(len(kept))
    plain = [
        column.cast(plain_type(column.type)) if kind_of(column.type) != str(column.type) else column
        for column in kept.columns
    ]
    rows = pa.table([*plain, pa.array(np.ones(len(kept)))], names=[*columns, _COUNT])
    found = rows.group_by(list(columns)).aggregate([(_COUNT, "sum")])
    counts = found.column(f"{_COUNT}_sum").to_numpy()
    return _as_frame(found.select(list(columns))), np.asarray(counts, dtype=np.float64)


def _as_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame; text by its distinct values, not row by row."""
    columns = [
        column.dictionary_encode() if kind_of(column.type) == TEXT else column
        for column in table.columns
    ]
    made = pa.table(columns, names=table.column_names).unify_dictionaries()
    frame: pd.DataFrame = made.to_pandas(ignore_metadata=True)
    return frame

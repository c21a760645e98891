"""The complete rows of a chunk, what they are called, and whether expressions are finite there."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hiermodels.spec.coding import check_finite, evaluate
from hiermodels.spec.expressions import Expression
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.recorders import has_state
from hiermodels.spec.streams import Chunk


def complete(table: pa.Table, columns: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Return the rows without a missing value, and missing values by column."""
    missing: dict[str, int] = {}
    whole = None
    for name, gaps in _gaps(table, columns):
        count = pc.sum(gaps).as_py() or 0
        if count:
            missing[name] = count
            whole = gaps if whole is None else pc.or_(whole, gaps)
    return (table if whole is None else table.filter(pc.invert(whole))), missing


def row_index(chunk: Chunk, kept: pa.Table, columns: Sequence[str]) -> "pd.Index[Any]":
    """Return the numbers that the complete rows of a chunk have in their file or partition."""
    if len(kept) == len(chunk.table):
        return pd.RangeIndex(chunk.first, chunk.first + len(kept))
    whole = np.ones(len(chunk.table), dtype=bool)
    for _, gaps in _gaps(chunk.table, columns):
        whole &= ~gaps.to_numpy()
    return pd.Index(chunk.first + np.flatnonzero(whole))


def _gaps(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield whether each row misses a value, by column; those that miss none are left out."""
    for name in columns:
        column = table.column(name)
        floating = pa.types.is_floating(column.type)
        if floating or column.null_count:
            yield name, pc.is_null(column, nan_is_null=floating)


def check_expressions(formula: ModelFormula, columns: Sequence[str], chunk: Chunk) -> int:
    """Return the number of complete rows of a chunk, whose numbers are all finite.

    Parameters
    ----------
    formula : ModelFormula
    columns : sequence of str
        Those in use.
    chunk : Chunk

    Raises
    ------
    DataError
        A number, or an expression of numbers, is not finite; the message names the row.
    """
    kept, _ = complete(chunk.table, columns)
    index = row_index(chunk, kept, columns)
    for name in columns:
        if pa.types.is_floating(kept.schema.field(name).type):
            check_finite(kept.column(name).to_numpy().astype(np.float64), name, index)
    for own in (formula.response, *formula.offsets, *formula.factors.values()):
        if len(kept) and not own.plain and _of_numbers(own, kept) and not has_state(own):
            values = {
                name: pd.Series(
                    np.asarray(kept.column(name).to_numpy(), dtype=np.float64), index, name=name
                )
                for name in own.columns
            }
            check_finite(np.asarray(evaluate(own, values, {}), dtype=float), own.label, index)
    return len(kept)


def _of_numbers(expression: Expression, table: pa.Table) -> bool:
    """Return whether an expression is computed from numbers alone."""
    kinds = [table.schema.field(name).type for name in expression.columns]
    return all(pa.types.is_floating(kind) or pa.types.is_integer(kind) for kind in kinds)

"""Rows that agree in every column, counted together: a source beyond memory as a weighted frame."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.column_kinds import kind_of, plain_type
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula, parse_formula
from hiermodels.spec.kept_rows import complete
from hiermodels.spec.streamable import check_collapsible
from hiermodels.spec.streams import Chunk, Report, Stream
from hiermodels.spec.survey import Order, join_orders, no_row_left
from hiermodels.spec.whole import Counted, Stands

Array = NDArray[np.float64]
_COUNTS = tuple(f"n_rows{'_' * k}" for k in range(9))
# distinct rows, missing values by column, rows read, and the orders of factors' levels
_Found = tuple[pa.Table, dict[str, int], int, dict[str, Order]]


def collapse(
    formula: ModelFormula, stream: Stream, family: Family, limit: int, report: Report | None
) -> tuple[ModelFormula, pd.DataFrame, str, dict[str, int], int]:
    """Return the distinct rows of a source with their numbers, in one pass.

    Parameters
    ----------
    formula : ModelFormula
    stream : Stream
    family : Family
    limit : int
        Bytes that the distinct rows may take.
    report : callable, optional

    Returns
    -------
    formula : ModelFormula
        With likelihood weights.
    frame : pandas.DataFrame
    count : str
        The column that says how many rows each stands for.
    missing : dict of str to int
        Missing values by column.
    read : int
        Rows read.

    Raises
    ------
    DataError
        The distinct rows are beyond memory; the message says how many were found.
    EngineError, FormulaError
        The formula needs more than distinct rows.
    """
    check_collapsible(formula, family)
    weights = formula.additions.get("weights")
    column = None if weights is None else weights.expression.columns[0]
    keys = tuple(name for name in dict.fromkeys(formula.columns) if name != column)
    count = next(n for n in _COUNTS if n not in formula.columns)
    summarise = partial(_distinct, keys, column, count)
    add = partial(_joined, keys, column, count, limit, stream.description)
    found = stream.fold(summarise, add, tuple(dict.fromkeys(formula.columns)), report)
    if found is None or not found[2]:
        raise DataError("The source has no rows; a model needs some.")
    if not len(found[0]):
        raise no_row_left(found[2], found[1])
    table, missing, read, orders = found
    frame = table.to_pandas(ignore_metadata=True)
    # the sums over threads come in any order
    frame = frame.sort_values(list(keys), ignore_index=True)
    for name, (levels, agree, ordered) in orders.items():
        if agree and pa.types.is_dictionary(stream.schema.field(name).type):
            frame[name] = pd.Categorical(frame[name], list(levels), ordered=ordered)
    if column is None:
        formula = _weighted(formula, count)
    return formula, frame, count, missing, read


def formula_of_rows(formula: ModelFormula, weights: Array | None, whole: Stands) -> ModelFormula:
    """Return a formula as it is for single rows: without their numbers as likelihood weights.

    Parameters
    ----------
    formula : ModelFormula
        As :func:`collapse` returned it, or of rows that were not counted.
    weights : ndarray or None
        The likelihood's.
    whole : Counted or None
    """
    addition = formula.additions.get("weights")
    if addition is None or weights is None or not isinstance(whole, Counted):
        return formula
    own = addition.expression.columns
    if len(own) != 1 or own[0] not in _COUNTS or not np.array_equal(weights, whole.counts):
        # the user's
        return formula
    others = {name: own for name, own in formula.additions.items() if name != "weights"}
    return replace(formula, additions=others)


def _distinct(keys: tuple[str, ...], weight: str | None, count: str, chunk: Chunk) -> _Found:
    """Return a chunk's distinct complete rows with their numbers; a pure function."""
    names = (*keys, weight) if weight else keys
    kept, missing = complete(chunk.table, names)
    columns = [
        kept.column(n).cast(plain_type(kept.column(n).type))
        if kind_of(kept.column(n).type) != str(kept.column(n).type)
        else kept.column(n)
        for n in names
    ]
    ones = pa.array(np.ones(len(kept), dtype=np.int64))
    table = pa.table([*columns, ones], names=[*names, count])
    return _grouped(table, keys, weight, count), missing, len(chunk.table), _orders(kept, keys)


def _orders(kept: pa.Table, keys: tuple[str, ...]) -> dict[str, Order]:
    """Return the levels of factors in the order of their dictionaries."""
    found: dict[str, Order] = {}
    for name in keys:
        column = kept.column(name)
        if pa.types.is_dictionary(column.type) and len(column):
            levels = column.unify_dictionaries().chunk(0).dictionary.to_pylist()
            found[name] = (tuple(levels), True, bool(column.type.ordered))
    return found


def _grouped(table: pa.Table, keys: tuple[str, ...], weight: str | None, count: str) -> pa.Table:
    """Return distinct rows with the sums of their numbers and weights."""
    sums = [count] if weight is None else [count, weight]
    found = table.group_by(list(keys)).aggregate([(name, "sum") for name in sums])
    return found.rename_columns([name.removesuffix("_sum") if name not in keys else name
                                 for name in found.column_names])  # fmt: skip


def _joined(
    keys: tuple[str, ...],
    weight: str | None,
    count: str,
    limit: int,
    source: str,
    a: _Found,
    b: _Found,
) -> _Found:
    """Return the distinct rows of both; a pure function."""
    table = pa.concat_tables([a[0], b[0]], promote_options="permissive")
    table = _grouped(table, keys, weight, count)
    if table.nbytes > limit:
        raise DataError(
            f"After {a[2] + b[2]:,} rows of {source} there are {len(table):,} distinct ones, more "
            "than memory takes: rows of this family are kept where many agree in every column of "
            "the formula. Round predictors, leave numeric ones out, or hold the rows: "
            "hm.Model(formula, source, memory='64 GB')."
        )
    missing = {n: a[1].get(n, 0) + b[1].get(n, 0) for n in {**a[1], **b[1]}}
    orders = dict(a[3])
    for name, order in b[3].items():
        orders[name] = join_orders(orders[name], order) if name in orders else order
    return table, missing, a[2] + b[2], orders


def _weighted(formula: ModelFormula, count: str) -> ModelFormula:
    """Return the formula with the rows' numbers as likelihood weights."""
    response, _, right = formula.text.partition("~")
    joint = "+" if formula.additions else "|"
    return parse_formula(f"{response.strip()} {joint} weights({count}) ~{right}")

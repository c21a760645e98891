"""The first pass over a source: levels, missing values, and what functions learn of all rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hiermodels.errors import DataError, EngineError, UnknownColumnError
from hiermodels.spec.bases import MAX_CLASSES
from hiermodels.spec.coding import check_finite
from hiermodels.spec.column_kinds import (
    FACTOR,
    KINDS,
    NUMBERS,
    WHOLE,
    common_type,
    kind_of,
    plain_type,
)
from hiermodels.spec.expressions import Expression, unknown_column
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_groups, as_predictor
from hiermodels.spec.recorders import Seen, add_seen, has_state, record
from hiermodels.spec.streams import Chunk

Ints = NDArray[np.intp]
_SAMPLE: Final = 64
_LARGEST_SAMPLE: Final = 4096
# Whole numbers are levels' places where they spread over at most so many times their number.
_SPREAD: Final = 8
_LARGEST_WHOLE: Final = 2**62


@dataclass(frozen=True)
class Plan:
    """What of a formula's columns is looked at in the passes.

    Attributes
    ----------
    columns : tuple of str
        Every column in use.
    kinds : mapping of str to str
        What each holds.
    cells : tuple of str
        The columns whose combinations are the cells: of groupings, their subpopulations, and
        those that residual variances hang on.
    factors : tuple of str
        The columns that are factors where they predict.
    recorded : mapping of str to Expression
        The factors that depend on all rows at once, by label.
    series : tuple of str
        The columns that name the series of a residual structure, and its occasions.
    variances : tuple of str
        The numeric columns whose every value has a residual variance of its own.
    """

    columns: tuple[str, ...]
    kinds: Mapping[str, str]
    cells: tuple[str, ...]
    factors: tuple[str, ...]
    recorded: Mapping[str, Expression]
    series: tuple[str, ...] = ()
    variances: tuple[str, ...] = ()

    @property
    def coded(self) -> tuple[str, ...]:
        """The columns whose distinct values are collected."""
        return tuple(dict.fromkeys((*self.cells, *self.factors, *self.series)))


def make_plan(formula: ModelFormula, schema: Mapping[str, pa.DataType]) -> Plan:
    """Return what the passes look at.

    Raises
    ------
    UnknownColumnError
        The formula names a column that the source does not have.
    """
    for name in formula.columns:
        if name not in schema:
            message = unknown_column(name, list(schema))
            raise UnknownColumnError(f"{message} The formula is: {formula.text}")
        if kind_of(schema[name]) not in KINDS:
            raise DataError(
                f"The column {name!r} holds values of the type {schema[name]}; a formula needs "
                "numbers, text, truth values, factors, or dates as groups. Convert it beforehand."
            )
    kinds = {name: kind_of(schema[name]) for name in formula.columns}
    groups = [name for bar in formula.bars for name in bar.group]
    groups += [bar.structure.by for bar in formula.bars if bar.structure.by]
    spread = _variance_columns(formula)
    predictors = [name for own in formula.factors.values() for name in own.columns]
    predictors += formula.response.columns
    factors = [name for name in predictors if kinds[name] not in (NUMBERS, WHOLE)]
    return Plan(
        tuple(dict.fromkeys(formula.columns)),
        kinds,
        tuple(dict.fromkeys([*groups, *spread])),
        tuple(dict.fromkeys(factors)),
        {label: own for label, own in formula.factors.items() if has_state(own)},
        _series_columns(formula),
        tuple(n for n in dict.fromkeys(spread) if kinds[n] in (NUMBERS, WHOLE) and n not in groups),
    )


def _variance_columns(formula: ModelFormula) -> list[str]:
    """Return the columns that residual variances hang on: sigma's predictors, known errors."""
    names = [] if formula.sigma is None else list(formula.sigma.columns)
    se = formula.additions.get("se")
    return names + (list(se.expression.columns) if se is not None and se.with_sigma else [])


def _series_columns(formula: ModelFormula) -> tuple[str, ...]:
    """Return the columns of a residual structure whose levels are needed."""
    term = formula.residual
    if term is None:
        return ()
    occasions = term.structure == "unstr" and term.time is not None
    return (*term.group, *(term.time.columns if occasions and term.time else ()))


@dataclass(frozen=True, eq=False)
class Survey:
    """What the first pass knows.

    Attributes
    ----------
    read, kept : int
        Rows, and those without a missing value.
    missing : dict of str to int
        Missing values by column.
    distinct : dict of str to pyarrow.Array
        The values of coded columns.
    orders : dict of str to tuple
        Of factors: the levels in the order of their dictionaries, and whether these agree and
        are ordered.
    sample : pyarrow.Table
        Some complete rows.
    seen : dict of str to dict
        What functions of all rows met, by the factor's label and the call's text.
    """

    read: int
    kept: int
    missing: dict[str, int]
    distinct: dict[str, pa.Array]
    orders: dict[str, tuple[tuple[Any, ...], bool, bool]]
    sample: pa.Table
    seen: dict[str, dict[str, Seen]] = field(default_factory=dict)


def complete(table: pa.Table, columns: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Return the rows without a missing value, and missing values by column."""
    missing: dict[str, int] = {}
    whole = None
    for name in columns:
        column = table.column(name)
        floating = pa.types.is_floating(column.type)
        if not floating and column.null_count == 0:
            continue
        gaps = pc.is_null(column, nan_is_null=floating)
        count = pc.sum(gaps).as_py() or 0
        if count:
            missing[name] = count
            whole = gaps if whole is None else pc.or_(whole, gaps)
    return (table if whole is None else table.filter(pc.invert(whole))), missing


def survey_chunk(plan: Plan, chunk: Chunk) -> Survey:
    """Return what a chunk says; a pure function."""
    kept, missing = complete(chunk.table, plan.columns)
    _check_finite(kept, plan, chunk)
    distinct, orders = {}, {}
    for name in plan.coded:
        column = kept.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if pa.types.is_dictionary(column.type):
            if len(kept):
                levels = tuple(column.dictionary.to_pylist())
                orders[name] = (levels, True, bool(column.type.ordered))
            column = column.dictionary.take(pc.unique(column.indices))
        distinct[name] = pc.unique(column).cast(plain_type(column.type))
    for name in plan.variances:
        check_variances(name, len(distinct[name]), len(kept))
    step = max(1, -(-len(kept) // _SAMPLE))
    rows = np.arange(0, len(kept), step)
    sample = _plain(kept.select(list(plan.columns)).take(rows))
    seen = {}
    if plan.recorded and len(kept):
        columns = {
            name: _series(kept.column(name), plan.kinds[name], name)
            for own in plan.recorded.values()
            for name in own.columns
        }
        seen = {label: record(own, columns) for label, own in plan.recorded.items()}
    return Survey(len(chunk.table), len(kept), missing, distinct, orders, sample, seen)


def _check_finite(kept: pa.Table, plan: Plan, chunk: Chunk) -> None:
    """Raise DataError where a number is infinite."""
    for name in plan.columns:
        column = kept.column(name)
        if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py():
            index = pd.RangeIndex(chunk.first, chunk.first + len(kept))
            check_finite(column.to_numpy(), name, index)


def _plain(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries, which cannot be joined."""
    columns = [
        column.cast(plain_type(column.type)) if kind_of(column.type) == FACTOR else column
        for column in table.columns
    ]
    columns = [
        column.cast(plain_type(column.type)) if kind_of(column.type) in (WHOLE, NUMBERS) else column
        for column in columns
    ]
    return pa.table(columns, names=table.column_names)


def _series(column: Any, kind: str, name: str) -> "pd.Series[Any]":
    """Return a column as a predictor that functions of all rows are given."""
    return as_predictor(column.to_pandas().rename(name), name)


def add_surveys(a: Survey, b: Survey) -> Survey:
    """Return what two parts of a source say together; a pure function."""
    missing = dict(a.missing)
    for name, count in b.missing.items():
        missing[name] = missing.get(name, 0) + count
    distinct = {name: _union(a.distinct[name], b.distinct[name], name) for name in a.distinct}
    orders = dict(a.orders)
    for name, order in b.orders.items():
        orders[name] = join_orders(orders[name], order) if name in orders else order
    sample = pa.concat_tables([a.sample, b.sample], promote_options="permissive")
    if len(sample) > _LARGEST_SAMPLE:
        sample = sample.take(np.arange(0, len(sample), 2))
    seen = {label: dict(own) for label, own in a.seen.items()}
    for label, own in b.seen.items():
        into = seen.setdefault(label, {})
        for text, met in own.items():
            into[text] = add_seen(into[text], met) if text in into else met
    return Survey(a.read + b.read, a.kept + b.kept, missing, distinct, orders, sample, seen)


def _union(a: pa.Array, b: pa.Array, name: str) -> pa.Array:
    """Return the values that are in either."""
    if not len(a) or not len(b):
        return b if not len(a) else a
    if a.type != b.type:
        wider = common_type(a.type, b.type)
        try:
            a, b = a.cast(wider), b.cast(wider)
        except (pa.ArrowInvalid, TypeError) as error:
            raise DataError(
                f"The column {name!r} holds {a.type} in one part of the source and {b.type} in "
                "another, and no type holds the values of both exactly. Store it as one type."
            ) from error
    new = b.filter(pc.invert(pc.is_in(b, value_set=a)))
    return a if not len(new) else pa.concat_arrays([a, new])


def join_orders(
    a: tuple[tuple[Any, ...], bool, bool], b: tuple[tuple[Any, ...], bool, bool]
) -> tuple[tuple[Any, ...], bool, bool]:
    """Return levels in an order that both agree with, where there is one."""
    if a[0] == b[0]:
        return a[0], a[1] and b[1], a[2] and b[2]
    long, short = (a, b) if len(a[0]) >= len(b[0]) else (b, a)
    rest = iter(long[0])
    agree = all(level in rest for level in short[0])
    levels = (*long[0], *(level for level in short[0] if level not in set(long[0])))
    return levels, agree and a[1] and b[1], a[2] and b[2]


def check_variances(name: str, values: int, rows: int) -> None:
    """Raise EngineError where a column that residual variances hang on has too many values."""
    if values > MAX_CLASSES:
        raise EngineError(
            f"The residual variance hangs on {name!r}, which has {values:,} distinct values in "
            f"{rows:,} rows; of a source beyond memory cross-products are kept for each of at most "
            f"{MAX_CLASSES}. Round {name!r} or cut it into classes, or hold the rows: "
            "hm.Model(formula, source, memory='64 GB')."
        )


# --- levels ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Coding:
    """A column's values as numbered levels.

    Attributes
    ----------
    values : pyarrow.Array
        The value of each level.
    labels : tuple of str
    ordered : bool
    """

    values: pa.Array
    labels: tuple[str, ...]
    ordered: bool = False

    @cached_property
    def table(self) -> tuple[int, NDArray[np.int32]] | None:
        """Of whole numbers that lie close together: the least, and the level of each from there."""
        if not pa.types.is_integer(self.values.type) or not len(self.values):
            return None
        least, most = (value.as_py() for value in pc.min_max(self.values).values())
        if most - least >= _SPREAD * len(self.values) or most > _LARGEST_WHOLE:
            return None
        levels = np.full(most - least + 1, -1, dtype=np.int32)
        levels[self.values.to_numpy().astype(np.int64) - least] = np.arange(len(self.values))
        return least, levels

    def codes(self, column: Any) -> NDArray[np.int32]:
        """Return the level of each row of an Arrow column, -1 where it is none of these."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
        if self.table is not None and pa.types.is_integer(array.type):
            # no hash table of all levels for every chunk
            least, levels = self.table
            place = array.cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False) - least
            inside = (place >= 0) & (place < len(levels))
            known: NDArray[np.int32] = levels[np.where(inside, place, 0)]
            known[~inside] = -1
            return known
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            array = array.dictionary_encode()
        if pa.types.is_dictionary(array.type):
            known = pc.index_in(array.dictionary.cast(self.values.type), value_set=self.values)
            found = known.take(array.indices)
        else:
            found = pc.index_in(array.cast(self.values.type), value_set=self.values)
        codes: NDArray[np.int32] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        return codes.astype(np.int32, copy=False)

    def series(self, codes: Any, index: "pd.Index[Any]") -> "pd.Series[Any]":
        """Return a categorical of all levels."""
        dtype = pd.CategoricalDtype(pd.Index(self.labels, dtype=object), ordered=self.ordered)
        return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype), index=index)


def find_coding(survey: Survey, plan: Plan, name: str, grouping: bool) -> Coding:
    """Return the levels of a column, named and in order as in a data frame.

    Raises
    ------
    DataError
        The column holds what a factor or a grouping cannot.
    """
    distinct = survey.distinct[name]
    if name in plan.variances:
        check_variances(name, len(distinct), survey.kept)
        sizes = distinct.take(pc.sort_indices(distinct))
        return Coding(sizes, tuple(map(repr, sizes.to_pylist())))
    order, agree, ordered = survey.orders.get(name, ((), False, False))
    if plan.kinds[name] == FACTOR and agree:
        levels = pd.CategoricalDtype(pd.Index(list(order)), ordered=ordered)
        values: pd.Series[Any] = pd.Series(pd.Categorical(distinct.to_pylist(), dtype=levels))
    else:
        values = distinct.to_pandas()
    values = values.rename(name)
    if grouping or plan.kinds[name] in (NUMBERS, WHOLE):
        found = as_groups(values, name)
    else:
        found = as_predictor(values, name)
    if not isinstance(found.dtype, pd.CategoricalDtype):
        # a factor whose levels are numbers, in dictionaries that do not agree
        found = as_groups(values, name)
    codes = found.cat.codes.to_numpy()
    place = np.argsort(codes, kind="stable")
    labels = tuple(map(str, found.cat.categories.tolist()))
    return Coding(distinct.take(place), labels, bool(found.cat.ordered))


def check_kept(survey: Survey | None, plan: Plan) -> Survey:
    """Return the survey, or raise DataError where no row is left."""
    if survey is None or not survey.read:
        raise DataError("The source has no rows; a model needs some.")
    if not survey.kept:
        columns = ", ".join(f"{name} ({count})" for name, count in survey.missing.items())
        raise DataError(
            f"No row is left: every one of the {survey.read:,} rows has a missing value. "
            f"Missing by column: {columns}. Leave those columns out or fill them in."
        )
    return survey

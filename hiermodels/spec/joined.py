"""Parts of a table whose columns are stored differently, as one table."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hiermodels.errors import DataError
from hiermodels.spec.column_kinds import common_type, kind_of, plain_type
from hiermodels.spec.survey import Order, join_orders


def join_parts(parts: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all parts.

    A factor keeps its levels' order where all parts agree with it, else it is text.

    Parameters
    ----------
    parts : sequence of pyarrow.Table
        With the same names in the same order.

    Raises
    ------
    DataError
        A column holds values of two kinds.

    Examples
    --------
    >>> parts = [pa.table({"x": pa.array([1], pa.int8())}), pa.table({"x": [0.5]})]
    >>> join_parts(parts).column("x").to_pylist()
    [1.0, 0.5]
    """
    names = parts[0].column_names
    columns = [_join_column([own.column(name) for own in parts], name) for name in names]
    return pa.table(columns, names=names)


def _join_column(columns: Sequence[Any], name: str) -> Any:
    """Return one column of all parts."""
    kinds = list(dict.fromkeys(own.type for own in columns))
    wanted = kinds[0]
    for other in kinds[1:]:
        found = common_type(wanted, other)
        if found is None:
            raise DataError(
                f"The column {name!r} holds {kind_of(wanted)} in one part of the source and "
                f"{kind_of(other)} in another; it must be of one kind."
            )
        wanted = found
    chunks = [chunk for own in columns for chunk in own.chunks]
    if pa.types.is_dictionary(wanted):
        return _join_factors(chunks, wanted)
    if len(kinds) == 1:
        return pa.chunked_array(chunks, wanted)
    plain = plain_type(wanted) if any(map(pa.types.is_decimal, kinds)) else wanted
    return pa.chunked_array([_plain(chunk).cast(plain) for chunk in chunks], plain)


def _plain(chunk: Any) -> Any:
    """Return a chunk without a dictionary."""
    return chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk


def _join_factors(chunks: Sequence[Any], wanted: pa.DataType) -> Any:
    """Return the chunks of a factor, with one dictionary or as text."""
    value = plain_type(wanted)
    coded = [own for own in chunks if not pa.types.is_null(own.type)]
    orders = [_order(own) for own in coded if len(own)]
    levels, agree, ordered = reduce(join_orders, orders) if orders else ((), False, False)
    if not agree:
        return pa.chunked_array([_plain(own).cast(value) for own in chunks], value)
    every = pa.array(levels, value)
    kind = pa.dictionary(pa.int32(), value, ordered)
    made = []
    for own in chunks:
        codes = pc.index_in(_plain(own).cast(value), value_set=every, skip_nulls=True)
        made.append(pa.DictionaryArray.from_arrays(codes, every, ordered=ordered))
    return pa.chunked_array(made, kind)


def _order(chunk: Any) -> Order:
    return tuple(chunk.dictionary.to_pylist()), True, bool(chunk.type.ordered)

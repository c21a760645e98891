"""Arrow's column types in the kinds that a formula knows."""

from typing import Final

import pyarrow as pa
import pyarrow.types as at

NUMBERS: Final = "numbers"
WHOLE: Final = "whole numbers"
TEXT: Final = "text"
TRUTH: Final = "truth values"
FACTOR: Final = "levels of a factor"
TIME: Final = "dates or times"
NOTHING: Final = "nothing but missing values"
KINDS: Final = (NUMBERS, WHOLE, TEXT, TRUTH, FACTOR, TIME, NOTHING)
_UNITS: Final = ("s", "ms", "us", "ns")


def kind_of(column: pa.DataType) -> str:
    """Return the kind of a column's values in words; Arrow's name where a formula knows none."""
    if at.is_dictionary(column):
        return FACTOR
    if at.is_boolean(column):
        return TRUTH
    if at.is_integer(column):
        return WHOLE
    if at.is_floating(column) or at.is_decimal(column):
        return NUMBERS
    if at.is_string(column) or at.is_large_string(column) or at.is_string_view(column):
        return TEXT
    if at.is_temporal(column):
        return TIME
    return NOTHING if at.is_null(column) else str(column)


def usual_type(column: pa.DataType) -> pa.DataType:
    """Return a type of the same values for which Arrow has functions: no views, no short floats."""
    if at.is_dictionary(column):
        values = usual_type(column.value_type)
        return pa.dictionary(column.index_type, values, column.ordered)
    if at.is_string_view(column):
        return pa.string()
    return pa.float32() if at.is_float16(column) else column


def plain_type(column: pa.DataType) -> pa.DataType:
    """Return the one type in which values of a kind are compared."""
    if at.is_dictionary(column):
        return plain_type(column.value_type)
    kind = kind_of(column)
    if kind == WHOLE:
        return pa.uint64() if at.is_uint64(column) else pa.int64()
    if kind == NUMBERS:
        return pa.float64()
    return pa.string() if kind == TEXT else column


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return a type that holds the values of both, None where they are of different kinds."""
    if first == second or at.is_null(second):
        return first
    if at.is_null(first):
        return second
    kinds = kind_of(first), kind_of(second)
    if set(kinds) <= {NUMBERS, WHOLE}:
        return pa.float64() if NUMBERS in kinds else _whole(first, second)
    if set(kinds) <= {TEXT, FACTOR}:
        plain = plain_type(first), plain_type(second)
        if plain[0] != plain[1]:
            return None
        return first if kinds == (FACTOR, FACTOR) else plain[0]
    return _time(first, second) if kinds == (TIME, TIME) else None


def _time(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return the finer of two timestamps of one time zone; dates are timestamps at midnight."""
    stamps = [own for own in (first, second) if at.is_timestamp(own)]
    others = [own for own in (first, second) if not at.is_timestamp(own)]
    if not stamps or any(not at.is_date(own) for own in others):
        return None
    if len({own.tz for own in stamps}) > 1:
        return None
    return pa.timestamp(max((own.unit for own in stamps), key=_UNITS.index), stamps[0].tz)


def _whole(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    return pa.uint64() if at.is_uint64(first) and at.is_uint64(second) else pa.int64()

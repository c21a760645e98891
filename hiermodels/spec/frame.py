"""The data frame, looked at once: only the columns in use, in three kinds, complete rows.

Everything after this module works on numbers (float64), factors (pandas categoricals with text
levels) and grouping columns, without a missing or an infinite value.
"""

import datetime
import decimal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hiermodels.errors import DataError, UnknownColumnError
from hiermodels.spec.expressions import unknown_column
from hiermodels.spec.formula import Addition, ModelFormula
from hiermodels.spec.functions import as_boolean_factor, level_label

# Beyond it float64 skips whole numbers.
_EXACT_INTEGERS = 2.0**53


@dataclass(frozen=True)
class Dropped:
    """Rows left out because a value was missing.

    Attributes
    ----------
    n : int
        Number of rows left out.
    by_column : dict of str to int
        Missing values by column; a row may be missing in several.
    """

    n: int
    by_column: dict[str, int]

    def __str__(self) -> str:
        """Say it in a sentence, empty where no row was dropped."""
        if not self.n:
            return ""
        columns = ", ".join(f"{name} ({count})" for name, count in self.by_column.items())
        rows = "row" if self.n == 1 else "rows"
        return f"{self.n} {rows} dropped with missing values in {columns}"


def complete_rows(formula: ModelFormula, data: pd.DataFrame) -> tuple[pd.DataFrame, Dropped]:
    """Return the used columns of the rows without a missing value, and what was dropped.

    The index of the result is that of the data, so that messages can name a row.
    """
    check_frame(data)
    for name in formula.columns:
        if name not in data.columns:
            raise UnknownColumnError(_unknown(formula, name, data))
    check_unique(data, formula.columns)
    # pandas shares the columns until somebody writes to them
    used = pd.DataFrame({name: data[name] for name in formula.columns}, data.index, copy=False)
    if not len(used):
        raise DataError("The data frame has no rows; a model needs some.")
    ends = upper_ends(formula)
    keep, counts = np.ones(len(used), dtype=bool), {}
    for name in used.columns:
        missing = used[name].isna().to_numpy()
        if name == ends:
            # upper ends are needed where the response is an interval, and may be missing elsewhere
            missing = missing & is_interval(formula, used)
        if missing.any():
            counts[str(name)] = int(missing.sum())
            keep &= ~missing
    if ends is not None and pd.api.types.is_numeric_dtype(used[ends].dtype):
        used = used.assign(**{ends: used[ends].to_numpy(dtype=np.float64, na_value=np.nan)})
    if not counts:
        return used, Dropped(0, counts)
    if not keep.any():
        columns = ", ".join(f"{name} ({count})" for name, count in counts.items())
        raise DataError(
            f"No row is left: every one of the {len(used)} rows has a missing value. "
            f"Missing by column: {columns}. Leave those columns out or fill them in."
        )
    return used.loc[keep].copy(), Dropped(int((~keep).sum()), counts)


def upper_ends(formula: ModelFormula) -> str | None:
    """Return the column of the upper ends of intervals where nothing else reads it, else None."""
    addition = formula.additions.get("cens")
    ends = None if addition is None else addition.parts.get("y2")
    if addition is None or ends is None or not (ends.plain and addition.expression.plain):
        return None
    others = replace(
        formula, additions={**formula.additions, "cens": Addition(addition.expression)}
    )
    return None if ends.columns[0] in others.columns else ends.columns[0]


def is_interval(formula: ModelFormula, rows: pd.DataFrame) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Return which rows have an interval for a response; the formula says so by a column."""
    kinds = rows[formula.additions["cens"].expression.columns[0]]
    return np.asarray(kinds.isin(["interval", 2, "2"]), dtype=np.bool_)


def check_frame(data: object) -> None:
    """Raise DataError unless this is a pandas DataFrame with text column names."""
    if not isinstance(data, pd.DataFrame):
        hint = " Call .to_pandas() on it." if hasattr(data, "to_pandas") else ""
        raise DataError(f"The data must be a pandas DataFrame; got {type(data).__name__}.{hint}")
    odd = [name for name in data.columns if not isinstance(name, str)]
    if odd:
        raise DataError(
            f"Column names must be text; got {odd[0]!r} ({type(odd[0]).__name__}). "
            "Rename with data.columns = [str(c) for c in data.columns] or by hand."
        )


def check_unique(data: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise DataError where the data have two columns of one of these names."""
    twice = set(data.columns[data.columns.duplicated()])
    for name in names:
        if name in twice:
            raise DataError(
                f"The data have more than one column named {name!r}. Rename or drop all but one."
            )


def _unknown(formula: ModelFormula, name: str, data: pd.DataFrame) -> str:
    """Return the message for a column that is not there."""
    first, dot, rest = name.partition(".")
    if dot and first in data.columns:
        return (
            f"The data have no column {name!r}. If {rest!r} of {first!r} was meant: attribute "
            "access is not allowed in a formula; compute the column beforehand."
        )
    message = unknown_column(name, [str(column) for column in data.columns])
    return f"{message} The formula is: {formula.text}"


# --- one column at a time -------------------------------------------------------------------


def as_predictor(column: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
    """Return a column as numbers (float64) or as a factor whose levels are all in use.

    Truth values become a factor False, True; text a factor with sorted levels; a categorical keeps
    the order of its levels and whether they are ordered.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _used_levels(column)
    if is_boolean(column):
        return _used_levels(as_boolean_factor(column))
    if _holds_dates(column):
        raise DataError(
            f"The column {name!r} holds dates or times ({_kinds(column)}); a formula needs numbers "
            f"or factors. Make a number of it first, such as (data[{name!r}] - start).dt.days."
        )
    if pd.api.types.is_complex_dtype(dtype):
        raise DataError(f"The column {name!r} holds complex numbers; a formula needs real ones.")
    if _holds_numbers(column):
        values = column.to_numpy(dtype=np.float64)
        _check_finite(values, column, name)
        return pd.Series(values, index=column.index, name=name, copy=False)
    if _all_of(column, str):
        return _used_levels(column.astype(object).astype("category"))
    raise DataError(
        f"The column {name!r} holds values of the kind {_kinds(column)}; it must hold numbers only "
        "or text only. Convert it with astype(float) or astype(str)."
    )


def as_groups(column: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
    """Return a grouping column as a factor with text levels, all in use, in a stated order.

    Pandas' order of the categories where there is one, else sorted (numbers by size).
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _used_levels(column)
    if is_boolean(column):
        return _used_levels(as_boolean_factor(column))
    # never through float64, which cannot tell large identifiers apart
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return _labelled(column.astype("category"))
    if pd.api.types.is_integer_dtype(dtype) or _all_of(column, int | np.integer):
        return _used_levels(column.astype(object).astype("category"))
    if _holds_numbers(column):
        values = column.to_numpy(dtype=np.float64)
        _check_finite(values, column, name)
        odd = np.flatnonzero((values != np.round(values)) | (np.abs(values) > _EXACT_INTEGERS))
        if odd.size:
            raise DataError(
                f"The grouping {name!r} holds the number {values[odd[0]]:g} "
                f"({row_label(column.index, int(odd[0]))}); a grouping needs whole numbers, text "
                "or a categorical. If these are labels, convert with astype(str)."
            )
        return _used_levels(pd.Series(values, index=column.index, name=name).astype("category"))
    if _holds_dates(column) or _all_of(column, str):
        return _used_levels(column.astype(object).astype("category"))
    raise DataError(
        f"The grouping {name!r} holds values of the kind {_kinds(column)}; it must hold whole "
        "numbers only or text only. Convert it with astype(str)."
    )


def is_boolean(column: "pd.Series[Any]") -> bool:
    """Whether a column holds truth values only."""
    return pd.api.types.is_bool_dtype(column.dtype) or _all_of(column, bool | np.bool_)


def _holds_numbers(column: "pd.Series[Any]") -> bool:
    """Whether a column holds numbers, by its dtype or, for objects, value by value."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return True
    return _all_of(column, int | float | np.integer | np.floating | decimal.Decimal)


def _holds_dates(column: "pd.Series[Any]") -> bool:
    dtype = column.dtype
    return (
        pd.api.types.is_datetime64_any_dtype(dtype)
        or pd.api.types.is_timedelta64_dtype(dtype)
        or isinstance(dtype, pd.PeriodDtype)
        or _all_of(column, datetime.date | datetime.time | datetime.timedelta)
    )


def _used_levels(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a factor without unused levels, the levels as text, their order kept."""
    return _labelled(column.cat.remove_unused_categories())


def _labelled(factor: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a factor with its levels as text."""
    levels = factor.cat.categories
    if pd.api.types.is_integer_dtype(levels.dtype):
        return factor.cat.rename_categories(list(map(str, levels.tolist())))
    labels = [level_label(level) for level in levels.tolist()]
    if len(set(labels)) < len(labels):
        raise DataError(f"Two levels of {factor.name!r} read the same as text; rename one of them.")
    return factor.cat.rename_categories(labels)


def _all_of(column: "pd.Series[Any]", kind: Any) -> bool:
    """Whether a column is not empty, has no dtype of its own, and every value is of a kind."""
    if pd.api.types.is_numeric_dtype(column.dtype) or not len(column):
        return False
    return all(isinstance(value, kind) for value in column.to_numpy(dtype=object))


def _kinds(column: "pd.Series[Any]") -> str:
    kinds = sorted({type(value).__name__ for value in column.to_numpy(dtype=object)})
    return " and ".join(kinds[:4])


def _check_finite(values: np.ndarray, column: "pd.Series[Any]", name: str) -> None:
    if not values.size or (np.isfinite(values.min()) and np.isfinite(values.max())):
        return
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"The column {name!r} holds {values[bad[0]]} at "
            f"{row_label(column.index, int(bad[0]))} {in_all(bad.size)}; values must be finite. "
            "Drop those rows or mend them."
        )


def row_label(index: "pd.Index[Any]", position: int) -> str:
    """Return how messages call a row: by its index in the user's frame."""
    label = index[position]
    shown = label.item() if isinstance(label, np.generic) else label
    return f"row {shown!r}" if isinstance(shown, str | tuple) else f"row {shown}"


def in_all(count: int) -> str:
    """Return how messages say how many rows are meant."""
    return f"({count:,} {'row' if count == 1 else 'rows'} in all)"


def combine_groups(columns: Sequence["pd.Series[Any]"]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the level of each row (n,) and the labels of the observed combinations.

    Levels are ordered by the first column's order, then the second's; labels are joined by ``:``.
    """
    codes = [column.cat.codes.to_numpy().astype(np.intp) for column in columns]
    if len(columns) == 1:
        # every level of a single column is in use
        return codes[0], tuple(map(str, columns[0].cat.categories.tolist()))
    combined = codes[0]
    for column, code in zip(columns[1:], codes[1:], strict=True):
        combined = combined * len(column.cat.categories) + code
        combined = np.unique(combined, return_inverse=True)[1]
    _, first, index = np.unique(combined, return_index=True, return_inverse=True)
    parts = [
        column.cat.categories.to_numpy(dtype=object)[code[first]]
        for column, code in zip(columns, codes, strict=True)
    ]
    labels = tuple(":".join(str(part) for part in level) for level in zip(*parts, strict=True))
    if len(set(labels)) < len(labels):
        name = ":".join(str(column.name) for column in columns)
        raise DataError(
            f"Two combinations of {name} read the same as text, as their levels hold ':'. "
            "Rename the levels."
        )
    return index.astype(np.intp), labels

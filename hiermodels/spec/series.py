"""The series of a residual structure: their times, their weights, and how bars stand to them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError, FormulaError, RepeatedTimesError
from hiermodels.spec.coding import evaluate_number
from hiermodels.spec.frame import as_predictor, row_label
from hiermodels.spec.residual_terms import ResidualTerm

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


class Bar(Protocol):
    """What is asked of a bar: its grouping and its effects."""

    @property
    def group(self) -> str:
        """The grouping's name."""

    @property
    def index(self) -> Ints:
        """The level of each row (n,)."""

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels' labels."""

    @property
    def coefs(self) -> tuple[str, ...]:
        """The effects' names."""


def constant_weight(weights: Array | None, series: Ints, term: ResidualTerm, n: int) -> Array:
    """Return the rows' weights, which must agree within each series."""
    if weights is None:
        return np.ones(n)
    first = np.zeros(int(series.max()) + 1)
    first[series] = weights
    if np.any(first[series] != weights):
        raise DataError(
            f"weights() multiplies log likelihoods, and under {term} these belong to whole series; "
            "the weights differ within a series. For variances sigma²/w write precision()."
        )
    return weights


def check_bars(
    term: ResidualTerm, series: Ints, levels: Sequence[str], bars: Sequence[Bar]
) -> None:
    """Raise unless every series is nested in every grouping, and told apart from its bars."""
    for bar in bars:
        first = np.zeros(len(levels), dtype=np.intp)
        first[series] = bar.index
        broken = np.flatnonzero(first[series] != bar.index)
        if broken.size:
            label = levels[series[broken[0]]]
            raise DataError(
                f"The series of {term} must each lie in one level of every grouping; the series "
                f"{label!r} lies in several levels of {bar.group!r}. Use series within "
                f"{bar.group!r}, such as {term.structure}(... {bar.group}:{term.group_name}), or "
                f"leave the bar by {bar.group!r} out."
            )
        same = len(bar.levels) == len(levels)
        if same and term.structure == "cosy" and "Intercept" in bar.coefs:
            raise FormulaError(
                f"(1 | {bar.group}) and {term} are not identified together: both give the rows of "
                f"a series one covariance. Leave one of them out."
            )
        if same and term.structure == "unstr":
            raise FormulaError(
                f"A bar by {bar.group!r} and {term} are not identified together: an unstructured "
                "covariance holds whatever the bar could add. Leave one of them out."
            )


def times(
    term: ResidualTerm, kept: pd.DataFrame, series: Ints, levels: Sequence[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return each row's whole time, or its occasion's number with the occasions' labels."""
    if term.time is None:
        return np.arange(len(kept), dtype=np.int64), ()
    labels: tuple[str, ...] = ()
    columns = {name: as_predictor(kept[name], name) for name in term.time.columns}
    only = next(iter(columns.values()))
    if term.structure == "unstr" and term.time.plain and not _is_number(only):
        time = only.cat.codes.to_numpy().astype(np.int64)
        labels = tuple(only.cat.categories)
    else:
        values = evaluate_number(term.time, columns, "time")
        if term.structure == "unstr":
            found, place = np.unique(values, return_inverse=True)
            time, labels = place.astype(np.int64), tuple(map(_label, found.tolist()))
        else:
            time = _whole(term, values, kept.index)
    order = np.lexsort((time, series))
    twice = np.flatnonzero((np.diff(time[order]) == 0) & (np.diff(series[order]) == 0))
    if twice.size:
        raise _repeated(term, kept.index, (order[twice], order[twice + 1]), series, levels)
    return time, labels


def _repeated(
    term: ResidualTerm,
    index: "pd.Index[Any]",
    pairs: tuple[Ints, Ints],
    series: Ints,
    levels: Sequence[str],
) -> RepeatedTimesError:
    """Return the error for pairs of rows of a series at one time, with what there is of them."""
    label = term.time.label if term.time is not None else "time"
    first, second = pairs
    where = (
        f"{row_label(index, int(first[0]))} and {row_label(index, int(second[0]))} of the series "
        f"{levels[series[first[0]]]!r}"
    )
    concerned, count = len(np.unique(series[second])), len(second)
    return RepeatedTimesError(
        f"The time {label} is the same at {where}; under {term} a series has one row for each "
        f"time. Such rows: {count:,}, in {concerned:,} of {len(levels):,} series. Keep one row a "
        "time, such as their mean, or name the series by what tells them apart, as in "
        f"{term.structure}({label}, {term.group_name}:device).",
        (label, term.group_name),
        f"{count:,} {'row has' if count == 1 else 'rows have'} the same {label} as another row of "
        f"the series, in {concerned:,} of {len(levels):,} series: {where}, for one.",
        tuple(index[second]),
    )


def _label(value: float) -> str:
    """Return how an occasion is called: 2.0 as ``2``."""
    return str(int(value)) if value.is_integer() else repr(value)


def _is_number(column: "pd.Series[Any]") -> bool:
    return not isinstance(column.dtype, pd.CategoricalDtype)


def _whole(term: ResidualTerm, values: Array, index: "pd.Index[Any]") -> NDArray[np.int64]:
    """Return times as whole numbers."""
    odd = np.flatnonzero((values != np.round(values)) | (np.abs(values) > 2.0**53))
    if odd.size:
        raise DataError(
            f"The time of {term} is {values[odd[0]]:g} at {row_label(index, int(odd[0]))} "
            f"({odd.size} rows in all); it must be a whole number, as correlations are ar to the "
            "power of a gap. Count in a finer unit, or number the times."
        )
    return values.astype(np.int64)

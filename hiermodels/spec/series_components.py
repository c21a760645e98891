"""Rows whose squares make the matrices of residuals that are correlated within series.

The precision of such residuals is a sum of fixed matrices (mathematics of `hiermodels.spec.bases`).
Each is a sum of squares of a series' rows, of differences of neighbours, of means, or half the
difference of two such: the components here. Where sds differ by stratum, rows of two strata meet in
components of their own, whose codes are negative.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Series:
    """The rows of whole series.

    Attributes
    ----------
    columns : ndarray (n, k)
        Times the root of what each row's products count.
    place : ndarray of int (n,)
        The series of each row.
    time : ndarray of int (n,)
    stratum : ndarray of int (n,)
        The combination of what the sd hangs on; zeros for one sd.
    weight : ndarray (n,)
        What each row's likelihood counts, the same in all rows of a series.
    occasions : int
        Of ``unstr``: the number of times.
    """

    columns: Array
    place: Any
    time: Ints
    stratum: Ints
    weight: Array
    occasions: int = 0

    @property
    def masks(self) -> Ints:
        """The pattern of each series: a bit for each occasion that it has."""
        found = np.zeros(int(self.place.max()) + 1, dtype=np.int64)
        np.bitwise_or.at(found, self.place, 1 << self.time)
        return found


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of some components.

    Attributes
    ----------
    code : ndarray of int (m,)
        Which component.
    cell : ndarray of int (m,)
        A row of the cell of each.
    columns : ndarray (m, k)
    other : ndarray of int (m,) or None
        Of negative codes: a row of the second stratum, which may be the first one.
    tally : tuple of ndarray
        Gaps, lengths or patterns, and the weighted number of their pairs or series.
    """

    code: Any
    cell: NDArray[np.intp]
    columns: Array
    other: NDArray[np.intp] | None = None
    tally: tuple[Any, Any] = ((), ())


def _tally(values: Any, weight: Array) -> tuple[Any, Any]:
    """Return distinct values, and the weights of each."""
    found, place = np.unique(values, return_inverse=True)
    return found, np.bincount(place, weight, len(found))


def _first(place: Any) -> NDArray[np.intp]:
    """Return the first row of each of the numbers from 0."""
    first = np.zeros(int(place.max()) + 1, dtype=np.intp)
    first[place[::-1]] = np.arange(len(place))[::-1]
    return first


# --- first-order autoregression -----------------------------------------------------------------


def neighbours(own: Series) -> list[Part]:
    """Return the components of ``ar``: rows, neighbours' rows, differences of neighbours.

    By gap d: 2 d + 1 and 2 d + 2 are rows beside a neighbour of their stratum and differences from
    it; -3 d, -3 d - 1 and -3 d - 2 rows beside one of another stratum, sums and differences.
    """
    columns, rows = own.columns, np.arange(len(own.columns))
    order = np.lexsort((own.time, own.place))
    first, second = order[:-1], order[1:]
    same = own.place[first] == own.place[second]
    first, second = first[same], second[same]
    gap = own.time[second] - own.time[first]
    everything = Part(
        np.zeros(len(rows), dtype=np.int64), rows, columns, tally=_tally(gap, own.weight[second])
    )
    alike = own.stratum[first] == own.stratum[second]
    one, two, by = first[alike], second[alike], gap[alike]
    ends = np.r_[one, two]
    parts = [
        everything,
        Part(np.r_[by, by] * 2 + 1, ends, columns[ends]),
        Part(by * 2 + 2, one, columns[two] - columns[one]),
    ]
    if np.all(alike):
        return parts
    one, two, by = first[~alike], second[~alike], gap[~alike]
    ends = np.r_[one, two]
    return [
        *parts,
        Part(np.r_[by, by] * -3, ends, columns[ends], ends),
        Part(by * -3 - 1, one, columns[one] + columns[two], two),
        Part(by * -3 - 2, one, columns[one] - columns[two], two),
    ]


# --- compound symmetry --------------------------------------------------------------------------


def means(own: Series) -> list[Part]:
    """Return the components of ``cosy``: deviations from means, and the means.

    0 are deviations from the mean of a series' rows of one stratum, and that mean as far as the
    series' mean does not hold it; n > 0 what a stratum adds to the mean of a series of n rows;
    -2 n and -2 n - 1 sums and differences of two strata's totals.
    """
    sizes = np.bincount(own.place)
    part, _ = pd.factorize(own.place * (int(own.stratum.max()) + 1) + own.stratum)
    first, number = _first(part), np.bincount(part)
    total = np.zeros((len(number), own.columns.shape[1]))
    np.add.at(total, part, own.columns)
    mean = total / number[:, None]
    series = own.place[first]
    length = sizes[series].astype(np.int64)
    starts = _first(own.place)
    found = [
        Part(
            np.zeros(len(own.columns), dtype=np.int64),
            np.arange(len(own.columns)),
            own.columns - mean[part],
            tally=_tally(sizes, own.weight[starts]),
        ),
        Part(length, first, total / np.sqrt(length)[:, None]),
    ]
    some = np.flatnonzero(number < length)
    if some.size:
        left = np.sqrt(number * (1.0 - number / length))
        found.append(Part(length[some] * 0, first[some], mean[some] * left[some, None]))
        found += _meeting_strata(first, total, series, length)
    return found


def _meeting_strata(first: Any, total: Array, series: Any, length: Ints) -> list[Part]:
    """Return sums and differences of the totals of every two strata of a series."""
    found = []
    order = np.argsort(series, kind="stable")
    for step in range(1, int(np.bincount(series).max())):
        one, two = order[:-step], order[step:]
        same = series[one] == series[two]
        one, two = one[same], two[same]
        code = length[one] * -2
        found.append(Part(code, first[one], total[one] + total[two], first[two]))
        found.append(Part(code - 1, first[one], total[one] - total[two], first[two]))
    return found


# --- unstructured -------------------------------------------------------------------------------


def pairs(own: Series) -> list[Part]:
    """Return the components of ``unstr``: by pattern and pair of occasions sums and differences."""
    T, place, time, columns = own.occasions, own.place, own.time, own.columns
    masks = own.masks
    row = np.full((len(masks), T), -1, dtype=np.intp)
    row[place, time] = np.arange(len(place))
    tally = _tally(masks, own.weight[_first(place)])
    none = np.zeros_like(columns)
    parts = [Part(np.zeros(len(none), dtype=np.int64), np.arange(len(none)), none, tally=tally)]
    for mask in tally[0].tolist():
        met = row[masks == mask]
        seen = [b for b in range(T) if mask >> b & 1]
        for b in seen:
            for c in seen[: seen.index(b) + 1]:
                code = 1 + ((mask * T + b) * T + c) * 2
                one, other = columns[met[:, b]], columns[met[:, c]]
                codes = np.full(len(met), code, dtype=np.int64)
                if b == c:
                    parts.append(Part(codes, met[:, b], one))
                    continue
                parts.append(Part(codes, met[:, b], one + other))
                parts.append(Part(codes + 1, met[:, b], one - other))
    return parts

"""Cross-products under residuals that are correlated within series, chunk by chunk.

The precision of such residuals is a sum of fixed matrices (mathematics of `hiermodels.spec.bases`).
Each is a sum of squares of a series' rows, of differences of neighbours, of means, or half the
difference of two such: the components here. A series must lie in one chunk.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from hiermodels.errors import DataError, EngineError, FormulaError, RepeatedTimesError
from hiermodels.spec.chunk_coding import Coder, code_chunk, evaluated
from hiermodels.spec.chunk_products import Products, add_products, nothing, triangles
from hiermodels.spec.column_kinds import NUMBERS, WHOLE
from hiermodels.spec.kept_rows import complete, row_index
from hiermodels.spec.residual_terms import ResidualTerm
from hiermodels.spec.series import times
from hiermodels.spec.series_stream import SeriesStream
from hiermodels.spec.stream_dask import DaskStream
from hiermodels.spec.streams import Chunk, Stream
from hiermodels.spec.survey import Coding, Survey, find_coding

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_MOST_OCCASIONS: Final = 15


@dataclass(frozen=True, eq=False)
class SeriesCoder:
    """What codes a chunk's series besides its rows.

    Attributes
    ----------
    coder : Coder
    term : ResidualTerm
    series : dict of str to Coding
    occasions : Coding or None
        Of ``unstr``: the times.
    """

    coder: Coder
    term: ResidualTerm
    series: dict[str, Coding]
    occasions: Coding | None

    @property
    def radix(self) -> int:
        """Number of possible cells."""
        return int(np.prod([len(own.labels) for own in self.coder.cells.values()], dtype=object))


def make_series(coder: Coder, survey: Survey) -> SeriesCoder:
    """Return what codes series, from the first pass.

    Raises
    ------
    EngineError
        ``unstr`` has too many occasions.
    """
    term = coder.formula.residual
    if term is None:
        raise FormulaError("The formula has no residual structure.")
    series = {name: find_coding(survey, coder.plan, name, grouping=True) for name in term.group}
    occasions = None
    if term.structure == "unstr" and term.time is not None:
        name = term.time.columns[0]
        plain = coder.plan.kinds[name] not in (NUMBERS, WHOLE)
        occasions = find_coding(survey, coder.plan, name, grouping=plain)
        if len(occasions.labels) > _MOST_OCCASIONS:
            raise EngineError(
                f"{term} has {len(occasions.labels)} occasions; from a source beyond memory it "
                f"can have {_MOST_OCCASIONS}."
            )
    return SeriesCoder(coder, term, series, occasions)


# --- products -------------------------------------------------------------------------------


def series_products(series: SeriesCoder, chunk: Chunk) -> Products:
    """Return a chunk's cross-products by component and cell; a pure function.

    Raises
    ------
    DataError
        A series does not lie in one level of every grouping, or a time is no whole number or
        stands twice in it.
    """
    coder, term = series.coder, series.term
    coded = code_chunk(coder, chunk)
    if coded is None:
        return nothing(coder)
    kept, _ = complete(chunk.table, coder.plan.columns)
    key = np.zeros(len(kept), dtype=np.int64)
    for name, coding in series.series.items():
        key = key * len(coding.labels) + coding.codes(kept.column(name))
    place, found = pd.factorize(key)
    first = np.zeros(len(found), dtype=np.intp)
    first[place[::-1]] = np.arange(len(key))[::-1]
    broken = np.flatnonzero(coded.keys[first][place] != coded.keys)
    if broken.size:
        raise DataError(
            f"The series of {term} must each lie in one level of every grouping; a series lies in "
            "several. Use series within the groups, or leave the bar out."
        )
    try:
        time = _times(series, chunk, kept, place, [str(k) for k in range(len(found))])
    except RepeatedTimesError:
        # labels are made where a message needs them
        time = _times(series, chunk, kept, place, _labels(series, np.asarray(found)))
    columns = np.ascontiguousarray(coded.columns)
    if coded.weight is not None:
        columns = columns * np.sqrt(coded.weight)[:, None]
    makers = {"ar": _neighbours, "cosy": _means, "unstr": _pairs}
    order = np.lexsort((time, place))
    parts = makers[term.structure](series, columns, place, time, order)
    rows = np.bincount(pd.factorize(coded.keys, sort=True)[0])
    codes = np.concatenate([part.code * series.radix + coded.keys[part.cell] for part in parts])
    stacked = np.concatenate([part.columns for part in parts])
    keys, cells = triangles(codes, stacked, None)
    counts = np.zeros(len(keys))
    own = np.unique(coded.keys)
    counts[np.searchsorted(keys, own)] = rows
    tallies: dict[int, float] = {}
    for part in parts:
        for code, number in zip(*part.tally, strict=True):
            tallies[int(code)] = tallies.get(int(code), 0.0) + float(number)
    return Products(
        len(columns), keys, counts, counts, cells, coded.columns.T @ coded.columns,
        coded.constant, coded.sums, tallies, np.asarray(found, dtype=np.int64),
        np.zeros((len(keys), 0)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of some components: their codes, a row of the cell of each, the columns, and tallies."""

    code: Any
    cell: NDArray[np.intp]
    columns: Array
    tally: tuple[Any, Any] = ((), ())


def _labels(series: SeriesCoder, keys: Ints) -> list[str]:
    """Return what series are called."""
    parts = []
    for coding in reversed(series.series.values()):
        keys, own = np.divmod(keys, len(coding.labels))
        parts.append([str(coding.labels[k]) for k in own])
    return [":".join(reversed(label)) for label in zip(*parts, strict=True)]


def _times(
    series: SeriesCoder, chunk: Chunk, kept: pa.Table, place: Any, labels: list[str]
) -> Ints:
    """Return the time of each row, the occasion's number under ``unstr``."""
    term = series.term
    index = row_index(chunk, kept, series.coder.plan.columns)
    if term.time is None:
        return np.arange(len(kept), dtype=np.int64)
    if series.occasions is not None:
        codes = series.occasions.codes(kept.column(term.time.columns[0])).astype(np.int64)
        frame = pd.DataFrame({term.time.columns[0]: codes.astype(np.float64)}, index=index)
        times(term, frame, place, labels)
        return codes
    frame = evaluated(series.coder, kept, index, extra=term.time.columns)
    return times(term, frame, place, labels)[0]


def _neighbours(
    series: SeriesCoder, columns: Array, place: Any, time: Ints, order: Any
) -> list[_Part]:
    """Return the components of ``ar``: rows, neighbours' rows, differences of neighbours."""
    everything = _Part(np.zeros(len(columns), dtype=np.int64), np.arange(len(columns)), columns)
    first, second = order[:-1], order[1:]
    same = place[first] == place[second]
    first, second = first[same], second[same]
    gap = time[second] - time[first]
    ends = np.r_[first, second]
    beside = _Part(np.r_[gap, gap] * 2 + 1, ends, columns[ends])
    values, number = np.unique(gap, return_counts=True)
    apart = _Part(gap * 2 + 2, first, columns[second] - columns[first], (values, number))
    return [everything, beside, apart]


def _means(series: SeriesCoder, columns: Array, place: Any, time: Ints, order: Any) -> list[_Part]:
    """Return the components of ``cosy``: deviations from a series' means, and the means."""
    sizes = np.bincount(place)
    means = np.zeros((len(sizes), columns.shape[1]))
    np.add.at(means, place, columns)
    means /= sizes[:, None]
    deviations = columns - means[place]
    first = np.zeros(len(sizes), dtype=np.intp)
    first[place[::-1]] = np.arange(len(place))[::-1]
    values, number = np.unique(sizes, return_counts=True)
    return [
        _Part(np.zeros(len(columns), dtype=np.int64), np.arange(len(columns)), deviations),
        _Part(sizes.astype(np.int64), first, means * np.sqrt(sizes)[:, None], (values, number)),
    ]


def _pairs(series: SeriesCoder, columns: Array, place: Any, time: Ints, order: Any) -> list[_Part]:
    """Return the components of ``unstr``: by pattern and pair of occasions sums and differences."""
    T = len(series.occasions.labels) if series.occasions else 0
    masks = np.zeros(int(place.max()) + 1, dtype=np.int64)
    np.bitwise_or.at(masks, place, 1 << time)
    row = np.full((len(masks), T), -1, dtype=np.intp)
    row[place, time] = np.arange(len(place))
    patterns, number = np.unique(masks, return_counts=True)
    none = np.zeros_like(columns)
    cells = np.arange(len(columns))
    parts = [_Part(np.zeros(len(columns), dtype=np.int64), cells, none, (patterns, number))]
    for mask in patterns.tolist():
        own = row[masks == mask]
        seen = [b for b in range(T) if mask >> b & 1]
        for b in seen:
            for c in seen[: seen.index(b) + 1]:
                code = 1 + ((mask * T + b) * T + c) * 2
                one, other = columns[own[:, b]], columns[own[:, c]]
                codes = np.full(len(own), code, dtype=np.int64)
                if b == c:
                    parts.append(_Part(codes, own[:, b], one))
                    continue
                parts.append(_Part(codes, own[:, b], one + other))
                parts.append(_Part(codes + 1, own[:, b], one - other))
    return parts


def fold_series(series: SeriesCoder, stream: Stream, report: Any) -> Products | None:
    """Return the cross-products of a stream whose series lie together."""
    # partitions of Dask must hold whole series; others are cut between them
    apart = isinstance(stream, DaskStream)
    cut = stream if apart else SeriesStream(stream, series.term.group)
    return cut.fold(
        partial(series_products, series), add_products, series.coder.plan.columns, report
    )

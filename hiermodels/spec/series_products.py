"""Cross-products under residuals that are correlated within series, chunk by chunk.

See `hiermodels.spec.series_components`. A series must lie in one chunk.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from hiermodels.errors import DataError, EngineError, FormulaError, RepeatedTimesError
from hiermodels.spec.cell_keys import part_keys
from hiermodels.spec.chunk_coding import Coded, Coder, code_chunk, evaluated
from hiermodels.spec.chunk_products import Products, add_products, nothing, triangles
from hiermodels.spec.column_kinds import NUMBERS, WHOLE
from hiermodels.spec.kept_rows import complete, row_index
from hiermodels.spec.residual_terms import ResidualTerm
from hiermodels.spec.series import constant_weight, times
from hiermodels.spec.series_components import Part, Series, means, neighbours, pairs
from hiermodels.spec.series_stream import SeriesStream
from hiermodels.spec.stream_dask import DaskStream
from hiermodels.spec.streams import Chunk, Stream
from hiermodels.spec.survey import Coding, Survey, find_coding, variance_columns

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_MOST_OCCASIONS: Final = 15
_MOST_KEYS: Final = 2.0**62


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

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns of the groupings, in each of which a series must lie in one level."""
        bars = self.coder.formula.bars
        names = [name for bar in bars for name in (*bar.group, bar.structure.by) if name]
        return tuple(dict.fromkeys(names))

    @property
    def strata(self) -> tuple[str, ...]:
        """The columns that the residual sd hangs on."""
        return tuple(dict.fromkeys(variance_columns(self.coder.formula)))

    @property
    def n_strata(self) -> int:
        """Number of possible combinations of these."""
        sizes = [len(self.coder.cells[name].labels) for name in self.strata]
        return int(np.prod(sizes, dtype=object))


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
        A series does not lie in one level of every grouping, its weights differ, or a time is no
        whole number or stands twice in it.
    """
    coder = series.coder
    coded = code_chunk(coder, chunk)
    if coded is None:
        return nothing(coder)
    own, found = _read_series(series, coded, chunk)
    parts = {"ar": neighbours, "cosy": means, "unstr": pairs}[series.term.structure](own)
    codes = np.concatenate([_keys(series, part, coded.keys, own.stratum) for part in parts])
    keys, cells = triangles(codes, np.concatenate([part.columns for part in parts]), None)
    cell, rows = np.unique(coded.keys, return_inverse=True)
    counts, weights = np.zeros(len(keys)), np.zeros(len(keys))
    at = np.searchsorted(keys, cell)
    counts[at], weights[at] = np.bincount(rows), np.bincount(rows, own.weight)
    mine = _row_codes(own) * series.n_strata * series.radix + coded.keys
    known = np.ones(len(mine)) if coded.variance is None else coded.variance
    variance = np.bincount(np.searchsorted(keys, mine), known, len(keys))
    plain = np.zeros_like(cells)
    apart, products = triangles(mine, np.ascontiguousarray(coded.columns), None)
    plain[np.searchsorted(keys, apart)] = products
    tallies: dict[int, float] = {}
    for part in parts:
        for code, number in zip(*part.tally, strict=True):
            tallies[int(code)] = tallies.get(int(code), 0.0) + float(number)
    return Products(
        len(coded.columns), keys, counts, weights, cells, coded.columns.T @ coded.columns,
        coded.constant, coded.sums, tallies, found, np.zeros((len(keys), 0)),
        variance=variance, plain=plain, ends=coded.ends,
    )  # fmt: skip


def _read_series(series: SeriesCoder, coded: Coded, chunk: Chunk) -> tuple[Series, Ints]:
    """Return a chunk's rows as series, and the number of each series."""
    coder, term = series.coder, series.term
    kept, _ = complete(chunk.table, coder.plan.columns)
    key = np.zeros(len(kept), dtype=np.int64)
    for name, coding in series.series.items():
        key = key * len(coding.labels) + coding.codes(kept.column(name))
    place, found = pd.factorize(key)
    first = np.zeros(len(found), dtype=np.intp)
    first[place[::-1]] = np.arange(len(key))[::-1]
    groups = part_keys(coder.cells, series.groups, coded.keys)
    if np.any(groups[first][place] != groups):
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
    rows = Series(
        columns,
        place,
        time,
        part_keys(coder.cells, series.strata, coded.keys),
        constant_weight(coded.likelihood, place, term, len(columns)),
        len(series.occasions.labels) if series.occasions else 0,
    )
    return rows, np.asarray(found, dtype=np.int64)


def _row_codes(own: Series) -> Ints:
    """Return the component that holds each row by itself: of ``unstr`` that of its occasion."""
    T, time = own.occasions, own.time
    if not T:
        return np.zeros(len(time), dtype=np.int64)
    return np.asarray(1 + ((own.masks[own.place] * T + time) * T + time) * 2)


def own_occasions(series: SeriesCoder, keys: Ints) -> NDArray[np.intp]:
    """Return the occasion of components of ``unstr`` that pair it with itself."""
    T = len(series.occasions.labels) if series.occasions else 1
    return np.asarray((keys // series.radix - 1) // 2 % T, dtype=np.intp)


def _keys(series: SeriesCoder, part: Part, keys: Ints, stratum: Ints) -> Ints:
    """Return component, second stratum and cell of each row as one number."""
    code = np.array(part.code, dtype=np.int64)
    most = float(np.max(np.abs(code), initial=0)) + 1.0
    if most * series.n_strata * series.radix > _MOST_KEYS:
        raise DataError(
            f"The gaps of {series.term} and the groupings' levels have more combinations than can "
            "be numbered. Count time in a coarser unit, or leave a grouping out."
        )
    code *= series.n_strata
    if part.other is not None:
        code += stratum[part.other]
    return code * series.radix + keys[part.cell]


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


def fold_series(series: SeriesCoder, stream: Stream, report: Any) -> Products | None:
    """Return the cross-products of a stream whose series lie together."""
    # partitions of Dask must hold whole series; others are cut between them
    apart = isinstance(stream, DaskStream)
    cut = stream if apart else SeriesStream(stream, series.term.group)
    return cut.fold(
        partial(series_products, series), add_products, series.coder.plan.columns, report
    )

"""Exact quantiles of all rows, for knots: two passes that count, however many rows there are.

The first counts rows between the values of a sample, which tells between which of them each
quantile lies; the second collects the values there.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.coding import check_finite
from hiermodels.spec.kept_rows import complete
from hiermodels.spec.recorders import Seen, given_values, n_quantiles
from hiermodels.spec.streams import Chunk, Stream
from hiermodels.spec.survey import Plan, Survey, predictor_column

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
# A factor's label, and the text of a call in it.
Key = tuple[str, str]
Tally = tuple[Array, Ints]


def wanted_quantiles(survey: Survey) -> dict[Key, int]:
    """Return how many inner knots at quantiles each call has, of those that have any."""
    calls = {(label, text): met for label, own in survey.seen.items() for text, met in own.items()}
    return {key: n_quantiles(met) for key, met in calls.items() if n_quantiles(met)}


def find_quantiles(
    plan: Plan, survey: Survey, stream: Stream, report: Callable[[int], None] | None
) -> Survey:
    """Return the survey with the quantiles that calls need, as NumPy would compute them.

    Parameters
    ----------
    plan : Plan
    survey : Survey
    stream : Stream
    report : callable, optional
        Is given the number of rows of every chunk.

    Raises
    ------
    DataError
        The source changed between two passes, or what a call is given is not finite.
    """
    knots = wanted_quantiles(survey)
    edges = _edges(plan, survey, knots)
    counts = stream.fold(partial(count_chunk, plan, edges), add_counts, plan.columns, report)
    ranks = {key: _ranks(number, survey.kept) for key, number in knots.items()}
    ends = {key: np.cumsum(own) for key, own in (counts or {}).items()}
    if any(key not in ends or ends[key][-1] != survey.kept for key in knots):
        raise DataError(
            f"{stream.description} changed between two passes. Fit again when nothing writes to it."
        )
    bins = {key: np.searchsorted(ends[key], own, side="right") for key, own in ranks.items()}
    collect = partial(collect_chunk, plan, edges, bins)
    found = stream.fold(collect, add_tallies, plan.columns, report) or {}
    seen = {label: dict(own) for label, own in survey.seen.items()}
    for (label, text), number in knots.items():
        key = label, text
        values = _of_ranks(found[key], edges[key], bins[key], ends[key], ranks[key])
        seen[label][text] = _with_knots(seen[label][text], number, survey.kept, values)
    return replace(survey, seen=seen)


def _positions(number: int, n: int) -> Array:
    """Return where quantiles lie among n sorted values."""
    return np.asarray(np.linspace(0.0, 1.0, number + 2)[1:-1] * (n - 1))


def _ranks(number: int, n: int) -> Ints:
    """Return the ranks of the values that quantiles lie between, two of each."""
    below = np.floor(_positions(number, n)).astype(np.intp)
    return np.concatenate([below, np.minimum(below + 1, n - 1)])


def _with_knots(seen: Seen, number: int, n: int, values: Array) -> Seen:
    """Return what a call met with its knots."""
    positions = _positions(number, n)
    share = positions - np.floor(positions)
    low, high = values[:number], values[number:]
    return replace(seen, quantiles=tuple((low + (high - low) * share).tolist()))


def _of_ranks(tally: Tally, edges: Array, bins: Ints, ends: Ints, ranks: Ints) -> Array:
    """Return the values of some ranks from those of the bins that hold them."""
    values, counts = tally
    places = np.searchsorted(edges, values)
    found = np.empty(len(ranks))
    for k, (b, rank) in enumerate(zip(bins, ranks, strict=True)):
        own = places == b
        before = ends[b - 1] if b else 0
        at = np.searchsorted(np.cumsum(counts[own]), rank - before, side="right")
        found[k] = values[own][at]
    return found


def _edges(plan: Plan, survey: Survey, knots: Mapping[Key, int]) -> dict[Key, Array]:
    """Return the distinct values of the sample, ascending."""
    given = _given(plan, survey.sample, knots)
    return {key: np.unique(values[np.isfinite(values)]) for key, values in given.items()}


def _given(
    plan: Plan, kept: pa.Table, keys: Mapping[Key, object], first: int | None = None
) -> dict[Key, Array]:
    """Return what calls are given in complete rows; finite, where the first row's number is."""
    found: dict[Key, Array] = {}
    for label in dict.fromkeys(label for label, _ in keys):
        own = plan.recorded[label]
        columns = {
            name: predictor_column(kept.column(name), plan.kinds[name], name)
            for name in own.columns
        }
        for text, values in given_values(own, columns).items():
            if (label, text) in keys:
                if first is not None:
                    check_finite(values, label, pd.RangeIndex(first, first + len(values)))
                found[label, text] = values
    return found


# --- the passes -----------------------------------------------------------------------------


def count_chunk(plan: Plan, edges: Mapping[Key, Array], chunk: Chunk) -> dict[Key, Ints]:
    """Return how many rows lie up to each edge and above the one before; a pure function."""
    kept, _ = complete(chunk.table, plan.columns)
    if not len(kept):
        return {}
    return {
        key: np.bincount(np.searchsorted(edges[key], values), minlength=len(edges[key]) + 1)
        for key, values in _given(plan, kept, edges, chunk.first).items()
    }


def add_counts(a: dict[Key, Ints], b: dict[Key, Ints]) -> dict[Key, Ints]:
    """Return the rows of both; a pure function."""
    return {key: a[key] + b[key] if key in a and key in b else (a | b)[key] for key in {**a, **b}}


def collect_chunk(
    plan: Plan, edges: Mapping[Key, Array], bins: Mapping[Key, Ints], chunk: Chunk
) -> dict[Key, Tally]:
    """Return the distinct values of some bins, with their numbers; a pure function."""
    kept, _ = complete(chunk.table, plan.columns)
    if not len(kept):
        return {}
    found: dict[Key, Tally] = {}
    for key, values in _given(plan, kept, edges, chunk.first).items():
        some = values[np.isin(np.searchsorted(edges[key], values), bins[key])]
        distinct, counts = np.unique(some, return_counts=True)
        found[key] = distinct, counts
    return found


def add_tallies(a: dict[Key, Tally], b: dict[Key, Tally]) -> dict[Key, Tally]:
    """Return the distinct values of both, with their numbers; a pure function."""
    found = a | b
    for key in a.keys() & b.keys():
        values = np.concatenate([a[key][0], b[key][0]])
        distinct, place = np.unique(values, return_inverse=True)
        counts = np.zeros(len(distinct), dtype=np.intp)
        np.add.at(counts, place, np.concatenate([a[key][1], b[key][1]]))
        found[key] = distinct, counts
    return found

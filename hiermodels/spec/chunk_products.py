"""A chunk's cross-products by combination of groups, and the sum of two chunks'."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.spec.chunk_coding import Coder, code_chunk
from hiermodels.spec.compiling import cached_kernel
from hiermodels.spec.shown import Brief
from hiermodels.spec.streams import Chunk

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Products(Brief):
    """Cross-products of the columns of a :class:`Coder`, k (k + 1) / 2 of each cell.

    Attributes
    ----------
    n : int
        Rows.
    keys : ndarray of int (cells,)
        Ascending.
    rows, weights : ndarray (cells,)
        Rows of each cell, and what their log likelihoods count.
    cells : ndarray (cells, k (k + 1) / 2)
        The upper triangles, row by row, weighted.
    total : ndarray (k, k)
        Products over all rows, unweighted.
    constant : float
    sums : ndarray
        As of :class:`Coded`.
    tallies : dict of int to float
        Of residuals correlated within series: pairs by gap, series by length or by pattern.
    series : ndarray of int
        The series met, each once where their rows lie together.
    present : ndarray (cells, slots)
        Of memberships with weights: how many rows of each cell have it.
    variance : ndarray (cells,)
        The sum over the rows of the known part of their variances: their number, without.
    plain : ndarray (cells, k (k + 1) / 2) or (cells, 0)
        As ``cells``, but not weighted; without columns where those are not weighted either.
    ends : tuple of float
        The least and the largest response.
    """

    n: int
    keys: Ints
    rows: Array
    weights: Array
    cells: Array
    total: Array
    constant: float
    sums: Array
    tallies: dict[int, float] = field(default_factory=dict)
    series: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    present: Array = field(default_factory=lambda: np.zeros((0, 0)))
    variance: Array = field(kw_only=True)
    plain: Array = field(kw_only=True)
    ends: tuple[float, float] = field(kw_only=True)

    @property
    def unweighted(self) -> Array:
        """The upper triangles of each cell's rows that count alike, (cells, k (k + 1) / 2)."""
        return self.plain if self.plain.shape[1] else self.cells


@cached_kernel
def _add_triangles(cell: Ints, columns: Array, weight: Array, out: Array) -> None:
    """Add weight_i * columns_i columns_i' of every row to the triangle of its cell."""
    k = columns.shape[1]
    for i in range(cell.shape[0]):
        j = cell[i]
        w = weight[i] if weight.shape[0] else 1.0
        at = 0
        for a in range(k):
            left = w * columns[i, a]
            for b in range(a, k):
                out[j, at] += left * columns[i, b]
                at += 1


@cached_kernel
def _merge_sorted(a: Ints, b: Ints, keys: Ints, first: Ints, second: Ints) -> int:
    """Write the union of ascending keys, and where each one's stand; return its length."""
    i, j, n = 0, 0, 0
    while i < a.shape[0] or j < b.shape[0]:
        key = a[i] if j == b.shape[0] or (i < a.shape[0] and a[i] <= b[j]) else b[j]
        keys[n] = key
        if i < a.shape[0] and a[i] == key:
            first[i] = n
            i += 1
        if j < b.shape[0] and b[j] == key:
            second[j] = n
            j += 1
        n += 1
    return n


def _merged(a: Ints, b: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the union of ascending keys, and where each one's keys stand in it."""
    keys = np.empty(len(a) + len(b), dtype=np.int64)
    first, second = np.empty(len(a), dtype=np.int64), np.empty(len(b), dtype=np.int64)
    n = _merge_sorted(a, b, keys, first, second)
    return keys[:n].copy(), first, second


def chunk_products(coder: Coder, chunk: Chunk) -> Products:
    """Return a chunk's cross-products; a pure function.

    Parameters
    ----------
    coder : Coder
    chunk : Chunk

    Raises
    ------
    DataError
        A value is not finite or out of range, or was not there in the first pass.
    """
    coded = code_chunk(coder, chunk)
    if coded is None:
        return nothing(coder)
    columns = np.ascontiguousarray(coded.columns)
    keys, cells = triangles(coded.keys, columns, coded.weight)
    cell = np.searchsorted(keys, coded.keys)
    rows = np.bincount(cell, minlength=len(keys)).astype(np.float64)
    weights = rows
    if coded.likelihood is not None:
        weights = np.bincount(cell, coded.likelihood, len(keys))
    present = np.zeros((len(keys), coded.present.shape[1]))
    for slot, has in enumerate(coded.present.T):
        present[:, slot] = np.bincount(cell, has, len(keys))
    total = columns.T @ columns
    plain = np.zeros((len(keys), 0))
    if coded.weight is not None:
        plain = triangles(coded.keys, columns, None)[1]
    variance = rows if coded.variance is None else np.bincount(cell, coded.variance, len(keys))
    return Products(
        len(columns), keys, rows, weights, cells, total, coded.constant, coded.sums,
        present=present, variance=variance, plain=plain, ends=coded.ends,
    )  # fmt: skip


def nothing(coder: Coder) -> Products:
    """Return the cross-products of no rows."""
    k, none = coder.width, np.zeros(0)
    return Products(
        0,
        np.zeros(0, dtype=np.int64),
        none,
        none,
        np.zeros((0, k * (k + 1) // 2)),
        np.zeros((k, k)),
        0.0,
        np.zeros(len(coder.parts)),
        variance=none,
        plain=np.zeros((0, 0)),
        ends=(np.inf, -np.inf),
    )


def triangles(codes: Ints, columns: Array, weight: Array | None) -> tuple[Ints, Array]:
    """Return distinct codes, ascending, and the products of the rows of each.

    Parameters
    ----------
    codes : ndarray of int (n,)
    columns : ndarray (n, k)
    weight : ndarray (n,) or None

    Returns
    -------
    keys : ndarray of int (m,)
    products : ndarray (m, k (k + 1) / 2)
        Upper triangles, row by row.
    """
    k = columns.shape[1]
    cell, keys = pd.factorize(codes, sort=True)
    products = np.zeros((len(keys), k * (k + 1) // 2))
    weights = np.zeros(0) if weight is None else weight
    _add_triangles(cell.astype(np.int64, copy=False), columns, weights, products)
    return np.asarray(keys, dtype=np.int64), products


def add_products(a: Products, b: Products) -> Products:
    """Return the cross-products of the rows of both; a pure function."""
    if not b.n or not a.n:
        return a if not b.n else b
    if np.array_equal(a.keys, b.keys):
        keys, rows, weights = a.keys, a.rows + b.rows, a.weights + b.weights
        cells, present = a.cells + b.cells, a.present + b.present
        variance, plain = a.variance + b.variance, a.plain + b.plain
    else:
        keys, at, bt = _merged(a.keys, b.keys)
        rows, weights = np.zeros(len(keys)), np.zeros(len(keys))
        cells = np.zeros((len(keys), a.cells.shape[1]))
        present = np.zeros((len(keys), a.present.shape[1]))
        variance, plain = np.zeros(len(keys)), np.zeros((len(keys), a.plain.shape[1]))
        for place, own in ((at, a), (bt, b)):
            rows[place] += own.rows
            weights[place] += own.weights
            variance[place] += own.variance
            plain[place] += own.plain
            cells[place] += own.cells
            if own.present.size:
                present[place] += own.present
    return Products(
        a.n + b.n, keys, rows, weights, cells, a.total + b.total, a.constant + b.constant,
        a.sums + b.sums, _counted(a.tallies, b.tallies), np.concatenate([a.series, b.series]),
        present, variance=variance, plain=plain,
        ends=(min(a.ends[0], b.ends[0]), max(a.ends[1], b.ends[1])),
    )  # fmt: skip


def _counted(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
    """Return the sums of two tallies."""
    return {code: a.get(code, 0.0) + b.get(code, 0.0) for code in {**a, **b}}

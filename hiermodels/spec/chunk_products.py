"""A chunk's cross-products by combination of groups, and the sum of two chunks'."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.spec.chunk_coding import Coded, Coder, code_chunk
from hiermodels.spec.compiling import cached_kernel
from hiermodels.spec.streams import Chunk

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Products:
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
    """

    n: int
    keys: Ints
    rows: Array
    weights: Array
    cells: Array
    total: Array
    constant: float
    sums: Array


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
    k = coder.width
    size = k * (k + 1) // 2
    if coded is None:
        none = np.zeros(0)
        return Products(
            0, np.zeros(0, dtype=np.int64), none, none, np.zeros((0, size)), np.zeros((k, k)),
            0.0, np.zeros(len(coder.parts)),
        )  # fmt: skip
    return _summed(coded, size)


def _summed(coded: Coded, size: int) -> Products:
    """Return the products of coded rows."""
    codes, keys = pd.factorize(coded.keys, sort=True)
    cell = codes.astype(np.int64, copy=False)
    columns = np.ascontiguousarray(coded.columns)
    cells = np.zeros((len(keys), size))
    none = np.zeros(0)
    _add_triangles(cell, columns, none if coded.weight is None else coded.weight, cells)
    rows = np.bincount(cell, minlength=len(keys)).astype(np.float64)
    weights = rows
    if coded.likelihood is not None:
        weights = np.bincount(cell, coded.likelihood, len(keys))
    total = columns.T @ columns
    return Products(
        len(columns), np.asarray(keys, dtype=np.int64), rows, weights, cells, total,
        coded.constant, coded.sums,
    )  # fmt: skip


def add_products(a: Products, b: Products) -> Products:
    """Return the cross-products of the rows of both; a pure function."""
    if not b.n or not a.n:
        return a if not b.n else b
    if np.array_equal(a.keys, b.keys):
        keys, rows, weights, cells = a.keys, a.rows + b.rows, a.weights + b.weights, None
        cells = a.cells + b.cells
    else:
        keys = np.union1d(a.keys, b.keys)
        at, bt = np.searchsorted(keys, a.keys), np.searchsorted(keys, b.keys)
        rows, weights = np.zeros(len(keys)), np.zeros(len(keys))
        cells = np.zeros((len(keys), a.cells.shape[1]))
        for place, own in ((at, a), (bt, b)):
            rows[place] += own.rows
            weights[place] += own.weights
            cells[place] += own.cells
    return Products(
        a.n + b.n, keys, rows, weights, cells, a.total + b.total, a.constant + b.constant,
        a.sums + b.sums,
    )  # fmt: skip

"""Few rows that have the cross-products of many."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.compiling import cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
_EXACT: Final = 1e-15


@cached_kernel
def _factor_triangles(triangles: Array, k: int, out: Array, ranks: Ints) -> None:
    """Write rows (k, k) of each cell whose products are its triangle's; the largest pivot first."""
    left = np.zeros((k, k))
    for j in range(triangles.shape[0]):
        at = 0
        trace = 0.0
        for a in range(k):
            for b in range(a, k):
                left[a, b] = left[b, a] = triangles[j, at]
                at += 1
            trace += left[a, a]
        for r in range(k):
            pivot = 0
            for a in range(1, k):
                if left[a, a] > left[pivot, pivot]:
                    pivot = a
            size = left[pivot, pivot]
            if size <= _EXACT * trace:
                break
            root = np.sqrt(size)
            for a in range(k):
                out[j, r, a] = left[pivot, a] / root
            for a in range(k):
                for b in range(k):
                    left[a, b] -= out[j, r, a] * out[j, r, b]
            ranks[j] = r + 1


def rows_of(triangles: Array, k: int) -> tuple[Array, Ints]:
    """Return rows (m, k) with given products, and the cell of each.

    Parameters
    ----------
    triangles : ndarray (cells, k (k + 1) / 2)
        Upper triangles of positive semidefinite matrices, row by row.
    k : int

    Returns
    -------
    rows : ndarray (m, k)
        At least one of each cell, at most k.
    cell : ndarray of int (m,)

    Examples
    --------
    >>> rows, cell = rows_of(np.array([[4.0, 2.0, 1.0]]), 2)
    >>> rows, cell
    (array([[2., 1.]]), array([0]))
    """
    out = np.zeros((len(triangles), k, k))
    ranks = np.zeros(len(triangles), dtype=np.intp)
    _factor_triangles(np.ascontiguousarray(triangles), k, out, ranks)
    keep = np.arange(k) < np.maximum(ranks, 1)[:, None]
    return out[keep], np.repeat(np.arange(len(triangles)), np.maximum(ranks, 1)).astype(np.intp)

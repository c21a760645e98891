"""The arrow's factor with a wide corner made sparse, for maps that need not be exact.

Levels of a wide crossed grouping hang together through the levels of the largest grouping that they
share, which makes the corner dense. Most of that is one direction (all of them together against
the coefficients), and the rest is weak. Given the coefficients and the narrow groupings the wide
ones are taken as independent here; how they follow those is kept exactly, and so is everything
about the chain of the largest grouping.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky

from hiermodels.engines.arrow_triangle import Triangle

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a triangle in their order: diagonal, and by entry its row, column and value."""

    diagonal: Array
    row: Index
    column: Index
    value: Array


def thin_corner(triangle: Triangle, corner: int, wide: Mapping[int, int]) -> Triangle:
    """Return the triangle without what ties levels of wide groupings to each other.

    Parameters
    ----------
    triangle : Triangle
    corner : int
        Its first row in the corner, which is dense from there on.
    wide : mapping of int to int
        Effects of a level by wide grouping, the groupings in the corner.

    Returns
    -------
    Triangle
        Wide groupings come first in the corner; rows before it are the same.

    Examples
    --------
    >>> import numpy as np
    >>> own = Triangle(
    ...     np.array([2.0, 2.0, 1.0]), np.array([0, 2, 3, 3]), np.array([1, 2, 2]),
    ...     np.array([0.5, 1.0, 1.0]), np.array([1, 1, -1]), np.array([0, 1, 0]))
    >>> thin_corner(own, 0, {1: 1}).dense().round(3)
    array([[2.   , 0.   , 0.75 ],
           [0.   , 2.062, 1.031],
           [0.   , 0.   , 1.   ]])
    """
    kind = triangle.grouping[corner:]
    is_wide = np.isin(kind, list(wide))
    order = np.concatenate([np.flatnonzero(is_wide), np.flatnonzero(~is_wide)])
    n_wide = int(is_wide.sum())
    starts = triangle.start
    size = len(order)
    dense = np.diag(triangle.diagonal[corner:])
    dense[np.triu_indices(size, 1)] = triangle.value[starts[corner] :]
    product = (dense.T @ dense)[np.ix_(order, order)]
    effects = np.array([wide[k] for k in kind[order[:n_wide]]], dtype=np.int64)
    first = triangle.position[corner + order[:n_wide]] % effects
    own = _corner_rows(product, effects, first)
    new_place = np.empty(size, dtype=np.int64)
    new_place[order] = np.arange(size)
    column = triangle.column[: starts[corner]].copy()
    inside = column >= corner
    column[inside] = corner + new_place[column[inside] - corner]
    counts = np.bincount(own.row, minlength=size)
    places = np.concatenate([np.arange(corner), corner + order])
    return Triangle(
        np.concatenate([triangle.diagonal[:corner], own.diagonal]),
        np.concatenate([starts[: corner + 1], starts[corner] + np.cumsum(counts)]).astype(np.int64),
        np.concatenate([column, corner + own.column]).astype(np.int64),
        np.concatenate([triangle.value[: starts[corner]], own.value]),
        triangle.grouping[places],
        triangle.position[places],
    )


def _corner_rows(product: Array, effects: Index, within: Index) -> _Rows:
    """Return the rows of a corner (size, size) whose first columns are wide.

    Of each of those: effects of its level, and its place among them.

    A wide level's own block is kept; it follows the other columns w as its exact conditional mean
    does, so that of the level's factor u and that mean A w its rows are u on the level, -u A on w.
    """
    size, n_wide = len(product), len(effects)
    across = product[:n_wide, n_wide:]
    follow = -cho_solve(cho_factor(product[:n_wide, :n_wide]), across)
    rest = cholesky(product[n_wide:, n_wide:] + across.T @ follow)
    factor = np.zeros((n_wide, int(effects.max())))
    lines = np.zeros_like(follow)
    for q in np.unique(effects):
        first = np.flatnonzero(effects == q)[::q]
        each = first[:, None] + np.arange(q)
        blocks = product[each[:, :, None], each[:, None, :]]
        upper = np.linalg.cholesky(blocks).transpose(0, 2, 1)
        lines[each] = -np.einsum("jab,jbw->jaw", upper, follow[each])
        for a in range(q):
            # from the diagonal on
            factor[each[:, a], : q - a] = upper[:, a, a:]
    row, column, value = [], [], []
    place = np.arange(n_wide)
    for k in range(1, factor.shape[1]):
        held = np.flatnonzero(within + k < effects)
        row.append(held)
        column.append(held + k)
        value.append(factor[held, k])
    n_rest = size - n_wide
    row.append(np.repeat(place, n_rest))
    column.append(np.tile(n_wide + np.arange(n_rest), n_wide))
    value.append(lines.ravel())
    upper_row, upper_column = np.triu_indices(n_rest, 1)
    row.append(n_wide + upper_row)
    column.append(n_wide + upper_column)
    value.append(rest[upper_row, upper_column])
    rows, columns, values = np.concatenate(row), np.concatenate(column), np.concatenate(value)
    sort = np.lexsort((columns, rows))
    diagonal = np.concatenate([factor[:, 0], np.diag(rest)])
    return _Rows(diagonal, rows[sort], columns[sort], values[sort])

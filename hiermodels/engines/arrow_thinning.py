"""The arrow's factor made sparse where its corner is wide, for maps that need not be exact.

Levels of a wide crossed grouping hang together through the levels of the largest grouping that they
share, which makes the corner dense. Most of that is one direction (all of them together against
the coefficients), and the rest is weak. Given the coefficients and the narrow groupings the wide
ones are taken as independent here, of each other and of the largest grouping's levels. How all of
them follow the coefficients and the narrow groupings is kept, up to entries that hardly matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky
from scipy.sparse import coo_array, csr_array

from hiermodels.engines.arrow_triangle import Triangle

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# What a column may lose of its curvature, as a share, with the smallest entries above it.
_LOST: Final = 0.1


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a triangle in their order: diagonal, and by entry its row, column and value."""

    diagonal: Array
    row: Index
    column: Index
    value: Array


def thin_corner(
    triangle: Triangle, corner: int, wide: Mapping[int, int], lost: float = _LOST
) -> Triangle:
    """Return the triangle without what ties levels of wide groupings to other groupings' levels.

    Parameters
    ----------
    triangle : Triangle
    corner : int
        Its first row in the corner, which is dense from there on.
    wide : mapping of int to int
        Effects of a level by wide grouping, the groupings in the corner.
    lost : float
        Share of a column's curvature that may go with its smallest entries.

    Returns
    -------
    Triangle
        Wide groupings come first in the corner.

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
    n_wide, size = int(is_wide.sum()), len(order)
    starts = triangle.start
    dense = np.diag(triangle.diagonal[corner:])
    dense[np.triu_indices(size, 1)] = triangle.value[starts[corner] :]
    product = (dense.T @ dense)[np.ix_(order, order)]
    effects = np.array([wide[k] for k in kind[order[:n_wide]]], dtype=np.int64)
    within = triangle.position[corner + order[:n_wide]] % effects
    follow = -cho_solve(cho_factor(product[:n_wide, :n_wide]), product[:n_wide, n_wide:])
    new_place = np.empty(size, dtype=np.int64)
    new_place[order] = np.arange(size)
    chain = _chain_rows(triangle, corner, new_place, n_wide, follow)
    own = _corner_rows(product, effects, within, follow)
    diagonal = np.concatenate([triangle.diagonal[:corner], own.diagonal])
    row = np.concatenate([chain.row, corner + own.row])
    column = np.concatenate([chain.column, corner + own.column])
    value = np.concatenate([chain.value, own.value])
    above = (column >= corner + n_wide) & (row < corner + n_wide)
    keep = ~above
    keep[above] = _matters(column[above], value[above], diagonal, lost)
    row, column, value = row[keep], column[keep], value[keep]
    sort = np.lexsort((column, row))
    places = np.concatenate([np.arange(corner), corner + order])
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(diagonal)))])
    return Triangle(
        diagonal,
        start.astype(np.int64),
        column[sort],
        value[sort],
        triangle.grouping[places],
        triangle.position[places],
    )


def _chain_rows(
    triangle: Triangle, corner: int, new_place: Index, n_wide: int, follow: Array
) -> _Rows:
    """Return the rows before the corner, wide columns replaced by how these follow the others."""
    end = triangle.start[corner]
    row = np.repeat(np.arange(corner), np.diff(triangle.start[: corner + 1]))
    column, value = triangle.column[:end], triangle.value[:end]
    inside = column >= corner
    place = new_place[column[inside] - corner]
    shape = corner, len(new_place)
    across = csr_array(coo_array((value[inside], (row[inside], place)), shape=shape))
    lines = across[:, n_wide:].toarray() + across[:, :n_wide] @ follow
    n_rest = lines.shape[1]
    return _Rows(
        triangle.diagonal[:corner],
        np.concatenate([row[~inside], np.repeat(np.arange(corner), n_rest)]),
        np.concatenate([column[~inside], np.tile(corner + n_wide + np.arange(n_rest), corner)]),
        np.concatenate([value[~inside], lines.ravel()]),
    )


def _matters(column: Index, value: Array, diagonal: Array, lost: float) -> NDArray[np.bool_]:
    """Return which entries to keep: those left out add up to so little of a column's curvature."""
    share = (value / diagonal[column]) ** 2
    order = np.lexsort((share, column))
    ranked, sums = column[order], np.cumsum(share[order])
    first = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    before = np.where(first, sums - share[order], 0.0)
    sums -= np.maximum.accumulate(before)
    keep = np.empty(len(column), dtype=bool)
    keep[order] = sums > lost
    return keep


def _corner_rows(product: Array, effects: Index, within: Index, follow: Array) -> _Rows:
    """Return the rows of a corner (size, size) whose first columns are wide.

    Of each of those: effects of its level, and its place among them.

    A wide level's own block is kept; it follows the other columns w as its exact conditional mean
    does, so that of the level's factor u and that mean A w its rows are u on the level, -u A on w.
    """
    size, n_wide = len(product), len(effects)
    across = product[:n_wide, n_wide:]
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
    return _Rows(np.concatenate([factor[:, 0], np.diag(rest)]), rows, columns, values)

"""The arrow's factor as a sparse triangular matrix, with what each of its rows stands for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_layout import AT_FACTOR, AT_LEVELS, CORNER, CROSSED, LEVEL
from hiermodels.spec.gram import Gram

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Triangle:
    """U with U'U = A, in the order of elimination: rows sparse, their diagonal apart.

    Attributes
    ----------
    diagonal : ndarray (m,)
    start : ndarray of int (m + 1,)
        Where each row's entries right of the diagonal begin.
    column : ndarray of int
    value : ndarray
    grouping : ndarray of int (m,)
        Grouping of each row; -1 for coefficients.
    position : ndarray of int (m,)
        Level times effects plus effect within the grouping, or the coefficient.

    Examples
    --------
    >>> one = Triangle(
    ...     np.array([2.0, 1.0]), np.array([0, 1, 1]), np.array([1]), np.array([0.5]),
    ...     np.array([0, -1]), np.array([0, 0]))
    >>> one.dense()
    array([[2. , 0.5],
           [0. , 1. ]])
    """

    diagonal: Array
    start: Index
    column: Index
    value: Array
    grouping: Index
    position: Index

    def dense(self) -> Array:
        """Return the matrix (m, m)."""
        m = len(self.diagonal)
        out = np.diag(self.diagonal)
        out[np.repeat(np.arange(m), np.diff(self.start)), self.column] = self.value
        return out


def sparse_triangle(gram: Gram, buffer: Array, head: Index, scratch: Array) -> Triangle:
    """Return the factor that stands in the kernels' working memory.

    Parameters
    ----------
    gram : Gram
    buffer : ndarray
        What the kernels read.
    head : ndarray of int
        The arrow's head.
    scratch : ndarray
        Working memory after a factorisation.
    """
    p, whole = gram.n_coefs, buffer.view(np.int64)
    sizes = [len(level.levels) * gram.groupings[level.grouping].q for level in gram.levels]
    first = np.cumsum([0, *sizes])
    crossed, n = int(head[CROSSED]), int(head[CROSSED]) + p
    corner_at = int(head[CORNER])
    corner = scratch[corner_at : corner_at + (n + 1) ** 2].reshape(n + 1, n + 1)[:n, :n]
    diagonals, counts, columns, values, kinds, places = [], [], [], [], [], []
    for h, level in enumerate(gram.levels):
        q = gram.groupings[level.grouping].q
        start = int(whole[head[AT_LEVELS] + h * LEVEL + AT_FACTOR])
        at = whole[start : start + len(level.parent)]
        names, owner = _node_columns(gram, h, first)
        wide = np.bincount(owner, minlength=len(at))
        # columns of a node in its stored order, own ones first; y's stands last and is left out
        before = np.concatenate([[0], np.cumsum(wide)])[:-1]
        inside = np.arange(len(names)) - before[owner]
        for k in range(q):
            line = scratch[at[owner] + k * (wide[owner] + 1) + inside]
            diagonals.append(scratch[at + k * (wide + 1) + k])
            keep = inside > k
            columns.append(names[keep])
            values.append(line[keep])
            counts.append(wide - 1 - k)
            kinds.append(np.full(len(at), level.grouping))
            places.append(level.levels * q + k)
    by_level = _in_order(gram, diagonals, counts, columns, values, kinds, places)
    upper = np.triu(corner, 1)
    rows, tail = np.nonzero(np.triu(np.ones((n, n), dtype=bool), 1))
    owner_of, position_of = _corner_names(gram, crossed, p)
    diagonal, count, column, value, kind, place = by_level
    count = np.concatenate([count, np.arange(n)[::-1]]).astype(np.int64)
    return Triangle(
        np.concatenate([diagonal, np.diag(corner)]),
        np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        np.concatenate([column, first[-1] + tail]).astype(np.int64),
        np.concatenate([value, upper[rows, tail]]),
        np.concatenate([kind, owner_of]).astype(np.int64),
        np.concatenate([place, position_of]).astype(np.int64),
    )


def _node_columns(gram: Gram, h: int, first: Index) -> tuple[Index, Index]:
    """Return the rows of the triangle that the columns of a level's nodes are, and their nodes."""
    level, p = gram.levels[h], gram.n_coefs
    n_nodes = len(level.parent)
    parts, owners = [], []
    node, own = np.arange(n_nodes), np.arange(n_nodes)
    order: list[Index] = []
    for later in range(h, len(gram.levels)):
        q = gram.groupings[gram.levels[later].grouping].q
        for k in range(q):
            parts.append(first[later] + own * q + k)
            owners.append(node)
            order.append(np.full(n_nodes, len(order)))
        own = gram.levels[later].parent[own]
    fixed = len(order)
    sizes = np.array([g.q for g in gram.groupings])[level.touch_grouping]
    touched = np.repeat(level.touch_corner, sizes) + _within(sizes)
    holder = np.repeat(np.repeat(node, np.diff(level.touch_start)), sizes)
    parts.append(first[-1] + touched)
    owners.append(holder)
    order.append(fixed + np.arange(len(touched)))
    for k in range(p):
        parts.append(np.full(n_nodes, first[-1] + gram.corner.n_columns + k))
        owners.append(node)
        order.append(np.full(n_nodes, fixed + len(touched) + k))
    names, owner = np.concatenate(parts), np.concatenate(owners)
    sort = np.lexsort((np.concatenate(order), owner))
    return names[sort].astype(np.int64), owner[sort].astype(np.int64)


def _within(sizes: Index) -> Index:
    """Return 0, 1, ... within each run of these sizes."""
    ends = np.cumsum(sizes)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - sizes, sizes)


def _in_order(
    gram: Gram, diagonals: list[Array], counts: list[Index], columns: list[Index],
    values: list[Array], kinds: list[Index], places: list[Index],
) -> tuple[Array, Index, Index, Array, Index, Index]:  # fmt: skip
    """Return rows that were collected effect by effect, node by node."""
    found: list[list[Any]] = [[], [], [], [], [], []]
    at = 0
    for level in gram.levels:
        q, n_nodes = gram.groupings[level.grouping].q, len(level.parent)
        own = slice(at, at + q)
        at += q
        found[0].append(np.stack(diagonals[own], axis=1).ravel())
        found[1].append(np.stack(counts[own], axis=1).ravel())
        found[4].append(np.stack(kinds[own], axis=1).ravel())
        found[5].append(np.stack(places[own], axis=1).ravel())
        # entries of a node's rows, one row after the other
        row = np.repeat(np.arange(q * n_nodes), np.concatenate(counts[own]))
        effect, node = np.divmod(row, n_nodes)
        sort = np.argsort(node * q + effect, kind="stable")
        found[2].append(np.concatenate(columns[own])[sort])
        found[3].append(np.concatenate(values[own])[sort])
    joined = [np.concatenate([np.zeros(0), *part]) for part in found]
    whole = [joined[k].astype(np.int64) for k in (1, 2, 4, 5)]
    return joined[0], whole[0], whole[1], joined[3], whole[2], whole[3]


def _corner_names(gram: Gram, crossed: int, p: int) -> tuple[Index, Index]:
    """Return grouping and position of the corner's rows."""
    owner, position = np.full(crossed + p, -1), np.zeros(crossed + p, dtype=np.int64)
    for k, column in zip(gram.border, gram.corner.first, strict=True):
        g = gram.groupings[k]
        own = slice(column, column + g.n_levels * g.q)
        owner[own], position[own] = k, np.arange(g.n_levels * g.q)
    position[crossed:] = np.arange(p)
    return owner, position

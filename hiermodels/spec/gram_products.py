"""Products of columns, chunk by chunk: the rows are read here and nowhere after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
from scipy import sparse

from hiermodels.spec.compiling import cached_kernel
from hiermodels.spec.deviations import Deviations
from hiermodels.spec.gram_parts import Array, Basis, Corner, Gram, Grouping, Index
from hiermodels.spec.gram_tree import Touches
from hiermodels.spec.matrices import Columns

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

_ROWS: Final = 1 << 16


def orthogonal(X: Columns, X_other: Columns, y: Array) -> tuple[Array, Array]:
    """Return R of X, and the coefficients of y on [X, X_other]."""
    p, total = X.shape[1], X.shape[1] + X_other.shape[1]
    parts = (
        np.linalg.qr(np.column_stack([X[lo:hi], X_other[lo:hi], y[lo:hi]]), mode="r")
        for lo, hi in _chunks(len(y))
    )
    triangle = reduce(
        lambda above, part: np.linalg.qr(np.concatenate([above, part]), mode="r"),
        parts,
        np.zeros((total + 1, total + 1)),
    )
    R, norms = triangle[:p, :p], np.linalg.norm(triangle[:, :total], axis=0)
    pivots = np.abs(np.diag(triangle)[:total])
    if np.any(pivots <= 1e-10 * norms):
        # columns that depend on each other: no projection, only their scale
        return np.diag(np.where(norms > 0, norms, 1.0)[:p]), np.zeros(total)
    return R, np.linalg.solve(triangle[:total, :total], triangle[:total, total])


def _chunks(n: int) -> Iterator[tuple[int, int]]:
    return ((lo, min(lo + _ROWS, n)) for lo in range(0, n, _ROWS))


@dataclass(frozen=True, eq=False)
class Rows:
    """The columns, chunk by chunk."""

    groupings: tuple[Grouping, ...]
    X: Columns
    X_other: Columns
    y: Array
    bases: tuple[Basis, ...]
    R: Array
    centre: Array

    @property
    def chunks(self) -> list[slice]:
        """Parts of the rows; all at once where a basis joins rows."""
        n = len(self.y)
        if any(isinstance(basis, sparse.sparray | Deviations) for basis in self.bases):
            return [slice(0, n)]
        return [slice(lo, hi) for lo, hi in _chunks(n)]

    def tail(self, rows: slice) -> Array:
        """Return X R^-1, X_other and y without its projection."""
        X, other = self.X[rows], self.X_other[rows]
        fitted = np.column_stack([X, other]) @ self.centre
        columns = X @ np.linalg.inv(self.R) if X.shape[1] else X
        return np.column_stack([columns, other, self.y[rows] - fitted])

    def weighted(self, m: int, columns: Array, rows: slice) -> Array:
        """Return M_m times columns."""
        basis = self.bases[m]
        if basis is None:
            return columns
        if isinstance(basis, np.ndarray):
            return columns * basis[rows, None]
        return np.ascontiguousarray(basis @ columns)


@cached_kernel
def _add_products(index: Index, left: Array, right: Array, out: Array) -> None:
    """Add left_i' right_i of every row to out[index_i], (levels, a, b)."""
    for i in range(index.shape[0]):
        j = index[i]
        for a in range(left.shape[1]):
            for b in range(right.shape[1]):
                out[j, a, b] += left[i, a] * right[i, b]


def node_products(
    rows: Rows, gram: Gram, h: int, node: Index, touches: Touches
) -> tuple[Array, Index]:
    """Return the products of one grouping's nodes, and where each node's begin."""
    own = gram.groupings[gram.chain[h]]
    n_nodes, m = own.n_levels, gram.n_bases
    chain = [gram.groupings[k] for k in gram.chain[h:]]
    fixed = own.q + gram.later(h) + gram.tail
    dense = np.zeros((m, n_nodes, own.q, fixed))
    border = [gram.groupings[k] for k in gram.border]
    touched = [np.zeros((m, len(touches.keys), own.q, g.q)) for g in border]
    for part in rows.chunks:
        right = np.column_stack([*(g.columns[part] for g in chain), rows.tail(part)])
        for k in range(m):
            left = rows.weighted(k, np.ascontiguousarray(own.columns[part]), part)
            _add_products(node[part], left, right, dense[k])
            for b, g in enumerate(border):
                for slot in range(g.slots.shape[1]):
                    met = np.ascontiguousarray(touches.rows[b][part, slot])
                    _add_products(met, left, g.slot_columns(slot, part), touched[b][k])
    width = fixed + touches.columns
    start = np.concatenate([[0], np.cumsum(m * own.q * width)]).astype(np.intp)
    head = fixed - gram.tail
    if not border:
        return np.ascontiguousarray(dense.transpose(1, 0, 2, 3)).ravel(), start
    out = np.zeros(start[-1])
    line = (np.arange(m)[:, None] * own.q + np.arange(own.q)).ravel()
    at = start[:-1, None] + line * width[:, None]
    for columns, shift in (
        (np.arange(head), np.zeros_like(width)),
        (np.arange(head, fixed), touches.columns),
    ):
        place = (at + shift[:, None])[:, :, None] + columns
        out[place] = dense[..., columns].transpose(1, 0, 2, 3).reshape(place.shape)
    owner = np.repeat(np.arange(n_nodes), np.diff(touches.start))
    inside = touches.before[:-1] - touches.before[touches.start[owner]] + head
    for k, g, values in zip(gram.border, border, touched, strict=True):
        mine = np.flatnonzero(touches.grouping == k)
        place = (at[owner[mine]] + inside[mine, None])[:, :, None] + np.arange(g.q)
        out[place] = values[:, mine].transpose(1, 0, 2, 3).reshape(place.shape)
    return out, start


@dataclass(frozen=True, eq=False)
class Meetings:
    """Which levels of two border groupings meet, and where each row stands among them.

    Attributes
    ----------
    keys : ndarray of int
    rows : dict
        By one's and the other's slot positions in ``keys`` (n,); -1 for what is left out.
    """

    keys: Index
    rows: dict[tuple[int, int], Index]


def find_meetings(one: Grouping, other: Grouping, same: bool) -> Meetings:
    """Return the pairs of levels that rows join; of a grouping's own the upper triangle.

    Parameters
    ----------
    one, other : Grouping
    same : bool
        Whether they are one grouping.
    """
    codes = {}
    for a in range(one.slots.shape[1]):
        for b in range(other.slots.shape[1]):
            code = one.slots[:, a] * other.n_levels + other.slots[:, b]
            # of two levels of one grouping the other order gives the transpose
            codes[a, b] = np.where(same & (one.slots[:, a] > other.slots[:, b]), -1, code)
    keys = np.unique(np.concatenate(list(codes.values())))
    keys = keys[keys >= 0]
    return Meetings(
        keys,
        {pair: np.where(code < 0, -1, np.searchsorted(keys, code)) for pair, code in codes.items()},
    )


def _add_met(met: Index, left: Array, right: Array, out: Array) -> None:
    """Add the products of the rows that count."""
    counted = met >= 0
    if not counted.all():
        met, left, right = met[counted], left[counted], right[counted]
    _add_products(met, left, np.ascontiguousarray(right), out)


def corner_products(rows: Rows, border: Sequence[int], first: Index) -> Corner:
    """Return the products among border columns."""
    m = len(rows.bases)
    groupings = [rows.groupings[k] for k in border]
    width = rows.X.shape[1] + rows.X_other.shape[1] + 1
    meets = {
        (a, b): find_meetings(groupings[a], groupings[b], a == b)
        for a in range(len(groupings))
        for b in range(a, len(groupings))
    }
    found = {
        (a, b): np.zeros((m, len(own.keys), groupings[a].q, groupings[b].q))
        for (a, b), own in meets.items()
    }
    tails = [np.zeros((m, g.n_levels, g.q, width)) for g in groupings]
    total = np.zeros((m, width, width))
    for part in rows.chunks:
        tail = rows.tail(part)
        zs = [[g.slot_columns(slot, part) for slot in range(g.slots.shape[1])] for g in groupings]
        for k in range(m):
            total[k] += tail.T @ rows.weighted(k, tail, part)
            left = [[rows.weighted(k, z, part) for z in own] for own in zs]
            for a, g in enumerate(groupings):
                for slot, columns in enumerate(left[a]):
                    index = np.ascontiguousarray(g.slots[part, slot])
                    _add_products(index, columns, tail, tails[a][k])
            for (a, b), own in meets.items():
                for (one, other), met in own.rows.items():
                    _add_met(met[part], left[a][one], zs[b][other], found[a, b][k])
    pairs, blocks, parts, at = [], [], [], 0
    for (a, b), own in meets.items():
        keys = own.keys
        la, lb = np.divmod(keys, groupings[b].n_levels)
        qa, qb = groupings[a].q, groupings[b].q
        places = at + np.arange(len(keys)) * m * qa * qb
        kinds = np.full(len(keys), border[a]), np.full(len(keys), border[b])
        pairs.append(np.column_stack([first[a] + la * qa, first[b] + lb * qb, *kinds, places]))
        parts.append(found[a, b].transpose(1, 0, 2, 3).ravel())
        at += parts[-1].size
    for a, g in enumerate(groupings):
        columns = first[a] + np.arange(g.n_levels) * g.q
        places = at + np.arange(g.n_levels) * m * g.q * width
        blocks.append(np.column_stack([columns, np.full(g.n_levels, border[a]), places]))
        parts.append(tails[a].transpose(1, 0, 2, 3).ravel())
        at += parts[-1].size
    return Corner(
        int(first[-1]),
        tuple(int(k) for k in first[:-1]),
        np.concatenate([np.zeros((0, 5), dtype=np.intp), *pairs]).astype(np.intp),
        np.concatenate([np.zeros((0, 3), dtype=np.intp), *blocks]).astype(np.intp),
        np.concatenate([np.zeros(0), *parts]),
        (total + total.transpose(0, 2, 1)) / 2.0,
    )

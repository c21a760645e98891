"""The arrow under weights that change: products filled row by row, solves, and rows' leverages.

With diagonal precision d, scores r and the factors D, the matrix is I + D'Z'diag(d)ZD (with X as
further columns) and the right side D'Z'r. The structure of the groupings is found once; filling
and factoring cost what a pass over the rows and one elimination cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_layout import (
    ARROW,
    AT_BLOCKS,
    AT_FACTOR,
    AT_LEVELS,
    AT_PAIRS,
    AT_START,
    AT_TAIL,
    BLOCK,
    CORNER,
    CROSSED,
    INVERSE,
    LEVEL,
    PAIR,
    SCRATCH,
    Writer,
    lambda_starts,
    write_arrow,
)
from hiermodels.engines.arrow_row_kernels import (
    fill_kernel,
    leverages_kernel,
    moments_kernel,
    solve_kernel,
)
from hiermodels.engines.arrow_triangle import Triangle, sparse_triangle
from hiermodels.engines.profiling import wide_moments
from hiermodels.spec.gram import Gram, build_gram
from hiermodels.spec.gram_parts import Grouping
from hiermodels.spec.gram_tree import find_touches, find_tree

Array = NDArray[np.float64]
Index = NDArray[np.int64]
# The product of y with itself: so large that no pivot of its column is ever lost.
_HUGE: Final = 1e300
# Corners from here on are inverted by LAPACK.
_WIDE: Final = 150


# --- where each row's products go -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowMap:
    """Where the products of each row stand; whole numbers, read by compiled loops.

    Attributes
    ----------
    chain : ndarray (h, 3)
        By level of the chain: grouping, effects, first column of its z.
    border : ndarray (b, 3)
        By border grouping: grouping, effects, first column of its z.
    node : ndarray (h, n)
    at, width : ndarray (h, n)
        Where the products of the row's node begin, and their columns.
    offset : ndarray (h, b, n)
        Columns before those of the row's border level among the node's.
    pair : ndarray (pairs, n)
        Where the products of two border levels begin.
    block : ndarray (b, n)
        Where the products of a border level with X and y begin.
    column : ndarray (b, n)
        First column of the row's border level in the corner.
    tail : int
        Where the products of X and y begin.
    """

    chain: Index
    border: Index
    node: Index
    at: Index
    width: Index
    offset: Index
    pair: Index
    block: Index
    column: Index
    tail: int


def _row_map(gram: Gram, f: Array, head: Index) -> RowMap:
    groupings, n = gram.groupings, gram.n
    whole = f.view(np.int64)
    first = np.cumsum([0, *(g.q for g in groupings)])
    records = [
        np.array([(k, groupings[k].q, first[k]) for k in which], dtype=np.int64).reshape(-1, 3)
        for which in (gram.chain, gram.border)
    ]
    nodes, _, _ = find_tree([groupings[k] for k in gram.chain])
    shape = len(gram.chain), n
    at, width = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    offset = np.zeros((len(gram.chain), len(gram.border), n), dtype=np.int64)
    for h, node in enumerate(nodes):
        own = groupings[gram.chain[h]]
        touches = find_touches(groupings, gram.border, node)
        before = own.q + gram.later(h)
        start = int(whole[head[AT_LEVELS] + h * LEVEL + AT_START])
        at[h] = whole[start : start + len(touches.columns)][node]
        width[h] = (before + touches.columns + gram.n_coefs + 1)[node]
        for b, met in enumerate(touches.rows):
            rows = met[:, 0]
            offset[h, b] = before + touches.before[rows] - touches.before[touches.start[node]]
    crossed = [groupings[k] for k in gram.border]
    places = whole[head[AT_PAIRS] : head[AT_PAIRS] + PAIR * len(gram.corner.pairs)].reshape(
        -1, PAIR
    )
    blocks = whole[head[AT_BLOCKS] : head[AT_BLOCKS] + BLOCK * len(gram.corner.blocks)]
    blocks = blocks.reshape(-1, BLOCK)
    pair, found, seen = [], 0, np.cumsum([0, *(g.n_levels for g in crossed)])
    for a in range(len(crossed)):
        for b in range(a, len(crossed)):
            code = crossed[a].index * crossed[b].n_levels + crossed[b].index
            keys, which = np.unique(code, return_inverse=True)
            pair.append(places[found + which.ravel(), 4])
            found += len(keys)
    corner = [blocks[seen[b] + g.index] for b, g in enumerate(crossed)]
    empty = np.zeros((0, n), dtype=np.int64)
    return RowMap(
        records[0], records[1],
        np.array(nodes, dtype=np.int64).reshape(shape), at, width, offset,
        np.array(pair, dtype=np.int64) if pair else empty,
        np.array([own[:, 2] for own in corner], dtype=np.int64) if corner else empty,
        np.array([own[:, 0] for own in corner], dtype=np.int64) if corner else empty,
        int(head[AT_TAIL]),
    )  # fmt: skip


# --- the arrow ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Solution:
    """What one factorisation gives.

    Attributes
    ----------
    log_det : float
        log|A|; nan where the matrix is not positive definite to nine digits.
    scores : tuple of ndarray (J, q)
        By grouping, the solution's standard scores.
    coefficients : ndarray (p,)
        The solution's coefficients.
    """

    log_det: float
    scores: tuple[Array, ...]
    coefficients: Array


class RowArrow:
    """The arrow of groupings and columns, for any weights of the rows.

    Holds working memory: an object serves one thread. Each method says what must have gone before.

    Parameters
    ----------
    groupings : sequence of Grouping
    X : ndarray (n, p)
        Columns whose coefficients are solved for with the scores.
    prior : ndarray (p,), optional
        Precision of the coefficients; zeros by default.

    Examples
    --------
    >>> index = np.array([0, 0, 1, 1])
    >>> arrow = RowArrow([Grouping("g", np.ones((4, 1)), index, 2)], np.zeros((4, 0)))
    >>> arrow.fill(np.ones(4), np.array([3.0, 3.0, -3.0, -3.0]))
    >>> arrow.solve(np.ones(1)).scores[0].ravel()
    array([ 2., -2.])
    """

    def __init__(self, groupings: Sequence[Grouping], X: Array, prior: Array | None = None) -> None:
        n, p = X.shape
        self.gram: Gram = build_gram(groupings, np.zeros((n, p)), np.zeros((n, 0)), np.zeros(n))
        precision = np.zeros((p + 1, p + 1))
        if prior is not None:
            precision[np.arange(p), np.arange(p)] = prior
        precision[p, p] = _HUGE
        writer = Writer(0)
        self.head = write_arrow(self.gram, precision, writer)
        self.buffer: Array = np.concatenate(writer.parts)
        head = self.buffer.view(np.int64)[self.head : self.head + ARROW]
        self.layout = head.copy()
        self.rows = _row_map(self.gram, self.buffer, head)
        self.X = np.ascontiguousarray(X)
        self.z = np.ascontiguousarray(
            np.concatenate([np.zeros((n, 0)), *(g.z for g in groupings)], axis=1)
        )
        self.starts = np.array(lambda_starts(self.gram), dtype=np.int64)
        self._scratch = np.empty(head[SCRATCH])
        self._zeroed = self._product_spans()
        self._places, self._levels = self._score_places()
        self._factors = self._factor_places()
        self._d = np.zeros(n)

    def _product_spans(self) -> list[slice]:
        """Return which parts of the buffer hold sums over rows."""
        head, whole = self.layout, self.buffer.view(np.int64)
        spans = []
        for h, level in enumerate(self.gram.levels):
            start = int(whole[head[AT_LEVELS] + h * LEVEL + AT_START])
            first, last = whole[start], whole[start + len(level.parent)]
            spans.append(slice(int(first), int(last)))
        corner = self.gram.corner
        if corner.products.size:
            at = int(whole[head[AT_PAIRS] + 4])
            spans.append(slice(at, at + corner.products.size))
        spans.append(slice(int(head[AT_TAIL]), int(head[AT_TAIL]) + corner.tail.size))
        return spans

    def _score_places(self) -> tuple[Index, Index]:
        """Return where scores go: by grouping (first, levels, column, q, node), nodes' levels."""
        groupings = self.gram.groupings
        places = np.full((len(groupings), 5), -1, dtype=np.int64)
        at = np.cumsum([0, *(g.n_levels * g.q for g in groupings)])
        for k, g in enumerate(groupings):
            places[k] = at[k], g.n_levels, -1, g.q, -1
        for k, column in zip(self.gram.border, self.gram.corner.first, strict=True):
            places[k, 2] = column
        levels, seen = [np.zeros(0, dtype=np.int64)], 0
        for level in self.gram.levels:
            places[level.grouping, 4] = seen
            seen += len(level.levels)
            levels.append(level.levels.astype(np.int64))
        return places, np.concatenate(levels)

    def _factor_places(self) -> tuple[Index, Index, Index]:
        """Return where the factor of each row's node begins by level, its columns, their size."""
        head, whole = self.layout, self.buffer.view(np.int64)
        at, size = np.zeros_like(self.rows.at), 0
        p = self.X.shape[1]
        for h, level in enumerate(self.gram.levels):
            q = self.gram.groupings[level.grouping].q
            record = head[AT_LEVELS] + h * LEVEL
            start = int(whole[record + AT_FACTOR])
            factors = whole[start : start + len(level.parent)]
            base = int(whole[whole[head[AT_LEVELS] + AT_FACTOR]])
            at[h] = factors[self.rows.node[h]] - base
            wide = q + self.gram.later(h) + level.touch_columns + p + 1
            size = int(factors[-1] + q * wide[-1]) - base
        return at, self.rows.width, np.array([size])

    def fill(self, d: Array, r: Array) -> None:
        """Fill in the products for weights d (n,) and scores r (n,)."""
        for span in self._zeroed:
            self.buffer[span] = 0.0
        rows = self.rows
        self._d = d
        fill_kernel(
            self.buffer, self.z, self.X, d, r, rows.chain, rows.border, rows.at, rows.width,
            rows.offset, rows.pair, rows.block,
        )  # fmt: skip
        p = self.X.shape[1]
        if p:
            tail = self.buffer[rows.tail : rows.tail + (p + 1) ** 2].reshape(p + 1, p + 1)
            tail[:p, :p] = self.X.T @ (d[:, None] * self.X)
            tail[:p, p] = tail[p, :p] = self.X.T @ r

    def solve(self, lam: Array) -> Solution:
        """Factor and solve, for factors ``lam`` of all groupings, flat; `fill` goes before."""
        scores = np.zeros(int(sum(g.n_levels * g.q for g in self.gram.groupings)))
        beta = np.zeros(self.X.shape[1])
        log_det = solve_kernel(
            self.buffer, self.head, lam, self._scratch, self._places, self._levels, scores, beta
        )
        return Solution(float(log_det), self.split(scores), beta)

    def split(self, flat: Array) -> tuple[Array, ...]:
        """Return scores by grouping, (J, q) each."""
        found, at = [], 0
        for g in self.gram.groupings:
            found.append(flat[at : at + g.n_levels * g.q].reshape(g.n_levels, g.q))
            at += g.n_levels * g.q
        return tuple(found)

    def coefficient_factor(self) -> Array:
        """Return the triangular factor (p, p) of the coefficients' precision; `solve` before."""
        head, p = self.layout, self.X.shape[1]
        n = int(head[CROSSED]) + p + 1
        factor = self._scratch[int(head[CORNER]) : int(head[CORNER]) + n * n].reshape(n, n)
        return np.triu(factor[n - 1 - p : n - 1, n - 1 - p : n - 1])

    def triangle(self) -> Triangle:
        """Return the factor as a sparse triangle; `solve` goes before."""
        return sparse_triangle(self.gram, self.buffer, self.layout, self._scratch)

    def _invert(self) -> Array:
        """Write the inverse on the arrow's pattern; return that of the nodes, as `psi`."""
        head = self.layout
        n = int(head[CROSSED]) + self.X.shape[1] + 1
        wide = n > _WIDE
        if wide:
            corner, inverse = int(head[CORNER]), int(head[INVERSE])
            wide_moments(self._scratch, corner, inverse, n, self.X.shape[1], False, 0.0)
        psi = np.empty(int(self._factors[2][0]))
        moments_kernel(self.buffer, self.head, self._scratch, not wide, psi)
        return psi

    def blocks(self) -> tuple[tuple[Array, ...], tuple[Array, ...], Array]:
        """Return blocks of A^-1; `solve` goes before.

        Returns
        -------
        own : tuple of ndarray (J, q, q)
            By grouping, of each level's scores.
        cross : tuple of ndarray (J, q, p)
            Of each level's scores with the coefficients.
        coefficients : ndarray (p, p)
        """
        head, gram, p = self.layout, self.gram, self.X.shape[1]
        psi, whole = self._invert(), self.buffer.view(np.int64)
        n = int(head[CROSSED]) + p + 1
        at = int(head[INVERSE])
        corner = self._scratch[at : at + n * n].reshape(n, n)
        tail = slice(n - 1 - p, n - 1)
        found: dict[int, Array] = {}
        for k, column in zip(gram.border, gram.corner.first, strict=True):
            g = gram.groupings[k]
            lines = column + np.arange(g.n_levels * g.q).reshape(g.n_levels, g.q)
            own = corner[lines[:, :, None], lines[:, None, :]]
            found[k] = np.concatenate([own, corner[lines][:, :, tail]], axis=2)
        for h, level in enumerate(gram.levels):
            q = gram.groupings[level.grouping].q
            start = int(whole[head[AT_LEVELS] + h * LEVEL + AT_FACTOR])
            base = int(whole[whole[head[AT_LEVELS] + AT_FACTOR]])
            first = whole[start : start + len(level.parent)] - base
            wide = q + gram.later(h) + level.touch_columns + p + 1
            lines = first[:, None] + np.arange(q) * wide[:, None]
            columns = np.concatenate(
                [
                    np.broadcast_to(np.arange(q), (len(wide), q)),
                    (wide - 1 - p)[:, None] + np.arange(p),
                ],
                axis=1,
            )
            moments = np.empty((len(wide), q, q + p))
            moments[level.levels] = psi[lines[:, :, None] + columns[:, None, :]]
            found[level.grouping] = moments
        every = [found[k] for k in range(len(gram.groupings))]
        sizes = [g.q for g in gram.groupings]
        return (
            tuple(own[..., :q] for own, q in zip(every, sizes, strict=True)),
            tuple(own[..., q:] for own, q in zip(every, sizes, strict=True)),
            corner[tail, tail].copy(),
        )

    def leverages(self, lam: Array) -> tuple[Array, Array]:
        """Return z'D A^-1 D'z by row (n,), and half the derivatives of log|A|; `solve` goes before.

        The second is, entry by entry of the factors, the sum over rows of d z (A^-1 D'z)'; it is
        the derivative where there are no coefficients.
        """
        head, rows = self.layout, self.rows
        n = int(head[CROSSED]) + self.X.shape[1] + 1
        psi = self._invert()
        at, width, _ = self._factors
        v, g_lam = np.empty(len(self._d)), np.zeros_like(lam)
        leverages_kernel(
            self.z, self._d, lam, self.starts, rows.chain, rows.border, at, width, rows.offset,
            rows.column, psi, self._scratch, int(head[INVERSE]), n, v, g_lam,
        )  # fmt: skip
        return v, g_lam

"""Cross-products of a Gaussian model, computed once: after this the rows are not read again.

Groupings that contain each other form a chain, inner to outer, which the kernel eliminates level
by level; the others, with the coefficients and the response, are the border. Every level of the
chain keeps the products of its own columns with the columns that come after it, and of those only
with the ones that its rows touch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiermodels.spec.design import Design
from hiermodels.spec.priors import ResolvedPriors

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Basis = Array | sparse.csr_array | None

_ROWS: Final = 1 << 16
# Products that agree to this many digits of their largest are the same sums in another order.
_DIGITS: Final = 12


@dataclass(frozen=True, eq=False)
class Grouping:
    """A grouping factor with the effects of all its bars side by side.

    Attributes
    ----------
    name : str
    z : ndarray (n, q)
    index : ndarray of int (n,)
    n_levels : int
    terms : tuple of int
        Positions of its bars in ``Design.terms``, in the order of their columns.
    """

    name: str
    z: Array
    index: Index
    n_levels: int
    terms: tuple[int, ...] = ()

    @property
    def q(self) -> int:
        """Number of effects."""
        return int(self.z.shape[1])


@dataclass(frozen=True, eq=False)
class ChainLevel:
    """One grouping of the chain: its levels as nodes, children of one parent side by side.

    Attributes
    ----------
    grouping : int
        Position in ``Gram.groupings``.
    levels : ndarray of int (J,)
        The grouping's level that each node is.
    parent : ndarray of int (J,)
        Node of the next grouping of the chain; zeros for the last one.
    multiplicity : ndarray (J,)
        How many groups a node stands for; see `compress`.
    start : ndarray of int (J + 1,)
        Where the products of each node begin in ``products``.
    products : ndarray
        By node (M, q, width): own columns times own, later ones of the chain, those touched of the
        border, X, the other coefficients' and y.
    touch_start : ndarray of int (J + 1,)
        Where the touched border levels of each node begin in the next two.
    touch_grouping, touch_position : ndarray of int
        Grouping of each touched level; its first column among those touched by the parent, or in
        the corner for the last grouping of the chain.
    touch_corner : ndarray of int
        The first column of each touched level in the corner.
    touch_columns : ndarray of int (J,)
        Number of touched border columns.
    """

    grouping: int
    levels: Index
    parent: Index
    multiplicity: Array
    start: Index
    products: Array
    touch_start: Index
    touch_grouping: Index
    touch_position: Index
    touch_corner: Index
    touch_columns: Index


@dataclass(frozen=True, eq=False)
class Corner:
    """Products among the columns of the border.

    Attributes
    ----------
    n_columns : int
        Columns of the crossed groupings.
    first : tuple of int
        First column of each border grouping.
    pairs : ndarray of int (n_pairs, 5)
        First columns and groupings of two levels that meet, upper triangle, and where their block
        begins in ``products``, (M, q, q').
    blocks : ndarray of int (n_blocks, 3)
        First column and grouping of every level, and where its products with X, the other
        coefficients' columns and y begin, (M, q, tail).
    products : ndarray
    tail : ndarray (M, tail, tail)
        Products of X, the other coefficients' columns and y among each other.
    """

    n_columns: int
    first: tuple[int, ...]
    pairs: Index
    blocks: Index
    products: Array
    tail: Array


@dataclass(frozen=True, eq=False)
class Gram:
    """Cross-products of a Gaussian model.

    With R the upper triangle of the QR decomposition of X, the coefficients' columns are held as
    X R^-1 and the response as y minus its projection on [X, X_other]: products of centred columns
    only, whatever the columns' origin and scale.

    Attributes
    ----------
    groupings : tuple of Grouping
    chain, border : tuple of int
        Positions in ``groupings``: chain inner to outer, border in the order of its columns.
    levels : tuple of ChainLevel
    corner : Corner
    n : int
    n_bases : int
        M, the number of matrices whose sum with weights is the residual precision.
    n_coefs, n_others : int
        Columns of X, which are integrated out, and of X_other, which are not.
    R : ndarray (p, p)
        Triangular; the kernel's coefficients are ``R @ (coefficients - centre)``.
    centre : ndarray (p,)
    other_centre : ndarray (n_others,)
    """

    groupings: tuple[Grouping, ...]
    chain: tuple[int, ...]
    border: tuple[int, ...]
    levels: tuple[ChainLevel, ...]
    corner: Corner
    n: int
    n_bases: int
    n_coefs: int
    n_others: int
    R: Array
    centre: Array
    other_centre: Array

    @property
    def tail(self) -> int:
        """Columns at the end: X, X_other, y."""
        return self.n_coefs + self.n_others + 1

    def later(self, level: int) -> int:
        """Return how many columns of later groupings of the chain follow a level's own."""
        return sum(self.groupings[g].q for g in self.chain[level + 1 :])


def design_groupings(design: Design, priors: ResolvedPriors) -> tuple[Grouping, ...]:
    """Return the groupings of a design, in columns centred wherever that is exact.

    Parameters
    ----------
    design : Design
    priors : ResolvedPriors
        Bars on the raw scale are centred all the same: `bar_maps` leads to their coordinates.
    """
    groupings = []
    for group in design.groups:
        bars = [design.terms[k].z_centred for k in group.terms]
        z = bars[0] if len(bars) == 1 else np.concatenate(bars, axis=1)
        groupings.append(Grouping(group.name, z, group.index, len(group.levels), group.terms))
    return tuple(groupings)


def bar_maps(design: Design, priors: ResolvedPriors) -> tuple[Array, ...]:
    """Return by bar the (q, q) matrix from effects in the priors' coordinates to the kernel's."""
    pairs = zip(design.terms, priors.terms, strict=True)
    return tuple(
        np.eye(len(own.T)) if np.array_equal(term.T, own.T) else np.linalg.solve(term.T, own.T)
        for term, own in pairs
    )


def build_gram(
    groupings: Sequence[Grouping],
    X: Array,
    X_other: Array,
    y: Array,
    bases: Sequence[Basis] = (None,),
    chained: bool = True,
) -> Gram:
    """Compute the cross-products of [Z_1, ..., Z_K, X, X_other, y] under each basis matrix.

    Parameters
    ----------
    groupings : sequence of Grouping
    X : ndarray (n, p)
        Columns of the coefficients that are integrated out.
    X_other : ndarray (n, p_other)
        Columns of the coefficients that are not.
    y : ndarray (n,)
        Response without offset.
    bases : sequence of None, ndarray (n,) or sparse (n, n)
        Symmetric matrices M_m; None is the identity, a vector a diagonal. Rows that a sparse one
        joins must agree in every grouping.
    chained : bool
        False puts every grouping into the border.

    Examples
    --------
    >>> index = np.array([0, 0, 1, 1, 2])
    >>> gram = build_gram(
    ...     [Grouping("g", np.ones((5, 1)), index, 3)], np.ones((5, 1)), np.ones((5, 0)),
    ...     np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    >>> gram.levels[0].products.reshape(3, 3)[:, 0]
    array([2., 2., 1.])
    """
    groupings = tuple(groupings)
    n, p = X.shape
    R, centre = _orthogonal(X, X_other, y)
    rows = _Rows(groupings, X, X_other, y, tuple(bases), R, centre)
    chain = _chain(groupings) if chained else ()
    border = tuple(k for k in range(len(groupings)) if k not in chain)
    first = np.cumsum([0, *(groupings[k].n_levels * groupings[k].q for k in border)])
    nodes, parents, levels = _tree([groupings[k] for k in chain])
    touches = [_touches(groupings, border, node) for node in nodes]
    gram = Gram(
        groupings, chain, border, (), _corner(rows, border, first), n, len(bases), p,
        X_other.shape[1], R, centre[:p], centre[p:],
    )  # fmt: skip
    chained_levels = []
    for h in range(len(chain)):
        above = touches[h + 1] if h + 1 < len(chain) else None
        corner = _positions(groupings, border, first, touches[h], parents[h], None)
        places = corner
        if above is not None:
            places = _positions(groupings, border, first, touches[h], parents[h], above)
        products, start = _node_products(rows, gram, h, nodes[h], touches[h])
        chained_levels.append(
            ChainLevel(
                chain[h], levels[h], parents[h], np.ones(len(levels[h])), start, products,
                touches[h].start, touches[h].grouping, places, corner, touches[h].columns,
            )
        )  # fmt: skip
    return replace(gram, levels=tuple(chained_levels))


# --- columns --------------------------------------------------------------------------------


def _orthogonal(X: Array, X_other: Array, y: Array) -> tuple[Array, Array]:
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
class _Rows:
    """The columns, chunk by chunk."""

    groupings: tuple[Grouping, ...]
    X: Array
    X_other: Array
    y: Array
    bases: tuple[Basis, ...]
    R: Array
    centre: Array

    @property
    def chunks(self) -> list[slice]:
        """Parts of the rows; all at once where a basis joins rows."""
        n = len(self.y)
        if any(isinstance(basis, sparse.sparray) for basis in self.bases):
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


@numba.njit(cache=True, nogil=True)
def _add_products(index: Index, left: Array, right: Array, out: Array) -> None:
    """Add left_i' right_i of every row to out[index_i], (levels, a, b)."""
    for i in range(index.shape[0]):
        j = index[i]
        for a in range(left.shape[1]):
            for b in range(right.shape[1]):
                out[j, a, b] += left[i, a] * right[i, b]


# --- chain ----------------------------------------------------------------------------------


def _first_rows(grouping: Grouping) -> Index:
    first = np.zeros(grouping.n_levels, dtype=np.intp)
    first[grouping.index[::-1]] = np.arange(len(grouping.index))[::-1]
    return first


def _nested(inner: Grouping, outer: Grouping) -> bool:
    """Whether every level of one grouping lies within one level of the other."""
    return bool(np.all(outer.index[_first_rows(inner)][inner.index] == outer.index))


def _chain(groupings: Sequence[Grouping]) -> tuple[int, ...]:
    """Return the grouping with most levels and those that it is nested in, inner to outer."""
    # Of two with the same levels the one with more effects is worth more outside the corner.
    order = sorted(
        range(len(groupings)),
        key=lambda k: (groupings[k].n_levels, groupings[k].q),
        reverse=True,
    )
    chain = order[:1]
    for k in order[1:]:
        if _nested(groupings[chain[-1]], groupings[k]):
            chain.append(k)
    return tuple(chain)


def _tree(chain: Sequence[Grouping]) -> tuple[list[Index], list[Index], list[Index]]:
    """Return by grouping the node of each row, each node's parent, and its level."""
    nodes: list[Index] = []
    parents: list[Index] = []
    levels: list[Index] = []
    for h, grouping in enumerate(chain):
        first = _first_rows(grouping)
        keys = [np.arange(grouping.n_levels), *(outer.index[first] for outer in chain[h + 1 :])]
        order = np.lexsort(keys).astype(np.intp)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        nodes.append(rank[grouping.index])
        levels.append(order)
    for h in range(len(chain)):
        if h + 1 < len(chain):
            parents.append(nodes[h + 1][_first_rows(chain[h])[levels[h]]])
        else:
            parents.append(np.zeros(len(levels[h]), dtype=np.intp))
    return nodes, parents, levels


# --- border ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Touches:
    """Which border levels the nodes of one grouping meet, in order."""

    keys: Index
    start: Index
    grouping: Index
    level: Index
    columns: Index
    before: Index  # columns before each touch, over all nodes
    rows: tuple[Index, ...]  # by border grouping, the touch of every row


def _touches(groupings: Sequence[Grouping], border: Sequence[int], node: Index) -> _Touches:
    n_nodes = int(node.max()) + 1
    bases = np.cumsum([0, *(groupings[k].n_levels for k in border)])
    found = []
    for base, k in zip(bases, border, strict=False):
        found.append(np.unique(node * bases[-1] + base + groupings[k].index, return_inverse=True))
    keys = np.sort(np.concatenate([np.zeros(0, dtype=np.intp), *(own for own, _ in found)]))
    owner, block = np.divmod(keys, max(bases[-1], 1))
    place = np.searchsorted(bases[1:], block, side="right")
    kinds = np.array(border, dtype=np.intp)[place] if len(keys) else place
    sizes = np.array([g.q for g in groupings], dtype=np.intp)[kinds]
    before = np.cumsum(np.concatenate([[0], sizes])).astype(np.intp)
    start = np.searchsorted(owner, np.arange(n_nodes + 1)).astype(np.intp)
    rows = tuple(np.searchsorted(keys, own)[inverse] for own, inverse in found)
    columns = before[start[1:]] - before[start[:-1]]
    level = block - bases[place] if len(keys) else block
    return _Touches(keys, start, kinds.astype(np.intp), level, columns, before, rows)


def _positions(
    groupings: Sequence[Grouping],
    border: Sequence[int],
    first: Index,
    own: _Touches,
    parent: Index,
    above: _Touches | None,
) -> Index:
    """Return where each touched level begins among the parent's columns, or in the corner."""
    owner = np.repeat(np.arange(len(own.columns)), np.diff(own.start))
    if above is None:
        begin = dict(zip(border, first, strict=False))
        bases = np.array([begin.get(k, 0) for k in range(len(groupings))], dtype=np.intp)
        sizes = np.array([g.q for g in groupings], dtype=np.intp)
        return np.asarray(bases[own.grouping] + own.level * sizes[own.grouping], dtype=np.intp)
    n_blocks = max(sum(groupings[k].n_levels for k in border), 1)
    place = np.searchsorted(above.keys, parent[owner] * n_blocks + own.keys % n_blocks)
    return np.asarray(above.before[place] - above.before[above.start[parent[owner]]], dtype=np.intp)


def _node_products(
    rows: _Rows, gram: Gram, h: int, node: Index, touches: _Touches
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
        right = np.column_stack([*(g.z[part] for g in chain), rows.tail(part)])
        for k in range(m):
            left = rows.weighted(k, np.ascontiguousarray(own.z[part]), part)
            _add_products(node[part], left, right, dense[k])
            for b, g in enumerate(border):
                z = np.ascontiguousarray(g.z[part])
                _add_products(touches.rows[b][part], left, z, touched[b][k])
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


def _corner(rows: _Rows, border: Sequence[int], first: Index) -> Corner:
    """Return the products among border columns."""
    m = len(rows.bases)
    groupings = [rows.groupings[k] for k in border]
    width = rows.X.shape[1] + rows.X_other.shape[1] + 1
    meets = {}
    for a in range(len(groupings)):
        for b in range(a, len(groupings)):
            code = groupings[a].index * groupings[b].n_levels + groupings[b].index
            meets[a, b] = np.unique(code, return_inverse=True)
    found = {
        (a, b): np.zeros((m, len(keys), groupings[a].q, groupings[b].q))
        for (a, b), (keys, _) in meets.items()
    }
    tails = [np.zeros((m, g.n_levels, g.q, width)) for g in groupings]
    total = np.zeros((m, width, width))
    for part in rows.chunks:
        tail = rows.tail(part)
        zs = [np.ascontiguousarray(g.z[part]) for g in groupings]
        for k in range(m):
            total[k] += tail.T @ rows.weighted(k, tail, part)
            left = [rows.weighted(k, z, part) for z in zs]
            for a, g in enumerate(groupings):
                _add_products(g.index[part], left[a], tail, tails[a][k])
            for (a, b), (_, inverse) in meets.items():
                _add_products(inverse[part], left[a], zs[b], found[a, b][k])
    pairs, blocks, parts, at = [], [], [], 0
    for (a, b), (keys, _) in meets.items():
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


# --- groups alike ---------------------------------------------------------------------------


def compress(gram: Gram) -> Gram:
    """Merge groups that share their own products, where nothing but the tail follows them.

    The density depends on such groups through their number and the sum of squares of their
    products with X and y only. A triangular factor of those products has the same sums of
    squares, in at most as many rows as a group has products: these stand for the groups. The
    first of them carries the number of groups, the others zero.

    Parameters
    ----------
    gram : Gram

    Returns
    -------
    Gram
        With fewer nodes, or `gram` itself. For the density and its gradient alone: group effects
        need the groups.
    """
    if len(gram.chain) != 1 or gram.border:
        return gram
    level, q = gram.levels[0], gram.groupings[gram.chain[0]].q
    shape = (len(level.levels), gram.n_bases, q, q + gram.tail)
    products = level.products.reshape(shape)
    own = products[..., :q].reshape(shape[0], -1)
    scale = np.max(np.abs(own), axis=0)
    rounded = np.round(own / np.where(scale > 0, scale, 1.0), _DIGITS) + 0.0
    _, which, count = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
    size = gram.n_bases * q * gram.tail
    if not np.any(count > size):
        return gram
    parts, multiplicity = [], []
    order = np.argsort(which.ravel(), kind="stable")
    for members in np.split(order, np.cumsum(count)[:-1]):
        block = products[members]
        weight = np.ones(len(members))
        if len(members) > size:
            tails = np.linalg.qr(block[..., q:].reshape(len(members), size), mode="r")
            block = np.repeat(block[:1], size, axis=0)
            block[..., q:] = tails.reshape(size, *shape[1:3], gram.tail)
            weight = np.concatenate([[float(len(members))], np.zeros(size - 1)])
        parts.append(block)
        multiplicity.append(weight)
    merged = np.concatenate(parts)
    n_nodes = len(merged)
    zeros = np.zeros(n_nodes, dtype=np.intp)
    smaller = replace(
        level,
        levels=zeros,
        parent=zeros,
        multiplicity=np.concatenate(multiplicity),
        start=(np.arange(n_nodes + 1) * (level.start[1] - level.start[0])).astype(np.intp),
        products=merged.ravel(),
        touch_start=np.zeros(n_nodes + 1, dtype=np.intp),
        touch_columns=zeros,
    )
    return replace(gram, levels=(smaller,))

"""Cross-products of a Gaussian model, computed once: after this the rows are not read again.

Groupings that contain each other form a chain, inner to outer, which the kernel eliminates level
by level; the others, with the coefficients and the response, are the border. Every level of the
chain keeps the products of its own columns with the columns that come after it, and of those only
with the ones that its rows touch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from hiermodels.spec.design import Design, Group
from hiermodels.spec.gram_parts import Array, Basis, ChainLevel, Corner, Gram, Grouping, Index
from hiermodels.spec.gram_products import Rows, corner_products, node_products, orthogonal
from hiermodels.spec.gram_tree import find_chain, find_touches, find_tree, touch_positions
from hiermodels.spec.grouping import join_members
from hiermodels.spec.matrices import Columns, beside
from hiermodels.spec.predictors import Term
from hiermodels.spec.priors import ResolvedPriors

__all__ = [
    "ChainLevel",
    "Corner",
    "Gram",
    "Grouping",
    "bar_maps",
    "build_gram",
    "compress",
    "design_groupings",
    "own_columns",
    "subpopulations",
]

# Products that agree to this many digits of their largest are the same sums in another order.
_DIGITS: Final = 12


def design_groupings(design: Design, priors: ResolvedPriors) -> tuple[Grouping, ...]:
    """Return the groupings of a design, in columns centred wherever that is exact.

    Parameters
    ----------
    design : Design
    priors : ResolvedPriors
        Bars on the raw scale are centred all the same: `bar_maps` leads to their coordinates.

    Returns
    -------
    tuple of Grouping
        A bar by subpopulation has its columns once for each of them.
    """
    groupings = []
    for group in design.groups:
        first = design.terms[group.terms[0]]
        bars = [_bar_columns(design.terms[k]) for k in group.terms]
        groupings.append(
            Grouping(
                group.name,
                beside(bars),
                group.index,
                len(group.levels),
                group.terms,
                join_members([design.terms[k].members for k in group.terms]),
                first.cov,
                own_columns(design, group),
            )
        )
    return tuple(groupings)


def own_columns(design: Design, group: Group) -> Index | None:
    """Return which of a grouping's columns each level's rows see (J, e); None where they see all.

    Parameters
    ----------
    design : Design
    group : Group
        One of its groupings; its bars' columns stand side by side, each bar's by subpopulation.
    """
    by = design.terms[group.terms[0]].by
    if by is None:
        return None
    places, first = [], 0
    for k in group.terms:
        q = len(design.terms[k].coefs)
        places.append(first + by.index[:, None] * q + np.arange(q))
        first += q * len(by.labels)
    return np.concatenate(places, axis=1).astype(np.intp)


def subpopulations(term: Term) -> int:
    """Return how many factors the effects of a bar have: one for each subpopulation, or one."""
    return 1 if term.by is None else len(term.by.labels)


def _bar_columns(term: Term) -> Columns:
    """Return a bar's columns, those of each subpopulation side by side and zero elsewhere.

    A level has the effects of every subpopulation, of which its rows see its own alone: the
    others stay at their prior, and factors are the same for all levels.
    """
    if term.by is None:
        return term.centred
    own = np.eye(subpopulations(term))[term.by.index[term.index]]
    return np.asarray((own[:, :, None] * term.z_centred[:, None, :]).reshape(len(own), -1))


def bar_maps(design: Design, priors: ResolvedPriors) -> tuple[Array, ...]:
    """Return by bar the (q, q) matrix from effects in the priors' coordinates to the kernel's."""
    pairs = zip(design.terms, priors.terms, strict=True)
    return tuple(
        np.eye(len(own.T)) if np.array_equal(term.T, own.T) else np.linalg.solve(term.T, own.T)
        for term, own in pairs
    )


def build_gram(
    groupings: Sequence[Grouping],
    X: Columns,
    X_other: Columns,
    y: Array,
    bases: Sequence[Basis] = (None,),
    chained: bool = True,
) -> Gram:
    """Compute the cross-products of [Z_1, ..., Z_K, X, X_other, y] under each basis matrix.

    Parameters
    ----------
    groupings : sequence of Grouping
    X : Matrix or ndarray (n, p)
        Columns of the coefficients that are integrated out.
    X_other : Matrix or ndarray (n, p_other)
        Columns of the coefficients that are not.
    y : ndarray (n,)
        Response without offset.
    bases : sequence of None, ndarray (n,) or sparse (n, n)
        Symmetric matrices M_m; None is the identity, a vector a diagonal. Rows that a sparse one
        joins must agree in every grouping.
    chained : bool
        False puts every grouping into the border, where those always stand whose levels share rows
        or have a known covariance.

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
    R, centre = orthogonal(X, X_other, y)
    rows = Rows(groupings, X, X_other, y, tuple(bases), R, centre)
    chain = find_chain(groupings) if chained else ()
    border = tuple(k for k in range(len(groupings)) if k not in chain)
    first = np.cumsum([0, *(groupings[k].n_levels * groupings[k].q for k in border)])
    nodes, parents, levels = find_tree([groupings[k] for k in chain])
    touches = [find_touches(groupings, border, node) for node in nodes]
    gram = Gram(
        groupings, chain, border, (), corner_products(rows, border, first), n, len(bases), p,
        X_other.shape[1], R, centre[:p], centre[p:],
    )  # fmt: skip
    chained_levels = []
    for h in range(len(chain)):
        above = touches[h + 1] if h + 1 < len(chain) else None
        corner = touch_positions(groupings, border, first, touches[h], parents[h], None)
        places = corner
        if above is not None:
            places = touch_positions(groupings, border, first, touches[h], parents[h], above)
        products, start = node_products(rows, gram, h, nodes[h], touches[h])
        chained_levels.append(
            ChainLevel(
                chain[h], levels[h], parents[h], np.ones(len(levels[h])), start, products,
                touches[h].start, touches[h].grouping, places, corner, touches[h].columns,
            )
        )  # fmt: skip
    return replace(gram, levels=tuple(chained_levels))


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

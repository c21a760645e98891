r"""Rows left out of a Gaussian model, exactly in coefficients and group effects given the scales.

With P = R^-1, A the precision of (u, v) and e the residuals at their conditional mean,
p(y_i | y_-i, theta) is normal with precision Q_ii = P_ii - (P W A^-1 W' P)_ii and y_i minus its
mean is (P e)_i / Q_ii, as Q = V^-1 has P e = V^-1 (y - mean).

References
----------
.. [1] Burkner, Gabry and Vehtari (2020), https://doi.org/10.1007/s00180-020-01045-4.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.leave_out_kernels import LOG_2PI, leave_out_kernel
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_packing import pack_marginal
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.deviations import plain
from hiermodels.spec.gram_products import Rows
from hiermodels.spec.gram_tree import find_touches, find_tree
from hiermodels.spec.priors import ResolvedPriors

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RowTerms:
    """What is known of some rows for each draw of the scales.

    Under likelihood weights w a row's density is p(y_i | ...)^w: a normal kernel of precision
    P_ii with the constant of p, w times.

    Attributes
    ----------
    rows : ndarray of int (r,)
    weights : ndarray (r,)
        Likelihood weights.
    share : ndarray (draws, r)
        (P W A^-1 W' P)_ii / P_ii: how much of the row's precision its own response uses up.
    square : ndarray (draws, r)
        (P e)_i^2 / P_ii.
    constant : ndarray (draws, r)
        Log of the density's constant.
    """

    rows: Index
    weights: Array
    share: Array
    square: Array
    constant: Array

    @property
    def left_out(self) -> Array:
        """Log p(y_i | y_-i, theta), coefficients and group effects integrated out (draws, r)."""
        left = 1.0 - self.share
        return self.constant + 0.5 * np.log(left) - 0.5 * self.square / left

    @property
    def kept(self) -> Array:
        """Log E[p(y_i | y_-i, b, beta, theta) | y, theta]: where the row was seen (draws, r).

        Where the row has no weight in the cross-products, this predicts it from the others.
        """
        more = 1.0 + self.share
        return self.constant - 0.5 * np.log(more) - 0.5 * self.square / more


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Rows by leaf of the arrow, each as a sum of rows of M_m [Z, X, X_other, y]."""

    order: Index
    leaf_start: Index
    border: Index
    at_border: Index
    start: Index
    basis: Index
    diagonal: Array
    values: Array
    weights: Array
    most: int


def row_terms(
    problem: MarginalProblem,
    design: Design,
    priors: ResolvedPriors,
    draws: Array,
    *,
    block: int = 20_000_000,
    cores: int = 1,
) -> Iterator[RowTerms]:
    """Yield the terms of all rows, some rows at a time.

    Parameters
    ----------
    problem : MarginalProblem
    design : Design
    priors : ResolvedPriors
    draws : ndarray (draws, ndim)
        Unconstrained vectors.
    block : int
        Numbers that one part may hold.
    cores : int
        Parts of the draws that run at a time.

    Yields
    ------
    RowTerms
        Every row once; not in the order of the rows.

    Raises
    ------
    EngineError
        Where a draw cannot be factored.
    """
    pieces = _pieces(problem, design, priors)
    buffer = pack_marginal(problem, compressed=False, lanes=False)
    for leaves in _blocks(pieces.leaf_start, max(block // (3 * len(draws)), 1)):
        lo, hi = pieces.leaf_start[leaves[0]], pieces.leaf_start[leaves[1]]
        out = np.empty((len(draws), hi - lo, 3))
        _call(buffer, pieces, leaves, draws, out, cores)
        yield _terms(pieces.order[lo:hi], out, pieces.weights[lo:hi])


def leaf_grouping(problem: MarginalProblem) -> str | None:
    """Return the grouping whose levels `leaf_terms` leaves out, None where there is none."""
    gram = problem.gram
    return gram.groupings[gram.chain[0]].name if gram.chain else None


def leaf_terms(
    problem: MarginalProblem,
    design: Design,
    priors: ResolvedPriors,
    draws: Array,
    *,
    block: int = 20_000_000,
    cores: int = 1,
) -> Iterator[tuple[Index, Array]]:
    """Yield levels of the innermost grouping and log p(y_j | y_-j, theta) of their rows together.

    Parameters
    ----------
    problem, design, priors, draws, block, cores
        As for :func:`row_terms`; rows must be independent given effects.

    Yields
    ------
    levels : ndarray of int (m,)
        Of the grouping that `leaf_grouping` names.
    terms : ndarray (draws, m)

    Raises
    ------
    EngineError
        Where a draw cannot be factored, or residuals are correlated.
    """
    if design.residual is None or design.residual.structure != "independent":
        raise EngineError("Groups with correlated residuals are left out by other means.")
    pieces = _pieces(problem, design, priors)
    buffer = pack_marginal(problem, compressed=False, lanes=False)
    count = len(pieces.leaf_start) - 1
    for leaves in _blocks(np.arange(count + 1), max(block // len(draws), 1)):
        out = np.empty((len(draws), leaves[1] - leaves[0], 1))
        _call(buffer, pieces, leaves, draws, out, cores)
        yield problem.gram.levels[0].levels[slice(*leaves)], out[..., 0]


def _terms(rows: Index, parts: Array, weights: Array) -> RowTerms:
    """Return the terms of rows from P_ii, (PWA^-1W'P)_ii and (Pe)_i; zeros for weight zero."""
    counted = weights > 0
    precision = np.where(counted, parts[..., 0], 1.0)
    share = np.where(counted, parts[..., 1], 0.0) / precision
    square = np.where(counted, parts[..., 2], 0.0) ** 2 / precision
    own = np.log(precision / np.where(counted, weights, 1.0))
    return RowTerms(rows, weights, share, square, 0.5 * weights * (own - LOG_2PI))


def _call(
    buffer: Array,
    pieces: _Pieces,
    leaves: tuple[int, int],
    draws: Array,
    out: Array,
    cores: int,
) -> None:
    """Write the numbers of some leaves, or of their rows; raise where a draw failed."""
    kernel = leave_out_kernel()
    rest: tuple[Any, ...] = (
        pieces.most,
        np.array(leaves),
        pieces.leaf_start,
        pieces.border,
        pieces.at_border,
        pieces.start,
        pieces.basis,
        pieces.diagonal,
        pieces.values,
        pieces.weights,
    )
    ends = np.linspace(0, len(draws), max(cores, 1) + 1).astype(int)
    parts = [slice(lo, hi) for lo, hi in pairwise(ends) if hi > lo]

    def one(part: slice) -> int:
        return int(kernel(buffer, np.ascontiguousarray(draws[part]), *rest, out[part]))

    with ThreadPoolExecutor(max(len(parts), 1)) as pool:
        failed = sum(pool.map(one, parts))
    if failed or np.isnan(out).any():
        raise EngineError(
            f"{failed or 'Some'} of {len(draws)} draws of the scales cannot be factored to working "
            "precision, so nothing can be left out of them. Give scales that may be zero or huge a "
            "prior that holds them off."
        )


def _blocks(starts: Index, size: int) -> Iterator[tuple[int, int]]:
    """Yield first and last + 1 of consecutive leaves that start there, about `size` together."""
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + size, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _pieces(problem: MarginalProblem, design: Design, priors: ResolvedPriors) -> _Pieces:
    """Return the rows as the kernel reads them."""
    gram = problem.gram
    groupings, border = gram.groupings, gram.border
    weights = np.ones(design.n) if design.weights is None else design.weights
    columns = _columns(problem, design, priors)
    n = design.n
    leaf = np.zeros(n, dtype=np.intp)
    slots = [groupings[k].slots.shape[1] for k in border]
    places = [np.zeros((n, 0), dtype=np.intp)]
    if gram.chain:
        nodes, _, _ = find_tree([groupings[k] for k in gram.chain])
        leaf = nodes[0]
        touches = find_touches(groupings, border, leaf)
        before = groupings[gram.chain[0]].q + gram.later(0)
        most = gram.n_coefs + 1 + before + int(touches.columns.max())
        start = touches.before[touches.start[leaf]][:, None]
        places += [before + touches.before[own] - start for own in touches.rows]
    else:
        most = gram.n_coefs + 1 + gram.corner.n_columns
        pairs = zip(border, gram.corner.first, strict=True)
        places += [first + groupings[k].slots * groupings[k].q for k, first in pairs]
        # all rows share the corner, which is written once for each part of them
        leaf = np.arange(n, dtype=np.intp) // most
    at_border = np.concatenate(places, axis=1).astype(np.intp)
    order = np.argsort(leaf, kind="stable").astype(np.intp)
    leaf_start = np.searchsorted(leaf[order], np.arange(int(leaf.max()) + 2)).astype(np.intp)
    start, basis, diagonal, values = _sums(problem, design, columns, order)
    return _Pieces(
        order, leaf_start, np.repeat(border, slots).astype(np.intp), at_border[order], start, basis,
        diagonal, values, weights[order], most,
    )  # fmt: skip


def _columns(problem: MarginalProblem, design: Design, priors: ResolvedPriors) -> Array:
    """Return [Z of the chain, Z of the border, X R^-1, X_other, y] as the cross-products have it.

    Of every grouping (n, q): the columns of the row's own level, or those of each of its levels.
    """
    gram = problem.gram
    X, other = priors.X[:, problem.normal], priors.X[:, problem.others]
    rows = Rows(
        gram.groupings, X, other, design.y - design.offset, (None,), gram.R,
        np.concatenate([gram.centre, gram.other_centre]),
    )  # fmt: skip
    every = slice(0, design.n)
    own = [gram.groupings[k].z for k in gram.chain]
    for g in (gram.groupings[k] for k in gram.border):
        own += [g.slot_columns(slot, every) for slot in range(g.slots.shape[1])]
    return np.concatenate([*own, rows.tail(every)], axis=1)


def _sums(
    problem: MarginalProblem, design: Design, columns: Array, order: Index
) -> tuple[Index, Index, Array, Array]:
    """Return where each row's pieces start; by piece its basis, (M_m)_ii and (M_m columns)_i."""
    owner, basis, diagonal, values = [], [], [], []
    bases = () if design.residual is None else design.residual.bases
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    for m, matrix in enumerate(bases):
        if matrix is None:
            rows, own, product = np.arange(len(order)), np.ones(len(order)), columns
        elif isinstance(matrix, np.ndarray):
            rows = np.flatnonzero(matrix)
            own, product = matrix[rows], columns[rows] * matrix[rows, None]
        else:
            rows = np.flatnonzero(np.diff(plain(matrix).indptr))
            own, product = plain(matrix).diagonal()[rows], (matrix @ columns)[rows]
        owner.append(place[rows])
        basis.append(np.full(len(rows), m, dtype=np.intp))
        diagonal.append(own)
        values.append(product)
    which = np.concatenate(owner)
    sort = np.argsort(which, kind="stable")
    start = np.searchsorted(which[sort], np.arange(len(order) + 1)).astype(np.intp)
    return (
        start,
        np.concatenate(basis)[sort],
        np.concatenate(diagonal)[sort].astype(np.float64),
        np.ascontiguousarray(np.concatenate(values)[sort]),
    )

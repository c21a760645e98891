"""Compiled terms of rows left out: what a Gaussian model says about each row given the others.

With P = R^-1 and V = R + WW', the arrow's factor gives (V^-1 (y - mean))_i = (P e)_i, e the
residuals at the conditional mean of coefficients and effects, and (P W A^-1 W' P)_ii. Both need
A^-1 on its own pattern only, as the rows that a basis matrix joins share all their groups.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np

from hiermodels.engines.arrow import ancestor, ending, forward, node_moments
from hiermodels.engines.arrow_dense import second_moments
from hiermodels.engines.arrow_gradient import assemble_corner, factor_corner
from hiermodels.engines.arrow_layout import (
    AT_COLUMNS,
    AT_GROUPS,
    AT_LEVELS,
    CORNER,
    CROSSED,
    GROUP,
    GROUP_AT,
    GROUP_SIZE,
    INVERSE,
    LATER,
    LEVEL,
    OWNER,
    REST,
    SCRATCH,
    SIZE,
    WORK,
    H,
    M,
    P,
)
from hiermodels.engines.marginal_kernels import (
    AT_ARROW,
    AT_PHI,
    OTHERS,
    lambdas,
    set_residual,
    set_scales,
    source_digest,
)
from hiermodels.engines.rowwise import strict
from hiermodels.engines.views import index_of, part_of
from hiermodels.spec.compiling import cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

LOG_2PI: Final = math.log(2.0 * math.pi)


@strict
def corner_covariance(i: Any, a: int, s: Any, cov: Any, mean: Any) -> int:
    """Write covariance and mean of the corner's columns; return where coefficients begin."""
    n = i[a + CROSSED] + i[a + P] + 1
    omega, last = i[a + INVERSE], n - 1
    for b in range(last):
        mean[b] = -s[omega + b * n + last]
    for b in range(last):
        for c in range(last):
            cov[b, c] = s[omega + b * n + c] - mean[b] * mean[c]
    return int(i[a + CROSSED])


@strict
def leaf_covariance(
    f: Any, i: Any, a: int, leaf: int, s: Any, where: Any, cov: Any, mean: Any
) -> int:
    """Write covariance and mean of a leaf's columns; return where coefficients begin."""
    r = i[a + AT_LEVELS]
    q, touched = i[r + SIZE], i[i[r + AT_COLUMNS] + leaf]
    rest = i[r + LATER] + touched + i[a + P] + 1
    wide, psi = q + rest, i[a + WORK]
    rr, last = psi + q * wide, wide - 1
    node_moments(f, i, a, 0, leaf, s, where, psi, rr)
    for b in range(last):
        line = psi + b * wide if b < q else rr + (b - q) * rest - q
        mean[b] = -s[line + last]
    for b in range(last):
        line = psi + b * wide if b < q else rr + (b - q) * rest - q
        for c in range(q if b >= q else 0, last):
            cov[b, c] = s[line + c] - mean[b] * mean[c]
            cov[c, b] = cov[b, c]
    return int(q + i[r + LATER] + touched)


@strict
def scale_part(i: Any, a: int, grouping: int, lam: Any, at: int, raw: Any, out: Any) -> int:
    """Write a row's columns of one grouping times its factor; return the end of the columns."""
    g = i[a + AT_GROUPS] + GROUP * grouping
    q, own = i[g + GROUP_SIZE], i[g + GROUP_AT]
    for c in range(q):
        total = 0.0
        for b in range(q):
            total += raw[at + b] * lam[own + b * q + c]
        out[at + c] = total
    return int(at + q)


@strict
def row_columns(
    i: Any, a: int, lam: Any, w: Any, shift: Any, begin: int, border: Any, at_border: Any,
    first: int, last: int, basis: Any, diagonal: Any, values: Any, mean: Any, raw: Any,
    scaled: Any, places: Any,
) -> Any:  # fmt: skip
    """Write a row of PW and where its columns stand; return P_ii and (Pe)_i.

    The row is the sum of its pieces, first to last.
    """
    p, others, width = i[a + P], shift.shape[0], values.shape[1]
    columns = width - others - 1
    for c in range(columns):
        raw[c] = 0.0
    precision, product = 0.0, 0.0
    for k in range(first, last):
        weight = w[basis[k]]
        precision += weight * diagonal[k]
        for c in range(columns):
            raw[c] += weight * values[k, c]
        product += weight * values[k, width - 1]
        for b in range(others):
            product -= weight * shift[b] * values[k, columns + b]
    at = 0
    for h in range(i[a + H]):
        at = scale_part(i, a, i[i[a + AT_LEVELS] + h * LEVEL + OWNER], lam, at, raw, scaled)
    for c in range(at):
        places[c] = c
    for k in range(border.shape[0]):
        start = at
        at = scale_part(i, a, border[k], lam, at, raw, scaled)
        for c in range(start, at):
            places[c] = at_border[k] + c - start
    for c in range(p):
        scaled[at + c] = raw[at + c]
        places[at + c] = begin + c
    for b in range(columns):
        product -= scaled[b] * mean[places[b]]
    return precision, product


@strict
def row_variance(columns: int, cov: Any, scaled: Any, places: Any) -> float:
    """Return (PWA^-1W'P)_ii of one row."""
    variance = 0.0
    for b in range(columns):
        total = 0.0
        for c in range(b):
            total += scaled[c] * cov[places[b], places[c]]
        variance += scaled[b] * (2.0 * total + scaled[b] * cov[places[b], places[b]])
    return float(variance)


@strict
def add_row(
    columns: int, precision: float, product: float, weight: float, scaled: Any, places: Any,
    gram: Any, right: Any, sums: Any,
) -> None:  # fmt: skip
    """Add an independent row to W'PW and W'Pe of a group, to e'Pe, and to its constants."""
    if precision <= 0.0:
        return
    for b in range(columns):
        share = scaled[b] / precision
        right[places[b]] += share * product
        for c in range(columns):
            gram[places[b], places[c]] += share * scaled[c]
    sums[0] += product * product / precision
    sums[1] += 0.5 * weight * (math.log(precision / weight) - LOG_2PI)


@strict
def solve(size: int, A: Any, right: Any) -> float:
    """Write A^-1 right in place of right, and return log|A|; nan unless |A| is positive.

    Gaussian elimination with row pivots: compiled in a second, where a library's takes a minute.
    """
    log_determinant, sign = 0.0, 1.0
    for k in range(size):
        pivot = k
        for r in range(k + 1, size):
            if abs(A[r, k]) > abs(A[pivot, k]):
                pivot = r
        if pivot != k:
            sign = -sign
            for c in range(k, size):
                A[k, c], A[pivot, c] = A[pivot, c], A[k, c]
            right[k], right[pivot] = right[pivot], right[k]
        if A[k, k] < 0.0:
            sign = -sign
        log_determinant += math.log(abs(A[k, k]))
        for r in range(k + 1, size):
            factor = A[r, k] / A[k, k]
            for c in range(k + 1, size):
                A[r, c] -= factor * A[k, c]
            right[r] -= factor * right[k]
    for k in range(size - 1, -1, -1):
        for c in range(k + 1, size):
            right[k] -= A[k, c] * right[c]
        right[k] /= A[k, k]
    return log_determinant if sign > 0.0 else math.nan


@strict
def group_value(size: int, cov: Any, gram: Any, right: Any, sums: Any, A: Any, own: Any) -> float:
    """Return log p(y_j | y_-j, theta) of a group's rows from their cross-products.

    With Q = P - P W A^-1 W' P of its rows: |Q| = |P| |I - A^-1 W'PW|, and e'P Q^-1 P e = e'Pe +
    s' (I - A^-1 W'PW)^-1 A^-1 s with s = W'Pe.
    """
    for b in range(size):
        own[b] = 0.0
        for c in range(size):
            own[b] += cov[b, c] * right[c]
            total = 1.0 if b == c else 0.0
            for d in range(size):
                total -= cov[b, d] * gram[d, c]
            A[b, c] = total
    value = 0.5 * solve(size, A, own) - 0.5 * sums[0] + sums[1]
    for b in range(size):
        value -= 0.5 * right[b] * own[b]
    return float(value)


def _many(source: int) -> Any:
    """Return the Python form of the kernel over draws."""

    def many(
        f: Any, draws: Any, most: int, leaves: Any, leaf_start: Any, border: Any, at_border: Any,
        piece_start: Any, basis: Any, diagonal: Any, values: Any, weights: Any, out: Any,
    ) -> int:  # fmt: skip
        """Write for each draw of x and each row of some leaves P_ii, (PWA^-1W'P)_ii, (Pe)_i.

        For groups: for each draw and leaf the log density of its rows given all others. Shapes
        (draws, rows, 3) and (draws, leaves, 1).

        Returns the number of draws that could not be factored, which are written as nan.
        """
        f, i = part_of(f, 0, f.shape[0]), index_of(f, 0, f.shape[0])
        a, m, n_phi = i[AT_ARROW], i[i[AT_ARROW] + M], draws.shape[1] - i[AT_PHI]
        lam, shift = np.zeros(lambdas(i)), np.zeros(i[OTHERS])
        w, dw, log_residual = np.zeros(m), np.zeros((n_phi, m)), np.zeros(1 + n_phi)
        s, where = np.zeros(i[a + SCRATCH]), np.empty(i[a + REST] + 1, np.int64)
        cov, mean, grad = np.zeros((most, most)), np.zeros(most), np.zeros(draws.shape[1])
        raw, scaled = np.zeros(values.shape[1]), np.zeros(values.shape[1])
        places, failed = np.zeros(values.shape[1], np.int64), 0
        gram, right, sums = np.zeros((most, most)), np.zeros(most), np.zeros(2)
        square, own = np.zeros((most, most)), np.zeros(most)
        columns = values.shape[1] - i[OTHERS] - 1
        row0, groups = leaf_start[leaves[0]], out.shape[2] == 1
        for k in range(draws.shape[0]):
            x = draws[k]
            set_scales(f, i, x, lam, shift)
            set_residual(f, i, x, grad, w, dw, log_residual)
            assemble_corner(f, i, a, lam, w, shift, s)
            value = factor_corner(i, a, forward(f, i, a, lam, w, shift, s, where), s)
            if source < 0 or not math.isfinite(value):
                failed += 1
                out[k, :, :] = math.nan
                continue
            second_moments(s, i[a + CORNER], i[a + INVERSE], i[a + CROSSED] + i[a + P] + 1)
            for leaf in range(leaves[1] - 1, leaves[0] - 1, -1):
                if i[a + H] == 0:
                    begin = corner_covariance(i, a, s, cov, mean)
                else:
                    # the first leaf needs all its ancestors, later ones those that end with them
                    top = i[a + H] - 1 if leaf == leaves[1] - 1 else ending(i, a, leaf)
                    for h in range(top, 0, -1):
                        r = i[a + AT_LEVELS] + h * LEVEL
                        node = ancestor(i, a, leaf, h)
                        q = i[r + SIZE]
                        rest = i[r + LATER] + i[i[r + AT_COLUMNS] + node] + i[a + P] + 1
                        psi = i[a + WORK]
                        node_moments(f, i, a, h, node, s, where, psi, psi + q * (q + rest))
                    begin = leaf_covariance(f, i, a, leaf, s, where, cov, mean)
                if groups:
                    gram[:, :] = 0.0
                    right[:], sums[:] = 0.0, 0.0
                for row in range(leaf_start[leaf], leaf_start[leaf + 1]):
                    precision, product = row_columns(
                        i, a, lam, w, shift, begin, border, at_border[row], piece_start[row],
                        piece_start[row + 1], basis, diagonal, values, mean, raw, scaled, places,
                    )  # fmt: skip
                    if groups:
                        add_row(
                            columns, precision, product, weights[row], scaled, places, gram,
                            right, sums,
                        )  # fmt: skip
                        continue
                    out[k, row - row0, 0] = precision
                    out[k, row - row0, 1] = row_variance(columns, cov, scaled, places)
                    out[k, row - row0, 2] = product
                if groups:
                    size = begin + i[a + P]
                    value = group_value(size, cov, gram, right, sums, square, own)
                    out[k, leaf - leaves[0], 0] = value
        return failed

    return many


@cache
def leave_out_kernel() -> Any:
    """Return the kernel over draws."""
    # The digest, closed over, makes numba's cache notice changes in other files.
    return cached_kernel(_many(source_digest()))

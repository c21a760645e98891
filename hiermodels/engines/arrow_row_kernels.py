"""Compiled passes over rows for the arrow under changing weights: products, solves, leverages.

See `hiermodels.engines.arrow_rows`, which says where each row's products stand.
"""

import math
from typing import Any, Final

import numpy as np

from hiermodels.engines.arrow import ancestor, ending, forward, node_moments, place
from hiermodels.engines.arrow_dense import cholesky
from hiermodels.engines.arrow_gradient import assemble_corner
from hiermodels.engines.arrow_layout import (
    AT_COLUMNS,
    AT_FACTOR,
    AT_LEVELS,
    CORNER,
    CROSSED,
    FRONT,
    LATER,
    LEVEL,
    NODES,
    OWNER,
    REST,
    SIZE,
    START,
    WORK,
    H,
    P,
)
from hiermodels.engines.marginal_kernels import source_digest
from hiermodels.engines.profile_kernels import corner_moments
from hiermodels.engines.rowwise import strict
from hiermodels.spec.compiling import cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def _tail_row(f: Any, at: int, left: float, score: float, X: Any, i: int) -> None:
    """Add one row's products with X and y, given one column times its weight and its score."""
    p = X.shape[1]
    for c in range(p):
        f[at + c] += left * X[i, c]
    f[at + p] += score


def _fill(source: int) -> Any:
    """Return the Python form of the kernel."""

    def fill(
        f: Any, z: Any, X: Any, d: Any, r: Any, chain: Any, border: Any, at: Any, width: Any,
        offset: Any, pair: Any, block: Any,
    ) -> None:  # fmt: skip
        """Add every row's products but those of X with X; the buffer must hold zeros there."""
        n, p = d.shape[0], X.shape[1]
        if source < 0:
            return
        for i in range(n):
            for h in range(chain.shape[0]):
                for a in range(chain[h, 1]):
                    value = z[i, chain[h, 2] + a]
                    left, row = d[i] * value, at[h, i] + a * width[h, i]
                    column = row
                    for later in range(h, chain.shape[0]):
                        for c in range(chain[later, 1]):
                            f[column] += left * z[i, chain[later, 2] + c]
                            column += 1
                    for b in range(border.shape[0]):
                        column = row + offset[h, b, i]
                        for c in range(border[b, 1]):
                            f[column + c] += left * z[i, border[b, 2] + c]
                    _tail_row(f, row + width[h, i] - p - 1, left, r[i] * value, X, i)
            k = 0
            for a in range(border.shape[0]):
                for b in range(a, border.shape[0]):
                    column = pair[k, i]
                    k += 1
                    for c in range(border[a, 1]):
                        left = d[i] * z[i, border[a, 2] + c]
                        for e in range(border[b, 1]):
                            f[column] += left * z[i, border[b, 2] + e]
                            column += 1
                for c in range(border[a, 1]):
                    value = z[i, border[a, 2] + c]
                    _tail_row(f, block[a, i] + c * (p + 1), d[i] * value, r[i] * value, X, i)

    return fill


@strict
def solve_corner(i: Any, a: int, s: Any) -> None:
    """Write (crossed scores, coefficients, -1) at `START`, solving with the corner's factor."""
    n, u, t = i[a + CROSSED] + i[a + P] + 1, i[a + CORNER], i[a + START]
    s[t + n - 1] = -1.0
    for k in range(n - 2, -1, -1):
        total = 0.0
        for c in range(k + 1, n):
            total -= s[u + k * n + c] * s[t + c]
        s[t + k] = total / s[u + k * n + k]


@strict
def solve_node(i: Any, a: int, h: int, node: int, s: Any, where: Any) -> int:
    """Return where the scores of a node stand, solved given what comes after it."""
    r = i[a + AT_LEVELS] + h * LEVEL
    q = i[r + SIZE]
    rest = i[r + LATER] + i[i[r + AT_COLUMNS] + node] + i[a + P] + 1
    u, t = i[i[r + AT_FACTOR] + node], i[a + WORK]
    source, _omega, _wide = place(i, a, h, node, where)
    if h + 1 == i[a + H]:
        source = i[a + START]
    if h > 0:
        t = i[r + FRONT]
    for k in range(rest):
        s[t + q + k] = s[source + where[k]]
    for b in range(q - 1, -1, -1):
        row = u + b * (q + rest)
        total = 0.0
        for c in range(b + 1, q + rest):
            total -= s[row + c] * s[t + c]
        s[t + b] = total / s[row + b]
    return int(t)


@strict
def solve_effects(i: Any, a: int, s: Any, where: Any, places: Any, levels: Any, out: Any) -> None:
    """Write the scores of every level, by grouping; places (first, levels, column, q, node)."""
    solve_corner(i, a, s)
    for g in range(places.shape[0]):
        first, number, column, q, _node = places[g]
        if column >= 0:
            for k in range(number * q):
                out[first + k] = s[i[a + START] + column + k]
    if i[a + H] == 0:
        return
    for leaf in range(i[i[a + AT_LEVELS] + NODES] - 1, -1, -1):
        for h in range(ending(i, a, leaf), -1, -1):
            node = ancestor(i, a, leaf, h)
            t = solve_node(i, a, h, node, s, where)
            g = i[i[a + AT_LEVELS] + h * LEVEL + OWNER]
            first, _number, _column, q, start = places[g]
            for b in range(q):
                out[first + levels[start + node] * q + b] = s[t + b]


def _solve(source: int) -> Any:
    """Return the Python form of the kernel."""

    def solve(
        f: Any, a: int, lam: Any, s: Any, places: Any, levels: Any, u: Any, beta: Any
    ) -> float:
        """Factor, write scores u and coefficients; return log|A|, nan where a pivot is lost."""
        i = f.view(np.int64)
        where = np.empty(i[a + REST] + 1, np.int64)
        w, shift = np.ones(1), np.zeros(0)
        n, corner, p = i[a + CROSSED] + i[a + P] + 1, i[a + CORNER], i[a + P]
        assemble_corner(f, i, a, lam, w, shift, s)
        value = forward(f, i, a, lam, w, shift, s, where)
        if source < 0 or math.isnan(value) or not cholesky(s, corner, n, i[a + START]):
            return math.nan
        for k in range(n - 1):
            value += 2.0 * math.log(s[corner + k * n + k])
        solve_effects(i, a, s, where, places, levels, u)
        for k in range(p):
            beta[k] = s[i[a + START] + i[a + CROSSED] + k]
        return float(value)

    return solve


def _moments(source: int) -> Any:
    """Return the Python form of the kernel."""

    def moments(f: Any, a: int, s: Any, corner: bool, psi: Any) -> None:
        """Write the inverse on the arrow's pattern: the corner's in s, each node's in psi.

        psi has the layout of the factors. The corner's is computed unless it is there already.
        """
        i = f.view(np.int64)
        where = np.empty(i[a + REST] + 1, np.int64)
        if corner and source >= 0:
            n = i[a + CROSSED] + i[a + P] + 1
            for k in range(n - 1):
                # variances only: nothing of the means, which would cancel
                s[i[a + CORNER] + k * n + n - 1] = 0.0
            corner_moments(i, a, s, False, 0.0)
        if i[a + H] == 0:
            return
        base = i[i[i[a + AT_LEVELS] + AT_FACTOR]]
        work = i[a + WORK]
        for leaf in range(i[i[a + AT_LEVELS] + NODES] - 1, -1, -1):
            for h in range(ending(i, a, leaf), -1, -1):
                node = ancestor(i, a, leaf, h)
                r = i[a + AT_LEVELS] + h * LEVEL
                q = i[r + SIZE]
                wide = q + i[r + LATER] + i[i[r + AT_COLUMNS] + node] + i[a + P] + 1
                node_moments(f, i, a, h, node, s, where, work, work + q * wide)
                out = i[i[r + AT_FACTOR] + node] - base
                for k in range(q * wide):
                    psi[out + k] = s[work + k]

    return moments


@strict
def _row_scores(z: Any, i: int, record: Any, starts: Any, lam: Any, out: Any) -> None:
    """Write the row's columns of one grouping times its factor."""
    g, q, first = record
    at = starts[g]
    for c in range(q):
        total = 0.0
        for b in range(q):
            total += z[i, first + b] * lam[at + b * q + c]
        out[first + c] = total


def _leverages(source: int) -> Any:
    """Return the Python form of the kernel."""

    def leverages(
        z: Any, d: Any, lam: Any, starts: Any, chain: Any, border: Any, at: Any, width: Any,
        offset: Any, column: Any, psi: Any, s: Any, inverse: int, wide: int, v: Any, g_lam: Any,
    ) -> None:  # fmt: skip
        """Write z'D A^-1 D'z by row, and add sum d z (A^-1 D'z)' to each factor's gradient.

        `at` counts positions in psi here.
        """
        own = np.empty(z.shape[1])
        out = np.empty(z.shape[1])
        for i in range(d.shape[0]):
            out[:] = 0.0
            for h in range(chain.shape[0]):
                _row_scores(z, i, chain[h], starts, lam, own)
            for b in range(border.shape[0]):
                _row_scores(z, i, border[b], starts, lam, own)
            for h in range(chain.shape[0]):
                first = chain[h, 2]
                for a in range(chain[h, 1]):
                    row = at[h, i] + a * width[h, i]
                    k = row
                    for later in range(h, chain.shape[0]):
                        for c in range(chain[later, 1]):
                            other = chain[later, 2] + c
                            out[first + a] += psi[k] * own[other]
                            if later > h:
                                out[other] += psi[k] * own[first + a]
                            k += 1
                    for b in range(border.shape[0]):
                        k = row + offset[h, b, i]
                        for c in range(border[b, 1]):
                            other = border[b, 2] + c
                            out[first + a] += psi[k + c] * own[other]
                            out[other] += psi[k + c] * own[first + a]
            for a in range(border.shape[0]):
                for x in range(border[a, 1]):
                    line = inverse + (column[a, i] + x) * wide
                    for b in range(border.shape[0]):
                        for c in range(border[b, 1]):
                            k = line + column[b, i] + c
                            out[border[a, 2] + x] += s[k] * own[border[b, 2] + c]
            total = 0.0
            for k in range(z.shape[1]):
                total += own[k] * out[k]
            v[i] = total if source >= 0 else math.nan
            for h in range(chain.shape[0]):
                _add_outer(z, i, chain[h], starts, d[i], out, g_lam)
            for b in range(border.shape[0]):
                _add_outer(z, i, border[b], starts, d[i], out, g_lam)

    return leverages


@strict
def _add_outer(z: Any, i: int, record: Any, starts: Any, d: float, out: Any, g: Any) -> None:
    """Add d z out' of one grouping."""
    k, q, first = record
    for a in range(q):
        left = d * z[i, first + a]
        for b in range(q):
            g[starts[k] + a * q + b] += left * out[first + b]


_DIGEST: Final = source_digest()
fill_kernel: Final = cached_kernel(_fill(_DIGEST))
solve_kernel: Final = cached_kernel(_solve(_DIGEST))
moments_kernel: Final = cached_kernel(_moments(_DIGEST))
leverages_kernel: Final = cached_kernel(_leverages(_DIGEST))

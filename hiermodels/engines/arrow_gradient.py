"""The arrow's corner, its density and the gradient by factors, weights and coefficients.

By Fisher's identity the gradient of -(log|A| + rho^2)/2 is -tr(Omega dA~)/2. With Psi = D Omega
this is -(K Psi) for the factors, -tr(K_m Psi D')/2 for the weights and (K Psi) in the row of a
coefficient and the column of y for coefficients that are not integrated out.
"""

import math
from typing import Any

from hiermodels.engines.arrow import (
    ancestor,
    ending,
    forward,
    node_moments,
    scale_node,
    tail_times,
    times,
    weigh,
)
from hiermodels.engines.arrow_dense import cholesky
from hiermodels.engines.arrow_layout import (
    AT_BLOCKS,
    AT_COLUMNS,
    AT_GROUPS,
    AT_LEVELS,
    AT_PAIRS,
    AT_PRIOR,
    AT_START,
    AT_TAIL,
    AT_TOUCH_GROUP,
    AT_TOUCHES,
    BLOCK,
    CORNER,
    CROSSED,
    GROUP,
    GROUP_AT,
    GROUP_SIZE,
    INVERSE,
    KNOWN,
    LATER,
    LEVEL,
    N_BLOCKS,
    N_PAIRS,
    NODES,
    OTHERS,
    OWNER,
    PAIR,
    SIZE,
    START,
    WORK,
    H,
    P,
)
from hiermodels.engines.rowwise import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def left_times(
    s: Any, block: int, wide: int, q: int, n: int, lam: Any, at: int, out: int, step: int
) -> None:
    """Write factor' (q, q) times rows (q, n) at `block`."""
    for c in range(q):
        for k in range(n):
            total = 0.0
            for b in range(q):
                total += lam[at + b * q + c] * s[block + b * wide + k]
            s[out + c * step + k] = total


@strict
def assemble_corner(f: Any, i: Any, a: int, lam: Any, w: Any, shift: Any, s: Any) -> None:
    """Write A~ of crossed groupings, coefficients and y, and keep its diagonal."""
    p, others, crossed = i[a + P], i[a + OTHERS], i[a + CROSSED]
    n, corner, kw = crossed + p + 1, i[a + CORNER], i[a + WORK]
    tail, groups = p + others + 1, i[a + AT_GROUPS]
    for k in range(n * n):
        s[corner + k] = 0.0
    for k in range(i[a + N_PAIRS]):
        r = i[a + AT_PAIRS] + k * PAIR
        g1, g2 = groups + GROUP * i[r + 2], groups + GROUP * i[r + 3]
        q1, q2 = i[g1 + GROUP_SIZE], i[g2 + GROUP_SIZE]
        weigh(f, i[r + 4], q1 * q2, w, s, kw)
        times(s, kw, q2, q1, lam, i[g2 + GROUP_AT], q2, kw + q1 * q2, q2)
        out = corner + i[r] * n + i[r + 1]
        left_times(s, kw + q1 * q2, q2, q1, q2, lam, i[g1 + GROUP_AT], out, n)
    if i[a + KNOWN] == 0:
        for k in range(crossed):
            s[corner + k * n + k] += 1.0
    else:
        for k in range(crossed):
            line = i[a + KNOWN] + k * crossed
            for c in range(k, crossed):
                s[corner + k * n + c] += f[line + c]
    for k in range(i[a + N_BLOCKS]):
        r = i[a + AT_BLOCKS] + k * BLOCK
        g = groups + GROUP * i[r + 1]
        q = i[g + GROUP_SIZE]
        weigh(f, i[r + 2], q * tail, w, s, kw)
        tail_times(s, kw, tail, q, p, shift, kw + q * tail, p + 1)
        out = corner + i[r] * n + crossed
        left_times(s, kw + q * tail, p + 1, q, p + 1, lam, i[g + GROUP_AT], out, n)
    weigh(f, i[a + AT_TAIL], tail * tail, w, s, kw)
    half = kw + tail * tail
    tail_times(s, kw, tail, tail, p, shift, half, p + 1)
    for k in range(p + 1):
        row = corner + (crossed + k) * n + crossed
        source = half + (k if k < p else p + others) * (p + 1)
        for c in range(p + 1):
            s[row + c] = s[source + c] + f[i[a + AT_PRIOR] + k * (p + 1) + c]
    for b in range(others):
        row = corner + (n - 1) * n + crossed
        s[row + p] -= shift[b] * s[half + (p + b) * (p + 1) + p]
    for k in range(n):
        s[i[a + START] + k] = s[corner + k * n + k]


@strict
def factor_corner(i: Any, a: int, value: float, s: Any) -> float:
    """Return log|A| + rho^2 from the chain's log determinant; nan where a pivot is lost."""
    n, corner = i[a + CROSSED] + i[a + P] + 1, i[a + CORNER]
    if math.isnan(value) or not cholesky(s, corner, n, i[a + START]):
        return math.nan
    for k in range(n - 1):
        value += 2.0 * math.log(s[corner + k * n + k])
    rho = s[corner + n * n - 1]
    return float(value + rho * rho)


@strict
def arrow_value(f: Any, i: Any, a: int, lam: Any, w: Any, shift: Any, s: Any, where: Any) -> float:
    """Return log|A| + rho^2, or nan where a pivot is lost; the factors stay in s.

    Parameters: the buffer as numbers and as whole numbers, the place of the arrow's head, every
    grouping's factor, the weights of the basis matrices, the coefficients that are not integrated
    out less their centre, working memory, and an index as long as the widest rest.
    """
    assemble_corner(f, i, a, lam, w, shift, s)
    return factor_corner(i, a, forward(f, i, a, lam, w, shift, s, where), s)


# --- gradient -------------------------------------------------------------------------------------


@strict
def add_factor_gradient(
    s: Any, kw: int, raw: int, rows: int, psi: int, step: int, q: int, g: Any, at: int
) -> None:
    """Subtract K' Psi for one block: rows of both, q columns of each."""
    for b in range(rows):
        for x in range(q):
            factor = s[kw + b * raw + x]
            for y in range(q):
                g[at + x * q + y] -= factor * s[psi + b * step + y]


@strict
def factor_right(
    s: Any, psi: int, step: int, rows: int, q: int, lam: Any, at: int, out: int, wide: int
) -> None:
    """Write Psi (rows, q) times a factor's transpose."""
    for b in range(rows):
        for x in range(q):
            total = 0.0
            for y in range(q):
                total += s[psi + b * step + y] * lam[at + x * q + y]
            s[out + b * wide + x] = total


@strict
def tail_right(
    s: Any, psi: int, step: int, rows: int, p: int, shift: Any, out: int, wide: int
) -> None:
    """Write Psi of [X, y] (rows, p + 1) as moments of [X, others, y]."""
    n = shift.shape[0]
    for b in range(rows):
        for c in range(p):
            s[out + b * wide + c] = s[psi + b * step + c]
        last = s[psi + b * step + p]
        for k in range(n):
            s[out + b * wide + p + k] = -shift[k] * last
        s[out + b * wide + p + n] = last


@strict
def add_weight_gradient(
    f: Any, at: int, s: Any, theta: int, rows: int, wide: int, own: int, g_w: Any
) -> None:
    """Subtract the sums of K_m times Theta; the first `own` columns count by half."""
    for m in range(g_w.shape[0]):
        total = 0.0
        for b in range(rows):
            line, other = at + (m * rows + b) * wide, theta + b * wide
            for c in range(own):
                total += 0.5 * f[line + c] * s[other + c]
            for c in range(own, wide):
                total += f[line + c] * s[other + c]
        g_w[m] -= total


@strict
def node_gradient(
    f: Any, i: Any, a: int, h: int, node: int, lam: Any, w: Any, shift: Any, s: Any, where: Any,
    g_lam: Any, g_w: Any, g_shift: Any,
) -> float:  # fmt: skip
    """Add what one node gives to the gradient; return what it may round away, see `trust`."""
    r = i[a + AT_LEVELS] + h * LEVEL
    p, others, q = i[a + P], i[a + OTHERS], i[r + SIZE]
    wide = q + i[r + LATER] + i[i[r + AT_COLUMNS] + node] + p + 1
    raw = wide + others
    kw = i[a + WORK]
    ke, omega, psi, theta = kw + q * raw, kw + 2 * q * raw, kw + 3 * q * raw, kw + 4 * q * raw
    node_moments(f, i, a, h, node, s, where, omega, kw + 6 * q * raw)
    at = i[i[r + AT_START] + node]
    weigh(f, at, q * raw, w, s, kw)
    scale_node(i, a, h, node, lam, shift, s, kw, ke)
    groups = i[a + AT_GROUPS]
    own = i[groups + GROUP * i[r + OWNER] + GROUP_AT]
    lost = 0.0
    for x in range(q):
        for y in range(q):
            total = 0.0
            for c in range(wide):
                total += s[ke + x * wide + c] * s[omega + y * wide + c]
            g_lam[own + x * q + y] -= total
            lost += lam[own + x * q + y] * s[ke + x * wide + y] * s[omega + y * wide + y]
    for x in range(q):
        for c in range(wide):
            s[psi + x * wide + c] = 0.0
        for y in range(q):
            factor = lam[own + x * q + y]
            for c in range(wide):
                s[psi + x * wide + c] += factor * s[omega + y * wide + c]
    factor_right(s, psi, wide, q, q, lam, own, theta, raw)
    column = q
    touches = i[i[r + AT_TOUCHES] + node]
    n_later = i[a + H] - h - 1
    n_blocks = n_later + i[i[r + AT_TOUCHES] + node + 1] - touches
    for k in range(n_blocks):
        if k < n_later:
            g = groups + GROUP * i[i[a + AT_LEVELS] + (h + 1 + k) * LEVEL + OWNER]
        else:
            g = groups + GROUP * i[i[r + AT_TOUCH_GROUP] + touches + k - n_later]
        size, first = i[g + GROUP_SIZE], i[g + GROUP_AT]
        add_factor_gradient(s, kw + column, raw, q, psi + column, wide, size, g_lam, first)
        factor_right(s, psi + column, wide, q, size, lam, first, theta + column, raw)
        column += size
    tail_right(s, psi + column, wide, q, p, shift, theta + column, raw)
    for b in range(q):
        for k in range(others):
            g_shift[k] += s[kw + b * raw + column + p + k] * s[psi + b * wide + column + p]
    add_weight_gradient(f, at, s, theta, q, raw, q, g_w)
    return float(q * lost)


@strict
def pair_gradient(
    f: Any, i: Any, a: int, r: int, lam: Any, w: Any, s: Any, g_lam: Any, g_w: Any
) -> None:
    """Add what the products of two border levels give to the gradient."""
    n, groups, kw = i[a + CROSSED] + i[a + P] + 1, i[a + AT_GROUPS], i[a + WORK]
    g1, g2 = groups + GROUP * i[r + 2], groups + GROUP * i[r + 3]
    q1, q2, l1, l2 = i[g1 + GROUP_SIZE], i[g2 + GROUP_SIZE], i[g1 + GROUP_AT], i[g2 + GROUP_AT]
    theta = kw + 2 * q1 * q2
    omega = i[a + INVERSE] + i[r] * n + i[r + 1]
    weigh(f, i[r + 4], q1 * q2, w, s, kw)
    times(s, kw, q2, q1, lam, l2, q2, kw + q1 * q2, q2)
    for x in range(q1):
        for y in range(q1):
            for c in range(q2):
                g_lam[l1 + x * q1 + y] -= s[kw + q1 * q2 + x * q2 + c] * s[omega + y * n + c]
    for x in range(q1):
        for c in range(q2):
            total = 0.0
            for y in range(q1):
                total += lam[l1 + x * q1 + y] * s[omega + y * n + c]
            s[kw + q1 * q2 + x * q2 + c] = total
    if i[r] != i[r + 1]:
        add_factor_gradient(s, kw, q2, q1, kw + q1 * q2, q2, q2, g_lam, l2)
    factor_right(s, kw + q1 * q2, q2, q1, q2, lam, l2, theta, q2)
    add_weight_gradient(f, i[r + 4], s, theta, q1, q2, q2 if i[r] == i[r + 1] else 0, g_w)


@strict
def corner_gradient(
    f: Any, i: Any, a: int, lam: Any, w: Any, shift: Any, s: Any, g_lam: Any, g_w: Any, g_shift: Any
) -> None:
    """Add what the corner's own products give to the gradient."""
    p, others, crossed, kw = i[a + P], i[a + OTHERS], i[a + CROSSED], i[a + WORK]
    n, tail = crossed + p + 1, p + others + 1
    for k in range(i[a + N_PAIRS]):
        pair_gradient(f, i, a, i[a + AT_PAIRS] + k * PAIR, lam, w, s, g_lam, g_w)
    for k in range(i[a + N_BLOCKS]):
        r = i[a + AT_BLOCKS] + k * BLOCK
        g = i[a + AT_GROUPS] + GROUP * i[r + 1]
        q, at = i[g + GROUP_SIZE], i[g + GROUP_AT]
        ke, psi, theta = kw + q * tail, kw + 2 * q * tail, kw + 3 * q * tail
        omega = i[a + INVERSE] + i[r] * n + crossed
        weigh(f, i[r + 2], q * tail, w, s, kw)
        tail_times(s, kw, tail, q, p, shift, ke, p + 1)
        for x in range(q):
            for y in range(q):
                for c in range(p + 1):
                    g_lam[at + x * q + y] -= s[ke + x * (p + 1) + c] * s[omega + y * n + c]
            for c in range(p + 1):
                total = 0.0
                for y in range(q):
                    total += lam[at + x * q + y] * s[omega + y * n + c]
                s[psi + x * (p + 1) + c] = total
            for b in range(others):
                g_shift[b] += s[kw + x * tail + p + b] * s[psi + x * (p + 1) + p]
        tail_right(s, psi, p + 1, q, p, shift, theta, tail)
        add_weight_gradient(f, i[r + 2], s, theta, q, tail, 0, g_w)
    half, theta = kw + tail * tail, kw + 2 * tail * tail
    omega = i[a + INVERSE] + crossed * n + crossed
    weigh(f, i[a + AT_TAIL], tail * tail, w, s, kw)
    tail_right(s, omega, n, p + 1, p, shift, half, tail)
    for b in range(others):
        for c in range(tail):
            g_shift[b] += s[kw + (p + b) * tail + c] * s[half + p * tail + c]
    for c in range(tail):
        for k in range(p):
            s[theta + k * tail + c] = s[half + k * tail + c]
        for b in range(others):
            s[theta + (p + b) * tail + c] = -shift[b] * s[half + p * tail + c]
        s[theta + (p + others) * tail + c] = s[half + p * tail + c]
    add_weight_gradient(f, i[a + AT_TAIL], s, theta, tail, tail, tail, g_w)


@strict
def chain_gradient(
    f: Any, i: Any, a: int, lam: Any, w: Any, shift: Any, s: Any, where: Any, g_lam: Any, g_w: Any,
    g_shift: Any,
) -> float:  # fmt: skip
    """Add what the chain gives to the gradient; the corner's moments must have been written.

    Returns what the chain's columns may round away, see `trust`.
    """
    lost = 0.0
    if i[a + H] == 0:
        return lost
    for leaf in range(i[i[a + AT_LEVELS] + NODES] - 1, -1, -1):
        # Parents before their children: all those whose last leaf this is, outermost first.
        for h in range(ending(i, a, leaf), -1, -1):
            node = ancestor(i, a, leaf, h)
            lost += node_gradient(f, i, a, h, node, lam, w, shift, s, where, g_lam, g_w, g_shift)
    return lost

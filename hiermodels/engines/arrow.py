"""The arrow: elimination of group effects and coefficients, level by level, with its gradient.

The kernel works on second moments with the response as a last column. With D the factors of all
groupings, K the cross-products of [Z, X, y] under R^-1, and A~ = D'KD + prior, the triangular
factor of A~ holds that of the precision of (u, v), c beside it and rho, the root of what y leaves.
The gradient is -tr(Omega dA~)/2, where Omega is the second moment of t = (u, v, -1) given y;
it is needed, and computed, on the pattern of A~ only.

References
----------
.. [1] Takahashi, Fagan and Chin (1973); see Erisman and Tinney (1975),
   https://doi.org/10.1145/360680.360704.
"""

import math
from typing import Any

from hiermodels.engines.arrow_dense import sweep
from hiermodels.engines.arrow_layout import (
    AT_COLUMNS,
    AT_FACTOR,
    AT_GROUPS,
    AT_LEVELS,
    AT_MULTIPLICITY,
    AT_PARENT,
    AT_START,
    AT_TOUCH_GROUP,
    AT_TOUCH_PLACE,
    AT_TOUCHES,
    CORNER,
    CROSSED,
    FRONT,
    GROUP,
    GROUP_AT,
    GROUP_SIZE,
    INVERSE,
    LATER,
    LEVEL,
    NODES,
    OMEGA,
    OTHERS,
    OWNER,
    SIZE,
    WORK,
    H,
    P,
)
from hiermodels.engines.rowwise import strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def weigh(f: Any, at: int, size: int, w: Any, s: Any, out: int) -> None:
    """Write the sum of the blocks at `at`, one for each basis matrix, times their weights."""
    for i in range(size):
        s[out + i] = w[0] * f[at + i]
    for k in range(1, w.shape[0]):
        at += size
        for i in range(size):
            s[out + i] += w[k] * f[at + i]


@strict
def times(
    s: Any, left: int, wide: int, rows: int, lam: Any, at: int, q: int, out: int, step: int
) -> None:
    """Write (rows, q) columns at `left` times a factor (q, q)."""
    for i in range(rows):
        for c in range(q):
            total = 0.0
            for b in range(q):
                total += s[left + i * wide + b] * lam[at + b * q + c]
            s[out + i * step + c] = total


@strict
def tail_times(
    s: Any, left: int, wide: int, rows: int, p: int, shift: Any, out: int, step: int
) -> None:
    """Write columns of X and of y less the other coefficients' part, from [X, others, y]."""
    n = shift.shape[0]
    for i in range(rows):
        row = left + i * wide
        for c in range(p):
            s[out + i * step + c] = s[row + c]
        total = s[row + p + n]
        for k in range(n):
            total -= shift[k] * s[row + p + k]
        s[out + i * step + p] = total


@strict
def _node(i: Any, a: int, h: int, node: int) -> Any:
    """Return record, effects, touched columns, columns of the rest, raw columns."""
    r = i[a + AT_LEVELS] + h * LEVEL
    q, touched = i[r + SIZE], i[i[r + AT_COLUMNS] + node]
    rest = i[r + LATER] + touched + i[a + P] + 1
    return r, q, touched, rest, q + rest + i[a + OTHERS]


@strict
def scale_node(
    i: Any, a: int, h: int, node: int, lam: Any, shift: Any, s: Any, kw: int, ke: int
) -> None:
    """Write the products of a node (q, raw) at kw, every column times its factor, at ke."""
    r, q, _touched, rest, raw = _node(i, a, h, node)
    groups, wide, column = i[a + AT_GROUPS], q + rest, 0
    for later in range(h, i[a + H]):
        g = groups + GROUP * i[i[a + AT_LEVELS] + later * LEVEL + OWNER]
        size = i[g + GROUP_SIZE]
        times(s, kw + column, raw, q, lam, i[g + GROUP_AT], size, ke + column, wide)
        column += size
    for t in range(i[i[r + AT_TOUCHES] + node], i[i[r + AT_TOUCHES] + node + 1]):
        g = groups + GROUP * i[i[r + AT_TOUCH_GROUP] + t]
        size = i[g + GROUP_SIZE]
        times(s, kw + column, raw, q, lam, i[g + GROUP_AT], size, ke + column, wide)
        column += size
    tail_times(s, kw + column, raw, q, i[a + P], shift, ke + column, wide)


@strict
def place(i: Any, a: int, h: int, node: int, where: Any) -> Any:
    """Write where each column of a node's rest stands in the next front; return that front.

    Returns scratch positions of the front and of its second moments, and its columns.
    """
    r, _q, _touched, _rest, _raw = _node(i, a, h, node)
    later, groups, at = i[r + LATER], i[a + AT_GROUPS], 0
    for k in range(later):
        where[k] = k
    at = later
    for t in range(i[i[r + AT_TOUCHES] + node], i[i[r + AT_TOUCHES] + node + 1]):
        size = i[groups + GROUP * i[i[r + AT_TOUCH_GROUP] + t] + GROUP_SIZE]
        first = later + i[i[r + AT_TOUCH_PLACE] + t]
        for c in range(size):
            where[at + c] = first + c
        at += size
    if h + 1 < i[a + H]:
        parent = i[i[r + AT_PARENT] + node]
        above, q, touched, rest, _ = _node(i, a, h + 1, parent)
        front, omega, wide = i[above + FRONT], i[above + OMEGA], q + rest
        tail = later + touched
    else:
        front, omega, tail = i[a + CORNER], i[a + INVERSE], i[a + CROSSED]
        wide = tail + i[a + P] + 1
    for k in range(i[a + P] + 1):
        where[at + k] = tail + k
    return front, omega, wide


@strict
def eliminate(
    f: Any, i: Any, a: int, h: int, node: int, lam: Any, w: Any, shift: Any, s: Any, where: Any
) -> float:
    """Factor one node and pass its Schur complement on; return its log determinant, or nan."""
    r, q, _touched, rest, raw = _node(i, a, h, node)
    wide = q + rest
    kw = i[a + WORK]
    ke = kw + q * raw
    start = ke + q * wide
    out = i[i[r + AT_FACTOR] + node]
    weigh(f, i[i[r + AT_START] + node], q * raw, w, s, kw)
    scale_node(i, a, h, node, lam, shift, s, kw, ke)
    own = i[i[a + AT_GROUPS] + GROUP * i[r + OWNER] + GROUP_AT]
    for k in range(q):
        for c in range(wide):
            s[out + k * wide + c] = 0.0
        for b in range(q):
            factor = lam[own + b * q + k]
            for c in range(k, wide):
                s[out + k * wide + c] += factor * s[ke + b * wide + c]
        s[out + k * wide + k] += 1.0
        s[start + k] = s[out + k * wide + k]
    front = i[r + FRONT]
    if h > 0:
        for k in range(q):
            for c in range(k, wide):
                s[out + k * wide + c] += s[front + k * wide + c]
    if not sweep(s, out, wide, 0, q, wide, start):
        return math.nan
    target, _omega, step = place(i, a, h, node, where)
    for k in range(rest):
        line = target + where[k] * step
        if h > 0:
            old = front + (q + k) * wide + q
            for c in range(k, rest):
                s[line + where[c]] += s[old + c]
        for b in range(q):
            factor = s[out + b * wide + q + k]
            old = out + b * wide + q
            for c in range(k, rest):
                s[line + where[c]] -= factor * s[old + c]
    value = 0.0
    for k in range(q):
        value += 2.0 * math.log(s[out + k * wide + k])
    return float(value * f[i[r + AT_MULTIPLICITY] + node])


@strict
def forward(f: Any, i: Any, a: int, lam: Any, w: Any, shift: Any, s: Any, where: Any) -> float:
    """Eliminate the chain, children before parents; return the log determinant, or nan.

    The corner must have been assembled: Schur complements are subtracted from it.
    """
    if i[a + H] == 0:
        return 0.0
    value = 0.0
    for leaf in range(i[i[a + AT_LEVELS] + NODES]):
        h, node = 0, leaf
        while True:
            r = i[a + AT_LEVELS] + h * LEVEL
            top = h + 1 == i[a + H]
            parents = i[r + AT_PARENT]
            parent = i[parents + node]
            if not top and (node == 0 or i[parents + node - 1] != parent):
                above, q, _touched, rest, _raw = _node(i, a, h + 1, parent)
                for k in range((q + rest) ** 2):
                    s[i[above + FRONT] + k] = 0.0
            value += eliminate(f, i, a, h, node, lam, w, shift, s, where)
            if math.isnan(value):
                return value
            if top or (node + 1 < i[r + NODES] and i[parents + node + 1] == parent):
                break
            h, node = h + 1, parent
    return value


# --- back -----------------------------------------------------------------------------------------


@strict
def node_moments(
    f: Any, i: Any, a: int, h: int, node: int, s: Any, where: Any, psi: int, rr: int
) -> None:
    """Write Omega of a node: own rows (q, q + rest) at psi, the rest's at rr.

    Levels above the leaves leave the whole for their children.
    """
    r, q, _touched, rest, _raw = _node(i, a, h, node)
    wide = q + rest
    u = i[i[r + AT_FACTOR] + node]
    _front, omega, step = place(i, a, h, node, where)
    for k in range(rest):
        line = omega + where[k] * step
        for c in range(rest):
            s[rr + k * rest + c] = s[line + where[c]]
    multiplicity = f[i[r + AT_MULTIPLICITY] + node]
    for b in range(q - 1, -1, -1):
        line, row = psi + b * wide, u + b * wide
        # (rest): minus the means' part, then what later own rows add
        for c in range(wide):
            s[line + c] = 0.0
        for k in range(rest):
            factor = -s[row + q + k]
            for c in range(rest):
                s[line + q + c] += factor * s[rr + k * rest + c]
        for d in range(b + 1, q):
            factor = -s[row + d]
            for c in range(rest):
                s[line + q + c] += factor * s[psi + d * wide + q + c]
        inverse = 1.0 / s[row + b]
        for c in range(rest):
            s[line + q + c] *= inverse
    for b in range(q - 1, -1, -1):
        row = u + b * wide
        inverse = 1.0 / s[row + b]
        for d in range(q - 1, b - 1, -1):
            total = multiplicity * inverse if d == b else 0.0
            for c in range(rest):
                total -= s[row + q + c] * s[psi + d * wide + q + c]
            for c in range(b + 1, q):
                total -= s[row + c] * s[psi + c * wide + d]
            s[psi + b * wide + d] = total * inverse
            s[psi + d * wide + b] = total * inverse
    if h > 0:
        out = i[r + OMEGA]
        for b in range(q):
            for c in range(wide):
                s[out + b * wide + c] = s[psi + b * wide + c]
                s[out + c * wide + b] = s[psi + b * wide + c]
        for k in range(rest):
            for c in range(rest):
                s[out + (q + k) * wide + q + c] = s[rr + k * rest + c]


@strict
def ending(i: Any, a: int, leaf: int) -> int:
    """Return the highest level of the chain at which a leaf is its ancestor's last one."""
    h, node = 0, leaf
    while h + 1 < i[a + H]:
        r = i[a + AT_LEVELS] + h * LEVEL
        parents = i[r + AT_PARENT]
        parent = i[parents + node]
        if node + 1 < i[r + NODES] and i[parents + node + 1] == parent:
            break
        h, node = h + 1, parent
    return h


@strict
def ancestor(i: Any, a: int, leaf: int, h: int) -> int:
    """Return the node of level h that a leaf belongs to."""
    node = leaf
    for k in range(h):
        node = i[i[i[a + AT_LEVELS] + k * LEVEL + AT_PARENT] + node]
    return node

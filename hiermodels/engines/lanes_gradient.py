"""The gradient of the arrow for many groups at a time; see `lanes` and `arrow_gradient`."""

from typing import Any

from hiermodels.engines.arrow_layout import (
    AT_GROUPS,
    AT_LEVELS,
    GROUP,
    GROUP_AT,
    GROUP_SIZE,
    INVERSE,
    N_BLOCKS,
    OTHERS,
    WORK,
    H,
    M,
    P,
)
from hiermodels.engines.lanes import (
    add_scaled,
    block_of,
    clear,
    column_group,
    dot,
    level_shape,
    scale_lanes,
    weigh_lanes,
)
from hiermodels.engines.lanes_layout import (
    AT_MULTIPLICITY,
    AT_PARENT,
    AT_PRODUCTS,
    BLOCKS,
    FACTOR,
    LANES,
    LEVEL,
    OMEGA,
    OWNER,
)
from hiermodels.engines.rowwise import loop

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@loop
def subtract_products(out: Any, row: int, u: Any, first: int, s: Any, at: int, n: int) -> None:
    """Subtract n rows of u from `first` on, times n numbers at `at`, from one row.

    Four at a time: each number of the row is read and written once for them.
    """
    k = 0
    while k + 4 <= n:
        a, b, c, d = s[at + k], s[at + k + 1], s[at + k + 2], s[at + k + 3]
        x = first + k
        for j in range(out.shape[1]):
            out[row, j] -= a * u[x, j] + b * u[x + 1, j] + c * u[x + 2, j] + d * u[x + 3, j]
        k += 4
    while k < n:
        add_scaled(out, row, u, first + k, -s[at + k])
        k += 1


@loop
def rest_moments(
    u: Any, q: int, i: Any, parents: int, s: Any, omega: int, top: bool, row: Any, out: Any
) -> None:
    """Write the moments of own scores with the rest, rows b wide + q + c of `out`."""
    wide, lanes = u.shape[0] // q, u.shape[1]
    rest = wide - q
    for b in range(q):
        for c in range(rest):
            for j in range(lanes):
                out[b * wide + q + c, j] = 0.0
    if top:
        for b in range(q):
            for c in range(rest):
                subtract_products(out, b * wide + q + c, u, b * wide + q, s, omega + c * rest, rest)
    else:
        for x in range(rest):
            for c in range(rest):
                at = omega + (x * rest + c) * lanes
                for j in range(lanes):
                    row[0, j] = s[at + i[parents + j]]
                for b in range(q):
                    for j in range(lanes):
                        out[b * wide + q + c, j] -= u[b * wide + q + x, j] * row[0, j]
    for b in range(q - 1, -1, -1):
        for j in range(lanes):
            row[1, j] = 1.0 / u[b * wide + b, j]
        for c in range(rest):
            line = b * wide + q + c
            for d in range(b + 1, q):
                for j in range(lanes):
                    out[line, j] -= u[b * wide + d, j] * out[d * wide + q + c, j]
            for j in range(lanes):
                out[line, j] *= row[1, j]


@loop
def own_moments(f: Any, u: Any, q: int, many: int, row: Any, out: Any) -> None:
    """Write the moments of own scores with each other."""
    wide, lanes = u.shape[0] // q, u.shape[1]
    for b in range(q - 1, -1, -1):
        for j in range(lanes):
            row[1, j] = 1.0 / u[b * wide + b, j]
        for d in range(q - 1, b - 1, -1):
            for j in range(lanes):
                row[0, j] = f[many + j] * row[1, j] if d == b else 0.0
            for c in range(q, wide):
                for j in range(lanes):
                    row[0, j] -= u[b * wide + c, j] * out[d * wide + c, j]
            for c in range(b + 1, q):
                for j in range(lanes):
                    row[0, j] -= u[b * wide + c, j] * out[c * wide + d, j]
            for j in range(lanes):
                out[b * wide + d, j] = row[0, j] * row[1, j]
                out[d * wide + b, j] = out[b * wide + d, j]


@loop
def keep_moments(
    omega: Any, q: int, i: Any, parents: int, s: Any, above: int, corner: int, out: Any
) -> None:
    """Write the whole moments of a block's fronts for their children."""
    wide, lanes = omega.shape[0] // q, omega.shape[1]
    rest = wide - q
    for b in range(q):
        for c in range(wide):
            for j in range(lanes):
                out[b * wide + c, j] = omega[b * wide + c, j]
                out[c * wide + b, j] = omega[b * wide + c, j]
    for x in range(rest):
        for y in range(rest):
            line = (q + x) * wide + q + y
            if above < 0:
                value = s[corner + x * rest + y]
                for j in range(lanes):
                    out[line, j] = value
            else:
                at = above + (x * rest + y) * lanes
                for j in range(lanes):
                    out[line, j] = s[at + i[parents + j]]


@loop
def block_gradient(
    i: Any, a: int, h: int, lam: Any, shift: Any, own: int, q: int, products: Any, kw: Any, ke: Any,
    omega: Any, psi: Any, theta: Any, g_lam: Any, g_w: Any, g_shift: Any,
) -> None:  # fmt: skip
    """Add what a block gives to the gradient; see `arrow_gradient`."""
    raw, wide = kw.shape[0] // q, ke.shape[0] // q
    p, others = i[a + P], i[a + OTHERS]
    clear(psi)
    clear(theta)
    for x in range(q):
        for y in range(q):
            total = 0.0
            for c in range(wide):
                total += dot(ke, x * wide + c, omega, y * wide + c)
            g_lam[own + x * q + y] -= total
            factor = lam[own + x * q + y]
            if factor != 0.0:
                for c in range(wide):
                    add_scaled(psi, x * wide + c, omega, y * wide + c, factor)
    column = 0
    for k in range(i[a + H] - h + i[a + N_BLOCKS]):
        g = column_group(i, a, h, k)
        size, at = i[g + GROUP_SIZE], i[g + GROUP_AT]
        for b in range(q):
            for x in range(size):
                row = b * raw + column + x
                for y in range(size):
                    if k > 0:
                        value = dot(kw, row, psi, b * wide + column + y)
                        g_lam[at + x * size + y] -= value
                    factor = lam[at + x * size + y]
                    if factor != 0.0:
                        add_scaled(theta, row, psi, b * wide + column + y, factor)
        column += size
    for b in range(q):
        last = b * wide + column + p
        for c in range(p):
            add_scaled(theta, b * raw + column + c, psi, b * wide + column + c, 1.0)
        for k in range(others):
            row = b * raw + column + p + k
            g_shift[k] += dot(kw, row, psi, last)
            add_scaled(theta, row, psi, last, -shift[k])
        add_scaled(theta, b * raw + column + p + others, psi, last, 1.0)
    for m in range(g_w.shape[0]):
        total = 0.0
        for b in range(q):
            for c in range(raw):
                part = dot(products, (m * q + b) * raw + c, theta, b * raw + c)
                total += 0.5 * part if c < q else part
        g_w[m] -= total


@loop
def lanes_gradient(
    f: Any, i: Any, a: int, lam: Any, w: Any, shift: Any, s: Any, g_lam: Any, g_w: Any,
    g_shift: Any,
) -> None:  # fmt: skip
    """Add what the chain gives to the gradient; the corner's moments must have been written."""
    lanes, m, work = i[a + LANES], i[a + M], i[a + WORK]
    for h in range(i[a + H] - 1, -1, -1):
        r, q, rest, raw = level_shape(i, a, h)
        wide, top, size = q + rest, h + 1 == i[a + H], q * raw * lanes
        kw, ke = block_of(s, work, q * raw, lanes), block_of(s, work + size, q * wide, lanes)
        omega = block_of(s, work + 2 * size, q * wide, lanes)
        psi = block_of(s, work + 3 * size, q * wide, lanes)
        theta = block_of(s, work + 4 * size, q * raw, lanes)
        row = block_of(s, work + 5 * size, 2, lanes)
        own = i[i[a + AT_GROUPS] + GROUP * i[r + OWNER] + GROUP_AT]
        above = -1 if top else i[i[a + AT_LEVELS] + (h + 1) * LEVEL + OMEGA]
        source = i[a + INVERSE] if top else above
        for k in range(i[r + BLOCKS]):
            u = block_of(s, i[r + FACTOR] + k * q * wide * lanes, q * wide, lanes)
            parents = i[r + AT_PARENT] + k * lanes
            rest_moments(u, q, i, parents, s, source, top, row, omega)
            own_moments(f, u, q, i[r + AT_MULTIPLICITY] + k * lanes, row, omega)
            if h > 0:
                out = block_of(s, i[r + OMEGA] + k * wide**2 * lanes, wide**2, lanes)
                keep_moments(omega, q, i, parents, s, above, i[a + INVERSE], out)
            products = block_of(f, i[r + AT_PRODUCTS] + k * m * q * raw * lanes, m * q * raw, lanes)
            weigh_lanes(products, w, kw)
            scale_lanes(i, a, h, lam, shift, q, kw, ke)
            block_gradient(
                i, a, h, lam, shift, own, q, products, kw, ke, omega, psi, theta, g_lam, g_w,
                g_shift,
            )  # fmt: skip

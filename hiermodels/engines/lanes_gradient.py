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
    clear,
    column_group,
    dot,
    level_shape,
    put_scaled,
    scale_lanes,
    weigh_lanes,
)
from hiermodels.engines.lanes_layout import (
    AT_MULTIPLICITY,
    AT_PARENT,
    AT_PRODUCTS,
    AT_RUNS,
    FACTOR,
    LANES,
    LEVEL,
    OMEGA,
    OWNER,
    RUNS,
)
from hiermodels.engines.rowwise import loop
from hiermodels.engines.views import block_of

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@loop
def subtract_products(out: Any, row: int, u: Any, first: int, s: Any, at: int, n: int) -> None:
    """Write minus the sum of n rows of u from `first` on times n numbers at `at`.

    Two rows of `out`, the second's numbers n further; eight products for four rows read.
    """
    k = 0
    for j in range(out.shape[1]):
        out[row, j] = 0.0
        out[row + 1, j] = 0.0
    while k + 4 <= n:
        a, b, c, d = s[at + k], s[at + k + 1], s[at + k + 2], s[at + k + 3]
        e, f, g, h = s[at + n + k], s[at + n + k + 1], s[at + n + k + 2], s[at + n + k + 3]
        x = first + k
        for j in range(out.shape[1]):
            one, two, three, four = u[x, j], u[x + 1, j], u[x + 2, j], u[x + 3, j]
            out[row, j] -= a * one + b * two + c * three + d * four
            out[row + 1, j] -= e * one + f * two + g * three + h * four
        k += 4
    while k < n:
        add_scaled(out, row, u, first + k, -s[at + k])
        add_scaled(out, row + 1, u, first + k, -s[at + n + k])
        k += 1


@loop
def subtract_row(out: Any, row: int, u: Any, first: int, s: Any, at: int, n: int) -> None:
    """Do for one row what `subtract_products` does for two."""
    put_scaled(out, row, u, first, -s[at])
    for k in range(1, n):
        add_scaled(out, row, u, first + k, -s[at + k])


@loop
def subtract_blocks(
    out: Any, row: int, u: Any, first: int, x: Any, other: int, step: int, n: int
) -> None:
    """Write minus the sum of n rows of u times n rows of x, `step` apart, to one row."""
    k = 0
    if n < 4:
        for j in range(out.shape[1]):
            out[row, j] = 0.0
    while k + 4 <= n:
        a, b = first + k, other + k * step
        if k == 0:
            for j in range(out.shape[1]):
                out[row, j] = -(
                    (u[a, j] * x[b, j] + u[a + 1, j] * x[b + step, j])
                    + (u[a + 2, j] * x[b + 2 * step, j] + u[a + 3, j] * x[b + 3 * step, j])
                )
        else:
            for j in range(out.shape[1]):
                out[row, j] -= (u[a, j] * x[b, j] + u[a + 1, j] * x[b + step, j]) + (
                    u[a + 2, j] * x[b + 2 * step, j] + u[a + 3, j] * x[b + 3 * step, j]
                )
        k += 4
    while k < n:
        for j in range(out.shape[1]):
            out[row, j] -= u[first + k, j] * x[other + k * step, j]
        k += 1


@loop
def gather_moments(i: Any, parents: int, s: Any, omega: int, rest: int, out: Any) -> None:
    """Write the moments of the parents of a run, a lane each, from those of their level."""
    lanes = out.shape[1]
    for x in range(rest):
        for y in range(x, rest):
            line, mirror = x * rest + y, y * rest + x
            at = omega + line * lanes
            for j in range(lanes):
                out[line, j] = s[at + i[parents + j]]
            if x != y:
                for j in range(lanes):
                    out[mirror, j] = out[line, j]


@loop
def rest_moments(u: Any, q: int, s: Any, omega: int, above: Any, top: bool, out: Any) -> None:
    """Write the moments of own scores with the rest, rows b wide + q + c of `out`.

    Those of the rest stand in s at `omega` for the top level, else in `above`.
    """
    wide, lanes = u.shape[0] // q, u.shape[1]
    rest = wide - q
    for b in range(q):
        line = b * wide + q
        if top:
            for c in range(0, rest - 1, 2):
                subtract_products(out, line + c, u, line, s, omega + c * rest, rest)
            if rest % 2:
                c = rest - 1
                subtract_row(out, line + c, u, line, s, omega + c * rest, rest)
        else:
            for c in range(rest):
                subtract_blocks(out, line + c, u, line, above, c, rest, rest)
    for b in range(q - 1, -1, -1):
        for c in range(rest):
            line = b * wide + q + c
            for d in range(b + 1, q):
                for j in range(lanes):
                    out[line, j] -= u[b * wide + d, j] * out[d * wide + q + c, j]
            for j in range(lanes):
                out[line, j] *= u[b * wide + b, j]


@loop
def own_moments(f: Any, u: Any, q: int, many: int, row: Any, out: Any) -> None:
    """Write the moments of own scores with each other."""
    wide, lanes = u.shape[0] // q, u.shape[1]
    for b in range(q - 1, -1, -1):
        for d in range(q - 1, b - 1, -1):
            for j in range(lanes):
                row[0, j] = f[many + j] * u[b * wide + b, j] if d == b else 0.0
            for c in range(q, wide):
                for j in range(lanes):
                    row[0, j] -= u[b * wide + c, j] * out[d * wide + c, j]
            for c in range(b + 1, q):
                for j in range(lanes):
                    row[0, j] -= u[b * wide + c, j] * out[c * wide + d, j]
            for j in range(lanes):
                out[b * wide + d, j] = row[0, j] * u[b * wide + b, j]
                out[d * wide + b, j] = out[b * wide + d, j]


@loop
def keep_moments(omega: Any, q: int, s: Any, corner: int, above: Any, top: bool, out: Any) -> None:
    """Write the whole moments of a block's fronts for their children, upper triangle."""
    wide, lanes = omega.shape[0] // q, omega.shape[1]
    rest = wide - q
    for b in range(q):
        for c in range(b, wide):
            put_scaled(out, b * wide + c, omega, b * wide + c, 1.0)
    for x in range(rest):
        for y in range(x, rest):
            line = (q + x) * wide + q + y
            if not top:
                put_scaled(out, line, above, x * rest + y, 1.0)
                continue
            value = s[corner + x * rest + y]
            for j in range(lanes):
                out[line, j] = value


@loop
def own_gradient(lam: Any, own: int, q: int, ke: Any, omega: Any, psi: Any, g_lam: Any) -> float:
    """Add what a block gives to the gradient by its own factor, and write that factor's moments.

    Returns what the block may round away, see `trust`.
    """
    wide, lost = ke.shape[0] // q, 0.0
    for x in range(q):
        for y in range(q):
            total = 0.0
            for c in range(wide):
                value = dot(ke, x * wide + c, omega, y * wide + c)
                total += value
                if c == y:
                    lost += lam[own + x * q + y] * value
            g_lam[own + x * q + y] -= total
        for c in range(wide):
            put_scaled(psi, x * wide + c, omega, c, lam[own + x * q])
            for y in range(1, q):
                factor = lam[own + x * q + y]
                if factor != 0.0:
                    add_scaled(psi, x * wide + c, omega, y * wide + c, factor)
    return q * lost


@loop
def intercept_gradient(
    i: Any, a: int, h: int, lam: Any, shift: Any, own: int, products: Any, weight: float,
    omega: Any, g_lam: Any, g_shift: Any,
) -> float:  # fmt: skip
    """Do what `own_gradient` and `single_gradient` do where a node has one effect."""
    p, others, scale = i[a + P], i[a + OTHERS], lam[own]
    column, slope, total = 0, 0.0, 0.0
    for k in range(i[a + H] - h + i[a + N_BLOCKS]):
        g = column_group(i, a, h, k)
        size, at = i[g + GROUP_SIZE], i[g + GROUP_AT]
        for x in range(size):
            for y in range(size):
                value = dot(products, column + x, omega, column + y)
                factor = lam[at + x * size + y]
                total += weight * factor * value
                slope -= (0.5 if k == 0 else 1.0) * scale * factor * value
                if k > 0:
                    g_lam[at + x * size + y] -= weight * scale * value
        column += size
    for c in range(p):
        value = dot(products, column + c, omega, column + c)
        total += weight * value
        slope -= scale * value
    last = column + p
    for k in range(others):
        value = dot(products, last + k, omega, last)
        g_shift[k] += weight * scale * value
        total -= weight * shift[k] * value
        slope += scale * shift[k] * value
    value = dot(products, last + others, omega, last)
    g_lam[own] -= total + weight * value
    return float(slope - scale * value)


@loop
def single_gradient(
    i: Any, a: int, h: int, lam: Any, shift: Any, q: int, products: Any, weight: float, psi: Any,
    g_lam: Any, g_shift: Any,
) -> float:  # fmt: skip
    """Add what a block gives under a single matrix; return the derivative by its weight."""
    raw, wide = products.shape[0] // q, psi.shape[0] // q
    p, others = i[a + P], i[a + OTHERS]
    column, slope = 0, 0.0
    for k in range(i[a + H] - h + i[a + N_BLOCKS]):
        g = column_group(i, a, h, k)
        size, at = i[g + GROUP_SIZE], i[g + GROUP_AT]
        for b in range(q):
            for x in range(size):
                for y in range(size):
                    factor = lam[at + x * size + y]
                    if k == 0 and factor == 0.0:
                        continue
                    value = dot(products, b * raw + column + x, psi, b * wide + column + y)
                    slope -= (0.5 if k == 0 else 1.0) * factor * value
                    if k > 0:
                        g_lam[at + x * size + y] -= weight * value
        column += size
    for b in range(q):
        last = b * wide + column + p
        for c in range(p):
            slope -= dot(products, b * raw + column + c, psi, b * wide + column + c)
        for k in range(others):
            value = dot(products, b * raw + column + p + k, psi, last)
            g_shift[k] += weight * value
            slope += shift[k] * value
        slope -= dot(products, b * raw + column + p + others, psi, last)
    return slope


@loop
def many_gradient(
    i: Any, a: int, h: int, lam: Any, shift: Any, q: int, products: Any, kw: Any, psi: Any,
    theta: Any, g_lam: Any, g_w: Any, g_shift: Any,
) -> None:  # fmt: skip
    """Add what a block gives to the gradient; see `arrow_gradient`."""
    raw, wide = kw.shape[0] // q, psi.shape[0] // q
    p, others = i[a + P], i[a + OTHERS]
    clear(theta)
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
) -> float:  # fmt: skip
    """Add what the chain gives to the gradient; the corner's moments must have been written.

    Returns what the chain's columns may round away, see `trust`.
    """
    lanes, m, work, lost = i[a + LANES], i[a + M], i[a + WORK], 0.0
    for h in range(i[a + H] - 1, -1, -1):
        r, q, rest, raw = level_shape(i, a, h)
        wide, top, size = q + rest, h + 1 == i[a + H], q * raw * lanes
        kw, ke = block_of(s, work, q * raw, lanes), block_of(s, work + size, q * wide, lanes)
        omega = block_of(s, work + 2 * size, q * wide, lanes)
        psi = block_of(s, work + 3 * size, q * wide, lanes)
        theta = block_of(s, work + 4 * size, q * raw, lanes)
        row = block_of(s, work + 5 * size, 1, lanes)
        above = block_of(s, work + 5 * size + 2 * lanes, 0 if top else rest**2, lanes)
        own = i[i[a + AT_GROUPS] + GROUP * i[r + OWNER] + GROUP_AT]
        source = i[a + INVERSE] if top else i[i[a + AT_LEVELS] + (h + 1) * LEVEL + OMEGA]
        for run in range(i[r + RUNS]):
            if not top:
                gather_moments(i, i[r + AT_PARENT] + run * lanes, s, source, rest, above)
            for k in range(i[i[r + AT_RUNS] + run], i[i[r + AT_RUNS] + run + 1]):
                u = block_of(s, i[r + FACTOR] + k * q * wide * lanes, q * wide, lanes)
                rest_moments(u, q, s, source, above, top, omega)
                own_moments(f, u, q, i[r + AT_MULTIPLICITY] + k * lanes, row, omega)
                if h > 0:
                    out = block_of(s, i[r + OMEGA] + k * wide**2 * lanes, wide**2, lanes)
                    keep_moments(omega, q, s, source, above, top, out)
                at = i[r + AT_PRODUCTS] + k * m * q * raw * lanes
                products, weight = block_of(f, at, m * q * raw, lanes), w[0]
                if m == 1 and q == 1:
                    lost += weight * lam[own] ** 2 * dot(products, 0, omega, 0)
                    g_w[0] += intercept_gradient(
                        i, a, h, lam, shift, own, products, weight, omega, g_lam, g_shift
                    )
                    continue
                weighed = products
                if m > 1:
                    weigh_lanes(products, w, kw)
                    weighed, weight = kw, 1.0
                scale_lanes(i, a, h, lam, shift, q, weighed, weight, ke)
                lost += own_gradient(lam, own, q, ke, omega, psi, g_lam)
                if m > 1:
                    many_gradient(
                        i, a, h, lam, shift, q, products, kw, psi, theta, g_lam, g_w, g_shift
                    )
                else:
                    g_w[0] += single_gradient(
                        i, a, h, lam, shift, q, products, weight, psi, g_lam, g_shift
                    )
    return lost

"""The arrow for many groups at a time: the same steps as `arrow`, with loops over groups inside.

Blocks are (rows, lanes), a lane for each group; every function here sees whole blocks.
"""

import math
from typing import Any

from hiermodels.engines.arrow_dense import PIVOT
from hiermodels.engines.arrow_layout import (
    AT_BLOCKS,
    AT_GROUPS,
    AT_LEVELS,
    BLOCK,
    CORNER,
    CROSSED,
    GROUP,
    GROUP_AT,
    GROUP_SIZE,
    N_BLOCKS,
    OTHERS,
    WORK,
    H,
    M,
    P,
)
from hiermodels.engines.lanes_layout import (
    AT_MULTIPLICITY,
    AT_PARENT,
    AT_PRODUCTS,
    AT_RUNS,
    FACTOR,
    FRONT,
    LANES,
    LATER,
    LEVEL,
    MULTIPLE,
    OMEGA,
    OWNER,
    RUNS,
    SIZE,
)
from hiermodels.engines.rowwise import loop
from hiermodels.engines.views import block_of

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@loop
def clear(x: Any) -> None:
    """Write zeros."""
    for r in range(x.shape[0]):
        for k in range(x.shape[1]):
            x[r, k] = 0.0


@loop
def add_scaled(out: Any, row: int, x: Any, other: int, factor: float) -> None:
    """Add a factor times one row to another."""
    for k in range(out.shape[1]):
        out[row, k] += factor * x[other, k]


@loop
def put_scaled(out: Any, row: int, x: Any, other: int, factor: float) -> None:
    """Write a factor times one row to another."""
    for k in range(out.shape[1]):
        out[row, k] = factor * x[other, k]


@loop
def dot(x: Any, row: int, y: Any, other: int) -> float:
    """Return the sum of products of two rows."""
    total = 0.0
    for k in range(x.shape[1]):
        total += x[row, k] * y[other, k]
    return total


@loop
def level_shape(i: Any, a: int, h: int) -> Any:
    """Return record, effects, columns after them, raw columns of a level's nodes."""
    r = i[a + AT_LEVELS] + h * LEVEL
    rest = i[r + LATER] + i[a + CROSSED] + i[a + P] + 1
    return r, i[r + SIZE], rest, i[r + SIZE] + rest + i[a + OTHERS]


@loop
def weigh_lanes(products: Any, w: Any, out: Any) -> None:
    """Write the sum of the matrices' products times their weights."""
    rows = out.shape[0]
    for r in range(rows):
        for k in range(out.shape[1]):
            out[r, k] = w[0] * products[r, k]
        for m in range(1, w.shape[0]):
            add_scaled(out, r, products, m * rows + r, w[m])


@loop
def column_group(i: Any, a: int, h: int, k: int) -> int:
    """Return the grouping's record of the k-th block of columns from level h on."""
    chain = i[a + H] - h
    if k < chain:
        return int(i[a + AT_GROUPS] + GROUP * i[i[a + AT_LEVELS] + (h + k) * LEVEL + OWNER])
    return int(i[a + AT_GROUPS] + GROUP * i[i[a + AT_BLOCKS] + (k - chain) * BLOCK + 1])


@loop
def scale_lanes(
    i: Any, a: int, h: int, lam: Any, shift: Any, q: int, kw: Any, weight: float, ke: Any
) -> None:
    """Write every column of the products, which count `weight` times, times its factor."""
    raw, wide = kw.shape[0] // q, ke.shape[0] // q
    p, others = i[a + P], i[a + OTHERS]
    column = 0
    for k in range(i[a + H] - h + i[a + N_BLOCKS]):
        g = column_group(i, a, h, k)
        size, at = i[g + GROUP_SIZE], i[g + GROUP_AT]
        for x in range(q):
            for c in range(size):
                row, out = x * raw + column, x * wide + column + c
                put_scaled(ke, out, kw, row, weight * lam[at + c])
                for b in range(1, size):
                    factor = weight * lam[at + b * size + c]
                    if factor != 0.0:
                        add_scaled(ke, out, kw, row + b, factor)
        column += size
    for x in range(q):
        for c in range(p):
            put_scaled(ke, x * wide + column + c, kw, x * raw + column + c, weight)
        y = x * wide + column + p
        put_scaled(ke, y, kw, x * raw + column + p + others, weight)
        for k in range(others):
            add_scaled(ke, y, kw, x * raw + column + p + k, -weight * shift[k])


@loop
def factor_lanes(
    lam: Any, own: int, q: int, ke: Any, front: Any, has_front: bool, u: Any, start: Any
) -> bool:
    """Write the factors of a block's nodes; False where a pivot is lost.

    The diagonal holds reciprocals. Of a single effect u comes as the products, wholly scaled.
    """
    wide, lanes = u.shape[0] // q, u.shape[1]
    for k in range(q):
        if q > 1:
            for c in range(k, wide):
                put_scaled(u, k * wide + c, ke, c, lam[own + k])
                for b in range(1, q):
                    factor = lam[own + b * q + k]
                    if factor != 0.0:
                        add_scaled(u, k * wide + c, ke, b * wide + c, factor)
        for j in range(lanes):
            u[k * wide + k, j] += 1.0
            start[k, j] = u[k * wide + k, j]
        if has_front:
            for c in range(k, wide):
                add_scaled(u, k * wide + c, front, k * wide + c, 1.0)
    lost = 0.0
    for k in range(q):
        line = k * wide
        for j in range(lanes):
            pivot = u[line + k, j]
            good = pivot >= PIVOT * start[k, j] and pivot < math.inf
            lost += 0.0 if good else 1.0
            u[line + k, j] = 1.0 / math.sqrt(pivot)
        for c in range(k + 1, wide):
            for j in range(lanes):
                u[line + c, j] *= u[line + k, j]
        for b in range(k + 1, q):
            for c in range(b, wide):
                for j in range(lanes):
                    u[b * wide + c, j] -= u[line + b, j] * u[line + c, j]
    return lost == 0.0


@loop
def log_determinant(f: Any, u: Any, q: int, at: int, multiple: bool) -> float:
    """Return the log determinant of a block's nodes, each as often as it counts."""
    wide, lanes = u.shape[0] // q, u.shape[1]
    value, product = 0.0, 1.0
    for k in range(q):
        row = k * wide + k
        if multiple:
            for j in range(lanes):
                value -= f[at + j] * math.log(u[row, j])
            continue
        # pivots are at least 1, and lanes come by four: one logarithm for many reciprocals
        for j in range(0, lanes, 4):
            four = (u[row, j] * u[row, j + 1]) * (u[row, j + 2] * u[row, j + 3])
            if four < 1e-100:
                for c in range(4):
                    value -= math.log(u[row, j + c])
                continue
            product *= four
            if product < 1e-200:
                value -= math.log(product)
                product = 1.0
    return 2.0 * (value - math.log(product))


@loop
def pass_to_corner(u: Any, q: int, s: Any, corner: int) -> None:
    """Subtract the Schur complements of a block from the corner, upper triangle.

    Four entries at a time: each number of a row is read once for them.
    """
    wide, lanes = u.shape[0] // q, u.shape[1]
    rest = wide - q
    for x in range(rest):
        y = x
        while y + 4 <= rest:
            first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
            for b in range(q):
                row, other = b * wide + q + x, b * wide + q + y
                for j in range(lanes):
                    value = u[row, j]
                    first += value * u[other, j]
                    second += value * u[other + 1, j]
                    third += value * u[other + 2, j]
                    fourth += value * u[other + 3, j]
            at = corner + x * rest + y
            s[at] -= first
            s[at + 1] -= second
            s[at + 2] -= third
            s[at + 3] -= fourth
            y += 4
        while y < rest:
            for b in range(q):
                s[corner + x * rest + y] -= dot(u, b * wide + q + x, u, b * wide + q + y)
            y += 1


@loop
def add_complements(u: Any, q: int, front: Any, has_front: bool, first: bool, total: Any) -> None:
    """Add the Schur complements of a block to those of its run, upper triangle."""
    wide, lanes = u.shape[0] // q, u.shape[1]
    rest = wide - q
    for x in range(rest):
        for y in range(x, rest):
            line, row, other = x * rest + y, q + x, q + y
            if first:
                for j in range(lanes):
                    total[line, j] = -u[row, j] * u[other, j]
            else:
                for j in range(lanes):
                    total[line, j] -= u[row, j] * u[other, j]
            for b in range(1, q):
                for j in range(lanes):
                    total[line, j] -= u[b * wide + row, j] * u[b * wide + other, j]
            if has_front:
                add_scaled(total, line, front, row * wide + other, 1.0)


@loop
def pass_to_parents(total: Any, rest: int, i: Any, parents: int, s: Any, target: int) -> None:
    """Add the Schur complements of a run to its parents' fronts, upper triangle."""
    lanes = total.shape[1]
    for x in range(rest):
        for y in range(x, rest):
            line = x * rest + y
            at = target + line * lanes
            for j in range(lanes):
                s[at + i[parents + j]] += total[line, j]


@loop
def lanes_forward(f: Any, i: Any, a: int, lam: Any, w: Any, shift: Any, s: Any) -> float:
    """Eliminate the chain, inner level first; return the log determinant, or nan."""
    value, lanes, m, work = 0.0, i[a + LANES], i[a + M], i[a + WORK]
    for h in range(1, i[a + H]):
        r, q, rest, _raw = level_shape(i, a, h)
        clear(block_of(s, i[r + FRONT], 1, i[r + OMEGA] - i[r + FRONT]))
    for h in range(i[a + H]):
        r, q, rest, raw = level_shape(i, a, h)
        wide, top = q + rest, h + 1 == i[a + H]
        kw = block_of(s, work, q * raw, lanes)
        ke = block_of(s, work + q * raw * lanes, q * wide, lanes)
        start = block_of(s, work + 2 * q * raw * lanes, q + 1, lanes)
        total = block_of(s, work + (2 * q * raw + q + 1) * lanes, 0 if top else rest**2, lanes)
        own = i[i[a + AT_GROUPS] + GROUP * i[r + OWNER] + GROUP_AT]
        target = i[i[a + AT_LEVELS] + (h + 1) * LEVEL + FRONT] if not top else 0
        for run in range(i[r + RUNS]):
            begin, end = i[i[r + AT_RUNS] + run], i[i[r + AT_RUNS] + run + 1]
            for k in range(begin, end):
                at = i[r + AT_PRODUCTS] + k * m * q * raw * lanes
                products, weight = block_of(f, at, m * q * raw, lanes), w[0]
                if m > 1:
                    weigh_lanes(products, w, kw)
                    products, weight = kw, 1.0
                u = block_of(s, i[r + FACTOR] + k * q * wide * lanes, q * wide, lanes)
                if q == 1:
                    scale_lanes(i, a, h, lam, shift, q, products, weight * lam[own], u)
                else:
                    scale_lanes(i, a, h, lam, shift, q, products, weight, ke)
                front = ke
                if h > 0:
                    front = block_of(s, i[r + FRONT] + k * wide**2 * lanes, wide**2, lanes)
                if not factor_lanes(lam, own, q, ke, front, h > 0, u, start):
                    return math.nan
                many = i[r + AT_MULTIPLICITY] + k * lanes
                value += log_determinant(f, u, q, many, i[r + MULTIPLE] != 0)
                if not top:
                    add_complements(u, q, front, h > 0, k == begin, total)
                    continue
                if h > 0:
                    add_front(front, q, s, i[a + CORNER])
                pass_to_corner(u, q, s, i[a + CORNER])
            if not top:
                parents = i[r + AT_PARENT] + run * lanes
                pass_to_parents(total, rest, i, parents, s, target)
    return value


@loop
def add_front(front: Any, q: int, s: Any, corner: int) -> None:
    """Add what a block's children left to the corner, upper triangle."""
    wide = int(math.sqrt(front.shape[0]) + 0.5)
    rest = wide - q
    for x in range(rest):
        for y in range(x, rest):
            total = 0.0
            for j in range(front.shape[1]):
                total += front[(q + x) * wide + q + y, j]
            s[corner + x * rest + y] += total

"""Exact draws and moments of group effects for many groups at a time; see `marginal_draws`.

Effects are in the cross-products' columns: every grouping's factor times its scores.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from hiermodels.engines.arrow_dense import second_moments
from hiermodels.engines.arrow_gradient import assemble_corner, factor_corner
from hiermodels.engines.arrow_layout import (
    AT_GROUPS,
    AT_LEVELS,
    CORNER,
    CROSSED,
    GROUP,
    GROUP_AT,
    INVERSE,
    LAMBDAS,
    SCRATCH,
    START,
    WORK,
    H,
    M,
    P,
)
from hiermodels.engines.lanes import block_of, lanes_forward, level_shape
from hiermodels.engines.lanes_gradient import keep_moments, own_moments, rest_moments
from hiermodels.engines.lanes_layout import (
    AT_MULTIPLICITY,
    AT_PARENT,
    BLOCKS,
    FACTOR,
    FRONT,
    LANES,
    LEVEL,
    OMEGA,
    OWNER,
)
from hiermodels.engines.marginal_draws import draw_corner
from hiermodels.engines.marginal_kernels import (
    AT_ARROW,
    AT_PHI,
    OTHERS,
    set_residual,
    set_scales,
    simple_residual,
    source_digest,
)
from hiermodels.engines.rowwise import loop, strict
from hiermodels.spec.compiling import cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def draw_block(u: Any, q: int, i: Any, parents: int, s: Any, source: int, rng: Any, t: Any) -> None:
    """Write a draw of a block's own scores, and those of the rest: rows of t (wide, lanes).

    `source` is where the corner's draw stands, or minus where the parents' draws stand.
    """
    wide, lanes = t.shape
    for c in range(wide - q):
        for j in range(lanes):
            if source >= 0:
                t[q + c, j] = s[source + c]
            else:
                t[q + c, j] = s[-source + c * lanes + i[parents + j]]
    for b in range(q - 1, -1, -1):
        for j in range(lanes):
            t[b, j] = rng.standard_normal()
        for c in range(b + 1, wide):
            for j in range(lanes):
                t[b, j] -= u[b * wide + c, j] * t[c, j]
        for j in range(lanes):
            t[b, j] /= u[b * wide + b, j]


@loop
def write_scaled(lam: Any, own: int, q: int, t: Any, j: int, out: Any, at: int) -> None:
    """Write a factor times the scores in column j."""
    for x in range(q):
        total = 0.0
        for c in range(q):
            total += lam[own + x * q + c] * t[c, j]
        out[at + x] = total


@loop
def update(
    lam: Any, own: int, q: int, omega: Any, j: int, count: float, work: Any, mean: Any, at: int,
    within: Any, between: Any, square: int,
) -> None:  # fmt: skip
    """Update one level's moments by one draw of the scales; see `marginal_draws.add_moments`."""
    wide = omega.shape[0] // q
    for x in range(q):
        total = 0.0
        for c in range(q):
            total -= lam[own + x * q + c] * omega[c * wide + wide - 1, j]
            last = omega[c * wide + wide - 1, j]
            product = 0.0
            for d in range(q):
                other = omega[d * wide + wide - 1, j]
                product += lam[own + x * q + d] * (omega[d * wide + c, j] - other * last)
            work[q + x * q + c] = product
        work[x] = total - mean[at + x]
    share = (count - 1.0) / count
    for x in range(q):
        for y in range(q):
            between[square + x * q + y] += work[x] * work[y] * share
            total = 0.0
            for c in range(q):
                total += work[q + x * q + c] * lam[own + y * q + c]
            within[square + x * q + y] += total
    for x in range(q):
        mean[at + x] += work[x] / count


@strict
def chain_draws(
    f: Any, i: Any, a: int, lam: Any, s: Any, rng: Any, levels: Any, places: Any, out: Any,
    count: float, small: Any, mean: Any, within: Any, between: Any,
) -> None:  # fmt: skip
    """Write a draw of the chain's effects, and update their moments, outer groupings first."""
    lanes, work = i[a + LANES], i[a + WORK]
    for h in range(i[a + H] - 1, -1, -1):
        r, q, rest, _raw = level_shape(i, a, h)
        wide, top = q + rest, h + 1 == i[a + H]
        g = i[r + OWNER]
        own = i[i[a + AT_GROUPS] + GROUP * g + GROUP_AT]
        first, number, at, square = places[g, 0], places[g, 1], places[g, 4], places[g, 5]
        above = i[a + AT_LEVELS] + (h + 1) * LEVEL
        source = i[a + START] if top else -i[above + FRONT]
        before = -1 if top else i[above + OMEGA]
        omega = block_of(s, work, q * wide, lanes)
        row = block_of(s, work + q * wide * lanes, 2, lanes)
        for k in range(i[r + BLOCKS]):
            u = block_of(s, i[r + FACTOR] + k * q * wide * lanes, q * wide, lanes)
            parents = i[r + AT_PARENT] + k * lanes
            used = min(lanes, number - k * lanes)
            if out.shape[0] > 0:
                place = work + (q * wide + 2) * lanes
                if h > 0:
                    place = i[r + FRONT] + k * wide**2 * lanes
                t = block_of(s, place, wide, lanes)
                draw_block(u, q, i, parents, s, source, rng, t)
                for j in range(used):
                    level = levels[first + k * lanes + j]
                    write_scaled(lam, own, q, t, j, out, at + level * q)
            if mean.shape[0] == 0:
                continue
            origin = i[a + INVERSE] if top else before
            rest_moments(u, q, i, parents, s, origin, top, row, omega)
            own_moments(f, u, q, i[r + AT_MULTIPLICITY] + k * lanes, row, omega)
            if h > 0:
                kept = block_of(s, i[r + OMEGA] + k * wide**2 * lanes, wide**2, lanes)
                keep_moments(omega, q, i, parents, s, before, i[a + INVERSE], kept)
            for j in range(used):
                level = levels[first + k * lanes + j]
                update(
                    lam, own, q, omega, j, count, small, mean, at + level * q, within, between,
                    square + level * q * q,
                )  # fmt: skip


@strict
def corner_draws(
    i: Any, a: int, lam: Any, s: Any, places: Any, out: Any, count: float, small: Any, mean: Any,
    within: Any, between: Any,
) -> None:  # fmt: skip
    """Write the draw of crossed groupings' effects, and update their moments."""
    n = i[a + CROSSED] + i[a + P] + 1
    for g in range(places.shape[0]):
        column, q = places[g, 2], places[g, 3]
        if column < 0:
            continue
        own = i[i[a + AT_GROUPS] + GROUP * g + GROUP_AT]
        for level in range(places[g, 1]):
            first = column + level * q
            if out.shape[0] > 0:
                t = block_of(s, i[a + START] + first, q, 1)
                write_scaled(lam, own, q, t, 0, out, places[g, 4] + level * q)
            if mean.shape[0] == 0:
                continue
            block = block_of(s, i[a + WORK], q * (q + 1), 1)
            for b in range(q):
                line = i[a + INVERSE] + (first + b) * n
                for c in range(q):
                    block[b * (q + 1) + c, 0] = s[line + first + c]
                block[b * (q + 1) + q, 0] = s[line + n - 1]
            update(
                lam, own, q, block, 0, count, small, mean, places[g, 4] + level * q, within,
                between, places[g, 5] + level * q * q,
            )  # fmt: skip


def _many(source: int, structured: bool) -> Any:
    """Return the Python form of the kernel over draws."""

    def many(
        f: Any, draws: Any, rng: Any, levels: Any, places: Any, coefficients: Any, effects: Any,
        mean: Any, within: Any, between: Any,
    ) -> int:  # fmt: skip
        """Write for each draw of x coefficients (n, p) and effects (n, size or 0), and moments.

        Returns the number of draws that could not be factored, which are written as nan.
        """
        i = f.view(np.int64)
        a, m, n_phi = i[AT_ARROW], i[i[AT_ARROW] + M], draws.shape[1] - i[AT_PHI]
        lam, shift, grad = np.zeros(i[a + LAMBDAS]), np.zeros(i[OTHERS]), np.zeros(draws.shape[1])
        w, dw, log_residual = np.zeros(m), np.zeros((n_phi, m)), np.zeros(1 + n_phi)
        s, small = np.zeros(i[a + SCRATCH] + 2048), np.zeros(2 * i[a + LAMBDAS] + 64)
        failed, p, start = 0, i[a + P], i[a + START] + i[a + CROSSED]
        n = i[a + CROSSED] + p + 1
        for k in range(draws.shape[0]):
            x = draws[k]
            set_scales(f, i, x, lam, shift)
            if structured:
                set_residual(f, i, x, grad, w, dw, log_residual)
            else:
                simple_residual(f, i, x, grad, w, dw, log_residual)
            assemble_corner(f, i, a, lam, w, shift, s)
            value = factor_corner(i, a, lanes_forward(f, i, a, lam, w, shift, s), s)
            if source < 0 or not math.isfinite(value):
                failed += 1
                coefficients[k, :] = math.nan
                effects[k, :] = math.nan
                continue
            draw_corner(i, a, s, rng)
            for c in range(p):
                coefficients[k, c] = s[start + c]
            if mean.shape[0] > 0:
                second_moments(s, i[a + CORNER], i[a + INVERSE], n)
            count = float(k + 1 - failed)
            corner_draws(i, a, lam, s, places, effects[k], count, small, mean, within, between)
            chain_draws(
                f, i, a, lam, s, rng, levels, places, effects[k], count, small, mean, within,
                between,
            )  # fmt: skip
        return failed

    return many


@cache
def many_lane_draws(structured: bool) -> Any:
    """Return the kernel over draws, for cross-products written by `write_lanes`."""
    return cached_kernel(_many(source_digest(), structured))

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
from hiermodels.engines.lanes import (
    add_scaled,
    lanes_forward,
    level_shape,
    put_scaled,
)
from hiermodels.engines.lanes_gradient import (
    gather_moments,
    keep_moments,
    own_moments,
    rest_moments,
)
from hiermodels.engines.lanes_layout import (
    AT_MULTIPLICITY,
    AT_PARENT,
    AT_RUNS,
    FACTOR,
    FRONT,
    LANES,
    LEVEL,
    OMEGA,
    OWNER,
    RUNS,
)
from hiermodels.engines.marginal_draws import draw_corner, update_targets
from hiermodels.engines.marginal_kernels import (
    AT_ARROW,
    AT_PHI,
    OTHERS,
    lambdas,
    set_residual,
    set_scales,
    simple_residual,
    source_digest,
)
from hiermodels.engines.rowwise import loop, strict
from hiermodels.engines.views import block_of, index_of, part_of
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
    solve_block(u, q, t)


@loop
def solve_block(u: Any, q: int, t: Any) -> None:
    """Write own scores given those of the rest and what else they are equal to."""
    wide, lanes = t.shape
    for b in range(q - 1, -1, -1):
        for c in range(b + 1, wide):
            for j in range(lanes):
                t[b, j] -= u[b * wide + c, j] * t[c, j]
        for j in range(lanes):
            t[b, j] *= u[b * wide + b, j]


@loop
def scale_scores(lam: Any, own: int, q: int, t: Any, out: Any) -> None:
    """Write a factor times the scores, by row."""
    for x in range(q):
        put_scaled(out, x, t, 0, lam[own + x * q])
        for c in range(1, q):
            add_scaled(out, x, t, c, lam[own + x * q + c])


@strict
def write_levels(q: int, scaled: Any, levels: Any, first: int, out: Any, at: int) -> None:
    """Write a block's effects to where their levels stand; -1 is no level."""
    for j in range(scaled.shape[1]):
        level = levels[first + j]
        if level >= 0:
            for x in range(q):
                out[at + level * q + x] = scaled[x, j]


@loop
def update(
    lam: Any, own: int, q: int, omega: Any, count: float, work: Any, mean: Any, within: Any,
    between: Any, beside: Any, now: Any, first: int, cross: Any,
) -> None:  # fmt: skip
    """Update a block's moments by one draw of the scales; see `marginal_draws.add_moments`.

    `work` has q + 2 q^2 rows; `cross` q^2, or none. `first` is the effects' first row of `beside`.
    """
    wide, lanes = omega.shape[0] // q, omega.shape[1]
    share, part = (count - 1.0) / count, 1.0 / count
    for x in range(q):
        put_scaled(work, x, mean, x, -1.0)
        for c in range(q):
            add_scaled(work, x, omega, c * wide + wide - 1, -lam[own + x * q + c])
        add_scaled(mean, x, work, x, part)
    for c in range(q):
        for d in range(q):
            for j in range(lanes):
                last, other = omega[c * wide + wide - 1, j], omega[d * wide + wide - 1, j]
                work[q + c * q + d, j] = omega[c * wide + d, j] - last * other
    for x in range(q):
        for d in range(q):
            row = q + q * q + x * q + d
            put_scaled(work, row, work, q + d, lam[own + x * q])
            for c in range(1, q):
                add_scaled(work, row, work, q + c * q + d, lam[own + x * q + c])
    for x in range(q):
        for y in range(q):
            row = x * q + y
            for j in range(lanes):
                between[row, j] += share * work[x, j] * work[y, j]
            for d in range(q):
                add_scaled(within, row, work, q + q * q + x * q + d, lam[own + y * q + d])
    if cross.shape[0] == 0:
        return
    p = beside.shape[1]
    for k in range(q):
        for c in range(q):
            last = c * wide + wide - 1
            put_scaled(work, q + c, omega, last, now[first + k, 1])
            for d in range(p):
                add_scaled(work, q + c, omega, last - p + d, beside[first + k, d])
        for x in range(q):
            add_scaled(cross, x * q + k, work, x, share * now[first + k, 0])
            for c in range(q):
                add_scaled(cross, x * q + k, work, q + c, lam[own + x * q + c])


@strict
def chain_draws(
    f: Any, i: Any, a: int, lam: Any, s: Any, rng: Any, levels: Any, places: Any, out: Any,
    count: float, mean: Any, within: Any, between: Any, beside: Any, now: Any, cross: Any,
) -> None:  # fmt: skip
    """Write a draw of the chain's effects, and update their moments, outer groupings first."""
    lanes, work = i[a + LANES], i[a + WORK]
    for h in range(i[a + H] - 1, -1, -1):
        r, q, rest, _raw = level_shape(i, a, h)
        wide, top = q + rest, h + 1 == i[a + H]
        g = i[r + OWNER]
        own = i[i[a + AT_GROUPS] + GROUP * g + GROUP_AT]
        record = i[a + AT_LEVELS] + (h + 1) * LEVEL
        source = i[a + START] if top else -i[record + FRONT]
        origin = i[a + INVERSE] if top else i[record + OMEGA]
        omega = block_of(s, work, q * wide, lanes)
        row = block_of(s, work + q * wide * lanes, 2, lanes)
        small = block_of(s, work + (q * wide + 2) * lanes, q + 2 * q * q, lanes)
        local = work + (q * wide + 2 + q + 2 * q * q) * lanes
        above = block_of(s, local + wide * lanes, 0 if top else rest**2, lanes)
        for run in range(i[r + RUNS]):
            parents = i[r + AT_PARENT] + run * lanes
            if not top and mean.shape[0] > 0:
                gather_moments(i, parents, s, origin, rest, above)
            for k in range(i[i[r + AT_RUNS] + run], i[i[r + AT_RUNS] + run + 1]):
                u = block_of(s, i[r + FACTOR] + k * q * wide * lanes, q * wide, lanes)
                if out.shape[0] > 0:
                    place = local if h == 0 else i[r + FRONT] + k * wide**2 * lanes
                    t = block_of(s, place, wide, lanes)
                    draw_block(u, q, i, parents, s, source, rng, t)
                    scale_scores(lam, own, q, t, small)
                    first = places[g, 0] + k * lanes
                    write_levels(q, small, levels, first, out, places[g, 4])
                if mean.shape[0] == 0:
                    continue
                rest_moments(u, q, s, origin, above, top, omega)
                own_moments(f, u, q, i[r + AT_MULTIPLICITY] + k * lanes, row, omega)
                if h > 0:
                    kept = block_of(s, i[r + OMEGA] + k * wide**2 * lanes, wide**2, lanes)
                    keep_moments(omega, q, s, origin, above, top, kept)
                at, square = places[g, 5] + k * q * lanes, places[g, 6] + k * q * q * lanes
                more = q * q if cross.shape[0] > 0 else 0
                update(
                    lam, own, q, omega, count, small, block_of(mean, at, q, lanes),
                    block_of(within, square, q * q, lanes), block_of(between, square, q * q, lanes),
                    beside, now, places[g, 7], block_of(cross, square * min(more, 1), more, lanes),
                )  # fmt: skip


@strict
def corner_draws(
    i: Any, a: int, lam: Any, s: Any, places: Any, out: Any, count: float, mean: Any, within: Any,
    between: Any, beside: Any, now: Any, cross: Any,
) -> None:  # fmt: skip
    """Write the draw of crossed groupings' effects, and update their moments."""
    p, work = i[a + P], i[a + WORK]
    n = i[a + CROSSED] + p + 1
    for g in range(places.shape[0]):
        column, q = places[g, 2], places[g, 3]
        if column < 0:
            continue
        own = i[i[a + AT_GROUPS] + GROUP * g + GROUP_AT]
        wide, more = q + p + 1, q * q if cross.shape[0] > 0 else 0
        small = block_of(s, work + q * wide, q + 2 * q * q, 1)
        for level in range(places[g, 1]):
            first = column + level * q
            if out.shape[0] > 0:
                scale_scores(lam, own, q, block_of(s, i[a + START] + first, q, 1), small)
                for x in range(q):
                    out[places[g, 4] + level * q + x] = small[x, 0]
            if mean.shape[0] == 0:
                continue
            block = block_of(s, work, q * wide, 1)
            for b in range(q):
                line = i[a + INVERSE] + (first + b) * n
                for c in range(q):
                    block[b * wide + c, 0] = s[line + first + c]
                for c in range(p + 1):
                    block[b * wide + q + c, 0] = s[line + n - 1 - p + c]
            at, square = places[g, 5] + level * q, places[g, 6] + level * q * q
            update(
                lam, own, q, block, count, small, block_of(mean, at, q, 1),
                block_of(within, square, q * q, 1), block_of(between, square, q * q, 1),
                beside, now, places[g, 7], block_of(cross, square * min(more, 1), more, 1),
            )  # fmt: skip


def _many(source: int, structured: bool) -> Any:
    """Return the Python form of the kernel over draws."""

    def many(
        f: Any, draws: Any, rng: Any, levels: Any, places: Any, coefficients: Any, effects: Any,
        mean: Any, within: Any, between: Any, beside: Any, known: Any, cross: Any, target: Any,
    ) -> int:  # fmt: skip
        """Write for each draw of x coefficients (n, p) and effects (n, size or 0), and moments.

        `beside`, `known`, `cross` and `target` as in `marginal_draws`.

        `levels` has the level of each place of a block, or -1; `places` by grouping where those
        begin, its levels, first column in the corner, effects, and where its effects, means,
        covariances and rows of `beside` begin. Moments of the chain's groupings are by block.

        Returns the number of draws that could not be factored, which are written as nan.
        """
        # the buffer may not be written to; as a view of it the parts are those of the density
        f, i = part_of(f, 0, f.shape[0]), index_of(f, 0, f.shape[0])
        a, m, n_phi = i[AT_ARROW], i[i[AT_ARROW] + M], draws.shape[1] - i[AT_PHI]
        lam, shift, grad = np.zeros(lambdas(i)), np.zeros(i[OTHERS]), np.zeros(draws.shape[1])
        w, dw, log_residual = np.zeros(m), np.zeros((n_phi, m)), np.zeros(1 + n_phi)
        # a crossed grouping's moments need the working memory of one lane
        s = np.zeros(i[a + SCRATCH] + 4 * i[a + LAMBDAS] + 64)
        failed, p, start = 0, i[a + P], i[a + START] + i[a + CROSSED]
        now = np.zeros(target.shape)
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
            count = float(k + 1 - failed)
            if mean.shape[0] > 0:
                second_moments(s, i[a + CORNER], i[a + INVERSE], n)
                update_targets(i, a, s, beside, known[k], count, target, now)
            corner_draws(
                i, a, lam, s, places, effects[k], count, mean, within, between, beside, now, cross
            )
            chain_draws(
                f, i, a, lam, s, rng, levels, places, effects[k], count, mean, within, between,
                beside, now, cross,
            )  # fmt: skip
        return failed

    return many


@cache
def many_lane_draws(structured: bool) -> Any:
    """Return the kernel over draws, for cross-products written by `write_lanes`."""
    return cached_kernel(_many(source_digest(), structured))

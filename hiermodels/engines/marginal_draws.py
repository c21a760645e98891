"""Compiled exact draws of coefficients and group effects given scales, and their moments.

After elimination (u, v) given y is normal with a triangular factor: a draw solves from the corner
down the chain, as the second moments do.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np

from hiermodels.engines.arrow import ancestor, ending, forward, node_moments, place
from hiermodels.engines.arrow_dense import second_moments
from hiermodels.engines.arrow_gradient import assemble_corner, factor_corner
from hiermodels.engines.arrow_layout import (
    AT_COLUMNS,
    AT_FACTOR,
    AT_LEVELS,
    CORNER,
    CROSSED,
    FRONT,
    INVERSE,
    LATER,
    LEVEL,
    NODES,
    OWNER,
    REST,
    SCRATCH,
    START,
    WORK,
    H,
    M,
    P,
)
from hiermodels.engines.arrow_layout import OTHERS as RAW_OTHERS
from hiermodels.engines.arrow_layout import SIZE as NODE_SIZE
from hiermodels.engines.groupwise import fill_factor
from hiermodels.engines.marginal_kernels import (
    AT_ARROW,
    AT_BARS,
    AT_CORRELATION,
    AT_PHI,
    AT_SDS,
    BAR,
    BARS,
    CORRELATED,
    FIRST,
    LARGEST,
    OTHERS,
    SIZE,
    lambdas,
    set_residual,
    set_scales,
    simple_residual,
    source_digest,
)
from hiermodels.engines.marginal_kernels import OWNER as BAR_OWNER
from hiermodels.engines.rowwise import strict
from hiermodels.engines.views import index_of, part_of
from hiermodels.spec.compiling import cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Where effects go: by grouping (first node or -1, levels, first column in the corner or -1).
PLACE: Final = 4


@strict
def fill_factors(i: Any, x: Any, factors: Any) -> None:
    """Write every bar's own factor (q, q), `LARGEST` apart."""
    for k in range(i[BARS]):
        r = i[AT_BARS] + k * BAR
        q, sds, y = i[r + SIZE], i[r + AT_SDS], i[r + AT_CORRELATION]
        fill_factor(
            part_of(x, sds, q), part_of(x, y, q * (q - 1) // 2), q, i[r + CORRELATED] != 0,
            part_of(factors, k * i[LARGEST], i[LARGEST]),
        )  # fmt: skip


@strict
def write_effects(
    i: Any, grouping: int, level: int, s: Any, t: int, factors: Any, at_bars: Any, out: Any
) -> None:
    """Write a level's effects, bar by bar, from its standard normal scores at t."""
    for k in range(i[BARS]):
        r = i[AT_BARS] + k * BAR
        if i[r + BAR_OWNER] != grouping:
            continue
        q, first = i[r + SIZE], t + i[r + FIRST]
        for a in range(q):
            total = 0.0
            for c in range(a + 1):
                total += factors[k * i[LARGEST] + a * q + c] * s[first + c]
            out[at_bars[k] + level * q + a] = total


@strict
def draw_corner(i: Any, a: int, s: Any, rng: Any) -> None:
    """Write a draw of (crossed scores, coefficients, -1) at `START`."""
    n, u, t = i[a + CROSSED] + i[a + P] + 1, i[a + CORNER], i[a + START]
    s[t + n - 1] = -1.0
    for k in range(n - 2, -1, -1):
        total = rng.standard_normal()
        for c in range(k + 1, n):
            total -= s[u + k * n + c] * s[t + c]
        s[t + k] = total / s[u + k * n + k]


@strict
def draw_node(i: Any, a: int, h: int, node: int, s: Any, where: Any, rng: Any) -> int:
    """Return where the scores of a node stand, drawn given what comes after it."""
    r = i[a + AT_LEVELS] + h * LEVEL
    q = i[r + NODE_SIZE]
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
        total = rng.standard_normal()
        for c in range(b + 1, q + rest):
            total -= s[row + c] * s[t + c]
        s[t + b] = total / s[row + b]
    return int(t)


@strict
def draw_effects(
    i: Any, a: int, s: Any, where: Any, rng: Any, factors: Any, at_bars: Any, levels: Any,
    places: Any, out: Any,
) -> None:  # fmt: skip
    """Write a draw of every group effect; the coefficients stay at `START`."""
    draw_corner(i, a, s, rng)
    for g in range(places.shape[0]):
        _first, number, column, q = places[g]
        if column >= 0:
            for level in range(number):
                t = i[a + START] + column + level * q
                write_effects(i, g, level, s, t, factors, at_bars, out)
    if i[a + H] == 0:
        return
    for leaf in range(i[i[a + AT_LEVELS] + NODES] - 1, -1, -1):
        for h in range(ending(i, a, leaf), -1, -1):
            node = ancestor(i, a, leaf, h)
            t = draw_node(i, a, h, node, s, where, rng)
            g = i[i[a + AT_LEVELS] + h * LEVEL + OWNER]
            write_effects(i, g, levels[places[g, 0] + node], s, t, factors, at_bars, out)


# --- moments --------------------------------------------------------------------------------------


@strict
def update_targets(
    i: Any, a: int, s: Any, beside: Any, known: Any, count: float, target: Any, now: Any
) -> None:
    """Update the moments of combinations of coefficients, `beside @` them plus `known`, by a draw.

    By row `target` has the running mean of conditional means, and the sum of squares about it plus
    that of conditional variances; `now` this draw's deviation from the old mean, and what its mean
    is without `known`.
    """
    p = i[a + P]
    n, first = i[a + CROSSED] + p + 1, i[a + INVERSE] + i[a + CROSSED] * (i[a + CROSSED] + p + 1)
    for k in range(beside.shape[0]):
        mean, variance = 0.0, 0.0
        for c in range(p):
            line = first + c * n
            mean -= beside[k, c] * s[line + n - 1]
            for d in range(p):
                value = s[line + n - 1 - p + d] - s[line + n - 1] * s[first + d * n + n - 1]
                variance += beside[k, c] * value * beside[k, d]
        now[k, 0], now[k, 1] = mean + known[k] - target[k, 0], mean
        target[k, 0] += now[k, 0] / count
        target[k, 1] += variance + now[k, 0] ** 2 * (count - 1.0) / count


@strict
def add_cross(
    s: Any, omega: int, step: int, q: int, p: int, factors: Any, factor: int, beside: Any, now: Any,
    row: int, count: float, cross: Any, square: int,
) -> None:  # fmt: skip
    """Update a level's covariances of effects with the coefficients at rows from `row` on.

    `omega` has a bar's own rows, each with p coefficients, column y and the deviation of the mean
    at its end.
    """
    last = step - 2
    for k in range(q):
        for x in range(q):
            total = s[omega + x * step + last + 1] * now[row + k, 0] * (count - 1.0) / count
            for c in range(x + 1):
                line = omega + c * step
                own = s[line + last] * now[row + k, 1]
                for d in range(p):
                    own += s[line + last - p + d] * beside[row + k, d]
                total += factors[factor + x * q + c] * own
            cross[square + x * q + k] += total


@strict
def add_moments(
    i: Any, grouping: int, level: int, s: Any, omega: int, step: int, factors: Any,
    at_bars: Any, at_squares: Any, count: float, mean: Any, within: Any, between: Any, p: int,
    beside: Any, now: Any, cross: Any,
) -> None:  # fmt: skip
    """Update a level's moments by one draw of the scales, given its rows of Omega at omega.

    A row has the level's own columns, p coefficients, column y, and a place that is free. `mean` is
    the running mean of conditional means, `between` their sum of squares about it (Welford),
    `within` the sum of conditional covariances; `cross` sums both of effects with coefficients.
    """
    large, last, row = i[LARGEST], step - 2, 0
    for k in range(i[BARS]):
        r = i[AT_BARS] + k * BAR
        q, first = i[r + SIZE], i[r + FIRST]
        row += q
        if i[r + BAR_OWNER] != grouping:
            continue
        factor, at, square = k * large, at_bars[k] + level * q, at_squares[k] + level * q * q
        for x in range(q):
            own = 0.0
            for c in range(x + 1):
                own -= factors[factor + x * q + c] * s[omega + (first + c) * step + last]
            # the deviation from the old mean, until the covariances below have used it
            s[omega + (first + x) * step + last + 1] = own - mean[at + x]
        for x in range(q):
            dx = s[omega + (first + x) * step + last + 1]
            for y in range(q):
                dy = s[omega + (first + y) * step + last + 1]
                between[square + x * q + y] += dx * dy * (count - 1.0) / count
                total = 0.0
                for c in range(x + 1):
                    for d in range(y + 1):
                        left, right = omega + (first + c) * step, omega + (first + d) * step
                        value = s[left + first + d] - s[left + last] * s[right + last]
                        total += factors[factor + x * q + c] * value * factors[factor + y * q + d]
                within[square + x * q + y] += total
        for x in range(q):
            mean[at + x] += s[omega + (first + x) * step + last + 1] / count
        if cross.shape[0] > 0:
            add_cross(
                s, omega + first * step, step, q, p, factors, factor, beside, now, row - q, count,
                cross, square,
            )  # fmt: skip


@strict
def update_moments(
    f: Any, i: Any, a: int, s: Any, where: Any, factors: Any, at_bars: Any, at_squares: Any,
    levels: Any, places: Any, count: float, mean: Any, within: Any, between: Any, beside: Any,
    known: Any, cross: Any, target: Any, now: Any,
) -> None:  # fmt: skip
    """Update the moments of every group effect by one draw of the scales."""
    p = i[a + P]
    n = i[a + CROSSED] + p + 1
    second_moments(s, i[a + CORNER], i[a + INVERSE], n)
    update_targets(i, a, s, beside, known, count, target, now)
    copy = i[a + WORK]
    for g in range(places.shape[0]):
        _first, number, column, q = places[g]
        if column < 0:
            continue
        step = q + p + 2
        for level in range(number):
            omega = i[a + INVERSE] + (column + level * q) * n
            for x in range(q):
                for y in range(q):
                    s[copy + x * step + y] = s[omega + x * n + column + level * q + y]
                for c in range(p + 1):
                    s[copy + x * step + q + c] = s[omega + x * n + n - 1 - p + c]
            add_moments(
                i, g, level, s, copy, step, factors, at_bars, at_squares, count, mean, within,
                between, p, beside, now, cross,
            )  # fmt: skip
    if i[a + H] == 0:
        return
    for leaf in range(i[i[a + AT_LEVELS] + NODES] - 1, -1, -1):
        for h in range(ending(i, a, leaf), -1, -1):
            node = ancestor(i, a, leaf, h)
            r = i[a + AT_LEVELS] + h * LEVEL
            g, q = i[r + OWNER], i[r + NODE_SIZE]
            rest = i[r + LATER] + i[i[r + AT_COLUMNS] + node] + i[a + P] + 1
            step, wide = q + p + 2, q + rest
            psi = copy + q * step
            node_moments(f, i, a, h, node, s, where, psi, copy + 6 * q * wide)
            for x in range(q):
                for y in range(q):
                    s[copy + x * step + y] = s[psi + x * wide + y]
                for c in range(p + 1):
                    s[copy + x * step + q + c] = s[psi + x * wide + wide - 1 - p + c]
            add_moments(
                i, g, levels[places[g, 0] + node], s, copy, step, factors, at_bars, at_squares,
                count, mean, within, between, p, beside, now, cross,
            )  # fmt: skip


def _many(source: int, structured: bool) -> Any:
    """Return the Python form of the kernel over draws."""

    def many(
        f: Any, draws: Any, rng: Any, at_bars: Any, at_squares: Any, levels: Any, places: Any,
        coefficients: Any, effects: Any, mean: Any, within: Any, between: Any, beside: Any,
        known: Any, cross: Any, target: Any,
    ) -> int:  # fmt: skip
        """Write for each draw of x coefficients (n, p) and effects (n, size or 0), and moments.

        Where `cross` has room, effects' covariances with combinations of coefficients too, one for
        each effect: `beside` (effects, p) times the coefficients plus `known` (n, effects).

        Returns the number of draws that could not be factored, which are written as nan.
        """
        # the buffer may not be written to; as a view of it the parts are those of the density
        f, i = part_of(f, 0, f.shape[0]), index_of(f, 0, f.shape[0])
        a, m, n_phi = i[AT_ARROW], i[i[AT_ARROW] + M], draws.shape[1] - i[AT_PHI]
        lam, shift = np.zeros(lambdas(i)), np.zeros(i[OTHERS])
        factors, grad = np.zeros(i[LARGEST] * i[BARS]), np.zeros(draws.shape[1])
        w, dw, log_residual = np.zeros(m), np.zeros((n_phi, m)), np.zeros(1 + n_phi)
        wide = i[a + SCRATCH] + 64 * i[LARGEST] + i[a + RAW_OTHERS]
        s, where = np.zeros(wide), np.empty(i[a + REST] + 1, np.int64)
        scratch, now = np.zeros(at_bars[-1]), np.zeros(target.shape)
        failed, p, start = 0, i[a + P], i[a + START] + i[a + CROSSED]
        for k in range(draws.shape[0]):
            x = draws[k]
            set_scales(f, i, x, lam, shift)
            fill_factors(i, x, factors)
            if structured:
                set_residual(f, i, x, grad, w, dw, log_residual)
            else:
                simple_residual(f, i, x, grad, w, dw, log_residual)
            assemble_corner(f, i, a, lam, w, shift, s)
            value = factor_corner(i, a, forward(f, i, a, lam, w, shift, s, where), s)
            if source < 0 or not math.isfinite(value):
                failed += 1
                coefficients[k, :] = math.nan
                effects[k, :] = math.nan
                continue
            keep = effects.shape[1] > 0
            out = effects[k] if keep else scratch
            if keep:
                draw_effects(i, a, s, where, rng, factors, at_bars, levels, places, out)
            else:
                draw_corner(i, a, s, rng)
            for c in range(p):
                coefficients[k, c] = s[start + c]
            if mean.shape[0] > 0:
                count = float(k + 1 - failed)
                update_moments(
                    f, i, a, s, where, factors, at_bars, at_squares, levels, places, count, mean,
                    within, between, beside, known[k], cross, target, now,
                )  # fmt: skip
        return failed

    return many


@cache
def many_draws(structured: bool) -> Any:
    """Return the kernel over draws, for residuals as `marginal_callback` takes them."""
    # The digest, closed over, makes numba's cache notice changes in other files.
    return cached_kernel(_many(source_digest(), structured))

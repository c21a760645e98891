"""Compiled moments of the coefficients given scales, and how group effects follow them.

After elimination (u, v) given y is normal with a triangular factor, the coefficients last: their
rows of it are the moments of the coefficients alone. Group effects given coefficients are normal
with a mean that is linear in these: where coefficients move, it is solved for without the response.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from hiermodels.engines.arrow import ancestor, ending, forward, place
from hiermodels.engines.arrow_gradient import assemble_corner, factor_corner
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
    SCRATCH,
    START,
    WORK,
    H,
    M,
    P,
)
from hiermodels.engines.arrow_layout import OTHERS as RAW_OTHERS
from hiermodels.engines.arrow_layout import SIZE as NODE_SIZE
from hiermodels.engines.marginal_draws import fill_factors, write_effects
from hiermodels.engines.marginal_kernels import (
    AT_ARROW,
    AT_PHI,
    BARS,
    LARGEST,
    OTHERS,
    lambdas,
    set_residual,
    set_scales,
    simple_residual,
    source_digest,
)
from hiermodels.engines.rowwise import strict
from hiermodels.engines.views import index_of, part_of
from hiermodels.spec.compiling import cached_kernel

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def shift_corner(i: Any, a: int, s: Any, delta: Any) -> None:
    """Write the moves of (crossed scores, coefficients), and 0 for y, at `START`."""
    crossed, p = i[a + CROSSED], i[a + P]
    n, u, t = crossed + p + 1, i[a + CORNER], i[a + START]
    s[t + n - 1] = 0.0
    for k in range(p):
        s[t + crossed + k] = delta[k]
    for k in range(crossed - 1, -1, -1):
        total = 0.0
        for c in range(k + 1, n):
            total -= s[u + k * n + c] * s[t + c]
        s[t + k] = total / s[u + k * n + k]


@strict
def shift_node(i: Any, a: int, h: int, node: int, s: Any, where: Any) -> int:
    """Return where the moves of a node's scores stand, given those of what comes after it."""
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
        total = 0.0
        for c in range(b + 1, q + rest):
            total -= s[row + c] * s[t + c]
        s[t + b] = total / s[row + b]
    return int(t)


@strict
def shift_effects(
    i: Any, a: int, s: Any, where: Any, delta: Any, factors: Any, at_bars: Any, levels: Any,
    places: Any, out: Any,
) -> None:  # fmt: skip
    """Write how far the conditional mean of every group effect moves with the coefficients."""
    shift_corner(i, a, s, delta)
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
            t = shift_node(i, a, h, node, s, where)
            g = i[i[a + AT_LEVELS] + h * LEVEL + OWNER]
            write_effects(i, g, levels[places[g, 0] + node], s, t, factors, at_bars, out)


def _conditional(source: int, structured: bool) -> Any:
    """Return the Python form of the kernel over draws."""

    def conditional(
        f: Any, draws: Any, delta: Any, at_bars: Any, levels: Any, places: Any, corner: Any,
        effects: Any,
    ) -> int:  # fmt: skip
        """Write for each draw the coefficients' factor (n, p, p + 1) and effects' moves (n, size).

        Returns the number of draws that could not be factored, which are written as nan.
        """
        f, i = part_of(f, 0, f.shape[0]), index_of(f, 0, f.shape[0])
        a, m, n_phi = i[AT_ARROW], i[i[AT_ARROW] + M], draws.shape[1] - i[AT_PHI]
        lam, shift = np.zeros(lambdas(i)), np.zeros(i[OTHERS])
        factors, grad = np.zeros(i[LARGEST] * i[BARS]), np.zeros(draws.shape[1])
        w, dw, log_residual = np.zeros(m), np.zeros((n_phi, m)), np.zeros(1 + n_phi)
        wide = i[a + SCRATCH] + 64 * i[LARGEST] + i[a + RAW_OTHERS]
        s, where = np.zeros(wide), np.empty(i[a + REST] + 1, np.int64)
        failed, p, crossed = 0, i[a + P], i[a + CROSSED]
        n, first = crossed + p + 1, i[a + CORNER] + crossed
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
                corner[k] = math.nan
                effects[k, :] = math.nan
                continue
            for b in range(p):
                for c in range(p + 1):
                    corner[k, b, c] = s[first + (crossed + b) * n + c] if c >= b else 0.0
            if effects.shape[1] > 0:
                shift_effects(
                    i, a, s, where, delta[k], factors, at_bars, levels, places, effects[k]
                )
        return failed

    return conditional


@cache
def conditional_kernel(structured: bool) -> Any:
    """Return the kernel over draws, for residuals as `marginal_callback` takes them."""
    # The digest, closed over, makes numba's cache notice changes in other files.
    return cached_kernel(_conditional(source_digest(), structured))

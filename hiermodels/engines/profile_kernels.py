"""The likelihood of a Gaussian model in one compiled call: log determinants, gradient, effects.

The gradient by factors and weights needs second moments Omega of t = (u, v, -1). Where the
residual scale is profiled these are Var(u, v) + kappa E[t] E[t]' with kappa = N / rho^2; where
coefficients are held at their estimate (maximum likelihood) Var(u | v) takes the place of
Var(u, v), and v has no variance.
"""

import math
from typing import Any, Final

import numpy as np

from hiermodels.engines.arrow import ancestor, ending, forward, node_moments
from hiermodels.engines.arrow_dense import second_moments
from hiermodels.engines.arrow_gradient import (
    assemble_corner,
    chain_gradient,
    corner_gradient,
    factor_corner,
)
from hiermodels.engines.arrow_layout import (
    AT_COLUMNS,
    AT_LEVELS,
    CORNER,
    CROSSED,
    INVERSE,
    LATER,
    LEVEL,
    NODES,
    OWNER,
    REST,
    SIZE,
    WORK,
    H,
    P,
)
from hiermodels.engines.marginal_kernels import cached_kernel, source_digest
from hiermodels.engines.residual_kernels import residual_weights
from hiermodels.engines.rowwise import strict
from hiermodels.engines.views import index_of, part_of

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

FACTOR, MOMENTS, GRADIENT, EFFECTS = 1, 2, 4, 8
# Places in `pieces`.
LOG_A, LOG_X, RHO2 = range(3)


@strict
def corner_moments(i: Any, a: int, s: Any, fixed: bool, kappa: float) -> None:
    """Write second moments of the corner's columns at `INVERSE`."""
    crossed, p = i[a + CROSSED], i[a + P]
    n, u, out = crossed + p + 1, i[a + CORNER], i[a + INVERSE]
    second_moments(s, u, out, n)
    mean = np.empty(n)
    for k in range(n):
        mean[k] = s[out + k * n + n - 1]
    for r in range(n):
        for c in range(n):
            s[out + r * n + c] += (kappa - 1.0) * mean[r] * mean[c]
    if not fixed:
        return
    column = np.empty(n)
    for k in range(crossed, n - 1):
        # column k of the inverse factor: what this coefficient adds to the variance of u
        column[k] = 1.0 / s[u + k * n + k]
        for r in range(k - 1, -1, -1):
            total = 0.0
            for c in range(r + 1, k + 1):
                total -= s[u + r * n + c] * column[c]
            column[r] = total / s[u + r * n + r]
        for r in range(crossed):
            for c in range(crossed):
                s[out + r * n + c] -= column[r] * column[c]
    for k in range(crossed, n):
        for c in range(n):
            s[out + k * n + c] = kappa * mean[k] * mean[c]
            s[out + c * n + k] = kappa * mean[k] * mean[c]


@strict
def write_effects(f: Any, i: Any, a: int, s: Any, where: Any, places: Any, out: Any) -> None:
    """Write by grouping and node (q, q + p + 1): moments with own columns, coefficients, y."""
    p = i[a + P]
    n = i[a + CROSSED] + p + 1
    for g in range(places.shape[0]):
        at, levels, column, q = places[g]
        if column < 0:
            continue
        for level in range(levels):
            own = column + level * q
            for b in range(q):
                line = i[a + INVERSE] + (own + b) * n
                for c in range(q):
                    out[at + c] = s[line + own + c]
                for c in range(p + 1):
                    out[at + q + c] = s[line + i[a + CROSSED] + c]
                at += q + p + 1
    if i[a + H] == 0:
        return
    psi = i[a + WORK]
    for leaf in range(i[i[a + AT_LEVELS] + NODES] - 1, -1, -1):
        for h in range(ending(i, a, leaf), -1, -1):
            node = ancestor(i, a, leaf, h)
            r = i[a + AT_LEVELS] + h * LEVEL
            q = i[r + SIZE]
            wide = q + i[r + LATER] + i[i[r + AT_COLUMNS] + node] + p + 1
            node_moments(f, i, a, h, node, s, where, psi, psi + q * wide)
            at = places[i[r + OWNER], 0] + node * q * (q + p + 1)
            for b in range(q):
                for c in range(q):
                    out[at + c] = s[psi + b * wide + c]
                for c in range(p + 1):
                    out[at + q + c] = s[psi + b * wide + wide - p - 1 + c]
                at += q + p + 1


def _profile(source: int) -> Any:
    """Return the Python form of the kernel."""

    def profile(
        f: Any, a: int, lam: Any, w: Any, steps: int, fixed: bool, n_free: float, kappa: float,
        s: Any, pieces: Any, g_lam: Any, g_w: Any, places: Any, effects: Any,
    ) -> bool:  # fmt: skip
        """Do the steps asked for: `FACTOR`, `MOMENTS`, then `GRADIENT` or `EFFECTS`.

        Factoring writes log|A|, that of the coefficients' block and rho^2, then by row their
        triangular factor U and c. With n_free above 0 kappa is n_free / rho^2. What later steps
        need stays in s. False where a pivot is lost.
        """
        f, i = part_of(f, 0, f.shape[0]), index_of(f, 0, f.shape[0])
        where = np.empty(i[a + REST] + 1, np.int64)
        shift = np.zeros(0)
        p = i[a + P]
        n, corner = i[a + CROSSED] + p + 1, i[a + CORNER]
        if steps & FACTOR:
            assemble_corner(f, i, a, lam, w, shift, s)
            total = factor_corner(i, a, forward(f, i, a, lam, w, shift, s, where), s)
            if source < 0 or not math.isfinite(total):
                return False
            rho = s[corner + n * n - 1]
            pieces[LOG_A], pieces[LOG_X], pieces[RHO2] = total - rho * rho, 0.0, rho * rho
            for b in range(p):
                row = corner + (n - 1 - p + b) * n + n - 1 - p
                pieces[LOG_X] += 2.0 * math.log(s[row + b])
                for c in range(p + 1):
                    pieces[3 + b * (p + 1) + c] = s[row + c] if c >= b else 0.0
        if steps & MOMENTS:
            corner_moments(i, a, s, fixed, n_free / pieces[RHO2] if n_free > 0.0 else kappa)
        if steps & GRADIENT:
            g_lam[:] = 0.0
            g_w[:] = 0.0
            corner_gradient(f, i, a, lam, w, shift, s, g_lam, g_w, shift)
            chain_gradient(f, i, a, lam, w, shift, s, where, g_lam, g_w, shift)
        if steps & EFFECTS:
            write_effects(f, i, a, s, where, places, effects)
        return True

    return profile


def _weights(source: int) -> Any:
    """Return the Python form of the residual's weights."""

    def weights(code: int, block: Any, phi: Any, w: Any, dw: Any, out: Any) -> bool:
        """Write the weights, log|R| and derivatives; False where one is not finite."""
        residual_weights(code, block, phi, w, dw, out)
        return source >= 0 and math.isfinite(out[0])

    return weights


# The digest, closed over, makes numba's cache notice changes in other files.
profile_kernel: Final = cached_kernel(_profile(source_digest()))
weights_kernel: Final = cached_kernel(_weights(source_digest()))

"""Compiled priors, and the way from sds and correlations to group effects and back.

Densities on the unconstrained scale; their constants are no function of the parameters and stand
in the buffer. The Cholesky factor comes from canonical partial correlations tanh(y).

References
----------
.. [1] Lewandowski, Kurowicka and Joe (2009), https://doi.org/10.1016/j.jmva.2009.04.008.
"""

import math
from typing import Any

from hiermodels.engines.buffers import (
    BETA,
    GAMMA,
    HALF_NORMAL,
    HALF_T,
    INVERSE_GAMMA,
    NORMAL,
    STUDENT_T,
)
from hiermodels.engines.elementary import loop, strict

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@strict
def coefficient_prior(row: Any, x: float) -> Any:
    """Return the value and the derivative of a prior of a coefficient."""
    code = int(row[0])
    t = (x - row[1]) / row[2]
    if code == NORMAL:
        return -0.5 * t * t, -t / row[2]
    if code == STUDENT_T:
        nu = row[3]
        value = -0.5 * (nu + 1.0) * math.log1p(t * t / nu)
        return value, -(nu + 1.0) / (nu / t + t) / row[2] if t != 0.0 else 0.0
    return -abs(t), (-1.0 if t > 0.0 else 1.0) / row[2]


@strict
def sd_prior(row: Any, x: float) -> Any:
    """Return the value and the derivative by x = log s of a prior of s, Jacobian included.

    For a beta prior of a probability x is its log odds.
    """
    code = int(row[0])
    if code == HALF_T:
        h = 2.0 * (x - row[2]) - row[3]
        t = math.exp(-abs(h))
        softplus = max(h, 0.0) + math.log1p(t)
        return x - 0.5 * row[1] * softplus, 1.0 - row[1] * (1.0 if h > 0.0 else t) / (1.0 + t)
    if code == HALF_NORMAL:
        square = math.exp(2.0 * (x - row[2]))
        return x - 0.5 * square, 1.0 - square
    if code == GAMMA:
        rate = row[2] * math.exp(x)
        return row[1] * x - rate, row[1] - rate
    if code == INVERSE_GAMMA:
        rate = row[2] * math.exp(-x)
        return -row[1] * x - rate, rate - row[1]
    if code == BETA:
        t = math.exp(-abs(x))
        near, far = 1.0 / (1.0 + t), t / (1.0 + t)
        value = -(row[1] + row[2]) * math.log1p(t) - (row[2] * max(x, 0.0) + row[1] * max(-x, 0.0))
        return value, row[1] * (far if x > 0.0 else near) - row[2] * (near if x > 0.0 else far)
    t = (x - row[1]) / row[2]
    return -0.5 * t * t, -t / row[2]


@strict
def lkj_prior(y: Any, q: int, eta: float, gradient: Any) -> float:
    """Return the LKJ log density in partial correlations tanh(y), rows i > j, and its gradient."""
    value = 0.0
    at = 0
    for i in range(1, q):
        for j in range(i):
            alpha = eta + 0.5 * (q - 2 - j)
            size = abs(y[at])
            log_sech = 0.6931471805599453 - size - math.log1p(math.exp(-2.0 * size))
            value += 2.0 * alpha * log_sech
            gradient[at] -= 2.0 * alpha * math.tanh(y[at])
            at += 1
    return value


# --- one bar: sds and correlations to a triangular factor, and back -------------------------------


@strict
def _sech(y: float) -> float:
    """Return 1 / cosh(y), which never overflows here."""
    t = math.exp(-abs(y))
    return 2.0 * t / (1.0 + t * t)


@strict
def fill_factor(sds: Any, y: Any, q: int, correlated: bool, factor: Any) -> float:
    """Write diag(exp(sds)) times the correlations' Cholesky factor; return its log determinant."""
    log_determinant = 0.0
    at = 0
    for i in range(q):
        rest = 1.0
        s = math.exp(sds[i])
        log_determinant += sds[i]
        for j in range(q):
            factor[i * q + j] = 0.0
        if correlated:
            for j in range(i):
                factor[i * q + j] = s * rest * math.tanh(y[at])
                size = abs(y[at])
                log_determinant += math.log(2.0) - size - math.log1p(math.exp(-2.0 * size))
                rest *= _sech(y[at])
                at += 1
        factor[i * q + i] = s * rest
    return log_determinant


@strict
def chain_factor(
    sds: Any, y: Any, q: int, correlated: bool, factor: Any, bar: Any, g_sds: Any, g_y: Any
) -> None:
    """Add the gradient by log sds and y, given `bar`, the gradient by the factor's lower part."""
    at = 0
    for i in range(q):
        rest = math.exp(sds[i])
        for c in range(i + 1):
            g_sds[i] += bar[i * q + c] * factor[i * q + c]
        if correlated:
            for k in range(i):
                z = math.tanh(y[at])
                later = 0.0
                for j in range(k + 1, i + 1):
                    later += bar[i * q + j] * factor[i * q + j]
                sech = _sech(y[at])
                g_y[at] += bar[i * q + k] * rest * sech * sech - z * later
                rest *= sech
                at += 1


@loop
def shift_back(shift: Any, beta: Any, b: Any) -> None:
    """Take shift times the coefficients off b: effects are left.

    shift: for each coefficient that it takes up the coefficient's place, then a number by effect.
    """
    size = b.shape[0]
    for at in range(0, shift.shape[0], size + 1):
        f = beta[int(shift[at])]
        column = shift[at + 1 : at + 1 + size]
        for i in range(size):
            b[i] -= column[i] * f


@loop
def shift_gradient(shift: Any, g: Any, g_beta: Any) -> None:
    """Add the coefficients' part of the gradient g by the shifted effects."""
    size = g.shape[0]
    for at in range(0, shift.shape[0], size + 1):
        column = shift[at + 1 : at + 1 + size]
        total = 0.0
        for i in range(size):
            total += column[i] * g[i]
        g_beta[int(shift[at])] -= total


@loop
def spread(u: Any, factor: Any, q: int, levels: int, b: Any) -> float:
    """Write b_j = factor u_j for every level; return the log density of u up to its constant."""
    total = 0.0
    for i in range(u.shape[0]):
        b[i] = 0.0
        total += u[i] * u[i]
    for a in range(q):
        for c in range(a + 1):
            f = factor[a * q + c]
            for j in range(levels):
                b[j * q + a] += f * u[j * q + c]
    return -0.5 * total


@loop
def gather(g: Any, u: Any, factor: Any, q: int, levels: int, g_u: Any, bar: Any) -> None:
    """Turn the gradient by b into those by u (with its prior's) and by the factor."""
    for i in range(u.shape[0]):
        g_u[i] = -u[i]
    for a in range(q):
        for c in range(a + 1):
            f = factor[a * q + c]
            total = 0.0
            for j in range(levels):
                g_u[j * q + c] += f * g[j * q + a]
                total += g[j * q + a] * u[j * q + c]
            bar[a * q + c] = total


@loop
def whiten(b: Any, factor: Any, q: int, levels: int, u: Any, w: Any, bar: Any) -> float:
    """Write u_j = factor^-1 b_j, w_j = factor^-T u_j and their sum of products into `bar`.

    Returns minus half the sum of squares of u: the prior of centred effects without determinants.
    """
    for a in range(q):
        inverse = 1.0 / factor[a * q + a]
        for j in range(levels):
            u[j * q + a] = b[j * q + a]
        for c in range(a):
            f = factor[a * q + c]
            for j in range(levels):
                u[j * q + a] -= f * u[j * q + c]
        for j in range(levels):
            u[j * q + a] *= inverse
    for a in range(q - 1, -1, -1):
        inverse = 1.0 / factor[a * q + a]
        for j in range(levels):
            w[j * q + a] = u[j * q + a]
        for c in range(a + 1, q):
            f = factor[c * q + a]
            for j in range(levels):
                w[j * q + a] -= f * w[j * q + c]
        for j in range(levels):
            w[j * q + a] *= inverse
    total = 0.0
    for a in range(q):
        for c in range(a + 1):
            product = 0.0
            for j in range(levels):
                product += w[j * q + a] * u[j * q + c]
            bar[a * q + c] = product
    for i in range(u.shape[0]):
        total += u[i] * u[i]
    return -0.5 * total

"""Compiled loops over rows: linear predictor, families, and the accumulation of gradients.

A row passes through three stages, in blocks that stay in the processor's first cache. They are
separate so that each vectorises; exp and log1p are written out because the mathematics library's
are calls, which stop that. A further family is one function here: it writes the derivative by the
linear predictor and returns the value and its derivative by log sigma.
"""

import math
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# Sums may be reordered and products fused; infinities and nans keep their meaning.
loop = numba.njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
strict = numba.njit(error_model="numpy", fastmath={"contract"})
inlined = numba.njit(error_model="numpy", fastmath={"contract"}, forceinline=True)


def _reinterpretation(source: Any, target: Any, target_ir: Any) -> Any:
    """Return a compiled function that keeps the bits of a number and changes its type."""

    def typed(_context: Any, value: Any) -> Any:
        def code(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], target_ir)

        return (target(source), code) if value == source else None

    return intrinsic(typed)


_float_bits = _reinterpretation(types.float64, types.int64, ir.IntType(64))
_bits_float = _reinterpretation(types.int64, types.float64, ir.DoubleType())


@inlined
def exponential(x: float) -> float:
    """Return exp(x) to 2 units in the last place, 0 below -707, nan for nan, without a branch."""
    low = -707.0 if x < -707.0 else x
    bounded = 710.0 if low > 710.0 else low
    # Adding 1.5 * 2**52 rounds to an integer and leaves it in the low bits.
    shifted = bounded * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = (bounded - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    p = 2.5100472505694996e-08
    p = p * r + 2.7620201591031547e-07
    p = p * r + 2.7557268276905696e-06
    p = p * r + 2.4801521057868204e-05
    p = p * r + 0.00019841269863171557
    p = p * r + 0.0013888888917367081
    p = p * r + 0.008333333333330039
    p = p * r + 0.041666666666623824
    p = p * r + 0.16666666666666669
    p = p * r + 0.5
    # Half of 2**k is always representable where exp(x) is.
    half = _bits_float((_float_bits(shifted) + 1022) << 52)
    value = ((p * r) * r + r + 1.0) * half * 2.0
    return 0.0 if x < -707.0 else value


@inlined
def log_one_plus(t: float) -> float:
    """Return log(1 + t) for 0 <= t <= 1 to 2 units in the last place, without a branch."""
    upper = t > 0.41421356237309503
    s = (t - 1.0) / (t + 3.0) if upper else t / (t + 2.0)
    w = s * s
    p = 0.1463003136412286
    p = p * w + 0.15330617306743305
    p = p * w + 0.18182922513515942
    p = p * w + 0.22222210674238516
    p = p * w + 0.28571428628810996
    p = p * w + 0.3999999999989322
    p = p * w + 0.666666666666667
    return s * (2.0 + w * p) + (0.6931471805599453 if upper else 0.0)


# --- families: (linear predictor, rows' numbers, sigma) -> derivative by row; (value, d log sigma)


@loop
def gaussian(eta: Any, a: Any, b: Any, variance: float, d: Any) -> Any:
    """Return the value and its derivative by log sigma; a response, b relative precision."""
    inverse = 1.0 / variance
    total = 0.0
    for i in range(eta.shape[0]):
        residual = a[i] - eta[i]
        d[i] = b[i] * residual * inverse
        total += d[i] * residual
    return -0.5 * total, total


@loop
def gaussian_errors(eta: Any, a: Any, b: Any, c: Any, variance: float, d: Any) -> Any:
    """Return value and derivative; a response, b weight, c known variance of the row."""
    total = 0.0
    slope = 0.0
    for i in range(eta.shape[0]):
        v = c[i] + variance
        residual = a[i] - eta[i]
        d[i] = b[i] * residual / v
        total -= 0.5 * (b[i] * math.log(v) + d[i] * residual)
        slope += (d[i] * residual - b[i]) * (variance / v)
    return total, slope


@loop
def binomial(eta: Any, a: Any, b: Any, d: Any) -> Any:
    """Return the value; a weighted successes, b weighted failures. No term cancels another."""
    total = 0.0
    for i in range(eta.shape[0]):
        size = abs(eta[i])
        t = exponential(-size)
        near = 1.0 / (1.0 + t)
        far = t * near
        positive = eta[i] > 0.0
        likely = a[i] if positive else b[i]
        unlikely = b[i] if positive else a[i]
        total -= (a[i] + b[i]) * log_one_plus(t) + unlikely * size
        step = likely * far - unlikely * near
        d[i] = step if positive else -step
    return total, 0.0


@loop
def poisson(eta: Any, a: Any, b: Any, d: Any) -> Any:
    """Return the value; a weighted counts, b weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        mean = b[i] * exponential(eta[i])
        d[i] = a[i] - mean
        total += a[i] * eta[i] - mean
    return total, 0.0


# --- rows to effects and back ---------------------------------------------------------------------


@loop
def add_columns(columns: Any, beta: Any, lo: int, eta: Any) -> None:
    """Add the population part of the linear predictor for one block of rows."""
    rows = eta.shape[0]
    p = beta.shape[0]
    n = columns.shape[0] // max(p, 1)
    k = 0
    while k + 1 < p:
        first = columns[k * n + lo : k * n + lo + rows]
        second = columns[(k + 1) * n + lo : (k + 1) * n + lo + rows]
        f, s = beta[k], beta[k + 1]
        for i in range(rows):
            eta[i] += f * first[i] + s * second[i]
        k += 2
    if k < p:
        first = columns[k * n + lo : k * n + lo + rows]
        f = beta[k]
        for i in range(rows):
            eta[i] += f * first[i]


@loop
def sum_columns(columns: Any, d: Any, lo: int, g: Any) -> None:
    """Add the gradient by the coefficients for one block of rows."""
    rows = d.shape[0]
    p = g.shape[0]
    n = columns.shape[0] // max(p, 1)
    for k in range(p):
        column = columns[k * n + lo : k * n + lo + rows]
        total = 0.0
        for i in range(rows):
            total += column[i] * d[i]
        g[k] += total


@loop
def add_effects(z: Any, positions: Any, b: Any, eta: Any) -> None:
    """Add one effect's part of the linear predictor."""
    for i in range(eta.shape[0]):
        eta[i] += z[i] * b[positions[i]]


@loop
def sum_effects(z: Any, positions: Any, d: Any, g: Any) -> None:
    """Add the gradient by one effect.

    A run of rows of one group is summed before it is stored: data mostly come grouped, and adding
    each row to memory would wait for the row before it. Sorting the rows gains nothing beyond.
    """
    if d.shape[0] == 0:
        return
    current = positions[0]
    total = 0.0
    for i in range(d.shape[0]):
        if positions[i] != current:
            g[current] += total
            current = positions[i]
            total = 0.0
        total += z[i] * d[i]
    g[current] += total

"""Compiled loops over rows: linear predictors, families, and the accumulation of gradients.

A row passes through three stages, in blocks that stay in the processor's first cache. They are
separate so that each vectorises. A family is one function: it writes the derivatives by its
predictors and returns the value. Families of one predictor stand here, the others in
`hiermodels.engines.families_of_two` and `hiermodels.engines.ordinal`.
"""

import math
from typing import Any

from hiermodels.engines.elementary import (
    exponential,
    exponential_parts,
    inlined,
    log_one_plus,
    logarithm,
    loop,
    strict,
)
from hiermodels.engines.normals import normal_tails

__all__ = ["exponential", "inlined", "log_one_plus", "loop", "strict"]

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False

# --- families: (linear predictor, rows' numbers) -> derivative by row; value ----------------------


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
def bernoulli(eta: Any, a: Any, d: Any) -> float:
    """Return the value of unweighted rows with one trial; a is 1 for a success, -1 for a failure.

    The logarithm of a product of 512 factors of at most 2 stands for as many logarithms.
    """
    total = 0.0
    product = 1.0
    for i in range(eta.shape[0]):
        margin = a[i] * eta[i]
        t = exponential(-abs(margin))
        near = 1.0 + t
        total += min(margin, 0.0)
        product *= near
        d[i] = a[i] * (t if margin > 0.0 else 1.0) / near
    return total - math.log(product)


@loop
def logit(eta: Any, a: Any, b: Any, d: Any) -> float:
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
    return total


@loop
def probit(eta: Any, a: Any, b: Any, d: Any) -> float:
    """Return the value; a weighted successes, b weighted failures."""
    total = 0.0
    for i in range(eta.shape[0]):
        low, low_slope, high, high_slope = normal_tails(abs(eta[i]))
        positive = eta[i] > 0.0
        likely = a[i] if positive else b[i]
        unlikely = b[i] if positive else a[i]
        # A tail without rows must not count, however far out.
        total += likely * high + (unlikely * low if unlikely > 0.0 else 0.0)
        step = likely * high_slope - (unlikely * low_slope if unlikely > 0.0 else 0.0)
        d[i] = step if positive else -step
    return total


@loop
def cloglog(eta: Any, a: Any, b: Any, d: Any) -> float:
    """Return the value; a weighted successes, b weighted failures; log(1 - p) = -exp(eta)."""
    total = 0.0
    for i in range(eta.shape[0]):
        mean = exponential(eta[i])
        t = exponential(-mean)
        less_one, _ = exponential_parts(-mean)
        # log(1 - exp(-mean)), from the side that keeps its digits
        small = mean < 0.6931471805599453
        tail = 0.5 if small else t
        low = logarithm(-less_one if small else 0.5)
        log_p = low if small else -log_one_plus(tail / (1.0 - tail))
        # Far out exp(eta) rounds to 0, but not its logarithm.
        tiny = eta[i] < -700.0
        log_p = eta[i] if tiny else log_p
        slope = 1.0 if tiny else mean * t / -less_one
        total += (a[i] * log_p if a[i] > 0.0 else 0.0) - (b[i] * mean if b[i] > 0.0 else 0.0)
        d[i] = (a[i] * slope if a[i] > 0.0 else 0.0) - (b[i] * mean if b[i] > 0.0 else 0.0)
    return total


@loop
def poisson(eta: Any, a: Any, b: Any, d: Any) -> float:
    """Return the value; a weighted counts, b weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        mean = b[i] * exponential(eta[i])
        d[i] = a[i] - mean
        total += a[i] * eta[i] - mean
    return total

"""Compiled families with a further parameter that is evaluated for each row.

Each function writes the derivatives by its predictors (the parameters' on their links) and returns
the value. Terms of the parameter alone, such as log Gamma(shape), are `special` ones: they are
summed apart, once for each distinct value where the parameter has no predictor of its own.
"""

from typing import Any

from hiermodels.engines.buffers import RISING, STIRLING
from hiermodels.engines.elementary import (
    exponential,
    exponential_parts,
    inlined,
    log1p_positive,
    log_one_plus,
    logarithm,
    loop,
)
from hiermodels.engines.gammas import rising, stirling_rest

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@loop
def special(code: int, x: Any, y: Any, w: Any, d: Any) -> float:
    """Return the terms of one log parameter x alone, and add their derivatives by x to d."""
    total = 0.0
    if code == RISING:
        for i in range(x.shape[0]):
            value, slope = rising(exponential(x[i]), y[i])
            total += w[i] * value
            d[i] += w[i] * slope
    elif code == STIRLING:
        for i in range(x.shape[0]):
            value, slope = stirling_rest(exponential(x[i]))
            total += w[i] * value
            d[i] += w[i] * slope
    else:
        # log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu) / 2
        for i in range(x.shape[0]):
            value, slope = rising(0.5 * exponential(x[i]), 0.5)
            total += w[i] * (value - 0.5 * x[i])
            d[i] += w[i] * (slope - 0.5)
    return total


@loop
def gaussian_rows(eta: Any, x: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> float:
    """Return the value; x log sigma, a response, b weighted precision, c weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        residual = a[i] - eta[i]
        d[i] = b[i] * residual * exponential(-2.0 * x[i])
        square = d[i] * residual
        total -= 0.5 * square + c[i] * x[i]
        e[i] = square - c[i]
    return total


@loop
def gaussian_errors(eta: Any, x: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> float:
    """Return the value; x log sigma, a response, b weights, c known variances."""
    total = 0.0
    for i in range(eta.shape[0]):
        own = exponential(2.0 * x[i])
        v = c[i] + own
        residual = a[i] - eta[i]
        d[i] = b[i] * residual / v
        square = d[i] * residual
        total -= 0.5 * (b[i] * logarithm(v) + square)
        e[i] = (square - b[i]) * (own / v)
    return total


@loop
def student(eta: Any, x: Any, t: Any, a: Any, b: Any, d: Any, e: Any, f: Any) -> float:
    """Return the value; x log sigma, t log nu, a response, b weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        nu = exponential(t[i])
        z = (a[i] - eta[i]) * exponential(-x[i])
        square = z * z
        # square / (nu + square), without an infinity over another
        share = square / (nu + square)
        step = log1p_positive(square / nu)
        total -= b[i] * (x[i] + 0.5 * (nu + 1.0) * step)
        d[i] = b[i] * (nu + 1.0) * z / (nu + square) * exponential(-x[i])
        e[i] = b[i] * ((nu + 1.0) * share - 1.0)
        f[i] = b[i] * 0.5 * ((nu + 1.0) * share - nu * step)
    return total


@inlined
def _negative_binomial(eta: float, x: float, y: float) -> Any:
    """Return value without its special term, and derivatives by eta and x = log shape."""
    shape = exponential(x)
    gap = eta - x
    t = exponential(-abs(gap))
    log_part = log_one_plus(t)
    near = 1.0 / (1.0 + t)
    far = t * near
    over = gap > 0.0
    p = near if over else far
    q = far if over else near
    above = gap if over else 0.0
    below = 0.0 if over else gap
    value = y * (below - log_part) - shape * (above + log_part)
    slope = y * q - shape * p
    return value, slope, -shape * (above + log_part) - slope


@loop
def negative_binomial(eta: Any, x: Any, a: Any, b: Any, d: Any, e: Any) -> float:
    """Return the value; x log shape, a counts, b weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        value, slope, shape_slope = _negative_binomial(eta[i], x[i], a[i])
        total += b[i] * value
        d[i] = b[i] * slope
        e[i] = b[i] * shape_slope
    return total


@loop
def gamma(eta: Any, x: Any, a: Any, b: Any, d: Any, e: Any) -> float:
    """Return the value; x log shape, a log response, b weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        shape = b[i] * exponential(x[i])
        less_one, rest = exponential_parts(a[i] - eta[i])
        d[i] = shape * less_one
        e[i] = -shape * rest
        total -= shape * rest
    return total


@inlined
def _shares(eta: float) -> Any:
    """Return mu, 1 - mu and their logarithms, each exact, mu = 1 / (1 + exp(-eta))."""
    t = exponential(-abs(eta))
    near = 1.0 / (1.0 + t)
    far = t * near
    log_near = -log_one_plus(t)
    log_far = log_near - abs(eta)
    over = eta > 0.0
    return (
        near if over else far,
        far if over else near,
        log_near if over else log_far,
        log_far if over else log_near,
    )


@loop
def beta(eta: Any, x: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> float:
    """Return the value; x log phi, a log y, b log(1 - y), c weights.

    With G(z) = z log z - z - log Gamma(z), log B(m, k) = m log mu + k log(1 - mu) - G(m) - G(k)
    + G(phi) for m = mu phi, k = (1 - mu) phi: large terms cancel on paper, not in the sum.
    """
    total = 0.0
    for i in range(eta.shape[0]):
        phi = exponential(x[i])
        mu, rest, log_mu, log_rest = _shares(eta[i])
        g_one, slope_one = stirling_rest(mu * phi)
        g_two, slope_two = stirling_rest(rest * phi)
        gap = phi * (mu * (a[i] - log_mu) + rest * (b[i] - log_rest))
        total += c[i] * (gap + g_one + g_two)
        turn = (a[i] - b[i] - eta[i]) * (mu * phi) * rest
        d[i] = c[i] * (turn + rest * slope_one - mu * slope_two)
        e[i] = c[i] * (gap + slope_one + slope_two)
    return total


@loop
def beta_binomial(eta: Any, x: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> float:
    """Return the value; x log phi, a successes, b failures, c weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        phi = exponential(x[i])
        mu, rest, _, _ = _shares(eta[i])
        value_one, slope_one = rising(mu * phi, a[i])
        value_two, slope_two = rising(rest * phi, b[i])
        total += c[i] * (value_one + value_two)
        d[i] = c[i] * (rest * slope_one - mu * slope_two)
        e[i] = c[i] * (slope_one + slope_two)
    return total


@inlined
def _zero_or_not(zero: bool, log_zero: float, x: float) -> Any:
    """Return for y = 0 log(zi + (1 - zi) p0) + softplus(x), the derivatives by log p0 and x.

    x is the log odds of zi; for y > 0: 0, 1, 0. Softplus itself is the same in both.
    """
    gap = x - log_zero
    t = exponential(-abs(gap))
    near = 1.0 / (1.0 + t)
    far = t * near
    over = gap > 0.0
    value = (x if over else log_zero) + log_one_plus(t)
    share = far if over else near
    return (value if zero else 0.0), (share if zero else 1.0), (near if over else far) * zero


@inlined
def _softplus(x: float) -> Any:
    """Return log(1 + exp(x)) and its derivative."""
    t = exponential(-abs(x))
    near = 1.0 / (1.0 + t)
    over = x > 0.0
    return (x if over else 0.0) + log_one_plus(t), (near if over else t * near)


@loop
def zero_poisson(eta: Any, x: Any, a: Any, b: Any, d: Any, e: Any) -> float:
    """Return the value; x log odds of zi, a counts, b weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        zero = a[i] == 0.0
        mean = exponential(eta[i])
        soft, odds = _softplus(x[i])
        value, share, own = _zero_or_not(zero, -mean, x[i])
        total += b[i] * ((value if zero else a[i] * eta[i] - mean) - soft)
        # exp(-mean) is 0 long before the mean is not finite
        d[i] = b[i] * (a[i] - (share * mean if share > 0.0 else 0.0))
        e[i] = b[i] * (own - odds)
    return total


@loop
def zero_negative_binomial(
    eta: Any, x: Any, s: Any, a: Any, b: Any, d: Any, e: Any, f: Any
) -> float:
    """Return the value; x log shape, s log odds of zi, a counts, b weights."""
    total = 0.0
    for i in range(eta.shape[0]):
        zero = a[i] == 0.0
        log_p, slope, shape_slope = _negative_binomial(eta[i], x[i], a[i])
        soft, odds = _softplus(s[i])
        value, share, own = _zero_or_not(zero, log_p, s[i])
        total += b[i] * ((value if zero else log_p) - soft)
        d[i] = b[i] * (share * slope if share > 0.0 else 0.0)
        e[i] = b[i] * (share * shape_slope if share > 0.0 else 0.0)
        f[i] = b[i] * (own - odds)
    return total

"""Compiled kernels of ordered categories and of normal probabilities of an interval.

A category lies between two cutpoints. The derivatives are those by a shift of both and by the
width of the interval: with a narrow one, those by its ends cancel.
"""

import math
from typing import Any

from hiermodels.engines.elementary import exponential, log_one_plus, loop, strict
from hiermodels.engines.normals import normal_tails

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@loop
def ordinal_logit(
    eta: Any, a: Any, b: Any, cuts: Any, low: Any, high: Any, d: Any, moved: Any
) -> float:
    """Return the value without that of the widths; a category, b weights.

    cuts: -inf, the cutpoints, inf, as very large numbers. moved: by category the derivatives by a
    shift of both ends, then by category those by the upper end; both are added to. low, high:
    scratch.
    """
    half = moved.shape[0] // 2
    rows = eta.shape[0]
    for i in range(rows):
        k = int(a[i])
        low[i], high[i] = cuts[k], cuts[k + 1]
    total = 0.0
    for i in range(rows):
        up, down = eta[i] - high[i], low[i] - eta[i]
        t, s = exponential(-abs(up)), exponential(-abs(down))
        near, other = 1.0 / (1.0 + t), 1.0 / (1.0 + s)
        # softplus of both, and its derivatives
        soft = max(up, 0.0) + log_one_plus(t) + max(down, 0.0) + log_one_plus(s)
        total -= b[i] * soft
        upper = near * (1.0 if up > 0.0 else t)
        lower = other * (1.0 if down > 0.0 else s)
        d[i] = b[i] * (lower - upper)
        high[i] = b[i] * upper
    for i in range(rows):
        k = int(a[i])
        moved[k] -= d[i]
        moved[half + k] += high[i]
    return total


@strict
def log_between(low: float, high: float, width: float) -> Any:
    """Return log(Phi(high) - Phi(low)), and its derivatives by a shift of both and by the width.

    An end may be infinite; then the derivative by a shift is that by the other end, and the one by
    the width that by the upper end.
    """
    if low == -math.inf and high == math.inf:
        return 0.0, 0.0, 0.0
    if low == -math.inf:
        value, slope = _log_normal(high)
        return value, slope, slope
    if high == math.inf:
        value, slope = _log_normal(-low)
        return value, -slope, 0.0
    middle = low + 0.5 * width
    if width * max(1.0, abs(middle)) < 0.02:
        # The density at the middle, times the width, and two terms of its series.
        m, w = middle * middle, width * width
        rest = w * ((m - 1.0) / 24.0 + w * ((m - 6.0) * m + 3.0) / 1920.0)
        by_middle = w * middle * (1.0 / 12.0 + w * (4.0 * m - 12.0) / 1920.0)
        by_width = width * ((m - 1.0) / 12.0 + w * ((m - 6.0) * m + 3.0) / 480.0)
        value = math.log(width) - 0.5 * m - 0.9189385332046728 + math.log1p(rest)
        shift = by_middle / (1.0 + rest) - middle
        return value, shift, 1.0 / width + by_width / (1.0 + rest) + 0.5 * shift
    # Both ends to the side where the probabilities are small.
    flipped = middle > 0.0
    near, far = (-low, -high) if flipped else (high, low)
    log_near, near_slope = _log_normal(near)
    log_far, far_slope = _log_normal(far)
    ratio = math.exp(log_far - log_near)
    rest = -math.expm1(log_far - log_near)
    by_near, by_far = near_slope / rest, -far_slope * ratio / rest
    value = log_near + math.log(rest)
    if flipped:
        return value, -(by_near + by_far), -by_far
    return value, by_near + by_far, by_near


@strict
def _log_normal(z: float) -> Any:
    """Return log Phi(z) and its derivative."""
    low, low_slope, high, high_slope = normal_tails(abs(z))
    return (high, high_slope) if z > 0.0 else (low, low_slope)


@strict
def ordinal_probit(eta: Any, a: Any, b: Any, cuts: Any, widths: Any, d: Any, moved: Any) -> float:
    """Return the value; the rest as in `ordinal_logit`, with widths by category."""
    half = moved.shape[0] // 2
    total = 0.0
    for i in range(eta.shape[0]):
        k = int(a[i])
        value, shift, wider = log_between(cuts[k] - eta[i], cuts[k + 1] - eta[i], widths[k])
        total += b[i] * value
        d[i] = -b[i] * shift
        moved[k] += b[i] * shift
        moved[half + k] += b[i] * wider
    return total


@strict
def _log_mass(low: float, high: float, mean: float, sd: float) -> Any:
    """Return log P(low < Y < high) of a normal Y, and its derivatives by mean / sd and log sd."""
    width = (high - low) / sd
    a, b = (low - mean) / sd, (high - mean) / sd
    value, shift, wider = log_between(a, b, width)
    if low == -math.inf:
        return value, -shift, (-b * shift if high < math.inf else 0.0)
    if high == math.inf:
        return value, -shift, -a * shift
    return value, -shift, -a * shift - width * wider


@strict
def gaussian_bounded(
    eta: Any, x: Any, a: Any, b: Any, c: Any, r: Any, bounds: Any, n: int, lo: int, d: Any, e: Any
) -> float:
    """Return the value of censored and truncated rows; x log sigma.

    a response, b weights, c known variances, r relative precision; bounds, (4, n) from its start:
    code of censoring, upper ends, lower and upper bounds of truncation. A response that is only
    known to lie on one side of y lies within the bounds too.
    """
    total = 0.0
    for i in range(eta.shape[0]):
        own = math.exp(2.0 * x[i]) / r[i]
        variance = c[i] + own
        sd = math.sqrt(variance)
        code = bounds[lo + i]
        lower, upper = bounds[2 * n + lo + i], bounds[3 * n + lo + i]
        if code == 0.0:
            z = (a[i] - eta[i]) / sd
            value = -0.5 * z * z - math.log(sd) - 0.9189385332046728
            slope, scale = z, z * z - 1.0
        elif code < 0.0:
            value, slope, scale = _log_mass(lower, a[i], eta[i], sd)
        elif code == 1.0:
            value, slope, scale = _log_mass(a[i], upper, eta[i], sd)
        else:
            value, slope, scale = _log_mass(a[i], bounds[n + lo + i], eta[i], sd)
        if lower > -math.inf or upper < math.inf:
            inside, inside_slope, inside_scale = _log_mass(lower, upper, eta[i], sd)
            value -= inside
            slope -= inside_slope
            scale -= inside_scale
        total += b[i] * value
        d[i] = b[i] * slope / sd
        e[i] = b[i] * scale * (own / variance)
    return total

"""Elementary functions of PyTensor variables, exact far out, with gradients that stay finite."""

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

_LOG_2PI = float(np.log(2.0 * np.pi))
# Beyond it Stirling's series is exact to rounding, below it gamma functions lose no digits.
_LOG_FAR = float(np.log(200.0))
_TINY = 3e-308


def mean_of(link: str, eta: Any) -> Any:
    """Return the inverse link of a linear predictor, for means that are no probability."""
    functions = {
        "identity": lambda x: x,
        "log": pt.exp,
        "inverse": lambda x: 1.0 / x,
        "sqrt": lambda x: x**2,
    }
    return functions[link](eta)


def log_mean_of(link: str, eta: Any) -> Any:
    """Return the logarithm of a positive mean; not a number where the mean is negative."""
    return eta if link == "log" else pt.log(mean_of(link, eta))


def log_normal_cdf(x: Any) -> Any:
    """Return log Phi(x), exact in both tails (PyMC's own takes the root of 2 in float32)."""
    root = np.sqrt(2.0)
    # each branch is kept where its gradient is finite
    low = pt.minimum(x, -1.0)
    far = pt.log(0.5 * pt.erfcx(-low / root)) - 0.5 * low**2
    near = pt.log1p(-0.5 * pt.erfc(pt.maximum(x, -1.0) / root))
    return pt.switch(x < -1.0, far, near)


def log_success(link: str, eta: Any) -> Any:
    """Return the logarithm of a probability at its linear predictor."""
    functions = {
        "logit": lambda x: -pt.softplus(-x),
        "probit": log_normal_cdf,
        "cloglog": log_one_less_exp_exp,
    }
    return functions[link](eta)


def log_failure(link: str, eta: Any) -> Any:
    """Return the logarithm of one less a probability at its linear predictor."""
    functions = {
        "logit": lambda x: -pt.softplus(x),
        "probit": lambda x: log_normal_cdf(-x),
        "cloglog": lambda x: -pt.exp(x),
    }
    return functions[link](eta)


def log_one_less_exp_exp(x: Any) -> Any:
    """Return log(1 - exp(-exp(x)))."""
    # each branch is kept where its gradient is finite
    middle, high = pt.clip(x, -40.0, 0.0), pt.maximum(x, 0.0)
    near = pt.log(-pt.expm1(-pt.exp(middle)))
    far = pt.log1p(-pt.exp(-pt.exp(high)))
    return pt.switch(x < -40.0, x, pt.switch(x < 0.0, near, far))


def log_odds(link: str, eta: Any) -> Any:
    """Return the log odds of success: exact far out, where a probability rounds to 0 or 1."""
    if link == "logit":
        return eta
    return log_success(link, eta) - log_failure(link, eta)


def log_difference(larger: Any, smaller: Any) -> Any:
    """Return log(exp(larger) - exp(smaller)); a tiny number's logarithm where they are equal."""
    return larger + pm.math.log1mexp(pt.minimum(smaller - larger, -_TINY))


# --- gamma functions ------------------------------------------------------------------------


def _stirling(z: Any) -> Any:
    """Return lgamma(z) less (z - 1/2) log z - z + log(2 pi) / 2, for large z."""
    inverse = 1.0 / z
    square = inverse**2
    return inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680)))


def stirling_rest(log_z: Any) -> Any:
    """Return z log z - z - lgamma(z), which grows like log z only, by the logarithm of z."""
    low, high = pt.minimum(log_z, _LOG_FAR), pt.maximum(log_z, _LOG_FAR)
    z = pt.exp(low)
    near = z * low - z - pt.gammaln(z + 1.0) + low
    return pt.switch(log_z < _LOG_FAR, near, 0.5 * (high - _LOG_2PI) - _stirling(pt.exp(high)))


def log_rising(log_a: Any, y: Any) -> Any:
    """Return lgamma(a + y) - lgamma(a) by the logarithm of a, for y >= 0."""
    low, high = pt.minimum(log_a, _LOG_FAR), pt.exp(pt.maximum(log_a, _LOG_FAR))
    a = pt.exp(low)
    near = pt.gammaln(a + pt.maximum(y, 1e-300)) - pt.gammaln(a + 1.0) + low
    far = (high + y - 0.5) * pt.log1p(y / high) - y + y * pt.log(high)
    far = far + _stirling(high + y) - _stirling(high)
    return pt.switch(pt.eq(y, 0), 0.0, pt.switch(log_a < _LOG_FAR, near, far))

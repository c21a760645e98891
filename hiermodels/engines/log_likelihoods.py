"""Pointwise log likelihoods of families with a kernel and of those by level, as array functions.

They start from the linear predictor rather than the mean, so that they stay exact where a mean
rounds to 0, 1 or infinity. The samplers have kernels of their own; these serve whatever looks at a
fit afterwards.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiermodels.engines.response_levels import (
    categorical,
    dirichlet_multinomial,
    multinomial,
)
from hiermodels.engines.response_links import (
    LinkedFamily,
    cumulative_log_probabilities,
    log_complement,
    log_mean,
    mean,
)

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]
_LOG_2PI = float(np.log(2.0 * np.pi))
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_STIRLING_FROM = 15.0


def _times(count: Array, log_probability: Array) -> Array:
    """Return count times log probability; nothing counted is 0 even of an impossible event."""
    with np.errstate(invalid="ignore"):
        return np.where(count == 0, 0.0, count * log_probability)


def _log_choose(n: Array, k: Array) -> Array:
    """Return the logarithm of the binomial coefficient."""
    return np.asarray(-special.betaln(n - k + 1.0, k + 1.0) - np.log1p(n))


def _gaussian(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    sigma = p["sigma"]
    z = (y - mean(family, eta)) / sigma
    return -0.5 * (z * z + _LOG_2PI) - np.log(sigma)


def _t(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    sigma, nu = p["sigma"], p["nu"]
    z = (y - mean(family, eta)) / sigma
    constant = -special.betaln(0.5, 0.5 * nu) - 0.5 * np.log(nu) - np.log(sigma)
    return np.asarray(constant - 0.5 * (nu + 1.0) * np.log1p(z * z / nu))


def _binomial(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    hits = _times(y, log_mean(family, eta))
    return _log_choose(trials, y) + hits + _times(trials - y, log_complement(family, eta))


def _bernoulli(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    return _times(y, log_mean(family, eta)) + _times(1.0 - y, log_complement(family, eta))


def _shifted_beta(log_a: Array, log_b: Array, a: Array, b: Array, total: Array) -> Array:
    """Return log B(a, b) from the logarithms too, which still differ where a or b is zero.

    By B(a + 1, b + 1) = B(a, b) a b / ((a + b) (a + b + 1)).
    """
    return np.asarray(
        special.betaln(a + 1.0, b + 1.0) - log_a - log_b + np.log(total) + np.log1p(total)
    )


def _beta_binomial(
    family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array
) -> Array:
    phi = p["phi"]
    log_a, log_b = np.log(phi) + log_mean(family, eta), np.log(phi) + log_complement(family, eta)
    a, b = np.exp(log_a), np.exp(log_b)
    more, less = y + a, trials - y + b
    with np.errstate(divide="ignore"):
        log_more = np.where(y == 0, log_a, np.log(more))
        log_less = np.where(trials == y, log_b, np.log(less))
    after = _shifted_beta(log_more, log_less, more, less, trials + phi)
    return _log_choose(trials, y) + after - _shifted_beta(log_a, log_b, a, b, phi)


def _poisson(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    hits = _times(y, log_mean(family, eta))
    return np.asarray(hits - mean(family, eta) - special.gammaln(y + 1.0))


def _negativebinomial(
    family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array
) -> Array:
    shape = p["shape"]
    logit = log_mean(family, eta) - np.log(shape)
    constant = -special.betaln(shape, y + 1.0) - np.log(shape + y)
    counts = _times(y, special.log_expit(logit))
    return np.asarray(constant + counts + shape * special.log_expit(-logit))


def _stirling_error(a: Array) -> Array:
    """Return log gamma(a) - ((a - 1/2) log a - a + log(2 pi)/2), without cancellation."""
    large = np.maximum(a, _STIRLING_FROM)
    series = sum(c / large ** (2 * k + 1) for k, c in enumerate(_STIRLING))
    small = np.minimum(a, _STIRLING_FROM)
    direct = special.gammaln(small) - (small - 0.5) * np.log(small) + small - 0.5 * _LOG_2PI
    return np.where(a > _STIRLING_FROM, series, direct)


def _gamma(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    shape = p["shape"]
    gap = np.log(y) - log_mean(family, eta)
    constant = 0.5 * (np.log(shape) - _LOG_2PI) - _stirling_error(shape)
    return np.asarray(constant + shape * (gap - np.expm1(gap)) - np.log(y))


def _beta(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    phi = p["phi"]
    log_a, log_b = np.log(phi) + log_mean(family, eta), np.log(phi) + log_complement(family, eta)
    a, b = np.exp(log_a), np.exp(log_b)
    kernel = (a - 1.0) * np.log(y) + (b - 1.0) * np.log1p(-y)
    return np.asarray(kernel - _shifted_beta(log_a, log_b, a, b, phi))


def _cumulative(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    every = cumulative_log_probabilities(family, eta, p["cutpoints"])
    code = np.broadcast_to(y.astype(np.intp), every.shape[:-1])
    return np.take_along_axis(every, code[..., None], axis=-1)[..., 0]


def _zero_inflated(base: "LogLikelihood") -> "LogLikelihood":
    """Return the log likelihood of a count that is zero besides with probability zi."""

    def inflated(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
        with np.errstate(divide="ignore"):
            log_zi, log_rest = np.log(p["zi"]), np.log1p(-p["zi"])
        counted = log_rest + base(family, y, eta, p, trials)
        return np.where(y == 0, np.logaddexp(log_zi, counted), counted)

    return inflated


LogLikelihood = Callable[[LinkedFamily, Array, Array, Parameters, Array], Array]

LOG_LIKELIHOODS: dict[str, LogLikelihood] = {
    "gaussian": _gaussian,
    "t": _t,
    "bernoulli": _bernoulli,
    "binomial": _binomial,
    "beta_binomial": _beta_binomial,
    "poisson": _poisson,
    "negativebinomial": _negativebinomial,
    "gamma": _gamma,
    "beta": _beta,
    "cumulative": _cumulative,
    "zero_inflated_poisson": _zero_inflated(_poisson),
    "zero_inflated_negativebinomial": _zero_inflated(_negativebinomial),
    "categorical": categorical,
    "multinomial": multinomial,
    "dirichlet_multinomial": dirichlet_multinomial,
}
"""By family, from ``(family, y, eta, parameters, trials)`` to the pointwise log likelihood."""

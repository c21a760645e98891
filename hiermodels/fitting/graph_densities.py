"""Families' densities in a PyMC graph: by row, with distribution functions where they are defined.

A density takes the response, the linear predictor and the further parameters, each (n,) or one
value: positive parameters by their logarithms, probabilities by their log odds, cutpoints as they
are. Of a response by level one input holds the linear predictors of all levels (n, K). What PyMC's
own densities would lose far out is kept: mean and parameters enter as logarithms,
gamma functions in combinations that do not cancel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.tensor.type_other import NoneTypeT

from hiermodels.fitting.graph_functions import (
    log_difference,
    log_failure,
    log_mean_of,
    log_normal_cdf,
    log_odds,
    log_one_less_exp_exp,
    log_rising,
    log_success,
    mean_of,
    stirling_rest,
)
from hiermodels.fitting.graph_levels import (
    categorical_density,
    dirichlet_multinomial_density,
    multinomial_density,
)
from hiermodels.spec.families import Family

_LOG_PI = float(np.log(np.pi))
_LOG_2 = float(np.log(2.0))


@dataclass(frozen=True)
class RowDensity:
    """A family's density as functions of (value, linear predictor, *parameters).

    Attributes
    ----------
    log_density : callable
    draw : callable
        (linear predictor, *parameters, size) -> PyMC's distribution of the response.
    below, above : callable or None
        log P(Y <= value) and log P(Y >= value), where a response may be censored or truncated.
    signature : str or None
        Shapes of the parameters where one is no number a row.
    """

    log_density: Callable[..., Any]
    draw: Callable[..., Any]
    below: Callable[..., Any] | None = None
    above: Callable[..., Any] | None = None
    signature: str | None = None


def row_density(family: Family, trials: np.ndarray | None) -> RowDensity:
    """Return the density of a family's rows; ``trials`` (n,) of the families that have them."""
    link = family.link
    makers: dict[str, Callable[[], RowDensity]] = {
        "gaussian": lambda: _gaussian(link),
        "t": lambda: _student(link),
        "bernoulli": lambda: _binomial(link, None),
        "binomial": lambda: _binomial(link, trials),
        "beta_binomial": lambda: _beta_binomial(link, trials),
        "poisson": lambda: _poisson(link),
        "negativebinomial": lambda: _negative_binomial(link),
        "gamma": lambda: _gamma(link),
        "beta": lambda: _beta(link),
        "cumulative": lambda: _cumulative(link),
        "sratio": lambda: _stopping_ratio(link),
        "categorical": lambda: RowDensity(*categorical_density(), signature="(k)->()"),
        "multinomial": lambda: RowDensity(*multinomial_density(trials), signature="(k)->(k)"),
        "dirichlet_multinomial": lambda: RowDensity(
            *dirichlet_multinomial_density(trials), signature="(k)->(k)"
        ),
        "zero_inflated_poisson": lambda: _zero_inflated(_poisson(link)),
        "zero_inflated_negativebinomial": lambda: _zero_inflated(_negative_binomial(link)),
    }
    return makers[family.name]()


# --- real and positive responses ------------------------------------------------------------


def _gaussian(link: str) -> RowDensity:
    """Return the normal density; its parameter is the sd itself."""

    def score(y: Any, eta: Any, sd: Any) -> Any:
        return (y - mean_of(link, eta)) / sd

    return RowDensity(
        lambda y, eta, sd: pm.logp(pm.Normal.dist(mean_of(link, eta), sd), y),
        lambda eta, sd, size: pm.Normal.dist(mean_of(link, eta), sd, size=size),
        lambda y, eta, sd: log_normal_cdf(score(y, eta, sd)),
        lambda y, eta, sd: log_normal_cdf(-score(y, eta, sd)),
    )


def _student(link: str) -> RowDensity:
    """Return Student's t by log sigma and log nu."""

    def log_density(y: Any, eta: Any, log_sigma: Any, log_nu: Any) -> Any:
        distance = pt.maximum(pt.abs(y - mean_of(link, eta)), 1e-150)
        square = 2.0 * (pt.log(distance) - log_sigma) - log_nu
        constant = log_rising(log_nu - _LOG_2, 0.5) - 0.5 * (log_nu + _LOG_PI) - log_sigma
        return constant - 0.5 * (pt.exp(log_nu) + 1.0) * pt.softplus(square)

    def below(score: Any, log_nu: Any) -> Any:
        nu = pt.exp(log_nu)
        share = nu / (nu + score**2)
        tail = 0.5 * pt.betainc(0.5 * nu, 0.5, share)
        return pt.switch(score < 0.0, pt.log(tail), pt.log1p(-tail))

    def scored(y: Any, eta: Any, log_sigma: Any) -> Any:
        return (y - mean_of(link, eta)) * pt.exp(-log_sigma)

    return RowDensity(
        log_density,
        lambda eta, log_sigma, log_nu, size: pm.StudentT.dist(
            nu=pt.exp(log_nu), mu=mean_of(link, eta), sigma=pt.exp(log_sigma), size=size
        ),
        lambda y, eta, log_sigma, log_nu: below(scored(y, eta, log_sigma), log_nu),
        lambda y, eta, log_sigma, log_nu: below(-scored(y, eta, log_sigma), log_nu),
    )


def _gamma(link: str) -> RowDensity:
    """Return the gamma density with variance mu^2 / shape, by log shape."""

    def log_density(y: Any, eta: Any, log_shape: Any) -> Any:
        shape = pt.exp(log_shape)
        ratio = pt.log(y) - log_mean_of(link, eta)
        return stirling_rest(log_shape) - shape * (pt.expm1(ratio) - ratio) - pt.log(y)

    def scaled(y: Any, eta: Any, log_shape: Any) -> Any:
        return y * pt.exp(log_shape - log_mean_of(link, eta))

    return RowDensity(
        log_density,
        lambda eta, log_shape, size: pm.Gamma.dist(
            alpha=pt.exp(log_shape), beta=pt.exp(log_shape - log_mean_of(link, eta)), size=size
        ),
        lambda y, eta, log_shape: pt.log(pt.gammainc(pt.exp(log_shape), scaled(y, eta, log_shape))),
        lambda y, eta, log_shape: pt.log(
            pt.gammaincc(pt.exp(log_shape), scaled(y, eta, log_shape))
        ),
    )


def _beta(link: str) -> RowDensity:
    """Return the beta density with alpha = mu phi, by log phi."""

    def shapes(eta: Any, log_phi: Any) -> tuple[Any, Any]:
        return (
            pt.exp(log_phi + log_success(link, eta)),
            pt.exp(log_phi + log_failure(link, eta)),
        )

    def log_density(y: Any, eta: Any, log_phi: Any) -> Any:
        a, b = shapes(eta, log_phi)
        success, failure = log_success(link, eta), log_failure(link, eta)
        rest = stirling_rest(log_phi + success) + stirling_rest(log_phi + failure)
        first = a * (pt.log(y) - success) - pt.log(y)
        second = b * (pt.log1p(-y) - failure) - pt.log1p(-y)
        return first + second + rest - stirling_rest(log_phi)

    def below(y: Any, eta: Any, log_phi: Any) -> Any:
        return pt.log(pt.betainc(*shapes(eta, log_phi), y))

    def above(y: Any, eta: Any, log_phi: Any) -> Any:
        a, b = shapes(eta, log_phi)
        return pt.log(pt.betainc(b, a, 1.0 - y))

    def draw(eta: Any, log_phi: Any, size: Any) -> Any:
        a, b = shapes(eta, log_phi)
        return pm.Beta.dist(alpha=a, beta=b, size=size)

    return RowDensity(log_density, draw, below, above)


# --- binary responses and trials ------------------------------------------------------------


def _binomial(link: str, trials: np.ndarray | None) -> RowDensity:
    """Return the binomial density; without trials there is one in each row."""
    n = np.int64(1) if trials is None else trials.astype(np.int64)

    def log_density(y: Any, eta: Any) -> Any:
        return _log_ways(n, y) + y * log_success(link, eta) + (n - y) * log_failure(link, eta)

    return RowDensity(
        log_density,
        lambda eta, size: pm.Binomial.dist(n=n, logit_p=log_odds(link, eta), size=size),
    )


def _log_ways(n: Any, y: Any) -> Any:
    """Return the logarithm of the binomial coefficient."""
    return pt.gammaln(n + 1.0) - pt.gammaln(y + 1.0) - pt.gammaln(n - y + 1.0)


def _beta_binomial(link: str, trials: np.ndarray | None) -> RowDensity:
    """Return the beta-binomial density with alpha = mu phi, by log phi."""
    n = np.int64(1) if trials is None else trials.astype(np.int64)

    def shapes(eta: Any, log_phi: Any) -> tuple[Any, Any]:
        return (
            pt.exp(log_phi + log_success(link, eta)),
            pt.exp(log_phi + log_failure(link, eta)),
        )

    def log_density(y: Any, eta: Any, log_phi: Any) -> Any:
        successes = log_rising(log_phi + log_success(link, eta), y)
        failures = log_rising(log_phi + log_failure(link, eta), n - y)
        return _log_ways(n, y) + successes + failures - log_rising(log_phi, n)

    def draw(eta: Any, log_phi: Any, size: Any) -> Any:
        a, b = shapes(eta, log_phi)
        return pm.BetaBinomial.dist(n=n, alpha=a, beta=b, size=size)

    return RowDensity(log_density, draw)


# --- counts ---------------------------------------------------------------------------------


def _poisson(link: str) -> RowDensity:
    """Return the Poisson density."""
    return RowDensity(
        lambda y, eta: y * log_mean_of(link, eta) - mean_of(link, eta) - pt.gammaln(y + 1.0),
        lambda eta, size: pm.Poisson.dist(mean_of(link, eta), size=size),
        lambda y, eta: pt.log(pt.gammaincc(y + 1.0, mean_of(link, eta))),
        lambda y, eta: pt.log(pt.gammainc(pt.maximum(y, 1e-300), mean_of(link, eta))),
    )


def _negative_binomial(link: str) -> RowDensity:
    """Return the negative binomial density with variance mu + mu^2 / shape, by log shape."""

    def log_density(y: Any, eta: Any, log_shape: Any) -> Any:
        shape, ratio = pt.exp(log_shape), log_mean_of(link, eta) - log_shape
        counts = log_rising(log_shape, y) - pt.gammaln(y + 1.0)
        return counts - y * pt.softplus(-ratio) - shape * pt.softplus(ratio)

    def shares(eta: Any, log_shape: Any) -> tuple[Any, Any, Any]:
        ratio = log_mean_of(link, eta) - log_shape
        return pt.exp(log_shape), pt.sigmoid(-ratio), pt.sigmoid(ratio)

    def below(y: Any, eta: Any, log_shape: Any) -> Any:
        shape, failure, _ = shares(eta, log_shape)
        return pt.log(pt.betainc(shape, y + 1.0, failure))

    def above(y: Any, eta: Any, log_shape: Any) -> Any:
        shape, _, success = shares(eta, log_shape)
        return pt.log(pt.betainc(pt.maximum(y, 1e-300), shape, success))

    return RowDensity(
        log_density,
        lambda eta, log_shape, size: pm.NegativeBinomial.dist(
            mu=mean_of(link, eta), alpha=pt.exp(log_shape), size=size
        ),
        below,
        above,
    )


def _zero_inflated(counts: RowDensity) -> RowDensity:
    """Return counts with added zeros; the last parameter is the log odds of an added zero."""

    def log_density(y: Any, eta: Any, *parameters: Any) -> Any:
        *own, zi = parameters
        kept, added = -pt.softplus(zi), -pt.softplus(-zi)
        density = kept + counts.log_density(y, eta, *own)
        # at zero the larger of two parts, and what the other adds to it
        at_zero = kept + counts.log_density(pt.zeros_like(y), eta, *own)
        return pt.switch(pt.eq(y, 0), added + pt.softplus(at_zero - added), density)

    def draw(eta: Any, *parameters: Any) -> Any:
        *own, zi, size = parameters
        kept = pm.Bernoulli.dist(logit_p=-zi, size=_shape(eta, size))
        return kept * counts.draw(eta, *own, size)

    return RowDensity(log_density, draw)


def _shape(eta: Any, size: Any) -> Any:
    """Return the shape of draws: one for each row, unless a size is asked for."""
    return eta.shape if size is None or isinstance(size.type, NoneTypeT) else size


# --- ordered categories ---------------------------------------------------------------------


def _cumulative(link: str) -> RowDensity:
    """Return ordered categories 0 to K - 1, P(Y <= k) = F(cutpoint_k - eta)."""

    def log_density(y: Any, eta: Any, cutpoints: Any) -> Any:
        last = cutpoints.shape[0]
        place = pt.cast(y, "int64")
        high = cutpoints[pt.minimum(place, last - 1)] - eta
        low = cutpoints[pt.maximum(place - 1, 0)] - eta
        first, end = pt.eq(place, 0), pt.eq(place, last)
        # at the ends there is one bound; the other is put out of its way
        inner_low = pt.switch(first | end, high - 1.0, low)
        between = _log_between(link, inner_low, high)
        ends = pt.switch(first, log_success(link, high), log_failure(link, low))
        return pt.switch(first | end, ends, between)

    def draw(eta: Any, cutpoints: Any, size: Any) -> Any:
        u = pm.Uniform.dist(size=_shape(eta, size))
        steps = pt.exp(log_success(link, cutpoints - eta[..., None]))
        return pt.sum(pt.cast(u[..., None] > steps, "int64"), axis=-1)

    return RowDensity(log_density, draw, signature="(),(k)->()")


def _stopping_ratio(link: str) -> RowDensity:
    """Return ordered categories reached one after another: P(Y = k | Y >= k) = F(c_k - eta)."""

    def log_density(y: Any, eta: Any, cutpoints: Any) -> Any:
        distance = cutpoints - eta[..., None]
        place = pt.cast(y, "int64")[..., None]
        k = pt.arange(cutpoints.shape[0])
        passed = pt.switch(k < place, log_failure(link, distance), 0.0)
        stopped = pt.switch(pt.eq(k, place), log_success(link, distance), 0.0)
        return pt.sum(passed + stopped, axis=-1)

    def draw(eta: Any, cutpoints: Any, size: Any) -> Any:
        stop = pt.exp(log_success(link, cutpoints - eta[..., None]))
        u = pm.Uniform.dist(size=pt.concatenate([_shape(eta, size), [cutpoints.shape[0]]]))
        goes_on = pt.cast(u > stop, "int64")
        return pt.sum(pt.cumprod(goes_on, axis=-1), axis=-1)

    return RowDensity(log_density, draw, signature="(),(k)->()")


def _log_between(link: str, low: Any, high: Any) -> Any:
    """Return log(F(high) - F(low)), exact in both tails."""
    if link == "logit":
        gap = pm.math.log1mexp(pt.minimum(low - high, -1e-300))
        return gap - pt.softplus(-high) - pt.softplus(low)
    if link == "cloglog":
        # exp(-e^low) - exp(-e^high)
        return log_one_less_exp_exp(log_difference(high, low)) - pt.exp(low)
    # on the side where both are tails
    upper = low + high > 0.0
    a = pt.switch(upper, -high, low)
    b = pt.switch(upper, -low, high)
    return log_difference(log_normal_cdf(b), log_normal_cdf(a))

"""Responses that were recorded as bounds, or only within bounds: censoring and truncation.

Bounds are included, which matters for counts: a count censored on the right at 3 is 3 or more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from hiermodels.engines.response_links import (
    LinkedFamily,
    complement,
    log_difference,
    log_mean,
    mean,
)
from hiermodels.engines.responses import log_likelihood
from hiermodels.errors import EngineError

Array = NDArray[np.float64]
Parameters = Mapping[str, Any]

COUNTS: frozenset[str] = frozenset({"poisson", "negativebinomial"})
"""Families of whole numbers, for which a bound has probability of its own."""

# Smaller tails are summed from their first terms.
_TINY = 1e-290
_TERMS = 60


def _log_gamma_tails(a: Array, log_x: Array) -> tuple[Array, Array]:
    """Return the logs of the regularised incomplete gamma functions, lower and upper."""
    x = np.exp(log_x)
    lower, upper = special.gammainc(a, x), special.gammaincc(a, x)
    front = a * log_x - x - special.gammaln(a + 1.0)
    # x^a e^-x / gamma(a + 1) times 1 + x/(a + 1) + ...; the upper tail's terms fall by (a - k)/x
    rising, falling = np.ones_like(front), np.ones_like(front)
    term = np.ones_like(front)
    other = np.ones_like(front)
    for k in range(1, _TERMS):
        term = term * np.minimum(x / (a + k), 1.0)
        rising = rising + term
        other = other * np.clip((a - k) / x, -1.0, 1.0)
        falling = falling + other
    low = np.where(lower < _TINY, front + np.log(rising), np.log(lower))
    high = front + np.log(a) - log_x + np.log(np.maximum(falling, _TINY))
    return low, np.where(upper < _TINY, high, np.log(upper))


def _log_beta_lower(a: Array, b: Array, x: Array, log_x: Array, rest: Array) -> Array:
    """Return the log of the regularised incomplete beta function at x = 1 - rest."""
    usual = special.betainc(a, b, x)
    with np.errstate(divide="ignore"):
        front = a * log_x + b * np.log(rest) - np.log(a) - special.betaln(a, b)
    series, term = np.ones_like(front), np.ones_like(front)
    for k in range(_TERMS):
        term = term * (a + b + k) / (a + 1.0 + k) * x
        series = series + term
    return np.where(usual < _TINY, front + np.log(series), np.log(usual))


def _gaussian(family: LinkedFamily, y: Array, eta: Array, p: Parameters) -> tuple[Array, Array]:
    z = (y - mean(family, eta)) / p["sigma"]
    return special.log_ndtr(z), special.log_ndtr(-z)


def _t(family: LinkedFamily, y: Array, eta: Array, p: Parameters) -> tuple[Array, Array]:
    z = (y - mean(family, eta)) / p["sigma"]
    nu = np.asarray(p["nu"], dtype=np.float64)
    squared = z * z
    x, rest = nu / (nu + squared), squared / (nu + squared)
    log_x = -np.log1p(squared / nu)
    half = np.broadcast_to(np.asarray(0.5), z.shape)
    outer = _log_beta_lower(0.5 * nu + 0.0 * z, half, x, log_x, rest) - np.log(2.0)
    inner = np.log1p(-np.exp(outer))
    return np.where(z < 0, outer, inner), np.where(z < 0, inner, outer)


def _gamma(family: LinkedFamily, y: Array, eta: Array, p: Parameters) -> tuple[Array, Array]:
    log_x = np.log(p["shape"]) + np.log(y) - log_mean(family, eta)
    return _log_gamma_tails(p["shape"] + 0.0 * log_x, log_x)


def _beta(family: LinkedFamily, y: Array, eta: Array, p: Parameters) -> tuple[Array, Array]:
    a, b = p["phi"] * mean(family, eta), p["phi"] * complement(family, eta)
    lower = _log_beta_lower(a, b, y + 0.0 * a, np.log(y), 1.0 - y)
    return lower, _log_beta_lower(b, a, 1.0 - y + 0.0 * a, np.log1p(-y), y)


def _poisson(family: LinkedFamily, y: Array, eta: Array, p: Parameters) -> tuple[Array, Array]:
    count = np.floor(y)
    above, below = _log_gamma_tails(np.maximum(count, 0.0) + 1.0 + 0.0 * eta, log_mean(family, eta))
    return np.where(count < 0, -np.inf, below), np.where(count < 0, 0.0, above)


def _negativebinomial(
    family: LinkedFamily, y: Array, eta: Array, p: Parameters
) -> tuple[Array, Array]:
    count = np.floor(y)
    logit = log_mean(family, eta) - np.log(p["shape"])
    up, down = special.expit(logit), special.expit(-logit)
    a = p["shape"] + 0.0 * logit
    b = np.maximum(count, 0.0) + 1.0 + 0.0 * logit
    below = _log_beta_lower(a, b, down, special.log_expit(-logit), up)
    above = _log_beta_lower(b, a, up, special.log_expit(logit), down)
    return np.where(count < 0, -np.inf, below), np.where(count < 0, 0.0, above)


_Tails = Callable[[LinkedFamily, Array, Array, Parameters], tuple[Array, Array]]
_TAILS: dict[str, _Tails] = {
    "gaussian": _gaussian,
    "t": _t,
    "gamma": _gamma,
    "beta": _beta,
    "poisson": _poisson,
    "negativebinomial": _negativebinomial,
}


def log_tails(
    family: LinkedFamily,
    y: ArrayLike,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
) -> tuple[Array, Array]:
    """Return log P(Y <= y) and log P(Y > y).

    Parameters
    ----------
    family : Family
        gaussian, t, gamma, beta, poisson or negativebinomial.
    y : array_like (n,)
    eta : array_like (..., n)
    parameters : mapping of str to array_like
        As for :func:`hiermodels.engines.responses.log_likelihood`.

    Raises
    ------
    EngineError
        The family has no distribution function here.

    Examples
    --------
    >>> from hiermodels import Family
    >>> below, above = log_tails(Family("poisson"), 0.0, 0.0, {})
    >>> float(below), float(above)
    (-1.0, -0.458675)
    """
    tails = _TAILS.get(family.name)
    if tails is None:
        raise EngineError(
            f"The family {family.name!r} has no distribution function here; {', '.join(_TAILS)} "
            "have one."
        )
    values = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        low, high = tails(
            family, np.asarray(y, dtype=np.float64), np.asarray(eta, dtype=np.float64), values
        )
    return np.asarray(low), np.asarray(high)


def log_between(
    family: LinkedFamily,
    lower: ArrayLike | None,
    upper: ArrayLike | None,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
) -> Array:
    """Return log P(lower <= Y <= upper); a bound that is None is infinitely far.

    Parameters
    ----------
    family, eta, parameters
        As for :func:`log_tails`.
    lower, upper : array_like (n,) or None

    Returns
    -------
    ndarray (..., n)

    Notes
    -----
    The difference is taken in the tail where both ends lie, so that it does not cancel.
    """
    if lower is None and upper is None:
        return np.zeros(np.shape(eta))
    if lower is None:
        return log_tails(family, np.asarray(upper, dtype=np.float64), eta, parameters)[0]
    # below a count's lower bound lies the number before it
    start = np.asarray(lower, dtype=np.float64)
    start = np.ceil(start) - 1.0 if family.name in COUNTS else start
    below_start, from_start = log_tails(family, start, eta, parameters)
    if upper is None:
        return from_start
    below_end, from_end = log_tails(family, np.asarray(upper, np.float64), eta, parameters)
    upper_half = below_start > -np.log(2.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(
            upper_half,
            log_difference(from_start, from_end),
            log_difference(below_end, below_start),
        )


def bounded_log_likelihood(
    family: LinkedFamily,
    y: ArrayLike,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
    *,
    kind: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    bounds: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    weights: ArrayLike | None = None,
) -> Array:
    """Return the log likelihood of each observation under censoring and truncation.

    Parameters
    ----------
    family, y, eta, parameters, weights
        As for :func:`hiermodels.engines.responses.log_likelihood`.
    kind : array_like of int (n,), optional
        0 observed, -1 the response is ``y`` or less, 1 ``y`` or more, 2 from ``y`` to ``upper``.
    upper : array_like (n,), optional
        Ends of intervals.
    bounds : (array_like or None, array_like or None)
        Within which responses are recorded at all.

    Returns
    -------
    ndarray (..., n)

    Examples
    --------
    >>> from hiermodels import Family
    >>> found = bounded_log_likelihood(Family("poisson"), [0.0, 0.0], [0.0, 0.0], {}, kind=[0, -1])
    >>> found.tolist()
    [-1.0, -1.0]
    """
    found = log_likelihood(family, y, eta, parameters)
    if kind is not None:
        code = np.asarray(kind)
        end = y if upper is None else upper
        found = np.where(code == -1, log_between(family, None, y, eta, parameters), found)
        found = np.where(code == 1, log_between(family, y, None, eta, parameters), found)
        found = np.where(code == 2, log_between(family, y, end, eta, parameters), found)
    if any(bound is not None for bound in bounds):
        found = found - log_between(family, *bounds, eta, parameters)
    return found if weights is None else np.asarray(found * np.asarray(weights))


# --- draws --------------------------------------------------------------------------------------

_QUANTILES: dict[str, Callable[[LinkedFamily, Array, Array, Parameters], Any]] = {
    "gaussian": lambda f, q, eta, p: mean(f, eta) + p["sigma"] * special.ndtri(q),
    "t": lambda f, q, eta, p: mean(f, eta) + p["sigma"] * special.stdtrit(p["nu"], q),
    "gamma": lambda f, q, eta, p: mean(f, eta) / p["shape"] * special.gammaincinv(p["shape"], q),
    "beta": lambda f, q, eta, p: special.betaincinv(
        p["phi"] * mean(f, eta), p["phi"] * complement(f, eta), q
    ),
    "poisson": lambda f, q, eta, p: stats.poisson.ppf(q, mean(f, eta)),
    "negativebinomial": lambda f, q, eta, p: stats.nbinom.ppf(
        q, p["shape"], special.expit(np.log(p["shape"]) - log_mean(f, eta))
    ),
}


def draw_truncated(
    family: LinkedFamily,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
    bounds: tuple[ArrayLike | None, ArrayLike | None],
    rng: np.random.Generator,
) -> Array:
    """Draw responses within bounds, by inverting the distribution function.

    Parameters
    ----------
    family, eta, parameters
        As for :func:`log_tails`.
    bounds : (array_like or None, array_like or None)
        Lowest and highest response, both included.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray (..., n)
        Where the bounds hold less than 1e-15 of the distribution, the nearer bound.
    """
    at = np.asarray(eta, dtype=np.float64)
    values = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    lower, upper = (None if b is None else np.asarray(b, dtype=np.float64) for b in bounds)
    start, end = np.zeros(at.shape), np.ones(at.shape)
    if lower is not None:
        before = np.ceil(lower) - 1.0 if family.name in COUNTS else lower
        start = np.exp(log_tails(family, before, at, values)[0]) + 0.0 * at
    if upper is not None:
        end = np.exp(log_tails(family, upper, at, values)[0]) + 0.0 * at
    shares = start + (end - start) * rng.random(np.broadcast_shapes(start.shape, end.shape))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        drawn = np.asarray(_QUANTILES[family.name](family, shares, at, values), dtype=np.float64)
    return np.clip(drawn, -np.inf if lower is None else lower, np.inf if upper is None else upper)

"""Quantiles and densities of priors, by SciPy."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hiermodels.errors import PriorError
from hiermodels.spec.distributions import JOINT, Prior
from hiermodels.spec.names import LOCAL, OVERALL, SLAB

Floats = npt.NDArray[np.float64]
_SEED = 20_060_301


@lru_cache(maxsize=1024)
def _frozen(prior: Prior, size: int) -> tuple[Any, bool]:
    """Return SciPy's distribution, and whether the prior is its half above zero."""
    v = prior.values
    if prior.name in ("HalfNormal", "Normal"):
        mu, sigma = (0.0, v[0]) if prior.name == "HalfNormal" else v
        return stats.norm(mu, sigma), prior.name == "HalfNormal"
    if prior.name in ("HalfStudentT", "StudentT"):
        nu, mu, sigma = (v[0], 0.0, v[1]) if prior.name == "HalfStudentT" else v
        return stats.t(nu, mu, sigma), prior.name == "HalfStudentT"
    if prior.name in ("HalfCauchy", "Cauchy"):
        alpha, beta = (0.0, v[0]) if prior.name == "HalfCauchy" else v
        return stats.cauchy(alpha, beta), prior.name == "HalfCauchy"
    if prior.name == "LKJ":
        # each correlation of an LKJ(eta) matrix of q effects is 2 Beta(a, a) - 1
        a = v[0] + 0.5 * size - 1.0
        return stats.beta(a, a, loc=-1.0, scale=2.0), False
    others: dict[str, Callable[[], Any]] = {
        "Laplace": lambda: stats.laplace(v[0], v[1]),
        "Exponential": lambda: stats.expon(scale=1.0 / v[0]),
        "Gamma": lambda: stats.gamma(v[0], scale=1.0 / v[1]),
        "InverseGamma": lambda: stats.invgamma(v[0], scale=v[1]),
        "LogNormal": lambda: stats.lognorm(v[1], scale=np.exp(v[0])),
        "Uniform": lambda: stats.uniform(v[0], v[1] - v[0]),
        "Beta": lambda: stats.beta(v[0], v[1]),
    }
    if prior.name not in others:
        raise PriorError(f"The prior {prior} has no density of one number.")
    return others[prior.name](), False


def prior_support(prior: Prior) -> tuple[float, float]:
    """Return the ends of a prior's support.

    Parameters
    ----------
    prior : Prior
        For LKJ the support of each correlation.

    Examples
    --------
    >>> prior_support(Prior("HalfNormal", 1.0))
    (0.0, inf)
    """
    if prior.support == "interval":
        low, high = prior.values
        return low, high
    whole = (-np.inf, np.inf)
    ends = {"real": whole, "shrinkage": whole, "positive": (0.0, np.inf), "unit": (0.0, 1.0)}
    return ends.get(prior.support, (-1.0, 1.0))


def prior_quantile(prior: Prior, p: npt.ArrayLike, size: int = 2) -> Floats:
    """Return quantiles of a prior.

    Parameters
    ----------
    prior : Prior
    p : array_like
        Probabilities.
    size : int
        For LKJ, the number of effects: the quantiles are those of one correlation.

    Raises
    ------
    PriorError
        The prior has no quantiles.

    Examples
    --------
    >>> round(float(prior_quantile(Prior("HalfNormal", 2.0), 0.5)), 6)
    1.34898
    """
    p = np.asarray(p, dtype=np.float64)
    if prior.name == JOINT:
        raise PriorError(
            f"The prior {prior} is one of all coefficients and sds together: how wide one of them "
            "is hangs on how many there are. hm.prior_implied(model) draws what follows from it."
        )
    if prior.support == "shrinkage":
        return _shrunk_quantile(prior, p)
    found, half = _frozen(prior, size)
    return np.asarray(found.ppf(0.5 * (1.0 + p) if half else p), dtype=np.float64)


def prior_density(prior: Prior, x: npt.ArrayLike, size: int = 2) -> Floats:
    """Return a prior's density.

    Parameters
    ----------
    prior : Prior
    x : array_like
    size : int
        For LKJ, the number of effects: the density is that of one correlation.

    Raises
    ------
    PriorError
        The prior has no density of one number.

    Examples
    --------
    >>> round(float(prior_density(Prior("HalfNormal", 1.0), 0.0)), 6)
    0.797885
    """
    found, half = _frozen(prior, size)
    x = np.asarray(x, dtype=np.float64)
    density = np.asarray(found.pdf(x), dtype=np.float64)
    return np.where(x < 0, 0.0, 2.0 * density) if half else density


def prior_log_density(prior: Prior, x: npt.ArrayLike) -> Floats:
    """Return the log of a prior's density, -inf outside its support.

    Parameters
    ----------
    prior : Prior
        Of one number: for LKJ see :func:`correlation_log_density`.
    x : array_like

    Raises
    ------
    PriorError
        The prior has no density of one number.

    Examples
    --------
    >>> round(float(prior_log_density(Prior("Exponential", 2.0), 1.0)), 6)
    -1.306853
    """
    if prior.name == "LKJ":
        raise PriorError(f"{prior} is a prior of a matrix; it has no density of one number.")
    found, half = _frozen(prior, 2)
    x = np.asarray(x, dtype=np.float64)
    density = np.asarray(found.logpdf(x), dtype=np.float64)
    return np.where(x < 0, -np.inf, density + np.log(2.0)) if half else density


def correlation_log_density(eta: float, matrices: Floats) -> Floats:
    """Return the log density of an LKJ prior, up to a constant that depends on eta and size.

    Parameters
    ----------
    eta : float
    matrices : ndarray (..., q, q)
        Correlation matrices.

    Notes
    -----
    Lewandowski, Kurowicka and Joe (2009), https://doi.org/10.1016/j.jmva.2009.04.008.

    Examples
    --------
    >>> round(float(correlation_log_density(3.0, np.array([[1.0, 0.5], [0.5, 1.0]]))), 6)
    -0.575364
    """
    sign, logdet = np.linalg.slogdet(matrices)
    # a matrix that rounding made singular is as good as the least determinant that doubles hold
    logdet = np.where((sign > 0) & np.isfinite(logdet), logdet, -700.0)
    return np.asarray((eta - 1.0) * logdet)


def draw_prior(prior: Prior, size: int, rng: np.random.Generator) -> Floats:
    """Return independent draws of a prior of one number, (size,).

    Parameters
    ----------
    prior : Prior
    size : int
    rng : numpy.random.Generator

    Examples
    --------
    >>> draw_prior(Prior("HalfNormal", 1.0), 3, np.random.default_rng(1)).min() > 0
    np.True_
    """
    return prior_quantile(prior, rng.uniform(size=size))


# --- shrinkage: normal scale mixtures of all coefficients together ------------------------------


def shrinkage_scale(priors: Sequence[Prior], overall: Any, local: Any, slab: Any) -> Any:
    """Return the sds of coefficients under a regularised horseshoe, given its scales.

    Parameters
    ----------
    priors : sequence of Prior
        Of each coefficient: Horseshoe, with scales in units of the coefficient.
    overall, local, slab : ndarray or tensor
        Of the whole (..., 1), of each coefficient (..., K), and of the slab (..., 1): half
        Student t, half Student t and inverse gamma of scale one.

    Notes
    -----
    Piironen and Vehtari (2017), https://doi.org/10.1214/17-EJS1337SI, eq. 2.8.
    """
    arguments = [dict(prior.arguments) for prior in priors]
    width = np.array([own["scale_global"] for own in arguments]) * overall * local
    limit = np.array([own["scale_slab"] for own in arguments]) ** 2 * slab
    return width / (1.0 + width**2 / limit) ** 0.5


def draw_coefficients(
    priors: Sequence[Prior], size: int, rng: np.random.Generator, sds: Floats | None = None
) -> tuple[Floats, dict[str, Floats]]:
    """Return draws of coefficients, and of the scales that they share.

    Parameters
    ----------
    priors : sequence of Prior
    size : int
    rng : numpy.random.Generator
    sds : ndarray (size, C), optional
        Of the coefficients under R2D2M2, first among all of its parts.

    Returns
    -------
    coefficients : ndarray (size, K)
    scales : dict of str to ndarray (size, ...)
        Of a horseshoe, by the names under which they are published.
    """
    found = np.empty((size, len(priors)))
    scales: dict[str, Floats] = {}
    shrunk = [k for k, prior in enumerate(priors) if prior.support == "shrinkage"]
    for k, prior in enumerate(priors):
        if k not in shrunk:
            found[:, k] = draw_prior(prior, size, rng)
    if not shrunk:
        return found, scales
    own = [priors[k] for k in shrunk]
    if own[0].name == JOINT:
        if sds is None:
            raise PriorError(f"The prior {own[0]} gives no sds of coefficients on their own.")
        scale = sds[:, : len(own)]
    else:
        shared = dict(own[0].arguments)
        overall = np.abs(rng.standard_t(shared["df_global"], (size, 1)))
        local = np.abs(rng.standard_t(shared["df"], (size, len(own))))
        half = 0.5 * shared["df_slab"]
        slab = half / rng.gamma(half, size=(size, 1))
        scale = shrinkage_scale(own, overall, local, slab)
        scales = {OVERALL: overall[:, 0], LOCAL: local, SLAB: slab[:, 0]}
    found[:, shrunk] = scale * rng.standard_normal((size, len(own)))
    return found, scales


def _shrunk_quantile(prior: Prior, p: Floats) -> Floats:
    """Return quantiles of one coefficient under a horseshoe, from draws."""
    drawn, _ = draw_coefficients([prior], 100_000, np.random.default_rng(_SEED))
    ends = np.where(p <= 0.0, -np.inf, np.where(p >= 1.0, np.inf, 0.0))
    inner = np.quantile(drawn[:, 0], np.clip(p, 0.0, 1.0))
    return np.asarray(np.where(ends == 0.0, inner, ends))

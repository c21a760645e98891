"""Quantiles and densities of priors, by SciPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hiermodels.errors import PriorError
from hiermodels.spec.distributions import Prior

Floats = npt.NDArray[np.float64]


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
    found, half = _frozen(prior, size)
    p = np.asarray(p, dtype=np.float64)
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

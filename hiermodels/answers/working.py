"""Working weights: what each row says about its linear predictor, for each draw."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.own_rows import predictor_draws
from hiermodels.engines.response_links import (
    LinkedFamily,
    complement,
    cumulative_log_probabilities,
    mean,
)
from hiermodels.engines.responses import variance_response

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_TINY: Final = 1e-300
_SLOPES: dict[str, Callable[[Any], Any]] = {
    "identity": np.ones_like,
    "log": np.exp,
    "inverse": lambda eta: -1.0 / eta**2,
    "sqrt": lambda eta: 2.0 * eta,
    "logit": lambda eta: special.expit(eta) * special.expit(-eta),
    "probit": lambda eta: np.exp(-0.5 * eta**2) / np.sqrt(2.0 * np.pi),
    "cloglog": lambda eta: np.exp(eta - np.exp(eta)),
}


def row_weights(fit: Fitted) -> Callable[[Indices], Floats]:
    """Return a function from positions of draws (s,) to working weights (s, n).

    Parameters
    ----------
    fit : Fit
    """

    def weights(draws: Indices) -> Floats:
        design, family = fit.model.design, fit.model.family
        found = predictor_draws(fit, draws)
        values = working_weights(family, found.eta, found.parameters, design.trials)
        return values if design.weights is None else values * design.weights

    return weights


def working_weights(
    family: LinkedFamily,
    eta: Floats,
    parameters: Mapping[str, Floats],
    trials: Floats | None = None,
) -> Floats:
    """Return the expected information of each observation about its linear predictor.

    Parameters
    ----------
    family : Family
    eta : ndarray (..., n)
        Linear predictor of the mean.
    parameters : mapping of str to ndarray
        The family's further parameters, response scale, broadcasting against ``eta``.
    trials : ndarray (n,), optional

    Returns
    -------
    ndarray (..., n)
        For exponential families, Student's t, the beta and the cumulative ones the Fisher
        information; for beta-binomial and zero-inflated ones that of a quasi-likelihood,
        (d mean / d eta)^2 / variance, which is a lower bound of it. McCullagh and Nelder (1989),
        doi:10.1007/978-1-4899-3242-6.

    Examples
    --------
    >>> from hiermodels.spec.families import Family
    >>> working_weights(Family("bernoulli"), np.array([0.0]), {})
    array([0.25])
    """
    if family.name == "cumulative":
        return _cumulative(family, eta, parameters["cutpoints"])
    slope = mean_slope(family, eta)
    if family.name == "t":
        nu, sigma = parameters["nu"], parameters["sigma"]
        return np.asarray(slope**2 * (nu + 1.0) / ((nu + 3.0) * sigma**2))
    if family.name == "beta":
        phi = parameters["phi"]
        a = np.maximum(mean(family, eta) * phi, _TINY)
        b = np.maximum(complement(family, eta) * phi, _TINY)
        return np.asarray(slope**2 * phi**2 * (special.polygamma(1, a) + special.polygamma(1, b)))
    if trials is not None:
        slope = slope * trials
    if "zi" in parameters:
        slope = slope * (1.0 - parameters["zi"])
    variance = variance_response(family, eta, parameters, trials)
    # far out both vanish, the square of the slope faster
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.nan_to_num(slope**2 / np.maximum(variance, _TINY), posinf=0.0)


def mean_slope(family: LinkedFamily, eta: Floats) -> Floats:
    """Return the derivative of the mean by the linear predictor, elementwise."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.asarray(_SLOPES[family.link](np.asarray(eta)), dtype=np.float64)


def _cumulative(family: LinkedFamily, eta: Floats, cutpoints: Floats) -> Floats:
    """Return the Fisher information of ordered categories: sum of (dp_k / d eta)^2 / p_k."""
    probabilities = np.exp(cumulative_log_probabilities(family, eta, cutpoints))
    density = mean_slope(family, np.asarray(cutpoints)[..., None, :] - eta[..., None])
    edge = np.zeros((*density.shape[:-1], 1))
    change = np.diff(np.concatenate([edge, density, edge], axis=-1), axis=-1)
    return np.asarray(np.sum(change**2 / np.maximum(probabilities, _TINY), axis=-1))

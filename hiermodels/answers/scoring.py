"""Scores and information of a regression's rows about their linear predictors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hiermodels.answers.working import working_weights
from hiermodels.engines.responses import log_likelihood
from hiermodels.spec.families import Family

Floats = npt.NDArray[np.float64]

_VARIANCES: Final[dict[str, Callable[[Floats, Floats, Any], Floats]]] = {
    "gaussian": lambda mu, size, shape: np.ones_like(mu),
    "t": lambda mu, size, shape: np.ones_like(mu),
    "bernoulli": lambda mu, size, shape: mu * (1 - mu),
    "binomial": lambda mu, size, shape: mu * (1 - mu) / size,
    "poisson": lambda mu, size, shape: mu,
    "negativebinomial": lambda mu, size, shape: mu + mu**2 / shape,
    "gamma": lambda mu, size, shape: mu**2 / shape,
}
_BY_LIKELIHOOD: Final = frozenset(
    {
        "beta",
        "beta_binomial",
        "cumulative",
        "zero_inflated_poisson",
        "zero_inflated_negativebinomial",
    }
)
#: Families whose response lies between 0 and a number of trials.
SHARES: Final = frozenset({"bernoulli", "binomial", "beta_binomial"})
_COUNTS: Final = frozenset(
    {
        "poisson",
        "negativebinomial",
        "zero_inflated_poisson",
        "zero_inflated_negativebinomial",
    }
)
_TINY: Final = 1e-300
# Of central differences: their errors, h^2 and 1e-16 / h^2, are both about 1e-8.
_STEP: Final = 1e-4


@dataclass(frozen=True)
class Rows:
    """The response rows of a regression.

    Attributes
    ----------
    y : ndarray, shape (n,)
        Response; successes for the binomial family, codes 0 to K - 1 for the cumulative one.
    offset : ndarray, shape (n,)
        Everything in the linear predictor that is not estimated.
    size : ndarray, shape (n,)
        Trials, 1 elsewhere.
    precision : ndarray, shape (n,)
        Inverse residual variance (Gaussian), or the multiplier of the log likelihood.
    parameters : mapping of str to ndarray, shape (n,), or (K - 1,) for cutpoints
        The family's further parameters on the response scale, taken as known.
    """

    y: Floats
    offset: Floats
    size: Floats
    precision: Floats
    parameters: Mapping[str, Floats]


def known_family(family: Family) -> bool:
    """Return whether regressions of this family can be computed here."""
    return family.name in _VARIANCES or family.name in _BY_LIKELIHOOD


def starting_predictor(rows: Rows, family: Family) -> Floats:
    """Return linear predictors to start from (n,), with means inside the family's range."""
    share = rows.y / rows.size
    if family.name == "cumulative":
        return np.zeros_like(share)
    if family.name in SHARES:
        start = (rows.size * share + 0.5) / (rows.size + 1)
    elif family.name in _COUNTS:
        start = share + 0.1 * max(float(np.mean(share)), 1e-8)
    else:
        start = share
    return np.asarray(family.link_function(start), dtype=np.float64)


def score_and_information(eta: Floats, rows: Rows, family: Family) -> tuple[Floats, Floats]:
    """Return each row's score and information about its linear predictor, (n,) each.

    Parameters
    ----------
    eta : ndarray, shape (n,)
    rows : Rows
    family : Family

    Returns
    -------
    tuple of ndarray
        The derivative of the log likelihood, and the Fisher information. Of beta-binomial and
        zero-inflated rows the larger of the observed information and a lower bound of the
        expected one, so that no step is too long.
    """
    if family.name not in _VARIANCES:
        return _by_likelihood(eta, rows, family)
    mu, slope, variance = _mean_slope_variance(eta, rows, family)
    weight = np.nan_to_num(rows.precision * slope**2 / variance, posinf=0.0)
    with np.errstate(over="ignore"):
        score = rows.precision * slope * (rows.y / rows.size - mu) / variance
    return np.nan_to_num(score), weight


def _by_likelihood(eta: Floats, rows: Rows, family: Family) -> tuple[Floats, Floats]:
    """Return the two by differences of the log likelihood, which has no simple derivatives."""
    trials = rows.size if family.name == "beta_binomial" else None
    h = _STEP * np.maximum(1.0, np.abs(eta))

    def value(at: Floats) -> Floats:
        return log_likelihood(family, rows.y, at, rows.parameters, trials)

    below, middle, above = value(eta - h), value(eta), value(eta + h)
    score = (above - below) / (2.0 * h)
    observed = (2.0 * middle - above - below) / h**2
    bound = np.asarray(working_weights(family, eta, rows.parameters, trials))
    weight = bound if family.name in ("beta", "cumulative") else np.maximum(observed, bound)
    return np.nan_to_num(rows.precision * score), np.nan_to_num(rows.precision * weight)


def _mean_slope_variance(eta: Floats, rows: Rows, family: Family) -> tuple[Floats, Floats, Floats]:
    """Return the mean, its derivative by the linear predictor, and the unit variance."""
    mu = np.asarray(family.linkinv(eta), dtype=np.float64)
    if family.link == "identity":
        slope = np.ones_like(eta)
    elif family.link == "log":
        slope = mu
    elif family.link == "logit":
        slope = mu * (1 - mu)
    else:
        # A central difference: the fixed point of the scoring steps does not depend on its error.
        h = 1e-5 * np.maximum(1.0, np.abs(eta))
        slope = (np.asarray(family.linkinv(eta + h)) - np.asarray(family.linkinv(eta - h))) / (
            2 * h
        )
    slope = np.where(np.abs(slope) < _TINY, _TINY, slope)
    variance = _VARIANCES[family.name](mu, rows.size, rows.parameters.get("shape"))
    return mu, slope, np.maximum(variance, _TINY)

"""One quick regression of counts or successes, for what lint asks: Newton's method, canonical link.

Where it converges the likelihood has a maximum, so that nothing separates the response (Albert and
Anderson, 1984, https://doi.org/10.1093/biomet/71.1.1): an interior maximum of a concave function
excludes a direction along which it only grows.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
_SWEEPS: Final = 25
_GRADIENT: Final = 1e-8
_FARTHEST: Final = 30.0


@dataclass(frozen=True, eq=False)
class Quick:
    """A regression without groups.

    Attributes
    ----------
    mu : ndarray (n,)
        Means.
    converged : bool
        Whether the gradient vanished.
    """

    mu: Array
    converged: bool


def quick_regression(y: Array, trials: Array | None, X: Array, offset: Array) -> Quick:
    """Fit a Poisson (``trials`` None) or binomial regression by Newton's method.

    Parameters
    ----------
    y : ndarray (n,)
    trials : ndarray (n,) or None
    X : ndarray (n, p)
    offset : ndarray (n,)
    """
    X = X / np.maximum(np.abs(X).max(axis=0, initial=0.0), 1e-300)
    size = np.ones(len(y)) if trials is None else trials
    # one step of least squares from the data, as in generalised linear models
    eta = special.logit((y + 0.5) / (size + 1.0)) if trials is not None else np.log(y + 0.5)
    mu, weight = _mean(eta, trials)
    for _ in range(_SWEEPS if X.shape[1] else 0):
        hessian = (X.T * weight) @ X
        right = X.T @ (weight * (eta - offset) + y - mu)
        try:
            coefficients = np.linalg.solve(hessian, right)
        except np.linalg.LinAlgError:
            return Quick(mu, False)
        eta = np.clip(offset + X @ coefficients, -_FARTHEST, _FARTHEST)
        mu, weight = _mean(eta, trials)
        if np.abs(X.T @ (y - mu)).max() <= _GRADIENT * max(1.0, float(np.sum(np.abs(y)))):
            # at the clip the gradient vanishes by underflow, not at a maximum
            return Quick(mu, bool(np.abs(eta).max() < 0.5 * _FARTHEST))
    if not X.shape[1]:
        mu, _ = _mean(offset, trials)
    return Quick(mu, False)


def _mean(eta: Array, trials: Array | None) -> tuple[Array, Array]:
    """Return means and weights at linear predictors."""
    if trials is None:
        mu = np.exp(np.clip(eta, -_FARTHEST, _FARTHEST))
        return mu, mu
    share = special.expit(eta)
    return trials * share, trials * share * (1.0 - share)

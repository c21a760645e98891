"""Means of a function of a normal variable: group effects integrated out of an expectation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from hiermodels.errors import FitError

Floats = npt.NDArray[np.float64]

# The normal weight beyond it is 3e-12.
_REACH = 7.0
# Steps at which even the rule with half the nodes errs by 1e-9 at most: for the normal density, and
# for inverse links that are bounded in a strip of half-width pi (logit) or pi/2 (cloglog).
_STEP = 0.4
_LINK_STEPS = {"cloglog": 0.22}
_LINK_STEP = 0.45
_FINEST = 0.02


class Average(NamedTuple):
    """An average, and a bound on its numerical error.

    Attributes
    ----------
    value : ndarray (S, m) or (S, m, K)
    error : float
        Largest difference to the same rule with half the nodes; 0 where a formula is known.
    """

    value: Floats
    error: float


_FORMULAS: dict[str, Callable[[Floats, Floats], Any]] = {
    "identity": lambda centre, variance: centre,
    "log": lambda centre, variance: np.exp(centre + 0.5 * variance),
    "sqrt": lambda centre, variance: centre**2 + variance,
    "probit": lambda centre, variance: special.ndtr(centre / np.sqrt(1.0 + variance)),
}


def average_mean(
    link: str, inverse: Callable[[Floats], Floats], centre: Floats, variance: Floats
) -> Average:
    """Return the mean of an inverse link over a normal linear predictor.

    Parameters
    ----------
    link : str
    inverse : callable
        From (S, m) to (S, m), or to (S, m, K).
    centre, variance : ndarray (S, m)
        Of the linear predictor.

    Raises
    ------
    FitError
        The inverse link, whose mean does not exist.

    Notes
    -----
    The identity, log, probit and square-root links have formulas; the others are integrated by
    the trapezoidal rule, which converges exponentially here: Trefethen and Weideman (2014),
    https://doi.org/10.1137/130932132.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit
    >>> found = average_mean("logit", expit, np.array([[1.0]]), np.array([[4.0]]))
    >>> found.value.round(6).tolist(), found.error < 1e-9
    ([[0.647726]], True)
    """
    shaped = inverse(centre)
    if shaped.ndim == centre.ndim:
        if link == "inverse":
            raise FitError(
                "The mean of a response with the inverse link does not exist when normal group "
                "effects are averaged: a linear predictor of zero has positive density. Use "
                "groups='none', or groups='all' for the groups themselves."
            )
        known = _FORMULAS.get(link)
        if known is not None:
            return Average(np.asarray(known(centre, variance)), 0.0)
    largest = float(np.sqrt(np.max(variance, initial=0.0)))
    if largest == 0.0:
        return Average(shaped, 0.0)
    step = min(_STEP, _LINK_STEPS.get(link, _LINK_STEP) / largest)
    return _trapezoid(inverse, centre, np.sqrt(variance), max(step, _FINEST))


def _trapezoid(
    inverse: Callable[[Floats], Floats], centre: Floats, sd: Floats, step: float
) -> Average:
    """Return the trapezoidal rule, and how far every other node would have been off."""
    half = int(np.ceil(_REACH / step))
    at = step * np.arange(-half, half + 1)
    weights = np.exp(-0.5 * at**2)
    even = np.arange(-half, half + 1) % 2 == 0
    fine = coarse = np.zeros(())
    for z, weight, is_even in zip(at, weights, even, strict=True):
        part = weight * inverse(centre + z * sd)
        fine = fine + part
        if is_even:
            coarse = coarse + part
    value = fine / weights.sum()
    return Average(value, float(np.max(np.abs(value - coarse / weights[even].sum()))))

"""Means, their complements and their logarithms from a linear predictor, exact far out."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiermodels.errors import EngineError

Array = NDArray[np.float64]

# Below it 1 - exp(-exp(x)) is exp(x) to all digits but the ones that -exp(x)/2 mends.
_SMALL = -18.0


class LinkedFamily(Protocol):
    """The name of a family and of its link, as :class:`hiermodels.Family` has them."""

    # Properties, so that frozen dataclasses satisfy the protocol.

    @property
    def name(self) -> str:
        """Name of the family."""

    @property
    def link(self) -> str:
        """Name of the link of the mean."""


def log_difference(larger: Array, smaller: Array) -> Array:
    """Return log(exp(larger) - exp(smaller)), elementwise, for larger >= smaller."""
    gap = smaller - larger
    with np.errstate(divide="ignore"):
        near = np.log(-np.expm1(gap))
        far = np.log1p(-np.exp(gap))
    return np.asarray(larger + np.where(gap > -np.log(2.0), near, far))


def log_one_minus_exp_minus_exp(x: Array) -> Array:
    """Return log(1 - exp(-exp(x))), elementwise: the log probability of the cloglog link."""
    size = np.exp(x)
    return np.where(x < _SMALL, x - 0.5 * size, log_difference(np.zeros_like(size), -size))


_MEANS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda eta: eta,
    "log": np.exp,
    "inverse": np.reciprocal,
    "sqrt": np.square,
    "logit": special.expit,
    "probit": special.ndtr,
    "cloglog": lambda eta: -np.expm1(-np.exp(eta)),
}

_LOG_MEANS: dict[str, Callable[[Any], Any]] = {
    "identity": np.log,
    "log": lambda eta: eta,
    "inverse": lambda eta: -np.log(eta),
    "sqrt": lambda eta: 2.0 * np.log(np.abs(eta)),
    "logit": special.log_expit,
    "probit": special.log_ndtr,
    "cloglog": log_one_minus_exp_minus_exp,
}

_COMPLEMENTS: dict[str, Callable[[Any], Any]] = {
    "logit": lambda eta: special.expit(-eta),
    "probit": lambda eta: special.ndtr(-eta),
    "cloglog": lambda eta: np.exp(-np.exp(eta)),
}

_LOG_COMPLEMENTS: dict[str, Callable[[Any], Any]] = {
    "logit": lambda eta: special.log_expit(-eta),
    "probit": lambda eta: special.log_ndtr(-eta),
    "cloglog": lambda eta: -np.exp(eta),
}


def mean(family: LinkedFamily, eta: Array) -> Array:
    """Return the inverse link, elementwise; overflow is infinite."""
    return _apply(_MEANS, family, eta)


def log_mean(family: LinkedFamily, eta: Array) -> Array:
    """Return the logarithm of the inverse link, elementwise; NaN of a negative mean."""
    return _apply(_LOG_MEANS, family, eta)


def complement(family: LinkedFamily, eta: Array) -> Array:
    """Return 1 minus the inverse link of a probability, elementwise."""
    return _apply(_COMPLEMENTS, family, eta)


def log_complement(family: LinkedFamily, eta: Array) -> Array:
    """Return the logarithm of 1 minus the inverse link of a probability, elementwise."""
    return _apply(_LOG_COMPLEMENTS, family, eta)


def _apply(table: dict[str, Callable[[Any], Any]], family: LinkedFamily, eta: Array) -> Array:
    """Return a link's function at a linear predictor."""
    function = table.get(family.link)
    if function is None:
        raise EngineError(
            f"The family {family.name!r} has the link {family.link!r}, which is not among "
            f"{', '.join(table)}."
        )
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.asarray(function(np.asarray(eta, dtype=np.float64)), dtype=np.float64)


def cumulative_log_probabilities(family: LinkedFamily, eta: Array, cutpoints: Array) -> Array:
    """Return the log probability of each category.

    Parameters
    ----------
    family : Family
        With the link ``logit``, ``probit`` or ``cloglog``: P(Y <= k) = F(cutpoint_k - eta).
    eta : ndarray (..., n)
    cutpoints : ndarray (..., K - 1)
        Ascending; no axis of rows.

    Returns
    -------
    ndarray (..., n, K)
    """
    x = np.asarray(cutpoints)[..., None, :] - np.asarray(eta)[..., None]
    lower, upper = x[..., :-1], x[..., 1:]
    first, last = log_mean(family, x[..., :1]), log_complement(family, x[..., -1:])
    if family.link == "logit":
        # F(u) - F(l) = F(u) (1 - F(l)) (1 - exp(l - u)), without cancellation anywhere
        gap = np.log(-np.expm1(lower - upper))
        middle = special.log_expit(upper) + special.log_expit(-lower) + gap
    elif family.link == "probit":
        # in the upper tail both are mirrored, where logarithms tell them apart
        flip = lower + upper > 0
        high, low = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
        middle = log_difference(special.log_ndtr(high), special.log_ndtr(low))
    else:
        with np.errstate(over="ignore", divide="ignore"):
            gap = upper + np.log(-np.expm1(lower - upper))
            middle = -np.exp(lower) + log_one_minus_exp_minus_exp(gap)
    return np.concatenate([first, middle, last], axis=-1)

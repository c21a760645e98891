"""Link functions: from a mean or a parameter to its linear predictor, and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]


def _cloglog(mu: Array) -> Array:
    return np.asarray(np.log(-np.log1p(-mu)), dtype=np.float64)


def _square(eta: Array) -> Array:
    return np.asarray(eta**2, dtype=np.float64)


def _identity(value: Array) -> Array:
    return value


def _reciprocal(value: Array) -> Array:
    return np.asarray(1.0 / value, dtype=np.float64)


def _inverse_square(mu: Array) -> Array:
    return np.asarray(1.0 / mu**2, dtype=np.float64)


def _inverse_root(eta: Array) -> Array:
    return np.asarray(1.0 / np.sqrt(eta), dtype=np.float64)


LINKS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "identity": (_identity, _identity),
    "log": (np.log, np.exp),
    "inverse": (_reciprocal, _reciprocal),
    "inverse_squared": (_inverse_square, _inverse_root),
    "sqrt": (np.sqrt, _square),
    "logit": (special.logit, special.expit),
    "probit": (special.ndtri, special.ndtr),
    "cloglog": (_cloglog, lambda eta: -np.expm1(-np.exp(eta))),
}
"""Link and inverse link by name, elementwise."""

"""Log likelihoods of responses with derivatives by the mean, and means by the linear predictor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
HALF_LOG_2PI: Final = 0.5 * float(np.log(2.0 * np.pi))


class Rows(Protocol):
    """A response with its family."""

    @property
    def family(self) -> str:
        """Its name."""

    @property
    def y(self) -> Array:
        """Response (n,)."""

    @property
    def trials(self) -> Array | None:
        """Trials (n,)."""

    @property
    def size(self) -> Array:
        """Trials, 1 without."""

    @property
    def precision(self) -> Array | None:
        """Known precision (n,)."""


def choices(rows: Rows) -> Array:
    """Return the logarithms of the binomial coefficients."""
    if rows.trials is None:
        return np.zeros_like(rows.y)
    n, y = rows.trials, rows.y
    return np.asarray(
        special.gammaln(n + 1.0) - special.gammaln(y + 1.0) - special.gammaln(n - y + 1.0)
    )


def rising(y: Array, k: float) -> Array:
    """Return log(Gamma(y + k) / Gamma(k)) - y log k, without cancellation for large k."""
    if k < 1e6:
        return np.asarray(special.gammaln(y + k) - special.gammaln(k) - y * np.log(k))
    return np.asarray((y + k - 0.5) * np.log1p(y / k) - y - y / (12.0 * k * (y + k)))


def digamma_rise(y: Array, k: float) -> Array:
    """Return the derivative of log(Gamma(y + k) / Gamma(k)) by k."""
    if k < 1e6:
        return np.asarray(special.digamma(y + k) - special.digamma(k))
    return np.asarray(np.log1p(y / k) + 0.5 * y / (k * (y + k)))


@dataclass(frozen=True, eq=False)
class ByMean:
    """Derivatives of the log likelihood by the mean, and those by the family's parameter."""

    value: Array
    first: Array
    second: Array
    third: Array
    expected: Array
    value_phi: Any = 0.0
    first_phi: Any = 0.0
    second_phi: Any = 0.0


def _poisson(rows: Rows, mu: Array, _phi: float) -> ByMean:
    y = rows.y
    value = special.xlogy(y, mu) - mu - special.gammaln(y + 1.0)
    return ByMean(value, y / mu - 1.0, -y / mu**2, 2.0 * y / mu**3, 1.0 / mu)


def _negative_binomial(rows: Rows, mu: Array, phi: float) -> ByMean:
    y, k = rows.y, float(np.exp(phi))
    total, rest = y + k, mu + k
    value = (
        rising(y, k) - special.gammaln(y + 1.0) + special.xlogy(y, mu) - total * np.log1p(mu / k)
    )
    first = y / mu - total / rest
    second = -y / mu**2 + total / rest**2
    third = 2.0 * y / mu**3 - 2.0 * total / rest**3
    value_phi = k * (digamma_rise(y, k) - np.log1p(mu / k) + (mu - y) / rest)
    first_phi = k * (y - mu) / rest**2
    second_phi = k * (mu - k - 2.0 * y) / rest**3
    return ByMean(value, first, second, third, k / (mu * rest), value_phi, first_phi, second_phi)


def _gamma(rows: Rows, mu: Array, phi: float) -> ByMean:
    y, k = rows.y, float(np.exp(phi))
    ratio = y / mu
    value = k * (phi + np.log(ratio) - ratio) - special.gammaln(k) - np.log(y)
    first, second = k * (ratio - 1.0) / mu, k * (1.0 - 2.0 * ratio) / mu**2
    third = k * (6.0 * ratio - 2.0) / mu**3
    value_phi = k * (phi + 1.0 - special.digamma(k) + np.log(ratio) - ratio)
    return ByMean(value, first, second, third, k / mu**2, value_phi, first, second)


def _gaussian(rows: Rows, mu: Array, phi: float) -> ByMean:
    own = np.ones_like(mu) if rows.precision is None else rows.precision
    inverse = own * float(np.exp(-2.0 * phi))
    left = rows.y - mu
    value = -HALF_LOG_2PI - phi + 0.5 * np.log(own) - 0.5 * inverse * left**2
    first = inverse * left
    return ByMean(
        value, first, -inverse, np.zeros_like(mu), inverse, inverse * left**2 - 1.0,
        -2.0 * first, 2.0 * inverse,
    )  # fmt: skip


def _binomial(rows: Rows, mu: Array, _phi: float) -> ByMean:
    n, y = rows.size, rows.y
    rest, other = n - y, 1.0 - mu
    value = choices(rows) + special.xlogy(y, mu) + special.xlog1py(rest, -mu)
    return ByMean(
        value, y / mu - rest / other, -y / mu**2 - rest / other**2,
        2.0 * y / mu**3 - 2.0 * rest / other**3, n / (mu * other),
    )  # fmt: skip


BY_MEAN: Final[dict[str, Callable[[Rows, Array, float], ByMean]]] = {
    "bernoulli": _binomial,
    "binomial": _binomial,
    "poisson": _poisson,
    "negativebinomial": _negative_binomial,
    "gamma": _gamma,
    "gaussian": _gaussian,
}


def _exponential(eta: Array) -> tuple[Array, Array, Array, Array]:
    mu = np.exp(eta)
    return mu, mu, mu, mu


def _reciprocal(eta: Array) -> tuple[Array, Array, Array, Array]:
    mu = 1.0 / eta
    return mu, -(mu**2), 2.0 * mu**3, -6.0 * mu**4


def _straight(eta: Array) -> tuple[Array, Array, Array, Array]:
    none = np.zeros_like(eta)
    return eta, np.ones_like(eta), none, none


def _squared(eta: Array) -> tuple[Array, Array, Array, Array]:
    return eta**2, 2.0 * eta, np.full_like(eta, 2.0), np.zeros_like(eta)


# Mean and its first three derivatives.
INVERSES: Final[dict[str, Callable[[Array], tuple[Array, Array, Array, Array]]]] = {
    "identity": _straight,
    "log": _exponential,
    "sqrt": _squared,
    "inverse": _reciprocal,
}


def inside_range(rows: Rows, mu: Array) -> NDArray[np.bool_]:
    """Return which means the family can have."""
    if rows.family == "gaussian":
        return np.isfinite(mu)
    above = (mu > 0.0) | ((mu == 0.0) & (rows.y == 0.0) & (rows.family == "poisson"))
    return np.asarray(above & (mu < (1.0 if rows.family in ("bernoulli", "binomial") else np.inf)))

"""Log likelihoods of responses, row by row, with derivatives by the linear predictor.

Laplace's approximation needs the first two for its mode and the third for its gradient. Pairs of
family and link whose derivatives by way of the mean would cancel are written out by the linear
predictor; every other pair goes through the mean by the chain rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiermodels.engines.response_means import (
    BY_MEAN,
    HALF_LOG_2PI,
    INVERSES,
    choices,
    digamma_rise,
    inside_range,
    rising,
)
from hiermodels.errors import EngineError
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]

# Families with one parameter besides the mean, sampled as its logarithm, and its published name.
SCALES: Final = {"negativebinomial": "shape", "gamma": "shape", "gaussian": "sigma"}
FAMILIES: Final = ("bernoulli", "binomial", "poisson", *SCALES)


@dataclass(frozen=True, eq=False, repr=False)
class Derivatives(Brief):
    """Of each row's log likelihood at one linear predictor; all (n,).

    Attributes
    ----------
    value : ndarray
        -inf where the mean is not one of the family's.
    slope : ndarray
        First derivative by the linear predictor.
    curvature : ndarray
        Minus the second.
    bend : ndarray
        Derivative of ``curvature``.
    expected : ndarray
        Expected information, never negative.
    value_phi, slope_phi, curvature_phi : ndarray
        Derivatives of the first three by the logarithm of the family's parameter; zeros where it
        has none.
    """

    value: Array
    slope: Array
    curvature: Array
    bend: Array
    expected: Array
    value_phi: Array
    slope_phi: Array
    curvature_phi: Array


@dataclass(frozen=True, eq=False, repr=False)
class Response(Brief):
    """A response with its family and link, ready to be differentiated.

    Parameters
    ----------
    family, link : str
        ``"negativebinomial"`` and ``"gamma"`` have a ``shape``, ``"gaussian"`` a ``sigma``.
    y : ndarray (n,)
        Successes for binomial.
    trials : ndarray (n,), optional
    weights : ndarray (n,), optional
        Each row's log likelihood is multiplied by it.
    precision : ndarray (n,), optional
        Gaussian only: variance sigma^2 / precision.

    Raises
    ------
    EngineError
        The family or its link has no derivatives here.

    Examples
    --------
    >>> rows = Response("poisson", "log", np.array([2.0, 0.0]))
    >>> rows.derivatives(np.zeros(2)).slope
    array([ 1., -1.])
    """

    family: str
    link: str
    y: Array
    trials: Array | None = None
    weights: Array | None = None
    precision: Array | None = None

    def __post_init__(self) -> None:
        """Check the names."""
        if self.family not in FAMILIES:
            raise EngineError(
                f"There are no derivatives for the family {self.family!r}; there are for "
                f"{', '.join(FAMILIES)}."
            )
        if (self.family, self.link) not in _BY_PREDICTOR and self.link not in INVERSES:
            raise EngineError(
                f"There are no derivatives for the link {self.link!r} of the family "
                f"{self.family!r}; there are for {', '.join([*INVERSES, 'probit', 'cloglog'])}."
            )

    @property
    def scale(self) -> str | None:
        """The published name of the family's parameter besides the mean."""
        return SCALES.get(self.family)

    @property
    def size(self) -> Array:
        """Trials of each row; 1 without."""
        return np.ones_like(self.y) if self.trials is None else self.trials

    def derivatives(self, eta: Array, phi: float = 0.0) -> Derivatives:
        """Return the derivatives at a linear predictor (n,) that holds the offset.

        Parameters
        ----------
        eta : ndarray (n,)
        phi : float
            Logarithm of the family's parameter.
        """
        direct = _BY_PREDICTOR.get((self.family, self.link))
        with np.errstate(all="ignore"):
            found = direct(self, eta, phi) if direct else _chained(self, eta, phi)
        if self.weights is None:
            return found
        return Derivatives(*(getattr(found, name) * self.weights for name in _NAMES))

    def saturated(self, phi: float = 0.0) -> Array:
        """Return each row's log likelihood where its mean is the response itself (n,)."""
        mean = self.y / self.size if self.trials is not None else self.y
        with np.errstate(all="ignore"):
            value = BY_MEAN[self.family](self, mean, phi).value
        return value if self.weights is None else value * self.weights

    def variance(self, mu: Array, phi: float = 0.0) -> Array:
        """Return each row's variance (n,) at means (n,), of one trial for binomial.

        Parameters
        ----------
        mu : ndarray (n,)
        phi : float
            Logarithm of the family's parameter.
        """
        scale = float(np.exp(phi))
        if self.family == "gaussian":
            own = np.ones_like(mu) if self.precision is None else self.precision
            return np.asarray(scale**2 / own)
        if self.family in ("bernoulli", "binomial"):
            return self.size * mu * (1.0 - mu)
        if self.family == "gamma":
            return mu**2 / scale
        return mu + mu**2 / scale if self.family == "negativebinomial" else mu

    def simulate(self, mu: Array, phi: float, generator: np.random.Generator) -> Array:
        """Return responses (n,) drawn at means (n,), of one trial for binomial."""
        scale = float(np.exp(phi))
        if self.family == "gaussian":
            return generator.normal(mu, np.sqrt(self.variance(mu, phi)))
        if self.family in ("bernoulli", "binomial"):
            return generator.binomial(self.size.astype(np.int64), mu).astype(np.float64)
        if self.family == "gamma":
            return generator.gamma(scale, mu / scale)
        if self.family == "negativebinomial":
            mu = generator.gamma(scale, mu / scale)
        return generator.poisson(mu).astype(np.float64)

    def inverse_link(self, eta: Array) -> Array:
        """Return the mean (n,), of one trial for binomial."""
        with np.errstate(all="ignore"):
            if self.link in _MEANS:
                return np.asarray(_MEANS[self.link](eta), dtype=np.float64)
            return INVERSES[self.link](eta)[0]


_NAMES: Final = tuple(Derivatives.__dataclass_fields__)


# --- by the linear predictor ----------------------------------------------------------------


def _without_phi(value: Array, slope: Array, curvature: Array, bend: Array) -> Derivatives:
    """Return derivatives of a family without a parameter, whose curvature is never negative."""
    none = np.zeros_like(value)
    return Derivatives(value, slope, curvature, bend, np.maximum(curvature, 0.0), none, none, none)


def _logit(rows: Response, eta: Array, _phi: float) -> Derivatives:
    n, y = rows.size, rows.y
    tail = np.exp(-np.abs(eta))
    near = 1.0 / (1.0 + tail)
    far = tail * near
    up = eta > 0.0
    p, q = np.where(up, near, far), np.where(up, far, near)
    value = choices(rows) - np.where(up, n - y, y) * np.abs(eta) - n * np.log1p(tail)
    information = n * near * far
    # y q - (n - y) p: no term cancels another
    return _without_phi(value, y * q - (n - y) * p, information, information * (q - p))


def _mills(eta: Array) -> tuple[Array, Array, Array, Array]:
    """Return log Phi and minus its second derivative's like: value, slope, curvature, bend."""
    value = special.log_ndtr(eta)
    slope = np.exp(-0.5 * eta**2 - HALF_LOG_2PI - value)
    curvature = slope * (eta + slope)
    bend = slope * (1.0 - curvature) - curvature * (eta + slope)
    return value, slope, curvature, bend


def _probit(rows: Response, eta: Array, _phi: float) -> Derivatives:
    y, rest = rows.y, rows.size - rows.y
    up, down = _mills(eta), _mills(-eta)
    value = choices(rows) + _product(y, up[0]) + _product(rest, down[0])
    slope = y * up[1] - rest * down[1]
    found = _without_phi(value, slope, y * up[2] + rest * down[2], y * up[3] - rest * down[3])
    return _with_expected(found, rows.size * up[1] * down[1])


def _cloglog(rows: Response, eta: Array, _phi: float) -> Derivatives:
    y, rest = rows.y, rows.size - rows.y
    t = np.exp(np.minimum(eta, 700.0))
    small, sure = t < 1e-2, t > 700.0
    g = np.where(small, 1.0 - t / 2 + t**2 / 12 - t**4 / 720, t / np.expm1(np.minimum(t, 700.0)))
    g = np.where(sure, 0.0, g)
    # 1 - t - g, which cancels where t is small
    left = np.where(small, -t / 2 - t**2 / 12 + t**4 / 720, 1.0 - t - g)
    first = g * left
    second = first * left - g * (t + first)
    value = choices(rows) + _product(y, np.log(-np.expm1(-t))) - _product(rest, t)
    slope = _product(y, g) - _product(rest, t)
    curvature = _product(rest, t) - _product(y, first)
    found = _without_phi(value, slope, curvature, _product(rest, t) - _product(y, second))
    return _with_expected(found, rows.size * np.where(t < 700.0, g * t, 0.0))


def _product(count: Array, term: Array) -> Array:
    """Return count times term, 0 where the count is."""
    return np.where(count > 0.0, count * term, 0.0)


def _with_expected(found: Derivatives, expected: Array) -> Derivatives:
    return Derivatives(
        found.value, found.slope, found.curvature, found.bend, expected, found.value_phi,
        found.slope_phi, found.curvature_phi,
    )  # fmt: skip


def _poisson_log(rows: Response, eta: Array, _phi: float) -> Derivatives:
    mu = np.exp(eta)
    value = rows.y * eta - mu - special.gammaln(rows.y + 1.0)
    return _without_phi(value, rows.y - mu, mu, mu)


def _negative_binomial_log(rows: Response, eta: Array, phi: float) -> Derivatives:
    y, k = rows.y, float(np.exp(phi))
    total = y + k
    # share of the mean in mean + shape
    p, q = special.expit(eta - phi), special.expit(phi - eta)
    log_q = -np.logaddexp(0.0, eta - phi)
    value = rising(y, k) - special.gammaln(y + 1.0) + y * (eta - phi) + total * log_q + y * phi
    pq = p * q
    slope = y * q - k * p
    curvature = total * pq
    value_phi = k * (digamma_rise(y, k) + log_q) - slope
    # by the chain rule through eta - phi, besides what the total adds
    slope_phi = curvature - k * p
    curvature_phi = k * pq - curvature * (q - p)
    expected = np.exp(phi) * p
    return Derivatives(
        value, slope, curvature, curvature * (q - p), expected, value_phi, slope_phi,
        curvature_phi,
    )  # fmt: skip


def _gamma_log(rows: Response, eta: Array, phi: float) -> Derivatives:
    k = float(np.exp(phi))
    log_ratio = np.log(rows.y) - eta
    ratio = np.exp(log_ratio)
    rest = log_ratio - ratio
    value = k * (phi + rest) - special.gammaln(k) - np.log(rows.y)
    slope, curvature = k * (ratio - 1.0), k * ratio
    value_phi = k * (phi + 1.0 - special.digamma(k) + rest)
    return Derivatives(
        value, slope, curvature, -curvature, np.full_like(eta, k), value_phi, slope, curvature
    )


_BY_PREDICTOR: Final[dict[tuple[str, str], Callable[[Response, Array, float], Derivatives]]] = {
    ("bernoulli", "logit"): _logit,
    ("binomial", "logit"): _logit,
    ("bernoulli", "probit"): _probit,
    ("binomial", "probit"): _probit,
    ("bernoulli", "cloglog"): _cloglog,
    ("binomial", "cloglog"): _cloglog,
    ("poisson", "log"): _poisson_log,
    ("negativebinomial", "log"): _negative_binomial_log,
    ("gamma", "log"): _gamma_log,
}


_MEANS: Final[dict[str, Callable[[Array], Any]]] = {
    "logit": special.expit,
    "probit": special.ndtr,
    "cloglog": lambda eta: -np.expm1(-np.exp(eta)),
}


def _chained(rows: Response, eta: Array, phi: float) -> Derivatives:
    """Return derivatives by the linear predictor from those by the mean."""
    mu, h1, h2, h3 = INVERSES[rows.link](eta)
    inside = inside_range(rows, mu)
    at = BY_MEAN[rows.family](rows, np.where(inside, mu, 0.5), phi)
    slope = at.first * h1
    second = at.second * h1**2 + at.first * h2
    third = at.third * h1**3 + 3.0 * at.second * h1 * h2 + at.first * h3
    none = np.zeros_like(mu)
    parts = (
        slope, -second, -third, at.expected * h1**2, at.value_phi + none,
        at.first_phi * h1 + none, -(at.second_phi * h1**2 + at.first_phi * h2) + none,
    )  # fmt: skip
    return Derivatives(
        np.where(inside, at.value, -np.inf), *(np.where(inside, part, 0.0) for part in parts)
    )

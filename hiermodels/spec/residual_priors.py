"""Priors of the residuals' parameters: sds, coefficients of log sds, correlations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import PriorError
from hiermodels.spec.distributions import Prior, Support, as_prior
from hiermodels.spec.names import indexed
from hiermodels.spec.residual import Residual
from hiermodels.spec.shown import Brief
from hiermodels.spec.sigma import Sigma

Array = NDArray[np.float64]
Row = tuple[str, Prior, str, str, str]
_AT_MEANS = "at the means"
_RAW = "raw"


class Given(Protocol):
    """The user's priors."""

    def find(
        self, keys: tuple[str, ...], support: Support, also: tuple[str, ...] = ()
    ) -> tuple[Prior | None, str]:
        """Return the prior of the first key that was given, and its source."""


@dataclass(frozen=True, repr=False)
class ResidualPriors(Brief):
    """The priors of the residuals' parameters, and the coordinates they stand in.

    Attributes
    ----------
    sigma : tuple of Prior, length K
        Of the sds (one, or by stratum), or of the coefficients of the log sd.
    predictors : ndarray (S, K)
        Log sd of each stratum = ``predictors @`` the K coordinates: logarithms of the sds, or
        coefficients. The identity where the sds are the parameters.
    T : ndarray (K, K)
        Raw coefficients = ``T @`` coordinates.
    correlation : Prior or None
        Of ``ar``, ``cosy`` (Uniform, or Normal truncated to the range) or ``cor_residual`` (LKJ).
    lower, upper : float
        The open interval in which ``ar`` or ``cosy`` lies: its range and the prior's.
    """

    sigma: tuple[Prior, ...]
    predictors: Array
    T: Array
    correlation: Prior | None = None
    lower: float = -1.0
    upper: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON holds exactly; :meth:`from_dict` reads them back."""
        return {
            "sigma": [prior.exact for prior in self.sigma],
            "T": self.T.tolist(),
            "correlation": None if self.correlation is None else self.correlation.exact,
            "lower": self.lower,
            "upper": self.upper,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], residual: Residual) -> "ResidualPriors":
        """Return the priors that :meth:`as_dict` wrote, on the residual of the same design."""
        size = residual.n_sigma
        T = np.asarray(values["T"], dtype=np.float64).reshape(size, size)
        predictors = np.empty((1, 0))
        if residual.sigma is not None:
            own = residual.sigma
            # equal to predictors @ T, but free of cancellation where they are centred
            predictors = own.predictors_centred + own.predictors @ (T - own.T)
        correlation = values["correlation"]
        return cls(
            tuple(as_prior(text) for text in values["sigma"]),
            predictors,
            T,
            None if correlation is None else as_prior(correlation),
            float(values["lower"]),
            float(values["upper"]),
        )


def residual_keys(residual: Residual) -> list[str]:
    """Return the prior keys of the residuals' parameters, the general ones first."""
    keys: list[str] = []
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        keys += ["sigma_Intercept"] if sigma.intercept is not None else []
        keys += ["sigma_b"] if sigma.slopes else []
        keys += [indexed("sigma_b", name) for name in sigma.slopes]
    elif sigma is not None:
        keys.append("sigma")
        if sigma.kind == "strata":
            keys += [indexed("sigma", label) for label in sigma.labels]
    if residual.correlation_name is not None:
        keys.append(residual.correlation_name)
    return keys


def resolve_residual(
    residual: Residual, given: Given, sd_y: float, rows: list[Row]
) -> ResidualPriors:
    """Return the priors of the residuals' parameters, and add their rows of the prior table.

    Raises
    ------
    PriorError
        A prior does not fit its parameter.
    """
    sigma = residual.sigma
    priors: tuple[Prior, ...] = ()
    T, predictors = np.empty((0, 0)), np.empty((1, 0))
    if sigma is not None and sigma.kind == "linear":
        priors, T, predictors = _coefficients(sigma, given, sd_y, rows)
    elif sigma is not None:
        priors, T, predictors = _sds(sigma, given, sd_y, rows), sigma.T, sigma.predictors
    correlation, lower, upper = _correlation(residual, given, rows)
    return ResidualPriors(priors, predictors, T, correlation, lower, upper)


def _sds(sigma: Sigma, given: Given, sd_y: float, rows: list[Row]) -> tuple[Prior, ...]:
    """Return the priors of one sd, or of a sd for each stratum."""
    found = []
    for label in sigma.labels:
        own = indexed("sigma", label) if sigma.kind == "strata" else "sigma"
        prior, source = given.find((own, "sigma"), "positive")
        how = "" if prior else f"sd(y) = {sd_y:.4g}"
        found.append(prior or Prior("HalfStudentT", 3.0, sd_y))
        rows.append((own, found[-1], source, _RAW, how))
    return tuple(found)


def _coefficients(
    sigma: Sigma, given: Given, sd_y: float, rows: list[Row]
) -> tuple[tuple[Prior, ...], Array, Array]:
    """Return the priors of a log sd's coefficients, T, and the predictors they belong to."""
    T, predictors = sigma.T.copy(), sigma.predictors_centred.copy()
    # every row's weight is its stratum's share, so that spreads are those over the rows
    share = sigma.share
    factors = [column.labels for column in sigma.columns if column.parts and not column.numeric]
    levels = factors[0] if factors and sigma.intercept is None else None
    priors: list[Prior] = []
    for k, column in enumerate(sigma.columns):
        slope = bool(column.parts)
        name = indexed("sigma_b", column.name) if slope else "sigma_Intercept"
        keys = (name, "sigma_b") if slope else (name,)
        prior, source = given.find(keys, "real")
        default = Prior("Normal", math.log(sd_y), 1.0)
        if prior is not None:
            # a user's prior is on the raw coefficient itself: its row of T is the identity's
            change = T[k].copy()
            change[k] -= 1.0
            predictors = predictors - np.outer(sigma.predictors[:, k], change)
            T[k] -= change
            how = ""
        elif not slope or (not column.numeric and column.labels == levels):
            how = "log sd(y), 1"
        else:
            spread = 1.0
            if column.numeric:
                values = sigma.predictors_centred[:, k]
                centre = share @ values if sigma.intercept is not None else 0.0
                spread = float(np.sqrt(share @ (values - centre) ** 2)) or 1.0
            default, how = Prior("Normal", 0.0, 1.0 / spread), f"1 / {spread:.4g} (sd of x)"
        priors.append(prior or default)
        on = _RAW if prior or np.count_nonzero(T[k]) == 1 else _AT_MEANS
        rows.append((name, priors[-1], source, on, how))
    return tuple(priors), T, predictors


def _correlation(
    residual: Residual, given: Given, rows: list[Row]
) -> tuple[Prior | None, float, float]:
    """Return the prior of the correlation parameter, and its range."""
    name = residual.correlation_name
    if name is None:
        return None, -1.0, 1.0
    if name == "cor_residual":
        prior, source = given.find((name,), "correlation")
        prior = prior or Prior("LKJ", 1.0)
        rows.append((name, prior, source, _RAW, f"of {', '.join(residual.occasions)}"))
        return prior, -1.0, 1.0
    lower, upper = residual.correlation_range
    prior, source = given.find((name,), "interval", ("Normal",))
    how = f"on ({lower:.4g}, {upper:.4g})" if prior is None else ""
    if prior is None:
        prior = Prior("Uniform", lower, upper)
    elif prior.name == "Normal":
        how = f"truncated to ({lower:.4g}, {upper:.4g})"
    else:
        low, high = prior.values
        if low < lower or high > upper:
            how = f"truncated to ({max(low, lower):.4g}, {min(high, upper):.4g})"
        if max(low, lower) >= min(high, upper):
            raise PriorError(
                f"{prior} is no prior for {name!r}, which lies between {lower:.4g} and "
                f"{upper:.4g}; give bounds that overlap with these."
            )
        lower, upper = max(low, lower), min(high, upper)
    rows.append((name, prior, source, _RAW, how))
    return prior, lower, upper

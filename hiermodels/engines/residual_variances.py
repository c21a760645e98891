"""Residual variances of every row, from the values that the posterior publishes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.residual import Residual

Array = NDArray[np.float64]


def residual_variances(design: Design, values: Mapping[str, Any]) -> Array:
    """Return the marginal residual variance of every row (n,), whatever the structure.

    Parameters
    ----------
    design : Design
        Of a Gaussian model.
    values : mapping of str
        The residual's parameters, named as in the posterior; they may have leading dimensions of
        draws, (..., n) then.
    """
    residual = _residual(design)
    sigma = residual.sigma
    known = np.ones(residual.n) if residual.scale is None else 1.0 / residual.scale**2
    if sigma is None:
        return known
    if sigma.kind == "linear":
        parts = np.zeros((*_lead(values), len(sigma.predictors)))
        columns = [k for k in range(len(sigma.labels)) if k != sigma.intercept]
        if sigma.intercept is not None:
            intercept = np.asarray(values["sigma_Intercept"], dtype=np.float64)
            parts = parts + intercept[..., None] * sigma.predictors[:, sigma.intercept]
        if columns:
            slopes = np.asarray(values["sigma_b"], dtype=np.float64)
            parts = parts + slopes @ sigma.predictors[:, columns].T
        variance = np.exp(2.0 * parts)[..., sigma.strata]
    elif sigma.kind == "strata":
        variance = (np.asarray(values["sigma"], dtype=np.float64) ** 2)[..., sigma.strata]
    else:
        one = np.asarray(values["sigma"], dtype=np.float64) ** 2
        variance = one[..., None] * np.ones(residual.n)
    if design.se is not None and design.se_with_sigma:
        return np.asarray(variance + design.se**2)
    return np.asarray(variance * known)


def _residual(design: Design) -> Residual:
    """Return the residual of a Gaussian design."""
    if design.residual is None:
        raise EngineError("The family has no residuals of a Gaussian model.")
    return design.residual


def _lead(values: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the leading dimensions of a log-linear sd's coefficients."""
    if "sigma_Intercept" in values:
        return tuple(np.asarray(values["sigma_Intercept"]).shape)
    return tuple(np.asarray(values["sigma_b"]).shape[:-1])

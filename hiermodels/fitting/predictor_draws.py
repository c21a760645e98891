"""Draws of linear predictors, of the family's parameters, and of the response's expectation."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.links import LINKS
from hiermodels.spec.names import effect_name, of_parameter
from hiermodels.spec.predictors import Group, Predictor

Array = NDArray[np.float64]
# Families whose mu is no mean, or not known to be one.
_NO_MEAN = ("asymmetriclaplace", "exgaussian", "vonmises")


def linear_draws(posterior: xr.Dataset, part: Predictor, rows: slice, of: str = "") -> Array:
    """Return draws of a linear predictor at some rows (draws, rows), group effects included.

    Parameters
    ----------
    posterior : xarray.Dataset
    part : Predictor
        The design, or the design of a parameter.
    rows : slice
    of : str
        The parameter's name; empty for the mean.

    Raises
    ------
    FitError
        Where the group effects were left out of the posterior, being beyond ``memory``.
    """
    total = posterior.sizes["chain"] * posterior.sizes["draw"]
    eta = np.zeros((total, rows.stop - rows.start)) + part.offset[rows]
    if part.intercept is not None:
        eta += posterior[of_parameter(of, "Intercept")].values.reshape(total, 1)
    if part.slopes:
        columns = [k for k in range(len(part.coefs)) if k != part.intercept]
        slopes = posterior[of_parameter(of, "b")].values.reshape(total, -1)
        eta += slopes @ part.X[rows][:, columns].T
    for group in part.groups:
        eta += _group_part(posterior, part, group, rows, of)
    return eta


def _group_part(
    posterior: xr.Dataset, part: Predictor, group: Group, rows: slice, of: str
) -> Array:
    """Return what one grouping's effects add (draws, rows)."""
    name = effect_name(group.name, of)
    if name not in posterior:
        raise FitError(
            f"The draws of {name} were left out, being beyond memory. Fit again with a "
            "larger memory, such as memory='8 GB'."
        )
    draws = posterior[name].values
    draws = draws.reshape(-1, *draws.shape[2:])
    z = np.concatenate([part.terms[k].z[rows] for k in group.terms], axis=1)
    members = part.terms[group.terms[0]].members
    if members is None:
        return np.asarray(np.einsum("dnq,nq->dn", draws[:, group.index[rows]], z))
    total = np.zeros((len(draws), len(z)))
    for m in range(members.index.shape[1]):
        effects = draws[:, members.index[rows, m]]
        total += np.einsum("dnq,nq->dn", effects, z * members.weights[rows, m, None])
    return total


def parameter_at(posterior: xr.Dataset, design: Design, name: str, rows: slice) -> Array:
    """Return draws of a parameter on the response scale (draws, rows), or (draws, 1) of one value.

    Parameters
    ----------
    posterior : xarray.Dataset
    design : Design
    name : str
    rows : slice
    """
    part = next((own for own in design.parameters if own.name == name), None)
    if part is None:
        return np.asarray(posterior[name].values.reshape(-1, 1))
    inverse: Any = LINKS[part.link][1]
    return np.asarray(inverse(linear_draws(posterior, part, rows, name)))


def expected_draws(posterior: xr.Dataset, design: Design, family: Family, rows: slice) -> Array:
    """Return draws of the expected response at some rows (draws, rows).

    Of a binomial family the expected number of successes, of an ordinal one the mean of the
    categories numbered from 1; before truncation.

    Parameters
    ----------
    posterior : xarray.Dataset
    design : Design
    family : Family
    rows : slice

    Raises
    ------
    FitError
        As for :func:`linear_draws`.
    """
    eta = linear_draws(posterior, design, rows)
    if family.ordinal:
        return _mean_category(posterior, family, eta)
    mu = np.asarray(family.linkinv(eta))

    def at(name: str) -> Array:
        return parameter_at(posterior, design, name, rows)

    if family.name in _NO_MEAN:
        raise FitError(
            f"Expected values of family={family.name!r} are not computed here; use the posterior, "
            "or prior and posterior draws of model.pymc."
        )
    names = [own.name for own in family.parameters]
    if family.logarithmic:
        mu = np.exp(mu + 0.5 * at("sigma") ** 2)
    elif family.name == "hurdle_poisson":
        mu = mu / -np.expm1(-mu)
    elif family.name == "hurdle_negativebinomial":
        shape = at("shape")
        mu = mu / -np.expm1(-shape * np.log1p(mu / shape))
    for added in ("zi", "hu"):
        if added in names:
            mu = mu * (1.0 - at(added))
    return mu if design.trials is None else mu * design.trials[rows]


def _mean_category(posterior: xr.Dataset, family: Family, eta: Array) -> Array:
    """Return draws of the mean of the categories numbered from 1 (draws, rows)."""
    cutpoints = posterior["cutpoints"].values.reshape(len(eta), -1)
    above = np.stack([1.0 - family.linkinv(own[:, None] - eta) for own in cutpoints.T])
    if family.name == "sratio":
        # of a sequential family the chance to go beyond a category that was reached
        above = np.cumprod(above, axis=0)
    return np.asarray(1.0 + np.sum(above, axis=0))

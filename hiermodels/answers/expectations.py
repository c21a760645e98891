"""Draws of the expected response and of the response at any rows."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.averaging import Average, average_mean
from hiermodels.answers.fitted import Model
from hiermodels.answers.predictors import (
    GroupEffects,
    averaged_variance,
    linear_draws,
    parameter_draws,
)
from hiermodels.answers.residual_rows import draw_residual_rows, residual_rows, residual_sds
from hiermodels.answers.rows import Rows, parameter_designs
from hiermodels.engines.bounded_responses import draw_truncated
from hiermodels.engines.response_levels import BY_LEVEL, level_parameters
from hiermodels.engines.response_links import mean
from hiermodels.engines.responses import (
    PARAMETERS,
    WITH_TRIALS,
    draw_response,
    mean_response,
    parameter_names,
)
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Parameters that the expected response depends on.
_OF_THE_MEAN = ("zi", "cutpoints")


def needed_parameters(family: Family, kind: str) -> tuple[str, ...]:
    """Return the family's further parameters that a kind of prediction depends on."""
    names = parameter_names(family)
    if family.name in BY_LEVEL:
        return names
    if kind == "linear":
        return ()
    return tuple(name for name in names if kind == "response" or name in _OF_THE_MEAN)


def expected_draws(
    model: Model, posterior: xr.Dataset, rows: Rows, take: Ints, effects: GroupEffects
) -> Average:
    """Return draws of the expected response.

    Parameters
    ----------
    model : Model
    posterior : xarray.Dataset
    rows : Rows
    take : ndarray of int (S,)
    effects : GroupEffects

    Returns
    -------
    Average
        Values (S, m), or (S, m, K) for categories, and the numerical error of averages.
    """
    design, family = model.design, model.family
    eta = linear_draws(design, posterior, rows, take, effects)
    if family.name not in PARAMETERS:
        return _of_link(model, posterior, rows, take, effects, eta)
    names = needed_parameters(family, "expected")
    if effects.averaged and family.name in BY_LEVEL:
        raise FitError(
            f"average_groups integrates effects out of one linear predictor, and family="
            f"{family.name!r} has one for each level ({', '.join(level_parameters(family))}). Draw "
            "groups instead: new labels and new_levels='draw', or groups='none' for a typical one."
        )
    if not effects.averaged:
        values = parameter_draws(design, posterior, rows, take, effects, names)
        return Average(mean_response(family, eta, values, rows.trials), 0.0)
    cutpoints = parameter_draws(design, posterior, rows, take, effects, ["cutpoints"])
    variance = averaged_variance(design, posterior, rows, take, effects)
    zero = {name: np.zeros(()) for name in names if name == "zi"}
    found = average_mean(
        family.link, lambda at: mean_response(family, at, {**cutpoints, **zero}), eta, variance
    )
    value, error = found
    if "zi" in names:
        # the mean's effects and zi's are independent, so their averages multiply
        share = parameter_average(design, posterior, rows, take, effects, "zi")
        value, error = value * (1.0 - share.value), error + share.error
    if rows.trials is not None and family.name in WITH_TRIALS:
        value, error = value * rows.trials, error * float(np.max(rows.trials))
    return Average(np.asarray(value), error)


def _of_link(
    model: Model,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    eta: Floats,
) -> Average:
    """Return the inverse link of a family without a response distribution here."""
    if model.family.ordinal:
        cutpoints = parameter_draws(model.design, posterior, rows, take, effects, ["cutpoints"])
        if effects.averaged:
            raise FitError(
                f"average_groups is not available for family={model.family.name!r}. Draw groups "
                "instead: new labels and new_levels='draw', or groups='none' for a typical one."
            )
        return Average(_categories(model.family, eta, cutpoints["cutpoints"]), 0.0)
    if not effects.averaged:
        return Average(np.asarray(model.family.linkinv(eta)), 0.0)
    variance = averaged_variance(model.design, posterior, rows, take, effects)
    return average_mean(model.family.link, model.family.linkinv, eta, variance)


def _categories(family: Family, eta: Floats, cutpoints: Floats) -> Floats:
    """Return draws of the probability of each category (S, m, K)."""
    above = 1.0 - family.linkinv(cutpoints[:, None, :] - eta[:, :, None])
    if family.name == "sratio":
        # of a sequential family the chance to go beyond a category that was reached
        above = np.cumprod(above, axis=2)
    first, last = np.ones((*eta.shape, 1)), np.zeros((*eta.shape, 1))
    return np.asarray(-np.diff(np.concatenate([first, above, last], axis=2), axis=2))


def parameter_average(
    design: Design,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    name: str,
) -> Average:
    """Return draws of one of the family's further parameters, (S, m) or (S, 1).

    Parameters
    ----------
    design, posterior, rows, take, effects
        As for :func:`hiermodels.answers.predictors.linear_draws`.
    name : str
        Such as ``"shape"``; the effects of averaged groups are integrated out.
    """
    own = next((one for one in parameter_designs(design) if one.name == name), None)
    if own is None or not effects.averaged:
        values = parameter_draws(design, posterior, rows, take, effects, [name])
        return Average(values[name], 0.0)
    eta = linear_draws(design, posterior, rows, take, effects, name)
    variance = averaged_variance(design, posterior, rows, take, effects, name)
    return average_mean(own.link, lambda at: mean(own, at), eta, variance)


def response_draws(
    model: Model,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    rng: np.random.Generator,
    step: int,
) -> tuple[Floats, tuple[str, ...]]:
    """Return new responses (S, m), one for each draw, and what is to be said of them.

    Parameters
    ----------
    model, posterior, rows, take, effects
        As for :func:`expected_draws`.
    rng : numpy.random.Generator
    step : int
        How many rows are computed at a time.

    Raises
    ------
    FitError
        The family's responses cannot be drawn here.
    """
    family = model.family
    if family.name not in PARAMETERS:
        raise FitError(
            f"Responses of the family {family.name!r} cannot be drawn here; kind='expected' and "
            f"'linear' are available. Families with responses are {', '.join(PARAMETERS)}."
        )
    bounds = _bounds(model.design, rows)
    design = residual_rows(model.design, rows)
    if _structured(design):
        mu = [
            linear_draws(design, posterior, rows.take(slice(k, k + step)), take, effects)
            for k in range(0, rows.n, step)
        ]
        residuals = draw_residual_rows(design, posterior, take, rng)
        note = (
            "responses of a series are drawn together, as of a new series: the residuals that the "
            "fit has seen are not carried on"
        )
        return np.concatenate(mu, axis=1) + residuals, (note,)
    sds = None
    if design.residual is not None and "sigma" not in _with_formula(design):
        sds = residual_sds(design, posterior, take)
    parts = []
    for start in range(0, rows.n, step):
        at = slice(start, start + step)
        some = rows.take(at)
        eta = linear_draws(design, posterior, some, take, effects)
        values = _values(design, posterior, some, take, effects, family)
        if sds is not None:
            values = {**values, "sigma": sds[:, at]}
        elif design.residual is not None:
            values = {**values, "sigma": total_sd(design, values["sigma"], at)}
        if bounds is None:
            parts.append(draw_response(family, eta, values, rng, some.trials))
        else:
            within = tuple(None if bound is None else bound[at] for bound in bounds)
            parts.append(draw_truncated(family, eta, values, (within[0], within[1]), rng))
    note = "responses are drawn within the bounds of trunc()"
    return np.concatenate(parts, axis=1), () if bounds is None else (note,)


def _bounds(design: Design, rows: Rows) -> tuple[Floats | None, Floats | None] | None:
    """Return the bounds of each row's response; None where there are none."""
    truncation = getattr(design, "truncation", None)
    if truncation is None:
        return None
    found: list[Floats | None] = []
    for bound in (truncation.lower, truncation.upper):
        if bound is not None and not rows.own:
            if np.ptp(bound) > 0:
                raise FitError(
                    "The bounds of trunc() differ from row to row, and are not read from new data. "
                    "Predict the fit's own rows, or kind='expected'."
                )
            bound = np.full(rows.n, bound[0])
        found.append(bound)
    return found[0], found[1]


def _structured(design: Design) -> bool:
    """Whether residuals hang together."""
    return design.residual is not None and design.residual.term is not None


def _with_formula(design: Design) -> list[str]:
    return [own.name for own in parameter_designs(design)]


def _values(
    design: Design,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    family: Family,
) -> Mapping[str, Floats]:
    """Return draws of all further parameters."""
    return parameter_draws(design, posterior, rows, take, effects, parameter_names(family))


def total_sd(design: Design, sigma: Floats, rows: slice) -> Floats:
    """Return the sd of rows whose sigma has a predictor: known errors and precisions included.

    Parameters
    ----------
    design : Design
    sigma : ndarray (S, m)
    rows : slice
        Which rows of the design these are.
    """
    residual = design.residual
    if design.se is not None and design.se_with_sigma:
        return np.hypot(sigma, design.se[rows])
    if residual is not None and residual.scale is not None:
        return np.asarray(sigma / residual.scale[rows])
    if design.precision is not None:
        return np.asarray(sigma / np.sqrt(design.precision[rows]))
    return sigma

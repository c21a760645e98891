"""Draws of linear predictors at any rows, and of the values that parameters take there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.new_levels import NewLevels, effect_factor, flat, level_effects
from hiermodels.answers.rows import Rows, parameter_designs, predictor_of
from hiermodels.engines.response_links import mean
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.names import nu_name, of_parameter

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class GroupEffects:
    """How group effects enter a linear predictor.

    Attributes
    ----------
    included : frozenset of str
        Groupings whose effects are added.
    averaged : frozenset of str
        Groupings whose effects are integrated out.
    new_levels : {"error", "draw", "resample", "zero"}
        What a level is that the fit has not seen.
    seed : int
    """

    included: frozenset[str]
    averaged: frozenset[str]
    new_levels: NewLevels
    seed: int


class _Linked(NamedTuple):
    """A parameter and its link, as the response distributions ask for them."""

    name: str
    link: str


def linear_draws(
    design: Design,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    parameter: str = "",
) -> Floats:
    """Return draws of a linear predictor, offset included.

    Parameters
    ----------
    design : Design
    posterior : xarray.Dataset
    rows : Rows
        Coded for this predictor, with the levels of the groupings included.
    take : ndarray of int (S,)
        Positions of the draws, chains one after another.
    effects : GroupEffects
        Effects that are integrated out are not added.
    parameter : str
        Whose predictor; empty for the mean's.

    Returns
    -------
    ndarray (S, m)

    Raises
    ------
    FitError
        Draws of group effects are needed and were not kept.
    DataError
        A level is new and ``effects.new_levels`` is ``"error"``.
    """
    linear, coded = predictor_of(design, parameter), rows.coded[parameter]
    eta = np.zeros((len(take), rows.n)) + coded.offset
    if linear.intercept is not None:
        intercept = flat(posterior[of_parameter(parameter, "Intercept")], take)
        # the column, not 1: differences of coded rows go through here too
        eta += intercept[:, None] * coded.X[:, linear.intercept]
    if linear.slopes:
        columns = [k for k in range(len(linear.coefs)) if k != linear.intercept]
        slopes = flat(posterior[of_parameter(parameter, "b")], take)
        eta += slopes @ coded.X[:, columns].T
    for group in linear.groups:
        if group.name not in effects.included:
            continue
        levels = rows.levels[group.name]
        drawn = level_effects(
            posterior,
            linear,
            group,
            levels,
            parameter,
            take,
            effects.new_levels,
            effects.seed,
        )
        z = np.concatenate([coded.z[k] for k in group.terms], axis=1)
        for member in range(levels.index.shape[1]):
            at = levels.index[:, member]
            share = 1.0 if levels.weights is None else levels.weights[:, [member]]
            own = z * share if levels.columns is None else levels.columns[:, member]
            for k in range(z.shape[1]):
                eta += drawn[:, at, k] * own[:, k]
    return np.asarray(eta)


def averaged_variance(
    design: Design,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    parameter: str = "",
) -> Floats:
    """Return the variance that the averaged group effects give a linear predictor (S, m).

    Raises
    ------
    FitError
        The effects are not normal with one covariance for all levels.
    """
    linear, coded = predictor_of(design, parameter), rows.coded[parameter]
    total = np.zeros((len(take), rows.n))
    for group in linear.groups:
        if group.name not in effects.averaged:
            continue
        if nu_name(group.name, parameter) in posterior:
            raise FitError(
                f"The effects of {group.name!r} follow a t distribution, over which averages are "
                "not available. Draw groups instead: groups='all' with a new label in each row "
                "and new_levels='draw'."
            )
        if any(getattr(linear.terms[k], "by", None) is not None for k in group.terms):
            raise FitError(
                f"The effects of {group.name!r} have a covariance by subpopulation (gr(by=)), over "
                "which averages are not available. Draw groups of each instead, by "
                "new_levels='draw'."
            )
        factor = effect_factor(posterior, linear, group, parameter, take)
        z = np.concatenate([coded.z[k] for k in group.terms], axis=1)
        levels = rows.levels.get(group.name)
        weights = None if levels is None else levels.weights
        share = 1.0 if weights is None else np.sum(weights**2, axis=1)
        for column in range(factor.shape[2]):
            total += (factor[:, :, column] @ z.T) ** 2 * share
    return total


def parameter_draws(
    design: Design,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    names: Sequence[str],
) -> Mapping[str, Floats]:
    """Return draws of a family's further parameters, on the response scale.

    Parameters
    ----------
    design, posterior, rows, take, effects
        As for :func:`linear_draws`.
    names : sequence of str
        Such as ``"shape"``, ``"zi"``, ``"cutpoints"``.

    Returns
    -------
    mapping of str to ndarray
        (S, m) with a formula, (S, 1) without; ``cutpoints`` (S, K - 1).
    """
    links = {own.name: own.link for own in parameter_designs(design)}
    found: dict[str, Floats] = {}
    for name in names:
        if name in links:
            eta = linear_draws(design, posterior, rows, take, effects, name)
            found[name] = mean(_Linked(name, links[name]), eta)
        elif name in posterior:
            values = flat(posterior[name], take)
            found[name] = values[:, None] if values.ndim == 1 else values
    return found

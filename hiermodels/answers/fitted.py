"""What the answers ask of a fitted model: its shape, and ways into its draws.

The functions of this room work on anything of this shape, so that they can be tested on draws
whose truth is known.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.fitting.draws import population
from hiermodels.fitting.tables import GroupLabels, coef, group_labels
from hiermodels.spec.design import Design, Group
from hiermodels.spec.families import Family
from hiermodels.spec.priors import ResolvedPriors

Floats = npt.NDArray[np.float64]


class Model(Protocol):
    """Formula, design, family, priors."""

    # Properties, so that frozen dataclasses satisfy the protocol.

    @property
    def formula(self) -> object:
        """Its ``str`` is the formula's text."""

    @property
    def design(self) -> Design:
        """The design."""

    @property
    def family(self) -> Family:
        """The family."""

    @property
    def priors(self) -> pd.DataFrame:
        """One row a prior."""

    @property
    def resolved(self) -> ResolvedPriors:
        """The priors as values."""

    @property
    def engine(self) -> str:
        """The engine that computed the fit."""


class Fitted(Protocol):
    """A fitted model."""

    @property
    def model(self) -> Model:
        """The model."""

    @property
    def idata(self) -> xr.DataTree:
        """The draws, by groups of ArviZ's names."""


def drawn(fit: Fitted) -> xr.DataTree:
    """Return the draws of a fit.

    Raises
    ------
    FitError
        It has none: it is an estimate of ``mle()``, a model, or something else.
    """
    draws = getattr(fit, "idata", None)
    if isinstance(draws, xr.DataTree):
        return draws
    raise FitError(
        "functions of a fit, plots and the report need posterior draws: give what model.fit() or "
        f"hm.load() returned; got {type(fit).__name__}"
    )


def dataset(fit: Fitted, name: str) -> xr.Dataset:
    """Return one group of ``fit.idata``; an empty dataset where it lacks.

    Parameters
    ----------
    fit : Fit
    name : str
        ``posterior``, ``sample_stats``, ``group_effects``.

    Returns
    -------
    xarray.Dataset
    """
    children = drawn(fit).children
    return children[name].to_dataset() if name in children else xr.Dataset()


def labels(fit: Fitted) -> tuple[GroupLabels, ...]:
    """Return the labels of the fit's grouping factors."""
    return group_labels(fit.model.design)


def find_group(fit: Fitted, name: str | None = None) -> tuple[int, Group]:
    """Return the position and the grouping factor of this name, the first one by default.

    Parameters
    ----------
    fit : Fit
    name : str, optional

    Returns
    -------
    position : int
    group : Group

    Raises
    ------
    FitError
        The model has no groups, or none of this name, or a linear predictor for each level of the
        response; or there are no draws.
    """
    drawn(fit)
    groups = fit.model.design.groups
    if not groups:
        check_one_mean(fit, "this")
        raise FitError(
            f"the model {fit.model.formula} has no groups: group effects need a term "
            "such as (1 | g) in the formula"
        )
    if name is None:
        return 0, groups[0]
    for k, group in enumerate(groups):
        if group.name == name:
            return k, group
    known = ", ".join(g.name for g in groups)
    raise FitError(f"got group {name!r}; the model's groups are {known}")


def check_one_mean(fit: Fitted, function: str) -> None:
    """Raise FitError where each level of the response has a linear predictor of its own."""
    family = fit.model.family
    if family.by_level:
        names = ", ".join(own.name for own in family.parameters)
        raise FitError(
            f"{function} is defined for one linear predictor, and family={family.name!r} has one "
            f"for each level: {names}. fit.ranef(), fit.coef(), fit.varcorr(), hm.predict(), "
            "hm.comparisons() and hm.loo() have them all."
        )


def has_own_rows(fit: Fitted, group: Group) -> bool:
    """Return whether every row belongs to one level of a grouping.

    Only then can a level's own regression be held against what pooling makes of it.
    """
    return fit.model.design.terms[group.terms[0]].members is None


def find_pooled_group(fit: Fitted, name: str | None = None) -> tuple[int, Group]:
    """Return what :func:`find_group` returns, of a grouping whose levels have rows of their own.

    Parameters
    ----------
    fit : Fit
    name : str, optional

    Raises
    ------
    FitError
        As for :func:`find_group`; or the grouping is ``mm()``.
    """
    found = find_group(fit, name)
    if not has_own_rows(fit, found[1]):
        raise FitError(
            f"the levels of {found[1].name!r} share rows (mm()), so no regression of a level on "
            "its own can be compared with the pooled one; use fit.ranef() and fit.varcorr()"
        )
    return found


def pooled_groups(fit: Fitted, name: str | None = None) -> tuple[Group, ...]:
    """Return one grouping, or by default all whose levels have rows of their own.

    Raises
    ------
    FitError
        As for :func:`find_pooled_group`, which the first grouping is asked for where none has.
    """
    every = [group for group in fit.model.design.groups if has_own_rows(fit, group)]
    if name is None and every:
        return tuple(every)
    return (find_pooled_group(fit, name)[1],)


def population_draws(fit: Fitted) -> tuple[tuple[str, ...], Floats]:
    """Return the population coefficients and their draws (S, p), chains and draws together."""
    names, draws = population(dataset(fit, "posterior"))
    return names, draws.reshape(draws.shape[0] * draws.shape[1], len(names))


def population_means(fit: Fitted) -> Floats:
    """Return the posterior means of the coefficients in the design's order, (p,)."""
    names, draws = population_draws(fit)
    means = dict(zip(names, draws.mean(axis=0), strict=True))
    return np.array([means[c] for c in fit.model.design.coefs], dtype=np.float64)


def effect_means(fit: Fitted, group: Group) -> Floats:
    """Return the posterior means of a factor's effects, (J, q) in the group's order."""
    coords = {group.name: list(group.levels), f"{group.name}_coef": list(group.coefs)}
    name = f"r_{group.name}"
    moments = dataset(fit, "group_effects")
    if f"{name}_mean" in moments:
        array = moments[f"{name}_mean"].sel(coords)
    else:
        array = dataset(fit, "posterior")[name].sel(coords).mean(["chain", "draw"])
    return np.asarray(array.transpose(*coords).values, dtype=np.float64)


def group_columns(design: Design, group: Group) -> Floats:
    """Return the columns of all bars of a factor side by side, (n, q)."""
    return np.concatenate([np.asarray(design.terms[t].z) for t in group.terms], axis=1)


def coefficients(fit: Fitted, prob: float = 0.95, group: str | None = None) -> pd.DataFrame:
    """Return the coefficients of each level of each factor, or of one, as ``fit.coef()`` does."""
    wanted = [g for g in labels(fit) if group is None or g.name == group]
    return coef(dataset(fit, "posterior"), dataset(fit, "group_effects"), wanted, prob)

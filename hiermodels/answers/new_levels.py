"""Group effects of levels that a fit has not seen: drawn anew, copied, or zero.

What is drawn for a label depends on the seed, the grouping and the label alone, so that a label
means the same group in every row, in every term, and whatever other rows stand beside it.
"""

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.rows import Linear, RowLevels
from hiermodels.errors import DataError, FitError
from hiermodels.fitting.draws import draws_of
from hiermodels.spec.design import Group
from hiermodels.spec.names import coef_dim, cor_name, effect_name, nu_name, sd_name

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
NewLevels = Literal["error", "draw", "resample", "zero"]
NEW_LEVELS: tuple[NewLevels, ...] = ("error", "draw", "resample", "zero")


def label_rng(seed: int, *names: str) -> np.random.Generator:
    """Return the random numbers that belong to a label: the same for the same seed and names."""
    text = "\0".join(names).encode()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


def flat(array: xr.DataArray, take: Ints) -> Floats:
    """Return chosen draws of an array (S, ...), chains one after another; all are not copied."""
    values = draws_of(array)
    together = values.reshape(-1, *values.shape[2:])
    return together if len(take) == len(together) else np.asarray(together[take])


def effect_factor(
    posterior: xr.Dataset, linear: Linear, group: Group, parameter: str, take: Ints
) -> Floats:
    """Return F with F F' the covariance of a new level's effects, for each draw (S, q, q).

    As `covariance_factor` does.

    Raises
    ------
    FitError
        The grouping's levels depend on each other.
    """
    if any(getattr(linear.terms[k], "cov", None) is not None for k in group.terms):
        raise FitError(
            f"The levels of {group.name!r} have a known covariance (gr(cov=)), in which a new one "
            "has no place. Use new_levels='resample' or 'zero', or groups='none'."
        )
    return covariance_factor(posterior, group, parameter, take)


def covariance_factor(posterior: xr.Dataset, group: Group, parameter: str, take: Ints) -> Floats:
    """Return F with F F' the covariance of a level's effects, for each draw (S, q, q).

    A correlation matrix may be singular to rounding, so its root is taken by eigenvalues. Where H
    subpopulations have covariances of their own the result is (S, H, q, q).
    """
    coefs = {coef_dim(group.name, parameter): list(group.coefs)}
    sds = flat(posterior[sd_name(group.name, parameter)].sel(coefs), take)
    name = cor_name(group.name, parameter)
    if name not in posterior:
        return np.asarray(sds[..., None] * np.eye(len(group.coefs)))
    values, vectors = np.linalg.eigh(flat(posterior[name], take))
    root = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    return np.asarray(sds[..., None] * root)


def unseen(levels: RowLevels) -> tuple[str, ...]:
    """Return the labels that the fit has not seen."""
    return tuple(
        label for label, known in zip(levels.labels, levels.known, strict=True) if known < 0
    )


def check_unseen(levels: RowLevels, group: Group) -> None:
    """Raise DataError where there are labels that the fit has not seen."""
    new = unseen(levels)
    if not new:
        return
    some = ", ".join(repr(label) for label in new[:4]) + (", ..." if len(new) > 4 else "")
    seen = ", ".join(group.levels[:6]) + (", ..." if len(group.levels) > 6 else "")
    raise DataError(
        f"The grouping {group.name!r} has {len(new):,} {'level' if len(new) == 1 else 'levels'} "
        f"that the fit has not seen: {some}; known are {seen}. Say what a new group is: "
        "new_levels='draw' takes one from the fitted distribution, 'resample' copies an observed "
        "group, 'zero' stays on the population line."
    )


def level_effects(
    posterior: xr.Dataset,
    linear: Linear,
    group: Group,
    levels: RowLevels,
    parameter: str,
    take: Ints,
    new_levels: NewLevels,
    seed: int,
) -> Floats:
    """Return draws of the effects of some levels, seen and unseen (S, L, q).

    Parameters
    ----------
    posterior : xarray.Dataset
    linear : Linear
        The linear predictor that the effects belong to.
    group : Group
        One of its groupings.
    levels : RowLevels
    parameter : str
        The predictor's parameter, empty for the mean.
    take : ndarray of int (S,)
        Positions of the draws, chains one after another.
    new_levels : {"error", "draw", "resample", "zero"}
    seed : int

    Raises
    ------
    DataError
        A level is unseen and ``new_levels`` is ``"error"``.
    FitError
        Draws of the group effects are needed and were not kept.
    """
    if new_levels == "error":
        check_unseen(levels, group)
    new = np.flatnonzero(levels.known < 0)
    old = np.flatnonzero(levels.known >= 0)
    observed = None
    if old.size or (new.size and new_levels == "resample"):
        observed = _observed(posterior, effect_name(group.name, parameter), take)
        if not new.size:
            return np.asarray(observed[:, levels.known])
    effects = np.zeros((len(take), len(levels.labels), len(group.coefs)))
    if observed is not None:
        effects[:, old] = observed[:, levels.known[old]]
    if new.size and new_levels == "draw":
        factor = effect_factor(posterior, linear, group, parameter, take)
        nu = _degrees(posterior, nu_name(group.name, parameter), take)
        for k in new:
            rng = label_rng(seed, "draw", parameter, group.name, levels.labels[k])
            own = factor if levels.by is None else factor[:, levels.by[k]]
            effects[:, k] = _draw(own, nu, rng)
    elif new.size and new_levels == "resample" and observed is not None:
        for k in new:
            # without the parameter's name: the mean and shape copy the same group
            rng = label_rng(seed, "resample", group.name, levels.labels[k])
            copied = rng.integers(len(group.levels), size=len(take))
            effects[:, k] = observed[np.arange(len(take)), copied]
    return effects


def _draw(factor: Floats, nu: Floats | None, rng: np.random.Generator) -> Floats:
    """Return one new group's effects (S, q), one group for each draw of the covariance."""
    normal = rng.standard_normal(factor.shape[:2])
    drawn: Floats = np.einsum("sab,sb->sa", factor, normal)
    if nu is None:
        return drawn
    return np.asarray(drawn * np.sqrt(nu / rng.chisquare(nu))[:, None])


def _degrees(posterior: xr.Dataset, name: str, take: Ints) -> Floats | None:
    """Return the degrees of freedom of Student effects (S,); None of normal ones."""
    return flat(posterior[name], take) if name in posterior else None


def _observed(posterior: xr.Dataset, name: str, take: Ints) -> Floats:
    """Return draws of the observed groups' effects (S, J, q)."""
    if name not in posterior:
        raise FitError(
            f"The draws of {name} were left out, being beyond memory. Fit again with a larger "
            "memory, such as memory='8 GB'; or leave group effects out by groups='none', or "
            "integrate over them by average_groups=True."
        )
    return flat(posterior[name], take)

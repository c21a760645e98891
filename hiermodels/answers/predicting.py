"""What a prediction asks of a fit, how it codes rows, and draws at them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.expectations import (
    expected_draws,
    needed_parameters,
    parameter_average,
    response_draws,
)
from hiermodels.answers.fitted import Fitted
from hiermodels.answers.new_levels import NEW_LEVELS, NewLevels, unseen
from hiermodels.answers.predictors import GroupEffects, linear_draws
from hiermodels.answers.residual_rows import residual_rows, residual_sds
from hiermodels.answers.rows import Rows, all_groups, new_rows, own_rows, parameter_designs
from hiermodels.engines.response_levels import level_parameters
from hiermodels.engines.responses import parameter_names
from hiermodels.errors import FitError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Kind = Literal["expected", "response", "linear"]
KINDS: tuple[Kind, ...] = ("expected", "response", "linear")

# Numbers that a block of rows may take while it is computed, and bytes of all draws together.
_BLOCK = 4_000_000
LARGEST = 8_000_000_000


@dataclass(frozen=True)
class Asked:
    """What is predicted, whatever the rows.

    Attributes
    ----------
    fit : Fit
    posterior : xarray.Dataset
    kind : {"expected", "response", "linear"}
    parameter : str or None
        In place of the response.
    names : tuple of str
        Whose linear predictors are needed, the mean's under the empty name.
    wanted : tuple of str
        The groupings whose effects are added.
    effects : GroupEffects
    take : ndarray of int (S,)
        Positions of the draws, chains one after another.
    """

    fit: Fitted
    posterior: xr.Dataset
    kind: Kind
    parameter: str | None
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    effects: GroupEffects
    take: Ints


class Values(NamedTuple):
    """Draws (S, m) or (S, m, K), what is to be said of them, and the error of integrals."""

    draws: Floats
    notes: tuple[str, ...] = ()
    error: float = 0.0


def ask(
    fit: Fitted,
    posterior: xr.Dataset,
    take: Ints,
    kind: Kind,
    *,
    groups: str | Sequence[str],
    average_groups: bool | str | Sequence[str],
    new_levels: NewLevels,
    seed: int,
    parameter: str | None = None,
) -> Asked:
    """Return what is asked for, checked; parameters as of :func:`hiermodels.predict`.

    Raises
    ------
    FitError
        An option is not among those allowed.
    """
    choice("kind", kind, KINDS)
    choice("new_levels", new_levels, NEW_LEVELS)
    effects = _effects(fit, groups, average_groups, new_levels, seed)
    if effects.averaged and kind != "expected":
        raise FitError(
            f"average_groups averages the expected response; with kind={kind!r} take groups='none' "
            "for the population's line, or new labels and new_levels='draw' for new groups."
        )
    names = tuple(_predictors(fit, kind, parameter))
    wanted = tuple(g for g in _groups_of(fit, names) if g in effects.included)
    return Asked(fit, posterior, kind, parameter, names, wanted, effects, take)


def choice(name: str, given: object, allowed: Sequence[str]) -> None:
    """Raise FitError unless an option is among those allowed."""
    if given not in allowed:
        known = ", ".join(repr(one) for one in allowed)
        raise FitError(f"got {name}={given!r}; allowed are {known}.")


def coded_rows(asked: Asked, frame: pd.DataFrame | None) -> Rows:
    """Return rows coded for what is asked: new ones, or with None the fit's own."""
    design = asked.fit.model.design
    if frame is None:
        return own_rows(design, asked.names, asked.wanted)
    return new_rows(design, frame, asked.names, asked.wanted)


def _effects(
    fit: Fitted,
    groups: str | Sequence[str],
    average: bool | str | Sequence[str],
    new_levels: NewLevels,
    seed: int,
) -> GroupEffects:
    """Return how group effects enter."""
    known = list(all_groups(fit.model.design))
    if isinstance(average, bool):
        averaged = known if average else []
    else:
        averaged = _names("average_groups", average, known)
    if isinstance(groups, str) and groups in ("all", "none") and groups not in known:
        included = known if groups == "all" else []
    else:
        included = _names("groups", groups, known)
    return GroupEffects(
        frozenset(included) - frozenset(averaged), frozenset(averaged), new_levels, seed
    )


def _names(option: str, given: object, known: Sequence[str]) -> list[str]:
    """Return names of groupings; raise FitError at others."""
    names: list[object] = [given]
    if isinstance(given, Iterable) and not isinstance(given, str):
        names = list(given)
    for name in names:
        if name not in known:
            others = "'all', 'none'" if option == "groups" else "True, False"
            raise FitError(
                f"got {option}={given!r}; allowed are {others} and a list of groupings, which are "
                f"{', '.join(known) or 'none in this model'}."
            )
    return [str(name) for name in names]


def _predictors(fit: Fitted, kind: Kind, parameter: str | None) -> list[str]:
    """Return whose linear predictors are needed, the mean's under the empty name."""
    with_formula = [own.name for own in parameter_designs(fit.model.design)]
    if parameter is None:
        needed = needed_parameters(fit.model.family, kind)
        return ["", *(name for name in with_formula if name in needed)]
    known = [name for name in parameter_names(fit.model.family) if name != "cutpoints"]
    if parameter not in known:
        raise FitError(
            f"got parameter={parameter!r}; the family {fit.model.family.name} has "
            f"{', '.join(known) or 'none besides its mean'}."
        )
    choice("kind", kind, ("expected", "linear"))
    if kind == "linear" and parameter not in with_formula:
        raise FitError(
            f"{parameter} has no linear predictor, as it has no formula; kind='expected' gives its "
            "value."
        )
    return [parameter] if parameter in with_formula else []


def _groups_of(fit: Fitted, names: Sequence[str]) -> list[str]:
    """Return the groupings of some linear predictors."""
    design = fit.model.design
    found = [g.name for g in design.groups] if "" in names else []
    for own in parameter_designs(design):
        if own.name in names:
            found += [g.name for g in own.groups]
    return list(dict.fromkeys(found))


# --- values -------------------------------------------------------------------------------------


def values_at(asked: Asked, rows: Rows) -> Values:
    """Return draws at rows that are coded.

    Raises
    ------
    FitError
        They would be beyond memory; draws of group effects are needed and were not kept.
    DataError
        A level is new, and new levels are an error.
    """
    fit, posterior, kind, parameter = asked.fit, asked.posterior, asked.kind, asked.parameter
    effects, take, family = asked.effects, asked.take, asked.fit.model.family
    categories = len(fit.model.design.response_levels) or 1
    several = family.ordinal or family.by_level
    size = 8 * len(take) * rows.n * (categories if several else 1)
    if size > LARGEST:
        raise FitError(
            f"{len(take):,} draws of {rows.n:,} rows are {size / 1e9:.1f} GB. Predict fewer rows "
            "at a time, or fewer draws, such as draws=400."
        )
    design = fit.model.design
    if kind == "response":
        rng = np.random.default_rng(effects.seed)
        return Values(*response_draws(fit.model, posterior, rows, take, effects, rng, _block(take)))
    if parameter == "sigma" and design.residual is not None and "sigma" not in rows.coded:
        return Values(residual_sds(residual_rows(design, rows), posterior, take))
    parts, error = [], 0.0
    step = _block(take)
    for start in range(0, rows.n, step):
        some = rows.take(slice(start, start + step))
        if parameter is not None and kind == "expected":
            found = parameter_average(design, posterior, some, take, effects, parameter)
            part = np.broadcast_to(found.value, (len(take), some.n))
            error = max(error, found.error)
        elif kind == "linear" and parameter is None and fit.model.family.by_level:
            names = level_parameters(fit.model.family)
            own = [linear_draws(design, posterior, some, take, effects, name) for name in names]
            part = np.stack(own, axis=-1)
        elif kind == "linear":
            part = linear_draws(design, posterior, some, take, effects, parameter or "")
        else:
            found = expected_draws(fit.model, posterior, some, take, effects)
            part, error = found.value, max(error, found.error)
        parts.append(part)
    return Values(np.concatenate(parts, axis=1), error=error)


def integration_notes(error: float) -> tuple[str, ...]:
    """Return what is to be said of integrals over groups."""
    return () if error == 0.0 else (f"averages over groups are integrated to {error:.1g}",)


def zero_notes(asked: Asked, groups: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return which group effects are left at zero without having been told to be."""
    effects = asked.effects
    known = _groups_of(asked.fit, asked.names)
    zero = [g for g in known if g not in effects.included | effects.averaged]
    return (f"effects of {', '.join(zero)} are zero",) if zero and groups != "none" else ()


def new_level_notes(counts: Mapping[str, int], new_levels: NewLevels) -> tuple[str, ...]:
    """Return what was done with levels that the fit has not seen, so many by grouping."""
    said = {
        "draw": "drawn from the fitted distribution",
        "resample": "copied from observed groups",
        "zero": "on the population line",
    }
    notes = []
    for name, count in counts.items():
        if count and new_levels in said:
            what = "level" if count == 1 else "levels"
            notes.append(f"{count:,} new {what} of {name}: {said[new_levels]}")
    return tuple(notes)


def new_level_counts(rows: Rows) -> dict[str, int]:
    """Return the numbers of levels that the fit has not seen, by grouping."""
    return {name: len(unseen(levels)) for name, levels in rows.levels.items()}


def categories_of(fit: Fitted, count: int, kind: str) -> tuple[str, ...]:
    """Return the names of the response's categories, or of those with a linear predictor."""
    levels = fit.model.design.response_levels
    if kind == "linear":
        levels = fit.model.family.levels
    return levels if len(levels) == count else tuple(str(k) for k in range(count))


def _block(take: Ints) -> int:
    """Return how many rows are computed at a time."""
    return max(1, _BLOCK // len(take))

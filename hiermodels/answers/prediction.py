"""Predictions: draws of the linear predictor, the expected response, or the response itself."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

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
from hiermodels.answers.grids import make_grid, named_groups
from hiermodels.answers.new_levels import NEW_LEVELS, NewLevels, unseen
from hiermodels.answers.predicted import Prediction, check_interval
from hiermodels.answers.predictors import GroupEffects, linear_draws
from hiermodels.answers.residual_rows import residual_rows, residual_sds
from hiermodels.answers.rows import Rows, all_groups, new_rows, own_rows, parameter_designs
from hiermodels.engines.response_levels import level_parameters
from hiermodels.engines.responses import CATEGORICAL, parameter_names
from hiermodels.errors import FitError
from hiermodels.spec.names import OBS
from hiermodels.spec.rowless import need_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Kind = Literal["expected", "response", "linear"]
KINDS: tuple[Kind, ...] = ("expected", "response", "linear")

# Numbers that a block of rows may take while it is computed, and bytes of all draws together.
_BLOCK = 4_000_000
_LARGEST = 8_000_000_000


def predict(
    fit: Fitted,
    newdata: pd.DataFrame | Mapping[str, Any] | None = None,
    kind: Kind = "expected",
    groups: str | Sequence[str] | None = None,
    new_levels: NewLevels = "error",
    *,
    average_groups: bool | str | Sequence[str] = False,
    parameter: str | None = None,
    interval: float = 0.95,
    draws: int | None = None,
    seed: int | None = None,
) -> Prediction:
    """Predict rows of the data, or new ones, from the posterior.

    Parameters
    ----------
    fit : Fit
    newdata : pandas.DataFrame or mapping, optional
        The rows; no response column is needed. A mapping such as ``{"x": [0, 1]}`` is a grid:
        every combination of its values, other predictors at their mean, factors at their most
        frequent level. The rows of the fit by default.
    kind : {"expected", "response", "linear"}
        The expected response, new responses, or the linear predictor (link scale, offset
        included).
    groups : {"all", "none"} or sequence of str, optional
        Groupings whose effects are added; effects of the others are zero. All by default; on a
        grid those whose columns it names.
    new_levels : {"error", "draw", "resample", "zero"}
        What a level is that the fit has not seen: ``"draw"`` takes its effects from the fitted
        distribution, correlations included, one new group for each posterior draw; ``"resample"``
        copies an observed group, chosen anew for each posterior draw; ``"zero"`` stays on the
        population line. A label means the same group in every row and term, and each new label
        another group; what it is depends on the seed and the label alone.
    average_groups : bool or str or sequence of str
        Groupings whose effects are integrated out of the expected response: True for all, else
        their names. The average over groups of a non-linear link differs from the expectation of a
        typical group (``groups="none"``).
    parameter : str, optional
        Predict this parameter of the family, such as ``"sigma"`` or ``"shape"``, in place of the
        response: its value for ``"expected"``, its linear predictor for ``"linear"``. A level's
        linear predictor is ``"mu_<level>"``.
    interval : float
        Probability of the equal-tailed intervals of :meth:`Prediction.to_frame`.
    draws : int, optional
        At most so many posterior draws, taken evenly; all by default.
    seed : int, optional
        Of new groups and responses; a fresh one by default, kept in the result.

    Returns
    -------
    Prediction
        ``.draws`` is an xarray.DataArray, ``.to_frame()`` a table.

    Raises
    ------
    FitError
        An argument is not among those allowed; draws of group effects are needed and were not
        kept; the fit has no draws.
    DataError
        The new data lack a column or hold a missing value, a factor has an unknown level, or a
        grouping has one and ``new_levels`` is ``"error"``.

    Notes
    -----
    With ``trials(n)`` predictions are numbers of successes, of the new data's ``n``; where they
    have no such column each row is one trial. Of categories, ordered or not, the expected response
    is the probability of each, of counts by category each one's expected count, of as many as the
    new data's columns hold together, or of one; ``kind="linear"`` has the linear predictor of each
    level that has one. Both have a last dim ``category``. Likelihood weights do not change
    predictions.
    Responses of models with ``ar()``, ``cosy()`` or ``unstr()`` are drawn from the joint normal of
    the rows of each series, as of a new series: residuals that the fit has seen are not carried
    on. Expected values of a t distribution are its locations; under ``trunc()`` expected values
    are those of the distribution before truncation, while responses are drawn within the bounds.

    Averages over groups with identity, log, probit and square-root links are exact; others are
    integrated numerically, with the error in the notes.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> fit = model.fit(draws=50, tune=100, chains=2, seed=1, progress=False)  # doctest: +SKIP
    >>> new = {"Days": [0, 9], "Subject": ["308", "someone else"]}
    >>> hm.predict(fit, new, new_levels="draw", seed=1).to_frame()  # doctest: +SKIP
    """
    posterior = posterior_of(fit)
    check_interval(interval)
    _choice("kind", kind, KINDS)
    _choice("new_levels", new_levels, NEW_LEVELS)
    design = fit.model.design
    if newdata is None:
        instead = (
            "Give some, hm.predict(fit, frame), or write all: hm.predict_to(fit, source, file)."
        )
        need_rows(design, "predict()", instead)
    frame, by_default = _frame(fit, newdata)
    effects = _effects(
        fit,
        by_default if groups is None else groups,
        average_groups,
        new_levels,
        fresh_seed() if seed is None else int(seed),
    )
    if effects.averaged and kind != "expected":
        raise FitError(
            f"average_groups averages the expected response; with kind={kind!r} take groups='none' "
            "for the population's line, or new labels and new_levels='draw' for new groups."
        )
    names = _predictors(fit, kind, parameter)
    wanted = [g for g in _groups_of(fit, names) if g in effects.included]
    if frame is None:
        rows = own_rows(design, names, wanted)
    else:
        rows = new_rows(design, frame, names, wanted)
    take, coords = chosen_draws(posterior, draws)
    values, notes = _values(fit, posterior, rows, take, effects, kind, parameter)
    sizes = (len(coords["chain"]), len(coords["draw"]), *values.shape[1:])
    dims: tuple[str, ...] = ("chain", "draw", OBS)
    coords[OBS] = np.arange(rows.n)
    if values.ndim > 2:
        dims = (*dims, "category")
        coords["category"] = list(_categories(fit, values.shape[-1], kind))
    array = xr.DataArray(values.reshape(sizes), dims=dims, coords=coords, name=kind)
    if kind == "response" and fit.model.family.name in CATEGORICAL:
        array.attrs["categories"] = list(design.response_levels)
    found = (
        *rows.notes,
        *_zero_notes(_groups_of(fit, names), effects, groups),
        *_new_level_notes(rows, effects),
        *notes,
    )
    return Prediction(array, rows.data, kind, interval, effects.seed, found)


# --- what was asked -----------------------------------------------------------------------------


def posterior_of(fit: Fitted) -> xr.Dataset:
    """Return the posterior draws; raise FitError where there are none."""
    idata = getattr(fit, "idata", None)
    if not isinstance(idata, xr.DataTree) or "posterior" not in idata.children:
        raise FitError(
            "predictions are made from posterior draws: give what model.fit() or hm.load() "
            f"returned; got {type(fit).__name__}."
        )
    return idata["posterior"].to_dataset()


def _choice(name: str, given: object, allowed: Sequence[str]) -> None:
    """Raise FitError unless an option is among those allowed."""
    if given not in allowed:
        known = ", ".join(repr(one) for one in allowed)
        raise FitError(f"got {name}={given!r}; allowed are {known}.")


def fresh_seed() -> int:
    """Return a seed that no one has chosen."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def _frame(
    fit: Fitted, newdata: pd.DataFrame | Mapping[str, Any] | None
) -> tuple[pd.DataFrame | None, str | list[str]]:
    """Return the new rows, None for the fit's own, and the groupings added by default."""
    if isinstance(newdata, Mapping):
        design = fit.model.design
        frame = make_grid(design, newdata)
        return frame, named_groups(design, list(frame.columns))
    return newdata, "all"


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
    _choice("kind", kind, ("expected", "linear"))
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


def chosen_draws(posterior: xr.Dataset, draws: int | None) -> tuple[Ints, dict[str, Any]]:
    """Return the positions of the draws to use, chains one after another, and their coords.

    Raises
    ------
    FitError
        ``draws`` is no positive whole number.
    """
    chains, each = posterior.sizes["chain"], posterior.sizes["draw"]
    if draws is None:
        keep = np.arange(each)
    else:
        if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
            raise FitError(f"got draws={draws!r}; give a whole number of at least 1.")
        count = min(each, max(1, int(draws) // chains))
        keep = np.unique(np.linspace(0, each - 1, count).round().astype(np.intp))
    take = (np.arange(chains)[:, None] * each + keep).ravel().astype(np.intp)
    coords = {"chain": posterior["chain"].values, "draw": posterior["draw"].values[keep]}
    return take, coords


# --- values -------------------------------------------------------------------------------------


def _values(
    fit: Fitted,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    kind: Kind,
    parameter: str | None,
) -> tuple[Floats, tuple[str, ...]]:
    """Return draws (S, m) or (S, m, K), and what is to be said of them."""
    family = fit.model.family
    categories = len(fit.model.design.response_levels) or 1
    several = family.name in CATEGORICAL or family.by_level
    size = 8 * len(take) * rows.n * (categories if several else 1)
    if size > _LARGEST:
        raise FitError(
            f"{len(take):,} draws of {rows.n:,} rows are {size / 1e9:.1f} GB. Predict fewer rows "
            "at a time, or fewer draws, such as draws=400."
        )
    design = fit.model.design
    if kind == "response":
        rng = np.random.default_rng(effects.seed)
        return response_draws(fit.model, posterior, rows, take, effects, rng, _block(take))
    if parameter == "sigma" and design.residual is not None and "sigma" not in rows.coded:
        return residual_sds(residual_rows(design, rows), posterior, take), ()
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
    notes = () if error == 0.0 else (f"averages over groups are integrated to {error:.1g}",)
    return np.concatenate(parts, axis=1), notes


def _zero_notes(
    groups: Sequence[str], effects: GroupEffects, asked: str | Sequence[str] | None
) -> tuple[str, ...]:
    """Return which group effects are left at zero without having been told to be."""
    zero = [g for g in groups if g not in effects.included | effects.averaged]
    return (f"effects of {', '.join(zero)} are zero",) if zero and asked != "none" else ()


def _new_level_notes(rows: Rows, effects: GroupEffects) -> tuple[str, ...]:
    """Return what was done with levels that the fit has not seen."""
    said = {
        "draw": "drawn from the fitted distribution",
        "resample": "copied from observed groups",
        "zero": "on the population line",
    }
    notes = []
    for name, levels in rows.levels.items():
        count = len(unseen(levels))
        if count and effects.new_levels in said:
            what = "level" if count == 1 else "levels"
            notes.append(f"{count:,} new {what} of {name}: {said[effects.new_levels]}")
    return tuple(notes)


def _categories(fit: Fitted, count: int, kind: Kind) -> tuple[str, ...]:
    """Return the names of the response's categories, or of those with a linear predictor."""
    levels = fit.model.design.response_levels
    if kind == "linear":
        levels = fit.model.family.levels
    return levels if len(levels) == count else tuple(str(k) for k in range(count))


def _block(take: Ints) -> int:
    """Return how many rows are computed at a time."""
    return max(1, _BLOCK // len(take))

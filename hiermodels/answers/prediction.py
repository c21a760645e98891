"""Predictions: draws of the linear predictor, the expected response, or the response itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.grids import make_grid, named_groups
from hiermodels.answers.new_levels import NewLevels
from hiermodels.answers.predicted import Prediction, check_interval
from hiermodels.answers.predicting import (
    Kind,
    ask,
    categories_of,
    coded_rows,
    integration_notes,
    new_level_counts,
    new_level_notes,
    values_at,
    zero_notes,
)
from hiermodels.engines.responses import CATEGORICAL
from hiermodels.errors import DataError, FitError
from hiermodels.spec.names import OBS
from hiermodels.spec.rowless import need_rows
from hiermodels.spec.whole import Counted

Ints = npt.NDArray[np.intp]


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
    design = fit.model.design
    if newdata is None:
        instead = (
            "Give some, hm.predict(fit, frame), or write all: hm.predict_to(fit, source, file)."
        )
        need_rows(design, "predict()", instead)
    frame, by_default = _frame(fit, newdata)
    take, coords = chosen_draws(posterior, draws)
    asked = ask(
        fit,
        posterior,
        take,
        kind,
        groups=by_default if groups is None else groups,
        average_groups=average_groups,
        new_levels=new_levels,
        seed=fresh_seed() if seed is None else int(seed),
        parameter=parameter,
    )
    rows = coded_rows(asked, frame)
    values, notes, error = values_at(asked, rows)
    sizes = (len(coords["chain"]), len(coords["draw"]), *values.shape[1:])
    dims: tuple[str, ...] = ("chain", "draw", OBS)
    coords[OBS] = np.arange(rows.n)
    if values.ndim > 2:
        dims = (*dims, "category")
        coords["category"] = list(categories_of(fit, values.shape[-1], kind))
    array = xr.DataArray(values.reshape(sizes), dims=dims, coords=coords, name=kind)
    if kind == "response" and fit.model.family.name in CATEGORICAL:
        array.attrs["categories"] = list(design.response_levels)
    found = (
        *rows.notes,
        *(_counted_notes(fit) if frame is None else ()),
        *zero_notes(asked, groups),
        *new_level_notes(new_level_counts(rows), asked.effects.new_levels),
        *notes,
        *integration_notes(error),
    )
    return Prediction(array, rows.data, kind, interval, asked.effects.seed, found)


def _counted_notes(fit: Fitted) -> tuple[str, ...]:
    """Return what is to be said of rows that each stand for several."""
    whole = fit.model.design.whole
    if not isinstance(whole, Counted):
        return ()
    return (
        f"these are the {len(whole.counts):,} distinct rows of {whole.n:,}, each for all that "
        "agree with it; hm.predict_to(fit, source, file) has each row of a source",
    )


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
    if newdata is not None and not isinstance(newdata, pd.DataFrame):
        raise DataError(
            f"newdata is a pandas DataFrame or a mapping of values; got {type(newdata).__name__}. "
            "Of a source hm.predict_to(fit, source, file) writes predictions of every row, and "
            "hm.comparisons() and hm.slopes() average over it."
        )
    return newdata, "all"


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

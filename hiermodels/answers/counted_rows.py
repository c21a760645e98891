"""Fits of rows that were counted together, seen row by row."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.rows import all_groups
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.spec.counted import (
    counts_alone,
    each_once,
    fewer_counts,
    row_places,
    single_rows,
)
from hiermodels.spec.design import Design
from hiermodels.spec.subset import subset_priors
from hiermodels.spec.whole import Counted

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def counts_of(design: Design) -> Floats | None:
    """Return how many rows each row of a design stands for; None where each is one."""
    return design.whole.counts if isinstance(design.whole, Counted) else None


def check_single(model: Model, function: str) -> None:
    """Raise FitError where rows were counted together with weights, of which sums were kept.

    Parameters
    ----------
    model : Model
    function : str
        What needs the weight of each row, for the message: ``"loo()"``.
    """
    design = model.design
    if not isinstance(design.whole, Counted) or counts_alone(design):
        return
    label = design.formula.additions["weights"].expression.label
    raise FitError(
        f"{function} looks at rows one by one, and the {design.whole.n:,} rows of this model were "
        f"counted together as {design.n:,} distinct ones with the sums of {label}: what one row "
        "weighs is not known. Hold the rows: hm.Model(formula, source, memory='64 GB')."
    )


def one_of_each(model: Model) -> Model:
    """Return the model on its distinct rows, each for itself; any other model as it is."""
    if not isinstance(model.design.whole, Counted):
        return model
    rows = np.arange(model.design.n)
    return _on_design(model, each_once(model.design), rows)


def without_copies(model: Model, held: Ints, counts: Floats) -> Model:
    """Return the model of counted rows less so many of each of some distinct ones."""
    design, rest = fewer_counts(model.design, held, counts)
    return _on_design(model, design, rest)


def on_single_rows(model: Model, most: int, rng: np.random.Generator) -> tuple[Model, str]:
    """Return the model with a row for each of the rows counted, and what is to be said of them.

    Parameters
    ----------
    model : Model
        Where its rows were not counted, it is returned as it is.
    most : int
        Of more rows than this so many are taken at random.
    rng : numpy.random.Generator
        Of these.
    """
    whole = model.design.whole
    if not isinstance(whole, Counted):
        return model, ""
    places = row_places(model.design, most, rng)
    found = _on_design(model, single_rows(model.design, places), places)
    if whole.n <= most:
        return found, ""
    return found, (
        f"Of the {whole.n:,} rows, {most:,} taken at random are looked at; they were counted "
        f"together as {model.design.n:,} distinct ones."
    )


def every_single_row(model: Model, most: int, function: str) -> Model:
    """Return the model with a row for each of the rows counted; any other model as it is.

    Parameters
    ----------
    model : Model
    most : int
    function : str
        What needs them, for the message: ``"sbc()"``.

    Raises
    ------
    FitError
        There are more rows than `most`, or they were counted together with weights.
    """
    whole = model.design.whole
    if not isinstance(whole, Counted):
        return model
    check_single(model, function)
    if whole.n > most:
        raise FitError(
            f"{function} needs a row for each of {whole.n:,}, which were counted together as "
            f"{model.design.n:,} distinct ones; it takes at most {most:,}. Give a model of fewer "
            "rows of the source."
        )
    return on_single_rows(model, most, np.random.default_rng(0))[0]


def fit_on_single_rows[F: Fitted](fit: F, most: int, rng: np.random.Generator) -> tuple[F, str]:
    """Return a fit with a row for each of the rows counted; see :func:`on_single_rows`."""
    if not isinstance(fit, Fit):
        return fit, ""
    model, note = on_single_rows(fit.model, most, rng)
    if model is fit.model:
        return fit, ""
    posterior = fit.posterior
    for group in all_groups(model.design).values():
        if group.name in posterior.dims:
            posterior = posterior.sel({group.name: list(group.levels)})
    tree = xr.DataTree.from_dict({"posterior": posterior})
    tree.attrs.update(fit.idata.attrs)
    return replace(fit, model=model, idata=tree), note


def _on_design(model: Model, design: Design, rows: Ints) -> Model:
    """Return a model on some of its rows, which are a design already."""
    return Model.from_parts(
        model.formula,
        model.family,
        design,
        subset_priors(model.resolved, rows),
        model.user_priors,
        model.engine,
        model.forms_asked,
    )

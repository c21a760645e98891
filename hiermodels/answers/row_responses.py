"""Responses of rows that are given, as the fit reads them, and what goes with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import Model
from hiermodels.answers.rows import needed_column
from hiermodels.errors import DataError
from hiermodels.spec.additions import (
    Censoring,
    Truncation,
    read_additions,
    read_censoring,
    read_truncation,
)
from hiermodels.spec.coding import evaluate, evaluate_number
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_predictor, is_boolean, row_label
from hiermodels.spec.functions import as_boolean_factor, level_label

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RowResponse:
    """The response of some rows, and its additions.

    Attributes
    ----------
    y : ndarray (m,)
        Categories by their number in the fit, from 0; counts by category (m, K).
    trials, weights : ndarray (m,) or None
    censoring : Censoring or None
    truncation : Truncation or None
    """

    y: Floats
    trials: Floats | None
    weights: Floats | None
    censoring: Censoring | None
    truncation: Truncation | None


def read_rows(model: Model, formula: ModelFormula, frame: pd.DataFrame) -> RowResponse:
    """Return the response of complete rows.

    Parameters
    ----------
    model : Model
    formula : ModelFormula
        The model's, for single rows.
    frame : pandas.DataFrame
        Additions whose columns it lacks are left out.

    Raises
    ------
    DataError
        A response is a level that the fit has not seen; an addition is out of range.
    """
    y = _response(model, formula, frame)
    present = all(
        name in frame.columns
        for own in formula.additions.values()
        for e in own.expressions
        for name in e.columns
    )
    trials = y.sum(axis=1) if formula.counts else None
    if not present:
        return RowResponse(y, trials, None, None, None)
    found = read_additions(formula, model.family, frame)
    censoring = read_censoring(formula, frame, y)
    truncation = read_truncation(formula, frame, y, censoring)
    own = trials if formula.counts else found.trials
    return RowResponse(y, own, found.weights, censoring, truncation)


def given_response(model: Model, frame: pd.DataFrame) -> Floats:
    """Return the response of rows that a user gives, coded as that of the fit (n,) or (n, K).

    Parameters
    ----------
    model : Model
    frame : pandas.DataFrame

    Raises
    ------
    DataError
        A column that the response needs is missing, or holds a missing value or a level that the
        fit has not seen.
    """
    formula = cast(ModelFormula, model.formula)
    for name in formula.response.columns:
        needed_column(frame, name)
    return _response(model, formula, frame)


def _response(model: Model, formula: ModelFormula, frame: pd.DataFrame) -> Floats:
    """Return the response as numbers."""
    columns = {
        name: as_boolean_factor(frame[name])
        if is_boolean(frame[name])
        else as_predictor(frame[name], name)
        for name in formula.response.columns
    }
    if formula.counts:
        counted = [evaluate_number(own, columns, "count") for own in formula.counts]
        return np.column_stack(counted)
    values = evaluate(formula.response, columns, {})
    levels = model.design.response_levels
    if levels:
        return _codes(values, levels, formula, frame)
    return np.asarray(values, dtype=np.float64)


def _codes(
    values: Any, levels: tuple[str, ...], formula: ModelFormula, frame: pd.DataFrame
) -> Floats:
    """Return the number of each row's level among those of the fit."""
    place: Mapping[str, int] = {label: k for k, label in enumerate(levels)}
    labels = [level_label(value) for value in np.asarray(values, dtype=object)]
    found = np.array([place.get(label, -1) for label in labels], dtype=np.float64)
    unknown = np.flatnonzero(found < 0)
    if unknown.size:
        first = int(unknown[0])
        raise DataError(
            f"The response {formula.response.label} is {labels[first]!r} at "
            f"{row_label(frame.index, first)}, which the fit has not seen; known are "
            f"{', '.join(levels[:12])}."
        )
    return found

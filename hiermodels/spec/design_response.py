"""A formula's left side met its data: the response as numbers, and its levels."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.coding import evaluate, evaluate_number
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_predictor, complete_rows, is_boolean
from hiermodels.spec.functions import as_boolean_factor
from hiermodels.spec.level_formulas import check_level_names
from hiermodels.spec.responses import Response, as_counts, as_response

Array = NDArray[np.float64]


def check_counted(formula: ModelFormula, family: Family) -> None:
    """Raise FormulaError where counts by category and the family do not go together."""
    counted = family.response == "counts"
    if formula.counts and not counted:
        raise FormulaError(
            f"{formula.response.label} is a response of counts by category, for "
            "family='multinomial' or 'dirichlet_multinomial'; got "
            f"family={family.name!r}."
        )
    if counted and not formula.counts:
        raise FormulaError(
            f"family={family.name!r} takes a column of counts for each category: write "
            f"c(a, b, c) ~ ... in place of {formula.response.label} ~ .... For one category a row "
            "use family='categorical'."
        )


def read_levels(formula: ModelFormula, family: Family, data: pd.DataFrame) -> tuple[str, ...]:
    """Return the levels of a response, each of which has a linear predictor."""
    kept, _ = complete_rows(formula, data)
    labels = read_response(formula, family, kept, None).labels
    check_level_names(formula.response.label, labels)
    return labels


def read_response(
    formula: ModelFormula, family: Family, kept: pd.DataFrame, trials: Array | None
) -> Response:
    """Return the response of complete rows as numbers, or raise DataError at the first bad row."""
    columns = {
        # truth values keep both levels here, so that a response without failures is allowed
        name: as_boolean_factor(kept[name])
        if is_boolean(kept[name])
        else as_predictor(kept[name], name)
        for name in formula.response.columns
    }
    label = formula.response.label
    if family.response == "levels" and any(is_boolean(kept[name]) for name in columns):
        raise DataError(
            f"The response {label} holds truth values, which are two levels: use "
            "family='bernoulli', whose one linear predictor is the same."
        )
    if formula.counts:
        counted = [evaluate_number(own, columns, "count") for own in formula.counts]
        labels = tuple(own.label for own in formula.counts)
        return as_counts(np.column_stack(counted), labels, label, kept.index)
    values = evaluate(formula.response, columns, {})
    return as_response(values, label, family, trials, kept.index)

"""The response of rows that a user gives, as the model reads it."""

from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import Model
from hiermodels.answers.rows import needed_column
from hiermodels.spec.coding import evaluate
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_predictor, is_boolean
from hiermodels.spec.functions import as_boolean_factor
from hiermodels.spec.responses import as_response

Floats = npt.NDArray[np.float64]


def given_response(model: Model, frame: pd.DataFrame) -> Floats:
    """Return the response of given rows (n,), coded as that of the model.

    Raises
    ------
    DataError
        A column that the response needs is missing, or holds a missing value.
    """
    response = cast(ModelFormula, model.formula).response
    given = {name: needed_column(frame, name) for name in response.columns}
    columns = {
        name: as_boolean_factor(own) if is_boolean(own) else as_predictor(own, name)
        for name, own in given.items()
    }
    values = evaluate(response, columns, {})
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return as_response(values, response.label, model.family, None, frame.index).y
    return np.asarray(values, dtype=np.float64)

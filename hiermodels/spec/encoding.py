"""What new data need to be coded as the first data were: kinds and levels of columns, and states.

An :class:`Encoding` is learnt once and never changes; applying it works on copies.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from formulaic import ModelSpec
from numpy.typing import NDArray

from hiermodels.errors import DataError, UnknownColumnError
from hiermodels.spec.coding import Column, code_columns, evaluate_factors, stack
from hiermodels.spec.expressions import Expression, unknown_column
from hiermodels.spec.frame import as_predictor, check_frame, check_unique
from hiermodels.spec.functions import level_label


@dataclass(frozen=True)
class Levels:
    """The levels of a factor column, in order."""

    labels: tuple[str, ...]
    ordered: bool


@dataclass(frozen=True)
class Encoding:
    """The frozen coding of a formula's right side.

    Attributes
    ----------
    factors : dict of str to Expression
        Every factor by label.
    levels : dict of str to Levels or None
        For each predictor column its levels, None where it is numeric.
    states : dict
        What stateful functions such as ``scale`` and ``poly`` learnt, by factor.
    common : formulaic.ModelSpec
    bars : tuple of formulaic.ModelSpec
    formulas : tuple of str
        The formula of the common part, then of each bar.
    """

    factors: Mapping[str, Expression]
    levels: Mapping[str, Levels | None]
    states: Mapping[str, Any]
    common: ModelSpec
    bars: tuple[ModelSpec, ...]
    formulas: tuple[str, ...]

    def columns(self, frame: pd.DataFrame) -> tuple[tuple[Column, ...], ...]:
        """Return the columns of the common part and of each bar for new rows.

        Raises
        ------
        DataError
            A column is missing or of another kind, a value is missing, a level is new.
        """
        check_frame(frame)
        if not len(frame):
            raise DataError("The new data have no rows; give at least one.")
        check_unique(frame, self.levels)
        predictors = {name: self._predictor(frame, name) for name in self.levels}
        if not predictors:
            predictors = {"": pd.Series(0.0, index=frame.index)}
        values = evaluate_factors(self.factors, predictors, copy.deepcopy(dict(self.states)))
        specs = (self.common, *self.bars)
        return tuple(
            code_columns(formula, values, frame.index, spec)[0]
            for formula, spec in zip(self.formulas, specs, strict=True)
        )

    def matrices(self, frame: pd.DataFrame) -> tuple[NDArray[Any], tuple[NDArray[Any], ...]]:
        """Return X (rows, p) and, for each bar, z (rows, q) for new rows."""
        coded = self.columns(frame)
        arrays = [stack(columns, len(frame)) for columns in coded]
        return arrays[0], tuple(arrays[1:])

    def _predictor(self, frame: pd.DataFrame, name: str) -> "pd.Series[Any]":
        if name not in frame.columns:
            raise UnknownColumnError(unknown_column(name, [str(c) for c in frame.columns]))
        column = frame[name]
        if column.isna().any():
            raise DataError(f"The column {name!r} of the new data has missing values.")
        known = self.levels[name]
        predictor = as_predictor(column, name)
        is_factor = isinstance(predictor.dtype, pd.CategoricalDtype)
        if known is None:
            if is_factor:
                raise DataError(
                    f"The column {name!r} was numeric in the data of the fit, and is text, a "
                    "factor or truth values here. Convert it with astype(float)."
                )
            return predictor
        labels = predictor.astype(object) if is_factor else column.map(level_label)
        new = sorted(set(labels) - set(known.labels))
        if new:
            raise DataError(
                f"The column {name!r} has the level {new[0]!r}, which the fit has not seen; "
                f"known are {', '.join(known.labels[:12])}."
            )
        dtype = pd.CategoricalDtype(list(known.labels), ordered=known.ordered)
        return pd.Series(pd.Categorical(labels, dtype=dtype), index=frame.index)

"""What new data need to be coded as the first data were: kinds and levels of columns, and states.

An :class:`Encoding` is learnt once and never changes; applying it works on copies.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from numpy.typing import NDArray

from hiermodels.errors import DataError, UnknownColumnError
from hiermodels.spec.coding import code_columns, evaluate_factors, evaluate_number, stack
from hiermodels.spec.expressions import Expression, unknown_column
from hiermodels.spec.frame import as_predictor, check_frame, check_unique
from hiermodels.spec.functions import level_label
from hiermodels.spec.matrices import Column
from hiermodels.spec.shown import Brief


@dataclass(frozen=True, repr=False)
class Levels(Brief):
    """The levels of a factor column, in order."""

    labels: tuple[str, ...]
    ordered: bool


@dataclass(frozen=True, repr=False)
class NewRows(Brief):
    """New rows of one linear predictor, raw scale.

    Attributes
    ----------
    X : ndarray (rows, p)
    z : tuple of ndarray (rows, q)
        One for each bar.
    offset : ndarray (rows,)
    """

    X: NDArray[Any]
    z: tuple[NDArray[Any], ...]
    offset: NDArray[Any]


@dataclass(frozen=True, repr=False)
class Encoding(Brief):
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
    offsets : tuple of Expression
    ordinal : bool
        Whether the intercept's column is left out, for cutpoints.
    parameters : mapping of str to Encoding
        The codings of the formulas for parameters, by name.
    """

    factors: Mapping[str, Expression]
    levels: Mapping[str, Levels | None]
    states: Mapping[str, Any]
    common: ModelSpec
    bars: tuple[ModelSpec, ...]
    formulas: tuple[str, ...]
    offsets: tuple[Expression, ...] = ()
    ordinal: bool = False
    parameters: Mapping[str, "Encoding"] = field(default_factory=dict)

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
        return self.coded(predictors, frame.index)

    def coded(
        self, predictors: Mapping[str, "pd.Series[Any]"], index: "pd.Index[Any]"
    ) -> tuple[tuple[Column, ...], ...]:
        """Return the columns of the common part and of each bar for predictors that fit.

        Parameters
        ----------
        predictors : mapping of str to pandas.Series
            By name: float64, or categoricals with all levels in the order of :attr:`levels`.
        index : pandas.Index
        """
        every = predictors or {"": pd.Series(0.0, index=index)}
        values = evaluate_factors(self.factors, every, copy.deepcopy(dict(self.states)))
        specs = (self.common, *self.bars)
        common, *bars = (
            code_columns(formula, values, index, spec)[0]
            for formula, spec in zip(self.formulas, specs, strict=True)
        )
        if self.ordinal:
            common = tuple(column for column in common if column.parts)
        return common, *bars

    def matrices(self, frame: pd.DataFrame) -> tuple[NDArray[Any], tuple[NDArray[Any], ...]]:
        """Return X (rows, p) and, for each bar, z (rows, q) for new rows."""
        coded = self.columns(frame)
        arrays = [stack(columns, len(frame)) for columns in coded]
        return arrays[0], tuple(arrays[1:])

    def rows(self, frame: pd.DataFrame) -> NewRows:
        """Return X, each bar's z and the offset for new rows, which need no response.

        Raises
        ------
        DataError
            As for :meth:`columns`, and where an offset's column is missing.
        """
        X, z = self.matrices(frame)
        offset = np.zeros(len(frame))
        for expression in self.offsets:
            columns = {name: self._number(frame, name) for name in expression.columns}
            offset = offset + evaluate_number(expression, columns, "offset")
        return NewRows(X, z, offset)

    def _number(self, frame: pd.DataFrame, name: str) -> "pd.Series[Any]":
        """Return a column of an offset."""
        if name not in frame.columns:
            raise UnknownColumnError(unknown_column(name, [str(c) for c in frame.columns]))
        if frame[name].isna().any():
            raise DataError(f"The column {name!r} of the new data has missing values.")
        return as_predictor(frame[name], name)

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
        # of a factor by its levels, all of which are in use, not row by row
        labels = predictor if is_factor else column.map(level_label)
        new = sorted(set(predictor.cat.categories if is_factor else labels) - set(known.labels))
        if new:
            raise DataError(
                f"The column {name!r} has the level {new[0]!r}, which the fit has not seen; "
                f"known are {', '.join(known.labels[:12])}."
            )
        dtype = pd.CategoricalDtype(list(known.labels), ordered=known.ordered)
        return pd.Series(pd.Categorical(labels, dtype=dtype), index=frame.index)

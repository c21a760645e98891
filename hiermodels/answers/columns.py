"""What a fit knows of its predictors' columns: their kinds, means, spreads and levels.

Of rows that were counted together everything weighs by their numbers; of rows that were not kept
only what cross-products and levels say is known, and the rest is refused with what to give instead.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers import unkept_columns as unkept
from hiermodels.answers.rows import parameter_designs
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.matrices import Column
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.whole import Counted, mean_of, sd_of

Floats = npt.NDArray[np.float64]


def is_numeric(design: Design, name: str) -> bool:
    """Whether a column is used as a number everywhere."""
    if isinstance(design, RowlessDesign):
        number = unkept.is_number(design, name)
    else:
        dtype = design.data[name].dtype
        number = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    # what a formula codes as a factor, such as C(cyl), is none
    return number and name not in _coded_as_factors(design)


def _coded_as_factors(design: Design) -> set[str]:
    """Return the columns that a formula codes as factors."""
    found: set[str] = set()
    for linear, encoding in (
        (design, design.encoding),
        *((own, design.encoding.parameters[own.name]) for own in parameter_designs(design)),
    ):
        factors = encoding.factors
        named = {own.label: own.columns for own in factors.values()}
        named |= {key: own.columns for key, own in factors.items()}
        columns: list[Column] = [*linear.columns, *(c for t in linear.terms for c in t.columns)]
        for column in columns:
            for label, _ in column.parts:
                if label not in column.numeric:
                    found |= set(named.get(label, ()))
    return found


def column_mean(design: Design, name: str) -> float:
    """Return the mean of a numeric column over all rows of the fit.

    Raises
    ------
    FitError
        Rows were not kept, and the formula's cross-products do not say it.
    """
    if not isinstance(design, RowlessDesign):
        return mean_of(_numbers(design, name), design.whole)
    moments = unkept.moments_of(design, name)
    if moments is None:
        raise FitError(
            f"The rows of this fit were not kept, and the formula does not take {name!r} as it is, "
            f"so that its mean is not known. Give a value: {{..., {name!r}: [value]}}."
        )
    return moments[0]


def column_sd(design: Design, name: str) -> float:
    """Return the standard deviation of a numeric column, with n - 1; errors as of the mean."""
    if not isinstance(design, RowlessDesign):
        return sd_of(_numbers(design, name), design.whole)
    moments = unkept.moments_of(design, name)
    if moments is None:
        raise FitError(
            f"The rows of this fit were not kept, and the formula does not take {name!r} as it is, "
            f"so that its sd is not known. Give two values: {{{name!r}: [low, high]}}."
        )
    return moments[1]


def column_quantiles(design: Design, name: str, at: Sequence[float]) -> Floats:
    """Return quantiles of a numeric column over all rows of the fit.

    Raises
    ------
    FitError
        Rows were not kept.
    """
    if isinstance(design, RowlessDesign):
        raise FitError(
            f"The rows of this fit were not kept, and quantiles of {name!r} are not known. Give "
            f"two values: {{{name!r}: [low, high]}}."
        )
    values, whole = _numbers(design, name), design.whole
    if not isinstance(whole, Counted):
        return np.asarray(np.quantile(values, at))
    order = np.argsort(values, kind="stable")
    last = np.cumsum(whole.counts[order])
    # as NumPy takes them between neighbouring rows, each as often as it was counted
    place = np.asarray(at, dtype=np.float64) * (last[-1] - 1.0)
    below = np.floor(place)
    ends = [
        values[order][np.minimum(np.searchsorted(last, own, side="right"), len(last) - 1)]
        for own in (below, below + 1.0)
    ]
    return np.asarray(ends[0] + (place - below) * (ends[1] - ends[0]))


def column_span(design: Design, name: str) -> tuple[float, float]:
    """Return about the least and the largest value of a numeric column: exactly of rows held."""
    if isinstance(design, RowlessDesign):
        return unkept.span_of(design, name)
    values = _numbers(design, name)
    return float(values.min()), float(values.max())


def column_levels(design: Design, name: str) -> list[Any]:
    """Return the values of a factor column in the fit's data, in the order of its levels."""
    if isinstance(design, RowlessDesign):
        return unkept.levels_of(design, name)
    column = design.data[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = set(column.unique())
        return [value for value in column.cat.categories if value in used]
    return sorted(column.unique().tolist())


def constant(
    design: Design, name: str, value: Any, index: "pd.Index[Any] | pd.RangeIndex"
) -> "pd.Series[Any]":
    """Return a column that holds one value everywhere, of the kind that the fit's column has."""
    if is_numeric(design, name):
        return pd.Series(np.full(len(index), float(value)), index=index)
    known = design.encoding.levels.get(name)
    if known is not None and isinstance(value, str) and value in known.labels:
        # as a level, not as text in every row
        codes = np.full(len(index), known.labels.index(value))
        levels = pd.CategoricalDtype(pd.Index(known.labels, dtype=object), ordered=known.ordered)
        return pd.Series(pd.Categorical.from_codes(codes, dtype=levels), index=index)
    dtype = None if isinstance(design, RowlessDesign) else design.data[name].dtype
    return pd.Series([value] * len(index), index=index, dtype=dtype)


def typical(design: Design, name: str, index: "pd.Index[Any] | pd.RangeIndex") -> "pd.Series[Any]":
    """Return a column held at its mean, or at its most frequent level, the first of equals.

    Raises
    ------
    FitError
        Rows were not kept, and which one it is is not known.
    """
    if is_numeric(design, name):
        return constant(design, name, column_mean(design, name), index)
    return constant(design, name, _most_frequent(design, name), index)


def _most_frequent(design: Design, name: str) -> Any:
    """Return the most frequent value of a factor column."""
    if isinstance(design, RowlessDesign):
        values = unkept.levels_of(design, name)
        counts = unkept.counts_of(design, name, len(values))
        if counts is None:
            raise FitError(
                f"The rows of this fit were not kept, and the formula does not say how often each "
                f"level of {name!r} occurs. Give a level: {{..., {name!r}: [{values[0]!r}]}}."
            )
        return values[int(np.argmax(counts))]
    column = design.data[name]
    if not isinstance(design.whole, Counted):
        return column.mode().iloc[0]
    codes, found = pd.factorize(column, sort=True)
    return found[int(np.argmax(np.bincount(codes, design.whole.counts)))]


def _numbers(design: Design, name: str) -> Floats:
    """Return a numeric column of the fit's data."""
    return design.data[name].to_numpy(dtype=np.float64)

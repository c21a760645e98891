"""The response as numbers, checked against what its family may take."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.families import Family
from hiermodels.spec.frame import in_all, row_label
from hiermodels.spec.functions import level_label

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
_LARGEST = 1e100
_MANY_CATEGORIES = 50


@dataclass(frozen=True)
class Response:
    """The response as numbers.

    Attributes
    ----------
    y : ndarray (n,)
        For categories, ordered or not, their number from 0; of counts by category (n, K).
    labels : tuple of str
        For a factor response its failure and success level; for categories these in order; of
        counts their columns; else empty.
    """

    y: Array
    labels: tuple[str, ...] = ()


def as_response(
    values: Any, name: str, family: Family, trials: Array | None, index: "pd.Index[Any]"
) -> Response:
    """Return the response of a family as numbers, or raise DataError at the first bad row."""
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return _factor_response(pd.Series(values), name, family)
    try:
        y = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"The response {name} must be one number a row ({error}).") from error
    if y.shape != (len(index),):
        raise DataError(f"The response {name} has shape {y.shape}; it must be one number a row.")
    finite = "must be finite" + (" (log and sqrt take positive numbers)" if "(" in name else "")
    _refuse(~np.isfinite(y), y, name, index, finite)
    _refuse(np.abs(y) > _LARGEST, y, name, index, f"must lie within ±{_LARGEST:g}: divide it")
    bad, must = _outside(y, family)
    _refuse(bad, y, name, index, must)
    if family.response == "trials":
        _check_trials(y, name, family, trials, index)
    if family.ordinal or family.response == "levels":
        return _whole_categories(y, name, family)
    if family.response == "real":
        if family.link == "log":
            must = f"must be positive for a {family.name} family with log link"
            _refuse(y <= 0, y, name, index, must)
        if y.size > 1 and np.ptp(y) == 0:
            raise DataError(
                f"The response {name} is {y[0]:g} in every row; there is nothing to model."
            )
    if family.logarithmic or family.name == "hurdle_gamma":
        _check_positive(y, name, family)
    return Response(y)


def _check_positive(y: Array, name: str, family: Family) -> None:
    """Raise DataError where there is no positive response, or no spread of what its log is of."""
    positive = y[y > 0]
    if not positive.size:
        raise DataError(
            f"The response {name} is 0 in every row; family={family.name!r} needs positive values "
            "besides, or there is nothing to model."
        )
    if positive.size > 1 and np.ptp(positive) == 0 and family.logarithmic:
        raise DataError(
            f"The positive values of the response {name} are all {positive[0]:g}; there is nothing "
            f"to model for family={family.name!r}."
        )


def _outside(y: Array, family: Family) -> tuple[Bools, str]:
    """Return which values the family cannot take, and what they must be."""
    whole = y == np.round(y)
    of = f"for family={family.name!r}"
    match family.response:
        case "binary":
            return (y != 0) & (y != 1), (
                f"must be 0 or 1, True or False, or a factor with two levels {of}"
            )
        case "trials" | "count":
            return (y < 0) | ~whole, f"must be a count (0, 1, 2, ...) {of}"
        case "positive":
            hint = "; zeros need a family of their own, or leave those rows out"
            return y <= 0, f"must be above 0 {of}{hint if np.any(y == 0) else ''}"
        case "nonnegative":
            return y < 0, f"must be at least 0 {of}"
        case "angle":
            return np.abs(y) > np.pi, f"must be an angle in radians from -π to π {of}"
        case "unit":
            outside = (y <= 0) | (y >= 1)
            hint = ""
            if np.any(outside & ((y == 0) | (y == 1))):
                hint = (
                    "; exact zeros and ones are outside of a beta distribution. For successes out "
                    "of trials use 'binomial' or 'beta_binomial'"
                )
            return outside, f"must lie between 0 and 1, both excluded, {of}{hint}"
        case "levels":
            return ~whole, f"must be text, a categorical or whole numbers that name levels {of}"
        case "ordered":
            return ~whole, f"must be whole numbers or an ordered factor {of}"
    return np.zeros(y.shape, dtype=np.bool_), ""


def _factor_response(values: "pd.Series[Any]", name: str, family: Family) -> Response:
    """Return the codes of a factor's levels: of two levels, or of ordered ones."""
    levels = [str(level) for level in values.cat.categories]
    listed = f"{', '.join(levels[:6])}{', ...' if len(levels) > 6 else ''}"
    if family.ordinal:
        if not values.cat.ordered:
            raise DataError(
                f"The response {name} is text or a factor without an order ({listed}); "
                f"family={family.name!r} needs ordered categories. Give the order: "
                f"pd.Categorical(data[{name!r}], [{', '.join(map(repr, levels[:3]))}, ...], "
                "ordered=True)."
            )
    if family.ordinal or family.response == "levels":
        _check_categories(levels, name, family)
        return Response(values.cat.codes.to_numpy().astype(np.float64), tuple(levels))
    if family.response != "binary":
        other = ""
        if len(levels) == 2:
            other = " For two levels use family='bernoulli'."
        elif values.cat.ordered or len(levels) > 2:
            other = (
                " For two levels use family='bernoulli', for ordered categories "
                "family='cumulative', for others 'categorical'."
            )
        raise DataError(
            f"The response {name} is a factor with levels {listed}; "
            f"family={family.name!r} needs numbers.{other}"
        )
    if len(levels) != 2:
        raise DataError(
            f"The response {name} is a factor with {len(levels)} "
            f"{'level' if len(levels) == 1 else 'levels'} in the rows used "
            f"({listed}); family='bernoulli' needs two, the second being success."
        )
    return Response(values.cat.codes.to_numpy().astype(np.float64), (levels[0], levels[1]))


def _whole_categories(y: Array, name: str, family: Family) -> Response:
    """Return whole numbers as categories: those that occur, in their order."""
    found, codes = np.unique(y, return_inverse=True)
    labels = [level_label(value) for value in found]
    _check_categories(labels, name, family)
    return Response(codes.astype(np.float64), tuple(labels))


def as_counts(y: Array, labels: tuple[str, ...], name: str, index: "pd.Index[Any]") -> Response:
    """Return counts by category (n, K), or raise DataError at the first bad row.

    Parameters
    ----------
    y : ndarray (n, K)
    labels : tuple of str, length K
    name : str
        Of the response.
    index : pandas.Index
        Of the rows.

    Raises
    ------
    DataError
        A count is negative or no whole number, a row or a column holds no counts.
    """
    for k, label in enumerate(labels):
        bad = (y[:, k] < 0) | (y[:, k] != np.round(y[:, k]))
        _refuse(bad, y[:, k], f"{name}: {label}", index, "must be a count (0, 1, 2, ...)")
        if not y[:, k].any():
            raise DataError(
                f"The column {label!r} of the response {name} holds no counts; a category that "
                "never occurs has no finite estimate. Leave it out of c()."
            )
    empty = np.flatnonzero(y.sum(axis=1) == 0)
    if empty.size:
        raise DataError(
            f"The response {name} has no counts at {row_label(index, int(empty[0]))} "
            f"{in_all(empty.size)}; such rows say nothing. Leave them out."
        )
    return Response(y, labels)


def _check_categories(labels: list[str], name: str, family: Family) -> None:
    """Raise DataError where there are too few or too many categories."""
    if len(labels) < 2:
        raise DataError(
            f"The response {name} has one category only ({labels[0]!r}) in the rows used; there "
            "is nothing to model."
        )
    if len(labels) > _MANY_CATEGORIES:
        raise DataError(
            f"The response {name} has {len(labels)} categories; family={family.name!r} takes up to "
            f"{_MANY_CATEGORIES}, as each needs a "
            f"{'cutpoint' if family.ordinal else 'linear predictor'}. Is it a count or a "
            "measurement?"
        )


def _check_trials(
    y: Array, name: str, family: Family, trials: Array | None, index: "pd.Index[Any]"
) -> None:
    if trials is None:
        single = ", or use family='bernoulli' for single trials" * (family.name == "binomial")
        raise DataError(
            f"family={family.name!r} needs the number of trials: write "
            f"'{name} | trials(n) ~ ...'{single}."
        )
    bad = np.flatnonzero((trials < 1) | (trials != np.round(trials)))
    if bad.size:
        raise DataError(
            f"The number of trials is {trials[bad[0]]:g} at {row_label(index, int(bad[0]))}; it "
            "must be a whole number of at least 1."
        )
    more = np.flatnonzero(y > trials)
    if more.size:
        i = int(more[0])
        raise DataError(
            f"At {row_label(index, i)} there are {y[i]:g} successes in {trials[i]:g} trials; "
            "there cannot be more successes than trials."
        )


def _refuse(bad: Bools, y: Array, name: str, index: "pd.Index[Any]", must: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        i = int(rows[0])
        raise DataError(
            f"The response {name} is {y[i]:g} at {row_label(index, i)} {in_all(rows.size)}; "
            f"it {must}."
        )

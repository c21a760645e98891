"""The additions to a response met their data: trials, weights, known errors, cens, trunc."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.coding import evaluate, evaluate_number
from hiermodels.spec.expressions import Expression
from hiermodels.spec.families import Family
from hiermodels.spec.formula import Addition, ModelFormula
from hiermodels.spec.frame import as_predictor, in_all, row_label

Array = NDArray[np.float64]
_BY_FAMILY = {
    "trials": ("binomial", "beta_binomial", "zero_inflated_binomial"),
    "precision": ("gaussian",),
    "se": ("gaussian",),
}
_KINDS = {"left": -1, "none": 0, "right": 1, "interval": 2, "-1": -1, "0": 0, "1": 1, "2": 2}
# truth values say whether a row is censored, on the right as in survival data
_TRUTH = {"False": 0, "True": 1}


@dataclass(frozen=True)
class Censoring:
    """Which responses are bounds.

    Attributes
    ----------
    kind : ndarray of int (n,)
        0: observed; -1 (left): the response is y or less; 1 (right): y or more; 2 (interval):
        from y to upper. Bounds are included, which matters for counts.
    upper : ndarray (n,)
        Upper ends of intervals; y elsewhere.
    """

    kind: NDArray[np.intp]
    upper: Array


@dataclass(frozen=True)
class Truncation:
    """Bounds outside of which a response cannot have been recorded; both are included.

    Attributes
    ----------
    lower, upper : ndarray (n,) or None
    """

    lower: Array | None
    upper: Array | None


@dataclass(frozen=True)
class AdditionValues:
    """Every addition as numbers, None where it is not written.

    Attributes
    ----------
    trials, weights, precision, se : ndarray (n,) or None
    with_sigma : bool
        Whether a residual sd is estimated besides known standard errors.
    """

    trials: Array | None = None
    weights: Array | None = None
    precision: Array | None = None
    se: Array | None = None
    with_sigma: bool = False


def read_additions(formula: ModelFormula, family: Family, kept: pd.DataFrame) -> AdditionValues:
    """Return the additions that are one number a row, checked.

    Raises
    ------
    FormulaError
        An addition does not go with the family, or names no column.
    DataError
        A value is out of range.
    """
    found: dict[str, Array] = {}
    for name, addition in formula.additions.items():
        _check_family(name, family)
        if name not in ("cens", "trunc"):
            found[name] = _numbers(name, addition.expression, kept)
    se = formula.additions.get("se")
    return AdditionValues(**found, with_sigma=bool(se and se.with_sigma))


def check_errors(formula: ModelFormula) -> None:
    """Raise FormulaError where known errors leave no sigma to speak of, or stand beside one."""
    se = formula.additions.get("se")
    if se is None:
        return
    if not se.with_sigma and formula.sigma is not None:
        raise FormulaError(
            "se(s) replaces sigma, so sigma can have no formula. Write se(s, sigma=True) to "
            "estimate a sigma besides, or leave the formula for sigma out."
        )
    if se.with_sigma and formula.residual is not None:
        raise FormulaError(
            f"se(s, sigma=True) adds independent errors to correlated ones; {formula.residual} "
            "goes with se(s) alone, with precision(w), or with neither."
        )


def known_errors(addition: Addition, rows: pd.DataFrame) -> Array:
    """Return the known errors of ``se()`` at some rows, checked.

    Raises
    ------
    FormulaError
        It names no column.
    DataError
        A value is not above 0.
    """
    return _numbers("se", addition.expression, rows)


def _check_family(name: str, family: Family) -> None:
    """Raise FormulaError where an addition does not go with the family."""
    allowed = _BY_FAMILY.get(name)
    takes_trials = name == "trials" and family.response == "trials"
    if allowed is not None and family.name not in allowed and not takes_trials:
        raise FormulaError(
            f"{name}() belongs to family={' or '.join(map(repr, allowed))}; this model has "
            f"family={family.name!r}. Change the family or leave {name}() out."
        )
    if name in ("cens", "trunc") and not family.has_cdf:
        raise FormulaError(
            f"{name}() needs a distribution function, which family={family.name!r} does not have "
            "here; gaussian, t, gamma, beta, poisson and negativebinomial do. Leave it out or "
            "change the family."
        )


def _numbers(name: str, expression: Expression, rows: pd.DataFrame) -> Array:
    """Return an addition's numbers, positive (weights may be 0)."""
    if not expression.columns:
        if name != "trials":
            raise FormulaError(f"{name}({expression.label}) names no column.")
        return np.full(len(rows), _constant(name, expression.label))
    columns = {column: as_predictor(rows[column], column) for column in expression.columns}
    values = evaluate_number(expression, columns, name)
    lowest = "at least 0" if name == "weights" else "above 0"
    bad = np.flatnonzero(values < 0 if name == "weights" else values <= 0)
    if bad.size:
        raise DataError(
            f"{name}({expression.label}) is {values[bad[0]]:g} at "
            f"{row_label(rows.index, int(bad[0]))} {in_all(bad.size)}; it must be {lowest}."
        )
    if not values.any():
        raise DataError(f"{name}({expression.label}) is 0 in every row; nothing would count.")
    return values


def _constant(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FormulaError(f"{name}({text}) is neither a column nor a number.") from None


# --- censoring ------------------------------------------------------------------------------


def read_censoring(formula: ModelFormula, kept: pd.DataFrame, y: Array) -> Censoring | None:
    """Return which responses are bounds, None where none is said to be.

    Raises
    ------
    FormulaError
        Rows are intervals and no upper ends are named.
    DataError
        A code is unknown, or an upper end lies below the response.
    """
    addition = formula.additions.get("cens")
    if addition is None:
        return None
    kind = censoring_kinds(addition, kept)
    inside = np.flatnonzero(kind == 2)
    upper = y.copy()
    ends = addition.parts.get("y2")
    label = addition.expression.label
    if inside.size and ends is None:
        raise FormulaError(
            f"cens({label}) says 'interval' at {row_label(kept.index, int(inside[0]))} "
            f"{in_all(inside.size)}, and no upper ends are named: write cens({label}, y2), y2 "
            "being the column of the upper ends."
        )
    if inside.size and ends is not None:
        rows = kept.iloc[inside]
        columns = {name: as_predictor(rows[name], name) for name in ends.columns}
        upper[inside] = evaluate_number(ends, columns, "upper end")
    bad = np.flatnonzero(upper < y)
    if bad.size:
        i = int(bad[0])
        raise DataError(
            f"At {row_label(kept.index, i)} the interval ends at {upper[i]:g}, below its beginning "
            f"{y[i]:g} {in_all(bad.size)}: the bounds are out of order. The response is the lower "
            "end, the second column of cens() the upper one."
        )
    same = np.flatnonzero((kind == 2) & (upper == y) & (y != np.round(y)))
    if same.size:
        i = int(same[0])
        raise DataError(
            f"At {row_label(kept.index, i)} the interval is a single number, {y[i]:g} "
            f"{in_all(same.size)}; call such rows 'none' in {label}."
        )
    return Censoring(kind, upper)


def censoring_kinds(addition: Addition, rows: pd.DataFrame) -> NDArray[np.intp]:
    """Return the code of each row: -1, 0, 1 or 2."""
    expression = addition.expression
    if not expression.columns:
        raise FormulaError(f"cens({expression.label}) names no column.")
    columns = {column: as_predictor(rows[column], column) for column in expression.columns}
    values = evaluate(expression, columns, {})
    labels = [_code_label(value) for value in np.asarray(values, dtype=object)]
    truth = set(labels) <= set(_TRUTH)
    codes = _TRUTH if truth else _KINDS
    bad = [i for i, label in enumerate(labels) if label not in codes]
    if bad:
        raise DataError(
            f"cens({expression.label}) is {labels[bad[0]]!r} at {row_label(rows.index, bad[0])} "
            f"{in_all(len(bad))}; allowed are 'none', 'left', 'right', 'interval', or 0, -1, 1, 2."
        )
    return np.array([codes[label] for label in labels], dtype=np.intp)


def _code_label(value: Any) -> str:
    """Return a code as text: 1.0 as ``1``."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


# --- truncation -----------------------------------------------------------------------------


def read_truncation(
    formula: ModelFormula, kept: pd.DataFrame, y: Array, censoring: Censoring | None
) -> Truncation | None:
    """Return the bounds of truncation, None where none is written.

    Raises
    ------
    DataError
        Bounds are out of order, or a response lies outside of them.
    """
    found = read_bounds(formula, kept)
    if found is None:
        return None
    lower, upper = found.lower, found.upper
    top = y if censoring is None else np.maximum(y, censoring.upper)
    if lower is not None:
        _refuse_outside(y < lower, y, lower, "below its lower", kept)
    if upper is not None:
        _refuse_outside(top > upper, top, upper, "above its upper", kept)
    return found


def read_bounds(formula: ModelFormula, kept: pd.DataFrame) -> Truncation | None:
    """Return the bounds of truncation whatever the response is, None where none is written.

    Raises
    ------
    DataError
        Bounds are out of order.
    """
    addition = formula.additions.get("trunc")
    if addition is None:
        return None
    lower, upper = (_bound(addition.parts, name, kept) for name in ("lb", "ub"))
    if lower is not None and upper is not None:
        _refuse_bounds(lower >= upper, lower, upper, kept)
    return Truncation(lower, upper)


def _bound(parts: Mapping[str, Expression], name: str, kept: pd.DataFrame) -> Array | None:
    """Return a bound of each row."""
    expression = parts.get(name)
    if expression is None:
        return None
    if not expression.columns:
        return np.full(len(kept), _constant("trunc", expression.label.replace(" ", "")))
    columns = {column: as_predictor(kept[column], column) for column in expression.columns}
    return evaluate_number(expression, columns, "bound")


def _refuse_bounds(bad: NDArray[np.bool_], lower: Array, upper: Array, kept: pd.DataFrame) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        i = int(rows[0])
        raise DataError(
            f"trunc() has the lower bound {lower[i]:g} and the upper bound {upper[i]:g} at "
            f"{row_label(kept.index, i)} {in_all(rows.size)}: they are out of order. Write "
            "trunc(lb=..., ub=...) with lb below ub."
        )


def _refuse_outside(
    bad: NDArray[np.bool_], y: Array, bound: Array, side: str, kept: pd.DataFrame
) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        i = int(rows[0])
        raise DataError(
            f"The response is {y[i]:g} at {row_label(kept.index, i)} {in_all(rows.size)}, {side} "
            f"bound {bound[i]:g} of trunc(); a truncated response lies within its bounds. "
            "A response that is known to lie beyond a bound is censored: write cens()."
        )

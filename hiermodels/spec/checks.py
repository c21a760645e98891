"""What a design may not hold: constant or collinear columns, effects that cannot be told apart."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.matrices import Column, Matrix, blocks, triangle
from hiermodels.spec.terms import Bar

Array = NDArray[np.float64]
_COLLINEAR = 1e-9
_SMALLEST = 1e-100
# A few roundings of a constant: anything that varies more is a predictor.
_CONSTANT = 8 * np.finfo(np.float64).eps


class Grouped(Protocol):
    """What is looked at of a grouping factor."""

    @property
    def name(self) -> str:
        """Name of the grouping."""

    @property
    def levels(self) -> tuple[str, ...]:
        """Labels (J)."""

    @property
    def index(self) -> NDArray[np.intp]:
        """The level of each row (n,)."""

    @property
    def coefs(self) -> tuple[str, ...]:
        """Effects of all its bars."""


# --- columns --------------------------------------------------------------------------------


def check_columns(X: Matrix, where: str, rows: int | None = None) -> None:
    """Raise DataError at zero, constant or exactly collinear columns, naming them.

    Parameters
    ----------
    X : Matrix (n, p)
        The columns with numeric predictors centred, so that a far origin hides nothing.
    where : str
        What they belong to, for messages.
    rows : int, optional
        How many rows those of X stand for, where these are others.
    """
    columns, (n, p) = X.columns, X.shape
    n = n if rows is None else rows
    if not columns:
        return
    _check_constant(columns, where)
    # column by column: NumPy is slow along the first of two axes
    ends = [[max(own.max(), -own.min()) for own in block.T] for block in blocks(X)]
    peaks = np.max(ends, axis=0)
    for column, peak in zip(columns, peaks, strict=True):
        if peak == 0:
            raise DataError(_zero(column, where))
        if peak < _SMALLEST:
            raise DataError(
                f"The predictor {column.name!r} in {where} varies by {peak:.3g} only, too little "
                "to be squared safely. Multiply the column by a power of ten."
            )
    if n < p:
        raise DataError(
            f"There are {p} coefficients in {where} and {n} rows; at least as many rows are "
            "needed. Leave predictors out."
        )
    # a triangular factor has the columns' inner products, and takes no copy of the rows
    scaled = triangle((block / peaks for block in blocks(X)), p)
    scaled /= np.linalg.norm(scaled, axis=0)
    diagonal = np.abs(np.diag(linalg.qr(scaled, mode="r", pivoting=True)[0]))
    if diagonal[-1] > _COLLINEAR * diagonal[0]:
        return
    dependent, partners = _dependent(scaled)
    names = ", ".join(repr(columns[k].name) for k in partners)
    hint = (
        " A combination of levels that does not occur in the rows used has this effect too."
        if len(columns[dependent].labels) > 1
        else ""
    )
    advice = "Leave one of them out."
    basis, _, rest = columns[dependent].name.partition(")[")
    if basis.startswith("cr(") and "constraints" not in basis and rest.endswith("]"):
        # one column of a spline cannot be left out
        advice = (
            f"The columns of cr() add up to an intercept: write {basis}, constraints='center'), or "
            "leave the intercept out (0 + ...)."
        )
    raise DataError(
        f"The predictor {columns[dependent].name!r} in {where} is an exact combination of {names}; "
        f"their coefficients cannot be told apart. {advice}{hint}"
    )


def _dependent(scaled: Array) -> tuple[int, list[int]]:
    """Return the first column that the ones before it make up, and which of them do."""
    orthonormal = np.empty((len(scaled), 0))
    for k in range(scaled.shape[1]):
        rest = scaled[:, k]
        for _ in range(2):  # twice is enough (Kahan): one pass leaves rounding of large parts
            rest = rest - orthonormal @ (orthonormal.T @ rest)
        size = np.linalg.norm(rest)
        if size <= _COLLINEAR * np.sqrt(k + 1):
            weights = np.linalg.lstsq(scaled[:, :k], scaled[:, k], rcond=None)[0]
            return k, [j for j in range(k) if abs(weights[j]) > 1e-7]
        orthonormal = np.column_stack([orthonormal, rest / size])
    last = scaled.shape[1] - 1
    return last, list(range(last))


def _zero(column: Column, where: str) -> str:
    """Return the message for a column of zeros."""
    if column.numeric:
        return (
            f"The predictor {column.name!r} in {where} is zero in every row used; it cannot "
            "predict anything. Leave it out."
        )
    return (
        f"The column {column.name!r} in {where} is zero in every row used: no row has that level "
        "or combination of levels. Leave the interaction out, or merge levels."
    )


def _check_constant(columns: Sequence[Column], where: str) -> None:
    """Raise DataError at a numeric predictor that does not vary beside an intercept."""
    if all(column.parts for column in columns):
        return
    for column in columns:
        for label, part in column.parts:
            if label in column.numeric and np.ptp(part) <= _CONSTANT * max(
                np.max(part), -np.min(part)
            ):
                raise DataError(
                    f"The predictor {label!r} in {where} is {part[0]:g} in every row used; it "
                    "cannot be told from the intercept. Leave it out."
                )


# --- groupings ------------------------------------------------------------------------------


def check_groups(bars: Sequence[Bar]) -> None:
    """Raise where two groupings have the same name and are made of other columns, or otherwise."""
    made: dict[str, Bar] = {}
    for bar in bars:
        first = made.setdefault(bar.group_name, bar)
        if first.group != bar.group:
            parts = max(first.group, bar.group, key=len)
            raise DataError(
                f"Two groupings are called {bar.group_name!r}: one is a column, the other is made "
                f"of {' and '.join(repr(part) for part in parts)}. Rename the column."
            )
        if replace(first.structure, correlated=True) != replace(bar.structure, correlated=True):
            raise FormulaError(
                f"The grouping {bar.group_name!r} has two structures: one bar's gr() or mm() says "
                "what the other's does not. Write the same one in every bar."
            )


def check_effects(group: str, coefs: Sequence[str]) -> None:
    """Raise FormulaError at an effect that stands twice on one factor: it is not identified."""
    for coef in coefs:
        if list(coefs).count(coef) > 1:
            raise FormulaError(
                f"The effect {coef!r} varies by {group!r} in two bars, so its two variances "
                f"cannot be told apart. {_once(group, coef, coefs)}"
            )


def _once(group: str, coef: str, coefs: Sequence[str]) -> str:
    """Return how to write an effect once; coded columns are no text for a formula."""
    if all(name.isidentifier() for name in coefs):
        once = " + ".join("1" if name == "Intercept" else name for name in dict.fromkeys(coefs))
        return f"Write it once, for instance ({once} | {group})."
    without = ": 0 + leaves out an intercept" if coef == "Intercept" else ""
    return f"Leave it out of one of the two{without}."


def check_partitions(groups: Sequence[Grouped], n: int, sigma_estimated: bool) -> None:
    """Raise DataError at groupings that cannot be told from the rows or from each other."""
    for group in groups:
        if sigma_estimated and len(group.levels) >= n:
            raise DataError(
                f"The grouping {group.name!r} has as many levels ({len(group.levels)}) as there "
                f"are rows ({n}); its variance cannot be told from the residual variance. "
                "Leave the bar out, or give known standard errors by 'y | se(s)'."
            )
    for first, second in combinations(groups, 2):
        shared = [coef for coef in first.coefs if coef in second.coefs]
        if not shared or len(first.levels) != len(second.levels):
            continue
        pairs = np.unique(first.index * len(second.levels) + second.index)
        if len(pairs) == len(first.levels):
            raise DataError(
                f"The groupings {first.name!r} and {second.name!r} put the same rows together, so "
                f"the two variances of {shared[0]!r} cannot be told apart. Leave one bar out."
            )

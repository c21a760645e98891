"""Factors to columns: formulaic's coding, with each column's factors kept, and exact centring.

Every factor is evaluated here, from its checked expression; formulaic is handed finished values
and does the algebra of terms and the coding of factors. Because each column remembers the factors
it is a product of, a column can be rewritten exactly in terms of centred predictors.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.errors import FormulaicError
from formulaic.materializers import PandasMaterializer
from formulaic.materializers.types import FactorValues
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_eval
from numpy.typing import NDArray

from hiermodels.errors import DataError, FormulaError, HierModelsError
from hiermodels.spec.expressions import Expression, code_name
from hiermodels.spec.frame import in_all, row_label
from hiermodels.spec.functions import namespace
from hiermodels.spec.whole import Stands, mean_of

Array = NDArray[np.float64]
_EXACT = 1e-9
_LARGEST = 1e100
_MARKED_COLUMN = re.compile(r"_column_(\d+)_")


@dataclass(frozen=True)
class Column:
    """One column of a model matrix.

    Attributes
    ----------
    name : str
        As formulaic names it: ``"Days"``, ``"h[T.mid]"``, ``"x:h[T.mid]"``.
    parts : tuple of (str, ndarray (n,))
        The factors it is the product of, by label; empty for the intercept.
    numeric : frozenset of str
        The labels of those parts that are numbers, not levels of a factor.
    """

    name: str
    parts: tuple[tuple[str, Array], ...]
    numeric: frozenset[str]

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the factors it is the product of."""
        return frozenset(label for label, _ in self.parts)

    def values(self, n: int) -> Array:
        """Return the column (n,)."""
        return _product([part for _, part in self.parts], n)


def evaluate(
    expression: Expression, columns: Mapping[str, "pd.Series[Any]"], state: dict[str, Any]
) -> Any:
    """Return the value of a checked expression: numbers, a factor, or coded columns."""
    if expression.plain:
        return columns[expression.columns[0]]
    names = dict(namespace())
    for i, name in enumerate(expression.columns):
        names[code_name(i)] = columns[name]
    try:
        with np.errstate(all="ignore"):
            return stateful_eval(expression.code, names, {}, state, None)
    except HierModelsError:
        raise
    except (
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        AssertionError,
        NotImplementedError,
        RecursionError,
        FormulaicError,
    ) as error:
        factors = [repr(name) for name in expression.columns if _is_factor(columns[name])]
        reason = f"{', '.join(factors)} is a factor, arithmetic needs numbers" if factors else ""
        detail = _MARKED_COLUMN.sub(lambda m: expression.columns[int(m.group(1))], str(error))
        raise FormulaError(
            f"{expression.label[:200]} cannot be computed: "
            f"{f'{reason} ({detail})' if factors else detail.rstrip('.')}."
        ) from error


def evaluate_number(
    expression: Expression, columns: Mapping[str, "pd.Series[Any]"], what: str
) -> Array:
    """Return an expression that must be one finite number a row (n,)."""
    value = evaluate(expression, columns, {})
    if _is_factor(value) or isinstance(value, FactorValues):
        raise DataError(f"The {what} {expression.label} is a factor; it must be numeric.")
    index = next(iter(columns.values())).index
    values = np.asarray(value, dtype=np.float64)
    if values.shape != (len(index),):
        raise DataError(
            f"The {what} {expression.label} has shape {values.shape}; it must be one number a row."
        )
    check_finite(values, expression.label, index)
    return values


def check_finite(values: Array, label: str, index: "pd.Index[Any]") -> None:
    """Raise DataError at the first value that is not a finite number, or too large to square."""
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"{label} is {values[bad[0]]} at {row_label(index, int(bad[0]))} {in_all(bad.size)}; "
            "values must be finite. Look at zeros and negative numbers under log or sqrt, and at "
            "a spread of zero under scale."
        )
    large = np.flatnonzero(np.abs(values) > _LARGEST)
    if large.size:
        raise DataError(
            f"{label} is {values[large[0]]:g} at {row_label(index, int(large[0]))} "
            f"{in_all(large.size)}; numbers beyond {_LARGEST:g} cannot be squared safely. "
            "Divide the column by a power of ten."
        )


def _is_factor(value: Any) -> bool:
    return isinstance(getattr(value, "dtype", None), pd.CategoricalDtype)


def evaluate_factors(
    factors: Mapping[str, Expression],
    columns: Mapping[str, "pd.Series[Any]"],
    state: dict[str, Any],
) -> dict[str, Any]:
    """Return the value of every factor by label, checked, as formulaic takes them."""
    index = next(iter(columns.values())).index
    values: dict[str, Any] = {}
    for label, expression in factors.items():
        value = evaluate(expression, columns, state.setdefault(label, {}))
        if isinstance(value, FactorValues) and _is_factor(value.__wrapped__):
            _check_levels(pd.Series(value.__wrapped__), label)
            values[label] = value
        elif _is_factor(value):
            _check_levels(pd.Series(value), label)
            ordered = bool(value.dtype.ordered)
            values[label] = TRANSFORMS["C"](value, TRANSFORMS["contr"].poly) if ordered else value
        elif isinstance(value, FactorValues | dict):
            for name, part in _coded_columns(value):
                check_finite(np.asarray(part, dtype=np.float64), f"{label}[{name}]", index)
            values[label] = value
        else:
            numbers = np.asarray(value, dtype=np.float64)
            if numbers.ndim == 0:
                numbers = np.full(len(index), float(numbers))
            check_finite(numbers, label, index)
            values[label] = pd.Series(numbers, index=index) if numbers.ndim == 1 else value
    return values


def _coded_columns(value: Any) -> list[tuple[str, Any]]:
    """Return the columns of a basis such as ``poly`` or ``bs``, by formulaic's names."""
    inner = value.__wrapped__ if isinstance(value, FactorValues) else value
    if isinstance(inner, Mapping):
        return [(str(name), part) for name, part in inner.items() if str(name)[:2] != "__"]
    table = np.asarray(inner, dtype=np.float64)
    return [(str(k + 1), part) for k, part in enumerate(np.atleast_2d(table.T))]


def _check_levels(factor: "pd.Series[Any]", label: str) -> None:
    if len(factor.cat.categories) < 2:
        level = next(iter(factor.cat.categories), None)
        raise DataError(
            f"The factor {label!r} has one level only ({level!r}) in the rows used; it cannot "
            "predict anything. Leave it out of the formula."
        )


# --- columns --------------------------------------------------------------------------------


def code_columns(
    formula: str, values: Mapping[str, Any], index: "pd.Index[Any]", spec: ModelSpec | None = None
) -> tuple[tuple[Column, ...], ModelSpec]:
    """Return the columns of a formula over evaluated factors, and formulaic's specification.

    Parameters
    ----------
    formula : str
        Terms over labels in backticks.
    values : dict of str
        The factors by label.
    index : pandas.Index
        Of the rows.
    spec : formulaic.ModelSpec, optional
        Of an earlier call: the columns are then built as they were there.
    """
    materializer = PandasMaterializer(pd.DataFrame(index=index), context=dict(values))
    source: Any = formula if spec is None else copy.deepcopy(spec)
    try:
        matrix = materializer.get_model_matrix(source, output="pandas", na_action="ignore")
    except (FormulaicError, ValueError) as error:
        raise FormulaError(f"The terms {formula} cannot be coded: {error}") from error
    built = cast(ModelSpec, matrix.model_spec)
    columns: list[Column] = []
    for structure in built.structure or ():
        for scoped in structure.scoped_terms:
            columns += _scoped_columns(scoped, materializer, index)
    if [column.name for column in columns] != list(matrix.columns):
        raise FormulaError(f"The terms {formula} give the same column twice; write each once.")
    return tuple(columns), built


def _scoped_columns(scoped: Any, materializer: Any, index: "pd.Index[Any]") -> list[Column]:
    """Return the columns of one term, the last factor's levels varying slowest, as in R."""
    found = [Column("Intercept" if not scoped.factors else "", (), frozenset())]
    for factor in scoped.factors:
        evaluated = materializer.factor_cache[factor.factor.expr]
        label = evaluated.expr
        encoded = materializer._encode_evaled_factor(  # the one place that knows coded factors
            evaluated, ModelSpec(formula=[], output="pandas"), [], reduced_rank=factor.reduced
        )
        numeric = evaluated.metadata.kind.value == "numerical"
        found = [
            Column(
                f"{before.name}:{name}" if before.name else name,
                (*before.parts, (label, np.asarray(part, dtype=np.float64))),
                before.numeric | {label} if numeric else before.numeric,
            )
            for name, part in encoded.items()
            for before in found
        ]
    return found


def stack(columns: tuple[Column, ...], n: int) -> Array:
    """Return the columns side by side (n, p)."""
    if not columns:
        return np.empty((n, 0))
    return np.column_stack([column.values(n) for column in columns])


# --- centring -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Centring:
    """A model matrix with its numeric factors centred: ``X_centred = X @ T``.

    Attributes
    ----------
    T : ndarray (p, p)
        Unit triangular up to the order of columns; coefficients of ``X`` are
        ``T @ coefficients of X_centred``.
    X : ndarray (n, p)
        The centred columns, computed from centred factors, not as ``X @ T`` (which cancels).
    """

    T: Array
    X: Array


@dataclass(frozen=True, eq=False)
class Recipe:
    """How columns are centred, whatever the means.

    Attributes
    ----------
    p : int
    steps : tuple of (str, tuple of (int, ndarray (p,)))
        In order, a numeric factor's label with the columns in which it is centred, each with what
        the column without that factor is made of.
    """

    p: int
    steps: tuple[tuple[str, tuple[tuple[int, Array], ...]], ...]

    def transform(self, means: Mapping[tuple[int, str], float]) -> Array:
        """Return T (p, p) for the means of the factors' parts, by column and label."""
        T = np.eye(self.p)
        for label, changes in self.steps:
            before = T.copy()
            for k, margin in changes:
                T[:, k] -= means[k, label] * (before @ margin)
        return T

    def keys(self) -> tuple[tuple[int, str], ...]:
        """Return the parts that are centred, by column and label."""
        return tuple((k, label) for label, changes in self.steps for k, _ in changes)

    def centred(
        self, columns: tuple[Column, ...], means: Mapping[tuple[int, str], float], n: int
    ) -> list[Array]:
        """Return the columns (n,) with their parts centred at these means."""
        found = []
        for k, column in enumerate(columns):
            parts = [part - means.get((k, label), 0.0) for label, part in column.parts]
            found.append(_product(parts, n))
        return found


def find_recipe(columns: tuple[Column, ...], n: int) -> Recipe:
    """Return how columns are centred, found on some of their rows."""
    return _centre(columns, n)[1]


def centre(columns: tuple[Column, ...], n: int, whole: Stands = None) -> Centring:
    """Rewrite columns exactly in centred numeric factors, where their margins are in the matrix.

    A column whose margins are missing (``x:z`` without ``x``) stays as it is.
    """
    return _centre(columns, n, whole)[0]


def _centre(columns: tuple[Column, ...], n: int, whole: Stands = None) -> tuple[Centring, Recipe]:
    """Return the centred columns, and how they were made."""
    steps = []
    p = len(columns)
    parts = [dict(column.parts) for column in columns]
    T = np.eye(p)
    current = [column.values(n) for column in columns]
    numeric = dict.fromkeys(label for column in columns for label in sorted(column.numeric))
    for label in numeric:
        before = T.copy()
        centred = list(current)
        changes = []
        for k, column in enumerate(columns):
            if label not in column.numeric:
                continue
            margin = _margin(k, label, columns, parts, current, n)
            if margin is None:
                continue
            changes.append((k, margin))
            mean = mean_of(parts[k][label], whole)
            used = np.flatnonzero(margin)
            T[:, k] -= mean * (before[:, used] @ margin[used])
            parts[k] = {**parts[k], label: parts[k][label] - mean}
            centred[k] = _product(list(parts[k].values()), n)
        current = centred
        steps.append((label, tuple(changes)))
    X = np.column_stack(current) if p else np.empty((n, 0))
    return Centring(T, X), Recipe(p, tuple(steps))


def _margin(
    k: int,
    label: str,
    columns: tuple[Column, ...],
    parts: list[dict[str, Array]],
    current: list[Array],
    n: int,
) -> Array | None:
    """Return how column k without one factor is made of the others (p,), None where it is not."""
    rest = _product([part for name, part in parts[k].items() if name != label], n)
    below = columns[k].labels - {label}
    others = [j for j, column in enumerate(columns) if column.labels <= below]
    weights = np.zeros(len(columns))
    for j in others:
        if np.array_equal(current[j], rest):
            weights[j] = 1.0
            return weights
    if not others and not below:
        # no intercept: the levels of a factor may add up to one
        others = [j for j, column in enumerate(columns) if not column.numeric]
    if not others:
        return None
    block = np.column_stack([current[j] for j in others])
    solution = np.linalg.lstsq(block, rest, rcond=None)[0]
    if np.linalg.norm(rest - block @ solution) > _EXACT * np.linalg.norm(rest):
        return None
    rounded = np.round(solution)
    weights[others] = np.where(np.abs(solution - rounded) < _EXACT, rounded, solution)
    return weights


def _product(parts: list[Array], n: int) -> Array:
    result = np.ones(n)
    for part in parts:
        result = result * part
    return result

"""Factors to columns: formulaic's coding, with each column's factors kept.

Every factor is evaluated here, from its checked expression; formulaic is handed finished values
and does the algebra of terms and the coding of factors. Because each column remembers the factors
it is a product of, a column can be rewritten exactly in terms of centred predictors, and computed
a block of rows at a time.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, cast

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.errors import FormulaicError
from formulaic.materializers import PandasMaterializer
from formulaic.materializers.types import FactorValues
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_eval
from interface_meta import override

from hiermodels.errors import DataError, FormulaError, HierModelsError
from hiermodels.spec.expressions import Expression, code_name
from hiermodels.spec.frame import in_all, row_label
from hiermodels.spec.functions import namespace
from hiermodels.spec.matrices import Array, Column, raw_matrix
from hiermodels.spec.terms import with_intercept

_LARGEST = 1e100
_MARKED_COLUMN = re.compile(r"_column_(\d+)_")


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
    if not values.size or (values.min() >= -_LARGEST and values.max() <= _LARGEST):
        return
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
            if numbers.ndim == 1:
                value = pd.Series(numbers, index=index, copy=False)
            values[label] = value
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
    materializer = _Structure(pd.DataFrame(index=index), context=dict(values))
    try:
        source: Any = with_intercept(formula) if spec is None else copy.deepcopy(spec)
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


class _Structure(PandasMaterializer):  # type: ignore[misc]
    """Formulaic's algebra of terms without its matrix: names, and no values."""

    @override
    def _get_columns_for_term(
        self, factors: list[dict[str, Any]], spec: ModelSpec, scale: float = 1
    ) -> dict[str, Any]:
        """Return the columns of a term, the last factor's levels varying slowest, as in R."""
        names = (":".join(reversed(own)) for own in product(*reversed(factors)))
        return dict.fromkeys(names)

    @override
    def _encode_constant(
        self, value: Any, metadata: Any, encoder_state: Any, spec: ModelSpec, drop_rows: Any
    ) -> Any:
        """Return a number in place of a column."""
        return value

    @override
    def _combine_columns(
        self, cols: Sequence[tuple[str, Any]], spec: ModelSpec, drop_rows: Sequence[int]
    ) -> pd.DataFrame:
        """Return a table of no rows."""
        return pd.DataFrame(columns=list(dict.fromkeys(name for name, _ in cols)), dtype=float)


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
    return raw_matrix(columns, n).values

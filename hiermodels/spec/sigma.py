"""The formula for sigma met its data: one sd, a sd for each stratum, or a log-linear sd."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from formulaic.materializers.types import FactorValues
from numpy.typing import NDArray
from scipy import linalg

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.centring import centre
from hiermodels.spec.coding import code_columns, evaluate_factors, stack
from hiermodels.spec.formula import ParameterFormula
from hiermodels.spec.frame import as_predictor
from hiermodels.spec.matrices import Column
from hiermodels.spec.shown import Brief
from hiermodels.spec.whole import Counted

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
_COLLINEAR = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class Sigma(Brief):
    """How residual standard deviations hang on K parameters.

    Attributes
    ----------
    kind : {"one", "strata", "linear", "modelled"}
        One sd; one for each stratum; log sd = predictors times coefficients; or a linear
        predictor with group effects or offsets, which stands in ``Design.parameters``.
    labels : tuple of str, length K
        Of the strata, or of the coefficients; ``("",)`` for one sd.
    strata : ndarray of int (n,)
        The stratum of each row, of S; empty for one sd. Log-linear sds have a stratum for each
        distinct row of predictors.
    predictors : ndarray (S, K)
        Raw predictors of each stratum's log sd; the identity where the sds are the parameters.
    T : ndarray (K, K)
        ``predictors_centred = predictors @ T``.
    predictors_centred : ndarray (S, K)
        With numeric predictors centred at their means over the rows.
    columns : tuple of Column
        Of the log-linear predictors, over the rows; else empty.
    written : bool
        Whether sigma had a formula.
    counts : ndarray (S,) or None
        Of log-linear sds where rows stand for others: how many rows each stratum has.
    states : mapping
        What functions such as ``scale`` learnt, by factor.
    """

    kind: Literal["one", "strata", "linear", "modelled"]
    labels: tuple[str, ...]
    strata: Ints
    predictors: Array
    T: Array
    predictors_centred: Array
    columns: tuple[Column, ...] = ()
    written: bool = False
    counts: Array | None = None
    states: Mapping[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> Array:
        """The share of the rows that each of log-linear sds' strata has (S,)."""
        if self.counts is not None:
            return np.asarray(self.counts / np.sum(self.counts))
        return np.bincount(self.strata, minlength=len(self.predictors)) / len(self.strata)

    @property
    def intercept(self) -> int | None:
        """Position of a log-linear sd's intercept, None without one."""
        found = [k for k, column in enumerate(self.columns) if not column.parts]
        return found[0] if found else None

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of a log-linear sd's other coefficients: the dim ``sigma_coef``."""
        return tuple(column.name for column in self.columns if column.parts)


def single_sigma(written: bool = False) -> Sigma:
    """Return one sd for all rows."""
    one = np.ones((1, 1))
    return Sigma("one", ("",), np.empty(0, dtype=np.intp), one, one, one, written=written)


def modelled_sigma() -> Sigma:
    """Return the record of sds that stand in ``Design.parameters``."""
    nothing = np.empty((0, 0))
    return Sigma(
        "modelled", (), np.empty(0, dtype=np.intp), nothing, nothing, nothing, written=True
    )


def occasion_sigma(occasion: Ints, labels: tuple[str, ...]) -> Sigma:
    """Return a sd for each occasion of an unstructured covariance."""
    identity = np.eye(len(labels))
    return Sigma("strata", labels, occasion, identity, identity, identity)


def read_sigma(
    formula: ParameterFormula | None,
    kept: pd.DataFrame,
    whole: Counted | None = None,
    states: Mapping[str, Any] | None = None,
) -> Sigma:
    """Evaluate a formula for sigma; without one, or with ``sigma ~ 1``, there is one sd.

    Parameters
    ----------
    formula : ParameterFormula or None
    kept : pandas.DataFrame
        Complete rows.
    whole : Counted, optional
        For how many rows each row stands.
    states : mapping, optional
        What functions such as ``scale`` learnt of all rows, by factor; learnt here by default.

    Raises
    ------
    FormulaError
        The formula has no term.
    DataError
        A stratum has no rows, or predictors cannot be told apart.
    """
    if formula is None:
        return single_sigma()
    names = [name for factor in formula.factors.values() for name in factor.columns]
    predictors = {name: as_predictor(kept[name], name) for name in dict.fromkeys(names)}
    every = predictors or {"": pd.Series(0.0, index=kept.index)}
    learnt = copy.deepcopy(dict(states or {}))
    values = evaluate_factors(formula.factors, every, learnt)
    columns, _ = code_columns(formula.common, values, kept.index)
    if not columns:
        raise FormulaError(f"{formula.text!r} has no term. For one sd write 'sigma ~ 1'.")
    if len(columns) == 1 and not columns[0].parts:
        return single_sigma(written=True)
    X = stack(columns, len(kept))
    _check_empty(columns, X)
    factors_alone = all(column.parts and not column.numeric for column in columns)
    if factors_alone and np.all((X == 0) | (X == 1)) and np.all(np.sum(X, axis=1) == 1):
        strata = np.argmax(X, axis=1).astype(np.intp)
        labels = _stratum_labels(columns, X, values)
        identity = np.eye(len(labels))
        return Sigma(
            "strata", labels, strata, identity, identity, identity, written=True, states=learnt
        )
    return replace(_linear(formula, columns, X, whole), states=learnt)


def _check_empty(columns: tuple[Column, ...], X: Array) -> None:
    """Raise DataError at a column that is zero in every row."""
    for k, column in enumerate(columns):
        if not np.any(X[:, k]):
            raise DataError(
                f"The stratum {column.name!r} of the formula for sigma has no rows: that "
                "combination of levels does not occur in the rows used. Merge levels, or use one "
                "factor that holds the combinations."
            )


def _stratum_labels(
    columns: tuple[Column, ...], X: Array, values: dict[str, Any]
) -> tuple[str, ...]:
    """Return what the strata are called: their levels, joined by ``:``."""
    first = np.argmax(X, axis=0)
    factors = {label: _levels(values[label], first) for label in sorted(columns[0].labels)}
    return tuple(
        ":".join(factors[label][k] for label, _ in column.parts) for k, column in enumerate(columns)
    )


def _levels(value: Any, rows: Ints) -> list[str]:
    """Return the levels of a factor at some rows."""
    inner = value.__wrapped__ if isinstance(value, FactorValues) else value
    return [str(level) for level in pd.Series(inner).iloc[rows]]


def _linear(
    formula: ParameterFormula, columns: tuple[Column, ...], X: Array, whole: Counted | None
) -> Sigma:
    """Return a log-linear sd."""
    centring = centre(columns, len(X), whole)
    centred = centring.matrix.values
    norms = np.linalg.norm(centred, axis=0)
    constant = norms <= _COLLINEAR * np.linalg.norm(X, axis=0)
    rank = 0
    if not constant.any():
        diagonal = np.abs(np.diag(linalg.qr(centred / norms, mode="r", pivoting=True)[0]))
        rank = int(np.sum(diagonal > _COLLINEAR * diagonal[0]))
    if rank < len(columns):
        raise DataError(
            f"The {len(columns)} predictors of {formula.text!r} cannot be told apart in the rows "
            "used: one is constant or a combination of others. Leave it out."
        )
    rows, strata = np.unique(centred, axis=0, return_inverse=True)
    first = np.zeros(len(rows), dtype=np.intp)
    first[strata] = np.arange(len(X))
    return Sigma(
        kind="linear",
        labels=tuple(column.name for column in columns),
        strata=strata.astype(np.intp),
        predictors=X[first],
        T=centring.T,
        predictors_centred=rows,
        columns=columns,
        written=True,
        counts=None if whole is None else np.bincount(strata, whole.counts),
    )

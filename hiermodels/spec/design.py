"""Formula and data to a :class:`Design`: response, model matrix, and one term for each bar.

Rows are dropped once, here; everything after assumes complete, finite float64 numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.checks import check_columns, check_effects, check_groups, check_partitions
from hiermodels.spec.coding import (
    Centring,
    Column,
    centre,
    code_columns,
    evaluate,
    evaluate_factors,
    evaluate_number,
    stack,
)
from hiermodels.spec.encoding import Encoding, Levels
from hiermodels.spec.families import Family, Response, as_response
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import (
    Dropped,
    as_groups,
    as_predictor,
    combine_groups,
    complete_rows,
    in_all,
    is_boolean,
    row_label,
)
from hiermodels.spec.functions import as_boolean_factor
from hiermodels.spec.names import check_group_names
from hiermodels.spec.residual import Additions, Residual, build_residual
from hiermodels.spec.terms import Bar

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One bar: which effects vary by which grouping.

    Attributes
    ----------
    group : str
        ``"Subject"``, or ``"hospital:ward"`` for observed combinations.
    coefs : tuple of str, length q
        Names of the effects.
    z : ndarray (n, q)
        The effects' columns, raw scale.
    index : ndarray of int (n,)
        The level of each row.
    levels : tuple of str, length J
    correlated : bool
        Whether the q effects share a correlation matrix (False for q = 1).
    columns : tuple of Column
        Where the columns of ``z`` come from.
    T : ndarray (q, q)
        ``z_centred = z @ T``; effects on the raw scale are ``T @`` centred effects.
    z_centred : ndarray (n, q)
        The columns with numeric predictors centred at their means, where that is exact and the
        effects are correlated; else equal to ``z``.
    """

    group: str
    coefs: tuple[str, ...]
    z: Array
    index: NDArray[np.intp]
    levels: tuple[str, ...]
    correlated: bool
    columns: tuple[Column, ...]
    T: Array
    z_centred: Array


@dataclass(frozen=True)
class Group:
    """A grouping factor, with the effects of all its bars.

    Attributes
    ----------
    name : str
    levels : tuple of str, length J
    index : ndarray of int (n,)
    coefs : tuple of str
        Effects of its bars, in written order.
    terms : tuple of int
        Positions of its bars in ``Design.terms``.
    n_rows : ndarray of int (J,)
        Rows of each level.
    """

    name: str
    levels: tuple[str, ...]
    index: NDArray[np.intp]
    coefs: tuple[str, ...]
    terms: tuple[int, ...]
    n_rows: NDArray[np.intp]


@dataclass(frozen=True)
class Design:
    """A formula met its data: everything a model needs, as arrays.

    Attributes
    ----------
    formula : ModelFormula
    data : pandas.DataFrame
        The used columns of the rows kept, as given.
    response : str
        Name of the response, such as ``"log(y)"``.
    response_levels : tuple of str
        For a factor response: failure, success.
    y : ndarray (n,)
    X : ndarray (n, p)
        Population columns with the intercept's, raw scale.
    coefs : tuple of str, length p
    columns : tuple of Column
    T : ndarray (p, p)
        ``X_centred = X @ T``.
    X_centred : ndarray (n, p)
    offset : ndarray (n,)
        On the link scale; zeros without offsets.
    trials, weights, precision, se : ndarray (n,) or None
    se_with_sigma : bool
        Whether a residual sd is estimated besides known standard errors.
    terms : tuple of Term
        One for each bar, in written order.
    groups : tuple of Group
        One for each grouping factor, in order of first appearance.
    dropped : Dropped
    encoding : Encoding
    residual : Residual or None
        Structure and standard deviations of the residuals; None for a family without sigma.
    """

    formula: ModelFormula
    data: pd.DataFrame
    response: str
    response_levels: tuple[str, ...]
    y: Array
    X: Array
    coefs: tuple[str, ...]
    columns: tuple[Column, ...]
    T: Array
    X_centred: Array
    offset: Array
    trials: Array | None
    weights: Array | None
    precision: Array | None
    se: Array | None
    se_with_sigma: bool
    terms: tuple[Term, ...]
    groups: tuple[Group, ...]
    dropped: Dropped
    encoding: Encoding
    residual: Residual | None = None

    @property
    def n(self) -> int:
        """Number of rows used."""
        return len(self.y)

    @property
    def intercept(self) -> int | None:
        """Position of the intercept's column in X, None without one."""
        found = [k for k, column in enumerate(self.columns) if not column.parts]
        return found[0] if found else None

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of the population coefficients without the intercept's: the dim ``coef``."""
        return tuple(c.name for c in self.columns if c.parts)

    def encode(self, frame: pd.DataFrame) -> tuple[Array, tuple[Array, ...]]:
        """Return X (rows, p) and each bar's z (rows, q) for new rows; no response is needed."""
        return self.encoding.matrices(frame)


def build_design(formula: ModelFormula, data: pd.DataFrame, family: Family) -> Design:
    """Evaluate a formula on data.

    Raises
    ------
    FormulaError
        A column is unknown, or an expression cannot be computed.
    DataError
        The data do not fit the formula or the family; the message names column and row.
    """
    check_groups(formula.bars)
    check_group_names(tuple(dict.fromkeys(bar.group_name for bar in formula.bars)))
    kept, dropped = complete_rows(formula, data)
    index = kept.index
    predictors = _predictors(formula, kept)
    levels = {name: _levels_of(column) for name, column in predictors.items()}
    states: dict[str, Any] = {}
    every = predictors or {"": pd.Series(0.0, index=index)}
    values = evaluate_factors(formula.factors, every, states)
    columns, common_spec = code_columns(formula.common, values, index)
    matrices: list[_Matrix] = []
    terms, bar_specs = [], []
    for bar in formula.bars:
        bar_columns, spec = code_columns(bar.effects, values, index)
        bar_specs.append(spec)
        terms.append(_term(bar, bar_columns, kept, matrices))
    additions = _additions(formula, family, kept)
    response = _response(formula, family, kept, additions.get("trials"))
    common = _matrix(columns, len(kept), "the common part", matrices)
    centring = common.centring
    se = formula.additions.get("se")
    formulas = (formula.common, *(bar.effects for bar in formula.bars))
    encoding = Encoding(formula.factors, levels, states, common_spec, tuple(bar_specs), formulas)
    known = {name: additions.get(name) for name in ("weights", "precision", "se")}
    residual = build_residual(
        formula, family, kept, terms, Additions(**known, with_sigma=bool(se and se.with_sigma))
    )
    design = Design(
        formula=formula,
        data=kept,
        response=formula.response.label,
        response_levels=response.labels,
        y=response.y,
        X=common.values,
        coefs=tuple(column.name for column in columns),
        columns=columns,
        T=centring.T,
        X_centred=centring.X,
        offset=_offset(formula, kept),
        trials=additions.get("trials"),
        weights=additions.get("weights"),
        precision=additions.get("precision"),
        se=additions.get("se"),
        se_with_sigma=bool(se and se.with_sigma),
        terms=tuple(terms),
        groups=_groups(terms),
        dropped=dropped,
        encoding=encoding,
        residual=residual,
    )
    sigma_estimated = family.has_sigma and (design.se is None or design.se_with_sigma)
    check_partitions(design.groups, design.n, sigma_estimated)
    return design


# --- the parts ------------------------------------------------------------------------------


def _predictors(formula: ModelFormula, kept: pd.DataFrame) -> dict[str, "pd.Series[Any]"]:
    names = [name for factor in formula.factors.values() for name in factor.columns]
    return {name: as_predictor(kept[name], name) for name in dict.fromkeys(names)}


def _levels_of(column: "pd.Series[Any]") -> Levels | None:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return None
    return Levels(tuple(column.cat.categories), bool(column.cat.ordered))


@dataclass(frozen=True)
class _Matrix:
    """Columns side by side, as they are and centred."""

    columns: tuple[Column, ...]
    values: Array
    centring: Centring


def _matrix(columns: tuple[Column, ...], n: int, where: str, known: list[_Matrix]) -> _Matrix:
    """Return checked columns side by side: the same arrays where they are known already."""
    for matrix in known:
        if len(matrix.columns) == len(columns) and all(map(_same, matrix.columns, columns)):
            return matrix
    centring = centre(columns, n)
    check_columns(columns, centring.X, where)
    known.append(_Matrix(columns, stack(columns, n), centring))
    return known[-1]


def _same(first: Column, second: Column) -> bool:
    """Whether two columns have the same name, parts and numbers."""
    return (first.name, first.numeric, len(first.parts)) == (
        second.name,
        second.numeric,
        len(second.parts),
    ) and all(
        a == b and np.array_equal(own, other)
        for (a, own), (b, other) in zip(first.parts, second.parts, strict=True)
    )


def _term(
    bar: Bar, columns: tuple[Column, ...], kept: pd.DataFrame, matrices: list[_Matrix]
) -> Term:
    """Return the term of a bar."""
    n = len(kept)
    index, levels = combine_groups([as_groups(kept[name], name) for name in bar.group])
    if len(levels) < 2:
        raise DataError(
            f"The grouping {bar.group_name!r} has one level only ({levels[0]!r}) in the rows used; "
            "a variance between groups needs at least two. Leave the bar out."
        )
    matrix = _matrix(columns, n, f"the bar by {bar.group_name}", matrices)
    z, centring = matrix.values, matrix.centring
    correlated = bar.correlated and len(columns) > 1
    T, z_centred = np.eye(len(columns)), z
    if correlated:
        T, z_centred = centring.T, centring.X
    names = tuple(column.name for column in columns)
    return Term(bar.group_name, names, z, index, levels, correlated, columns, T, z_centred)


def _groups(terms: Sequence[Term]) -> tuple[Group, ...]:
    """Merge the bars of one factor; the same effect twice is not identified."""
    groups = []
    for name in dict.fromkeys(term.group for term in terms):
        own = [k for k, term in enumerate(terms) if term.group == name]
        coefs = [coef for k in own for coef in terms[k].coefs]
        check_effects(name, coefs)
        first = terms[own[0]]
        rows = np.bincount(first.index, minlength=len(first.levels)).astype(np.intp)
        groups.append(Group(name, first.levels, first.index, tuple(coefs), tuple(own), rows))
    return tuple(groups)


def _offset(formula: ModelFormula, kept: pd.DataFrame) -> Array:
    total = np.zeros(len(kept))
    for expression in formula.offsets:
        if not expression.columns:
            raise FormulaError(f"offset({expression.label}) names no column.")
        columns = {name: as_predictor(kept[name], name) for name in expression.columns}
        total = total + evaluate_number(expression, columns, "offset")
    return total


def _additions(formula: ModelFormula, family: Family, kept: pd.DataFrame) -> dict[str, Array]:
    """Return the response's additions as checked numbers."""
    found: dict[str, Array] = {}
    only = {"trials": "binomial", "precision": "gaussian", "se": "gaussian"}
    for name, addition in formula.additions.items():
        if name in only and family.name != only[name]:
            raise FormulaError(
                f"{name}() belongs to family={only[name]!r}; this model has "
                f"family={family.name!r}. Change the family or leave {name}() out."
            )
        expression = addition.expression
        if not expression.columns:
            if name != "trials":
                raise FormulaError(f"{name}({expression.label}) names no column.")
            found[name] = np.full(len(kept), _constant(expression.label))
            continue
        columns = {column: as_predictor(kept[column], column) for column in expression.columns}
        values = evaluate_number(expression, columns, name)
        lowest = "at least 0" if name == "weights" else "above 0"
        bad = np.flatnonzero(values < 0 if name == "weights" else values <= 0)
        if bad.size:
            raise DataError(
                f"{name}({expression.label}) is {values[bad[0]]:g} at "
                f"{row_label(kept.index, int(bad[0]))} {in_all(bad.size)}; it must be {lowest}."
            )
        if not values.any():
            raise DataError(f"{name}({expression.label}) is 0 in every row; nothing would count.")
        found[name] = values
    return found


def _constant(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FormulaError(f"trials({text}) is neither a column nor a number.") from None


def _response(
    formula: ModelFormula, family: Family, kept: pd.DataFrame, trials: Array | None
) -> Response:
    columns = {
        # truth values keep both levels here, so that a response without failures is allowed
        name: as_boolean_factor(kept[name])
        if is_boolean(kept[name])
        else as_predictor(kept[name], name)
        for name in formula.response.columns
    }
    values = evaluate(formula.response, columns, {})
    return as_response(values, formula.response.label, family, trials, kept.index)


def group_columns(design: Design) -> Mapping[str, tuple[str, ...]]:
    """Return the data columns that make each grouping, by its name."""
    return {bar.group_name: bar.group for bar in design.formula.bars}

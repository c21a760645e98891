"""Formulas' right sides met their data: columns, offset, one term for each bar, groupings.

The mean and every parameter with a formula are coded by the same function.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import FormulaError
from hiermodels.spec.centring import centre
from hiermodels.spec.checks import check_columns, check_effects
from hiermodels.spec.coding import code_columns, evaluate_factors, evaluate_number
from hiermodels.spec.encoding import Encoding, Levels
from hiermodels.spec.expressions import Expression
from hiermodels.spec.frame import as_predictor
from hiermodels.spec.grouping import Covariances, read_levels
from hiermodels.spec.matrices import Column, Matrix, raw_matrix
from hiermodels.spec.predictors import Group, Term, intercept_position
from hiermodels.spec.terms import Bar
from hiermodels.spec.whole import Counted, Stands

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Coded:
    """A predictor's arrays, and what new rows need to be coded alike.

    Attributes
    ----------
    matrix, centred : Matrix
        Columns as they are, and with numeric predictors centred.
    T : ndarray (p, p)
    shift : ndarray (p,)
        Where an intercept was left out for cutpoints: ``centred = matrix @ T + shift``; else
        zeros.
    offset : ndarray (n,)
    terms : tuple of Term
    groups : tuple of Group
    encoding : Encoding
    """

    matrix: Matrix
    centred: Matrix
    T: Array
    shift: Array
    offset: Array
    terms: tuple[Term, ...]
    groups: tuple[Group, ...]
    encoding: Encoding


def code_predictor(
    common: str,
    bars: Sequence[Bar],
    offsets: tuple[Expression, ...],
    factors: Mapping[str, Expression],
    kept: pd.DataFrame,
    of: str = "",
    ordinal: bool = False,
    covariances: Covariances | None = None,
    whole: Stands = None,
) -> Coded:
    """Evaluate one formula's right side on the rows used.

    Parameters
    ----------
    common : str
        The part without bars.
    bars : sequence of Bar
    offsets : tuple of Expression
    factors : mapping of str to Expression
        Every factor by its text.
    kept : pandas.DataFrame
        Complete rows.
    of : str
        Name of the parameter, for messages; empty for the mean.
    ordinal : bool
        Whether cutpoints stand in place of the intercept, whose column is then left out.
    covariances : mapping of str to DataFrame or array, optional
        Known covariances between levels, by the name that ``gr(g, cov=K)`` gives.
    whole : Counted, optional
        For how many rows each row stands.

    Raises
    ------
    FormulaError, DataError
        Columns that cannot be computed, are constant, or cannot be told apart.
    """
    index = kept.index
    predictors = _columns_of(factors, kept)
    levels = {name: _levels_of(column) for name, column in predictors.items()}
    states: dict[str, Any] = {}
    every = predictors or {"": pd.Series(0.0, index=index)}
    values = evaluate_factors(factors, every, states)
    common = f"{common} + 1" if ordinal else common
    columns, common_spec = code_columns(common, values, index)
    terms, bar_specs = [], []
    where = f" of the formula for {of}" if of else ""
    for bar in bars:
        bar_columns, spec = code_columns(bar.effects, values, index)
        bar_specs.append(spec)
        terms.append(_term(bar, bar_columns, kept, where, covariances or {}, whole))
    centring = centre(columns, len(kept), whole)
    check_columns(centring.matrix, f"the common part{where}")
    formulas = (common, *(bar.effects for bar in bars))
    encoding = Encoding(
        dict(factors), levels, states, common_spec, tuple(bar_specs), formulas, offsets, ordinal
    )
    matrix, T, centred = raw_matrix(columns, len(kept)), centring.T, centring.matrix
    shift = np.zeros(len(columns))
    at = intercept_position(columns)
    if ordinal and at is not None:
        rest = [k for k in range(len(columns)) if k != at]
        shift = T[at, rest]
        matrix, T, centred = matrix.select(rest), T[np.ix_(rest, rest)], centred.select(rest)
    return Coded(
        matrix,
        centred,
        T,
        shift,
        offset_of(offsets, kept),
        tuple(terms),
        merge_groups(terms, whole),
        encoding,
    )


def _columns_of(
    factors: Mapping[str, Expression], kept: pd.DataFrame
) -> dict[str, "pd.Series[Any]"]:
    names = [name for factor in factors.values() for name in factor.columns]
    return {name: as_predictor(kept[name], name) for name in dict.fromkeys(names)}


def _levels_of(column: "pd.Series[Any]") -> Levels | None:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return None
    return Levels(tuple(column.cat.categories), bool(column.cat.ordered))


def _term(
    bar: Bar,
    columns: tuple[Column, ...],
    kept: pd.DataFrame,
    where: str,
    covariances: Covariances,
    whole: Stands,
) -> Term:
    """Return the term of a bar."""
    n = len(kept)
    levels = read_levels(bar, kept, covariances)
    matrix = raw_matrix(columns, n)
    centring = centre(columns, n, whole)
    check_columns(centring.matrix, f"the bar by {bar.group_name}{where}")
    correlated = bar.correlated and len(columns) > 1
    T, centred = np.eye(len(columns)), matrix
    if correlated:
        T, centred = centring.T, centring.matrix
    return Term(
        group=bar.group_name,
        coefs=tuple(column.name for column in columns),
        matrix=matrix,
        index=levels.index,
        levels=levels.labels,
        correlated=correlated,
        T=T,
        centred=centred,
        by=levels.by,
        cov=levels.cov,
        dist=bar.structure.dist,
        members=levels.members,
    )


def merge_groups(terms: Sequence[Term], whole: Stands = None) -> tuple[Group, ...]:
    """Merge the bars of one factor; the same effect twice is not identified."""
    groups = []
    for name in dict.fromkeys(term.group for term in terms):
        own = [k for k, term in enumerate(terms) if term.group == name]
        coefs = [coef for k in own for coef in terms[k].coefs]
        check_effects(name, coefs)
        first = terms[own[0]]
        if first.dist == "student" and len(own) > 1:
            raise FormulaError(
                f"Student effects by {name!r} share their degrees of freedom, so they stand in one "
                f'bar: write (... | gr({name}, dist="student")) once, without ||.'
            )
        rows = rows_of_levels(first, whole)
        groups.append(Group(name, first.levels, first.index, tuple(coefs), tuple(own), rows))
    return tuple(groups)


def rows_of_levels(term: Term, whole: Stands = None) -> Ints:
    """Return how many rows each level has (J,), of memberships those with a weight."""
    index, counts = term.index, whole.counts if isinstance(whole, Counted) else None
    if term.members is not None:
        has = term.members.counted
        index = term.members.index[has]
        counts = None if counts is None else np.broadcast_to(counts[:, None], has.shape)[has]
    found = np.bincount(index, counts, len(term.levels))
    return np.rint(found).astype(np.intp)


def offset_of(offsets: Sequence[Expression], rows: pd.DataFrame) -> Array:
    """Return the sum of the offsets (rows,)."""
    total = np.zeros(len(rows))
    for expression in offsets:
        if not expression.columns:
            raise FormulaError(f"offset({expression.label}) names no column.")
        columns = {name: as_predictor(rows[name], name) for name in expression.columns}
        total = total + evaluate_number(expression, columns, "offset")
    return total

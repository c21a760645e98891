"""Groupings met their data: levels, subpopulations, known covariances, several memberships."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.coding import evaluate_number
from hiermodels.spec.frame import as_groups, as_predictor, combine_groups, in_all, row_label
from hiermodels.spec.functions import level_label
from hiermodels.spec.shown import Brief
from hiermodels.spec.terms import Bar, GroupStructure

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Covariances = Mapping[str, Any]
_SYMMETRIC = 1e-8
_DEFINITE = 1e-10


@dataclass(frozen=True, repr=False)
class Subpopulations(Brief):
    """The subpopulations of a grouping's levels, of ``gr(g, by=h)``.

    Attributes
    ----------
    name : str
        The column, which names the dim.
    labels : tuple of str, length H
    index : ndarray of int (J,)
        The subpopulation of each level.
    """

    name: str
    labels: tuple[str, ...]
    index: Ints


@dataclass(frozen=True, repr=False)
class Members(Brief):
    """The memberships of each row, of ``mm(g1, g2, weights=...)``.

    Attributes
    ----------
    index : ndarray of int (n, M)
        Levels.
    weights : ndarray (n, M)
        What each level's effects count; rows add up to 1 unless weights were given unscaled.
    """

    index: Ints
    weights: Array

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which memberships count anything (n, M)."""
        return np.asarray(self.weights > 0)


@dataclass(frozen=True)
class StandingMembers(Members):
    """The memberships of rows that stand for others, where weights multiply several effects.

    The columns of such a row are no products of a weight with the row's own columns: every
    membership has columns of its own, and asking for weights is an error.

    Attributes
    ----------
    columns : ndarray (n, M, q)
        What each level's effects count, in centred columns.
    raw : ndarray (n, M, q)
        The same for effects on the raw scale.
    """

    columns: Array
    raw: Array

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which memberships count anything (n, M)."""
        return np.any(self.columns != 0, axis=2)

    def __repr__(self) -> str:
        """Return that there are no weights."""
        return f"memberships of {len(self.index):,} rows, no weights"

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, or raise DataError for the weights."""
        if name == "weights":
            raise DataError(
                "This needs the rows of the data (weights of memberships that multiply slopes), "
                "which were read in passes and not kept. Hold them: hm.Model(formula, source, "
                "memory='64 GB')."
            )
        return super().__getattribute__(name)


def join_members(parts: Sequence[Members | None]) -> Members | None:
    """Return the memberships of a grouping from those of its bars, whose columns stand in a row."""
    first = parts[0]
    if not isinstance(first, StandingMembers):
        return first
    own = [part for part in parts if isinstance(part, StandingMembers)]
    columns = np.concatenate([part.columns for part in own], axis=2)
    raw = np.concatenate([part.raw for part in own], axis=2)
    return StandingMembers(first.index, np.empty((0, 0)), columns, raw)


@dataclass(frozen=True, repr=False)
class Levels(Brief):
    """A grouping's levels and their structure.

    Attributes
    ----------
    index : ndarray of int (n,)
        The level of each row; with several memberships the first one's.
    labels : tuple of str, length J
    by : Subpopulations or None
    cov : ndarray (J, J) or None
    members : Members or None
    """

    index: Ints
    labels: tuple[str, ...]
    by: Subpopulations | None
    cov: Array | None
    members: Members | None


def read_levels(bar: Bar, kept: pd.DataFrame, covariances: Covariances) -> Levels:
    """Return the levels of a bar's grouping.

    Parameters
    ----------
    bar : Bar
    kept : pandas.DataFrame
        Complete rows.
    covariances : mapping of str to DataFrame or array
        Known covariances by the name that ``cov=`` gives.

    Raises
    ------
    DataError
        A grouping has one level; a level lies in several subpopulations; weights or a covariance
        are out of range or do not match.
    FormulaError
        ``cov=`` names no covariance that was given.
    """
    structure = bar.structure
    members = None
    if structure.multiple:
        members, labels = read_members(structure, kept)
        index = members.index[:, 0]
    else:
        index, labels = combine_groups([as_groups(kept[name], name) for name in bar.group])
    if len(labels) < 2:
        raise DataError(
            f"The grouping {bar.group_name!r} has one level only ({labels[0]!r}) in the rows used; "
            "a variance between groups needs at least two. Leave the bar out."
        )
    by = _subpopulations(structure, index, labels, kept)
    cov = None
    if structure.cov is not None:
        cov = _covariance(structure, labels, covariances)
    return Levels(index, labels, by, cov, members)


# --- several memberships --------------------------------------------------------------------


def read_members(structure: GroupStructure, kept: pd.DataFrame) -> tuple[Members, tuple[str, ...]]:
    """Return the memberships of ``mm()`` and the labels of all levels.

    Parameters
    ----------
    structure : GroupStructure
    kept : pandas.DataFrame
        Complete rows.

    Raises
    ------
    FormulaError
        A weight names no column.
    DataError
        A weight is negative, or all of a row's are zero.
    """
    n, columns = len(kept), structure.columns
    stacked = pd.concat([kept[name].reset_index(drop=True) for name in columns], ignore_index=True)
    groups = as_groups(stacked, structure.name)
    codes = groups.cat.codes.to_numpy().astype(np.intp).reshape(len(columns), n).T
    weights = np.full((n, len(columns)), 1.0 / len(columns))
    if structure.weights:
        weights = member_weights(structure, kept)
    labels = tuple(str(level) for level in groups.cat.categories)
    return Members(np.ascontiguousarray(codes), weights), labels


def member_weights(structure: GroupStructure, kept: pd.DataFrame) -> Array:
    """Return the weights of memberships (n, M), of each row adding up to 1 where scaled.

    Raises
    ------
    FormulaError
        A weight names no column.
    DataError
        A weight is negative, or all of a row's are zero.
    """
    found = []
    for expression in structure.weights:
        if not expression.columns:
            raise FormulaError(f"The weight {expression.label} of mm() names no column.")
        columns = {name: as_predictor(kept[name], name) for name in expression.columns}
        values = evaluate_number(expression, columns, "weight")
        bad = np.flatnonzero(values < 0)
        if bad.size:
            raise DataError(
                f"The weight {expression.label} of mm() is {values[bad[0]]:g} at "
                f"{row_label(kept.index, int(bad[0]))} {in_all(bad.size)}; it must be at least 0."
            )
        found.append(values)
    weights = np.column_stack(found)
    if not structure.scale:
        return weights
    total = weights.sum(axis=1)
    none = np.flatnonzero(total == 0)
    if none.size:
        raise DataError(
            f"All weights of mm() are 0 at {row_label(kept.index, int(none[0]))} "
            f"{in_all(none.size)}, so they cannot be scaled to add up to 1. Give one of them, or "
            "write scale=False."
        )
    return np.asarray(weights / total[:, None])


# --- subpopulations -------------------------------------------------------------------------


def _subpopulations(
    structure: GroupStructure, index: Ints, labels: tuple[str, ...], kept: pd.DataFrame
) -> Subpopulations | None:
    """Return the subpopulation of each level, None without ``by=``."""
    if structure.by is None:
        return None
    column = as_groups(kept[structure.by], structure.by)
    codes = column.cat.codes.to_numpy().astype(np.intp)
    own = np.zeros(len(labels), dtype=np.intp)
    own[index] = codes
    broken = np.flatnonzero(own[index] != codes)
    if broken.size:
        level = labels[index[broken[0]]]
        raise DataError(
            f"gr({structure.name}, by={structure.by}) needs every level in one subpopulation; "
            f"{level!r} has several values of {structure.by!r}. Use levels within "
            f"{structure.by!r}, such as gr({structure.by}:{structure.name}, by={structure.by})."
        )
    return Subpopulations(structure.by, tuple(str(c) for c in column.cat.categories), own)


# --- known covariances ----------------------------------------------------------------------


def check_covariances(covariances: object, bars: Sequence[Bar]) -> Covariances:
    """Return known covariances by name, none for None.

    Raises
    ------
    DataError
        They are no mapping, or one of them is not used.
    """
    if covariances is None:
        return {}
    if not isinstance(covariances, Mapping):
        raise DataError(
            "covariances is a dictionary such as {'K': frame}, by the names that gr(g, cov=K) "
            f"gives; got {type(covariances).__name__}."
        )
    used = [bar.structure.cov for bar in bars if bar.structure.cov]
    odd = [name for name in covariances if name not in used]
    if odd:
        raise DataError(
            f"covariances holds {odd[0]!r}, which no bar uses; the formula names "
            f"{', '.join(map(repr, used)) or 'none'}. Write (1 | gr(g, cov={odd[0]})) or leave it "
            "out."
        )
    return covariances


def _covariance(
    structure: GroupStructure, labels: tuple[str, ...], covariances: Covariances
) -> Array:
    """Return a known covariance between levels (J, J), in their order, checked."""
    name = structure.cov or ""
    if name not in covariances:
        given = ", ".join(map(repr, covariances)) or "none"
        raise FormulaError(
            f"cov={name} names no covariance; given are {given}. Pass it to the model: "
            f"covariances={{{name!r}: frame}}, a pandas DataFrame with the levels of "
            f"{structure.name!r} as its rows and columns."
        )
    value = covariances[name]
    what = f"The covariance {name!r} of {structure.name!r}"
    matrix = _numbers(value, what)
    if isinstance(value, pd.DataFrame):
        matrix = _ordered(value, matrix, labels, what)
    elif len(matrix) != len(labels):
        raise DataError(
            f"{what} is {len(matrix)} × {len(matrix)}, and the grouping has {len(labels)} levels. "
            "Give a DataFrame with level names to have its rows picked and put in order."
        )
    return _checked(matrix, labels, what)


def _numbers(value: Any, what: str) -> Array:
    """Return a square matrix of finite numbers."""
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must hold numbers ({error}).") from error
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        shape = " × ".join(map(str, matrix.shape))
        raise DataError(f"{what} must be a square matrix; got one of {shape or 'no'} dimensions.")
    if not np.isfinite(matrix).all():
        i, j = np.argwhere(~np.isfinite(matrix))[0]
        raise DataError(f"{what} holds {matrix[i, j]} in row {i}, column {j}; it must be finite.")
    return matrix


def _ordered(frame: pd.DataFrame, matrix: Array, labels: tuple[str, ...], what: str) -> Array:
    """Return the rows and columns of the levels in use, in the grouping's order."""
    rows, columns = ([level_label(v) for v in axis] for axis in (frame.index, frame.columns))
    if sorted(rows) != sorted(columns) or len(set(rows)) < len(rows):
        odd = next((row for row in rows if row not in columns or rows.count(row) > 1), None)
        odd = odd or next(column for column in columns if column not in rows)
        raise DataError(
            f"{what} must have the same names in its rows and columns, each once; see {odd!r}."
        )
    missing = [label for label in labels if label not in rows]
    if missing:
        some = ", ".join(map(repr, rows[:6]))
        raise DataError(
            f"{what} lacks the level {missing[0]!r} ({len(missing)} of {len(labels)} levels in "
            f"all); its rows are called {some}{', ...' if len(rows) > 6 else ''}. Names must be "
            "those of the levels."
        )
    down = [rows.index(label) for label in labels]
    across = [columns.index(label) for label in labels]
    return matrix[np.ix_(down, across)]


def _checked(matrix: Array, labels: tuple[str, ...], what: str) -> Array:
    """Return the matrix, exactly symmetric, or raise where it is no covariance."""
    gap = np.abs(matrix - matrix.T)
    if gap.max() > _SYMMETRIC * np.abs(matrix).max():
        i, j = np.unravel_index(int(np.argmax(gap)), gap.shape)
        raise DataError(
            f"{what} is not symmetric: {matrix[i, j]:.6g} for {labels[i]!r} and {labels[j]!r}, "
            f"{matrix[j, i]:.6g} the other way round. A covariance is symmetric; give "
            "(K + K.T) / 2 if that is what you mean."
        )
    matrix = 0.5 * (matrix + matrix.T)
    values = np.linalg.eigvalsh(matrix)
    if values[0] <= _DEFINITE * max(values[-1], 0.0):
        raise DataError(
            f"{what} is not positive definite: its smallest eigenvalue is {values[0]:.3g}, its "
            f"largest {values[-1]:.3g}. Two levels that are the same individual give zero: merge "
            "them, or add a small number to the diagonal if rounding is to blame."
        )
    return matrix

"""The rows at which a fitted model is asked something: its own, or new ones coded alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.errors import DataError, UnknownColumnError
from hiermodels.spec.coding import evaluate_number
from hiermodels.spec.design import Design, Group, Term, group_structures
from hiermodels.spec.encoding import NewRows
from hiermodels.spec.expressions import unknown_column
from hiermodels.spec.frame import as_groups, as_predictor, check_frame, combine_groups, row_label
from hiermodels.spec.functions import level_label
from hiermodels.spec.grouping import StandingMembers, join_members, read_members
from hiermodels.spec.terms import GroupStructure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


class Linear(Protocol):
    """A linear predictor: the mean's (a Design), or that of a parameter with a formula."""

    @property
    def X(self) -> Floats:
        """Population columns (n, p)."""

    @property
    def coefs(self) -> tuple[str, ...]:
        """Names of the coefficients (p)."""

    @property
    def intercept(self) -> int | None:
        """Position of the intercept's column."""

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of the other coefficients."""

    @property
    def offset(self) -> Floats:
        """Known part (n,)."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """One for each bar."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """One for each grouping factor."""


@dataclass(frozen=True)
class RowLevels:
    """Which levels of a grouping the rows belong to.

    Attributes
    ----------
    index : ndarray of int (m, M)
        Positions in ``labels``; M is 1 but for multiple memberships.
    weights : ndarray (m, M) or None
        What each membership counts; None where there is one, or where ``columns`` say it.
    labels : tuple of str, length L
    known : ndarray of int (L,)
        Position of each label among the levels of the fit, -1 of one that it has not seen.
    by : ndarray of int (L,) or None
        The subpopulation of each label, where these have covariances of their own.
    columns : ndarray (m, M, q) or None
        What the effects of each membership count, raw scale: of rows that stand for others, where
        weights multiply slopes.
    """

    index: Ints
    weights: Floats | None
    labels: tuple[str, ...]
    known: Ints
    by: Ints | None = None
    columns: Floats | None = None

    def take(self, rows: slice) -> "RowLevels":
        """Return some of the rows, with the labels that they need."""
        used, index = np.unique(self.index[rows], return_inverse=True)
        weights = None if self.weights is None else self.weights[rows]
        labels = tuple(self.labels[k] for k in used)
        by = None if self.by is None else self.by[used]
        at = index.reshape(self.index[rows].shape).astype(np.intp)
        columns = None if self.columns is None else self.columns[rows]
        return RowLevels(at, weights, labels, self.known[used], by, columns)


@dataclass(frozen=True)
class Rows:
    """Rows, coded for every linear predictor that is asked for.

    Attributes
    ----------
    data : pandas.DataFrame
        The rows as given; for the fit's own the columns that its formula names.
    coded : mapping of str to NewRows
        X, z by bar, and offset, by parameter; the mean's under the empty name.
    levels : mapping of str to RowLevels
        By grouping; only those that were asked for.
    trials : ndarray (m,) or None
    own : bool
        Whether these are the rows of the fit.
    notes : tuple of str
        What a reader should know of how rows were completed.
    """

    data: pd.DataFrame
    coded: Mapping[str, NewRows]
    levels: Mapping[str, RowLevels]
    trials: Floats | None
    own: bool
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.data)

    def take(self, rows: slice) -> "Rows":
        """Return some of the rows."""
        coded = {
            name: NewRows(c.X[rows], tuple(z[rows] for z in c.z), c.offset[rows])
            for name, c in self.coded.items()
        }
        return replace(
            self,
            data=self.data.iloc[rows],
            coded=coded,
            levels={name: own.take(rows) for name, own in self.levels.items()},
            trials=None if self.trials is None else self.trials[rows],
        )


def predictor_of(design: Design, parameter: str = "") -> Linear:
    """Return the linear predictor of the mean, or of a parameter with a formula."""
    if not parameter:
        return design
    found: Linear = next(own for own in parameter_designs(design) if own.name == parameter)
    return found


def parameter_designs(design: Design) -> tuple[Any, ...]:
    """Return the linear predictors of parameters, each with its name and link."""
    return tuple(getattr(design, "parameters", ()))


def all_groups(design: Design) -> dict[str, Group]:
    """Return the grouping factors of all linear predictors by name, the mean's first."""
    found = {group.name: group for group in design.groups}
    for own in parameter_designs(design):
        found |= {group.name: group for group in own.groups if group.name not in found}
    return found


def own_rows(design: Design, parameters: Sequence[str], groups: Iterable[str]) -> Rows:
    """Return the rows of the fit.

    Parameters
    ----------
    design : Design
    parameters : sequence of str
        Whose linear predictors are asked for; the mean's name is empty.
    groups : iterable of str
        Groupings whose effects are asked for.
    """
    coded, levels = {}, {}
    for name in parameters:
        linear = predictor_of(design, name)
        coded[name] = NewRows(linear.X, tuple(term.z for term in linear.terms), linear.offset)
    every = all_groups(design)
    for name in groups:
        group = every[name]
        levels[name] = _own_levels(design, group)
    return Rows(design.data, coded, levels, design.trials, own=True)


def _own_levels(design: Design, group: Group) -> RowLevels:
    """Return the levels of the fit's rows."""
    terms = _terms(design, group)
    members, by = join_members([getattr(term, "members", None) for term in terms]), terms[0].by
    known = np.arange(len(group.levels))
    sub = None if by is None else by.index
    if members is None:
        return RowLevels(group.index[:, None], None, group.levels, known, sub)
    if isinstance(members, StandingMembers):
        return RowLevels(members.index, None, group.levels, known, sub, members.raw)
    return RowLevels(members.index, members.weights, group.levels, known, sub)


def first_term(design: Design, group: Group) -> Term:
    """Return the first bar of a grouping factor."""
    return _terms(design, group)[0]


def _terms(design: Design, group: Group) -> list[Term]:
    """Return the bars of a grouping factor."""
    for linear in (design, *parameter_designs(design)):
        if any(own is group for own in linear.groups):
            return [linear.terms[k] for k in group.terms]
    raise DataError(f"The model has no grouping {group.name!r}.")


def new_rows(
    design: Design, frame: pd.DataFrame, parameters: Sequence[str], groups: Iterable[str]
) -> Rows:
    """Code new rows as the fit's were; no response is needed.

    Parameters
    ----------
    design : Design
    frame : pandas.DataFrame
    parameters, groups
        As for :func:`own_rows`.

    Raises
    ------
    DataError
        A column that is needed is missing or of another kind, or a value is missing; a factor has
        a level that the fit has not seen (groupings may).
    """
    check_frame(frame)
    coded = {}
    for name in parameters:
        encoding = design.encoding.parameters[name] if name else design.encoding
        coded[name] = encoding.rows(frame)
    structures, every = group_structures(design), all_groups(design)
    levels = {name: _new_levels(design, frame, every[name], structures[name]) for name in groups}
    trials, notes = _trials(design, frame)
    return Rows(frame, coded, levels, trials, own=False, notes=notes)


def needed_column(frame: pd.DataFrame, name: str, hint: str = "") -> "pd.Series[Any]":
    """Return a column without missing values; raise DataError, with a hint, where there is none."""
    if name not in frame.columns:
        raise UnknownColumnError(unknown_column(name, [str(c) for c in frame.columns]) + hint)
    column = frame[name]
    missing = np.flatnonzero(column.isna().to_numpy())
    if missing.size:
        raise DataError(
            f"The column {name!r} of the new data is missing at "
            f"{row_label(frame.index, int(missing[0]))}.{hint}"
        )
    return column


def _new_levels(
    design: Design, frame: pd.DataFrame, group: Group, structure: GroupStructure
) -> RowLevels:
    """Return the levels of new rows, by text."""
    term = first_term(design, group)
    hint = f" It makes the grouping {group.name!r}; groups='none' leaves group effects out."
    position = {label: k for k, label in enumerate(group.levels)}
    if structure.multiple:
        weights = (name for weight in structure.weights for name in weight.columns)
        needed = {name: needed_column(frame, name, hint) for name in (*structure.columns, *weights)}
        members, labels = read_members(structure, pd.DataFrame(needed))
        seen = np.array([position.get(label, -1) for label in labels], dtype=np.intp)
        # a label that no row counts need not be known: any level stands for it
        seen[np.setdiff1d(np.arange(len(labels)), members.index[members.weights > 0])] = 0
        return RowLevels(members.index, members.weights, labels, seen)
    columns = structure.columns
    parts = [as_groups(needed_column(frame, name, hint), name) for name in columns]
    index, labels = combine_groups(parts)
    known = np.array([position.get(label, -1) for label in labels], dtype=np.intp)
    by = getattr(term, "by", None)
    if by is None:
        return RowLevels(index[:, None], None, labels, known)
    return RowLevels(
        index[:, None], None, labels, known, _subpopulations(frame, group, by, index, known)
    )


def _subpopulations(frame: pd.DataFrame, group: Group, by: Any, index: Ints, known: Ints) -> Ints:
    """Return the subpopulation of each level: as in the fit, or that of a new level's first row."""
    found = np.where(known >= 0, by.index[known], -1)
    for k in np.flatnonzero(known < 0):
        hint = f" It says which groups of {group.name!r} a new one is like."
        row = int(np.flatnonzero(index == k)[0])
        label = level_label(needed_column(frame, by.name, hint).iloc[row])
        if label not in by.labels:
            raise DataError(
                f"The column {by.name!r} has the level {label!r} at "
                f"{row_label(frame.index, row)}; known are {', '.join(by.labels[:12])}.{hint}"
            )
        found[k] = by.labels.index(label)
    return found


def _totals(design: Design, frame: pd.DataFrame) -> tuple[Floats, tuple[str, ...]]:
    """Return the sums of new rows' counts by category; 1 where a column is absent."""
    response = design.formula.response
    if not all(name in frame.columns for name in response.columns):
        note = f"the data have no columns for {response.label}: expectations are of one count a row"
        return np.ones(len(frame)), (note,)
    columns = {n: as_predictor(needed_column(frame, n), n) for n in response.columns}
    counts = [evaluate_number(own, columns, "count") for own in design.formula.counts]
    total = np.sum(counts, axis=0)
    bad = np.flatnonzero((np.min(counts, axis=0) < 0) | (total != np.round(total)))
    if bad.size:
        raise DataError(
            f"The counts {response.label} are negative or no whole numbers at "
            f"{row_label(frame.index, int(bad[0]))}."
        )
    return np.asarray(total, dtype=np.float64), ()


def _trials(design: Design, frame: pd.DataFrame) -> tuple[Floats | None, tuple[str, ...]]:
    """Return the numbers of trials of new rows; 1 where the column is absent."""
    if design.trials is None:
        return None, ()
    if design.formula.counts:
        return _totals(design, frame)
    expression = design.formula.additions["trials"].expression
    if not expression.columns:
        return np.full(len(frame), design.trials[0]), ()
    if not all(name in frame.columns for name in expression.columns):
        note = f"the data have no column for trials({expression.label}): each row is one trial"
        return np.ones(len(frame)), (note,)
    columns = {name: as_predictor(needed_column(frame, name), name) for name in expression.columns}
    trials = evaluate_number(expression, columns, "trials")
    bad = np.flatnonzero((trials < 0) | (trials != np.round(trials)))
    if bad.size:
        raise DataError(
            f"The number of trials is {trials[bad[0]]:g} at "
            f"{row_label(frame.index, int(bad[0]))}; it must be a whole number."
        )
    return trials, ()

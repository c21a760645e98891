"""Linear predictors as records: the mean's and every parameter's columns, terms and groupings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.grouping import Members, StandingMembers, Subpopulations, join_members
from hiermodels.spec.matrices import Column, Matrix
from hiermodels.spec.shown import few
from hiermodels.spec.whole import Stands

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, repr=False)
class Term:
    """One bar: which effects vary by which grouping.

    Attributes
    ----------
    group : str
        ``"Subject"``, or ``"hospital:ward"`` for observed combinations.
    coefs : tuple of str, length q
        Names of the effects.
    matrix : Matrix (n, q)
        The effects' columns, raw scale; ``z`` as an array.
    index : ndarray of int (n,)
        The level of each row; with several memberships the first one's.
    levels : tuple of str, length J
    correlated : bool
        Whether the q effects share a correlation matrix (False for q = 1).
    T : ndarray (q, q)
        ``z_centred = z @ T``; effects on the raw scale are ``T @`` centred effects.
    centred : Matrix (n, q)
        ``z_centred`` as an array: the columns with numeric predictors centred at their means,
        where that is exact and the effects are correlated; else ``matrix`` itself.
    by : Subpopulations or None
        Where each subpopulation of levels has sds and correlations of its own.
    cov : ndarray (J, J) or None
        Known covariance between levels, up to the effects' variances, in the order of ``levels``.
    dist : {"gaussian", "student"}
        What the effects are distributed as.
    members : Members or None
        The levels of each row where it belongs to several.
    """

    group: str
    coefs: tuple[str, ...]
    matrix: Matrix
    index: Ints
    levels: tuple[str, ...]
    correlated: bool
    T: Array
    centred: Matrix
    by: Subpopulations | None = None
    cov: Array | None = None
    dist: Literal["gaussian", "student"] = "gaussian"
    members: Members | None = None

    @property
    def z(self) -> Array:
        """The effects' columns (n, q), raw scale."""
        return self.matrix.values

    @property
    def z_centred(self) -> Array:
        """The effects' columns (n, q), centred where that is exact."""
        return self.centred.values

    @property
    def columns(self) -> tuple[Column, ...]:
        """Where the columns of ``z`` come from."""
        return self.matrix.columns

    @property
    def plain(self) -> bool:
        """Whether levels are independent, alike, Gaussian, and each row belongs to one."""
        structured = (self.by, self.cov, self.members)
        return all(part is None for part in structured) and self.dist == "gaussian"

    @property
    def slots(self) -> tuple[tuple[Ints, Array], ...]:
        """Levels of the rows and what each counts, (n,) both: one pair for each membership."""
        if self.members is None:
            return ((self.index, np.ones(len(self.index))),)
        return tuple(zip(self.members.index.T, self.members.weights.T, strict=True))

    @property
    def slot_columns(self) -> tuple[tuple[Ints, Array], ...]:
        """Levels of the rows (n,) and what their effects count (n, q), centred: by membership."""
        if isinstance(self.members, StandingMembers):
            columns = np.moveaxis(self.members.columns, 1, 0)
            return tuple(zip(self.members.index.T, columns, strict=True))
        return tuple((index, weight[:, None] * self.z_centred) for index, weight in self.slots)

    def by_row(self, effects: Array) -> Array:
        """Return the effects that each row sees (n, q), of those by level (J, q)."""
        parts = (effects[levels] * weights[:, None] for levels, weights in self.slots)
        return np.asarray(sum(parts))

    def __repr__(self) -> str:
        """Return effects, grouping, levels, and what is special about them."""
        text = f"({few(self.coefs)} | {self.group}), {len(self.levels):,} levels"
        if len(self.coefs) > 1 and not self.correlated:
            text += ", effects independent"
        if self.by is not None:
            text += f", by {self.by.name}: {few(self.by.labels)}"
        text += ", known covariance between levels" if self.cov is not None else ""
        text += ", Student effects" if self.dist == "student" else ""
        return text + (", several memberships a row" if self.members is not None else "")


def add_effects(terms: Sequence[Term], effects: Array, raw: bool = False) -> Array:
    """Return what the effects of a grouping add to every row (n,).

    Parameters
    ----------
    terms : sequence of Term
        All bars of the grouping.
    effects : ndarray (J, q)
        Of all bars side by side.
    raw : bool
        Whether they are effects of raw columns, not of centred ones.
    """
    members = join_members([term.members for term in terms])
    if isinstance(members, StandingMembers):
        columns = members.raw if raw else members.columns
        return np.asarray(np.einsum("nmq,nmq->n", columns, effects[members.index]))
    z = np.concatenate([term.z if raw else term.z_centred for term in terms], axis=1)
    return np.asarray(np.einsum("nq,nq->n", z, terms[0].by_row(effects)))


@dataclass(frozen=True, repr=False)
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
        Positions of its bars among the terms of its predictor.
    n_rows : ndarray of int (J,)
        Rows of each level.
    """

    name: str
    levels: tuple[str, ...]
    index: Ints
    coefs: tuple[str, ...]
    terms: tuple[int, ...]
    n_rows: Ints

    @property
    def in_words(self) -> str:
        """Levels and effects."""
        return f"Group {self.name}: {len(self.levels):,} levels; {few(self.coefs)}"

    def __repr__(self) -> str:
        """Return grouping, levels and effects."""
        return self.in_words


class Predictor(Protocol):
    """A linear predictor: the mean's (a Design) or a parameter's (a ParameterDesign)."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def matrix(self) -> Matrix:
        """Population columns, raw scale."""

    @property
    def centred(self) -> Matrix:
        """The same with numeric predictors centred."""

    @property
    def X(self) -> Array:
        """Population columns (n, p)."""

    @property
    def coefs(self) -> tuple[str, ...]:
        """Names of the coefficients."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Where the columns come from."""

    @property
    def T(self) -> Array:
        """X_centred = X @ T."""

    @property
    def X_centred(self) -> Array:
        """Centred columns."""

    @property
    def offset(self) -> Array:
        """Known part (n,)."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """One for each bar."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """One for each grouping factor."""

    @property
    def intercept(self) -> int | None:
        """Position of the intercept's column."""

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of the other coefficients."""

    @property
    def thresholds(self) -> int:
        """Number of cutpoints that stand in place of an intercept."""

    @property
    def whole(self) -> Stands:
        """What its rows stand for, None where they are the data's own."""


@dataclass(frozen=True, repr=False)
class ParameterDesign:
    """The linear predictor of a parameter such as ``shape``, on its link.

    Attributes
    ----------
    name, link : str
        ``"shape"``, ``"log"``.
    matrix, centred : Matrix
        Population columns with the intercept's: ``X`` and ``X_centred`` as arrays.
    coefs : tuple of str, length p
    T : ndarray (p, p)
        ``X_centred = X @ T``.
    offset : ndarray (n,)
    terms : tuple of Term
    groups : tuple of Group
    """

    name: str
    link: str
    matrix: Matrix
    centred: Matrix
    coefs: tuple[str, ...]
    T: Array
    offset: Array
    terms: tuple[Term, ...]
    groups: tuple[Group, ...]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.matrix)

    @property
    def X(self) -> Array:
        """Population columns (n, p), raw scale."""
        return self.matrix.values

    @property
    def X_centred(self) -> Array:
        """Population columns (n, p), centred."""
        return self.centred.values

    @property
    def columns(self) -> tuple[Column, ...]:
        """Where the columns come from."""
        return self.matrix.columns

    @property
    def thresholds(self) -> int:
        """Number of cutpoints: none."""
        return 0

    @property
    def whole(self) -> Stands:
        """What its rows stand for: nothing but themselves."""
        return None

    @property
    def intercept(self) -> int | None:
        """Position of the intercept's column in X, None without one."""
        return intercept_position(self.columns)

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of the coefficients without the intercept's: the dim ``<name>_coef``."""
        return tuple(column.name for column in self.columns if column.parts)

    def __repr__(self) -> str:
        """Return parameter, link, coefficients and groups."""
        head = f"Parameter {self.name} ({self.link} link): {few(self.coefs) or 'no coefficients'}"
        return "\n".join([head, *(f"  {group.in_words}" for group in self.groups)])


def intercept_position(columns: Sequence[Column]) -> int | None:
    """Return the position of the intercept's column, None without one."""
    found = [k for k, column in enumerate(columns) if not column.parts]
    return found[0] if found else None

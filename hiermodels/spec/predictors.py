"""Linear predictors as records: the mean's and every parameter's columns, terms and groupings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.coding import Column
from hiermodels.spec.grouping import Members, Subpopulations
from hiermodels.spec.whole import Stands

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


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
        The level of each row; with several memberships the first one's.
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
    z: Array
    index: Ints
    levels: tuple[str, ...]
    correlated: bool
    columns: tuple[Column, ...]
    T: Array
    z_centred: Array
    by: Subpopulations | None = None
    cov: Array | None = None
    dist: Literal["gaussian", "student"] = "gaussian"
    members: Members | None = None

    @property
    def plain(self) -> bool:
        """Whether levels are independent, alike, Gaussian, and each row belongs to one."""
        structured = (self.by, self.cov, self.members)
        return all(part is None for part in structured) and self.dist == "gaussian"


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


class Predictor(Protocol):
    """A linear predictor: the mean's (a Design) or a parameter's (a ParameterDesign)."""

    @property
    def n(self) -> int:
        """Number of rows."""

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


@dataclass(frozen=True)
class ParameterDesign:
    """The linear predictor of a parameter such as ``shape``, on its link.

    Attributes
    ----------
    name, link : str
        ``"shape"``, ``"log"``.
    X : ndarray (n, p)
        Population columns with the intercept's, raw scale.
    coefs : tuple of str, length p
    columns : tuple of Column
    T : ndarray (p, p)
        ``X_centred = X @ T``.
    X_centred : ndarray (n, p)
    offset : ndarray (n,)
    terms : tuple of Term
    groups : tuple of Group
    """

    name: str
    link: str
    X: Array
    coefs: tuple[str, ...]
    columns: tuple[Column, ...]
    T: Array
    X_centred: Array
    offset: Array
    terms: tuple[Term, ...]
    groups: tuple[Group, ...]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.X)

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


def intercept_position(columns: Sequence[Column]) -> int | None:
    """Return the position of the intercept's column, None without one."""
    found = [k for k, column in enumerate(columns) if not column.parts]
    return found[0] if found else None

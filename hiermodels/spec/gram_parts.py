"""What the cross-products of a Gaussian model consist of."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiermodels.spec.deviations import Deviations
from hiermodels.spec.grouping import Members, StandingMembers
from hiermodels.spec.matrices import Columns, mean_squares
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Basis = Array | sparse.csr_array | Deviations | None


@dataclass(frozen=True, eq=False, repr=False)
class Grouping(Brief):
    """A grouping factor with the effects of all its bars side by side.

    Attributes
    ----------
    name : str
    columns : Matrix or ndarray (n, q)
        Computed by blocks of rows where it is a Matrix; ``z`` as an array.
    index : ndarray of int (n,)
    n_levels : int
    terms : tuple of int
        Positions of its bars in ``Design.terms``, in the order of their columns.
    members : Members or None
        The levels of each row, and what each counts, where it belongs to several.
    cov : ndarray (J, J) or None
        Known covariance between levels, up to the effects' factor; None for independent ones.
    own : ndarray of int (J, e) or None
        The columns that each level's rows see, where those of other subpopulations stand beside
        them; None where they see all.
    common : bool
        Whether it stands for coefficients: its one level is that of all rows, and in the corner.
    """

    name: str
    columns: Columns
    index: Index
    n_levels: int
    terms: tuple[int, ...] = ()
    members: Members | None = None
    cov: Array | None = None
    own: Index | None = None
    common: bool = False

    @property
    def q(self) -> int:
        """Number of effects."""
        return int(self.columns.shape[1])

    @property
    def z(self) -> Array:
        """The effects' columns (n, q)."""
        return np.asarray(self.columns)

    @cached_property
    def root_mean_squares(self) -> Array:
        """Of every column (q,)."""
        return np.sqrt(mean_squares(self.columns))

    @property
    def crossed(self) -> bool:
        """Whether its levels share rows, depend on each other, or are one: none stands alone."""
        return self.members is not None or self.cov is not None or self.common

    @property
    def seen(self) -> Index:
        """The columns that each level's rows see (J, e)."""
        if self.own is not None:
            return self.own
        return np.broadcast_to(np.arange(self.q), (self.n_levels, self.q))

    @cached_property
    def known(self) -> Array | None:
        """Prior precision of its scores (J q, J q), level by level; None for the identity.

        Scores that no row of their level sees stand for themselves: those that are seen have the
        known covariance between all levels, whichever factor multiplies them.
        """
        if self.cov is None:
            return None
        out, precision = np.eye(self.n_levels * self.q), np.linalg.inv(self.cov)
        for effect in self.seen.T:
            at = np.arange(self.n_levels) * self.q + effect
            out[np.ix_(at, at)] = (precision + precision.T) / 2.0
        return out

    @property
    def slots(self) -> Index:
        """Levels that each row belongs to (n, M)."""
        return self.index[:, None] if self.members is None else self.members.index

    def slot_columns(self, slot: int, rows: slice) -> Array:
        """Return what the row's columns are for one of its levels (rows, q)."""
        if isinstance(self.members, StandingMembers):
            return np.ascontiguousarray(self.members.columns[rows, slot])
        z = self.columns[rows]
        if self.members is not None:
            z = z * self.members.weights[rows, slot, None]
        return np.ascontiguousarray(z)


@dataclass(frozen=True, eq=False, repr=False)
class ChainLevel(Brief):
    """One grouping of the chain: its levels as nodes, children of one parent side by side.

    Attributes
    ----------
    grouping : int
        Position in ``Gram.groupings``.
    levels : ndarray of int (J,)
        The grouping's level that each node is.
    parent : ndarray of int (J,)
        Node of the next grouping of the chain; zeros for the last one.
    multiplicity : ndarray (J,)
        How many groups a node stands for; see `compress`.
    start : ndarray of int (J + 1,)
        Where the products of each node begin in ``products``.
    products : ndarray
        By node (M, q, width): own columns times own, later ones of the chain, those touched of the
        border, X, the other coefficients' and y.
    touch_start : ndarray of int (J + 1,)
        Where the touched border levels of each node begin in the next two.
    touch_grouping, touch_position : ndarray of int
        Grouping of each touched level; its first column among those touched by the parent, or in
        the corner for the last grouping of the chain.
    touch_corner : ndarray of int
        The first column of each touched level in the corner.
    touch_columns : ndarray of int (J,)
        Number of touched border columns.
    """

    grouping: int
    levels: Index
    parent: Index
    multiplicity: Array
    start: Index
    products: Array
    touch_start: Index
    touch_grouping: Index
    touch_position: Index
    touch_corner: Index
    touch_columns: Index


@dataclass(frozen=True, eq=False, repr=False)
class Corner(Brief):
    """Products among the columns of the border.

    Attributes
    ----------
    n_columns : int
        Columns of the crossed groupings.
    first : tuple of int
        First column of each border grouping.
    pairs : ndarray of int (n_pairs, 5)
        First columns and groupings of two levels that meet, upper triangle, and where their block
        begins in ``products``, (M, q, q').
    blocks : ndarray of int (n_blocks, 3)
        First column and grouping of every level, and where its products with X, the other
        coefficients' columns and y begin, (M, q, tail).
    products : ndarray
    tail : ndarray (M, tail, tail)
        Products of X, the other coefficients' columns and y among each other.
    """

    n_columns: int
    first: tuple[int, ...]
    pairs: Index
    blocks: Index
    products: Array
    tail: Array


@dataclass(frozen=True, eq=False, repr=False)
class Gram(Brief):
    """Cross-products of a Gaussian model.

    With R the upper triangle of the QR decomposition of X, the coefficients' columns are held as
    X R^-1 and the response as y minus its projection on [X, X_other]: products of centred columns
    only, whatever the columns' origin and scale.

    Attributes
    ----------
    groupings : tuple of Grouping
    chain, border : tuple of int
        Positions in ``groupings``: chain inner to outer, border in the order of its columns.
    levels : tuple of ChainLevel
    corner : Corner
    n : int
    n_bases : int
        M, the number of matrices whose sum with weights is the residual precision.
    n_coefs, n_others : int
        Columns of X, which are integrated out, and of X_other, which are not.
    R : ndarray (p, p)
        Triangular; the kernel's coefficients are ``R @ (coefficients - centre)``.
    centre : ndarray (p,)
    other_centre : ndarray (n_others,)
    """

    groupings: tuple[Grouping, ...]
    chain: tuple[int, ...]
    border: tuple[int, ...]
    levels: tuple[ChainLevel, ...]
    corner: Corner
    n: int
    n_bases: int
    n_coefs: int
    n_others: int
    R: Array
    centre: Array
    other_centre: Array

    @property
    def dependent(self) -> bool:
        """Whether any grouping's levels have a known covariance."""
        return any(self.groupings[k].cov is not None for k in self.border)

    @property
    def known(self) -> Array:
        """Prior precision of the border's scores (columns, columns): K^-1 by effect, or I."""
        out = np.eye(self.corner.n_columns)
        for k, first in zip(self.border, self.corner.first, strict=True):
            own = self.groupings[k].known
            if own is not None:
                out[first : first + len(own), first : first + len(own)] = own
        return out

    @cached_property
    def log_known(self) -> float:
        """Log determinant of the scores' prior covariance; 0 without a known covariance."""
        found = ((g.cov, g.seen.shape[1]) for g in self.groupings)
        return float(sum(e * np.linalg.slogdet(c)[1] for c, e in found if c is not None))

    @property
    def tail(self) -> int:
        """Columns at the end: X, X_other, y."""
        return self.n_coefs + self.n_others + 1

    def later(self, level: int) -> int:
        """Return how many columns of later groupings of the chain follow a level's own."""
        return sum(self.groupings[g].q for g in self.chain[level + 1 :])

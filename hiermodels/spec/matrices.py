"""Model matrices that are computed when asked for: whole, by columns, or by blocks of rows.

A column is a product of factors' values, which stay where they are. The cross-products of millions
of rows need a block of them at a time, so the whole matrix is made only where something reads it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.shown import Brief
from hiermodels.spec.whole import Stands

Array = NDArray[np.float64]
Index = NDArray[np.intp]

_ROWS: Final = 1 << 16


@dataclass(frozen=True, repr=False)
class Column(Brief):
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
        return self.block(slice(0, n), {})

    def block(self, rows: Any, means: Mapping[str, float]) -> Array:
        """Return some rows, of a slice with both ends; ``means`` of factors are subtracted."""
        if not self.parts:
            length = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
            return np.ones(length)
        result = None
        for label, part in self.parts:
            values = part[rows] - means[label] if label in means else part[rows]
            result = values if result is None else result * values
        return np.asarray(result)


@dataclass(frozen=True, eq=False, repr=False)
class Matrix(Brief):
    """Columns side by side: ``matrix[rows]`` is computed, ``matrix.values`` is kept.

    Attributes
    ----------
    columns : tuple of Column, length p
    n : int
        Number of rows.
    means : tuple of mapping of str to float, length p
        By column, what is subtracted from its factors.
    change : ndarray (p, p) or None
        What is added: raw columns ``@ change``.

    Examples
    --------
    >>> x = Column("x", (("x", np.array([1.0, 2.0, 3.0])),), frozenset({"x"}))
    >>> Matrix((Column("Intercept", (), frozenset()), x), 3, ({}, {"x": 2.0}))[1:3]
    array([[1., 0.],
           [1., 1.]])
    """

    columns: tuple[Column, ...]
    n: int
    means: tuple[Mapping[str, float], ...]
    change: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n, len(self.columns)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.n

    def __getitem__(self, rows: slice | Index) -> Array:
        """Return some rows (rows, p)."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.n)
            rows = slice(start, max(stop, start)) if step == 1 else np.arange(start, stop, step)
        length = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        found = np.empty((length, len(self.columns)))
        for k in range(len(self.columns)):
            found[:, k] = self.columns[k].block(rows, self.means[k])
        if self.change is not None:
            for j in np.flatnonzero(self.change.any(axis=1)):
                found += np.outer(self.columns[j].block(rows, {}), self.change[j])
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the whole matrix (n, p)."""
        return self.values.copy() if copy else self.values

    @cached_property
    def values(self) -> Array:
        """The whole matrix (n, p), computed once."""
        return self[:]

    def column(self, k: int) -> Array:
        """Return one column (n,)."""
        if self.change is None:
            return self.columns[k].block(slice(0, self.n), self.means[k])
        return self.values[:, k]

    def select(self, kept: Sequence[int]) -> "Matrix":
        """Return some of the columns of a matrix without `change`."""
        return replace(
            self,
            columns=tuple(self.columns[k] for k in kept),
            means=tuple(self.means[k] for k in kept),
        )

    def moved(self, change: Array) -> "Matrix":
        """Return the matrix plus the raw columns ``@ change``, itself where that is nothing."""
        if not change.any():
            return self
        return replace(self, change=change if self.change is None else self.change + change)

    def take(self, rows: Index) -> "Matrix":
        """Return the matrix of some rows."""
        columns = tuple(
            replace(own, parts=tuple((label, part[rows]) for label, part in own.parts))
            for own in self.columns
        )
        return replace(self, columns=columns, n=len(rows))


@dataclass(frozen=True, eq=False, repr=False)
class Given(Matrix):
    """Columns given as an array: those of rows that stand for others, and are no products.

    Attributes
    ----------
    array : ndarray (n, p)
    raw : ndarray (n, p)
        The raw columns of which `moved` adds some.

    Examples
    --------
    >>> given([Column("Intercept", (), frozenset())], np.array([[2.0], [0.0]]))[:1]
    array([[2.]])
    """

    array: Array = field(default_factory=lambda: np.empty((0, 0)))
    raw: Array = field(default_factory=lambda: np.empty((0, 0)))

    def __getitem__(self, rows: slice | Index) -> Array:
        """Return some rows (rows, p)."""
        return np.asarray(self.array[rows])

    def column(self, k: int) -> Array:
        """Return one column (n,)."""
        return np.asarray(self.array[:, k])

    def select(self, kept: Sequence[int]) -> "Given":
        """Return some of the columns."""
        columns = [self.columns[k] for k in kept]
        return given(columns, self.array[:, list(kept)], self.raw[:, list(kept)])

    def moved(self, change: Array) -> "Given":
        """Return the matrix plus the raw columns ``@ change``."""
        return replace(self, array=self.array + self.raw @ change)

    def take(self, rows: Index) -> "Given":
        """Return the matrix of some rows."""
        return given(self.columns, self.array[rows], self.raw[rows])


def given(columns: Sequence[Column], array: Array, raw: Array | None = None) -> Given:
    """Return columns given as an array, beside the raw ones where those are others."""
    means: tuple[Mapping[str, float], ...] = tuple({} for _ in columns)
    return Given(tuple(columns), len(array), means, array=array, raw=array if raw is None else raw)


# What holds columns: computed when asked for, or an array.
Columns = Matrix | Array


def raw_matrix(columns: Sequence[Column], n: int) -> Matrix:
    """Return columns side by side as they are."""
    return Matrix(tuple(columns), n, tuple({} for _ in columns))


def beside(parts: Sequence[Columns]) -> Columns:
    """Return matrices of the same rows side by side."""
    if len(parts) == 1:
        return parts[0]
    found = [part for part in parts if isinstance(part, Matrix) and not isinstance(part, Given)]
    if len(found) == len(parts) and all(part.change is None for part in found):
        columns = tuple(column for part in found for column in part.columns)
        return Matrix(columns, found[0].n, tuple(own for part in found for own in part.means))
    return np.concatenate([np.asarray(part) for part in parts], axis=1)


# --- sums over rows -------------------------------------------------------------------------


def blocks(columns: Columns) -> Iterator[Array]:
    """Yield the rows in blocks (rows, p)."""
    n = len(columns)
    return (columns[lo : min(lo + _ROWS, n)] for lo in range(0, n, _ROWS))


def mean_squares(columns: Columns) -> Array:
    """Return the mean square of every column (p,), 0 without rows."""
    total = np.zeros(columns.shape[1])
    for block in blocks(columns):
        total += [column @ column for column in block.T]
    return total / max(len(columns), 1)


def spread(matrix: Matrix, k: int, whole: Stands = None) -> tuple[float, float]:
    """Return the sd (0 for a single row) and the root mean square of one column.

    Of all rows that the matrix's stand for, where these stand for others.
    """
    if whole is not None:
        column = matrix.column(k)
        return (whole.sd(column) if len(column) > 1 else 0.0), whole.rms(column)
    own, n = matrix.select([k]), matrix.n
    mean = sum(float(np.sum(block)) for block in blocks(own)) / max(n, 1)
    left, squares, total = 0.0, 0.0, 0.0
    for block in blocks(own):
        values = block[:, 0]
        away = values - mean
        left += float(np.sum(away))
        squares += float(away @ away)
        total += float(values @ values)
    # what the mean's rounding left is taken out again
    variance = max(squares - left**2 / max(n, 1), 0.0) / max(n - 1, 1)
    return float(np.sqrt(variance)), float(np.sqrt(total / max(n, 1)))


def triangle(parts: Iterator[Array], p: int) -> Array:
    """Return the upper triangle (p, p) whose inner products are those of p columns, by blocks."""
    found = np.zeros((0, p))
    for part in parts:
        found = np.linalg.qr(np.concatenate([found, part]), mode="r")
    return np.concatenate([found, np.zeros((p - len(found), p))])

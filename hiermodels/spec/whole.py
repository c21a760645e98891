"""Means and spreads over rows, of which fewer rows may stand for many."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Whole(Brief):
    """Rows that stand for others: their products with each other are those of all rows.

    Attributes
    ----------
    n : int
        Number of the rows that they stand for.
    ones : ndarray (m,)
        What a column of ones is in them.

    Examples
    --------
    >>> whole = Whole(4, np.array([2.0, 0.0]))  # two rows for 1, 2, 3, 4
    >>> whole.mean(np.array([5.0, 5.0**0.5])), round(whole.sd(np.array([5.0, 5.0**0.5])), 4)
    (2.5, 1.291)
    """

    n: int
    ones: Array

    def mean(self, values: Array) -> float:
        """Return the mean of a column (m,)."""
        return float(self.ones @ values) / self.n

    def sd(self, values: Array) -> float:
        """Return the standard deviation of a column, with n - 1."""
        left = values - self.mean(values) * self.ones
        return float(np.sqrt(left @ left / (self.n - 1)))

    def rms(self, values: Array) -> float:
        """Return the root mean square of a column."""
        return float(np.sqrt(values @ values / self.n))


@dataclass(frozen=True, eq=False, repr=False)
class Counted(Brief):
    """Rows each of which stands for several that agree with it in every column.

    Attributes
    ----------
    n : int
        Number of the rows that they stand for.
    counts : ndarray (m,)
        By each.
    """

    n: int
    counts: Array

    @property
    def ones(self) -> Array:
        """A column of ones (m,)."""
        return np.ones(len(self.counts))

    def total(self, values: Array) -> float:
        """Return the sum of a column over all rows."""
        return float(self.counts @ values)

    def mean(self, values: Array) -> float:
        """Return the mean of a column (m,)."""
        return self.total(values) / self.n

    def sd(self, values: Array) -> float:
        """Return the standard deviation of a column, with n - 1."""
        left = values - self.mean(values)
        return float(np.sqrt(self.counts @ left**2 / (self.n - 1)))

    def rms(self, values: Array) -> float:
        """Return the root mean square of a column."""
        return float(np.sqrt(self.counts @ values**2 / self.n))


Stands = Whole | Counted | None


def total_of(values: Array, whole: Stands) -> float:
    """Return the sum of a column over the rows that these are or are counted for."""
    return whole.total(values) if isinstance(whole, Counted) else float(np.sum(values))


def mean_of(values: Array, whole: Stands) -> float:
    """Return the mean of a column over the rows that these are or stand for."""
    return float(np.mean(values)) if whole is None else whole.mean(values)


def sd_of(values: Array, whole: Stands) -> float:
    """Return the standard deviation of a column, with n - 1."""
    return float(np.std(values, ddof=1)) if whole is None else whole.sd(values)


def rms_of(values: Array, whole: Stands) -> float:
    """Return the root mean square of a column."""
    return float(np.sqrt(np.mean(values**2))) if whole is None else whole.rms(values)

"""A residual's matrix that takes series' constants to zero."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class Deviations(Brief):
    """A symmetric matrix that takes what is the same in all rows of a series to zero, exactly.

    Its weight may be 1e15 times that of the matrix that such columns are left to: what rounding
    leaves of their product would then count for more than they do.

    Attributes
    ----------
    matrix : csr_array (n, n)
        Rows sum to zero.
    reference : ndarray of int (n,)
        One row of each row's series.
    """

    matrix: sparse.csr_array
    reference: Ints

    def __matmul__(self, columns: Array) -> Array:
        """Return the matrix times columns (n, k) or a vector (n,)."""
        return np.asarray(self.matrix @ (columns - columns[self.reference]))

    def toarray(self) -> Array:
        """Return the matrix as an array (n, n)."""
        return np.asarray(self.matrix.toarray())


def plain(matrix: sparse.csr_array | Deviations) -> sparse.csr_array:
    """Return a sparse matrix, whatever way its products are taken."""
    return matrix.matrix if isinstance(matrix, Deviations) else matrix

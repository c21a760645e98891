"""Cross-products of a Gaussian model's rows, where they cost less than the rows."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, hstack, triu

from hiermodels.engines import buffers
from hiermodels.engines.problem import ConditionalProblem
from hiermodels.engines.product_kernels import (
    AT_CENTRE,
    AT_COLUMN,
    AT_DIAGONAL,
    AT_LINEAR,
    AT_SQUARES,
    AT_START,
    AT_VALUE,
    HEAD,
    LENGTH,
)
from hiermodels.engines.sections import write_section

Array = NDArray[np.float64]

# A row's columns are each read twice, a product once, and there is a residual in between.
_WORTH: Final = 1.0


def product_section(problem: ConditionalProblem, packed: Array, effects: Array) -> Array | None:
    """Return the cross-products about a point, as the kernel reads them; None where rows cost less.

    Parameters
    ----------
    problem : ConditionalProblem
        A Gaussian model with one residual sd and plain bars, its rows collapsed.
    packed : ndarray
        Its buffer.
    effects : ndarray
        Group effects near their mode, as the buffer orders them; any are right, near ones lose
        fewest digits.

    Returns
    -------
    ndarray or None
    """
    if packed[buffers.FAMILY] != buffers.GAUSSIAN or packed[buffers.PREDICTORS] != 2:
        return None
    columns = _columns(problem, packed)
    n = len(problem.y)
    response = _part(packed, buffers.AT_A, n)
    weight = _part(packed, buffers.AT_B, n)
    first = int(packed[buffers.AT_PREDICTORS])
    offset_at = int(packed[first + buffers.AT_OFFSET])
    rest = response - packed[offset_at : offset_at + n]
    p = problem.X.shape[1]
    gram = csr_array(columns.T @ (columns * weight[:, None]).tocsr())
    upper = csr_array(triu(gram, 1))
    if upper.nnz > _WORTH * n * (p + sum(bar.q for bar in problem.bars)):
        return None
    centre = np.concatenate([np.zeros(p), effects])
    if p:
        residuals = rest - columns @ centre
        root = np.sqrt(weight)
        centre[:p] = np.linalg.lstsq(problem.X * root[:, None], residuals * root)[0]
    residuals = rest - columns @ centre
    parts: dict[int, NDArray[np.generic]] = {
        AT_CENTRE: centre,
        AT_LINEAR: np.asarray(columns.T @ (weight * residuals)),
        AT_DIAGONAL: gram.diagonal(),
        AT_START: upper.indptr,
        AT_COLUMN: upper.indices,
        AT_VALUE: upper.data,
        AT_SQUARES: np.array([float(weight @ residuals**2)]),
    }
    return write_section(np.zeros(HEAD, dtype=np.int64), LENGTH, parts)


def _part(packed: Array, place: int, n: int) -> Array:
    """Return one of the family's arrays (n,)."""
    start = int(packed[place])
    return packed[start : start + n]


def _columns(problem: ConditionalProblem, packed: Array) -> csr_array:
    """Return the rows' columns, coefficients first, then effects as the buffer orders them."""
    n, parts = len(problem.y), [csr_array(problem.X)]
    start = int(packed[buffers.AT_BARS])
    for k in range(int(packed[buffers.BARS])):
        bar = packed[start + k * buffers.BAR : start + (k + 1) * buffers.BAR]
        q, at = int(bar[buffers.SIZE]), int(bar[buffers.AT_POSITIONS])
        position = packed[at : at + n].view(np.int64) - int(bar[buffers.FIRST_EFFECT])
        z = packed[int(bar[buffers.AT_Z]) :][: n * q].reshape(q, n)
        row = np.tile(np.arange(n), q)
        column = (position[None, :] + np.arange(q)[:, None]).ravel()
        shape = (n, q * int(bar[buffers.LEVELS]))
        parts.append(csr_array(coo_array((z.ravel(), (row, column)), shape=shape)))
    return csr_array(hstack(parts))

"""Averages over all rows of a model, held one by one, counted together, or as their products."""

import numpy as np
import numpy.typing as npt

from hiermodels.spec.whole import Counted, Stands, Whole

Floats = npt.NDArray[np.float64]


def row_means(values: Floats, whole: Stands) -> Floats:
    """Return the means over rows.

    Parameters
    ----------
    values : ndarray (..., m)
        By row; where rows stand for others by their products, linear in the rows' columns.
    whole : Whole, Counted or None
        What the rows stand for: ``design.whole``.

    Returns
    -------
    ndarray (...)

    Examples
    --------
    >>> row_means(np.array([[1.0, 2.0]]), Counted(4, np.array([3.0, 1.0])))
    array([1.25])
    """
    if whole is None:
        return np.asarray(np.mean(values, axis=-1))
    each = whole.counts if isinstance(whole, Counted) else whole.ones
    return np.asarray(values @ each / whole.n)


def row_variances(values: Floats, whole: Stands) -> Floats:
    """Return the variances over rows, with n - 1.

    Parameters
    ----------
    values, whole
        As of :func:`row_means`.

    Returns
    -------
    ndarray (...)

    Examples
    --------
    >>> row_variances(np.array([1.0, 5.0]), Counted(4, np.array([3.0, 1.0])))
    array(4.)
    """
    if whole is None:
        return np.asarray(np.var(values, axis=-1, ddof=1))
    means = row_means(values, whole)[..., None]
    if isinstance(whole, Whole):
        return np.asarray(np.sum((values - means * whole.ones) ** 2, axis=-1) / (whole.n - 1))
    return np.asarray((values - means) ** 2 @ whole.counts / (whole.n - 1))


def row_products(columns: Floats, whole: Stands) -> Floats:
    """Return the mean over rows of the products of columns (q, q).

    Parameters
    ----------
    columns : ndarray (m, q)
    whole : Whole, Counted or None
        As of :func:`row_means`.
    """
    if isinstance(whole, Counted):
        return np.asarray((columns * whole.counts[:, None]).T @ columns / whole.n)
    n = len(columns) if whole is None else whole.n
    return np.asarray(columns.T @ columns / n)

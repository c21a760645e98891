"""Correlation matrices of a PyMC graph, through independent partial correlations."""

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hiermodels.spec.distributions import Prior


def correlation_factor(name: str, q: int, prior: Prior, several: int | None = None) -> Any:
    """Add partial correlations with an LKJ prior; return the correlation's Cholesky factor.

    The canonical partial correlations of an LKJ(eta) matrix are independent,
    z_ij = 2 Beta(a_j, a_j) - 1 with a_j = eta + (q - 1 - j) / 2 for j = 1, 2, ... < i
    (Lewandowski, Kurowicka and Joe 2009, doi:10.1016/j.jmva.2009.04.008). They are used rather
    than PyMC's LKJCorr, whose density in the version tested lacks the Jacobian of the factor for
    three and more effects. With ``several`` there are so many factors (several, q, q).
    """
    rows, columns = np.tril_indices(q, -1)
    shape = prior.values[0] + (q - 2 - columns) / 2.0
    lead = () if several is None else (several,)
    shape = np.broadcast_to(shape, (*lead, len(rows)))
    partial = 2.0 * pm.Beta(name, shape, shape) - 1.0
    z = pt.zeros((*lead, q, q))[..., rows, columns].set(partial)
    before = pt.cumsum(0.5 * pt.log1p(-(z**2)), axis=-1)
    product = pt.exp(pt.concatenate([pt.zeros((*lead, q, 1)), before[..., :-1]], axis=-1))
    return (z + pt.eye(q)) * product


def cholesky_of_partials(partial: np.ndarray, q: int) -> np.ndarray:
    """Return Cholesky factors (..., q, q) from partial correlations on (0, 1)."""
    rows, columns = np.tril_indices(q, -1)
    z = np.zeros((*partial.shape[:-1], q, q))
    z[..., rows, columns] = 2.0 * partial - 1.0
    before = np.cumsum(0.5 * np.log1p(-(z**2)), axis=-1)
    product = np.exp(np.concatenate([np.zeros((*z.shape[:-1], 1)), before[..., :-1]], axis=-1))
    return np.asarray((z + np.eye(q)) * product)

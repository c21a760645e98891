"""The log likelihood of all rows together from their cross-products, given everything else."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.information import residual_terms
from hiermodels.answers.predictors import GroupEffects, linear_draws
from hiermodels.answers.residual_rows import residual_sds
from hiermodels.answers.rows import all_groups, own_rows
from hiermodels.errors import FitError
from hiermodels.fitting.model import Model
from hiermodels.spec.residual import Basis
from hiermodels.spec.rowless import product_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_LOG_2PI = float(np.log(2.0 * np.pi))


def log_likelihood_of_products(model: Model, posterior: xr.Dataset, take: Ints) -> Floats:
    """Return log p(y | coefficients, group effects, parameters) at draws (S,).

    Parameters
    ----------
    model : Model
        Gaussian, of rows that were read in passes and not kept.
    posterior : xarray.Dataset
        With the draws of the group effects.
    take : ndarray of int (S,)
        Positions of the draws, chains one after another.

    Raises
    ------
    FitError
        Draws of group effects were not kept.

    Notes
    -----
    -(sum_m w_m r' M_m r + log|R| + W log 2 pi) / 2 with residuals r of rows that stand for others,
    under each matrix M_m of the residual precision.
    """
    design = product_rows(model.design)
    residual, priors = design.residual, model.resolved.residual
    if residual is None or residual.found is None or priors is None:
        raise FitError("The likelihood of products is that of a Gaussian model.")
    every = frozenset(all_groups(design))
    effects = GroupEffects(every, frozenset(), "error", 0)
    eta = linear_draws(design, posterior, own_rows(design, [""], every), take, effects)
    squares = (design.y - eta) ** 2
    classes = residual.found.classes
    if residual.by_rows and classes is not None:
        variances = residual_sds(design, posterior, take) ** 2
        first = np.unique(classes, return_index=True)[1]
        logs = np.log(variances[:, first]) @ residual.found.counts + residual.constant
        total = np.sum(squares / variances, axis=1) + logs
    else:
        weights, logs = residual_terms(posterior, take, residual, priors)
        own = np.stack([_under(basis, squares) for basis in residual.bases], axis=1)
        total = np.sum(weights * own, axis=1) + logs
    return np.asarray(-0.5 * (total + residual.total_weight * _LOG_2PI))


def _under(basis: Basis, squares: Floats) -> Floats:
    """Return the sums of squares (S,) under a matrix that joins none of these rows."""
    if basis is None:
        return np.asarray(np.sum(squares, axis=1))
    return np.asarray(squares @ np.asarray(basis))

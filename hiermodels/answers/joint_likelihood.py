"""The log likelihood of all rows together, given coefficients, group effects and parameters.

Rows that a residual structure joins are taken series by series from their covariance, written out
in full: nothing here is shared with the kernels that sample. Rows that were not kept are another
matter: their likelihood is one of products.
"""

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.new_levels import flat
from hiermodels.answers.pointwise import row_densities
from hiermodels.answers.predictors import GroupEffects, linear_draws
from hiermodels.answers.product_likelihood import log_likelihood_of_products
from hiermodels.answers.residual_rows import residual_sds
from hiermodels.answers.rows import all_groups, own_rows
from hiermodels.errors import FitError
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design
from hiermodels.spec.residual import Residual
from hiermodels.spec.rowless import RowlessDesign

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_LOG_2PI = float(np.log(2.0 * np.pi))


def joint_log_likelihood(model: Model, posterior: xr.Dataset, take: Ints) -> Floats:
    """Return log p(y | coefficients, group effects, parameters) at draws (S,).

    Parameters
    ----------
    model : Model
    posterior : xarray.Dataset
        With the draws of the group effects.
    take : ndarray of int (S,)
        Positions of the draws, chains one after another.

    Raises
    ------
    FitError
        The response is censored or truncated, or weights() stand beside a residual structure.

    Examples
    --------
    >>> import numpy as np
    >>> import hiermodels as hm
    >>> from hiermodels.answers.drawn_priors import prior_draws
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> drawn = prior_draws(model.design, model.resolved, 3, np.random.default_rng(1))
    >>> joint_log_likelihood(model, drawn, np.arange(3)).shape
    (3,)
    """
    design, residual = model.design, model.design.residual
    if residual is not None and residual.correlation_name and "weights" in design.formula.additions:
        raise FitError(
            f"weights() multiplies log likelihoods, which under {residual.term} are not those of "
            "single rows. Use precision() where variances are meant, or leave weights() out."
        )
    if isinstance(design, RowlessDesign):
        return log_likelihood_of_products(model, posterior, take)
    if residual is None or residual.correlation_name is None:
        rows = np.arange(design.n)
        return np.asarray(row_densities(model, posterior, rows, take).sum(axis=1))
    return _joined(design, residual, posterior, take)


def _joined(design: Design, residual: Residual, posterior: xr.Dataset, take: Ints) -> Floats:
    """Return log densities of all series (S,)."""
    every = frozenset(all_groups(design))
    rows = own_rows(design, [""], every)
    eta = linear_draws(design, posterior, rows, take, GroupEffects(every, frozenset(), "error", 0))
    sds = residual_sds(design, posterior, take)
    scores = (design.y - eta) / sds
    parameter = flat(posterior[str(residual.correlation_name)], take)
    total = -np.sum(np.log(sds), axis=1) - 0.5 * design.n * _LOG_2PI
    for members, time in _patterns(residual):
        root = np.linalg.cholesky(_correlation(residual, parameter, time))
        own = np.moveaxis(scores[:, members], 1, 2)
        total -= 0.5 * np.sum(np.linalg.solve(root, own) ** 2, axis=(1, 2))
        diagonal = np.einsum("saa->sa", root)
        total -= len(members) * np.sum(np.log(diagonal), axis=1)
    return np.asarray(total)


def _patterns(residual: Residual) -> list[tuple[Ints, Ints]]:
    """Return rows (series, m) of all series with the same times, and these times (m,)."""
    if residual.series is None:
        return []
    time = np.zeros(residual.n, dtype=np.intp) if residual.time is None else residual.time
    found: dict[tuple[int, ...], list[Ints]] = {}
    for one in np.unique(residual.series):
        rows = np.flatnonzero(residual.series == one)
        rows = rows[np.argsort(time[rows], kind="stable")]
        found.setdefault(tuple(time[rows].tolist()), []).append(rows)
    return [(np.stack(rows), np.array(key, dtype=np.intp)) for key, rows in found.items()]


def _correlation(residual: Residual, parameter: Floats, time: Ints) -> Floats:
    """Return correlation matrices of a series for each draw (S, m, m)."""
    m = len(time)
    if residual.structure == "unstr":
        return np.asarray(parameter[:, time[:, None], time[None, :]])
    one = parameter[:, None, None]
    if residual.structure == "cosy":
        return np.asarray(np.where(np.eye(m, dtype=bool), 1.0, one))
    return np.asarray(one ** np.abs(time[:, None] - time[None, :]))

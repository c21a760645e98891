"""Log densities of single rows, draw by draw, computed when they are asked for."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.counted_rows import check_single, counts_of, one_of_each
from hiermodels.answers.expectations import total_sd
from hiermodels.answers.fitted import drawn
from hiermodels.answers.new_levels import NewLevels
from hiermodels.answers.predictors import GroupEffects, linear_draws, parameter_draws
from hiermodels.answers.residual_rows import residual_sds
from hiermodels.answers.row_likelihood import row_log_likelihood
from hiermodels.answers.rows import RowLevels, Rows, all_groups, own_rows, parameter_designs
from hiermodels.engines.choice import choose_engine
from hiermodels.engines.integrable import unsupported
from hiermodels.engines.leave_out import row_terms
from hiermodels.engines.responses import parameter_names
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.generative import OBS
from hiermodels.fitting.model import Model
from hiermodels.fitting.points import marginal_points
from hiermodels.spec.design import Design
from hiermodels.spec.rowless import need_rows
from hiermodels.spec.subset import subset_design

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_BLOCK = 20_000_000


@dataclass(frozen=True, eq=False)
class Part:
    """Log densities of some rows.

    Attributes
    ----------
    rows : ndarray of int (m,)
    left_out : ndarray (S, m)
        Given each draw and all other rows: what is smoothed to leave a row out.
    kept : ndarray (S, m)
        Given each draw, where the row was seen.
    """

    rows: Ints
    left_out: Floats
    kept: Floats


def is_exact(model: Model) -> bool:
    """Whether coefficients and group effects are integrated out, at a cost that is bearable."""
    residual = model.design.residual
    if residual is not None and residual.by_rows:
        return False
    if unsupported(model.design, model.family, model.resolved) is not None:
        return False
    choice = choose_engine(model.design, model.family, model.resolved, "auto")
    return choice.engine == "marginal"


def how(model: Model) -> str:
    """Return in words what the densities are given."""
    if is_exact(model):
        return "coefficients and group effects integrated out exactly"
    return "given draws of coefficients and group effects"


def pointwise_parts(fit: Fit, block: int = _BLOCK) -> Iterator[Part]:
    """Yield the log densities of all rows, some rows at a time.

    Parameters
    ----------
    fit : Fit
    block : int
        Numbers that a part may hold.

    Raises
    ------
    FitError
        There are no draws, or those of the group effects were beyond memory and are needed; or
        rows were counted together with weights.
    """
    model, posterior = _checked(fit)
    check_single(model, "The log density of a row")
    if is_exact(model):
        problem = model.marginal
        draws = marginal_points(problem, model.design, model.resolved, posterior)
        own = problem, model.design, model.resolved, draws
        for found in row_terms(*own, block=block, cores=processors()):
            yield Part(found.rows, found.left_out, found.kept)
        return
    n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    step, take = max(block // n_draws, 1), np.arange(n_draws)
    model = one_of_each(model)
    for start in range(0, model.design.n, step):
        rows = np.arange(start, min(start + step, model.design.n))
        found_rows = row_densities(model, posterior, rows, take)
        yield Part(rows, found_rows, found_rows)


def processors() -> int:
    """Return how many parts of the draws run at a time."""
    return os.cpu_count() or 1


def _checked(fit: Fit) -> tuple[Model, xr.Dataset]:
    """Return model and posterior of a fit; raise FitError at anything else."""
    drawn(fit)
    return fit.model, fit.posterior


def row_densities(
    model: Model,
    posterior: xr.Dataset,
    rows: Ints,
    take: Ints,
    new_levels: NewLevels = "error",
    seed: int = 0,
) -> Floats:
    """Return log densities of rows given draws of coefficients and group effects (S, m).

    Parameters
    ----------
    model : Model
        Whose rows are asked for.
    posterior : xarray.Dataset
        Of this model, or of the model on some of its rows.
    rows : ndarray of int (m,)
    take : ndarray of int (S,)
        Positions of the draws, chains one after another.
    new_levels : {"error", "draw", "zero"}
        What a level is that the posterior does not have.
    seed : int
        For levels that are drawn.
    """
    design, own = coded_rows(model, posterior, rows)
    effects = GroupEffects(frozenset(own.levels), frozenset(), new_levels, seed)
    eta = linear_draws(design, posterior, own, take, effects)
    return density(model, design, posterior, own, take, effects, eta)


def coded_rows(model: Model, posterior: xr.Dataset, rows: Ints) -> tuple[Design, Rows]:
    """Return some rows as a design and as rows, levels known as the posterior has them."""
    design = subset_design(model.design, rows)
    names = ("", *(own.name for own in parameter_designs(design)))
    own = own_rows(design, names, all_groups(design))
    levels = {}
    for name, found in own.levels.items():
        place = {str(label): k for k, label in enumerate(posterior[name].values)}
        known = np.array([place.get(label, -1) for label in found.labels], dtype=np.intp)
        levels[name] = RowLevels(found.index, found.weights, found.labels, known)
    return design, replace(own, levels=levels)


def density(
    model: Model,
    design: Design,
    posterior: xr.Dataset,
    rows: Rows,
    take: Ints,
    effects: GroupEffects,
    eta: Floats,
) -> Floats:
    """Return the rows' log densities at linear predictors (..., m), with draws of parameters.

    Of censored rows these are log probabilities.
    """
    names = parameter_names(model.family)
    found = dict(parameter_draws(design, posterior, rows, take, effects, names))
    linear = [own.name for own in parameter_designs(design)]
    if design.residual is not None and "sigma" not in linear:
        found["sigma"] = residual_sds(design, posterior, take)
    elif design.residual is not None:
        found["sigma"] = total_sd(design, found["sigma"], slice(None))
    return row_log_likelihood(model.family, design, eta, found)


def pointwise_log_likelihood(fit: Fit) -> xr.DataArray:
    """Return the log density of every row given each draw and all other rows.

    For Gaussian models that the marginal engine can run, whichever engine ran, coefficients and
    group effects are integrated out: the density is log p(y_i | y_-i, theta), with theta the
    scales; under ``ar``, ``cosy`` and ``unstr`` it is the conditional of the joint normal. For
    all others it is log p(y_i | b, beta, theta). Either is what leave-one-out importance
    sampling takes, and what ArviZ calls ``log_likelihood``. Of a censored row it is the log
    probability of the values that it may have, and under truncation all is given that responses
    lie within the bounds. With ``weights(w)`` a row's density
    is raised to the power w, as in the posterior: leaving the row out leaves all its w out.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    xarray.DataArray
        Dims chain, draw, ``__obs__``; computed anew at every call, as it takes 8 bytes a draw and
        row. Of rows that were counted together one stands for all that agree with it, and the
        coordinate ``count`` says how many these are.

    Raises
    ------
    FitError
        There are no draws, or those of the group effects were beyond memory and are needed; or
        the rows were not kept, or counted together with weights.

    References
    ----------
    .. [1] Burkner, Gabry and Vehtari (2020), https://doi.org/10.1007/s00180-020-01045-4.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, target_accept=0.95, progress=False)
    >>> hm.pointwise_log_likelihood(fit).sizes["__obs__"]
    30
    """
    drawn(fit)
    instead = "hm.predict_to(fit, source, file, 'log_likelihood') writes densities by row."
    need_rows(fit.model.design, "pointwise_log_likelihood()", instead)
    parts = list(pointwise_parts(fit))
    posterior, n = fit.posterior, fit.model.design.n
    shape = posterior.sizes["chain"], posterior.sizes["draw"]
    values = np.empty((*shape, n))
    for part in parts:
        values[:, :, part.rows] = part.left_out.reshape(*shape, -1)
    coords: dict[str, Any] = {"chain": posterior["chain"], "draw": posterior["draw"]}
    coords[OBS] = np.arange(n)
    counts = counts_of(fit.model.design)
    if counts is not None:
        coords["count"] = (OBS, counts)
    return xr.DataArray(values, dims=("chain", "draw", OBS), coords=coords, name="log_likelihood")

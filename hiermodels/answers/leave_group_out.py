"""Each level of a grouping left out with all its rows: how well a new group is predicted."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.counted_rows import counts_of
from hiermodels.answers.fitted import drawn
from hiermodels.answers.held_out import LeftGroups, groups_left_out
from hiermodels.answers.new_groups import group_terms
from hiermodels.answers.pointwise import is_exact, processors
from hiermodels.answers.refits import LeftOut, log_density, points_of, refit_each
from hiermodels.answers.smoothing import good_k, leave_out, log_mean, relative_efficiency
from hiermodels.answers.validation import CrossValidation
from hiermodels.engines.leave_out import leaf_grouping, leaf_terms
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.spec.rowless import need_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def logo(
    fit: Fit,
    group: str | None = None,
    *,
    refit: bool = True,
    cores: int | None = 1,
    client: Any = None,
) -> CrossValidation:
    """Estimate how well a whole new group is predicted by a model that has not seen it.

    Parameters
    ----------
    fit : Fit
    group : str, optional
        A grouping of the model, or a column among those in use; the only grouping by default.
    refit : bool
        Whether to fit the model again without each level whose Pareto k is too large, in place
        of its weights; priors and coding stay as they are.
    cores : int, optional
        Refits that run at a time, each in a process of its own; 1 stays in this process, None
        takes one for each processor. The answer is the same.
    client : distributed.Client, optional
        A Dask client that runs the refits instead.

    Returns
    -------
    CrossValidation
        ``pointwise`` has a line for each level: the joint log predictive density of its rows.

    Raises
    ------
    FitError
        There are no draws; there is no such grouping; one level has all rows; or, in models that
        the marginal engine cannot run, a known covariance joins levels that have Student effects
        or subpopulations.

    Notes
    -----
    A level's term is log p(y_j | y_-j) of its rows together, its effects, and those of levels
    nested in it, taken from the population. For Gaussian models that the marginal engine can run
    p(y_j | y_-j, theta) is exact in coefficients and group effects; draws of theta are weighted
    by Pareto smoothed importance sampling. For all others the effects of the level, in the mean
    and in formulas for parameters together, are integrated out by adaptive Gauss-Hermite
    quadrature, beyond three of them, or where they are Student's, by importance sampling about
    their mode, with its diagnostic in the column ``inner_ess``: the smallest number of effective
    points, of 150, of any draw. Levels with a known covariance are taken given the effects of the
    others.

    With ``mm()`` a level is left out with all rows in which it counts, so that a row stands in
    the terms of all its levels: they add up to a score of the levels, not to one of the rows.

    References
    ----------
    .. [1] Merkle, Furr and Rabe-Hesketh (2019), https://doi.org/10.1007/s11336-019-09679-0.
    .. [2] Pinheiro and Bates (1995), https://doi.org/10.1080/10618600.1995.10474663.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, target_accept=0.95, progress=False)
    >>> list(hm.logo(fit, "Batch").pointwise["n"])
    [5, 5, 5, 5, 5, 5]
    """
    drawn(fit)
    need_rows(fit.model.design, "logo()", "hm.predict_to() writes log likelihoods by row.")
    left = groups_left_out(fit.model.design, group)
    name, levels = left.name, left.levels
    if len(levels) < 2:
        raise FitError(f"{name} has one level only; nothing is left without it")
    posterior = fit.posterior
    shape = int(posterior.sizes["chain"]), int(posterior.sizes["draw"])
    n_draws, exact = shape[0] * shape[1], is_exact(fit.model)
    efficiency, limit = relative_efficiency(posterior), good_k(n_draws)
    elpd, k, inner = (np.full(len(levels), np.nan) for _ in range(3))
    for own, terms, points in _weighted(fit, left):
        elpd[own], k[own] = leave_out(terms.reshape(*shape, -1), efficiency)
        inner[own] = points
    again = np.flatnonzero(k > limit) if refit else np.zeros(0, dtype=np.intp)
    jobs = [LeftOut(left.rows[level], int(level), f"{name} {levels[level]}") for level in again]
    for job, found in zip(jobs, refit_each(fit, jobs, held_terms, cores, client), strict=True):
        terms, inner[job.key] = found
        elpd[job.key] = log_mean(terms[:, None])[0]
    refitted = np.isin(np.arange(len(levels)), again)
    counts = counts_of(fit.model.design)
    n_rows = [len(r) if counts is None else round(counts[r].sum()) for r in left.rows]
    table = pd.DataFrame(
        {"n": n_rows, "elpd": elpd, "pareto_k": k, "refitted": refitted},
        index=pd.Index(levels, name=name),
    )
    if not np.isnan(inner).all():
        table["inner_ess"] = inner
    way = "importance sampling (see inner_ess)" if "inner_ess" in table else "quadrature"
    how = f"the level's effects integrated out by {way}"
    if exact:
        how = "coefficients and group effects integrated out exactly"
    if left.shared:
        how += "; rows are left out with each of their levels"
    return CrossValidation("logo", fit.model, name, table, n_draws, limit, how)


def held_terms(model: Model, small: Fit, held: Ints, seed: int) -> tuple[Floats, float]:
    """Return log p(rows | draw) of rows held out by a fit without them (S,), and points."""
    if not is_exact(model):
        return group_terms(model, small.posterior, held, seed)
    x = points_of(small)
    return log_density(model)(x) - log_density(small.model)(x), np.nan


def _weighted(fit: Fit, left: LeftGroups) -> Iterator[tuple[Ints, Floats, float]]:
    """Yield levels, log p(y_j | y_-j, draw) of each (S, m), and effective points."""
    model = fit.model
    if not is_exact(model):
        for level, held in enumerate(left.rows):
            terms, points = group_terms(model, fit.posterior, held, fit.seed)
            yield np.array([level]), terms[:, None], points
        return
    x, residual = points_of(fit), model.design.residual
    alone = residual is not None and residual.structure == "independent"
    if alone and left.name == leaf_grouping(model.marginal):
        own = model.marginal, model.design, model.resolved, x
        for levels, terms in leaf_terms(*own, cores=processors()):
            yield levels, terms, np.nan
        return
    whole = log_density(model)(x)
    for level, held in enumerate(left.rows):
        rest = model.on_rows(np.setdiff1d(np.arange(model.design.n), held))
        yield np.array([level]), (whole - log_density(rest)(x))[:, None], np.nan

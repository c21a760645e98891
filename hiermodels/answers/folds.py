"""Rows left out a fold at a time, the model fitted again without each fold."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import drawn
from hiermodels.answers.held_out import levels_of
from hiermodels.answers.pointwise import how, pointwise_parts
from hiermodels.answers.refits import LeftOut, held_rows, refit_each
from hiermodels.answers.smoothing import good_k, log_mean
from hiermodels.answers.validation import CrossValidation
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.spec.design import Design

Ints = npt.NDArray[np.intp]


def kfold(
    fit: Fit,
    k: int = 10,
    *,
    group: str | None = None,
    seed: int | None = None,
    cores: int | None = 1,
    client: Any = None,
) -> CrossValidation:
    """Estimate how well rows are predicted by models fitted without their fold.

    No importance weights are needed, so that there is no Pareto k; the price is k refits, with
    the priors and the coding that the model has.

    Parameters
    ----------
    fit : Fit
    k : int
        Number of folds; as many as there are rows, or levels, leaves out each.
    group : str, optional
        A grouping of the model, or a column among those in use, whose levels are kept whole: a
        fold then holds new groups. Without it rows are dealt to the folds.
    seed : int, optional
        Of the deal; the fit's own unless given.
    cores : int, optional
        Refits that run at a time, each in a process of its own; 1 stays in this process, None
        takes one for each processor. The answer is the same.
    client : distributed.Client, optional
        A Dask client that runs the refits instead.

    Returns
    -------
    CrossValidation
        ``pointwise`` has a line for each row: the log predictive density of its response given
        all rows outside its fold, and its fold.

    Raises
    ------
    FitError
        There are no draws; k is no whole number from 2 to the number of rows or levels; there is
        no such grouping; the Dask client is closed.

    Notes
    -----
    Rows of one fold are predicted one by one, not jointly; levels that a refit has not seen have
    effects from the population, integrated out exactly in Gaussian models that the marginal
    engine can run, and else drawn once for each posterior draw. Vehtari, Gelman and Gabry (2017),
    https://doi.org/10.1007/s11222-016-9696-4.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, target_accept=0.95, progress=False)
    >>> hm.kfold(fit, 2, group="Batch").pointwise["fold"].value_counts().tolist()
    [15, 15]
    """
    drawn(fit)
    design, sizes = fit.model.design, fit.posterior.sizes
    unit, fold = deal(design, k, group, fit.seed if seed is None else seed)
    elpd = np.empty(design.n)
    jobs = [LeftOut(np.flatnonzero(fold == one), one, f"fold {one}") for one in range(k)]
    for job, found in zip(jobs, refit_each(fit, jobs, held_rows, cores, client), strict=True):
        elpd[job.rows] = found
    table = pd.DataFrame({"elpd": elpd, "fold": fold}, index=design.data.index)
    if group is None:
        # of new groups the difference would say nothing about parameters
        seen = np.empty(design.n)
        for part in pointwise_parts(fit):
            seen[part.rows] = log_mean(part.kept)
        table.insert(1, "p", seen - elpd)
    n_draws = int(sizes["chain"] * sizes["draw"])
    text = f"{k} folds of {unit}; {how(fit.model)}"
    return CrossValidation("kfold", fit.model, "row", table, n_draws, good_k(n_draws), text)


def deal(design: Design, k: int, group: str | None, seed: int) -> tuple[str, Ints]:
    """Return what the folds are made of, in words, and the fold of each row.

    Folds differ by at most one row, or one level.
    """
    unit, index, n = "rows", np.arange(design.n), design.n
    if group is not None:
        name, index, levels = levels_of(design, group)
        unit, n = f"whole levels of {name}", len(levels)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 2 <= k <= n:
        what = "rows" if group is None else f"levels of {group}"
        raise FitError(
            f"k is a whole number of folds from 2 to {n}, the number of {what}; got {k!r}"
        )
    order = np.random.default_rng(seed).permutation(n)
    fold = np.empty(n, dtype=np.intp)
    fold[order] = np.arange(n) % k
    return unit, fold[index]

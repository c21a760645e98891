"""Rows left out a fold at a time, the model fitted again without each fold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.counted_rows import check_single, counts_of
from hiermodels.answers.fitted import drawn
from hiermodels.answers.held_out import levels_of
from hiermodels.answers.pointwise import how, pointwise_parts
from hiermodels.answers.refits import LeftOut, held_rows, refit_each
from hiermodels.answers.smoothing import good_k, log_mean
from hiermodels.answers.validation import CrossValidation
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.spec.counted import drawn_counts
from hiermodels.spec.design import Design
from hiermodels.spec.rowless import need_rows

Floats = npt.NDArray[np.float64]
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
        all rows outside its fold, and its fold. Rows that were counted together have a line for
        each fold that they are in, and ``count`` says how many of them are there.

    Raises
    ------
    FitError
        There are no draws; k is no whole number from 2 to the number of rows or levels; there is
        no such grouping; the rows were not kept, or counted together with weights; the Dask
        client is closed.

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
    need_rows(fit.model.design, "kfold()", "hm.predict_to() writes log likelihoods by row.")
    check_single(fit.model, "kfold()")
    design, sizes = fit.model.design, fit.posterior.sizes
    dealt = deal_counts(design, k, group, fit.seed if seed is None else seed)
    elpd = np.empty(len(dealt.fold))
    places = [np.flatnonzero(dealt.fold == one) for one in range(k)]
    jobs = [
        LeftOut(
            dealt.row[at], one, f"fold {one}", None if dealt.counts is None else dealt.counts[at]
        )
        for one, at in enumerate(places)
    ]
    found = refit_each(fit, jobs, held_rows, cores, client)
    for at, values in zip(places, found, strict=True):
        elpd[at] = values
    table = pd.DataFrame({"elpd": elpd, "fold": dealt.fold}, index=design.data.index[dealt.row])
    if group is None:
        # of new groups the difference would say nothing about parameters
        seen = np.empty(design.n)
        for part in pointwise_parts(fit):
            seen[part.rows] = log_mean(part.kept)
        table.insert(1, "p", seen[dealt.row] - elpd)
    if dealt.counts is not None:
        table["count"] = np.rint(dealt.counts).astype(np.int64)
    n_draws = int(sizes["chain"] * sizes["draw"])
    text = f"{k} folds of {dealt.unit}; {how(fit.model)}"
    return CrossValidation("kfold", fit.model, "row", table, n_draws, good_k(n_draws), text)


@dataclass(frozen=True, eq=False)
class Dealt:
    """Which rows are in which fold.

    Attributes
    ----------
    unit : str
        What the folds are made of, in words.
    row, fold : ndarray of int
        A line for each row, or for each distinct row in each of its folds.
    counts : ndarray or None
        How many rows a line stands for; None where it is one.
    """

    unit: str
    row: Ints
    fold: Ints
    counts: Floats | None


def deal_counts(design: Design, k: int, group: str | None, seed: int) -> Dealt:
    """Return which rows are in which fold, those that were counted together dealt one by one."""
    counts = counts_of(design)
    if counts is None or group is not None:
        unit, fold = deal(design, k, group, seed)
        return Dealt(unit, np.arange(design.n), fold, counts)
    left = np.rint(counts).astype(np.int64)
    n = int(left.sum())
    _check_folds(k, n, "rows")
    rng = np.random.default_rng(seed)
    parts = []
    for one in range(k):
        size = n // k + int(one < n % k)
        # what is left makes the last fold
        mine = left.copy() if one == k - 1 else drawn_counts(left, size, rng)
        mine = np.minimum(mine, left)
        rows = np.flatnonzero(mine)
        parts.append((rows, np.full(len(rows), one), mine[rows]))
        left = left - mine
    row, found, number = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((found, row))
    return Dealt("rows", row[order], found[order], number[order].astype(np.float64))


def deal(design: Design, k: int, group: str | None, seed: int) -> tuple[str, Ints]:
    """Return what the folds are made of, in words, and the fold of each row.

    Folds differ by at most one row, or one level.
    """
    unit, index, n = "rows", np.arange(design.n), design.n
    if group is not None:
        name, index, levels = levels_of(design, group)
        unit, n = f"whole levels of {name}", len(levels)
    _check_folds(k, n, "rows" if group is None else f"levels of {group}")
    order = np.random.default_rng(seed).permutation(n)
    fold = np.empty(n, dtype=np.intp)
    fold[order] = np.arange(n) % k
    return unit, fold[index]


def _check_folds(k: Any, n: int, what: str) -> None:
    """Raise FitError unless k is a number of folds."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 2 <= k <= n:
        raise FitError(
            f"k is a whole number of folds from 2 to {n}, the number of {what}; got {k!r}"
        )

"""Each row left out: importance sampling smoothed by ArviZ, fitted again where that fails."""

from typing import Any

import numpy as np
import pandas as pd

from hiermodels.answers.counted_rows import check_single, counts_of
from hiermodels.answers.fitted import drawn
from hiermodels.answers.pointwise import how, pointwise_parts
from hiermodels.answers.refits import LeftOut, held_rows, refit_each
from hiermodels.answers.smoothing import good_k, leave_out, log_mean, relative_efficiency
from hiermodels.answers.validation import CrossValidation
from hiermodels.fitting.fit import Fit
from hiermodels.spec.frame import row_label
from hiermodels.spec.rowless import need_rows


def loo(
    fit: Fit, *, refit: bool = False, cores: int | None = 1, client: Any = None
) -> CrossValidation:
    """Estimate how well each row is predicted by a model that has not seen it.

    For Gaussian models that the marginal engine can run, whichever engine ran, coefficients and
    group effects are integrated out exactly given the scales: p(y_i | y_-i) is then an average
    over few dimensions, and few rows have a large Pareto k. For all other models the draws of
    coefficients and group effects are weighted too.

    Parameters
    ----------
    fit : Fit
    refit : bool
        Whether to fit the model again without each row whose Pareto k is too large, in place of
        its weights; priors and coding stay as they are.
    cores : int, optional
        Refits that run at a time, each in a process of its own; 1 stays in this process, None
        takes one for each processor. The answer is the same.
    client : distributed.Client, optional
        A Dask client that runs the refits instead.

    Returns
    -------
    CrossValidation
        ``elpd``, ``se``, ``p``; ``pointwise`` has a line for each row. Of rows that were counted
        together a line says what each of them adds, and its ``count`` how many they are.

    Raises
    ------
    FitError
        There are no draws, or those of the group effects were beyond memory and are needed; the
        rows were not kept, or counted together with weights; the Dask client is closed.

    Notes
    -----
    A row's term is log p(y_i | y_-i), of its response as the model has it: with ``weights(w)`` of
    w copies of the row left out at once (a row of weight 0 has the term 0), under ``ar``,
    ``cosy`` and ``unstr`` given the other rows of its series too. Rows of one group predict each
    other: for new groups see :func:`hiermodels.logo`.

    References
    ----------
    .. [1] Vehtari, Gelman and Gabry (2017), https://doi.org/10.1007/s11222-016-9696-4.
    .. [2] Burkner, Gabry and Vehtari (2020), https://doi.org/10.1007/s00180-020-01045-4.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> fit = model.fit(seed=1, target_accept=0.95, progress=False)
    >>> hm.loo(fit).pointwise.shape
    (30, 4)
    """
    drawn(fit)
    need_rows(fit.model.design, "loo()", "hm.predict_to() writes log likelihoods by row.")
    check_single(fit.model, "loo()")
    posterior, design = fit.posterior, fit.model.design
    shape = int(posterior.sizes["chain"]), int(posterior.sizes["draw"])
    efficiency, limit = relative_efficiency(posterior), good_k(shape[0] * shape[1])
    elpd, seen, k = np.empty(design.n), np.empty(design.n), np.empty(design.n)
    for part in pointwise_parts(fit):
        terms = part.left_out.reshape(*shape, -1)
        elpd[part.rows], k[part.rows] = leave_out(terms, efficiency)
        seen[part.rows] = log_mean(part.kept)
    again = np.flatnonzero(k > limit) if refit else np.zeros(0, dtype=np.intp)
    counts = counts_of(design)
    one = None if counts is None else np.ones(1)
    jobs = [
        LeftOut(np.array([row], np.intp), int(row), row_label(design.data.index, int(row)), one)
        for row in again
    ]
    for job, found in zip(jobs, refit_each(fit, jobs, held_rows, cores, client), strict=True):
        elpd[job.rows] = found
    table = pd.DataFrame(
        {
            "elpd": elpd,
            "p": seen - elpd,
            "pareto_k": k,
            "refitted": np.isin(np.arange(design.n), again),
        },
        index=design.data.index,
    )
    if counts is not None:
        table["count"] = np.rint(counts).astype(np.int64)
    n_draws = shape[0] * shape[1]
    return CrossValidation("loo", fit.model, "row", table, n_draws, limit, how(fit.model))

"""Whether a fit may be trusted, and what its data look like."""

import numpy as np
import pandas as pd

from hiermodels.answers.fitted import Fitted, dataset, drawn
from hiermodels.answers.rows import all_groups
from hiermodels.fitting.diagnostics import Diagnosis, diagnose_draws
from hiermodels.fitting.settings import kept_settings

__all__ = ["Diagnosis", "diagnose", "grouping"]


def diagnose(fit: Fitted) -> Diagnosis:
    """Check a fit's draws: divergences, R-hat, effective sample sizes, interruption.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    Diagnosis
        With a verdict in plain sentences.
    """
    marks = (getattr(fit, "interrupted", False), drawn(fit).attrs.get("interrupted", False))
    stats = dataset(fit, "sample_stats")
    posterior = dataset(fit, "posterior")
    interrupted = any(bool(m) for m in (*marks, posterior.attrs.get("interrupted", False)))
    target = kept_settings(drawn(fit).attrs).get("target_accept")
    return diagnose_draws(posterior, stats, interrupted=interrupted, target_accept=target)


def grouping(fit: Fitted) -> pd.DataFrame:
    """Return how the rows fall into groups.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    pandas.DataFrame
        One row for each grouping factor, with columns group, effects, levels, rows_min,
        rows_median, rows_max (rows for each level).
    """
    columns = ["group", "effects", "levels", "rows_min", "rows_median", "rows_max"]
    rows = []
    for g in all_groups(fit.model.design).values():
        count = np.asarray(g.n_rows)
        row = (g.name, ", ".join(g.coefs), len(g.levels))
        rows.append((*row, int(count.min()), float(np.median(count)), int(count.max())))
    return pd.DataFrame(rows, columns=columns)

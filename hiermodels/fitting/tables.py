"""From posterior draws to tidy tables.

Pure functions from an :class:`xarray.Dataset` of draws, and the labels of the model's groups, to
pandas. Intervals are equal-tailed. All numbers of coefficients, sds and group effects stand on
the scale of the linear predictor (the link scale); ``sigma`` is on the response scale.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.fitting.draws import (
    GroupLabels,
    check_prob,
    coefficient_draws,
    correlation_draws,
    cutpoint_draws,
    empty_table,
    group_labels,
    population,
    residual_sds,
    scalars,
    sd_draws,
    sd_of,
    tails,
)
from hiermodels.fitting.effects import coef, ranef
from hiermodels.fitting.mixing import convergences
from hiermodels.spec.names import of_parameter
from hiermodels.spec.priors import ParameterPriors

__all__ = [
    "GroupLabels",
    "check_prob",
    "coef",
    "correlations",
    "fixef",
    "group_labels",
    "ranef",
    "scalars",
    "summary",
    "varcorr",
]

Floats = npt.NDArray[np.float64]


def _describe(named: Iterator[tuple[str, Floats]], prob: float, index: str) -> pd.DataFrame:
    """Return mean, sd, interval, ESS and R-hat of draws (chains, draws), one row a name."""
    low, high = tails(prob)
    columns = ["mean", "sd", "ci_low", "ci_high", "ess_bulk", "ess_tail", "r_hat"]
    pairs = list(named)
    rows = []
    for (_, draws), checked in zip(pairs, convergences([own for _, own in pairs]), strict=True):
        ends = np.quantile(draws, (low, high))
        rows.append(
            [
                draws.mean(),
                sd_of(draws.ravel()),
                *ends,
                checked.ess_bulk,
                checked.ess_tail,
                checked.r_hat,
            ]
        )
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))
    labels = pd.Index([name for name, _ in pairs], name=index, dtype=object)
    out = pd.DataFrame(values, columns=columns, index=labels)
    out.attrs["prob"] = prob
    return out


def fixef(
    posterior: xr.Dataset, prob: float = 0.95, parameters: Sequence[ParameterPriors] = ()
) -> pd.DataFrame:
    """Return the population coefficients, on the link scale.

    Parameters
    ----------
    posterior : xarray.Dataset
        Draws of ``Intercept`` and ``b``.
    prob : float
        Probability of the equal-tailed interval.
    parameters : sequence of ParameterPriors
        The family's further parameters, whose coefficients come last, as ``shape_b[x]``; an
        ordinal model's cutpoints come after the mean's coefficients.

    Returns
    -------
    pandas.DataFrame
        Indexed by coefficient, ``Intercept`` first; columns mean, sd, ci_low, ci_high, ess_bulk,
        ess_tail, r_hat.

    Raises
    ------
    FitError
        ``prob`` is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from hiermodels.fitting.tables import fixef
    >>> draws = np.random.default_rng(1).normal(5, 1, size=(4, 500))
    >>> table = fixef(xr.Dataset({"Intercept": (("chain", "draw"), draws)}))
    >>> bool(table.loc["Intercept", "ci_low"] < 5 < table.loc["Intercept", "ci_high"])
    True
    """
    names, draws = population(posterior)
    named = [(name, draws[:, :, k]) for k, name in enumerate(names)]
    named += cutpoint_draws(posterior)
    for own in parameters:
        named += coefficient_draws(posterior, own.name) if own.linear else []
    return _describe(iter(named), prob, "coefficient")


def summary(
    posterior: xr.Dataset,
    groups: Sequence[GroupLabels],
    prob: float = 0.95,
    parameters: Sequence[ParameterPriors] = (),
) -> pd.DataFrame:
    """Return every scalar quantity: coefficients, sds, correlations, residual sd.

    Parameters
    ----------
    posterior : xarray.Dataset
    groups : sequence of GroupLabels
    prob : float
        Probability of the equal-tailed interval.
    parameters : sequence of ParameterPriors
        The family's further parameters.

    Returns
    -------
    pandas.DataFrame
        Indexed by name (``Intercept``, ``b[Days]``, ``sd_Subject[Days]``,
        ``cor_Subject[Days, Intercept]``, ``sigma``); columns as of :func:`fixef`.
        Of correlations the lower triangle is shown.
    """
    return _describe(scalars(posterior, groups, parameters), prob, "parameter")


def varcorr(
    posterior: xr.Dataset, groups: Sequence[GroupLabels], prob: float = 0.95
) -> pd.DataFrame:
    """Return variances and sds of the group effects and the residual.

    Parameters
    ----------
    posterior : xarray.Dataset
    groups : sequence of GroupLabels
    prob : float
        Probability of the equal-tailed interval of the sd.

    Returns
    -------
    pandas.DataFrame
        Columns group, effect, variance (mean of the draws of the variance), sd (mean of the
        draws of the sd), sd_ci_low, sd_ci_high, var_prop (variance over the sum of the variances
        listed; of raw variances, hence dependent on where predictors have their zero). The group
        ``Residual`` stands last where there is a residual sd; after it the effects on parameters,
        as ``shape_Intercept``, which stand on another scale and have no share.
    """
    columns = ["group", "effect", "variance", "sd", "sd_ci_low", "sd_ci_high", "var_prop"]
    rows: list[tuple[str, str, Floats]] = []
    for g in (g for g in groups if not g.parameter):
        rows += ((g.name, ", ".join(labels), draws) for labels, draws in sd_draws(posterior, g))
    rows += (("Residual", label, draws) for label, draws in residual_sds(posterior))
    shared = len(rows)
    for g in (g for g in groups if g.parameter):
        for labels, draws in sd_draws(posterior, g):
            shown = (*labels[:-1], of_parameter(g.parameter, labels[-1]))
            rows.append((g.name, ", ".join(shown), draws))
    ends = tails(prob)
    if not rows:
        return empty_table(columns, prob)
    variances = np.array([np.mean(d**2) for _, _, d in rows])
    quantiles = np.array([np.quantile(d, ends) for _, _, d in rows])
    out = pd.DataFrame(
        {
            "group": pd.Series([r[0] for r in rows], dtype=object),
            "effect": pd.Series([r[1] for r in rows], dtype=object),
            "variance": variances,
            "sd": [float(d.mean()) for _, _, d in rows],
            "sd_ci_low": quantiles[:, 0],
            "sd_ci_high": quantiles[:, 1],
            "var_prop": np.append(
                variances[:shared] / variances[:shared].sum(), [np.nan] * (len(rows) - shared)
            ),
        }
    )
    out.attrs["prob"] = prob
    return out


def correlations(
    posterior: xr.Dataset, groups: Sequence[GroupLabels], prob: float = 0.95
) -> pd.DataFrame:
    """Return the correlations between the effects of each bar.

    Parameters
    ----------
    posterior : xarray.Dataset
    groups : sequence of GroupLabels
    prob : float
        Probability of the equal-tailed interval.

    Returns
    -------
    pandas.DataFrame
        Columns group, effect1, effect2, mean, ci_low, ci_high; one row for each pair below the
        diagonal, ``effect1`` being the one written first (``Intercept`` before ``Days``).
    """
    columns = ["group", "effect1", "effect2", "mean", "ci_low", "ci_high"]
    ends = tails(prob)
    rows = []
    for g in groups:
        for labels, draws in correlation_draws(posterior, g):
            *own, row, column = labels
            pair = [", ".join([*own, of_parameter(g.parameter, c)]) for c in (column, row)]
            rows.append((g.name, *pair, float(draws.mean()), *np.quantile(draws, ends)))
    if not rows:
        return empty_table(columns, prob)
    out = pd.DataFrame(rows, columns=columns)
    out.attrs["prob"] = prob
    return out

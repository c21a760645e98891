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

from hiermodels.fitting.diagnostics import convergence
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
    variance_draws,
)
from hiermodels.fitting.effects import coef, ranef
from hiermodels.spec.names import indexed, of_parameter
from hiermodels.spec.priors import ParameterPriors

__all__ = [
    "GroupLabels",
    "check_prob",
    "coef",
    "correlations",
    "densities",
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
    names, rows = [], []
    for name, draws in named:
        checked = convergence(draws)
        ends = np.quantile(draws, (low, high))
        names.append(name)
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
    out = pd.DataFrame(values, columns=columns, index=pd.Index(names, name=index, dtype=object))
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


def densities(
    posterior: xr.Dataset, groups: Sequence[GroupLabels], points: int = 200
) -> pd.DataFrame:
    """Return smoothed posterior densities of sds and correlations, by reflected Gaussian kernels.

    Parameters
    ----------
    posterior : xarray.Dataset
    groups : sequence of GroupLabels
    points : int
        Grid points of each quantity.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, kind ("sd" or "cor"), x, density (integrates to 1 over x), mean, ci_low,
        ci_high (95 %, equal-tailed; the same on all rows of a quantity).

    Notes
    -----
    Silverman's bandwidth with the draws reflected at 0 (sds) or -1 and 1 (correlations): without
    it a posterior that presses against its bound would seem to leave it. Silverman (1986),
    doi:10.1201/9781315140919.
    """
    correlation_names = {
        indexed(g.cor, *labels) for g in groups for labels, _ in correlation_draws(posterior, g)
    }
    parts = []
    for name, draws in variance_draws(posterior, groups):
        kind = "cor" if name in correlation_names else "sd"
        x, density = _density(
            draws.ravel(), (-1.0, 1.0) if kind == "cor" else (0.0, np.inf), points
        )
        low, high = np.quantile(draws, (0.025, 0.975))
        parts.append(
            pd.DataFrame(
                {"quantity": name, "kind": kind, "x": x, "density": density}
                | {"mean": draws.mean(), "ci_low": low, "ci_high": high}
            )
        )
    columns = ["quantity", "kind", "x", "density", "mean", "ci_low", "ci_high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _density(draws: Floats, bounds: tuple[float, float], points: int) -> tuple[Floats, Floats]:
    """Return a grid and a Gaussian kernel density on it, reflected at the bounds."""
    lower, upper = bounds
    quartiles = np.quantile(draws, (0.25, 0.75))
    spread = min(float(sd_of(draws)), float(quartiles[1] - quartiles[0]) / 1.34)
    width = max(0.9 * spread * len(draws) ** -0.2, 1e-8 * max(abs(float(draws.mean())), 1e-8))
    if np.isfinite(upper):
        x = np.linspace(lower, upper, points)
    else:
        # The far tail of an sd (a Student prior) would squeeze the rest into a corner.
        top = float(np.quantile(draws, 0.998)) + 3 * width
        bottom = max(float(draws.min()) - 3 * width, lower)
        x = np.linspace(lower if bottom < 0.35 * top else bottom, top, points)
    # Counting on a fine grid first makes the cost independent of the number of draws.
    edges = np.linspace(draws.min(), max(draws.max(), draws.min() + width), 2049)
    counts, _ = np.histogram(draws, edges)
    middle = (edges[1:] + edges[:-1]) / 2
    density = np.zeros(points)
    for centre in (middle, 2 * lower - middle, 2 * upper - middle):
        if np.isfinite(centre).all():
            density += np.exp(-0.5 * ((x[:, None] - centre) / width) ** 2) @ counts
    return x, density / (len(draws) * width * np.sqrt(2 * np.pi))

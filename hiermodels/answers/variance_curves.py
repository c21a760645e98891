"""Densities of sds, correlations, residual and family parameters: posterior and prior."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import Fitted, dataset
from hiermodels.answers.prior_draws import POSITIVE, Known, known_priors
from hiermodels.answers.units import coefficient_unit, predictor_unit
from hiermodels.fitting.curves import density_at, density_grid
from hiermodels.fitting.draws import (
    all_group_labels,
    group_labels,
    group_variances,
    parameter_draws,
    tails,
    variance_draws,
)
from hiermodels.spec.design import Term
from hiermodels.spec.names import cor_name, indexed, sd_name

Floats = npt.NDArray[np.float64]

#: The grid reaches over this much of the prior, as long as the posterior keeps a third of it.
PRIOR_SHOWN = 0.9
_CORRELATION = ("cor", "correlation")
COLUMNS = (
    "quantity",
    "kind",
    "unit",
    "x",
    "density",
    "prior_density",
    "prior",
    "implied",
    "lower",
    "upper",
    "mean",
    "ci_low",
    "ci_high",
)


def variance_curves(fit: Fitted, prob: float = 0.95, points: int = 240) -> pd.DataFrame:
    """Return the posterior and prior densities of sds, correlations and family parameters.

    Parameters
    ----------
    fit : Fit
    prob : float
        Probability of the equal-tailed interval.
    points : int
        Grid points of each quantity.

    Returns
    -------
    pandas.DataFrame
        One row a quantity and grid point, with columns quantity (named as in the summary), kind
        ("sd", "cor", "parameter"), unit (of x), x, density (posterior), prior_density (NaN where
        the prior has no density of one number), prior (text), implied (whether the prior on this
        scale follows from others and was drawn: a default prior that is stated for predictors at
        their means), lower and upper (bounds of the quantity), mean, ci_low, ci_high.

    Notes
    -----
    The grid covers the posterior and as much of the prior as leaves the posterior a third of it;
    correlations go from -1 to 1. Densities are smoothed by reflected kernels, priors exact
    wherever they are stated on the raw scale.
    """
    ends = tails(prob)
    dataset(fit, "posterior")  # what holds no draws is refused in words
    priors, units = known_priors(fit.model), _units(fit)
    parts = []
    for name, array in named_draws(fit):
        draws = array.ravel()
        known = priors.get(name, Known(POSITIVE, ""))
        x = _grid(draws, known, points)
        prior = known.density(x)
        kind, unit = units.get(name, ("parameter", ""))
        low, high = np.quantile(draws, ends)
        parts.append(
            pd.DataFrame(
                {
                    "quantity": name,
                    "kind": kind,
                    "unit": unit,
                    "x": x,
                    "density": density_at(draws, known.bounds, x),
                    "prior_density": np.nan if prior is None else prior,
                    "prior": known.text,
                    "implied": known.implied,
                    "lower": known.bounds[0],
                    "upper": known.bounds[1],
                    "mean": draws.mean(),
                    "ci_low": low,
                    "ci_high": high,
                }
            )
        )
    out = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    out.attrs["prob"] = prob
    return out


def named_draws(fit: Fitted) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws (chains, draws) of every quantity of :func:`variance_curves`."""
    posterior, design = dataset(fit, "posterior"), fit.model.design
    yield from variance_draws(posterior, group_labels(design))
    groups = all_group_labels(design)
    for own in fit.model.resolved.parameters:
        if own.linear:
            yield from group_variances(posterior, [g for g in groups if g.parameter == own.name])
        else:
            yield from parameter_draws(posterior, groups, [own])


def _grid(draws: Floats, known: Known, points: int) -> Floats:
    """Return where to draw a quantity (points,): its posterior, and of its prior what fits."""
    x, _ = density_grid(draws, known.bounds, points)
    reach = known.central(PRIOR_SHOWN)
    if reach is None or np.isfinite(known.bounds).all():
        return x
    width = float(x[-1] - x[0])
    low = max(min(reach[0], float(x[0])), float(x[0]) - width)
    high = min(max(reach[1], float(x[-1])), float(x[-1]) + width)
    if np.isfinite(known.bounds[0]) and low - known.bounds[0] < 0.35 * (high - known.bounds[0]):
        low = known.bounds[0]
    return np.linspace(low, high, points)


def _units(fit: Fitted) -> dict[str, tuple[str, str]]:
    """Return by quantity its kind and the unit of its axis."""
    design = fit.model.design
    found: dict[str, tuple[str, str]] = {}
    for term in design.terms:
        found |= _bar_units(term, "", predictor_unit(fit.model))
    for own in design.parameters:
        for term in own.terms:
            found |= _bar_units(term, own.name, f"{own.link} scale of {own.name}")
    residual = design.residual
    if residual is None:
        return found | {"sigma": ("sd", design.response)}
    sigma = residual.sigma
    if sigma is not None and sigma.kind != "linear":
        for label in sigma.labels:
            found[indexed("sigma", label) if label else "sigma"] = ("sd", design.response)
    if residual.correlation_name is not None:
        found[residual.correlation_name] = _CORRELATION
    for a, row in enumerate(residual.occasions):
        for column in residual.occasions[:a]:
            found[indexed("cor_residual", row, column)] = _CORRELATION
    return found


def _bar_units(term: Term, parameter: str, unit: str) -> dict[str, tuple[str, str]]:
    """Return kind and unit of one bar's sds and correlations."""
    labels: list[tuple[str, ...]] = [()]
    if term.by is not None:
        labels = [(label,) for label in term.by.labels]
    found: dict[str, tuple[str, str]] = {}
    for label in labels:
        for k, (coef, column) in enumerate(zip(term.coefs, term.columns, strict=True)):
            name = indexed(sd_name(term.group, parameter), *label, coef)
            found[name] = ("sd", coefficient_unit(unit, column))
            for other in term.coefs[:k]:
                pair = indexed(cor_name(term.group, parameter), *label, coef, other)
                found[pair] = _CORRELATION
    return found

"""Shares of variance: intraclass correlations and R squared, as posterior draws.

On the link scale, variances of group effects are averaged over the data: mean over rows of
z' Sigma z. That is what the effects add to the linear predictor's variance, whatever the origin of
the predictors, where the raw share of variances (``var_prop``) changes with it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.fitted import Fitted, check_one_mean, dataset, drawn
from hiermodels.answers.own_rows import predictor_draws
from hiermodels.answers.predictors import GroupEffects, linear_draws
from hiermodels.answers.response_parts import response_parts, response_share
from hiermodels.answers.row_averages import row_means, row_variances
from hiermodels.answers.rows import own_rows
from hiermodels.answers.variance_parts import (
    Parts,
    draws_at_a_time,
    link_parts,
    mean_variances,
)
from hiermodels.engines.responses import variance_response
from hiermodels.errors import FitError
from hiermodels.fitting.draws import tails
from hiermodels.spec.families import Family
from hiermodels.spec.names import effect_name
from hiermodels.spec.rowless import RowlessDesign, sum_rows

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

SCALES: Final = ("link", "response")
_ICC_NOTE = (
    "Group variances are averaged over the data (mean of z'Σz), so that shares do not change when "
    "a predictor is shifted; var_prop of varcorr() is the raw share of variances, another thing."
)
_R2_NOTES = (
    "marginal and conditional: Nakagawa and Johnson, predictors without and with the groups; "
    "bayes: Gelman et al. 2019, response scale, with the modelled residual variance.",
)
_NO_EFFECTS = (
    "bayes needs draws of the group effects, which were left out, being beyond memory. Fit again "
    "with a larger memory, such as memory='8 GB'."
)


@dataclass(frozen=True, eq=False, repr=False)
class Shares:
    """Shares of variance.

    Attributes
    ----------
    draws : xarray.Dataset
        One variable, dims (sample, component).
    scale : {"link", "response"}
    title : str
    notes : tuple of str
        How the shares are to be read.
    prob : float
        Probability of the intervals shown.
    """

    draws: xr.DataArray
    scale: str
    title: str
    notes: tuple[str, ...]
    prob: float

    def to_frame(self, prob: float | None = None) -> pd.DataFrame:
        """Return mean, median, sd and equal-tailed interval of every component.

        Parameters
        ----------
        prob : float, optional
            Probability of the interval; as asked for by default.
        """
        low, high = tails(self.prob if prob is None else prob)
        values = self.draws.transpose("sample", "component").values
        ends = np.quantile(values, (low, high), axis=0)
        columns = {
            "mean": values.mean(axis=0),
            "median": np.median(values, axis=0),
            "sd": values.std(axis=0, ddof=int(len(values) > 1)),
            "ci_low": ends[0],
            "ci_high": ends[1],
        }
        index = pd.Index(self.draws["component"].values, name="component", dtype=object)
        return pd.DataFrame(columns, index=index)

    def __repr__(self) -> str:
        """Return the table and how it is to be read."""
        shown = self.to_frame().to_string(float_format=lambda v: f"{v:.3f}")
        return "\n".join([f"{self.title}, {self.scale} scale", shown, *self.notes])


def intraclass(fit: Fitted, scale: str = "link", prob: float = 0.95) -> Shares:
    """Return the intraclass correlation of every grouping: its share of the variance.

    Parameters
    ----------
    fit : Fit
    scale : {"link", "response"}
        Where variances are compared; the same for Gaussian models with the identity link. On the
        response scale 400 rows and 200 draws, taken evenly, are integrated over; where rows were
        counted together, up to 400 distinct ones with their numbers, which is all rows.
    prob : float
        Probability of the equal-tailed interval.

    Returns
    -------
    Shares
        A component for each grouping, and their sum ``"all groups"`` where there are several.

    Raises
    ------
    FitError
        The model has no groups, the scale is unknown, or the residual variance on it is not
        defined for the family.

    Notes
    -----
    Residual variance on the link scale: the modelled one (Gaussian: its mean over rows; under
    ``ar`` and ``cosy`` the marginal one); that of the standard logistic, normal or Gumbel
    distribution; log(1 + 1/mean + ...) for log links; the delta method for others. Nakagawa,
    Johnson and Schielzeth (2017), https://doi.org/10.1098/rsif.2017.0213; Johnson (2014), https://doi.org/10.1111/2041-210X.12225.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> hm.icc(model.fit(seed=1, progress=False)).to_frame().index.tolist()
    ['Batch']
    """
    drawn(fit)
    check_one_mean(fit, "icc()")
    groups = fit.model.design.groups
    if not groups:
        raise FitError(
            f"icc() needs groups, and the formula {fit.model.formula} has no bar. Add one, such "
            "as (1 | g)."
        )
    parts = _parts(fit, _check_scale(scale, fit.model.family))
    total = parts.groups.sum(axis=1) + parts.residual
    if scale == "response":
        total = total + parts.shared
    names, values = [g.name for g in groups], parts.groups / total[:, None]
    if len(groups) > 1:
        names.append("all groups")
        everything = values.sum(axis=1) + (parts.shared / total if scale == "response" else 0.0)
        values = np.column_stack([values, everything])
    return _shares(values, names, scale, "Intraclass correlation", (_ICC_NOTE,), prob)


def explained(fit: Fitted, scale: str = "link", prob: float = 0.95) -> Shares:
    """Return R squared: marginal, conditional, and the Bayesian one.

    Parameters
    ----------
    fit : Fit
    scale : {"link", "response"}
        Of the marginal and the conditional one; the Bayesian one stands on the response scale.
    prob : float
        Probability of the equal-tailed interval.

    Returns
    -------
    Shares
        Components ``"marginal"`` (population part alone), ``"conditional"`` (with group effects)
        and ``"bayes"``: variance of the expected responses over itself plus the mean modelled
        residual variance, draw by draw (shares of successes for binomial families); NaN where the
        draws of the group effects were left out, being beyond memory.

    Raises
    ------
    FitError
        The scale is unknown, or the residual variance on it is not defined for the family.

    References
    ----------
    .. [1] Nakagawa, Johnson and Schielzeth (2017), https://doi.org/10.1098/rsif.2017.0213
    .. [2] Gelman, Goodrich, Gabry and Vehtari (2019), https://doi.org/10.1080/00031305.2018.1549100

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> table = hm.r2(model.fit(seed=1, progress=False)).to_frame()
    >>> float(table.loc["marginal", "mean"])
    0.0
    """
    drawn(fit)
    check_one_mean(fit, "r2()")
    parts = _parts(fit, _check_scale(scale, fit.model.family))
    groups = parts.groups.sum(axis=1) + (parts.shared if scale == "response" else 0.0)
    total = parts.fixed + groups + parts.residual
    marginal, conditional = parts.fixed / total, (parts.fixed + groups) / total
    kept = _has_effects(fit)
    bayes = _bayes(fit, parts.draws) if kept else np.full(len(parts.draws), np.nan)
    values = np.column_stack([marginal, conditional, bayes])
    notes = _R2_NOTES if kept else (*_R2_NOTES, _NO_EFFECTS)
    return _shares(values, ["marginal", "conditional", "bayes"], scale, "R squared", notes, prob)


# --- the parts ------------------------------------------------------------------------------


def _check_scale(scale: str, family: Family) -> str:
    """Return the scale on which to compute."""
    if scale not in SCALES:
        raise FitError(f"got scale={scale!r}; allowed are 'link' and 'response'")
    if family.name == "cumulative" and scale == "response":
        raise FitError("categories have no variance on the response scale; use scale='link'")
    plain = (family.name in ("gaussian", "t")) and family.link == "identity"
    return "link" if plain else scale


def _parts(fit: Fitted, scale: str) -> Parts:
    """Return the parts of the variance on a scale."""
    return response_parts(fit) if scale == "response" else link_parts(fit)


def _has_effects(fit: Fitted) -> bool:
    """Whether the draws of the group effects were kept."""
    posterior = dataset(fit, "posterior")
    return all(effect_name(group.name) in posterior for group in fit.model.design.groups)


def _bayes(fit: Fitted, draws: Indices) -> Floats:
    """Return the variance of expected responses over itself plus the mean residual variance."""
    design, family = fit.model.design, fit.model.family
    if family.name == "cumulative":
        return np.full(len(draws), np.nan)
    step = draws_at_a_time(design)
    starts = range(0, len(draws), step)
    if isinstance(design, RowlessDesign):
        parts = [_bayes_of_products(fit, design, draws[at : at + step]) for at in starts]
    else:
        parts = [_bayes_of_rows(fit, draws[at : at + step]) for at in starts]
    return np.concatenate(parts)


def _bayes_of_rows(fit: Fitted, draws: Indices) -> Floats:
    """Return the ratio from rows, each by itself or counted."""
    design, family = fit.model.design, fit.model.family
    found = predictor_draws(fit, draws)
    mu = response_share(family, found.eta, found.parameters)
    noise = variance_response(family, found.eta, found.parameters, design.trials)
    if design.trials is not None:
        noise = noise / design.trials**2
    fitted = row_variances(mu, design.whole)
    return np.asarray(fitted / (fitted + row_means(noise + np.zeros_like(mu), design.whole)))


def _bayes_of_products(fit: Fitted, design: RowlessDesign, draws: Indices) -> Floats:
    """Return the ratio from rows that stand for those of each combination of groups."""
    posterior = dataset(fit, "posterior")
    sums, every = sum_rows(design), frozenset(group.name for group in design.groups)
    effects = GroupEffects(every, frozenset(), "error", 0)
    eta = linear_draws(sums, posterior, own_rows(sums, [""], every), draws, effects)
    fitted = row_variances(eta, sums.whole)
    return np.asarray(fitted / (fitted + mean_variances(design, posterior, draws)))


def _shares(
    values: Floats,
    names: list[str],
    scale: str,
    title: str,
    notes: tuple[str, ...],
    prob: float,
) -> Shares:
    tails(prob)
    draws = xr.DataArray(values, dims=("sample", "component"), coords={"component": names})
    return Shares(draws, scale, title, notes, prob)

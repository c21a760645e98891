"""Shares of variance: intraclass correlations and R squared, as posterior draws.

On the link scale, variances of group effects are averaged over the data: mean over rows of
z' Sigma z. That is what the effects add to the linear predictor's variance, whatever the origin of
the predictors, where the raw share of variances (``var_prop``) changes with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy import special

from hiermodels.answers.fitted import Fitted, check_one_mean, drawn, need_each_row
from hiermodels.answers.own_rows import predictor_draws
from hiermodels.answers.roots import draw_positions
from hiermodels.answers.row_spread import centred_scores
from hiermodels.answers.working import mean_slope
from hiermodels.engines.responses import mean_response, variance_response
from hiermodels.errors import FitError
from hiermodels.fitting.draws import tails
from hiermodels.spec.families import Family

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

SCALES: Final = ("link", "response")
#: The response scale needs an integral for every row and draw: at most so many, taken evenly.
MOST_ROWS, MOST_RESPONSE_DRAWS = 400, 200
#: On the link scale all rows are used, at fewer draws where rows are many; BLOCK numbers at a time.
MOST_LINK_DRAWS, FEWEST_LINK_DRAWS, MOST_NUMBERS, BLOCK = 4000, 400, 200_000_000, 4_000_000
_NODES, _WEIGHTS = special.roots_hermitenorm(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_ICC_NOTE = (
    "Group variances are averaged over the data (mean of z'Σz), so that shares do not change when "
    "a predictor is shifted; var_prop of varcorr() is the raw share of variances, another thing."
)
# Variance of the standard distribution whose cdf is the inverse link.
_LATENT: dict[str, float] = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}


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
        response scale 400 rows and 200 draws, taken evenly, are integrated over.
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
    parts = _parts(fit, _check_scale(scale, fit.model.family), "icc()")
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
        residual variance, draw by draw (shares of successes for binomial families).

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
    parts = _parts(fit, _check_scale(scale, fit.model.family), "r2()")
    groups = parts.groups.sum(axis=1) + (parts.shared if scale == "response" else 0.0)
    total = parts.fixed + groups + parts.residual
    marginal, conditional = parts.fixed / total, (parts.fixed + groups) / total
    bayes = _bayes(fit, parts.draws)
    values = np.column_stack([marginal, conditional, bayes])
    note = (
        "marginal and conditional: Nakagawa and Johnson, predictors without and with the groups; "
        "bayes: Gelman et al. 2019, response scale, with the modelled residual variance."
    )
    return _shares(values, ["marginal", "conditional", "bayes"], scale, "R squared", (note,), prob)


# --- the parts ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Parts:
    """Parts of the variance by draw: fixed (S,), groups (S, K), shared (S,), residual (S,)."""

    draws: Indices
    fixed: Floats
    groups: Floats
    shared: Floats
    residual: Floats


def _check_scale(scale: str, family: Family) -> str:
    """Return the scale on which to compute."""
    if scale not in SCALES:
        raise FitError(f"got scale={scale!r}; allowed are 'link' and 'response'")
    if family.name == "cumulative" and scale == "response":
        raise FitError("categories have no variance on the response scale; use scale='link'")
    plain = (family.name in ("gaussian", "t")) and family.link == "identity"
    return "link" if plain else scale


def _parts(fit: Fitted, scale: str, function: str) -> _Parts:
    """Return the parts of the variance on a scale."""
    need_each_row(fit, function)
    if scale == "response":
        return _response_parts(fit, draw_positions(fit, MOST_RESPONSE_DRAWS))
    n = max(fit.model.design.n, 1)
    draws = draw_positions(fit, min(MOST_LINK_DRAWS, max(FEWEST_LINK_DRAWS, MOST_NUMBERS // n)))
    step = max(1, BLOCK // n)
    blocks = [_link_parts(fit, draws[at : at + step]) for at in range(0, len(draws), step)]
    names = (field.name for field in fields(_Parts))
    return _Parts(*(np.concatenate([getattr(own, name) for own in blocks]) for name in names))


def _link_parts(fit: Fitted, draws: Indices) -> _Parts:
    """Return the parts of the linear predictor's variance, and the residual's beside it."""
    design = fit.model.design
    groups = np.empty((len(draws), len(design.groups)))
    rows = np.zeros((len(draws), design.n)) if _needs_rows(fit.model.family) else None
    for k, g in enumerate(design.groups):
        scores, z = centred_scores(fit, g, draws)
        moment = z.T @ z / design.n
        groups[:, k] = np.einsum("sac,ab,sbc->s", scores, moment, scores)
        if rows is not None:
            rows += _row_variance(z, scores)
    found = predictor_draws(fit, draws, groups="none")
    fixed = np.var(found.eta - design.offset, axis=1, ddof=1)
    if not design.slopes:
        fixed = np.zeros(len(draws))  # where rounding alone varies
    residual = _link_residual(fit, found.eta, found.parameters, rows)
    return _Parts(draws, fixed, groups, np.zeros(len(draws)), residual)


def _row_variance(z: Floats, scores: Floats) -> Floats:
    """Return z_i' Sigma z_i by draw and row, (S, n)."""
    return np.asarray(np.sum((z @ scores) ** 2, axis=-1))


def _needs_rows(family: Family) -> bool:
    """Whether the residual variance on the link scale hangs on the expected responses."""
    return family.name not in ("gaussian", "t", "cumulative") and family.link not in _LATENT


def _link_residual(
    fit: Fitted, eta: Floats, parameters: Mapping[str, Floats], rows: Floats | None
) -> Floats:
    """Return the residual variance on the link scale, (S,)."""
    family, design = fit.model.family, fit.model.design
    if family.name in ("gaussian", "t"):
        if family.link != "identity":
            slope = mean_slope(family, eta)
            variance = variance_response(family, eta, parameters) / slope**2
        else:
            variance = variance_response(family, eta, parameters) + np.zeros_like(eta)
        return np.asarray(np.mean(variance, axis=1))
    if family.link in _LATENT and family.name in ("bernoulli", "binomial", "cumulative"):
        return np.full(len(eta), _LATENT[family.link])
    if family.link == "log" and family.name in ("poisson", "negativebinomial", "gamma"):
        expected = np.mean(np.exp(eta + 0.5 * (0.0 if rows is None else rows)), axis=1)
        inverse = 0.0 if family.name == "gamma" else 1.0 / expected
        shape = parameters.get("shape")
        if shape is not None:
            inverse = inverse + np.mean(1.0 / shape + np.zeros_like(eta), axis=1)
        return np.asarray(np.log1p(inverse))
    # the delta method: Var(y) (d eta / d mu)^2 at the population's predictor
    trials = design.trials
    slope = mean_slope(family, eta) * (1.0 if trials is None else trials)
    if "zi" in parameters:
        slope = slope * (1.0 - parameters["zi"])
    return np.asarray(
        np.mean(variance_response(family, eta, parameters, trials) / slope**2, axis=1)
    )


def _response_parts(fit: Fitted, draws: Indices) -> _Parts:
    """Return the parts of the response's variance, group effects integrated out by quadrature."""
    design, family = fit.model.design, fit.model.family
    rows = np.unique(np.linspace(0, design.n - 1, min(design.n, MOST_ROWS)).astype(np.intp))
    found = predictor_draws(fit, draws, groups="none", rows=rows)
    own = [
        _row_variance(z[rows], scores)
        for scores, z in (centred_scores(fit, g, draws) for g in design.groups)
    ]
    trials = None if design.trials is None else design.trials[rows]
    whole = np.sum(own, axis=0) if own else np.zeros_like(found.eta)
    mean, spread, noise = _integrated(family, found.eta, whole, found.parameters, trials)
    groups = np.empty((len(draws), len(own)))
    for k, variance in enumerate(own):
        groups[:, k] = np.mean(
            _between(family, found.eta, variance, whole - variance, found.parameters), axis=1
        )
    shared = np.maximum(np.mean(spread, axis=1) - groups.sum(axis=1), 0.0)
    fixed = np.var(mean, axis=1, ddof=1)
    return _Parts(draws, fixed, groups, shared, np.mean(noise, axis=1))


def _share(family: Family, eta: Floats, parameters: Mapping[str, Floats]) -> Floats:
    """Return the expected response, for binomial families the share of successes."""
    trials = np.ones(1) if family.name in ("binomial", "beta_binomial") else None
    return mean_response(family, eta, parameters, trials)


def _integrated(
    family: Family,
    eta: Floats,
    variance: Floats,
    parameters: Mapping[str, Floats],
    trials: Floats | None,
) -> tuple[Floats, Floats, Floats]:
    """Return mean and variance of the expected response, and the mean residual variance."""
    root = np.sqrt(variance)
    first, second, noise = np.zeros_like(eta), np.zeros_like(eta), np.zeros_like(eta)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        at = eta + root * node
        mu = _share(family, at, parameters)
        first += weight * mu
        second += weight * mu**2
        own = variance_response(family, at, parameters, trials)
        noise += weight * (own if trials is None else own / trials**2)
    return first, np.maximum(second - first**2, 0.0), noise


def _between(
    family: Family,
    eta: Floats,
    own: Floats,
    rest: Floats,
    parameters: Mapping[str, Floats],
) -> Floats:
    """Return the variance over one grouping of the response expected over the others, (S, n)."""
    first, second = np.zeros_like(eta), np.zeros_like(eta)
    alone = not np.any(rest > 0)
    inner = ((0.0, 1.0),) if alone else tuple(zip(_NODES, _WEIGHTS, strict=True))
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        mu = np.zeros_like(eta)
        for other, share in inner:
            at = eta + np.sqrt(own) * node + np.sqrt(np.maximum(rest, 0.0)) * other
            mu += share * _share(family, at, parameters)
        first += weight * mu
        second += weight * mu**2
    return np.maximum(second - first**2, 0.0)


def _bayes(fit: Fitted, draws: Indices) -> Floats:
    """Return the variance of expected responses over itself plus the mean residual variance."""
    design, family = fit.model.design, fit.model.family
    if family.name == "cumulative":
        return np.full(len(draws), np.nan)
    out = np.empty(len(draws))
    step = max(1, BLOCK // design.n)
    for start in range(0, len(draws), step):
        rows = slice(start, min(start + step, len(draws)))
        found = predictor_draws(fit, draws[rows])
        mu = _share(family, found.eta, found.parameters)
        noise = variance_response(family, found.eta, found.parameters, design.trials)
        if design.trials is not None:
            noise = noise / design.trials**2
        fitted = np.var(mu, axis=1, ddof=1)
        out[rows] = fitted / (fitted + np.mean(noise + np.zeros_like(mu), axis=1))
    return out


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

"""A posterior under other priors, reached by weighting the draws that are there.

Where coefficients are integrated out, only the low-dimensional scales are weighted: the ratio of
their marginal posteriors holds the coefficients' priors in closed form, and coefficients are moved
to their new conditional distribution. Weighting joint draws of coefficients instead loses nearly
all of them where a coefficient's prior narrows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from arviz_stats.base.array import array_stats

from hiermodels.answers.log_priors import LogPriors, log_priors, raw_coefficients, shrunk
from hiermodels.answers.pointwise import is_exact
from hiermodels.answers.smoothing import good_k, relative_efficiency
from hiermodels.engines.coefficient_moments import (
    CoefficientMoments,
    coefficient_moments,
    moved_effects,
)
from hiermodels.engines.integrable import unsupported
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.fitting.points import marginal_points
from hiermodels.spec.distributions import JOINT, Prior
from hiermodels.spec.names import effect_name
from hiermodels.spec.prior_functions import prior_support
from hiermodels.spec.priors import ResolvedPriors, TermPriors
from hiermodels.spec.rowless import RowlessDesign, product_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
# ArviZ's array functions carry no types: what comes from them is Any at the border.
_STATS: Any = array_stats
#: Draws that a tail can be fitted to, and log weights that are all alike.
_FEWEST, _ALIKE = 25, 1e-10


@dataclass(frozen=True, eq=False)
class Reweighted:
    """The posterior under another prior as weighted draws.

    Attributes
    ----------
    weights : ndarray (S,)
        Chains one after another; they sum to 1.
    pareto_k : float
        Shape of the weights' tail; -inf where they are all alike.
    ess : float
        Effective draws that the weights leave.
    coefficients : ndarray (S, p) or None
        Moved draws in the design's order, raw scale; None where they stay.
    reason : str or None
        Why the weights cannot be trusted; None where they can.
    """

    weights: Floats
    pareto_k: float
    ess: float
    coefficients: Floats | None
    reason: str | None


@dataclass(frozen=True, eq=False)
class Baseline:
    """What every alternative needs of the fit, computed once.

    Attributes
    ----------
    fit : Fit
    """

    fit: Fit

    @cached_property
    def posterior(self) -> xr.Dataset:
        """The fit's draws."""
        return self.fit.posterior

    @cached_property
    def priors(self) -> LogPriors:
        """Log densities of the fit's own priors."""
        model = self.fit.model
        return log_priors(model.design, model.resolved, self.posterior)

    @cached_property
    def efficiency(self) -> float:
        """Effective draws for each draw."""
        return relative_efficiency(self.posterior)

    @cached_property
    def exact(self) -> bool:
        """Whether coefficients can be integrated out."""
        model = self.fit.model
        normal = all(prior.name == "Normal" for prior in model.resolved.coef)
        return normal and bool(model.resolved.coef) and _integrable(model)

    @cached_property
    def points(self) -> Floats:
        """The draws in the marginal engine's coordinates (S, ndim)."""
        model = self.fit.model
        return marginal_points(model.marginal, model.design, model.resolved, self.posterior)

    @cached_property
    def moments(self) -> CoefficientMoments:
        """Coefficients given each draw of the scales."""
        return coefficient_moments(self.fit.model.marginal, self.points)

    @cached_property
    def coefficients(self) -> Floats:
        """Draws of the coefficients in the design's order (S, p), raw scale."""
        return raw_coefficients(self.posterior, self.fit.model.design)


def reweight(base: Baseline, other: Model) -> Reweighted:
    """Return the posterior under another model's priors as weighted draws.

    Parameters
    ----------
    base : Baseline
    other : Model
        The same formula and data under other priors.

    Returns
    -------
    Reweighted
        With the reason why the model must be fitted again where the Pareto k of the weights is
        above 0.7 (less for fewer than 2,200 draws), or its priors live where the fit's do not.

    Notes
    -----
    With coefficients b | y, theta ~ N(mu, C) under the prior N(m, S), the ratio for N(m', S') is
    log p'(theta) - log p(theta) + (log|S| - log|S'| - log|C| - log|K| + h'K^-1 h - mu'C^-1 mu +
    m'S^-1 m - m''S'^-1 m') / 2 with K = C^-1 - S^-1 + S'^-1 and h = C^-1 mu - S^-1 m + S'^-1 m'.
    Pareto smoothing: Vehtari et al. (2024), https://jmlr.org/papers/v25/19-556.html.
    """
    model, resolved = base.fit.model, other.resolved
    if _unreachable(model.resolved, resolved):
        why = "the scales of a shrinkage prior are not among the fit's draws"
        size = len(base.priors.measure)
        return Reweighted(np.full(size, 1.0 / size), np.nan, 0.0, None, why)
    theirs = log_priors(model.design, resolved, base.posterior)
    moved = None
    same = same_coefficients(model.resolved, resolved)
    normal = all(prior.name == "Normal" for prior in resolved.coef)
    without = ("b",) if same or (base.exact and normal) else ()
    ratio = theirs.total(without) - base.priors.total(without)
    if not same and without:
        part, moved = _other_coefficients(base, resolved)
        ratio = ratio + part
    weights, k, ess = _smoothed(ratio, base.efficiency)
    return Reweighted(weights, k, ess, moved, _reason(model.resolved, resolved, k, len(weights)))


def moved_posterior(base: Baseline, coefficients: Floats, take: Ints) -> xr.Dataset:
    """Return draws with coefficients moved, and group effects moved along with them.

    Parameters
    ----------
    base : Baseline
    coefficients : ndarray (S, p)
        As :func:`reweight` gives them.
    take : ndarray of int (s,)
        Which draws, chains one after another.

    Returns
    -------
    xarray.Dataset
        One chain of s draws: the coefficients, and the group effects where the fit holds them.
    """
    model = base.fit.model
    design = model.design
    raw = coefficients[take]
    found: dict[str, xr.DataArray] = {}
    if design.intercept is not None:
        found["Intercept"] = xr.DataArray(raw[None, :, design.intercept], dims=("chain", "draw"))
    if design.slopes:
        columns = [k for k in range(raw.shape[1]) if k != design.intercept]
        coords = {"coef": list(design.slopes)}
        found["b"] = xr.DataArray(raw[None][..., columns], coords, ("chain", "draw", "coef"))
    names = [effect_name(group.name) for group in design.groups]
    if names and all(name in base.posterior for name in names):
        change = np.linalg.solve(model.resolved.T, (raw - base.coefficients[take]).T).T
        moves = moved_effects(model.marginal, base.points[take], change)
        for group, name in zip(design.groups, names, strict=True):
            array = base.posterior[name]
            drawn = array.values.reshape(-1, *array.shape[2:])[take]
            parts = [moves[k] @ model.resolved.terms[k].T.T for k in group.terms]
            labels = {dim: array[dim].values for dim in array.dims[2:]}
            values = (drawn + np.concatenate(parts, axis=2))[None]
            found[name] = xr.DataArray(values, labels, array.dims)
    return xr.Dataset(found)


def _integrable(model: Model) -> bool:
    """Whether coefficients can be integrated out at a cost that is bearable."""
    if not isinstance(model.design, RowlessDesign):
        return is_exact(model)
    # whatever it costs; where cross-products are summed anew none are kept
    residual = model.design.residual
    if residual is not None and residual.by_rows:
        return False
    return unsupported(product_rows(model.design), model.family, model.resolved) is None


def same_coefficients(a: ResolvedPriors, b: ResolvedPriors) -> bool:
    """Whether two sets of priors say the same of the coefficients."""
    return a.coef == b.coef and np.array_equal(a.T, b.T)


def _unreachable(own: ResolvedPriors, other: ResolvedPriors) -> bool:
    """Whether priors differ that share scales, or do so in one of the two only."""
    a, b = _without_law(own), _without_law(other)
    if not same_coefficients(a, b) and (shrunk(a.coef) or shrunk(b.coef)):
        return True
    terms = zip(a.terms, b.terms, strict=True)
    if any(x.sd != y.sd and (shrunk(x.sd) or shrunk(y.sd)) for x, y in terms):
        return True
    pairs = zip(own.parameters, other.parameters, strict=True)
    return any(a.coef != b.coef and (shrunk(a.coef) or shrunk(b.coef)) for a, b in pairs)


def _without_law(priors: ResolvedPriors) -> ResolvedPriors:
    """Return priors whose R squared has one law, which weights can reach from any other.

    What sds are, given R squared and its shares, is left.
    """

    def plain(prior: Prior) -> Prior:
        return Prior(JOINT, scale=prior.values[3]) if prior.name == JOINT else prior

    terms = tuple(replace(own, sd=tuple(map(plain, own.sd))) for own in priors.terms)
    return replace(priors, coef=tuple(map(plain, priors.coef)), terms=terms)


def _other_coefficients(base: Baseline, resolved: ResolvedPriors) -> tuple[Floats, Floats]:
    """Return the coefficients' part of the log ratio (S,), and moved draws (S, p), raw scale."""
    own = base.fit.model.resolved
    mean, variance = _normal(own.coef)
    change = np.linalg.solve(own.T, resolved.T)
    other_mean, other_variance = _normal(resolved.coef)
    other_mean = change @ other_mean
    root = np.linalg.inv(change) / np.sqrt(other_variance)[:, None]
    other_precision = root.T @ root
    precision, mu = base.moments.precision, base.moments.mean
    K = precision - np.diag(1.0 / variance) + other_precision
    h = np.einsum("sab,sb->sa", precision, mu) - mean / variance + other_precision @ other_mean
    old_factor, new_factor = np.linalg.cholesky(precision), np.linalg.cholesky(K)
    new_mean = np.linalg.solve(K, h[..., None])[..., 0]
    log_ratio = (
        _log_root(old_factor)
        - _log_root(new_factor)
        + 0.5 * np.sum(h * new_mean, axis=1)
        - 0.5 * np.einsum("sa,sab,sb->s", mu, precision, mu)
    )
    # the same standard normal scores: what moves is the prior, not chance
    drawn = np.linalg.solve(own.T, base.coefficients.T).T
    scores = np.einsum("sba,sb->sa", old_factor, drawn - mu)
    moved = new_mean + np.linalg.solve(np.swapaxes(new_factor, 1, 2), scores[..., None])[..., 0]
    return log_ratio, moved @ own.T.T


def _normal(priors: Sequence[Prior]) -> tuple[Floats, Floats]:
    """Return means and variances of normal priors."""
    values = np.array([prior.values for prior in priors])
    return values[:, 0], values[:, 1] ** 2


def _log_root(factor: Floats) -> Floats:
    """Return half the log determinant of factored matrices (S,)."""
    return np.asarray(np.sum(np.log(np.einsum("saa->sa", factor)), axis=1))


def _smoothed(ratio: Floats, efficiency: float) -> tuple[Floats, float, float]:
    """Return Pareto smoothed weights, their k, and the effective draws they leave."""
    size = len(ratio)
    inside = np.isfinite(ratio)
    count = int(np.sum(inside))
    if count < _FEWEST:
        return np.full(size, 1.0 / size), np.inf, 0.0
    weights = np.zeros(size)
    own = ratio[inside] - np.max(ratio[inside])
    if np.ptp(own) < _ALIKE:
        weights[inside] = 1.0 / count
        return weights, -np.inf, count * efficiency
    # draws outside an alternative's support have no weight, and no say in the tail of the others'
    found, k = _STATS.psislw(-own, r_eff=min(efficiency, 1.0))
    weights[inside] = np.exp(found - np.max(found))
    weights = weights / weights.sum()
    return weights, float(k), float(efficiency / np.sum(weights**2))


def _reason(own: ResolvedPriors, other: ResolvedPriors, k: float, size: int) -> str | None:
    """Return why weights cannot stand for a fit under the other priors."""
    for a, b in zip(_supports(own), _supports(other), strict=True):
        if b[0] < a[0] or b[1] > a[1]:
            return "its prior lives where the fit's own has no draws"
    if k == np.inf:
        return "the fit has too few draws where its prior lives"
    limit = good_k(size)
    # not (k <= limit): a k that cannot be computed is none
    return None if k <= limit else f"Pareto k {k:.2f} is above {limit:.2g}"


def _supports(priors: ResolvedPriors) -> list[tuple[float, float]]:
    """Return the support of every prior, in an order that hangs on the model alone."""
    found = [prior_support(prior) for prior in priors.coef]
    found += [part for term in priors.terms for part in _term_supports(term)]
    residual = priors.residual
    if residual is not None:
        found += [prior_support(prior) for prior in residual.sigma]
        found.append((residual.lower, residual.upper))
    for own in priors.parameters:
        found += [prior_support(prior) for prior in (*own.value, *own.coef)]
        found += [part for term in own.terms for part in _term_supports(term)]
    return found


def _term_supports(term: TermPriors) -> list[tuple[float, float]]:
    """Return the supports of one bar's sds and degrees of freedom."""
    priors = term.sd if term.nu is None else (*term.sd, term.nu)
    return [prior_support(prior) for prior in priors]

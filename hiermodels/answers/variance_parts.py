"""Parts of the variance of a linear predictor and its residual, draw by draw."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.fitted import Fitted, dataset
from hiermodels.answers.new_levels import flat
from hiermodels.answers.own_rows import predictor_draws
from hiermodels.answers.predictors import GroupEffects, linear_draws
from hiermodels.answers.roots import draw_positions
from hiermodels.answers.row_averages import row_means, row_products, row_variances
from hiermodels.answers.row_spread import centred_columns, centred_roots
from hiermodels.answers.rows import own_rows
from hiermodels.answers.working import mean_slope
from hiermodels.engines.residual_variances import residual_variances
from hiermodels.engines.responses import variance_response
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.rowless import RowlessDesign, moment_rows, sum_rows

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: All rows are used, at fewer draws where they are many; BLOCK numbers at a time.
MOST_DRAWS, FEWEST_DRAWS, MOST_NUMBERS, BLOCK = 4000, 400, 200_000_000, 4_000_000
# Variance of the standard distribution whose cdf is the inverse link.
_LATENT: dict[str, float] = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of the variance by draw.

    Attributes
    ----------
    draws : ndarray of int (S,)
        Positions, chains laid end to end.
    fixed : ndarray (S,)
    groups : ndarray (S, K)
    shared : ndarray (S,)
        What groupings add together only; zero on the link scale.
    residual : ndarray (S,)
    """

    draws: Indices
    fixed: Floats
    groups: Floats
    shared: Floats
    residual: Floats


def draws_at_a_time(design: Design) -> int:
    """Return at how many draws numbers by row are held together."""
    return max(1, BLOCK // _held_rows(design))


def _held_rows(design: Design) -> int:
    """Return how many rows stand for all of a model's rows in sums."""
    return max(len(sum_rows(design).data), 1)


def link_parts(fit: Fitted) -> Parts:
    """Return the parts of the linear predictor's variance, and the residual's beside it.

    Parameters
    ----------
    fit : Fit
        Whose rows may have been read in passes, or counted.
    """
    design = fit.model.design
    n = _held_rows(design)
    draws = draw_positions(fit, min(MOST_DRAWS, max(FEWEST_DRAWS, MOST_NUMBERS // n)))
    sums = sum_rows(design)
    columns = tuple(centred_columns(sums, group) for group in design.groups)
    moments = tuple(row_products(z, sums.whole) for z in columns)
    step = draws_at_a_time(design)
    blocks = [
        _block(fit, draws[at : at + step], columns, moments) for at in range(0, len(draws), step)
    ]
    names = (field.name for field in fields(Parts))
    return Parts(*(np.concatenate([getattr(own, name) for own in blocks]) for name in names))


def _block(
    fit: Fitted, draws: Indices, columns: tuple[Floats, ...], moments: tuple[Floats, ...]
) -> Parts:
    """Return the parts at some draws."""
    design, family = fit.model.design, fit.model.family
    roots = [centred_roots(fit, group, draws) for group in design.groups]
    groups = np.empty((len(draws), len(roots)))
    for k, (root, moment) in enumerate(zip(roots, moments, strict=True)):
        groups[:, k] = np.einsum("sac,ab,sbc->s", root, moment, root)
    if isinstance(design, RowlessDesign):
        fixed = _fixed_of_products(fit, draws)
        residual = mean_variances(design, dataset(fit, "posterior"), draws)
    else:
        rows = np.zeros((len(draws), design.n)) if _needs_rows(family) else None
        if rows is not None:
            for root, z in zip(roots, columns, strict=True):
                rows += row_spreads(z, root)
        found = predictor_draws(fit, draws, groups="none")
        fixed = row_variances(found.eta - design.offset, design.whole)
        residual = _residual(fit, found.eta, found.parameters, rows)
    if not design.slopes:
        fixed = np.zeros(len(draws))  # where rounding alone varies
    return Parts(draws, fixed, groups, np.zeros(len(draws)), residual)


def row_spreads(z: Floats, root: Floats) -> Floats:
    """Return z_i' Sigma z_i by draw and row, (S, n), Sigma the square of its root (S, q, q)."""
    return np.asarray(np.sum((z @ root) ** 2, axis=-1))


# --- rows that were not kept ----------------------------------------------------------------


def _fixed_of_products(fit: Fitted, draws: Indices) -> Floats:
    """Return the variance of the population part from the products of its columns (S,)."""
    design = moment_rows(fit.model.design)
    nothing = GroupEffects(frozenset(), frozenset(), "error", 0)
    rows = own_rows(design, [""], ())
    eta = linear_draws(design, dataset(fit, "posterior"), rows, draws, nothing)
    return row_variances(eta - design.offset, design.whole)


def mean_variances(design: RowlessDesign, posterior: xr.Dataset, draws: Indices) -> Floats:
    """Return the mean over rows of the residual variance (S,), from the numbers of their kinds.

    Parameters
    ----------
    design : RowlessDesign
    posterior : xarray.Dataset
    draws : ndarray of int (S,)
    """
    sums, spread = sum_rows(design), design.spread
    residual = sums.residual
    if residual is None or spread is None:
        raise FitError("This design holds no residual variances; make the model again.")
    sigma = residual.sigma
    at = np.flatnonzero(spread)
    strata = np.zeros(len(at)) if sigma is None or not sigma.strata.size else sigma.strata[at]
    known = np.zeros(len(at)) if sums.se is None else sums.se[at]
    _, first, kind = np.unique(
        np.column_stack([strata, known]), axis=0, return_index=True, return_inverse=True
    )
    own = at[first]
    if sigma is not None and sigma.strata.size:
        sigma = replace(sigma, strata=sigma.strata[own])
    few = replace(
        sums,
        residual=replace(residual, sigma=sigma, n=len(own)),
        se=None if sums.se is None else sums.se[own],
    )
    names = ("sigma", "sigma_Intercept", "sigma_b")
    values = {name: flat(posterior[name], draws) for name in names if name in posterior}
    variances = np.broadcast_to(residual_variances(few, values), (len(draws), len(own)))
    return np.asarray(variances @ np.bincount(kind.ravel(), spread[at]) / design.n)


# --- the residual ---------------------------------------------------------------------------


def _needs_rows(family: Family) -> bool:
    """Whether the residual variance on the link scale hangs on the expected responses."""
    return family.name not in ("gaussian", "t", "cumulative") and family.link not in _LATENT


def _residual(
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
        return row_means(variance, design.whole)
    if family.link in _LATENT and family.name in ("bernoulli", "binomial", "cumulative"):
        return np.full(len(eta), _LATENT[family.link])
    if family.link == "log" and family.name in ("poisson", "negativebinomial", "gamma"):
        spread = 0.0 if rows is None else rows
        expected = row_means(np.exp(eta + 0.5 * spread), design.whole)
        inverse = 0.0 if family.name == "gamma" else 1.0 / expected
        shape = parameters.get("shape")
        if shape is not None:
            inverse = inverse + row_means(1.0 / shape + np.zeros_like(eta), design.whole)
        return np.asarray(np.log1p(inverse))
    # the delta method: Var(y) (d eta / d mu)^2 at the population's predictor
    trials = design.trials
    slope = mean_slope(family, eta) * (1.0 if trials is None else trials)
    if "zi" in parameters:
        slope = slope * (1.0 - parameters["zi"])
    return row_means(
        variance_response(family, eta, parameters, trials) / slope**2 + np.zeros_like(eta),
        design.whole,
    )

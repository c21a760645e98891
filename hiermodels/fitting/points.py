"""Draws as published, back in the marginal engine's coordinates: for whichever engine ran."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.residual_packing import partial_correlations, unconstrain_residual
from hiermodels.fitting.draws import draws_of, population
from hiermodels.spec.design import Design, Group
from hiermodels.spec.names import LOCAL, OVERALL, R2, SHARE, SLAB, cor_name, sd_name
from hiermodels.spec.prior_functions import shrinkage_scale
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.shares import find_shares

Array = NDArray[np.float64]
_RESIDUAL = ("sigma", "sigma_Intercept", "sigma_b", "ar", "cosy", "cor_residual")
_TINY = 1e-300


def marginal_points(
    problem: MarginalProblem, design: Design, priors: ResolvedPriors, posterior: xr.Dataset
) -> Array:
    """Return the scales' draws as the marginal engine's unconstrained vectors.

    Parameters
    ----------
    problem : MarginalProblem
    design : Design
    priors : ResolvedPriors
    posterior : xarray.Dataset
        Draws by the vocabulary's names, of either engine.

    Returns
    -------
    ndarray (S, ndim)
        Chains one after another.
    """
    parts = problem.layout
    _, coef = population(posterior)
    x = np.empty((*coef.shape[:2], parts.ndim))
    if len(problem.others):
        x[..., parts.others] = _coefficients(coef, design, priors)[..., problem.others]
    if problem.mixing is not None and problem.mixing.coefs:
        sds = coefficient_sds(priors, posterior)
        x[..., parts.sds[-1]] = np.log(np.maximum(sds, _TINY))
    for group in design.groups:
        for k, covariance in _covariances(group, design, posterior):
            T = np.linalg.inv(priors.terms[k].T)
            several = design.terms[k].by is not None
            for h, bar in enumerate(problem.terms[k]):
                own = T @ (covariance[:, :, h] if several else covariance) @ T.T
                sd = np.sqrt(np.maximum(np.einsum("...aa->...a", own), _TINY))
                x[..., parts.sds[bar]] = np.log(sd)
                if problem.bars[bar].n_correlations:
                    scaled = own / (sd[..., :, None] * sd[..., None, :])
                    x[..., parts.correlations[bar]] = partial_correlations(scaled)
    if problem.residual.n_phi and design.residual is not None and priors.residual is not None:
        values = {name: draws_of(posterior[name]) for name in _RESIDUAL if name in posterior}
        x[..., parts.phi] = unconstrain_residual(design.residual, priors.residual, values)
    return x.reshape(x.shape[0] * x.shape[1], parts.ndim)


def coefficient_sds(priors: ResolvedPriors, posterior: xr.Dataset) -> Array:
    """Return draws of the sds of coefficients that share scales (chains, draws, K).

    Parameters
    ----------
    priors : ResolvedPriors
    posterior : xarray.Dataset
    """
    shares = find_shares(priors)
    if shares is not None:
        sigma = draws_of(posterior["sigma"]) if shares.residual else None
        own = draws_of(posterior[R2]), draws_of(posterior[SHARE])
        return np.asarray(shares.part_sds(*own, sigma)[..., : len(shares.coefs)])
    shrunk = [prior for prior in priors.coef if prior.support == "shrinkage"]
    overall, local, slab = (draws_of(posterior[name]) for name in (OVERALL, LOCAL, SLAB))
    return np.asarray(shrinkage_scale(shrunk, overall[..., None], local, slab[..., None]))


def _coefficients(coef: Array, design: Design, priors: ResolvedPriors) -> Array:
    """Return coefficients (..., p) in the priors' coordinates, from intercept and slopes."""
    raw = np.empty(coef.shape)
    at = design.intercept
    order = [k for k in range(len(design.coefs)) if k != at]
    raw[..., order if at is None else [at, *order]] = coef
    return np.asarray(raw @ np.linalg.inv(priors.T).T)


def _covariances(group: Group, design: Design, posterior: xr.Dataset) -> list[tuple[int, Array]]:
    """Return each bar of a factor with the draws of its raw covariance (chains, draws, q, q).

    Of a bar by subpopulation (chains, draws, H, q, q).
    """
    sd = draws_of(posterior[sd_name(group.name)])
    cor = None
    if cor_name(group.name) in posterior:
        cor = draws_of(posterior[cor_name(group.name)])
    found, at = [], 0
    for k in group.terms:
        own = slice(at, at + len(design.terms[k].coefs))
        at = own.stop
        part = sd[..., own]
        covariance = part[..., :, None] * part[..., None, :]
        if cor is None or not design.terms[k].correlated:
            covariance = covariance * np.eye(part.shape[-1])
        else:
            covariance = covariance * cor[..., own, own]
        found.append((k, covariance))
    return found

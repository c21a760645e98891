"""Log densities of priors at posterior draws, class by class.

They stand on the scales on which the priors are stated: sds and correlations, coefficients, all in
the coordinates of the priors. Two sets of priors whose bars stand in different coordinates are
compared under one measure, that of the raw covariances.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import gammaln

from hiermodels.answers.rows import parameter_designs
from hiermodels.fitting.draws import draws_of, population
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import (
    CUTPOINT_DIM,
    LOCAL,
    OVERALL,
    R2,
    SHARE,
    SLAB,
    cor_name,
    nu_name,
    of_parameter,
    sd_name,
)
from hiermodels.spec.predictors import Predictor, Term
from hiermodels.spec.prior_functions import correlation_log_density, prior_log_density
from hiermodels.spec.priors import ParameterPriors, ResolvedPriors, TermPriors
from hiermodels.spec.shares import Shares, find_shares

Floats = npt.NDArray[np.float64]
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class LogPriors:
    """Log prior densities by draw, chains one after another, up to constants.

    Attributes
    ----------
    classes : dict of str to ndarray (S,)
        ``b`` (intercept and coefficients; of those under a horseshoe its scales, not what they
        are given these), ``sd``, ``cor``; ``R2`` (R squared under R2D2M2, and its shares);
        ``sigma`` (the residual's sds or the coefficients of its log sd), ``ar``, ``cosy``,
        ``cor_residual``; the family's parameters by name; of a parameter with a formula
        ``shape_b``, ``shape_sd``, ``shape_cor``.
    measure : ndarray (S,)
        What makes sds and correlations in the priors' coordinates a density of raw covariances.
    """

    classes: dict[str, Floats]
    measure: Floats

    def total(self, without: Sequence[str] = ()) -> Floats:
        """Return the sum over classes and the measure, (S,), some classes left out."""
        kept = (values for name, values in self.classes.items() if name not in without)
        return np.asarray(self.measure + sum(kept))


def log_priors(design: Design, priors: ResolvedPriors, posterior: xr.Dataset) -> LogPriors:
    """Return the log prior densities of draws.

    Parameters
    ----------
    design : Design
    priors : ResolvedPriors
        Those to evaluate; the draws may come from a fit under others.
    posterior : xarray.Dataset
        Dims (chain, draw, ...), as fits publish it.

    Returns
    -------
    LogPriors
    """
    size = posterior.sizes["chain"] * posterior.sizes["draw"]
    found: dict[str, Floats] = {}
    measure = np.zeros(size)
    coef = raw_coefficients(posterior, design)
    if priors.coef:
        found["b"] = _coefficients(coef, priors.T, priors.coef)
    if shrunk(priors.coef) and OVERALL in posterior:
        found["b"] = found["b"] + _horseshoe(priors.coef, posterior)
    shares = find_shares(priors)
    if shares is not None and R2 in posterior:
        found[R2] = _shares(shares, posterior)
    measure += _bars(found, design, priors.terms, posterior, "")
    _residual(found, design, priors, posterior)
    parts = {part.name: part for part in parameter_designs(design)}
    for own in priors.parameters:
        if own.linear:
            part = parts[own.name]
            raw = raw_coefficients(posterior, part, own.name)
            if own.coef and not shrunk(own.coef):
                found[of_parameter(own.name, "b")] = _coefficients(raw, own.T, own.coef)
            measure += _bars(found, part, own.terms, posterior, own.name)
        else:
            found[own.name] = _values(own, priors, coef, posterior)
    return LogPriors(found, measure)


def raw_coefficients(posterior: xr.Dataset, part: Predictor, parameter: str = "") -> Floats:
    """Return draws of a predictor's coefficients in its own order (S, p), raw scale."""
    _, found = population(posterior, parameter)
    raw = np.empty(found.shape)
    order = [k for k in range(len(part.coefs)) if k != part.intercept]
    raw[..., order if part.intercept is None else [part.intercept, *order]] = found
    return raw.reshape(raw.shape[0] * raw.shape[1], raw.shape[-1])


def shrunk(priors: Sequence[Prior]) -> bool:
    """Whether coefficients share scales."""
    return any(prior.support == "shrinkage" for prior in priors)


def _coefficients(raw: Floats, T: Floats, priors: Sequence[Prior]) -> Floats:
    """Return the log density of coefficients that are independent in their coordinates."""
    own = np.linalg.solve(T, raw.T)
    kept = [k for k, prior in enumerate(priors) if prior.support != "shrinkage"]
    total = sum((prior_log_density(priors[k], own[k]) for k in kept), np.zeros(own.shape[1]))
    return np.asarray(total)


def _horseshoe(priors: Sequence[Prior], posterior: xr.Dataset) -> Floats:
    """Return the log density of the scales that coefficients share."""
    shared = dict(next(prior for prior in priors if prior.support == "shrinkage").arguments)
    half = 0.5 * shared["df_slab"]
    laws = {
        OVERALL: Prior("HalfStudentT", shared["df_global"], 1.0),
        LOCAL: Prior("HalfStudentT", shared["df"], 1.0),
        SLAB: Prior("InverseGamma", half, half),
    }
    size = posterior.sizes["chain"] * posterior.sizes["draw"]
    parts = [
        prior_log_density(prior, draws_of(posterior[name]).reshape(size, -1)).sum(axis=1)
        for name, prior in laws.items()
    ]
    return np.asarray(sum(parts))


def _shares(shares: Shares, posterior: xr.Dataset) -> Floats:
    """Return the log density of R squared and of its shares."""
    r2, share = draws_of(posterior[R2]).ravel(), draws_of(posterior[SHARE])
    every = np.log(np.maximum(share.reshape(-1, shares.size), _TINY))
    c, size = shares.concentration, shares.size
    constant = gammaln(size * c) - size * gammaln(c)
    total = prior_log_density(Prior("Beta", *shares.beta), r2) + constant
    return np.asarray(total + (c - 1.0) * np.sum(every, axis=1))


# --- bars -----------------------------------------------------------------------------------


def _bars(
    found: dict[str, Floats],
    part: Predictor,
    priors: Sequence[TermPriors],
    posterior: xr.Dataset,
    parameter: str,
) -> Floats:
    """Add the classes of all bars of a predictor; return their measure (S,)."""
    sd_class, cor_class = of_parameter(parameter, "sd"), of_parameter(parameter, "cor")
    measure = np.zeros(posterior.sizes["chain"] * posterior.sizes["draw"])
    for group in part.groups:
        at = 0
        for k in group.terms:
            term, own = part.terms[k], priors[k]
            columns = slice(at, at + len(term.coefs))
            at = columns.stop
            for sds, cor, sd_priors in _coordinates(term, own, posterior, parameter, columns):
                free = [(c, p) for c, p in enumerate(sd_priors) if p.support != "shrinkage"]
                if free:
                    total = sum(prior_log_density(p, sds[:, c]) for c, p in free)
                    found[sd_class] = found.get(sd_class, 0.0) + np.asarray(total)
                if cor is None or own.cor is None:
                    continue
                log_cor = correlation_log_density(own.cor.values[0], cor)
                found[cor_class] = found.get(cor_class, 0.0) + log_cor
                # d Sigma = 2^q prod sd^q d(sd, cor)
                measure -= sds.shape[1] * np.sum(np.log(sds), axis=1)
            if own.nu is not None:
                name = nu_name(term.group, parameter)
                found[name] = prior_log_density(own.nu, draws_of(posterior[name]).ravel())
    return measure


def _coordinates(
    term: Term, own: TermPriors, posterior: xr.Dataset, parameter: str, columns: slice
) -> Iterator[tuple[Floats, Floats | None, Sequence[Prior]]]:
    """Yield sds (S, q), correlations (S, q, q) and sd priors, one for each subpopulation."""
    q = len(term.coefs)
    every = draws_of(posterior[sd_name(term.group, parameter)])
    sds = every.reshape(-1, 1 if term.by is None else every.shape[2], every.shape[-1])
    sds = sds[..., columns]
    cor = None
    if term.correlated:
        whole = draws_of(posterior[cor_name(term.group, parameter)])
        cor = whole.reshape(*sds.shape[:2], *whole.shape[-2:])[..., columns, columns]
    for h in range(sds.shape[1]):
        priors = own.sd[h * q : (h + 1) * q]
        if cor is None:
            yield np.maximum(sds[:, h], _TINY), None, priors
            continue
        covariance = sds[:, h, :, None] * cor[:, h] * sds[:, h, None, :]
        back = np.linalg.inv(own.T)
        covariance = back @ covariance @ back.T
        spread = np.sqrt(np.maximum(np.einsum("saa->sa", covariance), _TINY))
        yield spread, covariance / (spread[:, :, None] * spread[:, None, :]), priors


# --- the rest -------------------------------------------------------------------------------


def _residual(
    found: dict[str, Floats], design: Design, priors: ResolvedPriors, posterior: xr.Dataset
) -> None:
    """Add the classes of a Gaussian model's residuals."""
    residual, own = design.residual, priors.residual
    if residual is None or own is None:
        return
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        names = [name for name in ("sigma_Intercept", "sigma_b") if name in posterior]
        size = posterior.sizes["chain"] * posterior.sizes["draw"]
        drawn = np.hstack([draws_of(posterior[name]).reshape(size, -1) for name in names])
        raw = np.empty_like(drawn)
        order = [k for k in range(len(sigma.labels)) if k != sigma.intercept]
        raw[:, order if sigma.intercept is None else [sigma.intercept, *order]] = drawn
        found["sigma"] = _coefficients(raw, own.T, own.sigma)
    elif sigma is not None and own.sigma:
        drawn = draws_of(posterior["sigma"])
        drawn = drawn.reshape(drawn.shape[0] * drawn.shape[1], -1)
        found["sigma"] = np.asarray(
            sum(prior_log_density(p, drawn[:, k]) for k, p in enumerate(own.sigma))
        )
    name = residual.correlation_name
    if name is None or own.correlation is None:
        return
    values = draws_of(posterior[name])
    if own.correlation.name == "LKJ":
        matrices = values.reshape(-1, *values.shape[2:])
        found[name] = correlation_log_density(own.correlation.values[0], matrices)
        return
    flat = values.ravel()
    inside = (flat > own.lower) & (flat < own.upper)
    found[name] = np.where(inside, prior_log_density(own.correlation, flat), -np.inf)


def _values(
    own: ParameterPriors, priors: ResolvedPriors, coef: Floats, posterior: xr.Dataset
) -> Floats:
    """Return the log density of a parameter that is one value, or of the cutpoints."""
    values = draws_of(posterior[own.name])
    if CUTPOINT_DIM not in posterior[own.name].dims:
        return prior_log_density(own.value[0], values.ravel())
    points = values.reshape(-1, values.shape[-1])
    if priors.coef:
        # predictors at their means moved the cutpoints with them
        points = points + (np.linalg.solve(priors.T, coef.T).T @ priors.shift)[:, None]
    return np.asarray(sum(prior_log_density(p, points[:, k]) for k, p in enumerate(own.value)))

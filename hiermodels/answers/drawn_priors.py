"""Draws of everything a model has from its priors: a posterior before any data.

Each parameter is drawn on the scale on which its prior stands, and published on the raw scale by
the function that publishes what engines draw.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from hiermodels.answers.prior_draws import lkj_roots
from hiermodels.engines.conditional import Coordinates, ParameterCoordinates
from hiermodels.errors import PriorError
from hiermodels.fitting.publishing import publish
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import R2, SHARE
from hiermodels.spec.predictors import Predictor, Term
from hiermodels.spec.prior_functions import draw_coefficients, draw_prior
from hiermodels.spec.priors import ParameterPriors, ResolvedPriors, TermPriors
from hiermodels.spec.residual import Residual
from hiermodels.spec.residual_priors import ResidualPriors
from hiermodels.spec.shares import Shares, find_shares

Floats = npt.NDArray[np.float64]
Bars = tuple[tuple[Floats, ...], tuple[Floats, ...], tuple[Floats, ...], tuple[Floats | None, ...]]
_TRIES = 1000
_EVERYTHING = 2**62


def prior_draws(
    design: Design, resolved: ResolvedPriors, draws: int, rng: np.random.Generator
) -> xr.Dataset:
    """Return draws of all parameters and group effects from the priors.

    Parameters
    ----------
    design : Design
    resolved : ResolvedPriors
    draws : int
    rng : numpy.random.Generator

    Returns
    -------
    xarray.Dataset
        As a fit's posterior, with one chain: raw scale, the same names, dims and labels; group
        effects too.

    Raises
    ------
    PriorError
        Cutpoints whose priors differ are nearly never in order.

    Examples
    --------
    >>> import numpy as np
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> found = prior_draws(model.design, model.resolved, 10, np.random.default_rng(1))
    >>> dict(found["r_Batch"].sizes)
    {'chain': 1, 'draw': 10, 'Batch': 6, 'Batch_coef': 1}
    """
    shares = find_shares(resolved)
    if shares is not None:
        return _shared(design, resolved, shares, draws, rng)
    coef, scales = draw_coefficients(resolved.coef, draws, rng)
    bars = _bars(design, resolved.terms, draws, rng)
    parts = {part.name: part for part in design.parameters}
    parameters = {
        own.name: _parameter(own, parts.get(own.name), draws, rng) for own in resolved.parameters
    }
    residual = None
    if design.residual is not None and resolved.residual is not None:
        residual = _residual(design.residual, resolved.residual, draws, rng)
    sds, chols, effects, nus = bars
    own = {name: values[None] for name, values in scales.items()}
    coordinates = Coordinates(coef[None], sds, chols, effects, None, parameters, nus, own)
    return publish(coordinates, design, resolved, _EVERYTHING, residual or {})[0]


def _shared(
    design: Design,
    resolved: ResolvedPriors,
    shares: Shares,
    draws: int,
    rng: np.random.Generator,
) -> xr.Dataset:
    """Return draws of all parameters where sds share one R squared: the residual's sd first."""
    parts = {part.name: part for part in design.parameters}
    parameters = {
        own.name: _parameter(own, parts.get(own.name), draws, rng) for own in resolved.parameters
    }
    residual: dict[str, Floats] = {}
    if design.residual is not None and resolved.residual is not None:
        residual = _residual(design.residual, resolved.residual, draws, rng)
    sigma = None
    if shares.residual:
        own = residual.get("sigma")
        sigma = (parameters["sigma"].values[..., 0] if own is None else own)[0]
    r2, share = shares.draw(draws, rng)
    every = shares.part_sds(r2, share, sigma)
    coef, _ = draw_coefficients(resolved.coef, draws, rng, every)
    given = {place: every[:, len(shares.coefs) + k] for k, place in enumerate(shares.sds)}
    sds, chols, effects, nus = _bars(design, resolved.terms, draws, rng, given)
    scales = {R2: r2[None], SHARE: share[None]}
    coordinates = Coordinates(coef[None], sds, chols, effects, None, parameters, nus, scales)
    return publish(coordinates, design, resolved, _EVERYTHING, residual)[0]


def _each(priors: Sequence[Prior], draws: int, rng: np.random.Generator) -> Floats:
    """Return draws of independent parameters (1, S, K)."""
    found = np.empty((1, draws, len(priors)))
    for k, prior in enumerate(priors):
        found[0, :, k] = draw_prior(prior, draws, rng)
    return found


# --- group effects --------------------------------------------------------------------------------


def _bars(
    part: Predictor,
    priors: Sequence[TermPriors],
    draws: int,
    rng: np.random.Generator,
    given: Mapping[tuple[int, int], Floats] | None = None,
) -> Bars:
    """Return draws of all bars' sds, correlations' factors, effects and degrees of freedom.

    ``given`` are sds (S,) that were drawn already, by bar and place.
    """
    found = []
    for k, (term, own) in enumerate(zip(part.terms, priors, strict=True)):
        known = [values for (t, _), values in (given or {}).items() if t == k]
        sds = np.stack(known, axis=-1)[None] if known else _each(own.sd, draws, rng)
        found.append(_bar(term, own, sds, rng))
    return (
        tuple(own[0] for own in found),
        tuple(own[1] for own in found),
        tuple(own[2] for own in found),
        tuple(own[3] for own in found),
    )


def _bar(
    term: Term, own: TermPriors, sds: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats | None]:
    """Return draws of one bar: sds (1, S, q), or (1, S, H, q) where it has subpopulations."""
    q, several = len(term.coefs), 1 if term.by is None else len(term.by.labels)
    draws = sds.shape[1]
    sds = sds.reshape(1, draws, several, q)
    chols = np.broadcast_to(np.eye(q), (1, draws, several, q, q))
    if own.cor is not None:
        roots = lkj_roots(own.cor.values[0], q, draws * several, rng)
        chols = roots.reshape(1, draws, several, q, q)
    nu = None if own.nu is None else draw_prior(own.nu, draws, rng)[None]
    scores = rng.standard_normal((1, draws, len(term.levels), q))
    if nu is not None:
        spread = rng.chisquare(nu[..., None], (1, draws, len(term.levels)))
        scores *= np.sqrt(nu[..., None] / spread)[..., None]
    if term.cov is not None:
        scores = np.linalg.cholesky(term.cov) @ scores
    factor = sds[..., :, None] * chols
    index = np.zeros(len(term.levels), dtype=np.intp) if term.by is None else term.by.index
    effects = (factor[:, :, index] @ scores[..., None])[..., 0]
    if term.by is None:
        sds, chols = sds[:, :, 0], chols[:, :, 0]
    return sds, chols, effects, nu


# --- other parameters -----------------------------------------------------------------------------


def _parameter(
    own: ParameterPriors, part: Predictor | None, draws: int, rng: np.random.Generator
) -> ParameterCoordinates:
    """Return draws of one further parameter of the family."""
    nothing = np.empty((1, draws, 0))
    if part is not None:
        coef = draw_coefficients(own.coef, draws, rng)[0][None]
        return ParameterCoordinates(nothing, coef, *_bars(part, own.terms, draws, rng))
    if len(own.value) > 1:
        return ParameterCoordinates(_ordered(own.value, draws, rng)[None], nothing)
    return ParameterCoordinates(_each(own.value, draws, rng), nothing)


def _ordered(priors: Sequence[Prior], draws: int, rng: np.random.Generator) -> Floats:
    """Return draws of cutpoints (S, K): of their priors, where these are in increasing order."""
    if len(set(priors)) == 1:
        return np.sort(_each(priors, draws, rng)[0], axis=1)
    kept = np.empty((0, len(priors)))
    for _ in range(_TRIES):
        values = _each(priors, draws, rng)[0]
        kept = np.concatenate([kept, values[(np.diff(values, axis=1) > 0).all(axis=1)]])
        if len(kept) >= draws:
            return kept[:draws]
    raise PriorError(
        f"Draws of the cutpoints' priors {', '.join(map(str, priors))} are nearly never in "
        "increasing order. Give them means that increase."
    )


def _residual(
    residual: Residual, priors: ResidualPriors, draws: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Return draws of the residuals' parameters by their published names, (1, S, ...)."""
    found: dict[str, Floats] = {}
    own, sigma = _each(priors.sigma, draws, rng), residual.sigma
    if sigma is not None and sigma.kind == "linear":
        raw = own @ priors.T.T
        if sigma.intercept is not None:
            found["sigma_Intercept"] = raw[..., sigma.intercept]
        if sigma.slopes:
            slopes = [k for k in range(len(sigma.labels)) if k != sigma.intercept]
            found["sigma_b"] = raw[..., slopes]
    elif sigma is not None and sigma.kind != "modelled":
        found["sigma"] = own[..., 0] if sigma.kind == "one" else own
    name, prior = residual.correlation_name, priors.correlation
    if name is None or prior is None:
        return found
    if prior.name == "LKJ":
        root = lkj_roots(prior.values[0], len(residual.occasions), draws, rng)
        found[name] = (root @ np.swapaxes(root, 1, 2))[None]
        return found
    lower, upper = priors.lower, priors.upper
    values = rng.uniform(lower, upper, draws)
    if prior.name == "Normal":
        mu, sd = prior.values
        law = stats.truncnorm((lower - mu) / sd, (upper - mu) / sd, mu, sd)
        values = np.asarray(law.rvs(size=draws, random_state=rng))
    found[name] = values[None]
    return found

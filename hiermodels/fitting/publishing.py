"""Draws in an engine's coordinates to the published posterior: raw scale, one vocabulary.

After this module nobody can tell which engine ran.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiermodels.engines.conditional import Coordinates, ParameterCoordinates
from hiermodels.engines.effect_moments import EffectMoments
from hiermodels.engines.residual_packing import constrain_residual
from hiermodels.fitting.diagnostics import EXACT
from hiermodels.spec.design import Design
from hiermodels.spec.names import (
    CUTPOINT_DIM,
    SHARE_DIM,
    SHRUNK_DIM,
    SIGMA_COEF_DIM,
    SIGMA_DIM,
    SIGMA_DIM_BIS,
    coef_dim,
    coef_dim_bis,
    cor_name,
    effect_name,
    nu_name,
    of_parameter,
    sd_name,
    total_name,
)
from hiermodels.spec.predictors import Group, Predictor
from hiermodels.spec.priors import ResolvedPriors, TermPriors
from hiermodels.spec.shares import find_shares, share_labels

Array = NDArray[np.float64]
_DRAWS = ("chain", "draw")
_Variables = dict[str, tuple[tuple[str, ...], Array]]


@dataclass(frozen=True)
class _Part:
    """One linear predictor's draws: the mean's, or a parameter's (``of`` is its name)."""

    design: Predictor
    T: Array
    terms: Sequence[TermPriors]
    draws: Coordinates | ParameterCoordinates
    of: str = ""


def publish(
    coordinates: Coordinates,
    design: Design,
    priors: ResolvedPriors,
    memory: int,
    residual: Mapping[str, Array] | None = None,
    exact: EffectMoments | None = None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the posterior and the moments of the group effects.

    Parameters
    ----------
    coordinates : Coordinates
        Draws with leading dimensions (chain, draw).
    design : Design
    priors : ResolvedPriors
    memory : int
        Bytes that all group effects' draws may take together; beyond it they are left out of the
        posterior, and their means and sds remain.
    residual : mapping of str to ndarray, optional
        Draws of the residual's parameters by name; ``coordinates.sigma`` where not given.
    exact : EffectMoments, optional
        Means and covariances of the group effects, where the engine has them without the noise
        of drawing.

    Returns
    -------
    posterior : xarray.Dataset
    group_effects : xarray.Dataset
        ``r_<g>_mean`` and ``r_<g>_sd`` for each grouping; without draws of its effects also
        ``coef_<g>_sd``, of population coefficient plus effect.
    """
    n_chains, n_draws = coordinates.coef.shape[:2]
    coords: dict[str, Any] = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    variables: _Variables = {}
    moments: _Variables = {}
    parts = _parts(coordinates, design, priors)
    size = sum(effects.nbytes for part in parts for effects in part.draws.effects)
    _publish_coefficients(parts[0], variables, coords)
    if residual is None:
        residual = _residual_draws(coordinates, design, priors)
    _publish_residual(residual, design, variables, coords)
    _publish_values(coordinates, design, priors, variables, coords)
    _publish_scales(coordinates.scales, design, priors, variables, coords)
    for part in parts:
        if part.of:
            _publish_coefficients(part, variables, coords)
        for group in part.design.groups:
            known = exact is not None and not part.of
            _publish_group(part, group, size <= memory, known, variables, moments, coords)
            if exact is not None and not part.of:
                moments |= _exact_moments(group, exact, priors)
    posterior = xr.Dataset(variables, coords=coords)
    if exact is not None:
        for group in design.groups:
            if effect_name(group.name) in posterior:
                posterior[effect_name(group.name)].attrs[EXACT] = 1
    dims = {dim for own, _ in moments.values() for dim in own}
    return posterior, xr.Dataset(moments, coords={name: coords[name] for name in dims})


def _parts(coordinates: Coordinates, design: Design, priors: ResolvedPriors) -> list[_Part]:
    """Return the mean's draws, then those of every parameter with a formula."""
    own = {parameter.name: parameter for parameter in priors.parameters}
    return [
        _Part(design, priors.T, priors.terms, coordinates),
        *(
            _Part(
                part,
                own[part.name].T,
                own[part.name].terms,
                coordinates.parameters[part.name],
                part.name,
            )
            for part in design.parameters
        ),
    ]


def _publish_coefficients(part: _Part, variables: _Variables, coords: dict[str, Any]) -> None:
    """Add one predictor's intercept and other coefficients, raw scale."""
    raw = part.draws.coef @ part.T.T
    at, slopes = part.design.intercept, part.design.slopes
    if at is not None:
        variables[of_parameter(part.of, "Intercept")] = (_DRAWS, raw[..., at])
    if slopes:
        dim = of_parameter(part.of, "coef")
        coords[dim] = list(slopes)
        columns = [k for k in range(len(part.design.coefs)) if k != at]
        variables[of_parameter(part.of, "b")] = ((*_DRAWS, dim), raw[..., columns])


def _residual_draws(
    coordinates: Coordinates, design: Design, priors: ResolvedPriors
) -> dict[str, Array]:
    """Return the residual sds as the posterior calls them."""
    residual, own = design.residual, coordinates.parameters.get("sigma")
    if coordinates.sigma is not None and (residual is None or residual.simple):
        return {} if residual is None else {"sigma": coordinates.sigma}
    if residual is None or priors.residual is None or own is None or not residual.n_sigma:
        return {}
    phi = np.log(own.values) if own.values.shape[-1] else own.coef
    return constrain_residual(residual, priors.residual, phi)


def _publish_values(
    coordinates: Coordinates,
    design: Design,
    priors: ResolvedPriors,
    variables: _Variables,
    coords: dict[str, Any],
) -> None:
    """Add the parameters that have no formula: one value each, and the cutpoints."""
    for own in priors.parameters:
        if own.linear:
            continue
        values = coordinates.parameters[own.name].values
        if own.name != "cutpoints":
            variables[own.name] = (_DRAWS, values[..., 0])
            continue
        # predictors at their means moved the cutpoints with them
        values = values - (coordinates.coef @ priors.shift)[..., None]
        coords[CUTPOINT_DIM] = list(design.threshold_labels)
        variables[own.name] = ((*_DRAWS, CUTPOINT_DIM), values)


def _publish_scales(
    scales: Mapping[str, Array],
    design: Design,
    priors: ResolvedPriors,
    variables: _Variables,
    coords: dict[str, Any],
) -> None:
    """Add what coefficients and sds under a shrinkage prior follow from."""
    shares = find_shares(priors)
    for name, values in scales.items():
        if values.ndim == len(_DRAWS):
            variables[name] = (_DRAWS, values)
            continue
        if shares is not None:
            dim, labels = SHARE_DIM, share_labels(design, shares)
        else:
            own = zip(design.coefs, priors.coef, strict=True)
            dim = SHRUNK_DIM
            labels = tuple(coef for coef, prior in own if prior.support == "shrinkage")
        coords[dim] = list(labels)
        variables[name] = ((*_DRAWS, dim), values)


def _publish_group(
    part: _Part,
    group: Group,
    keep: bool,
    known: bool,
    variables: _Variables,
    moments: _Variables,
    coords: dict[str, Any],
) -> None:
    """Add one grouping's sds, correlations and effects, its bars side by side."""
    draws, of = part.draws, part.of
    sds, effects = [], []
    blocks: list[Array | None] = []
    for k in group.terms:
        T = part.terms[k].T
        factor = T @ (draws.sds[k][..., :, None] * draws.chols[k])
        sd = np.sqrt(np.sum(factor**2, axis=-1))
        sds.append(sd)
        blocks.append(_correlation(factor, sd) if part.design.terms[k].correlated else None)
        if draws.effects:
            effects.append(draws.effects[k] @ T.T)
        nu = draws.nus[k] if draws.nus else None
        if nu is not None:
            variables[nu_name(group.name, of)] = (_DRAWS, nu)
    by = part.design.terms[group.terms[0]].by
    lead = _DRAWS if by is None else (*_DRAWS, by.name)
    if by is not None:
        coords[by.name] = list(by.labels)
    dim = coef_dim(group.name, of)
    coords[group.name], coords[dim] = list(group.levels), list(group.coefs)
    variables[sd_name(group.name, of)] = ((*lead, dim), np.concatenate(sds, axis=-1))
    if any(block is not None for block in blocks):
        other = coef_dim_bis(group.name, of)
        coords[other] = list(group.coefs)
        variables[cor_name(group.name, of)] = (
            (*lead, dim, other),
            _block_diagonal(blocks, [sd.shape[-1] for sd in sds], sds[0].shape[:-1]),
        )
    if not effects:
        return
    all_effects = effects[0] if len(effects) == 1 else np.concatenate(effects, axis=-1)
    name = effect_name(group.name, of)
    if not known:
        moments[f"{name}_mean"] = ((group.name, dim), all_effects.mean(axis=(0, 1)))
        # an interrupted run may hold a single draw, whose sd is 0
        ddof = int(all_effects.shape[0] * all_effects.shape[1] > 1)
        moments[f"{name}_sd"] = ((group.name, dim), all_effects.std(axis=(0, 1), ddof=ddof))
    if keep:
        variables[name] = ((*_DRAWS, group.name, dim), all_effects)
    else:
        total = f"{total_name(group.name, of)}_sd"
        moments[total] = ((group.name, dim), _total_sds(part, group, all_effects))


def _total_sds(part: _Part, group: Group, effects: Array) -> Array:
    """Return the sds (J, q) of population coefficients plus effects (chains, draws, J, q)."""
    raw, coefs = part.draws.coef @ part.T.T, part.design.coefs
    ddof = int(effects.shape[0] * effects.shape[1] > 1)
    found = np.empty(effects.shape[2:])
    for k, name in enumerate(group.coefs):
        own = raw[..., coefs.index(name), None] if name in coefs else 0.0
        found[:, k] = np.std(effects[..., k] + own, axis=(0, 1), ddof=ddof)
    return found


def _publish_residual(
    residual: Mapping[str, Array],
    design: Design,
    variables: _Variables,
    coords: dict[str, Any],
) -> None:
    """Add the residual's parameters: one value each, by stratum, by coefficient, or a matrix."""
    sigma = None if design.residual is None else design.residual.sigma
    for name, values in residual.items():
        dims: tuple[str, ...] = ()
        if name == "sigma_b" and sigma is not None:
            dims, coords[SIGMA_COEF_DIM] = (SIGMA_COEF_DIM,), list(sigma.slopes)
        elif name == "cor_residual" and design.residual is not None:
            labels = list(design.residual.occasions)
            dims = (SIGMA_DIM, SIGMA_DIM_BIS)
            coords[SIGMA_DIM], coords[SIGMA_DIM_BIS] = labels, labels
        elif values.ndim > 2 and sigma is not None:
            dims, coords[SIGMA_DIM] = (SIGMA_DIM,), list(sigma.labels)
            if values.ndim > 3:
                dims, coords[SIGMA_DIM_BIS] = (SIGMA_DIM, SIGMA_DIM_BIS), list(sigma.labels)
        variables[name] = ((*_DRAWS, *dims), values)


def _exact_moments(group: Group, exact: EffectMoments, priors: ResolvedPriors) -> _Variables:
    """Return one grouping's means and sds on the raw scale, its bars side by side."""
    means, sds = [], []
    totals = [np.sqrt(exact.totals[k]) for k in group.terms if exact.totals]
    for k in group.terms:
        T = priors.terms[k].T
        means.append(exact.means[k] @ T.T)
        covariance = T @ exact.covariances[k] @ T.T
        sds.append(np.sqrt(np.maximum(np.einsum("jaa->ja", covariance), 0.0)))
    name, dims = effect_name(group.name), (group.name, coef_dim(group.name))
    found: _Variables = {
        f"{name}_mean": (dims, np.concatenate(means, axis=1)),
        f"{name}_sd": (dims, np.concatenate(sds, axis=1)),
    }
    if totals:
        found[f"{total_name(group.name)}_sd"] = (dims, np.concatenate(totals, axis=1))
    return found


def _correlation(factor: Array, sd: Array) -> Array:
    """Return correlation matrices from factors of covariances, the diagonal exactly one."""
    # a sd of exactly zero leaves its correlations at zero rather than undefined
    scaled = factor / np.where(sd > 0, sd, 1.0)[..., None]
    matrix = np.clip(scaled @ np.swapaxes(scaled, -1, -2), -1.0, 1.0)
    q = matrix.shape[-1]
    matrix[..., np.arange(q), np.arange(q)] = 1.0
    return np.asarray(matrix)


def _block_diagonal(blocks: list[Array | None], sizes: list[int], shape: tuple[int, ...]) -> Array:
    """Return the blocks on the diagonal, exact zeros between bars."""
    total = sum(sizes)
    matrix = np.zeros((*shape, total, total))
    matrix[..., np.arange(total), np.arange(total)] = 1.0
    at = 0
    for block, size in zip(blocks, sizes, strict=True):
        if block is not None:
            matrix[..., at : at + size, at : at + size] = block
        at += size
    return matrix

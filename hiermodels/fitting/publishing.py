"""Draws in an engine's coordinates to the published posterior: raw scale, one vocabulary.

After this module nobody can tell which engine ran.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hiermodels.engines.conditional import Coordinates
from hiermodels.engines.marginal_effects import EffectMoments
from hiermodels.fitting.diagnostics import EXACT
from hiermodels.spec.design import Design, Group
from hiermodels.spec.names import (
    SIGMA_COEF_DIM,
    SIGMA_DIM,
    SIGMA_DIM_BIS,
    coef_dim,
    coef_dim_bis,
    cor_name,
    effect_name,
    sd_name,
)
from hiermodels.spec.priors import ResolvedPriors

Array = NDArray[np.float64]
_DRAWS = ("chain", "draw")


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
        ``r_<g>_mean`` and ``r_<g>_sd`` for each grouping.
    """
    n_chains, n_draws = coordinates.coef.shape[:2]
    coords: dict[str, Any] = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    variables: dict[str, tuple[tuple[str, ...], Array]] = {}
    raw = coordinates.coef @ priors.T.T
    if design.intercept is not None:
        variables["Intercept"] = (_DRAWS, raw[..., design.intercept])
    if design.slopes:
        coords["coef"] = list(design.slopes)
        slopes = [k for k in range(len(design.coefs)) if k != design.intercept]
        variables["b"] = ((*_DRAWS, "coef"), raw[..., slopes])
    if residual is None:
        residual = {} if coordinates.sigma is None else {"sigma": coordinates.sigma}
    _publish_residual(residual, design, variables, coords)
    moments: dict[str, tuple[tuple[str, ...], Array]] = {}
    size = sum(effects.nbytes for effects in coordinates.effects)
    for group in design.groups:
        _publish_group(
            group,
            coordinates,
            design,
            priors,
            size <= memory,
            exact is not None,
            variables,
            moments,
        )
        if exact is not None:
            moments |= _exact_moments(group, exact, priors)
        coords[group.name] = list(group.levels)
        coords[coef_dim(group.name)] = list(group.coefs)
        if cor_name(group.name) in variables:
            coords[coef_dim_bis(group.name)] = list(group.coefs)
    posterior = xr.Dataset(variables, coords=coords)
    if exact is not None:
        for group in design.groups:
            if effect_name(group.name) in posterior:
                posterior[effect_name(group.name)].attrs[EXACT] = 1
    of_moments = [dim for g in design.groups for dim in (g.name, coef_dim(g.name))]
    moment_coords = {name: coords[name] for name in of_moments}
    return posterior, xr.Dataset(moments, coords=moment_coords)


def _publish_group(
    group: Group,
    coordinates: Coordinates,
    design: Design,
    priors: ResolvedPriors,
    keep: bool,
    exact: bool,
    variables: dict[str, tuple[tuple[str, ...], Array]],
    moments: dict[str, tuple[tuple[str, ...], Array]],
) -> None:
    """Add one grouping's sds, correlations and effects, its bars side by side."""
    sds, effects = [], []
    blocks: list[Array | None] = []
    for k in group.terms:
        T = priors.terms[k].T
        factor = T @ (coordinates.sds[k][..., :, None] * coordinates.chols[k])
        sd = np.sqrt(np.sum(factor**2, axis=-1))
        sds.append(sd)
        blocks.append(_correlation(factor, sd) if design.terms[k].correlated else None)
        if coordinates.effects:
            effects.append(coordinates.effects[k] @ T.T)
    dim = coef_dim(group.name)
    variables[sd_name(group.name)] = ((*_DRAWS, dim), np.concatenate(sds, axis=-1))
    if any(block is not None for block in blocks):
        variables[cor_name(group.name)] = (
            (*_DRAWS, dim, coef_dim_bis(group.name)),
            _block_diagonal(blocks, [sd.shape[-1] for sd in sds], sds[0].shape[:2]),
        )
    if not effects:
        return
    all_effects = effects[0] if len(effects) == 1 else np.concatenate(effects, axis=-1)
    name = effect_name(group.name)
    if not exact:
        moments[f"{name}_mean"] = ((group.name, dim), all_effects.mean(axis=(0, 1)))
        # an interrupted run may hold a single draw, whose sd is 0
        ddof = int(all_effects.shape[0] * all_effects.shape[1] > 1)
        moments[f"{name}_sd"] = ((group.name, dim), all_effects.std(axis=(0, 1), ddof=ddof))
    if keep:
        variables[name] = ((*_DRAWS, group.name, dim), all_effects)


def _publish_residual(
    residual: Mapping[str, Array],
    design: Design,
    variables: dict[str, tuple[tuple[str, ...], Array]],
    coords: dict[str, Any],
) -> None:
    """Add the residual's parameters: one value each, by stratum, by coefficient, or a matrix."""
    sigma = None if design.residual is None else design.residual.sigma
    for name, values in residual.items():
        dims: tuple[str, ...] = ()
        if name == "sigma_b" and sigma is not None:
            dims, coords[SIGMA_COEF_DIM] = (SIGMA_COEF_DIM,), list(sigma.slopes)
        elif values.ndim > 2 and sigma is not None:
            dims, coords[SIGMA_DIM] = (SIGMA_DIM,), list(sigma.labels)
            if values.ndim > 3:
                dims, coords[SIGMA_DIM_BIS] = (SIGMA_DIM, SIGMA_DIM_BIS), list(sigma.labels)
        variables[name] = ((*_DRAWS, *dims), values)


def _exact_moments(
    group: Group, exact: EffectMoments, priors: ResolvedPriors
) -> dict[str, tuple[tuple[str, ...], Array]]:
    """Return one grouping's means and sds on the raw scale, its bars side by side."""
    means, sds = [], []
    for k in group.terms:
        T = priors.terms[k].T
        means.append(exact.means[k] @ T.T)
        covariance = T @ exact.covariances[k] @ T.T
        sds.append(np.sqrt(np.maximum(np.einsum("jaa->ja", covariance), 0.0)))
    name, dims = effect_name(group.name), (group.name, coef_dim(group.name))
    return {
        f"{name}_mean": (dims, np.concatenate(means, axis=1)),
        f"{name}_sd": (dims, np.concatenate(sds, axis=1)),
    }


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

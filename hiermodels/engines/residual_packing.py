"""A residual structure and its priors written into the block that the compiled kernel reads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from hiermodels.engines import residual_kernels as kernels
from hiermodels.engines.packing import lkj_constant, pack_prior
from hiermodels.engines.problem import PriorRow
from hiermodels.errors import EngineError
from hiermodels.spec.bases import Bases
from hiermodels.spec.residual import Residual
from hiermodels.spec.residual_priors import ResidualPriors
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]
CODES = {
    "independent": kernels.INDEPENDENT,
    "ar": kernels.AR,
    "cosy": kernels.COSY,
    "unstr": kernels.UNSTRUCTURED,
}
_LARGEST = 1.0 - 1e-15


@dataclass(frozen=True, eq=False, repr=False)
class PackedResidual(Brief):
    """What `residual_weights` and `residual_prior` read.

    Attributes
    ----------
    code : int
    block : ndarray
        One dimension, float64, read-only.
    n_phi : int
        Number of unconstrained parameters.
    n_bases : int
        Number of matrices M.
    total_weight : float
        What multiplies log(2 pi) in the log likelihood.
    """

    code: int
    block: Array
    n_phi: int
    n_bases: int
    total_weight: float


def pack_residual(residual: Residual, priors: ResidualPriors) -> PackedResidual:
    """Write a residual structure and its priors into one block.

    Parameters
    ----------
    residual : Residual
    priors : ResidualPriors

    Returns
    -------
    PackedResidual

    Raises
    ------
    EngineError
        The residual precision is no sum of few matrices; the message says why.

    Examples
    --------
    >>> import pandas as pd
    >>> from hiermodels.spec.design import build_design
    >>> from hiermodels.spec.families import Family
    >>> from hiermodels.spec.formula import parse_formula
    >>> from hiermodels.spec.priors import resolve_priors
    >>> data = pd.DataFrame({"y": [1.0, 3.0, 2.0, 5.0], "t": [0, 1, 0, 1], "g": [1, 1, 2, 2]})
    >>> design = build_design(parse_formula("y ~ ar(t, g)"), data, Family("gaussian"))
    >>> priors = resolve_priors(design, Family("gaussian")).residual
    >>> packed = pack_residual(design.residual, priors)
    >>> packed.n_phi, packed.n_bases
    (2, 2)
    >>> w, dw, out = np.empty(2), np.empty((2, 2)), np.empty(3)
    >>> phi = unconstrain_residual(design.residual, priors, {"sigma": 2.0, "ar": 0.5})
    >>> kernels.residual_weights(packed.code, packed.block, phi, w, dw, out)
    >>> float(round(math.exp(out[0]), 6))  # |R| of two series: (4 * 4 - 2 * 2)**2
    144.0
    """
    found = residual.found
    if found is None:
        raise EngineError(f"The marginal engine cannot run this model: {residual.reason}")
    head = np.zeros(kernels.BLOCK_HEAD)
    head[kernels.SIGMAS] = len(priors.sigma)
    head[kernels.STRATA] = len(priors.predictors)
    head[kernels.BASES] = found.n_bases
    head[kernels.ENTRIES] = len(found.entries)
    head[kernels.STEPS] = len(found.patterns) or len(found.steps)
    head[kernels.OCCASIONS] = len(residual.occasions)
    head[kernels.CONSTANT] = residual.constant
    head[kernels.LOWER], head[kernels.UPPER] = priors.lower, priors.upper
    rows = _pack_priors(residual, priors, head)
    parts = {
        kernels.AT_PREDICTORS: priors.predictors,
        kernels.AT_COUNTS: found.counts,
        kernels.AT_STRATA: found.strata,
        kernels.AT_KNOWN: found.known,
        kernels.AT_ENTRIES: found.entries,
        kernels.AT_STEPS: _steps(residual, priors, found),
        kernels.AT_PRIORS: rows,
    }
    end = kernels.BLOCK_HEAD
    arrays = []
    for place, part in parts.items():
        arrays.append(np.asarray(part, dtype=np.float64).ravel())
        head[place] = end
        end += arrays[-1].size
    block = np.concatenate([head, *arrays])
    block.flags.writeable = False
    return PackedResidual(
        CODES[residual.structure],
        block,
        residual.n_sigma + residual.n_correlation,
        found.n_bases,
        residual.total_weight,
    )


def given_residual(packed: PackedResidual) -> PackedResidual:
    """Return the block of a residual whose weights a pass over the rows finds; see `row_sums`.

    Parameters
    ----------
    packed : PackedResidual
        Of independent rows.

    Returns
    -------
    PackedResidual
        With one matrix and one more for each parameter; the priors are the same.
    """
    old, n_phi = packed.block, packed.n_phi
    head = old[: kernels.BLOCK_HEAD].copy()
    at = int(head[kernels.AT_PRIORS])
    priors = old[at : at + n_phi * kernels.PRIOR]
    head[kernels.AT_COUNTS] = kernels.BLOCK_HEAD
    head[kernels.AT_PRIORS] = kernels.BLOCK_HEAD + 1 + n_phi
    block = np.concatenate([head, np.zeros(1 + n_phi), priors])
    block.flags.writeable = False
    return PackedResidual(kernels.GIVEN, block, n_phi, 1 + n_phi, packed.total_weight)


def _steps(residual: Residual, priors: ResidualPriors, found: Bases) -> Array:
    """Return what the structure says about gaps, lengths or patterns."""
    if found.patterns:
        records = [np.r_[len(own), count, own] for own, count in found.patterns]
        return np.asarray(np.concatenate(records), dtype=np.float64)
    third = np.zeros(len(found.steps))
    if residual.structure == "cosy":
        lengths = found.steps[:, 0]
        third = 1.0 + (lengths - 1.0) * priors.lower
        if len(lengths) and priors.lower == residual.correlation_range[0]:
            # 1 + (n - 1) lower without the rounding of lower, which would move the pole
            longest = float(lengths.max())
            third = (longest - lengths) / (longest - 1.0)
    return np.column_stack([found.steps, third])


def _pack_priors(residual: Residual, priors: ResidualPriors, head: Array) -> Array:
    """Return the table of the sds' priors; write the correlation's prior and all constants."""
    packed = [pack_prior(PriorRow(prior.name, prior.values)) for prior in priors.sigma]
    constant = math.fsum(row[4] for row in packed)
    head[kernels.REAL_SIGMA] = float(residual.sigma is not None and residual.sigma.kind == "linear")
    prior = priors.correlation
    if prior is not None and prior.name == "LKJ":
        head[kernels.PRIOR_A] = prior.values[0]
        constant += lkj_constant(prior.values[0], len(residual.occasions))
    elif prior is not None and prior.name == "Normal":
        mu, sd = prior.values
        head[kernels.TRUNCATED] = 1.0
        head[kernels.PRIOR_A], head[kernels.PRIOR_B] = mu, sd
        constant -= 0.5 * math.log(2.0 * math.pi) + math.log(sd)
        constant -= _log_mass((priors.lower - mu) / sd, (priors.upper - mu) / sd)
    elif prior is not None:
        constant -= math.log(priors.upper - priors.lower)
    head[kernels.PRIOR_CONSTANT] = constant
    return np.array([row[:4] for row in packed], dtype=np.float64)


def _log_mass(low: float, high: float) -> float:
    """Return the log probability of a standard normal between two bounds."""
    if low > 0.0:
        low, high = -high, -low
    below, above = float(log_ndtr(low)), float(log_ndtr(high))
    return above + math.log1p(-math.exp(below - above))


# --- parameters as published --------------------------------------------------------------------


def constrain_residual(residual: Residual, priors: ResidualPriors, phi: Any) -> dict[str, Array]:
    """Return the residuals' parameters as the posterior calls them.

    Parameters
    ----------
    residual : Residual
    priors : ResidualPriors
    phi : ndarray (..., n_phi)

    Returns
    -------
    dict of str to ndarray
        ``sigma`` (...) or by stratum (..., S); ``sigma_Intercept`` (...) and ``sigma_b``
        (..., K - 1) of a log-linear sd, on the raw scale of its predictors; ``ar``, ``cosy`` (...);
        ``cor_residual`` (..., T, T). All sds are marginal ones.
    """
    phi = np.asarray(phi, dtype=np.float64)
    values: dict[str, Array] = {}
    own, rest = phi[..., : residual.n_sigma], phi[..., residual.n_sigma :]
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        raw = own @ priors.T.T
        if sigma.intercept is not None:
            values["sigma_Intercept"] = raw[..., sigma.intercept]
        if sigma.slopes:
            slopes = [k for k in range(len(sigma.labels)) if k != sigma.intercept]
            values["sigma_b"] = raw[..., slopes]
    elif sigma is not None:
        values["sigma"] = np.exp(own[..., 0] if sigma.kind == "one" else own)
    name = residual.correlation_name
    if name == "cor_residual":
        chol = _cholesky(rest, len(residual.occasions))
        values[name] = chol @ np.swapaxes(chol, -1, -2)
    elif name is not None:
        rate = 1.0 if name == "ar" else 0.5
        middle, half = 0.5 * (priors.upper + priors.lower), 0.5 * (priors.upper - priors.lower)
        values[name] = middle + half * np.tanh(rate * rest[..., 0])
    return values


def unconstrain_residual(
    residual: Residual, priors: ResidualPriors, values: Mapping[str, Any]
) -> Array:
    """Return phi (..., n_phi) of parameters as the posterior calls them; constraining, reversed.

    Parameters
    ----------
    residual : Residual
    priors : ResidualPriors
    values : mapping of str to array_like
        One value of each parameter, or draws in leading dimensions, as
        :func:`constrain_residual` names them.
    """
    parts: list[Array] = []
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        slopes = np.asarray(values.get("sigma_b", ()), dtype=np.float64)
        at = iter(range(len(sigma.slopes)))
        raw = [
            values["sigma_Intercept"] if k == sigma.intercept else slopes[..., next(at)]
            for k in range(len(sigma.labels))
        ]
        parts.append(np.stack(raw, axis=-1) @ np.linalg.inv(priors.T).T)
    elif sigma is not None:
        sds = np.log(np.asarray(values["sigma"], dtype=np.float64))
        parts.append(sds[..., None] if sigma.kind == "one" else sds)
    name = residual.correlation_name
    if name == "cor_residual":
        parts.append(partial_correlations(np.asarray(values[name], dtype=np.float64)))
    elif name is not None:
        rate = 1.0 if name == "ar" else 0.5
        middle, half = 0.5 * (priors.upper + priors.lower), 0.5 * (priors.upper - priors.lower)
        place = (np.asarray(values[name], dtype=np.float64) - middle) / half
        parts.append(np.arctanh(place)[..., None] / rate)
    return np.concatenate(parts, axis=-1) if parts else np.empty(0)


def partial_correlations(matrices: Array) -> Array:
    """Return arctanh of the canonical partial correlations of matrices (..., q, q), row by row.

    Rounding may leave a published matrix just short of definite: its partial correlations are then
    held below 1 by the last digit.
    """
    size = matrices.shape[-1]
    chol = np.zeros(matrices.shape)
    found = []
    for i in range(size):
        rest = np.ones(matrices.shape[:-2])
        for j in range(i):
            product = np.sum(chol[..., i, :j] * chol[..., j, :j], axis=-1)
            z = (matrices[..., i, j] - product) / (chol[..., j, j] * np.sqrt(rest))
            z = np.clip(z, -_LARGEST, _LARGEST)
            found.append(np.arctanh(z))
            chol[..., i, j] = z * np.sqrt(rest)
            rest = rest * (1.0 - z * z)
        chol[..., i, i] = np.sqrt(rest)
    return np.stack(found, axis=-1) if found else np.empty((*matrices.shape[:-2], 0))


def _cholesky(y: Array, size: int) -> Array:
    """Return the factors (..., T, T) of correlation matrices from partial correlations' arctanh."""
    chol = np.zeros((*y.shape[:-1], size, size))
    at = 0
    for i in range(size):
        rest = np.ones(y.shape[:-1])
        for j in range(i):
            chol[..., i, j] = rest * np.tanh(y[..., at])
            rest = rest / np.cosh(y[..., at])
            at += 1
        chol[..., i, i] = rest
    return chol

"""What the rows of a group say about its effects, for each draw: Z' R^-1 Z on the link scale.

For Gaussian models R is the residual covariance, correlations included; for other families R^-1
holds the working weights, the Fisher information of each row's linear predictor.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.fitted import Fitted, dataset
from hiermodels.engines.profile_kernels import weights_kernel
from hiermodels.engines.residual_packing import pack_residual, unconstrain_residual
from hiermodels.spec.design import Group
from hiermodels.spec.residual import Basis, Residual
from hiermodels.spec.residual_priors import ResidualPriors

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Groups whose products agree to so many digits are computed once.
_DIGITS = 11
#: Numbers of one block of draws, about.
_BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Information:
    """Information about the effects of one grouping, by draw.

    Attributes
    ----------
    draws : ndarray of int (S,)
        Positions of the draws used, chains laid end to end.
    which : ndarray of int (J,)
        Which of the U matrices is each level's.
    blocks : callable
        Called without arguments: an iterator of (draw slice, ndarray (s, U, q, q)).
    of : callable or None
        From some of the U matrices, by number (u,), to theirs (S, u, q, q); None where they come
        from the rows of all.
    """

    draws: Indices
    which: Indices
    blocks: Callable[[], Iterator[tuple[slice, Floats]]]
    of: Callable[[Indices], Floats] | None = None


def group_information(
    fit: Fitted,
    group: Group,
    z: Floats,
    draws: Indices,
    row_weights: Callable[[Indices], Floats],
) -> Information:
    """Return what each level's rows say about its effects.

    Parameters
    ----------
    fit : Fit
    group : Group
    z : ndarray (n, q)
        The effects' columns.
    draws : ndarray of int (S,)
        Which draws, chains laid end to end.
    row_weights : callable
        From positions of draws (s,) to the information of each row's linear predictor (s, n);
        called where the rows are independent given a draw.

    Returns
    -------
    Information
    """
    residual = fit.model.design.residual
    priors = fit.model.resolved.residual
    if residual is not None and priors is not None and _few_matrices(residual):
        return _from_matrices(fit, group, z, draws, residual, priors)
    return _from_rows(group, z, draws, row_weights)


def _few_matrices(residual: Residual) -> bool:
    """Whether the residual precision is a sum of few matrices."""
    return residual.found is not None and not residual.by_rows


def _from_matrices(
    fit: Fitted,
    group: Group,
    z: Floats,
    draws: Indices,
    residual: Residual,
    priors: ResidualPriors,
) -> Information:
    """Return the information of a residual precision that is a sum of few matrices."""
    J, q = len(group.levels), z.shape[1]
    products = np.stack([group_products(z, group, basis) for basis in residual.bases], axis=1)
    flat = products.reshape(J, -1)
    size = np.max(np.abs(flat), axis=0)
    rounded = np.round(flat / np.where(size > 0, size, 1.0), _DIGITS) + 0.0
    _, first, which = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    kept = products[first]
    weights = residual_weights(dataset(fit, "posterior"), draws, residual, priors)

    def blocks() -> Iterator[tuple[slice, Floats]]:
        step = max(1, _BLOCK // (len(kept) * q * q))
        for start in range(0, len(draws), step):
            rows = slice(start, min(start + step, len(draws)))
            yield rows, np.einsum("sm,umab->suab", weights[rows], kept)

    def of(kinds: Indices) -> Floats:
        return np.asarray(np.einsum("sm,umab->suab", weights, kept[kinds]))

    return Information(draws, which.ravel().astype(np.intp), blocks, of)


def _from_rows(
    group: Group, z: Floats, draws: Indices, row_weights: Callable[[Indices], Floats]
) -> Information:
    """Return the information of rows that are independent, weight by weight."""
    J, q = len(group.levels), z.shape[1]
    order = np.argsort(group.index, kind="stable")
    starts = np.searchsorted(group.index[order], np.arange(J))
    pairs = z[order][:, :, None] * z[order][:, None, :]

    def blocks() -> Iterator[tuple[slice, Floats]]:
        step = max(1, _BLOCK // (len(z) * q * q))
        for start in range(0, len(draws), step):
            rows = slice(start, min(start + step, len(draws)))
            weights = row_weights(draws[rows])[:, order]
            yield rows, np.add.reduceat(weights[:, :, None, None] * pairs, starts, axis=1)

    return Information(draws, np.arange(J, dtype=np.intp), blocks)


def group_products(z: Floats, group: Group, basis: Basis) -> Floats:
    """Return Z_j' M Z_j of every level, (J, q, q); M joins no rows of different levels."""
    J, q = len(group.levels), z.shape[1]
    if basis is None:
        left = z
    elif isinstance(basis, np.ndarray):
        left = basis[:, None] * z
    else:
        left = np.asarray(basis @ z)
    found = np.empty((J, q, q))
    for a in range(q):
        for b in range(q):
            found[:, a, b] = np.bincount(group.index, left[:, a] * z[:, b], minlength=J)
    return 0.5 * (found + np.swapaxes(found, 1, 2))


def residual_weights(
    posterior: xr.Dataset, draws: Indices, residual: Residual, priors: ResidualPriors
) -> Floats:
    """Return the weights w of R^-1 = sum of w_m M_m at some draws, (S, M).

    Parameters
    ----------
    posterior : xarray.Dataset
    draws : ndarray of int (S,)
        Positions, chains laid end to end.
    residual : Residual
    priors : ResidualPriors
    """
    packed = pack_residual(residual, priors)
    w, dw = np.empty(packed.n_bases), np.empty((packed.n_phi, packed.n_bases))
    out = np.empty(1 + packed.n_phi)
    found = np.empty((len(draws), packed.n_bases))
    values = _flat(posterior)
    for s, draw in enumerate(draws):
        own = {name: array[draw] for name, array in values.items()}
        phi = unconstrain_residual(residual, priors, own)
        weights_kernel(packed.code, packed.block, phi, w, dw, out)
        found[s] = w
    return found


def _flat(posterior: xr.Dataset) -> Mapping[str, Floats]:
    """Return the residual's parameters, chains laid end to end."""
    names = ("sigma", "sigma_Intercept", "sigma_b", "ar", "cosy", "cor_residual")
    found = {}
    for name in names:
        if name in posterior:
            values = posterior[name].transpose("chain", "draw", ...).values
            found[name] = values.reshape(-1, *values.shape[2:])
    return found

"""How far group effects spread each row's linear predictor, whatever the grouping's structure."""

import numpy as np
import numpy.typing as npt

from hiermodels.answers.fitted import Fitted, group_columns
from hiermodels.answers.pooling_factors import centring
from hiermodels.answers.roots import covariance_root, subpopulation_roots
from hiermodels.spec.design import Design, Group, Term

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def centred_scores(fit: Fitted, group: Group, draws: Indices) -> tuple[Floats, Floats]:
    """Return a root of the covariance and columns, so that a row's variance is that of z @ root.

    Parameters
    ----------
    fit : Fit
    group : Group
    draws : ndarray of int (S,)
        Positions of the draws, chains laid end to end.

    Returns
    -------
    root : ndarray (S, q, q)
        Of centred predictors' effects; by subpopulation block by block, (S, H q, H q).
    z : ndarray (n, q) or (n, H q)
        Centred columns, a row's in the place of its subpopulation; times the root of what its
        memberships and a known covariance between levels make of an effect's variance.
    """
    design = fit.model.design
    first, back = design.terms[group.terms[0]], centring(design, group)
    z = group_columns(design, group) @ back
    z = z * np.sqrt(_multiples(first, design))[:, None]
    if first.by is None:
        sds, root = covariance_root(fit, group, draws)
        return np.linalg.solve(back, sds[:, :, None] * root), z
    sds, root = subpopulation_roots(fit, group, first.by, draws)
    blocks = np.linalg.solve(back, sds[..., None] * root)
    H, q = blocks.shape[1:3]
    whole = np.zeros((len(draws), H * q, H * q))
    for h in range(H):
        own = slice(h * q, (h + 1) * q)
        whole[:, own, own] = blocks[:, h]
    place = np.eye(H)[first.by.index[first.index]]
    return whole, np.asarray((place[:, :, None] * z[:, None, :]).reshape(len(z), -1))


def _multiples(term: Term, design: Design) -> Floats:
    """Return what a row's variance is of that of one effect of variance one (n,)."""
    if term.members is None:
        return np.ones(design.n) if term.cov is None else np.diag(term.cov)[term.index]
    levels, weights = term.members.index, term.members.weights
    known = np.eye(len(term.levels)) if term.cov is None else term.cov
    between = known[levels[:, :, None], levels[:, None, :]]
    return np.asarray(np.einsum("nm,nmk,nk->n", weights, between, weights))

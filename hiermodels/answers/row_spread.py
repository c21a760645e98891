"""How far group effects spread each row's linear predictor, whatever the grouping's structure."""

import numpy as np
import numpy.typing as npt

from hiermodels.answers.fitted import Fitted, group_columns
from hiermodels.answers.pooling_factors import centring
from hiermodels.answers.roots import covariance_root, subpopulation_roots
from hiermodels.spec.design import Design, Group, Term
from hiermodels.spec.grouping import StandingMembers, join_members

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def centred_columns(design: Design, group: Group) -> Floats:
    """Return columns z of a grouping, so that a row's variance is that of z @ root.

    Parameters
    ----------
    design : Design
        With rows, or rows that stand for others.
    group : Group

    Returns
    -------
    ndarray (n, q) or (n, H q)
        Centred columns, a row's in the place of its subpopulation; times the root of what its
        memberships and a known covariance between levels make of an effect's variance. Where
        weights of M memberships multiply slopes in rows that stand for others, (n M, q): the
        variances of a row's parts add up to its own.
    """
    first = design.terms[group.terms[0]]
    members = join_members([design.terms[k].members for k in group.terms])
    if isinstance(members, StandingMembers):
        return _parts(first, members)
    z = group_columns(design, group) @ centring(design, group)
    z = z * np.sqrt(_multiples(first))[:, None]
    if first.by is None:
        return np.asarray(z)
    place = np.eye(len(first.by.labels))[first.by.index[first.index]]
    return np.asarray((place[:, :, None] * z[:, None, :]).reshape(len(z), -1))


def centred_roots(fit: Fitted, group: Group, draws: Indices) -> Floats:
    """Return roots of the covariance of a grouping's effects, with centred predictors.

    Parameters
    ----------
    fit : Fit
    group : Group
    draws : ndarray of int (S,)
        Positions of the draws, chains laid end to end.

    Returns
    -------
    ndarray (S, q, q)
        By subpopulation block by block, (S, H q, H q).
    """
    design = fit.model.design
    first, back = design.terms[group.terms[0]], centring(design, group)
    if first.by is None:
        sds, root = covariance_root(fit, group, draws)
        return np.asarray(np.linalg.solve(back, sds[:, :, None] * root))
    sds, root = subpopulation_roots(fit, group, first.by, draws)
    blocks = np.linalg.solve(back, sds[..., None] * root)
    H, q = blocks.shape[1:3]
    whole = np.zeros((len(draws), H * q, H * q))
    for h in range(H):
        own = slice(h * q, (h + 1) * q)
        whole[:, own, own] = blocks[:, h]
    return whole


def _parts(term: Term, members: StandingMembers) -> Floats:
    """Return the columns of memberships (n M, q), joined where levels agree or are correlated."""
    columns, levels = members.columns, members.index
    values, vectors = np.linalg.eigh(_between(term, levels))
    # a row may belong to one level twice: the matrix is then of less than full rank
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    parts = np.einsum("nmk,nmq->nkq", root, columns)
    return np.asarray(parts.reshape(-1, columns.shape[2]))


def _between(term: Term, levels: Indices) -> Floats:
    """Return the known covariances between the levels of each row (n, M, M)."""
    one, other = levels[:, :, None], levels[:, None, :]
    if term.cov is None:
        return np.asarray(one == other, dtype=np.float64)
    return np.asarray(term.cov[one, other])


def _multiples(term: Term) -> Floats:
    """Return what a row's variance is of that of one effect of variance one (n,)."""
    if term.members is None:
        return np.ones(len(term.index)) if term.cov is None else np.diag(term.cov)[term.index]
    levels, weights = term.members.index, term.members.weights
    found = np.einsum("nm,nmk,nk->n", weights, _between(term, levels), weights)
    # weights that stand for others may cancel, to rounding
    return np.asarray(np.maximum(found, 0.0))

"""Sds and roots of correlations of group effects, draw by draw."""

import numpy as np
import numpy.typing as npt

from hiermodels.answers.fitted import Fitted, dataset
from hiermodels.fitting.draws import draws_of
from hiermodels.spec.design import Group
from hiermodels.spec.grouping import Subpopulations
from hiermodels.spec.names import cor_name, sd_name

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Averages over draws take at most so many, evenly: their Monte Carlo error is then below 3 % of a
#: posterior sd.
MOST_DRAWS = 1000


def draw_positions(fit: Fitted, most: int = MOST_DRAWS) -> Indices:
    """Return positions of at most so many draws, evenly, chains laid end to end."""
    sizes = dataset(fit, "posterior").sizes
    total = sizes["chain"] * sizes["draw"]
    return np.unique(np.linspace(0, total - 1, min(total, most)).astype(np.intp))


def covariance_roots(
    fit: Fitted, group: Group, draws: Indices
) -> list[tuple[Floats, Floats, Indices]]:
    """Return sds (S, q) and roots (S, q, q) of each subpopulation, or of all, with its levels."""
    by = fit.model.design.terms[group.terms[0]].by
    if by is None:
        return [(*covariance_root(fit, group, draws), np.arange(len(group.levels)))]
    sds, root = subpopulation_roots(fit, group, by, draws)
    levels = [np.flatnonzero(by.index == h) for h in range(len(by.labels))]
    return [(sds[:, h], root[:, h], own) for h, own in enumerate(levels)]


def covariance_root(fit: Fitted, group: Group, draws: Indices) -> tuple[Floats, Floats]:
    """Return sds (S, q) and a root (S, q, q) of the correlations of a factor's effects."""
    posterior = dataset(fit, "posterior")
    dim = f"{group.name}_coef"
    order = {dim: list(group.coefs)}
    q = len(group.coefs)
    sds = draws_of(posterior[sd_name(group.name)].sel(order)).reshape(-1, q)[draws]
    name = cor_name(group.name)
    if name not in posterior:
        return sds, np.broadcast_to(np.eye(q), (len(draws), q, q))
    array = posterior[name].sel(order | {f"{dim}_bis": list(group.coefs)})
    cor = draws_of(array.transpose("chain", "draw", dim, f"{dim}_bis")).reshape(-1, q, q)[draws]
    return sds, correlation_root(cor)


def subpopulation_roots(
    fit: Fitted, group: Group, by: Subpopulations, draws: Indices
) -> tuple[Floats, Floats]:
    """Return sds (S, H, q) and roots of correlations (S, H, q, q)."""
    posterior, dim = dataset(fit, "posterior"), f"{group.name}_coef"
    q, H = len(group.coefs), len(by.labels)
    at = {by.name: list(by.labels), dim: list(group.coefs)}
    sds = draws_of(posterior[sd_name(group.name)].sel(at).transpose("chain", "draw", *at))
    sds, name = sds.reshape(-1, H, q)[draws], cor_name(group.name)
    if name not in posterior:
        return sds, np.broadcast_to(np.eye(q), (len(draws), H, q, q))
    at[f"{dim}_bis"] = list(group.coefs)
    cor = draws_of(posterior[name].sel(at).transpose("chain", "draw", *at))
    return sds, correlation_root(cor.reshape(-1, H, q, q)[draws])


def correlation_root(cor: Floats) -> Floats:
    """Return a root (..., q, q) of correlation matrices."""
    # any root does: scores are defined up to a rotation, and this one knows correlations of 1
    values, vectors = np.linalg.eigh(cor)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])

"""Laplace's approximation and adaptive quadrature of a model: from formula to estimate."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.laplace import (
    ModeMoments,
    coefficient_covariance,
    maximise_approximation,
    mode_moments,
)
from hiermodels.engines.laplace_problem import EDGE, LaplaceProblem, laplace_problem
from hiermodels.engines.response_derivatives import Derivatives
from hiermodels.engines.separation import find_separation
from hiermodels.errors import EngineError
from hiermodels.fitting.components import bar_factors
from hiermodels.fitting.estimate import GroupModes
from hiermodels.fitting.generalised_estimate import GeneralisedEstimate, make_likelihood
from hiermodels.fitting.model import Model
from hiermodels.fitting.singularity import named_bar, vanished_directions
from hiermodels.spec.design import Design
from hiermodels.spec.gram import own_columns
from hiermodels.spec.priors import resolve_priors

Array = NDArray[np.float64]
# Expected information of a row, relative to its most, below which separation is looked for.
_LITTLE: Final = 1e-4
# Sds of group effects on the link scale, in columns of size one, that no data can hold back.
_ENORMOUS: Final = 15.0


def estimate_generalised(model: Model, method: str, nodes: int) -> GeneralisedEstimate:
    """Return the estimate by Laplace's approximation (0 nodes) or adaptive quadrature.

    Parameters
    ----------
    model : Model
    method : {"laplace", "agq"}
    nodes : int

    Raises
    ------
    EngineError
        The likelihood cannot be approximated, with the reason.
    """
    design = model.design
    # the default priors' coordinates: a prior may not narrow the range of a parameter here
    priors = resolve_priors(design, model.family, None)
    problem = laplace_problem(design, model.family, priors)
    likelihood = make_likelihood(problem, nodes)
    optimum = maximise_approximation(problem, likelihood)
    x = optimum.x
    mode = likelihood.mode(x)
    if mode is None:
        raise EngineError("The group effects could not be computed at the estimate.")
    lam = problem.factors(x, likelihood.finder.arrow.starts)
    coefficients = problem.coefficients(x)
    eta = problem.offset + problem.X @ coefficients + likelihood.finder.part(lam, mode.scores)
    centred = coefficient_covariance(problem, optimum)
    modes = [
        _raw(
            _own_levels(found, own_columns(design, group)),
            _block_diagonal([design.terms[k].T for k in group.terms]), centred, design.T,
        )
        for group, found in zip(design.groups, mode_moments(problem, likelihood, x), strict=True)
    ]  # fmt: skip
    factors = bar_factors(problem.blocks, design, x, 1.0)
    scale = problem.response.scale
    return GeneralisedEstimate(
        model=model,
        method=method,
        loglik=optimum.value,
        coefficients=design.T @ coefficients,
        vcov=design.T @ centred @ design.T.T,
        covariances=tuple(factor @ np.swapaxes(factor, -1, -2) for factor in factors),
        residual={} if scale is None else {scale: np.array(np.exp(problem.phi(x)))},
        modes=tuple(modes),
        optimum=optimum,
        vanished=vanished_directions(problem, design, x),
        problem=problem,
        priors=priors,
        fitted_values=problem.response.inverse_link(eta) * problem.response.size,
        nodes=nodes,
        eta=eta,
        warnings=_warnings(problem, design, x, mode.rows),
    )


def _own_levels(found: ModeMoments, own: NDArray[np.intp] | None) -> ModeMoments:
    """Return the effects of each level's own subpopulation."""
    if own is None:
        return found
    level = np.arange(len(own))[:, None]
    square = level[..., None], own[:, :, None], own[:, None, :]
    return ModeMoments(found.mean[level, own], found.covariance[square], found.follow[level, own])


def _raw(found: ModeMoments, T: Array, centred: Array, back: Array) -> GroupModes:
    """Return modes and covariances on the raw scale."""
    given = T @ found.covariance @ T.T
    follow = T @ found.follow
    cross = follow @ centred
    return GroupModes(
        found.mean @ T.T, given, given + cross @ follow.transpose(0, 2, 1), cross @ back.T
    )


def _block_diagonal(blocks: list[Array]) -> Array:
    """Return the blocks on the diagonal."""
    total = sum(len(block) for block in blocks)
    out, at = np.zeros((total, total)), 0
    for block in blocks:
        out[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return out


# --- estimates that are not finite ----------------------------------------------------------


def _warnings(
    problem: LaplaceProblem, design: Design, x: Array, rows: Derivatives
) -> tuple[str, ...]:
    """Return why estimates are not finite, in words."""
    found = []
    response = problem.response
    binary = response.family in ("bernoulli", "binomial")
    most = 0.25 * response.size if binary else 1.0
    if np.any(rows.expected < _LITTLE * most):
        separation = find_separation(response, problem.X)
        if separation is not None:
            found.append(_separated(design, design.T @ separation.direction, separation.rows))
    for block in problem.blocks:
        term = named_bar(design.terms[block.term], block.by)
        theta = block.factor(x) * block.scale[:, None]
        sizes = np.sqrt(np.sum(theta**2, axis=1))
        found += [
            f"the sd of {coef} by {term.group} grows without end (it stands at {size:.3g} on the "
            "link scale): within most groups the response does not vary, so that the groups "
            "separate it. Use model.fit(), whose priors bound it, or leave the bar out"
            for coef, size in zip(term.coefs, sizes, strict=True)
            if binary and size > _ENORMOUS
        ]
    if problem.n_phi and problem.phi(x) > EDGE - 4.0 and response.scale == "shape":
        found.append(
            "shape grows without end: the response varies no more than "
            + ("Poisson counts would" if response.family == "negativebinomial" else "its mean")
            + (". Use family='poisson'" if response.family == "negativebinomial" else "")
        )
    return tuple(found)


def _separated(design: Design, direction: Array, rows: NDArray[np.bool_]) -> str:
    """Return in words which coefficients separate the response."""
    sizes = np.abs(direction) * np.sqrt(np.mean(design.X**2, axis=0))
    large = np.flatnonzero(sizes > 1e-6 * float(np.max(sizes)))
    slopes = [k for k in large if k != design.intercept]
    names = [design.coefs[k] for k in (slopes or large)]
    signs = ["∞" if direction[k] > 0 else "−∞" for k in (slopes or large)]
    one = len(names) == 1
    what = ", ".join(f"{name} → {sign}" for name, sign in zip(names, signs, strict=True))
    whole = "all" if rows.all() else f"{int(rows.sum()):,} of {design.n:,}"
    return (
        f"separation: the coefficient{'' if one else 's'} of {', '.join(names)} "
        f"{'has' if one else 'have'} no finite estimate, as the likelihood grows without end "
        f"({what}); {whole} rows are then predicted perfectly. The numbers shown are where the "
        "search stopped. Use model.fit(), whose priors keep them finite, or leave the predictor "
        "out"
    )

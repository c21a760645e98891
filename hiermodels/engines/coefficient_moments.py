"""Coefficients given the scales of a Gaussian model: their moments, and effects that follow them.

Coefficients and group effects are jointly normal given the scales. Another normal prior of the
coefficients moves their conditional distribution; effects given coefficients stay as they are, and
a draw of them moves with its coefficients along the regression of effects on coefficients.
"""

from dataclasses import dataclass

import numpy as np

from hiermodels.engines.coefficient_kernels import conditional_kernel
from hiermodels.engines.effect_moments import split_parts
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.marginal_effects import _places
from hiermodels.engines.marginal_packing import pack_marginal
from hiermodels.engines.problem import Floats
from hiermodels.errors import EngineError


@dataclass(frozen=True, eq=False)
class CoefficientMoments:
    """Normal distributions of the integrated coefficients, one for each draw of the scales.

    Parameters
    ----------
    mean
        (S, p), in the priors' coordinates.
    precision
        (S, p, p).
    """

    mean: Floats
    precision: Floats


def coefficient_moments(problem: MarginalProblem, draws: Floats) -> CoefficientMoments:
    """Return mean and precision of the coefficients given the scales and the data.

    Parameters
    ----------
    problem
        The model; its cross-products must be kept, not summed from the rows.
    draws
        Unconstrained vectors, (S, ndim).

    Returns
    -------
    CoefficientMoments
        Of the coefficients with normal priors. NaN for draws that cannot be factored.
    """
    p = problem.gram.n_coefs
    corner = np.empty((len(draws), p, p + 1))
    _run(problem, draws, np.zeros((len(draws), p)), corner, np.empty((len(draws), 0)))
    factor, right = corner[..., :p], corner[..., p]
    gram = problem.gram
    # a failed draw holds NaN, which a solver may not see
    lost = ~np.isfinite(corner).all(axis=(1, 2))
    factor = np.where(lost[:, None, None], np.eye(p), factor)
    gamma = np.linalg.solve(factor, right[..., None])[..., 0]
    root = factor @ gram.R
    mean = gram.centre + gamma @ np.linalg.inv(gram.R).T
    precision = np.swapaxes(root, 1, 2) @ root
    mean[lost], precision[lost] = np.nan, np.nan
    return CoefficientMoments(mean, precision)


def moved_effects(problem: MarginalProblem, draws: Floats, delta: Floats) -> tuple[Floats, ...]:
    """Return how far draws of the group effects move where their coefficients do.

    Parameters
    ----------
    problem
        The model.
    draws
        Unconstrained vectors, (S, ndim).
    delta
        Moves of the integrated coefficients, (S, p), in the priors' coordinates.

    Returns
    -------
    tuple of ndarray
        By bar (S, J, q), in the priors' coordinates.
    """
    shapes = [(bar.n_levels, bar.q) for bar in problem.bars]
    effects = np.empty((len(draws), sum(j * q for j, q in shapes)))
    p = problem.gram.n_coefs
    gamma = np.ascontiguousarray(delta @ problem.gram.R.T)
    _run(problem, draws, gamma, np.empty((len(draws), p, p + 1)), effects)
    return split_parts(effects, shapes)


def _run(
    problem: MarginalProblem, draws: Floats, gamma: Floats, corner: Floats, effects: Floats
) -> None:
    """Fill the coefficients' factors and the effects' moves."""
    if problem.rows is not None:
        raise EngineError(
            "Moments of coefficients need cross-products that are kept, and those of this model "
            "are summed from its rows."
        )
    if draws.shape[-1] != problem.layout.ndim:
        raise EngineError(
            f"The draws have {draws.shape[-1]} coordinates; the model has {problem.layout.ndim}."
        )
    buffer = pack_marginal(problem, compressed=False, lanes=False)
    at = np.cumsum([0, *(bar.n_levels * bar.q for bar in problem.bars)]).astype(np.int64)
    levels, places = _places(problem, None)
    kernel = conditional_kernel(not problem.plain_residual)
    kernel(buffer, np.ascontiguousarray(draws), gamma, at, levels, places, corner, effects)

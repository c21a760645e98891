"""The conditional posterior: log density with gradient, and the way back from its coordinates.

Group effects stand among the coordinates. The density is that of the unconstrained vector, every
normalising constant and Jacobian included, so that it equals PyMC's.
"""

from dataclasses import dataclass

import numpy as np

from hiermodels.engines.buffers import NDIM
from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.densities import density_callback
from hiermodels.engines.packing import pack
from hiermodels.engines.problem import (
    BarBlock,
    BarSlices,
    ConditionalProblem,
    Floats,
    Layout,
    PriorRow,
    layout,
    supports,
)
from hiermodels.errors import EngineError

__all__ = [
    "BarBlock",
    "BarSlices",
    "ConditionalProblem",
    "Coordinates",
    "Density",
    "Layout",
    "PriorRow",
    "constrain",
    "layout",
    "log_density",
    "supports",
]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Constrained values; the leading dimensions are those of the draws.

    Parameters
    ----------
    coef
        Population coefficients, (..., p), link scale.
    sds
        By bar, sds of the group effects, (..., q).
    chols
        By bar, Cholesky factor of the correlation matrix, (..., q, q); the identity where
        uncorrelated.
    effects
        By bar, the group effects, (..., J, q).
    sigma
        Residual sd, (...); None where the model has none.

    Examples
    --------
    >>> Coordinates(np.zeros((4, 2)), (), (), (), None).coef.shape
    (4, 2)
    """

    coef: Floats
    sds: tuple[Floats, ...]
    chols: tuple[Floats, ...]
    effects: tuple[Floats, ...]
    sigma: Floats | None


class Density(CompiledDensity):
    """The log density of one problem, ready to be called many times.

    Parameters
    ----------
    problem
        A model that `supports` accepts.

    Raises
    ------
    EngineError
        Where the kernel cannot run the model, with the reason.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "gaussian", "identity", np.array([1.0, 2.0]), np.ones((2, 1)), np.zeros(2),
    ...     None, None, None, None, PriorRow("HalfNormal", (1.0,)),
    ...     (PriorRow("Normal", (0.0, 2.5)),), ())
    >>> value, gradient = Density(problem)(np.array([1.5, 0.0]))
    >>> gradient.shape
    (2,)
    """

    def __init__(self, problem: ConditionalProblem) -> None:
        reason = supports(problem)
        if reason is not None:
            raise EngineError(f"The native engine cannot run this model: {reason}.")
        buffer = pack(problem)
        super().__init__(buffer, int(density_callback().address), int(buffer[NDIM]))


def log_density(problem: ConditionalProblem, x: Floats) -> tuple[float, Floats]:
    """Return the log density of the unconstrained vector and its gradient.

    Parameters
    ----------
    problem
        A model that `supports` accepts.
    x
        Unconstrained vector, (ndim,), as `layout` describes it.

    Returns
    -------
    value : float
        Normalised, Jacobians included; -inf where value or gradient is not finite.
    gradient : numpy.ndarray
        (ndim,).

    Raises
    ------
    EngineError
        Where the kernel cannot run the model, or x has another length.

    See Also
    --------
    Density : the same for many points of one model, without writing its buffer each time.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "bernoulli", "logit", np.array([0.0, 1.0]), np.ones((2, 1)), np.zeros(2),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), ())
    >>> value, gradient = log_density(problem, np.zeros(1))
    >>> round(value, 6)
    -2.305233
    """
    return Density(problem)(x)


def _correlation_factor(y: Floats, q: int) -> Floats:
    """Return Cholesky factors (..., q, q) of the correlations with arctanh y (..., q(q-1)/2)."""
    factor = np.zeros((*y.shape[:-1], q, q))
    z = np.tanh(y)
    size = np.abs(y)
    # 1 / cosh, in a form that does not overflow.
    sech = 2.0 * np.exp(-size) / (1.0 + np.exp(-2.0 * size))
    at = 0
    for i in range(q):
        rest = np.ones(y.shape[:-1])
        for j in range(i):
            factor[..., i, j] = z[..., at] * rest
            rest = rest * sech[..., at]
            at += 1
        factor[..., i, i] = rest
    return factor


def constrain(problem: ConditionalProblem, draws: Floats) -> Coordinates:
    """Turn unconstrained vectors into coefficients, sds, correlations, effects and sigma.

    Parameters
    ----------
    problem
        The model.
    draws
        (..., ndim), such as (chains, draws, ndim).

    Returns
    -------
    Coordinates
        The same leading dimensions.

    Raises
    ------
    EngineError
        Where the last dimension is not the model's.

    Examples
    --------
    >>> half = PriorRow("HalfNormal", (1.0,))
    >>> bar = BarBlock(np.ones((4, 1)), np.array([0, 0, 1, 1]), 2, (half,), None, False)
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(4), np.ones((4, 1)), np.zeros(4),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), (bar,))
    >>> constrain(problem, np.array([[0.0, np.log(2.0), 1.0, -1.0]])).effects[0]
    array([[[ 2.],
            [-2.]]])
    """
    parts = problem.layout
    if draws.shape[-1] != parts.ndim:
        raise EngineError(f"The draws have {draws.shape[-1]} coordinates, the model {parts.ndim}.")
    lead = draws.shape[:-1]
    sds, chols, effects = [], [], []
    for bar, part in zip(problem.bars, parts.bars, strict=True):
        sd = np.exp(draws[..., part.sds])
        if bar.n_correlations:
            chol = _correlation_factor(draws[..., part.correlations], bar.q)
        else:
            chol = np.broadcast_to(np.eye(bar.q), (*lead, bar.q, bar.q))
        values = draws[..., part.effects].reshape(*lead, bar.n_levels, bar.q)
        if not bar.centred:
            values = values @ np.swapaxes(sd[..., :, None] * chol, -1, -2)
        elif bar.shift is not None:
            flat = bar.shift.reshape(-1, bar.shift.shape[2])
            values = values - (draws[..., parts.coef] @ flat.T).reshape(values.shape)
        sds.append(sd)
        chols.append(chol)
        effects.append(values)
    sigma = None if parts.sigma is None else np.exp(draws[..., parts.sigma])
    return Coordinates(draws[..., parts.coef], tuple(sds), tuple(chols), tuple(effects), sigma)

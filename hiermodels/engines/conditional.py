"""The conditional posterior: log density with gradient, and the way back from its coordinates.

Group effects stand among the coordinates. The density is that of the unconstrained vector, every
normalising constant and Jacobian included, so that it equals PyMC's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from hiermodels.engines.buffers import NDIM
from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.collapsing import collapse
from hiermodels.engines.densities import density_callback
from hiermodels.engines.packing import pack
from hiermodels.engines.problem import (
    BarBlock,
    BarSlices,
    ConditionalProblem,
    Floats,
    Layout,
    ParameterBlock,
    ParameterSlices,
    PriorRow,
    layout,
)
from hiermodels.engines.supported import supports
from hiermodels.errors import EngineError

__all__ = [
    "BarBlock",
    "BarSlices",
    "ConditionalProblem",
    "Coordinates",
    "Density",
    "Layout",
    "ParameterBlock",
    "ParameterCoordinates",
    "ParameterSlices",
    "PriorRow",
    "constrain",
    "layout",
    "log_density",
    "supports",
]


@dataclass(frozen=True, eq=False)
class ParameterCoordinates:
    """Constrained values of one further parameter; the leading dimensions are those of the draws.

    Parameters
    ----------
    values
        Its values on the response scale, (..., S): one, one for each stratum, or the increasing
        cutpoints; (..., 0) for a linear predictor.
    coef
        Coefficients of its linear predictor, (..., p), link scale; (..., 0) for values.
    sds, chols, effects, nus
        Of its bars, as in `Coordinates`.

    Examples
    --------
    >>> ParameterCoordinates(np.ones((4, 1)), np.ones((4, 0))).values.shape
    (4, 1)
    """

    values: Floats
    coef: Floats
    sds: tuple[Floats, ...] = ()
    chols: tuple[Floats, ...] = ()
    effects: tuple[Floats, ...] = ()
    nus: tuple[Floats | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Constrained values; the leading dimensions are those of the draws.

    Parameters
    ----------
    coef
        Population coefficients, (..., p), link scale.
    sds
        By bar, sds of the group effects, (..., q); (..., B, q) where the bar has `by`.
    chols
        By bar, Cholesky factor of the correlation matrix, (..., q, q); the identity where
        uncorrelated; (..., B, q, q) where the bar has `by`.
    effects
        By bar, the group effects, (..., J, q).
    sigma
        Residual sd, (...); None where the model has none, or not one for all rows.
    parameters
        By name, the problem's `parameters`.
    nus
        By bar, degrees of freedom, (...); None where the effects are normal. Empty where no
        engine has set it: all normal.
    scales
        By published name, what coefficients or sds share: of a horseshoe, or R2D2M2.

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
    parameters: Mapping[str, ParameterCoordinates] = field(default_factory=dict)
    nus: tuple[Floats | None, ...] = ()
    scales: Mapping[str, Floats] = field(default_factory=dict)


class Density(CompiledDensity):
    """The log density of one problem, ready to be called many times.

    Rows that the likelihood cannot tell apart are merged first; see `collapse`.

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
        buffer = pack(collapse(problem))
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
    """Turn unconstrained vectors into coefficients, sds, effects, sigma and other parameters.

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
    coef = draws[..., parts.coef]
    bars = [_effects(*pair, coef, draws) for pair in zip(problem.bars, parts.bars, strict=True)]
    parameters = {
        block.name: _parameter(block, own, draws)
        for block, own in zip(problem.parameters, parts.parameters, strict=False)
    }
    sigma = None if parts.sigma is None else np.exp(draws[..., parts.sigma])
    sds, chols, effects, nus = _by_part(bars)
    return Coordinates(coef, sds, chols, effects, sigma, parameters, nus)


_Part = tuple[Floats, Floats, Floats, Floats | None]


def _by_part(
    bars: list[_Part],
) -> tuple[tuple[Floats, ...], tuple[Floats, ...], tuple[Floats, ...], tuple[Floats | None, ...]]:
    """Return sds, factors, effects and degrees of freedom of all bars."""
    return (
        tuple(bar[0] for bar in bars),
        tuple(bar[1] for bar in bars),
        tuple(bar[2] for bar in bars),
        tuple(bar[3] for bar in bars),
    )


def _parameter(block: ParameterBlock, part: ParameterSlices, draws: Floats) -> ParameterCoordinates:
    """Return one further parameter's values."""
    coef, values = draws[..., part.coef], draws[..., part.values]
    if block.link == "ordered":
        steps = np.concatenate([values[..., :1], np.exp(values[..., 1:])], axis=-1)
        values = np.cumsum(steps, axis=-1)
    elif block.link == "logit":
        values = expit(values)
    else:
        values = np.exp(values)
    bars = [_effects(*pair, coef, draws) for pair in zip(block.bars, part.bars, strict=True)]
    return ParameterCoordinates(values, coef, *_by_part(bars))


def _effects(bar: BarBlock, part: BarSlices, coef: Floats, draws: Floats) -> _Part:
    """Return one bar's sds, factors, effects and degrees of freedom."""
    lead = draws.shape[:-1]
    shape = lead if bar.by is None else (*lead, bar.n_by)
    sd = np.exp(draws[..., part.sds]).reshape(*shape, bar.q)
    chol = np.broadcast_to(np.eye(bar.q), (*shape, bar.q, bar.q))
    if bar.n_correlations:
        own = draws[..., part.correlations].reshape(*shape, bar.n_correlations)
        chol = _correlation_factor(own, bar.q)
    values = draws[..., part.effects].reshape(*lead, bar.n_levels, bar.q)
    values = values[..., np.argsort(bar.order), :] if bar.by is not None else values
    if not bar.centred:
        factor = sd[..., :, None] * chol
        if bar.cov is not None:
            values = np.linalg.cholesky(bar.cov) @ values
        if bar.by is None:
            values = values @ np.swapaxes(factor, -1, -2)
        else:
            values = (factor[..., bar.by, :, :] @ values[..., None])[..., 0]
    elif bar.shift is not None:
        flat = bar.shift.reshape(-1, bar.shift.shape[2])
        values = values - (coef @ flat.T).reshape(values.shape)
    nu = None if part.nu is None else np.exp(draws[..., part.nu])
    return sd, chol, values, nu

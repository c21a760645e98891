"""Starting points of the chains: random, reproducible, and with a finite density."""

import math
from typing import Final

import numpy as np

from hiermodels.engines.conditional import Density
from hiermodels.engines.problem import (
    BarBlock,
    BarSlices,
    ConditionalProblem,
    Floats,
    ParameterBlock,
    PriorRow,
)

ATTEMPTS: Final = 50

# Priors of an sd that are largest near 0: starting below their scale is never far out.
# The value is the place of the scale among the prior's numbers.
_FALLING: Final = {"HalfStudentT": 1, "HalfNormal": 0, "HalfCauchy": 0, "Exponential": 0}


def spread_of_response(problem: ConditionalProblem) -> float:
    """Return a rough scale of the linear predictor.

    Parameters
    ----------
    problem
        The model.

    Returns
    -------
    float
        sd of y - offset for Gaussian and t models (1 where that is 0), 1 on the link scale
        otherwise.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "gaussian", "identity", np.array([1.0, 3.0]), np.ones((2, 0)), np.zeros(2),
    ...     None, None, None, np.ones(2), None, (), ())
    >>> spread_of_response(problem)
    1.0
    """
    if problem.family not in ("gaussian", "t"):
        return 1.0
    sd = float(np.std(problem.y - problem.offset)) if problem.y.size else 0.0
    return sd if 0.0 < sd < math.inf else 1.0


def _centre(prior: PriorRow) -> tuple[float, float]:
    """Return location and scale of a coefficient's prior."""
    location, scale = prior.args[-2:]
    return location, scale


def _typical(prior: PriorRow) -> tuple[float, float]:
    """Return a typical log sd under the prior, and its spread (at most 1)."""
    args = prior.args
    if prior.kind in _FALLING:
        log_scale = math.log(args[_FALLING[prior.kind]])
        return (-log_scale if prior.kind == "Exponential" else log_scale) - 0.4, 1.0
    if prior.kind == "LogNormal":
        return args[0], min(1.0, args[1])
    centre = math.log(args[0] / args[1])
    return (-centre if prior.kind == "InverseGamma" else centre), min(1.0, args[0] ** -0.5)


def _log_sd(prior: PriorRow, scale: float, rng: np.random.Generator) -> float:
    """Return a starting log sd: typical of the prior, and where it allows, below the data's."""
    typical, width = _typical(prior)
    if prior.kind in _FALLING:
        typical = min(typical, math.log(scale))
    return typical + 0.5 * width * float(rng.uniform(-1.0, 1.0))


def _root_mean_square(columns: Floats) -> Floats:
    """Return the scale of each column, 1 for columns of zeros."""
    rms = np.sqrt(np.mean(columns**2, axis=0)) if len(columns) else np.ones(columns.shape[1])
    return np.where(rms > 0.0, rms, 1.0)


def _propose_bars(
    bars: tuple[BarBlock, ...],
    parts: tuple[BarSlices, ...],
    coef: Floats,
    spread: float,
    rng: np.random.Generator,
    x: Floats,
) -> None:
    """Write the starting coordinates of a predictor's bars."""
    for bar, part in zip(bars, parts, strict=True):
        scales = np.tile(spread / _root_mean_square(bar.z), bar.n_by)
        pairs = zip(bar.every_sd_prior, scales, strict=True)
        log_sds = np.array([_log_sd(prior, float(scale), rng) for prior, scale in pairs])
        x[part.sds] = log_sds
        x[part.correlations] = rng.uniform(-0.3, 0.3, bar.n_by * bar.n_correlations)
        effects = rng.uniform(-0.5, 0.5, (bar.n_levels, bar.q))
        if bar.centred:
            own = 0 if bar.by is None else bar.by
            effects = effects * np.exp(log_sds).reshape(bar.n_by, bar.q)[own]
        if bar.shift is not None:
            effects = effects + bar.shift @ coef
        x[part.effects] = effects[bar.order].ravel()
        if part.nu is not None and bar.nu_prior is not None:
            x[part.nu] = _typical(bar.nu_prior)[0] + 0.25 * rng.uniform(-1.0, 1.0)


def _near(prior: PriorRow, spread: float, rng: np.random.Generator) -> float:
    """Return a starting log sd near the data's, within the prior's reach."""
    typical, width = _typical(prior)
    lowest = -math.inf if prior.kind in _FALLING else typical - 2.0 * width
    near = min(max(math.log(spread), lowest), typical + 2.0 * width)
    return near + 0.25 * width * float(rng.uniform(-1.0, 1.0))


def _values(block: ParameterBlock, spread: float, rng: np.random.Generator) -> Floats:
    """Return the starting coordinates of a parameter's values."""
    count = len(block.values)
    jitter = rng.uniform(-1.0, 1.0, count)
    if block.link == "ordered":
        # Spread over where a standard predictor's categories lie, on the priors' scale.
        centre = np.mean([_centre(prior)[0] for prior in block.values])
        step = math.log(min(2.0 / max(count - 1, 1), 1.0))
        start = centre - 0.5 * (count - 1) * math.exp(step) + 0.2 * jitter[0]
        return np.concatenate([[start], step + 0.2 * jitter[1:]])
    if block.link == "logit":
        odds = [math.log(prior.args[0] / prior.args[1]) for prior in block.values]
        return np.clip(odds, -3.0, 3.0) + 0.5 * jitter
    if block.name == "sigma":
        return np.array([_near(prior, spread, rng) for prior in block.values])
    return np.array([_typical(prior)[0] for prior in block.values]) + 0.5 * jitter


def propose(problem: ConditionalProblem, rng: np.random.Generator) -> Floats:
    """Return one random starting point, not yet checked.

    Coefficients stand at their priors' centres plus a jitter of at most the prior's scale and of
    what moves the linear predictor by the response's sd; sds are typical of their priors, sigma
    near the response's sd within the prior's reach, effects and correlations near 0, further
    parameters typical of their priors.

    Parameters
    ----------
    problem
        The model.
    rng
        Source of the jitter.

    Returns
    -------
    numpy.ndarray
        Unconstrained vector, (ndim,).

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(3), np.ones((3, 1)), np.zeros(3),
    ...     None, None, None, None, None, (PriorRow("Normal", (5.0, 0.1)),), ())
    >>> bool(abs(propose(problem, np.random.default_rng(1))[0] - 5.0) < 0.1)
    True
    """
    parts = problem.layout
    spread = spread_of_response(problem)
    x = np.zeros(parts.ndim)
    centres = np.array([_centre(prior) for prior in problem.coef_priors]).reshape(-1, 2)
    reach = np.minimum(centres[:, 1], spread / _root_mean_square(problem.X))
    x[parts.coef] = centres[:, 0] + reach * rng.uniform(-1.0, 1.0, len(centres))
    _propose_bars(problem.bars, parts.bars, x[parts.coef], spread, rng, x)
    if parts.sigma is not None:
        sigma = next(block for block in problem.blocks if block.name == "sigma").values[0]
        x[parts.sigma] = _near(sigma, spread, rng)
    for block, own in zip(problem.blocks, parts.parameters, strict=True):
        if own.values.start == parts.sigma:
            continue
        x[own.values] = _values(block, spread, rng)
        location = np.array([_centre(prior) for prior in block.coef_priors]).reshape(-1, 2)
        if block.X is not None:
            reach = np.minimum(location[:, 1], 0.5 / _root_mean_square(block.X))
            x[own.coef] = location[:, 0] + reach * rng.uniform(-1.0, 1.0, len(location))
        _propose_bars(block.bars, own.bars, x[own.coef], 0.5, rng, x)
    return x


def starting_point(problem: ConditionalProblem, density: Density, seed: int) -> Floats:
    """Return a starting point; the first of `ATTEMPTS` proposals whose density is finite.

    Parameters
    ----------
    problem
        The model.
    density
        Its log density.
    seed
        The same seed gives the same point.

    Returns
    -------
    numpy.ndarray
        Unconstrained vector, (ndim,); where no proposal is finite the last one, which the sampler
        refuses.

    Examples
    --------
    >>> problem = ConditionalProblem(
    ...     "poisson", "log", np.ones(3), np.ones((3, 1)), np.zeros(3),
    ...     None, None, None, None, None, (PriorRow("Normal", (0.0, 1.0)),), ())
    >>> density = Density(problem)
    >>> points = [starting_point(problem, density, seed) for seed in (1, 1, 2)]
    >>> bool(points[0] == points[1]), bool(points[0] == points[2])
    (True, False)
    """
    rng = np.random.default_rng(seed)
    x = propose(problem, rng)
    for _ in range(ATTEMPTS - 1):
        if math.isfinite(density(x)[0]):
            break
        # Poisson predictors overflow where a start is far out: draw the next ones closer in.
        x = propose(problem, rng)
    return x

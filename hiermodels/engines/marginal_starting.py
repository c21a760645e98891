"""Starting points of the marginal engine's chains: random, reproducible, and finite."""

import math

import numpy as np

from hiermodels.engines.calling import CompiledDensity
from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.problem import COEF_KINDS, Floats, PriorRow
from hiermodels.engines.starting import _FALLING, ATTEMPTS, _centre, _log_sd, _typical


def response_spread(problem: MarginalProblem) -> float:
    """Return the sd of the response about the regression for all, 1 where that is 0."""
    square = float(problem.gram.corner.tail[0, -1, -1])
    weight = max(float(problem.gram.n), 1.0)
    sd = math.sqrt(square / weight) if square > 0.0 else 1.0
    return sd if 0.0 < sd < math.inf else 1.0


def _column_scales(problem: MarginalProblem, grouping: int, first: int, q: int) -> Floats:
    """Return root mean squares of a bar's columns, 1 for columns of zeros."""
    rms = problem.gram.groupings[grouping].root_mean_squares[first : first + q]
    return np.where(rms > 0.0, rms, 1.0)


def _sigma_start(prior: PriorRow, spread: float, rng: np.random.Generator) -> float:
    """Return a log sd near the response's, within the prior's reach."""
    typical, width = _typical(prior)
    lowest = -math.inf if prior.kind in _FALLING else typical - 2.0 * width
    near = min(max(math.log(spread), lowest), typical + 2.0 * width)
    return near + 0.25 * width * float(rng.uniform(-1.0, 1.0))


def propose(problem: MarginalProblem, rng: np.random.Generator) -> Floats:
    """Return one random starting point, not yet checked; all sds are among its coordinates.

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
    """
    parts, gram = problem.layout, problem.gram
    spread = response_spread(problem)
    x = np.zeros(parts.ndim)
    rows = [problem.coef_priors[k] for k in problem.others]
    centres = np.array([_centre(prior) for prior in rows]).reshape(-1, 2)
    squares = np.diag(gram.corner.tail[0])[gram.n_coefs : gram.n_coefs + gram.n_others]
    rms = np.sqrt(squares / max(gram.n, 1))
    reach = np.minimum(centres[:, 1], spread / np.where(rms > 0.0, rms, 1.0))
    # where the prior allows, near what the regression for all says
    near = np.clip(gram.other_centre, centres[:, 0] - centres[:, 1], centres[:, 0] + centres[:, 1])
    x[parts.others] = near + 0.2 * reach * rng.uniform(-1.0, 1.0, len(rows))
    for bar, own, free in zip(problem.bars, parts.sds, parts.correlations, strict=True):
        scales = spread / _column_scales(problem, bar.grouping, bar.first, bar.q)
        pairs = zip(bar.sd_priors, scales, strict=True)
        x[own] = [_log_sd(prior, float(scale), rng) for prior, scale in pairs]
        x[free] = rng.uniform(-0.3, 0.3, bar.n_correlations)
    at = parts.phi.start
    for prior in problem.residual_sds:
        if prior.kind in COEF_KINDS:
            location, scale = _centre(prior)
            x[at] = location + 0.2 * min(scale, 1.0) * rng.uniform(-1.0, 1.0)
        else:
            x[at] = _sigma_start(prior, spread, rng)
        at += 1
    x[at:] = rng.uniform(-0.3, 0.3, parts.ndim - at)
    return x


def marginal_start(problem: MarginalProblem, density: CompiledDensity, seed: int) -> Floats:
    """Return a starting point; the first of `ATTEMPTS` proposals whose density is finite.

    Parameters
    ----------
    problem
        The model.
    density
        Its log density, by the scales where sds follow from them; see `mixed.sampled_density`.
    seed
        The same seed gives the same point.
    """
    rng = np.random.default_rng(seed)
    x = _proposal(problem, rng)
    for _ in range(ATTEMPTS - 1):
        if math.isfinite(density(x)[0]):
            break
        x = _proposal(problem, rng)
    return x


def _proposal(problem: MarginalProblem, rng: np.random.Generator) -> Floats:
    """Return a proposal in the coordinates that are sampled."""
    x = propose(problem, rng)
    return x if problem.mixing is None else problem.mixing.start(x, problem.layout, rng)

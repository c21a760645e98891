"""Responses by level as array functions: categories without an order, and counts of them.

Each level of the response has a linear predictor of its own, which come as parameters called by
:func:`hiermodels.spec.names.level_parameter`. Under the softmax link they are log odds against the
first level, whose own predictor is the mean's and zero; the Dirichlet-multinomial's are positive
concentrations, one for every level. Rows are last but for the axis of levels.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hiermodels.engines.response_links import LinkedFamily
from hiermodels.errors import EngineError
from hiermodels.spec.names import level_parameter

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]

BY_LEVEL: Final = frozenset({"categorical", "multinomial", "dirichlet_multinomial"})
"""Families with a linear predictor for each level of the response."""
_LEAST: Final = 1e-300
_MOST: Final = 1e300


def level_parameters(family: LinkedFamily) -> tuple[str, ...]:
    """Return the names of the levels' linear predictors, none of a family without levels."""
    levels: tuple[str, ...] = getattr(family, "levels", ())
    return tuple(level_parameter(level) for level in levels)


def concentrations(family: LinkedFamily, p: Parameters) -> Array:
    """Return the Dirichlet distribution's concentrations (..., n, K), kept where sums exist."""
    found = np.stack(np.broadcast_arrays(*(p[name] for name in _names(family))), axis=-1)
    return np.asarray(np.clip(found, _LEAST, _MOST))


def level_log_probabilities(family: LinkedFamily, eta: Array, p: Parameters) -> Array:
    """Return the log probability of each level (..., n, K).

    Parameters
    ----------
    family : Family
        With its levels.
    eta : ndarray (..., n)
        The first level's linear predictor under the softmax link.
    p : mapping of str to ndarray (..., n)
        The levels' linear predictors, or their concentrations.
    """
    if family.link == "softmax":
        own = np.broadcast_arrays(eta, *(p[name] for name in _names(family)))
        return np.asarray(special.log_softmax(np.stack(own, axis=-1), axis=-1))
    alpha = concentrations(family, p)
    return np.asarray(np.log(alpha) - np.log(alpha.sum(axis=-1, keepdims=True)))


def _names(family: LinkedFamily) -> tuple[str, ...]:
    """Return the names of the levels' linear predictors; raise EngineError without levels."""
    found = level_parameters(family)
    if not found:
        raise EngineError(
            f"The family {family.name!r} does not know the response's levels: take the family of "
            "a model, or Family.with_levels(levels)."
        )
    return found


def categorical(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    """Return log likelihoods (..., n) of codes (n,)."""
    every = level_log_probabilities(family, eta, p)
    code = np.broadcast_to(y.astype(np.intp), every.shape[:-1])
    return np.take_along_axis(every, code[..., None], axis=-1)[..., 0]


def multinomial(family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array) -> Array:
    """Return log likelihoods (..., n) of counts by level (n, K)."""
    every = level_log_probabilities(family, eta, p)
    with np.errstate(invalid="ignore"):
        hits = np.where(y == 0, 0.0, y * every)
    return np.asarray(_log_ways(y) + hits.sum(axis=-1))


def dirichlet_multinomial(
    family: LinkedFamily, y: Array, eta: Array, p: Parameters, trials: Array
) -> Array:
    """Return log likelihoods (..., n) of counts by level (n, K)."""
    alpha = concentrations(family, p)
    rising = _log_rising(alpha, y).sum(axis=-1)
    return np.asarray(_log_ways(y) + rising - _log_rising(alpha.sum(axis=-1), y.sum(axis=-1)))


def _log_ways(y: Array) -> Array:
    """Return the logarithm of the multinomial coefficient of counts (n, K), (n,)."""
    return np.asarray(special.gammaln(y.sum(axis=-1) + 1.0) - special.gammaln(y + 1.0).sum(axis=-1))


def _log_rising(a: Array, k: Array) -> Array:
    """Return log(gamma(a + k) / gamma(a)), without cancellation where a is large."""
    count = np.where(k == 0, 1.0, k)
    # B(a, k) = gamma(a) gamma(k) / gamma(a + k)
    return np.where(k == 0, 0.0, special.gammaln(count) - special.betaln(a, count))


def level_mean(family: LinkedFamily, eta: Array, p: Parameters, trials: Array) -> Array:
    """Return probabilities, or expected counts in a number of trials, (..., n, K)."""
    found = np.exp(level_log_probabilities(family, eta, p))
    return found if family.name == "categorical" else found * trials[..., None]


def level_variance(family: LinkedFamily, eta: Array, p: Parameters, trials: Array) -> Array:
    """Return the variance of each level's indicator or count (..., n, K)."""
    share = np.exp(level_log_probabilities(family, eta, p))
    spread = share * (1.0 - share)
    if family.name == "categorical":
        return np.asarray(spread)
    n = trials[..., None]
    if family.name == "multinomial":
        return np.asarray(n * spread)
    total = concentrations(family, p).sum(axis=-1, keepdims=True)
    return np.asarray(n * spread * (n + total) / (1.0 + total))


def draw_levels(
    family: LinkedFamily, eta: Array, p: Parameters, trials: Array, rng: np.random.Generator
) -> Array:
    """Draw codes of levels (..., n), or counts by level (..., n, K)."""
    if family.name == "categorical":
        share = np.exp(level_log_probabilities(family, eta, p))
        below = np.cumsum(share[..., :-1], axis=-1)
        return np.sum(rng.random(below.shape[:-1])[..., None] > below, axis=-1).astype(np.float64)
    if family.name == "multinomial":
        share = np.exp(level_log_probabilities(family, eta, p))
    else:
        drawn = rng.standard_gamma(concentrations(family, p))
        total = drawn.sum(axis=-1, keepdims=True)
        # where every gamma draw underflows, one level takes all
        mean = np.exp(level_log_probabilities(family, eta, p))
        share = np.where(total > 0, drawn / np.where(total > 0, total, 1.0), _one(mean, rng))
    count = np.broadcast_to(trials, share.shape[:-1]).astype(np.int64)
    # rounding may leave the sum of the first shares a digit above one
    return rng.multinomial(count, share / share.sum(axis=-1, keepdims=True)).astype(np.float64)


def _one(share: Array, rng: np.random.Generator) -> Array:
    """Return indicators of one level drawn by its share (..., n, K)."""
    below = np.cumsum(share, axis=-1)[..., :-1]
    code = np.sum(rng.random(below.shape[:-1])[..., None] > below, axis=-1)
    return np.asarray(np.arange(share.shape[-1]) == code[..., None], dtype=np.float64)

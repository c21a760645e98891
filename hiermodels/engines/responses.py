"""The response distributions as array functions: log likelihood, draws, mean and variance.

Every function takes the family (anything with ``name`` and ``link``), the linear predictor, and
the other parameters on the response scale. Everything broadcasts, rows last: a linear predictor
of shape (draws, rows) goes with a parameter of shape (draws, 1), (draws, rows) or (). The cutpoints
of the cumulative family have the shape (draws, K - 1), without an axis of rows; its response is the
code of a category, 0 to K - 1, as that of the categorical family; counts by category are (n, K).
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiermodels.engines.log_likelihoods import LOG_LIKELIHOODS
from hiermodels.engines.response_levels import (
    BY_LEVEL,
    draw_levels,
    level_mean,
    level_parameters,
    level_variance,
)
from hiermodels.engines.response_links import (
    LinkedFamily,
    complement,
    cumulative_log_probabilities,
    mean,
)
from hiermodels.errors import EngineError

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]

PARAMETERS: dict[str, tuple[str, ...]] = {
    "gaussian": ("sigma",),
    "t": ("sigma", "nu"),
    "bernoulli": (),
    "binomial": (),
    "beta_binomial": ("phi",),
    "poisson": (),
    "negativebinomial": ("shape",),
    "gamma": ("shape",),
    "beta": ("phi",),
    "cumulative": ("cutpoints",),
    "zero_inflated_poisson": ("zi",),
    "zero_inflated_negativebinomial": ("shape", "zi"),
    "categorical": (),
    "multinomial": (),
    "dirichlet_multinomial": (),
}
"""The parameters of each family besides its mean; see :func:`parameter_names`."""

CATEGORICAL: frozenset[str] = frozenset({"cumulative", "categorical"})
"""Families whose mean is a probability for each category, and whose response is a code."""

WITH_TRIALS: frozenset[str] = frozenset({"binomial", "beta_binomial"})
"""Families that count successes in a number of trials."""

# Beyond it NumPy cannot draw, and the normal distribution is the Poisson's to 8 digits.
_LARGE_COUNT = 1e15
_TINY = float(np.finfo(np.float64).tiny)


def parameter_names(family: LinkedFamily) -> tuple[str, ...]:
    """Return the parameters of a family besides its mean, the levels' linear predictors included.

    Parameters
    ----------
    family : Family

    Returns
    -------
    tuple of str
        Empty too for a family without a response distribution here.

    Examples
    --------
    >>> from hiermodels import Family
    >>> parameter_names(Family("categorical").with_levels(["a", "b", "c"]))
    ('mu_b', 'mu_c')
    """
    return (*PARAMETERS.get(family.name, ()), *level_parameters(family))


def log_likelihood(
    family: LinkedFamily,
    y: ArrayLike,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
    trials: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Array:
    """Return the log likelihood of each observation.

    Parameters
    ----------
    family : Family
    y : array_like (n,)
        In the family's support; for ``cumulative`` and ``categorical`` codes 0 to K - 1; counts by
        category (n, K).
    eta : array_like (..., n)
        The linear predictor of the mean.
    parameters : mapping of str to array_like
        The family's other parameters, on the response scale; see the module's text for shapes.
    trials : array_like (n,), optional
        For ``binomial`` and ``beta_binomial``; 1 by default.
    weights : array_like (n,), optional
        What each observation's log likelihood is multiplied by.

    Returns
    -------
    ndarray (..., n)

    Raises
    ------
    EngineError
        The family or its link has no function here, or a parameter lacks.

    Notes
    -----
    Computed from the linear predictor, and so finite far out: a Bernoulli observation at
    eta = 700 on the wrong side has the log likelihood -700. ``shape`` is the one for which the
    negative binomial's variance is mu + mu^2/shape and the gamma's mu^2/shape; ``phi`` is
    alpha + beta (Ferrari and Cribari-Neto, 2004, https://doi.org/10.1080/0266476042000214501).

    Examples
    --------
    >>> from hiermodels import Family
    >>> log_likelihood(Family("bernoulli"), [1.0, 0.0], [-700.0, 0.0], {}).tolist()
    [-700.0, -0.6931471805599453]
    """
    values = _checked(family, parameters)
    n = np.asarray(1.0 if trials is None else trials, dtype=np.float64)
    with np.errstate(over="ignore", divide="ignore"):
        found = LOG_LIKELIHOODS[family.name](family, _floats(y), _floats(eta), values, n)
    return found if weights is None else np.asarray(found * _floats(weights))


def mean_response(
    family: LinkedFamily,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
    trials: ArrayLike | None = None,
) -> Array:
    """Return the expected response.

    Parameters
    ----------
    family, eta, parameters, trials
        As for :func:`log_likelihood`. Parameters that the mean does not depend on may lack.

    Returns
    -------
    ndarray (..., n)
        With ``trials`` the expected number of successes; for zero-inflated families the zeros are
        counted in; for ``t`` the location, which is the mean where ``nu`` is above 1. For
        ``cumulative`` and ``categorical`` the probability of each category, for counts by
        category their expectations, (..., n, K).

    Examples
    --------
    >>> from hiermodels import Family
    >>> mean_response(Family("binomial"), [0.0], {}, trials=[10]).tolist()
    [5.0]
    """
    needed = [name for name in PARAMETERS.get(family.name, ()) if name in ("zi", "cutpoints")]
    values = _checked(family, parameters, [*needed, *level_parameters(family)])
    eta = _floats(eta)
    if family.name in BY_LEVEL:
        return level_mean(family, eta, values, _floats(1.0 if trials is None else trials))
    if family.name in CATEGORICAL:
        return np.exp(cumulative_log_probabilities(family, eta, values["cutpoints"]))
    mu = mean(family, eta)
    if family.name in WITH_TRIALS and trials is not None:
        return np.asarray(mu * _floats(trials))
    return np.asarray(mu * (1.0 - values["zi"])) if "zi" in needed else mu


def variance_response(
    family: LinkedFamily,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
    trials: ArrayLike | None = None,
) -> Array:
    """Return the variance of the response around its expectation.

    Parameters
    ----------
    family, eta, parameters, trials
        As for :func:`log_likelihood`.

    Returns
    -------
    ndarray (..., n)
        Infinite for ``t`` with ``nu`` of at most 2. For ``cumulative`` and ``categorical`` the
        variance of each category's indicator, for counts by category of each, (..., n, K).

    Examples
    --------
    >>> from hiermodels import Family
    >>> variance_response(Family("binomial"), [0.0], {}, trials=[10]).tolist()
    [2.5]
    """
    values = _checked(family, parameters)
    eta = _floats(eta)
    if family.name in BY_LEVEL:
        return level_variance(family, eta, values, _floats(1.0 if trials is None else trials))
    if family.name in CATEGORICAL:
        p = np.exp(cumulative_log_probabilities(family, eta, values["cutpoints"]))
        return np.asarray(p * (1.0 - p))
    n = np.asarray(1.0 if trials is None else trials, dtype=np.float64)
    with np.errstate(over="ignore", divide="ignore"):
        found = _VARIANCES[family.name](family, eta, values, n)
    return np.array(np.broadcast_to(found, np.broadcast_shapes(eta.shape, np.shape(found))))


def draw_response(
    family: LinkedFamily,
    eta: ArrayLike,
    parameters: Mapping[str, ArrayLike],
    rng: np.random.Generator,
    trials: ArrayLike | None = None,
) -> Array:
    """Draw a response for each draw of the parameters.

    Parameters
    ----------
    family, eta, parameters, trials
        As for :func:`log_likelihood`.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray (..., n)
        Counts and codes of categories are whole numbers, as float64; counts by category
        (..., n, K).

    Examples
    --------
    >>> import numpy as np
    >>> from hiermodels import Family
    >>> drawn = draw_response(Family("poisson"), np.zeros(3), {}, np.random.default_rng(1))
    >>> drawn.shape
    (3,)
    """
    values = _checked(family, parameters)
    eta = _floats(eta)
    n = np.asarray(1.0 if trials is None else trials, dtype=np.float64)
    if family.name in BY_LEVEL:
        return draw_levels(family, eta, values, n, rng)
    if family.name in CATEGORICAL:
        return _draw_category(family, eta, values, rng)
    shape = np.broadcast_shapes(eta.shape, n.shape, *(value.shape for value in values.values()))
    full = {name: np.broadcast_to(value, shape) for name, value in values.items()}
    drawn = _DRAWS[family.name](
        family, np.broadcast_to(eta, shape), full, np.broadcast_to(n, shape), rng
    )
    return np.asarray(drawn, dtype=np.float64)


# --- checks -------------------------------------------------------------------------------------


def _floats(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=np.float64)


def _checked(
    family: LinkedFamily,
    parameters: Mapping[str, ArrayLike],
    needed: list[str] | None = None,
) -> dict[str, Array]:
    """Return the parameters that a family needs; raise EngineError where one lacks."""
    if family.name not in PARAMETERS:
        raise EngineError(
            f"The family {family.name!r} has no response distribution here; known are "
            f"{', '.join(PARAMETERS)}."
        )
    names = parameter_names(family) if needed is None else needed
    missing = [name for name in names if name not in parameters]
    if missing:
        raise EngineError(
            f"The family {family.name!r} needs {' and '.join(missing)}; got "
            f"{', '.join(parameters) or 'no parameters'}."
        )
    return {name: _floats(parameters[name]) for name in names}


# --- variances ----------------------------------------------------------------------------------

_Variance = Callable[[LinkedFamily, Array, Parameters, Array], Array]


def _t_variance(nu: Array, sigma: Array) -> Array:
    """Return the variance of a scaled t distribution."""
    return np.where(nu > 2, sigma**2 * nu / np.maximum(nu - 2.0, _TINY), np.inf)


def _spread(family: LinkedFamily, eta: Array) -> Array:
    """Return mu (1 - mu) of a probability, exact far out."""
    return mean(family, eta) * complement(family, eta)


def _inflated(mu: Array, zi: Array, extra: Array | float) -> Array:
    """Return the variance of a zero-inflated count with variance mu + extra mu^2."""
    return np.asarray((1.0 - zi) * (mu + (extra + zi) * mu**2))


_VARIANCES: dict[str, _Variance] = {
    "gaussian": lambda family, eta, p, n: p["sigma"] ** 2,
    "t": lambda family, eta, p, n: _t_variance(p["nu"], p["sigma"]),
    "bernoulli": lambda family, eta, p, n: _spread(family, eta),
    "binomial": lambda family, eta, p, n: n * _spread(family, eta),
    "beta_binomial": lambda family, eta, p, n: (
        n * _spread(family, eta) * (p["phi"] + n) / (p["phi"] + 1.0)
    ),
    "poisson": lambda family, eta, p, n: mean(family, eta),
    "negativebinomial": lambda family, eta, p, n: (
        mean(family, eta) + mean(family, eta) ** 2 / p["shape"]
    ),
    "gamma": lambda family, eta, p, n: mean(family, eta) ** 2 / p["shape"],
    "beta": lambda family, eta, p, n: _spread(family, eta) / (p["phi"] + 1.0),
    "zero_inflated_poisson": lambda family, eta, p, n: _inflated(mean(family, eta), p["zi"], 0.0),
    "zero_inflated_negativebinomial": lambda family, eta, p, n: _inflated(
        mean(family, eta), p["zi"], 1.0 / p["shape"]
    ),
}


# --- draws --------------------------------------------------------------------------------------

_Draw = Callable[[LinkedFamily, Array, Parameters, Array, np.random.Generator], Array]


def _draw_counts(rate: Array, rng: np.random.Generator) -> Array:
    """Draw Poisson counts; huge rates by the normal distribution, infinite ones are infinite."""
    huge = rate > _LARGE_COUNT
    counts = rng.poisson(np.where(huge, 0.0, rate)).astype(np.float64)
    if np.any(huge):
        normal = rng.standard_normal(rate.shape)
        counts = np.where(huge, np.rint(rate + np.sqrt(rate) * normal), counts)
    return counts


def _draw_beta(family: LinkedFamily, eta: Array, phi: Array, rng: np.random.Generator) -> Array:
    """Draw probabilities around the mean; parameters that underflow are kept above zero."""
    a = np.maximum(phi * mean(family, eta), _TINY)
    return rng.beta(a, np.maximum(phi * complement(family, eta), _TINY))


def _draw_rates(family: LinkedFamily, eta: Array, shape: Array, rng: np.random.Generator) -> Array:
    """Draw gamma distributed values with the family's mean and variance mean^2/shape."""
    return rng.standard_gamma(shape) * (mean(family, eta) / shape)


def _draw_trials(n: Array, p: Array, rng: np.random.Generator) -> Array:
    return rng.binomial(n.astype(np.int64), p).astype(np.float64)


def _emptied(counts: Array, zi: Array, rng: np.random.Generator) -> Array:
    """Set counts to zero with probability zi."""
    return np.where(rng.random(counts.shape) < zi, 0.0, counts)


_DRAWS: dict[str, _Draw] = {
    "gaussian": lambda f, eta, p, n, rng: rng.normal(mean(f, eta), p["sigma"]),
    "t": lambda f, eta, p, n, rng: mean(f, eta) + p["sigma"] * rng.standard_t(p["nu"]),
    "bernoulli": lambda f, eta, p, n, rng: (rng.random(eta.shape) < mean(f, eta)).astype(float),
    "binomial": lambda f, eta, p, n, rng: _draw_trials(n, mean(f, eta), rng),
    "beta_binomial": lambda f, eta, p, n, rng: _draw_trials(
        n, _draw_beta(f, eta, p["phi"], rng), rng
    ),
    "poisson": lambda f, eta, p, n, rng: _draw_counts(mean(f, eta), rng),
    "negativebinomial": lambda f, eta, p, n, rng: _draw_counts(
        _draw_rates(f, eta, p["shape"], rng), rng
    ),
    "gamma": lambda f, eta, p, n, rng: _draw_rates(f, eta, p["shape"], rng),
    "beta": lambda f, eta, p, n, rng: _draw_beta(f, eta, p["phi"], rng),
    "zero_inflated_poisson": lambda f, eta, p, n, rng: _emptied(
        _draw_counts(mean(f, eta), rng), p["zi"], rng
    ),
    "zero_inflated_negativebinomial": lambda f, eta, p, n, rng: _emptied(
        _draw_counts(_draw_rates(f, eta, p["shape"], rng), rng), p["zi"], rng
    ),
}


def _draw_category(
    family: LinkedFamily, eta: Array, p: Parameters, rng: np.random.Generator
) -> Array:
    """Draw the code of a category by inverting the distribution function."""
    below = mean(family, p["cutpoints"][..., None, :] - eta[..., None])
    at = rng.random(below.shape[:-1])
    return np.sum(at[..., None] > below, axis=-1).astype(np.float64)

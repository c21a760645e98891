"""Responses by level in a PyMC graph: from the linear predictors of all levels (n, K).

Densities start from linear predictors, so that no probability rounds to zero.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hiermodels.fitting.graph_functions import log_rising
from hiermodels.fitting.graph_parameters import ParameterValue
from hiermodels.spec.families import Family

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def level_predictors(family: Family, eta: Any, parameters: Mapping[str, ParameterValue]) -> Any:
    """Return the linear predictors of all levels (n, K), under softmax the first one's zero."""
    own = [parameters[parameter.name].on_link for parameter in family.parameters]
    first = [eta] if family.link == "softmax" else []
    return pt.stack([*first, *own], axis=-1)


def categorical_density() -> Pair:
    """Return the log density of codes (n,) and PyMC's distribution of them."""

    def log_density(y: Any, eta: Any) -> Any:
        chosen = pt.eq(pt.arange(eta.shape[-1]), pt.cast(y, "int64")[..., None])
        own = pt.sum(pt.switch(chosen, eta, 0.0), axis=-1)
        return own - pm.math.logsumexp(eta, axis=-1)

    def draw(eta: Any, size: Any) -> Any:
        return pm.Categorical.dist(p=pm.math.softmax(eta, axis=-1), size=size)

    return log_density, draw


def multinomial_density(trials: np.ndarray | None) -> Pair:
    """Return the log density of counts by level (n, K) and PyMC's distribution of them."""
    n = _whole(trials)

    def log_density(y: Any, eta: Any) -> Any:
        shares = eta - pm.math.logsumexp(eta, axis=-1, keepdims=True)
        return _log_ways(y) + pt.sum(y * shares, axis=-1)

    def draw(eta: Any, size: Any) -> Any:
        return pm.Multinomial.dist(n=n, p=pm.math.softmax(eta, axis=-1), size=size)

    return log_density, draw


def dirichlet_multinomial_density(trials: np.ndarray | None) -> Pair:
    """Return the same of counts whose shares have a Dirichlet distribution, by log parameters."""
    n = _whole(trials)

    def log_density(y: Any, eta: Any) -> Any:
        rising = pt.sum(log_rising(eta, y), axis=-1)
        return (
            _log_ways(y) + rising - log_rising(pm.math.logsumexp(eta, axis=-1), pt.sum(y, axis=-1))
        )

    def draw(eta: Any, size: Any) -> Any:
        return pm.DirichletMultinomial.dist(n=n, a=pt.exp(eta), size=size)

    return log_density, draw


def _whole(trials: np.ndarray | None) -> Any:
    """Return numbers of trials as PyMC takes them."""
    return np.int64(1) if trials is None else trials.astype(np.int64)


def _log_ways(y: Any) -> Any:
    """Return the logarithm of the multinomial coefficient."""
    return pt.gammaln(pt.sum(y, axis=-1) + 1.0) - pt.sum(pt.gammaln(y + 1.0), axis=-1)

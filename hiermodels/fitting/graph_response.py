"""The response in a PyMC graph: families, weights, censoring and truncation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hiermodels.fitting.graph_bounds import log_rows
from hiermodels.fitting.graph_densities import RowDensity, row_density
from hiermodels.fitting.graph_families import plain_distribution
from hiermodels.fitting.graph_functions import log_odds, mean_of
from hiermodels.fitting.graph_levels import level_predictors
from hiermodels.fitting.graph_parameters import ParameterValue
from hiermodels.fitting.graph_parts import data, free_name
from hiermodels.fitting.graph_residual import add_correlated, row_sd
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.names import CATEGORY_DIM, OBS


def add_response(
    design: Design,
    family: Family,
    eta: Any,
    parameters: Mapping[str, ParameterValue],
    sd: Any,
    correlation: Any,
) -> None:
    """Add the response's distribution.

    Parameters
    ----------
    design : Design
    family : Family
    eta : variable (n,)
        The linear predictor.
    parameters : mapping of str to ParameterValue
        The family's further parameters.
    sd : variable or None
        A Gaussian's residual sd where it is no linear predictor.
    correlation : variable or None
        Of correlated residuals.
    """
    name = free_name(design.response)
    if family.name == "gaussian":
        if "sigma" in parameters:
            sd = pt.exp(parameters["sigma"].on_link)
        rows = row_sd(design, sd)
        if correlation is not None:
            add_correlated(name, design, eta, rows, correlation)
            return
        inputs = [eta, rows]
    elif family.by_level:
        inputs = [level_predictors(family, eta, parameters)]
    elif not family.has_kernel and not family.ordinal:
        _add_plain(name, design, *plain_distribution(family, design.trials, eta, parameters))
        return
    else:
        inputs = [eta, *(parameters[own.name].on_link for own in family.parameters)]
    density = row_density(family, design.trials)
    bounded = design.censoring is not None or design.truncation is not None
    if design.weights is not None:
        total = log_rows(design, family, density, pt.as_tensor(design.y), inputs)
        pm.Potential(f"weighted_{name}", pt.sum(data("weights", design.weights) * total))
    elif bounded or family.name not in _PLAIN:
        _add_custom(name, design, family, density, inputs)
    else:
        _add_plain(name, design, *_plain(design, family, inputs))


def _add_plain(name: str, design: Design, distribution: Any, arguments: dict[str, Any]) -> None:
    """Add a response with one of PyMC's distributions."""
    if design.weights is None:
        distribution(name, **arguments, observed=design.y, dims=OBS)
        return
    rows = pm.logp(distribution.dist(**arguments), design.y)
    pm.Potential(f"weighted_{name}", pt.sum(data("weights", design.weights) * rows))


# --- distributions of PyMC ------------------------------------------------------------------

_PLAIN = ("gaussian", "bernoulli", "binomial", "poisson")


def _plain(design: Design, family: Family, inputs: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Return the response's PyMC distribution and its arguments, where PyMC's is exact far out."""
    if family.name == "gaussian":
        return pm.Normal, {"mu": mean_of(family.link, inputs[0]), "sigma": inputs[1]}
    if family.name == "poisson":
        return pm.Poisson, {"mu": mean_of(family.link, inputs[0])}
    odds = log_odds(family.link, inputs[0])
    if design.trials is None and family.link == "logit":
        return pm.Bernoulli, {"logit_p": odds}
    # one trial rather than Bernoulli, whose gradient is not a number where p rounds to one: at
    # log odds of 37, which the cloglog link reaches at a linear predictor of 3.6
    trials = np.ones(design.n) if design.trials is None else design.trials
    return pm.Binomial, {"n": trials.astype(np.int64), "logit_p": odds}


# --- densities by row -----------------------------------------------------------------------


def _add_custom(
    name: str, design: Design, family: Family, density: RowDensity, inputs: list[Any]
) -> None:
    """Add a response by its density, with draws by PyMC's distribution."""

    def draw(*arguments: Any) -> Any:
        found = density.draw(*arguments)
        bounds = design.truncation
        if bounds is None:
            return found
        size = arguments[-1]
        return pm.Truncated.dist(found, lower=bounds.lower, upper=bounds.upper, size=size)

    pm.CustomDist(
        name,
        *inputs,
        logp=lambda value, *own: log_rows(design, family, density, value, own),
        dist=draw,
        signature=density.signature,
        observed=design.y,
        dims=(OBS, CATEGORY_DIM) if design.formula.counts else OBS,
        class_name="".join(word.capitalize() for word in family.name.split("_")),
    )

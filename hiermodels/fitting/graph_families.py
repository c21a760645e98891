"""Families without a kernel in a PyMC graph: PyMC's own distributions, by their arguments."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hiermodels.errors import EngineError
from hiermodels.fitting.graph_functions import log_success, mean_of
from hiermodels.fitting.graph_parameters import ParameterValue
from hiermodels.spec.families import Family
from hiermodels.spec.own_families import OwnFamily

_PROBABILITIES = ("logit", "probit", "cloglog")


def plain_distribution(
    family: Family, trials: np.ndarray | None, eta: Any, parameters: Mapping[str, ParameterValue]
) -> tuple[Any, dict[str, Any]]:
    """Return the response's distribution and its arguments."""
    if family.own is not None:
        return _own(family.own, trials, eta, parameters)
    mu = inverse_link(family.link, eta)
    values = {name: _response_scale(own) for name, own in parameters.items()}
    return _MAKERS[family.name](mu, trials, values)


def inverse_link(link: str | Callable[[Any], Any], eta: Any) -> Any:
    """Return the inverse link of a linear predictor: of a link by name, or the function given."""
    if not isinstance(link, str):
        return link(eta)
    if link in _PROBABILITIES:
        return pt.exp(log_success(link, eta))
    if link == "inverse_squared":
        return 1.0 / pt.sqrt(eta)
    return mean_of(link, eta)


def _response_scale(own: ParameterValue) -> Any:
    """Return a parameter on the scale of the distribution."""
    return own.value if own.linear is None else inverse_link(own.link, own.linear)


def _own(
    own: OwnFamily, trials: np.ndarray | None, eta: Any, parameters: Mapping[str, ParameterValue]
) -> tuple[Any, dict[str, Any]]:
    """Return the distribution of a user's own family."""
    arguments = {own.parent: inverse_link(own.inverses[own.parent], eta)}
    for name, found in parameters.items():
        arguments[name] = (
            found.value
            if found.linear is None
            else inverse_link(own.inverses.get(name, "identity"), found.linear)
        )
    if own.transform is not None:
        arguments = own.transform(arguments)
    if trials is not None:
        arguments["n"] = trials.astype(np.int64)
    distribution = own.distribution
    if isinstance(distribution, str):
        found_by_name = getattr(pm, distribution, None)
        if found_by_name is None:
            raise EngineError(
                f"PyMC has no distribution {distribution!r}, which the family's likelihood names. "
                "Give the distribution itself as the likelihood's dist."
            )
        distribution = found_by_name
    return distribution, arguments


_Values = Mapping[str, Any]
_Maker = Callable[[Any, np.ndarray | None, _Values], tuple[Any, dict[str, Any]]]

_MAKERS: dict[str, _Maker] = {
    "asymmetriclaplace": lambda mu, _, own: (
        pm.AsymmetricLaplace,
        {"mu": mu, "b": own["b"], "kappa": own["kappa"]},
    ),
    "exgaussian": lambda mu, _, own: (
        pm.ExGaussian,
        {"mu": mu, "sigma": own["sigma"], "nu": own["nu"]},
    ),
    "exponential": lambda mu, _, own: (pm.Exponential, {"scale": mu}),
    "hurdle_gamma": lambda mu, _, own: (
        pm.HurdleGamma,
        {"psi": 1.0 - own["hu"], "alpha": own["shape"], "beta": own["shape"] / mu},
    ),
    "hurdle_lognormal": lambda mu, _, own: (
        pm.HurdleLogNormal,
        {"psi": 1.0 - own["hu"], "mu": mu, "sigma": own["sigma"]},
    ),
    "hurdle_negativebinomial": lambda mu, _, own: (
        pm.HurdleNegativeBinomial,
        {"psi": 1.0 - own["hu"], "mu": mu, "alpha": own["shape"]},
    ),
    "hurdle_poisson": lambda mu, _, own: (pm.HurdlePoisson, {"psi": 1.0 - own["hu"], "mu": mu}),
    "laplace": lambda mu, _, own: (pm.Laplace, {"mu": mu, "b": own["b"]}),
    "lognormal": lambda mu, _, own: (pm.LogNormal, {"mu": mu, "sigma": own["sigma"]}),
    "vonmises": lambda mu, _, own: (pm.VonMises, {"mu": mu, "kappa": own["kappa"]}),
    "wald": lambda mu, _, own: (pm.Wald, {"mu": mu, "lam": own["shape"]}),
    "weibull": lambda mu, _, own: (
        pm.Weibull,
        {"alpha": own["shape"], "beta": mu * pt.exp(-pt.gammaln(1.0 + 1.0 / own["shape"]))},
    ),
    "zero_inflated_binomial": lambda p, trials, own: (
        pm.ZeroInflatedBinomial,
        {
            "psi": 1.0 - own["zi"],
            "n": np.int64(1) if trials is None else trials.astype(np.int64),
            "p": p,
        },
    ),
}

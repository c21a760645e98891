"""A user's own family, as Bambi writes one: a PyMC distribution with links for its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hiermodels.errors import HierModelsError
from hiermodels.spec.distributions import as_prior
from hiermodels.spec.family_table import (
    ALIASES,
    GIVEN,
    TABLE,
    Entry,
    FamilyParameter,
    ParameterSupport,
    ResponseKind,
)
from hiermodels.spec.links import LINKS

_SUPPORTS: dict[str, ParameterSupport] = {
    "log": "positive",
    "logit": "unit",
    "probit": "unit",
    "cloglog": "unit",
    "identity": "real",
}
_TRIALS = ("Binomial", "BetaBinomial", "ZeroInflatedBinomial")
# What Bambi calls the likelihoods of the families that are known here.
_LIKELIHOODS = {
    "asymmetriclaplace": "AsymmetricLaplace",
    "bernoulli": "Bernoulli",
    "beta": "Beta",
    "beta_binomial": "BetaBinomial",
    "categorical": "Categorical",
    "dirichlet_multinomial": "DirichletMultinomial",
    "binomial": "Binomial",
    "cumulative": "Cumulative",
    "exgaussian": "ExGaussian",
    "exponential": "Exponential",
    "gamma": "Gamma",
    "gaussian": "Normal",
    "hurdle_gamma": "HurdleGamma",
    "hurdle_lognormal": "HurdleLogNormal",
    "hurdle_negativebinomial": "HurdleNegativeBinomial",
    "hurdle_poisson": "HurdlePoisson",
    "laplace": "Laplace",
    "multinomial": "Multinomial",
    "lognormal": "LogNormal",
    "negativebinomial": "NegativeBinomial",
    "poisson": "Poisson",
    "sratio": "StoppingRatio",
    "t": "StudentT",
    "vonmises": "VonMises",
    "wald": "Wald",
    "weibull": "Weibull",
    "zero_inflated_binomial": "ZeroInflatedBinomial",
    "zero_inflated_negativebinomial": "ZeroInflatedNegativeBinomial",
    "zero_inflated_poisson": "ZeroInflatedPoisson",
}


@dataclass(frozen=True, eq=False)
class OwnFamily:
    """What a PyMC graph needs of a family that is not in the table.

    Attributes
    ----------
    distribution : str or callable
        PyMC's name of the response's distribution, or the distribution.
    parent : str
        The argument that the linear predictor gives, through the inverse link.
    entry : Entry
        The response, the link's name and the further parameters.
    link, linkinv : callable
        The link of the mean and its inverse, on arrays.
    inverses : mapping of str to (str or callable)
        Of every parameter with a link: the link's name, or its inverse on PyTensor variables.
    transform : callable or None
        From the distribution's arguments to those that PyMC takes.
    """

    distribution: str | Callable[..., Any]
    parent: str
    entry: Entry
    link: Callable[[Any], Any]
    linkinv: Callable[[Any], Any]
    inverses: Mapping[str, str | Callable[[Any], Any]]
    transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None


def own_family(family: Any, link: str | None) -> OwnFamily | None:
    """Return the record of a family of Bambi's, None where a family here is the same.

    Parameters
    ----------
    family : object
        With ``name``, ``likelihood`` (``name``, ``params``, ``parent``, ``dist``), ``link`` (by
        parameter: a name, or an object with ``name``, ``link``, ``linkinv`` and
        ``linkinv_backend``), and perhaps ``default_priors`` and ``transform_backend_kwargs``.
    link : str or None
        In place of the family's link of the mean.

    Raises
    ------
    HierModelsError
        The family has several linear predictors or columns of the response, or its likelihood or
        a link cannot be read.
    """
    likelihood = family.likelihood
    known = _LIKELIHOODS.get(family.name)
    same = known == likelihood.name or (family.name == "gaussian" and likelihood.name == "Gaussian")
    custom = isinstance(family.link, Mapping) and any(
        getattr(found, "linkinv_backend", None) is not None for found in family.link.values()
    )
    if same and likelihood.dist is None and not custom:
        return None
    if hasattr(family, "transform_backend_eta"):
        raise HierModelsError(
            f"The family {family.name!r} changes its linear predictor, which only Bambi's own "
            "models do. Give a family whose mean is the inverse link of it."
        )
    if family.name in TABLE or family.name in ALIASES:
        raise HierModelsError(
            f"{family.name!r} is the name of a family here, and the family given is another. Give "
            "it a name of its own."
        )
    parent = likelihood.parent
    links = dict(family.link) if isinstance(family.link, Mapping) else {parent: family.link}
    if link:
        links[parent] = link
    if parent not in links:
        raise HierModelsError(
            f"The family {family.name!r} has no link for {parent!r}, which is modelled. Give one."
        )
    name, forward, backward = _numpy_link(links[parent], family.name)
    trials = likelihood.name in _TRIALS
    response: ResponseKind = "trials" if trials else "any"
    parameters = tuple(_parameter(own, family, links) for own in likelihood.params if own != parent)
    return OwnFamily(
        likelihood.dist if likelihood.dist is not None else likelihood.name,
        parent,
        Entry((name,), response, parameters, kernel=False),
        forward,
        backward,
        {key: _backend(found) for key, found in links.items()},
        getattr(family, "transform_backend_kwargs", None),
    )


def _numpy_link(link: Any, family: str) -> tuple[str, Callable[[Any], Any], Callable[[Any], Any]]:
    """Return a link's name, and the link and its inverse on arrays."""
    name = link if isinstance(link, str) else getattr(link, "name", None)
    if isinstance(name, str) and name in LINKS:
        return name, *LINKS[name]
    forward, backward = getattr(link, "link", None), getattr(link, "linkinv", None)
    if not isinstance(name, str) or not callable(forward) or not callable(backward):
        raise HierModelsError(
            f"The link {name!r} of the family {family!r} is not known; allowed are "
            f"{', '.join(LINKS)}, or a Link with its functions link, linkinv and linkinv_backend."
        )
    return name, forward, backward


def _backend(link: Any) -> str | Callable[[Any], Any]:
    """Return a link's name where it is known, else its inverse on PyTensor variables."""
    name = link if isinstance(link, str) else getattr(link, "name", None)
    if isinstance(name, str) and name in LINKS:
        return name
    backend: Callable[[Any], Any] | None = getattr(link, "linkinv_backend", None)
    if backend is None:
        raise HierModelsError(
            f"The link {name!r} is not known, and has no linkinv_backend; allowed are "
            f"{', '.join(LINKS)}."
        )
    return backend


def _parameter(name: str, family: Any, links: Mapping[str, Any]) -> FamilyParameter:
    """Return a further parameter, with the default prior that the family brings."""
    found = links.get(name)
    link = "identity" if found is None else getattr(found, "name", found)
    defaults = getattr(family, "default_priors", None) or {}
    default = as_prior(defaults[name]).exact if name in defaults else GIVEN
    support = "any" if found is None else _SUPPORTS.get(link, "any")
    return FamilyParameter(name, link, support, formula=True, default=default)

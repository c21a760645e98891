"""What Bambi calls the parameters of families."""

from hiermodels.errors import EngineError
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family

# Those of probabilities of zeros are one less ours.
_NAMES = {"shape": "alpha", "phi": "kappa", "zi": "psi", "hu": "psi", "cutpoints": "threshold"}

COMPLEMENTS = ("zi", "hu")
"""Probabilities of zeros, for which Bambi has the probability of no added zero."""


def bambi_name(family: Family, name: str) -> str:
    """Return Bambi's name of a parameter."""
    return "lam" if (family.name, name) == ("wald", "shape") else _NAMES.get(name, name)


def own_name(family: Family, name: str) -> str:
    """Return our name of a parameter of Bambi's.

    Raises
    ------
    EngineError
        The family has no such parameter.
    """
    for own in family.parameters:
        if bambi_name(family, own.name) == name:
            return own.name
    raise EngineError(f"The family {family.name!r} has no parameter {name!r}.")


def mirrored(prior: Prior) -> Prior:
    """Return the prior of minus a coefficient."""
    location = "alpha" if prior.name == "Cauchy" else "mu"
    return Prior(prior.name, **{k: -v if k == location else v for k, v in prior.arguments})


def complement(prior: Prior) -> Prior:
    """Return the prior of one less a probability."""
    a, b = prior.values
    return Prior("Beta", b, a)

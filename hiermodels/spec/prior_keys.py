"""The keys under which a user gives priors, and the priors given, every key checked."""

import copy
import difflib
from collections.abc import Mapping
from typing import Any, Final

from hiermodels.errors import PriorError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import JOINT, Prior, Support, as_prior, names_for
from hiermodels.spec.families import Family, FamilyParameter
from hiermodels.spec.names import indexed
from hiermodels.spec.predictor_priors import predictor_keys, slope_keys
from hiermodels.spec.predictors import ParameterDesign
from hiermodels.spec.residual_priors import residual_keys

CUTPOINTS: Final = "cutpoints"


class GivenPriors:
    """The user's priors, every key checked against the model's names."""

    def __init__(self, design: Design, family: Family, user: Mapping[str, Any]) -> None:
        if not isinstance(user, Mapping):
            raise PriorError(
                f"priors is a dictionary such as {{'sd': 'HalfNormal(sigma=2)'}}; got "
                f"{type(user).__name__}."
            )
        allowed = allowed_keys(design, family)
        for key in user:
            if not isinstance(key, str) or key not in allowed:
                close = difflib.get_close_matches(str(key), allowed, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise PriorError(
                    f"The prior key {key!r} names nothing in this model.{hint} "
                    f"Allowed are {', '.join(allowed)}."
                )
        # each its own object, by which the table tells which key a prior came from
        self.priors = {key: copy.copy(as_prior(value)) for key, value in user.items()}

    def key_of(self, prior: Prior) -> str:
        """Return the key that gave a prior, for the table; empty for a default."""
        return next((f"by {key!r}" for key, own in self.priors.items() if own is prior), "")

    @property
    def joint(self) -> Prior | None:
        """The prior of all coefficients that is one of the mean's sds too."""
        own = self.priors.get("b")
        return own if own is not None and own.name == JOINT else None

    def has(self, key: str) -> bool:
        """Whether a key was given."""
        return key in self.priors

    def find(
        self, keys: tuple[str, ...], support: Support, also: tuple[str, ...] = ()
    ) -> tuple[Prior | None, str]:
        """Return the prior of the first key that was given, and the source for the table.

        Distributions named in ``also`` are allowed beside those of the support.
        """
        for key in keys:
            if key in self.priors:
                prior = self.priors[key]
                if prior.support != support and prior.name not in also:
                    allowed = ", ".join([names_for(support), *also])
                    raise PriorError(
                        f"{prior.name} is no prior for {key!r}; allowed are {allowed}."
                    )
                return prior, "user"
        return None, "default"


def allowed_keys(design: Design, family: Family) -> tuple[str, ...]:
    """Return every prior key of a model: the vocabulary first, then coefficients by name."""
    found = [*vocabulary(design, family)]
    # a key without its level is that of every level
    for part in design.parameters if design.by_level else (design,):
        found += [*predictor_keys(part), *part.slopes, *slope_keys(part)]
    return tuple(dict.fromkeys(found))


def vocabulary(design: Design, family: Family) -> list[str]:
    """Return the prior keys that are no coefficients of the mean."""
    keys = predictor_keys(design)
    if design.residual is not None:
        keys += residual_keys(design.residual)
    for own in separate_parameters(design, family):
        part = formula_of(own, design)
        if part is not None:
            keys += predictor_keys(part, own.name) + slope_keys(part, own.name)
        else:
            keys += cutpoint_keys(design) if own.name == CUTPOINTS else [own.name]
    return keys


def separate_parameters(design: Design, family: Family) -> tuple[FamilyParameter, ...]:
    """Return the family's parameters that the residual does not carry."""
    carried = design.residual is not None
    written = [part.name for part in design.parameters]
    return tuple(
        own
        for own in family.parameters
        if not (own.name == "sigma" and carried and own.name not in written)
    )


def formula_of(own: FamilyParameter, design: Design) -> ParameterDesign | None:
    """Return a parameter's linear predictor, None where it is one value."""
    return next((part for part in design.parameters if part.name == own.name), None)


def cutpoint_keys(design: Design) -> list[str]:
    """Return the prior keys of an ordinal response's cutpoints."""
    if not design.thresholds:
        return []
    return [CUTPOINTS, *(indexed(CUTPOINTS, label) for label in design.threshold_labels)]

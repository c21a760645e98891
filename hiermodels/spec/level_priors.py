"""The user's priors of a response by level: of one level, or of all."""

from collections.abc import Collection

from hiermodels.spec.distributions import Prior, Support
from hiermodels.spec.names import of_parameter
from hiermodels.spec.predictor_priors import predictor_keys, slope_keys
from hiermodels.spec.predictors import ParameterDesign
from hiermodels.spec.residual_priors import Given


class OfLevel:
    """The user's priors as a level's linear predictor sees them: its own, then those of all."""

    def __init__(self, given: Given, named: Collection[str], part: ParameterDesign) -> None:
        self._given = given
        # a prior of all this level's coefficients goes before one coefficient's of all levels
        self._whole = of_parameter(part.name, "b") in named
        own = [*predictor_keys(part, part.name), *slope_keys(part, part.name)]
        shared = [*predictor_keys(part), *slope_keys(part)]
        self._shared: dict[str, tuple[str, ...]] = {
            key: (all_,) for key, all_ in zip(own, shared, strict=True)
        }
        for key, all_, slope in zip(
            slope_keys(part, part.name), slope_keys(part), part.slopes, strict=True
        ):
            if self._whole:
                self._shared[key] = ()
                continue
            self._shared[key] = (all_,) if slope in shared else (all_, slope)

    def find(
        self, keys: tuple[str, ...], support: Support, also: tuple[str, ...] = ()
    ) -> tuple[Prior | None, str]:
        """Return the prior of the first key that was given, and the source for the table."""
        shared = (key for own in keys for key in self._shared.get(own, ()))
        return self._given.find((*keys, *shared), support, also)

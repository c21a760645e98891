"""What maximum likelihood and REML of a Gaussian model give, with intervals of its components."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.engines.likelihood_problem import Estimation
from hiermodels.engines.profiling import Point, evaluate
from hiermodels.errors import FitError
from hiermodels.fitting.components import component_functions
from hiermodels.fitting.estimate import Estimate
from hiermodels.fitting.intervals import (
    bootstrap_intervals,
    gaussian_surface,
    profile_intervals,
)
from hiermodels.spec.rowless import need_rows

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class GaussianEstimate(Estimate):
    """A Gaussian model with the identity link, fitted by maximum likelihood or REML.

    Attributes
    ----------
    problem : Estimation
    """

    problem: Estimation

    @cached_property
    def components(self) -> dict[str, float]:
        """Sds, correlations and residual parameters by the names of the summary."""
        functions = component_functions(self.problem, self.model.design, self.priors)
        scale = self._point.scale
        return {name: function(self.optimum.x, scale) for name, function in functions.items()}

    @cached_property
    def _point(self) -> Point:
        return evaluate(self.problem, self.optimum.x)

    def intervals(
        self,
        method: str = "profile",
        prob: float = 0.95,
        *,
        parameters: tuple[str, ...] | None = None,
        draws: int = 500,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Return intervals of sds, correlations and residual parameters; see `Estimate`."""
        names = self._asked(parameters, tuple(self.components))
        design = self.model.design
        if method == "profile":
            surface = gaussian_surface(self.problem, design, self.priors, self.optimum)
            return profile_intervals(surface, names, prob)
        if method == "bootstrap":
            need_rows(design, "intervals('bootstrap')", "Take intervals('profile').")
            return bootstrap_intervals(
                self.problem, design, self.priors, self.optimum, self._population(), names, prob,
                draws, seed,
            )  # fmt: skip
        raise FitError(f"got method={method!r}; intervals are 'profile' or 'bootstrap'")

    def _population(self) -> Array:
        """Return the expected response at group effects of zero (n,)."""
        design = self.model.design
        effects = np.zeros(design.n)
        for group, mode in zip(design.groups, self.modes, strict=True):
            z = np.concatenate([design.terms[k].z for k in group.terms], axis=1)
            seen = design.terms[group.terms[0]].by_row(mode.mean)
            effects += np.einsum("nq,nq->n", z, seen)
        return np.asarray(self.fitted_values - effects)

    @property
    def method_in_words(self) -> str:
        """The method, as printed."""
        return {"reml": "REML", "ml": "maximum likelihood"}[self.method]

    @property
    def closing_note(self) -> str:
        """How z and intervals are to be read."""
        return "z and intervals are normal ones, given the variances."

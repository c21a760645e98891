"""The generative model as PyMC: group effects explicit, dims named, usable by hand.

Free variables stand where their priors stand (at the predictors' means for default priors);
everything published on the raw scale is a deterministic function of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pymc as pm
import xarray as xr

from hiermodels.engines.conditional import Coordinates
from hiermodels.fitting.graph_bars import BarNames
from hiermodels.fitting.graph_parameters import ParameterNames, add_parameters, parameter_coords
from hiermodels.fitting.graph_predictors import (
    CoefNames,
    Coords,
    PredictorNames,
    add_predictor,
    part_coords,
)
from hiermodels.fitting.graph_residual import ResidualNames, add_residual, residual_coords
from hiermodels.fitting.graph_response import add_response
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.names import OBS
from hiermodels.spec.priors import ResolvedPriors

__all__ = ["OBS", "Generative", "build_generative"]


@dataclass(frozen=True)
class Generative:
    """A PyMC model and the record of its free variables.

    Attributes
    ----------
    model : pymc.Model
    mean : PredictorNames
        Of the linear predictor.
    residual : ResidualNames or None
        Of a Gaussian's residuals.
    parameters : tuple of ParameterNames
        Of the further parameters that the residuals do not hold.
    """

    model: pm.Model
    mean: PredictorNames
    residual: ResidualNames | None
    parameters: tuple[ParameterNames, ...] = ()

    @property
    def coef(self) -> CoefNames:
        """Free variables of the coefficients and their columns."""
        return self.mean.coef

    @property
    def bars(self) -> tuple[BarNames, ...]:
        """Free variables of the bars."""
        return self.mean.bars

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free variables."""
        return tuple(variable.name for variable in self.model.free_RVs)

    def coordinates(self, posterior: xr.Dataset, design: Design) -> Coordinates:
        """Return draws of the free variables as the coordinates that engines share."""
        found = self.mean.coordinates(posterior, design)
        parameters = {own.name: own.coordinates(posterior) for own in self.parameters}
        if self.residual is None or design.residual is None or design.residual.sigma is None:
            return replace(found, parameters=parameters)
        sigma, several = self.residual.sigma_coordinates(posterior, design.residual.sigma)
        return replace(found, sigma=sigma, parameters=several | parameters)


def build_generative(
    design: Design, family: Family, priors: ResolvedPriors, centred: Sequence[bool]
) -> Generative:
    """Return the PyMC model of a design under resolved priors.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors
    centred : sequence of bool
        The form of each bar.
    """
    coords: Coords = {OBS: np.arange(design.n)}
    coords |= part_coords(design) | residual_coords(design.residual) | parameter_coords(design)
    with pm.Model(coords=coords) as model:
        mean, eta, coefficients = add_predictor(design, priors, centred)
        residual, sd, correlation = None, None, None
        if design.residual is not None and priors.residual is not None:
            graph = add_residual(design.residual, priors.residual)
            residual, sd, correlation = graph.names, graph.sd, graph.correlation
        ordered = family.name == "cumulative"
        names, values = add_parameters(design, priors, coefficients, ordered)
        add_response(design, family, eta, values, sd, correlation)
    return Generative(model, mean, residual, names)

"""The generative model as PyMC: group effects explicit, dims named, usable by hand.

Free variables stand where their priors stand (at the predictors' means for default priors);
everything published on the raw scale is a deterministic function of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from hiermodels.fitting.graph_shrinkage import add_shares
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.names import CATEGORY_DIM, OBS
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.shares import Shares, find_shares

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
    if design.formula.counts:
        coords[CATEGORY_DIM] = design.response_levels
    with pm.Model(coords=coords) as model:
        shares = find_shares(priors)
        if shares is not None and shares.residual:
            return _sigma_first(model, design, family, priors, centred, shares)
        shared = None if shares is None else add_shares(shares, None)
        mean, eta, coefficients = add_predictor(design, priors, centred, shared=shared)
        graph = _residual(design, priors)
        ordered = family.name == "cumulative"
        names, values = add_parameters(design, priors, coefficients, ordered)
        add_response(design, family, eta, values, graph.sd, graph.correlation)
    return Generative(model, mean, graph.names, names)


def _sigma_first(
    model: pm.Model,
    design: Design,
    family: Family,
    priors: ResolvedPriors,
    centred: Sequence[bool],
    shares: Shares,
) -> Generative:
    """Return the model of sds that follow from the residual's, which is added before them."""
    graph = _residual(design, priors)
    # a family with a sd has no cutpoints, which alone would need the coefficients
    names, values = add_parameters(design, priors, None)
    sigma = graph.sd if "sigma" not in values else values["sigma"].value
    shared = add_shares(shares, sigma)
    mean, eta, _ = add_predictor(design, priors, centred, shared=shared)
    add_response(design, family, eta, values, graph.sd, graph.correlation)
    return Generative(model, mean, graph.names, names)


def _residual(design: Design, priors: ResolvedPriors) -> "_Residual":
    """Add the residuals of a Gaussian model; return their names and values, None where none."""
    if design.residual is None or priors.residual is None:
        return _Residual(None, None, None)
    graph = add_residual(design.residual, priors.residual)
    return _Residual(graph.names, graph.sd, graph.correlation)


@dataclass(frozen=True)
class _Residual:
    names: ResidualNames | None
    sd: Any
    correlation: Any

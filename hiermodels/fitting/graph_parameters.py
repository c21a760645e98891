"""A family's further parameters in a PyMC graph: one value, cutpoints, or a linear predictor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pytensor.tensor.sort import sort

from hiermodels.engines.conditional import ParameterCoordinates
from hiermodels.fitting.graph_parts import VectorName, random, vector
from hiermodels.fitting.graph_predictors import (
    Coords,
    PredictorNames,
    add_predictor,
    part_coords,
)
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import CUTPOINT_DIM
from hiermodels.spec.predictors import ParameterDesign
from hiermodels.spec.priors import ResolvedPriors

_CUTPOINTS = "cutpoints"


@dataclass(frozen=True)
class ParameterNames:
    """The free variables of one parameter.

    Attributes
    ----------
    name : str
    values : VectorName or None
        Its one value, or cutpoints; None with a formula.
    linear : PredictorNames or None
        Of its linear predictor.
    part : ParameterDesign or None
        The linear predictor.
    """

    name: str
    values: VectorName | None
    linear: PredictorNames | None = None
    part: ParameterDesign | None = None

    def coordinates(self, posterior: xr.Dataset) -> ParameterCoordinates:
        """Return draws of the free variables as the coordinates that engines share."""
        shape = (posterior.sizes["chain"], posterior.sizes["draw"])
        if self.linear is not None and self.part is not None:
            own = self.linear.coordinates(posterior, self.part)
            nothing = np.empty((*shape, 0))
            return ParameterCoordinates(nothing, own.coef, own.sds, own.chols, own.effects, own.nus)
        values = np.empty((*shape, 0)) if self.values is None else self.values.read(posterior)
        return ParameterCoordinates(values, np.empty((*shape, 0)))


def parameter_coords(design: Design) -> Coords:
    """Return the dims of the parameters with their labels."""
    coords: Coords = {}
    for part in design.parameters:
        coords |= part_coords(part, part.name)
    if design.thresholds:
        coords[CUTPOINT_DIM] = design.threshold_labels
    return coords


@dataclass(frozen=True)
class ParameterValue:
    """A parameter as PyTensor variables.

    Attributes
    ----------
    link : str
    linear : variable (n,) or None
        Its linear predictor, where it has a formula.
    value : variable or None
        Its value, where it has none.
    """

    link: str
    linear: Any = None
    value: Any = None

    @property
    def on_link(self) -> Any:
        """The value on the link's scale: exact far out where it has a formula."""
        if self.linear is not None:
            return self.linear
        functions = {
            "log": pt.log,
            "logit": lambda x: pt.log(x) - pt.log1p(-x),
            "identity": lambda x: x,
        }
        return functions[self.link](self.value)


def add_parameters(
    design: Design, priors: ResolvedPriors, coefficients: Any, ordered: bool = True
) -> tuple[tuple[ParameterNames, ...], dict[str, ParameterValue]]:
    """Add the further parameters; return their free variables, and their values.

    Cutpoints, increasing ones if ``ordered``, are those in the coordinates of the mean's columns;
    ``coefficients`` (p,) of these make them raw, None where there are none.
    """
    parts = {part.name: part for part in design.parameters}
    names, values = [], {}
    for own in priors.parameters:
        part = parts.get(own.name)
        if part is not None:
            # those of the mean are chosen by what the data say; of a parameter they say little
            forms = [False] * len(part.terms)
            linear, eta, _ = add_predictor(part, own, forms, own.name)
            names.append(ParameterNames(own.name, None, linear, part))
            values[own.name] = ParameterValue(own.link, linear=eta)
        elif own.name == _CUTPOINTS:
            labels = design.threshold_labels if not ordered else None
            found, value = _cutpoints(own.value, priors.shift, coefficients, labels)
            values[own.name] = ParameterValue(own.link, value=value)
            names.append(ParameterNames(own.name, found))
        else:
            names.append(ParameterNames(own.name, VectorName((own.name,), 1)))
            values[own.name] = ParameterValue(own.link, value=random(own.name, own.value[0]))
    return tuple(names), values


def _cutpoints(
    priors: Sequence[Prior],
    shift: np.ndarray,
    coefficients: Any,
    labels: Sequence[str] | None,
) -> tuple[VectorName, Any]:
    """Add cutpoints; return their free variables' names and values (K - 1,).

    They are increasing, unless labels are given.
    """
    moved = bool(np.any(shift)) and coefficients is not None
    name = f"{_CUTPOINTS}_at_means" if moved else _CUTPOINTS
    names = VectorName((name,), len(priors))
    if labels is None:
        values = _increasing(name, priors)
    else:
        names, values = vector(name, priors, [(label,) for label in labels], (CUTPOINT_DIM,))
    if moved or names.names != (_CUTPOINTS,):
        raw = values - pt.dot(shift, coefficients) if moved else values
        pm.Deterministic(_CUTPOINTS, raw, dims=CUTPOINT_DIM)
    return names, values


def _increasing(name: str, priors: Sequence[Prior]) -> Any:
    """Return increasing cutpoints, whose density is the product of their priors."""
    return pm.CustomDist(
        name,
        logp=lambda value: _log_prior(priors, value),
        # sorted draws of one prior have its density on increasing values
        dist=lambda size: sort(pt.stack([_draw(prior) for prior in priors])),
        signature="->(k)",
        transform=pm.distributions.transforms.ordered,
        dims=CUTPOINT_DIM,
        support_point=lambda rv, size: pt.as_tensor(_spread(len(priors))),
        class_name="Ordered",
    )


def _spread(size: int) -> np.ndarray:
    """Return increasing values about 0."""
    return np.arange(size) - 0.5 * (size - 1)


def _draw(prior: Prior) -> Any:
    """Return the distribution of one prior."""
    distribution = getattr(pm, prior.name)
    return distribution.dist(**{key: np.float64(value) for key, value in prior.arguments})


def _log_prior(priors: Sequence[Prior], value: Any) -> Any:
    """Return the sum of the priors' log densities."""
    return pt.sum(pt.stack([pm.logp(_draw(prior), value[k]) for k, prior in enumerate(priors)]))

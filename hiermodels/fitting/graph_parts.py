"""Small parts of a PyMC graph: variables of priors by name, data by a name that is free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import indexed


@dataclass(frozen=True)
class VectorName:
    """How a vector of parameters is called: one variable, or one for each element.

    Attributes
    ----------
    names : tuple of str
        One name for a vector variable, else a name for each element.
    size : int
    """

    names: tuple[str, ...]
    size: int

    def read(self, posterior: xr.Dataset) -> np.ndarray:
        """Return the draws (chain, draw, size)."""
        own = [posterior[name].values for name in self.names]
        return np.concatenate([values.reshape(*values.shape[:2], -1) for values in own], axis=-1)


def free_name(name: str) -> str:
    """Return a name that neither a variable nor a dim of the model has, such as a grouping's."""
    model = pm.modelcontext(None)
    while name in model.named_vars or name in model.coords:
        name = f"{name}_"
    return name


def data(name: str, values: np.ndarray) -> Any:
    """Return an array as data of the model, under a name that is free."""
    return pm.Data(free_name(name), values)


def random(name: str, prior: Prior) -> Any:
    """Return the PyMC variable of one prior."""
    # PyTensor would hold a Python float as float32 where that is exact, and a gamma function of a
    # float32 is good to seven digits only
    return getattr(pm, prior.name)(
        name, **{key: np.float64(value) for key, value in prior.arguments}
    )


def vector(
    name: str,
    priors: Sequence[Prior],
    labels: Sequence[Sequence[str]],
    dims: tuple[str, ...],
) -> tuple[VectorName, Any]:
    """Return an array of parameters: one variable where all priors are of one distribution.

    ``labels`` has the labels of each element, ``dims`` the dims of the array, whose elements
    stand row by row.
    """
    model = pm.modelcontext(None)
    shape = tuple(len(model.coords[dim]) for dim in dims)
    if len({prior.name for prior in priors}) == 1:
        arguments = {
            key: np.array([dict(prior.arguments)[key] for prior in priors]).reshape(shape)
            for key, _ in priors[0].arguments
        }
        variable = getattr(pm, priors[0].name)(name, **arguments, dims=dims)
        return VectorName((name,), len(priors)), variable
    names = tuple(indexed(name, *own) for own in labels)
    parts = [random(own, prior) for own, prior in zip(names, priors, strict=True)]
    return VectorName(names, len(priors)), pt.stack(parts).reshape(shape)

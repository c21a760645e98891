"""Coefficients under a shrinkage prior in a PyMC graph: normal scores times sampled sds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from hiermodels.fitting.graph_parts import VectorName, free_name, random, vector
from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import indexed
from hiermodels.spec.prior_functions import shrinkage_scale


@dataclass(frozen=True)
class ShrunkName:
    """How the free variables of coefficients under a horseshoe are called.

    Attributes
    ----------
    names : tuple of str
        Scores, local scales, the overall scale, and the slab's.
    priors : tuple of Prior
        Of each coefficient.
    """

    names: tuple[str, ...]
    priors: tuple[Prior, ...]

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return len(self.priors)

    def read(self, posterior: xr.Dataset) -> np.ndarray:
        """Return the draws of the coefficients (chain, draw, size)."""
        scores, local, overall, slab = (posterior[name].values for name in self.names)
        scale = shrinkage_scale(self.priors, overall[..., None], local, slab[..., None])
        return np.asarray(scale * scores)


Part = tuple[VectorName | ShrunkName, tuple[int, ...], Any]


def slope_parts(
    name: str, priors: Sequence[Prior], labels: Sequence[str], dim: str
) -> tuple[Part, ...]:
    """Add coefficients; return their free variables, which they are, and their values.

    Parameters
    ----------
    name : str
        Of the vector.
    priors : sequence of Prior
    labels : sequence of str
    dim : str
    """
    shrunk = tuple(k for k, prior in enumerate(priors) if prior.support == "shrinkage")
    if not shrunk:
        own, values = vector(name, priors, [(label,) for label in labels], (dim,))
        return ((own, tuple(range(len(priors))), values),)
    names, values = _horseshoe(name, tuple(priors[k] for k in shrunk))
    found: list[Part] = [(names, shrunk, values)]
    for k, prior in enumerate(priors):
        if k not in shrunk:
            own_name = indexed(name, labels[k])
            found.append((VectorName((own_name,), 1), (k,), [random(own_name, prior)]))
    return tuple(found)


def _horseshoe(name: str, priors: tuple[Prior, ...]) -> tuple[ShrunkName, Any]:
    """Add the scores and scales of a regularised horseshoe; return their names and coefficients."""
    shared = {key: np.float64(value) for key, value in priors[0].arguments}
    names = tuple(free_name(f"{name}_{part}") for part in ("score", "local", "overall", "slab"))
    score = pm.Normal(names[0], 0.0, 1.0, shape=len(priors))
    local = pm.HalfStudentT(names[1], nu=shared["df"], sigma=1.0, shape=len(priors))
    overall = pm.HalfStudentT(names[2], nu=shared["df_global"], sigma=1.0)
    half = 0.5 * shared["df_slab"]
    slab = pm.InverseGamma(names[3], alpha=half, beta=half)
    return ShrunkName(names, priors), score * shrinkage_scale(priors, overall, local, slab)

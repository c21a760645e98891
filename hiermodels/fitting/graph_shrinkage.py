"""Shrinkage priors in a PyMC graph: normal scores of coefficients times sds that share scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from hiermodels.fitting.graph_parts import VectorName, free_name, random, vector
from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import LOCAL, OVERALL, R2, SHARE, SLAB, indexed
from hiermodels.spec.prior_functions import shrinkage_scale
from hiermodels.spec.shares import Shares


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

    def scales(self, posterior: xr.Dataset) -> dict[str, np.ndarray]:
        """Return the draws of the scales by their published names."""
        _, *own = self.names
        return {
            published: np.asarray(posterior[name].values)
            for published, name in zip((LOCAL, OVERALL, SLAB), own, strict=True)
        }


@dataclass(frozen=True)
class SharedNames:
    """How the free variables are called that sds under R2D2M2 follow from.

    Attributes
    ----------
    shares : Shares
    r2 : str
    share : str or None
        None where there is one part, which has all.
    sigma : str or None
        The residual sd; None for 1.
    """

    shares: Shares
    r2: str
    share: str | None
    sigma: str | None

    def scales(self, posterior: xr.Dataset) -> dict[str, np.ndarray]:
        """Return the draws of R squared and of its shares by their published names."""
        r2 = np.asarray(posterior[self.r2].values)
        share = np.ones((*r2.shape, 1))
        return {R2: r2, SHARE: share if self.share is None else posterior[self.share].values}

    def sds(self, posterior: xr.Dataset) -> np.ndarray:
        """Return the draws of all parts' sds (chain, draw, C)."""
        found = self.scales(posterior)
        sigma = None if self.sigma is None else np.asarray(posterior[self.sigma].values)
        return np.asarray(self.shares.part_sds(found[R2], found[SHARE], sigma))


@dataclass(frozen=True)
class Shared:
    """Sds under R2D2M2 as PyTensor variables.

    Attributes
    ----------
    names : SharedNames
    sds : variable (C,)
    """

    names: SharedNames
    sds: Any

    def of_bar(self, k: int) -> list[int]:
        """Return which parts are the sds of a bar."""
        shares = self.names.shares
        return [len(shares.coefs) + at for at, (t, _) in enumerate(shares.sds) if t == k]


@dataclass(frozen=True)
class SharedSds:
    """Which of the sds under R2D2M2 are those of a bar, to be read like its free variables."""

    shared: SharedNames
    columns: tuple[int, ...]

    def read(self, posterior: xr.Dataset) -> np.ndarray:
        """Return the draws (chain, draw, size)."""
        return self.shared.sds(posterior)[..., list(self.columns)]


@dataclass(frozen=True)
class SharedCoefs:
    """How the coefficients under R2D2M2 are read: scores times sds."""

    shared: SharedNames
    names: tuple[str, ...]
    size: int

    def read(self, posterior: xr.Dataset) -> np.ndarray:
        """Return the draws of the coefficients (chain, draw, size)."""
        scores = np.asarray(posterior[self.names[0]].values)
        return np.asarray(self.shared.sds(posterior)[..., : self.size] * scores)


def add_shares(shares: Shares, sigma: Any) -> Shared:
    """Add R squared and its shares; return the sds that follow from them and the residual's."""
    r2_name, share_name = free_name(R2), None
    a, b = (np.float64(value) for value in shares.beta)
    r2 = pm.Beta(r2_name, a, b)
    share: Any = np.ones(1)
    if shares.size > 1:
        share_name = free_name(SHARE)
        share = pm.Dirichlet(share_name, np.full(shares.size, shares.concentration))
    names = SharedNames(shares, r2_name, share_name, None if sigma is None else sigma.name)
    return Shared(names, shares.part_sds(r2, share, sigma))


Coefs = VectorName | ShrunkName | SharedCoefs
Part = tuple[Coefs, tuple[int, ...], Any]


def slope_parts(
    name: str,
    priors: Sequence[Prior],
    labels: Sequence[str],
    dim: str,
    shared: Shared | None = None,
) -> tuple[Part, ...]:
    """Add coefficients; return their free variables, which they are, and their values.

    Parameters
    ----------
    name : str
        Of the vector.
    priors : sequence of Prior
    labels : sequence of str
    dim : str
    shared : Shared, optional
        The sds under R2D2M2.
    """
    shrunk = tuple(k for k, prior in enumerate(priors) if prior.support == "shrinkage")
    if not shrunk:
        own, values = vector(name, priors, [(label,) for label in labels], (dim,))
        return ((own, tuple(range(len(priors))), values),)
    own_priors = tuple(priors[k] for k in shrunk)
    names, values = _horseshoe(name, own_priors) if shared is None else _joint(name, shared)
    found: list[Part] = [(names, shrunk, values)]
    for k, prior in enumerate(priors):
        if k not in shrunk:
            own_name = indexed(name, labels[k])
            found.append((VectorName((own_name,), 1), (k,), [random(own_name, prior)]))
    return tuple(found)


def _joint(name: str, shared: Shared) -> tuple[Coefs, Any]:
    """Add the scores of coefficients under R2D2M2; return their name and the coefficients."""
    size = len(shared.names.shares.coefs)
    score = pm.Normal(free_name(f"{name}_score"), 0.0, 1.0, shape=size)
    return SharedCoefs(shared.names, (score.name,), size), score * shared.sds[:size]


def _horseshoe(name: str, priors: tuple[Prior, ...]) -> tuple[Coefs, Any]:
    """Add the scores and scales of a regularised horseshoe; return their names and coefficients."""
    shared = {key: np.float64(value) for key, value in priors[0].arguments}
    names = tuple(free_name(f"{name}_{part}") for part in ("score", "local", "overall", "slab"))
    score = pm.Normal(names[0], 0.0, 1.0, shape=len(priors))
    local = pm.HalfStudentT(names[1], nu=shared["df"], sigma=1.0, shape=len(priors))
    overall = pm.HalfStudentT(names[2], nu=shared["df_global"], sigma=1.0)
    half = 0.5 * shared["df_slab"]
    slab = pm.InverseGamma(names[3], alpha=half, beta=half)
    return ShrunkName(names, priors), score * shrinkage_scale(priors, overall, local, slab)

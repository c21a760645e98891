"""Linear predictors of a PyMC graph: coefficients and bars, of the mean or of another parameter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from hiermodels.engines.conditional import Coordinates
from hiermodels.fitting.graph_bars import (
    BarNames,
    Published,
    add_bar,
    publish_group,
    rows_of,
    term_dim,
)
from hiermodels.fitting.graph_parts import VectorName, data, random
from hiermodels.fitting.graph_shrinkage import (
    Coefs,
    Shared,
    SharedNames,
    ShrunkName,
    slope_parts,
)
from hiermodels.spec.distributions import Prior
from hiermodels.spec.names import coef_dim, coef_dim_bis, of_parameter
from hiermodels.spec.predictors import Predictor
from hiermodels.spec.priors import TermPriors

Coords = dict[str, Sequence[str] | np.ndarray]
CoefNames = tuple[tuple[Coefs, tuple[int, ...]], ...]


class PredictorPriors(Protocol):
    """What is asked of resolved priors: those of one linear predictor."""

    @property
    def coef(self) -> tuple[Prior, ...]:
        """Of the coefficients."""

    @property
    def T(self) -> np.ndarray:
        """Raw coefficients = T @ coefficients."""

    @property
    def X(self) -> np.ndarray:
        """The columns (n, p)."""

    @property
    def terms(self) -> tuple[TermPriors, ...]:
        """Of the bars."""


@dataclass(frozen=True)
class PredictorNames:
    """The free variables of one linear predictor.

    Attributes
    ----------
    coef : tuple of (VectorName, tuple of int)
        Free variables of the coefficients and their columns.
    bars : tuple of BarNames
    shared : SharedNames or None
        What sds under R2D2M2 follow from.
    """

    coef: CoefNames
    bars: tuple[BarNames, ...]
    shared: SharedNames | None = None

    def coordinates(self, posterior: xr.Dataset, part: Predictor) -> Coordinates:
        """Return draws of the free variables as the coordinates that engines share."""
        coef = read_coef(self.coef, posterior, len(part.coefs))
        bars = [
            names.read(posterior, term) for names, term in zip(self.bars, part.terms, strict=True)
        ]
        scales = {} if self.shared is None else self.shared.scales(posterior)
        for own, _ in self.coef:
            if isinstance(own, ShrunkName):
                scales |= own.scales(posterior)
        return Coordinates(
            coef,
            tuple(sd for sd, _, _, _ in bars),
            tuple(chol for _, chol, _, _ in bars),
            tuple(effects for _, _, effects, _ in bars),
            None,
            nus=tuple(nu for _, _, _, nu in bars),
            scales=scales,
        )


def read_coef(names: CoefNames, posterior: xr.Dataset, p: int) -> np.ndarray:
    """Return the draws of coefficients (chain, draw, p)."""
    coef = np.empty((posterior.sizes["chain"], posterior.sizes["draw"], p))
    for own, columns in names:
        coef[..., list(columns)] = own.read(posterior)
    return coef


def part_coords(part: Predictor, of: str = "") -> Coords:
    """Return the dims of a linear predictor with their labels."""
    coords: Coords = {}
    if part.slopes:
        coords[of_parameter(of, "coef")] = part.slopes
    for group in part.groups:
        coords[group.name] = group.levels
        coords[coef_dim(group.name, of)] = group.coefs
        if any(part.terms[k].correlated for k in group.terms):
            coords[coef_dim_bis(group.name, of)] = group.coefs
    for k, term in enumerate(part.terms):
        coords[term_dim(part.terms, k, of)] = term.coefs
        if term.by is not None:
            coords[term.by.name] = term.by.labels
    return coords


def add_predictor(
    part: Predictor,
    priors: PredictorPriors,
    centred: Sequence[bool],
    of: str = "",
    shared: Shared | None = None,
) -> tuple[PredictorNames, Any, Any]:
    """Add a linear predictor, offset included; ``shared`` are its sds under R2D2M2.

    Returns its free variables, its values (n,) and its coefficients (p,), None without any.
    """
    linear, stacked = pt.zeros(part.n), None
    coef: CoefNames = ()
    if part.coefs:
        coef, stacked = add_coef(
            priors.coef, priors.T, part.intercept, part.slopes, of, of_parameter(of, "coef"), shared
        )
        linear = pt.dot(data(of_parameter(of, "X"), priors.X), stacked)
    bars = []
    raw: dict[str, list[Published]] = {}
    for k, (term, own) in enumerate(zip(part.terms, priors.terms, strict=True)):
        names, effects, published = add_bar(part.terms, k, own, bool(centred[k]), of, shared)
        bars.append(names)
        raw.setdefault(term.group, []).append(published)
        z = data(of_parameter(of, f"z_{k + 1}"), own.z)
        rows = term.index if term.members is None else term.members.index
        index = data(of_parameter(of, f"index_{k + 1}"), rows)
        linear = linear + rows_of(term, z, effects, index)
    for group in part.groups:
        publish_group(part.terms, group, raw[group.name], of)
    if np.any(part.offset):
        linear = linear + data(of_parameter(of, "offset"), part.offset)
    names_of_shared = None if shared is None else shared.names
    return PredictorNames(coef, tuple(bars), names_of_shared), linear, stacked


def add_coef(
    priors: Sequence[Prior],
    T: np.ndarray,
    at: int | None,
    labels: Sequence[str],
    of: str,
    dim: str,
    shared: Shared | None = None,
) -> tuple[CoefNames, Any]:
    """Add coefficients, published raw; return their free variables and their values (p,).

    ``at`` is the intercept's position, ``labels`` are the other coefficients' names, ``shared``
    the sds under R2D2M2.
    """
    p = len(priors)
    slopes = [k for k in range(p) if k != at]
    free: list[tuple[Coefs, tuple[int, ...]]] = []
    gamma: list[Any] = [None] * p
    intercept, b = of_parameter(of, "Intercept"), of_parameter(of, "b")
    if at is not None:
        raw = np.array_equal(T[at], np.eye(p)[at])
        name = intercept if raw else f"{intercept}_at_means"
        gamma[at] = random(name, priors[at])
        free.append((VectorName((name,), 1), (at,)))
    if slopes:
        same = np.array_equal(T[np.ix_(slopes, slopes)], np.eye(len(slopes)))
        name = b if same else f"{b}_at_means"
        chosen = [priors[k] for k in slopes]
        parts = slope_parts(name, chosen, labels, dim, shared)
        for own, places, values in parts:
            free.append((own, tuple(slopes[place] for place in places)))
            for at_value, place in enumerate(places):
                gamma[slopes[place]] = values[at_value]
        if len(parts) > 1 or parts[0][0].names != (b,):
            stacked = pt.stack([gamma[k] for k in slopes])
            pm.Deterministic(b, pt.dot(T[np.ix_(slopes, slopes)], stacked), dims=dim)
    stacked = pt.stack(gamma)
    if at is not None and not np.array_equal(T[at], np.eye(p)[at]):
        pm.Deterministic(intercept, pt.dot(T[at], stacked))
    return tuple(free), stacked

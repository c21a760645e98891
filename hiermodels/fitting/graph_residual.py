"""Residuals of Gaussian models in a PyMC graph: their sds, and correlations within series.

Given the linear predictor the rows of a series are jointly normal. The series of a structure are
treated together: autoregression and compound symmetry in closed form, unstructured correlations
with one factorisation for each pattern of occasions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pytensor.tensor import linalg

from hiermodels.engines.conditional import ParameterCoordinates
from hiermodels.errors import EngineError
from hiermodels.fitting.graph_correlations import correlation_factor
from hiermodels.fitting.graph_parts import VectorName, random, vector
from hiermodels.fitting.graph_predictors import CoefNames, Coords, add_coef, read_coef
from hiermodels.spec.design import Design
from hiermodels.spec.names import OBS, SIGMA_COEF_DIM, SIGMA_DIM, SIGMA_DIM_BIS
from hiermodels.spec.residual import Residual
from hiermodels.spec.residual_priors import ResidualPriors
from hiermodels.spec.sigma import Sigma

_LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class ResidualNames:
    """The free variables of the residuals.

    Attributes
    ----------
    sigma : tuple of (VectorName, tuple of int)
        Sds, or coefficients of the log sd, and which of the residual's parameters they are.
    correlation : str or None
        ``ar`` or ``cosy``, or partial correlations on (0, 1) of ``cor_residual``.
    """

    sigma: CoefNames
    correlation: str | None

    def sigma_coordinates(
        self, posterior: xr.Dataset, sigma: Sigma
    ) -> tuple[np.ndarray | None, dict[str, ParameterCoordinates]]:
        """Return draws of one sd, or those of strata or coefficients as the parameter sigma."""
        if not self.sigma:
            return None, {}
        values = read_coef(self.sigma, posterior, len(sigma.labels))
        if sigma.kind == "one":
            return values[..., 0], {}
        nothing = values[..., :0]
        pair = (values, nothing) if sigma.kind == "strata" else (nothing, values)
        return None, {"sigma": ParameterCoordinates(*pair)}


@dataclass(frozen=True)
class ResidualGraph:
    """The residuals as PyTensor variables.

    Attributes
    ----------
    names : ResidualNames
    sd : variable or None
        Sd of each row: one value, or (n,); None where known errors replace it.
    correlation : variable or None
        ``ar``, ``cosy``, or the Cholesky factor of ``cor_residual`` (T, T).
    """

    names: ResidualNames
    sd: Any
    correlation: Any


def residual_coords(residual: Residual | None) -> Coords:
    """Return the dims of the residuals' parameters with their labels."""
    coords: Coords = {}
    if residual is None:
        return coords
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "strata":
        coords[SIGMA_DIM] = sigma.labels
    if sigma is not None and sigma.slopes:
        coords[SIGMA_COEF_DIM] = sigma.slopes
    if residual.structure == "unstr":
        coords[SIGMA_DIM] = coords[SIGMA_DIM_BIS] = residual.occasions
    return coords


def add_residual(residual: Residual, priors: ResidualPriors) -> ResidualGraph:
    """Add the residuals' parameters under their published names."""
    sigma, sd = _sigma(residual, priors)
    name, correlation = _correlation(residual, priors)
    return ResidualGraph(ResidualNames(sigma, name), sd, correlation)


def _sigma(residual: Residual, priors: ResidualPriors) -> tuple[CoefNames, Any]:
    """Add sds, or coefficients of the log sd; return their names and the sd of the rows."""
    sigma = residual.sigma
    if sigma is None or sigma.kind == "modelled":
        return (), None
    if sigma.kind == "one":
        return ((VectorName(("sigma",), 1), (0,)),), random("sigma", priors.sigma[0])
    if sigma.kind == "strata":
        labels = [(label,) for label in sigma.labels]
        names, values = vector("sigma", priors.sigma, labels, (SIGMA_DIM,))
        if names.names != ("sigma",):
            pm.Deterministic("sigma", values, dims=SIGMA_DIM)
        return ((names, tuple(range(len(sigma.labels)))),), values[sigma.strata]
    free, gamma = add_coef(
        priors.sigma, priors.T, sigma.intercept, sigma.slopes, "sigma", SIGMA_COEF_DIM
    )
    return free, pt.exp(pt.dot(priors.predictors, gamma))[sigma.strata]


def _correlation(residual: Residual, priors: ResidualPriors) -> tuple[str | None, Any]:
    """Add the correlation parameter; return its free variable's name and its values."""
    name, prior = residual.correlation_name, priors.correlation
    if name is None or prior is None:
        return None, None
    if name == "cor_residual":
        free = f"partial_{name}"
        chol = correlation_factor(free, len(residual.occasions), prior)
        pm.Deterministic(name, pt.dot(chol, chol.T), dims=(SIGMA_DIM, SIGMA_DIM_BIS))
        return free, chol
    lower, upper = np.float64(priors.lower), np.float64(priors.upper)
    if prior.name == "Normal":
        mu, sd = (np.float64(value) for value in prior.values)
        return name, pm.TruncatedNormal(name, mu, sd, lower=lower, upper=upper)
    return name, pm.Uniform(name, lower, upper)


def row_sd(design: Design, sd: Any) -> Any:
    """Return the sd of the rows: what is estimated, with known precisions and errors."""
    if design.se is not None:
        return design.se if sd is None else pt.sqrt(design.se**2 + sd**2)
    if design.precision is not None:
        return sd / np.sqrt(design.precision)
    return sd


# --- correlated rows ------------------------------------------------------------------------


def add_correlated(name: str, design: Design, mu: Any, sd: Any, correlation: Any) -> None:
    """Add a response whose rows hang together within series."""
    residual = _structured(design)
    rows = pt.zeros(design.n) + sd
    if design.weights is not None:
        total = _log_density(residual, design.y - mu, rows, correlation, design.weights)
        pm.Potential(f"weighted_{name}", total)
        return
    ones = np.ones(design.n)
    pm.CustomDist(
        name,
        mu,
        rows,
        correlation,
        logp=lambda value, mu, sd, correlation: _log_density(
            residual, value - mu, sd, correlation, ones
        ),
        random=lambda mu, sd, correlation, rng=None, size=None: (
            mu + sd * _draw(residual, correlation, np.broadcast_shapes(mu.shape, size or ()), rng)
        ),
        signature=f"(n),(n),{'(t,t)' if residual.structure == 'unstr' else '()'}->(n)",
        observed=design.y,
        dims=OBS,
        class_name=f"Normal_{residual.structure}",
    )


def _structured(design: Design) -> Residual:
    """Return the residual of a design whose rows are correlated."""
    if design.residual is None or design.residual.term is None:
        raise EngineError("The rows of this model are independent.")
    return design.residual


def _log_density(residual: Residual, error: Any, sd: Any, correlation: Any, weight: Any) -> Any:
    """Return the log density of all rows, each series multiplied by its weight."""
    scores = error / sd
    scales = -pt.sum(weight * (pt.log(sd) + 0.5 * _LOG_2PI))
    density = {"ar": _ar, "cosy": _cosy, "unstr": _unstr}[residual.structure]
    return scales + density(residual, scores, correlation, weight)


def _ar(residual: Residual, scores: Any, ar: Any, weight: Any) -> Any:
    """Return the log density of standardised rows up to 2 pi: each row given the one before."""
    before, after, gaps = _neighbours(residual)
    first = np.setdiff1d(np.arange(residual.n), after)
    carried = ar**gaps
    # 1 - x^2 of a gap, in a form that keeps its digits where x is near one
    left = (1.0 - carried) * (1.0 + carried)
    new = scores[after] - carried * scores[before]
    total = pt.sum(weight[after] * (new**2 / left + pt.log(left)))
    return -0.5 * (total + pt.sum(weight[first] * scores[first] ** 2))


def _neighbours(residual: Residual) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs of rows that follow each other in a series, and the gaps of their times."""
    if residual.order is None or residual.series is None or residual.time is None:
        raise EngineError("A residual structure in time has times and series; this one has none.")
    before, after = residual.order[:-1], residual.order[1:]
    same = residual.series[before] == residual.series[after]
    before, after = before[same], after[same]
    return before, after, (residual.time[after] - residual.time[before]).astype(np.float64)


def _cosy(residual: Residual, scores: Any, cosy: Any, weight: Any) -> Any:
    """Return the log density of standardised rows up to 2 pi: means and deviations from them."""
    series = _series(residual)
    sizes = np.bincount(series).astype(np.float64)
    own = np.zeros(len(sizes))
    own[series] = weight
    means = pt.zeros(len(sizes))[series].inc(scores) / sizes
    between = 1.0 + (sizes - 1.0) * cosy
    deviations = pt.sum(weight * (scores - means[series]) ** 2) / (1.0 - cosy)
    total = deviations + pt.sum(own * (sizes * means**2 / between + pt.log(between)))
    return -0.5 * (total + float(np.sum(own * (sizes - 1.0))) * pt.log1p(-cosy))


def _series(residual: Residual) -> np.ndarray:
    """Return the series of each row."""
    if residual.series is None:
        raise EngineError("A residual structure has series; this one has none.")
    return residual.series


def _unstr(residual: Residual, scores: Any, chol: Any, weight: Any) -> Any:
    """Return the log density of standardised rows up to 2 pi, by number of occasions seen."""
    total = 0.0
    matrix = pt.dot(chol, chol.T)
    for rows, occasions in _patterns(residual):
        seen, pattern = np.unique(occasions, axis=0, return_inverse=True)
        m = seen.shape[1]
        if np.array_equal(seen, [np.arange(m)]):
            # the first occasions, or all: a part of the factor itself
            factor = chol[:m, :m][None]
        else:
            factor = linalg.cholesky(matrix[seen[:, :, None], seen[:, None, :]])
        inverse = linalg.solve_triangular(factor, pt.eye(m)[None], lower=True, b_ndim=2)
        whitened = pt.sum(inverse[pattern] * scores[rows][:, None, :], axis=2)
        own = weight[rows[:, 0]]
        counts = np.bincount(pattern, own)
        logs = pt.log(pt.diagonal(factor, axis1=1, axis2=2))
        total = total - 0.5 * pt.sum(own[:, None] * whitened**2)
        total = total - pt.sum(counts[:, None] * logs)
    return total


def _patterns(residual: Residual) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the series by number of rows m: rows (series, m) and their occasions (series, m)."""
    series = _series(residual)
    if residual.order is None or residual.time is None:
        raise EngineError("An unstructured covariance has occasions; this one has none.")
    sizes = np.bincount(series)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    found = []
    for m in np.unique(sizes):
        rows = residual.order[starts[sizes == m][:, None] + np.arange(m)]
        found.append((rows, residual.time[rows]))
    return found


# --- draws of the response ------------------------------------------------------------------


def _draw(
    residual: Residual,
    correlation: np.ndarray,
    shape: tuple[int, ...],
    rng: np.random.Generator | None,
) -> np.ndarray:
    """Return standardised rows (..., n) of a structure."""
    rng = np.random.default_rng() if rng is None else rng
    noise = rng.standard_normal(shape)
    parameter = np.asarray(correlation)
    if residual.structure == "cosy":
        series = _series(residual)
        sizes = np.bincount(series).astype(np.float64)
        means = np.zeros((*shape[:-1], len(sizes)))
        np.add.at(means.T, series, noise.T)
        means /= sizes
        root = np.sqrt(1.0 + (sizes - 1.0) * parameter[..., None])
        within = np.sqrt(1.0 - parameter)[..., None] * (noise - means[..., series])
        return np.asarray(within + (root * means)[..., series])
    if residual.structure == "unstr":
        series = _series(residual)
        scores = rng.standard_normal((*shape[:-1], int(series.max()) + 1, parameter.shape[-1]))
        whole = scores @ np.swapaxes(parameter, -1, -2)
        return np.asarray(whole[..., series, residual.time])
    before, after, gaps = _neighbours(residual)
    carried = parameter[..., None] ** gaps
    left = np.sqrt((1.0 - carried) * (1.0 + carried))
    place = _places(before, after)
    for k in range(int(place.max()) + 1):
        own = place == k
        old, new = noise[..., before[own]], noise[..., after[own]]
        noise[..., after[own]] = carried[..., own] * old + left[..., own] * new
    return noise


def _places(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how many pairs of the same series stand before each pair."""
    starts = np.flatnonzero(np.r_[True, before[1:] != after[:-1]])
    return np.asarray(
        np.arange(len(before)) - np.repeat(starts, np.diff(np.r_[starts, len(before)]))
    )

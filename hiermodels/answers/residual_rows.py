"""Residuals of a Gaussian model at any rows: their sds, and joint draws under a structure."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.new_levels import flat
from hiermodels.answers.rows import Rows, needed_column
from hiermodels.engines.residual_variances import residual_variances
from hiermodels.errors import DataError, FitError
from hiermodels.spec.coding import code_columns, evaluate_factors, evaluate_number
from hiermodels.spec.design import Design
from hiermodels.spec.encoding import Encoding, Levels
from hiermodels.spec.frame import as_groups, as_predictor, combine_groups
from hiermodels.spec.residual import Residual
from hiermodels.spec.residual_terms import ResidualTerm
from hiermodels.spec.rowless import product_rows
from hiermodels.spec.series import times
from hiermodels.spec.sigma import Sigma

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_SIGMAS = ("sigma", "sigma_Intercept", "sigma_b")


def residual_rows(design: Design, rows: Rows) -> Design:
    """Return the design with the residual of other rows in place of its own.

    Raises
    ------
    DataError
        A column that the residual's sd or structure needs is missing, or a level or an occasion
        was not seen by the fit.
    """
    # without rows: those that stand for them, which know how sigma is coded
    design = product_rows(design)
    own = design.residual
    if rows.own or own is None:
        return design
    frame = rows.data
    se = _addition(design, frame, "se")
    precision = _addition(design, frame, "precision")
    scale = None if precision is None else np.sqrt(precision)
    if se is not None and not design.se_with_sigma:
        scale = 1.0 / se
    series, time = None, None
    if own.term is not None:
        series, time = _series(own.term, own, frame)
    sigma = None if own.sigma is None else _sigma(design, own.sigma, frame, time)
    residual = replace(
        own, sigma=sigma, scale=scale, n=len(frame), found=None, series=series, time=time
    )
    return replace(design, residual=residual, se=se)


def residual_sds(design: Design, posterior: xr.Dataset, take: Ints) -> Floats:
    """Return draws of each row's residual sd (S, n)."""
    values = {name: flat(posterior[name], take) for name in _SIGMAS if name in posterior}
    variances = residual_variances(design, values)
    return np.sqrt(np.broadcast_to(variances, (len(take), variances.shape[-1])))


def draw_residual_rows(
    design: Design, posterior: xr.Dataset, take: Ints, rng: np.random.Generator
) -> Floats:
    """Draw the residuals of all rows, jointly under a structure (S, n).

    Rows of one series are drawn together; series are independent of each other and of the
    residuals that the fit has seen.
    """
    residual = design.residual
    if residual is None:
        raise FitError("The family has no residuals of a Gaussian model.")
    sds = residual_sds(design, posterior, take)
    normal = rng.standard_normal(sds.shape)
    if residual.term is None or residual.series is None or residual.correlation_name is None:
        return np.asarray(sds * normal)
    correlation = flat(posterior[residual.correlation_name], take)
    if residual.structure == "cosy":
        return np.asarray(sds * _equal(correlation, residual.series, normal, residual))
    if residual.time is None:
        raise FitError(f"The rows have no times for {residual.term}.")
    if residual.structure == "ar":
        return np.asarray(
            sds * _autoregressive(correlation, residual.series, residual.time, normal)
        )
    return np.asarray(sds * _unstructured(correlation, residual.series, residual.time, rng))


# --- joint draws with unit variance ---------------------------------------------------------------


def _autoregressive(
    ar: Floats, series: Ints, time: npt.NDArray[np.int64], normal: Floats
) -> Floats:
    """Return first-order autoregressions on integer times with gaps (S, n)."""
    order = np.lexsort((time, series))
    first = np.r_[True, np.diff(series[order]) != 0]
    starts = np.flatnonzero(first)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    out = normal.copy()
    with np.errstate(divide="ignore"):
        log_size = np.log(np.abs(ar))[:, None]
    for step in range(1, int(rank.max()) + 1):
        places = np.flatnonzero(rank == step)
        now, before = order[places], order[places - 1]
        gap = (time[now] - time[before]).astype(np.float64)
        carried = np.power(ar[:, None], gap)
        fresh = np.sqrt(-np.expm1(2.0 * gap * log_size))
        out[:, now] = carried * out[:, before] + fresh * normal[:, now]
    return out


def _equal(rho: Floats, series: Ints, normal: Floats, residual: Residual) -> Floats:
    """Return values with one correlation within each series (S, n)."""
    sizes = np.bincount(series)
    lowest = 1.0 + (float(sizes.max()) - 1.0) * float(np.min(rho))
    if lowest < 0:
        raise FitError(
            f"A series of {int(sizes.max())} rows cannot have the correlation {np.min(rho):.3g} "
            f"that a draw of {residual.term} has. Ask for shorter series."
        )
    order = np.argsort(series, kind="stable")
    used = sizes[sizes > 0]
    sums = np.add.reduceat(normal[:, order], np.r_[0, np.cumsum(used)[:-1]], axis=1)
    means = np.empty_like(normal)
    means[:, order] = np.repeat(sums / used, used, axis=1)
    between = np.sqrt(np.maximum(1.0 + (sizes[series] - 1.0) * rho[:, None], 0.0))
    return np.asarray(np.sqrt(1.0 - rho)[:, None] * (normal - means) + between * means)


def _unstructured(
    correlation: Floats, series: Ints, occasion: npt.NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Return values with a correlation matrix over occasions (S, n)."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    out = np.empty((len(root), len(series)))
    for one in np.unique(series):
        rows = np.flatnonzero(series == one)
        normal = rng.standard_normal(root.shape[:2])
        out[:, rows] = np.einsum("sab,sb->sa", root[:, occasion[rows]], normal)
    return out


# --- new rows -----------------------------------------------------------------------------------


def _addition(design: Design, frame: pd.DataFrame, name: str) -> Floats | None:
    """Return a positive addition of the response at new rows; None where the formula has none."""
    addition = design.formula.additions.get(name)
    if addition is None:
        return None
    hint = f" The spread of the response needs it: {name}({addition.expression.label})."
    columns = {
        column: as_predictor(needed_column(frame, column, hint), column)
        for column in addition.expression.columns
    }
    values = evaluate_number(addition.expression, columns, name)
    if np.any(values <= 0):
        raise DataError(
            f"{name}({addition.expression.label}) is {np.min(values):g} in the new data; it must "
            "be above 0."
        )
    return values


def _series(
    term: ResidualTerm, own: Residual, frame: pd.DataFrame
) -> tuple[Ints, npt.NDArray[np.int64]]:
    """Return the series of new rows, and their times or occasions."""
    hint = f" The residuals' structure {term} needs it."
    for name in term.columns:
        needed_column(frame, name, hint)
    series, labels = combine_groups([as_groups(frame[name], name) for name in term.group])
    time, occasions = times(term, frame, series, labels)
    if term.structure != "unstr":
        return series, time
    position = {label: k for k, label in enumerate(own.occasions)}
    new = [label for label in occasions if label not in position]
    if new:
        raise DataError(
            f"{term} has no occasion {new[0]!r}; known are {', '.join(own.occasions[:12])}."
        )
    return series, np.array([position[label] for label in occasions], dtype=np.int64)[time]


def _sigma(
    design: Design, sigma: Sigma, frame: pd.DataFrame, time: npt.NDArray[np.int64] | None
) -> Sigma:
    """Return which sd each new row has."""
    formula = design.formula.sigma
    if sigma.kind in ("one", "modelled"):
        return sigma
    if formula is None or not sigma.written:
        # unstr: a sd for each occasion
        return sigma if time is None else replace(sigma, strata=time.astype(np.intp))
    predictors = {
        name: as_predictor(design.data[name], name)
        for name in dict.fromkeys(n for f in formula.factors.values() for n in f.columns)
    }
    states: dict[str, Any] = copy.deepcopy(dict(sigma.states))
    values = evaluate_factors(formula.factors, predictors, states)
    spec = code_columns(formula.common, values, design.data.index)[1]
    levels = {name: _levels(column) for name, column in predictors.items()}
    encoding = Encoding(formula.factors, levels, states, spec, (), (formula.common,))
    X = encoding.matrices(frame)[0]
    if sigma.kind == "strata":
        return replace(sigma, strata=np.argmax(X, axis=1).astype(np.intp))
    return replace(sigma, predictors=X, strata=np.arange(len(X)))


def _levels(column: "pd.Series[Any]") -> Levels | None:
    """Return the levels of a factor, None of numbers."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return None
    return Levels(tuple(column.cat.categories), bool(column.cat.ordered))

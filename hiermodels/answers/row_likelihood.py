"""Log densities of rows as their responses were observed: bounds, and only within bounds."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from hiermodels.engines.assembly import observed_response, truncation_bounds
from hiermodels.engines.bounded_responses import log_between
from hiermodels.engines.responses import log_likelihood
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
# The least and the largest value of a response, beyond which a bound says nothing.
_ENDS: Final = {"positive": (0.0, np.inf), "count": (0.0, np.inf), "unit": (0.0, 1.0)}
_LEFT, _RIGHT, _INTERVAL = -1, 1, 2


def row_log_likelihood(
    family: Family, design: Design, eta: Floats, parameters: Mapping[str, Floats]
) -> Floats:
    """Return the log likelihood of a design's rows at linear predictors, weights included.

    Parameters
    ----------
    family : Family
    design : Design
        With as many rows as `eta` has.
    eta : ndarray (..., n)
    parameters : mapping of str to ndarray
        On the response scale, (..., n) or (..., 1).

    Returns
    -------
    ndarray (..., n)
        Of a censored row the log probability of the values that it may have, between the bounds of
        truncation if any; under truncation given that the response lies within them.
    """
    y, kind, upper = observed_response(design)
    # what stands for a censored response may have no density: any seen one takes its place
    seen = y if kind is None else y[kind == 0]
    dense = y if kind is None else np.where(kind == 0, y, seen[0] if seen.size else np.nan)
    found = (
        log_likelihood(family, dense, eta, parameters, design.trials)
        if seen.size
        else np.zeros(eta.shape)
    )
    bounds = truncation_bounds(design)
    if kind is not None:
        low = np.where((kind == _RIGHT) | (kind == _INTERVAL), y, -np.inf)
        high = np.where(kind == _LEFT, y, np.inf)
        if upper is not None:
            high = np.where(kind == _INTERVAL, upper, high)
        # a copy: rows without a bound keep their density
        found = np.array(np.broadcast_to(found, eta.shape))
        rows = np.flatnonzero(kind != 0)
        found[..., rows] = _log_mass(family, low, high, eta, parameters, rows)
    if bounds is not None:
        every = np.arange(design.n)
        found = found - _log_mass(family, bounds[:, 0], bounds[:, 1], eta, parameters, every)
    return found if design.weights is None else np.asarray(found * design.weights)


def _log_mass(
    family: Family, low: Floats, high: Floats, eta: Floats, parameters: Mapping[str, Floats],
    rows: Ints,
) -> Floats:  # fmt: skip
    """Return log P(low <= Y <= high) of some rows (..., m); infinite numbers are no bounds."""
    least, largest = _ENDS.get(family.response, (-np.inf, np.inf))
    has_low, has_high = low[rows] > least, high[rows] < largest
    out = np.zeros((*eta.shape[:-1], len(rows)))
    for first, last in ((True, False), (False, True), (True, True)):
        at = np.flatnonzero((has_low == first) & (has_high == last))
        if not at.size:
            continue
        own = rows[at]
        out[..., at] = log_between(
            family,
            low[own] if first else None,
            high[own] if last else None,
            eta[..., own],
            {name: _columns(value, own, len(low)) for name, value in parameters.items()},
        )
    return out


def _columns(value: Floats, rows: Ints, n: int) -> Floats:
    """Return a parameter at some of the rows, where it has one value for each."""
    each = value.ndim > 0 and value.shape[-1] == n and n > 1
    return np.asarray(value[..., rows]) if each else value

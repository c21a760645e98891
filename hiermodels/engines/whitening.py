"""Whitened coordinates: a fixed linear map that makes coefficients and group effects independent.

At the mode of the Laplace-marginal posterior the arrow's factor gives the covariance of all
coefficients and group effects; the map undoes it, and lets them follow the scales as their modes
do. It is fixed before sampling, so that its Jacobian is constant and the posterior untouched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_thinning import thin_corner
from hiermodels.engines.arrow_triangle import Triangle
from hiermodels.engines.sections import write_section
from hiermodels.engines.whitening_kernels import (
    AT_COLUMN,
    AT_FACTOR_COLUMN,
    AT_FACTOR_START,
    AT_FACTOR_VALUE,
    AT_INVERSE,
    AT_MODE,
    AT_PLACE,
    AT_SCALE,
    AT_SHEAR,
    AT_SIZE,
    AT_START,
    AT_VALUE,
    HEAD,
    LENGTH,
    LOCATIONS,
    SCALES,
    gradient_kernel,
    unwhiten_kernel,
)
from hiermodels.engines.whitening_mode import MarginalMode, Peak, WhiteModel, find_peak

Array = NDArray[np.float64]
Index = NDArray[np.int64]
# Effects in the corner beyond which it is thinned; smaller groupings are kept whole all the same.
WIDE: Final = 600
_NARROW: Final = 100
# Posterior sds below the mode at which a bar must still be well informed to be centred.
_LOWER: Final = 2.0
# Locations do not follow a scale with a larger posterior sd, for which modes are no straight line:
# with 50 groups alike (sd 0.6) following costs a third of the effective draws.
_LOOSE: Final = 0.4


@dataclass(frozen=True, eq=False)
class WhiteningMap:
    """The map x = mode + M xi.

    Attributes
    ----------
    section : ndarray
        What the compiled functions read: numbers, and whole numbers of the same width.
    mode : ndarray (ndim,)
        In the form that is sampled.
    effects : ndarray
        At the mode, group effects themselves, bar by bar.
    log_det : float
        log|det M|, which is constant.
    entries : int
        Multiplications of one application.
    followed : tuple of bool
        By scale whether the locations follow it.
    """

    section: Array
    mode: Array
    effects: Array
    log_det: float
    entries: int
    followed: tuple[bool, ...]

    def unwhiten(self, xi: Array) -> Array:
        """Return coordinates of scores; both (..., ndim)."""
        flat = np.ascontiguousarray(xi, dtype=np.float64).reshape(-1, len(self.mode))
        out = np.empty_like(flat)
        unwhiten_kernel(self.section, flat, out)
        return out.reshape(np.shape(xi))

    def pull_back(self, gradient: Array) -> Array:
        """Return the gradient by scores (ndim,) of that by coordinates."""
        out = np.empty(len(self.mode))
        gradient_kernel(self.section, np.ascontiguousarray(gradient, dtype=np.float64), out)
        return out


@dataclass(frozen=True, eq=False)
class Whitening:
    """A map and the form of each bar that it is for.

    Attributes
    ----------
    map : WhiteningMap
    centred : tuple of bool
        By bar.
    """

    map: WhiteningMap
    centred: tuple[bool, ...]


def whiten(
    model: WhiteModel, start: Array, centred: Sequence[bool] | None = None
) -> Whitening | None:
    """Return the whitening map of a model; None where no mode is found.

    Parameters
    ----------
    model : WhiteModel
    start : ndarray (ndim,)
        Where the search begins, in standard scores.
    centred : sequence of bool, optional
        By bar, whether its effects themselves are sampled. By default where its mean pooling
        factor is below one half even at the lower end of what the data allow for its sds.
    """
    marginal = MarginalMode(model)
    peak = find_peak(marginal, start)
    if peak is None:
        return None
    forms = _forms(marginal, peak) if centred is None else tuple(bool(own) for own in centred)
    if marginal.locate(peak.x) is None:
        return None
    return Whitening(_map(marginal, peak, forms), forms)


def sampled_form(model: WhiteModel, centred: Sequence[bool], x: Array) -> Array:
    """Return x (ndim,) with the scores of centred bars turned into effects."""
    out = x.copy()
    for bar, form in zip(model.bars, centred, strict=True):
        if form:
            scores = x[bar.effects].reshape(-1, bar.q)
            out[bar.effects] = (scores @ bar.factor(x).T).ravel()
    return out


def _slopes(model: WhiteModel, centred: Sequence[bool], peak: Peak) -> Array:
    """Return derivatives by each scale of x as it is sampled (scales, ndim)."""
    h, found = 1e-6, []
    for size, line in zip(peak.sizes, peak.slopes, strict=True):
        if size > _LOOSE:
            found.append(np.zeros(model.ndim))
            continue
        ahead = sampled_form(model, centred, peak.x + h * line)
        behind = sampled_form(model, centred, peak.x - h * line)
        found.append((ahead - behind) / (2.0 * h))
    return np.array(found).reshape(len(peak.slopes), model.ndim)


def _forms(marginal: MarginalMode, peak: Peak) -> tuple[bool, ...]:
    """Return for each bar whether the data inform its levels even where its sds are small."""
    model = marginal.model
    low = peak.x.copy()
    places = {int(at): k for k, at in enumerate(model.scales)}
    for bar in model.bars:
        for at in range(bar.sds.start, bar.sds.stop):
            low[at] -= _LOWER * peak.sizes[places[at]]
    if marginal.locate(low) is None:
        return (False,) * len(model.bars)
    own, _, _ = marginal.arrow.blocks()
    forms = []
    for bar, block in zip(model.bars, own, strict=True):
        factor = bar.factor(low)
        rows = factor / np.sqrt(np.sum(factor**2, axis=1))[:, None]
        pooling = np.einsum("ab,jbc,ac->ja", rows, block, rows)
        forms.append(bool(np.all(pooling.mean(axis=0) < 0.5)))
    return tuple(forms)


# --- the map --------------------------------------------------------------------------------


def _map(marginal: MarginalMode, peak: Peak, centred: tuple[bool, ...]) -> WhiteningMap:
    """Return the map at a peak whose factor stands in the arrow's working memory."""
    model, triangle = marginal.model, _triangle(marginal)
    firsts = np.array([bar.effects.start for bar in model.bars] + [model.coef.start])
    # the last one is the coefficients', whose grouping is -1
    place = firsts[triangle.grouping] + triangle.position
    start, column, value, own = _factor_rows(model, peak.x, centred, place, triangle.grouping)
    mode = sampled_form(model, centred, peak.x)
    slopes = _slopes(model, centred, peak) * peak.sizes[:, None]
    parts: dict[int, NDArray[np.generic]] = {
        AT_MODE: mode,
        AT_PLACE: place,
        AT_START: triangle.start,
        AT_COLUMN: triangle.column,
        AT_VALUE: triangle.value,
        AT_INVERSE: 1.0 / triangle.diagonal,
        AT_FACTOR_START: start,
        AT_FACTOR_COLUMN: column,
        AT_FACTOR_VALUE: value,
        AT_SCALE: model.scales,
        AT_SIZE: peak.sizes,
        AT_SHEAR: slopes[:, place],
    }
    log_det = float(np.sum(np.log(own)) - np.sum(np.log(triangle.diagonal)))
    log_det += float(np.sum(np.log(peak.sizes)))
    entries = len(triangle.value) + len(value) + slopes.size
    followed = tuple(bool(size <= _LOOSE) for size in peak.sizes)
    head = np.zeros(HEAD, dtype=np.int64)
    head[LOCATIONS], head[SCALES] = len(place), len(peak.sizes)
    section = write_section(head, LENGTH, parts)
    effects = sampled_form(model, (True,) * len(model.bars), peak.x)
    raw = np.concatenate([np.zeros(0), *(effects[bar.effects] for bar in model.bars)])
    return WhiteningMap(section, mode, raw, log_det, entries, followed)


def _triangle(marginal: MarginalMode) -> Triangle:
    """Return the factor that stands in the arrow's working memory, a wide corner thinned."""
    whole, arrow = marginal.arrow.triangle(), marginal.arrow
    sizes = {
        k: arrow.gram.groupings[k].n_levels * arrow.gram.groupings[k].q for k in arrow.gram.border
    }
    if sum(sizes.values()) <= WIDE:
        return whole
    wide = {k: arrow.gram.groupings[k].q for k, size in sizes.items() if size > _NARROW}
    if not wide:
        return whole
    corner = len(whole.diagonal) - sum(sizes.values()) - marginal.model.X.shape[1]
    return thin_corner(whole, corner, wide)


def _factor_rows(
    model: WhiteModel, x: Array, centred: tuple[bool, ...], place: Index, grouping: Index
) -> tuple[Index, Index, Array, Array]:
    """Return by location the entries of D, sparse, and its diagonal."""
    row_of = np.full(model.ndim, -1, dtype=np.int64)
    row_of[place] = np.arange(len(place))
    rows, columns, values = [], [], []
    diagonal = np.ones(len(place))
    for bar, form in zip(model.bars, centred, strict=True):
        factor = bar.factor(x) if form else np.eye(bar.q)
        levels = bar.effects.start + np.arange(bar.n_levels) * bar.q
        for a in range(bar.q):
            diagonal[row_of[levels + a]] = factor[a, a]
            for c in range(a + 1):
                if c < a and factor[a, c] == 0.0:
                    continue
                rows.append(row_of[levels + a])
                columns.append(row_of[levels + c])
                values.append(np.full(bar.n_levels, factor[a, c]))
    own = np.flatnonzero(grouping < 0)
    rows.append(own)
    columns.append(own)
    values.append(np.ones(len(own)))
    row, column, value = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    order = np.argsort(row, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(place)))])
    return start.astype(np.int64), column[order].astype(np.int64), value[order], diagonal

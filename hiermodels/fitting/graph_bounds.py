"""Censored and truncated responses in a PyMC graph: probabilities of intervals, bounds included."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hiermodels.errors import EngineError
from hiermodels.fitting.graph_densities import RowDensity
from hiermodels.fitting.graph_functions import log_difference
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family

_LEFT, _RIGHT, _INTERVAL = -1, 1, 2
# The least and the largest value of a response, beyond which a bound says nothing.
_ENDS = {"positive": (0.0, np.inf), "count": (0.0, np.inf), "unit": (0.0, 1.0)}


def log_rows(
    design: Design, family: Family, density: RowDensity, value: Any, inputs: Sequence[Any]
) -> Any:
    """Return the log likelihood of each row (n,), as its response was observed.

    A censored response lies between its bound and that of truncation, where there is one.
    """
    rows = density.log_density(value, *inputs)
    if design.censoring is None and design.truncation is None:
        return rows
    intervals = _intervals(family, density, inputs)
    lower, upper = _truncation(design, family)
    if design.censoring is not None:
        kind = design.censoring.kind
        left, right = np.flatnonzero(kind == _LEFT), np.flatnonzero(kind == _RIGHT)
        inside = np.flatnonzero(kind == _INTERVAL)
        for own, low, high in (
            (left, lower[left], value[left]),
            (right, value[right], upper[right]),
            (inside, value[inside], design.censoring.upper[inside]),
        ):
            if own.size:
                rows = rows[own].set(intervals.log_mass(low, high, own))
    if design.truncation is not None:
        rows = rows - intervals.log_mass(lower, upper, np.arange(design.n))
    return rows


def _truncation(design: Design, family: Family) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of each row's response, infinite where they say nothing."""
    found = design.truncation
    lower, upper = np.full(design.n, -np.inf), np.full(design.n, np.inf)
    if found is not None:
        lower = lower if found.lower is None else found.lower
        upper = upper if found.upper is None else found.upper
    if family.discrete:
        lower, upper = np.ceil(lower), np.floor(upper)
    least, largest = _ENDS.get(family.response, (-np.inf, np.inf))
    return np.where(lower > least, lower, -np.inf), np.where(upper < largest, upper, np.inf)


def _intervals(family: Family, density: RowDensity, inputs: Sequence[Any]) -> "_Intervals":
    """Return what gives the probabilities of a family's intervals."""
    if density.below is None or density.above is None:
        raise EngineError(f"The family {family.name!r} has no distribution function here.")
    return _Intervals(
        density.log_density, density.below, density.above, family.discrete, tuple(inputs)
    )


@dataclass(frozen=True)
class _Intervals:
    """Log probabilities of intervals, by row.

    Attributes
    ----------
    density, below, above : callable
        As in RowDensity.
    discrete : bool
    inputs : tuple of variable
        The linear predictor and further parameters of all rows, or one value.
    """

    density: Callable[..., Any]
    below: Callable[..., Any]
    above: Callable[..., Any]
    discrete: bool
    inputs: tuple[Any, ...]

    def log_mass(self, low: Any, high: Any, rows: np.ndarray) -> Any:
        """Return log P(low <= Y <= high) of some rows; infinite numbers are no bounds."""
        has_low, has_high = (
            np.isfinite(end) if isinstance(end, np.ndarray) else np.ones(len(rows), dtype=bool)
            for end in (low, high)
        )
        total = pt.zeros(len(rows))
        for chosen, a, b in (
            (has_low & ~has_high, low, None),
            (has_high & ~has_low, None, high),
            (has_low & has_high, low, high),
        ):
            k = np.flatnonzero(chosen)
            if not k.size:
                continue
            own = [x[rows[k]] if pt.as_tensor(x).ndim else x for x in self.inputs]
            ends = [end if end is None else end[k] for end in (a, b)]
            total = total[k].set(self._some(ends[0], ends[1], own, k.size))
        return total

    def _some(self, low: Any, high: Any, own: list[Any], size: int) -> Any:
        """Return log P(low <= Y <= high) where all rows have the same ends."""
        if high is None and self.discrete and isinstance(low, np.ndarray) and np.all(low == 1):
            # all but zero, without an incomplete beta or gamma function
            return pm.math.log1mexp(self.density(np.zeros(size), *own))
        if high is None:
            return self.above(low, *own)
        if low is None:
            return self.below(high, *own)
        return self._between(low, high, own)

    def _between(self, low: Any, high: Any, own: list[Any]) -> Any:
        """Return log P(low <= Y <= high), as a difference on the side where both are tails."""
        above_low, below_high = self.above(low, *own), self.below(high, *own)
        if not self.discrete:
            by_upper = log_difference(above_low, self.above(high, *own))
            by_lower = log_difference(below_high, self.below(low, *own))
            return pt.switch(above_low < below_high, by_upper, by_lower)
        by_upper = log_difference(above_low, self.above(high + 1, *own))
        by_lower = log_difference(below_high, self.below(pt.maximum(low - 1, 0), *own))
        found = pt.switch(above_low < below_high, by_upper, by_lower)
        # from zero on there is nothing below
        return pt.switch(pt.le(low, 0), below_high, found)

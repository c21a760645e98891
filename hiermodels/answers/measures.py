"""What comparisons and slopes are made of: rows at some points, and what of them is averaged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from hiermodels.answers.contrasting import changes
from hiermodels.answers.predicting import Asked, coded_rows
from hiermodels.answers.rows import Rows
from hiermodels.answers.stepping import stencil
from hiermodels.errors import DataError, FitError, FormulaError
from hiermodels.spec.design import Design

Floats = npt.NDArray[np.float64]
# Functions of the predictions after and before a change.
_Function = Callable[[Floats, Floats], Any]
_FUNCTIONS: dict[str, _Function] = {
    "difference": lambda high, low: high - low,
    "ratio": lambda high, low: high / low,
    "lnratio": lambda high, low: np.log(high / low),
    "lnor": lambda high, low: special.logit(high) - special.logit(low),
    "lift": lambda high, low: (high - low) / low,
}
COMPARISONS: tuple[str, ...] = (*_FUNCTIONS, *(f"{n}avg" for n in _FUNCTIONS if n != "difference"))
SLOPES: tuple[str, ...] = ("dydx", "eyex", "eydx", "dyex")
# Functions of averages that take any numbers, and so need no look at each row.
_OF_AVERAGES = ("ratioavg", "liftavg")


@dataclass(frozen=True)
class Measure:
    """One comparison or slope.

    Attributes
    ----------
    term, contrast : str
    frames : tuple of pandas.DataFrame, length F
        The rows at each point.
    parts : callable
        Returns from predictions (S, F, m, K) what is averaged over rows, each (S, m, K).
    finish : callable
        Returns the result from the averages of the parts, each (S, cells, K).
    weights : tuple of ndarray (F, m), or None
        Where the parts are weighted sums over the points: the weights of each.
    """

    term: str
    contrast: str
    frames: tuple[pd.DataFrame, ...]
    parts: Callable[[Floats], list[Floats]]
    finish: Callable[[Sequence[Floats]], Floats]
    weights: tuple[Floats, ...] | None


@dataclass(frozen=True)
class Measures:
    """Comparisons or slopes, whatever the rows.

    Attributes
    ----------
    of : callable
        From rows to the measures, in order.
    linear : bool
        Whether they have weights.
    """

    of: Callable[[pd.DataFrame], Iterator[Measure]]
    linear: bool


def comparison_measures(design: Design, chosen: Mapping[str, Any], comparison: str) -> Measures:
    """Return the comparisons of predictors.

    Parameters
    ----------
    design : Design
    chosen : mapping
        The change of each predictor.
    comparison : str
        One of ``COMPARISONS``.
    """

    def measures(frame: pd.DataFrame) -> Iterator[Measure]:
        ones, zeros = np.ones(len(frame)), np.zeros(len(frame))
        low, high = np.stack([ones, zeros]), np.stack([zeros, ones])
        weights: tuple[Floats, ...] | None = None
        if comparison == "difference":
            weights = (high - low,)
        elif comparison in _OF_AVERAGES:
            weights = (low, high)
        parts = partial(_compared, comparison)
        for name, asked in chosen.items():
            for change in changes(design, frame, name, asked):
                frames = change.low, change.high
                finish = partial(_finished, comparison)
                yield Measure(name, change.contrast, frames, parts, finish, weights)

    return Measures(measures, comparison in ("difference", *_OF_AVERAGES))


def _compared(comparison: str, values: Floats) -> list[Floats]:
    """Return what a comparison averages."""
    low, high = values[:, 0], values[:, 1]
    _check_range(comparison, low, high)
    if comparison.endswith("avg"):
        return [low, high]
    return [np.asarray(_FUNCTIONS[comparison](high, low))]


def _finished(comparison: str, averages: Sequence[Floats]) -> Floats:
    """Return a comparison from the averages of its parts."""
    if comparison.endswith("avg"):
        low, high = averages
        return np.asarray(_FUNCTIONS[comparison.removesuffix("avg")](high, low))
    return averages[0]


def _check_range(comparison: str, low: Floats, high: Floats) -> None:
    """Raise FitError where a comparison has no meaning for these predictions."""
    kind = comparison.removesuffix("avg")
    if kind == "difference":
        return
    smallest = min(float(low.min()), float(high.min()))
    largest = max(float(low.max()), float(high.max()))
    if kind == "lnor" and not 0 <= smallest <= largest <= 1:
        raise FitError(
            f"comparison={comparison!r} compares odds, and predictions reach from {smallest:.3g} "
            f"to {largest:.3g}; they must be probabilities."
        )
    if kind == "lnratio" and smallest < 0:
        raise FitError(
            f"comparison={comparison!r} takes logarithms, and a prediction is {smallest:.3g}. Use "
            "'difference'."
        )


def slope_measures(design: Design, names: Sequence[str], slope: str) -> Measures:
    """Return the slopes in predictors.

    Parameters
    ----------
    design : Design
    names : sequence of str
        Numeric predictors.
    slope : str
        One of ``SLOPES``.
    """

    def measures(frame: pd.DataFrame) -> Iterator[Measure]:
        for name in names:
            points = stencil(design, frame, name)
            weights = points.weights
            if slope in ("eyex", "dyex"):
                weights = weights * points.x
            relative = slope in ("eyex", "eydx")
            parts = partial(_differentiated, weights, relative)
            linear = None if relative else (weights,)
            yield Measure(name, slope, points.frames, parts, _only, linear)

    return Measures(measures, slope in ("dydx", "dyex"))


def _differentiated(weights: Floats, relative: bool, values: Floats) -> list[Floats]:
    """Return derivatives, divided by the predictions at the rows where they are relative."""
    derivative = np.einsum("sfmk,fm->smk", values, weights)
    return [derivative / values[:, 0] if relative else derivative]


def _only(averages: Sequence[Floats]) -> Floats:
    """Return the only average."""
    return averages[0]


# --- predictions at the points --------------------------------------------------------------------


def coded_points(asked: Asked, measure: Measure, points: Sequence[int]) -> Rows:
    """Return the rows at some of a measure's points, coded one after another.

    Raises
    ------
    FitError
        A change leads out of a function's range.
    """
    every = pd.concat([measure.frames[point] for point in points], ignore_index=True)
    try:
        return coded_rows(asked, every)
    except FormulaError as error:
        if isinstance(error, DataError) or measure.contrast in SLOPES:
            raise
        raise FitError(
            f"the change {measure.contrast!r} of {measure.term!r} cannot be predicted: {error} "
            f"Give two values at which it can, such as {{{measure.term!r}: 'iqr'}}."
        ) from error

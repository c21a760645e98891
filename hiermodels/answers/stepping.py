"""Points around each row at which a derivative is taken."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.columns import column_span
from hiermodels.answers.rows import parameter_designs
from hiermodels.errors import FitError
from hiermodels.spec.design import Design

Floats = npt.NDArray[np.float64]

# Rounding is 1e-13 and truncation 1e-12 of the function over the predictor's range.
_STEP = 1e-3
_SPLINES = ("bs(", "cr(")


@dataclass(frozen=True)
class Stencil:
    """A finite difference.

    Attributes
    ----------
    frames : tuple of pandas.DataFrame
        The rows themselves, then at each point.
    weights : ndarray (len(frames), m)
        The derivative is the weighted sum of the function there.
    x : ndarray (m,)
        The predictor at the rows.
    """

    frames: tuple[pd.DataFrame, ...]
    weights: Floats
    x: Floats


def stencil(design: Design, frame: pd.DataFrame, name: str) -> Stencil:
    """Return the points and weights of a derivative in one predictor, of fourth order.

    Under a function such as ``log`` steps shrink with the distance from zero, so as not to cross
    it; under a spline, which ends at its boundary knots, points beyond the data's range are moved
    inside.
    """
    if name not in frame.columns:
        raise FitError(f"the rows have no column {name!r}, in which a derivative could be taken.")
    x = frame[name].to_numpy(dtype=np.float64)
    low, high = column_span(design, name)
    step = np.full(len(x), _STEP * ((high - low) or 1.0))
    centre = x
    codes = _codes(design, name)
    if codes:
        step = np.where(x == 0, step, np.minimum(step, _STEP * np.abs(x)))
    if any(spline in code for code in codes for spline in _SPLINES):
        inside = (x >= low) & (x <= high)
        centre = np.where(inside, np.clip(x, low + 2 * step, high - 2 * step), x)
    frames, weights = [frame], [np.zeros(len(x))]
    for offset, weight in ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0)):
        frames.append(frame.assign(**{name: centre + offset * step}))
        weights.append(weight / (12.0 * step))
    return Stencil(tuple(frames), np.array(weights), x)


def _codes(design: Design, name: str) -> list[str]:
    """Return the functions that a column stands in, as code."""
    encodings = [design.encoding]
    encodings += [design.encoding.parameters[own.name] for own in parameter_designs(design)]
    factors = [factor for encoding in encodings for factor in encoding.factors.values()]
    factors += [offset for encoding in encodings for offset in encoding.offsets]
    return [factor.code for factor in factors if name in factor.columns and not factor.plain]

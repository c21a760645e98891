"""Which changes of a predictor are compared: pairs of frames that differ in one column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from hiermodels.answers.columns import (
    column_levels,
    column_quantiles,
    column_sd,
    constant,
    is_numeric,
)
from hiermodels.answers.expectations import needed_parameters
from hiermodels.answers.fitted import Model
from hiermodels.answers.rows import parameter_designs
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.functions import level_label

NAMED_STEPS: tuple[str, ...] = ("sd", "2sd", "iqr", "minmax")
NAMED_LEVELS: tuple[str, ...] = ("reference", "sequential", "pairwise")


@dataclass(frozen=True)
class Change:
    """One change of one predictor.

    Attributes
    ----------
    term : str
        The predictor.
    contrast : str
        What is compared: ``"+1"``, ``"b - a"``.
    low, high : pandas.DataFrame
        The rows before and after it.
    """

    term: str
    contrast: str
    low: pd.DataFrame
    high: pd.DataFrame


def predictors(model: Model, kind: str) -> list[str]:
    """Return the columns that a kind of prediction depends on through formulas."""
    design = model.design
    names = list(design.encoding.levels)
    needed = needed_parameters(model.family, kind)
    for own in parameter_designs(design):
        if own.name in needed:
            names += design.encoding.parameters[own.name].levels
    return list(dict.fromkeys(names))


def chosen_variables(
    model: Model, kind: str, variables: str | Sequence[str] | Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the predictors to look at, each with the change that was asked for or None.

    Raises
    ------
    FitError
        A name is no predictor; the model has none.
    """
    known = predictors(model, kind)
    if variables is None:
        chosen: dict[str, Any] = dict.fromkeys(known)
    elif isinstance(variables, Mapping):
        chosen = dict(variables)
    else:
        chosen = dict.fromkeys([variables] if isinstance(variables, str) else variables)
    for name in chosen:
        if name not in known:
            raise FitError(
                f"got the variable {name!r}; the predictors of this model are "
                f"{', '.join(known) or 'none'}."
            )
    if not chosen:
        raise FitError(f"the model {model.formula} has no predictor to look at.")
    return chosen


def changes(design: Design, frame: pd.DataFrame, name: str, asked: Any) -> list[Change]:
    """Return the changes of one predictor.

    Parameters
    ----------
    design : Design
    frame : pandas.DataFrame
    name : str
    asked : number, pair of values, or str, or None
        Numbers: a step (default 1), two values, or one of ``NAMED_STEPS``. Factors: two levels or
        one of ``NAMED_LEVELS`` (default the first).

    Raises
    ------
    FitError
        The change is none of these.
    """
    if is_numeric(design, name):
        return [_numeric(design, frame, name, 1 if asked is None else asked)]
    values = column_levels(design, name)
    by_label = {level_label(value): value for value in values}
    if asked is None or (isinstance(asked, str) and asked in NAMED_LEVELS):
        pairs = {
            "sequential": list(pairwise(values)),
            "pairwise": list(combinations(values, 2)),
        }.get(asked or "", [(values[0], other) for other in values[1:]])
    else:
        pair = _pair(asked)
        if pair is None or any(level_label(value) not in by_label for value in pair):
            raise FitError(
                f"got the change {asked!r} of the factor {name!r}; allowed are "
                f"{', '.join(map(repr, NAMED_LEVELS))} and two of its levels, which are "
                f"{', '.join(list(by_label)[:12])}."
            )
        pairs = [(by_label[level_label(pair[0])], by_label[level_label(pair[1])])]
    return [
        Change(
            name,
            f"{level_label(high)} - {level_label(low)}",
            with_value(design, frame, name, low),
            with_value(design, frame, name, high),
        )
        for low, high in pairs
    ]


def with_value(design: Design, frame: pd.DataFrame, name: str, value: Any) -> pd.DataFrame:
    """Return rows with one column set to a value everywhere."""
    return frame.assign(**{name: constant(design, name, value, frame.index)})


def _pair(asked: Any) -> tuple[Any, Any] | None:
    """Return two values, None where these are not two."""
    if isinstance(asked, str) or not isinstance(asked, Sequence | np.ndarray) or len(asked) != 2:
        return None
    return asked[0], asked[1]


def _numeric(design: Design, frame: pd.DataFrame, name: str, asked: Any) -> Change:
    """Return a change of a number: by a step, between two values, or by a named step."""
    pair = _pair(asked)
    if isinstance(asked, str) and asked in ("iqr", "minmax"):
        ends = (0.25, 0.75) if asked == "iqr" else (0.0, 1.0)
        pair = tuple(column_quantiles(design, name, ends))
    if pair is not None and all(_is_number(value) for value in pair):
        low, high = float(pair[0]), float(pair[1])
        return Change(
            name,
            asked if isinstance(asked, str) else f"{high:g} - {low:g}",
            with_value(design, frame, name, low),
            with_value(design, frame, name, high),
        )
    at = frame[name].astype(np.float64) if name in frame else None
    if at is None:
        raise FitError(f"the rows have no column {name!r}, from which a step could be taken.")
    if isinstance(asked, str) and asked in ("sd", "2sd"):
        half = column_sd(design, name) * (0.5 if asked == "sd" else 1.0)
        low_frame = frame.assign(**{name: at - half})
        return Change(name, asked, low_frame, frame.assign(**{name: at + half}))
    if not _is_number(asked):
        raise FitError(
            f"got the change {asked!r} of the numeric predictor {name!r}; allowed are a step, two "
            f"values, and {', '.join(map(repr, NAMED_STEPS))}."
        )
    stepped = frame.assign(**{name: at + float(asked)})
    return Change(name, f"{float(asked):+g}", frame.assign(**{name: at}), stepped)


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool) and bool(np.isfinite(value))

"""What stands in a response's place where it is to be drawn: the design needs one, nothing uses it.

Of a response by level the levels are needed, and of counts their totals: they come from the data
where these have the response, else from the parameters.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.errors import FitError
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_predictor
from hiermodels.spec.names import indexed

Floats = npt.NDArray[np.float64]
LEVELS: Final = "levels"
TRIALS: Final = "trials"


def with_stand_in(
    formula: ModelFormula, data: pd.DataFrame, family: Family, params: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the data with a stand-in for the response, and the parameters that are the model's.

    Parameters
    ----------
    formula : ModelFormula
    data : pandas.DataFrame
    family : Family
    params : mapping of str
        Of a response by level ``levels`` and ``trials`` are taken out.

    Raises
    ------
    FitError
        The levels or the totals are not known.
    """
    right = {name for expression in formula.factors.values() for name in expression.columns}
    right |= {name for bar in formula.bars for name in bar.group}
    right |= {name for offset in formula.offsets for name in offset.columns}
    right |= {name for own in formula.parameters.values() for name in own.columns}
    frame, own = data.copy(), dict(params)
    if formula.counts:
        return _with_counts(formula, frame, own), own
    for name in formula.response.columns:
        if name in right:
            continue
        if family.response == "levels":
            levels = _levels(data, name, own)
            codes = np.arange(len(frame)) % len(levels)
            frame[name] = pd.Categorical.from_codes(codes, pd.Index(levels))
        else:
            frame[name] = _stand_in(family, len(frame), params)
    return frame, own


def _levels(data: pd.DataFrame, name: str, params: dict[str, Any]) -> tuple[str, ...]:
    """Return a response's levels: those given, or those of the data."""
    given = params.pop(LEVELS, None)
    if given is not None:
        found = () if isinstance(given, str) else tuple(str(level) for level in given)
    else:
        column = data[name].dropna() if name in data.columns else pd.Series([], dtype=object)
        own = as_predictor(column, name) if len(column) else column
        known = isinstance(own.dtype, pd.CategoricalDtype)
        found = tuple(str(level) for level in own.cat.categories) if known else ()
    if len(set(found)) < 2 or len(set(found)) < len(found):
        raise FitError(
            f"The levels of the response {name!r} are not known, the first of which is the "
            f"reference. Give them beside the parameters, params={{'{LEVELS}': ['a', 'b', 'c'], "
            "...}, or data that have such a column."
        )
    return found


def _with_counts(
    formula: ModelFormula, frame: pd.DataFrame, params: dict[str, Any]
) -> pd.DataFrame:
    """Return the data with counts whose totals are those given, or those of the data."""
    names = [own.columns[0] for own in formula.counts]
    if not all(own.plain for own in formula.counts):
        raise FitError(
            f"The response {formula.response.label} is computed from columns, which cannot be "
            "drawn back. Name the columns themselves: c(a, b, c)."
        )
    given = params.pop(TRIALS, None)
    if given is None and not all(name in frame.columns for name in names):
        raise FitError(
            f"The totals of {formula.response.label} are not known. Give them beside the "
            f"parameters, params={{'{TRIALS}': 10, ...}} (one number, or one a row), or data that "
            "have these columns."
        )
    total = frame[names].sum(axis=1, skipna=False) if given is None else given
    total = np.broadcast_to(np.asarray(total, dtype=np.float64), (len(frame),))
    known = np.isfinite(total)
    if np.any(total[known] < 1) or np.any(total[known] != np.round(total[known])):
        raise FitError(
            f"The totals of {formula.response.label} must be whole numbers of at least 1."
        )
    turn = np.arange(len(frame)) % len(names)
    for k, name in enumerate(names):
        rest = total - len(names) * (total // len(names))
        frame[name] = total // len(names) + np.where(turn == k, rest, 0.0)
    return frame


def _stand_in(family: Family, n: int, params: Mapping[str, Any]) -> Any:
    """Return values that the family allows, not all the same."""
    turn = np.arange(n)
    if family.name == "cumulative":
        own = 0  # cutpoints by their own names
        while indexed("cutpoints", f"{own + 1}|{own + 2}") in params:
            own += 1
        count = (np.size(params["cutpoints"]) if "cutpoints" in params else own) + 1
        labels = [str(k + 1) for k in range(count)]
        return pd.Categorical([labels[k] for k in turn % count], categories=labels, ordered=True)
    if family.name == "beta":
        return 0.25 + 0.5 * (turn % 2)
    if family.name in ("gaussian", "t", "gamma"):
        return 1.0 + turn % 2
    return turn % 2

"""Grids of predictor values: every combination of those given, the others at a typical value."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiermodels.answers.columns import typical
from hiermodels.answers.rows import all_groups, parameter_designs
from hiermodels.errors import FitError
from hiermodels.spec.design import Design, group_structures
from hiermodels.spec.encoding import Encoding

_LARGEST = 1_000_000


def make_grid(design: Design, values: Mapping[str, Any]) -> pd.DataFrame:
    """Return the grid of some columns' values, the other predictors held.

    Parameters
    ----------
    design : Design
    values : mapping of str to values
        A value or a sequence of values for each column, predictors or groupings.

    Returns
    -------
    pandas.DataFrame
        Every combination, the last column varying fastest. Predictors that are not named are held
        at their mean, factors at their most frequent level; groupings that are not named are left
        out.

    Raises
    ------
    FitError
        A column is none of the formula's, or has no values; or the rows of the fit were not kept
        and what a predictor should be held at is not known.
    """
    known = used_columns(design)
    allowed = [*known, *(c for own in group_structures(design).values() for c in own.every_column)]
    additions = [c for a in design.formula.additions.values() for c in a.expression.columns]
    lists: dict[str, list[Any]] = {}
    for name, given in values.items():
        if name not in (*allowed, *additions):
            raise FitError(
                f"got values for {name!r}, which is no predictor or grouping of this model; they "
                f"are {', '.join(dict.fromkeys(allowed)) or 'none'}."
            )
        lists[name] = _as_list(given)
        if not lists[name]:
            raise FitError(f"got no values for {name!r}; give at least one.")
    size = int(np.prod([len(one) for one in lists.values()], dtype=np.float64))
    if size > _LARGEST:
        raise FitError(f"The grid would have {size:,} rows; give fewer values.")
    combinations = list(itertools.product(*lists.values()))
    frame = pd.DataFrame(index=pd.RangeIndex(len(combinations)))
    for k, name in enumerate(lists):
        frame[name] = [row[k] for row in combinations]
    for name in known:
        if name not in frame:
            frame[name] = typical(design, name, frame.index)
    return frame


def named_groups(design: Design, columns: Sequence[str]) -> list[str]:
    """Return the groupings all of whose columns are among those given."""
    made = group_structures(design)
    return [name for name in all_groups(design) if set(made[name].columns) <= set(columns)]


def used_columns(design: Design) -> list[str]:
    """Return the data columns that linear predictors, offsets and a formula for sigma name."""
    names: list[str] = []
    for encoding in (design.encoding, *_parameter_encodings(design)):
        names += encoding.levels
        names += [name for offset in encoding.offsets for name in offset.columns]
    sigma = design.formula.sigma
    if sigma is not None:
        names += [name for factor in sigma.factors.values() for name in factor.columns]
    return list(dict.fromkeys(names))


def _parameter_encodings(design: Design) -> list[Encoding]:
    return [design.encoding.parameters[own.name] for own in parameter_designs(design)]


def _as_list(given: Any) -> list[Any]:
    """Return values as a list; text is one value."""
    if isinstance(given, str) or np.ndim(given) == 0:
        return [given]
    return list(given)

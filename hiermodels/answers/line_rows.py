"""What lines through groups run along, and where everything else is held.

Where rows were not kept, the sums that stand for those of each group say what is the same in all
rows of a group, and what means are; values along a line reach over some rows that were sampled.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.errors import FitError
from hiermodels.spec.design import Design, Group
from hiermodels.spec.matrices import Column, Matrix
from hiermodels.spec.rowless import RowlessDesign, moment_rows, product_rows
from hiermodels.spec.whole import mean_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
# Of a column's sum of squares, what rounding alone leaves within groups.
_SAME: Final = 1e-10


# --- predictors -----------------------------------------------------------------------------


def _factor_columns(design: Design, labels: Sequence[str]) -> list[str]:
    """Return the data columns that factors of these labels name."""
    factors = design.encoding.factors
    named = {expression.label: expression.columns for expression in factors.values()}
    named |= {key: expression.columns for key, expression in factors.items()}
    return [c for label in labels for c in named.get(label, ())]


def numeric_predictors(design: Design, group: Group | None = None) -> list[str]:
    """Return the numeric columns that the model uses as numbers, those of a factor's bars first.

    Parameters
    ----------
    design : Design
    group : Group, optional

    Returns
    -------
    list of str
    """
    bars = [] if group is None else [design.terms[t].columns for t in group.terms]
    as_numbers: list[str] = []
    as_levels: list[str] = []
    for column in [c for bar in bars for c in bar] + list(design.columns):
        for label, _ in column.parts:
            target = as_numbers if label in column.numeric else as_levels
            target.extend(_factor_columns(design, [label]))
    kinds = design.encoding.levels
    return [
        c for c in dict.fromkeys(as_numbers) if kinds.get(c, ...) is None and c not in as_levels
    ]


def line_predictor(design: Design, x: str | None, group: Group) -> str | None:
    """Return the numeric predictor along which a factor's lines run; None where there is none.

    Raises
    ------
    FitError
        ``x`` is not a numeric predictor.
    """
    known = numeric_predictors(design, group)
    if x is None:
        return min(known, key=lambda c: _dull(design, group, c)) if known else None
    if x not in known:
        allowed = ", ".join(known) if known else "none, for this model has no numeric predictor"
        raise FitError(f"got x={x!r}; the lines run along a numeric predictor: {allowed}")
    return x


def _dull(design: Design, group: Group, column: str) -> tuple[bool, bool, bool]:
    """Return what makes a predictor a poor choice of axis, the worst first.

    It has no effect that varies by the factor; it is the same in all rows of a group; it has two
    values only.
    """
    few = len(np.unique(seen_values(design, column))) <= 2
    return not varies(design, group, column), _fixed(design, group, column), few


def varies(design: Design, group: Group, x: str) -> bool:
    """Return whether an effect of this factor depends on x."""
    labels = [label for t in group.terms for c in design.terms[t].columns for label in c.labels]
    return x in _factor_columns(design, labels)


def seen_values(design: Design, column: str) -> Floats:
    """Return the values of a numeric column: of all rows, or of those that were sampled."""
    data = _sample(design) if isinstance(design, RowlessDesign) else design.data
    return data[column].to_numpy(dtype=np.float64)


def _fixed(design: Design, group: Group, column: str) -> bool:
    """Return whether a numeric column is the same in all rows of a level."""
    if isinstance(design, RowlessDesign):
        return _own_number(design, group, column) is not None
    values = design.data[column].to_numpy(dtype=np.float64)
    return bool((values == values[_first(group.index)][group.index]).all())


# --- levels ---------------------------------------------------------------------------------


def index_of(design: Design, group: Group) -> Ints:
    """Return the level of each row, or of each row that stands for others."""
    rows = product_rows(design)
    return next(own.index for own in rows.groups if own.name == group.name)


def _first(index: Ints) -> Ints:
    """Return the first row of each level."""
    return np.unique(index, return_index=True)[1]


def parents_of(design: Design, group: Group) -> list[Group]:
    """Return the other factors in which each level of this one lies whole."""
    index, found = index_of(design, group), []
    first = _first(index)
    for other in design.groups:
        if other.name == group.name:
            continue
        theirs = index_of(design, other)
        if (theirs == theirs[first][index]).all():
            found.append(other)
    return found


def parent_levels(design: Design, group: Group, parent: Group) -> Ints:
    """Return the parent's level of each level of the group, (J,)."""
    return np.asarray(index_of(design, parent)[_first(index_of(design, group))])


# --- what is held ---------------------------------------------------------------------------


def held_rows(design: Design, group: Group, x: str | None) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return one row a level with every predictor but x held, and how each is held."""
    if isinstance(design, RowlessDesign):
        return _held_by_sums(design, group, x)
    index = group.index
    first = _first(index)
    frame = design.data.iloc[first].reset_index(drop=True)
    said: dict[str, str] = {}
    numbers = numeric_predictors(design, group)
    for name, kind in design.encoding.levels.items():
        if name == x:
            continue
        column = design.data[name]
        own = column.iloc[first].to_numpy()[index]
        if bool(np.all(np.asarray(column.to_numpy() == own))):
            said[name] = "each group's own value"
        elif kind is None and name in numbers:
            mean = mean_of(column.to_numpy(dtype=np.float64), design.whole)
            frame[name] = mean
            said[name] = f"mean, {mean:.4g}"
        else:
            value = _reference(column)
            frame[name] = pd.Series([value] * len(frame), dtype=column.dtype)
            said[name] = f"{value} (reference)"
    return frame, said


def _reference(column: "pd.Series[Any]") -> object:
    """Return the first category in use, else the smallest value."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = set(column.unique())
        return next(c for c in column.cat.categories if c in used)
    return sorted(column.unique())[0]


def mean_offset(design: Design) -> float:
    """Return the mean offset of all rows."""
    rows = moment_rows(design)
    return mean_of(np.asarray(rows.offset, dtype=np.float64), rows.whole)


# --- of rows that were not kept ---------------------------------------------------------------


def _sample(design: RowlessDesign) -> pd.DataFrame:
    """Return some rows, in which the levels of factors were drawn anew."""
    if design.coder is None:
        raise FitError("the design has no rows, and nothing that was sampled of them")
    return design.coder.sample


def _held_by_sums(
    design: RowlessDesign, group: Group, x: str | None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return what :func:`held_rows` returns, from sums over the rows of each level."""
    sample, levels = _sample(design), len(group.levels)
    numbers = numeric_predictors(design, group)
    frame = pd.DataFrame(index=pd.RangeIndex(levels))
    said: dict[str, str] = {}
    for name, kind in design.encoding.levels.items():
        if kind is None and name in numbers:
            own = None if name == x else _own_number(design, group, name)
            mean = _mean(design, name)
            frame[name] = mean if own is None else own
            text = f"mean, {mean:.4g}"
        else:
            known = sorted(sample[name].unique()) if kind is None else kind.labels
            codes = _own_labels(design, group, name, known)
            own = None if codes is None else codes.astype(np.float64)
            chosen = np.zeros(levels, dtype=np.intp) if codes is None else codes
            labels = np.asarray(known, dtype=object)[chosen]
            frame[name] = pd.Series(labels).astype(sample[name].dtype)
            text = f"{known[0]} (reference)"
        if name != x:
            said[name] = text if own is None else "each group's own value"
    return frame, said


def _matrices(design: Design) -> list[tuple[tuple[Column, ...], Matrix]]:
    """Return the columns of the common part and of the bars, raw."""
    bars = [(term.columns, term.matrix) for term in design.terms]
    return [(design.columns, design.matrix), *bars]


def _places(design: Design, wanted: Mapping[str, bool]) -> list[tuple[int, int]]:
    """Return block and place of the columns that are one factor alone, of these labels.

    ``wanted`` says by label whether it is a number.
    """
    found = []
    for b, (columns, _) in enumerate(_matrices(design)):
        for k, column in enumerate(columns):
            (label,) = column.labels if len(column.parts) == 1 else ("",)
            if label in wanted and (label in column.numeric) == wanted[label]:
                found.append((b, k))
    return found


def _number_place(design: Design, name: str) -> tuple[int, int] | None:
    """Return where a numeric column stands as it is; None where only functions of it do."""
    plain = {
        label: True
        for key, own in design.encoding.factors.items()
        if own.plain and own.columns == (name,)
        for label in (key, own.label)
    }
    return next(iter(_places(product_rows(design), plain)), None)


def _mean(design: RowlessDesign, name: str) -> float:
    """Return the mean of a numeric column, of a sample where only functions of it are summed."""
    place = _number_place(design, name)
    if place is None:
        return float(_sample(design)[name].astype(np.float64).mean())
    rows = moment_rows(design)
    values = _matrices(rows)[place[0]][1].values[:, place[1]]
    return mean_of(values, rows.whole)


def _by_level(design: RowlessDesign, group: Group, place: tuple[int, int]) -> Floats | None:
    """Return the value of a column in each level (J,); None where it varies within levels."""
    rows = product_rows(design)
    index, size = index_of(design, group), len(group.levels)
    ones = np.asarray(rows.whole.ones if rows.whole is not None else np.ones(rows.n))
    values = _matrices(rows)[place[0]][1].values[:, place[1]]
    total = np.bincount(index, ones**2, size)
    mean = np.bincount(index, ones * values, size) / total
    within = float(np.sum((values - mean[index] * ones) ** 2))
    return mean if within <= _SAME * float(values @ values) else None


def _own_number(design: RowlessDesign, group: Group, name: str) -> Floats | None:
    """Return the value of a numeric column in each level; None where it varies or is not known."""
    place = _number_place(design, name)
    return None if place is None else _by_level(design, group, place)


def _own_labels(
    design: RowlessDesign, group: Group, name: str, labels: Sequence[object]
) -> Ints | None:
    """Return which level of a factor each level of a grouping has, None where it varies.

    None also where the columns are not those of the factor alone, or a level is not among these.
    """
    factors = {
        label: False
        for key, own in design.encoding.factors.items()
        if own.columns == (name,)
        for label in (key, own.label)
    }
    places = _places(product_rows(design), factors)
    own = [_by_level(design, group, place) for place in places]
    known = [values for values in own if values is not None]
    if not known or len(known) < len(own):
        return None
    frame = _sample(design).iloc[[0] * len(labels)].reset_index(drop=True)
    frame[name] = pd.Series(np.asarray(labels, dtype=object)).astype(frame[name].dtype)
    X, z = design.encode(frame)
    coded = np.column_stack([(X, *z)[b][:, k] for b, k in places])
    apart = np.abs(np.column_stack(known)[:, None, :] - coded[None, :, :]).sum(axis=2)
    return apart.argmin(axis=1) if float(apart.min(axis=1).max()) < 1e-6 else None

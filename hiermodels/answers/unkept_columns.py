"""Columns of rows that were not kept: what levels and cross-products say of them."""

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.errors import FitError
from hiermodels.spec.cell_keys import cell_codes
from hiermodels.spec.chunk_coding import Coder
from hiermodels.spec.column_kinds import NUMBERS, WHOLE
from hiermodels.spec.design import Design
from hiermodels.spec.expressions import Expression
from hiermodels.spec.matrices import Matrix
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.whole import Whole

Floats = npt.NDArray[np.float64]


def is_number(design: RowlessDesign, name: str) -> bool:
    """Whether a column holds numbers."""
    return _coder(design).plan.kinds[name] in (NUMBERS, WHOLE)


def moments_of(design: RowlessDesign, name: str) -> tuple[float, float] | None:
    """Return mean and sd (n - 1) of a number that the formula takes as it is, None of others."""
    _, moments, whole = _parts(design)
    factors = design.encoding.factors
    own = [label for label, e in factors.items() if e.plain and e.columns == (name,)]
    labels = {*own, *(factors[label].label for label in own)}
    for matrix in _matrices(moments):
        for k, column in enumerate(matrix.columns):
            if len(column.parts) == 1 and column.parts[0][0] in labels and column.numeric:
                values = matrix.column(k)
                return whole.mean(values), whole.sd(values)
    return None


def span_of(design: RowlessDesign, name: str) -> tuple[float, float]:
    """Return the ends of a spline of a column, else the least and largest of some rows."""
    coder = _coder(design)
    ends = [
        (float(state["lower_bound"]), float(state["upper_bound"]))
        for label, expression in coder.encoding.factors.items()
        for call, state in coder.encoding.states.get(label, {}).items()
        if expression.columns == (name,) and "lower_bound" in state and _takes(call, expression)
    ]
    if ends:
        return max(low for low, _ in ends), min(high for _, high in ends)
    seen = coder.sample[name].to_numpy(dtype=np.float64)
    return float(seen.min()), float(seen.max())


def _takes(call: str, expression: Expression) -> bool:
    """Whether a call's first argument is the expression's column itself."""
    tree = ast.parse(call, mode="eval").body
    return isinstance(tree, ast.Call) and bool(tree.args) and isinstance(tree.args[0], ast.Name)


def levels_of(design: RowlessDesign, name: str) -> list[Any]:
    """Return the values of a factor column, in the order of its levels."""
    coder = _coder(design)
    coding = coder.factors.get(name, coder.cells.get(name))
    if coding is not None:
        return list(coding.values.to_pylist())
    for label, expression in coder.encoding.factors.items():
        for state in coder.encoding.states.get(label, {}).values():
            if expression.columns == (name,) and "levels" in state:
                # a number as C() names it is the number
                return [float(level) for level in state["levels"]]
    raise FitError(f"The levels of {name!r} are not known, as the rows were not kept.")


def counts_of(design: RowlessDesign, name: str, count: int) -> Floats | None:
    """Return how many rows have each level of a factor column, None where that is not known."""
    coder, moments, whole = _parts(design)
    if name in coder.cells and design.products is not None:
        codes = cell_codes(coder.cells, design.products.keys)[name]
        return np.bincount(codes, design.products.rows, count)
    factors = design.encoding.factors
    own = {label for label, e in factors.items() if e.columns == (name,)}
    own |= {factors[label].label for label in own}
    # the columns that hang on this factor alone, at each level: with the intercept's they say all
    values = pd.Series(levels_of(design, name))
    rows = coder.sample.iloc[np.zeros(len(values), dtype=np.intp)].reset_index(drop=True)
    coded = design.encoding.columns(rows.assign(**{name: values}))[0]
    used = [k for k, column in enumerate(coded) if column.labels <= own]
    at = np.stack([coded[k].values(len(values)) for k in used]) if used else np.zeros((0, count))
    if np.linalg.matrix_rank(at) < count:
        return None
    totals = [whole.ones @ moments.matrix.column(k) for k in used]
    return np.rint(np.linalg.lstsq(at, np.array(totals), rcond=None)[0])


def _matrices(moments: Design) -> Iterator[Matrix]:
    """Yield the columns of the common part, then of each bar."""
    yield moments.matrix
    for term in moments.terms:
        yield term.matrix


def _coder(design: RowlessDesign) -> Coder:
    """Return what coded the rows."""
    if design.coder is None:
        raise FitError("This design does not know how its rows were coded; make the model again.")
    return design.coder


def _parts(design: RowlessDesign) -> tuple[Coder, Design, Whole]:
    """Return what coded the rows, rows that stand for all, and what a column of ones is there."""
    coder, moments = _coder(design), design.moments
    if moments is None or not isinstance(moments.whole, Whole):
        raise FitError("This design holds no cross-products; make the model again from its data.")
    return coder, moments, moments.whole

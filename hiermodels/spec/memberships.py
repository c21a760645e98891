"""Weights of memberships, ``mm(g1, g2, weights=...)``, as columns whose products are kept."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import EngineError
from hiermodels.spec.expressions import Expression
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.grouping import member_weights
from hiermodels.spec.matrices import Column

Array = NDArray[np.float64]


def weights_of(formula: ModelFormula, b: int) -> tuple[Expression, ...]:
    """Return the weights of the memberships of a block's bar."""
    return formula.bars[b - 1].structure.weights if b else ()


def check_memberships(formula: ModelFormula, b: int, columns: tuple[Column, ...]) -> None:
    """Raise EngineError where a weight of a membership would have to multiply a slope."""
    if weights_of(formula, b) and (len(columns) != 1 or columns[0].parts):
        bar = formula.bars[b - 1]
        raise EngineError(
            f"The bar by {bar.group_name} has weights of memberships that multiply slopes, which "
            "needs the rows, and this source is beyond memory. Write (1 | mm(...)), leave the "
            "weights out, or hold the rows: hm.Model(formula, source, memory='64 GB')."
        )


def fill_memberships(
    formula: ModelFormula, slots: Sequence[tuple[int, ...]], frame: pd.DataFrame, out: Array
) -> NDArray[np.bool_]:
    """Write the weights of memberships; return which of them each row has (n, slots).

    Parameters
    ----------
    formula : ModelFormula
    slots : sequence of tuple of int
        By bar the positions of its weights among the columns.
    frame : pandas.DataFrame
        Complete rows.
    out : ndarray (n, k)
        Columns of these rows.
    """
    present = [np.zeros((len(frame), 0), dtype=np.bool_)]
    for bar, own in zip(formula.bars, slots, strict=True):
        if own:
            out[:, list(own)] = member_weights(bar.structure, frame)
            present.append(out[:, list(own)] > 0)
    return np.concatenate(present, axis=1)

"""Weights of memberships, ``mm(g1, g2, weights=...)``, as columns whose products are kept."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.spec.expressions import Expression
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.grouping import member_weights

Array = NDArray[np.float64]


def weights_of(formula: ModelFormula, b: int) -> tuple[Expression, ...]:
    """Return the weights of the memberships of a block's bar."""
    return formula.bars[b - 1].structure.weights if b else ()


def fill_memberships(
    formula: ModelFormula,
    places: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    frame: pd.DataFrame,
    out: Array,
) -> NDArray[np.bool_]:
    """Write columns times weights of memberships; return which of these each row has (n, slots).

    Parameters
    ----------
    formula : ModelFormula
    places : sequence of (tuple of int, tuple of int)
        By bar the positions of its columns, and of these times each weight: weight by weight.
    frame : pandas.DataFrame
        Complete rows.
    out : ndarray (n, k)
        Columns of these rows.
    """
    present = [np.zeros((len(frame), 0), dtype=np.bool_)]
    for bar, (columns, slots) in zip(formula.bars, places, strict=True):
        if not slots:
            continue
        weights = member_weights(bar.structure, frame)
        pairs = ((weight, column) for weight in weights.T for column in columns)
        for slot, (weight, column) in zip(slots, pairs, strict=True):
            np.multiply(weight, out[:, column], out=out[:, slot])
        present.append(weights > 0)
    return np.concatenate(present, axis=1)

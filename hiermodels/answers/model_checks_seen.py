"""Which rows of a censored response are held against simulated ones, and what is seen of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hiermodels.spec.design import Design

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Seen:
    """What would be recorded of a response that a model simulates.

    Attributes
    ----------
    rows : ndarray of int (m,)
        The rows that are compared.
    low, high : float
        Limits beyond which the limit itself is recorded; infinite without censoring.
    note : str
        What a reader should know, empty where nothing.
    """

    rows: Ints
    low: float = -np.inf
    high: float = np.inf
    note: str = ""


def seen_of(design: Design) -> Seen:
    """Return what is compared: all rows, cut at the limits that censored ones share, or the rest.

    Where limits differ by row, those of the rows that were observed are not known.
    """
    every = np.arange(design.n)
    if design.censoring is None or not design.censoring.kind.any():
        return Seen(every)
    kind, y = design.censoring.kind, design.y
    ends = [np.unique(y[kind == side]) for side in (-1, 1)]
    low = float(ends[0][0]) if len(ends[0]) else -np.inf
    high = float(ends[1][0]) if len(ends[1]) else np.inf
    shared = not np.any(kind == 2) and max(map(len, ends)) == 1
    count = int(np.sum(kind != 0))
    if shared and low <= y.min() and y.max() <= high:
        limits = [f"{end:g}" for end in (low, high) if np.isfinite(end)]
        note = (
            f"{count:,} rows are censored at {' or '.join(limits)}; simulated responses are cut "
            "there too."
        )
        return Seen(every, low, high, note)
    note = (
        f"{count:,} censored rows are left out. Their limits differ, and those of the other rows "
        "are not known: these may look less spread than what is simulated, some of which would "
        "have been censored."
    )
    return Seen(np.flatnonzero(kind == 0), note=note)

"""The combination of levels of each row as one number, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.survey import Coding

Ints = NDArray[np.int64]


def row_keys(cells: Mapping[str, Coding], kept: Any) -> Ints:
    """Return the combination of levels of each row of an Arrow table as one number.

    Raises
    ------
    DataError
        A value was not there when the levels were collected.
    """
    keys = np.zeros(len(kept), dtype=np.int64)
    for name, coding in cells.items():
        codes = coding.codes(kept.column(name))
        check_known(codes, name)
        keys *= len(coding.labels)
        keys += codes
    return keys


def cell_codes(cells: Mapping[str, Coding], keys: Ints) -> dict[str, Ints]:
    """Return the level of each cell in every column of the cells."""
    found: dict[str, Ints] = {}
    # what is left after the last division says which component of a structure it is
    for name in reversed(list(cells)):
        keys, found[name] = np.divmod(keys, len(cells[name].labels))
    return found


def part_keys(cells: Mapping[str, Coding], names: Iterable[str], keys: Ints) -> Ints:
    """Return the combination of levels of some of the columns as one number."""
    codes, found = cell_codes(cells, keys), np.zeros(len(keys), dtype=np.int64)
    for name in dict.fromkeys(names):
        found = found * len(cells[name].labels) + codes[name]
    return found


def check_known(codes: NDArray[np.int32], name: str) -> None:
    """Raise DataError where a level is -1: not there when levels were collected."""
    if codes.size and codes.min() < 0:
        raise DataError(
            f"The column {name!r} holds a value that it did not hold when it was read first: the "
            "source changed between two passes. Fit again when nothing writes to it."
        )

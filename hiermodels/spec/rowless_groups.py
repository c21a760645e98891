"""The groupings of combinations of groups: their levels, subpopulations and memberships."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.chunk_coding import Coder
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.column_kinds import FACTOR
from hiermodels.spec.frame import combine_groups
from hiermodels.spec.grouping import Covariances, Levels, read_levels
from hiermodels.spec.terms import Bar

Codes = dict[str, NDArray[Any]]
Ints = NDArray[np.int64]


def read_groupings(coder: Coder, products: Products, covariances: Covariances) -> dict[str, Levels]:
    """Return by grouping the level of each cell, the labels, and what levels have of their own.

    Raises
    ------
    DataError, FormulaError
        As for a data frame: a grouping of one level, a level in several subpopulations, a
        covariance that does not match.
    """
    codes = cell_codes(coder, products.keys)
    found: dict[str, Levels] = {}
    for bar in coder.formula.bars:
        if bar.group_name not in found:
            found[bar.group_name] = _levels(coder, bar, codes, covariances)
    return found


def _levels(coder: Coder, bar: Bar, codes: Codes, covariances: Covariances) -> Levels:
    """Return the levels of a bar's grouping."""
    structure = bar.structure
    names = [*bar.group, *([structure.by] if structure.by else [])]
    if structure.multiple:
        # columns share their levels: by value. Weights are in the products
        frame = pd.DataFrame({name: _values(coder, name, codes) for name in names})
        bare = replace(bar, structure=replace(structure, weights=()))
        return read_levels(bare, frame, covariances)
    index = pd.RangeIndex(len(next(iter(codes.values()))))
    columns = {name: coder.cells[name].series(codes[name], index).rename(name) for name in names}
    if structure.by or structure.cov:
        return read_levels(bar, pd.DataFrame(columns), covariances)
    level, labels = combine_groups([columns[name] for name in bar.group])
    if len(labels) < 2:
        raise DataError(
            f"The grouping {bar.group_name!r} has one level only ({labels[0]!r}) in the rows "
            "used; a variance between groups needs at least two. Leave the bar out."
        )
    return Levels(level, labels, None, None, None)


def _values(coder: Coder, name: str, codes: Codes) -> "pd.Series[Any]":
    """Return the value of each cell in one column, as a data frame holds it."""
    coding = coder.cells[name]
    if coder.plan.kinds[name] == FACTOR:
        return coding.series(codes[name], pd.RangeIndex(len(codes[name])))
    values: pd.Series[Any] = coding.values.take(pa.array(codes[name])).to_pandas()
    return values


def cell_codes(coder: Coder, keys: Ints) -> dict[str, Ints]:
    """Return the level of each cell in every column of the cells."""
    found: dict[str, Ints] = {}
    # what is left after the last division says which component of a structure it is
    for name in reversed(list(coder.cells)):
        keys, found[name] = np.divmod(keys, len(coder.cells[name].labels))
    return found

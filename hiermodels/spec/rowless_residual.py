"""The residual of rows that stand for others: independent, with variances by combination."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import EngineError
from hiermodels.spec.additions import known_errors
from hiermodels.spec.bases import MAX_BASES, by_rows, independent_bases
from hiermodels.spec.cell_keys import cell_codes
from hiermodels.spec.chunk_coding import Coder
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.column_kinds import NUMBERS, WHOLE
from hiermodels.spec.matrices import Column
from hiermodels.spec.recorders import learns
from hiermodels.spec.residual import Residual
from hiermodels.spec.series_products import SeriesCoder, own_occasions
from hiermodels.spec.sigma import Sigma, occasion_sigma, read_sigma
from hiermodels.spec.whole import Counted

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


def cell_frame(coder: Coder, products: Products) -> pd.DataFrame:
    """Return the columns that residual variances hang on, one row a cell."""
    formula, se = coder.formula, coder.formula.additions.get("se")
    names = [] if formula.sigma is None else list(formula.sigma.columns)
    names += se.expression.columns if se is not None and se.with_sigma else ()
    codes = cell_codes(coder.cells, products.keys)
    index = pd.RangeIndex(len(products.keys))
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        coding = coder.cells[name]
        if coder.plan.kinds[name] in (NUMBERS, WHOLE):
            values = coding.values.to_numpy(zero_copy_only=False)[codes[name]]
            columns[name] = pd.Series(values, index=index, name=name)
        else:
            columns[name] = coding.series(codes[name], index).rename(name)
    return pd.DataFrame(columns, index=index)


def cell_errors(coder: Coder, frame: pd.DataFrame) -> Array | None:
    """Return the known errors of each cell that stand beside a sigma; None without."""
    se = coder.formula.additions.get("se")
    if se is None or not se.with_sigma:
        return None
    return known_errors(se, frame)


def cell_sigma(coder: Coder, products: Products, frame: pd.DataFrame) -> Sigma:
    """Return the sds of the cells, centred at the means over all rows."""
    formula = coder.formula.sigma
    own = {} if formula is None else formula.factors
    every = coder.encoding.states
    states = {label: every[label] for label, e in own.items() if learns(e)}
    return read_sigma(formula, frame, Counted(products.n, products.rows), states)


def cell_residual(
    coder: Coder, products: Products, owner: Ints, frame: pd.DataFrame, levels: int, members: bool
) -> Residual:
    """Return the residual of independent rows, whose weights are in the products.

    Parameters
    ----------
    coder : Coder
    products : Products
    owner : ndarray of int (m,)
        The cell of each row that stands for others.
    frame : pandas.DataFrame
        As of :func:`cell_frame`.
    levels : int
        Of the largest grouping; 1 without.
    members : bool
        Whether rows belong to several levels of a grouping.

    Raises
    ------
    FormulaError, DataError
        As for a data frame: a formula for sigma without a term, predictors that cannot be told
        apart.
    EngineError
        The residual variances are too many.
    """
    formula, known = coder.formula, cell_errors(coder, frame)
    estimated = "se" not in formula.additions or known is not None
    sigma = cell_sigma(coder, products, frame)
    strata = sigma.strata if estimated else sigma.strata[:0]
    found = independent_bases(
        strata, None if known is None else known**2, products.weights, len(frame)
    )
    if found.classes is not None:
        found = replace(found, classes=found.classes[owner])
    return Residual(
        term=None,
        sigma=sigma_on_rows(sigma, owner) if estimated else None,
        found=found,
        reason=None,
        scale=None,
        weights=None,
        constant=products.constant,
        total_weight=float(np.sum(products.weights)),
        n=len(owner),
        by_rows=_by_rows(found.n_bases, levels, len(owner), len(sigma.labels), members),
    )


def own_residual(
    coder: Coder,
    products: Products,
    owner: Ints,
    frame: pd.DataFrame,
    series: SeriesCoder | None,
) -> Residual:
    """Return the residual of rows as they are: their variances, whatever joins or weights them.

    Parameters
    ----------
    coder : Coder
    products : Products
    owner : ndarray of int (m,)
        The key of each row that stands for others.
    frame : pandas.DataFrame
        As of :func:`cell_frame`.
    series : SeriesCoder or None
    """
    formula = coder.formula
    sigma: Sigma | None = None
    beside = series is None and cell_errors(coder, frame) is not None
    if "se" not in formula.additions or beside:
        if series is None or series.occasions is None:
            sigma = sigma_on_rows(cell_sigma(coder, products, frame), owner)
        else:
            place = own_occasions(series, products.keys)[owner]
            sigma = occasion_sigma(place, series.occasions.labels)
    return Residual(
        term=None,
        sigma=sigma,
        found=None,
        reason="these rows stand for sums over others",
        scale=None,
        weights=None,
        constant=0.0,
        total_weight=float(products.n),
        n=len(owner),
    )


def sigma_on_rows(sigma: Sigma, owner: Ints) -> Sigma:
    """Return the sds of cells as those of the rows that stand for them."""
    columns = tuple(
        Column(own.name, tuple((label, part[owner]) for label, part in own.parts), own.numeric)
        for own in sigma.columns
    )
    strata = sigma.strata[owner] if sigma.strata.size else sigma.strata
    return replace(sigma, strata=strata, columns=columns)


def _by_rows(n_bases: int, levels: int, n: int, parameters: int, members: bool) -> bool:
    """Return whether products are summed anew at every evaluation."""
    if not members:
        return n_bases > 1 and by_rows(n_bases, levels, n, parameters)
    if n_bases > MAX_BASES:
        raise EngineError(
            f"The residual variance takes {n_bases:,} distinct values, more than the {MAX_BASES:,} "
            "of which cross-products are kept beside mm(). Round what it hangs on, or hold the "
            "rows: hm.Model(formula, source, memory='64 GB')."
        )
    return False

"""A design and its priors on some of the rows: coding, coordinates and priors stay as they are.

A model made anew from fewer rows would centre its predictors elsewhere, lose the levels of factors
that no longer occur, and scale its default priors by other numbers. Here nothing is learnt again.
"""

from dataclasses import fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.bases import (
    Bases,
    ar_bases,
    cosy_bases,
    independent_bases,
    unstructured_bases,
)
from hiermodels.spec.design import Design, Group, Term
from hiermodels.spec.matrices import Column, Matrix
from hiermodels.spec.predictor_coding import rows_of_levels
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.residual import Residual
from hiermodels.spec.whole import Counted

Array = NDArray[np.float64]
Index = NDArray[np.intp]


def row_positions(rows: Any, n: int) -> Index:
    """Return positions of rows from truth values (n,) or whole numbers, each at most once.

    Raises
    ------
    DataError
        No row is named, one is named twice or does not exist, or the truth values are not n.

    Examples
    --------
    >>> row_positions([True, False, True], 3).tolist()
    [0, 2]
    """
    values = np.asarray(rows)
    if values.ndim == 1 and values.dtype == bool:
        if len(values) != n:
            raise DataError(
                f"got {len(values)} truth values for the model's {n} rows; give one a row."
            )
        values = np.flatnonzero(values)
    if values.ndim != 1 or not (np.issubdtype(values.dtype, np.integer) or not values.size):
        raise DataError(
            "rows are truth values, one a row, or whole numbers that say which rows; got "
            f"{values.dtype} of shape {values.shape}."
        )
    positions = values.astype(np.intp)
    if not positions.size:
        raise DataError("got no row; a model needs some.")
    if positions.min() < 0 or positions.max() >= n:
        raise DataError(f"rows are numbered from 0 to {n - 1}; got {positions.min()} to "
                        f"{positions.max()}.")  # fmt: skip
    if len(np.unique(positions)) < len(positions):
        raise DataError("a row is named twice; name each once.")
    return positions


def subset_design(design: Design, rows: Index) -> Design:
    """Return a design on some of its rows, with the columns and coordinates that it has.

    Parameters
    ----------
    design : Design
    rows : ndarray of int
        Positions, as `row_positions` returns them.

    Returns
    -------
    Design
        Levels of groupings without rows are left out; everything else keeps its names, so that
        parameters mean what they meant.
    """
    small = replace(_cut(design, rows), data=design.data.iloc[rows])
    if isinstance(design.whole, Counted):
        counts = design.whole.counts[rows]
        whole = Counted(int(counts.sum()), counts)
        groups = tuple(
            replace(own, n_rows=rows_of_levels(small.terms[own.terms[0]], whole))
            for own in small.groups
        )
        small = replace(small, whole=whole, groups=groups)
    if design.residual is None:
        return small
    return replace(small, residual=_residual(design.residual, small, rows))


def subset_priors(priors: ResolvedPriors, rows: Index) -> ResolvedPriors:
    """Return the same priors, on some of the rows."""
    return _cut(priors, rows)


# --- the parts ------------------------------------------------------------------------------

# By name, what has an entry a row in a design, a linear predictor, their bars, or their priors.
ROWWISE: Final = frozenset(
    {"y", "matrix", "centred", "offset", "trials", "weights", "precision", "se"}
    | {"kind", "lower", "upper"}
)
# Records, or tuples of records, of which the same is true.
NESTED: Final = frozenset({"parameters", "censoring", "truncation"})


def _cut[Record: Any](record: Record, rows: Index) -> Record:
    """Return a record with its arrays, columns, bars and nested records on some of the rows."""
    values = {own.name: getattr(record, own.name) for own in fields(record)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name in ROWWISE and isinstance(value, Matrix):
            changes[name] = value.take(rows)
        elif name in ROWWISE and isinstance(value, np.ndarray) and len(value):
            changes[name] = value[rows]
        elif name in NESTED and isinstance(value, tuple):
            changes[name] = tuple(_cut(own, rows) for own in value)
        elif name in NESTED and value is not None:
            changes[name] = _cut(value, rows)
        elif name == "columns":
            changes[name] = _columns(value, rows)
        elif name == "terms":
            changes[name] = tuple(_term(own, rows) for own in value)
    if "groups" in values:
        groups = values["groups"]
        changes["groups"] = tuple(_group(own, changes["terms"][own.terms[0]]) for own in groups)
    return replace(record, **changes)


def _columns(columns: tuple[Column, ...], rows: Index) -> tuple[Column, ...]:
    return tuple(
        replace(column, parts=tuple((label, part[rows]) for label, part in column.parts))
        for column in columns
    )


def _levels(index: Index, labels: tuple[str, ...], rows: Index) -> tuple[Index, Index, Any]:
    """Return the levels that are left, the place of each row's among them, and their labels."""
    left, small = np.unique(index[rows], return_inverse=True)
    place = small.reshape(index[rows].shape).astype(np.intp)
    return left, place, tuple(labels[k] for k in left)


def _term[Record: Any](term: Record, rows: Index) -> Record:
    """Return a bar, or a bar's priors, on some of the rows."""
    small = _cut(term, rows)
    if not isinstance(term, Term):
        return small
    members = getattr(term, "members", None)
    every = term.index if members is None else members.index
    left, place, levels = _levels(every, term.levels, rows)
    changes: dict[str, Any] = {"index": place, "levels": levels}
    if members is not None:
        changes["index"] = np.ascontiguousarray(place[:, 0])
        changes["members"] = replace(members, index=place, weights=members.weights[rows])
    # what levels have of their own: a subpopulation, a known covariance
    by, cov = getattr(term, "by", None), getattr(term, "cov", None)
    if by is not None:
        changes["by"] = replace(by, index=by.index[left])
    if cov is not None:
        changes["cov"] = cov[np.ix_(left, left)]
    return replace(small, **changes)


def _group(group: Group, term: Term) -> Group:
    """Return a grouping factor with the rows and levels of its first bar."""
    return replace(group, levels=term.levels, index=term.index, n_rows=rows_of_levels(term))


def _residual(residual: Residual, design: Design, rows: Index) -> Residual:
    """Return the residual on some of the rows; `design` has these rows already."""
    sigma = residual.sigma
    if sigma is not None:
        strata = sigma.strata[rows] if sigma.strata.size else sigma.strata
        sigma = replace(sigma, strata=strata, columns=_columns(sigma.columns, rows), counts=None)
    scale = None if residual.scale is None else residual.scale[rows]
    weights, n = design.weights, design.n
    ones = np.ones(n) if weights is None else weights
    constant = 0.0 if scale is None else -2.0 * float(ones @ np.log(scale))
    small = replace(
        residual,
        sigma=sigma,
        scale=scale,
        weights=weights,
        constant=constant,
        total_weight=float(np.sum(ones)),
        n=n,
    )
    if residual.series is not None and residual.time is not None:
        _, series, levels = _levels(residual.series, residual.series_levels, rows)
        time = residual.time[rows]
        order = np.lexsort((time, series))
        small = replace(small, series=series, series_levels=levels, time=time, order=order)
    if residual.found is None:
        return small
    return replace(small, found=_bases(small, design, ones))


def _bases(residual: Residual, design: Design, weights: Array) -> Bases:
    """Return the basis matrices of a residual whose rows and series are set."""
    sigma, n = residual.sigma, residual.n
    strata = np.zeros(n, dtype=np.intp)
    if sigma is not None and sigma.strata.size:
        strata = sigma.strata
    if residual.series is None or residual.time is None:
        known = design.se**2 if design.se is not None and design.se_with_sigma else None
        one = sigma is None or not sigma.strata.size
        return independent_bases(strata[:0] if one else strata, known, residual.weights, n)
    if residual.structure == "ar":
        found = ar_bases(residual.series, residual.time, strata, weights)
    elif residual.structure == "cosy":
        found = cosy_bases(residual.series, strata, weights)
    else:
        occasion = residual.time.astype(np.intp)
        found = unstructured_bases(residual.series, occasion, weights)
    # strata and occasions without rows keep their parameters
    size = len(residual.occasions) or (1 if sigma is None else len(sigma.predictors))
    counts = np.zeros(size)
    counts[: len(found.counts)] = found.counts
    return replace(found, counts=counts)

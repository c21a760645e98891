"""Cross-products to a design without rows: rows that stand for those of each cell, and for all."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError
from hiermodels.spec.checks import check_columns, check_partitions
from hiermodels.spec.chunk_coding import Block, Coder
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.design import Design
from hiermodels.spec.frame import Dropped
from hiermodels.spec.grouping import Covariances, Levels, Members, StandingMembers
from hiermodels.spec.matrices import Column, given
from hiermodels.spec.predictor_coding import merge_groups
from hiermodels.spec.predictors import Term
from hiermodels.spec.reading import Reading
from hiermodels.spec.rowless import guard
from hiermodels.spec.rowless_groups import read_groupings
from hiermodels.spec.rowless_residual import (
    cell_errors,
    cell_frame,
    cell_residual,
    own_residual,
)
from hiermodels.spec.series_products import SeriesCoder
from hiermodels.spec.series_residual import check_series, series_residual
from hiermodels.spec.standing_rows import rows_of
from hiermodels.spec.whole import Whole

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


def build_rowless(
    coder: Coder,
    products: Products,
    dropped: Dropped,
    reading: Reading,
    series: SeriesCoder | None = None,
    covariances: Covariances | None = None,
) -> Design:
    """Return the design of a source that was read in passes.

    Parameters
    ----------
    coder : Coder
    products : Products
    dropped : Dropped
    reading : Reading
    series : SeriesCoder, optional
        Where residuals are correlated within series.
    covariances : mapping of str to DataFrame or array, optional
        Known covariances between levels, by the name that ``gr(g, cov=K)`` gives.

    Raises
    ------
    DataError, FormulaError
        As for a data frame: columns that are constant or cannot be told apart, groupings of one
        level, a response that does not vary.
    """
    k, n = coder.width, products.n
    exact = _exact_means(coder, products)
    upper = np.triu_indices(k)
    total, _ = rows_of(products.total[upper][None, :], k)
    cells, owner = rows_of(products.cells, k)
    levels = read_groupings(coder, products, covariances or {})
    _check_moments(coder, total, exact, n)
    nothing = np.zeros(len(total), dtype=np.intp)
    everywhere = {
        name: replace(own, index=own.index[:1] * 0, members=None) for name, own in levels.items()
    }
    moments = _design(coder, total, nothing, everywhere, exact, n, dropped, reading)
    found = _design(coder, cells, owner, levels, exact, n, dropped, reading)
    frame = cell_frame(coder, products)
    if series is None:
        largest = max((len(own.labels) for own in levels.values()), default=1)
        members = any(own.members is not None for own in levels.values())
        residual = cell_residual(coder, products, owner, frame, largest, members)
        errors = cell_errors(coder, frame)
        if errors is not None:
            found = replace(found, se=errors[owner], se_with_sigma=True)
            moments = replace(moments, se_with_sigma=True)
    else:
        groups = {g.name: (len(g.levels), g.coefs) for g in found.groups}
        check_series(series.term, products, groups)
        residual = series_residual(series, products, owner, frame)
    data = frame.iloc[owner].reset_index(drop=True)
    found = replace(found, residual=residual, data=data)
    counted = _count_rows(found, levels, products)
    se = coder.formula.additions.get("se")
    check_partitions(counted.groups, n, se is None or se.with_sigma)
    moments = replace(moments, residual=counted.residual, groups=counted.groups)
    sums, spread = counted, _on_first(products, owner)
    if products.plain.shape[1]:
        # the cells' products are weighted, or are those of components of a structure
        kept = np.flatnonzero(products.variance)
        plain, own = rows_of(products.plain[kept], k)
        owner = kept[own]
        sums = _design(coder, plain, owner, levels, exact, n, dropped, reading)
        sums = _as_they_are(sums, coder, products, owner, series)
        spread = _on_first(products, owner)
    return guard(counted, moments, sums, spread, coder, products, series)


def _on_first(products: Products, owner: Ints) -> Array:
    """Return the cells' known variances, each on the first of its rows."""
    return np.where(np.diff(owner, prepend=-1) != 0, products.variance[owner], 0.0)


def _as_they_are(
    design: Design, coder: Coder, products: Products, owner: Ints, series: SeriesCoder | None
) -> Design:
    """Return rows that are not weighted, with their residual variances."""
    frame = cell_frame(coder, products)
    errors = None if series is not None else cell_errors(coder, frame)
    return replace(
        design,
        data=frame.iloc[owner].reset_index(drop=True),
        residual=own_residual(coder, products, owner, frame, series),
        se=None if errors is None else errors[owner],
        se_with_sigma=errors is not None,
    )


def _exact_means(coder: Coder, products: Products) -> tuple[dict[tuple[int, str], float], ...]:
    """Return the means of the parts of each block, by column and label."""
    found: tuple[dict[tuple[int, str], float], ...] = tuple({} for _ in coder.blocks)
    for (b, k, label), total in zip(coder.parts, products.sums, strict=True):
        found[b][k, label] = coder.blocks[b].means[k, label] + float(total) / products.n
    return found


def _design(
    coder: Coder,
    rows: Array,
    owner: Ints,
    levels: Mapping[str, Levels],
    exact: tuple[dict[tuple[int, str], float], ...],
    n: int,
    dropped: Dropped,
    reading: Reading,
) -> Design:
    """Return a design of rows that stand for others."""
    formula = coder.formula
    matrices = [_matrices(coder, b, rows, own) for b, own in enumerate(exact)]
    X, T, X_centred = matrices[0]
    terms = []
    for b, (bar, (z, own, z_centred)) in enumerate(
        zip(formula.bars, matrices[1:], strict=True), start=1
    ):
        block, grouping = coder.blocks[b], levels[bar.group_name]
        members = None if grouping.members is None else _members(grouping.members, owner)
        if members is not None and block.slots:
            if bar.group_name in _intercepts(coder):
                # the weight of each membership takes the place of the intercept's column
                z, z_centred = np.ones_like(z), np.ones_like(z_centred)
                members = replace(members, weights=rows[:, list(block.slots)])
            else:
                members = _standing(coder, b, rows, exact[b], members.index)
        terms.append(
            Term(
                group=bar.group_name,
                coefs=tuple(column.name for column in block.columns),
                matrix=given(block.columns, z),
                index=grouping.index[owner],
                levels=grouping.labels,
                correlated=block.recipe is not None,
                T=own,
                centred=given(block.columns, z_centred, z),
                by=grouping.by,
                cov=grouping.cov,
                dist=bar.structure.dist,
                members=members,
            )
        )
    columns = coder.blocks[0].columns
    return Design(
        formula=formula,
        data=pd.DataFrame(index=pd.RangeIndex(len(rows))),
        response=formula.response.label,
        response_levels=(),
        y=rows[:, 1] * coder.scale[1] + rows[:, 0] * coder.centre[1],
        matrix=given(columns, X),
        centred=given(columns, X_centred, X),
        coefs=tuple(column.name for column in columns),
        T=T,
        offset=rows[:, 2] * coder.scale[2],
        trials=None,
        weights=None,
        precision=None,
        se=None,
        se_with_sigma=False,
        terms=tuple(terms),
        groups=merge_groups(terms),
        dropped=dropped,
        encoding=coder.encoding,
        shift=np.zeros(len(columns)),
        whole=Whole(n, rows[:, 0].copy()),
        reading=reading,
    )


def _matrices(
    coder: Coder, b: int, rows: Array, exact: dict[tuple[int, str], float]
) -> tuple[Array, Array, Array]:
    """Return raw columns, T, and centred columns of the common part or a bar."""
    places = list(coder.blocks[b].places)
    return _centred(coder.blocks[b], rows[:, places] * coder.scale[places], exact)


def _centred(
    block: Block, near: Array, exact: dict[tuple[int, str], float]
) -> tuple[Array, Array, Array]:
    """Return raw columns, T and centred columns from those near the means (..., q)."""
    if block.recipe is None:
        return near, np.eye(near.shape[-1]), near
    T, before = block.recipe.transform(exact), block.recipe.transform(block.means)
    # from the sample's means to the true ones, a small step; raw columns from there
    return near @ np.linalg.inv(before), T, near @ np.linalg.solve(before, T)


def _intercepts(coder: Coder) -> set[str]:
    """Return the groupings whose intercept alone varies."""
    blocks = list(zip(coder.formula.bars, coder.blocks[1:], strict=True))
    slopes = {
        bar.group_name
        for bar, block in blocks
        if len(block.columns) != 1 or any(column.parts for column in block.columns)
    }
    names = [bar.group_name for bar, _ in blocks]
    return {name for name in names if name not in slopes and names.count(name) == 1}


def _standing(
    coder: Coder, b: int, rows: Array, exact: dict[tuple[int, str], float], index: Ints
) -> StandingMembers:
    """Return memberships whose weights multiply slopes."""
    block = coder.blocks[b]
    shape = len(rows), -1, len(block.places)
    near = rows[:, list(block.slots)].reshape(shape) * coder.scale[list(block.places)]
    raw, _, columns = _centred(block, near, exact)
    return StandingMembers(index, np.empty((0, 0)), columns, raw)


def _check_moments(
    coder: Coder, total: Array, exact: tuple[dict[tuple[int, str], float], ...], n: int
) -> None:
    """Raise DataError where the response or a predictor does not vary, or columns are collinear."""
    y = total[:, 1] - total[:, 0] * (total[:, 0] @ total[:, 1]) / n
    if n > 1 and y @ y <= (8 * np.finfo(float).eps) ** 2 * n:
        value = coder.centre[1]
        raise DataError(
            f"The response {coder.formula.response.label} is {value:g} in every row; there is "
            "nothing to model."
        )
    wheres = ["the common part", *(f"the bar by {bar.group_name}" for bar in coder.formula.bars)]
    for b, where in enumerate(wheres):
        block = coder.blocks[b]
        _, _, centred = _matrices(coder, b, total, exact[b])
        varying = np.array([0.0, 1.0])
        columns = tuple(
            Column(own.name, tuple((label, varying) for label, _ in own.parts), own.numeric)
            for own in block.columns
        )
        for k, own in enumerate(columns):
            size = float(np.sqrt(centred[:, k] @ centred[:, k] / n))
            mean = max((abs(v) for (j, _), v in exact[b].items() if j == k), default=0.0)
            if own.numeric and len(own.parts) == 1 and (k, own.parts[0][0]) in exact[b]:
                if size <= 8 * np.finfo(np.float64).eps * mean or size == 0.0:
                    raise DataError(
                        f"The predictor {own.name!r} in {where} is {mean:g} in every row used; it "
                        "cannot be told from the intercept. Leave it out."
                    )
        if n < len(columns):
            raise DataError(
                f"There are {len(columns)} coefficients in {where} and {n} rows; at least as many "
                "rows are needed. Leave predictors out."
            )
        check_columns(given(columns, centred), where, n)


def _members(members: Members, owner: Ints) -> Members:
    """Return the memberships of rows that stand for those of cells."""
    return Members(np.ascontiguousarray(members.index[owner]), members.weights[owner])


def _count_rows(design: Design, levels: Mapping[str, Levels], products: Products) -> Design:
    """Return the design with the number of the data's rows of each level."""
    groups = []
    weights = [len(bar.structure.weights) for bar in design.formula.bars]
    starts = np.concatenate([[0], np.cumsum(weights)]).astype(int)
    for group in design.groups:
        own = levels[group.name]
        rows = np.zeros(len(own.labels))
        slots = own.index[:, None] if own.members is None else own.members.index
        bar = group.terms[0]
        for slot, index in enumerate(slots.T):
            counts = products.present[:, starts[bar] + slot] if weights[bar] else products.rows
            rows += np.bincount(index, counts, len(own.labels))
        groups.append(replace(group, n_rows=np.rint(rows).astype(np.intp)))
    return replace(design, groups=tuple(groups))

"""A design whose rows were read and not kept: rows that stand for them have their cross-products.

A Gaussian likelihood knows the rows of one combination of groups through the cross-products of
their columns alone. As many rows as there are columns have the same products, and everything that
computes with products computes with these. Whatever needs the rows themselves is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.bases import independent_bases
from hiermodels.spec.checks import check_columns, check_partitions
from hiermodels.spec.chunk_coding import Coder, cell_codes
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.column_kinds import NUMBERS, WHOLE
from hiermodels.spec.design import Design
from hiermodels.spec.frame import Dropped, combine_groups
from hiermodels.spec.matrices import Column, Matrix, given
from hiermodels.spec.predictor_coding import merge_groups
from hiermodels.spec.predictors import Group, Term
from hiermodels.spec.reading import Reading
from hiermodels.spec.residual import Residual
from hiermodels.spec.series_products import SeriesCoder
from hiermodels.spec.series_residual import check_series, series_residual
from hiermodels.spec.sigma import read_sigma
from hiermodels.spec.standing_rows import rows_of
from hiermodels.spec.whole import Whole

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
_OF_DESIGN: Final = frozenset({"data", "y", "X", "X_centred", "matrix", "centred", "offset"})
_ADDED: Final = frozenset({"weights", "precision", "se"})
_OF_TERM: Final = frozenset({"z", "z_centred", "matrix", "centred", "index"})
_MATRICES: Final = frozenset({"matrix", "centred"})


def _refuse(name: str) -> DataError:
    what = "the model matrix" if name in _MATRICES else name
    return DataError(
        f"This needs the rows of the data ({what}), which were read in passes and not kept. Give "
        "the rows themselves as a data frame where they can be given, as in predict(fit, frame), "
        "or hold all of them: hm.Model(formula, source, memory='64 GB')."
    )


def _columns(matrix: Matrix) -> tuple[Column, ...]:
    return matrix.columns


class RowlessTerm(Term):
    """A bar without rows: asking for them is an error."""

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, or raise DataError where it is of rows."""
        if name in _OF_TERM:
            raise _refuse(name)
        return super().__getattribute__(name)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Where the columns come from, without rows."""
        return _columns(super().__getattribute__("matrix"))

    def __repr__(self) -> str:
        """Return effects, grouping and levels."""
        return f"({', '.join(self.coefs)} | {self.group}), {len(self.levels):,} levels, no rows"


class RowlessGroup(Group):
    """A grouping factor without rows: asking for them is an error."""

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, or raise DataError where it is of rows."""
        if name == "index":
            raise _refuse(name)
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        """Return grouping, levels and effects."""
        return f"{self.name}, {len(self.levels):,} levels; {', '.join(self.coefs)}; no rows"


@dataclass(frozen=True)
class RowlessDesign(Design):
    """A formula that met data which were read in passes: everything but the rows.

    Attributes
    ----------
    cells : Design or None
        Rows that stand for those of each combination of groups: for every product of columns.
    moments : Design or None
        Rows that stand for all: for means and spreads.
    coder : Coder or None
        What codes a chunk of rows.
    products : Products or None
        The cross-products.
    series : SeriesCoder or None
        What codes the series of a residual structure.
    """

    cells: Design | None = None
    moments: Design | None = None
    coder: Coder | None = None
    products: Products | None = None
    series: SeriesCoder | None = None

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, or raise DataError where it is of rows."""
        if name in _OF_DESIGN or (
            name in _ADDED and name in super().__getattribute__("formula").additions
        ):
            raise _refuse(name)
        return super().__getattribute__(name)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Where the columns come from, without rows."""
        return _columns(super().__getattribute__("matrix"))

    def __repr__(self) -> str:
        """Return what was read, what was left out, and what the formula's columns are."""
        lines = [f"Design of {self.formula}, {self.n:,} rows used, none of them held"]
        lines += [f"{text}." for text in (str(self.reading or ""), str(self.dropped)) if text]
        lines.append(f"Coefficients: {', '.join(self.coefs)}")
        lines += [f"Group {g.name}: {len(g.levels):,} levels; {', '.join(g.coefs)}"
                  for g in self.groups]  # fmt: skip
        return "\n".join(lines)


def product_rows(design: Design) -> Design:
    """Return the design whose rows have the products of all rows: itself where it has rows."""
    if isinstance(design, RowlessDesign) and design.cells is not None:
        return design.cells
    return design


def moment_rows(design: Design) -> Design:
    """Return the design whose rows have the means and spreads of all rows."""
    if isinstance(design, RowlessDesign) and design.moments is not None:
        return design.moments
    return design


# --- the design -----------------------------------------------------------------------------


def build_rowless(
    coder: Coder,
    products: Products,
    dropped: Dropped,
    reading: Reading,
    series: SeriesCoder | None = None,
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
    levels = _groupings(coder, products)
    _check_moments(coder, total, exact, n)
    nothing = np.zeros(len(total), dtype=np.intp)
    everywhere = {name: (index[:1] * 0, labels) for name, (index, labels) in levels.items()}
    moments = _design(coder, total, nothing, everywhere, exact, n, dropped, reading)
    found = _design(coder, cells, owner, levels, exact, n, dropped, reading)
    sigma = _cell_frame(coder, products)
    if series is None:
        residual = _residual(coder, products, owner, sigma)
    else:
        groups = {g.name: (len(g.levels), g.coefs) for g in found.groups}
        check_series(series.term, products, groups)
        residual = series_residual(series, products, owner)
    data = sigma.iloc[owner].reset_index(drop=True)
    found = replace(found, residual=residual, data=data)
    counted = _count_rows(found, levels, products)
    check_partitions(counted.groups, n, coder.formula.additions.get("se") is None)
    moments = replace(moments, residual=counted.residual, groups=counted.groups)
    return _guarded(counted, moments, coder, products, series)


def _guarded(
    cells: Design,
    moments: Design,
    coder: Coder,
    products: Products,
    series: SeriesCoder | None,
) -> RowlessDesign:
    """Return what the user sees: everything but rows."""
    values = {name: getattr(cells, name) for name in Design.__dataclass_fields__}
    values["terms"] = tuple(RowlessTerm(**vars(term)) for term in cells.terms)
    values["groups"] = tuple(RowlessGroup(**vars(group)) for group in cells.groups)
    return RowlessDesign(
        **values, cells=cells, moments=moments, coder=coder, products=products, series=series
    )


def _exact_means(coder: Coder, products: Products) -> tuple[dict[tuple[int, str], float], ...]:
    """Return the means of the parts of each block, by column and label."""
    found: tuple[dict[tuple[int, str], float], ...] = tuple({} for _ in coder.blocks)
    for (b, k, label), total in zip(coder.parts, products.sums, strict=True):
        found[b][k, label] = coder.blocks[b].means[k, label] + float(total) / products.n
    return found


def _groupings(coder: Coder, products: Products) -> dict[str, tuple[Ints, tuple[str, ...]]]:
    """Return by grouping the level of each cell, and the labels."""
    codes = cell_codes(coder, products.keys)
    index = pd.RangeIndex(len(products.keys))
    found = {}
    for bar in coder.formula.bars:
        columns = [coder.cells[name].series(codes[name], index).rename(name) for name in bar.group]
        level, labels = combine_groups(columns)
        if len(labels) < 2:
            raise DataError(
                f"The grouping {bar.group_name!r} has one level only ({labels[0]!r}) in the rows "
                "used; a variance between groups needs at least two. Leave the bar out."
            )
        found[bar.group_name] = (level, labels)
    return found


def _design(
    coder: Coder,
    rows: Array,
    owner: Ints,
    levels: Mapping[str, tuple[Ints, tuple[str, ...]]],
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
    for bar, block, (z, own, z_centred) in zip(
        formula.bars, coder.blocks[1:], matrices[1:], strict=True
    ):
        index, labels = levels[bar.group_name]
        terms.append(
            Term(
                group=bar.group_name,
                coefs=tuple(column.name for column in block.columns),
                matrix=given(block.columns, z),
                index=index[owner],
                levels=labels,
                correlated=block.recipe is not None,
                T=own,
                centred=given(block.columns, z_centred, z),
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
    block = coder.blocks[b]
    places = list(block.places)
    near = rows[:, places] * coder.scale[places]
    if block.recipe is None:
        return near, np.eye(len(places)), near
    T, before = block.recipe.transform(exact), block.recipe.transform(block.means)
    # from the sample's means to the true ones, a small step; raw columns from there
    return near @ np.linalg.inv(before), T, near @ np.linalg.solve(before, T)


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
        check_columns(given(columns, centred), where)


def _count_rows(
    design: Design, levels: Mapping[str, tuple[Ints, tuple[str, ...]]], products: Products
) -> Design:
    """Return the design with the number of the data's rows of each level."""
    groups = []
    for group in design.groups:
        index, labels = levels[group.name]
        rows = np.bincount(index, products.rows, len(labels))
        groups.append(replace(group, n_rows=rows.astype(np.intp)))
    return replace(design, groups=tuple(groups))


def _residual(coder: Coder, products: Products, owner: Ints, frame: pd.DataFrame) -> Residual:
    """Return the residual of independent rows, their weights being in the products."""
    formula = coder.formula
    sigma, stratum = None, np.zeros(len(products.keys), dtype=np.intp)
    if "se" not in formula.additions:
        sigma = read_sigma(formula.sigma, frame)
        if any(column.numeric for column in sigma.columns):
            raise FormulaError(
                f"{formula.sigma.text if formula.sigma else 'sigma'!r} has a numeric predictor, "
                "which a source that is read in passes does not take. Write factors alone."
            )
        if sigma.kind != "one":
            stratum = sigma.strata
            sigma = replace(sigma, strata=stratum[owner])
    rows = stratum[owner] if sigma is not None and sigma.kind != "one" else stratum[:0]
    found = independent_bases(rows, None, None, len(owner))
    counts = np.bincount(stratum, products.weights, found.n_bases)
    return Residual(
        term=None,
        sigma=sigma,
        found=replace(found, counts=counts),
        reason=None,
        scale=None,
        weights=None,
        constant=products.constant,
        total_weight=float(np.sum(products.weights)),
        n=len(owner),
    )


def _cell_frame(coder: Coder, products: Products) -> pd.DataFrame:
    """Return the columns of sigma's formula, one row a cell."""
    sigma = coder.formula.sigma
    codes = cell_codes(coder, products.keys)
    index = pd.RangeIndex(len(products.keys))
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(sigma.columns if sigma else ()):
        coding = coder.cells[name]
        if coder.plan.kinds[name] in (NUMBERS, WHOLE):
            values = coding.values.to_numpy(zero_copy_only=False)[codes[name]]
            columns[name] = pd.Series(values, index=index, name=name)
        else:
            columns[name] = coding.series(codes[name], index).rename(name)
    return pd.DataFrame(columns, index=index)

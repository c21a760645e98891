"""A design whose rows were read and not kept: rows that stand for them have their cross-products.

A Gaussian likelihood knows the rows of one combination of groups through the cross-products of
their columns alone. As many rows as there are columns have the same products, and everything that
computes with products computes with these. Whatever needs the rows themselves is refused.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import DataError, FitError
from hiermodels.spec.chunk_coding import Coder
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.design import Design
from hiermodels.spec.grouping import Members
from hiermodels.spec.matrices import Column, Matrix
from hiermodels.spec.predictors import Group, Term
from hiermodels.spec.series_products import SeriesCoder

Array = NDArray[np.float64]

_OF_DESIGN: Final = frozenset({"data", "y", "X", "X_centred", "matrix", "centred", "offset"})
_ADDED: Final = frozenset({"weights", "precision", "se"})
_OF_MEMBERS: Final = frozenset({"index", "weights"})
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
        return f"{super().__repr__()}, no rows"


class RowlessMembers(Members):
    """Memberships without rows: asking for them is an error."""

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, or raise DataError where it is of rows."""
        if name in _OF_MEMBERS:
            raise _refuse(f"memberships' {name}")
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        """Return that there are no rows."""
        return "memberships, no rows"


class RowlessGroup(Group):
    """A grouping factor without rows: asking for them is an error."""

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, or raise DataError where it is of rows."""
        if name == "index":
            raise _refuse(name)
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        """Return grouping, levels and effects."""
        return f"{super().__repr__()}; no rows"


@dataclass(frozen=True, repr=False)
class RowlessDesign(Design):
    """A formula that met data which were read in passes: everything but the rows.

    Attributes
    ----------
    cells : Design or None
        Rows that stand for those of each combination of groups: for every product of columns.
    moments : Design or None
        Rows that stand for all: for means and spreads.
    sums : Design or None
        Rows that stand for those of each combination of groups, whatever weights and residual
        structure these have: for sums over the rows as they are.
    spread : ndarray or None
        By row of ``sums``: what the parameters' variance counts in the sum over the rows that it
        stands for; all of it on the first row of each combination.
    coder : Coder or None
        What codes a chunk of rows.
    products : Products or None
        The cross-products.
    series : SeriesCoder or None
        What codes the series of a residual structure.
    """

    cells: Design | None = None
    moments: Design | None = None
    sums: Design | None = None
    spread: Array | None = None
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

    @property
    def rows_in_words(self) -> str:
        """How many rows there are, and that they are not held."""
        return f"{self.n:,} rows used, none of them held"


def need_rows(design: object, function: str, instead: str = "") -> None:
    """Raise FitError where rows were read in passes and not kept, and a function needs them.

    Parameters
    ----------
    design : Design
    function : str
        What needs them, for the message: ``"loo()"``.
    instead : str
        What to do where they cannot be held, as a sentence.
    """
    if isinstance(design, RowlessDesign):
        advice = f"{instead} Or hold the rows" if instead else "Hold the rows"
        raise FitError(
            f"{function} needs the rows themselves, and the {design.n:,} rows of this model were "
            f"read in passes and not kept. {advice}: hm.Model(formula, source, memory='64 GB')."
        )


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


def sum_rows(design: Design) -> Design:
    """Return the design whose rows have the sums of all rows by combination of groups."""
    if isinstance(design, RowlessDesign) and design.sums is not None:
        return design.sums
    return design


def _hide_members(term: Term) -> Term:
    """Return a bar whose memberships refuse to be read."""
    own = term.members
    if own is None:
        return term
    return replace(term, members=RowlessMembers(own.index, np.empty((0, 0))))


def guard(
    cells: Design,
    moments: Design,
    sums: Design,
    spread: Array,
    coder: Coder,
    products: Products,
    series: SeriesCoder | None,
) -> RowlessDesign:
    """Return what the user sees: everything but rows."""
    values = {name: getattr(cells, name) for name in Design.__dataclass_fields__}
    values["terms"] = tuple(RowlessTerm(**vars(_hide_members(term))) for term in cells.terms)
    values["groups"] = tuple(RowlessGroup(**vars(group)) for group in cells.groups)
    return RowlessDesign(
        **values,
        cells=cells,
        moments=moments,
        sums=sums,
        spread=spread,
        coder=coder,
        products=products,
        series=series,
    )

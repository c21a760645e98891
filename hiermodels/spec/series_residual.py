"""Residuals correlated within series, of rows that stand for others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.errors import DataError, EngineError, FormulaError
from hiermodels.spec.bases import MARGINS, MAX_BASES, Bases
from hiermodels.spec.cell_keys import part_keys
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.residual import Basis, Residual
from hiermodels.spec.residual_terms import ResidualTerm
from hiermodels.spec.rowless_residual import cell_sigma, sigma_on_rows
from hiermodels.spec.series_products import SeriesCoder
from hiermodels.spec.sigma import occasion_sigma

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class StandInResidual(Residual):
    """The residual of rows that stand for others: each matrix is a diagonal.

    Attributes
    ----------
    diagonals : tuple of ndarray (n,)
    longest : int
        Rows of the longest series.
    apart : tuple of int
        The matrices that together have the products of all rows, correlation apart: under ``ar``
        those of the rows themselves; under ``cosy`` deviations and means add up to them; under
        ``unstr`` each occasion's pairs with itself do.
    """

    diagonals: tuple[Array, ...] = ()
    longest: int = 1
    apart: tuple[int, ...] = ()

    @property
    def bases(self) -> tuple[Basis, ...]:
        """The matrices M."""
        return self.diagonals

    @property
    def plain(self) -> Array:
        """What counts each row in products that know nothing of correlation (n,)."""
        return np.asarray(sum((self.diagonals[m] for m in self.apart), np.zeros(self.n)))

    @property
    def correlation_range(self) -> tuple[float, float]:
        """The open interval in which ``ar`` or ``cosy`` may lie."""
        if self.structure == "cosy":
            return -1.0 / (self.longest - 1), 1.0
        return -1.0, 1.0


def check_series(
    term: ResidualTerm, products: Products, groups: dict[str, tuple[int, Any]]
) -> None:
    """Raise where a series lies in several chunks, or cannot be told apart from a bar.

    Parameters
    ----------
    term : ResidualTerm
    products : Products
    groups : dict of str to (int, sequence of str)
        By grouping its number of levels and its effects.
    """
    n_series = len(np.unique(products.series))
    if n_series < len(products.series):
        names = ", ".join(term.group)
        raise DataError(
            f"{term} needs the rows of a series together, and those of some series lie apart. "
            f"Sort by {names}: in DuckDB 'order by {names}', in Polars frame.sort(...), in Dask "
            f"frame.shuffle({names!r}) or set_index({names!r}), in pandas sort_values(...)."
        )
    if n_series == products.n:
        raise DataError(
            f"Every series of {term} has one row only, so the data say nothing about a "
            "correlation. Leave the structure out, or name the grouping of the series."
        )
    for name, (levels, coefs) in groups.items():
        odd = term.structure == "unstr" or (term.structure == "cosy" and "Intercept" in coefs)
        if levels == n_series and odd:
            raise FormulaError(
                f"A bar by {name!r} and {term} are not identified together: both give the rows of "
                "a series one covariance. Leave one of them out."
            )


def series_residual(
    series: SeriesCoder, products: Products, owner: Any, frame: pd.DataFrame
) -> StandInResidual:
    """Return the residual of rows that stand for others.

    Parameters
    ----------
    series : SeriesCoder
    products : Products
    owner : ndarray of int (m,)
        The key of each of these rows, by position.
    frame : pandas.DataFrame
        The columns that sds hang on, one row a key.

    Raises
    ------
    EngineError
        There are too many gaps, lengths, patterns or strata.
    """
    estimated = "se" not in series.coder.formula.additions
    occasions = series.occasions.labels if series.occasions else ()
    sigma = None
    if estimated and not occasions:
        sigma = cell_sigma(series.coder, products, frame)
    strata = np.zeros(len(products.keys), dtype=np.intp)
    if sigma is not None and sigma.strata.size:
        strata, sigma = sigma.strata, sigma_on_rows(sigma, owner)
    makers = {"ar": _ar, "cosy": _cosy, "unstr": _unstr}
    made = makers[series.term.structure](series, products, strata)
    if made.found.n_bases > MAX_BASES:
        raise EngineError(
            f"{series.term} needs {made.found.n_bases:,} matrices, more than the {MAX_BASES:,} of "
            "which cross-products are kept: too many distinct gaps, lengths, patterns or strata. "
            "Round times or what the residual sd hangs on, or hold the rows: "
            "hm.Model(formula, source, memory='64 GB')."
        )
    basis, value = made.basis[owner], made.value[owner]
    if estimated and occasions:
        # the first occasion of each pair, which is that of a row where both are one
        sigma = occasion_sigma(made.found.strata[basis, 0], occasions)
    return StandInResidual(
        term=series.term,
        sigma=sigma,
        found=made.found,
        reason=None,
        scale=None,
        weights=None,
        constant=products.constant,
        total_weight=float(np.sum(products.weights)),
        n=len(owner),
        occasions=occasions,
        diagonals=tuple(np.where(basis == m, value, 0.0) for m in range(made.found.n_bases)),
        longest=made.longest,
        apart=made.apart,
    )


@dataclass(frozen=True, eq=False)
class _Made:
    """The matrices: of which each key's products are part (keys,), and how often (keys,).

    ``apart`` are those that together have the products of the rows, correlation apart.
    """

    found: Bases
    basis: Ints
    value: Array
    longest: int = 1
    apart: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Kind:
    """What a component is part of, with the terms of its weight; and how often it counts.

    Together, those that are ``whole`` have the products of the rows.
    """

    name: tuple[int, ...]
    terms: tuple[tuple[int, float], ...]
    value: float = 1.0
    whole: bool = False


def _ar(series: SeriesCoder, products: Products, strata: Ints) -> _Made:
    """Return the matrices of ``ar``, and of which components each is made."""
    gaps = sorted(products.tallies)
    before, each = MARGINS["ar"]
    first = {gap: before + each * g for g, gap in enumerate(gaps)}

    def kind(code: int) -> _Kind:
        if code == 0:
            return _Kind((0,), ((0, 1.0),), whole=True)
        if code > 0:
            gap, apart = divmod(code - 1, 2)
            # rows beside a neighbour of their stratum, differences from it
            at = first[gap]
            return _Kind((1, code), ((at + 1, -1.0),) if apart else ((at + 2, 1.0),))
        gap, which = divmod(-code, 3)
        if which == 0:
            return _Kind((2, gap), ((first[gap], 1.0),))
        return _Kind((3, gap), ((first[gap] + 1, 1.0),), 0.5 if which == 1 else -0.5)

    steps = [(gap, products.tallies[gap]) for gap in gaps]
    return _by_strata(series, products, strata, kind, steps)


def _cosy(series: SeriesCoder, products: Products, strata: Ints) -> _Made:
    """Return the matrices of ``cosy``, and of which components each is made."""
    lengths = sorted(products.tallies)
    before, each = MARGINS["cosy"]
    first = {length: before + each * k for k, length in enumerate(lengths)}

    def kind(code: int) -> _Kind:
        if code >= 0:
            return _Kind((code,), ((first[code] if code else 1, 1.0),), whole=True)
        length, minus = divmod(-code, 2)
        return _Kind((-length,), ((first[length] + 1, 1.0),), -0.5 if minus else 0.5)

    steps = [(length, products.tallies[length]) for length in lengths]
    made = _by_strata(series, products, strata, kind, steps)
    return replace(made, longest=max(lengths))


def _by_strata(
    series: SeriesCoder,
    products: Products,
    strata: Ints,
    kind: Callable[[int], _Kind],
    steps: list[tuple[int, float]],
) -> _Made:
    """Return a matrix for each kind of component and pair of strata."""
    component, inner = np.divmod(products.keys, series.radix)
    code, other = np.divmod(component, series.n_strata)
    # the stratum of each combination that sds hang on, from the keys that have it as their own
    own = part_keys(series.coder.cells, series.strata, inner)
    of = pd.Series(strata, index=own).groupby(level=0).first()
    met = np.where(code < 0, of.reindex(other, fill_value=0).to_numpy(), strata)
    size = int(strata.max()) + 1
    low, high = np.minimum(strata, met), np.maximum(strata, met)
    numbers, place = np.unique((code * size + low) * size + high, return_inverse=True)
    names: dict[tuple[Any, ...], int] = {}
    pairs, entries, apart = [], [], set[int]()
    basis, value = np.zeros(len(numbers), dtype=np.intp), np.zeros(len(numbers))
    for k, number in enumerate(numbers.tolist()):
        rest, last = divmod(number, size)
        which, before = divmod(rest, size)
        found = kind(which)
        name = found.name, before, last
        if name not in names:
            names[name] = len(names)
            pairs.append((before, last))
            entries += [(names[name], function, c) for function, c in found.terms]
        basis[k], value[k] = names[name], found.value
        if found.whole:
            apart.add(names[name])
    counts = np.bincount(strata, products.weights, size)
    bases = Bases(
        series.term.structure, (), None, np.array(pairs, dtype=np.intp), np.zeros(len(pairs)),
        counts, np.array(entries, dtype=np.float64), np.array(steps, dtype=np.float64),
    )  # fmt: skip
    return _Made(bases, basis[place], value[place], apart=tuple(sorted(apart)))


def _unstr(series: SeriesCoder, products: Products, strata: Ints) -> _Made:
    """Return the matrices of ``unstr``, and of which components each is made."""
    T = len(series.occasions.labels) if series.occasions else 0
    counts, patterns = np.zeros(T), []
    pairs: list[tuple[int, int]] = []
    codes: dict[int, tuple[int, float]] = {}
    for mask in sorted(products.tallies):
        seen = [b for b in range(T) if mask >> b & 1]
        patterns.append((np.array(seen, dtype=np.intp), products.tallies[mask]))
        counts[seen] += products.tallies[mask]
        for b in seen:
            for c in seen[: seen.index(b) + 1]:
                code = 1 + ((mask * T + b) * T + c) * 2
                codes[code] = len(pairs), 1.0 if b == c else 0.5
                if b != c:
                    codes[code + 1] = len(pairs), -0.5
                pairs.append((b, c))
    bases = Bases(
        "unstr", (), None, np.array(pairs, dtype=np.intp), np.zeros(len(pairs)), counts,
        np.empty((0, 3)), np.empty((0, 2)), tuple(patterns),
    )  # fmt: skip
    numbers, place = np.unique(products.keys // series.radix, return_inverse=True)
    found = [codes.get(code, (0, 0.0)) for code in numbers.tolist()]
    basis = np.array([m for m, _ in found], dtype=np.intp)
    apart = tuple(m for m, (b, c) in enumerate(pairs) if b == c)
    value = np.array([value for _, value in found])
    return _Made(bases, basis[place], value[place], apart=apart)

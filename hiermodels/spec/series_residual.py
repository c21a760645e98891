"""Residuals correlated within series, of rows that stand for others."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import DataError, EngineError, FormulaError
from hiermodels.spec.bases import MARGINS, MAX_BASES, Bases
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.residual import Basis, Residual
from hiermodels.spec.residual_terms import ResidualTerm
from hiermodels.spec.series_products import SeriesCoder
from hiermodels.spec.sigma import occasion_sigma, single_sigma

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class StandInResidual(Residual):
    """The residual of rows that stand for others: each matrix is a diagonal.

    Attributes
    ----------
    diagonals : tuple of ndarray (n,)
    longest : int
        Rows of the longest series.
    """

    diagonals: tuple[Array, ...] = ()
    longest: int = 1

    @property
    def bases(self) -> tuple[Basis, ...]:
        """The matrices M."""
        return self.diagonals

    @property
    def plain(self) -> Array:
        """What counts each row in products that know nothing of correlation (n,).

        Under ``ar`` the rows themselves are a component; under ``cosy`` deviations and means add
        up to them; under ``unstr`` each occasion's pairs with itself do.
        """
        found = {"ar": self.diagonals[:1], "cosy": self.diagonals}.get(self.structure)
        if found is None and self.found is not None:
            own = self.found.strata[:, 0] == self.found.strata[:, 1]
            found = tuple(d for d, kept in zip(self.diagonals, own, strict=True) if kept)
        return np.asarray(sum(found or (), np.zeros(self.n)))

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


def series_residual(series: SeriesCoder, products: Products, owner: Any) -> StandInResidual:
    """Return the residual of rows that stand for others.

    Parameters
    ----------
    series : SeriesCoder
    products : Products
    owner : ndarray of int (m,)
        The key of each of these rows, by position.

    Raises
    ------
    EngineError
        There are too many gaps, lengths or patterns.
    """
    component = (products.keys // series.radix)[owner]
    makers = {"ar": _ar, "cosy": _cosy, "unstr": _unstr}
    found, codes, longest = makers[series.term.structure](series, products)
    if found.n_bases > MAX_BASES:
        raise EngineError(
            f"{series.term} needs {found.n_bases:,} matrices, more than the {MAX_BASES:,} of which "
            "cross-products are kept: too many distinct gaps, lengths or patterns."
        )
    diagonals = tuple(
        sum((np.where(component == code, value, 0.0) for code, value in own), np.zeros(len(owner)))
        for own in codes
    )
    estimated = "se" not in series.coder.formula.additions
    occasions = series.occasions.labels if series.occasions else ()
    sigma = None
    if estimated:
        sigma = single_sigma()
        if occasions:
            # the first occasion of each pair, which is that of a row where both are one
            first = np.maximum(component - 1, 0) // 2 // len(occasions) % len(occasions)
            sigma = occasion_sigma(first.astype(np.intp), occasions)
    return StandInResidual(
        term=series.term,
        sigma=sigma,
        found=found,
        reason=None,
        scale=None,
        weights=None,
        constant=products.constant,
        total_weight=float(products.n),
        n=len(owner),
        occasions=occasions,
        diagonals=diagonals,
        longest=longest,
    )


_Made = tuple[Bases, list[list[tuple[int, float]]], int]


def _bases(structure: str, strata: Any, counts: Any, entries: Any, steps: Any) -> Bases:
    pairs = np.asarray(strata, dtype=np.intp).reshape(-1, 2)
    return Bases(
        structure, (), None, pairs, np.zeros(len(pairs)), np.asarray(counts, dtype=np.float64),
        np.asarray(entries, dtype=np.float64).reshape(-1, 3),
        np.asarray(steps, dtype=np.float64).reshape(-1, 2),
    )  # fmt: skip


def _ar(series: SeriesCoder, products: Products) -> _Made:
    """Return the matrices of ``ar``, and of which components each is made."""
    gaps = sorted(products.tallies)
    before, each = MARGINS["ar"]
    entries: list[tuple[int, int, float]] = [(0, 0, 1.0)]
    codes = [[(0, 1.0)]]
    for g, gap in enumerate(gaps):
        entries += [(len(codes), before + each * g + 2, 1.0)]
        codes.append([(2 * gap + 1, 1.0)])
        entries += [(len(codes), before + each * g + 1, -1.0)]
        codes.append([(2 * gap + 2, 1.0)])
    steps = [(gap, products.tallies[gap]) for gap in gaps]
    strata = np.zeros((len(codes), 2))
    return _bases("ar", strata, [products.n], entries, steps), codes, 1


def _cosy(series: SeriesCoder, products: Products) -> _Made:
    """Return the matrices of ``cosy``, and of which components each is made."""
    lengths = sorted(products.tallies)
    entries = [(0, 1, 1.0), *((1 + k, 2 + 2 * k, 1.0) for k in range(len(lengths)))]
    codes = [[(0, 1.0)], *([(length, 1.0)] for length in lengths)]
    steps = [(length, products.tallies[length]) for length in lengths]
    strata = np.zeros((len(codes), 2))
    return _bases("cosy", strata, [products.n], entries, steps), codes, max(lengths)


def _unstr(series: SeriesCoder, products: Products) -> _Made:
    """Return the matrices of ``unstr``, and of which components each is made."""
    T = len(series.occasions.labels) if series.occasions else 0
    counts, strata, codes, patterns = np.zeros(T), [], [], []
    for mask in sorted(products.tallies):
        seen = [b for b in range(T) if mask >> b & 1]
        patterns.append((np.array(seen, dtype=np.intp), products.tallies[mask]))
        counts[seen] += products.tallies[mask]
        for b in seen:
            for c in seen[: seen.index(b) + 1]:
                code = 1 + ((mask * T + b) * T + c) * 2
                strata.append((b, c))
                codes.append([(code, 1.0)] if b == c else [(code, 0.5), (code + 1, -0.5)])
    made = _bases("unstr", strata, counts, (), ())
    return replace(made, patterns=tuple(patterns)), codes, 1

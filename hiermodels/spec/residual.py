"""Residuals: how their standard deviations and correlations hang on parameters, met by the data.

A :class:`Residual` says R^-1 = sum_m w_m(phi) M_m: the matrices M_m come from the data, here and in
`hiermodels.spec.bases`; the weights are the engine's. Standard deviations are marginal ones, under
every structure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from hiermodels.errors import DataError, EngineError, FormulaError
from hiermodels.spec.bases import (
    Bases,
    ar_bases,
    by_rows,
    cosy_bases,
    independent_bases,
    scaled,
    unstructured_bases,
)
from hiermodels.spec.deviations import Deviations
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import as_groups, combine_groups
from hiermodels.spec.residual_terms import ResidualTerm
from hiermodels.spec.series import Bar, check_bars, constant_weight, times
from hiermodels.spec.shown import few
from hiermodels.spec.sigma import Sigma, modelled_sigma, occasion_sigma, read_sigma

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Basis = Array | sparse.csr_array | Deviations | None


@dataclass(frozen=True)
class Additions:
    """The response's additions that concern residuals.

    Attributes
    ----------
    weights, precision, se : ndarray (n,) or None
    with_sigma : bool
        Whether a residual sd is estimated besides known standard errors.
    """

    weights: Array | None = None
    precision: Array | None = None
    se: Array | None = None
    with_sigma: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Residual:
    r"""The residual covariance of a Gaussian model.

    Attributes
    ----------
    term : ResidualTerm or None
        ``ar``, ``cosy`` or ``unstr``; None where rows are independent.
    sigma : Sigma or None
        How the standard deviations hang on parameters; None where known errors replace them.
    found : Bases or None
        The matrices, before :attr:`scale`; None where there are too many.
    reason : str or None
        Why there are no matrices: the residual precision is then no sum of few of them.
    scale : ndarray (n,) or None
        Root of each row's precision for sd 1, D in M -> D M D; its square, times the likelihood's
        weights, multiplies the diagonals of independent rows.
    weights : ndarray (n,) or None
        What each row's log likelihood is multiplied by.
    constant : float
        Part of log\|R\| that does not depend on parameters, weighted.
    total_weight : float
        What multiplies log(2 pi) in the log likelihood: n, or the sum of the weights.
    series : ndarray of int (n,) or None
        The series of each row.
    series_levels : tuple of str
    order : ndarray of int (n,) or None
        Rows sorted by series, then time.
    time : ndarray of int (n,) or None
        Whole times of ``ar``, numbers of the occasions of ``unstr``, of ``cosy`` without meaning.
    occasions : tuple of str
        Of ``unstr``: the labels of the times.
    by_rows : bool
        Whether the variances are so many that their weighted sums over rows are computed anew
        at every evaluation.
    """

    term: ResidualTerm | None
    sigma: Sigma | None
    found: Bases | None
    reason: str | None
    scale: Array | None
    weights: Array | None
    constant: float
    total_weight: float
    n: int
    series: Ints | None = None
    series_levels: tuple[str, ...] = ()
    order: Ints | None = None
    time: Ints | None = None
    occasions: tuple[str, ...] = ()
    by_rows: bool = False

    @property
    def structure(self) -> str:
        """``"independent"``, ``"ar"``, ``"cosy"`` or ``"unstr"``."""
        return self.term.structure if self.term else "independent"

    @property
    def simple(self) -> bool:
        """Whether rows are independent and share one sigma, or have known errors."""
        return self.independent and (self.sigma is None or self.sigma.kind == "one")

    @property
    def independent(self) -> bool:
        """Whether rows are independent."""
        return self.term is None

    @property
    def n_sigma(self) -> int:
        """Number of parameters of the standard deviations."""
        return len(self.sigma.labels) if self.sigma else 0

    @property
    def n_correlation(self) -> int:
        """Number of free correlations."""
        size = len(self.occasions)
        return {"independent": 0, "unstr": size * (size - 1) // 2}.get(self.structure, 1)

    @property
    def correlation_name(self) -> str | None:
        """The correlation parameter's name in the posterior, None for independent rows."""
        names = {"ar": "ar", "cosy": "cosy", "unstr": "cor_residual"}
        return names.get(self.structure)

    @property
    def correlation_range(self) -> tuple[float, float]:
        """The open interval in which ``ar`` or ``cosy`` may lie."""
        if self.structure == "cosy" and self.series is not None:
            longest = int(np.max(np.bincount(self.series)))
            # no series of some of the rows may have two: nothing bounds the correlation then
            return (-1.0 / (longest - 1) if longest > 1 else -np.inf), 1.0
        return -1.0, 1.0

    @property
    def note(self) -> str:
        """What a reader of ``sigma`` should know, empty where nothing."""
        if self.structure == "ar" and self.sigma:
            return (
                "sigma is the marginal sd of the residuals; under ar() the sd of what is new at "
                "each step of 1 is sigma·√(1 − ar²)."
            )
        return ""

    @property
    def in_words(self) -> str:
        """The structure, and how the standard deviations hang on parameters."""
        structure = "independent" if self.term is None else str(self.term)
        if self.sigma is None:
            return f"{structure}, sds known"
        labels = few(self.sigma.labels)
        sds = {"one": "one sd", "strata": f"a sd for each of {labels}"}
        sds |= {"linear": f"log sd by {labels}", "modelled": "log sd by a formula of its own"}
        return f"{structure}, {sds[self.sigma.kind]}"

    def __repr__(self) -> str:
        """Return structure and standard deviations in words."""
        return f"{type(self).__name__}({self.in_words})"

    @cached_property
    def bases(self) -> tuple[Basis, ...]:
        """The matrices M: None for the identity, a diagonal (n,), or a symmetric matrix (n, n).

        Raises
        ------
        EngineError
            Where there are too many.
        """
        if self.found is None:
            raise EngineError(f"The residual precision has no short sum of matrices: {self.reason}")
        if self.by_rows:
            raise EngineError(
                "The residual precision has no short sum of matrices: the residual variance takes "
                f"{self.found.n_bases:,} distinct values over the rows."
            )
        if self.found.structure != "independent":
            return scaled(self.found, self._structured_scale()).matrices
        if self.found.classes is None:
            return (self._diagonal(),)
        ones, classes = self.row_scale, self.found.classes
        return tuple(np.where(classes == m, ones, 0.0) for m in range(self.found.n_bases))

    @property
    def row_scale(self) -> Array:
        """What multiplies the precision of each of independent rows (n,): known parts, weights."""
        diagonal = self._diagonal()
        return np.ones(self.n) if diagonal is None else diagonal

    def _diagonal(self) -> Array | None:
        """Return `row_scale`, None for ones."""
        diagonal = None if self.scale is None else self.scale**2
        if self.weights is None:
            return diagonal
        return self.weights if diagonal is None else diagonal * self.weights

    def _structured_scale(self) -> Array:
        """Return D with the weights in it: a series' log likelihood times w is R_j^-1 times w."""
        root = np.ones(self.n) if self.scale is None else self.scale
        return root if self.weights is None else root * np.sqrt(self.weights)


def build_residual(
    formula: ModelFormula,
    family: Family,
    kept: pd.DataFrame,
    bars: Sequence[Bar],
    additions: Additions,
) -> Residual | None:
    """Evaluate a formula's residual structure and its formula for sigma on the rows used.

    Parameters
    ----------
    formula : ModelFormula
    family : Family
    kept : pandas.DataFrame
        The rows used, without missing values.
    bars : sequence of Term
    additions : Additions

    Returns
    -------
    Residual or None
        None for a family without residual standard deviation.

    Raises
    ------
    FormulaError
        The structure or the formula does not go with the family, the additions or the bars.
    DataError
        A time is no whole number or stands twice in a series; a series is not nested in a
        grouping; a stratum has no rows.
    """
    _check_family(formula, family)
    if not family.has_sigma:
        return None
    check_residual(formula)
    estimated = additions.se is None or additions.with_sigma
    written = formula.sigma
    if written is not None and (written.bars or written.offsets):
        return _modelled(additions, len(kept), bool(written.bars))
    sigma = read_sigma(written, kept) if estimated else None
    if formula.residual is None:
        return _independent(sigma, additions, len(kept), bars)
    return _structured(formula.residual, sigma, additions, kept, bars)


# --- checks -------------------------------------------------------------------------------------


def _check_family(formula: ModelFormula, family: Family) -> None:
    """Raise FormulaError where the family has no place for the residual's terms."""
    if formula.residual is not None and (family.name, family.link) != ("gaussian", "identity"):
        raise FormulaError(
            f"{formula.residual} is a structure of Gaussian residuals; it needs family='gaussian' "
            f"with the identity link, and this model has family={family.name!r} with the link "
            f"{family.link}. Write a bar such as (1 | {formula.residual.group_name}) in its place."
        )


def check_residual(formula: ModelFormula) -> None:
    """Raise FormulaError where known errors leave no sigma to speak of, or stand beside one.

    So do the sds that ``unstr`` has of its own.
    """
    se, written, term = formula.additions.get("se"), formula.sigma, formula.residual
    if se is not None and not se.with_sigma and written is not None:
        raise FormulaError(
            "se(s) replaces sigma, so sigma can have no formula. Write se(s, sigma=True) to "
            "estimate a sigma besides, or leave the formula for sigma out."
        )
    if term is None:
        return
    if se is not None and se.with_sigma:
        raise FormulaError(
            f"se(s, sigma=True) adds independent errors to correlated ones; {term} "
            "goes with se(s) alone, with precision(w), or with neither."
        )
    if written is not None and (written.bars or written.offsets):
        what = "group effects" if written.bars else "an offset"
        raise FormulaError(
            f"{term} needs residual sds that hang on few parameters, and "
            f"{written.text!r} has {what}. Leave one of them out."
        )
    if written is not None and term.structure == "unstr":
        raise FormulaError(
            f"{term} has a sd for each time of its own, so sigma can have no formula besides. "
            "Leave the formula for sigma out."
        )


def _modelled(additions: Additions, n: int, bars: bool) -> Residual:
    """Return the residual of independent rows whose log sd is a linear predictor of its own."""
    what = "group effects" if bars else "an offset"
    return Residual(
        term=None,
        sigma=modelled_sigma(),
        found=None,
        reason=f"the formula for sigma has {what}, so that residual sds are many",
        scale=None,
        weights=additions.weights,
        constant=0.0,
        total_weight=float(n if additions.weights is None else np.sum(additions.weights)),
        n=n,
    )


# --- the structures -----------------------------------------------------------------------------


def _independent(
    sigma: Sigma | None, additions: Additions, n: int, bars: Sequence[Bar]
) -> Residual:
    """Return the residual of independent rows."""
    weights = additions.weights
    scale, log_variance = _known_scale(additions, n)
    known = additions.se**2 if additions.se is not None and additions.with_sigma else None
    strata = np.empty(0, dtype=np.intp) if sigma is None or sigma.kind == "one" else sigma.strata
    found = independent_bases(strata, known, weights, n)
    largest = max((len(bar.levels) for bar in bars), default=1)
    return Residual(
        term=None,
        sigma=sigma,
        found=found,
        reason=None,
        scale=scale,
        weights=weights,
        constant=_weighted_sum(log_variance, weights),
        total_weight=float(n if weights is None else np.sum(weights)),
        n=n,
        by_rows=by_rows(found.n_bases, largest, n, len(sigma.labels) if sigma else 0),
    )


def _known_scale(additions: Additions, n: int) -> tuple[Array | None, Array | None]:
    """Return the root of each row's known precision, and the log of its inverse square."""
    if additions.precision is not None:
        return np.sqrt(additions.precision), -np.log(additions.precision)
    if additions.se is not None and not additions.with_sigma:
        return 1.0 / additions.se, 2.0 * np.log(additions.se)
    return None, None


def _weighted_sum(values: Array | None, weights: Array | None) -> float:
    if values is None:
        return 0.0
    return float(np.sum(values) if weights is None else weights @ values)


def _structured(
    term: ResidualTerm,
    sigma: Sigma | None,
    additions: Additions,
    kept: pd.DataFrame,
    bars: Sequence[Bar],
) -> Residual:
    """Return the residual of a structure."""
    n = len(kept)
    series, levels = combine_groups([as_groups(kept[name], name) for name in term.group])
    check_bars(term, series, levels, bars)
    if len(levels) == n:
        raise DataError(
            f"Every series of {term} has one row only, so the data say nothing about a "
            "correlation. Leave the structure out, or name the grouping of the series."
        )
    time, occasions = times(term, kept, series, levels)
    if term.structure == "unstr":
        # a sd for each occasion; none beside known errors
        sigma = None if sigma is None else occasion_sigma(time.astype(np.intp), occasions)
    weights = constant_weight(additions.weights, series, term, n)
    strata = np.zeros(n, dtype=np.intp)
    if sigma is not None and sigma.kind != "one":
        strata = sigma.strata
    found, reason = None, None
    try:
        if term.structure == "ar":
            found = ar_bases(series, time, strata, weights)
        elif term.structure == "cosy":
            found = cosy_bases(series, strata, weights)
        else:
            found = unstructured_bases(series, time.astype(np.intp), weights)
    except EngineError as error:
        reason = f"{error}"
    scale, log_variance = _known_scale(additions, n)
    return Residual(
        term=term,
        sigma=sigma,
        found=found,
        reason=reason,
        scale=scale,
        weights=additions.weights,
        constant=_weighted_sum(log_variance, additions.weights),
        total_weight=float(np.sum(weights)),
        n=n,
        series=series,
        series_levels=levels,
        order=np.lexsort((time, series)),
        time=time.astype(np.intp),
        occasions=occasions,
    )

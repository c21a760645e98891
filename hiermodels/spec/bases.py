"""Residual precision as a sum of fixed matrices, R^-1 = sum_m w_m M_m: the matrices of a structure.

Everything here comes from indices alone; the weights as functions of the parameters are the
engine's. A structured weight is, for the strata s, s' of its rows and elementary functions f of the
correlation, w_m = exp(-log sd_s - log sd_s') sum_k c_mk f_k; `entries` holds (m, k, c_mk).

The elementary functions, in their order (see `MARGINS`): 1; then for `ar` and each gap d, with
q = ar^d: q^2 / (1 - q^2), -q / (1 - q^2), -q / (1 + q); for `cosy` 1 / (1 - rho) and then, for each
series length n, with c = 1 + (n - 1) rho: 1 / c, -rho / ((1 - rho) c).

Equal neighbours enter as squared differences and compound symmetry as the series' mean and the
deviations from it: near a correlation of 1 the table of plain products would subtract large
numbers from each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hiermodels.errors import EngineError
from hiermodels.spec.deviations import Deviations, plain
from hiermodels.spec.shown import Brief

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

MARGINS: Final = {"ar": (1, 3), "cosy": (2, 2)}
"""Elementary functions before those of gaps or lengths, and the number for each of them."""
MAX_CLASSES: Final = 300
MAX_NUMBERS: Final = 1e8
MAX_BASES: Final = 1000
MAX_ENTRIES: Final = 10_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Bases(Brief):
    """The matrices of a residual structure, and what its weights need to know.

    Attributes
    ----------
    structure : str
        ``"independent"``, ``"ar"``, ``"cosy"`` or ``"unstr"``.
    matrices : tuple of csr_array or Deviations (n, n) or None
        The M matrices, None for the identity; empty where rows are independent.
    classes : ndarray of int (n,) or None
        For independent rows the matrix whose diagonal holds each of them; None where all are in
        the one matrix, and for structures.
    strata : ndarray of int (M, 2)
        The strata whose sds scale each matrix; twice the same where rows are independent.
    known : ndarray (M,)
        For independent rows the known part of the variance of each class.
    counts : ndarray
        Weighted rows: of each class (M,) where rows are independent, else of each stratum (S,).
    entries : ndarray (E, 3)
        Matrix, elementary function, coefficient; empty for "independent" and "unstr".
    steps : ndarray (F, 2)
        Gaps with their weighted numbers of pairs ("ar"), lengths with their weighted numbers of
        series ("cosy"); ascending.
    patterns : tuple of (ndarray of int, float)
        "unstr": the occasions of each pattern, ascending, and the weighted number of its series.
        Its matrices follow each other: row by row of the lower triangle.
    """

    structure: str
    matrices: tuple[sparse.csr_array | Deviations | None, ...]
    classes: Ints | None
    strata: Ints
    known: Array
    counts: Array
    entries: Array
    steps: Array
    patterns: tuple[tuple[Ints, float], ...] = ()

    @property
    def n_bases(self) -> int:
        """Number of matrices M."""
        return len(self.strata)


def independent_bases(stratum: Ints, known: Array | None, weight: Array | None, n: int) -> Bases:
    """Return the classes of independent rows: by stratum and known variance.

    Parameters
    ----------
    stratum : ndarray of int (n,)
        Empty for one stratum.
    known : ndarray (n,) or None
        Known part of each row's variance.
    weight : ndarray (n,) or None
        What each row counts in the log likelihood.

    """
    classes = stratum if stratum.size else None
    strata = np.arange(int(stratum.max()) + 1 if stratum.size else 1, dtype=np.intp)
    variances = np.zeros(len(strata))
    if known is not None:
        values, place = np.unique(known, return_inverse=True)
        keys = place if classes is None else classes * len(values) + place
        found, inverse = np.unique(keys, return_inverse=True)
        classes = inverse.astype(np.intp)
        strata, variances = (found // len(values)).astype(np.intp), values[found % len(values)]
    if classes is None:
        counts = np.array([float(n if weight is None else np.sum(weight))])
    else:
        counts = np.bincount(classes, weight, len(strata)).astype(np.float64)
    pairs = np.column_stack([strata, strata])
    return Bases(
        "independent", (), classes, pairs, variances, counts, np.empty((0, 3)), np.empty((0, 2))
    )


def by_rows(n_classes: int, n_levels: int, n: int, n_parameters: int) -> bool:
    """Return whether to read the rows at every evaluation, not to keep products of each class.

    Parameters
    ----------
    n_classes : int
        Distinct residual variances.
    n_levels : int
        Of the largest grouping; 1 without.
    n : int
    n_parameters : int
        Of the residual variances.
    """
    kept, read = float(n_classes) * n_levels, float(n) * (1 + n_parameters)
    return n_classes > MAX_CLASSES or kept > read or float(n_classes) * n > MAX_NUMBERS


# --- collecting matrices ----------------------------------------------------------------------


class _Collector:
    """Matrices as they are found, with their strata and the terms of their weights."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.matrices: list[sparse.csr_array | Deviations | None] = []
        self.strata: list[tuple[int, int]] = []
        self.entries: list[tuple[float, float, float]] = []

    def add(
        self,
        matrix: sparse.csr_array | Deviations | None,
        strata: tuple[int, int],
        terms: list[tuple[int, float]],
    ) -> None:
        """Add a matrix whose weight is the sum of coefficients times elementary functions."""
        if len(self.matrices) == MAX_BASES:
            raise EngineError(
                "the residual structure needs more matrices than the "
                f"{MAX_BASES:,} of which cross-products are kept: too many distinct gaps, lengths, "
                "patterns or strata"
            )
        self.entries += [(len(self.matrices), k, c) for k, c in terms]
        self.matrices.append(matrix)
        self.strata.append(strata)

    def diagonal(self, rows: Ints, values: Array | None = None) -> sparse.csr_array | None:
        """Return a diagonal matrix; None for the identity."""
        if values is None and len(rows) == self.n:
            return None
        data = np.ones(len(rows)) if values is None else values
        return self.matrix(rows, rows, data)

    def symmetric(self, first: Ints, second: Ints) -> sparse.csr_array:
        """Return ones at pairs of rows and at their mirror images."""
        ones = np.ones(2 * len(first))
        return self.matrix(np.r_[first, second], np.r_[second, first], ones)

    def matrix(self, i: Ints, j: Ints, data: Array) -> sparse.csr_array:
        """Return a matrix from triplets; repeated places are summed."""
        return sparse.csr_array((data, (i, j)), shape=(self.n, self.n))

    def done(self, structure: str, counts: Array, steps: Array) -> Bases:
        """Return what was collected."""
        pairs = np.array(self.strata, dtype=np.intp).reshape(-1, 2)
        entries = np.array(self.entries, dtype=np.float64).reshape(-1, 3)
        known = np.zeros(len(pairs))
        return Bases(structure, tuple(self.matrices), None, pairs, known, counts, entries, steps)


def _stratum_counts(stratum: Ints, weight: Array) -> Array:
    return np.bincount(stratum, weight).astype(np.float64)


def _by_key(*keys: Ints) -> Iterator[tuple[tuple[int, ...], Ints | slice]]:
    """Yield each combination of keys with the positions where it stands, in order."""
    if not len(keys[0]):
        return
    if all(np.all(key == key[0]) for key in keys):
        # one combination: no copy of what may be millions of pairs
        yield tuple(int(key[0]) for key in keys), slice(None)
        return
    order = np.lexsort(keys[::-1])
    changes = [np.diff(key[order]) != 0 for key in keys]
    starts = np.flatnonzero(np.r_[True, np.any(changes, axis=0)])
    for own in np.split(order, starts[1:]):
        yield tuple(int(key[own[0]]) for key in keys), own


# --- first-order autoregression -----------------------------------------------------------------


def ar_bases(series: Ints, time: NDArray[np.int64], stratum: Ints, weight: Array) -> Bases:
    """Return the matrices of a first-order autoregression on integer times with gaps.

    Parameters
    ----------
    series : ndarray of int (n,)
    time : ndarray of int (n,)
        No time twice in a series.
    stratum : ndarray of int (n,)
    weight : ndarray (n,)
        What each row counts, the same in all rows of a series.
    """
    order = np.lexsort((time, series))
    first, second = order[:-1], order[1:]
    same = series[first] == series[second]
    first, second = first[same], second[same]
    gaps, gap = np.unique(time[second] - time[first], return_inverse=True)
    alike = stratum[first] == stratum[second]
    # what a neighbour adds to a row's diagonal: the gap, and whether it shares the row's stratum
    code = 2 * gap + alike
    neighbours = np.full((len(series), 2), -1, dtype=np.intp)
    neighbours[second, 0] = code
    neighbours[first, 1] = code
    found = _Collector(len(series))
    for (s,), own in _by_key(stratum):
        _ar_diagonal(found, s, np.arange(len(series))[own], neighbours)
    low = np.minimum(stratum[first], stratum[second])
    high = np.maximum(stratum[first], stratum[second])
    for (g, s, other), own in _by_key(gap, low, high):
        matrix = found.symmetric(first[own], second[own])
        sign = 1.0
        if s == other:
            ends = np.r_[first[own], second[own]]
            matrix = sparse.csr_array(found.matrix(ends, ends, np.ones(len(ends))) - matrix)
            sign = -1.0
        found.add(matrix, (s, other), [(_ar_function(g, 1), sign)])
    pairs = np.bincount(gap, weight[second], len(gaps))
    steps = np.column_stack([gaps.astype(np.float64), pairs])
    return found.done("ar", _stratum_counts(stratum, weight), steps)


def _ar_function(gap: int, which: int) -> int:
    """Return the place of an elementary function of a gap: 0 to 2, as the module lists them."""
    before, each = MARGINS["ar"]
    return before + each * gap + which


def _neighbour_function(code: int) -> int:
    """Return the elementary function that a neighbour adds to a row's diagonal."""
    return _ar_function(code // 2, 2 if code % 2 else 0)


def _ar_diagonal(found: _Collector, s: int, rows: Ints, neighbours: Ints) -> None:
    """Add the diagonal matrices of a stratum, by kinds of rows or by functions: the fewer."""
    low, high = np.min(neighbours[rows], axis=1), np.max(neighbours[rows], axis=1)
    kinds = list(_by_key(low, high))
    codes = sorted({code for pair, _ in kinds for code in pair if code >= 0})
    if len(kinds) <= len(codes):
        for pair, own in kinds:
            terms = [(0, 1.0), *((_neighbour_function(code), 1.0) for code in pair if code >= 0)]
            found.add(found.diagonal(rows[own]), (s, s), terms)
        return
    found.add(found.diagonal(rows), (s, s), [(0, 1.0)])
    for code in codes:
        number = np.sum(neighbours[rows] == code, axis=1)
        some = number > 0
        matrix = found.diagonal(rows[some], number[some].astype(np.float64))
        found.add(matrix, (s, s), [(_neighbour_function(code), 1.0)])


# --- compound symmetry --------------------------------------------------------------------------


def cosy_bases(series: Ints, stratum: Ints, weight: Array) -> Bases:
    """Return the matrices of compound symmetry: means and deviations, by series length.

    Parameters
    ----------
    series, stratum : ndarray of int (n,)
    weight : ndarray (n,)
        What each row counts, the same in all rows of a series.
    """
    sizes = np.bincount(series)
    if float(np.sum(sizes.astype(np.float64) ** 2)) > MAX_ENTRIES:
        raise EngineError(
            f"the series of cosy() are so long (up to {int(sizes.max()):,} rows) that their "
            f"matrices have more than {MAX_ENTRIES:,} entries; (1 | g) is the same model for a "
            "positive correlation"
        )
    order = np.argsort(series, kind="stable")
    lengths = np.unique(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    blocks = [order[starts[sizes == n][:, None] + np.arange(n)] for n in lengths]
    i = np.concatenate([np.repeat(block, block.shape[1], axis=1).ravel() for block in blocks])
    j = np.concatenate([np.tile(block, block.shape[1]).ravel() for block in blocks])
    length = np.searchsorted(lengths, sizes[series[i]])
    upper = stratum[i] <= stratum[j]
    if not np.all(upper):
        i, j, length = i[upper], j[upper], length[upper]
    found = _Collector(len(series))
    reference = order[starts[series]] if np.all(stratum == stratum[0]) else None
    for (s, other), own in _by_key(stratum[i], stratum[j]):
        first, second, size = i[own], j[own], length[own]
        if s == other:
            _cosy_own(found, s, lengths, first, second, size, reference)
            continue
        for (k,), part in _by_key(size):
            matrix = found.symmetric(first[part], second[part])
            found.add(matrix, (s, other), [(3 + 2 * k, 1.0)])
    number = [float(np.sum(weight[block[:, 0]])) for block in blocks]
    steps = np.column_stack([lengths.astype(np.float64), number])
    return found.done("cosy", _stratum_counts(stratum, weight), steps)


def _cosy_own(
    found: _Collector, s: int, lengths: Ints, i: Ints, j: Ints, length: Ints,
    reference: Ints | None,
) -> None:  # fmt: skip
    """Add the matrices of pairs within a stratum: means by length, and deviations from them.

    With one stratum `reference` is a row of each row's series.
    """
    if np.array_equal(i, j):
        # no series has two rows here: means and deviations share their diagonal
        for (k,), own in _by_key(length):
            share = 1.0 / float(lengths[k])
            terms = [(2 + 2 * k, share), (1, 1.0 - share)]
            found.add(found.diagonal(i[own]), (s, s), terms)
        return
    shares = 1.0 / lengths[length].astype(np.float64)
    for (k,), own in _by_key(length):
        found.add(found.matrix(i[own], j[own], shares[own]), (s, s), [(2 + 2 * k, 1.0)])
    if lengths[0] == 1:
        several = lengths[length] > 1
        i, j, shares = i[several], j[several], shares[several]
    apart = found.matrix(i, j, (i == j) - shares)
    found.add(apart if reference is None else Deviations(apart, reference), (s, s), [(1, 1.0)])


# --- unstructured -------------------------------------------------------------------------------


def unstructured_bases(series: Ints, occasion: Ints, weight: Array) -> Bases:
    """Return the matrices of an unstructured covariance, by pattern of the occasions seen.

    Parameters
    ----------
    series, occasion : ndarray of int (n,)
        No occasion twice in a series.
    weight : ndarray (n,)
        What each row counts, the same in all rows of a series.
    """
    n_series, n_occasions = int(series.max()) + 1, int(occasion.max()) + 1
    if n_occasions > MAX_BASES:
        raise EngineError(f"unstr() has {n_occasions:,} occasions; it can have a few dozen")
    row = np.full((n_series, n_occasions), -1, dtype=np.intp)
    row[series, occasion] = np.arange(len(series))
    seen, pattern = np.unique(row >= 0, axis=0, return_inverse=True)
    found = _Collector(len(series))
    patterns = []
    for k, mask in enumerate(seen):
        own = row[pattern == k]
        occasions = np.flatnonzero(mask)
        patterns.append((occasions, float(np.sum(weight[own[:, occasions[0]]]))))
        for b in occasions.tolist():
            for c in occasions[occasions <= b].tolist():
                if b == c:
                    found.add(found.diagonal(own[:, b]), (b, b), [])
                else:
                    found.add(found.symmetric(own[:, b], own[:, c]), (b, c), [])
    counts = _stratum_counts(occasion, weight)
    return replace(found.done("unstr", counts, np.empty((0, 2))), patterns=tuple(patterns))


def scaled(bases: Bases, root: Array) -> Bases:
    """Return structured bases with every matrix M replaced by D M D, D = diag(root)."""
    if np.all(root == 1.0):
        return bases
    D = sparse.diags_array(root)
    matrices = tuple(
        sparse.csr_array(D @ D if matrix is None else D @ plain(matrix) @ D)
        for matrix in bases.matrices
    )
    return replace(bases, matrices=matrices)

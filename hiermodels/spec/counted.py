"""Rows that were counted together, one by one: each distinct row once, all of them, or some."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.design import Design
from hiermodels.spec.subset import subset_design
from hiermodels.spec.whole import Counted

Array = NDArray[np.float64]
Index = NDArray[np.intp]

# NumPy draws from at most so many without replacement; of more it makes no difference.
_MOST_COUNTED = 1_000_000_000


def counts_alone(design: Design) -> bool:
    """Return whether the likelihood weights of counted rows are their numbers and nothing else."""
    whole = design.whole
    if not isinstance(whole, Counted) or design.weights is None:
        return False
    return bool(np.array_equal(design.weights, whole.counts))


def counted_column(design: Design) -> str | None:
    """Return the column that says how many rows each stands for; None where there is none."""
    if not counts_alone(design):
        return None
    return design.formula.additions["weights"].expression.columns[0]


def each_once(design: Design) -> Design:
    """Return the distinct rows of a design, each for itself alone; other designs as they are."""
    if not isinstance(design.whole, Counted):
        return design
    single = replace(design, whole=None, weights=None)
    return subset_design(single, np.arange(design.n))


def row_places(design: Design, most: int, rng: np.random.Generator) -> Index:
    """Return for each of the rows counted which distinct one it is.

    Parameters
    ----------
    design : Design
        Of counted rows.
    most : int
        Of more rows than this so many are taken at random, without replacement.
    rng : numpy.random.Generator
        Of these.

    Returns
    -------
    ndarray of int
        In the order of the distinct rows.
    """
    whole = design.whole
    if not isinstance(whole, Counted):
        return np.arange(design.n)
    counts = np.rint(whole.counts).astype(np.int64)
    if whole.n > most:
        counts = drawn_counts(counts, most, rng)
    return np.repeat(np.arange(design.n), counts)


def drawn_counts(
    counts: NDArray[np.int64], size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return how often each distinct row is among so many rows taken at random.

    Examples
    --------
    >>> drawn_counts(np.array([3, 0, 2]), 5, np.random.default_rng(1)).tolist()
    [3, 0, 2]
    """
    if counts.sum() < _MOST_COUNTED:
        drawn = rng.multivariate_hypergeometric(counts, size, method="marginals")
    else:
        drawn = rng.multinomial(size, counts / counts.sum())
    return np.asarray(drawn, dtype=np.int64)


def single_rows(design: Design, places: Index) -> Design:
    """Return a design with a row for each of the rows counted, without weights.

    Parameters
    ----------
    design : Design
        Of counted rows.
    places : ndarray of int (n,)
        As :func:`row_places` returns them. Levels of groupings without rows are left out.
    """
    found = subset_design(replace(design, whole=None, weights=None), places)
    # rows that agree had different labels in the source, which are not known
    return replace(found, data=found.data.reset_index(drop=True))


def all_rows(design: Design) -> Design:
    """Return a design with a row for each of the rows counted; other designs as they are."""
    if not isinstance(design.whole, Counted):
        return design
    counts = np.rint(design.whole.counts).astype(np.int64)
    return single_rows(design, np.repeat(np.arange(design.n), counts))


def fewer_counts(design: Design, held: Index, counts: Array) -> tuple[Design, Index]:
    """Return a design of counted rows less some of them, and which distinct rows are left.

    Parameters
    ----------
    design : Design
        Of counted rows.
    held : ndarray of int (m,)
        Distinct rows.
    counts : ndarray (m,)
        How many of each are left out.
    """
    whole = design.whole
    if not isinstance(whole, Counted):
        rest = np.setdiff1d(np.arange(design.n), held)
        return subset_design(design, rest), rest
    left = whole.counts.copy()
    left[held] -= counts
    rest = np.flatnonzero(left > 0.5)
    changed = replace(design, weights=left, whole=Counted(round(left.sum()), left))
    return subset_design(changed, rest), rest

"""Columns rewritten exactly in terms of centred predictors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hiermodels.spec.matrices import Array, Column, Matrix, blocks, triangle
from hiermodels.spec.shown import Brief
from hiermodels.spec.whole import Stands, mean_of

_EXACT = 1e-9


@dataclass(frozen=True)
class Centring:
    """A model matrix with its numeric factors centred: ``X_centred = X @ T``.

    Attributes
    ----------
    T : ndarray (p, p)
        Unit triangular up to the order of columns; coefficients of ``X`` are
        ``T @ coefficients of X_centred``.
    matrix : Matrix
        The centred columns, products of centred factors, not ``X @ T`` (which cancels).
    """

    T: Array
    matrix: Matrix


@dataclass(frozen=True, eq=False, repr=False)
class Recipe(Brief):
    """How columns are centred, whatever the means.

    Attributes
    ----------
    p : int
    steps : tuple of (str, tuple of (int, ndarray (p,)))
        In order, a numeric factor's label with the columns in which it is centred, each with what
        the column without that factor is made of.
    """

    p: int
    steps: tuple[tuple[str, tuple[tuple[int, Array], ...]], ...]

    def transform(self, means: Mapping[tuple[int, str], float]) -> Array:
        """Return T (p, p) for the means of the factors' parts, by column and label."""
        T = np.eye(self.p)
        for label, changes in self.steps:
            before = T.copy()
            for k, margin in changes:
                T[:, k] -= means[k, label] * (before @ margin)
        return T

    def keys(self) -> tuple[tuple[int, str], ...]:
        """Return the parts that are centred, by column and label."""
        return tuple((k, label) for label, changes in self.steps for k, _ in changes)


def find_recipe(columns: tuple[Column, ...], n: int) -> Recipe:
    """Return how columns are centred, found on some of their rows."""
    return _centre(columns, n)[1]


def centre(columns: tuple[Column, ...], n: int, whole: Stands = None) -> Centring:
    """Rewrite columns exactly in centred numeric factors, where their margins are in the matrix.

    A column whose margins are missing (``x:z`` without ``x``) stays as it is. Means are those of
    all rows that the columns' stand for.
    """
    return _centre(columns, n, whole)[0]


def _centre(columns: tuple[Column, ...], n: int, whole: Stands = None) -> tuple[Centring, Recipe]:
    """Return the centred columns, and how they were made."""
    steps = []
    T = np.eye(len(columns))
    means: list[dict[str, float]] = [{} for _ in columns]
    numeric = dict.fromkeys(label for column in columns for label in sorted(column.numeric))
    for label in numeric:
        before, current = T.copy(), Matrix(columns, n, tuple(means))
        centred = list(means)
        changes = []
        for k, column in enumerate(columns):
            if label not in column.numeric:
                continue
            margin = _margin(k, label, current)
            if margin is None:
                continue
            changes.append((k, margin))
            mean = mean_of(dict(column.parts)[label], whole)
            used = np.flatnonzero(margin)
            T[:, k] -= mean * (before[:, used] @ margin[used])
            centred[k] = {**means[k], label: mean}
        means = centred
        steps.append((label, tuple(changes)))
    return Centring(T, Matrix(columns, n, tuple(means))), Recipe(len(columns), tuple(steps))


def _margin(k: int, label: str, current: Matrix) -> Array | None:
    """Return how column k without one factor is made of the others (p,), None where it is not."""
    columns, means = current.columns, current.means
    parts = tuple(part for part in columns[k].parts if part[0] != label)
    rest = Column("", parts, columns[k].numeric - {label})
    below = rest.labels
    weights = np.zeros(len(columns))
    others = [j for j, column in enumerate(columns) if column.labels <= below]
    for j in others:
        if _same(rest, means[k], columns[j], means[j]):
            weights[j] = 1.0
            return weights
    if not others and not below:
        # no intercept: the levels of a factor may add up to one
        others = [j for j, column in enumerate(columns) if not column.numeric]
    if not others:
        return None
    kept = {name: mean for name, mean in means[k].items() if name != label}
    both = Matrix((*(columns[j] for j in others), rest), current.n, (*_of(means, others), kept))
    solution = _solve(both)
    if solution is None:
        return None
    rounded = np.round(solution)
    weights[others] = np.where(np.abs(solution - rounded) < _EXACT, rounded, solution)
    return weights


def _of(means: Sequence[Mapping[str, float]], kept: Sequence[int]) -> list[Mapping[str, float]]:
    return [means[j] for j in kept]


def _solve(both: Matrix) -> Array | None:
    """Return how the last column is made of the others, None where it is not."""
    R = triangle(blocks(both), both.shape[1])
    solution = np.asarray(np.linalg.lstsq(R[:, :-1], R[:, -1], rcond=None)[0])
    left = np.linalg.norm(R[:, -1] - R[:, :-1] @ solution)
    return solution if left <= _EXACT * np.linalg.norm(R[:, -1]) else None


def _same(
    one: Column, one_means: Mapping[str, float], two: Column, two_means: Mapping[str, float]
) -> bool:
    """Whether two columns are products of the same numbers."""
    first, second = dict(one.parts), dict(two.parts)
    return first.keys() == second.keys() and all(
        one_means.get(label) == two_means.get(label)
        and (own is second[label] or np.array_equal(own, second[label]))
        for label, own in first.items()
    )

"""Variances of group effects together with the coefficients that they are added to.

Var(b + u) = Var(b) + 2 Cov(b, u) + Var(u), each the mean of what it is given the scales plus the
same of the conditional means: no draw of an effect is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hiermodels.engines.marginal import MarginalProblem
from hiermodels.engines.problem import Floats


@dataclass(frozen=True, eq=False)
class Added:
    """Which coefficient each group effect is added to.

    Parameters
    ----------
    rows
        By bar of the formula (q, p): the coefficient of each effect is a row times the
        coefficients in the priors' coordinates; zeros where an effect has none.
    maps
        By bar of the formula (q, q): effects are ``map @`` those in the priors' coordinates.
    """

    rows: tuple[Floats, ...]
    maps: tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class Targets:
    """The coefficients of `Added` as the kernels take them, one row for each effect of a problem.

    Parameters
    ----------
    beside
        What multiplies the coefficients that are integrated out, (K, p).
    known
        What is known of them given a draw of the coordinates, (chains, draws, K).
    shrunk
        What multiplies the coefficients that are effects of the last bar, (K, p of these).
    starts
        Each bar's first row.
    """

    beside: Floats
    known: Floats
    shrunk: Floats
    starts: tuple[int, ...]


def find_targets(
    problem: MarginalProblem, draws: Floats, added: Added | None, by_grouping: bool
) -> Targets:
    """Return the coefficients that effects are added to; no rows where none are asked for.

    Parameters
    ----------
    problem : MarginalProblem
    draws : ndarray (chains, draws, ndim)
    added : Added or None
    by_grouping : bool
        Whether rows come by grouping, in the columns of the cross-products; else by bar.
    """
    gram = problem.gram
    sizes = [g.q for g in gram.groupings] if by_grouping else [bar.q for bar in problem.bars]
    first = np.cumsum([0, *sizes])
    starts = tuple(
        int(first[bar.grouping] + bar.first if by_grouping else first[k])
        for k, bar in enumerate(problem.bars)
    )
    rows = np.zeros((int(first[-1]) if added else 0, len(problem.coef_priors)))
    if added is not None:
        for bar, start in zip(problem.bars, starts, strict=True):
            # the last bar may be coefficients themselves
            if bar.term < len(added.rows):
                rows[start : start + bar.q] = added.rows[bar.term]
    beside = rows[:, problem.normal] @ np.linalg.inv(gram.R)
    known = draws[..., problem.layout.others] @ rows[:, problem.others].T
    return Targets(
        np.ascontiguousarray(beside), np.ascontiguousarray(known), rows[:, problem.shrunk], starts
    )


def total_variances(
    problem: MarginalProblem,
    added: Added,
    targets: Targets,
    covariances: Sequence[Floats],
    crosses: Sequence[Floats],
    variances: Floats,
) -> tuple[Floats, ...]:
    """Return the variances (J, q) of coefficients plus effects, by bar.

    Parameters
    ----------
    problem : MarginalProblem
    added : Added
    targets : Targets
    covariances : sequence of ndarray (J, q, q)
        Of the effects, by bar, in the priors' coordinates.
    crosses : sequence of ndarray (J, q, q)
        Of the effects, in the priors' coordinates, with the coefficients.
    variances : ndarray (K,)
        Of the coefficients.
    """
    found = []
    for bar, start, covariance, cross in zip(
        problem.bars, targets.starts, covariances, crosses, strict=True
    ):
        T = added.maps[bar.term]
        effects = np.einsum("ka,jab,kb->jk", T, covariance, T)
        both = np.einsum("ka,jak->jk", T, cross)
        found.append(np.maximum(variances[start : start + bar.q] + 2.0 * both + effects, 0.0))
    return tuple(found)


def drawn_totals(
    problem: MarginalProblem,
    added: Added,
    targets: Targets,
    parts: Sequence[Floats],
    coefficients: Floats,
) -> Floats:
    """Return draws of coefficients plus effects (S, numbers of all bars).

    Parameters
    ----------
    problem : MarginalProblem
        Whose last bar is coefficients, which are added to nothing.
    added : Added
    targets : Targets
        By bar.
    parts : sequence of ndarray (S, J, q)
        Draws of the effects, by bar, in the priors' coordinates.
    coefficients : ndarray (S, K)
        Draws of what they are added to.
    """
    found = []
    for bar, start, part in zip(problem.bars, targets.starts, parts, strict=True):
        T = added.maps[bar.term] if bar.term < len(added.maps) else np.eye(bar.q)
        own = coefficients[:, None, start : start + bar.q]
        found.append((part @ T.T + own).reshape(len(part), -1))
    return np.concatenate(found, axis=1)

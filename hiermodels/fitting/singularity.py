"""Which directions of the group effects have no variance, in words."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.laplace_problem import LaplaceProblem
from hiermodels.engines.likelihood_problem import Estimation
from hiermodels.spec.design import Design, Term

Array = NDArray[np.float64]
# sds below this share of the residual scale (in columns of size one) count as none, as in lme4.
TOLERANCE: Final = 1e-4


def vanished_directions(
    problem: Estimation | LaplaceProblem, design: Design, x: Array
) -> tuple[str, ...]:
    """Return a sentence for each direction of a bar's effects whose variance is zero.

    Parameters
    ----------
    problem : Estimation
    design : Design
    x : ndarray (ndim,)

    Returns
    -------
    tuple of str
    """
    found = []
    unit = 1.0 if problem.along is not None else _known_scale(design)
    for block in problem.blocks:
        term = named_bar(design.terms[block.term], block.by)
        theta = block.factor(x) * block.scale[:, None] / unit
        if not term.correlated:
            found += [
                f"the variance of {coef} by {term.group} is zero"
                for coef, size in zip(term.coefs, np.diag(theta), strict=True)
                if size < TOLERANCE
            ]
            continue
        if np.min(np.abs(np.diag(theta))) < TOLERANCE:
            found += _bar(term, theta / block.scale[:, None], theta)
    return tuple(found)


def named_bar(term: Term, subpopulation: int | None) -> Term:
    """Return a bar as sentences call it: of the levels of one subpopulation.

    Parameters
    ----------
    term : Term
    subpopulation : int or None
        None: of all levels.
    """
    if term.by is None or subpopulation is None:
        return term
    return replace(term, group=f"{term.group} ({term.by.name} {term.by.labels[subpopulation]})")


def _known_scale(design: Design) -> float:
    return 1.0 if design.se is None else float(np.median(design.se))


def _bar(term: Term, factor: Array, theta: Array) -> list[str]:
    """Return the sentences of a correlated bar: of zero variances, then of exact combinations."""
    # a combination a' of raw effects is constant where a' T factor = 0
    sizes = np.sqrt(np.sum(theta**2, axis=1))
    moving = np.flatnonzero(_raw_moves(term, factor, sizes))
    still = [term.coefs[k] for k in range(len(term.coefs)) if k not in moving]
    found = [f"the variance of {coef} by {term.group} is zero" for coef in still]
    rows = (term.T @ factor)[moving]
    sds = np.sqrt(np.sum(rows**2, axis=1))
    if len(moving) < 2:
        return found
    vectors, values, _ = np.linalg.svd(rows / sds[:, None])
    names = [term.coefs[k] for k in moving]
    for k in np.flatnonzero(values < 10 * TOLERANCE * values[0]):
        if len(moving) == 2:
            sign = np.sign(float(rows[0] @ rows[1]))
            found.append(
                f"{names[0]} and {names[1]} by {term.group} have correlation {sign:+.0f}: "
                f"{_combination(names, vectors[:, k] / sds)} is the same in every group"
            )
        else:
            found.append(
                f"the effects by {term.group} have a covariance of lower rank: "
                f"{_combination(names, vectors[:, k] / sds)} is the same in every group"
            )
    return found


def _raw_moves(term: Term, factor: Array, sizes: Array) -> NDArray[np.bool_]:
    """Return which raw effects have a variance."""
    rows = term.T @ factor
    sds = np.sqrt(np.sum(rows**2, axis=1))
    # what an effect could have, were nothing to cancel
    bound = np.abs(term.T) @ np.sqrt(np.sum(factor**2, axis=1))
    moves = sds > 1e-10 * np.maximum(bound, np.finfo(float).tiny)
    # a centred effect below the tolerance that nothing else enters
    own = np.array([np.count_nonzero(row) == 1 for row in term.T])
    return np.asarray(moves & ~(own & (sizes < TOLERANCE)))


def _combination(names: list[str], weights: Array) -> str:
    """Return weights as a sum in words, the first being 1."""
    largest = float(np.max(np.abs(weights)))
    first = next(k for k in range(len(weights)) if abs(weights[k]) > 1e-6 * largest)
    parts: list[str] = []
    for name, weight in zip(names, weights / weights[first], strict=True):
        if abs(weight) < 1e-6:
            continue
        size = "" if abs(abs(weight) - 1.0) < 1e-9 else f"{abs(weight):.3g}·"
        if not parts:
            parts.append(f"{size}{name}")
        else:
            parts.append(f"{'+' if weight > 0 else '−'} {size}{name}")
    return " ".join(parts)

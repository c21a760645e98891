"""Conditional problems of rows that stand for others: the log likelihood of all of them.

A Gaussian log likelihood is a sum of squares, which rows with the same cross-products have, and a
sum of logarithms of sds, of which every row of the data has one. A row that counts w times, with
its columns divided by the root of w, has the squares that it had, and w logarithms.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.blocks import Floats
from hiermodels.engines.native import kernels_unavailable
from hiermodels.engines.problem import ConditionalProblem
from hiermodels.engines.supported import supports
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.residual import Residual
from hiermodels.spec.whole import Whole


def not_conditional(design: Design, family: Family, priors: ResolvedPriors) -> str | None:
    """Return why rows that stand for others cannot be used one by one, None where they can.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors
    """
    residual = design.residual
    if residual is not None and residual.term is not None:
        return f"{residual.term} correlates rows"
    if (reason := kernels_unavailable()) is not None:
        return reason
    forms = (False,) * len(design.terms)
    # a PyMC graph would take each of these rows for one of the data's
    return supports(for_all_rows(conditional_problem(design, family, priors, forms), design))


def for_all_rows(problem: ConditionalProblem, design: Design) -> ConditionalProblem:
    """Return the problem with the log likelihood of the rows that its rows stand for.

    Parameters
    ----------
    problem : ConditionalProblem
        Gaussian, of a design's rows.
    design : Design
        Where its rows are the data's own, the problem is returned as it is.

    Returns
    -------
    ConditionalProblem
        Its rows count as many as they stand for, alike where they share a residual variance.

    Raises
    ------
    EngineError
        The design has no residual, as that of another family.
    """
    residual = design.residual
    if not isinstance(design.whole, Whole):
        return problem
    if residual is None or residual.found is None:
        raise EngineError("Rows that stand for others have the likelihood of a Gaussian model.")
    weights = _counts(residual, len(problem.y))
    # rows that count nothing have no columns either
    root = np.sqrt(np.where(weights > 0, weights, 1.0))
    # without a sigma known errors are in the products, and sds of 1 are left
    se = problem.se if residual.sigma is not None else np.ones(len(problem.y))
    return replace(
        problem,
        y=problem.y / root,
        X=problem.X / root[:, None],
        offset=problem.offset / root,
        se=se,
        weights=weights,
        bars=tuple(replace(bar, z=bar.z / root[:, None]) for bar in problem.bars),
        constant=problem.constant - 0.5 * residual.constant,
    )


def _counts(residual: Residual, n: int) -> Floats:
    """Return how many logarithms of its sd each row brings (n,)."""
    found = residual.found
    classes: NDArray[np.intp] = np.zeros(n, dtype=np.intp)
    counts = np.array([residual.total_weight])
    if found is not None and found.classes is not None:
        classes, counts = found.classes, found.counts
    rows = np.bincount(classes, minlength=len(counts))
    return np.asarray((counts / np.maximum(rows, 1))[classes])

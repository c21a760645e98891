"""Conditional problems of rows that stand for others: the log likelihood of all of them.

A Gaussian log likelihood is a sum of squares, which rows with the same cross-products have, and a
sum of logarithms of sds, of which every row of the data has one. A row of zeros, whose square is
zero under all coefficients and effects, brings those that are missing, by its weight.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.blocks import BarBlock, Floats
from hiermodels.engines.collapsing import take_rows
from hiermodels.engines.native import kernels_unavailable
from hiermodels.engines.problem import ConditionalProblem
from hiermodels.engines.supported import supports
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.grouping import StandingMembers
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
    for term in design.terms:
        if isinstance(term.members, StandingMembers):
            return f"the bar by {term.group} has weights of memberships that multiply slopes"
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
        With a row of zeros for every residual variance, weighted by the rows not yet counted.

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
    n = len(problem.y)
    classes, counts = _classes(residual, n)
    # any row of the class has its sd
    kinds, first, met = np.unique(classes, return_index=True, return_counts=True)
    longer = take_rows(problem, np.concatenate([np.arange(n), first]))
    se = longer.se
    if residual.sigma is None:
        # known errors are in the products: sds of 1 are left
        se = np.ones(len(longer.y))
    bars = tuple(_without_columns(bar, n) for bar in longer.bars)
    return replace(
        longer,
        y=_zero(longer.y, n),
        X=_zero(longer.X, n),
        offset=_zero(longer.offset, n),
        se=se,
        weights=np.concatenate([np.ones(n), counts[kinds] - met]),
        bars=bars,
        constant=longer.constant - 0.5 * residual.constant,
    )


def _classes(residual: Residual, n: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the residual variance of each row by number, and the weighted rows of each."""
    found = residual.found
    if found is None or found.classes is None:
        return np.zeros(n, dtype=np.intp), np.array([residual.total_weight])
    return found.classes, found.counts


def _zero(values: Floats, n: int) -> Floats:
    """Return rows of which those after n are zero."""
    out = np.array(values, dtype=np.float64)
    out[n:] = 0.0
    return out


def _without_columns(bar: BarBlock, n: int) -> BarBlock:
    """Return a bar whose rows after n see no effect."""
    return replace(bar, z=_zero(bar.z, n))

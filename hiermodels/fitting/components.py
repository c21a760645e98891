"""Variance components on the raw scale, by name, from the coordinates of a likelihood."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.likelihood_problem import Block, Estimation
from hiermodels.engines.residual_packing import constrain_residual
from hiermodels.fitting.draws import GroupLabels, group_labels
from hiermodels.spec.design import Design, Group
from hiermodels.spec.names import indexed
from hiermodels.spec.priors import ResolvedPriors

Array = NDArray[np.float64]


def bar_factors(
    blocks: Sequence[Block], design: Design, x: Array, scale: float
) -> tuple[Array, ...]:
    """Return by bar a factor of the covariance of its raw effects, (q, q) or (H, q, q)."""
    found = []
    for k, term in enumerate(design.terms):
        own = [scale * (term.T @ block.factor(x)) for block in blocks if block.term == k]
        found.append(own[0] if term.by is None else np.stack(own))
    return tuple(found)


def residual_values(
    problem: Estimation, design: Design, priors: ResolvedPriors, x: Array, scale: float
) -> dict[str, Array]:
    """Return the residual's parameters by the names of the posterior."""
    if design.residual is None or priors.residual is None:
        return {}
    phi = problem.phi(x)
    if problem.along is not None:
        phi = phi + problem.along * np.log(scale)
    return constrain_residual(design.residual, priors.residual, phi)


def sds_and_correlation(factor: Array) -> tuple[Array, Array]:
    """Return sds (q,) and correlations (q, q) of a covariance given by a factor; nan beside 0."""
    sds = np.sqrt(np.sum(factor**2, axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = factor / sds[:, None]
    correlation = np.clip(rows @ rows.T, -1.0, 1.0)
    np.fill_diagonal(correlation, np.where(sds > 0, 1.0, np.nan))
    return sds, correlation


def component_functions(
    problem: Estimation, design: Design, priors: ResolvedPriors
) -> dict[str, Callable[[Array, float], float]]:
    """Return by name each sd, correlation and residual parameter as a function of (x, scale).

    Names are the summary's: ``sd_Subject[Days]``, ``cor_Subject[Days, Intercept]``, ``sigma``.
    """
    found = bar_functions(problem.blocks, design)
    found.update(_residual_functions(problem, design, priors))
    return found


def bar_functions(
    blocks: Sequence[Block], design: Design
) -> dict[str, Callable[[Array, float], float]]:
    """Return by name each sd and correlation of group effects as a function of (x, scale)."""
    found: dict[str, Callable[[Array, float], float]] = {}
    labels = group_labels(design)

    def sd(block: Block, a: int) -> Callable[[Array, float], float]:
        return lambda x, scale: float(np.sqrt(np.sum(_factor(block, design, x, scale)[a] ** 2)))

    def correlation(block: Block, a: int, b: int) -> Callable[[Array, float], float]:
        return lambda x, scale: float(
            sds_and_correlation(_factor(block, design, x, scale))[1][a, b]
        )

    for group, label in zip(design.groups, labels, strict=True):
        for block, within in _labelled(blocks, group, label):
            for a, coef in enumerate(design.terms[block.term].coefs):
                found[indexed(label.sd, *within, coef)] = sd(block, a)
    for group, label in zip(design.groups, labels, strict=True):
        for block, within in _labelled(blocks, group, label):
            coefs = design.terms[block.term].coefs
            for row, column in label.pairs:
                if row in coefs and column in coefs:
                    a, b = coefs.index(row), coefs.index(column)
                    found[indexed(label.cor, *within, row, column)] = correlation(block, a, b)
    return found


def _labelled(
    blocks: Sequence[Block], group: Group, label: GroupLabels
) -> Iterator[tuple[Block, tuple[str, ...]]]:
    """Yield a grouping's blocks, subpopulation by subpopulation, each with its label if any."""
    for h, name in enumerate(label.subpopulations):
        for block in blocks:
            if block.term in group.terms and block.by in (None, h):
                yield block, (name,) if name else ()


def _factor(block: Block, design: Design, x: Array, scale: float) -> Array:
    return scale * (design.terms[block.term].T @ block.factor(x))


def _residual_functions(
    problem: Estimation, design: Design, priors: ResolvedPriors
) -> dict[str, Callable[[Array, float], float]]:
    found: dict[str, Callable[[Array, float], float]] = {}
    for name, place in residual_names(design).items():
        variable, index = place

        def value(
            x: Array, scale: float, variable: str = variable, index: tuple[int, ...] = index
        ) -> float:
            values = residual_values(problem, design, priors, x, scale)
            return float(np.asarray(values[variable])[index])

        found[name] = value
    return found


def residual_names(design: Design) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the residual's parameters by the summary's names: variable and place in it."""
    residual = design.residual
    if residual is None:
        return {}
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        if sigma.intercept is not None:
            found["sigma_Intercept"] = ("sigma_Intercept", ())
        for k, name in enumerate(sigma.slopes):
            found[f"sigma_b[{name}]"] = ("sigma_b", (k,))
    elif sigma is not None and sigma.kind == "one":
        found["sigma"] = ("sigma", ())
    elif sigma is not None:
        for k, label in enumerate(sigma.labels):
            found[f"sigma[{label}]"] = ("sigma", (k,))
    if residual.structure in ("ar", "cosy"):
        found[residual.structure] = (residual.structure, ())
    for a, row in enumerate(residual.occasions):
        for b in range(a):
            found[f"cor_residual[{row}, {residual.occasions[b]}]"] = ("cor_residual", (a, b))
    return found

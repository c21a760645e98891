"""The variables of a model's posterior, with their labels, before there are any draws."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hiermodels.answers.rows import parameter_designs, predictor_of
from hiermodels.engines.responses import parameter_names
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.names import (
    SIGMA_COEF_DIM,
    SIGMA_DIM,
    SIGMA_DIM_BIS,
    coef_dim,
    coef_dim_bis,
    cor_name,
    effect_name,
    nu_name,
    of_parameter,
    sd_name,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Variable:
    """One variable of the posterior.

    Attributes
    ----------
    name : str
    labels : tuple of (str, tuple of str)
        Its dims in order, each with its labels.
    kind : {"coefficient", "sd", "correlation", "effect", "nu", "parameter"}
    needed : bool
        Whether nothing can stand in for it.
    by : str or None
        The first dim, where that is one of subpopulations.
    """

    name: str
    labels: tuple[tuple[str, tuple[str, ...]], ...]
    kind: str
    needed: bool = True
    by: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dim."""
        return tuple(len(labels) for _, labels in self.labels)


def variables(design: Design, family: Family) -> tuple[Variable, ...]:
    """Return the variables of a model: coefficients, sds, correlations, effects, parameters.

    Parameters
    ----------
    design : Design
    family : Family
    """
    formulas = [own.name for own in parameter_designs(design)]
    found: list[Variable] = []
    for parameter in ("", *formulas):
        found += _linear(design, parameter)
    found += _residual(design, formulas)
    known = {variable.name for variable in found}
    for name in parameter_names(family):
        if name in formulas or name in known or (name == "sigma" and design.residual is not None):
            continue
        labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
        if name == "cutpoints":
            count = len(design.response_levels) - 1
            own = tuple(f"{k + 1}|{k + 2}" for k in range(count))
            labels = (("cutpoint", own),)
        found.append(Variable(name, labels, "parameter"))
    return tuple(found)


def _linear(design: Design, parameter: str) -> Iterator[Variable]:
    """Yield the variables of one linear predictor."""
    linear = predictor_of(design, parameter)
    if linear.intercept is not None:
        yield Variable(of_parameter(parameter, "Intercept"), (), "coefficient")
    if linear.slopes:
        dim = of_parameter(parameter, "coef")
        yield Variable(of_parameter(parameter, "b"), ((dim, linear.slopes),), "coefficient")
    for group in linear.groups:
        dim, bis = coef_dim(group.name, parameter), coef_dim_bis(group.name, parameter)
        first = linear.terms[group.terms[0]]
        by = None if first.by is None else first.by.name
        lead = () if first.by is None else ((first.by.name, first.by.labels),)
        yield Variable(sd_name(group.name, parameter), (*lead, (dim, group.coefs)), "sd", by=by)
        if any(linear.terms[k].correlated for k in group.terms):
            labels = (*lead, (dim, group.coefs), (bis, group.coefs))
            yield Variable(cor_name(group.name, parameter), labels, "correlation", False, by)
        if first.dist == "student":
            yield Variable(nu_name(group.name, parameter), (), "nu")
        levels = ((group.name, group.levels), (dim, group.coefs))
        yield Variable(effect_name(group.name, parameter), levels, "effect", False)


def _residual(design: Design, formulas: list[str]) -> Iterator[Variable]:
    """Yield the variables of a Gaussian model's residual."""
    residual = design.residual
    if residual is None or "sigma" in formulas:
        return
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        if sigma.intercept is not None:
            yield Variable("sigma_Intercept", (), "parameter")
        if sigma.slopes:
            yield Variable("sigma_b", ((SIGMA_COEF_DIM, sigma.slopes),), "parameter")
    elif sigma is not None:
        labels = () if sigma.kind == "one" else ((SIGMA_DIM, sigma.labels),)
        yield Variable("sigma", labels, "parameter")
    if residual.correlation_name == "cor_residual":
        own = residual.occasions
        yield Variable("cor_residual", ((SIGMA_DIM, own), (SIGMA_DIM_BIS, own)), "correlation")
    elif residual.correlation_name is not None:
        yield Variable(residual.correlation_name, (), "parameter")

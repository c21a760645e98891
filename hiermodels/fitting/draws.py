"""The posterior's draws by the names of its vocabulary, and the labels that go with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.spec.grouping import Subpopulations
from hiermodels.spec.names import (
    CUTPOINT_DIM,
    R2,
    coef_dim,
    coef_dim_bis,
    cor_name,
    effect_name,
    indexed,
    nu_name,
    of_parameter,
    sd_name,
    total_name,
)

Floats = npt.NDArray[np.float64]

INTERCEPT = "Intercept"


class _Bar(Protocol):
    @property
    def coefs(self) -> Sequence[str]: ...
    @property
    def correlated(self) -> bool: ...
    @property
    def by(self) -> Subpopulations | None: ...


class _Grouping(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def terms(self) -> Sequence[int]: ...


class _Design(Protocol):
    @property
    def terms(self) -> Sequence[_Bar]: ...
    @property
    def groups(self) -> Sequence[_Grouping]: ...


class _Named(_Design, Protocol):
    @property
    def name(self) -> str: ...


class _Whole(_Design, Protocol):
    @property
    def parameters(self) -> Sequence[_Named]: ...


class _Parameter(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def linear(self) -> bool: ...


@dataclass(frozen=True)
class GroupLabels:
    """The labels of one grouping factor that the tables need.

    Attributes
    ----------
    name : str
        The grouping factor, as in ``sd_<name>``.
    bars : tuple of tuple of str
        The effects of each bar on this factor, in order.
    correlated : tuple of bool
        For each bar, whether its effects are correlated.
    parameter : str
        The parameter whose linear predictor the bars belong to; empty for the mean.
    by : Subpopulations or None
        Where each subpopulation has sds and correlations of its own.
    """

    name: str
    bars: tuple[tuple[str, ...], ...]
    correlated: tuple[bool, ...]
    parameter: str = ""
    by: Subpopulations | None = None

    @property
    def sd(self) -> str:
        """The variable of the sds."""
        return sd_name(self.name, self.parameter)

    @property
    def cor(self) -> str:
        """The variable of the correlations."""
        return cor_name(self.name, self.parameter)

    @property
    def effects(self) -> str:
        """The variable of the effects."""
        return effect_name(self.name, self.parameter)

    @property
    def total(self) -> str:
        """What moments of effects plus population coefficients are called."""
        return total_name(self.name, self.parameter)

    @property
    def nu(self) -> str:
        """The variable of Student effects' degrees of freedom."""
        return nu_name(self.name, self.parameter)

    @property
    def dim(self) -> str:
        """The dim along the effects."""
        return coef_dim(self.name, self.parameter)

    @property
    def shown(self) -> tuple[str, ...]:
        """What tables call the effects: ``Intercept``, or ``shape_Intercept``."""
        return tuple(of_parameter(self.parameter, c) for c in self.coefs)

    @property
    def subpopulations(self) -> tuple[str, ...]:
        """The labels of the subpopulations; one empty label where there are none."""
        return ("",) if self.by is None else self.by.labels

    @property
    def coefs(self) -> tuple[str, ...]:
        """All effects of the factor, in the order of the posterior."""
        return tuple(c for bar in self.bars for c in bar)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs (row, column) of correlated effects, below the diagonal, row by row."""
        return tuple(
            (bar[i], bar[j])
            for bar, together in zip(self.bars, self.correlated, strict=True)
            if together
            for i in range(len(bar))
            for j in range(i)
        )


def group_labels(design: _Design, parameter: str = "") -> tuple[GroupLabels, ...]:
    """Return the labels of every grouping factor of one linear predictor, the mean's.

    Parameters
    ----------
    design : Design
        Anything with ``.groups`` (``.name``, ``.terms``) and ``.terms`` (``.coefs``,
        ``.correlated``).

    Returns
    -------
    tuple of GroupLabels
    """
    return tuple(
        GroupLabels(
            name=group.name,
            bars=tuple(tuple(design.terms[t].coefs) for t in group.terms),
            correlated=tuple(bool(design.terms[t].correlated) for t in group.terms),
            parameter=parameter,
            by=design.terms[group.terms[0]].by,
        )
        for group in design.groups
    )


def all_group_labels(design: _Whole) -> tuple[GroupLabels, ...]:
    """Return the labels of the mean's grouping factors, then of those of every parameter."""
    own = [group_labels(part, part.name) for part in design.parameters]
    return (*group_labels(design), *(labels for part in own for labels in part))


def check_prob(prob: float) -> float:
    """Return ``prob`` where it is a probability strictly between 0 and 1, else raise FitError."""
    if not 0 < prob < 1:
        raise FitError(
            f"got prob={prob!r}; an interval's probability is a number between 0 and 1, "
            "both excluded: for example prob=0.9"
        )
    return float(prob)


def tails(prob: float) -> tuple[float, float]:
    """Return the two quantiles of an equal-tailed interval."""
    p = check_prob(prob)
    return (1 - p) / 2, (1 + p) / 2


def draws_of(array: xr.DataArray) -> Floats:
    """Return draws as (chains, draws, ...) of float64."""
    return np.asarray(array.transpose("chain", "draw", ...).values, dtype=np.float64)


def population(posterior: xr.Dataset, parameter: str = "") -> tuple[tuple[str, ...], Floats]:
    """Return the population coefficients and their draws, the intercept first.

    Parameters
    ----------
    posterior : xarray.Dataset
        Holds ``Intercept`` (no further dim) and ``b`` (dim ``coef``), either of which may lack.
    parameter : str
        The parameter whose linear predictor it is; empty for the mean.

    Returns
    -------
    names : tuple of str, length p
    draws : ndarray, shape (chains, draws, p)
    """
    names: list[str] = []
    parts: list[Floats] = []
    intercept, slopes = (of_parameter(parameter, name) for name in (INTERCEPT, "b"))
    if intercept in posterior:
        names.append(INTERCEPT)
        parts.append(draws_of(posterior[intercept])[:, :, None])
    if slopes in posterior:
        names.extend(str(c) for c in posterior[of_parameter(parameter, "coef")].values)
        parts.append(draws_of(posterior[slopes]))
    if not parts:
        shape = (posterior.sizes.get("chain", 1), posterior.sizes.get("draw", 0), 0)
        return (), np.empty(shape)
    return tuple(names), np.concatenate(parts, axis=2)


def sd_of(draws: Floats, axis: int = 0) -> Floats:
    """Return the sd of draws with S - 1; 0 of a single draw."""
    many = draws.shape[axis] > 1
    return np.asarray(draws.std(axis=axis, ddof=1 if many else 0))


def scalars(
    posterior: xr.Dataset,
    groups: Sequence[GroupLabels],
    parameters: Sequence[_Parameter] = (),
) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws (chains, draws) of every scalar quantity, in the summary's order."""
    names, draws = population(posterior)
    for k, name in enumerate(names):
        yield (name if name == INTERCEPT else indexed("b", name)), draws[:, :, k]
    yield from cutpoint_draws(posterior)
    if R2 in posterior:
        yield R2, draws_of(posterior[R2])
    yield from variance_draws(posterior, [g for g in groups if not g.parameter])
    yield from parameter_draws(posterior, groups, parameters)


def cutpoint_draws(posterior: xr.Dataset) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws (chains, draws) of an ordinal model's cutpoints."""
    if CUTPOINT_DIM in posterior.dims:
        draws = draws_of(posterior["cutpoints"])
        for k, label in enumerate(posterior[CUTPOINT_DIM].values):
            yield indexed("cutpoints", str(label)), draws[:, :, k]


def parameter_draws(
    posterior: xr.Dataset, groups: Sequence[GroupLabels], parameters: Sequence[_Parameter]
) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws of the family's further parameters: values, or coefficients."""
    for own in parameters:
        if own.linear:
            if own.name != "sigma":  # whose coefficients stand with the residual's
                yield from coefficient_draws(posterior, own.name)
            yield from group_variances(posterior, [g for g in groups if g.parameter == own.name])
        elif own.name in posterior and own.name not in ("sigma", "cutpoints"):
            yield own.name, draws_of(posterior[own.name])


def coefficient_draws(posterior: xr.Dataset, parameter: str) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws of a parameter's coefficients: ``shape_b[x]``."""
    names, draws = population(posterior, parameter)
    for k, name in enumerate(names):
        own = of_parameter(parameter, INTERCEPT if name == INTERCEPT else indexed("b", name))
        yield own, draws[:, :, k]


def variance_draws(
    posterior: xr.Dataset, groups: Sequence[GroupLabels]
) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws (chains, draws) of sds, correlations and residual sds."""
    yield from group_variances(posterior, groups)
    for label, draws in residual_sds(posterior):
        yield (f"sigma[{label}]" if label else "sigma"), draws
    yield from residual_parameters(posterior)


def group_variances(
    posterior: xr.Dataset, groups: Sequence[GroupLabels]
) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws (chains, draws) of the groups' sds and correlations."""
    for g in groups:
        for labels, draws in sd_draws(posterior, g):
            yield indexed(g.sd, *labels), draws
    for g in groups:
        for labels, draws in correlation_draws(posterior, g):
            yield indexed(g.cor, *labels), draws
    for g in groups:
        if g.nu in posterior:
            yield g.nu, draws_of(posterior[g.nu])


def sd_draws(posterior: xr.Dataset, g: GroupLabels) -> Iterator[tuple[tuple[str, ...], Floats]]:
    """Yield the labels, (effect) or (subpopulation, effect), and draws of each sd of a factor."""
    sds = posterior[g.sd].sel({g.dim: list(g.coefs)})
    for label in g.subpopulations:
        own = draws_of(_within(sds, g, label))
        for k, c in enumerate(g.coefs):
            yield ((label, c) if label else (c,)), own[:, :, k]


def correlation_draws(
    posterior: xr.Dataset, g: GroupLabels
) -> Iterator[tuple[tuple[str, ...], Floats]]:
    """Yield the labels, (row, column) after the subpopulation's, and draws of correlations."""
    for label in g.subpopulations:
        for row, column in g.pairs:
            draws = correlation(posterior, g, row, column, label)
            yield ((label, row, column) if label else (row, column)), draws


def _within(array: xr.DataArray, g: GroupLabels, label: str) -> xr.DataArray:
    """Return the part of a factor's sds or correlations that is of one subpopulation."""
    return array.sel({g.by.name: label}) if g.by is not None else array


def residual_parameters(posterior: xr.Dataset) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws of what else the residuals have: log sds' terms, correlations."""
    for name in ("sigma_Intercept", "ar", "cosy"):
        if name in posterior:
            yield name, draws_of(posterior[name])
    if "sigma_b" in posterior:
        draws = draws_of(posterior["sigma_b"])
        for k, label in enumerate(posterior["sigma_coef"].values):
            yield f"sigma_b[{label}]", draws[:, :, k]
    if "cor_residual" in posterior:
        draws = draws_of(posterior["cor_residual"])
        labels = [str(label) for label in posterior["sigma_stratum"].values]
        for i in range(len(labels)):
            for j in range(i):
                yield f"cor_residual[{labels[i]}, {labels[j]}]", draws[:, :, i, j]


def correlation(
    posterior: xr.Dataset, g: GroupLabels, row: str, column: str, label: str = ""
) -> Floats:
    """Return the draws (chains, draws) of one correlation, of one subpopulation."""
    at = {g.dim: row, coef_dim_bis(g.name, g.parameter): column}
    return draws_of(_within(posterior[g.cor], g, label).sel(at))


def residual_sds(posterior: xr.Dataset) -> Iterator[tuple[str, Floats]]:
    """Yield the label ("" for a single one) and draws of each residual sd."""
    if "sigma" not in posterior:
        return
    array = posterior["sigma"]
    draws = draws_of(array)
    if draws.ndim == 2:
        yield "", draws
        return
    (dim,) = (d for d in array.dims if d not in ("chain", "draw"))
    for k, label in enumerate(array[dim].values):
        yield str(label), draws[:, :, k]


def empty_table(columns: Sequence[str], prob: float) -> pd.DataFrame:
    """Return a table without rows: text columns as objects, the others as floats."""
    text = {"group", "effect", "level", "effect1", "effect2"}
    out = pd.DataFrame({c: pd.Series(dtype=object if c in text else float) for c in columns})
    out.attrs["prob"] = prob
    return out

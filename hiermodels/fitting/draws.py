"""The posterior's draws by the names of its vocabulary, and the labels that go with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError

Floats = npt.NDArray[np.float64]

INTERCEPT = "Intercept"


class _Bar(Protocol):
    @property
    def coefs(self) -> Sequence[str]: ...
    @property
    def correlated(self) -> bool: ...


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
    """

    name: str
    bars: tuple[tuple[str, ...], ...]
    correlated: tuple[bool, ...]

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


def group_labels(design: _Design) -> tuple[GroupLabels, ...]:
    """Return the labels of every grouping factor of a design.

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
        )
        for group in design.groups
    )


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


def population(posterior: xr.Dataset) -> tuple[tuple[str, ...], Floats]:
    """Return the population coefficients and their draws, the intercept first.

    Parameters
    ----------
    posterior : xarray.Dataset
        Holds ``Intercept`` (no further dim) and ``b`` (dim ``coef``), either of which may lack.

    Returns
    -------
    names : tuple of str, length p
    draws : ndarray, shape (chains, draws, p)
    """
    names: list[str] = []
    parts: list[Floats] = []
    if "Intercept" in posterior:
        names.append(INTERCEPT)
        parts.append(draws_of(posterior["Intercept"])[:, :, None])
    if "b" in posterior:
        names.extend(str(c) for c in posterior["coef"].values)
        parts.append(draws_of(posterior["b"]))
    if not parts:
        shape = (posterior.sizes.get("chain", 1), posterior.sizes.get("draw", 0), 0)
        return (), np.empty(shape)
    return tuple(names), np.concatenate(parts, axis=2)


def sd_of(draws: Floats, axis: int = 0) -> Floats:
    """Return the sd of draws with S - 1; 0 of a single draw."""
    many = draws.shape[axis] > 1
    return np.asarray(draws.std(axis=axis, ddof=1 if many else 0))


def scalars(posterior: xr.Dataset, groups: Sequence[GroupLabels]) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws (chains, draws) of every scalar quantity, in the summary's order."""
    names, draws = population(posterior)
    for k, name in enumerate(names):
        yield (name if name == INTERCEPT else f"b[{name}]"), draws[:, :, k]
    yield from variance_draws(posterior, groups)


def variance_draws(
    posterior: xr.Dataset, groups: Sequence[GroupLabels]
) -> Iterator[tuple[str, Floats]]:
    """Yield the name and draws (chains, draws) of sds, correlations and residual sds."""
    for g in groups:
        sds = group_sds(posterior, g)
        for k, c in enumerate(g.coefs):
            yield f"sd_{g.name}[{c}]", sds[:, :, k]
    for g in groups:
        for row, column in g.pairs:
            yield f"cor_{g.name}[{row}, {column}]", correlation(posterior, g, row, column)
    for label, draws in residual_sds(posterior):
        yield (f"sigma[{label}]" if label else "sigma"), draws
    yield from residual_parameters(posterior)


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


def group_sds(posterior: xr.Dataset, g: GroupLabels) -> Floats:
    """Return the draws (chains, draws, q) of a factor's sds, in the order of its labels."""
    array = posterior[f"sd_{g.name}"].sel({f"{g.name}_coef": list(g.coefs)})
    return draws_of(array)


def correlation(posterior: xr.Dataset, g: GroupLabels, row: str, column: str) -> Floats:
    """Return the draws (chains, draws) of one correlation."""
    at = {f"{g.name}_coef": row, f"{g.name}_coef_bis": column}
    return draws_of(posterior[f"cor_{g.name}"].sel(at))


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

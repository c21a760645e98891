"""Tables of a maximum likelihood or REML estimate."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.fitting.draws import check_prob, empty_table
from hiermodels.spec.design import Design, Group

Array = NDArray[np.float64]


class Modes(Protocol):
    """Conditional modes of one grouping."""

    @property
    def mean(self) -> Array:
        """Modes (J, q)."""

    @property
    def covariance(self) -> Array:
        """Given the coefficients (J, q, q)."""

    @property
    def joint(self) -> Array:
        """With the coefficients' uncertainty (J, q, q)."""

    @property
    def cross(self) -> Array:
        """With the coefficients (J, q, p)."""


def quantile(prob: float) -> float:
    """Return the normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf((1.0 + check_prob(prob)) / 2.0)


def fixef(design: Design, coefficients: Array, vcov: Array, prob: float) -> pd.DataFrame:
    """Return population coefficients, the intercept first: estimate, se, z, ci_low, ci_high."""
    z = quantile(prob)
    order = [k for k in range(len(design.coefs)) if k == design.intercept]
    order += [k for k in range(len(design.coefs)) if k != design.intercept]
    estimate, se = coefficients[order], np.sqrt(np.diag(vcov))[order]
    names = pd.Index([design.coefs[k] for k in order], name="coefficient", dtype=object)
    out = pd.DataFrame(
        {
            "estimate": estimate,
            "se": se,
            "z": estimate / se,
            "ci_low": estimate - z * se,
            "ci_high": estimate + z * se,
        },
        index=names,
    )
    out.attrs["prob"] = prob
    return out


def ranef(design: Design, modes: Sequence[Modes], prob: float) -> pd.DataFrame:
    """Return conditional modes: group, effect, level, estimate, se, ci_low, ci_high."""
    parts = []
    for group, mode in zip(design.groups, modes, strict=True):
        se = np.sqrt(np.maximum(np.einsum("jkk->jk", mode.covariance), 0.0))
        parts.append(_long(group.name, group.coefs, group.levels, mode.mean, se, prob))
    return _joined(parts, prob)


def coef(
    design: Design, coefficients: Array, vcov: Array, modes: Sequence[Modes], prob: float
) -> pd.DataFrame:
    """Return population coefficients plus group effects, by level.

    Population coefficients in their order first, then effects without one.
    """
    parts = []
    order = [k for k in range(len(design.coefs)) if k == design.intercept]
    order += [k for k in range(len(design.coefs)) if k != design.intercept]
    for group, mode in zip(design.groups, modes, strict=True):
        names = [design.coefs[k] for k in order]
        names += [c for c in group.coefs if c not in names]
        estimate = np.zeros((len(group.levels), len(names)))
        variance = np.zeros_like(estimate)
        for column, name in enumerate(names):
            if name in design.coefs:
                k = design.coefs.index(name)
                estimate[:, column] += coefficients[k]
                variance[:, column] += vcov[k, k]
            if name in group.coefs:
                a = group.coefs.index(name)
                estimate[:, column] += mode.mean[:, a]
                variance[:, column] += mode.joint[:, a, a]
                if name in design.coefs:
                    variance[:, column] += 2.0 * mode.cross[:, a, design.coefs.index(name)]
        se = np.sqrt(np.maximum(variance, 0.0))
        parts.append(_long(group.name, names, group.levels, estimate, se, prob))
    return _joined(parts, prob)


def _long(
    group: str, effects: Sequence[str], levels: Sequence[str], estimate: Array, se: Array,
    prob: float,
) -> pd.DataFrame:  # fmt: skip
    z = quantile(prob)
    q, count = len(effects), len(levels)
    values, errors = estimate.T.ravel(), se.T.ravel()
    return pd.DataFrame(
        {
            "group": pd.Series([group] * (q * count), dtype=object),
            "effect": pd.Series(np.repeat(np.array(effects, dtype=object), count), dtype=object),
            "level": pd.Series(np.tile(np.array(levels, dtype=object), q), dtype=object),
            "estimate": values,
            "se": errors,
            "ci_low": values - z * errors,
            "ci_high": values + z * errors,
        }
    )


def _joined(parts: Sequence[pd.DataFrame], prob: float) -> pd.DataFrame:
    out = pd.concat(parts, ignore_index=True)
    out.attrs["prob"] = prob
    return out


def _bars(
    design: Design, group: Group, covariances: Sequence[Array]
) -> Iterator[tuple[str, int, Array]]:
    """Yield what stands before an effect's name, the bar, and its covariance (q, q)."""
    by = design.terms[group.terms[0]].by
    if by is None:
        yield from (("", k, covariances[k]) for k in group.terms)
        return
    for h, label in enumerate(by.labels):
        yield from ((f"{label}, ", k, covariances[k][h]) for k in group.terms)


def varcorr(
    design: Design, covariances: Sequence[Array], residual: Mapping[str, Array]
) -> pd.DataFrame:
    """Return variances and sds of group effects and residuals."""
    rows: list[tuple[str, str, float]] = []
    for group in design.groups:
        for before, k, covariance in _bars(design, group, covariances):
            pairs = zip(design.terms[k].coefs, np.diag(covariance), strict=True)
            rows += [(group.name, f"{before}{c}", float(v)) for c, v in pairs]
    if "sigma" in residual:
        sds = np.atleast_1d(residual["sigma"])
        labels = design.residual.sigma.labels if design.residual and design.residual.sigma else ()
        rows += [("Residual", c, float(s) ** 2) for c, s in zip(labels, sds, strict=True)]
    columns = ["group", "effect", "variance", "sd", "var_prop"]
    if not rows:
        return empty_table(columns, 0.95)
    variance = np.array([row[2] for row in rows])
    return pd.DataFrame(
        {
            "group": pd.Series([row[0] for row in rows], dtype=object),
            "effect": pd.Series([row[1] for row in rows], dtype=object),
            "variance": variance,
            "sd": np.sqrt(variance),
            "var_prop": variance / variance.sum(),
        }
    )


def correlations(design: Design, covariances: Sequence[Array]) -> pd.DataFrame:
    """Return correlations of the group effects of correlated bars."""
    rows = []
    for group in design.groups:
        for before, k, covariance in _bars(design, group, covariances):
            term = design.terms[k]
            if not term.correlated:
                continue
            sds = np.sqrt(np.diag(covariance))
            with np.errstate(invalid="ignore", divide="ignore"):
                matrix = covariance / np.outer(sds, sds)
            for a, second in enumerate(term.coefs):
                for b, first in enumerate(term.coefs[:a]):
                    value = float(np.clip(matrix[a, b], -1.0, 1.0))
                    rows.append((group.name, f"{before}{first}", f"{before}{second}", value))
    columns = ["group", "effect1", "effect2", "estimate"]
    return pd.DataFrame(rows, columns=columns) if rows else empty_table(columns, 0.95)


def summary(fixed: pd.DataFrame, components: Mapping[str, float]) -> pd.DataFrame:
    """Return coefficients and variance components in one table."""
    names = [name if name == "Intercept" else f"b[{name}]" for name in fixed.index]
    top = fixed.set_axis(pd.Index(names, name="parameter", dtype=object), axis=0)
    index = pd.Index(list(components), name="parameter", dtype=object)
    values = np.full((len(index), len(top.columns)), np.nan)
    values[:, 0] = list(components.values())
    rest = pd.DataFrame(values, columns=top.columns, index=index)
    out = pd.concat([frame for frame in (top, rest) if len(frame)])
    out.attrs.update(fixed.attrs)
    return out

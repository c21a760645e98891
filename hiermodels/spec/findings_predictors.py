"""Findings about population columns: their scales, near collinearity, and two slopes in one."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.findings_catalogue import Finding
from hiermodels.spec.matrices import Column
from hiermodels.spec.predictors import Group, Predictor

Array = NDArray[np.float64]
_SCALES = 1000.0
_CONDITION = 30.0
_PROPORTION = 0.5
_BETWEEN = (0.05, 0.95)
_DIFFERENT = 3.0
_SPARE_GROUPS = 10


def different_scales(part: Predictor) -> Iterator[Finding]:
    """Yield a finding where numeric predictors' sds differ by more than a factor of 1000."""
    columns = [*part.columns, *(column for term in part.terms for column in term.columns)]
    sds: dict[str, float] = {}
    for column in columns:
        if len(column.parts) == 1 and column.numeric and column.name not in sds:
            sds[column.name] = float(np.std(column.parts[0][1]))
    sds = {name: sd for name, sd in sds.items() if sd > 0}
    if len(sds) < 2:
        return
    small, large = min(sds, key=sds.__getitem__), max(sds, key=sds.__getitem__)
    if sds[large] > _SCALES * sds[small]:
        yield Finding(
            "different-scales",
            (small, large),
            f"The sd of {large} is {sds[large]:.3g}, that of {small} is {sds[small]:.3g}: a factor "
            f"of {sds[large] / sds[small]:.2g}.",
            f"Measure {large} or {small} in another unit, or write scale({large}).",
        )


def nearly_collinear(part: Predictor) -> Iterator[Finding]:
    """Yield sets of columns of different predictors that are nearly a combination of each other."""
    columns = [k for k, column in enumerate(part.columns) if column.parts]
    X = part.centred.select(columns)[:]
    if len(columns) < 2:
        return
    X = X - np.mean(X, axis=0)
    sizes = np.linalg.norm(X, axis=0)
    if not sizes.all():
        return
    values, vectors = np.linalg.eigh((X.T @ X) / (sizes[:, None] * sizes))
    values = np.maximum(values, np.finfo(float).eps)
    shares = vectors**2 / values
    shares = shares / shares.sum(axis=1, keepdims=True)
    for k in np.flatnonzero(np.sqrt(values[-1] / values) > _CONDITION):
        joined = [part.columns[columns[j]] for j in np.flatnonzero(shares[:, k] > _PROPORTION)]
        # the columns of one basis or factor are correlated by construction
        if len({column.labels for column in joined}) < 2:
            continue
        names = tuple(column.name for column in joined)
        yield Finding(
            "nearly-collinear",
            names,
            f"{', '.join(names)} are nearly a combination of each other (condition index "
            f"{np.sqrt(values[-1] / values[k]):.0f}).",
            _cure(joined),
        )


def _cure(joined: list[Column]) -> str:
    """Return what to do with columns that nearly say the same."""
    powers = {name for column in joined for name in column.labels if name.startswith(("I(", "pow"))}
    if powers:
        plain = next((c.name for c in joined if not c.labels & powers), "x")
        return f"Write poly({plain}, 2) in place of powers, or centre {plain} first."
    return "Leave one of them out, or put their mean and their difference in their place."


# --- between and within groups --------------------------------------------------------------


def mixed_slopes(design: Design, family: Family) -> Iterator[Finding]:
    """Yield predictors whose slope between groups differs from that within them."""
    y = _response(design, family)
    mains = [
        k for k, column in enumerate(design.columns) if len(column.parts) == 1 and column.numeric
    ]
    if y is None or not mains:
        return
    X = design.centred.select([k for k, column in enumerate(design.columns) if column.parts])[:]
    names = [column.name for column in design.columns if column.parts]
    for group in design.groups:
        if any(design.terms[k].members is not None for k in group.terms):
            continue
        mixed = [k for k in mains if _mixed(design.matrix.column(k), group)]
        candidates = [names.index(design.coefs[k]) for k in mixed]
        if not candidates:
            continue
        within, between = _two_regressions(y, X, group)
        for k in candidates:
            slopes = within[0][k], between[0][k]
            se = float(np.hypot(within[1][k], between[1][k]))
            if not np.isfinite(se) or se == 0 or abs(slopes[1] - slopes[0]) <= _DIFFERENT * se:
                continue
            yield _two_slopes(names[k], group.name, slopes, se)


def _two_slopes(name: str, group: str, slopes: tuple[float, float], se: float) -> Finding:
    """Return the finding of two slopes."""
    mean = f"{name}_mean"
    return Finding(
        "mixed-slopes",
        (name, group),
        f"The slope of {name} is {slopes[0]:.3g} within the levels of {group} and {slopes[1]:.3g} "
        f"between their means (by two plain regressions; {abs(slopes[1] - slopes[0]) / se:.1f} "
        "standard errors apart).",
        f"Split it: data[{mean!r}] = data.groupby({group!r})[{name!r}].transform('mean'), "
        f"data['{name}_within'] = data[{name!r}] - data[{mean!r}], and write {name}_within + "
        f"{mean} in place of {name}.",
    )


def _response(design: Design, family: Family) -> Array | None:
    """Return the response on about the scale of the link; None where that has no meaning."""
    if family.ordinal or family.by_level or design.censoring is not None:
        return None
    y = design.y if design.trials is None else design.y / design.trials
    if family.link == "log":
        # a half keeps zeros of counts
        y = np.log(y + 0.5 * (family.response == "count"))
    return np.asarray(y - design.offset)


def _means(values: Array, group: Group) -> Array:
    """Return the mean of a column in each level (J,)."""
    total = np.bincount(group.index, weights=values, minlength=len(group.levels))
    return np.asarray(total / group.n_rows)


def _mixed(values: Array, group: Group) -> bool:
    """Whether a column varies both between and within levels."""
    means = _means(values, group)[group.index]
    total = float(np.var(values))
    share = float(np.var(means)) / total if total > 0 else 0.0
    # by chance alone means have the share (J - 1) / (n - 1)
    chance = (len(group.levels) - 1) / max(1, len(values) - 1)
    return _BETWEEN[0] + chance * (1 - _BETWEEN[0]) < share < _BETWEEN[1]


def _two_regressions(y: Array, X: Array, group: Group) -> tuple[tuple[Array, Array], ...]:
    """Return slopes and standard errors (p,) within levels, and between their means."""
    y_means = _means(y, group)
    X_means = np.column_stack([_means(x, group) for x in X.T])
    levels = len(group.levels)
    inner = _regression(y - y_means[group.index], X - X_means[group.index], levels)
    ones = np.ones((levels, 1))
    slopes, ses = _regression(y_means, np.hstack([X_means, ones]), 0)
    if levels < X.shape[1] + _SPARE_GROUPS:
        ses = np.full_like(ses, np.inf)
    return inner, (slopes[:-1], ses[:-1])


def _regression(y: Array, X: Array, absorbed: int) -> tuple[Array, Array]:
    """Return least squares and standard errors; infinite of what the columns do not tell.

    So a predictor beside its own group means has no slope between groups of its own.
    """
    sizes = np.linalg.norm(X, axis=0)
    sizes = np.where(sizes > 0, sizes, 1.0)
    left, values, right = np.linalg.svd(X / sizes, full_matrices=False)
    kept = values > 1e-8 * max(values[0], 1e-300)
    spread = right[kept].T / values[kept]
    slopes = spread @ (left[:, kept].T @ y)
    free = len(y) - int(kept.sum()) - absorbed
    rest = y - (X / sizes) @ slopes
    variance = float(rest @ rest) / free if free > 0 else np.inf
    ses = np.sqrt(variance * np.sum(spread**2, axis=1))
    told = np.sum(right[kept] ** 2, axis=0) > 1 - 1e-6
    return slopes / sizes, np.where(told, ses / sizes, np.inf)

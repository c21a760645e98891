"""Findings about effects that vary by group: their means, their variation, their origin."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.design import Design
from hiermodels.spec.findings_catalogue import Finding
from hiermodels.spec.matrices import Column
from hiermodels.spec.predictors import Predictor, Term

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
_SPANNED = 1e-8
_FAR = 3.0
_FEW_VARY = 0.1


def missing_population_effects(part: Predictor) -> Iterator[Finding]:
    """Yield bars with effects whose columns are no combination of the population's."""
    basis: Array | None = None
    for term in part.terms:
        lost = []
        for k, (coef, column) in enumerate(zip(term.coefs, term.columns, strict=True)):
            if coef in part.coefs or (not column.parts and part.thresholds):
                continue
            if basis is None:
                basis = _orthonormal(part)
            z = term.matrix.column(k)
            rest = z - basis @ (basis.T @ z)
            if np.linalg.norm(rest) > _SPANNED * np.linalg.norm(z):
                lost.append(coef)
        if lost:
            names = ", ".join(lost)
            what = "coefficient" if len(lost) == 1 else "coefficients"
            yield Finding(
                "missing-population-effect",
                (term.group, *lost),
                f"{names} {'varies' if len(lost) == 1 else 'vary'} by {term.group} and "
                f"{'has' if len(lost) == 1 else 'have'} no population {what}.",
                f"Add {_written(term, lost)} to the formula outside the bars, unless a mean of "
                "zero is known.",
            )


def _orthonormal(part: Predictor) -> Array:
    """Return an orthonormal basis of the population's columns (n, rank), with ones if ordinal."""
    X = part.matrix[:]
    if part.thresholds:
        X = np.column_stack([np.ones(part.n), X])
    if not X.shape[1]:
        return np.empty((part.n, 0))
    sizes = np.linalg.norm(X, axis=0)
    vectors, values, _ = np.linalg.svd(X / np.where(sizes > 0, sizes, 1.0), full_matrices=False)
    return vectors[:, values > 1e-10 * values[0]]


def _written(term: Term, coefs: list[str]) -> str:
    """Return coefficients' factors as they are written in a formula."""
    parts = [c for coef, c in zip(term.coefs, term.columns, strict=True) if coef in coefs]
    found = [":".join(label for label, _ in column.parts) or "1" for column in parts]
    return " + ".join(dict.fromkeys(found))


def constant_slopes(part: Predictor) -> Iterator[Finding]:
    """Yield bars with predictors that vary within none, or hardly any, of their levels."""
    for term in part.terms:
        if term.members is not None:
            continue
        for label, columns in _by_factors(term).items():
            varying = np.zeros(len(term.levels), dtype=bool)
            for k in columns:
                varying |= _varies(term.matrix.column(k), term.index, len(term.levels))
            count, levels = int(varying.sum()), len(term.levels)
            if count >= max(1.0, _FEW_VARY * levels):
                continue
            where = f"{count} of the {levels:,}" if count else f"none of the {levels:,}"
            do = f"Leave {label} out of the bar; it stays in the population part."
            if not any(term.columns[k].numeric for k in columns):
                do += (
                    f" For groups that spread more in one {label} than in another, write "
                    f"(1 | gr({term.group}, by={label}))."
                )
            yield Finding(
                "constant-within-groups",
                (term.group, label),
                f"{label} varies within {where} levels of {term.group}.",
                do,
            )


def _by_factors(term: Term) -> dict[str, list[int]]:
    """Return the positions of a bar's columns by the factors that they are made of."""
    found: dict[str, list[int]] = {}
    for k, column in enumerate(term.columns):
        if column.parts:
            found.setdefault(":".join(label for label, _ in column.parts), []).append(k)
    return found


def _varies(values: Array, index: Ints, levels: int) -> NDArray[np.bool_]:
    """Return whether a column varies within each level (J,)."""
    first = np.zeros(levels)
    first[index] = values
    off = np.abs(values - first[index]) > 1e-12 * max(1.0, float(np.abs(values).max()))
    return np.bincount(index[off], minlength=levels) > 0


def unreplicated_cells(design: Design, part: Predictor, dispersed: bool) -> Iterator[Finding]:
    """Yield bars with factors of which most combinations with a level have one row.

    Parameters
    ----------
    design : Design
    part : Predictor
    dispersed : bool
        Whether rows vary by a variance of their own that could be confounded with the cells'.
    """
    if not dispersed or (design.se is not None and not design.se_with_sigma):
        return
    for term in part.terms:
        coded = [k for k, c in enumerate(term.columns) if c.parts and not c.numeric]
        if not coded or term.members is not None or len(term.levels) == part.n:
            continue
        own = term.matrix.select(coded)[:]
        constant = not any(_varies(z, term.index, len(term.levels)).any() for z in own.T)
        if constant:
            continue
        # a row's pattern of the factor's columns as one number
        weights = np.sqrt(np.arange(2.0, 2.0 + len(coded)))
        pattern = np.unique(own @ weights, return_inverse=True)[1]
        cells = np.unique(term.index * (int(pattern.max()) + 1) + pattern, return_counts=True)[1]
        single = int(np.sum(cells == 1))
        if 2 * single <= len(cells):
            continue
        labels = list(dict.fromkeys(label for k in coded for label, _ in term.columns[k].parts))
        names = ":".join(labels)
        yield Finding(
            "unreplicated-cells",
            (term.group, *labels),
            f"{single:,} of the {len(cells):,} combinations of {term.group} and {names} have one "
            "row.",
            f"Write (1 | {term.group}), or collect several rows for each {term.group} and {names}.",
        )


def far_origins(part: Predictor) -> Iterator[Finding]:
    """Yield numeric slopes beside an intercept whose predictor lies far from zero."""
    for group in part.groups:
        terms = [part.terms[k] for k in group.terms]
        if "Intercept" not in group.coefs:
            continue
        for term in terms:
            for column in term.columns:
                far = _far(column)
                if far is None:
                    continue
                label, mean, sd, low, high = far
                together = term.correlated and "Intercept" in term.coefs
                effect = (
                    f"cor_{group.name} and sd_{group.name}[Intercept] belong to {label} = 0"
                    if together
                    else f"the bar keeps effects independent at {label} = 0, not at the mean"
                )
                yield Finding(
                    "far-origin",
                    (group.name, label),
                    f"{label} runs from {low:g} to {high:g} (mean {mean:.4g}, sd {sd:.3g}), "
                    f"{abs(mean) / sd:.1f} sds from zero; {effect}.",
                    f"Take center({label}), or {label} minus a value that you care about, as the "
                    "predictor.",
                )


def _far(column: Column) -> tuple[str, float, float, float, float] | None:
    """Return a numeric main effect's label, mean, sd, range where it is far from zero."""
    if len(column.parts) != 1 or not column.numeric:
        return None
    label, values = column.parts[0]
    low, high = float(values.min()), float(values.max())
    mean, sd = float(np.mean(values)), float(np.std(values))
    if low <= 0.0 <= high or sd == 0.0 or abs(mean) <= _FAR * sd:
        return None
    return label, mean, sd, low, high

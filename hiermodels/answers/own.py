"""Regressions without pooling: one for each group, and one for all, on arrays.

Every group is solved at the same time: weighted cross-products by group, columns centred at
their weighted means within the group where the bar has an intercept, so that a predictor far
from zero costs no digits. Families other than the Gaussian one take Fisher scoring steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hiermodels.answers.scoring import (
    SHARES,
    Rows,
    known_family,
    score_and_information,
    starting_predictor,
)
from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Fisher scoring stops when no linear predictor of the group moves by more than this.
TOLERANCE = 1e-8
#: Under separation each step moves the linear predictor by about 1: it never settles.
STEPS = 25
#: Smallest eigenvalue of the scaled cross-products that counts as identified.
SINGULAR = 1e-10
#: A share of a sum of squares that is rounding error only; of cross-products kept in double
#: precision the error is that of the products, not of the columns.
_ROUNDED, _ROUNDED_PRODUCTS = 1e-20, 1e-14


@dataclass(frozen=True)
class OwnFit:
    """Regressions of J groups.

    Attributes
    ----------
    estimate : ndarray, shape (J, q)
        NaN where there is none.
    covariance : ndarray, shape (J, q, q)
        Inverse Fisher information.
    reason : ndarray of str, shape (J,)
        Why a group has no estimate; "" where it has one.
    """

    estimate: Floats
    covariance: Floats
    reason: npt.NDArray[np.object_]


def response_rows(
    design: Design,
    family: Family,
    sigma: Floats | float | None,
    parameters: Mapping[str, Floats] | None = None,
) -> Rows:
    """Return the response with its precisions; the offset is the design's own.

    Parameters
    ----------
    design : Design
    family : Family
    sigma : float, ndarray (n,) or None
        Residual sd (Gaussian), or scale (t), by row where it differs; None where it is not part of
        the model.
        Correlation between residuals is not used: estimates are by weighted least squares.
    parameters : mapping of str to ndarray, optional
        The family's further parameters, see :class:`~hiermodels.answers.scoring.Rows`.

    Returns
    -------
    Rows
    """
    y = np.asarray(design.y, dtype=np.float64)
    one = np.ones_like(y)
    precision = one if design.weights is None else np.asarray(design.weights, dtype=np.float64)
    if family.name in ("gaussian", "t"):
        variance = one * (0.0 if sigma is None else sigma) ** 2
        if design.precision is not None:
            variance = variance / np.asarray(design.precision, dtype=np.float64)
        if design.se is not None:
            variance = variance + np.asarray(design.se, dtype=np.float64) ** 2
        if not (variance > 0).all():
            raise FitError(
                "a Gaussian model needs a residual sd: got neither draws of sigma nor se()"
            )
        precision = precision / variance
    size = one if design.trials is None else np.asarray(design.trials, dtype=np.float64)
    offset = np.asarray(design.offset, dtype=np.float64) * one
    return Rows(y, offset, size, precision, parameters or {})


def fit_groups(
    z: Floats,
    index: Indices,
    levels: int,
    rows: Rows,
    family: Family,
    coefs: tuple[str, ...],
    *,
    ones: Floats | None = None,
    n_rows: Indices | None = None,
) -> OwnFit:
    """Return the regression of each group on its own rows.

    Parameters
    ----------
    z : ndarray, shape (n, q)
    index : ndarray, shape (n,)
        Group of each row, in 0 ... J - 1.
    levels : int
        J.
    rows : Rows
    family : Family
    coefs : tuple of str, length q
        Names of the columns, for the reasons; a column named ``Intercept`` is constant 1.
    ones : ndarray (n,), optional
        What a column of ones is in these rows, where they stand for others.
    n_rows : ndarray of int (J,), optional
        How many rows each group has, where these stand for others.

    Returns
    -------
    OwnFit
    """
    count = np.bincount(index, minlength=levels) if n_rows is None else n_rows
    reason = np.full(levels, "", dtype=object)
    _few_rows(reason, count, len(coefs))
    intercept = coefs.index("Intercept") if "Intercept" in coefs else None
    solve = _group_solver(z, index, levels, intercept, ones)
    first = solve(rows.precision, np.zeros(len(z)))
    _not_identified(reason, first, coefs, intercept)
    if not known_family(family):
        reason[reason == ""] = f"no own estimate is computed for the {family.name} family"
    estimate, covariance, settled = _scoring(z, index, levels, rows, family, solve)
    _not_settled(reason, settled, rows, family, index, levels)
    missing = reason != ""
    estimate[missing] = np.nan
    covariance[missing] = np.nan
    return OwnFit(estimate, covariance, reason)


def fit_all(X: Floats, rows: Rows, family: Family) -> Floats:
    """Return the coefficients of one regression for all rows, (p,); NaN where it has none.

    Parameters
    ----------
    X : ndarray, shape (n, p)
    rows : Rows
    family : Family
    """
    if X.shape[1] == 0 or not known_family(family):
        return np.full(X.shape[1], np.nan)

    def solve(weight: Floats, target: Floats) -> _Solved:
        root = np.sqrt(weight)
        scale = np.maximum(np.sqrt(np.mean(X**2, axis=0)), np.finfo(float).tiny)
        found = np.linalg.lstsq(X / scale * root[:, None], target * root)[0] / scale
        return found[None], np.empty((1, 0, 0)), np.ones(1), np.ones((1, X.shape[1]), dtype=bool)

    everyone = np.zeros(len(X), dtype=np.intp)
    estimate, _, settled = _scoring(X, everyone, 1, rows, family, solve)
    return estimate[0] if settled[0] else np.full(X.shape[1], np.nan)


# Estimates, covariances, smallest eigenvalues, and which columns vary.
_Solved = tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]
_Solver = Callable[[Floats, Floats], _Solved]


def _group_solver(
    z: Floats, index: Indices, levels: int, intercept: int | None, ones: Floats | None
) -> _Solver:
    """Return a function from weights and targets (n,) to what solves the groups' equations."""
    q = z.shape[1]
    constant = np.ones(len(z)) if ones is None else ones
    # products of rows that stand for others have been rounded before
    small = _ROUNDED if ones is None else _ROUNDED_PRODUCTS
    slopes = [k for k in range(q) if k != intercept]

    def sums(values: Floats) -> Floats:
        return np.bincount(index, values, minlength=levels)

    def solve(weight: Floats, target: Floats) -> _Solved:
        total = sums(weight * constant**2)
        centred, at = z, np.zeros((levels, q))
        if intercept is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                for k in slopes:
                    at[:, k] = np.nan_to_num(sums(weight * constant * z[:, k]) / total)
            centred = z - at[index] * constant[:, None]
        gram = np.empty((levels, q, q))
        for i in range(q):
            for j in range(i + 1):
                gram[:, i, j] = gram[:, j, i] = sums(weight * centred[:, i] * centred[:, j])
        right = np.stack([sums(weight * target * centred[:, k]) for k in range(q)], axis=1)
        floor = small * np.stack([sums(weight * z[:, k] ** 2) for k in range(q)], axis=1)
        estimate, covariance, smallest, usable = _solve_scaled(gram, right, floor)
        # From centred to raw columns: only the intercept's row of T differs from the identity.
        back = np.tile(np.eye(q), (levels, 1, 1))
        if intercept is not None:
            back[:, intercept, slopes] = -at[:, slopes]
        return (
            np.einsum("jab,jb->ja", back, estimate),
            np.einsum("jab,jbc,jdc->jad", back, covariance, back),
            smallest,
            usable,
        )

    return solve


def _solve_scaled(gram: Floats, right: Floats, floor: Floats) -> _Solved:
    """Return solutions, inverses and smallest eigenvalues of matrices scaled to unit diagonal.

    And which sums of squares (J, q) are more than ``floor``, which is rounding error.
    """
    diagonal = np.einsum("jkk->jk", gram)
    usable = diagonal > floor
    scale = np.sqrt(np.where(usable, diagonal, 1.0))
    scaled = gram / (scale[:, :, None] * scale[:, None, :])
    finite = np.isfinite(scaled).all(axis=(1, 2))
    scaled[~finite] = 0.0
    values, vectors = np.linalg.eigh(scaled)
    smallest = np.where(usable.all(axis=1) & finite, values[:, 0], 0.0)
    safe = np.where(values > SINGULAR, values, np.inf)
    inverse = np.einsum("jak,jk,jbk->jab", vectors, 1 / safe, vectors)
    inverse /= scale[:, :, None] * scale[:, None, :]
    with np.errstate(invalid="ignore"):
        return np.einsum("jab,jb->ja", inverse, right), inverse, smallest, usable


def _scoring(
    z: Floats, index: Indices, levels: int, rows: Rows, family: Family, solve: _Solver
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return estimates, covariances and whether each group's Fisher scoring settled."""
    everyone = np.ones(levels, dtype=bool)
    if family.name == "gaussian" and family.link == "identity":
        estimate, covariance, *_ = solve(rows.precision, rows.y - rows.offset)
        return estimate, covariance, everyone
    if not known_family(family):
        q = z.shape[1]
        return np.full((levels, q), np.nan), np.full((levels, q, q), np.nan), everyone
    eta = starting_predictor(rows, family)
    settled = np.zeros(levels, dtype=bool)
    estimate = covariance = np.empty(0)
    for _ in range(STEPS):
        score, weight = score_and_information(eta, rows, family)
        with np.errstate(divide="ignore", invalid="ignore"):
            target = np.nan_to_num(eta - rows.offset + score / weight)
        estimate, covariance, *_ = solve(weight, target)
        new = np.clip(rows.offset + np.einsum("nq,nq->n", z, estimate[index]), -200, 200)
        moved = np.zeros(levels)
        np.maximum.at(moved, index, np.nan_to_num(np.abs(new - eta), nan=np.inf))
        settled = moved < TOLERANCE
        eta = new
        if settled.all():
            break
    return estimate, covariance, settled


def _few_rows(reason: npt.NDArray[np.object_], count: Indices, q: int) -> None:
    """Write the reason of groups with fewer rows than effects."""
    for few in range(q):
        reason[count == few] = f"{few} row{'s' * (few != 1)} for {q} effects"


def _not_identified(
    reason: npt.NDArray[np.object_],
    solved: _Solved,
    coefs: tuple[str, ...],
    intercept: int | None,
) -> None:
    """Write the reason of groups whose rows cannot tell the effects apart."""
    _, _, smallest, usable = solved
    for j in np.flatnonzero((reason == "") & (smallest < SINGULAR)):
        still = [c for k, c in enumerate(coefs) if k != intercept and not usable[j, k]]
        what = f"{', '.join(still)} the same in all its rows" if still else "effects collinear"
        reason[j] = what if still else f"{what} in its rows"


def _not_settled(
    reason: npt.NDArray[np.object_],
    settled: npt.NDArray[np.bool_],
    rows: Rows,
    family: Family,
    index: Indices,
    levels: int,
) -> None:
    """Write the reason of groups without a finite estimate."""
    if settled.all():
        return
    total = np.bincount(index, rows.y, minlength=levels)
    size = np.bincount(index, rows.size, minlength=levels)
    text = "separated: no finite estimate"
    reason[(reason == "") & ~settled & (total == 0)] = "all responses 0: no finite estimate"
    if family.name in SHARES:
        full = (reason == "") & ~settled & (total == size)
        reason[full] = "all responses are successes: no finite estimate"
    reason[(reason == "") & ~settled] = text

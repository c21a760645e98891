"""Design and priors to the arrays of the conditional engine, and the form of each bar."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hiermodels.engines.problem import BarBlock, ConditionalProblem, PriorRow
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.priors import ResolvedPriors, TermPriors
from hiermodels.spec.scales import response_scale

Array = NDArray[np.float64]
Centred = Literal["auto"] | bool | Mapping[str, bool]
_LOWER = 0.025
_EXACT = 1e-9


def conditional_problem(
    design: Design, family: Family, priors: ResolvedPriors, centred: tuple[bool, ...]
) -> ConditionalProblem:
    """Return the model as the conditional engine reads it.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors
    centred : tuple of bool
        For each bar whether its effects themselves are the coordinates.

    Raises
    ------
    EngineError
        The residuals are correlated, or have more than one sd.
    """
    check_simple_residual(design)
    return ConditionalProblem(
        family=family.name,
        link=family.link,
        y=design.y,
        X=np.ascontiguousarray(priors.X),
        offset=design.offset,
        trials=design.trials,
        weights=design.weights,
        precision=design.precision,
        se=design.se,
        sigma_prior=None if priors.sigma is None else _row(priors.sigma),
        coef_priors=tuple(_row(prior) for prior in priors.coef),
        bars=tuple(
            BarBlock(
                z=np.ascontiguousarray(own.z),
                index=term.index,
                n_levels=len(term.levels),
                sd_priors=tuple(_row(prior) for prior in own.sd),
                lkj_eta=None if own.cor is None else own.cor.values[0],
                centred=form,
                shift=shift,
            )
            for term, own, form, shift in zip(
                design.terms, priors.terms, centred, _shifts(design, priors, centred), strict=True
            )
        ),
    )


def check_simple_residual(design: Design) -> None:
    """Raise EngineError unless rows are independent and share one sigma, or have known errors."""
    residual = design.residual
    if residual is not None and not residual.simple:
        what = str(residual.term) if residual.term else "a formula for sigma"
        raise EngineError(
            f"The conditional engine cannot take {what}, and neither can model.pymc; the marginal "
            "engine can: leave engine at 'auto' and use model.fit()."
        )


def _row(prior: Prior) -> PriorRow:
    return PriorRow(prior.name, prior.values)


def _shifts(
    design: Design, priors: ResolvedPriors, centred: tuple[bool, ...]
) -> list[Array | None]:
    """Return for each bar how its effects take up coefficients (J, q, p), None where they do not.

    A coefficient whose column is, within each level, made of a centred bar's columns moves with
    that bar's effects, the more so the more the data say about each level; sampling their sum
    frees it (Gelfand, Sahu and Carlin 1995, doi:10.1093/biomet/82.3.479). Where two bars could
    take a coefficient, as crossed intercepts do, moving it to one ties it to the other: it stays.
    """
    if not any(centred):
        return [None] * len(centred)
    solutions = []
    for term, own in zip(design.terms, priors.terms, strict=True):
        solutions.append(_within_levels(own.z, priors.X, term.index, len(term.levels)))
    takers = np.sum([exact for _, exact in solutions], axis=0)
    shifts: list[Array | None] = []
    for (weights, exact), form in zip(solutions, centred, strict=True):
        taken = exact & (takers == 1)
        shifts.append(weights * taken if form and taken.any() else None)
    return shifts


def _within_levels(
    z: Array, X: Array, index: NDArray[np.intp], n_levels: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Return each level's coefficients of X on z (J, q, p), and which columns they give exactly."""
    q, p = z.shape[1], X.shape[1]
    scale = _root_mean_square(z)
    z = z / scale
    cross, right = np.empty((n_levels, q, q)), np.empty((n_levels, q, p))
    for a in range(q):
        for c in range(q):
            cross[:, a, c] = np.bincount(index, z[:, a] * z[:, c], minlength=n_levels)
        for c in range(p):
            right[:, a, c] = np.bincount(index, z[:, a] * X[:, c], minlength=n_levels)
    weights = np.linalg.pinv(cross, hermitian=True) @ right
    # the last digits hang on how many threads a library uses: draws must not
    size = np.max(np.abs(weights), axis=(0, 1), initial=0.0)
    unit = np.where(size > 0, 2.0 ** np.round(np.log2(np.where(size > 0, size, 1.0))), 1.0)
    weights = np.round(weights / unit, 10) * unit
    error = X - np.einsum("nq,nqp->np", z, weights[index])
    exact = np.linalg.norm(error, axis=0) <= _EXACT * np.linalg.norm(X, axis=0)
    return weights / scale[:, None], exact


def _root_mean_square(columns: Array) -> Array:
    """Return the scale of each column, so that no rank depends on units; 1 for zeros."""
    rms = np.sqrt(np.mean(columns**2, axis=0))
    return np.where(rms > 0, rms, 1.0)


# --- centred or not -------------------------------------------------------------------------


def choose_forms(
    design: Design, family: Family, priors: ResolvedPriors, centred: Centred
) -> tuple[bool, ...]:
    """Return for each bar whether it is sampled centred.

    ``"auto"`` takes the centred form where the data say more about a group's effects than the
    population does: where the mean pooling factor is below one half even at the lower end of what
    the data allow for the variance between groups.

    Raises
    ------
    EngineError
        For a value or a grouping that does not exist.
    """
    check_centred(design, centred)
    groups = [term.group for term in design.terms]
    if isinstance(centred, bool | np.bool_):
        return (bool(centred),) * len(groups)
    if isinstance(centred, Mapping):
        auto = choose_forms(design, family, priors, "auto")
        return tuple(
            bool(centred.get(group, form)) for group, form in zip(groups, auto, strict=True)
        )
    residual, weight = _working_residual(design, family)
    estimated = priors.sigma is not None
    return tuple(
        _information_wins(own, term.index, len(term.levels), residual, weight, estimated)
        for term, own in zip(design.terms, priors.terms, strict=True)
    )


def check_centred(design: Design, centred: Centred) -> None:
    """Raise EngineError for a value or a grouping that does not exist."""
    if isinstance(centred, bool | np.bool_):
        return
    if isinstance(centred, Mapping):
        groups = [term.group for term in design.terms]
        odd = [key for key in centred if key not in groups]
        if odd:
            raise EngineError(
                f"centred names {odd[0]!r}, which is no grouping; there are "
                f"{', '.join(dict.fromkeys(groups)) or 'none'}."
            )
        bad = [value for value in centred.values() if not isinstance(value, bool | np.bool_)]
        if bad:
            raise EngineError(
                f"centred takes True or False by grouping; got {bad[0]!r}. Leave a grouping out "
                "to have its form chosen."
            )
        return
    if centred != "auto":
        raise EngineError(
            f"centred must be 'auto', True, False or a dictionary by grouping; got {centred!r}."
        )


def _working_residual(design: Design, family: Family) -> tuple[Array, Array]:
    """Return residuals on the link scale from one regression for all, and working weights (n,)."""
    y = design.y
    weight = np.ones(design.n) if design.weights is None else design.weights
    if design.precision is not None:
        weight = weight * design.precision
    if design.se is not None and not design.se_with_sigma:
        weight = weight / design.se**2
    if family.name == "gaussian" and family.link == "identity":
        working = y - design.offset
    else:
        eta = np.full(design.n, response_scale(design, family).centre) + design.offset
        mu = np.asarray(family.linkinv(eta), dtype=np.float64)
        step = 1e-5
        slope = np.asarray(family.linkinv(eta + step) - family.linkinv(eta - step)) / (2 * step)
        trials = np.ones(design.n) if design.trials is None else design.trials
        variance = {"poisson": mu, "gaussian": np.ones_like(mu)}.get(
            family.name, mu * (1 - mu) / trials
        )
        mean = y / trials
        working = eta - design.offset + (mean - mu) / slope
        weight = weight * slope**2 / variance
    root = np.sqrt(weight)
    if design.X.shape[1]:
        X = design.X_centred / _root_mean_square(design.X_centred)
        fit = np.linalg.lstsq(X * root[:, None], working * root, rcond=None)[0]
        working = working - X @ fit
    return working, weight


def _information_wins(
    own: TermPriors,
    index: NDArray[np.intp],
    n_levels: int,
    residual: Array,
    weight: Array,
    has_sigma: bool,
) -> bool:
    """Whether every effect's mean pooling factor is below one half, judged by moments."""
    q = own.z.shape[1]
    z = own.z / _root_mean_square(own.z)
    cross = np.zeros((n_levels, q, q))
    right = np.zeros((n_levels, q))
    np.add.at(cross, index, z[:, :, None] * z[:, None, :] * weight[:, None, None])
    np.add.at(right, index, z * (weight * residual)[:, None])
    rows = np.bincount(index, minlength=n_levels)
    enough = (rows > q) & (np.linalg.matrix_rank(cross, hermitian=True) == q)
    if np.count_nonzero(enough) < 3:
        return False
    estimates = np.linalg.solve(cross[enough], right[enough][:, :, None])[:, :, 0]
    covariances = np.linalg.inv(cross[enough])
    if has_sigma:
        fitted = np.zeros((n_levels, q))
        fitted[enough] = estimates
        inside = enough[index]
        errors = residual - np.einsum("nq,nq->n", z, fitted[index])
        df = max(int(inside.sum()) - q * len(estimates), 1)
        covariances = covariances * float(np.sum((weight * errors**2)[inside])) / df
    noise = np.einsum("jqq->jq", covariances)
    count = len(estimates)
    # the lower confidence limit of a variance, so that a sd that may be near zero stays
    # non-centred, where its funnel is harmless
    lower = np.var(estimates, axis=0, ddof=1) * (count - 1) / stats.chi2.ppf(1 - _LOWER, count - 1)
    between = np.maximum(lower - noise.mean(axis=0), 0.0)
    total = noise + between
    # neither noise nor differences: nothing speaks against the non-centred form
    factors = np.divide(noise, total, out=np.ones_like(noise), where=total > 0).mean(axis=0)
    return bool(np.all(factors < 0.5))

"""Design and priors to the arrays of the conditional engine."""

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.problem import BarBlock, ConditionalProblem, ParameterBlock, PriorRow
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.grouping import StandingMembers
from hiermodels.spec.predictors import Predictor, Term
from hiermodels.spec.priors import ParameterPriors, ResolvedPriors, TermPriors
from hiermodels.spec.residual import Residual
from hiermodels.spec.residual_priors import ResidualPriors

Array = NDArray[np.float64]
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
        For each bar of the mean whether its effects themselves are the coordinates; those of
        parameters are standard normal scores.

    Raises
    ------
    EngineError
        The residuals are correlated.
    """
    check_independent(design)
    shifts = _shifts(design.terms, priors.terms, priors.X, centred)
    y, censoring, y_upper = observed_response(design)
    return ConditionalProblem(
        family=family.name,
        link=family.link,
        y=y,
        X=np.ascontiguousarray(priors.X),
        offset=design.offset,
        trials=design.trials,
        weights=design.weights,
        precision=design.precision,
        se=design.se,
        sigma_prior=None if priors.sigma is None else _row(priors.sigma),
        coef_priors=tuple(_row(prior) for prior in priors.coef),
        bars=_bars(design.terms, priors.terms, centred, shifts),
        parameters=_parameters(design, priors),
        censoring=censoring,
        y_upper=y_upper,
        truncation=truncation_bounds(design),
    )


def check_independent(design: Design) -> None:
    """Raise EngineError where the rows' residuals are correlated."""
    residual = design.residual
    if residual is not None and not residual.independent:
        raise EngineError(
            f"The conditional engine cannot take {residual.term}; the marginal engine can: leave "
            "engine at 'auto' and use model.fit()."
        )


def _row(prior: Prior) -> PriorRow:
    return PriorRow(prior.name, prior.values)


def _bars(
    terms: tuple[Term, ...],
    priors: tuple[TermPriors, ...],
    centred: tuple[bool, ...],
    shifts: list[Array | None],
) -> tuple[BarBlock, ...]:
    """Return the bars of one linear predictor."""
    return tuple(
        BarBlock(
            z=np.ascontiguousarray(_columns(term, own)),
            index=term.index,
            n_levels=len(term.levels),
            sd_priors=tuple(_row(prior) for prior in own.sd),
            lkj_eta=None if own.cor is None else own.cor.values[0],
            centred=form,
            shift=shift,
            by=None if term.by is None else term.by.index,
            cov=term.cov,
            nu_prior=None if own.nu is None else _row(own.nu),
            members=None if term.members is None else term.members.index,
            member_weights=_member_weights(term, own),
        )
        for term, own, form, shift in zip(terms, priors, centred, shifts, strict=True)
    )


def _columns(term: Term, own: TermPriors) -> Array:
    """Return a bar's columns (n, q): ones where each membership has columns of its own."""
    return np.ones(own.z.shape) if isinstance(term.members, StandingMembers) else own.z


def _member_weights(term: Term, own: TermPriors) -> Array | None:
    """Return what memberships count (n, M), or what each of their effects does (n, M, q)."""
    members = term.members
    if isinstance(members, StandingMembers):
        return np.asarray(members.columns + members.raw @ (own.T - term.T))
    return None if members is None else members.weights


def _parameters(design: Design, priors: ResolvedPriors) -> tuple[ParameterBlock, ...]:
    """Return the further parameters: a Gaussian's sigma that is not one, then the family's own."""
    found = []
    residual = design.residual
    if residual is not None and priors.residual is not None and not residual.simple:
        found += _residual_sigma(residual, priors.residual)
    parts = {part.name: part for part in design.parameters}
    for own in priors.parameters:
        part = parts.get(own.name)
        found.append(_values(own) if part is None else _linear(own, part))
    return tuple(found)


def _residual_sigma(residual: Residual, priors: ResidualPriors) -> list[ParameterBlock]:
    """Return the sds of strata, or the log-linear sd; nothing where they stand elsewhere."""
    sigma = residual.sigma
    rows = tuple(_row(prior) for prior in priors.sigma)
    if sigma is None or sigma.kind in ("one", "modelled"):
        return []
    if sigma.kind == "strata":
        return [ParameterBlock("sigma", "log", rows, sigma.strata)]
    X = np.ascontiguousarray(priors.predictors[sigma.strata])
    return [ParameterBlock("sigma", "log", X=X, offset=None, coef_priors=rows)]


def _values(own: ParameterPriors) -> ParameterBlock:
    """Return a parameter of one value, or the cutpoints."""
    link = "ordered" if own.name == "cutpoints" else own.link
    return ParameterBlock(own.name, link, tuple(_row(prior) for prior in own.value))


def _linear(own: ParameterPriors, part: Predictor) -> ParameterBlock:
    """Return a parameter's linear predictor."""
    forms = (False,) * len(part.terms)
    return ParameterBlock(
        own.name,
        own.link,
        X=np.ascontiguousarray(own.X),
        offset=part.offset if np.any(part.offset) else None,
        coef_priors=tuple(_row(prior) for prior in own.coef),
        bars=_bars(part.terms, own.terms, forms, [None] * len(forms)),
    )


def observed_response(design: Design) -> tuple[Array, NDArray[np.int8] | None, Array | None]:
    """Return responses, codes and upper ends; a censored row reaches to a bound of truncation."""
    found, bounds = design.censoring, truncation_bounds(design)
    if found is None:
        return design.y, None, None
    y, kind, upper = design.y, found.kind.astype(np.int8), found.upper
    if bounds is not None:
        left = (kind == -1) & np.isfinite(bounds[:, 0])
        right = (kind == 1) & np.isfinite(bounds[:, 1])
        upper = np.where(left, y, np.where(right, bounds[:, 1], upper))
        y = np.where(left, bounds[:, 0], y)
        kind = np.where(left | right, np.int8(2), kind)
    return y, kind, upper


def truncation_bounds(design: Design) -> Array | None:
    """Return the bounds of truncation (n, 2), infinite where there is none."""
    found = design.truncation
    if found is None:
        return None
    lower = np.full(design.n, -np.inf) if found.lower is None else found.lower
    upper = np.full(design.n, np.inf) if found.upper is None else found.upper
    return np.column_stack([lower, upper])


def _shifts(
    terms: tuple[Term, ...],
    priors: tuple[TermPriors, ...],
    X: Array,
    centred: tuple[bool, ...],
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
    for term, own in zip(terms, priors, strict=True):
        solutions.append(_within_levels(own.z, X, term.index, len(term.levels)))
    takers = np.sum([exact for _, exact in solutions], axis=0)
    shifts: list[Array | None] = []
    for term, (weights, exact), form in zip(terms, solutions, centred, strict=True):
        taken = exact & (takers == 1)
        shifts.append(weights * taken if form and term.plain and taken.any() else None)
    return shifts


def _within_levels(
    z: Array, X: Array, index: NDArray[np.intp], n_levels: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Return each level's coefficients of X on z (J, q, p), and which columns they give exactly."""
    q, p = z.shape[1], X.shape[1]
    scale = root_mean_square(z)
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


def root_mean_square(columns: Array) -> Array:
    """Return the scale of each column, so that no rank depends on units; 1 for zeros."""
    rms = np.sqrt(np.mean(columns**2, axis=0))
    return np.where(rms > 0, rms, 1.0)

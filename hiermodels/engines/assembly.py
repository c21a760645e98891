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
            )
            for term, own, form in zip(design.terms, priors.terms, centred, strict=True)
        ),
    )


def check_simple_residual(design: Design) -> None:
    """Raise EngineError unless rows are independent and share one sigma, or have known errors."""
    residual = design.residual
    if residual is not None and not residual.simple:
        what = str(residual.term) if residual.term else "a formula for sigma"
        raise EngineError(f"The conditional engine cannot take {what}; the marginal engine can.")


def _row(prior: Prior) -> PriorRow:
    return PriorRow(prior.name, prior.values)


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
    groups = [term.group for term in design.terms]
    if isinstance(centred, bool):
        return (centred,) * len(groups)
    if isinstance(centred, Mapping):
        odd = [key for key in centred if key not in groups]
        if odd:
            raise EngineError(
                f"centred names {odd[0]!r}, which is no grouping; there are "
                f"{', '.join(dict.fromkeys(groups)) or 'none'}."
            )
        auto = choose_forms(design, family, priors, "auto")
        return tuple(
            bool(centred.get(group, form)) for group, form in zip(groups, auto, strict=True)
        )
    if centred != "auto":
        raise EngineError(
            f"centred must be 'auto', True, False or a dictionary by grouping; got {centred!r}."
        )
    residual, weight = _working_residual(design, family)
    return tuple(
        _information_wins(own, term.index, len(term.levels), residual, weight, family.has_sigma)
        for term, own in zip(design.terms, priors.terms, strict=True)
    )


def _working_residual(design: Design, family: Family) -> tuple[Array, Array]:
    """Return residuals on the link scale from one regression for all, and working weights (n,)."""
    y = design.y
    weight = np.ones(design.n) if design.weights is None else design.weights
    if design.precision is not None:
        weight = weight * design.precision
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
        fit = np.linalg.lstsq(design.X_centred * root[:, None], working * root, rcond=None)[0]
        working = working - design.X_centred @ fit
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
    cross = np.zeros((n_levels, q, q))
    right = np.zeros((n_levels, q))
    np.add.at(cross, index, own.z[:, :, None] * own.z[:, None, :] * weight[:, None, None])
    np.add.at(right, index, own.z * (weight * residual)[:, None])
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
        errors = residual - np.einsum("nq,nq->n", own.z, fitted[index])
        df = max(int(inside.sum()) - q * len(estimates), 1)
        covariances = covariances * float(np.sum((weight * errors**2)[inside])) / df
    noise = np.einsum("jqq->jq", covariances)
    count = len(estimates)
    # the lower confidence limit of a variance, so that a sd that may be near zero stays
    # non-centred, where its funnel is harmless
    lower = np.var(estimates, axis=0, ddof=1) * (count - 1) / stats.chi2.ppf(1 - _LOWER, count - 1)
    between = np.maximum(lower - noise.mean(axis=0), 0.0)
    factors = np.mean(noise / (noise + between), axis=0)
    return bool(np.all(factors < 0.5))

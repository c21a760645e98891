"""The form of each bar: whether group effects are sampled as they are, or as scores."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hiermodels.engines.assembly import root_mean_square
from hiermodels.engines.working import dispersion_estimated, working_residual
from hiermodels.errors import EngineError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.predictors import Term
from hiermodels.spec.priors import ResolvedPriors, TermPriors
from hiermodels.spec.whole import Whole

Array = NDArray[np.float64]
Centred = Literal["auto"] | bool | Mapping[str, bool]
_LOWER = 0.025


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
    if not family.has_kernel:
        # nothing is known of how much their rows say
        return (False,) * len(groups)
    residual, weight = working_residual(design, family)
    estimated = dispersion_estimated(design, family)
    return tuple(
        term.plain
        and _information_wins(own, term.index, _rows(design, term), residual, weight, estimated)
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


def _rows(design: Design, term: Term) -> NDArray[np.intp]:
    """Return the rows of each level (J,): of the data, where the design's stand for others."""
    if isinstance(design.whole, Whole):
        return next(group.n_rows for group in design.groups if group.name == term.group)
    return np.bincount(term.index, minlength=len(term.levels))


def _information_wins(
    own: TermPriors,
    index: NDArray[np.intp],
    rows: NDArray[np.intp],
    residual: Array,
    weight: Array,
    has_sigma: bool,
) -> bool:
    """Whether every effect's mean pooling factor is below one half, judged by moments."""
    q, n_levels = own.z.shape[1], len(rows)
    z = own.z / root_mean_square(own.z)
    cross = np.zeros((n_levels, q, q))
    right = np.zeros((n_levels, q))
    np.add.at(cross, index, z[:, :, None] * z[:, None, :] * weight[:, None, None])
    np.add.at(right, index, z * (weight * residual)[:, None])
    enough = (rows > q) & (np.linalg.matrix_rank(cross, hermitian=True) == q)
    if np.count_nonzero(enough) < 3:
        return False
    estimates = np.linalg.solve(cross[enough], right[enough][:, :, None])[:, :, 0]
    covariances = np.linalg.inv(cross[enough])
    if has_sigma:
        fitted = np.zeros((n_levels, q))
        fitted[enough] = estimates
        inside = enough[index]
        n_inside = int(rows[enough].sum())
        errors = residual - np.einsum("nq,nq->n", z, fitted[index])
        df = max(n_inside - q * len(estimates), 1)
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

"""What lint sees in residuals: neighbours that agree, groups that spread more, heavy tails.

Residuals are those of single posterior draws over their sd. At the right model they are
independent standard normal numbers, however strongly groups are pooled (the realised discrepancies
of Gelman, Meng and Stern, 1996); residuals from posterior means are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hiermodels.answers.fitted import Fitted, dataset, drawn
from hiermodels.answers.own_rows import predictor_draws
from hiermodels.answers.prediction import chosen_draws
from hiermodels.answers.rows import all_groups
from hiermodels.errors import FitError
from hiermodels.spec.design import Design, Group
from hiermodels.spec.findings_catalogue import Finding, Findings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

#: Posterior draws that are looked at, and the most numbers that their residuals may take.
DRAWS: Final = 100
MOST_NUMBERS: Final = 50_000_000
_TAIL = 0.01
_CORRELATION, _RATIO, _KURTOSIS = 0.1, 1.25, 1.0
_FEWEST_ROWS, _FEWEST_LEVELS = 20, 3


def residual_findings(fit: Fitted) -> Findings:
    """Return what residuals of a Gaussian fit show that the model does not describe."""
    design, family = fit.model.design, fit.model.family
    if family.name != "gaussian" or design.n < _FEWEST_ROWS:
        return Findings()
    if design.whole is not None:
        return Findings((), ("residuals, whose rows were not kept.",))
    if design.se is not None or design.weights is not None or design.censoring is not None:
        text = "residuals, under known errors, likelihood weights or censoring."
        return Findings((), (text,))
    if design.truncation is not None or (design.residual and not design.residual.independent):
        return Findings((), ("residuals, which are truncated or have a structure already.",))
    if design.n * DRAWS > MOST_NUMBERS:
        return Findings((), (f"residuals of {design.n:,} rows.",))
    try:
        residuals = realised_residuals(fit)
    except FitError:
        return Findings((), ("residuals, as the draws of group effects were not kept.",))
    rng = np.random.default_rng(0)
    fresh = rng.standard_normal(residuals.shape)
    found = [
        *_autocorrelation(fit, residuals, fresh),
        *_variances(fit, residuals, fresh),
        *_tails(fit, residuals, fresh),
    ]
    return Findings(tuple(found))


def realised_residuals(fit: Fitted, draws: int = DRAWS) -> Floats:
    """Return each draw's residuals over their sd (S, n).

    Parameters
    ----------
    fit : Fit
        Gaussian.
    draws : int
        At most so many posterior draws, evenly taken.

    Raises
    ------
    FitError
        The draws of group effects were not kept.
    """
    drawn(fit)
    take, _ = chosen_draws(dataset(fit, "posterior"), draws)
    own = predictor_draws(fit, take)
    mean = np.asarray(fit.model.family.linkinv(own.eta))
    return np.asarray((fit.model.design.y - mean) / own.parameters["sigma"])


@dataclass(frozen=True)
class Compared:
    """A statistic of residuals against that of standard normal numbers.

    Attributes
    ----------
    size : float
        Mean over the draws.
    tail : float
        Share of draws in which chance alone gives as much or more.
    """

    size: float
    tail: float


def compare_statistic(seen: Floats, chance: Floats) -> Compared:
    """Return a statistic's mean, and how often chance gives as much, one value a draw (S,)."""
    # every draw against the whole distribution by chance
    rank = np.searchsorted(np.sort(chance), seen, side="left")
    return Compared(float(np.mean(seen)), float(np.mean(1.0 - rank / len(chance))))


# --- neighbours in time ---------------------------------------------------------------------


def _autocorrelation(fit: Fitted, residuals: Floats, fresh: Floats) -> Iterator[Finding]:
    """Yield a finding where residuals follow their neighbours along a predictor within groups."""
    found = time_order(fit.model.design)
    if found is None:
        return
    label, group, order, neighbours = found
    seen = lag_one(residuals, order, neighbours)
    result = compare_statistic(seen, lag_one(fresh, order, neighbours))
    if result.size < _CORRELATION or result.tail > _TAIL:
        return
    do = f"Write {fit.model.formula} + ar({label}, {group.name})."
    crossed = [g for g in all_groups(fit.model.design) if g != group.name]
    if crossed:
        do += f" The series must then be nested in {' and '.join(crossed)}."
    yield Finding(
        "residual-autocorrelation",
        (label, group.name),
        f"Residuals that are neighbours in {label} within {group.name} have the correlation "
        f"{result.size:.2f} ({int(neighbours.sum()):,} pairs).",
        do,
    )


def time_order(
    design: Design,
) -> tuple[str, Group, Ints, npt.NDArray[np.bool_]] | None:
    """Return a whole-numbered predictor that orders rows within a grouping, and the order.

    Returns
    -------
    tuple or None
        The predictor's name, the grouping, the rows in order, and for each row but the first in
        that order whether it follows the row before it in its level. None without such a predictor.
    """
    for group in sorted(design.groups, key=lambda g: -len(g.levels)):
        if any(design.terms[k].members is not None for k in group.terms):
            continue
        for name, levels in design.encoding.levels.items():
            if levels is not None or name not in design.data:
                continue
            values = design.data[name].to_numpy(dtype=np.float64)
            if np.any(values != np.round(values)) or len(np.unique(values)) < 4:
                continue
            order = np.lexsort((values, group.index))
            same = np.diff(group.index[order]) == 0
            steps = np.diff(values[order])[same]
            # a predictor that repeats within a level is no time
            if steps.size >= _FEWEST_ROWS and steps.min() > 0:
                return name, group, order, same
    return None


def lag_one(residuals: Floats, order: Ints, neighbours: npt.NDArray[np.bool_]) -> Floats:
    """Return each draw's correlation of neighbours (S,)."""
    ordered = residuals[:, order]
    first, second = ordered[:, :-1][:, neighbours], ordered[:, 1:][:, neighbours]
    total = np.sqrt(np.sum(first**2, axis=1) * np.sum(second**2, axis=1))
    return np.asarray(np.sum(first * second, axis=1) / total)


# --- spread by group ------------------------------------------------------------------------


def _variances(fit: Fitted, residuals: Floats, fresh: Floats) -> Iterator[Finding]:
    """Yield groupings in which residuals spread more in some levels than in others."""
    design = fit.model.design
    residual = design.residual
    if residual is None or residual.sigma is None or residual.sigma.kind != "one":
        return
    if any(own.name == "sigma" for own in design.parameters):
        return
    for group in design.groups:
        if any(design.terms[k].members is not None for k in group.terms):
            continue
        used = np.flatnonzero(group.n_rows >= 3)
        if used.size < _FEWEST_LEVELS:
            continue
        logs = _log_variances(residuals, group)[:, used]
        by_chance = _log_variances(fresh, group)[:, used]
        result = compare_statistic(np.var(logs, axis=1), np.var(by_chance, axis=1))
        ratio = spread_ratio(logs, by_chance)
        if ratio < _RATIO or result.tail > _TAIL:
            continue
        sds = np.exp(0.5 * np.mean(logs, axis=0))
        low, high = int(used[np.argmin(sds)]), int(used[np.argmax(sds)])
        yield Finding(
            "residual-variances",
            (group.name,),
            f"Residual sds differ between the levels of {group.name} by a factor of {ratio:.2f} "
            f"beyond chance: from {sds.min():.2f} ({group.levels[low]}) to {sds.max():.2f} "
            f"({group.levels[high]}) times the sd of all.",
            f"Write two formulas: [{str(fit.model.formula)!r}, 'sigma ~ 1 + (1 | {group.name})'].",
        )


def spread_ratio(logs: Floats, by_chance: Floats) -> float:
    """Return the factor by which sds typically differ, from log variances (S, J) less chance."""
    excess = float(np.mean(np.var(logs, axis=1)) - np.mean(np.var(by_chance, axis=1)))
    return float(np.exp(0.5 * np.sqrt(max(excess, 0.0))))


def _log_variances(residuals: Floats, group: Group) -> Floats:
    """Return each draw's log mean square of each level (S, J)."""
    levels = len(group.levels)
    order = np.argsort(group.index, kind="stable")
    starts = np.r_[0, np.cumsum(group.n_rows)[:-1]]
    sums = np.add.reduceat(residuals[:, order] ** 2, starts[:levels], axis=1)
    return np.log(np.maximum(sums / group.n_rows, 1e-300))


# --- tails ----------------------------------------------------------------------------------


def _tails(fit: Fitted, residuals: Floats, fresh: Floats) -> Iterator[Finding]:
    """Yield a finding where residuals have heavier tails than a normal distribution."""
    result = compare_statistic(_kurtosis(residuals), _kurtosis(fresh))
    if result.size < _KURTOSIS or result.tail > _TAIL:
        return
    design = fit.model.design
    worst = np.mean(residuals, axis=0)
    at = int(np.argmax(np.abs(worst)))
    many = int(np.sum(np.abs(worst) > 3))
    yield Finding(
        "residual-tails",
        (design.response,),
        f"Residuals have an excess kurtosis of {result.size:.1f}; {many:,} of {design.n:,} rows "
        f"lie beyond 3 sds, row {design.data.index[at]!r} at {worst[at]:.1f}.",
        "Look at these rows; family='t' with the same formula bounds what they can do.",
    )


def _kurtosis(residuals: Floats) -> Floats:
    """Return each draw's excess kurtosis about zero (S,)."""
    square = residuals**2
    return np.asarray(np.mean(square**2, axis=1) / np.mean(square, axis=1) ** 2 - 3.0)

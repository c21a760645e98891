"""Findings about the response: its bounds, its counts, what foretells it, and its times."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from hiermodels.errors import RepeatedTimesError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.findings_catalogue import Finding
from hiermodels.spec.findings_regressions import quick_regression

Array = NDArray[np.float64]
_PILE = 0.15
_RATINGS = 11
_OVERDISPERSED, _TAIL = 1.5, 1e-3
_ZEROS, _MORE_ZEROS = 3.0, 1.2
_SWEEPS = 10


# --- a Gaussian response --------------------------------------------------------------------


def gaussian_response(design: Design, family: Family) -> Iterator[Finding]:
    """Yield a finding where a Gaussian response is bounded, a rating, or a count."""
    y = design.y
    known = design.censoring is not None or design.truncation is not None or design.se is not None
    if family.name != "gaussian" or family.link != "identity" or known or len(y) < 10:
        return
    name = design.response
    low, high = float(y.min()), float(y.max())
    whole = bool(np.all(y == np.round(y)))
    distinct = len(np.unique(y)) if whole else len(y)
    mean, sd = float(np.mean(y)), float(np.std(y))
    if whole and 2 < distinct <= _RATINGS and low >= 0 and high - low < _RATINGS:
        yield Finding(
            "bounded-response",
            (name,),
            f"{name} has {distinct} whole values from {low:g} to {high:g}, as a rating or a score.",
            "If they are ordered categories, family='cumulative' models them as such; if they are "
            "a number of successes, use 'binomial' or 'beta_binomial' with trials().",
        )
    elif whole and low >= 0 and mean < 3 * sd:
        yield Finding(
            "count-response",
            (name,),
            f"{name} holds whole numbers from {low:g} to {high:g} (mean {mean:.3g}, sd {sd:.3g}).",
            "If it counts something, use family='negativebinomial' or 'poisson', with "
            "offset(log(exposure)) where there is one.",
        )
    elif not whole:
        yield from _bounds(name, y)


def _bounds(name: str, y: Array) -> Iterator[Finding]:
    """Yield a finding where values pile up at an end, are shares, or lie close above zero."""
    low, high, n = float(y.min()), float(y.max()), len(y)
    mean, sd = float(np.mean(y)), float(np.std(y))
    piles = [(float(np.mean(y == end)), end, side) for end, side in ((low, "low"), (high, "high"))]
    share, end, side = max(piles)
    if share >= _PILE:
        kind = "left" if side == "low" else "right"
        count = int(np.sum(y == end))
        yield Finding(
            "bounded-response",
            (name,),
            f"{count:,} of {n:,} rows ({100 * share:.0f} %) have the {side}est value of {name}, "
            f"{end:g}.",
            f"If values beyond {end:g} could not be recorded, say so: a column that is "
            f"{kind!r} in these rows and 'none' elsewhere, and {name} | cens(column).",
        )
    elif low >= 0 and high <= 1 and (low < mean - 3 * (1 - mean) or _near_ends(y)):
        yield Finding(
            "bounded-response",
            (name,),
            f"{name} lies between {low:.3g} and {high:.3g}, as shares do.",
            "For shares use family='beta' (exact zeros and ones excluded); for counts out of "
            "trials 'binomial'.",
        )
    elif low >= 0 and mean < 2 * sd:
        yield Finding(
            "bounded-response",
            (name,),
            f"{name} is never below {low:.3g}, and zero lies {mean / sd:.1f} sds below its mean "
            f"({mean:.3g}, sd {sd:.3g}).",
            f"Model log({name}), or use family='gamma' (zeros excluded).",
        )


def _near_ends(y: Array) -> bool:
    """Whether shares come so close to 0 or 1 that a normal distribution would pass them."""
    mean, sd = float(np.mean(y)), float(np.std(y))
    return mean - 2 * sd < 0 or mean + 2 * sd > 1


# --- separation -----------------------------------------------------------------------------


def separation(design: Design, family: Family) -> Iterator[Finding]:
    """Yield single predictors that foretell a yes, a no, or counts of zero without error."""
    sides = response_sides(design, family)
    if sides is None or not sides.any():
        return
    counts = family.response == "count"
    for name, levels in design.encoding.levels.items():
        used = any(name in column.labels for column in design.columns)
        if not used or name not in design.data:
            continue
        if levels is None:
            if counts:
                continue
            values = design.data[name].to_numpy(dtype=np.float64)
            yield from _threshold(name, values, sides, design.response)
        else:
            yield from _levels(name, design.data[name], sides, design, counts)


def response_sides(design: Design, family: Family) -> Array | None:
    """Return by row whether only a larger (1) or smaller (-1) predictor fits better; 0: neither."""
    y = design.y
    if family.name in ("bernoulli", "binomial"):
        size = np.ones(len(y)) if design.trials is None else design.trials
        return np.where(y >= size, 1.0, np.where(y <= 0, -1.0, 0.0))
    if family.name in ("poisson", "negativebinomial") and family.link == "log":
        return np.where(y <= 0, -1.0, 0.0)
    return None


def _levels(
    name: str, column: "pd.Series[Any]", sides: Array, design: Design, counts: bool
) -> Iterator[Finding]:
    """Yield a finding where all rows of some level are on one side."""
    codes, labels = pd.factorize(column)
    rows = np.bincount(codes, minlength=len(labels))
    sums = np.bincount(codes, weights=sides, minlength=len(labels))
    one_sided = np.flatnonzero(np.abs(sums) == rows)
    if not one_sided.size or (one_sided.size == len(labels) and np.ptp(np.sign(sums)) == 0):
        return
    said = []
    for k in one_sided[:4]:
        what = "0" if sums[k] < 0 else "1"
        if design.response_levels and not counts:
            what = repr(design.response_levels[1 if sums[k] > 0 else 0])
        elif design.trials is not None:
            what = "no success" if sums[k] < 0 else "success in every trial"
        said.append(f"{labels[k]!r} ({rows[k]:,} rows, all {what})")
    more = f" and {one_sided.size - 4} more" if one_sided.size > 4 else ""
    yield Finding(
        "separation",
        (name,),
        f"The response {design.response} does not vary at {one_sided.size} of the {len(labels)} "
        f"levels of {name}: {', '.join(said)}{more}.",
        f"Merge levels of {name}, make it a grouping (1 | {name}), or give its coefficients a "
        "prior that you can defend.",
    )


def _threshold(name: str, values: Array, sides: Array, response: str) -> Iterator[Finding]:
    """Yield a finding where a number divides the yes from the no."""
    up, down = values[sides > 0], values[sides < 0]
    if (sides == 0).any() or not (up.size and down.size):
        return
    if up.min() >= down.max():
        low, high = float(down.max()), float(up.min())
    elif down.min() >= up.max():
        low, high = float(up.max()), float(down.min())
    else:
        return
    yield Finding(
        "separation",
        (name,),
        f"{name} divides the {up.size:,} rows with and the {down.size:,} rows without {response}: "
        f"all of one kind have at most {low:g}, all of the other at least {high:g}.",
        f"Look whether {name} is a consequence of {response}; else give its coefficient a prior "
        "that you can defend.",
    )


# --- counts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """What a quick fit with an own level for each group leaves of counts.

    Attributes
    ----------
    mu : ndarray (n,)
        Fitted means.
    ratio : float
        Pearson's statistic over its degrees of freedom.
    free : float
        Degrees of freedom.
    """

    mu: Array
    ratio: float
    free: float


def count_findings(design: Design, family: Family) -> Iterator[Finding]:
    """Yield overdispersion of Poisson counts, and zeros in excess of Poisson or negative binomial.

    Groups' levels are taken as fixed: what they explain is no overdispersion.
    """
    if family.name not in ("poisson", "negativebinomial") or family.link != "log":
        return
    if design.censoring is not None or design.truncation is not None:
        return
    found = _fit_counts(design)
    if found.free < 10:
        return
    over = found.ratio > _OVERDISPERSED
    tail = float(stats.chi2.sf(found.ratio * found.free, found.free))
    if family.name == "poisson" and over and tail < _TAIL:
        yield Finding(
            "overdispersion",
            (design.response,),
            f"Pearson's statistic of {design.response} is {found.ratio:.2f} times its "
            f"{found.free:,.0f} degrees of freedom, after predictors and a level for each group.",
            "Use family='negativebinomial', or give each row an effect of its own, (1 | row).",
        )
    yield from _zeros(design, found)


def _zeros(design: Design, found: Counts) -> Iterator[Finding]:
    """Yield a finding where there are more zeros than a (negative binomial) count would have."""
    y, mu = design.y, found.mu
    seen = int(np.sum(y == 0))
    # moments: variance = mu + excess mu^2, on the degrees of freedom that are left
    scale = len(y) / found.free
    excess = (scale * float(np.sum((y - mu) ** 2)) - float(np.sum(mu))) / float(np.sum(mu**2))
    none = np.exp(-mu) if excess <= 1e-8 else np.exp(-np.log1p(excess * mu) / excess)
    expected, sd = float(np.sum(none)), float(np.sqrt(np.sum(none * (1 - none))))
    if seen > expected + _ZEROS * sd and seen > _MORE_ZEROS * expected:
        yield Finding(
            "zero-inflation",
            (design.response,),
            f"{seen:,} of {len(y):,} rows of {design.response} are 0; counts with these means and "
            f"this spread would have about {expected:,.0f}.",
            "Use family='zero_inflated_poisson' or 'zero_inflated_negativebinomial', and compare "
            "by hm.loo().",
        )


def _fit_counts(design: Design) -> Counts:
    """Return fitted means by Newton's method on the columns, then a factor for each level."""
    y = design.y
    mu = quick_regression(y, None, design.centred[:], design.offset).mu
    groups = [g for g in design.groups if not any(design.terms[k].members for k in g.terms)]
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        for _ in range(_SWEEPS):
            for group in groups:
                levels = len(group.levels)
                seen = np.bincount(group.index, weights=y, minlength=levels)
                own = np.bincount(group.index, weights=mu, minlength=levels)
                mu = mu * np.where(own > 0, seen / own, 1.0)[group.index]
        positive = mu > 1e-12
        pearson = float(np.sum((y[positive] - mu[positive]) ** 2 / mu[positive]))
    free = float(len(y) - len(design.coefs) - sum(len(g.levels) - 1 for g in groups))
    # rows of levels without any count are fitted exactly and tell nothing
    free -= int(np.sum(~positive))
    free += sum(_empty_levels(g.index, y, len(g.levels)) for g in groups)
    return Counts(mu, pearson / max(free, 1.0), free)


def _empty_levels(index: NDArray[np.intp], y: Array, levels: int) -> int:
    """Return how many levels have no count at all."""
    return int(np.sum(np.bincount(index, weights=y, minlength=levels) == 0))


# --- times ----------------------------------------------------------------------------------


def time_gaps(design: Design) -> Iterator[Finding]:
    """Yield a finding where the times of ``ar()`` leave gaps."""
    residual = design.residual
    if residual is None or residual.structure != "ar" or residual.term is None:
        return
    if residual.series is None or residual.time is None or residual.order is None:
        return
    series, time = residual.series[residual.order], residual.time[residual.order]
    steps = np.diff(time)[np.diff(series) == 0]
    if not steps.size or steps.max() <= 1:
        return
    wide = int(np.sum(steps > 1))
    with_gap = len(np.unique(series[1:][(np.diff(series) == 0) & (np.diff(time) > 1)]))
    label = residual.term.time.label if residual.term.time is not None else "time"
    common = int(np.gcd.reduce(steps))
    if common > 1:
        do = (
            f"Every step is a multiple of {common}: take {label} / {common} as the time, or ar is "
            "a correlation at a distance that never occurs."
        )
    else:
        do = (
            "If nothing happened in between (as over a weekend that counts as one night), number "
            "the occasions 1, 2, 3, ... within each series; if time went by, all is well."
        )
    yield Finding(
        "time-gaps",
        (label, residual.term.group_name),
        f"{wide:,} of {steps.size:,} steps of {label} are longer than 1 (up to {steps.max():g}), "
        f"in {with_gap:,} of {len(residual.series_levels):,} series.",
        do,
    )


def repeated_times(error: RepeatedTimesError) -> Finding:
    """Return the finding for times that repeat, of which no model can be made."""
    time, group = error.about
    return Finding(
        "repeated-times",
        error.about,
        error.seen,
        f"Keep one row for each {time} of {group}, such as their mean, or name the series by what "
        f"tells the rows apart, such as {group}:device; no model can be made before.",
    )

"""Whether group effects look normal: quantiles of draws of effects over their sd, with bands.

Effects of single posterior draws over that draw's sd are standard normal at the right model, which
shrunken posterior means are not. The band holds all sorted effects of a grouping at a time.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hiermodels.answers.fitted import Fitted, dataset
from hiermodels.answers.model_checks_residuals import check_row
from hiermodels.spec.names import effect_name, sd_name
from hiermodels.spec.predictors import Group

Floats = npt.NDArray[np.float64]
_DRAWS = 400
_BY_CHANCE = 2000
_COLUMNS = ("group", "effect", "normal", "value", "low", "high")


def effect_quantiles(fit: Fitted, rng: np.random.Generator) -> tuple[pd.DataFrame, list[str]]:
    """Return sorted effects beside normal quantiles with their band, and what was left out.

    Parameters
    ----------
    fit : Fit
    rng : numpy.random.Generator
        Of the band.
    """
    parts, notes = [], []
    for group in fit.model.design.groups:
        reason = _unlike(fit, group)
        if reason:
            notes.append(f"Group effects of {group.name} are not compared: {reason}.")
            continue
        levels = len(group.levels)
        ranks = np.arange(1, levels + 1)
        normal = stats.norm.ppf((ranks - 0.375) / (levels + 0.25))
        low, high = band_of_sorted(levels, rng)
        for k, effect in enumerate(group.coefs):
            values = np.sort(_standardised(fit, group)[:, :, k], axis=1)
            own = {"normal": normal, "value": values.mean(axis=0), "low": low, "high": high}
            part = pd.DataFrame(own)
            part.insert(0, "effect", effect)
            part.insert(0, "group", group.name)
            parts.append(part)
    if not parts:
        return pd.DataFrame(columns=list(_COLUMNS)), notes
    return pd.concat(parts, ignore_index=True), notes


def band_of_sorted(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return limits between which all of so many sorted normal numbers lie, 95 times in 100.

    Parameters
    ----------
    count : int
    rng : numpy.random.Generator
        Of the samples by which the tail of each limit is found.

    Notes
    -----
    The k-th smallest of J uniform numbers is Beta(k, J + 1 - k); the tail is the same at each, as
    in Saeilynoja, Buerkner and Vehtari (2022), https://doi.org/10.1007/s11222-022-10090-6.
    """
    ranks = np.arange(1, count + 1)
    shares = np.sort(rng.random((max(200, min(_BY_CHANCE, 1_000_000 // count)), count)), axis=1)
    below = stats.beta.cdf(shares, ranks, count + 1 - ranks)
    tail = float(np.quantile(np.minimum(below, 1.0 - below).min(axis=1), 0.05))
    low, high = (stats.beta.ppf(p, ranks, count + 1 - ranks) for p in (tail, 1.0 - tail))
    return np.asarray(stats.norm.ppf(low)), np.asarray(stats.norm.ppf(high))


def effect_rows(
    fit: Fitted, quantiles: pd.DataFrame, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the checks of group effects, one row each."""
    found = []
    groups = {group.name: group for group in fit.model.design.groups}
    for name in dict.fromkeys(quantiles["group"]):
        group = groups[str(name)]
        levels = len(group.levels)
        fresh = np.sort(rng.standard_normal((_BY_CHANCE, levels)), axis=1)
        chance = _distance(fresh)
        for k, effect in enumerate(group.coefs):
            draws = np.sort(_standardised(fit, group)[:, :, k], axis=1)
            # each draw has a value; what counts is how they lie among those by chance
            seen = float(np.mean(_distance(draws)))
            about = f"{effect} by {group.name}"
            own = quantiles[(quantiles["group"] == name) & (quantiles["effect"] == effect)]
            outside = int(np.sum((own["value"] < own["low"]) | (own["value"] > own["high"])))
            found.append(
                check_row(
                    "effects",
                    about,
                    "distance from normal (Kolmogorov)",
                    seen,
                    chance,
                    f"The effects of {about} look normal ({outside} of {levels:,} outside the "
                    "band that holds all of them 95 times in 100).",
                    f"The effects of {about} do not look normal ({outside} of {levels:,} outside "
                    "the band that holds all of them 95 times in 100): "
                    f'gr({group.name}, dist="student") has heavier tails, and groups may be of '
                    "several kinds.",
                    upper=True,
                )
            )
    return found


def _unlike(fit: Fitted, group: Group) -> str:
    """Return why effects cannot be held against one normal distribution; empty where they can."""
    terms = [fit.model.design.terms[k] for k in group.terms]
    if effect_name(group.name) not in dataset(fit, "posterior"):
        return "their draws were not kept"
    if any(term.dist == "student" for term in terms):
        return "they are t distributed by the formula"
    if any(term.by is not None or term.cov is not None for term in terms):
        return "their distribution differs by level"
    return ""


def _standardised(fit: Fitted, group: Group) -> Floats:
    """Return draws of a grouping's effects over their sd (S, J, q), at most a few hundred."""
    posterior = dataset(fit, "posterior")
    effects = posterior[effect_name(group.name)].to_numpy()
    sds = posterior[sd_name(group.name)].to_numpy()
    effects = effects.reshape(-1, *effects.shape[2:])
    sds = sds.reshape(-1, sds.shape[-1])
    take = np.unique(np.linspace(0, len(effects) - 1, _DRAWS).round().astype(np.intp))
    return np.asarray(effects[take] / np.maximum(sds[take, None, :], 1e-300))


def _distance(values: Floats) -> Floats:
    """Return the Kolmogorov distance of sorted values from a standard normal (S,)."""
    levels = values.shape[1]
    shares = stats.norm.cdf(values)
    above = np.max(np.arange(1, levels + 1) / levels - shares, axis=1)
    below = np.max(shares - np.arange(levels) / levels, axis=1)
    return np.asarray(np.maximum(above, below))

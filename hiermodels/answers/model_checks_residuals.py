"""Replicated data beside the observed, and quantile residuals: against fitted values, by group."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from hiermodels.answers.fitted import Model
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.names import OBS
from hiermodels.spec.predictors import Group

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_LOW, _HIGH = 0.025, 0.975
_BY_CHANCE = 1000
# Samples of all rows by chance, within as many numbers as they may take together.
_LEVELS_BY_CHANCE, _FEWEST, _MOST_NUMBERS = 200, 50, 50_000_000
_CURES = {
    "continuous": "a formula for the family's spread, a log response or another family may "
    "describe it",
    "count": "a family with more or less dispersion, or zeros of their own, may describe it",
    "binary": "another link, or predictors on a curve, may describe it",
    "ordered": "another link, or predictors on a curve, may describe it",
}
_KINDS = {
    "binary": "binary",
    "trials": "count",
    "count": "count",
    "ordered": "ordered",
    "levels": "ordered",
}


@dataclass(frozen=True, eq=False)
class Replicated:
    """A response and responses that the model simulated in its place.

    Attributes
    ----------
    design : Design
    family : Family
    kind : {"continuous", "count", "binary", "ordered"}
    y : ndarray (m,)
        Of the rows used.
    simulated : ndarray (S, m)
    fitted : ndarray (m,)
        Expected responses.
    used : ndarray of int (m,)
    rng : numpy.random.Generator
    """

    design: Design
    family: Family
    kind: str
    y: Floats
    simulated: Floats
    fitted: Floats
    used: Ints
    rng: np.random.Generator

    @classmethod
    def of(
        cls,
        model: Model,
        simulated: xr.DataArray,
        fitted: Floats,
        used: Ints,
        rng: np.random.Generator,
    ) -> "Replicated":
        """Return the rows used of draws (chain, draw, __obs__)."""
        values = simulated.transpose("chain", "draw", OBS).to_numpy()
        values = values.reshape(-1, values.shape[-1])[:, used]
        kind = _KINDS.get(model.family.response, "continuous")
        design = model.design
        return cls(design, model.family, kind, design.y[used], values, fitted[used], used, rng)

    def groups(self) -> list[tuple[Group, Ints]]:
        """Return the groupings whose levels each hold rows of their own, with rows' levels."""
        return [
            (group, group.index[self.used])
            for group in self.design.groups
            if not any(self.design.terms[k].members is not None for k in group.terms)
        ]


def quantile_residuals(data: Replicated) -> Floats:
    """Return normal scores of each response among those simulated in its place (m,).

    Ties are broken at random, so that counts have standard normal residuals too.
    """
    less = np.mean(data.simulated < data.y, axis=0)
    equal = np.mean(data.simulated == data.y, axis=0)
    shares = less + data.rng.uniform(size=len(data.y)) * equal
    # beyond all simulated responses nothing is known but that
    edge = 0.5 / len(data.simulated)
    return np.asarray(stats.norm.ppf(np.clip(shares, edge, 1.0 - edge)))


def residual_rows(data: Replicated, residuals: Floats) -> list[dict[str, Any]]:
    """Return the checks of residuals, one row each."""
    ranks = stats.rankdata(data.fitted)
    by_chance = _by_chance(data)
    found = []
    if np.ptp(data.fitted) > 0:
        found.append(_curve(data, residuals, ranks, by_chance))
        found.append(_spread(data, residuals, ranks, by_chance))
    fresh = by_chance
    if fresh is None:
        size = max(_FEWEST, min(_LEVELS_BY_CHANCE, _MOST_NUMBERS // max(1, len(residuals))))
        fresh = data.rng.standard_normal((size, len(residuals)))
    for group, index in data.groups():
        row = _by_group(group, index, residuals, fresh)
        if row is not None:
            found.append(row)
    return found


def check_row(
    check: str,
    about: str,
    statistic: str,
    observed: float,
    chance: Floats,
    good: str,
    bad: str,
    *,
    upper: bool = False,
) -> dict[str, Any]:
    """Return a row of the table of checks.

    Parameters
    ----------
    check, about, statistic : str
    observed : float
    chance : ndarray (S,)
        What the model expects.
    good, bad : str
        The sentence where the value is as expected, and where it is not.
    upper : bool
        Whether only large values are unexpected.
    """
    low, high = (float(q) for q in np.quantile(chance, (_LOW, _HIGH)))
    p = float(np.mean(chance > observed) + 0.5 * np.mean(chance == observed))
    fine = p > _LOW and (upper or p < _HIGH)
    return {
        "check": check,
        "about": about,
        "statistic": statistic,
        "observed": observed,
        "low": low,
        "high": high,
        "p": p,
        "as_expected": bool(fine),
        "sentence": good if fine else bad,
    }


def _by_chance(data: Replicated) -> Floats | None:
    """Return the residuals that simulated responses have themselves (S, m), if not independent.

    Under ar(), cosy() and unstr() neighbours agree at the right model, so that residuals bend and
    spread by chance more than independent ones; None where rows are independent.
    """
    residual = data.design.residual
    if residual is None or residual.independent:
        return None
    ranks = stats.rankdata(data.simulated, axis=0)
    return np.asarray(stats.norm.ppf((ranks - 0.5) / len(ranks)))


def _curve(
    data: Replicated, residuals: Floats, ranks: Floats, by_chance: Floats | None
) -> dict[str, Any]:
    """Return whether residuals bend against fitted values: a missing curve or interaction."""
    scores = stats.norm.ppf(ranks / (len(ranks) + 1.0))
    bend = scores**2 - np.mean(scores**2)
    # the straight part is left out: pooling alone makes residuals rise with fitted values
    basis = np.column_stack([np.ones(len(scores)), scores])
    bend = bend - basis @ np.linalg.lstsq(basis, bend, rcond=None)[0]
    r = float(_cosine(residuals, bend))
    chance = _null_correlations(data) if by_chance is None else _cosine(by_chance, bend)
    how = "high" if r > 0 else "low"
    return check_row(
        "residuals", data.design.response, "curve against fitted", r, chance,
        f"Residuals do not bend along fitted values (correlation {r:.2f}).",
        f"Residuals are {how} at both ends of the fitted values (correlation {r:.2f}): a predictor "
        "may act on a curve, or two of them together.",
    )  # fmt: skip


def _spread(
    data: Replicated, residuals: Floats, ranks: Floats, by_chance: Floats | None
) -> dict[str, Any]:
    """Return whether residuals spread more at larger fitted values."""
    middle = ranks - np.mean(ranks)
    r = float(_cosine(_ranked_sizes(residuals), middle))
    if by_chance is None:
        chance = _null_correlations(data)
    else:
        chance = _cosine(_ranked_sizes(by_chance), middle)
    how = "grows" if r > 0 else "falls"
    return check_row(
        "residuals", data.design.response, "spread against fitted", r, chance,
        f"The spread of residuals does not hang on fitted values (rank correlation {r:.2f}).",
        f"The spread of residuals {how} with fitted values (rank correlation {r:.2f}): "
        f"{_CURES.get(data.kind, _CURES['continuous'])}.",
    )  # fmt: skip


def _cosine(values: Floats, direction: Floats) -> Floats:
    """Return the cosine between values (..., m) and a direction (m,); 0 where either is zero."""
    sizes = np.sqrt(np.sum(values**2, axis=-1) * (direction @ direction))
    across = np.asarray(values @ direction)
    return np.divide(across, sizes, out=np.zeros_like(across), where=sizes > 0.0)


def _ranked_sizes(residuals: Floats) -> Floats:
    """Return the ranks of absolute residuals along the last axis, less their mean."""
    ranks = stats.rankdata(np.abs(residuals), axis=-1)
    return np.asarray(ranks - np.mean(ranks, axis=-1, keepdims=True))


def _null_correlations(data: Replicated) -> Floats:
    """Return correlations of as many unrelated numbers, by their t distribution."""
    free = max(len(data.y) - 2, 1)
    t = stats.t(free).rvs(size=_BY_CHANCE, random_state=data.rng)
    return np.asarray(t / np.sqrt(free + t**2))


def _by_group(group: Group, index: Ints, residuals: Floats, fresh: Floats) -> dict[str, Any] | None:
    """Return whether residuals spread more in some levels than in others."""
    levels = len(group.levels)
    rows = np.bincount(index, minlength=levels)
    used = np.flatnonzero(rows >= 3)
    if used.size < 3:
        return None
    sds = level_sds(residuals[None], index, levels)[0, used]
    seen = float(np.std(np.log(sds)))
    chance = np.std(np.log(level_sds(fresh, index, levels)[:, used]), axis=1)
    low, high = int(used[np.argmin(sds)]), int(used[np.argmax(sds)])
    span = f"{sds.min():.2f} ({group.levels[low]}) to {sds.max():.2f} ({group.levels[high]})"
    return check_row(
        "residuals", group.name, "sd of log residual sds", seen, chance,
        f"Residuals spread alike in all levels of {group.name} (sds {span}).",
        f"Residuals spread more in some levels of {group.name} than in others (sds {span}): for a "
        f"Gaussian model, 'sigma ~ 1 + (1 | {group.name})' describes it.",
        upper=True,
    )  # fmt: skip


def level_sds(residuals: Floats, index: Ints, levels: int) -> Floats:
    """Return the root mean square of residuals in each level (S, J); 1e-6 at least."""
    total = np.zeros((len(residuals), levels))
    order = np.argsort(index, kind="stable")
    rows = np.bincount(index, minlength=levels)
    present = np.flatnonzero(rows)
    starts = np.r_[0, np.cumsum(rows[present])[:-1]]
    total[:, present] = np.add.reduceat(residuals[:, order] ** 2, starts, axis=1)
    return np.asarray(np.sqrt(np.maximum(total / np.maximum(rows, 1), 1e-12)))

"""Tables of group effects, vectorised over levels.

Pure functions; intervals are equal-tailed; everything stands on the link scale.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.fitting.draws import GroupLabels, empty_table, population, sd_of, tails
from hiermodels.spec.names import of_parameter

Floats = npt.NDArray[np.float64]

#: Draws of group effects are summarised in blocks of at most this many numbers.
BLOCK_NUMBERS = 4_000_000


def ranef(
    posterior: xr.Dataset,
    group_effects: xr.Dataset | None,
    groups: Sequence[GroupLabels],
    prob: float = 0.95,
) -> pd.DataFrame:
    """Return the group effects: deviations from the population, on the link scale.

    Parameters
    ----------
    posterior : xarray.Dataset
        Draws ``r_<g>`` with dims ``<g>``, ``<g>_coef``; may lack where they were too many.
    group_effects : xarray.Dataset or None
        ``r_<g>_mean`` and ``r_<g>_sd`` with the same dims, used for mean and sd where present.
    groups : sequence of GroupLabels
    prob : float
        Probability of the equal-tailed interval.

    Returns
    -------
    pandas.DataFrame
        Columns group, effect, level, mean, sd, ci_low, ci_high; by group, effect, level.
        Without draws the interval is the normal one of mean and sd, and
        ``attrs["normal_interval"]`` names the groups of which this holds.

    Raises
    ------
    FitError
        Neither draws nor moments of a group's effects are there.
    """
    columns = ["group", "effect", "level", "mean", "sd", "ci_low", "ci_high"]
    parts, normal = [], []
    for g in groups:
        name = g.effects
        levels = levels_of(posterior, group_effects, g)
        moments = _moments(group_effects, g)
        if name in posterior:
            draws = effect_draws(posterior, g)
            mean, sd, low, high = _summarise(draws, prob)
            mean, sd = moments or (mean, sd)
        elif moments:
            mean, sd = moments
            z = NormalDist().inv_cdf(tails(prob)[1])
            low, high = mean - z * sd, mean + z * sd
            normal.append(g.name)
        else:
            raise FitError(
                f"the effects of {g.name!r} are neither in the posterior ({name}) nor in "
                f"group_effects ({name}_mean, {name}_sd): fit the model again"
            )
        parts.append(_long(g.name, g.shown, levels, (mean, sd, low, high)))
    out = pd.concat(parts, ignore_index=True) if parts else empty_table(columns, prob)
    out.attrs.update(prob=prob, normal_interval=tuple(normal))
    return out


def levels_of(posterior: xr.Dataset, moments: xr.Dataset | None, g: GroupLabels) -> list[str]:
    """Return the level labels of a factor."""
    for source in (posterior, moments):
        if source is not None and g.name in source.coords:
            return [str(v) for v in source[g.name].values]
    raise FitError(f"no levels of {g.name!r} are stored with the draws: fit the model again")


def _moments(group_effects: xr.Dataset | None, g: GroupLabels) -> tuple[Floats, Floats] | None:
    """Return the stored mean and sd (J, q) of a factor's effects, or None."""
    if group_effects is None or f"{g.effects}_mean" not in group_effects:
        return None
    mean, sd = (_by_level(group_effects[f"{g.effects}_{what}"], g) for what in ("mean", "sd"))
    return mean, sd


def _by_level(array: xr.DataArray, g: GroupLabels) -> Floats:
    """Return numbers of a factor's effects (J, q), in their order."""
    return np.asarray(array.sel({g.dim: list(g.coefs)}).transpose(g.name, g.dim).values, float)


def effect_draws(posterior: xr.Dataset, g: GroupLabels) -> Floats:
    """Return the draws (S, J, q) of a factor's effects, S chains and draws together."""
    array = posterior[g.effects].transpose("chain", "draw", g.name, g.dim)
    if [str(c) for c in array[g.dim].values] != list(g.coefs):
        array = array.sel({g.dim: list(g.coefs)})
    values = np.asarray(array.values)
    return values.reshape(-1, *values.shape[2:])


def _summarise(
    draws: Floats, prob: float, shift: Floats | None = None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return mean, sd and interval ends (J, q) of draws (S, J, q), with ``shift`` (S, q) added.

    Levels are taken in blocks, each laid out level by level, so that quantiles read memory in
    order and the copy stays small.
    """
    total, levels, q = draws.shape
    low, high = tails(prob)
    out = np.empty((4, levels, q))
    step = max(1, BLOCK_NUMBERS // max(total * q, 1))
    for start in range(0, levels, step):
        block = draws[:, start : start + step]
        if shift is not None:
            block = block + shift[:, None, :]
        flat = np.ascontiguousarray(block.reshape(total, -1).T, dtype=np.float64)
        part = np.stack(
            [flat.mean(axis=1), sd_of(flat, axis=1), *np.quantile(flat, (low, high), 1)]
        )
        out[:, start : start + step] = part.reshape(4, -1, q)
    return out[0], out[1], out[2], out[3]


def _long(
    group: str,
    coefs: Sequence[str],
    levels: Sequence[str],
    values: tuple[Floats, Floats, Floats, Floats],
) -> pd.DataFrame:
    """Return arrays (J, q) as rows by effect and level."""
    q, count = len(coefs), len(levels)
    mean, sd, low, high = (v.T.ravel() for v in values)
    return pd.DataFrame(
        {
            "group": pd.Series([group] * (q * count), dtype=object),
            "effect": pd.Series(np.repeat(np.array(coefs, dtype=object), count), dtype=object),
            "level": pd.Series(np.tile(np.array(levels, dtype=object), q), dtype=object),
            "mean": mean,
            "sd": sd,
            "ci_low": low,
            "ci_high": high,
        }
    )


def coef(
    posterior: xr.Dataset,
    group_effects: xr.Dataset | None,
    groups: Sequence[GroupLabels],
    prob: float = 0.95,
) -> pd.DataFrame:
    """Return the coefficients of each level: population plus group effect, on the link scale.

    An effect without a population coefficient of the same name counts as 0 in the population; a
    population coefficient without a group effect is repeated for each level, as in lme4's
    ``coef``.

    Parameters
    ----------
    posterior, group_effects, groups, prob
        As of :func:`ranef`.

    Returns
    -------
    pandas.DataFrame
        Columns group, effect, level, mean, sd, ci_low, ci_high; population coefficients in their
        order first, then the other effects. Without draws of the effects the interval of a sum is
        the normal one of mean and sd, and ``attrs["normal_interval"]`` names the groups of which
        this holds; in fits that older versions saved both are NaN.
    """
    columns = ["group", "effect", "level", "mean", "sd", "ci_low", "ci_high"]
    parts, normal = [], []
    for g in groups:
        if g.effects not in posterior:
            normal.append(g.name)
        names, fixed = population(posterior, g.parameter)
        flat = fixed.reshape(fixed.shape[0] * fixed.shape[1], len(names))
        levels = levels_of(posterior, group_effects, g)
        shift = np.zeros((len(flat), len(g.coefs)))
        for k, c in enumerate(g.coefs):
            if c in names:
                shift[:, k] = flat[:, names.index(c)]
        values = _sums(posterior, group_effects, g, shift, prob)
        order = [*names, *(c for c in g.coefs if c not in names)]
        shown = [of_parameter(g.parameter, c) for c in order]
        parts.append(
            _long(g.name, shown, levels, _with_constants(order, g, names, flat, values, prob))
        )
    out = pd.concat(parts, ignore_index=True) if parts else empty_table(columns, prob)
    out.attrs.update(prob=prob, normal_interval=tuple(normal))
    return out


def _sums(
    posterior: xr.Dataset,
    group_effects: xr.Dataset | None,
    g: GroupLabels,
    shift: Floats,
    prob: float,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return mean, sd, interval (J, q) of group effects plus ``shift`` (S, q)."""
    moments = _moments(group_effects, g)
    total = f"{g.total}_sd"
    if g.effects in posterior:
        mean, sd, low, high = _summarise(effect_draws(posterior, g), prob, shift)
        exact = moments[0] + shift.mean(axis=0) if moments else mean
        return exact, sd, low, high
    if moments is None:
        ranef(posterior, group_effects, [g], prob)  # raises, with the reason
        raise AssertionError
    mean, sd = moments[0] + shift.mean(axis=0), np.full_like(moments[0], np.nan)
    if group_effects is not None and total in group_effects:
        sd = _by_level(group_effects[total], g)
    z = NormalDist().inv_cdf(tails(prob)[1])
    return mean, sd, mean - z * sd, mean + z * sd


def _with_constants(
    order: Sequence[str],
    g: GroupLabels,
    names: Sequence[str],
    flat: Floats,
    values: tuple[Floats, Floats, Floats, Floats],
    prob: float,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return arrays (J, len(order)): group effects from ``values``, the others repeated."""
    count = len(values[0])
    out = np.empty((4, count, len(order)))
    for k, c in enumerate(order):
        if c in g.coefs:
            at = g.coefs.index(c)
            out[:, :, k] = np.stack([v[:, at] for v in values])
        else:
            draws = flat[:, names.index(c)]
            four = (draws.mean(), float(sd_of(draws)), *np.quantile(draws, tails(prob)))
            out[:, :, k] = np.array(four)[:, None]
    return out[0], out[1], out[2], out[3]

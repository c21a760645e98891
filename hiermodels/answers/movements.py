"""How far partial pooling moves the levels of a factor, and how sure it is of some of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import Fitted, dataset, find_group, population_draws
from hiermodels.answers.shrinkage import CoefficientEllipse, group_estimates
from hiermodels.errors import FitError
from hiermodels.fitting.draws import draws_of
from hiermodels.spec.names import coef_dim, effect_name

Floats = npt.NDArray[np.float64]

#: Medians are of at most so many bins of sizes, and of so many levels each where these suffice.
_SIZES, _LEVELS = 12, 8
#: Covariances of posterior draws settle with far fewer than this.
_MOST_DRAWS = 4000


def movements(
    fit: Fitted, effect: str | None = None, group: str | None = None, prob: float = 0.95
) -> pd.DataFrame:
    """Return how far each level moves from its own estimate, with its number of rows.

    Parameters
    ----------
    fit : Fit
    effect : str, optional
        The factor's first by default.
    group : str, optional
        The first factor by default.
    prob : float
        As of :func:`hiermodels.answers.shrinkage.group_estimates`.

    Returns
    -------
    pandas.DataFrame
        One row a level, with columns level, n (rows), no_pool, mean, distance (absolute
        difference of the two; NaN without an own estimate), reason. ``attrs`` holds group and
        effect. Link scale.

    Raises
    ------
    FitError
        No groups, or none of these names.
    """
    _, found = find_group(fit, group)
    chosen = found.coefs[0] if effect is None else effect
    if chosen not in found.coefs:
        raise FitError(f"got effect {chosen!r}; {found.name} has {', '.join(found.coefs)}")
    table = group_estimates(fit, prob, found.name)
    rows = table[table["effect"] == chosen].reset_index(drop=True)
    out = rows[["level", "n", "no_pool", "mean", "reason"]].copy()
    out.insert(4, "distance", (rows["mean"] - rows["no_pool"]).abs())
    out.attrs = {"group": found.name, "effect": chosen}
    return out


def typical_distances(table: pd.DataFrame) -> pd.DataFrame:
    """Return the median distance by number of rows, in bins of equally many levels if needed.

    Parameters
    ----------
    table : pandas.DataFrame
        What :func:`movements` returned.

    Returns
    -------
    pandas.DataFrame
        Columns n (mean of a bin), distance (median), levels (how many).
    """
    known = table.dropna(subset=["distance"])
    sizes = known["n"].astype(float)
    bins = max(2, min(_SIZES, len(known) // _LEVELS))
    if sizes.nunique() > bins:
        key = pd.qcut(sizes, bins, duplicates="drop")
    else:
        key = sizes
    parts = known.assign(n=sizes).groupby(key, observed=True)
    out = parts.agg(n=("n", "mean"), distance=("distance", "median"), levels=("level", "size"))
    return out.reset_index(drop=True)


def level_ellipses(
    fit: Fitted,
    levels: Sequence[str],
    group: str | None = None,
    effects: tuple[str, str] | None = None,
) -> dict[str, CoefficientEllipse]:
    """Return where two coefficients of some levels lie in the posterior.

    Parameters
    ----------
    fit : Fit
    levels : sequence of str
    group : str, optional
        The first factor by default.
    effects : tuple of str, optional
        Two effects; the first two by default.

    Returns
    -------
    dict of str to CoefficientEllipse
        By level: posterior mean and covariance of population plus group effect. Empty where the
        draws of the group effects were left out, being beyond memory.

    Raises
    ------
    FitError
        No such factor, effects or level.
    """
    _, found = find_group(fit, group)
    two = effects or (found.coefs[0], found.coefs[1])
    unknown = [level for level in levels if level not in found.levels]
    if unknown:
        raise FitError(f"got level {unknown[0]!r}, which {found.name} does not have")
    posterior, name, dim = dataset(fit, "posterior"), effect_name(found.name), coef_dim(found.name)
    if name not in posterior:
        return {}
    names, population = population_draws(fit)
    step = max(1, len(population) // _MOST_DRAWS)
    shift = np.stack(
        [
            population[::step, names.index(e)] if e in names else np.zeros(len(population[::step]))
            for e in two
        ],
        axis=1,
    )
    out = {}
    for level in levels:
        at = {found.name: level, dim: list(two)}
        own = draws_of(posterior[name].sel(at)).reshape(len(population), 2)[::step] + shift
        out[level] = CoefficientEllipse(
            two, own.mean(axis=0), np.asarray(np.cov(own.T), dtype=np.float64)
        )
    return out

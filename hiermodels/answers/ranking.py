"""Ranks of groups, with how uncertain they are."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from hiermodels.answers.fitted import (
    Fitted,
    dataset,
    effect_means,
    find_group,
    labels,
    population_draws,
)
from hiermodels.answers.normal_ranks import normal_ranks
from hiermodels.errors import FitError
from hiermodels.fitting.draws import draws_of, tails
from hiermodels.fitting.effects import ranef
from hiermodels.spec.design import Group
from hiermodels.spec.names import effect_name

Floats = npt.NDArray[np.float64]

#: The probability of every rank is kept for at most so many levels.
MOST_LEVELS = 2000
#: Without draws of the effects ranks come from their means and sds where levels are so many.
FEWEST_LEVELS = 1000
_NOTE = (
    "Ranks of noisy groups are noisy: read the intervals, not the order. Partial pooling shrinks "
    "the effects, but the first of many near-equal groups is first by chance."
)
_NORMAL = (
    "The draws of the effects were not kept: these are ranks of independent normal effects with "
    "their exact means and sds."
)


@dataclass(frozen=True, eq=False, repr=False)
class Ranks:
    """Ranks of the levels of one grouping by one effect.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a level, the smallest expected rank first; see :func:`rank_levels`.
    probabilities : xarray.DataArray or None
        Posterior probability of every rank, dims (<g>, rank), ranks from 1; None beyond 2,000
        levels.
    group, effect : str
    largest_first : bool
    note : str
        How such ranks are to be read.
    """

    table: pd.DataFrame
    probabilities: xr.DataArray | None
    group: str
    effect: str
    largest_first: bool
    note: str

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def __repr__(self) -> str:
        """Return the first rows and the warning."""
        first = "largest" if self.largest_first else "smallest"
        shown = self.table.head(10).to_string(index=False, float_format=lambda v: f"{v:.3g}")
        left = len(self.table) - 10
        more = f"... and {left} more: .to_frame()" if left > 0 else ""
        head = f"Ranks of {self.group} by {self.effect}, the {first} first"
        return "\n".join(line for line in (head, shown, more, self.note) if line)


def rank_levels(
    fit: Fitted,
    effect: str | None = None,
    group: str | None = None,
    *,
    largest_first: bool = True,
    prob: float = 0.95,
) -> Ranks:
    """Return the posterior of each level's rank.

    Parameters
    ----------
    fit : Fit
    effect : str, optional
        The effect to rank by; the grouping's first by default.
    group : str, optional
        The grouping factor, the first by default.
    largest_first : bool
        Whether rank 1, the best, is the largest effect.
    prob : float
        Probability of the equal-tailed intervals.

    Returns
    -------
    Ranks
        Its ``table`` has the columns level, n (rows), mean (population plus group effect, link
        scale), expected_rank, rank_low, rank_high, prob_best.

    Raises
    ------
    FitError
        No such grouping or effect, or the draws of the effects were left out and levels are fewer
        than 1,000.

    Notes
    -----
    Without draws of the effects, being beyond ``memory``, 1,000 levels and more are ranked as
    independent normal effects with their exact posterior means and sds, and the result says so.

    Laird and Louis (1989), https://doi.org/10.3102/10769986014001029: expected ranks are the
    posterior means of ranks, which are less spread out than ranks of means.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> ranks = hm.rank_groups(model.fit(seed=1, progress=False))
    >>> ranks.to_frame()["level"].iloc[0]
    'E'
    """
    low, high = tails(prob)
    _, found = find_group(fit, group)
    k = _position(found, effect)
    name = found.coefs[k]
    names, population = population_draws(fit)
    centre = population[:, names.index(name)].mean() if name in names else 0.0
    kept = effect_name(found.name) in dataset(fit, "posterior")
    if not kept and len(found.levels) >= FEWEST_LEVELS:
        mean, sd = _moments(fit, found, k)
        sign = -1.0 if largest_first else 1.0
        four = normal_ranks(sign * mean, sd, (low, high))
        table = _table(found, centre + mean, four, prob)
        note = f"{_NORMAL} {_NOTE}"
        return Ranks(table, None, found.name, name, largest_first, note)
    values = _effects(fit, found)[:, :, k]
    order = np.argsort(-values if largest_first else values, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, values.shape[1] + 1)[None, :], axis=1)
    ends = np.quantile(ranks, (low, high), axis=0)
    four = (ranks.mean(axis=0), ends[0], ends[1], np.mean(ranks == 1, axis=0))
    table = _table(found, centre + values.mean(axis=0), four, prob)
    return Ranks(table, _probabilities(ranks, found), found.name, name, largest_first, _NOTE)


def _table(
    group: Group, mean: Floats, ranks: tuple[Floats, Floats, Floats, Floats], prob: float
) -> pd.DataFrame:
    """Return one row a level, the smallest expected rank first."""
    names = ("expected_rank", "rank_low", "rank_high", "prob_best")
    table = pd.DataFrame(
        {"level": list(group.levels), "n": group.n_rows, "mean": mean}
        | dict(zip(names, ranks, strict=True))
    ).sort_values("expected_rank", kind="stable", ignore_index=True)
    table.attrs["prob"] = prob
    return table


def _moments(fit: Fitted, group: Group, k: int) -> tuple[Floats, Floats]:
    """Return the exact posterior means and sds (J,) of one effect."""
    (own,) = (label for label in labels(fit) if label.name == group.name)
    table = ranef(dataset(fit, "posterior"), dataset(fit, "group_effects"), [own])
    sd = table["sd"].to_numpy()[table["effect"] == group.coefs[k]]
    return effect_means(fit, group)[:, k], np.asarray(sd, dtype=np.float64)


def _position(group: Group, effect: str | None) -> int:
    """Return the position of an effect."""
    if effect is None:
        return 0
    if effect not in group.coefs:
        raise FitError(
            f"got effect {effect!r}; the effects of {group.name} are {', '.join(group.coefs)}"
        )
    return group.coefs.index(effect)


def _effects(fit: Fitted, group: Group) -> Floats:
    """Return the draws of a factor's effects (S, J, q)."""
    posterior = dataset(fit, "posterior")
    name = effect_name(group.name)
    if name not in posterior:
        raise FitError(
            f"The draws of {name} were left out, being beyond memory, and ranks need them. Fit "
            "again with a larger memory, such as memory='8 GB'."
        )
    coords = {group.name: list(group.levels), f"{group.name}_coef": list(group.coefs)}
    values = draws_of(posterior[name].sel(coords).transpose("chain", "draw", *coords))
    return values.reshape(-1, *values.shape[2:])


def _probabilities(ranks: npt.NDArray[np.intp], group: Group) -> xr.DataArray | None:
    """Return how often each level takes each rank (J, J)."""
    S, J = ranks.shape
    if J > MOST_LEVELS:
        return None
    counts = np.stack([np.bincount(ranks[:, j] - 1, minlength=J) for j in range(J)])
    coords = {group.name: list(group.levels), "rank": np.arange(1, J + 1)}
    return xr.DataArray(counts / S, dims=(group.name, "rank"), coords=coords, name="probability")

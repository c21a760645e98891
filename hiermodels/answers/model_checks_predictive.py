"""Posterior predictive checks by family: the whole response, and the means and sds of groups."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from arviz_stats.base.array import array_stats

from hiermodels.answers.model_checks_residuals import Replicated, check_row, level_sds
from hiermodels.fitting.archive import response_name
from hiermodels.spec.names import OBS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Statistic = Callable[[Floats], Any]

# ArviZ's array functions carry no types: what comes from them is Any at the border.
_STATS: Any = array_stats
_PIT_TAIL = 0.01


def _zeros(values: Floats) -> Any:
    return np.mean(values == 0, axis=-1)


def _statistics(data: Replicated) -> dict[str, Statistic]:
    """Return the statistics that speak of a family, by name; all reduce the last axis."""
    if data.kind == "binary":
        return {"share of 1": lambda v: np.mean(v, axis=-1)}
    if data.kind == "ordered":
        labels = data.design.response_levels
        # the default binds each category's own number
        return {
            f"share of {label}": lambda v, k=k: np.mean(v == k, axis=-1)  # type: ignore[misc]
            for k, label in enumerate(labels)
        }
    whole: dict[str, Statistic] = {
        "mean": lambda v: np.mean(v, axis=-1),
        "sd": lambda v: np.std(v, axis=-1),
        "smallest value": lambda v: np.min(v, axis=-1),
        "largest value": lambda v: np.max(v, axis=-1),
    }
    if data.kind == "count":
        del whole["smallest value"]
        whole["share of zeros"] = _zeros
    return whole


def predictive_rows(data: Replicated, realised: Floats | None) -> list[dict[str, Any]]:
    """Return the predictive checks, one row each.

    Parameters
    ----------
    data : Replicated
    realised : ndarray (D, m), optional
        Where continuous responses lie in the predictions of single draws.
    """
    name = data.design.response
    found = []
    for what, statistic in _statistics(data).items():
        seen, drawn = float(statistic(data.y)), np.asarray(statistic(data.simulated))
        found.append(_row(name, what, seen, drawn))
    if realised is not None:
        found.append(_calibration(data, realised))
    for group, index in data.groups():
        levels = len(group.levels)
        means = _level_means(data, index, levels)
        spread = np.std(means[0]), np.std(means[1], axis=1)
        found.append(_row(group.name, "sd of the group means", float(spread[0]), spread[1]))
        rows = np.bincount(index, minlength=levels)
        if data.kind in ("binary", "ordered") or rows.max() < 2:
            continue
        sds = _level_spreads(data, index, levels)
        several = rows >= 2
        average = float(np.mean(sds[0][several])), np.mean(sds[1][:, several], axis=1)
        found.append(_row(group.name, "mean of the group sds", *average))
        largest = float(np.max(sds[0][several])), np.max(sds[1][:, several], axis=1)
        found.append(_row(group.name, "largest group sd", *largest))
    return found


def _row(about: str, what: str, seen: float, drawn: Floats) -> dict[str, Any]:
    """Return one predictive check."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    side = "above" if seen > float(np.median(drawn)) else "below"
    span = f"{low:.4g} to {high:.4g}"
    return check_row(
        "predictive", about, what, seen, drawn,
        f"The {what} of {about}, {seen:.4g}, is as predicted ({span}).",
        f"The {what} of {about}, {seen:.4g}, lies {side} what the model predicts ({span}).",
    )  # fmt: skip


def _calibration(data: Replicated, realised: Floats) -> dict[str, Any]:
    """Return whether rows lie evenly among single draws' predictions, by ArviZ's test of it."""
    # the draws see the same data: the mean of their p-values is as small as any by chance
    p = float(np.mean(_STATS.uniformity_test(realised, axis=-1)[0]))
    fine = p > _PIT_TAIL
    inside = float(np.mean((realised > 0.025) & (realised < 0.975)))
    name = data.design.response
    good = f"Rows of {name} lie evenly among the predictions of single draws"
    bad = f"Rows of {name} do not lie evenly among the predictions of single draws"
    tail = f" (p = {p:.2g}); {100 * inside:.0f} % lie in their 95 % intervals."
    return {
        "check": "predictive",
        "about": name,
        "statistic": "share within 95 % intervals",
        "observed": inside,
        "low": np.nan,
        "high": np.nan,
        "p": p,
        "as_expected": fine,
        "sentence": (good if fine else bad) + tail,
    }


# --- groups ---------------------------------------------------------------------------------


def _sums(values: Floats, index: Ints, levels: int) -> Floats:
    """Return sums over the rows of each level (S, J)."""
    order = np.argsort(index, kind="stable")
    rows = np.bincount(index, minlength=levels)
    present = np.flatnonzero(rows)
    starts = np.r_[0, np.cumsum(rows[present])[:-1]]
    total = np.zeros((len(values), levels))
    total[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
    return total


def _level_means(data: Replicated, index: Ints, levels: int) -> tuple[Floats, Floats]:
    """Return the mean of each level: observed (J,), simulated (S, J)."""
    rows = np.maximum(np.bincount(index, minlength=levels), 1)
    seen = _sums(data.y[None], index, levels)[0] / rows
    return seen, _sums(data.simulated, index, levels) / rows


def _level_spreads(data: Replicated, index: Ints, levels: int) -> tuple[Floats, Floats]:
    """Return the sd of each level: observed (J,), simulated (S, J)."""
    rows = np.bincount(index, minlength=levels)
    scale = np.maximum(rows - 1, 1)
    seen, drawn = _level_means(data, index, levels)
    observed = _sums((data.y - seen[index])[None] ** 2, index, levels)[0]
    simulated = _sums((data.simulated - drawn[:, index]) ** 2, index, levels)
    return np.sqrt(observed / scale), np.sqrt(simulated / scale)


def group_statistics(data: Replicated, residuals: Floats) -> pd.DataFrame:
    """Return each level's mean and sd beside those predicted, and its residuals' mean and sd."""
    parts = []
    for group, index in data.groups():
        levels = len(group.levels)
        rows = np.bincount(index, minlength=levels)
        mean, means = _level_means(data, index, levels)
        sd, sds = _level_spreads(data, index, levels)
        own = pd.DataFrame({"group": group.name, "level": list(group.levels), "n": rows})
        for name, seen, drawn in (("mean", mean, means), ("sd", sd, sds)):
            low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975), axis=0)
            own[name], own[f"{name}_predicted"] = seen, middle
            own[f"{name}_low"], own[f"{name}_high"] = low, high
        own["residual_mean"] = _sums(residuals[None], index, levels)[0] / np.maximum(rows, 1)
        own["residual_sd"] = level_sds(residuals[None], index, levels)[0]
        own.loc[rows < 2, ["sd", "sd_predicted", "sd_low", "sd_high"]] = np.nan
        parts.append(own[rows > 0])
    if not parts:
        return pd.DataFrame(columns=["group", "level", "n", "mean", "sd"])
    return pd.concat(parts, ignore_index=True)


def predictive_tree(data: Replicated, simulated: xr.DataArray) -> xr.DataTree:
    """Return simulated and observed responses, and means and sds of groups, for ArviZ.

    Parameters
    ----------
    data : Replicated
    simulated : xarray.DataArray
        Draws (chain, draw, __obs__), of which the rows used are taken.

    Returns
    -------
    xarray.DataTree
        ``mean_<g>`` and ``sd_<g>`` along ``<g>`` stand beside the response.
    """
    name = response_name(data.design)
    chain, draw = simulated.sizes["chain"], simulated.sizes["draw"]
    coords: dict[str, Any] = {OBS: data.used}
    predicted: dict[str, Any] = {
        name: (("chain", "draw", OBS), data.simulated.reshape(chain, draw, -1))
    }
    observed: dict[str, Any] = {name: ((OBS,), data.y)}
    for group, index in data.groups():
        levels = len(group.levels)
        coords[group.name] = list(group.levels)
        pairs = {"mean": _level_means(data, index, levels)}
        if np.bincount(index, minlength=levels).min() > 1:
            pairs["sd"] = _level_spreads(data, index, levels)
        for what, (seen, drawn) in pairs.items():
            key = f"{what}_{group.name}"
            predicted[key] = (("chain", "draw", group.name), drawn.reshape(chain, draw, -1))
            observed[key] = ((group.name,), seen)
    tree = xr.DataTree.from_dict(
        {
            "posterior_predictive": xr.Dataset(predicted, coords=coords),
            "observed_data": xr.Dataset(observed, coords=coords),
        }
    )
    tree.attrs["categories"] = list(data.design.response_levels) if data.kind == "ordered" else []
    return tree

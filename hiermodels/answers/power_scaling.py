"""Power-scaling: how the posterior moves where a class of priors, or the likelihood, counts more.

By ArviZ. The prior side raises log p(theta) + log p(beta), never the density of group effects,
which belongs to the likelihood's side of the hierarchy as much as to neither; the likelihood side
raises p(y | b, beta, theta), whichever engine drew.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from arviz_stats.psense import psense

from hiermodels.answers.joint_likelihood import joint_log_likelihood
from hiermodels.answers.log_priors import LogPriors
from hiermodels.answers.movable import Block
from hiermodels.engines.responses import PARAMETERS
from hiermodels.errors import FitError
from hiermodels.fitting.fit import Fit
from hiermodels.spec.rowless import product_rows

Floats = npt.NDArray[np.float64]
# ArviZ's functions carry no types: what comes from them is Any at the border.
_PSENSE: Any = psense

_BLOCK = 20_000_000
#: Kinds that are power-scaled: pooling factors and ranks follow from them.
KINDS = ("coefficient", "sd", "correlation", "residual", "parameter")
#: Above which a sensitivity is worth a word; Kallioinen et al. (2024).
THRESHOLD = 0.05


def power_scaling(
    fit: Fit, priors: LogPriors, blocks: tuple[Block, ...]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return sensitivities to power-scaling.

    Parameters
    ----------
    fit : Fit
    priors : LogPriors
        Of the fit's own priors.
    blocks : tuple of Block
        Its quantities.

    Returns
    -------
    table : pandas.DataFrame
        Indexed by quantity: a column for each class of priors (``prior_b``, ``prior_sd``, ...),
        ``prior`` for all together, ``likelihood`` (NaN where it is not known), and ``diagnosis``.
    notes : tuple of str

    References
    ----------
    .. [1] Kallioinen et al. (2024), https://doi.org/10.1007/s11222-023-10366-5.
    """
    posterior = fit.posterior
    shape = posterior.sizes["chain"], posterior.sizes["draw"]
    chosen = [block for block in blocks if block.kind in KINDS]
    names = [name for block in chosen for name in block.names]
    draws = np.column_stack([block.draws for block in chosen]).reshape(*shape, -1)
    moving = np.ptp(draws, axis=(0, 1)) > 0
    names = [name for name, moves in zip(names, moving, strict=True) if moves]
    data = {"posterior": _dataset({"value": draws[:, :, moving]}, names)}
    classes = {
        name: values.reshape(shape) for name, values in priors.classes.items() if np.ptp(values) > 0
    }
    data["log_prior"] = _dataset(classes, None)
    likelihood, notes = _likelihood(fit)
    if likelihood is not None:
        data["log_likelihood"] = _dataset({"y": likelihood.reshape(shape)}, None)
    tree = xr.DataTree.from_dict(data)
    columns = {f"prior_{name}": _sense(tree, "prior", [name]) for name in classes}
    columns["prior"] = _sense(tree, "prior", list(classes))
    known = likelihood is not None
    columns["likelihood"] = (
        _sense(tree, "likelihood", ["y"]) if known else np.full(len(names), np.nan)
    )
    table = pd.DataFrame(columns, index=pd.Index(names, name="quantity", dtype=object))
    table["diagnosis"] = [_diagnosis(row) for _, row in table[["prior", "likelihood"]].iterrows()]
    return table, notes


def _dataset(values: dict[str, Floats], names: list[str] | None) -> xr.Dataset:
    """Return arrays as a dataset of draws."""
    dims = ("chain", "draw") if names is None else ("chain", "draw", "quantity")
    coords = {} if names is None else {"quantity": names}
    return xr.Dataset({name: (dims, array) for name, array in values.items()}, coords=coords)


def _sense(tree: xr.DataTree, group: str, names: list[str]) -> Floats:
    """Return ArviZ's sensitivity of every quantity."""
    found = _PSENSE(tree, group=group, group_var_names=names)
    return np.asarray(found["value"].values, dtype=np.float64)


def _likelihood(fit: Fit) -> tuple[Floats | None, tuple[str, ...]]:
    """Return log p(y | b, beta, theta) by draw (S,), or why it is not known."""
    model, posterior = fit.model, fit.posterior
    if model.family.name not in PARAMETERS:
        why = f"the family {model.family.name} has no density of single rows here"
        return None, (f"The likelihood is not power-scaled: {why}.",)
    take = np.arange(posterior.sizes["chain"] * posterior.sizes["draw"])
    n = len(product_rows(model.design).data)
    parts = np.array_split(take, max(len(take) * n // _BLOCK, 1))
    try:
        found = [joint_log_likelihood(model, posterior, part) for part in parts]
    except FitError as error:
        return None, (f"The likelihood is not power-scaled: {error}",)
    return np.concatenate(found), ()


def _diagnosis(row: "pd.Series[float]") -> str:
    """Return what a pair of sensitivities says."""
    prior, likelihood = float(row["prior"]), float(row["likelihood"])
    if not prior >= THRESHOLD:
        return "the prior hardly matters"
    if np.isnan(likelihood):
        return "the prior matters"
    if likelihood < THRESHOLD:
        return "the prior decides, the data say little"
    return "prior and data both matter, and may disagree"

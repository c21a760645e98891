"""What a fit keeps: draws, moments, data, and what a later session needs, as one DataTree."""

import json
import platform
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermodels.fitting import archive
from hiermodels.fitting.generative import OBS
from hiermodels.fitting.products_archive import products_to_datasets
from hiermodels.fitting.publishing import publish
from hiermodels.fitting.sampling import Draws
from hiermodels.spec.design import Design
from hiermodels.spec.names import CATEGORY_DIM
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.whole import Counted

if TYPE_CHECKING:
    from hiermodels.fitting.model import Model

_PACKAGES = ("hiermodels", "pymc", "nutpie", "arviz", "formulaic", "numpy", "pandas", "xarray")


def fit_tree(model: "Model", drawn: Draws, limit: int, seed: int) -> xr.DataTree:
    """Return the fit's DataTree: draws, moments, data, and what a later session needs."""
    design = model.design
    posterior, moments = publish(
        drawn.coordinates, design, model.resolved, limit, drawn.residual, drawn.moments
    )
    groups: dict[str, xr.Dataset] = {
        "posterior": posterior,
        "sample_stats": drawn.statistics.assign_coords(
            chain=posterior["chain"], draw=posterior["draw"]
        ),
    }
    if isinstance(design, RowlessDesign):
        groups |= products_to_datasets(design)
    else:
        dims = (OBS, CATEGORY_DIM) if design.formula.counts else (OBS,)
        observed = {archive.response_name(design): (dims, design.y)}
        groups["observed_data"] = xr.Dataset(observed)
        groups["constant_data"] = _constant_data(design)
        if int(design.data.memory_usage(deep=True).sum()) <= limit:
            groups["used_data"] = archive.frame_to_dataset(design.data)
    if moments.data_vars:
        groups["group_effects"] = moments
    if model.covariances:
        groups["covariances"] = archive.covariances_to_dataset(model.covariances)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs.update(
        {
            "formula": model.formula.text,
            "family": model.family.name,
            "link": model.family.link,
            "own_family": int(model.family.own is not None),
            "priors": json.dumps({key: prior.exact for key, prior in model.user_priors.items()}),
            "resolved": json.dumps(archive.priors_to_dict(model.resolved)),
            "centred": json.dumps(model.forms_asked),
            "dropped": json.dumps([design.dropped.n, design.dropped.by_column]),
            "reading": json.dumps(asdict(design.reading) if design.reading else None),
            "engine": model.engine_asked,
            "seed": seed,
            "interrupted": int(drawn.interrupted),
            "how": drawn.how,
            "versions": json.dumps({"python": platform.python_version()} | _versions()),
        }
    )
    return tree


@cache
def _versions() -> dict[str, str]:
    """Return the versions of the packages that a fit depends on."""
    return {package: version(package) for package in _PACKAGES}


def _constant_data(design: Design) -> xr.Dataset:
    variables: dict[str, tuple[str, np.ndarray]] = {"offset": (OBS, design.offset)}
    for name in ("trials", "weights", "precision", "se"):
        values = getattr(design, name)
        if values is not None:
            variables[name] = (OBS, values)
    if isinstance(design.whole, Counted):
        variables[archive.COUNTS] = (OBS, design.whole.counts)
    if design.censoring is not None:
        variables["censoring"] = (OBS, design.censoring.kind.astype(np.int8))
        variables["upper"] = (OBS, design.censoring.upper)
    if design.truncation is not None:
        for name, bound in (("lb", design.truncation.lower), ("ub", design.truncation.upper)):
            if bound is not None:
                variables[name] = (OBS, bound)
    return xr.Dataset(variables, coords={OBS: pd.RangeIndex(design.n)})

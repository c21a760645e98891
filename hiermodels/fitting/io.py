"""Saved fits read back: the model is made again from the file, nothing is computed anew."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hiermodels.errors import DataError, FitError
from hiermodels.fitting import archive
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.fitting.products_archive import products_from_datasets
from hiermodels.spec.design import Design, build_design
from hiermodels.spec.distributions import as_prior
from hiermodels.spec.families import Family, as_family
from hiermodels.spec.formula import ModelFormula, parse_formula
from hiermodels.spec.frame import Dropped
from hiermodels.spec.names import OBS, of_parameter
from hiermodels.spec.reading import Reading
from hiermodels.spec.rowless import product_rows


def load(
    path: str | Path, data: pd.DataFrame | None = None, family: "str | Family | Any" = None
) -> Fit:
    """Read a fit that ``fit.save`` wrote.

    Parameters
    ----------
    path : str or Path
    data : pandas.DataFrame, optional
        The data of the fit; needed only where they were beyond ``memory`` and so are not in the
        file. A fit of a source whose rows were not held needs none: its file has the
        cross-products, from which its model can be fitted again under other priors.
    family : Family, optional
        The family of the fit; needed only where it was a user's own, which a file cannot hold.

    Returns
    -------
    Fit
        With the draws, the model, and every prior as it was.

    Raises
    ------
    FitError
        Where the file is missing, damaged, incomplete, or no saved fit.

    Examples
    --------
    >>> import hiermodels as hm
    >>> hm.load("missing.nc")
    Traceback (most recent call last):
    ...
    hiermodels.errors.FitError: There is no file 'missing.nc'. Give a file that fit.save() wrote.
    """
    tree = archive.read(path)
    try:
        return Fit(_model(tree, path, data, family), tree)
    except FitError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise archive.damaged(path, error) from error


def _family(attrs: Mapping[Any, Any], path: str | Path, given: Any) -> Family:
    """Return the family of a saved fit: by its name, or a user's own that is given."""
    name = str(attrs["family"])
    if not attrs.get("own_family", 0):
        return Family(name, str(attrs["link"]))
    found = None if given is None else as_family(given)
    if found is None or found.own is None or found.name != name:
        raise FitError(
            f"{str(path)!r} holds a fit of a family of your own, {name!r}, which a file cannot "
            "hold. Give it: hm.load(path, family=family)."
        )
    return found


def _model(tree: xr.DataTree, path: str | Path, data: pd.DataFrame | None, given: Any) -> Model:
    """Return the model of a saved fit."""
    attrs = tree.attrs
    if archive.PRODUCTS in tree.children:
        return _from_products(tree, path, given)
    if "used_data" in tree.children:
        frame = archive.dataset_to_frame(tree["used_data"].to_dataset())
    elif data is not None:
        frame = data
    else:
        raise FitError(
            f"{str(path)!r} holds the draws but not the data, which were beyond memory when the "
            "model was fitted. Give them: hm.load(path, data=frame)."
        )
    family = _family(attrs, path, given)
    formula = parse_formula(str(attrs["formula"]))
    covariances = _covariances(tree)
    frame, count = _counted(tree, frame)
    try:
        design = build_design(formula, frame, family, covariances, count)
    except DataError as error:
        raise FitError(f"The data given for {str(path)!r} are not those of the fit: {error}") from (
            error
        )
    _check_same(tree, design, path)
    design = replace(design, dropped=_dropped(attrs), reading=_reading(attrs))
    family = family.with_levels(design.response_levels)
    return _as_it_was(tree, design.formula, family, design)


def _covariances(tree: xr.DataTree) -> dict[str, pd.DataFrame] | None:
    """Return the known covariances between levels, None without any."""
    if "covariances" not in tree.children:
        return None
    return archive.covariances_from_dataset(tree["covariances"].to_dataset())


def _counted(tree: xr.DataTree, frame: pd.DataFrame) -> tuple[pd.DataFrame, str | None]:
    """Return the rows with the column that says for how many each stands, None without one."""
    constant = tree["constant_data"].to_dataset()
    if archive.COUNTS not in constant or len(frame) != constant.sizes[OBS]:
        return frame, None
    name = archive.COUNTS
    while name in frame.columns:
        name += "_"
    return frame.assign(**{name: constant[archive.COUNTS].values}), name


def _from_products(tree: xr.DataTree, path: str | Path, given: Any) -> Model:
    """Return the model of a saved fit whose rows were not kept, from its cross-products."""
    family = _family(tree.attrs, path, given)
    formula = parse_formula(str(tree.attrs["formula"]))
    dropped = _dropped(tree.attrs)
    design = products_from_datasets(tree, formula, family, dropped, _covariances(tree))
    return _as_it_was(tree, formula, family, design)


def _dropped(attrs: Mapping[Any, Any]) -> Dropped:
    """Return the rows that were left out."""
    n, by_column = json.loads(attrs["dropped"])
    return Dropped(n, by_column)


def _reading(attrs: Mapping[Any, Any]) -> Reading | None:
    """Return what the rows were read from, None where they were a data frame."""
    # files of before have no such entry
    found = json.loads(attrs.get("reading", "null"))
    return None if found is None else Reading(**{**found, "seconds": tuple(found["seconds"])})


def _as_it_was(tree: xr.DataTree, formula: ModelFormula, family: Family, design: Design) -> Model:
    """Return the model of a design with the priors and forms of the fit."""
    attrs = tree.attrs
    return Model.from_parts(
        formula,
        family,
        design,
        archive.priors_from_dict(json.loads(attrs["resolved"]), product_rows(design)),
        {key: as_prior(text) for key, text in json.loads(attrs["priors"]).items()},
        str(attrs["engine"]),
        json.loads(attrs["centred"]),
    )


def _lost_level(design: Design, posterior: xr.Dataset) -> str:
    """Return the first level's linear predictor that the draws do not have; empty without one."""
    for part in design.parameters:
        dim = of_parameter(part.name, "coef")
        if part.slopes and (dim not in posterior or list(posterior[dim].values) != [*part.slopes]):
            return part.name
    return ""


def _check_same(tree: xr.DataTree, design: Design, path: str | Path) -> None:
    """Raise FitError where the design is not that of the draws."""
    name = archive.response_name(design)
    observed = tree["observed_data"].to_dataset()
    posterior = tree["posterior"].to_dataset()
    difference = None
    if design.n != observed.sizes[OBS]:
        difference = f"{design.n} complete rows, where the fit used {observed.sizes[OBS]}"
    elif name not in observed or not np.array_equal(design.y, observed[name].values):
        difference = f"another response {design.response}"
    elif design.by_level and (lost := _lost_level(design, posterior)):
        difference = f"another coefficient of {lost}"
    elif design.slopes and list(posterior["coef"].values) != list(design.slopes):
        difference = f"the coefficients {', '.join(design.slopes)}"
    else:
        for group in design.groups:
            if list(posterior[group.name].values) != list(group.levels):
                difference = f"other levels of {group.name}"
    if difference:
        raise FitError(
            f"The data given for {str(path)!r} are not those of the fit: they have {difference}. "
            "Give the same data."
        )

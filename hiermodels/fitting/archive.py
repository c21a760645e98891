"""Fits as NetCDF files: written whole or not at all, read back without running anything."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import as_prior
from hiermodels.spec.priors import ResolvedPriors, TermPriors

FORMAT = 1
_MARK = "hiermodels_format"


def response_name(design: Design) -> str:
    """Return the response's name in ``observed_data``: the column's, or ``y``."""
    return design.response if design.response.isidentifier() else "y"


# --- the file -------------------------------------------------------------------------------


def write(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a fit's tree to one file; an older file stays whole if this fails.

    Raises
    ------
    FitError
        Where the file cannot be written.
    """
    target = Path(path)
    marked = tree.copy()
    marked.attrs = {**tree.attrs, _MARK: FORMAT}
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        os.close(handle)
        marked.to_netcdf(temporary, engine="h5netcdf")
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise FitError(
            f"The fit cannot be written to {str(target)!r}: {error.strerror or error}. "
            "Give a file in a folder that exists and can be written to."
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    return target


def read(path: str | Path) -> xr.DataTree:
    """Return the tree of a saved fit, in memory.

    Raises
    ------
    FitError
        Where there is no such file, it is truncated, or it is no saved fit.
    """
    source = Path(path)
    if not source.is_file():
        raise FitError(f"There is no file {str(source)!r}. Give a file that fit.save() wrote.")
    try:
        with xr.open_datatree(source, engine="h5netcdf") as opened:
            tree = opened.load()
    except (OSError, ValueError, KeyError, RuntimeError, EOFError) as error:
        raise FitError(
            f"{str(source)!r} cannot be read as a saved fit: it is damaged, incomplete or of "
            f"another kind ({error}). Save the fit again."
        ) from error
    if tree.attrs.get(_MARK) is None or "posterior" not in tree.children:
        raise FitError(
            f"{str(source)!r} is a NetCDF file, but no fit that hiermodels saved. Give a file "
            "that fit.save() wrote."
        )
    if int(tree.attrs[_MARK]) > FORMAT:
        raise FitError(
            f"{str(source)!r} was written by a newer version (format {tree.attrs[_MARK]}; this "
            f"version reads up to {FORMAT}). Update hiermodels."
        )
    return tree


# --- the columns in use ---------------------------------------------------------------------


def frame_to_dataset(frame: pd.DataFrame) -> xr.Dataset:
    """Return a frame's columns as plain arrays, with what is needed to make it again."""
    variables: dict[str, tuple[str, np.ndarray, dict[str, Any]]] = {}
    for k, name in enumerate(frame.columns):
        variables[f"column_{k}"] = _encode(frame[name], str(name))
    variables["index"] = _encode(pd.Series(frame.index), "")
    return xr.Dataset(variables)


def _encode(column: "pd.Series[Any]", name: str) -> tuple[str, np.ndarray, dict[str, Any]]:
    attrs: dict[str, Any] = {"name": name}
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = [str(level) for level in dtype.categories]
        attrs |= {"kind": "factor", "levels": json.dumps(levels), "ordered": int(dtype.ordered)}
        return "row", column.cat.codes.to_numpy().astype(np.int64), attrs
    if pd.api.types.is_bool_dtype(dtype):
        return "row", column.astype(bool).to_numpy().astype(np.int8), attrs | {"kind": "bool"}
    if pd.api.types.is_integer_dtype(dtype):
        return "row", column.to_numpy(dtype=np.int64), attrs | {"kind": "integer"}
    if pd.api.types.is_numeric_dtype(dtype):
        return "row", column.to_numpy(dtype=np.float64), attrs | {"kind": "number"}
    if pd.api.types.is_datetime64_any_dtype(dtype):
        values = column.astype("datetime64[ns]").astype(np.int64).to_numpy()
        return "row", values, attrs | {"kind": "time"}
    kind = "bool" if all(isinstance(v, bool | np.bool_) for v in column) else "text"
    if kind == "bool":
        return "row", column.astype(bool).to_numpy().astype(np.int8), attrs | {"kind": "bool"}
    codes, levels_found = pd.factorize(column.astype(str), sort=True)
    levels = [str(level) for level in levels_found]
    return "row", codes.astype(np.int64), attrs | {"kind": "text", "levels": json.dumps(levels)}


def dataset_to_frame(dataset: xr.Dataset) -> pd.DataFrame:
    """Return the frame that :func:`frame_to_dataset` was given."""
    index = _decode(dataset["index"])
    count = sum(1 for name in dataset.data_vars if str(name).startswith("column_"))
    arrays = [dataset[f"column_{k}"] for k in range(count)]
    columns = {str(array.attrs["name"]): _decode(array) for array in arrays}
    return pd.DataFrame(columns).set_index(pd.Index(index))


def _decode(array: xr.DataArray) -> Any:
    kind, values = array.attrs["kind"], array.values
    if kind == "factor":
        levels = json.loads(array.attrs["levels"])
        return pd.Categorical.from_codes(values, levels, ordered=bool(array.attrs["ordered"]))
    if kind == "text":
        return np.array(json.loads(array.attrs["levels"]), dtype=object)[values]
    if kind == "bool":
        return values.astype(bool)
    if kind == "time":
        return values.astype("datetime64[ns]")
    return values


# --- priors ---------------------------------------------------------------------------------


def priors_to_dict(priors: ResolvedPriors) -> dict[str, Any]:
    """Return resolved priors as plain values that JSON holds exactly."""
    return {
        "coef": [prior.exact for prior in priors.coef],
        "T": priors.T.tolist(),
        "terms": [
            {
                "sd": [prior.exact for prior in term.sd],
                "cor": None if term.cor is None else term.cor.exact,
                "T": term.T.tolist(),
            }
            for term in priors.terms
        ],
        "sigma": None if priors.sigma is None else priors.sigma.exact,
        "table": priors.table.to_dict(orient="list"),
    }


def priors_from_dict(values: dict[str, Any], design: Design) -> ResolvedPriors:
    """Return the resolved priors of a saved fit, on its design."""
    p = len(design.coefs)
    T = np.asarray(values["T"], dtype=np.float64).reshape(p, p)
    terms = []
    for own, term in zip(values["terms"], design.terms, strict=True):
        q = len(term.coefs)
        own_T = np.asarray(own["T"], dtype=np.float64).reshape(q, q)
        terms.append(
            TermPriors(
                sd=tuple(as_prior(text) for text in own["sd"]),
                cor=None if own["cor"] is None else as_prior(own["cor"]),
                T=own_T,
                # equal to z @ T, but free of cancellation where the bar is centred
                z=term.z_centred + term.z @ (own_T - term.T),
            )
        )
    return ResolvedPriors(
        coef=tuple(as_prior(text) for text in values["coef"]),
        T=T,
        X=design.X_centred + design.X @ (T - design.T),
        terms=tuple(terms),
        sigma=None if values["sigma"] is None else as_prior(values["sigma"]),
        table=pd.DataFrame(values["table"]),
    )

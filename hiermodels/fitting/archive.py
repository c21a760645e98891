"""Fits as NetCDF files: written whole or not at all, read back without running anything."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior, as_prior
from hiermodels.spec.matrices import Columns
from hiermodels.spec.predictors import Predictor
from hiermodels.spec.priors import ParameterPriors, ResolvedPriors, TermPriors
from hiermodels.spec.residual_priors import ResidualPriors

FORMAT = 1
# What HDF5, NetCDF and xarray raise at a file that is not whole.
_UNREADABLE = (OSError, ValueError, LookupError, RuntimeError, EOFError, TypeError, AttributeError)
_MARK = "hiermodels_format"
_ATTRS = ("formula", "family", "link", "priors", "resolved", "centred", "dropped", "seed")
_GROUPS = ("sample_stats", "observed_data", "constant_data")
# For how many equal rows each row stands, where they were counted together.
COUNTS = "row_counts"
# In place of rows, where these were read and not kept.
PRODUCTS = "cross_products"
CODING = "coding_rows"
_ROWLESS_GROUPS = ("sample_stats", PRODUCTS, CODING)


def response_name(design: Design) -> str:
    """Return the response's name in ``observed_data``: the column's, or ``y``."""
    name = design.response
    return name if name.isidentifier() else "y"


# --- the file -------------------------------------------------------------------------------


def write(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a fit's tree to one file; an older file stays whole if this fails.

    Raises
    ------
    FitError
        Where the file cannot be written.
    """
    # a link keeps pointing where it points
    target = Path(os.path.realpath(path))
    marked = tree.copy()
    marked.attrs = {**tree.attrs, _MARK: FORMAT}
    temporary = target.with_name(f".{target.name[:100]}-{uuid.uuid4().hex}")
    try:
        # made in memory: where a disk is full, HDF5 itself loses data without an error that
        # Python could see, and later ends the process
        content = marked.to_netcdf(engine="h5netcdf")
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise FitError(
            f"The fit cannot be written to {str(path)!r}: "
            f"{error.strerror or error}. "
            "Give a file in a folder that exists and can be written to, with room left."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Path(path)


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
    except _UNREADABLE as error:
        raise damaged(source, error) from error
    if tree.attrs.get(_MARK) is None or "posterior" not in tree.children:
        raise FitError(
            f"{str(source)!r} is a NetCDF file, but no fit that hiermodels saved. Give a file "
            "that fit.save() wrote."
        )
    if not str(tree.attrs[_MARK]).isdigit():
        raise damaged(source, ValueError(f"its format is {tree.attrs[_MARK]!r}"))
    if int(tree.attrs[_MARK]) > FORMAT:
        raise FitError(
            f"{str(source)!r} was written by a newer version (format {tree.attrs[_MARK]}; this "
            f"version reads up to {FORMAT}). Update hiermodels."
        )
    missing = [name for name in _ATTRS if name not in tree.attrs]
    groups = _ROWLESS_GROUPS if PRODUCTS in tree.children else _GROUPS
    missing += [name for name in groups if name not in tree.children]
    if missing:
        raise FitError(
            f"{str(source)!r} is damaged: it holds no {missing[0]!r}. Save the fit again."
        )
    return tree


def damaged(path: str | Path, error: Exception) -> FitError:
    """Return the error for a file whose content makes no sense."""
    return FitError(
        f"{str(path)!r} cannot be read as a saved fit: it is damaged, incomplete or of another "
        f"kind ({error}). Save the fit again."
    )


# --- the columns in use ---------------------------------------------------------------------


def frame_to_dataset(frame: pd.DataFrame) -> xr.Dataset:
    """Return a frame's columns as plain arrays, with what is needed to make it again."""
    variables: dict[str, tuple[str, np.ndarray, dict[str, Any]]] = {}
    for k, name in enumerate(frame.columns):
        variables[f"column_{k}"] = _encode(frame[name], str(name))
    index = frame.index
    for k in range(index.nlevels):
        own = index.get_level_values(k)
        label = None if own.name is None else str(own.name)
        if isinstance(own, pd.RangeIndex):
            ends = np.array([own.start, own.stop, own.step])
            variables[f"index_{k}"] = (
                "ends",
                ends,
                {"name": json.dumps(label), "pandas": str(own.dtype), "kind": "range"},
            )
        else:
            variables[f"index_{k}"] = _encode(own.to_series(), label)
    return xr.Dataset(variables)


def _encode(column: "pd.Series[Any]", name: str | None) -> tuple[str, np.ndarray, dict[str, Any]]:
    """Return one column as whole numbers, floats or codes of text levels.

    Levels of a categorical are kept as text, which is how a design reads them.
    """
    # a name as JSON: an index may have none
    attrs: dict[str, Any] = {"name": json.dumps(name), "pandas": str(column.dtype)}
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = [str(level) for level in dtype.categories]
        attrs |= {
            "kind": "factor",
            "levels": json.dumps(levels),
            "ordered": int(bool(dtype.ordered)),
        }
        return "row", column.cat.codes.to_numpy(), attrs
    if pd.api.types.is_datetime64_any_dtype(dtype):
        # text is exact in every resolution and keeps the time zone's offset
        texts = [None if pd.isna(value) else value.isoformat() for value in column]
        return "row", *_coded(pd.Series(texts, dtype=object), attrs | {"kind": "time"})
    if pd.api.types.is_bool_dtype(dtype) or all(isinstance(v, bool | np.bool_) for v in column):
        return "row", column.astype(bool).to_numpy().astype(np.int8), attrs | {"kind": "number"}
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return "row", column.to_numpy(), attrs | {"kind": "number"}
    if pd.api.types.is_integer_dtype(dtype):
        unsigned = pd.api.types.is_unsigned_integer_dtype(dtype)
        values = column.to_numpy(dtype=np.uint64 if unsigned else np.int64)
        return "row", values, attrs | {"kind": "number"}
    if pd.api.types.is_numeric_dtype(dtype):
        return "row", column.to_numpy(dtype=np.float64), attrs | {"kind": "number"}
    return "row", *_coded(column.astype(object), attrs | {"kind": "text"})


def _coded(column: "pd.Series[Any]", attrs: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Return codes of text, -1 where missing, and the attributes with the levels."""
    texts = [None if pd.isna(value) else str(value) for value in column]
    codes, levels = pd.factorize(pd.Series(texts, dtype=object), sort=True)
    return codes.astype(np.int64), attrs | {"levels": json.dumps([str(v) for v in levels])}


def dataset_to_frame(dataset: xr.Dataset) -> pd.DataFrame:
    """Return the frame that :func:`frame_to_dataset` was given, levels as text."""
    columns = _numbered(dataset, "column")
    levels = _numbered(dataset, "index")
    names = [json.loads(array.attrs["name"]) for array in levels]
    values = [_decode(array) for array in levels]
    index = (
        pd.Index(values[0], name=names[0])
        if len(values) == 1
        else pd.MultiIndex.from_arrays(values, names=names)
    )
    made = {json.loads(array.attrs["name"]): _decode(array) for array in columns}
    return pd.DataFrame(made).set_index(index)


def _numbered(dataset: xr.Dataset, stem: str) -> list[xr.DataArray]:
    """Return the arrays stem_0, stem_1, ... in order."""
    found: list[xr.DataArray] = []
    while f"{stem}_{len(found)}" in dataset:
        found.append(dataset[f"{stem}_{len(found)}"])
    return found


def _decode(array: xr.DataArray) -> "pd.Series[Any]":
    kind, values, dtype = array.attrs["kind"], array.values, array.attrs["pandas"]
    if kind == "range":
        return pd.Series(range(*values.tolist()))
    if kind == "number":
        return pd.Series(values.astype(bool) if dtype == "object" else values).astype(dtype)
    levels = json.loads(array.attrs["levels"])
    if kind == "factor":
        ordered = bool(array.attrs["ordered"])
        return pd.Series(pd.Categorical.from_codes(values, levels, ordered=ordered))
    texts = pd.Series([levels[code] if code >= 0 else None for code in values], dtype=object)
    if kind == "time":
        return pd.to_datetime(texts, format="ISO8601", utc=", " in dtype).astype(dtype)
    return texts.astype(dtype) if dtype in ("str", "string") else texts


# --- known covariances ----------------------------------------------------------------------


def covariances_to_dataset(covariances: dict[str, pd.DataFrame]) -> xr.Dataset:
    """Return known covariances between levels as variables, with their levels."""
    variables: dict[str, tuple[tuple[str, str], np.ndarray]] = {}
    coords: dict[str, list[str]] = {}
    for name, frame in covariances.items():
        dims = (f"{name}_level", f"{name}_level_bis")
        variables[name] = (dims, frame.to_numpy())
        coords |= {dim: [str(label) for label in frame.index] for dim in dims}
    return xr.Dataset(variables, coords=coords)


def covariances_from_dataset(dataset: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Return the covariances that :func:`covariances_to_dataset` was given."""
    found = {}
    for name, array in dataset.data_vars.items():
        labels = [str(label) for label in array[array.dims[0]].values]
        found[str(name)] = pd.DataFrame(array.values, labels, labels)
    return found


# --- priors ---------------------------------------------------------------------------------


def priors_to_dict(priors: ResolvedPriors) -> dict[str, Any]:
    """Return resolved priors as plain values that JSON holds exactly."""
    return {
        "coef": [prior.exact for prior in priors.coef],
        "T": priors.T.tolist(),
        "terms": [_term_to_dict(term) for term in priors.terms],
        "parameters": [
            {
                "name": own.name,
                "link": own.link,
                "value": [prior.exact for prior in own.value],
                "coef": [prior.exact for prior in own.coef],
                "T": own.T.tolist(),
                "terms": [_term_to_dict(term) for term in own.terms],
            }
            for own in priors.parameters
        ],
        "shift": priors.shift.tolist(),
        "sigma": None if priors.sigma is None else priors.sigma.exact,
        "residual": None if priors.residual is None else priors.residual.as_dict(),
        "table": priors.table.to_dict(orient="list"),
    }


def _term_to_dict(term: TermPriors) -> dict[str, Any]:
    return {
        "sd": [prior.exact for prior in term.sd],
        "cor": None if term.cor is None else term.cor.exact,
        "T": term.T.tolist(),
        "nu": None if term.nu is None else term.nu.exact,
    }


def priors_from_dict(values: dict[str, Any], design: Design) -> ResolvedPriors:
    """Return the resolved priors of a saved fit, on its design."""
    T, X = _coordinates(values["T"], design)
    # files of the first version have no parameters
    shift = np.asarray(values.get("shift", design.shift), dtype=np.float64)
    if design.thresholds:
        X = np.asarray(X) + (shift - design.shift)
    return ResolvedPriors(
        coef=_priors(values["coef"]),
        T=T,
        matrix=X,
        terms=_terms(values["terms"], design),
        sigma=None if values["sigma"] is None else as_prior(values["sigma"]),
        residual=_residual_priors(values["residual"], design),
        table=pd.DataFrame(values["table"]),
        parameters=tuple(_parameter(own, design) for own in values.get("parameters", ())),
        shift=shift,
    )


def _priors(texts: list[str]) -> tuple[Prior, ...]:
    return tuple(as_prior(text) for text in texts)


def _coordinates(T: Any, part: Predictor) -> tuple[np.ndarray, Columns]:
    """Return T (p, p) and the columns of its coordinates (n, p)."""
    p = len(part.coefs)
    own = np.asarray(T, dtype=np.float64).reshape(p, p)
    # equal to X @ T, but free of cancellation where predictors are centred
    return own, part.centred.moved(own - part.T)


def _terms(values: list[dict[str, Any]], part: Predictor) -> tuple[TermPriors, ...]:
    """Return the priors of a predictor's bars."""
    terms = []
    for own, term in zip(values, part.terms, strict=True):
        q = len(term.coefs)
        T = np.asarray(own["T"], dtype=np.float64).reshape(q, q)
        nu = own.get("nu")
        terms.append(
            TermPriors(
                sd=_priors(own["sd"]),
                cor=None if own["cor"] is None else as_prior(own["cor"]),
                T=T,
                # equal to z @ T, but free of cancellation where the bar is centred
                matrix=term.centred.moved(T - term.T),
                nu=None if nu is None else as_prior(nu),
            )
        )
    return tuple(terms)


def _parameter(values: dict[str, Any], design: Design) -> ParameterPriors:
    """Return the priors of one parameter."""
    name, link = str(values["name"]), str(values["link"])
    part = next((own for own in design.parameters if own.name == name), None)
    if part is None:
        return ParameterPriors(name, link, _priors(values["value"]))
    T, X = _coordinates(values["T"], part)
    return ParameterPriors(
        name, link, (), _priors(values["coef"]), T, X, _terms(values["terms"], part)
    )


def _residual_priors(values: dict[str, Any] | None, design: Design) -> ResidualPriors | None:
    if values is None or design.residual is None:
        return None
    return ResidualPriors.from_dict(values, design.residual)

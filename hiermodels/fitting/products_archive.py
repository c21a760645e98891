"""Cross-products in a saved fit, from which its model is made again without the data."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr

from hiermodels.errors import FitError
from hiermodels.fitting import archive
from hiermodels.fitting.archive import CODING, PRODUCTS
from hiermodels.spec.chunk_coding import Coder, coder_on
from hiermodels.spec.chunk_products import Products
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.frame import Dropped
from hiermodels.spec.grouping import Covariances
from hiermodels.spec.reading import Reading
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.rowless_design import build_rowless
from hiermodels.spec.series_products import SeriesCoder
from hiermodels.spec.survey import Coding, make_plan


def products_to_datasets(design: RowlessDesign) -> dict[str, xr.Dataset]:
    """Return what a design without rows is made of."""
    coder, products = design.coder, design.products
    if coder is None or products is None:
        raise FitError("This design holds no cross-products; make the model again from its data.")
    variables = {
        "keys": ("cell", products.keys),
        "rows": ("cell", products.rows),
        "weights": ("cell", products.weights),
        "cells": (("cell", "entry"), products.cells),
        "total": (("column", "column_bis"), products.total),
        "sums": ("part", products.sums),
        "centre": ("column", coder.centre),
        "scale": ("column", coder.scale),
        "tally_code": ("tally", np.array(list(products.tallies), dtype=np.int64)),
        "tally": ("tally", np.array(list(products.tallies.values()), dtype=np.float64)),
        "series": ("met", products.series),
        "variance": ("cell", products.variance),
        "ends": ("end", np.array(products.ends)),
    }
    if products.present.shape[1]:
        variables["present"] = (("cell", "membership"), products.present)
    if products.plain.shape[1]:
        variables["plain"] = (("cell", "entry"), products.plain)
    found = xr.Dataset(variables)
    reading = design.reading
    found.attrs = {
        "n": products.n,
        "constant": products.constant,
        "kinds": json.dumps(dict(coder.plan.kinds)),
        "factors": json.dumps(_codings(coder.factors)),
        "groups": json.dumps(_codings(coder.cells)),
        "states": json.dumps(_plain(dict(coder.encoding.states))),
        "structure": json.dumps(_structure(design.series)),
        "reading": json.dumps(
            [reading.source, reading.rows, reading.parts, list(reading.seconds)] if reading else []
        ),
    }
    return {PRODUCTS: found, CODING: archive.frame_to_dataset(coder.sample)}


def products_from_datasets(
    tree: xr.DataTree,
    formula: ModelFormula,
    family: Family,
    dropped: Dropped,
    covariances: Covariances | None = None,
) -> Design:
    """Return the design that :func:`products_to_datasets` was given."""
    stored = tree[PRODUCTS].to_dataset()
    attrs = stored.attrs
    kinds = json.loads(attrs["kinds"])
    plan = make_plan(formula, {name: _TYPES.get(kind, pa.string()) for name, kind in kinds.items()})
    factors, cells = (
        {name: _coding(*own) for name, own in json.loads(attrs[key]).items()}
        for key in ("factors", "groups")
    )
    frame = archive.dataset_to_frame(tree[CODING].to_dataset()).reset_index(drop=True)
    for name, coding in factors.items():
        dtype = pd.CategoricalDtype(pd.Index(coding.labels, dtype=object), ordered=coding.ordered)
        frame[name] = pd.Series(pd.Categorical(frame[name].astype(object), dtype=dtype))
    coder = coder_on(formula, family, plan, factors, cells, frame, _lively(attrs["states"]))
    if not np.array_equal(coder.centre, stored["centre"].values) or not np.array_equal(
        coder.scale, stored["scale"].values
    ):
        raise FitError("its cross-products do not fit the columns that they were made of")
    products = Products(
        int(attrs["n"]),
        stored["keys"].values,
        stored["rows"].values,
        stored["weights"].values,
        stored["cells"].values,
        stored["total"].values,
        float(attrs["constant"]),
        stored["sums"].values,
        {
            int(code): float(number)
            for code, number in zip(
                stored["tally_code"].values, stored["tally"].values, strict=True
            )
        },
        stored["series"].values,
        _or_nothing(stored, "present"),
        variance=stored["variance"].values,
        plain=_or_nothing(stored, "plain"),
        ends=(float(stored["ends"][0]), float(stored["ends"][1])),
    )
    source, rows, parts, seconds = json.loads(attrs["reading"])
    reading = Reading(source, rows, parts, tuple(seconds), len(products.keys))
    series = _series(coder, attrs["structure"])
    return build_rowless(coder, products, dropped, reading, series, covariances)


def _or_nothing(stored: xr.Dataset, name: str) -> np.ndarray:
    """Return what is kept of every cell, without columns where it is not."""
    return stored[name].values if name in stored else np.zeros((stored.sizes["cell"], 0))


def _structure(series: SeriesCoder | None) -> Any:
    """Return the codings of a residual structure's series and occasions."""
    if series is None:
        return None
    occasions = series.occasions
    return [_codings(series.series), None if occasions is None else _codings({"": occasions})[""]]


def _series(coder: Coder, text: str) -> SeriesCoder | None:
    """Return what :func:`_structure` was given."""
    structure, term = json.loads(text), coder.formula.residual
    if structure is None or term is None:
        return None
    series = {name: _coding(*own) for name, own in structure[0].items()}
    occasions = None if structure[1] is None else _coding(*structure[1])
    return SeriesCoder(coder, term, series, occasions)


_TYPES = {
    "numbers": pa.float64(),
    "whole numbers": pa.int64(),
    "text": pa.string(),
    "truth values": pa.bool_(),
    "levels of a factor": pa.dictionary(pa.int32(), pa.string()),
}


def _codings(codings: Any) -> dict[str, Any]:
    """Return levels as plain values: the type of the values, the values, labels, order."""
    return {
        name: [_values(own.values), list(own.labels), own.ordered] for name, own in codings.items()
    }


def _values(values: pa.Array) -> list[Any] | None:
    """Return values that JSON holds exactly, None where the labels must do."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return [str(kind), values.to_pylist()]
    return None


def _coding(values: list[Any] | None, labels: list[str], ordered: bool) -> Coding:
    """Return a column's levels."""
    if values is None:
        return Coding(pa.array(labels, pa.string()), tuple(labels), ordered)
    kind, own = values
    return Coding(pa.array(own, pa.type_for_alias(kind)), tuple(labels), ordered)


def _plain(value: Any) -> Any:
    """Return states as JSON takes them; mappings by number become pairs."""
    if isinstance(value, dict):
        return {"pairs": [[_plain(key), _plain(own)] for key, own in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    return value.item() if isinstance(value, np.generic) else value


def _lively(text: str) -> dict[str, Any]:
    """Return the states that :func:`_plain` was given."""

    def back(value: Any) -> Any:
        if isinstance(value, dict) and "array" in value:
            return np.asarray(value["array"])
        if isinstance(value, dict):
            return {back(key): back(own) for key, own in value["pairs"]}
        return [back(own) for own in value] if isinstance(value, list) else value

    found: dict[str, Any] = back(json.loads(text))
    return found

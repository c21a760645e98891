"""What the functions that a formula may call do.

Most are numpy's and formulaic's; ``I`` and ``C`` follow R where formulaic does not.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_transform

from hiermodels.errors import DataError, FormulaError

NUMPY_FUNCTIONS: tuple[str, ...] = (
    "log",
    "log2",
    "log10",
    "log1p",
    "exp",
    "expm1",
    "sqrt",
    "abs",
    "sin",
    "cos",
    "tan",
)
STATEFUL: tuple[str, ...] = ("scale", "center", "poly", "bs", "cr")
FUNCTIONS: tuple[str, ...] = (*NUMPY_FUNCTIONS, "I", "C", *STATEFUL)
CODINGS: tuple[str, ...] = ("treatment", "sum", "helmert", "poly", "diff", "SAS")
PATSY_CODINGS: dict[str, str] = {
    "Treatment": "treatment",
    "Sum": "sum",
    "Helmert": "helmert",
    "Poly": "poly",
    "Diff": "diff",
}


def level_label(level: Any) -> str:
    """Return a level as text: the number 2.0 as ``2``, as R writes it."""
    if isinstance(level, float | np.floating) and float(level).is_integer():
        return str(int(level))
    return str(level)


def identity(values: Any) -> Any:
    """``I()``: the value itself; a truth value is a factor with levels False and True, as in R."""
    if getattr(values, "dtype", None) == np.dtype(bool):
        return as_boolean_factor(pd.Series(values))
    return values


def as_boolean_factor(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return truth values as a factor with the levels False, True; missing stays missing."""
    labels = np.where(values.fillna(False).astype(bool), "True", "False").astype(object)
    labels[values.isna().to_numpy()] = None
    return pd.Series(pd.Categorical(labels, categories=["False", "True"]), index=values.index)


def _factor(
    data: Any,
    contrasts: Any = None,
    *,
    levels: Sequence[Any] | None = None,
    _state: dict[str, Any] | None = None,
) -> Any:
    """``C()``: a factor with a coding; whole numbers become levels such as ``2``, not ``2.0``.

    The levels of the first data are kept, so that new data are coded alike.
    """
    values: pd.Series[Any] = data if isinstance(data, pd.Series) else pd.Series(np.asarray(data))
    if values.dtype == np.dtype(bool):
        values = as_boolean_factor(values)
    elif not isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype("category")
        values = _with_levels(values, [level_label(level) for level in values.cat.categories])
    found = [str(level) for level in values.cat.categories]
    state = {} if _state is None else _state
    known: list[str] = state.setdefault("levels", found)
    new = sorted(set(found) - set(known))
    if new:
        raise DataError(
            f"C() met the level {new[0]!r}, which the fit has not seen; known are "
            f"{', '.join(known[:12])}."
        )
    order = known if levels is None else [level_label(level) for level in levels]
    if sorted(order) != sorted(known):
        raise FormulaError(
            f"C(levels={order}) must hold every level once; the data have {', '.join(known[:12])}."
        )
    values = values.cat.set_categories(pd.Index(order, dtype=object))
    return TRANSFORMS["C"](values, _with_text_base(contrasts, known))


# formulaic keeps the state of what it knows as stateful: the levels, for new data.
factor: Callable[..., Any] = stateful_transform(_factor)


def _with_levels(values: "pd.Series[Any]", labels: list[str]) -> "pd.Series[Any]":
    """Return a factor with its levels renamed."""
    coded = pd.Categorical.from_codes(values.cat.codes.to_numpy(), categories=pd.Index(labels))
    return pd.Series(coded, index=values.index)


def _with_text_base(contrasts: Any, known: list[str]) -> Any:
    """Return a coding whose reference level is text, as levels are: ``Treatment(2)``."""
    base = getattr(contrasts, "base", None)
    if base is None or not dataclasses.is_dataclass(contrasts) or isinstance(contrasts, type):
        return contrasts
    if not isinstance(base, str | int | float):
        return contrasts
    if level_label(base) not in known:
        raise FormulaError(
            f"C() has the reference level {base!r}; the levels are {', '.join(known[:12])}."
        )
    return dataclasses.replace(contrasts, base=level_label(base))


class _NumpyNamespace:
    """What ``np.`` means in a formula: the allowed functions and pi, nothing else."""

    pi = np.pi
    log = np.log
    log2 = np.log2
    log10 = np.log10
    log1p = np.log1p
    exp = np.exp
    expm1 = np.expm1
    sqrt = np.sqrt
    abs = np.abs
    sin = np.sin
    cos = np.cos
    tan = np.tan


def namespace() -> Mapping[str, Any]:
    """Return the names, besides the columns, that a checked expression may use."""
    names: dict[str, Any] = {name: getattr(np, name) for name in NUMPY_FUNCTIONS}
    names |= {name: TRANSFORMS[name] for name in STATEFUL}
    coding = TRANSFORMS["contr"]
    names |= {patsy: getattr(coding, own) for patsy, own in PATSY_CODINGS.items()}
    return names | {"I": identity, "C": factor, "contr": coding, "np": _NumpyNamespace, "pi": np.pi}

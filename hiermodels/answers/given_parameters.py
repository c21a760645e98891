"""Parameters as a user gives them, by the posterior's names, as arrays of their shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hiermodels.answers.vocabulary import Variable
from hiermodels.errors import FitError
from hiermodels.spec.names import indexed

Floats = npt.NDArray[np.float64]


def given_value(variable: Variable, given: dict[str, Any]) -> Floats | None:
    """Take what is given for a variable out of the parameters, as an array of its shape."""
    whole = given.pop(variable.name, None)
    if variable.by is not None:
        return _by_subpopulation(variable, whole, given)
    if len(variable.labels) != 1:
        return None if whole is None else _array(variable, whole)
    labels = variable.labels[0][1]
    elements = {}
    for k, label in enumerate(labels):
        for key in (indexed(variable.name, label), label):
            taken = variable.name == "b" or key != label
            if taken and key in given:
                elements[k] = given.pop(key)
    if whole is None and not elements:
        return None
    values = np.full(len(labels), np.nan) if whole is None else _array(variable, whole)
    for k, value in elements.items():
        values[k] = _number(variable, value)
    missing = [labels[k] for k in np.flatnonzero(np.isnan(values))]
    if missing:
        raise FitError(f"The parameter {indexed(variable.name, missing[0])!r} is not given.")
    return values


def _by_subpopulation(variable: Variable, whole: Any, given: dict[str, Any]) -> Floats | None:
    """Return sds (H, q) or correlations (H, q, q), of each subpopulation as of a whole."""
    labels, rest = variable.labels[0][1], variable.labels[1:]
    if isinstance(whole, Mapping):
        odd = [str(key) for key in whole if key not in labels]
        if odd:
            raise FitError(
                f"{variable.name} is given {odd[0]!r}; its subpopulations are {', '.join(labels)}."
            )
        parts = dict(whole)
    elif whole is None or isinstance(whole, int | float):
        # one correlation is that of every subpopulation; one sd is for none in particular
        parts = {} if whole is None or variable.kind == "sd" else dict.fromkeys(labels, whole)
        if whole is not None and not parts:
            parts = _lines(variable, np.array([whole]), labels)
    else:
        parts = _lines(variable, whole, labels)
    found = []
    for label in labels:
        own = replace(variable, name=indexed(variable.name, label), labels=rest, by=None)
        inside = {own.name: parts[label]} if label in parts else {}
        for coef in rest[-1][1] if variable.kind == "sd" else ():
            key = indexed(variable.name, label, coef)
            if key in given:
                inside[coef] = given.pop(key)
        found.append(_elements(own, inside) if variable.kind == "sd" else given_value(own, inside))
    known = [value for value in found if value is not None]
    if known and len(known) < len(found):
        lacking = labels[next(k for k, value in enumerate(found) if value is None)]
        raise FitError(f"The parameter {indexed(variable.name, lacking)!r} is not given.")
    return np.stack(known) if known else None


def _elements(variable: Variable, inside: dict[str, Any]) -> Floats | None:
    """Return the sds of one subpopulation, given as a whole or effect by effect."""
    renamed = {key if key == variable.name else indexed(variable.name, key): value
               for key, value in inside.items()}  # fmt: skip
    return given_value(variable, renamed)


def _lines(variable: Variable, whole: Any, labels: Sequence[str]) -> dict[str, Any]:
    """Return an array's part for each subpopulation."""
    if np.ndim(whole) == 0 or len(whole) != len(labels):
        raise FitError(
            f"{variable.name} has a line for each subpopulation, which are {', '.join(labels)}; "
            f"got {whole!r}."
        )
    return dict(zip(labels, whole, strict=True))


def _number(variable: Variable, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FitError(f"{variable.name} is given {value!r}, which is no number.") from None


def _array(variable: Variable, value: Any) -> Floats:
    """Return a value as an array of the variable's shape."""
    shape = variable.shape
    if isinstance(value, Mapping):
        labels = variable.labels[0][1] if len(shape) == 1 else ()
        odd = [str(key) for key in value if key not in labels]
        if odd or not labels:
            raise FitError(
                f"{variable.name} is given {odd[0] if odd else 'a mapping'!r}; its labels are "
                f"{', '.join(labels) or 'none'}."
            )
        return np.array([_number(variable, value.get(label, np.nan)) for label in labels])
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise FitError(f"{variable.name} is given {value!r}, which is no number.") from None
    if variable.kind == "correlation" and array.ndim == 0 and shape == (2, 2):
        return np.array([[1.0, array], [array, 1.0]])
    if array.ndim == 0 and shape in ((), (1,)):
        return array.reshape(shape)
    if array.shape != shape:
        wanted = " × ".join(str(size) for size in shape) or "one number"
        raise FitError(
            f"{variable.name} has shape {array.shape}; wanted is {wanted}{labels_text(variable)}."
        )
    return array.copy()


def check_value(variable: Variable, value: Floats) -> None:
    """Raise FitError where a value is out of its range."""
    if not np.isfinite(value).all():
        raise FitError(f"{variable.name} must be finite; got {value.tolist()}.")
    positive = variable.kind in ("sd", "nu") or variable.name in ("sigma", "nu", "shape", "phi")
    if positive and (value < 0).any():
        raise FitError(f"{variable.name} must not be negative; got {value.tolist()}.")
    if variable.name == "zi" and not ((value >= 0) & (value <= 1)).all():
        raise FitError(f"zi is a probability; got {float(value)}.")
    if variable.name in ("ar", "cosy") and not (np.abs(value) < 1).all():
        raise FitError(f"{variable.name} lies between -1 and 1; got {float(value)}.")
    if variable.name == "cutpoints" and not (np.diff(value) > 0).all():
        raise FitError(f"cutpoints must ascend; got {value.tolist()}.")
    if variable.kind == "correlation" and value.ndim > 1:
        diagonal = np.diagonal(value, axis1=-2, axis2=-1)
        symmetric = np.allclose(value, np.swapaxes(value, -1, -2)) and np.allclose(diagonal, 1.0)
        if not symmetric or np.linalg.eigvalsh(value).min() < -1e-8:
            raise FitError(
                f"{variable.name} is no correlation matrix: it must be symmetric, with ones on "
                "its diagonal, and without negative eigenvalues."
            )


def labels_text(variable: Variable) -> str:
    """Return a variable's labels for a message."""
    if not variable.labels:
        return ""
    return f" ({', '.join(variable.labels[-1][1])})"

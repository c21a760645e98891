"""What functions such as ``scale`` and ``poly`` must know of all rows, collected chunk by chunk."""

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_eval, stateful_transform
from numpy.typing import NDArray

from hiermodels.errors import FormulaError
from hiermodels.spec.expressions import Expression, code_name
from hiermodels.spec.formula import ModelFormula
from hiermodels.spec.functions import STATEFUL, as_boolean_factor, level_label, namespace

Array = NDArray[np.float64]
_NODES: Final = (*STATEFUL, "C")
_MOST_DEGREES: Final = 5
# The arguments of bs() in order; cr() begins with the same two.
_SPLINE: Final = (
    "df", "knots", "degree", "include_intercept", "lower_bound", "upper_bound", "extrapolation",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What one call met in some rows.

    Attributes
    ----------
    name : str
        ``"scale"``, ``"poly"``, ``"C"``, ...
    args, kwargs : tuple, dict
        What else the call was given.
    n : int
    mean : float
    powers : tuple of float
        Sums of the powers 2, 3, ... of deviations from the mean.
    low, high : float
    levels : tuple
        Of ``C``: the distinct values, sorted, or a factor's levels in order.
    quantiles : tuple of float
        Of ``bs`` with degrees of freedom: its inner knots, found by passes of their own.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    n: int = 0
    mean: float = 0.0
    powers: tuple[float, ...] = ()
    low: float = math.inf
    high: float = -math.inf
    levels: tuple[Any, ...] = ()
    quantiles: tuple[float, ...] = ()


def has_state(expression: Expression) -> bool:
    """Return whether an expression depends on all rows at once.

    Raises
    ------
    FormulaError
        Where one such function is given what another one returns.
    """
    calls = _calls(ast.parse(expression.code, mode="eval")) if not expression.plain else []
    for call in calls:
        if any(_calls(argument) for argument in (*call.args, *(k.value for k in call.keywords))):
            raise FormulaError(
                f"{expression.label} gives one function of all rows what another one returns, "
                "which a source that is read in passes cannot compute. Compute the inner one "
                "beforehand as a column."
            )
    return bool(calls)


def _calls(tree: ast.AST) -> list[ast.Call]:
    """Return the calls of functions that learn from all rows."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _NODES
    ]


def recorded_factors(formula: ModelFormula) -> dict[str, Expression]:
    """Return the factors that depend on all rows at once by label: of the mean, and of sigma."""
    found = {label: own for label, own in formula.factors.items() if has_state(own)}
    if formula.sigma is not None:
        found |= {label: own for label, own in formula.sigma.factors.items() if learns(own)}
    return found


def learns(expression: Expression) -> bool:
    """Return whether an expression of cells' columns depends on more of the rows than cells."""
    # levels of C() are those of the cells
    return has_state(expression) and not expression.text.startswith("C(")


def record(expression: Expression, columns: Mapping[str, "pd.Series[Any]"]) -> dict[str, Seen]:
    """Return what every such call of an expression meets in some rows, by the call's text."""
    return _record(expression, columns, _look)


def given_values(
    expression: Expression, columns: Mapping[str, "pd.Series[Any]"]
) -> dict[str, Array]:
    """Return the numbers that every such call of an expression is given, by the call's text."""
    return _record(expression, columns, _numbers)


def _numbers(name: str, data: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Array:
    """Return what a call was given as numbers; nothing for factors."""
    return np.zeros(0) if name == "C" else np.asarray(data, dtype=np.float64)


def _record(
    expression: Expression, columns: Mapping[str, "pd.Series[Any]"], look: Callable[..., Any]
) -> dict[str, Any]:
    """Return what a function makes of what every such call meets, by the call's text."""
    names = dict(namespace())
    names |= {name: stateful_transform(partial_recorder(name, look)) for name in _NODES}
    for i, column in enumerate(expression.columns):
        names[code_name(i)] = columns[column]
    state: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        stateful_eval(expression.code, names, {}, state, None)
    return {text: own["seen"] for text, own in state.items()}


def partial_recorder(name: str, look: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that keeps what it is given, in place of the one of that name."""

    def recorder(data: Any, *args: Any, _state: dict[str, Any], **kwargs: Any) -> Any:
        _state["seen"] = look(name, data, args, kwargs)
        return data

    return recorder


def _look(name: str, data: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """Return what a call was given."""
    seen = partial(Seen, name, args, dict(kwargs))
    if name == "C":
        values = data if isinstance(data, pd.Series) else pd.Series(np.asarray(data))
        if values.dtype == np.dtype(bool):
            values = as_boolean_factor(values)
        if isinstance(values.dtype, pd.CategoricalDtype):
            used = values.cat.remove_unused_categories().cat.categories
            every = values.cat.categories
            return seen(levels=tuple((str(v), v in used) for v in every))
        return seen(levels=tuple(np.unique(values.to_numpy()).tolist()))
    x = np.asarray(data, dtype=np.float64)
    mean = float(np.mean(x))
    top = 2 * _MOST_DEGREES if name == "poly" else 2
    left = x - mean
    powers = tuple(float(np.sum(left**k)) for k in range(2, top + 1))
    return seen(n=len(x), mean=mean, powers=powers, low=float(np.min(x)), high=float(np.max(x)))


def add_seen(a: Seen, b: Seen) -> Seen:
    """Return what a call met in the rows of both."""
    if a.name == "C":
        return Seen(a.name, a.args, a.kwargs, levels=_join(a.levels, b.levels))
    n = a.n + b.n
    mean = a.mean + (b.mean - a.mean) * b.n / n
    powers = tuple(x + y for x, y in zip(_shifted(a, mean), _shifted(b, mean), strict=True))
    return Seen(a.name, a.args, a.kwargs, n, mean, powers, min(a.low, b.low), max(a.high, b.high))


def _join(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the levels of both."""
    if first and isinstance(first[0], tuple):
        used = dict(first)
        for level, now in second:
            used[level] = used.get(level, False) or now
        return tuple(used.items())
    return tuple(sorted({*first, *second}))


def _shifted(seen: Seen, mean: float) -> list[float]:
    """Return the sums of powers of deviations from another mean."""
    own = [float(seen.n), 0.0, *seen.powers]
    shift = seen.mean - mean
    return [
        math.fsum(math.comb(k, i) * own[i] * shift ** (k - i) for i in range(k + 1))
        for k in range(2, len(own))
    ]


# --- states ---------------------------------------------------------------------------------


def learnt(expression: Expression, seen: Mapping[str, Seen]) -> dict[str, Any]:
    """Return the state that formulaic's functions would have after all rows, by the call's text.

    Raises
    ------
    FormulaError
        Where a function needs more of the rows than their moments, such as quantiles.
    """
    makers: dict[str, Callable[[Seen, str], dict[str, Any]]] = {
        "C": _factor_state,
        "scale": _scale_state,
        "center": _scale_state,
        "poly": _poly_state,
        "bs": _spline_state,
        "cr": _spline_state,
    }
    return {text: makers[own.name](own, expression.label) for text, own in seen.items()}


def _factor_state(seen: Seen, label: str) -> dict[str, Any]:
    if seen.levels and isinstance(seen.levels[0], tuple):
        return {"levels": [level for level, used in seen.levels if used]}
    return {"levels": [level_label(level) for level in seen.levels]}


def _scale_state(seen: Seen, label: str) -> dict[str, Any]:
    given = dict(zip(("center", "scale", "ddof"), seen.args, strict=False)) | seen.kwargs
    centre, scale = given.get("center", True), given.get("scale", seen.name == "scale")
    ddof = given.get("ddof", 1)
    state: dict[str, Any] = {"ddof": ddof, "center": None, "scale": None}
    if centre is not False:
        state["center"] = np.float64(seen.mean if centre is True else centre)
    if scale is not False:
        about = 0.0 if state["center"] is None else float(state["center"])
        squares = seen.powers[0] + seen.n * (seen.mean - about) ** 2
        own = math.sqrt(squares / (seen.n - ddof)) if seen.n > ddof else math.nan
        state["scale"] = np.float64(own if scale is True else scale)
    return state


def _poly_state(seen: Seen, label: str) -> dict[str, Any]:
    """Return alpha and norms2 of orthogonal polynomials, from the moments."""
    given = dict(zip(("degree", "raw"), seen.args, strict=False)) | seen.kwargs
    degree = int(given.get("degree", 1))
    if given.get("raw", False):
        return {}
    if degree > _MOST_DEGREES:
        raise FormulaError(
            f"{label} is of degree {degree}; from moments of a source that is read in passes "
            f"polynomials up to degree {_MOST_DEGREES} are computed. Take a lower degree, or "
            "raw=True."
        )
    n = float(seen.n)
    sd = math.sqrt(seen.powers[0] / n)
    moments = [n, 0.0, *(s / sd**k for k, s in enumerate(seen.powers, start=2))]

    def product(a: Any, b: Any) -> float:
        both = np.polynomial.polynomial.polymul(a, b)
        return float(sum(c * moments[k] for k, c in enumerate(both)))

    before, own = np.zeros(1), np.ones(1)
    alpha: dict[int, Any] = {}
    norms: dict[int, Any] = {0: product(own, own)}
    for k in range(degree):
        centre = product(np.array([0.0, 1.0]), np.polynomial.polynomial.polymul(own, own))
        centre /= norms[k]
        alpha[k] = np.float64(seen.mean + sd * centre)
        following = np.polynomial.polynomial.polymul(np.array([-centre, 1.0]), own)
        if k:
            ratio = norms[k] / norms[k - 1]
            following = np.polynomial.polynomial.polysub(following, ratio * before)
        before, own = own, following
        norms[k + 1] = product(own, own)
    return {"alpha": alpha, "norms2": {k: np.float64(v * sd ** (2 * k)) for k, v in norms.items()}}


def spline_options(seen: Seen) -> dict[str, Any]:
    """Return what a spline was given besides its numbers, by name."""
    return dict(zip(_SPLINE, seen.args, strict=False)) | seen.kwargs


def n_quantiles(seen: Seen) -> int:
    """Return how many inner knots a call of ``bs`` puts at quantiles of all rows."""
    own = spline_options(seen)
    if seen.name != "bs" or not own.get("df") or own.get("extrapolation", "raise") != "raise":
        return 0
    return max(int(own["df"] - own.get("degree", 3) - bool(own.get("include_intercept"))), 0)


def _spline_state(seen: Seen, label: str) -> dict[str, Any]:
    """Return the state of a spline whose knots are given, or were found."""
    own = spline_options(seen)
    free = own.get("df") is not None or (seen.name == "cr" and own.get("knots") is None)
    if free and seen.quantiles:
        own |= {"df": None, "knots": list(seen.quantiles)}
    elif free and (seen.name == "cr" or own.get("extrapolation", "raise") != "raise"):
        raise FormulaError(
            f"{label} puts its knots at quantiles of distinct values, or of some of the rows, "
            f"which a source that is read in passes does not give. Give the knots: "
            f"{seen.name}(x, knots=[...])."
        )
    if "constraints" in own:
        raise FormulaError(
            f"{label} centres its columns over all rows at once, which a source that is read in "
            "passes does not give. Leave constraints out."
        )
    state: dict[str, Any] = {}
    ends = np.array([seen.low, seen.high])
    try:
        TRANSFORMS[seen.name](ends, **own, _state=state)
    except ValueError as error:
        raise FormulaError(f"{label} cannot be computed: {error}") from error
    return state

"""Prior distributions by name: small frozen values, read from text, and never run as code."""

import ast
import difflib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hiermodels.errors import PriorError

Support = Literal["real", "positive", "unit", "correlation", "interval", "shrinkage"]


@dataclass(frozen=True)
class Signature:
    """A distribution's arguments in PyMC's order, those that must be positive, and defaults."""

    support: Support
    arguments: tuple[str, ...]
    positive: frozenset[str]
    defaults: tuple[tuple[str, float], ...] = ()


def _signature(support: Support, *arguments: str, **defaults: float) -> Signature:
    names = tuple(argument.rstrip("+") for argument in arguments)
    positive = frozenset(argument[:-1] for argument in arguments if argument.endswith("+"))
    return Signature(support, names, positive, tuple(defaults.items()))


DISTRIBUTIONS: dict[str, Signature] = {
    "Normal": _signature("real", "mu", "sigma+", mu=0.0),
    "StudentT": _signature("real", "nu+", "mu", "sigma+", mu=0.0),
    "Cauchy": _signature("real", "alpha", "beta+", alpha=0.0),
    "Laplace": _signature("real", "mu", "b+", mu=0.0),
    "HalfNormal": _signature("positive", "sigma+"),
    "HalfStudentT": _signature("positive", "nu+", "sigma+"),
    "HalfCauchy": _signature("positive", "beta+"),
    "Exponential": _signature("positive", "lam+"),
    "Gamma": _signature("positive", "alpha+", "beta+"),
    "InverseGamma": _signature("positive", "alpha+", "beta+"),
    "LogNormal": _signature("positive", "mu", "sigma+", mu=0.0),
    "Beta": _signature("unit", "alpha+", "beta+"),
    "LKJ": _signature("correlation", "eta+"),
    "Uniform": _signature("interval", "lower", "upper"),
    "Horseshoe": _signature(
        "shrinkage", "scale_global+", "scale_slab+", "df+", "df_global+", "df_slab+",
        df=1.0, df_global=1.0, df_slab=4.0,
    ),
    "R2D2M2": _signature(
        "shrinkage", "mean_R2", "prec_R2+", "cons_D2+", "scale+",
        mean_R2=0.5, prec_R2=2.0, cons_D2=0.5, scale=1.0,
    ),
}  # fmt: skip


JOINT = "R2D2M2"
"""The prior of coefficients and of the sds of group effects together."""

PC = "PC"
"""The penalised-complexity prior of a sd, which is an exponential one."""

FLAT: tuple[str, ...] = ("Flat", "HalfFlat", "flat", "improper")
"""Names of priors that are improper, which are refused."""


def names_for(support: Support) -> str:
    """Return the distributions of a support, as messages list them."""
    names = [name for name, s in DISTRIBUTIONS.items() if s.support == support]
    return ", ".join([*names, PC] if support == "positive" else names)


@dataclass(frozen=True, init=False)
class Prior:
    """A prior distribution: a name and its arguments, as PyMC calls them.

    Parameters
    ----------
    name : str
        ``"Normal"``, ``"StudentT"``, ``"Cauchy"``, ``"Laplace"`` for coefficients;
        ``"HalfNormal"``, ``"HalfStudentT"``, ``"HalfCauchy"``, ``"Exponential"``, ``"Gamma"``,
        ``"InverseGamma"``, ``"LogNormal"`` for standard deviations, and ``"PC"``, the
        penalised-complexity prior with P(sd > u) = alpha; ``"LKJ"`` for correlation matrices;
        ``"Uniform"`` for single correlations; ``"Beta"`` for probabilities; ``"Horseshoe"``, the
        regularised one, for all coefficients together (key ``b``), its scales in units of the
        linear predictor for predictors of sd 1; ``"R2D2M2"`` for all coefficients and the sds of
        the mean's group effects together (key ``b``): R squared is Beta with mean ``mean_R2`` and
        precision ``prec_R2``, and its parts are shared out by a Dirichlet distribution of
        concentration ``cons_D2``; ``scale`` multiplies all of them.
    *values, **arguments : float
        In PyMC's order or by PyMC's names; of PC ``u`` and ``alpha``.

    Raises
    ------
    PriorError
        For a name or an argument that does not exist, or a value that is not allowed.

    Notes
    -----
    PC(u, alpha) is Exponential(-log(alpha) / u). Simpson et al. (2017),
    https://doi.org/10.1214/16-STS576. The regularised horseshoe: Piironen and Vehtari (2017),
    https://doi.org/10.1214/17-EJS1337SI. R2D2M2: Aguilar and Buerkner (2023),
    https://doi.org/10.1214/23-EJS2136.

    Examples
    --------
    >>> Prior("HalfStudentT", nu=3, sigma=20)
    Prior('HalfStudentT(nu=3, sigma=20)')
    >>> print(Prior("PC", u=1, alpha=0.05))
    PC(u=1, alpha=0.05) = Exponential(lam=2.996)
    """

    name: str
    arguments: tuple[tuple[str, float], ...]
    written: str = field(default="", compare=False)

    def __init__(self, name: str, /, *values: float, **arguments: float) -> None:
        object.__setattr__(self, "written", "")
        if name == PC:
            u, alpha = _penalised(values, arguments)
            object.__setattr__(self, "written", f"PC(u={u:.4g}, alpha={alpha:.4g})")
            name, values, arguments = "Exponential", (-math.log(alpha) / u,), {}
        if name in FLAT:
            raise PriorError(
                f"{name} is no distribution: it does not integrate to 1, and where the data "
                "separate, or a group has no rows, neither would the posterior. Give a wide one, "
                "such as Normal(0, 100) for a coefficient or HalfNormal(100) for a sd."
            )
        if not isinstance(name, str) or name not in DISTRIBUTIONS:
            close = difflib.get_close_matches(str(name)[:80], [*DISTRIBUTIONS, PC], n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise PriorError(
                f"The prior distribution {name!r} is not known; allowed are "
                f"{', '.join(DISTRIBUTIONS)}, {PC}.{hint}"
            )
        signature = DISTRIBUTIONS[name]
        given = _bind(name, signature, values, arguments)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", given)

    @property
    def support(self) -> Support:
        """Where it lives: ``"real"``, ``"positive"``, ``"unit"``, ``"interval"``, ...."""
        return DISTRIBUTIONS[self.name].support

    @property
    def values(self) -> tuple[float, ...]:
        """The arguments' values in PyMC's order."""
        return tuple(value for _, value in self.arguments)

    @property
    def exact(self) -> str:
        """The prior as text that reads back to the same numbers."""
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments)})"

    def __str__(self) -> str:
        """Return the prior as text, numbers to four digits; of PC what it is, too."""
        text = f"{self.name}({', '.join(f'{key}={value:.4g}' for key, value in self.arguments)})"
        return f"{self.written} = {text}" if self.written else text

    def __repr__(self) -> str:
        """Return the prior as it could be written."""
        return f"Prior({self.written or str(self)!r})"


def _penalised(values: tuple[float, ...], arguments: dict[str, float]) -> tuple[float, float]:
    """Return u and alpha of a penalised-complexity prior, checked."""
    names = _signature("positive", "u+", "alpha")
    (_, u), (_, alpha) = _bind(PC, names, values, arguments)
    if not 0 < alpha < 1:
        raise PriorError(
            f"PC(u, alpha): alpha is the probability P(sd > u), between 0 and 1; got {alpha!r}."
        )
    return u, alpha


def _bind(
    name: str, signature: Signature, values: tuple[float, ...], arguments: dict[str, float]
) -> tuple[tuple[str, float], ...]:
    """Return the arguments by name, in order, checked."""
    usage = f"{name}({', '.join(signature.arguments)})"
    if len(values) > len(signature.arguments):
        raise PriorError(f"{usage} takes {len(signature.arguments)} arguments; got {len(values)}.")
    # a location that has a default is left out when positional values are fewer: Normal(2)
    # would be ambiguous, so positional arguments are all or none
    if values and len(values) + len(arguments) < len(signature.arguments):
        raise PriorError(f"{usage}: give all arguments, or give them by name.")
    bound = dict(signature.defaults)
    bound |= dict(zip(signature.arguments, values, strict=False))
    for key, value in arguments.items():
        if key not in signature.arguments:
            raise PriorError(
                f"{name} has no argument {key!r}; it takes {', '.join(signature.arguments)}."
            )
        if key in signature.arguments[: len(values)]:
            raise PriorError(f"{usage} got {key!r} twice.")
        bound[key] = value
    missing = [key for key in signature.arguments if key not in bound]
    if missing:
        raise PriorError(f"{usage} misses {', '.join(missing)}.")
    checked: list[tuple[str, float]] = []
    for key in signature.arguments:
        value = bound[key]
        number = _float(value)
        if number is None:
            raise PriorError(f"{usage}: {key} must be a number; got {value!r}.")
        if not math.isfinite(number) or (key in signature.positive and number <= 0):
            allowed = "finite and above 0" if key in signature.positive else "finite"
            raise PriorError(f"{usage}: {key} must be {allowed}; got {number!r}.")
        checked.append((key, number))
    if name == JOINT and not 0 < checked[0][1] < 1:
        raise PriorError(
            f"{usage}: mean_R2 is the mean of R squared, between 0 and 1; got {bound['mean_R2']!r}."
        )
    if name == "Uniform" and checked[0][1] >= checked[1][1]:
        raise PriorError(
            f"{usage}: lower must be below upper; got {bound['lower']!r}, {bound['upper']!r}."
        )
    return tuple(checked)


def _float(value: object) -> float | None:
    """Return a real number as a float, infinite where it is too large; None for anything else."""
    if isinstance(value, bool | np.bool_) or not isinstance(
        value, int | float | np.integer | np.floating
    ):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def as_prior(value: Any) -> Prior:
    """Return a Prior from whatever names one.

    Parameters
    ----------
    value : Prior, str, dict or object
        Text such as ``"Normal(0, 5)"``; a dictionary such as ``{"dist": "Normal", "mu": 0,
        "sigma": 5}``; Bambi's Prior; a distribution of PreliZ, such as ``maxent`` returns.

    Raises
    ------
    PriorError
        Where it cannot be read as one.
    """
    if isinstance(value, Prior):
        return value
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_table(value)
    name, arguments = getattr(value, "name", None), getattr(value, "args", None)
    if isinstance(name, str) and isinstance(arguments, dict):
        return Prior(name, **{str(key): _number(name, key, v) for key, v in arguments.items()})
    if isinstance(value, tuple) and len(value) == 2:
        # what PreliZ returns with plot=True: the distribution, and the axes
        value = value[0]
    if hasattr(value, "params") and hasattr(value, "param_names"):
        return _from_preliz(value)
    raise PriorError(
        f"A prior is text such as 'HalfNormal(sigma=2)' or a Prior; got {type(value).__name__}."
    )


def _from_table(table: Mapping[str, Any]) -> Prior:
    """Return a prior from a table with the key dist."""
    arguments = {str(key): value for key, value in table.items()}
    name = arguments.pop("dist", None)
    if not isinstance(name, str):
        raise PriorError(
            "A prior's dictionary names its distribution by dist, as in {'dist': 'Normal', 'mu': "
            f"0, 'sigma': 5}}; got {dict(table)!r}."
        )
    return Prior(name, **{key: _number(name, key, v) for key, v in arguments.items()})


def _from_preliz(value: Any) -> Prior:
    """Return a prior from a distribution of PreliZ, which bears its name as its class."""
    name = type(value).__name__
    if name not in DISTRIBUTIONS:
        return Prior(name)
    # PreliZ keeps every parametrisation's values as attributes, PyMC's among them
    found = {key: getattr(value, key, None) for key in DISTRIBUTIONS[name].arguments}
    open_ = [key for key, one in found.items() if one is None]
    if open_ or not value.params:
        raise PriorError(
            f"PreliZ's {name} has no value for {', '.join(open_) or 'its parameters'}. Fix them, "
            f"or let preliz.maxent({name}(), lower, upper, mass) choose them."
        )
    return Prior(name, **{key: _number(name, key, one) for key, one in found.items()})


def _number(name: str, key: Any, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise PriorError(f"{name}: {key} must be one number; got {value!r}.") from error


def _from_text(text: str) -> Prior:
    hint = "Write it as a call with numbers, such as 'HalfNormal(sigma=2)' or 'Normal(0, 5)'."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PriorError(f"The prior {text[:80]!r} cannot be read. {hint}") from error
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise PriorError(f"The prior {text[:80]!r} is not a distribution with arguments. {hint}")
    values = [_literal(node, text, hint) for node in tree.args]
    arguments: dict[str, float] = {}
    for keyword in tree.keywords:
        if keyword.arg is None:
            raise PriorError(f"The prior {text[:80]!r} cannot be read. {hint}")
        if keyword.arg in arguments:
            raise PriorError(f"The prior {text[:80]!r} gives {keyword.arg!r} twice. {hint}")
        arguments[keyword.arg] = _literal(keyword.value, text, hint)
    return Prior(tree.func.id, *values, **arguments)


def _literal(node: ast.expr, text: str, hint: str) -> float:
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        node = node.operand
    number = _float(node.value) if isinstance(node, ast.Constant) else None
    if number is not None:
        return sign * number
    raise PriorError(f"The prior {text[:80]!r} has an argument that is no number. {hint}")

"""Families: which values a response may take, and how its mean hangs on the linear predictor."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from hiermodels.errors import DataError, HierModelsError
from hiermodels.spec.frame import in_all, row_label

Array = NDArray[np.float64]
FamilyName = Literal["gaussian", "bernoulli", "binomial", "poisson"]

_ALIASES = {"normal": "gaussian"}
_LARGEST = 1e100
_DEFAULT_LINKS = {
    "gaussian": "identity",
    "bernoulli": "logit",
    "binomial": "logit",
    "poisson": "log",
}
_LINKS_OF = {
    "gaussian": ("identity", "log", "inverse"),
    "bernoulli": ("logit", "probit", "cloglog"),
    "binomial": ("logit", "probit", "cloglog"),
    "poisson": ("log", "identity", "sqrt"),
}


def _cloglog(mu: Array) -> Array:
    return np.asarray(np.log(-np.log1p(-mu)), dtype=np.float64)


def _square(eta: Array) -> Array:
    return np.asarray(eta**2, dtype=np.float64)


def _identity(value: Array) -> Array:
    return value


def _reciprocal(value: Array) -> Array:
    return np.asarray(1.0 / value, dtype=np.float64)


_LINK_FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "identity": (_identity, _identity),
    "log": (np.log, np.exp),
    "inverse": (_reciprocal, _reciprocal),
    "sqrt": (np.sqrt, _square),
    "logit": (special.logit, special.expit),
    "probit": (special.ndtri, special.ndtr),
    "cloglog": (_cloglog, lambda eta: -np.expm1(-np.exp(eta))),
}


@dataclass(frozen=True)
class Family:
    """A response distribution and its link.

    Attributes
    ----------
    name : str
        ``"gaussian"``, ``"bernoulli"``, ``"binomial"`` or ``"poisson"``.
    link : str
        Name of the link: linear predictor = link(mean).

    Examples
    --------
    >>> family = Family("poisson")
    >>> family.link, float(family.linkinv(0.0))
    ('log', 1.0)
    """

    name: str
    link: str = ""

    def __post_init__(self) -> None:
        """Check the names, and fill in the family's usual link."""
        name = _ALIASES.get(self.name, self.name) if isinstance(self.name, str) else self.name
        if not isinstance(name, str) or name not in _DEFAULT_LINKS:
            close = difflib.get_close_matches(str(name).lower(), list(_DEFAULT_LINKS), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise HierModelsError(
                f"The family {self.name!r} is not known; allowed are "
                f"{', '.join(_DEFAULT_LINKS)}.{hint}"
            )
        link = self.link or _DEFAULT_LINKS[name]
        if link not in _LINKS_OF[name]:
            raise HierModelsError(
                f"The family {name} has no link {link!r}; allowed are {', '.join(_LINKS_OF[name])}."
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "link", link)

    @property
    def has_sigma(self) -> bool:
        """Whether the family has a residual standard deviation."""
        return self.name == "gaussian"

    def link_function(self, mu: Any) -> Any:
        """Return the linear predictor at a mean; same shape."""
        return _LINK_FUNCTIONS[self.link][0](mu)

    def linkinv(self, eta: Any) -> Any:
        """Return the mean at a linear predictor; same shape."""
        return _LINK_FUNCTIONS[self.link][1](eta)


def as_family(family: "str | Family | Any", link: str | None = None) -> Family:
    """Return a Family from a name, a Family, or anything with a name and a link (as Bambi's).

    Raises
    ------
    HierModelsError
        For a family or link that is not known.
    """
    if isinstance(family, Family):
        return Family(family.name, link) if link else family
    if isinstance(family, str):
        return Family(family, link or "")
    name = getattr(family, "name", None)
    if not isinstance(name, str):
        raise HierModelsError(
            f"A family is a name or a Family; got {type(family).__name__}. "
            f"Allowed names are {', '.join(_DEFAULT_LINKS)}."
        )
    links = getattr(family, "link", None)
    found = next(iter(links.values()), None) if isinstance(links, dict) else links
    found = getattr(found, "name", found)
    return Family(name, link or (found if isinstance(found, str) else ""))


# --- the response ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Response:
    """The response as numbers.

    Attributes
    ----------
    y : ndarray (n,)
    labels : tuple of str
        For a factor response, its failure and success level; else empty.
    """

    y: Array
    labels: tuple[str, ...] = ()


def as_response(
    values: Any, name: str, family: Family, trials: Array | None, index: "pd.Index[Any]"
) -> Response:
    """Return the response of a family as numbers, or raise DataError at the first bad row."""
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return _factor_response(pd.Series(values), name, family, index)
    try:
        y = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"The response {name} must be one number a row ({error}).") from error
    if y.shape != (len(index),):
        raise DataError(f"The response {name} has shape {y.shape}; it must be one number a row.")
    finite = "must be finite" + (" (log and sqrt take positive numbers)" if "(" in name else "")
    _refuse(~np.isfinite(y), y, name, index, finite)
    _refuse(np.abs(y) > _LARGEST, y, name, index, f"must lie within ±{_LARGEST:g}: divide it")
    if family.name == "bernoulli":
        _refuse(
            (y != 0) & (y != 1),
            y,
            name,
            index,
            "must be 0 or 1, True or False, or a factor with two levels for family='bernoulli'",
        )
    elif family.name in ("binomial", "poisson"):
        _refuse(
            (y < 0) | (y != np.round(y)),
            y,
            name,
            index,
            f"must be a count (0, 1, 2, ...) for family={family.name!r}",
        )
    if family.name == "binomial":
        _check_trials(y, name, trials, index)
    if family.name == "gaussian":
        if family.link in ("log",):
            _refuse(y <= 0, y, name, index, "must be positive for a gaussian family with log link")
        if y.size > 1 and np.ptp(y) == 0:
            raise DataError(
                f"The response {name} is {y[0]:g} in every row; there is nothing to model."
            )
    return Response(y)


def _factor_response(
    values: "pd.Series[Any]", name: str, family: Family, index: "pd.Index[Any]"
) -> Response:
    levels = [str(level) for level in values.cat.categories]
    if family.name != "bernoulli":
        raise DataError(
            f"The response {name} is a factor with levels {', '.join(levels[:6])}; "
            f"family={family.name!r} needs numbers. For two levels use family='bernoulli'."
        )
    if len(levels) != 2:
        raise DataError(
            f"The response {name} is a factor with {len(levels)} "
            f"{'level' if len(levels) == 1 else 'levels'} in the rows used "
            f"({', '.join(levels[:6])}); family='bernoulli' needs two, the second being success."
        )
    return Response(values.cat.codes.to_numpy().astype(np.float64), (levels[0], levels[1]))


def _check_trials(y: Array, name: str, trials: Array | None, index: "pd.Index[Any]") -> None:
    if trials is None:
        raise DataError(
            "family='binomial' needs the number of trials: write "
            f"'{name} | trials(n) ~ ...', or use family='bernoulli' for single trials."
        )
    bad = np.flatnonzero((trials < 1) | (trials != np.round(trials)))
    if bad.size:
        raise DataError(
            f"The number of trials is {trials[bad[0]]:g} at {row_label(index, int(bad[0]))}; it "
            "must be a whole number of at least 1."
        )
    more = np.flatnonzero(y > trials)
    if more.size:
        i = int(more[0])
        raise DataError(
            f"At {row_label(index, i)} there are {y[i]:g} successes in {trials[i]:g} trials; "
            "there cannot be more successes than trials."
        )


def _refuse(bad: NDArray[np.bool_], y: Array, name: str, index: "pd.Index[Any]", must: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        i = int(rows[0])
        raise DataError(
            f"The response {name} is {y[i]:g} at {row_label(index, i)} {in_all(rows.size)}; "
            f"it {must}."
        )

"""Other priors for a model: as a user names them, from a TOML file, or a grid of sensible ones."""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hiermodels.errors import PriorError
from hiermodels.fitting.model import Model
from hiermodels.spec.distributions import JOINT, Prior, as_prior
from hiermodels.spec.names import cor_name, indexed, of_parameter, sd_name
from hiermodels.spec.prior_functions import prior_quantile
from hiermodels.spec.priors import ParameterPriors, ResolvedPriors, TermPriors
from hiermodels.spec.shares import find_shares

Change = Callable[[Prior], Prior | None]
#: How much narrower and wider the grid's priors are.
FACTOR = 4.0
_FILE_HINT = (
    'Write a table for each alternative, such as\n[wide]\nsd = "HalfNormal(sigma=50)"\n'
    'cor = "LKJ(eta=1)"'
)


@dataclass(frozen=True, eq=False)
class Alternative:
    """A model under other priors.

    Attributes
    ----------
    label : str
    model : Model
    """

    label: str
    model: Model


def read_alternatives(path: str | Path) -> dict[str, dict[str, Any]]:
    """Return the alternatives of a TOML file, by label.

    Parameters
    ----------
    path : str or Path
        A table for each alternative, its name the label, its entries priors by key.

    Returns
    -------
    dict of str to dict

    Raises
    ------
    PriorError
        There is no such file, it is not TOML (with the line), or not of tables of priors.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PriorError(f"The alternatives {str(path)!r} cannot be read: {error}.") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PriorError(f"{str(path)!r} is no TOML: {error}. {_FILE_HINT}") from error
    if not tables:
        raise PriorError(f"{str(path)!r} holds no alternative. {_FILE_HINT}")
    for label, table in tables.items():
        odd = not isinstance(table, dict) or any(
            isinstance(one, dict) and "dist" not in one for one in table.values()
        )
        if odd:
            raise PriorError(f"{str(path)!r}: {label!r} is no table of priors. {_FILE_HINT}")
    return tables


def make_alternatives(model: Model, given: Any) -> tuple[Alternative, ...]:
    """Return models under alternative priors.

    Parameters
    ----------
    model : Model
    given : None, sequence of dict, or dict of str to dict
        Priors by key, as ``model.with_priors`` takes them; None for a grid, see :func:`grid`.

    Raises
    ------
    PriorError
        An alternative names no parameter, or its prior does not fit; the message says which.
    """
    if given is None:
        return grid(model)
    pairs = _labelled(given)
    if not pairs:
        raise PriorError("There are no alternatives; give at least one, or None for a grid.")
    found: list[Alternative] = []
    for k, (label, priors) in enumerate(pairs):
        if not isinstance(priors, Mapping) or not priors:
            raise PriorError(
                f"Alternative {k + 1} is {priors!r}; each is a dictionary of priors, such as "
                "{'sd': 'HalfNormal(sigma=50)'}."
            )
        try:
            other = model.with_priors(priors)
            text = "; ".join(f"{key} ~ {as_prior(value)}" for key, value in priors.items())
        except PriorError as error:
            raise PriorError(f"Alternative {k + 1}{f' ({label})' if label else ''}: {error}") from (
                error
            )
        found.append(Alternative(label or text, other))
    return tuple(_distinct(found))


def _labelled(given: Any) -> list[tuple[str, Any]]:
    """Return pairs of a label, empty where there is none, and priors."""
    if isinstance(given, Mapping):
        if given and not any(isinstance(value, Mapping) for value in given.values()):
            raise PriorError(
                "alternatives is a list of dictionaries of priors, or a dictionary of such "
                f"dictionaries by label; got one dictionary of priors. Write [{dict(given)!r}]."
            )
        return [(str(label), priors) for label, priors in given.items()]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [("", priors) for priors in given]
    raise PriorError(
        "alternatives is a list of dictionaries such as [{'sd': 'HalfNormal(sigma=50)'}]; got "
        f"{type(given).__name__}."
    )


def _distinct(found: Sequence[Alternative]) -> list[Alternative]:
    """Return alternatives whose labels differ."""
    seen: dict[str, int] = {}
    out = []
    for one in found:
        seen[one.label] = seen.get(one.label, 0) + 1
        count = seen[one.label]
        out.append(one if count == 1 else replace(one, label=f"{one.label} ({count})"))
    return out


# --- the grid -------------------------------------------------------------------------------


def grid(model: Model) -> tuple[Alternative, ...]:
    """Return alternatives that a careful reader would ask for.

    Each class of priors four times as narrow and as wide; sds under a half normal, an exponential
    and a half Cauchy of the same median; correlations under LKJ(1) and under twice the eta; R
    squared of R2D2M2 with other means, uniform, and shared out more and less evenly. Priors stay in
    the coordinates in which they stand.

    Parameters
    ----------
    model : Model
    """
    found: list[Alternative] = []

    def add(name: str, change: Change, words: str) -> None:
        resolved = change_class(model, name, change)
        if resolved is not None:
            found.append(Alternative(f"{name}: {words}", model.with_resolved(resolved)))

    narrow, wide = f"{FACTOR:g} times as narrow", f"{FACTOR:g} times as wide"
    for name in _classes(model):
        if name.endswith("cor"):
            add(name, lambda prior: Prior("LKJ", 1.0), "LKJ(eta=1)")
            add(name, lambda prior: Prior("LKJ", 2.0 * prior.values[0]), "twice the eta")
            continue
        add(name, lambda prior: rescaled(prior, 1.0 / FACTOR), narrow)
        add(name, lambda prior: rescaled(prior, FACTOR), wide)
        if name.endswith("sd"):
            for family in ("HalfNormal", "Exponential", "HalfCauchy"):
                add(name, lambda prior, family=family: _of_median(family, prior), family)  # type: ignore[misc]
    return (*found, *_laws(model))


def _laws(model: Model) -> list[Alternative]:
    """Return the model under other laws of R squared, where coefficients and sds share it."""
    shares = find_shares(model.resolved)
    if shares is None:
        return []
    even = shares.concentration
    laws = {
        "mean 0.25": {"mean_R2": 0.25},
        "mean 0.75": {"mean_R2": 0.75},
        "uniform": {"mean_R2": 0.5, "prec_R2": 2.0},
        "shared out more evenly": {"cons_D2": 2.0 * even},
        "shared out less evenly": {"cons_D2": 0.5 * even},
    }
    found = []
    for words, values in laws.items():
        other = model
        for name in ("b", "sd"):
            changed = change_class(other, name, lambda prior, new=values: _with(prior, new))  # type: ignore[misc]
            other = other if changed is None else other.with_resolved(changed)
        if other is not model:
            found.append(Alternative(f"R2: {words}", other))
    return found


def _with(prior: Prior, values: Mapping[str, float]) -> Prior | None:
    """Return an R2D2M2 prior with some of its arguments replaced; None for any other."""
    return Prior(JOINT, **(dict(prior.arguments) | dict(values))) if prior.name == JOINT else None


def _classes(model: Model) -> list[str]:
    """Return the names of the classes whose priors can be changed together."""
    resolved = model.resolved
    names = ["b"] if resolved.coef else []
    names += _bar_classes(resolved.terms, "")
    if resolved.residual is not None and resolved.residual.sigma:
        names.append("sigma")
    for own in resolved.parameters:
        names.append(of_parameter(own.name, "b") if own.linear else own.name)
        names += _bar_classes(own.terms, own.name)
    return names


def _bar_classes(terms: Sequence[TermPriors], parameter: str) -> list[str]:
    names = [of_parameter(parameter, "sd")] if terms else []
    return names + [of_parameter(parameter, "cor")] * any(own.cor for own in terms)


def rescaled(prior: Prior, factor: float) -> Prior | None:
    """Return a prior that is wider by a factor, about the same centre; None where none is."""
    values = dict(prior.arguments)
    scale = {"Normal": "sigma", "StudentT": "sigma", "Cauchy": "beta", "Laplace": "b"}
    scale |= {"HalfNormal": "sigma", "HalfStudentT": "sigma", "HalfCauchy": "beta"}
    scale |= {"InverseGamma": "beta", "Horseshoe": "scale_global"}
    if prior.name in scale:
        values[scale[prior.name]] *= factor
    elif prior.name in ("Exponential", "Gamma"):
        values["lam" if prior.name == "Exponential" else "beta"] /= factor
    elif prior.name == "LogNormal":
        values["mu"] += math.log(factor)
    else:
        return None
    return Prior(prior.name, **values)


def _of_median(name: str, prior: Prior) -> Prior | None:
    """Return the prior of a name and one scale with the median of another; None where it is it."""
    if prior.name == name or prior.support == "shrinkage":
        return None
    median = float(prior_quantile(prior, 0.5))
    if name == "Exponential":
        return Prior(name, math.log(2.0) / median)
    unit = Prior(name, 1.0)
    return Prior(name, median / float(prior_quantile(unit, 0.5)))


# --- priors changed where they stand ----------------------------------------------------------


def change_class(model: Model, name: str, change: Change) -> ResolvedPriors | None:
    """Return a model's priors with one class changed; None where nothing changes.

    Parameters
    ----------
    model : Model
    name : str
        ``b`` (coefficients without the intercept), ``sd``, ``cor``, ``sigma``, a parameter of the
        family, or those of its formula, such as ``shape_b``.
    change : callable
        Returns the prior in place of one, None to leave it.
    """
    resolved = model.resolved
    changes: dict[str, Prior] = {}

    def new(prior: Prior, key: str) -> Prior:
        found = change(prior)
        if found is None or found == prior:
            return prior
        changes[key] = found
        return found

    coef, terms = resolved.coef, resolved.terms
    if name == "b":
        coef = _coefficients(resolved.coef, model.design, "", new)
    terms = _terms(resolved.terms, model.design.terms, "", name, new)
    residual, sigma = resolved.residual, resolved.sigma
    if name == "sigma" and residual is not None:
        keys = _sigma_keys(model)
        own = tuple(new(p, key) for p, key in zip(residual.sigma, keys, strict=True))
        residual = replace(residual, sigma=own)
        sigma = own[0] if sigma is not None else None
    parameters = tuple(_parameter(own, model, name, new) for own in resolved.parameters)
    if not changes:
        return None
    table = resolved.table.copy()
    for key, prior in changes.items():
        at = table["parameter"] == key
        table.loc[at, ["prior", "source", "how"]] = [str(prior), "alternative", ""]
    return replace(
        resolved,
        coef=coef,
        terms=terms,
        residual=residual,
        sigma=sigma,
        parameters=parameters,
        table=table,
    )


def _coefficients(
    priors: Sequence[Prior], part: Any, parameter: str, new: Callable[[Prior, str], Prior]
) -> tuple[Prior, ...]:
    """Return coefficients' priors, the intercept's kept."""
    b = of_parameter(parameter, "b")
    return tuple(
        prior if k == part.intercept else new(prior, indexed(b, part.coefs[k]))
        for k, prior in enumerate(priors)
    )


def _terms(
    priors: Sequence[TermPriors],
    terms: Sequence[Any],
    parameter: str,
    name: str,
    new: Callable[[Prior, str], Prior],
) -> tuple[TermPriors, ...]:
    """Return the bars' priors, those of a class changed."""
    found = []
    for own, term in zip(priors, terms, strict=True):
        if name == of_parameter(parameter, "sd"):
            labels = [()] if term.by is None else [(label,) for label in term.by.labels]
            variable = sd_name(term.group, parameter)
            keys = [indexed(variable, *at, coef) for at in labels for coef in term.coefs]
            own = replace(own, sd=tuple(new(p, k) for p, k in zip(own.sd, keys, strict=True)))
        elif name == of_parameter(parameter, "cor") and own.cor is not None:
            own = replace(own, cor=new(own.cor, cor_name(term.group, parameter)))
        found.append(own)
    return tuple(found)


def _sigma_keys(model: Model) -> list[str]:
    """Return what the prior table calls the residual's sds, or its log sd's coefficients."""
    residual = model.design.residual
    sigma = None if residual is None else residual.sigma
    if sigma is None:
        return []
    if sigma.kind == "linear":
        return [
            indexed("sigma_b", column.name) if column.parts else "sigma_Intercept"
            for column in sigma.columns
        ]
    if sigma.kind == "strata":
        return [indexed("sigma", label) for label in sigma.labels]
    return ["sigma"]


def _parameter(
    own: ParameterPriors, model: Model, name: str, new: Callable[[Prior, str], Prior]
) -> ParameterPriors:
    """Return a family parameter's priors, those of a class changed."""
    part = next((p for p in model.design.parameters if p.name == own.name), None)
    if part is None:
        if name != own.name:
            return own
        if len(own.value) == 1:
            return replace(own, value=(new(own.value[0], own.name),))
        same = len(set(own.value)) == 1
        labels = model.design.threshold_labels
        keys = [own.name if same else indexed(own.name, label) for label in labels]
        return replace(own, value=tuple(new(p, k) for p, k in zip(own.value, keys, strict=True)))
    coef = own.coef
    if name == of_parameter(own.name, "b"):
        coef = _coefficients(own.coef, part, own.name, new)
    return replace(own, coef=coef, terms=_terms(own.terms, part.terms, own.name, name, new))

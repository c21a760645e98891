"""A model of Bambi's as a model here."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiermodels.bambi_bridge.names import COMPLEMENTS, complement, mirrored, own_name
from hiermodels.errors import EngineError
from hiermodels.fitting.model import Model
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family, as_family
from hiermodels.spec.names import indexed, of_parameter, sd_name
from hiermodels.spec.predictors import Predictor
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.tokens import split_arguments

Array = NDArray[np.float64]
_CLOSE = 1e-10
_CALL = re.compile(r"\s*(p|prop|proportion|weighted|censored|truncated)\s*\((.*)\)\s*$", re.DOTALL)
_CONSTRAINED = re.compile(r"\s*constrained\s*\(")


def from_bambi(bmb_model: Any) -> Model:
    """Return a ``bambi.Model`` as a model here: formula, data, family and priors.

    A bar ``(x | g)`` of Bambi's is read as ``(x || g)``, which is the model that Bambi fits: it
    has no correlations between group effects. Its prior of the intercept stands at the means of
    all predictors, columns of factors included, where ``center_predictors`` is not False; it
    stands there in the model returned, whose ``Intercept`` in the posterior is raw, as Bambi's is
    after sampling. Priors given later by :meth:`Model.with_priors` replace it by the default.

    Bambi drops what it cannot read in a formula without a word: ``y ~ x | g`` is a regression
    without groups there. Here such a formula is an error. Its default priors are scaled by every
    column of the response: of ``weighted(y, w)`` by the weights too, and of ``truncated(y, lb=0)``
    they are not finite, which is an error here; give priors. Its default prior of the sd of group
    intercepts hangs on where predictors have their zero; it is taken over as it stands.

    Parameters
    ----------
    bmb_model : bambi.Model

    Returns
    -------
    Model

    Raises
    ------
    EngineError
        The model has what is not known here (potentials, Gaussian processes, constant parameters,
        priors with hyperpriors of another kind), or Bambi codes a term in other columns, as
        ``(h | g)`` beside ``(1 | g)`` for a factor h.
    FormulaError, DataError, PriorError
        The formula, the data or a prior is not allowed here.

    Examples
    --------
    >>> import hiermodels as hm
    >>> import bambi as bmb  # doctest: +SKIP
    >>> theirs = bmb.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    ... # doctest: +SKIP
    >>> hm.from_bambi(theirs).formula.text  # doctest: +SKIP
    'Reaction ~ Days + (Days||Subject)'
    """
    _check_known(bmb_model)
    family = as_family(bmb_model.family)
    if family.by_level:
        raise EngineError(
            f"Models of Bambi's with family={family.name!r} are not taken over: its priors are of "
            "all levels together, and here each level has its own. Write hm.Model(formula, data, "
            f"family={family.name!r}, priors=...)."
        )
    components = bmb_model._components
    model = Model(
        _formulas(bmb_model, family), bmb_model.data, family, _required(bmb_model, family)
    )
    parent = bmb_model.family.likelihood.parent
    design = model.design
    user: dict[str, Prior] = {}
    centred: dict[str, Prior] = {}
    parts: dict[str, Any] = {"": design} | {part.name: part for part in design.parameters}
    if design.residual is not None and design.residual.sigma is not None:
        parts.setdefault("sigma", design.residual.sigma)
    for name, component in components.items():
        own = "" if name == parent else own_name(family, name)
        if hasattr(component, "terms"):
            found = _predictor_priors(component, parts[own], own, design)
            at_means = found.pop(of_parameter(own, "Intercept"), None)
            if at_means is not None and _is_centred(bmb_model, component):
                centred[own] = at_means
            elif at_means is not None:
                found[of_parameter(own, "Intercept")] = at_means
            user |= found
        else:
            user |= _constant(component.prior, own, design)
    model = model.with_priors(user)
    resolved = model.resolved
    for own, prior in centred.items():
        resolved = _at_means(resolved, design, own, prior)
    return Model.from_parts(
        model.formula, family, design, resolved, model.user_priors, "auto", "auto"
    )


def _check_known(bmb_model: Any) -> None:
    """Raise EngineError at what has no counterpart here."""
    if bmb_model.potentials:
        raise EngineError("The model has potentials, which have no counterpart here.")
    for component in bmb_model._components.values():
        for name, term in getattr(component, "terms", {}).items():
            if type(term).__name__ == "HSGPTerm":
                raise EngineError(f"The term {name!r} is a Gaussian process, which is not here.")


def _required(bmb_model: Any, family: Family) -> dict[str, Prior]:
    """Return priors of constant parameters that have no default here."""
    if family.own is None:
        return {}
    found = {}
    for name, component in bmb_model._components.items():
        if not hasattr(component, "terms"):
            found[own_name(family, name)] = _prior(component.prior, name)[0]
    return found


# --- the formula ----------------------------------------------------------------------------


def _formulas(bmb_model: Any, family: Family) -> list[str]:
    """Return the formulas in our grammar."""
    left, _, right = bmb_model.formula.main.partition("~")
    formulas = [f"{_response(left)} ~ {_bars(right)}"]
    for text in bmb_model.formula.additionals:
        name, _, right = text.partition("~")
        formulas.append(f"{own_name(family, name.strip())} ~ {_bars(right)}")
    return formulas


def _bars(right: str) -> str:
    """Return a right side whose bars have independent effects."""
    return " ".join(re.sub(r"\|+", "||", right).split())


def _response(left: str) -> str:
    """Return a response with its additions."""
    if _CONSTRAINED.match(left):
        raise EngineError("constrained() has no counterpart here; write truncated().")
    found = _CALL.match(left)
    if found is None:
        return left.strip()
    name, inside = found.groups()
    arguments = [inside[a:b].strip() for a, b in split_arguments(inside, 0, len(inside))]
    y, *rest = arguments
    if name == "weighted":
        return f"{y} | weights({rest[0]})"
    if name == "censored":
        upper = f", {rest[0]}" if len(rest) > 1 else ""
        return f"{y} | cens({rest[-1]}{upper})"
    if name == "truncated":
        named = [
            word if "=" in word else f"{key}={word}"
            for key, word in zip(("lb", "ub"), rest, strict=False)
        ]
        return f"{y} | trunc({', '.join(named)})"
    return f"{y} | trials({rest[0]})"


# --- priors ---------------------------------------------------------------------------------


def _predictor_priors(component: Any, part: Any, own: str, design: Any) -> dict[str, Prior]:
    """Return the priors of one linear predictor by our keys, columns matched by their values."""
    found: dict[str, Prior] = {}
    X = part.X if hasattr(part, "X") else part.predictors[part.strata]
    names = part.coefs if hasattr(part, "coefs") else part.labels
    sign = own in COMPLEMENTS
    taken: set[int] = set()
    for name, term in component.terms.items():
        kind = type(term).__name__
        if kind == "CommonTerm":
            columns = _columns(term.data)
            for column, prior in zip(columns, _prior(term.prior, name, len(columns)), strict=True):
                k = _match(column, X, taken, name)
                taken.add(k)
                key = "Intercept" if k == part.intercept else indexed("b", names[k])
                found[of_parameter(own, key)] = mirrored(prior) if sign else prior
        elif kind == "GroupSpecificTerm":
            _group_priors(name, term, part, own, found)
    _check_complete(taken, names, f"the formula{f' for {own}' if own else ''}")
    for k, term in enumerate(getattr(part, "terms", ())):
        for coef in term.coefs:
            key = indexed(sd_name(term.group, own), coef)
            if key not in found:
                raise EngineError(
                    f"Bambi has no column {coef!r} by {term.group!r} (bar {k + 1}): it codes "
                    "factors of a bar in another way. Write indicator columns in the data."
                )
    return found


def _columns(values: Any) -> list[Array]:
    """Return the columns of a term."""
    array = np.asarray(values, dtype=np.float64)
    return [array] if array.ndim == 1 else list(array.T)


def _match(column: Array, X: Array, taken: set[int], name: str) -> int:
    """Return which of our columns a column of Bambi's is."""
    if len(column) != len(X):
        raise EngineError(
            f"Bambi uses {len(column)} rows, and {len(X)} have all values here. Drop rows with "
            "missing values first."
        )
    for k in range(X.shape[1]):
        if k not in taken and np.allclose(column, X[:, k], rtol=_CLOSE, atol=_CLOSE):
            return k
    raise EngineError(
        f"Bambi codes the term {name!r} in columns that this formula does not have here. Write "
        "its columns into the data and name them in both formulas."
    )


def _check_complete(taken: set[int], names: tuple[str, ...], where: str) -> None:
    """Raise EngineError where one of our columns has no counterpart."""
    missing = [name for k, name in enumerate(names) if k not in taken]
    if missing:
        raise EngineError(
            f"Bambi has no column {missing[0]!r} in {where}: it codes a factor in another way. "
            "Write indicator columns in the data."
        )


def _group_priors(name: str, term: Any, part: Predictor, own: str, found: dict[str, Prior]) -> None:
    """Add the priors of a bar's sds."""
    columns = _columns(term.predictor)
    group = _group_of(term, part)
    prior = term.prior
    sigma = prior.args.get("sigma")
    location = np.asarray(prior.args.get("mu", 0.0))
    if prior.name != "Normal" or not hasattr(sigma, "args") or np.any(location != 0):
        raise EngineError(
            f"The prior of {name!r} is {prior}; group effects here are normal about 0 with a "
            "random sd."
        )
    priors = _prior(sigma, name, len(columns))
    for column, own_prior in zip(columns, priors, strict=True):
        for candidate in part.terms:
            if candidate.group != group:
                continue
            k = _match_effect(column, candidate)
            if k is not None:
                found[indexed(sd_name(group, own), candidate.coefs[k])] = own_prior
                break
        else:
            raise EngineError(
                f"Bambi codes the effects of {name!r} in columns that this formula does not have "
                "here. Write the columns into the data and name them in both formulas."
            )


def _group_of(term: Any, part: Predictor) -> str:
    """Return our grouping whose levels are those of a term."""
    index = np.asarray(term.group_index)
    for candidate in part.terms:
        pairs = np.unique(np.column_stack([index, candidate.index]), axis=0)
        if len(pairs) == len(np.unique(index)) == len(candidate.levels):
            return candidate.group
    raise EngineError(f"The groups of {term.name!r} are not those of a bar here.")


def _match_effect(column: Array, term: Any) -> int | None:
    """Return which effect of a bar a column is."""
    for k in range(len(term.coefs)):
        if np.allclose(column, term.z[:, k], rtol=_CLOSE, atol=_CLOSE):
            return k
    return None


def _prior(prior: Any, name: str, size: int = 1) -> list[Prior]:
    """Return a prior of Bambi's for each column."""
    if isinstance(prior, int | float):
        raise EngineError(f"{name!r} is fixed at {prior}, which is not possible here.")
    if getattr(prior, "dist", None) is not None:
        raise EngineError(f"The prior of {name!r} is a function, which has no counterpart here.")
    arguments: Mapping[str, Any] = prior.args
    values = {
        key: np.broadcast_to(np.asarray(value, dtype=np.float64), (size,))
        for key, value in arguments.items()
        if key != "transform"
    }
    return [
        Prior(prior.name, **{key: float(value[k]) for key, value in values.items()})
        for k in range(size)
    ]


def _constant(prior: Any, own: str, design: Any) -> dict[str, Prior]:
    """Return the priors of a parameter that has no formula."""
    if own == "cutpoints":
        labels = design.threshold_labels
        priors = _prior(prior, "threshold", len(labels))
        return {indexed(own, label): p for label, p in zip(labels, priors, strict=True)}
    found = _prior(prior, own)[0]
    return {own: complement(found) if own in COMPLEMENTS else found}


# --- the intercept's prior at the means -----------------------------------------------------


def _is_centred(bmb_model: Any, component: Any) -> bool:
    """Whether Bambi centres the predictors of a component."""
    slopes = [term for term in component.terms.values() if type(term).__name__ == "CommonTerm"]
    return bool(bmb_model.center_predictors) and len(slopes) > 1


def _at_means(resolved: ResolvedPriors, design: Any, own: str, prior: Prior) -> ResolvedPriors:
    """Return priors with that of an intercept at the means of all columns."""
    table = resolved.table.copy()
    row = table["parameter"] == of_parameter(own, "Intercept")
    words = [str(prior), "user", "at the means", "of all columns, as Bambi centres them"]
    table.loc[row, ["prior", "source", "scale", "how"]] = words
    if not own:
        coef, T, X = _centred(resolved.coef, resolved.T, design.X, design.intercept, prior)
        return replace(resolved, coef=coef, T=T, matrix=X, table=table)
    parts = {part.name: part for part in design.parameters}
    if own in parts:
        part = parts[own]
        theirs = next(p for p in resolved.parameters if p.name == own)
        coef, T, X = _centred(theirs.coef, theirs.T, part.X, part.intercept, prior)
        changed = replace(theirs, coef=coef, T=T, matrix=X)
        parameters = tuple(changed if p.name == own else p for p in resolved.parameters)
        return replace(resolved, parameters=parameters, table=table)
    sigma, residual = design.residual.sigma, resolved.residual
    if residual is None:
        raise EngineError("A formula for sigma has priors; this model has none.")
    share = np.bincount(sigma.strata, minlength=len(sigma.predictors)) / len(sigma.strata)
    coef, T, X = _centred(
        residual.sigma, residual.T, sigma.predictors, sigma.intercept, prior, share
    )
    return replace(resolved, residual=replace(residual, sigma=coef, T=T, predictors=X), table=table)


def _centred(
    priors: tuple[Prior, ...],
    T: Array,
    X: Array,
    at: int | None,
    prior: Prior,
    share: Array | None = None,
) -> tuple[tuple[Prior, ...], Array, Array]:
    """Return coefficients' priors, T and columns with the intercept at the means."""
    means = X.mean(axis=0) if share is None else share @ X
    T = np.eye(len(T))
    means[at] = 0.0
    T[at] -= means
    return tuple(prior if k == at else own for k, own in enumerate(priors)), T, X - means

"""A model here as a model of Bambi's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.answers.counted_rows import every_single_row
from hiermodels.bambi_bridge.names import COMPLEMENTS, bambi_name, complement, mirrored
from hiermodels.errors import EngineError, FitError, PriorError
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.predictors import Predictor
from hiermodels.spec.priors import ParameterPriors, ResolvedPriors, TermPriors
from hiermodels.spec.rowless import need_rows

Array = NDArray[np.float64]
_EXACT = 1e-10
#: Rows that were counted together are handed over one by one up to so many.
MOST_ROWS = 1_000_000


def _cannot(what: str, instead: str) -> EngineError:
    return EngineError(f"Bambi cannot express {what}. {instead}")


def to_bambi(model: Model, drop_correlations: bool = False) -> Any:
    """Return a model as a ``bambi.Model`` with the same columns and the same priors.

    Columns are handed over as they were coded here, each under its coefficient's name, as
    formulae codes some factors in another way: ``(0 + h | g)`` beside ``(1 | g)`` loses a level
    there, and ``(x:h | g)`` the first level's slope. Nested and crossed groups are their observed
    combinations, where formulae would make all of them.

    Where default priors stand at the predictors' means and all predictors are numbers, Bambi
    centres them and puts the intercept's prior there, which is the same; its intercept is then
    raw, as here. Otherwise columns are handed over centred, with names that end in
    ``(at means)``, and Bambi's ``Intercept`` is the one at the means.

    Parameters
    ----------
    model : Model
    drop_correlations : bool
        Bambi has no correlations between group effects: its ``(x | g)`` is what is
        ``(x || g)`` here. True hands a correlated bar over as independent effects, with the same
        priors of their sds on the raw scale of the predictors: another model.

    Returns
    -------
    bambi.Model
        Not yet built; its ``fit()`` samples. Effects of group intercepts and slopes are called
        ``1|g`` and ``x|g`` there. Of zero-inflated and hurdle families ``psi`` is the probability
        of no added zero, one less ``zi`` or ``hu``, and coefficients of its formula have the
        other sign.

    Raises
    ------
    EngineError
        Bambi cannot express the model: correlated group effects or residuals, known variances, a
        covariance between levels, a sd per stratum, a linear predictor for each level of the
        response, or a family of the user's own.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Reaction ~ Days + (Days || Subject)", hm.load_dataset("sleepstudy"))
    >>> bambi_model = hm.to_bambi(model)  # doctest: +SKIP
    """
    import bambi

    if not isinstance(model, Model):
        raise FitError(
            f"to_bambi() takes a model: give hiermodels.Model(...); got {type(model).__name__}."
        )
    need_rows(model.design, "to_bambi()")
    # Bambi weighs rows of few families
    model = every_single_row(model, MOST_ROWS, "to_bambi()")
    design, priors, family = model.design, model.resolved, model.family
    _check_expressible(design, family)
    frame = _Frame()
    centred = _same_centring(design, priors)
    builtin = bambi.defaults.get_builtin_family(family.name)
    parent = builtin.likelihood.parent
    right, own = _component(design, priors, centred, drop_correlations, frame, "")
    given: dict[str, Any] = _as_bambi(own, bambi.Prior)
    formulas = [f"{_response(design, family, frame)} ~ {right}"]
    for name, part, theirs in _parameter_parts(design, priors):
        right, own = _component(part, theirs, centred, drop_correlations, frame, name)
        if name in COMPLEMENTS:
            own = {key: mirrored(prior) if not key[1] else prior for key, prior in own.items()}
        given[bambi_name(family, name)] = _as_bambi(own, bambi.Prior)
        formulas.append(f"{bambi_name(family, name)} ~ {right}")
    given |= _values(design, priors, family, bambi.Prior)
    try:
        return bambi.Model(
            bambi.Formula(*formulas),
            frame.table(),
            family=family.name,
            priors=given,
            link={name: link.name for name, link in builtin.link.items()} | {parent: family.link},
            center_predictors=centred,
        )
    except ValueError as error:
        raise EngineError(f"Bambi does not take this model: {error}") from error


def _check_expressible(design: Design, family: Family) -> None:
    """Raise EngineError at what Bambi has no words for."""
    if family.own is not None:
        raise _cannot("a model by a record of your own family", "Give Bambi the family itself.")
    if family.by_level:
        raise _cannot(
            f"family={family.name!r} with priors of each level's own coefficients",
            "Write its formula for Bambi by hand, with a prior for all levels together.",
        )
    for name in ("precision", "se"):
        if getattr(design, name) is not None:
            raise _cannot(f"{name}()", "Leave it out, or fit the model here.")
    residual = design.residual
    if residual is not None and residual.term is not None:
        raise _cannot(str(residual.term), "Its residuals are independent. Fit the model here.")
    if residual is not None and residual.sigma is not None and residual.sigma.kind == "strata":
        raise _cannot(
            "a sd for each stratum, whose prior is on the sd",
            "Write the formula for sigma with an intercept, such as 'sigma ~ h'.",
        )
    terms = [*design.terms, *(term for part in design.parameters for term in part.terms)]
    for term in terms:
        if not term.plain:
            raise _cannot(f"gr() and mm() of {term.group!r}", "Fit the model here.")


class _Frame:
    """The data handed over: columns under the names that formulas use."""

    def __init__(self) -> None:
        self.columns: dict[str, Any] = {}

    def put(self, name: str, values: Any) -> str:
        """Add a column, and return its name in backticks."""
        values = np.asarray(values)
        while name in self.columns and not np.array_equal(self.columns[name], values):
            name = f"{name}_"
        self.columns[name] = values
        return f"`{name}`"

    def table(self) -> pd.DataFrame:
        """Return the data; levels of groups are categories."""
        texts = {
            name: pd.Categorical(values) if values.dtype.kind in "OU" else values
            for name, values in self.columns.items()
        }
        return pd.DataFrame(texts)


def _parameter_parts(design: Design, priors: ResolvedPriors) -> list[tuple[str, Predictor, Any]]:
    """Return each parameter with a formula: its name, linear predictor and priors."""
    by_name = {own.name: own for own in priors.parameters}
    found: list[tuple[str, Predictor, Any]] = [
        (part.name, part, by_name[part.name]) for part in design.parameters
    ]
    residual, own = design.residual, priors.residual
    if residual is not None and own is not None and residual.sigma is not None:
        sigma = residual.sigma
        if sigma.kind == "linear":
            part = _Linear(sigma.predictors[sigma.strata], sigma.labels, sigma.intercept)
            theirs = ParameterPriors(
                "sigma", "log", (), own.sigma, own.T, own.predictors[sigma.strata]
            )
            found.insert(0, ("sigma", part, theirs))  # type: ignore[arg-type]
    return found


@dataclass(frozen=True, eq=False)
class _Linear:
    """A log-linear sd as a linear predictor without bars."""

    X: Array
    coefs: tuple[str, ...]
    intercept: int | None
    terms: tuple[Any, ...] = ()
    groups: tuple[Any, ...] = ()

    @property
    def offset(self) -> Array:
        """Zeros (n,)."""
        return np.zeros(len(self.X))


def _same_centring(design: Design, priors: ResolvedPriors) -> bool:
    """Whether centring every column gives the coordinates of all priors."""
    parts: list[tuple[Predictor, Any]] = [(design, priors)]
    parts += [(part, own) for _, part, own in _parameter_parts(design, priors)]
    moved = False
    for part, own in parts:
        at = part.intercept
        if at is None or len(part.coefs) == 1:
            continue
        T = np.eye(len(part.coefs))
        T[at] -= np.where(np.arange(len(T)) == at, 0.0, part.X.mean(axis=0))
        if not np.allclose(own.T, T, rtol=_EXACT, atol=0.0):
            return False
        moved = True
    return moved


_Key = tuple[str, bool]


def _component(
    part: Predictor,
    priors: Any,
    centred: bool,
    drop_correlations: bool,
    frame: _Frame,
    of: str,
) -> tuple[str, dict[_Key, Prior]]:
    """Return a formula's right side, and the priors by term and whether the term is a bar."""
    X = part.X if centred else priors.X
    found: dict[_Key, Prior] = {}
    words = ["1" if part.intercept is not None else "0"]
    for k, coef in enumerate(part.coefs):
        if k == part.intercept:
            found["Intercept", False] = priors.coef[k]
            continue
        raw = np.array_equal(X[:, k], part.X[:, k])
        word = frame.put(coef if raw else f"{coef} (at means)", X[:, k])
        words.append(word)
        found[word.strip("`"), False] = priors.coef[k]
    if np.any(part.offset):
        words.append(f"offset({frame.put('offset' if not of else f'{of} offset', part.offset)})")
    for term, own in zip(part.terms, priors.terms, strict=True):
        if term.correlated and not drop_correlations:
            raise _cannot(
                f"correlations between the effects {', '.join(term.coefs)} of {term.group!r}",
                "drop_correlations=True hands them over as independent, as (x || g) is.",
            )
        group = frame.put(term.group, np.array(term.levels, dtype=object)[term.index])
        _bar(term, own, group, frame, words, found)
    return " + ".join(words), found


def _bar(
    term: Any,
    own: TermPriors,
    group: str,
    frame: _Frame,
    words: list[str],
    found: dict[_Key, Prior],
) -> None:
    """Add a bar's effects one by one."""
    for k, (coef, column) in enumerate(zip(term.coefs, term.columns, strict=True)):
        if not column.parts:
            words.append(f"(1|{group})")
            found[f"1|{group.strip('`')}", True] = own.sd[k]
            continue
        word = frame.put(coef, term.z[:, k])
        words.append(f"(0 + {word}|{group})")
        found[f"{word.strip('`')}|{group.strip('`')}", True] = own.sd[k]


def _as_bambi(own: Mapping[_Key, Prior], make: Any) -> dict[str, Any]:
    """Return priors by term as Bambi's: of bars those of normal effects with a random sd."""
    given = {}
    for (name, bar), prior in own.items():
        if prior.support == "shrinkage":
            raise PriorError(
                f"Bambi has no {prior.name} prior of coefficients. Give them others first, such as "
                "model.with_priors({'b': 'Normal(0, 1)'})."
            )
        theirs = make(prior.name, auto_scale=False, **dict(prior.arguments))
        given[name] = make("Normal", auto_scale=False, mu=0, sigma=theirs) if bar else theirs
    return given


def _values(design: Design, priors: ResolvedPriors, family: Family, make: Any) -> dict[str, Any]:
    """Return the priors of parameters that have no formula."""
    given: dict[str, Any] = {}
    if priors.sigma is not None:
        given["sigma"] = make(priors.sigma.name, auto_scale=False, **dict(priors.sigma.arguments))
    for own in priors.parameters:
        if own.linear:
            continue
        prior, name = own.value[0], bambi_name(family, own.name)
        if own.name == "cutpoints":
            given[name] = _thresholds(own.value, family, make)
            continue
        prior = complement(prior) if own.name in COMPLEMENTS else prior
        given[name] = make(prior.name, auto_scale=False, **dict(prior.arguments))
    return given


def _thresholds(priors: Sequence[Prior], family: Family, make: Any) -> Any:
    """Return the prior of all cutpoints, increasing in a cumulative model."""
    import pymc

    if len({prior.name for prior in priors}) > 1:
        raise _cannot("cutpoints with priors of several distributions", "Give them one.")
    arguments: dict[str, Any] = {
        key: np.array([dict(prior.arguments)[key] for prior in priors])
        for key, _ in priors[0].arguments
    }
    if family.name == "cumulative":
        arguments["transform"] = pymc.distributions.transforms.ordered
    return make(priors[0].name, auto_scale=False, **arguments)


def _response(design: Design, family: Family, frame: _Frame) -> str:
    """Return a formula's left side."""
    y: Any = design.y
    if family.ordinal:
        labels = list(design.response_levels)
        names = pd.Index(labels)
        y = pd.Categorical(names[design.y.astype(np.intp)], names, ordered=True)
        frame.columns[design.response] = y
        name = f"`{design.response}`"
    else:
        name = frame.put(design.response, y.astype(np.int64) if family.discrete else y)
    words = {
        "trials": design.trials is not None,
        "weights": design.weights is not None,
        "cens": design.censoring is not None,
        "trunc": design.truncation is not None,
    }
    used = [word for word, there in words.items() if there]
    if len(used) > 1:
        raise _cannot(f"{used[0]}() and {used[1]}() together", "Leave one of them out.")
    if design.trials is not None:
        return f"p({name}, {frame.put('trials', design.trials.astype(np.int64))})"
    if design.weights is not None:
        return f"weighted({name}, {frame.put('weights', design.weights)})"
    if design.censoring is not None:
        if np.any(design.censoring.kind == 2):
            raise _cannot("interval censoring", "Leave those rows out, or fit the model here.")
        kinds = np.array(["left", "none", "right"], dtype=object)
        status = frame.put("censored", kinds[design.censoring.kind + 1])
        return f"censored({name}, {status})"
    if design.truncation is not None:
        bounds = design.truncation
        lower = "" if bounds.lower is None else f", lb={frame.put('lower', bounds.lower)}"
        upper = "" if bounds.upper is None else f", ub={frame.put('upper', bounds.upper)}"
        return f"truncated({name}{lower}{upper})"
    return name

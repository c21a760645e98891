"""Priors of one linear predictor: its coefficients and the sds and correlations of its bars.

The mean and every parameter with a formula go through here; only their scales and names differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hiermodels.errors import PriorError
from hiermodels.spec.distributions import JOINT, Prior
from hiermodels.spec.matrices import Columns, Matrix
from hiermodels.spec.names import cor_name, indexed, nu_name, of_parameter, sd_name
from hiermodels.spec.predictors import Predictor, Term
from hiermodels.spec.residual_priors import Given, Row
from hiermodels.spec.scales import PredictorScale, column_scale, effect_scales, level_weights
from hiermodels.spec.shown import Brief
from hiermodels.spec.whole import Stands

Array = NDArray[np.float64]
AT_MEANS = "at the means"
RAW = "raw"
#: Priors that all coefficients share, by the key of their class.
SHRINKAGE = ("Horseshoe", JOINT)


@dataclass(frozen=True, repr=False)
class TermPriors(Brief):
    """The priors of one bar, and the columns they stand for.

    Attributes
    ----------
    sd : tuple of Prior, length q
        Of the effects' standard deviations, in the coordinates of ``z``; with subpopulations q of
        each, subpopulation by subpopulation.
    cor : Prior or None
        LKJ prior of the effects' correlation matrix; None where they are independent.
    T : ndarray (q, q)
        Raw effects = ``T @`` effects in these coordinates; the identity on the raw scale.
    matrix : Matrix or ndarray (n, q)
        Columns of these coordinates, raw columns ``@ T``; ``z`` as an array.
    nu : Prior or None
        Of the degrees of freedom of Student effects.
    """

    sd: tuple[Prior, ...]
    cor: Prior | None
    T: Array
    matrix: Columns
    nu: Prior | None = None

    @property
    def z(self) -> Array:
        """Columns of these coordinates (n, q)."""
        return np.asarray(self.matrix)


def predictor_keys(part: Predictor, of: str = "") -> list[str]:
    """Return the prior keys of a linear predictor, the general ones first."""
    keys = [of_parameter(of, "Intercept")] if part.intercept is not None else []
    if part.slopes:
        keys.append(of_parameter(of, "b"))
    if part.terms:
        keys.append(of_parameter(of, "sd"))
    for group in part.groups:
        name = sd_name(group.name, of)
        keys += [name, *(indexed(name, coef) for coef in group.coefs)]
    for term in part.terms:
        if term.by is not None:
            name = sd_name(term.group, of)
            keys += [indexed(name, label) for label in term.by.labels]
            keys += [indexed(name, a, b) for a in term.by.labels for b in term.coefs]
        if term.dist == "student":
            keys.append(nu_name(term.group, of))
    correlated = [term.group for term in part.terms if term.correlated]
    if correlated:
        keys.append(of_parameter(of, "cor"))
    return keys + [cor_name(group, of) for group in dict.fromkeys(correlated)]


def slope_keys(part: Predictor, of: str = "") -> list[str]:
    """Return the keys of single coefficients: ``b[x]``."""
    return [indexed(of_parameter(of, "b"), slope) for slope in part.slopes]


def resolve_coefficients(
    part: Predictor,
    given: Given,
    scale: PredictorScale,
    rows: list[Row],
    of: str = "",
    taken: Sequence[str] = (),
) -> tuple[tuple[Prior, ...], Array, Matrix]:
    """Return the coefficients' priors, and the coordinates in which they are independent.

    Parameters
    ----------
    part : Predictor
    given : Given
        The user's priors.
    scale : PredictorScale
    rows : list of Row
        The rows of the prior table, to which these are added.
    of : str
        The parameter; empty for the mean.
    taken : sequence of str
        Keys that no coefficient of the mean answers to by its bare name.

    Returns
    -------
    priors : tuple of Prior, length p
    T : ndarray (p, p)
    X : Matrix (n, p)
    """
    weights = level_weights(part)
    T = part.T.copy()
    moved = np.zeros_like(T)
    priors: list[Prior] = []
    for k in range(len(part.columns)):
        *own, general = _coefficient_keys(part, k, of, taken)
        prior, source = given.find(tuple(own), "real")
        if prior is None:
            # all coefficients together may share the scales of one prior
            also = SHRINKAGE if part.columns[k].parts else ()
            prior, source = given.find((general,), "real", also)
        joint = prior is not None and prior.name == JOINT
        if joint and of:
            raise PriorError(
                f"{JOINT} is a prior of the mean's coefficients and groups, not of {general!r}. "
                "Give these a prior of their own, such as Normal(0, 1)."
            )
        if prior is not None and not joint:
            # a user's prior is on the raw coefficient itself: its row of T is the identity's
            change = T[k].copy()
            change[k] -= 1.0
            moved[k] = -change
            T[k] -= change
        default, how = _default_coefficient(part, k, scale, weights)
        if prior is not None:
            prior, how = _for_column(part, k, prior)
        priors.append(prior or default)
        on = RAW if (prior and not joint) or np.count_nonzero(T[k]) == 1 else AT_MEANS
        rows.append((_coefficient_name(part, k, of), priors[-1], source, on, how))
    return tuple(priors), T, part.centred.moved(moved)


def _for_column(part: Predictor, k: int, prior: Prior) -> tuple[Prior, str]:
    """Return a user's prior of coefficient k, one of standardised predictors scaled to its own."""
    if prior.name not in SHRINKAGE:
        return prior, ""
    spread, how = column_scale(part, k)
    found, words = _for_spread(prior, spread)
    return found, f"{words} / {spread:.4g} ({how} of {part.columns[k].name})"


def _for_spread(prior: Prior, spread: float) -> tuple[Prior, str]:
    """Return a shrinkage prior for a column of this spread, and what of it was divided."""
    names: tuple[str, ...] = ("scale",)
    words = "scale"
    if prior.name != JOINT:
        names, words = ("scale_global", "scale_slab"), "scales"
    values = dict(prior.arguments)
    for name in names:
        values[name] /= spread
    return Prior(prior.name, **values), words


def _coefficient_name(part: Predictor, k: int, of: str) -> str:
    """Return how the prior table calls coefficient k."""
    column = part.columns[k]
    if not column.parts:
        return of_parameter(of, "Intercept")
    return indexed(of_parameter(of, "b"), column.name)


def _coefficient_keys(part: Predictor, k: int, of: str, taken: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of a coefficient's prior, the most specific first.

    A predictor that is called like a variable of the model, such as ``sigma``, is reached by
    ``b[sigma]`` alone: the vocabulary comes before coefficients.
    """
    column = part.columns[k]
    if not column.parts:
        return (of_parameter(of, "Intercept"),)
    own = () if of or column.name in taken else (column.name,)
    return (_coefficient_name(part, k, of), *own, of_parameter(of, "b"))


def _default_coefficient(
    part: Predictor, k: int, scale: PredictorScale, weights: Array | None
) -> tuple[Prior, str]:
    """Return the default prior of coefficient k, and how it was scaled."""
    if not part.columns[k].parts:
        return Prior("Normal", scale.centre, scale.intercept_sd), scale.intercept_how
    if weights is not None and weights[k] != 0:
        mean = scale.centre * float(weights[k])
        return Prior("Normal", mean, scale.intercept_sd), scale.intercept_how
    spread, how = column_scale(part, k)
    free = how == "rms"
    size, text = (scale.slope_rms, scale.rms_how) if free else (scale.slope_sd, scale.slope_how)
    words = f"{text} / {spread:.4g} ({how} of {part.columns[k].name})"
    return Prior("Normal", 0.0, size / spread), words


# --- group effects --------------------------------------------------------------------------


def resolve_term(
    term: Term,
    given: Given,
    scale: PredictorScale,
    rows: list[Row],
    of: str = "",
    whole: Stands = None,
    joint: Prior | None = None,
) -> TermPriors:
    """Return the priors of one bar; one user's prior puts the whole bar on the raw scale.

    A joint prior of coefficients and sds leaves no room for others of these sds, and stays where
    predictors are at their means.
    """
    variable = sd_name(term.group, of)
    sds = [(key, *given.find((*key[1], variable, of_parameter(of, "sd")), "positive"))
           for key in _sd_names(term, variable)]  # fmt: skip
    if joint is not None and any(source == "user" for _, _, source in sds):
        key = next(key[1][0] for key, _, source in sds if source == "user")
        raise PriorError(
            f"{joint.name}, given for 'b', is the prior of {key} too: it shares out one R squared "
            "among coefficients and sds of groups. Leave out the prior of this sd, or give 'b' "
            "another, such as a Horseshoe or Normal(0, 1)."
        )
    cor: Prior | None = None
    cor_source = "default"
    if term.correlated:
        names = (cor_name(term.group, of), of_parameter(of, "cor"))
        cor, cor_source = given.find(names, "correlation")
    raw = cor_source == "user" or any(source == "user" for _, _, source in sds)
    raw = raw and joint is None
    T = np.eye(len(term.coefs)) if raw else term.T
    on = RAW if raw or np.array_equal(term.T, np.eye(len(term.coefs))) else AT_MEANS
    scales = dict(zip(term.coefs, effect_scales(term, whole), strict=True))
    resolved = []
    for (coef, keys), prior, source in sds:
        spread, how = scales[coef]
        words = scale.effect_how
        text = words if how == "1" else f"{words} / {spread:.4g} ({how} of {coef})"
        if joint is not None:
            own, part = _for_spread(joint, spread)
            text = "by 'b'" if how == "1" else f"by 'b', {part} / {spread:.4g} ({how} of {coef})"
            resolved.append(own)
            rows.append((keys[0], own, "user", on, text))
            continue
        resolved.append(prior or Prior("HalfStudentT", 3.0, scale.effect_sd / spread))
        rows.append((keys[0], resolved[-1], source, on, "" if prior else text))
    if term.correlated:
        cor = cor or Prior("LKJ", 2.0)
        effects = ", ".join(term.coefs)
        rows.append((cor_name(term.group, of), cor, cor_source, on, f"of {effects}"))
    matrix = term.matrix if raw else term.centred
    return TermPriors(tuple(resolved), cor, T, matrix, _student(term, given, rows, of))


def _sd_names(term: Term, variable: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return for each sd its effect, and its keys from the most specific one."""
    if term.by is None:
        return [(coef, (indexed(variable, coef),)) for coef in term.coefs]
    return [
        (coef, (indexed(variable, label, coef), indexed(variable, coef), indexed(variable, label)))
        for label in term.by.labels
        for coef in term.coefs
    ]


def _student(term: Term, given: Given, rows: list[Row], of: str) -> Prior | None:
    """Return the prior of the degrees of freedom of Student effects."""
    if term.dist != "student":
        return None
    name = nu_name(term.group, of)
    prior, source = given.find((name,), "positive")
    rows.append((name, prior or Prior("Gamma", 2.0, 0.1), source, RAW, ""))
    return prior or Prior("Gamma", 2.0, 0.1)

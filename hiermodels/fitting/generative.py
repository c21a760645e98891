"""The generative model as PyMC: group effects explicit, dims named, usable by hand.

Free variables stand where their priors stand (at the predictors' means for default priors);
everything published on the raw scale is a deterministic function of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from hiermodels.engines.assembly import check_simple_residual
from hiermodels.engines.conditional import Coordinates
from hiermodels.spec.design import Design, Group, Term
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.names import coef_dim, coef_dim_bis, cor_name, effect_name, indexed, sd_name
from hiermodels.spec.priors import ResolvedPriors, TermPriors

OBS = "obs"


@dataclass(frozen=True)
class VectorName:
    """How a vector of parameters is called: one variable, or one for each element.

    Attributes
    ----------
    names : tuple of str
        One name for a vector variable, else a name for each element.
    size : int
    """

    names: tuple[str, ...]
    size: int

    def read(self, posterior: xr.Dataset) -> np.ndarray:
        """Return the draws (chain, draw, size)."""
        if len(self.names) == 1 and posterior[self.names[0]].ndim == 3:
            return np.asarray(posterior[self.names[0]].values)
        return np.stack([posterior[name].values for name in self.names], axis=-1)


@dataclass(frozen=True)
class BarNames:
    """The free variables of one bar.

    Attributes
    ----------
    sd : VectorName
    partial : str or None
        Partial correlations on (0, 1); None where uncorrelated.
    effects : str
        Group effects, or their standard normal scores.
    centred : bool
    """

    sd: VectorName
    partial: str | None
    effects: str
    centred: bool


@dataclass(frozen=True)
class Generative:
    """A PyMC model and the record of its free variables.

    Attributes
    ----------
    model : pymc.Model
    coef : tuple of (VectorName, tuple of int)
        Free variables of the coefficients and their columns.
    bars : tuple of BarNames
    sigma : str or None
    """

    model: pm.Model
    coef: tuple[tuple[VectorName, tuple[int, ...]], ...]
    bars: tuple[BarNames, ...]
    sigma: str | None

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free variables."""
        return tuple(variable.name for variable in self.model.free_RVs)

    def coordinates(self, posterior: xr.Dataset, design: Design) -> Coordinates:
        """Return draws of the free variables as the coordinates that engines share."""
        shape = (posterior.sizes["chain"], posterior.sizes["draw"])
        coef = np.empty((*shape, len(design.coefs)))
        for vector, columns in self.coef:
            coef[..., list(columns)] = vector.read(posterior)
        sds, chols, effects = [], [], []
        for names, term in zip(self.bars, design.terms, strict=True):
            q = len(term.coefs)
            sd = names.sd.read(posterior)
            chol = np.broadcast_to(np.eye(q), (*shape, q, q))
            if names.partial is not None:
                chol = _cholesky_of_partials(posterior[names.partial].values, q)
            values = posterior[names.effects].values
            if not names.centred:
                values = np.einsum("...jk,...ik->...ji", values, sd[..., :, None] * chol)
            sds.append(sd)
            chols.append(chol)
            effects.append(values)
        sigma = None if self.sigma is None else posterior[self.sigma].values
        return Coordinates(coef, tuple(sds), tuple(chols), tuple(effects), sigma)


def build_generative(
    design: Design, family: Family, priors: ResolvedPriors, centred: Sequence[bool]
) -> Generative:
    """Return the PyMC model of a design under resolved priors.

    Parameters
    ----------
    design : Design
    family : Family
    priors : ResolvedPriors
    centred : sequence of bool
        The form of each bar.

    Raises
    ------
    EngineError
        The residuals are correlated, or have more than one sd.
    """
    check_simple_residual(design)
    with pm.Model(coords=_coords(design)) as model:
        coef, linear = _population(design, priors)
        bars = []
        raw: dict[str, list[Any]] = {}
        for k, (term, own) in enumerate(zip(design.terms, priors.terms, strict=True)):
            names, effects, parts = _bar(design, k, term, own, bool(centred[k]))
            bars.append(names)
            raw.setdefault(term.group, []).append(parts)
            z = _data(f"z_{k + 1}", own.z)
            index = _data(f"index_{k + 1}", term.index)
            linear = linear + pt.sum(z * effects[index], axis=1)
        for group in design.groups:
            _publish_group(design, group, raw[group.name])
        if np.any(design.offset):
            linear = linear + _data("offset", design.offset)
        sigma = None if priors.sigma is None else _random("sigma", [priors.sigma], None)
        _likelihood(design, family, linear, sigma)
    return Generative(model, coef, tuple(bars), None if sigma is None else "sigma")


def _coords(design: Design) -> dict[str, Sequence[str] | np.ndarray]:
    coords: dict[str, Sequence[str] | np.ndarray] = {OBS: np.arange(design.n)}
    if design.slopes:
        coords["coef"] = design.slopes
    for group in design.groups:
        coords[group.name] = group.levels
        coords[coef_dim(group.name)] = group.coefs
        if any(design.terms[k].correlated for k in group.terms):
            coords[coef_dim_bis(group.name)] = group.coefs
    for k, term in enumerate(design.terms):
        coords[_term_dim(design, k, term)] = term.coefs
    return coords


def _term_dim(design: Design, k: int, term: Term) -> str:
    """Return the dim along one bar's effects: the grouping's own where it has one bar."""
    alone = sum(other.group == term.group for other in design.terms) == 1
    return coef_dim(term.group) if alone else f"{coef_dim(term.group)}_bar{k + 1}"


def _free_name(name: str) -> str:
    """Return a name that neither a variable nor a dim of the model has, such as a grouping's."""
    model = pm.modelcontext(None)
    while name in model.named_vars or name in model.coords:
        name = f"{name}_"
    return name


def _data(name: str, values: np.ndarray) -> Any:
    return pm.Data(_free_name(name), values)


def _random(name: str, priors: Sequence[Prior], dim: str | None) -> Any:
    """Return the PyMC variable(s) of one prior, or of a vector of priors of one distribution."""
    distribution = getattr(pm, priors[0].name)
    if dim is None:
        # PyTensor would hold a Python float as float32 where that is exact, and a gamma function
        # of a float32 is good to seven digits only
        return distribution(name, **{key: np.float64(value) for key, value in priors[0].arguments})
    arguments = {
        key: np.array([dict(prior.arguments)[key] for prior in priors])
        for key, _ in priors[0].arguments
    }
    return distribution(name, **arguments, dims=dim)


def _vector(
    name: str, priors: Sequence[Prior], labels: Sequence[str], dim: str
) -> tuple[VectorName, Any]:
    """Return a vector of parameters: one variable where all priors are of one distribution."""
    if len({prior.name for prior in priors}) == 1:
        return VectorName((name,), len(priors)), _random(name, priors, dim)
    names = tuple(indexed(name, label) for label in labels)
    parts = [_random(own, [prior], None) for own, prior in zip(names, priors, strict=True)]
    return VectorName(names, len(priors)), pt.stack(parts)


# --- population coefficients ----------------------------------------------------------------


def _population(
    design: Design, priors: ResolvedPriors
) -> tuple[tuple[tuple[VectorName, tuple[int, ...]], ...], Any]:
    """Add the coefficients; return their free variables and the linear predictor (n,)."""
    p = len(design.coefs)
    if not p:
        return (), pt.zeros(design.n)
    T, at = priors.T, design.intercept
    slopes = [k for k in range(p) if k != at]
    free: list[tuple[VectorName, tuple[int, ...]]] = []
    gamma: list[Any] = [None] * p
    if at is not None:
        name = "Intercept" if np.array_equal(T[at], np.eye(p)[at]) else "Intercept_at_means"
        gamma[at] = _random(name, [priors.coef[at]], None)
        free.append((VectorName((name,), 1), (at,)))
    if slopes:
        same = np.array_equal(T[np.ix_(slopes, slopes)], np.eye(len(slopes)))
        name = "b" if same else "b_at_means"
        own = [priors.coef[k] for k in slopes]
        vector, values = _vector(name, own, design.slopes, "coef")
        free.append((vector, tuple(slopes)))
        for place, k in enumerate(slopes):
            gamma[k] = values[place]
        if not (same and len(vector.names) == 1 and vector.names[0] == "b"):
            raw = pt.dot(T[np.ix_(slopes, slopes)], pt.stack([gamma[k] for k in slopes]))
            pm.Deterministic("b", raw, dims="coef")
    stacked = pt.stack(gamma)
    if at is not None and not np.array_equal(T[at], np.eye(p)[at]):
        pm.Deterministic("Intercept", pt.dot(T[at], stacked))
    return tuple(free), pt.dot(_data("X", priors.X), stacked)


# --- group effects --------------------------------------------------------------------------


def _bar(
    design: Design, k: int, term: Term, own: TermPriors, centred: bool
) -> tuple[BarNames, Any, tuple[Any, Any, Any]]:
    """Add one bar; return its names, its effects (J, q), and its raw sd, covariance and effects."""
    q = len(term.coefs)
    alone = sum(other.group == term.group for other in design.terms) == 1
    is_raw = np.array_equal(own.T, np.eye(q))
    suffix = ("" if alone else f"_bar{k + 1}") + ("" if is_raw else "_at_means")
    dim = _term_dim(design, k, term)
    vector, sd = _vector(f"{sd_name(term.group)}{suffix}", own.sd, term.coefs, dim)
    partial_name = None
    factor = pt.diag(sd)
    if own.cor is not None:
        partial_name = f"partial_{cor_name(term.group)}{'' if alone else f'_bar{k + 1}'}"
        factor = sd[:, None] * _correlation_factor(partial_name, q, own.cor)
    base = f"{effect_name(term.group)}{suffix}"
    dims = (term.group, dim)
    name = base if centred else f"{base}_std"
    if centred and own.cor is not None:
        chol = factor
        effects = pm.MvNormal(name, mu=np.zeros(q), chol=chol, dims=dims)
    elif centred:
        effects = pm.Normal(name, 0.0, sd, dims=dims)
    else:
        scores = pm.Normal(name, 0.0, 1.0, dims=dims)
        effects = pt.dot(scores, factor.T) if own.cor is not None else scores * sd
    covariance = pt.dot(factor, factor.T)
    raw_covariance = covariance if is_raw else pt.dot(pt.dot(own.T, covariance), own.T.T)
    raw_sd = sd if is_raw else pt.sqrt(pt.diagonal(raw_covariance))
    raw_effects = effects if is_raw else pt.dot(effects, own.T.T)
    names = BarNames(vector, partial_name, name, centred)
    return names, effects, (raw_sd, raw_covariance if own.cor is not None else None, raw_effects)


def _correlation_factor(name: str, q: int, prior: Prior) -> Any:
    """Add partial correlations with an LKJ prior; return the correlation's Cholesky factor.

    The canonical partial correlations of an LKJ(eta) matrix are independent,
    z_ij = 2 Beta(a_j, a_j) - 1 with a_j = eta + (q - 1 - j) / 2 for j = 1, 2, ... < i
    (Lewandowski, Kurowicka and Joe 2009, doi:10.1016/j.jmva.2009.04.008). They are used rather
    than PyMC's LKJCorr, whose density in the version tested lacks the Jacobian of the factor for
    three and more effects.
    """
    rows, columns = np.tril_indices(q, -1)
    shape = prior.values[0] + (q - 2 - columns) / 2.0
    partial = 2.0 * pm.Beta(name, shape, shape) - 1.0
    z = pt.zeros((q, q))[rows, columns].set(partial)
    before = pt.cumsum(0.5 * pt.log1p(-(z**2)), axis=1)
    product = pt.exp(pt.concatenate([pt.zeros((q, 1)), before[:, :-1]], axis=1))
    return (z + pt.eye(q)) * product


def _cholesky_of_partials(partial: np.ndarray, q: int) -> np.ndarray:
    """Return Cholesky factors (..., q, q) from partial correlations on (0, 1)."""
    rows, columns = np.tril_indices(q, -1)
    z = np.zeros((*partial.shape[:-1], q, q))
    z[..., rows, columns] = 2.0 * partial - 1.0
    before = np.cumsum(0.5 * np.log1p(-(z**2)), axis=-1)
    product = np.exp(np.concatenate([np.zeros((*z.shape[:-1], 1)), before[..., :-1]], axis=-1))
    return np.asarray((z + np.eye(q)) * product)


def _publish_group(design: Design, group: Group, parts: list[tuple[Any, Any, Any]]) -> None:
    """Add the raw sds, correlations and effects of a grouping, its bars side by side."""
    model = pm.modelcontext(None)
    dims = (group.name, coef_dim(group.name))
    sds = pt.concatenate([sd for sd, _, _ in parts]) if len(parts) > 1 else parts[0][0]
    effects = pt.concatenate([r for _, _, r in parts], axis=1) if len(parts) > 1 else parts[0][2]
    if sd_name(group.name) not in model.named_vars:
        pm.Deterministic(sd_name(group.name), sds, dims=coef_dim(group.name))
    if effect_name(group.name) not in model.named_vars:
        pm.Deterministic(effect_name(group.name), effects, dims=dims)
    if all(covariance is None for _, covariance, _ in parts):
        return
    size = len(group.coefs)
    matrix = pt.eye(size)
    at = 0
    for k, (sd, covariance, _) in zip(group.terms, parts, strict=True):
        q = len(design.terms[k].coefs)
        if covariance is not None:
            block = covariance / (sd[:, None] * sd[None, :])
            matrix = matrix[at : at + q, at : at + q].set(block)
        at += q
    pm.Deterministic(
        cor_name(group.name), matrix, dims=(coef_dim(group.name), coef_dim_bis(group.name))
    )


# --- the likelihood -------------------------------------------------------------------------


def _inverse_link(link: str, eta: Any) -> Any:
    functions = {
        "identity": lambda x: x,
        "log": pt.exp,
        "inverse": lambda x: 1.0 / x,
        "sqrt": lambda x: x**2,
    }
    return functions[link](eta)


def _log_normal_cdf(x: Any) -> Any:
    """Return log Phi(x), exact in both tails (PyMC's own takes the root of 2 in float32)."""
    root = np.sqrt(2.0)
    # each branch is kept where its gradient is finite
    low = pt.minimum(x, -1.0)
    far = pt.log(0.5 * pt.erfcx(-low / root)) - 0.5 * low**2
    near = pt.log1p(-0.5 * pt.erfc(pt.maximum(x, -1.0) / root))
    return pt.switch(x < -1.0, far, near)


def _log_odds(link: str, eta: Any) -> Any:
    """Return the log odds of success: exact far out, where a probability rounds to 0 or 1."""
    functions = {
        "logit": lambda x: x,
        "probit": lambda x: _log_normal_cdf(x) - _log_normal_cdf(-x),
        "cloglog": lambda x: pt.log(-pt.expm1(-pt.exp(x))) + pt.exp(x),
    }
    return functions[link](eta)


def _likelihood(design: Design, family: Family, eta: Any, sigma: Any) -> None:
    """Add the response's distribution, weighted where the formula says so."""
    name = _free_name(design.response)
    distribution, arguments = _distribution(design, family, eta, sigma)
    if design.weights is None:
        distribution(name, **arguments, observed=design.y, dims=OBS)
        return
    terms = pm.logp(distribution.dist(**arguments), design.y)
    pm.Potential(f"weighted_{name}", pt.sum(_data("weights", design.weights) * terms))


def _distribution(
    design: Design, family: Family, eta: Any, sigma: Any
) -> tuple[Any, dict[str, Any]]:
    """Return the response's PyMC distribution and its arguments."""
    if family.name == "gaussian":
        scale = sigma
        if design.se is not None:
            variance = design.se**2 if sigma is None else design.se**2 + sigma**2
            scale = pt.sqrt(variance)
        elif design.precision is not None:
            scale = sigma / np.sqrt(design.precision)
        return pm.Normal, {"mu": _inverse_link(family.link, eta), "sigma": scale}
    if family.name == "poisson":
        return pm.Poisson, {"mu": _inverse_link(family.link, eta)}
    log_odds = _log_odds(family.link, eta)
    if design.trials is None and family.link == "logit":
        return pm.Bernoulli, {"logit_p": log_odds}
    # one trial rather than Bernoulli, whose gradient is not a number where p rounds to one: at
    # log odds of 37, which the cloglog link reaches at a linear predictor of 3.6
    trials = np.ones(design.n) if design.trials is None else design.trials
    return pm.Binomial, {"n": trials.astype(np.int64), "logit_p": log_odds}

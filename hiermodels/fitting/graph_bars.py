"""Group effects in a PyMC graph: bars, and what a grouping publishes of all its bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pytensor.tensor import linalg

from hiermodels.fitting.graph_correlations import cholesky_of_partials, correlation_factor
from hiermodels.fitting.graph_functions import log_rising
from hiermodels.fitting.graph_parts import VectorName, random, vector
from hiermodels.fitting.graph_shrinkage import Shared, SharedSds
from hiermodels.spec.names import (
    coef_dim,
    coef_dim_bis,
    cor_name,
    effect_name,
    nu_name,
    of_parameter,
    sd_name,
)
from hiermodels.spec.predictors import Group, Term
from hiermodels.spec.priors import TermPriors

_LOG_2PI = float(np.log(2.0 * np.pi))
_LOG_PI = float(np.log(np.pi))


@dataclass(frozen=True)
class BarNames:
    """The free variables of one bar.

    Attributes
    ----------
    sd : VectorName or SharedSds
    partial : str or None
        Partial correlations on (0, 1); None where uncorrelated.
    effects : str
        Group effects, or their standard scores.
    centred : bool
    nu : str or None
        Degrees of freedom of Student effects.
    """

    sd: VectorName | SharedSds
    partial: str | None
    effects: str
    centred: bool
    nu: str | None = None

    def read(
        self, posterior: xr.Dataset, term: Term
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Return draws of sds, correlations' factors, effects and degrees of freedom."""
        q = len(term.coefs)
        sd = self.sd.read(posterior)
        if term.by is not None:
            sd = sd.reshape(*sd.shape[:2], len(term.by.labels), q)
        chol = np.broadcast_to(np.eye(q), (*sd.shape, q))
        if self.partial is not None:
            chol = cholesky_of_partials(posterior[self.partial].values, q)
        values = posterior[self.effects].values
        if not self.centred:
            if term.cov is not None:
                values = np.linalg.cholesky(term.cov) @ values
            factor = sd[..., :, None] * chol
            if term.by is None:
                values = values @ np.swapaxes(factor, -1, -2)
            else:
                values = (factor[..., term.by.index, :, :] @ values[..., None])[..., 0]
        nu = None if self.nu is None else np.asarray(posterior[self.nu].values)
        return sd, chol, np.asarray(values), nu


@dataclass(frozen=True)
class Published:
    """What a bar adds to its grouping, on the raw scale.

    Attributes
    ----------
    sd : variable (q,) or (H, q)
    covariance : variable (q, q) or (H, q, q), or None
        None where the effects are independent.
    effects : variable (J, q)
    """

    sd: Any
    covariance: Any
    effects: Any


def term_dim(terms: Sequence[Term], k: int, of: str) -> str:
    """Return the dim along one bar's effects: the grouping's own where it has one bar."""
    dim = coef_dim(terms[k].group, of)
    return dim if _alone(terms, k) else f"{dim}_bar{k + 1}"


def _alone(terms: Sequence[Term], k: int) -> bool:
    """Whether the bar's grouping has no other."""
    return sum(other.group == terms[k].group for other in terms) == 1


def add_bar(
    terms: Sequence[Term],
    k: int,
    own: TermPriors,
    centred: bool,
    of: str,
    shared: Shared | None = None,
) -> tuple[BarNames, Any, Published]:
    """Add one bar; return its names, its effects (J, q), and what it publishes."""
    term, q = terms[k], len(terms[k].coefs)
    is_raw = np.array_equal(own.T, np.eye(q))
    bar = "" if _alone(terms, k) else f"_bar{k + 1}"
    suffix = bar + ("" if is_raw else "_at_means")
    dim = term_dim(terms, k, of)
    columns = [] if shared is None else shared.of_bar(k)
    if shared is not None and columns:
        sds, sd = _shared_sds(term, shared, columns)
    else:
        sds, sd = _sds(term, own, f"{sd_name(term.group, of)}{suffix}", dim)
    partial, factor = None, pt.eye(q) * sd[..., None]
    if own.cor is not None:
        partial = of_parameter(of, f"partial_{cor_name(term.group)}{bar}")
        several = None if term.by is None else len(term.by.labels)
        factor = sd[..., None] * correlation_factor(partial, q, own.cor, several)
    nu_own = None if own.nu is None else f"{nu_name(term.group, of)}{bar}"
    nu = None if own.nu is None or nu_own is None else random(nu_own, own.nu)
    base = f"{effect_name(term.group, of)}{suffix}"
    name = base if centred else f"{base}_std"
    effects = _effects(name, term, factor, nu, centred, (term.group, dim))
    covariance = factor @ pt.swapaxes(factor, -1, -2)
    raw_covariance = covariance if is_raw else own.T @ covariance @ own.T.T
    raw_sd = sd if is_raw else pt.sqrt(pt.diagonal(raw_covariance, axis1=-2, axis2=-1))
    published = Published(
        raw_sd,
        raw_covariance if own.cor is not None else None,
        effects if is_raw else pt.dot(effects, own.T.T),
    )
    return BarNames(sds, partial, name, centred, nu_own), effects, published


def _shared_sds(
    term: Term, shared: Shared, columns: Sequence[int]
) -> tuple[VectorName | SharedSds, Any]:
    """Return the sds of a bar that follow from scales, as `_sds` does those that are free."""
    sd = shared.sds[list(columns)]
    if term.by is not None:
        sd = sd.reshape((len(term.by.labels), len(term.coefs)))
    return SharedSds(shared.names, tuple(columns)), sd


def _sds(term: Term, own: TermPriors, name: str, dim: str) -> tuple[VectorName | SharedSds, Any]:
    """Add the sds of a bar (q,), or of each subpopulation (H, q)."""
    if term.by is None:
        return vector(name, own.sd, [(coef,) for coef in term.coefs], (dim,))
    labels = [(label, coef) for label in term.by.labels for coef in term.coefs]
    return vector(name, own.sd, labels, (term.by.name, dim))


# --- effects --------------------------------------------------------------------------------


def _effects(
    name: str, term: Term, factor: Any, nu: Any, centred: bool, dims: tuple[str, str]
) -> Any:
    """Add a bar's effects, or their scores; return the effects (J, q)."""
    q = len(term.coefs)
    plain = term.by is None and term.cov is None and nu is None
    if centred and plain and not term.correlated:
        return pm.Normal(name, 0.0, pt.diagonal(factor), dims=dims)
    if centred and plain:
        return pm.MvNormal(name, mu=np.zeros(q), chol=factor, dims=dims)
    if centred:
        return _structured(name, term, factor, nu, dims)
    if nu is None:
        scores = pm.Normal(name, 0.0, 1.0, dims=dims)
    else:
        scores = pm.MvStudentT(name, nu=nu, mu=np.zeros(q), chol=np.eye(q), dims=dims)
    return _scaled(scores, term, factor)


def _scaled(scores: Any, term: Term, factor: Any) -> Any:
    """Return effects (J, q) from standard scores."""
    if term.cov is not None:
        scores = pt.dot(np.linalg.cholesky(term.cov), scores)
    if term.by is not None:
        return pt.sum(factor[term.by.index] * scores[:, None, :], axis=2)
    if not term.correlated:
        return scores * pt.diagonal(factor)
    return pt.dot(scores, factor.T)


def _structured(name: str, term: Term, factor: Any, nu: Any, dims: tuple[str, str]) -> Any:
    """Add effects themselves as free variables, whatever their levels' structure."""
    levels = len(term.levels)
    inputs = [factor] if nu is None else [factor, nu]

    def log_density(value: Any, factor: Any, *rest: Any) -> Any:
        index = np.zeros(levels, dtype=np.intp) if term.by is None else term.by.index
        whole = factor[None] if term.by is None else factor
        inverse = linalg.solve_triangular(
            whole, pt.eye(len(term.coefs))[None], lower=True, b_ndim=2
        )
        scores = pt.sum(inverse[index] * value[:, None, :], axis=2)
        logs = pt.sum(pt.log(pt.diagonal(whole, axis1=1, axis2=2)), axis=1)
        total = -pt.sum(logs[index])
        if term.cov is not None:
            chol = np.linalg.cholesky(term.cov)
            scores = linalg.solve_triangular(pt.as_tensor(chol), scores, lower=True)
            total = total - len(term.coefs) * float(np.sum(np.log(np.diag(chol))))
        return total + _standard(scores, len(term.coefs), *rest)

    return pm.CustomDist(
        name,
        *inputs,
        logp=log_density,
        dist=lambda factor, *rest: _scaled(_draw_scores(term, *rest[:-1]), term, factor),
        signature=f"({'' if term.by is None else 'h,'}q,q){',()' if nu is not None else ''}->(j,q)",
        dims=dims,
        support_point=lambda rv, size, *rest: pt.zeros((levels, len(term.coefs))),
        class_name="GroupEffects",
    )


def _standard(scores: Any, q: int, nu: Any = None) -> Any:
    """Return the log density of standard scores (J, q): normal, or multivariate t."""
    squares = pt.sum(scores**2, axis=1)
    if nu is None:
        return -0.5 * pt.sum(squares + q * _LOG_2PI)
    constant = log_rising(pt.log(0.5 * nu), 0.5 * q) - 0.5 * q * (pt.log(nu) + _LOG_PI)
    return pt.sum(constant - 0.5 * (nu + q) * pt.log1p(squares / nu))


def _draw_scores(term: Term, nu: Any = None) -> Any:
    """Return draws of standard scores (J, q)."""
    shape = (len(term.levels), len(term.coefs))
    if nu is None:
        return pm.Normal.dist(0.0, 1.0, shape=shape)
    q = shape[1]
    return pm.MvStudentT.dist(nu=nu, mu=np.zeros(q), chol=np.eye(q), shape=shape)


def rows_of(term: Term, z: Any, effects: Any, index: Any) -> Any:
    """Return what a bar adds to the linear predictor (n,)."""
    if term.members is None:
        return pt.sum(z * effects[index], axis=1)
    weighted = pt.sum(term.members.weights[:, :, None] * effects[index], axis=1)
    return pt.sum(z * weighted, axis=1)


# --- what is published ----------------------------------------------------------------------


def publish_group(terms: Sequence[Term], group: Group, parts: Sequence[Published], of: str) -> None:
    """Add the raw sds, correlations and effects of a grouping, its bars side by side."""
    by = terms[group.terms[0]].by
    lead = () if by is None else (by.name,)
    dim, bis = coef_dim(group.name, of), coef_dim_bis(group.name, of)
    sds = pt.concatenate([part.sd for part in parts], axis=-1) if len(parts) > 1 else parts[0].sd
    effects = parts[0].effects
    if len(parts) > 1:
        effects = pt.concatenate([part.effects for part in parts], axis=1)
    _add(sd_name(group.name, of), sds, (*lead, dim))
    _add(effect_name(group.name, of), effects, (group.name, dim))
    if all(part.covariance is None for part in parts):
        return
    shape = () if by is None else (len(by.labels),)
    matrix = pt.zeros((*shape, len(group.coefs), len(group.coefs))) + pt.eye(len(group.coefs))
    at = 0
    for k, part in zip(group.terms, parts, strict=True):
        q = len(terms[k].coefs)
        if part.covariance is not None:
            block = part.covariance / (part.sd[..., :, None] * part.sd[..., None, :])
            matrix = matrix[..., at : at + q, at : at + q].set(block)
        at += q
    pm.Deterministic(cor_name(group.name, of), matrix, dims=(*lead, dim, bis))


def _add(name: str, values: Any, dims: tuple[str, ...]) -> None:
    """Add a deterministic variable, unless a free one has that name already."""
    if name not in pm.modelcontext(None).named_vars:
        pm.Deterministic(name, values, dims=dims)

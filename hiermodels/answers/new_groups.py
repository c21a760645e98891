"""Rows of a group that the model has not seen: its effects integrated out, draw by draw."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.integrals import Held, Scores, integrate
from hiermodels.answers.new_levels import covariance_factor, flat
from hiermodels.answers.pointwise import coded_rows
from hiermodels.answers.predictors import GroupEffects, linear_draws, parameter_draws
from hiermodels.answers.residual_rows import residual_sds
from hiermodels.answers.row_likelihood import row_log_likelihood
from hiermodels.answers.rows import Rows, all_groups, first_term, parameter_designs, predictor_of
from hiermodels.engines.response_links import mean
from hiermodels.engines.responses import PARAMETERS
from hiermodels.errors import FitError
from hiermodels.fitting.model import Model
from hiermodels.spec.design import Design, Group, Term
from hiermodels.spec.names import effect_name, nu_name

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_BLOCK: Final = 20_000_000


@dataclass(frozen=True, eq=False)
class _Left:
    """Rows left out, coded, and the levels whose effects are integrated out.

    Attributes
    ----------
    model : Model
        Of all rows.
    design : Design
        Of the rows left out.
    posterior : xarray.Dataset
    rows : Rows
        The levels to be integrated out being unknown.
    inside : mapping of str to ndarray of int
        By grouping these levels, as positions in the rows' labels.
    """

    model: Model
    design: Design
    posterior: xr.Dataset
    rows: Rows
    inside: dict[str, Ints]

    @property
    def predictors(self) -> tuple[str, ...]:
        """The names of the linear predictors: the mean's is empty."""
        return "", *(own.name for own in parameter_designs(self.design))

    @property
    def effects(self) -> GroupEffects:
        """Everything that is not integrated out."""
        return GroupEffects(frozenset(self.rows.levels), frozenset(), "zero", 0)


def group_terms(model: Model, posterior: xr.Dataset, held: Ints, seed: int) -> tuple[Floats, float]:
    """Return log p(rows | draw), the effects of levels that lie in them integrated out.

    Parameters
    ----------
    model : Model
        Of all rows.
    posterior : xarray.Dataset
        Of this model, or of the model without these rows.
    held : ndarray of int
    seed : int
        For importance sampling.

    Returns
    -------
    terms : ndarray (S,)
    inner_ess : float
        The smallest number of effective points of any draw; NaN under quadrature.

    Raises
    ------
    FitError
        Levels that a known covariance joins have Student effects, or subpopulations.
    """
    left = _left(model, posterior, held)
    n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    size = sum(
        len(left.inside[group.name]) * len(group.coefs)
        for name in left.predictors
        for group in predictor_of(left.design, name).groups
    )
    width = size + 4 * len(left.predictors)
    step = max(_BLOCK // (len(held) * width), 1)
    parts, least = [], np.inf
    for start in range(0, n_draws, step):
        take = np.arange(start, min(start + step, n_draws))
        own = _held(left, take)
        found, inner = integrate(own, np.random.default_rng([seed, int(held[0]), start]))
        parts.append(found)
        least = np.nan if np.isnan(inner) else min(least, inner)
    return np.concatenate(parts), least


def _left(model: Model, posterior: xr.Dataset, held: Ints) -> _Left:
    """Return the rows left out, with the levels that have no other rows."""
    design, rows = coded_rows(model, posterior, held)
    out = np.ones(model.design.n, dtype=bool)
    out[held] = False
    levels, inside = dict(rows.levels), {}
    for group in all_groups(model.design).values():
        term = first_term(model.design, group)
        alone = np.setdiff1d(_counted(term, held), _counted(term, np.flatnonzero(out)))
        own = levels[group.name]
        found = np.isin(own.labels, [group.levels[k] for k in alone])
        levels[group.name] = replace(own, known=np.where(found, -1, own.known))
        inside[group.name] = np.flatnonzero(found)
    return _Left(model, design, posterior, replace(rows, levels=levels), inside)


def _counted(term: Term, rows: Ints) -> Ints:
    """Return the levels that some rows belong to with a weight that is not zero."""
    if term.members is None:
        return np.unique(term.index[rows])
    return np.unique(term.members.index[rows][term.members.weights[rows] > 0])


def _held(left: _Left, take: Ints) -> Held:
    """Return the rows' log density given some draws."""
    design, posterior, rows = left.design, left.posterior, left.rows
    family = left.model.family
    bases, scores = [], []
    for p, name in enumerate(left.predictors):
        base = linear_draws(design, posterior, rows, take, left.effects, name)
        for own, shift in _scores(left, p, name, take):
            scores.append(own)
            base = base + shift
        bases.append(base)
    links = parameter_designs(design)
    others = [name for name in PARAMETERS[family.name] if name not in left.predictors]
    fixed = dict(parameter_draws(design, posterior, rows, take, left.effects, others))
    if design.residual is not None and "sigma" not in left.predictors:
        fixed["sigma"] = residual_sds(design, posterior, take)

    def every(etas: tuple[Floats, ...]) -> Floats:
        moving = {own.name: mean(own, eta) for own, eta in zip(links, etas[1:], strict=True)}
        return row_log_likelihood(family, design, etas[0], fixed | moving)

    return Held(tuple(bases), tuple(scores), every)


def _scores(left: _Left, p: int, name: str, take: Ints) -> Iterator[tuple[Scores, Floats]]:
    """Yield the scores of one linear predictor, with what it is where they are zero (S, m)."""
    design, posterior = left.design, left.posterior
    linear = predictor_of(design, name)
    for group in linear.groups:
        inside, term = left.inside[group.name], linear.terms[group.terms[0]]
        if not len(inside):
            continue
        factor = covariance_factor(posterior, group, name, take)
        nu = posterior.get(nu_name(group.name, name))
        z = np.concatenate([linear.terms[k].z for k in group.terms], axis=1)
        shares = _shares(left, group, inside)
        if term.cov is not None:
            if nu is not None or term.by is not None:
                raise FitError(
                    f"The levels of {group.name!r} are joined by a known covariance and have "
                    f"{'Student effects' if nu is not None else 'subpopulations'}, which logo() "
                    "cannot integrate out. Use hm.loo(fit), which leaves single rows out."
                )
            yield _joined(left, group, name, shares, z, factor, p, take)
            continue
        degrees = None if nu is None else flat(nu, take)
        for k, level in enumerate(inside):
            own = factor if term.by is None else factor[:, term.by.index[level]]
            load = np.einsum("mq,sqd->smd", z * shares[:, k, None], own)
            yield Scores(p, load, degrees), np.zeros((1, 1))


def _shares(left: _Left, group: Group, inside: Ints) -> Floats:
    """Return what each of the levels integrated out counts in each row (m, L)."""
    own = left.rows.levels[group.name]
    met = own.index[:, :, None] == inside
    weights = np.ones(own.index.shape) if own.weights is None else own.weights
    return np.asarray((met * weights[:, :, None]).sum(axis=1))


def _joined(
    left: _Left, group: Group, name: str, shares: Floats, z: Floats, factor: Floats, p: int,
    take: Ints,
) -> tuple[Scores, Floats]:  # fmt: skip
    """Return the scores of levels with a known covariance given the others, and their mean's part.

    Given b of the levels O, those of H are normal with mean K_HO K_OO^-1 b_O and covariance
    K_HH - K_HO K_OO^-1 K_OH, times that of the effects.
    """
    whole = predictor_of(left.model.design, name)
    term = next(term for term in whole.terms if term.group == group.name)
    place = {label: k for k, label in enumerate(term.levels)}
    labels = left.rows.levels[group.name].labels
    own = np.array([place[labels[k]] for k in left.inside[group.name]])
    known = [str(label) for label in left.posterior[group.name].values]
    seen = [k for k, label in enumerate(known) if place[label] not in own]
    others = np.array([place[known[k]] for k in seen], dtype=np.intp)
    cov = np.eye(0) if term.cov is None else term.cov
    weights = np.linalg.solve(cov[np.ix_(others, others)], cov[np.ix_(others, own)]).T
    root = np.linalg.cholesky(cov[np.ix_(own, own)] - weights @ cov[np.ix_(others, own)])
    effects = flat(left.posterior[effect_name(group.name, name)], take)[:, seen]
    shift = np.einsum("mq,ml,lo,soq->sm", z, shares, weights, effects, optimize=True)
    load = np.einsum("mq,ml,lk,sqd->smkd", z, shares, root, factor, optimize=True)
    return Scores(p, load.reshape(*load.shape[:2], -1), None), shift

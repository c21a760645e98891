"""The quantities of a fit that another prior may move: parameters, shares, pooling, ranks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from hiermodels.answers.fitted import Fitted, has_own_rows
from hiermodels.answers.pooling_factors import pooling_draws
from hiermodels.answers.product_rows import through_products
from hiermodels.answers.roots import draw_positions
from hiermodels.answers.variance_shares import intraclass
from hiermodels.errors import FitError
from hiermodels.fitting.draws import (
    INTERCEPT,
    all_group_labels,
    coefficient_draws,
    correlation_draws,
    cutpoint_draws,
    draws_of,
    population,
    residual_parameters,
    residual_sds,
    sd_draws,
)
from hiermodels.spec.names import R2, effect_name, indexed
from hiermodels.spec.priors import ParameterPriors

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

#: Ranks use at most so many draws, taken evenly, and groupings of at most so many levels.
MOST_DRAWS, MOST_LEVELS = 1000, 2000


@dataclass(frozen=True, eq=False)
class Block:
    """Quantities of one kind with their draws.

    Attributes
    ----------
    kind : str
        ``coefficient``, ``sd``, ``correlation``, ``residual``, ``parameter``, ``icc``,
        ``pooling factor`` or ``rank``.
    names : tuple of str
    draws : ndarray (s, Q)
    take : ndarray of int (s,)
        Positions of the draws, chains one after another.
    """

    kind: str
    names: tuple[str, ...]
    draws: Floats
    take: Ints


def movable_blocks(fit: Fitted) -> tuple[tuple[Block, ...], tuple[str, ...]]:
    """Return the quantities of a fit, and what was left out, in words.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    blocks : tuple of Block
    notes : tuple of str
    """
    posterior = fit.idata["posterior"].to_dataset()
    blocks = [coefficient_block(posterior), *_parameters(fit, posterior)]
    notes: list[str] = []
    if fit.model.design.groups:
        for make in (_shares, _pooling, rank_block):
            try:
                blocks.append(make(fit))
            except FitError as error:
                notes.append(str(error))
    return tuple(block for block in blocks if block.names), tuple(notes)


def coefficient_block(posterior: xr.Dataset) -> Block:
    """Return the population coefficients."""
    names, draws = population(posterior)
    # where the mean has no coefficients nothing says how many rows there are
    flat = draws.reshape(draws.shape[0] * draws.shape[1], len(names))
    labels = tuple(name if name == INTERCEPT else indexed("b", name) for name in names)
    return Block("coefficient", labels, flat, np.arange(len(flat)))


def rank_block(fit: Fitted, take: Ints | None = None) -> Block:
    """Return the ranks of every grouping's levels by every effect, the largest first.

    Parameters
    ----------
    fit : Fit
    take : ndarray of int, optional
        Where the draws stood among those of another fit; they are used as they are then.

    Raises
    ------
    FitError
        The draws of the effects were left out.
    """
    posterior = fit.idata["posterior"].to_dataset()
    chosen = draw_positions(fit, MOST_DRAWS) if take is None else np.arange(len(take))
    names: list[str] = []
    columns: list[Floats] = [np.empty((len(chosen), 0))]
    for group in fit.model.design.groups:
        name = effect_name(group.name)
        if len(group.levels) > MOST_LEVELS:
            continue
        if name not in posterior:
            raise FitError(f"The draws of {name} were left out, so that groups are not ranked.")
        array = posterior[name].transpose("chain", "draw", group.name, ...)
        effects = draws_of(array).reshape(-1, *array.shape[2:])[chosen]
        order = np.argsort(np.argsort(-effects, axis=1, kind="stable"), axis=1)
        for k, effect in enumerate(group.coefs):
            names += [f"rank of {level} by {indexed(group.name, effect)}" for level in group.levels]
            columns.append(np.asarray(order[:, :, k] + 1.0, dtype=np.float64))
    where = chosen if take is None else take
    return Block("rank", tuple(names), np.concatenate(columns, axis=1), where)


def _parameters(fit: Fitted, posterior: xr.Dataset) -> Iterator[Block]:
    """Yield sds, correlations, residual and family parameters."""
    groups = all_group_labels(fit.model.design)
    sds = ((indexed(g.sd, *at), d) for g in groups for at, d in sd_draws(posterior, g))
    cors = ((indexed(g.cor, *at), d) for g in groups for at, d in correlation_draws(posterior, g))
    sigmas = ((indexed("sigma", at) if at else "sigma", d) for at, d in residual_sds(posterior))
    yield _stack("sd", sds)
    yield _stack("correlation", cors)
    yield _stack("residual", (*sigmas, *residual_parameters(posterior)))
    nus = ((g.nu, draws_of(posterior[g.nu])) for g in groups if g.nu in posterior)
    others = _family(posterior, fit.model.resolved.parameters)
    r2 = ((name, draws_of(posterior[name])) for name in (R2,) if name in posterior)
    yield _stack("parameter", (*cutpoint_draws(posterior), *nus, *others, *r2))


def _family(
    posterior: xr.Dataset, parameters: tuple[ParameterPriors, ...]
) -> Iterator[tuple[str, Floats]]:
    """Yield the family's parameters, or the coefficients of their formulas."""
    for own in parameters:
        if own.linear and own.name != "sigma":
            yield from coefficient_draws(posterior, own.name)
        elif own.name in posterior and own.name not in ("sigma", "cutpoints"):
            yield own.name, draws_of(posterior[own.name])


def _stack(kind: str, pairs: Iterable[tuple[str, Floats]]) -> Block:
    """Return named draws as one block."""
    found = list(pairs)
    if not found:
        return Block(kind, (), np.empty((0, 0)), np.empty(0, dtype=np.intp))
    draws = np.column_stack([values.ravel() for _, values in found])
    return Block(kind, tuple(name for name, _ in found), draws, np.arange(len(draws)))


def _shares(fit: Fitted) -> Block:
    """Return the intraclass correlations."""
    shares = intraclass(fit)
    draws = shares.draws.transpose("sample", "component").values
    posterior = fit.idata["posterior"]
    total = posterior.sizes["chain"] * posterior.sizes["draw"]
    take = np.unique(np.linspace(0, total - 1, len(draws)).astype(np.intp))
    names = tuple(f"icc[{name}]" for name in shares.draws["component"].values)
    return Block("icc", names, draws, take)


def _pooling(fit: Fitted) -> Block:
    """Return the pooling factors of every group."""
    names: list[str] = []
    columns: list[Floats] = []
    fit = through_products(fit)
    for group in fit.model.design.groups:
        if not has_own_rows(fit, group) or len(group.levels) > MOST_LEVELS:
            continue
        found = pooling_draws(fit, group)
        for k, effect in enumerate(group.coefs):
            where = indexed(group.name, effect)
            names += [f"pooling of {level} in {where}" for level in group.levels]
            columns.append(found[:, :, k])
    take = draw_positions(fit)
    draws = np.concatenate(columns, axis=1) if columns else np.empty((len(take), 0))
    return Block("pooling factor", tuple(names), draws, take)

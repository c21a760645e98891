"""One replication of simulation-based calibration: draw, simulate, refit, rank."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from arviz_stats.base.array import array_stats

from hiermodels.answers.drawn_priors import prior_draws
from hiermodels.answers.joint_likelihood import joint_log_likelihood
from hiermodels.answers.simulation import draw_from
from hiermodels.errors import EngineError, FitError, SamplingWarning
from hiermodels.fitting.diagnostics import EXACT, element_names
from hiermodels.fitting.draws import all_group_labels, draws_of, scalars
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model

Floats = npt.NDArray[np.float64]
LIKELIHOOD = "log likelihood"
_DOUBLINGS = 3
# ArviZ's array functions carry no types: what comes from them is Any at the border.
_STATS: Any = array_stats


@dataclass(frozen=True, eq=False)
class Study:
    """What all replications share.

    Attributes
    ----------
    simulated : Model
        From whose priors parameters are drawn, and data.
    fitted : Model
        What is fitted to these data: the same model, unless a wrong one is to be caught.
    size : int
        Draws among which each quantity is ranked.
    draws, tune, chains : int
    target_accept : float
    seed : int
    """

    simulated: Model
    fitted: Model
    size: int
    draws: int
    tune: int
    chains: int
    target_accept: float
    seed: int


@dataclass(frozen=True)
class Replication:
    """What one replication found.

    Attributes
    ----------
    ranks : mapping of str to int
        By quantity, how many of the thinned draws lie below the true value; empty where the
        model could not be fitted.
    ess : float
        Smallest effective sample size of the quantities, before thinning.
    divergent : int
        Divergent transitions of the fit.
    longer : int
        How often the fit was done again with twice the draws, for lack of effective ones.
    failed : str
        Why there is no fit; empty where there is one.
    """

    ranks: Mapping[str, int]
    ess: float
    divergent: int
    longer: int
    failed: str = ""


def replicate(study: Study, number: int) -> Replication:
    """Return the ranks of one replication, which hang on the study's seed and its number alone."""
    simulated, fitting = np.random.SeedSequence([study.seed, number]).spawn(2)
    point, y = simulate(study.simulated, np.random.default_rng(simulated))
    if not np.isfinite(y).all():
        text = "the data drawn are not finite: the priors reach beyond what floating point holds"
        return Replication({}, np.nan, 0, 0, text)
    model = study.fitted.with_response(y)
    seeds = fitting.generate_state(_DOUBLINGS + 1)
    truth = quantities(study.simulated.with_response(y), point)
    for longer, seed in enumerate(seeds):
        try:
            fit = _fitted(study, model, int(seed), 2**longer)
        except EngineError as error:
            return Replication({}, np.nan, 0, longer, str(error))
        found = quantities(model, fit.posterior)
        ess = _smallest_ess(found, _exact(model, fit.posterior))
        if ess >= study.size or longer == _DOUBLINGS:
            break
    divergent = int(fit.idata["sample_stats"]["diverging"].sum())
    return Replication(_ranks(truth, found, study.size), ess, divergent, longer)


def simulate(model: Model, rng: np.random.Generator) -> tuple[xr.Dataset, Floats]:
    """Return parameters drawn from a model's priors, and a response drawn at them (n,).

    Raises
    ------
    FitError
        The response is censored, truncated or weighted, or its family cannot be drawn.
    """
    for name in ("censoring", "truncation"):
        if getattr(model.design, name) is not None:
            raise FitError(
                f"Data under {name} are not drawn from the model: what was not seen has no "
                "distribution here. Check the model without it."
            )
    if model.design.weights is not None:
        raise FitError(
            "weights() multiplies log likelihoods, which names no distribution to draw from. "
            "Use precision() where variances are meant, or leave weights() out."
        )
    # what overflows is not finite, and said to be so
    with np.errstate(over="ignore", invalid="ignore"):
        point = prior_draws(model.design, model.resolved, 1, rng)
        y = draw_from(model.design, model.family, point, rng)
    return point, y - 1.0 if model.family.name == "cumulative" else y


def quantities(model: Model, posterior: xr.Dataset) -> dict[str, Floats]:
    """Return every scalar that is ranked, (chains, draws) each.

    Coefficients, sds, correlations, family parameters, group effects, and the joint log
    likelihood of the model's response.
    """
    groups = all_group_labels(model.design)
    found = dict(scalars(posterior, groups, model.resolved.parameters))
    for group in groups:
        array = posterior[group.effects].transpose(..., group.name, group.dim)
        values = draws_of(array).reshape(*array.shape[:2], -1)
        names = element_names(array)
        found |= {name: values[:, :, k] for k, name in enumerate(names)}
    shape = posterior.sizes["chain"], posterior.sizes["draw"]
    total = joint_log_likelihood(model, posterior, np.arange(shape[0] * shape[1]))
    return found | {LIKELIHOOD: total.reshape(shape)}


def _fitted(study: Study, model: Model, seed: int, times: int) -> Fit:
    """Return a fit of so many times the draws; what it would warn of is counted instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return model.fit(
            draws=times * study.draws,
            tune=times * study.tune,
            chains=study.chains,
            seed=seed,
            cores=1,
            target_accept=study.target_accept,
            memory="1 TB",
            progress=False,
        )


def _exact(model: Model, posterior: xr.Dataset) -> frozenset[str]:
    """Return the names of group effects that were drawn exactly once their scales were."""
    groups = all_group_labels(model.design)
    arrays = [posterior[group.effects].transpose(..., group.name, group.dim) for group in groups]
    return frozenset(
        name for array in arrays if array.attrs.get(EXACT) for name in element_names(array)
    )


def _smallest_ess(found: Mapping[str, Floats], exact: frozenset[str]) -> float:
    """Return the smallest bulk effective sample size of what the sampler moved."""
    sizes = [
        float(_STATS.ess(values, chain_axis=0, draw_axis=1, method="bulk"))
        for name, values in found.items()
        if name not in exact and np.ptp(values) > 0
    ]
    return min(sizes, default=np.nan)


def _ranks(truth: Mapping[str, Floats], found: Mapping[str, Floats], size: int) -> dict[str, int]:
    """Return for each quantity how many of ``size`` draws, evenly spaced, lie below the truth."""
    ranks = {}
    for name, values in found.items():
        flat = values.ravel()
        taken = flat[np.linspace(0, len(flat) - 1, size).round().astype(np.intp)]
        ranks[name] = int(np.sum(taken < truth[name].item()))
    return ranks

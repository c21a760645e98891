"""A model fitted again without some of its rows, and what it then says about them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hiermodels.answers.counted_rows import one_of_each, without_copies
from hiermodels.answers.parallel_runs import check_workers, run_all
from hiermodels.answers.pointwise import is_exact, row_densities
from hiermodels.answers.smoothing import log_mean
from hiermodels.engines.leave_out import row_terms
from hiermodels.engines.marginal import marginal_problem
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.errors import EngineError, SamplingWarning
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.model import Model
from hiermodels.fitting.points import marginal_points

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Density = Callable[[Floats], Floats]
_DRAWS: Final = 1000


@dataclass(frozen=True, eq=False)
class Refits:
    """What refits of a model without some of its rows share.

    Attributes
    ----------
    model : Model
    seed : int
        Of the fit; with a key it makes each refit's own.
    draws, chains : int
    cores : int or None
        Chains of a refit that run at a time; None: as many as there are processors.
    """

    model: Model
    seed: int
    draws: int
    chains: int
    cores: int | None = None

    @classmethod
    def of(cls, fit: Fit, cores: int | None = None) -> "Refits":
        """Return refits with as many draws as a fit has."""
        sizes = fit.posterior.sizes
        return cls(fit.model, fit.seed, int(sizes["draw"]), int(sizes["chain"]), cores)

    def without(self, held: Ints, key: int, what: str, counts: Floats | None = None) -> Fit:
        """Return the fit without some rows; see :func:`fit_without`."""
        if counts is None:
            kept = np.setdiff1d(np.arange(self.model.design.n), held)
            rest = self.model.on_rows(kept)
        else:
            rest = without_copies(self.model, held, counts)
        seed = int(np.random.SeedSequence([self.seed, key]).generate_state(1, np.uint32)[0])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SamplingWarning)
            small = rest.fit(
                draws=self.draws, chains=self.chains, seed=seed, cores=self.cores, progress=False
            )
        for one in caught:
            if issubclass(one.category, SamplingWarning):
                text = f"In the refit without {what}: {one.message}"
                warnings.warn(text, SamplingWarning, stacklevel=3)
            else:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        return small


@dataclass(frozen=True, eq=False)
class LeftOut:
    """One refit to do.

    Attributes
    ----------
    rows : ndarray of int
        The rows left out.
    key : int
        Makes the refit's seed with the fit's.
    what : str
        What is left out, for warnings.
    counts : ndarray or None
        Of counted rows how many of each are left out; None: all of them.
    """

    rows: Ints
    key: int
    what: str
    counts: Floats | None = None


def refit_each[R](
    fit: Fit,
    jobs: Sequence[LeftOut],
    answer: Callable[[Model, Fit, Ints, int], R],
    cores: int | None,
    client: Any,
) -> list[R]:
    """Return ``answer(model, refit, rows, seed)`` of a refit without each set of rows.

    Parameters
    ----------
    fit : Fit
    jobs : sequence of LeftOut
    answer : callable
        Of a module: other processes look it up by its name.
    cores, client
        Where refits run; see :func:`hiermodels.answers.parallel_runs.run_each`.
    """
    # chains side by side where refits are not
    alone = client is None and check_workers(cores, None) == 1
    shared = Refits.of(fit, None if alone else 1), answer
    return run_all(_answered, shared, jobs, cores=cores, client=client, what="Refits")


def _answered[R](shared: tuple[Refits, Callable[[Model, Fit, Ints, int], R]], job: LeftOut) -> R:
    """Return what one refit says about the rows left out."""
    refits, answer = shared
    small = refits.without(job.rows, job.key, job.what, job.counts)
    return answer(refits.model, small, job.rows, refits.seed)


def fit_without(fit: Fit, held: Ints, key: int, what: str) -> Fit:
    """Return the model fitted to all rows but some, with as many draws and the same priors.

    Parameters
    ----------
    fit : Fit
    held : ndarray of int
        The rows left out.
    key : int
        Makes the refit's seed with the fit's.
    what : str
        What is left out, for warnings.

    Warns
    -----
    SamplingWarning
        As ``model.fit`` does, saying which refit it was.
    """
    return Refits.of(fit).without(held, key, what)


def log_density(model: Model) -> Density:
    """Return a function from unconstrained vectors (S, ndim) to log densities (S,)."""
    one = MarginalDensity(model.marginal)

    def every(x: Floats) -> Floats:
        values = np.array([one(point)[0] for point in x])
        if not np.all(np.isfinite(values)):
            raise EngineError(
                f"{int(np.sum(~np.isfinite(values)))} of {len(x)} draws of the scales cannot be "
                "factored to working precision. Give scales that may be zero or huge a prior that "
                "holds them off."
            )
        return values

    return every


def points_of(fit: Fit) -> Floats:
    """Return the draws of a fit in the marginal engine's coordinates (S, ndim)."""
    model = fit.model
    return marginal_points(model.marginal, model.design, model.resolved, fit.posterior)


def held_rows(model: Model, small: Fit, held: Ints, seed: int) -> Floats:
    """Return each held-out row's log predictive density (m,) by a fit without all of them."""
    if not is_exact(model):
        sizes = small.posterior.sizes
        take = np.arange(sizes["chain"] * sizes["draw"])
        terms = row_densities(one_of_each(model), small.posterior, held, take, "draw", seed)
        return log_mean(terms)
    x = points_of(small)
    residual = model.design.residual
    if residual is not None and residual.structure != "independent":
        return _one_by_one(model, small, held, x)
    # rows of weight zero say nothing about effects, yet their density given the rest is there
    weights = np.ones(model.design.n) if model.design.weights is None else model.design.weights
    silent = weights.copy()
    silent[held] = 0.0
    design = model.design
    if residual is not None:
        design = replace(design, residual=replace(residual, weights=silent))
    problem = marginal_problem(design, model.family, model.resolved)
    found = np.full(model.design.n, np.nan)
    for part in row_terms(problem, model.design, model.resolved, x):
        found[part.rows] = log_mean(part.kept)
    return found[held]


def _one_by_one(model: Model, small: Fit, held: Ints, x: Floats) -> Floats:
    """Return log predictive densities of rows that residuals join to those kept."""
    kept = np.setdiff1d(np.arange(model.design.n), held)
    found = np.empty(len(held))
    # each row takes a density of all others at every draw: a thousand draws are enough
    x = x[:: max(len(x) // _DRAWS, 1)]
    without = log_density(small.model)(x)
    for k, row in enumerate(held):
        more = model.on_rows(np.sort(np.append(kept, row)))
        found[k] = log_mean(log_density(more)(x) - without)
    return found

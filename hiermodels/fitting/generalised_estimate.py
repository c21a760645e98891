"""What an approximate likelihood of a generalised model gives, with intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize

from hiermodels.engines.laplace import LaplaceLikelihood, maximise_approximation
from hiermodels.engines.laplace_problem import LaplaceProblem, laplace_problem
from hiermodels.engines.quadrature import QuadratureLikelihood
from hiermodels.engines.response_derivatives import Response
from hiermodels.errors import EngineError, FitError
from hiermodels.fitting import estimate_tables as tables
from hiermodels.fitting.components import bar_functions
from hiermodels.fitting.estimate import Estimate
from hiermodels.fitting.intervals import (
    Surface,
    bootstrap_table,
    check_bootstrap,
    drawn_effects,
    profile_intervals,
)
from hiermodels.spec.counted import counts_alone, row_places, single_rows
from hiermodels.spec.design import Design
from hiermodels.spec.priors import ResolvedPriors
from hiermodels.spec.subset import subset_priors

Array = NDArray[np.float64]
RESIDUALS: Final = ("response", "pearson", "deviance")


def make_likelihood(problem: LaplaceProblem, nodes: int) -> LaplaceLikelihood:
    """Return the approximation to the likelihood: Laplace's for 0 nodes, else quadrature."""
    return QuadratureLikelihood(problem, nodes) if nodes else LaplaceLikelihood(problem)


@dataclass(frozen=True, eq=False, repr=False)
class GeneralisedEstimate(Estimate):
    """A generalised model fitted by Laplace's approximation or adaptive quadrature.

    Attributes
    ----------
    problem : LaplaceProblem
    nodes : int
        Of the quadrature; 0 for Laplace's approximation.
    eta : ndarray (n,)
        Linear predictor, offset and group effects included.
    warnings : tuple of str
        Why estimates are not finite or not to be trusted, in words: separation, a parameter at
        its bound.

    Notes
    -----
    ``loglik`` holds every constant of the densities, so that it is comparable between families
    and between ``"laplace"`` and ``"agq"``. lme4's with ``nAGQ > 1`` leaves the saturated model's
    out for counts. ``ranef()["se"]`` is given variances and coefficients, as lme4's; glmmTMB's
    adds the uncertainty of the coefficients, as ``coef()`` does here.
    """

    problem: LaplaceProblem
    nodes: int
    eta: Array
    warnings: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether the optimum is stationary and finite; one on the boundary counts."""
        return self.optimum.stationary and not self.warnings

    @property
    def certain(self) -> bool:
        """Whether nothing is said by `doubts`."""
        return not self.doubts

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is not certain about the optimum, in words; separation first."""
        if self.warnings:
            # a search that runs towards infinity ends anywhere
            return self.warnings
        return self.optimum.doubts

    @property
    def method_in_words(self) -> str:
        """The method, as printed."""
        if self.nodes:
            return f"adaptive Gauss-Hermite quadrature with {self.nodes} nodes"
        return "Laplace's approximation"

    @property
    def closing_note(self) -> str:
        """How z and intervals are to be read."""
        return "z and intervals are normal ones, from the curvature of the log likelihood."

    # --- components and intervals

    @cached_property
    def _functions(self) -> dict[str, Callable[[Array], float]]:
        """Every scalar of the summary as a function of the coordinates; coefficients last."""
        problem, design = self.problem, self.model.design

        def component(function: Callable[[Array, float], float]) -> Callable[[Array], float]:
            return lambda x: function(x, 1.0)

        def coefficient(k: int) -> Callable[[Array], float]:
            return lambda x: float(design.T[k] @ problem.coefficients(x))

        bars = bar_functions(problem.blocks, design)
        found = {name: component(function) for name, function in bars.items()}
        scale = problem.response.scale
        if scale is not None:
            found[scale] = lambda x: float(np.exp(problem.phi(x)))
        for k, name in enumerate(design.coefs):
            found[name if k == design.intercept else f"b[{name}]"] = coefficient(k)
        return found

    @cached_property
    def _coefficient_names(self) -> tuple[str, ...]:
        return tuple(self._functions)[len(self._functions) - len(self.model.design.coefs) :]

    @cached_property
    def components(self) -> dict[str, float]:
        """Sds, correlations and the family's parameter by the names of the summary."""
        return {
            name: function(self.optimum.x)
            for name, function in self._functions.items()
            if name not in self._coefficient_names
        }

    def intervals(
        self,
        method: str = "profile",
        prob: float = 0.95,
        *,
        parameters: tuple[str, ...] | None = None,
        draws: int = 500,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Return intervals of components and coefficients; see `Estimate`."""
        if self.warnings:
            raise FitError(
                f"The estimate has no finite maximum to take intervals around: {self.warnings[0]}."
            )
        names = self._asked(parameters, tuple(self._functions))
        if method == "profile":
            return profile_intervals(self._surface(), names, prob)
        if method == "bootstrap":
            return self._bootstrap(names, prob, draws, seed)
        raise FitError(f"got method={method!r}; intervals are 'profile' or 'bootstrap'")

    def _surface(self) -> Surface:
        """Return the likelihood in coordinates of like curvature."""
        problem, units = self.problem, self.problem.units
        likelihood = make_likelihood(problem, self.nodes)
        start = self.optimum.x / units
        inside = self.optimum.x.copy()
        zero = problem.diagonal[inside[problem.diagonal] < 1e-3]
        inside[zero] = 0.1
        lower, upper = problem.bounds

        def value(t: Array) -> tuple[float, Array]:
            found, gradient = likelihood(t * units)
            return found, gradient * units

        def scaled(function: Callable[[Array], float]) -> Callable[[Array], float]:
            return lambda t: function(t * units)

        return Surface(
            value, self.optimum.value, start, inside / units,
            optimize.Bounds(lower / units, upper / units),
            {name: scaled(function) for name, function in self._functions.items()},
            {name: self._kind(name) for name in self._functions},
        )  # fmt: skip

    def _kind(self, name: str) -> str:
        if name in self._coefficient_names:
            return "real"
        return "interval" if name.startswith("cor_") else "positive"

    def _bootstrap(
        self, names: tuple[str, ...], prob: float, draws: int, seed: int | None
    ) -> pd.DataFrame:
        design, problem, x = self.model.design, self.problem, self.optimum.x
        check_bootstrap(design, draws)
        single, priors, response, places = self._single_rows()
        generator = np.random.default_rng(seed)
        population = (problem.offset + problem.X @ problem.coefficients(x))[places]
        found, failed = [], 0
        for _ in range(draws):
            eta = population
            for term, effects in drawn_effects(single, problem.blocks, x, generator):
                eta = eta + np.einsum("nq,nq->n", term.z_centred, effects[term.index])
            mu = response.inverse_link(eta)
            y = response.simulate(mu, problem.phi(x), generator)
            try:
                again = laplace_problem(single, self.model.family, priors, y)
                best = maximise_approximation(again, make_likelihood(again, self.nodes))
            except EngineError:
                failed += 1
                continue
            if not best.stationary:
                failed += 1
                continue
            # the refit's coordinates of the coefficients are its own
            moved = best.x.copy()
            at = problem.n_theta + problem.n_phi
            moved[at:] = np.linalg.solve(problem.root, again.coefficients(best.x) - problem.centre)
            found.append([self._functions[name](moved) for name in names])
        estimates = [self._functions[name](x) for name in names]
        return bootstrap_table(names, estimates, found, prob, failed)

    def _single_rows(self) -> tuple[Design, ResolvedPriors, Response, NDArray[np.intp]]:
        """Return what has a row for each of those counted together, and which each one is."""
        design, family = self.model.design, self.model.family
        if not counts_alone(design):
            return design, self.priors, self.problem.response, np.arange(design.n)
        places = row_places(design, design.n_rows, np.random.default_rng(0))
        single = single_rows(design, places)
        response = Response(
            family.name, family.link, single.y, single.trials, None, single.precision
        )
        return single, subset_priors(self.priors, places), response, places

    # --- rows

    def fitted(self) -> pd.DataFrame:
        """Return the expected response of every row, group effects included: estimate.

        For a binomial family the expected number of successes.
        """
        return super().fitted()

    def residuals(self, kind: str = "response") -> "pd.Series[float]":
        """Return residuals, indexed as the data.

        Parameters
        ----------
        kind : {"response", "pearson", "deviance"}
            Response minus fitted value; that over its sd; or the signed root of twice the distance
            of the row's log likelihood from its largest. The squares of the last sum to what R's
            ``deviance()`` gives for the fit.

        Raises
        ------
        FitError
            The kind is unknown.
        """
        if kind not in RESIDUALS:
            raise FitError(f"got kind={kind!r}; residuals are {', '.join(map(repr, RESIDUALS))}")
        plain = super().residuals()
        if kind == "response":
            return plain
        response, phi = self.problem.response, self.problem.phi(self.optimum.x)
        left = plain.to_numpy(dtype=np.float64)
        if kind == "pearson":
            mean = self.fitted_values / response.size
            values = left / np.sqrt(response.variance(mean, phi))
            if response.weights is not None:
                values = values * np.sqrt(response.weights)
        else:
            gap = response.saturated(phi) - response.derivatives(self.eta, phi).value
            values = np.sign(left) * np.sqrt(2.0 * np.maximum(gap, 0.0))
        counts = self.model.design.weights
        if counts is not None and counts_alone(self.model.design):
            # of one of the rows that were counted together, not of all
            values = values / np.sqrt(counts)
        return pd.Series(values, index=plain.index, name="residual")

    def summary(self, prob: float = 0.95) -> pd.DataFrame:
        """Return every scalar: coefficients, sds, correlations, the family's parameter."""
        return tables.summary(self.fixef(prob), self.components)

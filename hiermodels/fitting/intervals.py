"""Profile-likelihood and parametric-bootstrap intervals of variance components."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, sparse, stats

from hiermodels.engines.likelihood_problem import Block, Estimation, estimation_problem
from hiermodels.engines.optimise import Optimum
from hiermodels.engines.profiling import evaluate, maximise_likelihood, residual_precision
from hiermodels.errors import EngineError, FitError
from hiermodels.fitting.components import component_functions
from hiermodels.fitting.draws import check_prob, tails
from hiermodels.spec.counted import counts_alone
from hiermodels.spec.design import Design, Term
from hiermodels.spec.priors import ResolvedPriors

Array = NDArray[np.float64]
Component = Callable[[Array, float], float]
# Beyond these, in logarithms below the estimate and in arctanh, an end is at its bound.
_LOG_END: Final = 7.0
_ATANH_END: Final = 5.0


# --- profile --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """The real line on which a component is moved, and its values at the two ends."""

    to_line: Callable[[float], float]
    back: Callable[[float], float]
    first: float
    last: float
    low_end: float
    high_end: float


def _line(
    name: str, kind: str, estimate: float, unit: float, interval: tuple[float, float]
) -> _Line:
    """Return the line of a component: logarithms of sds, arctanh of correlations."""
    if kind == "real":
        return _Line(float, float, -np.inf, np.inf, -np.inf, np.inf)
    if kind == "positive":
        least = max(estimate, 1e-4 * unit)
        first = float(np.log(least)) - _LOG_END
        log = _logarithm(1e-6 * least)
        return _Line(log, lambda t: float(np.exp(t)), first, np.inf, 0.0, np.inf)
    low, high = interval if name in ("ar", "cosy") else (-1.0, 1.0)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    return _Line(
        lambda v: float(np.arctanh(np.clip((v - middle) / half, -0.9999, 0.9999))),
        lambda t: middle + half * float(np.tanh(t)),
        -_ATANH_END, _ATANH_END, low, high,
    )  # fmt: skip


def _logarithm(floor: float) -> Callable[[float], float]:
    return lambda v: float(np.log(max(v, floor)))


@dataclass(frozen=True, eq=False)
class Surface:
    """A log likelihood as its profiles are taken.

    Attributes
    ----------
    value : callable
        Log likelihood and gradient (k,) at coordinates (k,).
    best : float
        The log likelihood at its maximum.
    start : ndarray (k,)
        Coordinates of the maximum.
    inside : ndarray (k,)
        A point next to it away from zeros, where a component's slope says nothing.
    bounds : scipy.optimize.Bounds
    components : dict of str to callable
        By name the component at coordinates (k,).
    kinds : dict of str to str
        By name ``"positive"``, ``"interval"`` or ``"real"``.
    unit : float
        Size of the residuals, which tells a small sd.
    interval : tuple of float
        The ends of ``"interval"`` components of the residuals; of others -1 and 1.
    """

    value: Callable[[Array], tuple[float, Array]]
    best: float
    start: Array
    inside: Array
    bounds: optimize.Bounds
    components: Mapping[str, Callable[[Array], float]]
    kinds: Mapping[str, str]
    unit: float = 1.0
    interval: tuple[float, float] = (-1.0, 1.0)


def gaussian_surface(
    problem: Estimation, design: Design, priors: ResolvedPriors, optimum: Optimum
) -> Surface:
    """Return the (restricted) likelihood of a Gaussian model, its scale as a last coordinate."""
    profiled, ndim = problem.along is not None, problem.ndim
    scale = evaluate(problem, optimum.x).scale
    start = np.append(optimum.x, np.log(scale)) if profiled else optimum.x
    lower, upper = problem.bounds
    if profiled:
        lower, upper = np.append(lower, -np.inf), np.append(upper, np.inf)
    inside = start.copy()
    zero = problem.diagonal[start[problem.diagonal] < 1e-3]
    inside[zero] = 0.1 * (1.0 if profiled else max(1.0, float(np.max(start))))

    def value(z: Array) -> tuple[float, Array]:
        log_scale = float(z[-1]) if profiled else None
        point = evaluate(problem, z[:ndim], log_scale=log_scale)
        return point.loglik, point.gradient

    def at(function: Component) -> Callable[[Array], float]:
        return lambda z: function(z[:ndim], float(np.exp(z[-1])) if profiled else 1.0)

    functions = component_functions(problem, design, priors)
    interval = design.residual.correlation_range if design.residual else (-1.0, 1.0)
    return Surface(
        value, optimum.value, start, inside, optimize.Bounds(lower, upper),
        {name: at(function) for name, function in functions.items()},
        {name: _kind(name) for name in functions}, scale, interval,
    )  # fmt: skip


def _kind(name: str) -> str:
    """Return on which line a component of a Gaussian model lies."""
    if name.startswith(("sigma_Intercept", "sigma_b")):
        return "real"
    return "positive" if name.startswith(("sd_", "sigma")) else "interval"


class _Profile:
    """The likelihood with one component held, maximised over everything else."""

    def __init__(self, surface: Surface, name: str) -> None:
        self.surface, self.held = surface, surface.components[name]
        self.start, self.inside, self.bounds = surface.start, surface.inside, surface.bounds
        self.best = surface.best

    def value(self, z: Array) -> tuple[float, Array]:
        """Return minus the log likelihood and its gradient."""
        value, gradient = self.surface.value(z)
        if not np.isfinite(value):
            return 1e10, np.zeros_like(z)
        return -value, -gradient

    def slopes(self, z: Array, line: _Line) -> Array:
        """Return central differences of the component on its line."""
        out = np.empty_like(z)
        for k in range(len(z)):
            h = 1e-6 * max(1.0, abs(z[k]))
            ahead, behind = z.copy(), z.copy()
            ahead[k] += h
            behind[k] -= h
            out[k] = (line.to_line(self.held(ahead)) - line.to_line(self.held(behind))) / (2 * h)
        return out

    def drop(self, target: float, line: _Line, warm: Array) -> tuple[float, Array]:
        """Return twice the fall of the log likelihood with the component at a place of its line."""
        best, where = np.inf, warm
        held: Any = {
            "type": "eq",
            "fun": lambda z: line.to_line(self.held(z)) - target,
            "jac": lambda z: self.slopes(z, line),
        }
        for start in (warm, self.inside):
            result = optimize.minimize(
                self.value, start, jac=True, method="SLSQP", bounds=self.bounds,
                constraints=held,
                options={"maxiter": 300, "ftol": 1e-10},
            )  # fmt: skip
            z = np.asarray(result.x, dtype=np.float64)
            met = abs(line.to_line(self.held(z)) - target) < 1e-5
            if met and float(result.fun) < best:
                best, where = float(result.fun), z
            if met and result.success:
                break
        return 2.0 * (self.best + best), where


def profile_intervals(surface: Surface, names: Sequence[str], prob: float) -> pd.DataFrame:
    """Return profile-likelihood intervals of components.

    Parameters
    ----------
    surface : Surface
    names : sequence of str
    prob : float

    Returns
    -------
    pandas.DataFrame
        Indexed by parameter: estimate, ci_low, ci_high; nan where no constrained maximum was found.
    """
    level = float(stats.chi2.ppf(check_prob(prob), 1))
    rows = []
    for name in names:
        profile = _Profile(surface, name)
        estimate = profile.held(surface.start)
        if not np.isfinite(estimate):
            # a correlation with an effect that does not vary
            rows.append((estimate, -1.0, 1.0))
            continue
        line = _line(name, surface.kinds[name], estimate, surface.unit, surface.interval)
        ends = [_end(profile, line, estimate, sign, level) for sign in (-1.0, 1.0)]
        rows.append((estimate, ends[0], ends[1]))
    index = pd.Index(list(names), name="parameter", dtype=object)
    out = pd.DataFrame(rows, columns=["estimate", "ci_low", "ci_high"], index=index)
    out.attrs.update(prob=prob, method="profile")
    return out


def _end(profile: _Profile, line: _Line, estimate: float, sign: float, level: float) -> float:
    """Return where the likelihood has fallen by the level, on one side of the estimate."""
    end = line.low_end if sign < 0 else line.high_end
    limit = line.first if sign < 0 else line.last
    # one of zero has no logarithm: the search begins where it could not be told from zero
    inside = max(line.to_line(estimate), line.first + _LOG_END * (line.low_end == 0.0))
    if sign * (inside - limit) >= 0 or estimate == end:
        return end
    warm, step = profile.start, 0.1
    solutions: dict[float, Array] = {inside: warm}
    while True:
        outside = inside + sign * step
        at_limit = sign * (outside - limit) >= 0
        outside = limit if at_limit else outside
        fall, warm = profile.drop(outside, line, warm)
        if not np.isfinite(fall):
            return float("nan")
        solutions[outside] = warm
        if fall > level:
            break
        if at_limit or step > 60.0:
            return end
        inside, step = outside, 1.6 * step

    def excess(t: float) -> float:
        near = min(solutions, key=lambda known: abs(known - t))
        fall, solutions[t] = profile.drop(t, line, solutions[near])
        return fall - level

    return line.back(float(optimize.brentq(excess, inside, outside, xtol=1e-6, rtol=1e-8)))


# --- parametric bootstrap -------------------------------------------------------------------


def bootstrap_intervals(
    problem: Estimation,
    design: Design,
    priors: ResolvedPriors,
    optimum: Optimum,
    population: Array,
    names: Sequence[str],
    prob: float,
    draws: int,
    seed: int | None,
) -> pd.DataFrame:
    """Return quantiles of variance components refitted to responses simulated from the estimate.

    Parameters
    ----------
    problem : Estimation
    design : Design
    priors : ResolvedPriors
    optimum : Optimum
    population : ndarray (n,)
        Expected response without group effects.
    names : sequence of str
    prob : float
    draws : int
    seed : int or None

    Returns
    -------
    pandas.DataFrame
        As of `profile_intervals`; ``attrs["failed"]`` counts refits left out.

    Raises
    ------
    FitError
        The model has likelihood weights, or draws are too few.
    """
    check_bootstrap(design, draws)
    functions = component_functions(problem, design, priors)
    scale = evaluate(problem, optimum.x).scale
    estimates = [functions[name](optimum.x, scale) for name in names]
    generator = np.random.default_rng(seed)
    noise = residual_simulator(problem, design, optimum.x, scale)
    found, failed = [], 0
    for _ in range(draws):
        y = population + noise(generator)
        for term, effects in drawn_effects(design, problem.blocks, optimum.x, generator):
            y = y + scale * np.einsum("nq,nq->n", term.z_centred, term.by_row(effects))
        try:
            again = estimation_problem(design, priors, problem.reml, y)
            best = maximise_likelihood(again)
        except EngineError:
            failed += 1
            continue
        if not best.stationary:
            failed += 1
            continue
        size = evaluate(again, best.x).scale
        found.append([functions[name](best.x, size) for name in names])
    return bootstrap_table(names, estimates, found, prob, failed)


def drawn_effects(
    design: Design, blocks: Sequence[Block], x: Array, generator: np.random.Generator
) -> Iterator[tuple[Term, Array]]:
    """Yield each bar with a draw of its centred effects (J, q), from relative factors at x.

    Parameters
    ----------
    design : Design
    blocks : sequence of Block
        By bar, and of a bar by subpopulation.
    x : ndarray (ndim,)
    generator : numpy.random.Generator
    """
    for k, term in enumerate(design.terms):
        factors = np.stack([block.factor(x) for block in blocks if block.term == k])
        scores = generator.standard_normal((len(term.levels), len(term.coefs)))
        if term.cov is not None:
            scores = np.linalg.cholesky(term.cov) @ scores
        place = np.zeros(len(scores), dtype=np.intp) if term.by is None else term.by.index
        yield term, np.einsum("jab,jb->ja", factors[place], scores)


def bootstrap_table(
    names: Sequence[str], estimates: Sequence[float], found: Sequence[Sequence[float]],
    prob: float, failed: int,
) -> pd.DataFrame:  # fmt: skip
    """Return estimates with quantiles of their refits, as `bootstrap_intervals` does."""
    values = np.array(found, dtype=np.float64).reshape(len(found), len(names))
    # a correlation with an effect that does not vary in a refit has no value there
    ends = np.array(
        [
            np.quantile(own, tails(prob)) if own.size else (np.nan, np.nan)
            for own in (column[np.isfinite(column)] for column in values.T)
        ]
    ).reshape(len(names), 2)
    index = pd.Index(list(names), name="parameter", dtype=object)
    out = pd.DataFrame(
        {"estimate": list(estimates), "ci_low": ends[:, 0], "ci_high": ends[:, 1]}, index=index
    )
    out.attrs.update(prob=prob, method="bootstrap", draws=len(found), failed=failed)
    return out


def check_bootstrap(design: Design, draws: int) -> None:
    """Raise FitError where no responses can be simulated, or too few are asked for."""
    single = counts_alone(design)
    if single and design.n_rows > 1_000_000:
        text = "a bootstrap simulates at most 1,000,000 rows that were counted together, not "
        raise FitError(f"{text}{design.n_rows:,}. Use method='profile'.")
    if design.weights is not None and not single:
        raise FitError(
            "weights() multiplies log likelihoods, which names no distribution to simulate from. "
            "Use method='profile', or precision() where variances are meant."
        )
    if draws < 2:
        raise FitError(f"got draws={draws}; a bootstrap needs at least 2, and better 500")


def residual_simulator(
    problem: Estimation, design: Design, x: Array, scale: float
) -> Callable[[np.random.Generator], Array]:
    """Return a function that draws residuals (n,) from the residual structure at a point."""
    precision = residual_precision(problem, design, x)
    if isinstance(precision, np.ndarray):
        sds = scale / np.sqrt(precision)
        return lambda generator: sds * generator.standard_normal(design.n)
    whole = sparse.csr_array(precision)
    residual = design.residual
    if residual is None or residual.series is None:
        raise EngineError("Correlated residuals have no series.")
    order = np.argsort(residual.series, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(residual.series))[:-1])
    factors = [np.linalg.cholesky(whole[rows][:, rows].toarray()) for rows in groups]

    def draw(generator: np.random.Generator) -> Array:
        out = np.empty(design.n)
        for rows, factor in zip(groups, factors, strict=True):
            out[rows] = np.linalg.solve(factor.T, generator.standard_normal(len(rows)))
        return scale * out

    return draw

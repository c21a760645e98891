"""Every family in the PyMC graph: against the compiled kernels, and against SciPy written out.

Where a family and link have a kernel, the two densities agree at random points, coordinates mapped,
prior, Jacobians and group effects included. Every density by row agrees with SciPy's at moderate
values, and with 50-digit arithmetic far out.
"""

import itertools

import mpmath
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from pytensor.compile.mode import Mode
from scipy import special, stats

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density, constrain, layout, supports
from hiermodels.fitting.generative import build_generative
from hiermodels.fitting.graph_densities import row_density
from hiermodels.fitting.publishing import publish
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

# Two programs do the same sums in another order; PyMC writes the log 2 of half distributions in
# float32, 2e-9 too much for each.
ROUNDING, FLOAT32_LOG2 = 1e-10, 2e-9
# The density as it is written: compiling it is what takes time here.
PLAIN = Mode(linker="py", optimizer=None)


def frame(seed=0):
    rng = np.random.default_rng(seed)
    n = 60
    data = pd.DataFrame(
        {
            "x": rng.normal(5, 1, n),
            "z": rng.normal(size=n),
            "h": rng.choice(list("abc"), n),
            "g": rng.choice(list("ABCDEF"), n),
            "k": rng.choice(list("pq"), n),
            "w": rng.integers(1, 4, n),
            "s": rng.uniform(0.5, 2, n),
        }
    )
    data["y"] = data.x + rng.normal(size=n)
    data["positive"] = np.exp(0.3 * data.z + rng.normal(0, 0.3, n))
    data["unit"] = special.expit(rng.normal(size=n))
    data["count"] = rng.poisson(2, n)
    data["trials"] = data["count"] + rng.integers(1, 4, n)
    data["binary"] = rng.integers(0, 2, n)
    data["rank"] = pd.Categorical(rng.choice(list("lmh"), n), categories=list("lmh"), ordered=True)
    data["c"] = rng.choice(["none", "left", "right", "interval"], n)
    data["upper"] = data.y + rng.uniform(0.2, 1, n)
    data["positive_upper"] = data.positive * 1.5
    data["unit_upper"] = np.sqrt(data.unit)
    data["count_upper"] = data["count"] + rng.integers(0, 3, n)
    data["low"] = np.floor(data.y) - 1.0
    return data


RESPONSES = {
    "gaussian": "y",
    "t": "y",
    "bernoulli": "binary",
    "binomial": "count | trials(trials)",
    "beta_binomial": "count | trials(trials)",
    "poisson": "count",
    "negativebinomial": "count",
    "gamma": "positive",
    "beta": "unit",
    "cumulative": "rank",
    "zero_inflated_poisson": "count",
    "zero_inflated_negativebinomial": "count",
}
REAL, UNIT = ("identity", "log", "inverse"), ("logit", "probit", "cloglog")
LINKS = {
    "gaussian": REAL,
    "t": REAL,
    "bernoulli": UNIT,
    "binomial": UNIT,
    "beta_binomial": UNIT,
    "poisson": ("log", "identity", "sqrt"),
    "negativebinomial": ("log", "identity"),
    "gamma": ("log", "inverse", "identity"),
    "beta": UNIT,
    "cumulative": UNIT,
    "zero_inflated_poisson": ("log",),
    "zero_inflated_negativebinomial": ("log",),
}


class Case:
    """One model: design, priors, graph, and the kernel's problem."""

    def __init__(self, formula, family, priors=None, link=None, centred=False, data=None):
        self.family = Family(family, link or "")
        data = frame() if data is None else data
        self.design = build_design(parse_formula(formula), data, self.family)
        self.priors = resolve_priors(self.design, self.family, priors)
        self.forms = (centred,) * len(self.design.terms)
        self.graph = build_generative(self.design, self.family, self.priors, self.forms)
        self.problem = conditional_problem(self.design, self.family, self.priors, self.forms)

    def points(self, count=2, scale=0.3, seed=1):
        return np.random.default_rng(seed).normal(0, scale, (count, layout(self.problem).ndim))


def assert_same_density(case, graph_point, scale=0.3):
    assert supports(case.problem) is None
    density, graph = Density(case.problem), case.graph.model.compile_logp(mode=PLAIN)
    for x in case.points(scale=scale):
        point, more = graph_point(case.graph, case.problem, x)
        expected = density(x)[0] + more
        assert np.isfinite(expected)
        # a dozen priors at most
        assert float(graph(point)) == pytest.approx(expected, rel=ROUNDING, abs=12 * FLOAT32_LOG2)


NATIVE = {
    "t": ("y ~ x + (x | g)", "t", None),
    "t, other priors": ("y ~ x", "t", {"nu": "Exponential(0.1)", "sigma": "LogNormal(0, 1)"}),
    "t, both": (["y ~ x + (1 | g)", "sigma ~ z", "nu ~ 1 + (1 | g)"], "t", None),
    "beta binomial": ("count | trials(trials) ~ x + (1 | g)", "beta_binomial", None),
    "beta binomial, phi": (
        ["count | trials(trials) ~ x", "phi ~ x + (z | g)"], "beta_binomial",
        {"phi_sd": "Gamma(2, 1)"},
    ),
    "negative binomial": ("count ~ x + offset(log(s)) + (x | g)", "negativebinomial", None),
    "negative binomial, shape": (
        ["count ~ x + (x | g)", "shape ~ z + (1 | g)"], "negativebinomial", None,
    ),
    "negative binomial, weights": (
        ["count | weights(w) ~ x", "shape ~ 0 + h + (0 + z | k) + (1 | g)"], "negativebinomial",
        None,
    ),
    "gamma": ("positive ~ z + (z || g)", "gamma", {"shape": "Gamma(2, 1)"}),
    "gamma, shape": (["positive ~ z", "shape ~ x * z"], "gamma", {"shape_b": "StudentT(3, 0, 1)"}),
    "beta": ("unit ~ z + (1 | g)", "beta", None),
    "beta, phi": (["unit ~ z + (1 | g)", "phi ~ z + (1 | k)"], "beta", None),
    "cumulative": ("rank ~ x * z + (x | g)", "cumulative", None),
    "cumulative, raw": ("rank ~ x", "cumulative", {"cutpoints": "StudentT(3, 0, 2)"}),
    "cumulative, mixed": (
        "rank ~ x + (1 | g)", "cumulative",
        {"cutpoints[l|m]": "Laplace(-1, 2)", "x": "Normal(0, 1)"},
    ),
    "cumulative, groups alone": ("rank ~ 0 + (1 | g)", "cumulative", None),
    "zi poisson": ("count ~ x + (1 | g)", "zero_inflated_poisson", {"zi": "Beta(2, 3)"}),
    "zi poisson, zi": (["count ~ x", "zi ~ z + (1 | g)"], "zero_inflated_poisson", None),
    "zi negative binomial": ("count ~ x + (1 | g)", "zero_inflated_negativebinomial", None),
    "zi negative binomial, both": (
        ["count ~ x", "shape ~ z", "zi ~ z + offset(s) + (1 | g)"],
        "zero_inflated_negativebinomial", None,
    ),
    "gaussian, strata": (["y ~ x + (1 | g)", "sigma ~ 0 + h"], "gaussian", None),
    "gaussian, linear": (["y | precision(w) ~ x", "sigma ~ x + z"], "gaussian", None),
    "gaussian, sigma by group": (["y ~ x + (1 | g)", "sigma ~ x + (1 | g)"], "gaussian", None),
    "gaussian, se and strata": (["y | se(s, sigma=True) ~ x", "sigma ~ 0 + h"], "gaussian", None),
    "gaussian, censored": ("y | cens(c, upper) ~ x + (1 | g)", "gaussian", None),
    "gaussian, truncated below": ("y | trunc(lb=low) ~ x", "gaussian", None),
    "gaussian, truncated": ("y | trunc(lb=0, ub=20) + weights(w) ~ x", "gaussian", None),
    "gaussian, both": (
        ["y | cens(c, upper) + trunc(lb=0, ub=20) ~ x", "sigma ~ 0 + h"], "gaussian", None,
    ),
    "cumulative probit": ("rank ~ x + (x | g)", "cumulative", None, "probit"),
    "bernoulli probit": ("binary ~ x + (1 | g)", "bernoulli", None, "probit"),
    "binomial cloglog": ("count | trials(trials) ~ z + (1 | g)", "binomial", None, "cloglog"),
}  # fmt: skip


@pytest.mark.parametrize("name", NATIVE)
def test_the_kernel_and_the_graph_agree(name, graph_point):
    assert_same_density(Case(*NATIVE[name]), graph_point)


@pytest.mark.parametrize("name", ["negative binomial", "gamma", "cumulative", "gaussian, strata"])
def test_they_agree_in_the_centred_form(name, graph_point):
    assert_same_density(Case(*NATIVE[name], centred=True), graph_point)


# --- rows -----------------------------------------------------------------------------------------

mp = mpmath.mp
_LN = mpmath.log


def exact_mean(link, eta):
    """Return the mean, or the probabilities of success and failure, with 50 digits."""
    eta = mpmath.mpf(float(eta))
    if link in UNIT:
        return {
            "logit": lambda: (1 / (1 + mpmath.exp(-eta)), 1 / (1 + mpmath.exp(eta))),
            "probit": lambda: (
                mpmath.erfc(-eta / mpmath.sqrt(2)) / 2, mpmath.erfc(eta / mpmath.sqrt(2)) / 2,
            ),
            "cloglog": lambda: (-mpmath.expm1(-mpmath.exp(eta)), mpmath.exp(-mpmath.exp(eta))),
        }[link]()  # fmt: skip
    functions = {"log": mpmath.exp, "inverse": lambda x: 1 / x, "sqrt": lambda x: x**2}
    return functions.get(link, lambda x: x)(eta)


def exact_log_density(family, link, y, eta, parameters, trials):
    """Return a row's log density with 50 digits, from the definitions."""
    y, mean = mpmath.mpf(float(y)), exact_mean(link, eta) if family != "cumulative" else None
    own = [mpmath.mpf(float(value)) for value in parameters] if family != "cumulative" else []
    G = mpmath.loggamma
    match family:
        case "gaussian":
            return -((y - mean) ** 2) / (2 * own[0] ** 2) - _LN(own[0]) - _LN(2 * mp.pi) / 2
        case "t":
            sigma, nu = mpmath.exp(own[0]), mpmath.exp(own[1])
            constant = G((nu + 1) / 2) - G(nu / 2) - _LN(nu * mp.pi) / 2 - own[0]
            return constant - (nu + 1) / 2 * mpmath.log1p(((y - mean) / sigma) ** 2 / nu)
        case "bernoulli":
            return _LN(mean[0] if y else mean[1])
        case "binomial":
            ways = _LN(mpmath.binomial(trials, y))
            return ways + y * _LN(mean[0]) + (trials - y) * _LN(mean[1])
        case "beta_binomial":
            phi = mpmath.exp(own[0])
            a, b = mean[0] * phi, mean[1] * phi
            up = G(y + a) + G(trials - y + b) - G(trials + phi)
            return _LN(mpmath.binomial(trials, y)) + up - G(a) - G(b) + G(phi)
        case "poisson":
            return y * _LN(mean) - mean - G(y + 1)
        case "negativebinomial":
            shape = mpmath.exp(own[0])
            ways = G(y + shape) - G(shape) - G(y + 1)
            return ways - y * mpmath.log1p(shape / mean) - shape * mpmath.log1p(mean / shape)
        case "gamma":
            shape = mpmath.exp(own[0])
            return shape * _LN(shape * y / mean) - shape * y / mean - _LN(y) - G(shape)
        case "beta":
            phi = mpmath.exp(own[0])
            a, b = mean[0] * phi, mean[1] * phi
            return (a - 1) * _LN(y) + (b - 1) * mpmath.log1p(-y) + G(phi) - G(a) - G(b)
        case "cumulative":
            cut = [mpmath.mpf(float(value)) - mpmath.mpf(float(eta)) for value in parameters[0]]
            low = exact_mean(link, cut[int(y) - 1]) if y > 0 else (0, 1)
            high = exact_mean(link, cut[int(y)]) if y < len(cut) else (1, 0)
            return _LN(max(high[0] - low[0], low[1] - high[1]))
    zi = 1 / (1 + mpmath.exp(-own[-1]))
    counts = family.removeprefix("zero_inflated_")
    log_p = exact_log_density(counts, link, y, eta, parameters[:-1], trials)
    kept = 1 / (1 + mpmath.exp(own[-1]))
    return _LN(zi + kept * mpmath.exp(log_p)) if y == 0 else _LN(kept) + log_p


VALUES = {
    "real": (-2.5, 0.0, 30.0), "positive": (0.01, 1.0, 40.0), "unit": (0.001, 0.5, 0.97),
    "binary": (0, 1), "trials": (0, 3, 7), "count": (0, 1, 12), "ordered": (0, 1, 2, 3),
}  # fmt: skip
CUTPOINTS = np.array([-1.2, 0.3, 0.9])


def rows_at(family, link, etas, settings_of):
    """Return y, linear predictors and parameters of all combinations."""
    own = Family(family, link)
    n_parameters = 1 if family == "gaussian" else len(own.parameters)
    if own.ordinal:
        grid = [(y, eta) for y in VALUES["ordered"] for eta in etas]
        return np.array(grid).T, [CUTPOINTS]
    grid = list(itertools.product(VALUES[own.response], etas, *[settings_of] * n_parameters))
    y, eta, *parameters = np.array(grid).T
    if family == "gaussian":
        parameters = [np.exp(parameters[0])]
    return (y, eta), parameters


def compiled(family, link, n):
    """Return the density by row as a function of numbers, and its gradient by eta."""
    own = Family(family, link)
    trials = np.full(n, 7.0) if own.response == "trials" else None
    density = row_density(own, trials)
    y, eta = pt.vector("y", dtype="float64"), pt.vector("eta", dtype="float64")
    count = 1 if family == "gaussian" else len(own.parameters)
    parameters = [pt.vector(f"p{k}", dtype="float64") for k in range(count)]
    value = density.log_density(pt.cast(y, "int64") if own.discrete else y, eta, *parameters)
    gradient = pt.grad(value.sum(), eta)
    return pm.compile([y, eta, *parameters], [value, gradient], mode=PLAIN)


ALL_LINKS = [(family, link) for family in LINKS for link in LINKS[family]]


def compare_rows(family, link, etas, settings_of, rtol, digits=50):
    (y, eta), parameters = rows_at(family, link, etas, settings_of)
    found, gradient = compiled(family, link, len(y))(y, eta, *parameters)
    with mp.workdps(digits):
        for i in range(len(y)):
            own = parameters if family == "cumulative" else [values[i] for values in parameters]
            expected = exact_log_density(family, link, y[i], eta[i], own, 7)
            where = (family, link, y[i], eta[i], own)
            if abs(expected) > 1e300:
                assert not np.isnan(found[i]), where
                continue
            assert found[i] == pytest.approx(float(expected), rel=rtol, abs=rtol), where
    assert not np.any(np.isnan(gradient))


@pytest.mark.parametrize(("family", "link"), ALL_LINKS)
def test_rows_have_the_exact_density(family, link):
    positive = link in ("inverse", "sqrt") or (
        link == "identity" and family not in ("gaussian", "t")
    )
    etas = (0.05, 0.4, 2.0) if positive else (-3.0, 0.0, 1.3)
    # rounding of sums whose terms are up to a few thousand
    compare_rows(family, link, etas, (-2.0, 0.5, 4.0), 1e-11)


@pytest.mark.parametrize("family", [family for family in LINKS if family != "gaussian"])
def test_rows_are_exact_far_out(family):
    link = Family(family).link
    compare_rows(family, link, (-700.0, -40.0, 40.0, 700.0), (-3.0, 3.0), 1e-10)
    # what cancels in a gamma function of exp(700) has 300 digits
    compare_rows(family, link, (-1.0, 700.0), (-700.0, 700.0), 1e-10, digits=700)


@pytest.mark.parametrize("link", ["probit", "cloglog"])
@pytest.mark.parametrize("family", ["bernoulli", "binomial", "beta_binomial", "beta", "cumulative"])
def test_other_links_are_exact_far_out(family, link):
    etas = (-700.0, -40.0, 6.0, 30.0) if link == "cloglog" else (-700.0, -40.0, 40.0, 700.0)
    compare_rows(family, link, etas, (-3.0, 3.0), 1e-10)


# --- censoring and truncation ---------------------------------------------------------------------

UPPER = {"y": "upper", "positive": "positive_upper", "unit": "unit_upper", "count": "count_upper"}


def scipy_distribution(family, mean, own):
    match family:
        case "gaussian":
            return stats.norm(mean, own["sigma"])
        case "t":
            return stats.t(own["nu"], mean, own["sigma"])
        case "gamma":
            return stats.gamma(own["shape"], scale=mean / own["shape"])
        case "beta":
            return stats.beta(mean * own["phi"], (1 - mean) * own["phi"])
        case "poisson":
            return stats.poisson(mean)
    return stats.nbinom(own["shape"], own["shape"] / (own["shape"] + mean))


def bounded_likelihood(case, distribution, bounds):
    """Return each row's log likelihood by SciPy; bounds are included."""
    y, design = case.design.y, case.design
    step = 1.0 if case.family.discrete else 0.0

    def mass(low, high):
        upper = np.where(np.isfinite(high), distribution.cdf(high), 1.0)
        return upper - np.where(np.isfinite(low), distribution.cdf(low - step), 0.0)

    density = distribution.logpmf if case.family.discrete else distribution.logpdf
    low, high = bounds
    kind = np.zeros(len(y)) if design.censoring is None else design.censoring.kind
    top = y if design.censoring is None else design.censoring.upper
    rows = density(y)
    for code, a, b in ((-1, low, y), (1, y, high), (2, y, top)):
        rows = np.where(kind == code, np.log(mass(a, b)), rows)
    return rows - np.log(mass(low, high))


BOUNDS = {
    "cens": ("cens(c, {upper})", -np.inf, np.inf),
    "trunc below": ("trunc(lb={low})", "low", np.inf),
    "trunc above": ("trunc(ub={high})", -np.inf, "high"),
    "both": ("cens(c, {upper}) + trunc(lb={low}, ub={high})", "low", "high"),
}
ENDS = {"y": (0.5, 12.0), "positive": (0.1, 4.0), "unit": (0.01, 0.99), "count": (0, 9)}


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize(
    "family", ["gaussian", "t", "gamma", "beta", "poisson", "negativebinomial"]
)
def test_bounds_are_those_of_the_distribution_function(family, bounds):
    response, (text, low, high) = RESPONSES[family], BOUNDS[bounds]
    ends = dict(zip(("low", "high"), ENDS[response], strict=True))
    if response == "count":
        ends["low"] = 1
    text = text.format(upper=UPPER[response], **ends)
    data = frame()
    data["count"] += 1
    data["count_upper"] += 1
    case = Case(f"{response} | {text} ~ 1", family, data=data)
    model = case.graph.model
    point = {"Intercept": 0.3 if response != "y" else 5.0}
    own = {"sigma": 1.4, "nu": 5.0, "shape": 2.5, "phi": 3.0}
    values = {variable.name: variable for variable in model.value_vars}
    point |= {
        f"{key}_log__": np.log(value) for key, value in own.items() if f"{key}_log__" in values
    }
    found = model.compile_logp(vars=model.observed_RVs, sum=False, mode=PLAIN)(point)[0]
    mean = case.family.linkinv(point["Intercept"])
    ends = [np.full(60, float(ends.get(end, end))) for end in (low, high)]
    with np.errstate(divide="ignore"):
        expected = bounded_likelihood(case, scipy_distribution(family, mean, own), ends)
    # differences of SciPy's distribution functions keep about ten digits
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)
    if bounds == "trunc below" and family not in ("t", "beta"):
        # PyTensor's derivatives of incomplete beta functions take seconds
        assert np.all(np.isfinite(model.compile_dlogp(mode=PLAIN)(point)))


def test_a_normal_tail_is_not_rounded_to_zero():
    data = frame()
    data["c"] = "right"
    case = Case("y | cens(c) ~ 1", "gaussian", data=data)
    model = case.graph.model
    found = model.compile_logp(vars=model.observed_RVs, mode=PLAIN)(
        {"Intercept": -200.0, "sigma_log__": 0.0}
    )
    expected = stats.norm(-200.0, 1.0).logsf(case.design.y).sum()
    assert float(found) == pytest.approx(expected, rel=1e-12)


# --- names, coordinates, draws --------------------------------------------------------------------

NAMED = [*(name for name in NATIVE if len(NATIVE[name]) == 3)]


@pytest.mark.parametrize("name", NAMED)
def test_everything_published_has_its_name_and_value(name, graph_point):
    case = Case(*NATIVE[name])
    model, x = case.graph.model, case.points(1)[0]
    coordinates = constrain(case.problem, x[None, None, :])
    posterior, _ = publish(coordinates, case.design, case.priors, 10**9)
    names = [*posterior.data_vars]
    free = [*case.graph.free]
    point, _ = graph_point(case.graph, case.problem, x)
    values = model.compile_fn(
        model.replace_rvs_by_values([model[variable] for variable in [*names, *free]]),
        inputs=model.value_vars,
        mode=PLAIN,
        on_unused_input="ignore",
    )(point)
    for variable, value in zip(names, values, strict=False):
        dims = posterior[variable].dims[2:]
        assert tuple(model.named_vars_to_dims.get(variable) or ()) == dims
        for dim in dims:
            assert list(model.coords[dim]) == list(posterior[dim].values)
        # the same products in another order; correlations are quotients of them
        np.testing.assert_allclose(value, posterior[variable].values[0, 0], rtol=1e-10, atol=1e-12)
    dataset = xr.Dataset(
        {
            own: (("chain", "draw", *(f"{own}_{k}" for k in range(np.ndim(value)))),
                  np.asarray(value)[None, None])
            for own, value in zip(free, values[len(names) :], strict=True)
        }
    )  # fmt: skip
    again, _ = publish(
        case.graph.coordinates(dataset, case.design), case.design, case.priors, 10**9
    )
    # log odds to probability and back costs a few bits
    xr.testing.assert_allclose(again, posterior, rtol=1e-11)


@pytest.mark.parametrize(("family", "link"), [(f, LINKS[f][0]) for f in LINKS])
def test_draws_of_the_response_have_its_mean(family, link):
    case = Case(f"{RESPONSES[family]} ~ 1", family, link=link)
    model = case.graph.model
    value = {"inverse": 0.5, "sqrt": 1.5}.get(link, 2.0 if link == "identity" else -0.4)
    settings = {"Intercept": value, "sigma": 1.4, "nu": 5.0, "shape": 2.5, "phi": 3.0, "zi": 0.3}
    settings["cutpoints"] = np.array([-0.5, 0.8])
    settings = {key: own for key, own in settings.items() if key in case.graph.free}
    given = pm.do(model, settings)
    draws = pm.draw(given[RESPONSES[family].split(" ")[0]], 1500, random_seed=1, mode=PLAIN)
    if family == "cumulative":
        expected = np.sum(1 - np.array([case.family.linkinv(c) for c in settings["cutpoints"]]))
    else:
        expected = case.family.linkinv(value) * (1 - settings.get("zi", 0.0))
    expected = expected * (1.0 if case.design.trials is None else case.design.trials)
    means, error = draws.mean(axis=0), draws.std(axis=0) / np.sqrt(len(draws))
    # 60 means: the largest of 60 normal scores rarely passes four
    assert np.all(np.abs(means - expected) < 4.5 * error + 1e-12)
    # rows are independent: their mean varies as 1/60 of them, known to 1/sqrt(750) = 3.7 %
    single = np.mean(draws.var(axis=0)) / 60
    np.testing.assert_allclose(np.var(draws.mean(axis=1)), single, rtol=0.15)


# --- families without a kernel --------------------------------------------------------------------


def hurdle(density, at_zero, kept):
    """Return the log density of values that pass a hurdle at 0 with a probability."""
    return lambda y: np.where(
        y == 0, np.log(1 - kept), np.log(kept) + density(np.where(y == 0, 1, y)) - at_zero
    )


MU, SHAPE = 1.7, 2.5
SIMPLE = {
    "asymmetriclaplace": (
        "y", {"b": 1.4, "kappa": 0.8},
        # PyMC's b is a rate
        lambda y, mu: stats.laplace_asymmetric(0.8, mu, 1 / 1.4).logpdf(y),
    ),
    "exgaussian": (
        "y", {"sigma": 1.2, "nu": 0.8},
        lambda y, mu: stats.exponnorm(0.8 / 1.2, mu, 1.2).logpdf(y),
    ),
    "exponential": ("positive", {}, lambda y, mu: stats.expon(scale=mu).logpdf(y)),
    "hurdle_gamma": (
        "zeros", {"shape": SHAPE, "hu": 0.3},
        lambda y, mu: hurdle(stats.gamma(SHAPE, scale=mu / SHAPE).logpdf, 0.0, 0.7)(y),
    ),
    "hurdle_lognormal": (
        "zeros", {"sigma": 0.9, "hu": 0.3},
        lambda y, mu: hurdle(stats.lognorm(0.9, scale=np.exp(mu)).logpdf, 0.0, 0.7)(y),
    ),
    "hurdle_negativebinomial": (
        "count", {"shape": SHAPE, "hu": 0.3},
        lambda y, mu: hurdle(
            stats.nbinom(SHAPE, SHAPE / (SHAPE + mu)).logpmf,
            stats.nbinom(SHAPE, SHAPE / (SHAPE + mu)).logsf(0), 0.7,
        )(y),
    ),
    "hurdle_poisson": (
        "count", {"hu": 0.3},
        lambda y, mu: hurdle(stats.poisson(mu).logpmf, stats.poisson(mu).logsf(0), 0.7)(y),
    ),
    "laplace": ("y", {"b": 1.4}, lambda y, mu: stats.laplace(mu, 1.4).logpdf(y)),
    "lognormal": (
        "positive", {"sigma": 0.9}, lambda y, mu: stats.lognorm(0.9, scale=np.exp(mu)).logpdf(y),
    ),
    "vonmises": ("angle", {"kappa": 2.1}, lambda y, mu: stats.vonmises(2.1, mu).logpdf(y)),
    "wald": (
        "positive", {"shape": SHAPE},
        lambda y, mu: stats.invgauss(mu / SHAPE, scale=SHAPE).logpdf(y),
    ),
    "weibull": (
        "positive", {"shape": SHAPE},
        lambda y, mu: stats.weibull_min(
            SHAPE, scale=mu / special.gamma(1 + 1 / SHAPE)
        ).logpdf(y),
    ),
}  # fmt: skip


def wider_frame():
    data = frame()
    data["angle"] = special.expit(data.z) * 4 - 2
    data["zeros"] = np.where(data.binary == 1, data.positive, 0.0)
    return data


def observed_density(case, settings):
    """Return the rows' log likelihood where the parameters have the values given."""
    model = case.graph.model
    given = pm.do(model, settings)
    return given.compile_logp(vars=given.observed_RVs, sum=False, mode=PLAIN)({})[0]


@pytest.mark.parametrize("family", SIMPLE)
def test_families_of_pymc_have_the_density_of_their_definition(family):
    response, own, density = SIMPLE[family]
    case = Case(f"{response} ~ 1", family, data=wider_frame())
    assert case.problem is not None
    assert "no kernel" in supports(case.problem)
    mean = 0.6 if family in ("vonmises", "lognormal", "hurdle_lognormal") else MU
    found = observed_density(case, {"Intercept": case.family.link_function(mean), **own})
    # PyMC's normal distribution function takes the root of 2 in float32
    rtol = 1e-7 if family == "exgaussian" else 1e-9
    np.testing.assert_allclose(found, density(case.design.y, mean), rtol=rtol, atol=1e-10)


def test_the_zero_inflated_binomial_adds_zeros():
    case = Case("count | trials(trials) ~ 1", "zero_inflated_binomial")
    found = observed_density(case, {"Intercept": 0.4, "zi": 0.3})
    y, p = case.design.y, stats.binom(case.design.trials, special.expit(0.4))
    expected = np.log(0.7) + p.logpmf(y)
    expected = np.where(y == 0, np.log(0.3 + 0.7 * p.pmf(0)), expected)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("link", UNIT)
def test_stopping_ratio_multiplies_what_was_passed(link):
    case = Case("rank ~ 1 + z", "sratio", {"cutpoints": "Normal(0, 1)"}, link=link)
    settings = {"b": np.array([0.7]), "cutpoints": np.array([0.5, -0.3])}
    found = observed_density(case, settings)
    eta = 0.7 * (case.priors.X @ np.ones(1))
    stop = case.family.linkinv(settings["cutpoints"] - eta[:, None])
    shares = np.column_stack([stop[:, 0], (1 - stop[:, 0]) * stop[:, 1], np.prod(1 - stop, axis=1)])
    np.testing.assert_allclose(found, np.log(shares)[range(60), case.design.y.astype(int)], 1e-12)
    if link == "logit":
        draws = pm.draw(pm.do(case.graph.model, settings)["rank"], 1000, random_seed=1, mode=PLAIN)
        for k in range(3):
            # a share of 1000 draws has a sd below 0.016: 4.5 of it
            np.testing.assert_allclose(np.mean(draws == k, axis=0), shares[:, k], atol=0.072)


@pytest.mark.parametrize("family", [*SIMPLE, "zero_inflated_binomial", "sratio"])
def test_bars_formulas_and_weights_go_with_every_family(family):
    response = {"zero_inflated_binomial": "count | trials(trials)", "sratio": "rank"}.get(family)
    response = response or SIMPLE[family][0]
    weighted = f"{response} {'+' if '|' in response else '|'} weights(w)"
    names = [own.name for own in Family(family).parameters if own.formula]
    formulas = [f"{weighted} ~ z + (z | g)", *(f"{name} ~ z + (1 | g)" for name in names)]
    link = "log" if family == "wald" else None
    case = Case(formulas, family, link=link, data=wider_frame())
    point = case.graph.model.initial_point()
    assert np.isfinite(case.graph.model.compile_logp(mode=PLAIN)(point))
    published = set(case.graph.model.named_vars)
    assert {f"{name}_{what}" for name in names for what in ("Intercept", "b", "r_g")} <= published

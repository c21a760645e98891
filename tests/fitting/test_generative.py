"""The PyMC model against the compiled kernel and against SciPy, point by point; its names.

The SciPy density works on constrained values and raw columns: densities of coefficients and sds,
the LKJ density of the correlation matrix itself with a numeric Jacobian, dense multivariate normals
for group effects, SciPy's mass functions with the mean written out.
"""

import math

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from pytensor.compile.mode import Mode
from scipy import special, stats

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density, constrain, layout, supports
from hiermodels.engines.interpreted import interpreted_model
from hiermodels.fitting.generative import build_generative
from hiermodels.fitting.graph_correlations import correlation_factor
from hiermodels.fitting.publishing import publish
from hiermodels.spec.design import build_design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

# Two programs do the same sums in another order.
ROUNDING = 1e-11
# PyMC writes the log 2 of HalfStudentT and HalfCauchy as the logarithm of an 8-bit integer, which
# PyTensor computes in float32: 1.9e-9 too much for each of these priors, whatever the point.
FLOAT32_LOG2 = 2e-9


def frame():
    rng = np.random.default_rng(0)
    n = 60
    data = pd.DataFrame(
        {
            "x": rng.normal(5, 1, n),
            "z": rng.normal(size=n),
            "h": rng.choice(list("abc"), n),
            "g": rng.choice(list("ABCDEF"), n),
            "k": rng.choice(list("pq"), n),
            "s": rng.uniform(0.5, 2, n),
            "w": rng.integers(1, 4, n),
        }
    )
    data["y"] = data.x + rng.normal(size=n)
    data["positive"] = np.exp(0.3 * data.z + rng.normal(0, 0.1, n))
    data["count"] = rng.poisson(3, n)
    data["trials"] = data["count"] + rng.integers(1, 4, n)
    data["binary"] = rng.integers(0, 2, n)
    return data


class Case:
    """One model in all its forms: design, priors, graph, problem."""

    def __init__(self, formula, family="gaussian", priors=None, link=None, centred=False):
        self.family = Family(family, link or "")
        self.design = build_design(parse_formula(formula), frame(), self.family)
        self.priors = resolve_priors(self.design, self.family, priors)
        self.forms = tuple(
            centred if isinstance(centred, bool) else centred[k]
            for k in range(len(self.design.terms))
        )
        self.graph = build_generative(self.design, self.family, self.priors, self.forms)
        self.problem = conditional_problem(self.design, self.family, self.priors, self.forms)
        self.parts = layout(self.problem)

    def points(self, count=2, scale=0.4, seed=1):
        return np.random.default_rng(seed).normal(0, scale, (count, self.parts.ndim))

    @property
    def tolerance(self):
        priors = [prior for term in self.priors.terms for prior in term.sd]
        priors += [] if self.priors.sigma is None else [self.priors.sigma]
        return FLOAT32_LOG2 * sum(prior.name in ("HalfStudentT", "HalfCauchy") for prior in priors)

    @property
    def n_partial(self):
        return sum(bar.correlations.stop - bar.correlations.start for bar in self.parts.bars)

    def effects(self, k, x):
        """Return the effects coordinates (J, q) of bar k, without the coefficients they took up."""
        values = x[self.parts.bars[k].effects].reshape(-1, len(self.design.terms[k].coefs))
        shift = self.problem.bars[k].shift
        return values if shift is None else values - shift @ x[self.parts.coef]

    def pymc_point(self, x):
        """Return the kernel's coordinates as values of PyMC's unconstrained variables."""
        model, found = self.graph.model, {}

        def put(name, value):
            variable = model.rvs_to_values[model[name]]
            found[variable.name] = np.asarray(value, float).reshape(model[name].shape.eval())

        def put_vector(vector, values):
            if len(vector.names) == 1:
                put(vector.names[0], values)
            else:
                for name, value in zip(vector.names, values, strict=True):
                    put(name, value)

        for vector, columns in self.graph.coef:
            put_vector(vector, x[self.parts.coef][list(columns)])
        for k, (names, part) in enumerate(zip(self.graph.bars, self.parts.bars, strict=True)):
            put_vector(names.sd, x[part.sds])
            if names.partial is not None:
                # log odds of (1 + tanh y) / 2
                put(names.partial, 2 * x[part.correlations])
            put(names.effects, self.effects(k, x))
        if self.parts.sigma is not None:
            put("sigma", x[self.parts.sigma])
        return found

    def pymc_density(self, mode="FAST_COMPILE"):
        return self.graph.model.compile_logp(mode=mode)


CASES = {
    "no bars, products": ("y ~ x * z", "gaussian", None),
    "correlated": ("y ~ x * z + (x | g)", "gaussian", None),
    "crossed, three effects": (
        "y ~ x + (x + z | g) + (1 | h)", "gaussian", {"Intercept": "StudentT(3, 0, 5)"},
    ),
    "uncorrelated": ("y ~ x + (x || g)", "gaussian", {"sd": "Gamma(2, 1)"}),
    "weights, factor effects": (
        "y | weights(w) ~ h + (0 + h | k) + (1 | g)", "gaussian",
        {"h[T.b]": "Normal(0, 1)", "b": "Laplace(0, 1)"},
    ),
    "se and sigma, two bars on one factor": (
        "y | se(s, sigma=True) ~ 1 + (x | g) + (0 + z | g)", "gaussian",
        {"sd_g[z]": "Exponential(1)", "sd_g[x]": "HalfNormal(2)"},
    ),
    "se alone": ("y | se(s) ~ (1 | g)", "gaussian", None),
    "precision, four effects": (
        "y | precision(w) ~ x + (x * z | g)", "gaussian",
        {"sigma": "LogNormal(0, 1)", "cor": "LKJ(0.7)"},
    ),
    "poisson, exposure": ("count ~ x + offset(log(s)) + (x | g)", "poisson", None),
    "poisson, weights, no intercept": (
        "count | weights(s) ~ 0 + x + (1 | g)", "poisson",
        {"b": "Cauchy(0, 1)", "sd": "InverseGamma(3, 2)"},
    ),
    "bernoulli, nested": ("binary ~ x + (1 | g/k)", "bernoulli", {"sd": "HalfCauchy(1)"}),
    "binomial, no intercept": ("count | trials(trials) ~ 0 + h + (z | g)", "binomial", None),
    "binomial, weights, no common part": (
        "count | trials(trials) + weights(w) ~ 0 + (x | g)", "binomial", None,
    ),
}  # fmt: skip

LINKS = {
    "gaussian log": ("positive ~ z + (1 | g)", "gaussian", "log"),
    "gaussian inverse": ("positive ~ z", "gaussian", "inverse"),
    "bernoulli probit": ("binary ~ z + (1 | g)", "bernoulli", "probit"),
    "bernoulli cloglog": ("binary ~ z + (1 | g)", "bernoulli", "cloglog"),
    "binomial probit": ("count | trials(trials) ~ z + (1 | g)", "binomial", "probit"),
    "binomial cloglog": ("count | trials(trials) ~ z + (1 | g)", "binomial", "cloglog"),
    "poisson sqrt": ("count ~ z + (1 | g)", "poisson", "sqrt"),
}

both_forms = pytest.mark.parametrize("centred", [False, True], ids=["non-centred", "centred"])


# --- the density by SciPy -------------------------------------------------------------------------


def scipy_prior(prior, value):
    """Return the log density of a prior with PyMC's arguments."""
    a = dict(prior.arguments)
    match prior.name:
        case "Normal":
            return stats.norm(a["mu"], a["sigma"]).logpdf(value)
        case "StudentT":
            return stats.t(a["nu"], a["mu"], a["sigma"]).logpdf(value)
        case "Cauchy":
            return stats.cauchy(a["alpha"], a["beta"]).logpdf(value)
        case "Laplace":
            return stats.laplace(a["mu"], a["b"]).logpdf(value)
        case "HalfNormal":
            return stats.halfnorm(scale=a["sigma"]).logpdf(value)
        case "HalfStudentT":
            return math.log(2) + stats.t(a["nu"], 0, a["sigma"]).logpdf(value)
        case "HalfCauchy":
            return stats.halfcauchy(scale=a["beta"]).logpdf(value)
        case "Exponential":
            return stats.expon(scale=1 / a["lam"]).logpdf(value)
        case "Gamma":
            return stats.gamma(a["alpha"], scale=1 / a["beta"]).logpdf(value)
        case "InverseGamma":
            return stats.invgamma(a["alpha"], scale=a["beta"]).logpdf(value)
        case "LogNormal":
            return stats.lognorm(a["sigma"], scale=math.exp(a["mu"])).logpdf(value)
    raise AssertionError(prior)


def correlation(partials, q):
    """Return R from partial correlations, real or complex, by the recursion of LKJ (2009)."""
    z = np.zeros((q, q), dtype=partials.dtype)
    z[np.tril_indices(q, -1)] = partials
    factor = np.zeros_like(z)
    for i in range(q):
        left = np.ones((), dtype=z.dtype)
        for j in range(i):
            factor[i, j] = z[i, j] * np.sqrt(left)
            left = left - factor[i, j] ** 2
        factor[i, i] = np.sqrt(left)
    return factor @ factor.T


def lkj_log_density(R, eta):
    """Return the normalised LKJ density of a correlation matrix (LKJ 2009, eq. 16)."""
    q = len(R)
    k = np.arange(1, q)
    shape = eta + (q - k - 1) / 2
    constant = np.sum((2 * eta - 2 + q - k) * (q - k)) * math.log(2)
    constant += np.sum((q - k) * special.betaln(shape, shape))
    return (eta - 1) * np.linalg.slogdet(R)[1] - constant


def log_jacobian(function, at):
    """Return log |d lower triangle of function(at) / d at| by complex steps, exact to rounding."""
    q = len(function(at))
    rows, columns = np.tril_indices(q, -1)
    jacobian = np.empty((len(at), len(at)))
    for k in range(len(at)):
        moved = at.astype(complex)
        moved[k] += 1e-30j
        jacobian[:, k] = function(moved)[rows, columns].imag / 1e-30
    return np.linalg.slogdet(jacobian)[1]


def scipy_rows(case, eta, sigma):
    """Return each row's log likelihood, before weights."""
    design, y = case.design, case.design.y
    mean = {
        "identity": lambda: eta,
        "log": lambda: np.exp(eta),
        "inverse": lambda: 1 / eta,
        "sqrt": lambda: eta**2,
        "logit": lambda: 1 / (1 + np.exp(-eta)),
        "probit": lambda: stats.norm.cdf(eta),
        "cloglog": lambda: 1 - np.exp(-np.exp(eta)),
    }[case.family.link]()
    if case.family.name == "bernoulli":
        return stats.bernoulli.logpmf(y, mean)
    if case.family.name == "binomial":
        return stats.binom.logpmf(y, design.trials, mean)
    if case.family.name == "poisson":
        return stats.poisson.logpmf(y, mean)
    variance = np.zeros(design.n) if sigma is None else np.full(design.n, sigma**2)
    if design.precision is not None:
        variance = variance / design.precision
    if design.se is not None:
        variance = variance + design.se**2
    return stats.norm.logpdf(y, mean, np.sqrt(variance))


def scipy_density(case, x):
    """Return the log density of the kernel's unconstrained vector."""
    design, priors, parts = case.design, case.priors, case.parts
    gamma = x[parts.coef]
    total = sum(scipy_prior(p, v) for p, v in zip(priors.coef, gamma, strict=True))
    eta = design.offset + design.X @ (priors.T @ gamma)
    for k, (term, own, part) in enumerate(zip(design.terms, priors.terms, parts.bars, strict=True)):
        q = len(term.coefs)
        sds = np.exp(x[part.sds])
        total += sum(scipy_prior(p, v) + np.log(v) for p, v in zip(own.sd, sds, strict=True))
        R = np.eye(q)
        if own.cor is not None:
            y = x[part.correlations]
            R = correlation(np.tanh(y), q)
            total += lkj_log_density(R, own.cor.values[0])
            total += log_jacobian(lambda at, q=q: correlation(np.tanh(at), q), y)
        covariance = sds[:, None] * R * sds
        draws = case.effects(k, x)
        if case.forms[k]:
            effects = draws
            total += stats.multivariate_normal(np.zeros(q), covariance).logpdf(effects).sum()
        else:
            effects = draws @ np.linalg.cholesky(covariance).T
            total += stats.norm.logpdf(draws).sum()
        eta = eta + np.sum(term.z * (effects @ own.T.T)[term.index], axis=1)
    sigma = None
    if priors.sigma is not None:
        sigma = math.exp(x[parts.sigma])
        total += scipy_prior(priors.sigma, sigma) + x[parts.sigma]
    weights = 1.0 if design.weights is None else design.weights
    return total + np.sum(weights * scipy_rows(case, eta, sigma))


# --- identity -------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("name", CASES)
def test_pymc_kernel_and_scipy_agree(name, centred):
    formula, family, priors = CASES[name]
    case = Case(formula, family, priors, centred=centred)
    assert supports(case.problem) is None
    kernel, graph = Density(case.problem), case.pymc_density()
    public = interpreted_model(kernel, lambda seed: np.zeros(kernel.ndim))._make_logp_func()
    for x in case.points():
        value = float(graph(case.pymc_point(x)))
        assert public(x)[0] == kernel(x)[0]
        # PyMC's coordinate of a partial correlation is twice the kernel's
        native = kernel(x)[0] - case.n_partial * math.log(2)
        expected = scipy_density(case, x) - case.n_partial * math.log(2)
        size = abs(expected) * ROUNDING
        assert native == pytest.approx(expected, rel=0, abs=size)
        assert value == pytest.approx(expected, rel=0, abs=size + case.tolerance)


@both_forms
@pytest.mark.parametrize("name", LINKS)
def test_pymc_and_scipy_agree_on_other_links(name, centred):
    formula, family, link = LINKS[name]
    case = Case(formula, family, link=link, centred=centred)
    graph = case.pymc_density()
    for x in case.points(scale=0.3):
        expected = scipy_density(case, x)
        assert np.isfinite(expected)
        value = float(graph(case.pymc_point(x)))
        assert value == pytest.approx(expected, rel=ROUNDING, abs=case.tolerance)


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_gradients_are_finite_far_out(link):
    case = Case("binary ~ 1", "bernoulli", link=link)
    gradient = case.graph.model.compile_dlogp(mode=Mode(linker="py", optimizer="fast_run"))
    for eta in (-40.0, -1.0, 0.0, 6.0 if link == "cloglog" else 45.0):
        assert np.all(np.isfinite(gradient({"Intercept": eta})))


def test_the_two_forms_of_several_bars_may_differ():
    case = Case("y ~ x + (x + z | g) + (1 | h)", centred=[True, False])
    assert [names.centred for names in case.graph.bars] == [True, False]
    x = case.points()[0]
    value = float(case.pymc_density()(case.pymc_point(x)))
    expected = scipy_density(case, x) - case.n_partial * math.log(2)
    assert value == pytest.approx(expected, rel=ROUNDING, abs=case.tolerance)


@pytest.mark.parametrize(("link", "far"), [("logit", 60.0), ("probit", 12.0), ("cloglog", 5.5)])
@pytest.mark.parametrize("formula", ["binary ~ 1", "count | trials(trials) ~ 1"])
def test_far_out_a_probability_is_not_rounded_to_zero_or_one(link, far, formula):
    family = "bernoulli" if formula.startswith("binary") else "binomial"
    case = Case(formula, family, link=link)
    # the graph's rewriting is that of sampling; nothing is compiled
    graph = case.pymc_density(mode=Mode(linker="py", optimizer="fast_run"))
    y, design = case.design.y, case.design
    trials = np.ones(design.n) if design.trials is None else design.trials
    ways = np.log(special.comb(trials, y))
    for eta in (-far, far):
        success, failure = {
            "logit": (special.log_expit(eta), special.log_expit(-eta)),
            "probit": (special.log_ndtr(eta), special.log_ndtr(-eta)),
            "cloglog": (math.log(-math.expm1(-math.exp(eta))), -math.exp(eta)),
        }[link]
        expected = np.sum(y * success + (trials - y) * failure + ways)
        expected += scipy_prior(case.priors.coef[0], eta)
        assert float(graph({"Intercept": eta})) == pytest.approx(expected, rel=1e-10)


# --- the LKJ prior --------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0, 5.5])
@pytest.mark.parametrize("q", [2, 3, 4])
def test_partial_correlations_have_the_lkj_density(q, eta):
    """The density on R times |dR/dp| is that of the Beta variables, for q of three and more too."""
    with pm.Model() as model:
        factor = correlation_factor("partial", q, Prior("LKJ", eta))
    partial = model["partial"]
    density = model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    value = model.rvs_to_values[partial]
    matrix = pm.compile([partial], factor, mode="FAST_COMPILE")
    rng = np.random.default_rng(q)
    for _ in range(3):
        p = rng.uniform(0.1, 0.9, q * (q - 1) // 2)
        L = matrix(p)
        R = correlation(2 * p - 1, q)
        np.testing.assert_allclose(L @ L.T, R, rtol=0, atol=1e-14)
        assert np.all(np.triu(L, 1) == 0)
        expected = lkj_log_density(R, eta)
        expected += log_jacobian(lambda at: correlation(2 * at - 1, q), p)
        found = float(density({value.name: special.logit(p)}))
        assert found == pytest.approx(expected, rel=0, abs=1e-12)


def test_prior_draws_have_the_lkj_spread():
    case = Case("y ~ x + (x * z | g)", priors={"cor": "LKJ(2)"})
    draws = pm.draw(case.graph.model["cor_g"], 4000, random_seed=1, mode="FAST_COMPILE")
    # every correlation of LKJ(2) with q = 4 is 2 Beta(3, 3) - 1: sd 1 / sqrt(7)
    sds = draws.std(axis=0)[np.tril_indices(4, -1)]
    # the sd of 4000 draws is known to about 1 %: four of that
    np.testing.assert_allclose(sds, 1 / math.sqrt(7), rtol=0.04)


# --- names ----------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("name", CASES)
def test_deterministics_equal_what_is_published(name, centred):
    formula, family, priors = CASES[name]
    case = Case(formula, family, priors, centred=centred)
    model = case.graph.model
    x = case.points(1)[0]
    coordinates = constrain(case.problem, x[None, None, :])
    posterior, _ = publish(coordinates, case.design, case.priors, 10**9)
    names = list(posterior.data_vars)
    assert {"b", "sigma", "Intercept"} & set(names) or not case.design.coefs
    values = model.compile_fn(
        model.replace_rvs_by_values([model[variable] for variable in names]),
        inputs=model.value_vars,
        mode="FAST_COMPILE",
        on_unused_input="ignore",
    )(case.pymc_point(x))
    for variable, value in zip(names, values, strict=True):
        dims = posterior[variable].dims[2:]
        assert tuple(model.named_vars_to_dims.get(variable, ())) == dims
        for dim in dims:
            assert list(model.coords[dim]) == list(posterior[dim].values)
        # the same products in another order; correlations are quotients of them
        np.testing.assert_allclose(value, posterior[variable].values[0, 0], rtol=1e-10, atol=1e-12)


@both_forms
def test_draws_of_the_free_variables_become_the_same_coordinates(centred):
    case = Case("y ~ x + (x + z | g) + (0 + h || g) + (1 | k)", centred=centred)
    model, x = case.graph.model, case.points(1)[0]
    free = [model[name] for name in case.graph.free]
    values = model.compile_fn(
        model.replace_rvs_by_values(free), inputs=model.value_vars, mode="FAST_COMPILE"
    )(case.pymc_point(x))
    posterior = xr.Dataset(
        {
            name: (
                ("chain", "draw", *(model.named_vars_to_dims.get(name) or
                                    [f"{name}_{k}" for k in range(np.ndim(value))])),
                np.asarray(value)[None, None],
            )
            for name, value in zip(case.graph.free, values, strict=True)
        }
    )  # fmt: skip
    found = case.graph.coordinates(posterior, case.design)
    expected = constrain(case.problem, x[None, None, :])
    np.testing.assert_allclose(found.coef, expected.coef, rtol=1e-14)
    np.testing.assert_allclose(found.sigma, expected.sigma, rtol=1e-14)
    for mine, theirs in zip(
        (*found.sds, *found.chols, *found.effects),
        (*expected.sds, *expected.chols, *expected.effects),
        strict=True,
    ):
        # log odds to probability and back costs a few bits
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("column", "formula"),
    [
        ("obs", "obs ~ x + (1 | g)"),
        ("obs", "y ~ x + (1 | obs)"),
        ("coef", "coef ~ x + (1 | g)"),
        ("sigma", "sigma ~ x + (1 | g)"),
        ("sd_g", "sd_g ~ x + (1 | g)"),
        ("X", "X ~ x + (1 | g)"),
        ("X", "y ~ x + (1 | X)"),
        ("z_1", "y ~ x + (1 | z_1)"),
        ("index_1", "y ~ x + (1 | index_1)"),
        ("weights", "y | weights(w) ~ x + (1 | weights)"),
        ("offset", "y ~ x + offset(z) + (1 | offset)"),
    ],
)
def test_columns_named_like_the_graphs_own_variables(column, formula):
    data = frame()
    data[column] = data["g"] if column in formula.split("~")[1] else data["y"]
    family = Family("gaussian")
    design = build_design(parse_formula(formula), data, family)
    priors = resolve_priors(design, family)
    graph = build_generative(design, family, priors, (False,))
    point = graph.model.initial_point()
    assert np.isfinite(graph.model.compile_logp(mode="FAST_COMPILE")(point))
    if design.weights is None:
        assert len(graph.model.observed_RVs) == 1


def test_bars_on_one_factor_are_published_side_by_side():
    case = Case("y ~ x + (x | g) + (0 + z | g)")
    model = case.graph.model
    assert list(model.coords["g_coef"]) == ["Intercept", "x", "z"]
    matrix = pm.draw(model["cor_g"], 3, random_seed=1, mode="FAST_COMPILE")
    np.testing.assert_array_equal(matrix[:, 2, :2], 0.0)
    np.testing.assert_allclose(np.diagonal(matrix, axis1=1, axis2=2), 1.0, rtol=1e-12)

"""Residual structures in the PyMC graph: its density is the marginal engine's, names are the same.

The identity log p(theta) + log p(b, beta | theta) + log p(y | b, beta, theta) = marginal log
density + log p(b, beta | y, theta) holds for every b and beta. Its left side is the graph's, the
marginal density the compiled kernel's, and the last term comes from dense matrices whose
covariance is built row by row from the data's own columns.
"""

import math

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytensor.compile.mode import Mode
from scipy import special, stats

from hiermodels.engines.conditional import Coordinates
from hiermodels.engines.marginal import marginal_problem
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.engines.residual_packing import constrain_residual
from hiermodels.fitting.generative import build_generative
from hiermodels.fitting.publishing import publish
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

GAUSSIAN = Family("gaussian")
# Sums of some hundred terms in another order, and PyMC's log 2 of half distributions in float32
# (2e-9 each), against densities of some hundred.
IDENTITY = 1e-9
# The density as it is written: compiling it is what takes time here.
PLAIN = Mode(linker="py", optimizer=None)


def series_frame(seed, n_series=10, n_times=5, drop=0.25):
    """Series of different length with gaps, rows shuffled; e and f hold whole series."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 4, n_times))
    frame = pd.DataFrame(
        {"g": np.repeat(np.arange(n_series), n_times), "t": np.tile(times, n_series)}
    )
    n = len(frame)
    frame["e"] = np.array(list("pqr"))[np.arange(n_series) % 3][frame["g"]]
    frame["f"] = np.array(list("uv"))[np.arange(n_series) // 2 % 2][frame["g"]]
    frame["k"] = rng.choice(list("xyz"), n)
    frame["h"] = np.array(list("abc"))[np.arange(n) % 3]
    frame["x"] = rng.normal(3.0, 1.0, n)
    frame["z"] = rng.normal(size=n)
    frame["w"] = rng.uniform(0.5, 2.0, n)
    frame["v"] = rng.uniform(0.5, 2.0, n_series)[frame["g"]]
    frame["s"] = rng.choice([0.5, 1.0, 2.0], n)
    frame["y"] = rng.normal(10.0, 2.0, n)
    keep = (rng.random(n) > drop) | (frame["t"] == times[0]) | (frame["g"] == 0)
    return frame[keep].sample(frac=1.0, random_state=seed)


class Case:
    """One model: its graph with group effects as coordinates, and its marginal problem."""

    def __init__(self, formula, frame, priors=None):
        self.frame = frame
        self.design = build_design(parse_formula(formula), frame, GAUSSIAN)
        self.priors = resolve_priors(self.design, GAUSSIAN, priors)
        self.graph = build_generative(
            self.design, GAUSSIAN, self.priors, [True] * len(self.design.terms)
        )
        self.problem = marginal_problem(self.design, GAUSSIAN, self.priors)

    def values(self, x):
        """Return the residual's parameters as published, at the kernel's coordinates."""
        phi = x[self.problem.layout.phi]
        return constrain_residual(self.design.residual, self.priors.residual, phi)

    def point(self, x, coef, effects):
        """Return the graph's point, and what its coordinates' Jacobian adds to the kernel's."""
        model, found = self.graph.model, {}

        def put(vector, values):
            values = np.atleast_1d(values)
            shares = [values] if len(vector.names) == 1 else values
            for name, value in zip(vector.names, shares, strict=True):
                variable = model.rvs_to_values[model[name]]
                found[variable.name] = np.reshape(value, ()) if model[name].ndim == 0 else value

        for vector, columns in self.graph.coef:
            put(vector, coef[list(columns)])
        parts, jacobian = self.problem.layout, 0.0
        for k, names in enumerate(self.graph.bars):
            put(names.sd, x[parts.sds[k]])
            if names.partial is not None:
                # the graph's coordinate of a partial correlation is twice the kernel's
                put(type(names.sd)((names.partial,), 1), 2 * x[parts.correlations[k]])
                jacobian -= math.log(2) * len(x[parts.correlations[k]])
            put(type(names.sd)((names.effects,), 1), effects[k])
        phi, residual = x[parts.phi], self.design.residual
        for vector, columns in self.graph.residual.sigma:
            put(vector, phi[list(columns)])
        if self.graph.residual.correlation is not None:
            own = phi[residual.n_sigma :]
            twice = residual.structure in ("ar", "unstr")
            variable = model.rvs_to_values[model[self.graph.residual.correlation]]
            values = own * (2 if twice else 1)
            found[variable.name] = values if residual.structure == "unstr" else values[0]
            jacobian -= math.log(2) * len(own) * twice
        return found, jacobian


def covariance(case, values):
    """Return the rows' covariance, entry by entry, from the data's columns."""
    frame, residual = case.frame, case.design.residual
    n = len(frame)
    sds, known = np.ones(n), np.zeros(n)
    if "sigma_b" in values:
        sds = np.exp(values.get("sigma_Intercept", 0.0) + values["sigma_b"][0] * frame["x"])
    elif "sigma" in values and np.ndim(values["sigma"]):
        table = dict(zip(residual.sigma.labels, values["sigma"], strict=True))
        column = frame["h"] if "a" in table else frame["t"].astype(str)
        sds = np.array([table[label] for label in column])
    elif "sigma" in values:
        sds = np.full(n, values["sigma"])
    sds = np.asarray(sds)
    additions = case.design.formula.additions
    if "precision" in additions:
        sds = sds / np.sqrt(frame["w"].to_numpy())
    if "se" in additions:
        s = frame["s"].to_numpy()
        sds, known = (sds, s**2) if additions["se"].with_sigma else (s, known)
    g, t = frame["g"].to_numpy(), frame["t"].to_numpy()
    same = g[:, None] == g[None, :]
    if residual.structure == "ar":
        correlation = float(values["ar"]) ** np.abs(t[:, None] - t[None, :])
    elif residual.structure == "cosy":
        correlation = np.full((n, n), values["cosy"])
    elif residual.structure == "unstr":
        place = [residual.occasions.index(str(time)) for time in t]
        correlation = values["cor_residual"][np.ix_(place, place)]
    else:
        correlation = np.zeros((n, n))
    correlation = np.where(same, correlation, 0.0)
    np.fill_diagonal(correlation, 1.0)
    return sds[:, None] * correlation * sds + np.diag(known)


def effects_covariance(case, x, k):
    """Return the covariance (q, q) of bar k's effects."""
    parts = case.problem.layout
    sds, y = np.exp(x[parts.sds[k]]), x[parts.correlations[k]]
    q = len(sds)
    factor, at = np.zeros((q, q)), 0
    for i in range(q):
        rest = 1.0
        for j in range(i if y.size else 0):
            factor[i, j] = math.tanh(y[at]) * math.sqrt(rest)
            rest -= factor[i, j] ** 2
            at += 1
        factor[i, i] = math.sqrt(rest)
    return sds[:, None] * (factor @ factor.T) * sds


def conditional_density(case, x, coef, effects):
    """Return log p(b, beta | y, theta), by dense matrices."""
    design, priors = case.design, case.priors
    others = case.problem.others
    normal = [k for k in range(len(design.coefs)) if k not in others]
    blocks, variances, means, at = [], [], [], []
    if normal:
        blocks.append(priors.X[:, normal])
        a = [dict(priors.coef[k].arguments) for k in normal]
        variances.append(np.diag([row["sigma"] ** 2 for row in a]))
        means.append([row["mu"] for row in a])
        at.append(coef[normal])
    for k, (term, own) in enumerate(zip(design.terms, priors.terms, strict=True)):
        J, q = len(term.levels), len(term.coefs)
        Z = np.zeros((design.n, J, q))
        Z[np.arange(design.n), term.index] = own.z
        blocks.append(Z.reshape(design.n, -1))
        variances.append(np.kron(np.eye(J), effects_covariance(case, x, k)))
        means.append(np.zeros(J * q))
        at.append(effects[k].ravel())
    if not blocks:
        return 0.0
    B, mean, value = np.column_stack(blocks), np.concatenate(means), np.concatenate(at)
    prior = np.linalg.inv(_block_diagonal(variances))
    R = covariance(case, case.values(x))
    P = np.linalg.inv(R)
    if design.weights is not None:
        root = np.sqrt(design.weights)
        P = root[:, None] * P * root
    y = design.y - design.offset
    if len(others):
        y = y - priors.X[:, others] @ coef[others]
    precision = prior + B.T @ P @ B
    centre = np.linalg.solve(precision, prior @ mean + B.T @ P @ y)
    factor = np.linalg.cholesky(precision)
    score = factor.T @ (value - centre)
    constant = np.sum(np.log(np.diag(factor))) - 0.5 * len(value) * math.log(2 * math.pi)
    return constant - 0.5 * score @ score


def _block_diagonal(matrices):
    total = sum(len(matrix) for matrix in matrices)
    whole, at = np.zeros((total, total)), 0
    for matrix in matrices:
        whole[at : at + len(matrix), at : at + len(matrix)] = matrix
        at += len(matrix)
    return whole


def assert_identity(case, seed, scale=0.6):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, scale, case.problem.layout.ndim)
    coef = rng.normal(1.0, 1.0, len(case.design.coefs))
    coef[case.problem.others] = x[case.problem.layout.others]
    effects = [
        rng.normal(0.0, 1.0, (len(term.levels), len(term.coefs))) for term in case.design.terms
    ]
    point, jacobian = case.point(x, coef, effects)
    graph = float(case.graph.model.compile_logp(mode=PLAIN)(point))
    marginal = MarginalDensity(case.problem)(x)[0] + jacobian
    assert math.isfinite(marginal)
    expected = marginal + conditional_density(case, x, coef, effects)
    assert graph == pytest.approx(expected, rel=IDENTITY)


STRUCTURES = {
    "iid": "",
    "strata": ["", "sigma ~ 0 + h"],
    "log-linear": ["", "sigma ~ x"],
    "log-linear without intercept": ["", "sigma ~ 0 + x"],
    "ar": "ar(t, g)",
    "ar, occasions": ["ar(t, g)", "sigma ~ 0 + C(t)"],
    "ar, log-linear": ["ar(t, g)", "sigma ~ x"],
    "cosy": "cosy(g)",
    "cosy, strata": ["cosy(g)", "sigma ~ 0 + h"],
    "unstr": "unstr(t, g)",
}
ADDITIONS = {
    "": tuple(STRUCTURES),
    "precision(w)": tuple(STRUCTURES),
    "se(s)": ("iid", "ar", "cosy", "unstr"),
    "se(s, sigma=True)": ("iid", "strata", "log-linear"),
    "weights(v)": tuple(STRUCTURES),
}
SHAPES = {
    "no bars": "x",
    "p = 0": "0 + (1 | e)",
    "correlated": "x + (x | e)",
    "nested and an offset": "x * h + offset(z) + (1 | e/f)",
    "crossed": "0 + x + (z | e) + (1 | f)",
    "two bars on one factor": "1 + (1 | e) + (0 + x + z | e)",
    "three effects, singletons": "z + (1 + x + z | f) + (h || e)",
}
ALL = [(addition, structure) for addition, own in ADDITIONS.items() for structure in own]


def text(addition, structure, shape):
    own = STRUCTURES[structure]
    term, *more = [own] if isinstance(own, str) else own
    left = f"y | {addition}" if addition else "y"
    right = f"{SHAPES[shape]} + {term}" if term else SHAPES[shape]
    return [f"{left} ~ {right}", *more]


@pytest.mark.parametrize(("addition", "structure"), ALL)
def test_the_graph_and_the_marginal_density_agree(addition, structure):
    k = ALL.index((addition, structure))
    case = Case(text(addition, structure, list(SHAPES)[k % len(SHAPES)]), series_frame(k))
    assert_identity(case, k)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("structure", ["ar", "unstr"])
def test_every_shape_of_groups(structure, shape):
    assert_identity(Case(text("", structure, shape), series_frame(2)), 2)


@settings(max_examples=15)
@given(
    st.sampled_from(ALL),
    st.sampled_from(sorted(SHAPES)),
    st.integers(0, 10**6),
    st.integers(6, 12),
    st.integers(3, 6),
    st.floats(0.0, 0.6),
    st.floats(0.2, 1.5),
)
def test_random_series(which, shape, seed, n_series, n_times, drop, scale):
    frame = series_frame(seed, n_series, n_times, drop)
    assert_identity(Case(text(*which, shape), frame), seed, scale)


PRIORS = {
    "HalfStudentT(4, 1.5)": {},
    "HalfNormal(2)": {},
    "HalfCauchy(1)": {},
    "Exponential(0.7)": {},
    "Gamma(2, 1)": {},
    "InverseGamma(3, 2)": {},
    "LogNormal(0.3, 0.5)": {},
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("structure", ["iid", "strata", "ar", "cosy", "unstr"])
def test_the_native_density_is_the_graphs_for_every_prior_of_a_sd(structure, prior):
    correlation = {"iid": {}, "strata": {}, "ar": {"ar": "Normal(0.4, 0.3)"}}
    more = correlation.get(structure, {"cosy": {"cosy": "Uniform(-0.05, 0.8)"}}.get(structure))
    more = {"cor_residual": "LKJ(2.5)"} if more is None else more
    priors = {"sd": prior, "sigma": prior, "cor": "LKJ(1.7)", "b": "StudentT(4, 0, 2)", **more}
    assert_identity(Case(text("", structure, "correlated"), series_frame(5), priors), 5)


@pytest.mark.parametrize("prior", ["Cauchy(0, 2)", "Laplace(0, 1)", "StudentT(3, 0, 2)"])
def test_coefficients_without_normal_priors_stay_in_the_density(prior):
    priors = {"b": prior, "sigma_b": prior, "sigma_Intercept": prior}
    case = Case(text("", "log-linear", "correlated"), series_frame(6), priors)
    assert_identity(case, 6)


def test_mixed_priors_of_strata():
    priors = {"sigma[a]": "HalfNormal(1)", "sigma[b]": "Gamma(2, 1)"}
    case = Case(text("", "strata", "correlated"), series_frame(7), priors)
    assert_identity(case, 7)
    assert case.graph.model.named_vars_to_dims["sigma"] == ("sigma_stratum",)


# --- near the ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("ar", [-0.999999, -0.5, -1e-12, 0.0, 1e-300, 0.7, 0.999999])
def test_autoregression_near_its_ends(ar):
    case = Case("y ~ 1 + ar(t, g)", series_frame(3))
    model = case.graph.model
    point = {"Intercept": 9.0, "sigma_log__": 0.2, "ar_interval__": 2 * math.atanh(ar)}
    exact = -1.0 + 2.0 * special.expit(2 * math.atanh(ar))
    R = covariance(case, {"sigma": math.exp(0.2), "ar": exact})
    likelihood = model.compile_logp(vars=model.observed_RVs, mode="FAST_COMPILE")
    expected = stats.multivariate_normal(np.full(len(R), 9.0), R).logpdf(case.design.y)
    # what double precision leaves of a dense inverse of condition 1e6
    assert float(likelihood(point)) == pytest.approx(expected, rel=1e-9)
    gradient = model.compile_dlogp(mode="FAST_COMPILE")(point)
    assert np.all(np.isfinite(gradient))


# --- names and draws ------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_residual_parameters_have_their_published_names_and_values(structure):
    case = Case(text("", structure, "correlated"), series_frame(4))
    model = case.graph.model
    rng = np.random.default_rng(4)
    x = rng.normal(0.0, 0.5, case.problem.layout.ndim)
    effects = [np.zeros((len(t.levels), len(t.coefs))) for t in case.design.terms]
    point, _ = case.point(x, np.zeros(len(case.design.coefs)), effects)
    published = case.values(x)
    variables = model.replace_rvs_by_values([model[name] for name in published])
    found = model.compile_fn(
        variables, inputs=model.value_vars, mode="FAST_COMPILE", on_unused_input="ignore"
    )(point)
    for name, value in zip(published, found, strict=True):
        # the same sums in another order
        np.testing.assert_allclose(value, published[name], rtol=1e-11, atol=1e-13)
        dims = model.named_vars_to_dims.get(name, ())
        assert [len(model.coords[dim]) for dim in dims] == list(published[name].shape)


@pytest.mark.parametrize("structure", ["ar", "cosy", "unstr", "ar, occasions"])
def test_draws_of_the_response_have_the_structures_covariance(structure):
    frame = series_frame(8, n_series=4, n_times=3, drop=0.2)
    case = Case(text("", structure, "no bars"), frame)
    model = case.graph.model
    x = np.random.default_rng(1).normal(0.0, 0.7, case.problem.layout.ndim)
    point, _ = case.point(x, np.zeros(len(case.design.coefs)), [])
    values = {model.rvs_to_values[rv]: rv for rv in model.free_RVs}
    constrained = model.compile_fn(
        model.replace_rvs_by_values(model.free_RVs), inputs=model.value_vars, mode="FAST_COMPILE"
    )(point)
    given = {rv: np.asarray(v) for rv, v in zip(values.values(), constrained, strict=True)}
    with model:
        draws = pm.draw(
            pm.do(model, {rv.name: v for rv, v in given.items()})["y"],
            4000,
            random_seed=1,
            mode="FAST_COMPILE",
        )
    R = covariance(case, case.values(x))
    sds = np.sqrt(np.diag(R))
    # a correlation of 4000 draws is known to 1/sqrt(4000) = 0.016, a sd to 1.1 %: five of that
    found = np.cov(draws.T)
    np.testing.assert_allclose(np.sqrt(np.diag(found)) / sds, 1.0, atol=0.055)
    np.testing.assert_allclose(
        found / np.outer(sds, sds), R / np.outer(sds, sds), rtol=0, atol=0.09
    )


@pytest.mark.slow
def test_pymc_samples_a_structure():
    case = Case("y ~ x + (1 | e) + ar(t, g)", series_frame(9))
    with case.graph.model:
        tree = pm.sample(
            draws=20, tune=20, chains=1, cores=1, random_seed=1, progressbar=False,
            compute_convergence_checks=False, quiet=True,
        )  # fmt: skip
    assert {"ar", "sigma", "r_e", "Intercept"} <= set(tree["posterior"].data_vars)
    assert tree["observed_data"]["y"].dims == ("__obs__",)


def test_correlations_of_known_errors_are_published_by_occasion():
    case = Case(text("se(s)", "unstr", "no bars"), series_frame(1))
    x = np.random.default_rng(1).normal(0.0, 0.5, case.problem.layout.ndim)
    draws = {name: value[None, None] for name, value in case.values(x).items()}
    coef = np.zeros((1, 1, len(case.design.coefs)))
    posterior, _ = publish(
        Coordinates(coef, (), (), (), None), case.design, case.priors, 10**9, draws
    )
    assert posterior["cor_residual"].dims[2:] == ("sigma_stratum", "sigma_stratum_bis")
    assert list(posterior["sigma_stratum"].values) == list(case.design.residual.occasions)

"""Structured group effects in the PyMC graph: subpopulations, known covariances, Student, mm().

Against the compiled kernel where it has them, and against dense multivariate densities.
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from pytensor.compile.mode import Mode
from scipy import stats

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density, constrain, layout, supports
from hiermodels.fitting.generative import build_generative
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
LEVELS = [f"g{k}" for k in range(8)]


def frame():
    rng = np.random.default_rng(0)
    g = rng.permutation(np.arange(60) % 8)
    return pd.DataFrame(
        {
            "y": rng.normal(size=60),
            "x": rng.normal(2, 1, 60),
            "g": [LEVELS[k] for k in g],
            "h": [["u", "v"][k % 2] for k in g],
            "k": rng.choice(LEVELS, 60),
            "w": rng.uniform(0.2, 1, 60),
            "v": rng.uniform(0.2, 1, 60),
        }
    )


def relationship():
    A = np.random.default_rng(1).normal(size=(8, 12))
    return pd.DataFrame(A @ A.T / 12, index=LEVELS, columns=LEVELS)


class Case:
    def __init__(self, formula, centred=False, priors=None, family="gaussian"):
        self.family = Family(family)
        covariances = {"K": relationship()} if "K" in str(formula) else None
        parsed = parse_formula(formula)
        self.design = build_design(parsed, frame(), self.family, covariances)
        self.priors = resolve_priors(self.design, self.family, priors)
        self.forms = (centred,) * len(self.design.terms)
        self.graph = build_generative(self.design, self.family, self.priors, self.forms)
        self.problem = conditional_problem(self.design, self.family, self.priors, self.forms)

    def points(self, count=2):
        return np.random.default_rng(2).normal(0, 0.3, (count, layout(self.problem).ndim))


BARS = {
    "by": "y ~ x + (x | gr(g, by=h))",
    "by, one effect": "y ~ x + (1 | gr(g, by=h))",
    "by, uncorrelated": "y ~ x + (x || gr(g, by=h))",
    "cov": "y ~ x + (1 | gr(g, cov=K))",
    "cov, two effects": "y ~ x + (x | gr(g, cov=K))",
    "student": 'y ~ x + (1 | gr(g, dist="student"))',
    "student, two effects": 'y ~ x + (x | gr(g, dist="student"))',
    "student, by": 'y ~ x + (x | gr(g, by=h, dist="student"))',
    "mm": "y ~ x + (1 | mm(g, k))",
    "mm, weights": "y ~ x + (x | mm(g, k, weights=cbind(w, v))) + (1 | h)",
}
ALL = BARS | {
    "cov, by": "y ~ x + (x | gr(g, by=h, cov=K))",
    "cov, student": 'y ~ x + (1 | gr(g, cov=K, dist="student"))',
}


# the kernel has no centred bar with a covariance between levels
FORMS = [(name, centred) for name in BARS for centred in (False, True)
         if not (centred and name.startswith("cov"))]  # fmt: skip


@pytest.mark.parametrize(("name", "centred"), FORMS)
def test_the_kernel_and_the_graph_agree(name, centred, graph_point):
    case = Case(BARS[name], centred)
    assert supports(case.problem) is None
    density, graph = Density(case.problem), case.graph.model.compile_logp(mode=PLAIN)
    for x in case.points():
        point, more = graph_point(case.graph, case.problem, x)
        expected = density(x)[0] + more
        assert float(graph(point)) == pytest.approx(expected, rel=ROUNDING, abs=10 * FLOAT32_LOG2)


def dense_density(case, values):
    """Return the log density of the bar's effects (J, q) by one dense distribution."""
    term, names = case.design.terms[0], case.graph.bars[0]
    q, J = len(term.coefs), len(term.levels)
    sd = np.concatenate([np.atleast_1d(values[name]).ravel() for name in names.sd.names])
    sd = sd.reshape(-1, q)
    rho = np.zeros(len(sd)) if names.partial is None else 2 * values[names.partial].ravel() - 1
    index = np.zeros(J, dtype=int) if term.by is None else term.by.index
    factors = []
    for own, r in zip(sd, rho, strict=True):
        factor = np.eye(q)
        if q > 1:
            factor[1] = r, np.sqrt(1 - r**2)
        factors.append(own[:, None] * factor)
    K = np.eye(J) if term.cov is None else term.cov
    root = np.linalg.cholesky(K)
    whole = np.block([[root[i, j] * factors[index[i]] for j in range(J)] for i in range(J)])
    effects = values[names.effects].ravel()
    if names.nu is None:
        return stats.multivariate_normal(np.zeros(J * q), whole @ whole.T).logpdf(effects)
    scores = np.linalg.solve(whole, effects).reshape(J, q)
    t = stats.multivariate_t(np.zeros(q), np.eye(q), df=float(values[names.nu]))
    return np.sum(t.logpdf(scores)) - np.linalg.slogdet(whole)[1]


@pytest.mark.parametrize("name", [name for name in ALL if "mm" not in name])
def test_centred_effects_have_their_dense_density(name):
    case = Case(ALL[name], centred=True)
    model, free = case.graph.model, list(case.graph.free)
    point = model.initial_point(random_seed=1)
    rng = np.random.default_rng(4)
    point = {key: value + rng.normal(0, 0.4, np.shape(value)) for key, value in point.items()}
    values = model.compile_fn(
        model.replace_rvs_by_values([model[own] for own in free]),
        inputs=model.value_vars, mode=PLAIN, on_unused_input="ignore",
    )(point)  # fmt: skip
    values = dict(zip(free, values, strict=True))
    effects = model[case.graph.bars[0].effects]
    found = model.compile_logp(vars=[effects], mode=PLAIN)(point)
    assert float(found) == pytest.approx(dense_density(case, values), rel=1e-10)


@pytest.mark.parametrize("name", [name for name in ALL if "mm" not in name])
def test_draws_of_effects_have_their_covariance(name):
    """Both forms of the coordinates."""
    for centred in (False, True):
        case = Case(ALL[name], centred, {"sd": "LogNormal(0, 0.1)"})
        settings = {own: np.ones(case.graph.model[own].shape.eval()) for bar in case.graph.bars
                    for own in bar.sd.names}  # fmt: skip
        if case.graph.bars[0].nu is not None:
            settings["nu_g"] = 12.0
        if case.graph.bars[0].partial is not None:
            shape = case.graph.model[case.graph.bars[0].partial].shape.eval()
            settings[case.graph.bars[0].partial] = np.full(shape, 0.75)
        draws = pm.draw(pm.do(case.graph.model, settings)["r_g"], 2000, random_seed=5, mode=PLAIN)
        flat = draws.reshape(len(draws), -1)
        K = np.eye(8) if case.design.terms[0].cov is None else case.design.terms[0].cov
        q = len(case.design.groups[0].coefs)
        correlated = case.design.terms[0].correlated
        correlation = np.array([[1.0, 0.5], [0.5, 1.0]])[:q, :q] if correlated else np.eye(q)
        scale = 1.2 if case.graph.bars[0].nu is not None else 1.0
        expected = scale * np.kron(K, correlation)
        # a covariance of 2,000 draws is known to 0.03 of the sds' product or so: five of that
        sds = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(np.cov(flat.T) / np.outer(sds, sds),
                                   expected / np.outer(sds, sds), atol=0.16)  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_everything_published_has_its_name_and_value(name, graph_point):
    case = Case(ALL[name])
    model, x = case.graph.model, case.points(1)[0]
    posterior, _ = publish(
        constrain(case.problem, x[None, None, :]), case.design, case.priors, 10**9
    )
    names, free = list(posterior.data_vars), list(case.graph.free)
    point, _ = graph_point(case.graph, case.problem, x)
    values = model.compile_fn(
        model.replace_rvs_by_values([model[own] for own in [*names, *free]]),
        inputs=model.value_vars, mode=PLAIN, on_unused_input="ignore",
    )(point)  # fmt: skip
    for variable, value in zip(names, values, strict=False):
        dims = posterior[variable].dims[2:]
        assert tuple(model.named_vars_to_dims.get(variable) or ()) == dims
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
    xr.testing.assert_allclose(again, posterior, rtol=1e-11)

"""The bridge to Bambi: the same log density at the same point, both ways; the same posterior.

Densities are those of free variables, without Jacobians, so that neither side's transformations
enter: both models have the same free variables in the same coordinates.
"""

import math
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from pymc.model.transform.conditioning import remove_value_transforms
from pytensor.compile.mode import Mode

import hiermodels as hm
from hiermodels.bambi_bridge.names import COMPLEMENTS, bambi_name
from hiermodels.errors import EngineError, FormulaError, HierModelsError
from hiermodels.fitting.generative import build_generative
from hiermodels.spec.distributions import as_prior
from hiermodels.spec.family_table import TABLE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
# The density as it is written: compiling it is what takes time here.
PLAIN = Mode(linker="py", optimizer=None)
# Both sides compute a log of 2 in float32 for some half distributions, and sums in another order.
ROUNDING = 1e-9


@pytest.fixture(scope="module")
def bmb():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("bambi")


def frame():
    rng = np.random.default_rng(0)
    n = 60
    data = pd.DataFrame(
        {
            "x": rng.normal(5, 1, n),
            "z": rng.normal(1, 2, n),
            "h": rng.choice(list("abc"), n),
            "g": rng.choice(list("ABCDEF"), n),
            "k": rng.choice(list("pq"), n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    data["y"] = data.x + rng.normal(size=n)
    data["positive"] = np.exp(0.3 * data.z)
    data["unit"] = 1 / (1 + np.exp(-data.z))
    data["count"] = rng.poisson(2, n)
    data["trials"] = data["count"] + rng.integers(1, 4, n)
    data["binary"] = rng.integers(0, 2, n)
    data["rank"] = pd.Categorical(rng.choice(list("lmh"), n), categories=list("lmh"), ordered=True)
    data["c"] = rng.choice(["none", "left", "right"], n)
    return data


def untransformed_density(model, point):
    plain = remove_value_transforms(model)
    values = {
        v.name: np.reshape(point[v.name], plain[v.name].shape.eval()) for v in plain.value_vars
    }
    return float(plain.compile_logp(mode=PLAIN)(values))


def draw_of(graph):
    free = list(graph.free)
    values = pm.draw([graph.model[name] for name in free], random_seed=3, mode=PLAIN)
    return dict(zip(free, values, strict=True))


class Pair:
    """A model here and one of Bambi's: a point of ours, and the same as Bambi's variables."""

    def __init__(self, model, theirs):
        self.model = model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.build()
        self.theirs = theirs.backend.model
        forms = [False] * len(model.design.terms)
        self.graph = build_generative(model.design, model.family, model.resolved, forms)
        self.point = draw_of(self.graph)

    def names(self, part, of):
        """Return Bambi's names of the coefficients, where its terms are single columns."""
        found = [name for name in self.theirs.named_vars if name.startswith(of)]
        return {k: name for k, name in enumerate(part.coefs) if name in found}

    def put_predictor(self, names, part, of, found, sign):
        prefix = f"{of}_" if of else ""
        for vector, columns in names.coef:
            values = np.concatenate([np.atleast_1d(self.point[name]) for name in vector.names])
            for k, value in zip(columns, sign * values, strict=True):
                coef = part.coefs[k]
                name = f"{prefix}{coef}"
                if name not in self.theirs.named_vars:
                    name = f"{name} (at means)"
                found[name] = value
        for own, term in zip(names.bars, part.terms, strict=True):
            sds = np.concatenate([np.atleast_1d(self.point[name]) for name in own.sd.names])
            scores = self.point[own.effects]
            for k, coef in enumerate(term.coefs):
                name = f"{prefix}{'1' if coef == 'Intercept' else coef}|{term.group}"
                levels = [
                    str(v)
                    for v in self.theirs.coords[
                        f"{name.removeprefix(prefix).split('|')[1]}__factor_dim"
                    ]
                ]
                order = [term.levels.index(level) for level in levels]
                found[f"{name}_sigma"] = sds[k]
                found[f"{name}_offset"] = sign * scores[order, k]

    def mapped(self):
        """Return the point as Bambi's variables."""
        found, family = {}, self.model.family
        self.put_predictor(self.graph.mean, self.model.design, "", found, 1)
        for own in self.graph.parameters:
            theirs = bambi_name(family, own.name)
            flip = own.name in COMPLEMENTS
            if own.linear is None:
                value = self.point[own.values.names[0]]
                found[theirs] = 1 - value if flip else value
            else:
                self.put_predictor(own.linear, own.part, theirs, found, -1 if flip else 1)
        residual = self.graph.residual
        if residual is not None and self.model.design.residual.sigma.kind == "linear":
            labels = self.model.design.residual.sigma.labels
            for vector, columns in residual.sigma:
                values = np.atleast_1d(self.point[vector.names[0]])
                for k, value in zip(columns, values, strict=True):
                    name = f"sigma_{labels[k]}"
                    found[name if name in self.theirs.named_vars else f"{name} (at means)"] = value
        elif residual is not None and residual.sigma:
            found["sigma"] = self.point["sigma"]
        return found

    def assert_same(self):
        ours = untransformed_density(self.graph.model, self.point)
        mapped = self.mapped()
        assert {v.name for v in self.theirs.free_RVs} == set(mapped)
        theirs = untransformed_density(self.theirs, mapped)
        assert math.isfinite(ours)
        assert theirs == pytest.approx(ours, rel=ROUNDING, abs=2e-8)


# --- to Bambi -------------------------------------------------------------------------------------

TO = {
    "numbers": ("y ~ x + z + (x || g)", "gaussian", {}),
    "a factor": ("y ~ h + (1 | g) + (1 | k)", "gaussian", {}),
    "a factor and a number": ("y ~ x * h + (1 | g)", "gaussian", {}),
    "nested, offset": ("y ~ x + offset(z) + (1 | k/g)", "gaussian", {"sd": "Gamma(2, 1)"}),
    "raw priors": ("y ~ x", "gaussian", {"Intercept": "Normal(0, 5)", "b": "Cauchy(0, 1)"}),
    "no intercept": ("y ~ 0 + h + (0 + x | g)", "gaussian", {}),
    "groups alone": ("y ~ 0 + (1 | g)", "gaussian", {"sigma": "Exponential(1)"}),
    "spline": ("y ~ bs(x, 4) + (1 | g)", "gaussian", {}),
    "weights": ("y | weights(w) ~ x + (1 | g)", "gaussian", {}),
    "censored": ("y | cens(c) ~ x", "gaussian", {}),
    "truncated": ("y | trunc(lb=-5) ~ x", "gaussian", {}),
    "sigma": (["y ~ x + (1 | g)", "sigma ~ z"], "gaussian", {}),
    "sigma by group": (["y ~ x", "sigma ~ z + (1 | g)"], "gaussian", {}),
    "student": ("y ~ x + (1 | g)", "t", {"nu": "Gamma(2, 0.1)"}),
    "bernoulli": ("binary ~ x + (1 | g)", "bernoulli", {}),
    "binomial": ("count | trials(trials) ~ x + (1 | g)", "binomial", {}),
    "beta binomial": ("count | trials(trials) ~ x", "beta_binomial", {}),
    "poisson": ("count ~ x + (x || g)", "poisson", {}),
    "negative binomial": (["count ~ x + (1 | g)", "shape ~ z"], "negativebinomial", {}),
    "gamma": ("positive ~ x + (1 | g)", "gamma", {}),
    "beta": ("unit ~ x + (1 | g)", "beta", {}),
    "zero-inflated": (["count ~ x", "zi ~ z + (1 | g)"], "zero_inflated_poisson", {}),
    "zero-inflated, one zi": ("count ~ x", "zero_inflated_negativebinomial", {"zi": "Beta(2, 5)"}),
    "hurdle": ("count ~ x", "hurdle_poisson", {"hu": "Beta(2, 5)"}),
    "weibull": ("positive ~ x + (1 | g)", "weibull", {}),
    "cumulative": ("rank ~ x + (1 | g)", "cumulative", {}),
}


@pytest.mark.parametrize("name", TO)
def test_the_model_handed_over_has_the_same_density(name, bmb):
    formula, family, priors = TO[name]
    model = hm.Model(formula, frame(), family, priors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = hm.to_bambi(model)
    Pair(model, theirs).assert_same()


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ x + (x | g)", "drop_correlations=True"),
        ("y | precision(w) ~ x", "precision"),
        (["y ~ x", "sigma ~ 0 + h"], "stratum"),
    ],
)
def test_what_bambi_cannot_express_is_said(formula, words, bmb):
    with pytest.raises(EngineError, match=words):
        hm.to_bambi(hm.Model(formula, frame()))


def test_correlations_may_be_dropped(bmb):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = hm.to_bambi(hm.Model("y ~ x + (x | g)", frame()), drop_correlations=True)
    assert set(theirs._components["mu"].group_specific_terms) == {"1|g", "x|g"}


# --- from Bambi -----------------------------------------------------------------------------------

NORMAL = {"Intercept": ("Normal", 0, 5), "x": ("Normal", 0, 1), "sigma": ("HalfNormal", 0, 2)}
FROM = {
    "default priors": ("y ~ x + z + (x | g)", {}),
    "a factor": ("y ~ x + h + (1 | g)", {}),
    "not centred": ("y ~ x + (1 | g)", {"center_predictors": False}),
    "no intercept": ("y ~ 0 + x + (1 | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | k)", {}),
    "binomial": ("p(count, trials) ~ x + (1 | g)", {"family": "binomial"}),
    "bernoulli": ("binary ~ x + (1 | g)", {"family": "bernoulli"}),
    "poisson, offset": ("count ~ x + offset(z) + (1 | g)", {"family": "poisson"}),
    "negative binomial": ("count ~ x + (1 | g)", {"family": "negativebinomial"}),
    "gamma, log": ("positive ~ x + (1 | g)", {"family": "gamma", "link": {"mu": "log"}}),
    "zero-inflated": ("count ~ x", {"family": "zero_inflated_poisson"}),
    "weighted": ("weighted(y, w) ~ x + (1 | g)", {}),
    "truncated": ("truncated(y, lb=-5) ~ x", {"priors": NORMAL}),
    "censored": ("censored(y, c) ~ x", {}),
    "student": ("y ~ x + (1 | g)", {"family": "t"}),
    "cumulative": ("rank ~ x + (1 | g)", {"family": "cumulative"}),
}


def bambi_model(bmb, formula, priors=None, **options):
    if priors is not None:
        options["priors"] = {
            key: bmb.Prior(name, sigma=sd, **({} if name == "HalfNormal" else {"mu": mu}))
            for key, (name, mu, sd) in priors.items()
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bmb.Model(formula, frame(), **options)


@pytest.mark.parametrize("name", FROM)
def test_the_model_taken_over_has_the_same_density(name, bmb):
    formula, options = FROM[name]
    theirs = bambi_model(bmb, formula, **options)
    model = hm.from_bambi(theirs)
    pair = Pair(model, theirs)
    if name == "cumulative":
        # Bambi's differences of probabilities round to 0 far out
        pair.point |= {"b": np.array([0.1]), "cutpoints": np.array([-0.4, 0.9])}
        pair.point["sd_g"] = np.array([0.3])
    if name == "a factor":
        # two columns are one variable of Bambi's
        mapped = pair.mapped
        pair.mapped = lambda: _joined(mapped())
    pair.assert_same()


def _joined(found):
    values = [found.pop(name) for name in [*found] if name.startswith("h[")]
    return found | {"h": np.array(values)}


def test_formulas_of_parameters_are_taken_over(bmb):
    for formula, options in (
        (bmb.Formula("y ~ x + (1 | g)", "sigma ~ z"), {}),
        (bmb.Formula("count ~ x", "alpha ~ z + (1 | g)"), {"family": "negativebinomial"}),
        (bmb.Formula("count ~ x", "psi ~ z"), {"family": "zero_inflated_poisson"}),
    ):
        theirs = bambi_model(bmb, formula, **options)
        Pair(hm.from_bambi(theirs), theirs).assert_same()


def test_bars_become_independent_and_the_prior_table_says_where_the_intercept_stands(bmb):
    model = hm.from_bambi(bambi_model(bmb, "y ~ x + (x | g)"))
    assert not any(term.correlated for term in model.design.terms)
    row = model.priors.set_index("parameter").loc["Intercept"]
    assert (row["source"], row["scale"]) == ("user", "at the means")
    assert "Bambi" in row["how"]


@pytest.mark.parametrize(
    ("formula", "options", "words"),
    [
        ("y ~ x + (h | g)", {}, "factor"),
        ("constrained(y, lb=-9) ~ x", {}, "constrained"),
        ("y ~ x", {"auto_scale": False}, "Flat|flat"),
    ],
)
def test_what_cannot_be_taken_over_is_said(formula, options, words, bmb):
    theirs = bambi_model(bmb, formula, **options)
    with pytest.raises(HierModelsError, match=words):
        hm.from_bambi(theirs)


def test_a_formula_that_bambi_reads_without_its_groups_is_an_error(bmb):
    with pytest.raises(FormulaError):
        hm.from_bambi(bambi_model(bmb, "y ~ x | g"))


# --- families -------------------------------------------------------------------------------------


def test_the_table_has_every_family_of_bambis_with_its_links_and_parameters(bmb):
    from bambi.defaults.families import BUILTIN_FAMILIES, get_builtin_family

    assert set(BUILTIN_FAMILIES) == set(TABLE)
    for name in BUILTIN_FAMILIES:
        theirs = get_builtin_family(name)
        ours = hm.Family(name)
        parent = theirs.likelihood.parent
        if name != "gamma":
            # whose default link is log here
            assert ours.link == theirs.link[parent].name, name
        theirs_names = set(theirs.likelihood.params) - {parent}
        assert {bambi_name(ours, own.name) for own in ours.parameters} == theirs_names, name
        if not ours.has_kernel and not ours.ordinal:
            for own in ours.parameters:
                prior = theirs.default_priors[bambi_name(ours, own.name)]
                if own.default == "units of y" or name == "vonmises":
                    continue
                arguments = {key: float(value) for key, value in prior.args.items()}
                assert hm.Prior(prior.name, **arguments) == as_prior(own.default)


@pytest.mark.parametrize("name", ["categorical", "multinomial", "dirichlet_multinomial"])
def test_families_by_level_are_known_and_not_handed_over(name, bmb):
    from bambi.defaults.families import get_builtin_family

    data = frame().assign(a=1, b=2, level=np.resize(list("uvw"), len(frame())))
    formula = "level ~ x" if name == "categorical" else "c(a, b) ~ x"
    model = hm.Model(formula, data, get_builtin_family(name))
    assert model.family.name == name
    with pytest.raises(EngineError, match="priors of each level's own coefficients"):
        hm.to_bambi(model)
    with pytest.raises(EngineError, match="are not taken over"):
        hm.from_bambi(bmb.Model(formula, data, family=name))


def test_a_family_of_ones_own(bmb):
    """A likelihood with its own distribution, a link with its own functions, priors by key."""
    link = bmb.Link(
        "twice", link=lambda mu: 2 * mu, linkinv=lambda eta: eta / 2,
        linkinv_backend=lambda eta: eta / 2,
    )  # fmt: skip
    likelihood = bmb.Likelihood("Mine", params=["mu", "s"], parent="mu", dist=scaled_normal)
    family = bmb.Family("mine", likelihood, {"mu": link, "s": "log"})
    with pytest.raises(hm.PriorError, match=r"priors=\{'s'"):
        hm.Model("y ~ x", frame(), family)
    priors = {"s": "HalfNormal(sigma=2)", "b": "Normal(0, 1)", "Intercept": "Normal(0, 1)"}
    model = hm.Model(["y ~ x + (1 | g)"], frame(), family, priors)
    given = pm.do(model.pymc, {"Intercept": 1.0, "b": np.array([0.3]), "s": 1.7, "sd_g": [0.5],
                               "r_g_std": np.zeros((6, 1))})  # fmt: skip
    found = given.compile_logp(vars=given.observed_RVs, mode=PLAIN)({})
    data = frame()
    expected = pm.logp(pm.Normal.dist((1.0 + 0.3 * data.x) / 2, 1.7), data.y).sum().eval()
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
    assert model.engine == "conditional"
    formula = hm.Model(["y ~ x", "s ~ z + (1 | g)"], frame(), family)
    assert {"s_Intercept", "s_b", "s_sd_g", "s_r_g"} <= set(formula.pymc.named_vars)


def scaled_normal(name, mu, s, **options):
    return pm.Normal(name, mu, s, **options)


scaled_normal.dist = lambda mu, s, **options: pm.Normal.dist(mu, s, **options)


def test_a_familys_own_default_priors_are_used(bmb):
    likelihood = bmb.Likelihood("Logistic", params=["mu", "s"], parent="mu")
    family = bmb.Family("logistic", likelihood, {"mu": "identity", "s": "log"})
    family.set_default_priors({"s": bmb.Prior("HalfNormal", sigma=3)})
    model = hm.Model("y ~ x", frame(), family)
    assert model.priors.set_index("parameter").loc["s", "prior"] == "HalfNormal(sigma=3)"
    assert np.isfinite(model.pymc.compile_logp(mode=PLAIN)(model.pymc.initial_point()))


def test_another_family_under_a_name_that_is_taken_is_refused(bmb):
    likelihood = bmb.Likelihood("Logistic", params=["mu", "s"], parent="mu")
    with pytest.raises(HierModelsError, match="a name of its own"):
        hm.Model("y ~ x", frame(), bmb.Family("gaussian", likelihood, "identity"))


def test_bambis_own_objects_for_known_families_are_ours(bmb):
    likelihood = bmb.Likelihood("Normal", params=["mu", "sigma"], parent="mu")
    family = bmb.Family("gaussian", likelihood, "identity")
    assert hm.Model("y ~ x", frame(), family).engine == "marginal"


# --- loading, and posteriors ----------------------------------------------------------------------


def test_nothing_loads_bambi_before_a_model_is_handed_over():
    code = (
        "import sys, hiermodels as hm; hm.to_bambi; hm.from_bambi; hm.Family('weibull');"
        "print('bambi' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


POSTERIORS = {
    "gaussian": ("y ~ x + (x || g)", "gaussian"),
    "bernoulli": ("binary ~ x + (1 | g) + (1 | k)", "bernoulli"),
    "poisson": ("count ~ x + (1 | g)", "poisson"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", POSTERIORS)
def test_posteriors_agree(name, bmb):
    """Means within 4.5 Monte Carlo standard errors of both: 20 comparisons, seeds fixed."""
    import arviz as az

    formula, family = POSTERIORS[name]
    model = hm.Model(formula, frame(), family)
    options = {"draws": 1000, "tune": 1000, "chains": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = model.fit(**options, seed=1, progress=False).idata["posterior"].to_dataset()
        theirs = (
            hm.to_bambi(model)
            .fit(**options, random_seed=2, inference_method="nutpie", progressbar=False)[
                "posterior"
            ]
            .to_dataset()
        )
    pairs = {"Intercept": ours["Intercept"], "x": ours["b"].isel(coef=0)}
    for group in model.design.groups:
        for coef in group.coefs:
            expr = "1" if coef == "Intercept" else coef
            place = {f"{group.name}_coef": coef}
            pairs[f"{expr}|{group.name}_sigma"] = ours[f"sd_{group.name}"].sel(place)
    if family == "gaussian":
        pairs["sigma"] = ours["sigma"]
    for variable, mine in pairs.items():
        other = theirs[variable].squeeze(drop=True)
        error = math.hypot(*(float(az.mcse(own.values)) for own in (mine, other)))
        assert abs(float(mine.mean() - other.mean())) < 4.5 * error, variable

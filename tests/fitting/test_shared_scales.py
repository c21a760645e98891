"""R2D2M2 and the horseshoe as a user meets them: table, errors, graph, posterior, afterwards."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from scipy import stats

import hiermodels as hm
from hiermodels import cli
from hiermodels.answers.alternatives import make_alternatives, read_alternatives
from hiermodels.answers.pointwise import pointwise_parts
from hiermodels.answers.reweighting import Baseline, reweight
from hiermodels.cli.prior_words import parse_priors
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.engines.mixed import sampled_density
from hiermodels.errors import PriorError
from hiermodels.fitting.points import marginal_points
from hiermodels.spec.distributions import Prior
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.shares import find_shares

JOINT = "R2D2M2(mean_R2=0.4, prec_R2=4, cons_D2=1)"
HORSESHOE = "Horseshoe(scale_global=0.5, scale_slab=2)"


def rows(seed=1, n=90):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.normal(5.0, 2.0, n),
            "u": rng.normal(0.0, 3.0, n),
            "h": rng.choice(["p", "q"], n),
            "g": [f"g{k}" for k in np.arange(n) % 9],
            "time": np.arange(n) // 9,
        }
    )
    effects = rng.normal(0.0, 0.7, 9)[np.arange(n) % 9]
    frame["y"] = 2.0 + 0.8 * frame["x"] + effects + rng.normal(0.0, 1.0, n)
    frame["z"] = frame["y"] > frame["y"].median()
    return frame


def model(formula="y ~ x + u + h + (x | g)", prior=JOINT, engine="auto", **priors):
    return hm.Model(formula, rows(), priors={"b": prior, **priors}, engine=engine, lint=False)


@pytest.fixture(scope="module")
def joint():
    return model()


@pytest.fixture(scope="module")
def fit(joint):
    return joint.fit(draws=800, tune=600, chains=2, seed=1, target_accept=0.9, progress=False)


@pytest.fixture(scope="module")
def shoe():
    own = model("y ~ x + u + h + (1 | g)", HORSESHOE)
    return own.fit(draws=800, tune=600, chains=2, seed=1, target_accept=0.9, progress=False)


# --- what is asked for ----------------------------------------------------------------------------


def test_the_table_says_what_it_governs(joint):
    table = joint.priors.set_index("parameter")
    spread = rows()["x"].std()
    governed = [name for name in table.index if "R2D2M2" in table.loc[name, "prior"]]
    assert governed == ["b[x]", "b[u]", "b[h[T.q]]", "sd_g[Intercept]", "sd_g[x]"]
    text = f"R2D2M2(mean_R2=0.4, prec_R2=4, cons_D2=1, scale={1 / spread:.4g})"
    assert table.loc["b[x]", "prior"] == table.loc["sd_g[x]", "prior"] == text
    assert table.loc["b[x]", "how"] == f"scale / {spread:.4g} (sd of x)"
    assert table.loc["sd_g[x]", "how"] == f"by 'b', scale / {spread:.4g} (sd of x)"
    assert table.loc["sd_g[Intercept]", "how"] == "by 'b'"
    assert table.loc["sd_g[x]", "scale"] == "at the means"
    assert joint.engine == "marginal"
    shares = find_shares(joint.resolved)
    assert shares.coefs == (1, 2, 3)
    assert shares.sds == ((0, 0), (0, 1))
    assert shares.residual


def test_it_is_written_as_text_table_and_prior():
    wanted = Prior("R2D2M2", mean_R2=0.4, prec_R2=4.0, cons_D2=1.0)
    assert hm.Prior(*["R2D2M2"]).values == (0.5, 2.0, 0.5, 1.0)
    for value in (JOINT, {"dist": "R2D2M2", "mean_R2": 0.4, "prec_R2": 4, "cons_D2": 1}, wanted):
        own = model(prior=value)
        assert own.priors.equals(model().priors)
    again = hm.Model("y ~ x + u + h + (x | g)", rows(), priors={"b": wanted.exact})
    assert again.priors.equals(model().priors)


def test_one_coefficient_may_stand_apart():
    table = model(u="Normal(0, 1)").priors.set_index("parameter")
    assert table.loc["b[u]", "prior"] == "Normal(mu=0, sigma=1)"
    assert "R2D2M2" in table.loc["b[x]", "prior"]


@pytest.mark.parametrize("key", ["sd", "sd_g", "sd_g[x]"])
def test_a_sd_with_a_prior_of_its_own_is_a_contradiction(key):
    with pytest.raises(PriorError, match=r"given for 'b', is the prior of sd_g.*Leave out"):
        model(**{key: "HalfNormal(1)"})


def test_correlations_keep_their_prior_and_the_bar_its_means():
    table = model(cor="LKJ(eta=3)").priors.set_index("parameter")
    assert table.loc["cor_g", "prior"] == "LKJ(eta=3)"
    assert table.loc["cor_g", "scale"] == table.loc["sd_g[x]", "scale"] == "at the means"


@pytest.mark.parametrize(
    ("formula", "family", "priors", "words"),
    [
        ("y ~ 0 + x + (1 | g)", None, {"b": JOINT}, "variance about an intercept"),
        (["y ~ x + (1 | g)", "sigma ~ 0 + h"], None, {"b": JOINT}, "several residual sds"),
        ("y | se(u2) ~ x + (1 | g)", None, {"b": JOINT}, "no residual sd, only known errors"),
        (["y ~ x", "sigma ~ x"], "t", {"b": JOINT}, "several residual sds"),
        (["y ~ x", "sigma ~ x"], "t", {"sigma_b": JOINT}, "not of 'sigma_b'"),
        ("y ~ x", None, {"x": JOINT}, "R2D2M2 is no prior for 'x'"),
        ("y ~ x", None, {"sigma": JOINT}, "R2D2M2 is no prior for 'sigma'"),
        ("y ~ x", None, {"b": "R2D2M2(mean_R2=1)"}, "mean_R2 is the mean of R squared, between"),
        ("y ~ x", None, {"b": "R2D2M2(prec_R2=0)"}, "prec_R2 must be finite and above 0"),
        ("y ~ x", None, {"b": "R2D2M2(cons=1)"}, "no argument 'cons'"),
    ],
)
def test_what_has_no_meaning_is_refused(formula, family, priors, words):
    data = rows().assign(u2=1.0)
    with pytest.raises(PriorError, match=words):
        hm.Model(formula, data, family or "gaussian", priors=priors)


def test_bambi_has_none(joint):
    with pytest.raises(PriorError, match="Bambi has no R2D2M2 prior"):
        hm.to_bambi(joint, drop_correlations=True)


# --- before a fit ---------------------------------------------------------------------------------


def test_draws_of_the_prior_are_what_it_says(joint):
    found = hm.prior_predictive(joint, draws=1500, seed=3)
    assert np.isfinite(found.simulated).all()
    implied = hm.prior_implied(joint, draws=1500, seed=3)
    assert "R2" in implied.table.index
    r2 = implied.draws["R2"]
    assert stats.kstest(r2, stats.beta(0.4 * 4, 0.6 * 4).cdf).pvalue > 0.001
    # the explained variance over all of it, of the data at hand, is R squared but for chance
    assert np.corrcoef(r2, implied.draws["r2[conditional]"])[0, 1] > 0.8


def test_lint_takes_it(joint, fit):
    assert isinstance(hm.lint(joint).to_frame(), pd.DataFrame)
    assert isinstance(hm.lint(fit).to_frame(), pd.DataFrame)


# --- the graph ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("y ~ x + u + h + (x | g)", "gaussian"),
        ("y ~ x * u + (1 | g) + (1 | h)", "t"),
        ("z ~ x + (1 | g)", "bernoulli"),
        ("y ~ x", "gaussian"),
        ("y ~ x + (1 | gr(g, by=h2))", "gaussian"),
    ],
)
def test_the_graph_holds_the_same_law(formula, family):
    data = rows().assign(h2=np.where(np.arange(90) % 9 < 4, "a", "b"))
    own = hm.Model(formula, data, family, priors={"b": JOINT}, engine="conditional", lint=False)
    graph, shares = own.pymc, find_shares(own.resolved)
    names = [value.name for value in graph.free_RVs]
    assert ("R2_share" in names) == (shares.size > 1)
    # unconstrained coordinates of PyMC and of the kernel are the same: log odds, and logs of
    # shares about their mean
    rng = np.random.default_rng(2)
    y = np.concatenate([rng.normal(size=1), 0.4 * rng.normal(size=shares.size - 1)])
    point = graph.initial_point()
    point["R2_logodds__"] = np.asarray(y[0])
    logs = [graph["R2"]]
    if shares.size > 1:
        point["R2_share_simplex__"] = y[1:]
        logs.append(graph["R2_share"])
    found = graph.compile_logp(vars=logs, sum=True)(point)
    e = np.append(y[1:], -y[1:].sum())
    log_share = e - np.log(np.exp(e).sum())
    r2 = 1.0 / (1.0 + np.exp(-y[0]))
    wanted = stats.beta(*shares.beta).logpdf(r2) + np.log(r2 * (1 - r2))
    if shares.size > 1:
        wanted += stats.dirichlet(np.ones(shares.size)).logpdf(np.exp(log_share))
        wanted += log_share.sum() + np.log(shares.size)
    assert found == pytest.approx(wanted, rel=1e-10)
    free = pm.draw([*graph.free_RVs, graph["b"]], draws=20, random_seed=1)
    assert np.isfinite(free[-1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("prior", [JOINT, HORSESHOE])
def test_the_graph_has_the_posterior_of_the_marginal_engine(prior):
    formula = "y ~ x + u + (1 | g)"
    settings = {"draws": 1500, "tune": 800, "chains": 2, "seed": 5, "progress": False}
    tables = []
    for engine in ("marginal", "conditional"):
        own = model(formula, prior, engine)
        tables.append(own.fit(target_accept=0.99, **settings).summary())
    a, b = tables
    assert list(a.index) == list(b.index)
    error = np.hypot(a["sd"] / np.sqrt(a["ess_bulk"]), b["sd"] / np.sqrt(b["ess_bulk"]))
    # four errors: ten quantities, one in 1,500 by chance
    assert (np.abs(a["mean"] - b["mean"]) < 4 * error).all()
    np.testing.assert_allclose(a["sd"], b["sd"], rtol=0.15)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_a_posterior_of_binary_rows():
    own = hm.Model("z ~ x + u + (1 | g)", rows(), "bernoulli", priors={"b": JOINT}, lint=False)
    assert own.engine == "conditional"
    found = own.fit(draws=300, tune=400, chains=2, seed=1, target_accept=0.95, progress=False)
    assert found.fixef().loc["x", "ci_low"] > 0
    assert 0 < found.summary().loc["R2", "mean"] < 1


# --- after a fit ----------------------------------------------------------------------------------


def test_a_fit_publishes_what_is_shared(fit, shoe):
    posterior = fit.posterior
    assert posterior["R2"].dims == ("chain", "draw")
    labels = ["b[x]", "b[u]", "b[h[T.q]]", "sd_g[Intercept]", "sd_g[x]"]
    assert posterior["R2_part"].values.tolist() == labels
    np.testing.assert_allclose(posterior["R2_share"].sum("R2_part"), 1.0, rtol=1e-12)
    assert "R2" in fit.summary().index
    assert shoe.posterior["b_shrunk"].values.tolist() == ["x", "u", "h[T.q]"]
    assert shoe.posterior["b_local"].shape == (2, 800, 3)
    assert fit.fixef().loc["x", "ci_low"] > 0.5
    assert shoe.fixef().loc["x", "ci_low"] > 0.5


@pytest.mark.parametrize("name", ["fit", "shoe"])
def test_draws_lead_back_to_their_coordinates(name, request):
    own = request.getfixturevalue(name)
    problem = own.model.marginal
    x = marginal_points(problem, own.model.design, own.model.resolved, own.posterior)
    assert np.isfinite(x).all()
    if name == "fit":
        # the sds of the bars are those of the shares
        parts, layout = problem.mixing.parts, problem.layout
        at = [layout.sds[bar].start + k for bar, k in parts]
        shares = find_shares(own.model.resolved)
        flat = {key: own.posterior[key].values.reshape(1600, -1) for key in ("R2", "R2_share")}
        sigma = own.posterior["sigma"].values.ravel()
        sds = shares.part_sds(flat["R2"][:, 0], flat["R2_share"], sigma)
        np.testing.assert_allclose(np.exp(x[:, at]), sds, rtol=1e-9)
        return
    arguments = [dict(own.model.resolved.coef[k].arguments) for k in (1, 2, 3)]
    tau = own.posterior["b_overall"].values.reshape(-1, 1) * [a["scale_global"] for a in arguments]
    c2 = own.posterior["b_slab"].values.reshape(-1, 1) * [a["scale_slab"] ** 2 for a in arguments]
    lam = own.posterior["b_local"].values.reshape(-1, 3)
    sds = tau * np.sqrt(c2 * lam**2 / (c2 + tau**2 * lam**2))
    np.testing.assert_allclose(np.exp(x[:, problem.layout.sds[-1]]), sds, rtol=1e-9)


@pytest.mark.parametrize("name", ["fit", "shoe"])
def test_a_row_left_out_is_what_is_left_of_the_density(name, request):
    own = request.getfixturevalue(name)
    design, resolved = own.model.design, own.model.resolved
    x = marginal_points(own.model.marginal, design, resolved, own.posterior)[::200]
    kept = own.model.on_rows(np.arange(1, design.n))
    whole, without = MarginalDensity(own.model.marginal), MarginalDensity(kept.marginal)
    wanted = [whole(point)[0] - without(point)[0] for point in x]
    for part in pointwise_parts(own):
        where = np.flatnonzero(part.rows == 0)
        if len(where):
            np.testing.assert_allclose(part.left_out[::200, where[0]], wanted, rtol=1e-8)


def test_everything_after_a_fit_goes_on(fit, shoe, tmp_path):
    for own in (fit, shoe):
        assert np.isfinite(hm.loo(own).elpd)
        assert len(hm.pooling(own).to_frame()) == 9 * len(own.model.design.terms[0].coefs)
        assert len(hm.predict(own, rows().head(3)).to_frame()) == 3
        again = hm.load(own.save(tmp_path / "own.nc"))
        assert again.posterior.equals(own.posterior)
        assert again.model.priors.equals(own.model.priors)
        assert again.model.marginal.mixing is not None


def test_another_law_of_r_squared_is_reached_by_weights(fit):
    base = Baseline(fit)
    other = fit.model.with_priors({"b": "R2D2M2(mean_R2=0.6, prec_R2=6, cons_D2=1)"})
    found = reweight(base, other)
    assert found.reason is None
    r2 = fit.posterior["R2"].values.ravel()
    log_ratio = stats.beta(3.6, 2.4).logpdf(r2) - stats.beta(1.6, 2.4).logpdf(r2)
    weights = np.exp(log_ratio - log_ratio.max())
    # smoothing replaces the largest weights alone
    low = weights < np.quantile(weights, 0.5)
    ratio = found.weights[low] / weights[low]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-8)
    for priors in ({"b": "Normal(0, 1)"}, {"b": HORSESHOE}):
        assert "shrinkage prior" in reweight(base, fit.model.with_priors(priors)).reason


def test_stress_says_what_moves(fit, shoe):
    wide = {"sigma": "HalfNormal(5)"}
    found = hm.prior_sensitivity(fit, [{"b": "R2D2M2(mean_R2=0.6, prec_R2=4, cons_D2=1)"}, wide])
    assert set(found.alternatives["method"]) == {"reweighted"}
    assert "prior_R2" in found.scaling.columns
    assert "R2" in set(found.table["quantity"])
    own = hm.prior_sensitivity(shoe, [wide], refit=False)
    assert "prior_b" in own.scaling.columns
    tried = hm.prior_sensitivity(fit, refit=False, scaling=False).alternatives
    laws = tried[tried["alternative"].str.startswith("R2: ")]
    assert len(laws) == 5
    assert (laws["method"] == "reweighted").all()
    assert not tried["alternative"].str.startswith("sd: ").any()


@pytest.mark.slow
def test_an_alternative_by_weights_is_the_refit(fit):
    priors = {"b": "R2D2M2(mean_R2=0.6, prec_R2=6, cons_D2=1)"}
    long = fit.model.fit(draws=2000, chains=2, seed=3, target_accept=0.9, progress=False)
    weighted = reweight(Baseline(long), fit.model.with_priors(priors)).weights
    refit = fit.model.with_priors(priors).fit(draws=2000, chains=2, seed=4, progress=False)
    for name, table in (("R2", refit.summary()),):
        mean = float(np.sum(weighted * long.posterior[name].values.ravel()))
        error = table.loc[name, "sd"] / np.sqrt(table.loc[name, "ess_bulk"])
        # both have an error, that of weighted draws up to twice the refit's
        assert mean == pytest.approx(table.loc[name, "mean"], abs=8 * error)


@pytest.mark.slow
@pytest.mark.parametrize("prior", [JOINT, HORSESHOE])
def test_ranks_are_uniform(prior):
    frame = rows().iloc[:45]
    priors = {"b": prior, "Intercept": "Normal(0, 2)", "sigma": "LogNormal(0, 0.3)"}
    if prior == HORSESHOE:
        priors["sd"] = "HalfNormal(1)"
    own = hm.Model("y ~ x + u + (1 | g)", frame, priors=priors, lint=False)
    assert own.engine == "marginal"
    found = hm.sbc(own, 100, draws=300, target_accept=0.95, seed=4, cores=2, progress=False)
    assert len(found.ranks) == 100, found.text
    # of all quantities together, as in the other calibrations
    assert found.table["p_adjusted"].min() > 0.005, repr(found)


def test_from_the_command_line_and_from_toml(tmp_path, capsys):
    data, alternatives = tmp_path / "rows.csv", tmp_path / "other.toml"
    rows().to_csv(data, index=False)
    alternatives.write_text(
        '[even]\nb = { dist = "R2D2M2", mean_R2 = 0.4, cons_D2 = 2 }\n'
        '[other]\nsigma = "HalfNormal(5)"\n'
    )
    read = read_alternatives(alternatives)
    labels = [one.label for one in make_alternatives(model(), read)]
    assert labels == ["even", "other"]
    priors = parse_priors(["b=R2D2M2(mean_R2=0.4, prec_R2=4, cons_D2=1)"])
    assert hm.Model(model().formula, rows(), priors=priors).priors.equals(model().priors)
    assert cli.main(["fit", str(data), "y ~ x", "--prior", "b=R2D2M2(mean_R2=2)"]) != 0
    assert "mean_R2 is the mean of R squared" in capsys.readouterr().err


@pytest.mark.parametrize("prior", [JOINT, HORSESHOE])
def test_rows_that_are_not_kept_give_the_same_density(prior, tmp_path):
    path = tmp_path / "rows.parquet"
    rows().drop(columns="z").to_parquet(path)
    formula, priors = "y ~ x + u + h + (x | g)", {"b": prior}
    streamed = hm.Model(formula, path, priors=priors, memory="1 KB", lint=False)
    assert isinstance(streamed.design, RowlessDesign)
    here, there = (sampled_density(own.marginal) for own in (model(prior=prior), streamed))
    x = np.random.default_rng(1).normal(0.0, 0.5, here.ndim)
    assert there(x)[0] == pytest.approx(here(x)[0], rel=1e-10)
    np.testing.assert_allclose(there(x)[1], here(x)[1], rtol=1e-8, atol=1e-9)

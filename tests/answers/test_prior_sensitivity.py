"""Other priors reached by weights: exact identities, agreement with refits, what a user sees."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hiermodels as hm
from hiermodels.answers.alternatives import change_class, grid, make_alternatives, rescaled
from hiermodels.answers.drawn_priors import prior_draws
from hiermodels.answers.kept_results import ResultFolder
from hiermodels.answers.log_priors import log_priors
from hiermodels.answers.refits import log_density
from hiermodels.answers.reweighting import Baseline, _other_coefficients, reweight
from hiermodels.engines.coefficient_moments import coefficient_moments, moved_effects
from hiermodels.errors import FitError, PriorError
from hiermodels.fitting.points import marginal_points
from hiermodels.spec.distributions import Prior


@pytest.fixture(scope="module")
def sleep():
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    return model.fit(draws=1500, seed=1, progress=False)


@pytest.fixture(scope="module")
def dyes():
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    return model.fit(draws=500, seed=1, target_accept=0.95, progress=False)


def nested():
    """Crossed and nested groups, two strata, a series: 120 rows."""
    rng = np.random.default_rng(5)
    n = 120
    data = pd.DataFrame(
        {
            "x": rng.normal(4.0, 1.0, n),
            "g": np.repeat(np.arange(6), 20).astype(str),
            "s": np.repeat(np.arange(12), 10).astype(str),
            "t": np.tile(np.arange(10), 12),
            "h": rng.integers(0, 5, n).astype(str),
            "half": np.where(np.arange(n) % 2, "a", "b"),
        }
    )
    data["y"] = data["x"] + rng.normal(size=6)[data["g"].astype(int)] + rng.normal(size=n)
    return data


FORMULAS = [
    "y ~ x + (x | g) + (1 | h)",
    ["y ~ x + (x | g/s)", "sigma ~ 0 + half"],
    "y ~ x + (x | s) + ar(t, s)",
]


# --- identities -------------------------------------------------------------------------------


def dense(model, x):
    """Return Z (n, size) and the covariances of all effects, in the priors' coordinates."""
    blocks, columns = [], []
    parts = model.marginal.layout
    for k, (term, own) in enumerate(zip(model.design.terms, model.resolved.terms, strict=True)):
        sd, q = np.exp(x[parts.sds[k]]), len(term.coefs)
        cor = np.eye(q)
        if term.correlated:
            z = np.tanh(x[parts.correlations[k]])[0]
            cor = np.array([[1.0, z], [z, 1.0]])
        for level in range(len(term.levels)):
            columns.append(own.z * (term.index == level)[:, None])
            blocks.append(sd[:, None] * cor * sd)
    Z = np.hstack(columns)
    G, at = np.zeros((Z.shape[1],) * 2), 0
    for block in blocks:
        G[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return Z, G


@pytest.mark.parametrize("formula", ["y ~ x + (x | g) + (1 | h)", "y ~ x + (x | g/s)"])
def test_coefficients_given_scales_are_those_of_the_dense_normal(formula):
    model = hm.Model(formula, nested())
    rng = np.random.default_rng(1)
    x = rng.normal(0.0, 0.4, (3, model.marginal.layout.ndim))
    moments = coefficient_moments(model.marginal, x)
    step = rng.normal(size=(3, 2))
    moves = moved_effects(model.marginal, x, step)
    X, priors = model.resolved.X, model.resolved.coef
    mean = np.array([prior.values[0] for prior in priors])
    precision = np.diag([prior.values[1] ** -2.0 for prior in priors])
    for k in range(3):
        Z, G = dense(model, x[k])
        V = Z @ G @ Z.T + np.exp(2 * x[k, -1]) * np.eye(len(X))
        wanted = X.T @ np.linalg.solve(V, X) + precision
        right = X.T @ np.linalg.solve(V, model.design.y) + precision @ mean
        # exact mathematics; the dense side inverts a matrix of 120 rows
        np.testing.assert_allclose(moments.precision[k], wanted, rtol=1e-10)
        np.testing.assert_allclose(moments.mean[k], np.linalg.solve(wanted, right), rtol=1e-9)
        follow = -G @ Z.T @ np.linalg.solve(V, X @ step[k])
        found = np.concatenate([part[k].ravel() for part in moves])
        np.testing.assert_allclose(found, follow, rtol=0, atol=1e-10 * np.abs(follow).max())


def posterior_points(model, size=6):
    """Return points of the scales as a posterior of one chain, by a short fit."""
    with pytest.warns(hm.SamplingWarning):
        return model.fit(draws=size, tune=30, chains=1, seed=3, progress=False)


@pytest.mark.parametrize("formula", FORMULAS)
def test_ratio_of_coefficient_priors_is_that_of_the_marginal_densities(formula):
    model = hm.Model(formula, nested())
    fit = posterior_points(model)
    base = Baseline(fit)
    other = model.with_priors({"Intercept": "Normal(1, 2)", "x": "Normal(0.5, 0.3)"})
    ratio, _ = _other_coefficients(base, other.resolved)
    exact = log_density(other)(base.points) - log_density(model)(base.points)
    # equal up to one constant; sums of 120 rows
    np.testing.assert_allclose(ratio - ratio[0], exact - exact[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("formula", FORMULAS)
def test_log_priors_are_those_of_the_engine_whatever_the_coordinates(formula):
    # the engine's densities under both priors, less the Jacobian of its own coordinates
    model = hm.Model(formula, nested())
    fit = posterior_points(model)
    priors = {"sd": "Gamma(2, 3)", "sigma": "LogNormal(0, 1)"}
    if "ar(" in str(formula):
        priors["ar"] = "Normal(0.2, 0.4)"
    other = model.with_priors(priors)
    values = []
    for one in (model, other):
        x = marginal_points(one.marginal, one.design, one.resolved, fit.posterior)
        values.append(log_density(one)(x) - jacobian(one, x))
    theirs = log_priors(model.design, other.resolved, fit.posterior)
    mine = log_priors(model.design, model.resolved, fit.posterior)
    found, exact = theirs.total(("b",)) - mine.total(("b",)), values[1] - values[0]
    np.testing.assert_allclose(found - found[0], exact - exact[0], rtol=0, atol=1e-9)


def jacobian(model, x):
    """Return log |d(raw covariances) / dx| of all bars; sigma and ar have the same x in both."""
    total = np.zeros(len(x))
    parts = model.marginal.layout
    for k, term in enumerate(model.design.terms):
        q = len(term.coefs)
        # Sigma_ii = sd^2, Sigma_ij = sd_i sd_j tanh(y)
        power = q + 1 if term.correlated else 2
        total += power * x[:, parts.sds[k]].sum(axis=1)
        if term.correlated:
            total += np.log1p(-(np.tanh(x[:, parts.correlations[k]]) ** 2)).sum(axis=1)
    return total


def test_log_priors_of_a_family_and_its_cutpoints():
    rng = np.random.default_rng(2)
    data = nested()
    data["o"] = pd.Categorical(rng.integers(0, 3, len(data)).astype(str), ordered=True)
    model = hm.Model("o ~ x + (1 | g)", data, "cumulative")
    drawn = prior_draws(model.design, model.resolved, 50, np.random.default_rng(1))
    found = log_priors(model.design, model.resolved, drawn).classes
    sd = drawn["sd_g"].values.ravel()
    (prior,) = model.resolved.terms[0].sd
    wanted = stats.t(prior.values[0], 0, prior.values[1]).logpdf(sd) + np.log(2)
    np.testing.assert_allclose(found["sd"], wanted, rtol=1e-12)
    b = drawn["b"].values.reshape(-1)
    points = drawn["cutpoints"].values.reshape(50, -1) + (b * model.resolved.shift[0])[:, None]
    wanted = stats.norm(0, 2.5).logpdf(points).sum(axis=1)
    np.testing.assert_allclose(found["cutpoints"], wanted, rtol=1e-12)


# --- against refits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "priors",
    [
        {"sd": "HalfNormal(sigma=50)"},
        {"cor_Subject": "LKJ(eta=4)"},
        {"b": "Normal(0, 5)"},
        {"sigma": "PC(u=20, alpha=0.01)"},
    ],
)
def test_weighted_draws_agree_with_a_refit(sleep, priors):
    found = hm.prior_sensitivity(sleep, [priors], scaling=False)
    assert found.alternatives["method"].tolist() == ["reweighted"]
    again = sleep.model.with_priors(priors).fit(draws=1500, seed=2, progress=False)
    table = found.table.set_index("quantity")
    summary = again.summary()
    assert set(summary.index) <= set(table.index)
    sd, size = summary["sd"], float(summary["ess_bulk"].min())
    apart = (table.loc[summary.index, "mean"] - summary["mean"]) / sd
    # Monte Carlo errors of both, with the seeds above: four of them is never by chance
    error = np.hypot(1 / np.sqrt(size), 1 / np.sqrt(found.alternatives["ess"].iloc[0]))
    assert (apart.abs() < 4 * error).all()
    ranks = hm.rank_groups(again, "Days").to_frame().set_index("level")["expected_rank"]
    mine = [table.loc[f"rank of {level} by Subject[Days]", "mean"] for level in ranks.index]
    np.testing.assert_allclose(mine, ranks, atol=0.7)  # a rank's sd is 2 to 3 of 18
    pooled = hm.pooling(again).factors["pooling_factor_Subject"].mean("sample")
    mine = table.loc["pooling of 308 in Subject[Days]", "mean"]
    spread = table.loc["pooling of 308 in Subject[Days]", "baseline_sd"]
    assert abs(mine - float(pooled.sel(Subject="308", Subject_coef="Days"))) < 5 * error * spread
    icc = hm.icc(again).to_frame().loc["Subject"]
    assert abs(table.loc["icc[Subject]", "mean"] - icc["mean"]) < 4 * error * icc["sd"]


def test_what_weights_do_not_reach_is_fitted_again(sleep):
    found = hm.prior_sensitivity(sleep, [{"sd": "HalfNormal(sigma=2)"}], scaling=False)
    row = found.alternatives.iloc[0]
    assert row["method"] == "refitted"
    assert "Pareto k" in row["why"]
    assert "hangs on the prior" in set(found.table["verdict"])
    left = hm.prior_sensitivity(sleep, [{"sd": "HalfNormal(2)"}], refit=False, scaling=False)
    assert not len(left.alternatives)
    assert "Not reached" in left.notes[-1]
    assert left.verdict == "No alternative could be compared."


def test_a_wider_support_is_fitted_again():
    model = hm.Model("y ~ x + ar(t, s)", nested(), priors={"ar": "Uniform(-0.9, 0.9)"})
    fit = model.fit(draws=800, seed=1, progress=False)
    wide, narrow = {"ar": "Uniform(-0.9, 0.95)"}, {"ar": "Uniform(-0.8, 0.85)"}
    found = hm.prior_sensitivity(fit, {"wide": wide, "narrow": narrow}, scaling=False)
    ways = found.alternatives.set_index("alternative")
    assert ways["method"].to_dict() == {"wide": "refitted", "narrow": "reweighted"}
    assert "has no draws" in ways.loc["wide", "why"]


def test_the_conditional_engine_is_weighted_too():
    data = nested()
    rng = np.random.default_rng(3)
    data["k"] = rng.poisson(np.exp(0.3 * data["x"] - 0.5))
    model = hm.Model("k ~ x + (1 | g)", data, "poisson")
    options = {"draws": 600, "chains": 2, "target_accept": 0.97, "progress": False}
    fit = model.fit(seed=1, **options)
    priors = {"b": "Normal(0, 0.1)", "sd": "Exponential(4)"}
    found = hm.prior_sensitivity(fit, [priors])
    assert found.alternatives["method"].tolist() == ["reweighted"]
    again = model.with_priors(priors).fit(seed=2, **options).summary()
    table = found.table.set_index("quantity").loc[again.index]
    error = np.hypot(
        1 / np.sqrt(again["ess_bulk"].min()), 1 / np.sqrt(found.alternatives["ess"].iloc[0])
    )
    assert ((table["mean"] - again["mean"]).abs() / again["sd"] < 4 * error).all()
    assert {"prior_b", "prior_sd", "likelihood"} <= set(found.scaling.columns)


@pytest.mark.slow
def test_refits_in_processes_give_the_same_answer(dyes):
    alternatives = [{"sd": "LogNormal(7, 0.1)"}, {"sd": "LogNormal(8, 0.1)"}]
    one = hm.prior_sensitivity(dyes, alternatives, scaling=False)
    assert (one.alternatives["method"] == "refitted").all()
    two = hm.prior_sensitivity(dyes, alternatives, scaling=False, cores=2)
    pd.testing.assert_frame_equal(one.table, two.table)


def test_a_client_that_is_closed(dyes):
    closed = type("Client", (), {"status": "closed", "submit": print})()
    with pytest.raises(FitError, match="client is closed"):
        hm.prior_sensitivity(dyes, client=closed)


@pytest.mark.slow
def test_fifty_alternatives_take_less_than_three_seconds():
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    sleep = model.fit(seed=1, progress=False)
    alternatives = [{"sd": f"HalfNormal(sigma={v})"} for v in np.linspace(20, 80, 20)]
    alternatives += [{"cor_Subject": f"LKJ(eta={v})"} for v in np.linspace(1, 5, 15)]
    alternatives += [{"b": f"Normal(0, {v})"} for v in np.linspace(3, 50, 15)]
    hm.prior_sensitivity(sleep, alternatives[-1:])
    # processor time: that of other processes is not this one's
    seconds = []
    for _ in range(2):
        start = time.process_time()
        found = hm.prior_sensitivity(sleep, alternatives)
        seconds.append(time.process_time() - start)
    assert (found.alternatives["method"] == "reweighted").all()
    assert min(seconds) < 3.0


# --- tables and power-scaling ---------------------------------------------------------------


def test_the_worst_case_comes_first(sleep):
    found = hm.prior_sensitivity(sleep)
    largest = found.alternatives["largest_shift"].abs()
    assert largest.is_monotonic_decreasing
    assert found.worst["shift"].abs().is_monotonic_decreasing
    assert found.table["alternative"].iloc[0] == found.alternatives["alternative"].iloc[0]
    kinds = {"coefficient", "sd", "correlation", "residual", "icc", "pooling factor", "rank"}
    assert set(found.table["kind"]) == kinds
    shown = repr(found)
    for part in ("Alternatives, the worst first", "Power-scaling", "sd: 4 times as narrow"):
        assert part in shown
    # the residual sd is known from 180 rows: no prior of the grid moves it
    sigma = found.table[found.table["quantity"] == "sigma"]
    assert set(sigma["verdict"]) <= {"stays", "moves a little"}


def test_a_prior_that_says_the_same_moves_nothing(dyes):
    prior = dyes.model.resolved.sigma
    found = hm.prior_sensitivity(dyes, [{"sigma": prior}], scaling=False)
    assert np.abs(found.table["shift"]).max() < 1e-12
    assert set(found.table["verdict"]) == {"stays"}


def test_power_scaling_sees_a_prior_that_decides():
    data = hm.load_dataset("Dyestuff")
    strong = hm.Model("Yield ~ 1 + (1 | Batch)", data, priors={"sd": "LogNormal(0, 0.1)"})
    fit = strong.fit(draws=500, seed=1, progress=False)
    scaling = hm.prior_sensitivity(fit, [{"sd": "LogNormal(0, 0.11)"}]).scaling
    assert scaling.loc["sd_Batch[Intercept]", "prior_sd"] > 0.05
    assert scaling.loc["sd_Batch[Intercept]", "diagnosis"].startswith("the prior decides")
    assert scaling.loc["sigma", "prior"] < 0.05


def test_the_grid_keeps_coordinates_and_says_what_it_changed(sleep):
    model = sleep.model
    found = {one.label: one.model for one in grid(model)}
    wide = found["sd: 4 times as wide"]
    assert np.array_equal(wide.resolved.terms[0].T, model.resolved.terms[0].T)
    table = wide.priors.set_index("parameter")
    assert table.loc["sd_Subject[Days]", "prior"] == "HalfStudentT(nu=3, sigma=78.23)"
    assert table.loc["sd_Subject[Days]", "source"] == "alternative"
    assert table.loc["sigma", "source"] == "default"
    half = found["sd: HalfNormal"].resolved.terms[0].sd[0]
    before = model.resolved.terms[0].sd[0]
    median = stats.halfnorm(0, half.values[0]).median()
    assert median == pytest.approx(stats.t(3, 0, before.values[1]).ppf(0.75))
    assert change_class(model, "sd", lambda prior: None) is None


@pytest.mark.parametrize(
    ("prior", "factor", "wanted"),
    [
        (Prior("Normal", 3, 2), 4, Prior("Normal", 3, 8)),
        (Prior("Exponential", 2), 4, Prior("Exponential", 0.5)),
        (Prior("Gamma", 2, 0.1), 0.5, Prior("Gamma", 2, 0.2)),
        (Prior("InverseGamma", 2, 1), 4, Prior("InverseGamma", 2, 4)),
        (Prior("LogNormal", 0, 1), np.e, Prior("LogNormal", 1, 1)),
        (Prior("Beta", 1, 1), 4, None),
    ],
)
def test_rescaled(prior, factor, wanted):
    assert rescaled(prior, factor) == wanted


def test_an_alternative_that_changes_the_scale_of_a_bar_says_so(sleep):
    found = hm.prior_sensitivity(sleep, [{"cor_Subject": "LKJ(eta=3)"}], scaling=False)
    assert any("raw scale" in note for note in found.notes)


# --- kept results ---------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_was_and_reads_nothing_half_written(dyes, tmp_path, monkeypatch):
    alternatives = [{"sd": f"HalfNormal(sigma={v})"} for v in (40, 60, 80)]
    first = hm.prior_sensitivity(dyes, alternatives, folder=tmp_path, scaling=False)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    whole = files[0].read_text()
    files[0].write_text(whole[: len(whole) // 2])
    content = json.loads(files[1].read_text())
    content["result"]["ess"] += 1.0
    files[1].write_text(json.dumps(content))
    done = []

    def count(base, other):
        done.append(other)
        return reweight(base, other)

    monkeypatch.setattr("hiermodels.answers.prior_stress.reweight", count)
    again = hm.prior_sensitivity(dyes, alternatives, folder=tmp_path, scaling=False)
    assert len(done) == 2
    pd.testing.assert_frame_equal(again.table, first.table)
    assert files[0].read_text() == whole
    assert not list(tmp_path.glob(".*"))


def test_results_of_another_fit_are_not_read(dyes, tmp_path):
    alternatives = [{"sd": "HalfNormal(sigma=60)"}]
    hm.prior_sensitivity(dyes, alternatives, folder=tmp_path, scaling=False)
    other = dyes.model.fit(draws=600, seed=5, target_accept=0.95, progress=False)
    hm.prior_sensitivity(other, alternatives, folder=tmp_path, scaling=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupted_refit_is_no_result(dyes, tmp_path, monkeypatch):
    plain = hm.Model.fit

    def stopped(self, **options):
        fit = plain(self, **options)
        fit.idata.attrs["interrupted"] = 1
        return fit

    monkeypatch.setattr(hm.Model, "fit", stopped)
    alternatives = [{"sd": "HalfNormal(sigma=60)"}, {"sd": "LogNormal(8, 0.1)"}]
    with pytest.raises(KeyboardInterrupt):
        hm.prior_sensitivity(dyes, alternatives, folder=tmp_path, scaling=False)
    # the one that was reached by weights is kept
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_to(dyes, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(FitError, match="cannot be written to"):
        hm.prior_sensitivity(dyes, folder=file / "below")
    assert ResultFolder(tmp_path).read("nothing") is None


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alternatives", "message"),
    [
        ([{"sdd": "HalfNormal(1)"}], "Alternative 1: The prior key 'sdd' names nothing"),
        ({"odd": {"sd": "Normal(0, 1)"}}, r"Alternative 1 \(odd\): Normal is no prior for 'sd'"),
        ([{"sd": "PC(u=0, alpha=0.1)"}], "u must be finite and above 0"),
        ([{"sd": "PC(u=1, alpha=1.5)"}], r"P\(sd > u\), between 0 and 1"),
        ([{"sd": "Flat()"}], "does not integrate to 1"),
        ([{"sd": "HalfNormal(-1)"}], "above 0"),
        ({"sd": "HalfNormal(1)"}, "got one dictionary of priors"),
        ([], "no alternatives"),
        ([{}], "each is a dictionary of priors"),
        ("sd", "got str"),
    ],
)
def test_bad_alternatives(dyes, alternatives, message):
    with pytest.raises(PriorError, match=message):
        hm.prior_sensitivity(dyes, alternatives)


def test_bad_lkj(sleep):
    with pytest.raises(PriorError, match="eta must be finite and above 0"):
        hm.prior_sensitivity(sleep, [{"cor": "LKJ(eta=0)"}])


def test_a_model_has_no_draws(dyes):
    with pytest.raises(FitError, match="need posterior draws"):
        hm.prior_sensitivity(dyes.model)


def test_labels_differ(dyes):
    twice = [{"sd": "HalfNormal(1)"}, {"sd": "HalfNormal(1)"}]
    labels = [one.label for one in make_alternatives(dyes.model, twice)]
    assert labels == ["sd ~ HalfNormal(sigma=1)", "sd ~ HalfNormal(sigma=1) (2)"]


def test_priors_that_are_numbers_stay_what_they_are(sleep):
    few = sleep.model.on_rows(np.arange(60))
    other = few.with_priors({"sigma": "HalfNormal(30)"})
    assert other.resolved.coef == few.resolved.coef == sleep.model.resolved.coef
    assert other.resolved.terms[0].sd == sleep.model.resolved.terms[0].sd
    table = other.priors.set_index("parameter")
    assert table.loc["sigma", "prior"] == "HalfNormal(sigma=30)"
    assert (
        table["prior"]
        .drop("sigma")
        .equals(few.priors.set_index("parameter")["prior"].drop("sigma"))
    )
    wide = next(one.model for one in grid(sleep.model) if one.label == "sd: 4 times as wide")
    again = wide.with_priors({"b": "Normal(0, 5)"})
    assert again.resolved.terms[0].sd == wide.resolved.terms[0].sd
    assert again.resolved.coef[1] == Prior("Normal", 0, 5)


def test_one_cutpoint_may_have_a_prior_of_its_own():
    data = nested()
    data["o"] = pd.Categorical(np.arange(len(data)) % 3, ordered=True)
    model = hm.Model("o ~ x + (1 | g)", data, "cumulative")
    key = f"cutpoints[{model.design.threshold_labels[0]}]"
    other = model.with_priors({key: "Normal(-1, 1)"})
    assert len(other.priors) == len(model.priors) + 1
    assert other.priors.set_index("parameter").loc[key, "prior"] == "Normal(mu=-1, sigma=1)"

"""Simulation-based calibration: what it finds, that it can fail, and that it goes on later."""

import json
import logging
from dataclasses import replace

import calibrated
import numpy as np
import pandas as pd
import pytest
from arviz_stats.ecdf_utils import get_pointwise_confidence_band, simulate_confidence_bands
from scipy import stats

import hiermodels as hm
from hiermodels.answers.calibration import run_study
from hiermodels.answers.drawn_priors import prior_draws
from hiermodels.answers.joint_likelihood import joint_log_likelihood
from hiermodels.answers.kept_replications import file_of
from hiermodels.answers.replications import Study, quantities, replicate, simulate
from hiermodels.answers.uniformity import bands, ecdf, evaluation_points, holm, p_value
from hiermodels.errors import DataError, EngineError, FitError, PriorError

SHORT = {"draws": 100, "tune": 200, "cores": 1, "progress": False}
# of one number each, so that its distribution is SciPy's
WEAK = {
    "Intercept": "Normal(10, 1)",
    "x": "Normal(0, 0.5)",
    "sd": "HalfNormal(sigma=1)",
    "sigma": "LogNormal(mu=0.7, sigma=0.1)",
}


@pytest.fixture(scope="module")
def model():
    return hm.Model("y ~ x + (1 | g)", calibrated.rows(), priors=WEAK)


@pytest.fixture(scope="module")
def found(model):
    return hm.sbc(model, 30, seed=3, **SHORT)


def study(simulated, fitted, size=49, seed=5):
    return Study(simulated, fitted, size, 150, 200, 1, 0.9, seed)


# --- draws from the prior -----------------------------------------------------------------------


def test_draws_have_the_distributions_of_their_priors(model):
    drawn = prior_draws(model.design, model.resolved, 4000, np.random.default_rng(1))
    expected = {
        "Intercept": stats.norm(10, 1),
        "sigma": stats.lognorm(0.1, scale=np.exp(0.7)),
        "sd_g": stats.halfnorm(0, 1),
    }
    for name, law in expected.items():
        # the smallest of three p-values is below 0.001 in three of a thousand seeds
        assert stats.kstest(drawn[name].values.ravel(), law.cdf).pvalue > 0.001
    scores = drawn["r_g"].values[0, :, :, 0] / drawn["sd_g"].values[0]
    assert stats.kstest(scores.ravel(), stats.norm.cdf).pvalue > 0.001


def test_default_priors_are_drawn_at_the_means():
    own = calibrated.model("slope")
    drawn = prior_draws(own.design, own.resolved, 20_000, np.random.default_rng(2))
    x, y = calibrated.rows()["x"].to_numpy(), calibrated.rows()["y"].to_numpy()
    level = drawn["Intercept"].values[0] + drawn["b"].values[0, :, 0] * x.mean()
    # four standard errors of a mean and of a sd of 20,000 normal draws
    assert level.mean() == pytest.approx(y.mean(), abs=4 * 2.5 * y.std(ddof=1) / 141)
    assert level.std() == pytest.approx(2.5 * y.std(ddof=1), rel=4 / 200)
    # at the mean of x the effects are those on which the priors stand: LKJ(2) of two effects
    factor = own.resolved.terms[0].T
    sd, cor = drawn["sd_g"].values[0], drawn["cor_g"].values[0]
    back = np.linalg.inv(factor)
    covariance = back @ (sd[:, :, None] * cor * sd[:, None, :]) @ back.T
    own_cor = covariance[:, 0, 1] / np.sqrt(covariance[:, 0, 0] * covariance[:, 1, 1])
    assert stats.kstest(own_cor[:4000], stats.beta(2, 2, -1, 2).cdf).pvalue > 0.001


def test_every_kind_of_parameter_can_be_drawn_and_simulated():
    frame = calibrated.rows()
    frame["o"] = pd.Categorical(frame["n"].astype(str), ordered=True)
    frame["k"] = np.where(frame["g"] < "g4", "one", "two")
    for formula, family in [
        (["y ~ x + (x || g)", "sigma ~ x"], "gaussian"),
        ("y ~ cosy(g)", "gaussian"),
        ("y ~ unstr(t, g)", "gaussian"),
        ("y ~ (x | gr(g, by=k))", "gaussian"),
        ('y ~ (1 | gr(g, dist="student"))', "t"),
        (["n ~ x + (1 | g)", "shape ~ x + (1 | c)"], "negativebinomial"),
        ("o ~ x + (1 | g)", "cumulative"),
    ]:
        own = hm.Model(formula, frame, family)
        point, y = simulate(own, np.random.default_rng(1))
        assert np.isfinite(joint_log_likelihood(own.with_response(y), point, np.arange(1))).all()
        again = own.with_response(y)
        if family == "cumulative":
            assert set(np.unique(y)) <= {0.0, 1.0, 2.0, 3.0}
        assert all(np.isfinite(v).all() for v in quantities(again, point).values())


def test_cutpoints_are_drawn_in_order():
    frame = calibrated.rows()
    frame["o"] = pd.Categorical(frame["n"].astype(str), ordered=True)
    own = hm.Model(
        "o ~ x + (1 | g)", frame, "cumulative", priors={"cutpoints[0|1]": "Normal(3, 1)"}
    )
    drawn = prior_draws(own.design, own.resolved, 500, np.random.default_rng(1))["cutpoints"]
    assert (np.diff(drawn.values, axis=-1) > 0).all()
    # the first, pulled down by the order, and the others, pushed up
    assert drawn.values[0, :, 0].mean() < 3 < drawn.values[0, :, 2].mean()
    odd = {"cutpoints[0|1]": "Normal(300, 1)", "cutpoints[1|2]": "Normal(-300, 1)"}
    far = hm.Model("o ~ x", frame, "cumulative", priors=odd)
    with pytest.raises(PriorError, match="nearly never in increasing order"):
        prior_draws(far.design, far.resolved, 5, np.random.default_rng(1))


# --- the joint log likelihood --------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["y ~ x + ar(t, g)", "y ~ x + cosy(g)", "y ~ x + unstr(t, g)"])
def test_the_joint_log_likelihood_of_joined_rows_is_the_dense_normal(formula):
    # one series lacks a row and another stands in reverse, so that patterns of times differ
    frame = calibrated.rows().drop(index=[7])
    frame = pd.concat([frame.iloc[30:][::-1], frame.iloc[:30]], ignore_index=True)
    own = hm.Model(formula, frame)
    drawn = prior_draws(own.design, own.resolved, 3, np.random.default_rng(4))
    values = joint_log_likelihood(own, drawn, np.arange(3))
    t, g = frame["t"].to_numpy(), frame["g"].to_numpy()
    for s in range(3):
        mean = float(drawn["Intercept"][0, s]) + frame["x"].to_numpy() * float(drawn["b"][0, s, 0])
        if "ar(" in formula:
            cor = float(drawn["ar"][0, s]) ** np.abs(t[:, None] - t)
        elif "cosy" in formula:
            cor = np.where(np.eye(39) == 1, 1.0, float(drawn["cosy"][0, s]))
        else:
            cor = drawn["cor_residual"].values[0, s][t[:, None], t]
        cor = np.where(g[:, None] == g, cor, 0.0)
        # under unstr() each occasion has a sd of its own
        sd = np.broadcast_to(drawn["sigma"].values[0, s], 5)[t]
        dense = stats.multivariate_normal(mean, sd[:, None] * cor * sd)
        # exact mathematics, up to the conditioning of nearly singular correlations
        assert values[s] == pytest.approx(dense.logpdf(frame["y"]), rel=1e-8)


def test_the_joint_log_likelihood_of_independent_rows_is_their_sum(model):
    drawn = prior_draws(model.design, model.resolved, 2, np.random.default_rng(4))
    frame = calibrated.rows()
    for s in range(2):
        one = drawn.isel(chain=0, draw=s)
        effects = one["r_g"].sel(g=frame["g"].to_numpy()).values[:, 0]
        mean = float(one["Intercept"]) + float(one["b"][0]) * frame["x"] + effects
        expected = stats.norm(mean, float(one["sigma"])).logpdf(frame["y"]).sum()
        assert joint_log_likelihood(model, drawn, np.array([s]))[0] == pytest.approx(expected)


# --- uniformity ----------------------------------------------------------------------------------


def test_p_values_of_uniform_ranks_are_uniform():
    rng = np.random.default_rng(0)
    values = np.array([p_value(rng.integers(0, 20, 50), 19) for _ in range(1500)])
    for level in (0.01, 0.05, 0.5):
        share = np.mean(values <= level)
        # four standard errors above; below, p-values of discrete statistics are conservative
        assert share < level + 4 * np.sqrt(level * (1 - level) / 1500)
    assert np.mean(values <= 0.5) > 0.4


def test_the_band_is_arviz_band_and_agrees_with_the_p_value():
    own, points = bands(200, 99), evaluation_points(99)
    rng = np.random.default_rng(1)
    prob = simulate_confidence_bands(200, 1, points, 0.95, 4000, rng)
    lower, upper = get_pointwise_confidence_band(prob, 200, points)
    # one rank in 200: the pointwise level is simulated by both, from 4,000 and 20,000 draws
    assert np.abs(own.lower - lower).max() <= 1 / 200 + 1e-12
    assert np.abs(own.upper - upper).max() <= 1 / 200 + 1e-12
    for _ in range(300):
        ranks = rng.integers(0, 100, 200)
        line = ecdf(ranks, 99)
        inside = bool(np.all((line >= own.lower - 1e-12) & (line <= own.upper + 1e-12)))
        assert inside == (p_value(ranks, 99) >= 0.05)


def test_ranks_that_are_off_are_found():
    rng = np.random.default_rng(2)
    u = rng.uniform(size=200)
    narrow = np.floor(100 * stats.norm.cdf(1.5 * stats.norm.ppf(u))).astype(int)
    shifted = np.floor(100 * stats.norm.cdf(stats.norm.ppf(u) + 0.5)).astype(int)
    assert p_value(narrow, 99) < 0.001
    assert p_value(shifted, 99) < 0.001
    assert p_value(np.floor(100 * u).astype(int), 99) > 0.05
    assert np.isnan(p_value(np.array([], dtype=int), 99))


def test_adjusted_p_values_are_holms():
    assert holm(np.array([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])


# --- the study -----------------------------------------------------------------------------------


def test_a_right_model_is_calibrated(found):
    assert found.uniform
    assert found.ranks.shape == (30, 13)
    assert list(found.ranks.columns[:4]) == ["Intercept", "b[x]", "sd_g[Intercept]", "sigma"]
    assert found.ranks.columns[-1] == "log likelihood"
    assert found.ranks.to_numpy().min() >= 0
    assert found.ranks.to_numpy().max() <= 99
    assert "consistent with uniform" in found.text
    assert "30 replications, ranks among 99 draws" in repr(found)
    assert (found.replications["ess"] >= 99).all()
    assert found.table["p_value"].is_monotonic_increasing


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_a_rank_counts_the_draws_below_the_truth(model):
    """By hand, from the seeds that a replication makes."""
    own = study(model, model, size=9, seed=7)
    ranks = replicate(own, 4).ranks
    simulated, fitting = np.random.SeedSequence([7, 4]).spawn(2)
    point, y = simulate(model, np.random.default_rng(simulated))
    fit = model.with_response(y).fit(
        draws=150, tune=200, chains=1, seed=int(fitting.generate_state(4)[0]),
        target_accept=0.9, cores=1, progress=False,
    )  # fmt: skip
    draws = fit.posterior["sigma"].values.ravel()[np.linspace(0, 149, 9).round().astype(int)]
    assert ranks["sigma"] == np.sum(draws < point["sigma"].item())


def test_a_prior_off_by_ten_per_cent_is_caught(model):
    """Few rows say less about sigma than its prior, whose median is 10 % too large in the fit."""
    few = model.on_rows(np.arange(10))
    wrong = few.with_priors({"sigma": f"LogNormal(mu={0.7 + np.log(1.1)}, sigma=0.1)"})
    caught = run_study(study(few, wrong), 50)
    assert not caught.uniform
    assert caught.table.index[0] in ("sigma", "log likelihood")
    assert caught.table.loc["sigma", "verdict"] == "draws lie too high"
    assert "sigma (draws lie too high" in caught.text
    assert run_study(study(few, few), 50).uniform


@pytest.mark.slow
def test_a_likelihood_off_by_ten_per_cent_is_caught(model):
    """The residual sd that is fitted is 10 % smaller than the one that makes the data."""
    frame = calibrated.rows().assign(w=1.0 / 1.21)
    wider = hm.Model("y | precision(w) ~ x + (1 | g)", frame, priors=WEAK)
    caught = run_study(study(model, wider), 200)
    assert not caught.uniform
    assert caught.table.loc["sigma", "p_adjusted"] < 0.001
    assert caught.table.loc["sigma", "verdict"] == "draws lie too low"
    assert run_study(study(model, model), 200).uniform


# --- folders, processes --------------------------------------------------------------------------


def test_a_stopped_run_goes_on_and_half_written_files_are_not_read(model, found, tmp_path, caplog):
    first = hm.sbc(model, 4, seed=3, folder=tmp_path, **SHORT)
    assert (first.ranks == found.ranks.iloc[:4]).all().all()
    times = {k: file_of(tmp_path, k).stat().st_mtime_ns for k in range(4)}
    file_of(tmp_path, 2).write_text('{"ranks": {"sigma"')
    # the seed is the folder's
    with caplog.at_level(logging.WARNING, "hiermodels"):
        more = hm.sbc(model, 6, folder=tmp_path, **SHORT)
    assert "replication_000002.json cannot be read" in caplog.text
    assert (more.ranks == found.ranks.iloc[:6]).all().all()
    assert [file_of(tmp_path, k).stat().st_mtime_ns == times[k] for k in range(4)] == [
        True, True, False, True,
    ]  # fmt: skip
    assert json.loads(file_of(tmp_path, 2).read_text())["ranks"]["sigma"] == int(
        found.ranks["sigma"][2]
    )
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_another_study_is_refused(model, tmp_path):
    hm.sbc(model, 1, seed=3, folder=tmp_path, **SHORT)
    with pytest.raises(FitError, match="it has size 99, not 49"):
        hm.sbc(model, 2, seed=3, ranks=49, folder=tmp_path, **SHORT)
    with pytest.raises(FitError, match="its seed is 3, not 4"):
        hm.sbc(model, 2, seed=4, folder=tmp_path, **SHORT)
    other = model.with_priors({"sigma": "HalfNormal(sigma=2)"})
    with pytest.raises(FitError, match="its priors or predictors are others"):
        hm.sbc(other, 2, seed=3, folder=tmp_path, **SHORT)


def test_an_unwritable_folder_is_refused_before_anything_runs(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FitError, match="Name a folder that can be written"):
        hm.sbc(model, 1, seed=3, folder=tmp_path / "file", **SHORT)


@pytest.mark.slow
def test_processes_find_the_same_ranks(model, found):
    settings = {**SHORT, "cores": 2}
    other = hm.sbc(model, 6, seed=3, **settings)
    assert (other.ranks == found.ranks.iloc[:6]).all().all()


# --- what is refused -----------------------------------------------------------------------------


def test_bad_arguments_are_refused(model):
    with pytest.raises(FitError, match="n must be a whole number of at least 1; got 0"):
        hm.sbc(model, 0)
    with pytest.raises(FitError, match=r"ranks must be a whole number of at least 3; got 2\.5"):
        hm.sbc(model, 5, ranks=2.5)
    with pytest.raises(FitError, match="cannot be thinned to ranks=99"):
        hm.sbc(model, 5, draws=40)
    with pytest.raises(EngineError, match="tune"):
        hm.sbc(model, 5, tune=0)
    with pytest.raises(FitError, match="cores must be"):
        hm.sbc(model, 5, cores=0)
    with pytest.raises(DataError, match="y must be 40 finite numbers"):
        model.with_response([1.0, np.nan])


def test_models_without_a_distribution_of_data_are_refused():
    frame = calibrated.rows().assign(w=2.0, e="none")
    with pytest.raises(FitError, match="names no distribution to draw from"):
        hm.sbc(hm.Model("y | weights(w) ~ x + (1 | g)", frame), 2, **SHORT)
    with pytest.raises(FitError, match="under censoring are not drawn"):
        hm.sbc(hm.Model("y | cens(e) ~ x + (1 | g)", frame), 2, **SHORT)


def test_replications_that_cannot_be_fitted_are_counted():
    counts = calibrated.model("poisson")
    wild = counts.with_priors({"Intercept": "Normal(800, 1)"})
    lost = run_study(study(wild, wild), 2)
    assert len(lost.failed) == 2
    assert lost.ranks.empty
    assert not lost.uniform
    assert "No replication could be fitted: the data drawn are not finite" in repr(lost)
    with pytest.raises(FitError, match="No replication could be fitted"):
        hm.plot_sbc(lost)


# --- the picture ---------------------------------------------------------------------------------


def test_the_picture_shows_the_worst_quantities_and_says_what_is_left_out(found):
    figure = hm.plot_sbc(found, max_panels=4)
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert len(panels) == 4
    assert "9 more are not shown" in figure.get_suptitle()
    line = panels[0].get_lines()[-1]
    worst = found.table.index[0]
    assert line.get_ydata()[1:-1] == pytest.approx(found.ecdf(worst) - evaluation_points(99))
    assert line.get_linestyle() == "-"


def test_a_line_leaves_the_band_where_ranks_are_not_uniform(found):
    ranks = found.ranks.assign(sigma=found.ranks["sigma"] // 3)
    wrong = replace(found, ranks=ranks)
    assert not wrong.uniform
    (panel,) = [ax for ax in hm.plot_sbc(wrong, ["sigma"]).axes if ax.get_visible()]
    assert panel.get_lines()[-1].get_linestyle() == "--"
    with pytest.raises(FitError, match="There is no quantity 'tau'"):
        hm.plot_sbc(found, ["tau"])
    with pytest.raises(FitError, match="draws what"):
        hm.plot_sbc("nothing")
    with pytest.raises(FitError, match="max_panels=0"):
        hm.plot_sbc(found, max_panels=0)

"""What lint sees in estimates and posteriors, where its findings are shown, and that it asks only.

Posteriors are drawn here exactly (see standin.py) or by a few hundred draws of the sampler.
"""

import logging
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import standin
import xarray as xr

import hiermodels as hm
from hiermodels.answers.linting import _in_prior_coordinates, prior_overlap
from hiermodels.answers.linting_residuals import (
    compare_statistic,
    lag_one,
    realised_residuals,
    spread_ratio,
    time_order,
)
from hiermodels.cli import main
from hiermodels.errors import DataError, FitError, RepeatedTimesError
from hiermodels.library.datasets import FOLDER_VARIABLE, load_dataset
from hiermodels.library.studies import study_names
from hiermodels.spec.prior_functions import prior_quantile

ROWS, LEVELS = 15, 20


def simulated(seed=1, *, ar=0.0, spread=0.0, tails=0.0):
    """Return rows of groups with residuals that depart from a normal model as asked for."""
    rng = np.random.default_rng(seed)
    g, t = np.divmod(np.arange(LEVELS * ROWS), ROWS)
    noise = rng.standard_normal((LEVELS, ROWS))
    for k in range(1, ROWS):
        noise[:, k] = ar * noise[:, k - 1] + np.sqrt(1 - ar**2) * noise[:, k]
    noise *= np.exp(spread * rng.standard_normal((LEVELS, 1)))
    if tails:
        noise /= np.sqrt(rng.chisquare(tails, noise.shape) / tails)
    y = 3 + 0.2 * t + rng.normal(0, 1, LEVELS)[g] + noise.ravel()
    return pd.DataFrame({"y": y, "time": t, "g": [f"g{k:02d}" for k in g]})


def drawn(data, formula="y ~ time + (1 | g)", sd=(1.0,), **kwargs):
    return standin.stand_in(formula, data, {"g": sd}, draws=50, **kwargs)


@pytest.fixture(scope="module")
def clean_fit():
    return drawn(simulated())


# --- residuals ------------------------------------------------------------------------------


def test_residuals_of_the_right_model_have_no_finding(clean_fit):
    assert hm.lint(clean_fit).codes == ()


def test_of_many_right_models_few_have_a_finding():
    # three checks at 1 %, made conservative by averaging over draws: 2 of 20 has chance 0.02
    found = [hm.lint(drawn(simulated(seed), seed=seed)).codes for seed in range(100, 120)]
    assert sum(bool(codes) for codes in found) <= 2


def test_neighbours_that_agree_are_seen_and_the_formula_given():
    (found,) = hm.lint(drawn(simulated(ar=0.6)))
    assert found.code == "residual-autocorrelation"
    assert "y ~ time + (1 | g) + ar(time, g)" in found.do


def test_groups_that_spread_more_are_seen_and_the_formula_given():
    # a mixture of variances has heavy tails too
    found = {f.code: f for f in hm.lint(drawn(simulated(spread=0.6)))}["residual-variances"]
    assert "['y ~ time + (1 | g)', 'sigma ~ 1 + (1 | g)']" in found.do


def test_heavy_tails_are_seen_and_the_family_given():
    codes = {f.code: f for f in hm.lint(drawn(simulated(tails=2.5), sigma=1.8))}
    assert "family='t'" in codes["residual-tails"].do


def test_strong_pooling_is_not_taken_for_a_fault():
    # residuals from posterior means would correlate; those of single draws do not
    rng = np.random.default_rng(3)
    data = simulated().assign(y=lambda d: d["y"] + rng.normal(0, 6, len(d)))
    assert hm.lint(drawn(data, sigma=6.0)).codes == ()


def test_residuals_of_single_draws_have_the_size_that_they_should():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(200), 3)
    data = pd.DataFrame({"y": rng.normal(0, 1, 200)[g] + rng.normal(0, 1, 600), "g": g})
    size = np.mean(realised_residuals(drawn(data, "y ~ 1 + (1 | g)")) ** 2)
    # a standard error of 0.06; residuals from posterior means, which fit too well, have 0.6
    assert abs(size - 1) < 0.2


def test_the_factor_of_spread_is_what_is_beyond_chance():
    rng = np.random.default_rng(6)
    chance = rng.normal(size=(400, 2000))
    # log variances have twice the spread of log sds; 800,000 numbers leave about 0.002
    logs = 2 * 0.5 * rng.normal(size=(400, 2000)) + rng.normal(size=(400, 2000))
    assert spread_ratio(logs, chance) == pytest.approx(np.exp(0.5), rel=0.01)
    assert spread_ratio(chance, logs) == 1.0


def test_dropped_draws_of_effects_are_said():
    fit = standin.stand_in("y ~ time + (1 | g)", simulated(), {"g": (1.0,)}, draws=20,
                           keep_effects=False)  # fmt: skip
    assert any("not kept" in text for text in hm.lint(fit).skipped)


def test_the_lag_one_correlation_is_that_of_pairs_within_levels():
    order, same = np.array([0, 1, 2, 3]), np.array([True, False, True])
    residuals = np.array([[1.0, 2.0, 3.0, -4.0]])
    # (1*2 - 3*4) / sqrt((1 + 9) (4 + 16))
    assert lag_one(residuals, order, same)[0] == pytest.approx(-10 / np.sqrt(200), abs=1e-12)


def test_a_predictor_that_repeats_within_a_level_is_no_time(clean_fit):
    assert time_order(clean_fit.model.design)[0] == "time"
    twice = simulated().assign(time=lambda d: d["time"] // 2)
    assert time_order(drawn(twice).model.design) is None


def test_a_statistic_is_compared_with_all_of_chance():
    result = compare_statistic(np.array([1.0, 3.0]), np.array([0.0, 2.0, 4.0, 6.0]))
    assert (result.size, result.tail) == (2.0, pytest.approx((0.75 + 0.5) / 2))


# --- the prior and the boundary -------------------------------------------------------------


def test_overlap_is_one_at_the_prior_and_small_far_from_it():
    prior = hm.Prior("HalfStudentT", nu=3, sigma=2)
    p = (np.arange(4000) + 0.5) / 4000
    assert prior_overlap(prior_quantile(prior, p), prior) == pytest.approx(1.0, abs=1e-3)
    assert prior_overlap(np.full(100, 50.0), prior) == pytest.approx(0.05)


def test_sds_are_compared_in_the_coordinates_of_their_priors():
    # effects (a - 3 b, b) of centred effects with sds 2 and 0.5 and correlation 0.4
    T = np.array([[1.0, -3.0], [0.0, 1.0]])
    inner = np.array([[4.0, 0.4], [0.4, 0.25]])
    raw = T @ inner @ T.T
    sd = np.sqrt(np.diag(raw))
    draws = {
        "sd_g": (("chain", "draw", "g_coef"), sd[None, None]),
        "cor_g": (("chain", "draw", "g_coef", "g_coef_bis"), (raw / np.outer(sd, sd))[None, None]),
    }
    names = ["Intercept", "x"]
    posterior = xr.Dataset(draws, coords={"g_coef": names, "g_coef_bis": names})
    found = _in_prior_coordinates(posterior, "g", ("Intercept", "x"), T)
    np.testing.assert_allclose(found[:, 0], [2.0, 0.5], rtol=1e-10)


@pytest.fixture(scope="module")
def sleep_fits():
    """Two small fits: as usual, and with a prior for the slopes' sd that the data cannot move."""
    data = load_dataset("sleepstudy")
    model = hm.Model("Reaction ~ Days + (Days | Subject)", data)
    sampling = {"draws": 250, "tune": 250, "chains": 2, "seed": 1, "progress": False}
    tight = model.with_priors({"sd_Subject[Days]": "LogNormal(mu=2, sigma=0.01)"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        return model.fit(**sampling), tight.fit(**sampling)


def test_a_posterior_at_its_prior_is_said_and_only_then(sleep_fits):
    usual, tight = (hm.lint(fit) for fit in sleep_fits)
    assert "posterior-at-prior" not in usual.codes
    (found,) = [f for f in tight if f.code == "posterior-at-prior"]
    assert found.about == ("sd_Subject[Days]",)


def test_sleepstudy_shows_what_is_known_of_it(sleep_fits):
    # subject 332 and day-to-day drift are in every textbook on these data
    found = {f.code: f for f in hm.lint(sleep_fits[0])}
    assert set(found) == {"residual-autocorrelation", "residual-variances", "residual-tails"}
    assert "(332)" in found["residual-variances"].seen


def test_the_boundary_is_found_in_estimates_and_posteriors(sleep_fits):
    two = hm.Model("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"))
    (found,) = hm.lint(hm.mle(two))
    assert found.code == "boundary"
    assert "the variance of Intercept by Batch is zero" in found.seen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        fit = two.fit(draws=100, tune=200, chains=2, seed=1, progress=False)
    assert "boundary" in hm.lint(fit).codes
    one = hm.Model("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    assert hm.lint(hm.mle(one)).codes == ()


# --- separation by several predictors -------------------------------------------------------


def test_predictors_that_separate_together_are_found():
    rng = np.random.default_rng(2)
    data = pd.DataFrame(rng.normal(size=(150, 2)), columns=["x", "z"])
    data["g"] = np.arange(150) % 10
    clear = data.assign(yes=(data["x"] + data["z"] > 0).astype(int))
    formula = "yes ~ x + z + (1 | g)"
    model = hm.Model(formula, clear, family="bernoulli", lint=False)
    assert model.findings.codes == ()  # no single one does
    (found,) = hm.lint(model)
    assert found.code == "separation"
    assert set(found.about) == {"x", "z"}
    clear.loc[[3, 40, 41, 90], "yes"] ^= 1
    assert hm.lint(hm.Model(formula, clear, family="bernoulli", lint=False)).codes == ()


# --- where findings are shown ---------------------------------------------------------------


@pytest.fixture(scope="module")
def years():
    return load_dataset("sleepstudy").assign(Year=lambda d: 2000 + d["Days"])


FAR = "Reaction ~ Year + (Year | Subject)"


def test_findings_are_logged_once_and_printed(years, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "hiermodels"):
        warnings.simplefilter("error")
        model = hm.Model(FAR, years)
    said = [r.message for r in caplog.records if "docs/lint.md#" in r.message]
    assert len(said) == 1
    assert "docs/lint.md#far-origin" in said[0]
    caplog.clear()
    assert repr(model).count("Finding: Year runs from 2000") == 1
    again = model.with_priors({"sigma": "HalfNormal(sigma=30)"})
    assert "Finding: Year" in repr(again)
    assert not [r for r in caplog.records if "docs/lint.md#" in r.message]


def test_lint_can_be_turned_off_and_asked_for(years, caplog):
    with caplog.at_level(logging.INFO, "hiermodels"):
        model = hm.Model(FAR, years, lint=False)
    assert not [r for r in caplog.records if "docs/lint.md#" in r.message]
    assert "Finding" not in repr(model)
    assert "Finding" not in repr(model.with_priors({"sigma": "HalfNormal(sigma=30)"}))
    assert hm.lint(model).codes == ("far-origin",)


def test_a_clean_model_prints_no_finding(caplog):
    with caplog.at_level(logging.INFO, "hiermodels"):
        model = hm.Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    assert "Finding" not in repr(model)
    assert not [r for r in caplog.records if "docs/lint.md#" in r.message]


def test_the_command_prints_findings_and_succeeds(years, tmp_path, capsys):
    file = tmp_path / "years.csv"
    years.to_csv(file, index=False)
    assert main(["lint", str(file), FAR]) == 0
    shown = capsys.readouterr()
    assert "1 finding" in shown.out
    assert "far-origin: a predictor far from zero" in shown.out
    assert shown.err == ""
    assert main(["lint", str(file), "Reaction ~ Days + (Days | Subject)"]) == 0
    assert capsys.readouterr().out.strip() == "No findings."
    assert main(["lint", str(file), "Reaction ~ Weeks"]) == 2


def test_a_study_says_what_its_model_will_be_found_to_have(monkeypatch, reference_dir):
    monkeypatch.setenv(FOLDER_VARIABLE, str(reference_dir / "data"))
    study = hm.load_study("nurses")
    assert study.variant("crossed_bad_labels").findings == (
        "bounded-response", "few-levels", "reused-labels",
    )  # fmt: skip
    assert (
        hm.lint(study.model("crossed_bad_labels")).codes
        == study.variant("crossed_bad_labels").findings
    )


# --- a formula and data ----------------------------------------------------------------------


SERIES = "Reaction ~ Days + (Days | Subject) + ar(Days, Subject)"


@pytest.fixture(scope="module")
def twice():
    """Three rows more, at times at which two subjects were measured already."""
    sleep = load_dataset("sleepstudy")
    return pd.concat([sleep, sleep.iloc[[0, 1, 15]]], ignore_index=True)


def test_times_that_repeat_are_a_finding_though_no_model_can_be_made(twice):
    with pytest.raises(DataError, match=r"Such rows: 3, in 2 of 18 series\. Keep one row a time"):
        hm.Model(SERIES, twice)
    found = hm.lint(SERIES, twice)
    assert found.codes == ("repeated-times",)
    assert found[0].about == ("Days", "Subject")
    assert found[0].seen == (
        "3 rows have the same Days as another row of the series, in 2 of 18 series: row 0 and row "
        "180 of the series '308', for one."
    )
    assert found.skipped == ("the 3 rows that repeat a time.",)
    assert hm.lint(SERIES, load_dataset("sleepstudy")).codes == ()


def test_the_rest_is_looked_at_without_rows_that_repeat(twice):
    years = twice.assign(Year=2000 + twice["Days"]).drop(index=3)
    formula = "Reaction ~ Year + (Year | Subject) + ar(Days, Subject)"
    assert hm.lint(formula, years).codes == (
        "far-origin", "repeated-times", "time-gaps",
    )  # fmt: skip
    # labels that repeat too name no row
    again = years.set_axis([7] * len(years), axis=0)
    assert len(hm.lint(formula, again)) == 3


def test_what_is_left_may_be_no_model(twice):
    ones = twice.iloc[[0, 180, 10]]
    found = hm.lint("Reaction ~ (1 | Subject) + ar(Days, Subject)", ones)
    assert found.codes == ("repeated-times",)
    assert "no model is left" in found.skipped[0]


def test_times_that_repeat_in_a_source_are_a_finding(twice, tmp_path):
    file = tmp_path / "twice.parquet"
    twice.sort_values("Subject", kind="stable").to_parquet(file)
    for memory in ("1 GB", "1 kB"):  # held, and read in passes
        found = hm.lint(SERIES, str(file), memory=memory, progress=False)
        assert found.codes == ("repeated-times",)
        assert "of the series '308', for one" in found[0].seen
        assert "no model can be made" in found.skipped[0]


def test_the_command_finds_times_that_repeat(twice, tmp_path, capsys):
    file = tmp_path / "twice.csv"
    twice.to_csv(file, index=False)
    assert main(["lint", str(file), SERIES]) == 0
    assert "repeated-times: a time index with duplicates" in capsys.readouterr().out


def test_the_error_for_times_that_repeat_crosses_processes(twice):
    with pytest.raises(RepeatedTimesError) as caught:
        hm.Model(SERIES, twice)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.rows) == (str(caught.value), (180, 181, 182))


def test_a_formula_and_data_are_what_a_model_of_them_is(years):
    assert hm.lint(FAR, years) == hm.lint(hm.Model(FAR, years, lint=False))
    assert hm.lint("yes ~ Days", years.assign(yes=years["Days"] > 4), "bernoulli").codes == (
        "separation",
    )
    with pytest.raises(FitError, match=r"needs data too: hm\.lint\('y ~ x"):
        hm.lint(FAR)
    with pytest.raises(FitError, match="a Model has its own"):
        hm.lint(hm.Model(FAR, years, lint=False), years)


def test_what_is_no_model_is_refused():
    with pytest.raises(FitError, match=r"takes a model, a fit, an estimate .* got DataFrame"):
        hm.lint(pd.DataFrame())


# Thousands of effects take tens of seconds; their findings need no posterior.
FITTED = [
    (name, key)
    for name in study_names()
    for key in hm.load_study(name).variants
    if name not in ("patents", "speed_dating", "sociometric")
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), FITTED)
def test_posteriors_of_studies_have_no_finding_beyond_their_files(
    monkeypatch, reference_dir, name, key
):
    monkeypatch.setenv(FOLDER_VARIABLE, str(reference_dir / "data"))
    study = hm.load_study(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        fit = study.model(key, lint=False).fit(
            draws=300, tune=300, chains=2, seed=4, progress=False
        )
    variant = study.variant(key)
    assert set(hm.lint(fit).codes) <= {*variant.findings, *variant.fit_findings}

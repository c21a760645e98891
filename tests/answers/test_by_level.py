"""Answers about responses by level, from draws that the priors give: no sampler is run."""

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.answers.joint_likelihood import joint_log_likelihood
from hiermodels.answers.prior_simulation import prior_fit
from hiermodels.answers.replications import simulate
from hiermodels.errors import FitError

# Sums of as many probabilities as there are levels.
ROUNDING = 1e-12
LEVELS = ("a", "b", "c")


def rows(n=60):
    rng = np.random.default_rng(21)
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.choice(list("pqrst"), n)})
    data["choice"] = rng.choice(list(LEVELS), n)
    for name in LEVELS:
        data[name] = rng.poisson(3, n) + (name == "a")
    return data


FORMULAS = {
    "categorical": "choice ~ x + (x | g)",
    "multinomial": "c(a, b, c) ~ x + (1 | g)",
    "dirichlet_multinomial": "c(a, b, c) ~ x + (1 | g)",
}


@pytest.fixture(scope="module")
def fits():
    tight = {"b": "Normal(0, 0.5)", "Intercept": "Normal(0, 1)", "sd": "HalfNormal(sigma=0.5)"}
    return {
        family: prior_fit(
            hm.Model(formula, rows(), family, priors=tight, lint=False),
            80,
            np.random.default_rng(3),
        )
        for family, formula in FORMULAS.items()
    }


@pytest.mark.parametrize("family", FORMULAS)
def test_expected_responses_are_shares_of_the_levels(fits, family):
    found = hm.predict(fits[family]).draws
    assert found.dims == ("chain", "draw", "__obs__", "category")
    assert list(found["category"].values) == list(LEVELS)
    total = 1.0 if family == "categorical" else rows()[list(LEVELS)].sum(axis=1).to_numpy()
    np.testing.assert_allclose(
        found.sum("category"), np.broadcast_to(total, found.shape[:3]), rtol=ROUNDING
    )


def test_expected_responses_are_the_softmax_of_the_linear_predictors(fits):
    fit = fits["categorical"]
    linear = hm.predict(fit, kind="linear").draws
    assert list(linear["category"].values) == ["b", "c"]
    own = np.exp(linear.values)
    expected = own / (1.0 + own.sum(axis=-1, keepdims=True))
    found = hm.predict(fit).draws.sel(category=["b", "c"])
    np.testing.assert_allclose(found.values, expected, rtol=ROUNDING)
    one = hm.predict(fit, parameter="mu_c", kind="linear").draws
    np.testing.assert_array_equal(one.values, linear.sel(category="c").values)


def test_responses_are_labels_and_counts(fits):
    codes = hm.predict(fits["categorical"], kind="response", seed=1)
    assert codes.draws.dims == ("chain", "draw", "__obs__")
    assert codes.draws.attrs["categories"] == list(LEVELS)
    shares = codes.to_frame()
    assert set(shares["category"]) == set(LEVELS)
    counts = hm.predict(fits["multinomial"], kind="response", seed=1).draws
    total = rows()[list(LEVELS)].sum(axis=1).to_numpy()
    np.testing.assert_array_equal(counts.sum("category"), np.broadcast_to(total, counts.shape[:3]))


def test_new_rows_need_no_response(fits):
    new = pd.DataFrame({"x": [0.0, 1.0], "g": ["p", "new"]})
    found = hm.predict(fits["categorical"], new, new_levels="draw", seed=1)
    assert found.draws.shape == (1, 80, 2, 3)
    found = hm.predict(fits["multinomial"], new, new_levels="draw", seed=1)
    assert "expectations are of one count a row" in " ".join(found.notes)
    np.testing.assert_allclose(found.draws.sum("category"), 1.0, rtol=ROUNDING)
    found = hm.predict(fits["multinomial"], new.assign(a=1, b=2, c=3), new_levels="draw", seed=1)
    np.testing.assert_allclose(found.draws.sum("category"), 6.0, rtol=ROUNDING)


def test_comparisons_and_slopes_have_a_row_for_each_level(fits):
    for found in (hm.comparisons(fits["categorical"], {"x": 1}), hm.slopes(fits["categorical"])):
        table = found.to_frame()
        assert list(table["category"]) == list(LEVELS)
        # shares that add up to one change by nothing together
        np.testing.assert_allclose(found.draws.sum("contrast"), 0.0, atol=1e-9)


@pytest.mark.parametrize("family", FORMULAS)
def test_pointwise_densities_add_up_to_the_joint_one(fits, family):
    fit = fits[family]
    pointwise = hm.pointwise_log_likelihood(fit)
    assert pointwise.sizes["__obs__"] == 60
    joint = joint_log_likelihood(fit.model, fit.posterior, np.arange(80))
    np.testing.assert_allclose(pointwise.sum("__obs__").values[0], joint, rtol=1e-12)


def test_pointwise_densities_are_logarithms_of_the_expected_shares(fits):
    fit = fits["categorical"]
    shares = hm.predict(fit).draws.values[0]
    code = fit.model.design.y.astype(int)
    found = hm.pointwise_log_likelihood(fit).values[0]
    np.testing.assert_allclose(found, np.log(shares[:, np.arange(60), code]), rtol=1e-10)


def test_tables_have_all_levels(fits):
    fit = fits["categorical"]
    assert {"mu_b_Intercept", "mu_c_b[x]"} <= set(fit.fixef().index)
    assert "mu_c_cor_g[x, Intercept]" in fit.summary().index
    assert set(fit.ranef()["effect"]) == {
        f"mu_{level}_{effect}" for level in "bc" for effect in ("Intercept", "x")
    }
    assert len(fit.coef()) == 2 * 2 * 5
    assert list(fit.varcorr()["group"].unique()) == ["g"]
    statement = hm.hypothesis(fit, "mu_b_b[x] > mu_c_b[x]")
    assert 0.0 < statement["probability"].iloc[0] < 1.0


def test_what_needs_one_linear_predictor_is_refused_with_the_reason(fits):
    fit = fits["categorical"]
    for function in (hm.pooling, hm.icc, hm.r2, hm.rank_groups, hm.plot_shrinkage, hm.plot_groups):
        with pytest.raises(FitError, match="one linear predictor, and family='categorical'"):
            function(fit)
    with pytest.raises(FitError, match="integrates effects out of one linear predictor"):
        hm.predict(fit, average_groups=True)
    for own in (fit.fitted, fit.residuals):
        with pytest.raises(FitError, match="for each of a, b, c"):
            own()
    with pytest.raises(FitError, match="a count for each of several categories"):
        hm.check(fits["multinomial"])


def test_checks_look_at_the_share_of_each_level(fits):
    found = hm.check(fits["categorical"], draws=60, influence=False)
    assert set(found.table["statistic"]) >= {f"share of {level}" for level in LEVELS}


@pytest.mark.parametrize("family", FORMULAS)
def test_priors_are_seen_as_shares_of_the_levels(family):
    model = hm.Model(FORMULAS[family], rows(), family, lint=False)
    found = hm.prior_predictive(model, draws=50, seed=1)
    assert list(found.table.index) == [f"share of {level}" for level in LEVELS]
    assert found.table["observed"].sum() == pytest.approx(1.0)
    assert found.simulated.shape == (50, 60) + (() if family == "categorical" else (3,))
    if family == "categorical":
        labels = hm.plot_prior_predictive(found).axes[0].get_xticklabels()
        assert [own.get_text() for own in labels] == list(LEVELS)
    else:
        with pytest.raises(FitError, match="counts of a, b, c"):
            hm.plot_prior_predictive(found)


@pytest.mark.parametrize("family", FORMULAS)
def test_data_drawn_from_a_model_fit_it_again(family):
    model = hm.Model(FORMULAS[family], rows(), family, lint=False)
    _, y = simulate(model, np.random.default_rng(1))
    assert model.with_response(y).design.y.shape == model.design.y.shape


def test_simulated_responses_are_labels_or_counts():
    data = rows().drop(columns=["choice", *LEVELS])
    params = {"mu_b_Intercept": 8.0, "mu_c_Intercept": -8.0}
    drawn = hm.simulate("choice ~ 1", data, {"levels": LEVELS, **params}, family="categorical",
                        seed=1)  # fmt: skip
    assert list(drawn.cat.categories) == list(LEVELS)
    # exp(-8) is one row in 3,000
    assert (drawn == "b").mean() > 0.9
    counts = hm.simulate("c(a, b, c) ~ 1", data, {"trials": 10, **params}, family="multinomial",
                         seed=1)  # fmt: skip
    assert list(counts.columns) == list(LEVELS)
    assert (counts.sum(axis=1) == 10).all()
    assert counts["b"].mean() > 9
    with pytest.raises(FitError, match=r"levels of the response 'choice' are not known"):
        hm.simulate("choice ~ 1", data, params, family="categorical")
    with pytest.raises(FitError, match=r"totals of c\(a, b, c\) are not known"):
        hm.simulate("c(a, b, c) ~ 1", data, params, family="multinomial")


def test_a_model_on_some_of_its_rows_keeps_its_levels():
    model = hm.Model(FORMULAS["categorical"], rows(), "categorical", lint=False)
    some = model.on_rows(model.design.y != 2)
    assert some.design.response_levels == LEVELS
    assert [part.n for part in some.design.parameters] == [some.design.n] * 2


def test_other_priors_without_refitting(fits):
    found = hm.prior_sensitivity(
        fits["categorical"], [{"b": "Normal(0, 0.51)"}], refit=False, progress=False
    )
    assert {"mu_b_b[x]", "mu_c_sd_g[x]"} <= set(found.table["quantity"])


def test_a_picture_of_effects_names_the_level(fits):
    ax = hm.plot_caterpillar(fits["categorical"], effect="mu_c_x")
    assert "mu_c_x by g" in ax.get_title(loc="left") + ax.get_title()

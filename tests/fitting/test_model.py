"""The model before it is fitted: print, priors, engines, forms; and what a change of units does."""

import logging

import numpy as np
import pandas as pd
import pytest

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density, layout
from hiermodels.errors import DataError, EngineError, HierModelsError, PriorError
from hiermodels.fitting.model import Model
from hiermodels.fitting.predictor_draws import expected_draws
from hiermodels.library.datasets import load_dataset

SLEEP = "Reaction ~ Days + (Days | Subject)"


def frame(n=80):
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "x": rng.normal(5, 2, n),
            "z": rng.normal(1, 1, n),
            "h": pd.Categorical(rng.choice(["lo", "mid", "hi"], n), ["lo", "mid", "hi"]),
            "g": rng.choice(list("ABCDEF"), n),
            "k": rng.choice(list("pqr"), n),
        }
    )
    data["y"] = 1 + data.x + rng.normal(size=n)
    return data


# --- in print -------------------------------------------------------------------------------------


def test_the_model_prints_formula_groups_priors_and_engine():
    text = repr(Model(SLEEP, load_dataset("sleepstudy")))
    assert f"Model: {SLEEP}" in text
    assert "Family: gaussian (identity link)" in text
    assert "Data: 180 rows, 2 population coefficients" in text
    assert "Group Subject: 18 levels, 10 rows each (median 10); Intercept, Days" in text
    assert "Engine: marginal (coefficients and group effects are integrated out exactly" in text
    for parameter in ("b[Days]", "sd_Subject[Days]", "cor_Subject", "sigma"):
        assert parameter in text
    assert "at the means" in text


def test_the_print_says_what_happened_to_the_data(caplog):
    data = frame()
    data["answer"] = np.where(data.y > data.y.mean(), "yes", "no")
    data.loc[[3, 5], "x"] = np.nan
    with caplog.at_level(logging.INFO, "hiermodels"):
        model = Model("answer ~ x + (1 | g)", data, "bernoulli")
    for text in (repr(model), caplog.text):
        assert "2 rows dropped with missing values in x (2)" in text
        assert "success is 'yes', failure is 'no'" in text


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y | weights(z) ~ x", "weights() multiplies each row's log likelihood"),
        ("y | precision(z) ~ x", "precision() divides each row's variance"),
    ],
)
def test_weights_and_precision_are_told_apart(formula, words):
    data = frame()
    data["z"] = np.abs(data["z"]) + 0.1
    assert words in repr(Model(formula, data))


def test_without_bars_the_print_says_so():
    assert "Groups: none (a plain regression)" in repr(Model("y ~ x", frame()))


# --- priors ---------------------------------------------------------------------------------------


def test_every_prior_is_in_the_table_before_the_fit():
    table = Model(SLEEP, load_dataset("sleepstudy")).priors
    assert list(table.columns) == ["parameter", "prior", "source", "scale", "how"]
    assert list(table["parameter"]) == [
        "Intercept", "b[Days]", "sd_Subject[Intercept]", "sd_Subject[Days]", "cor_Subject", "sigma",
    ]  # fmt: skip
    assert set(table["source"]) == {"default"}


def test_the_table_is_a_copy():
    model = Model("y ~ x", frame())
    table = model.priors
    table.loc[0, "prior"] = "changed"
    assert model.priors.loc[0, "prior"] != "changed"


def test_with_priors_makes_a_new_model_and_keeps_earlier_ones():
    first = Model(SLEEP, load_dataset("sleepstudy"), priors={"sigma": "HalfNormal(20)"})
    second = first.with_priors({"sd": "HalfNormal(sigma=30)"})
    assert set(first.priors.query("source == 'user'")["parameter"]) == {"sigma"}
    table = second.priors.set_index("parameter")
    assert table.loc["sigma", "prior"] == "HalfNormal(sigma=20)"
    assert table.loc["sd_Subject[Days]", "prior"] == "HalfNormal(sigma=30)"
    assert table.loc["sd_Subject[Days]", "scale"] == "raw"
    assert set(second.user_priors) == {"sd", "sigma"}
    again = second.with_priors({"sd": "HalfNormal(sigma=5)"})
    assert str(again.user_priors["sd"]) == "HalfNormal(sigma=5)"
    whole = Model(
        SLEEP,
        load_dataset("sleepstudy"),
        priors={"sigma": "HalfNormal(20)", "sd": "HalfNormal(sigma=30)"},
    )
    pd.testing.assert_frame_equal(second.priors, whole.priors)


def test_with_priors_refuses_what_the_model_refuses():
    with pytest.raises(PriorError, match=r"'sdd' names nothing in this model. Did you mean 'sd'"):
        Model(SLEEP, load_dataset("sleepstudy")).with_priors({"sdd": "HalfNormal(1)"})
    with pytest.raises(PriorError, match="priors is a dictionary"):
        Model("y ~ x", frame(), priors=[("b", "Normal(0, 1)")])


# --- engine and forms -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("stan", "got 'stan'\\.$"),
        (None, "got None"),
    ],
)
def test_engines_that_are_not_there(engine, words):
    with pytest.raises(EngineError, match=words):
        Model("y ~ x", frame(), engine=engine)


def test_unknown_family_and_link():
    with pytest.raises(HierModelsError, match="family 'gama' is not known"):
        Model("y ~ x", frame(), "gama")
    with pytest.raises(HierModelsError, match="no link 'probit'"):
        Model("y ~ x", frame(), link="probit")


def test_forms_can_be_set_for_all_bars_or_by_grouping():
    data = frame()
    formula = "y ~ x + (x | g) + (1 | k)"
    assert Model(formula, data, centred=True).centred == (True, True)
    assert Model(formula, data, centred=False).centred == (False, False)
    assert Model(formula, data, centred={"g": True, "k": False}).centred == (True, False)
    model = Model(formula, data, centred={"g": True, "k": False}, engine="conditional")
    assert "Engine: conditional (asked for); g centred; k non-centred" in repr(model)
    assert Model(formula, data, centred=True).with_priors({"b": "Normal(0, 1)"}).centred == (
        True,
        True,
    )


# --- change of units: the same coordinates published by both models -------------------------------


def problem_of(model):
    return conditional_problem(model.design, model.family, model.resolved, model.centred)


def fitted_draws(fit):
    model = fit.model
    return expected_draws(fit.posterior, model.design, model.family, slice(0, model.design.n))


def test_days_of_another_epoch_give_the_same_posterior(drawn_fit, random_points):
    data = load_dataset("sleepstudy")
    later = data.assign(Days=data["Days"] + 2000)
    for centred in (False, True):
        first, second = (Model(SLEEP, frame_, centred=centred) for frame_ in (data, later))
        points = random_points(first)
        densities = [Density(problem_of(model)) for model in (first, second)]
        for x in points.reshape(-1, points.shape[-1]):
            values = [density(x)[0] for density in densities]
            # 2000 is exact in binary, as are whole days: the centred columns differ by rounding
            assert values[1] == pytest.approx(values[0], rel=1e-11)
        one, two = (drawn_fit(model, points) for model in (first, second))
        a, b = one.posterior, two.posterior
        for name in ("sigma", "b"):
            np.testing.assert_allclose(b[name], a[name], rtol=1e-10)
        days = {"Subject_coef": "Days"}
        np.testing.assert_allclose(b["sd_Subject"].sel(days), a["sd_Subject"].sel(days), rtol=1e-8)
        np.testing.assert_allclose(
            b["r_Subject"].sel(days), a["r_Subject"].sel(days), rtol=1e-8, atol=1e-8
        )
        # y is of the order of 300, intercepts of 2000 times the slope: eps times that
        np.testing.assert_allclose(fitted_draws(two), fitted_draws(one), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(
            b["Intercept"], a["Intercept"] - 2000 * a["b"].sel(coef="Days"), rtol=1e-10
        )
        # Sigma = T Sigma~ T': the raw intercept sd and the correlation follow
        sd0, sd1 = (a["sd_Subject"].isel(Subject_coef=k).values for k in (0, 1))
        rho = a["cor_Subject"].values[..., 1, 0]
        covariance = rho * sd0 * sd1 - 2000 * sd1**2
        expected = np.sqrt(sd0**2 - 4000 * rho * sd0 * sd1 + (2000 * sd1) ** 2)
        np.testing.assert_allclose(b["sd_Subject"].isel(Subject_coef=0), expected, rtol=1e-8)
        # correlations end within 1e-6 of -1, where a quotient keeps nine digits
        found = b["cor_Subject"].values[..., 1, 0]
        np.testing.assert_allclose(found, covariance / (expected * sd1), rtol=1e-9)


def _scaled_points(model, points, a_x, a_y, c_y):
    """Return where the points go when x is multiplied by a_x and y becomes a_y y + c_y."""
    moved, design = points.copy(), model.design
    parts = layout(problem_of(model))
    degrees = np.array([sum("x" in label for label in col.labels) for col in design.columns])
    moved[..., parts.coef] *= a_y / a_x**degrees
    moved[..., design.intercept] += c_y
    for term, part, centred in zip(design.terms, parts.bars, model.centred, strict=True):
        own = np.array([sum("x" in label for label in col.labels) for col in term.columns])
        moved[..., part.sds] += np.log(a_y / a_x**own)
        if centred:
            scale = np.tile(a_y / a_x**own, len(term.levels))
            moved[..., part.effects] *= scale
    moved[..., parts.sigma] += np.log(a_y)
    return moved


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(
    ("shift", "a_x", "a_y", "c_y"),
    [(7.5, 1.0, 1.0, 0.0), (-30.0, 4.0, 1.0, 0.0), (0.0, 1.0, 10.0, -50.0), (3.0, 0.01, 5.0, 2.0)],
)
def test_units_do_not_matter(drawn_fit, random_points, shift, a_x, a_y, c_y, centred):
    data = frame()
    changed = data.assign(x=a_x * data["x"] + shift, y=a_y * data["y"] + c_y)
    formula = "y ~ x * h + z + (x + z | g) + (1 | k)"
    # effects that took up the intercept are moved by hand below: leave those bars as they are
    first, second = (Model(formula, d, centred={"g": centred, "k": False}) for d in (data, changed))
    points = random_points(first)
    moved = _scaled_points(first, points, a_x, a_y, c_y)
    if centred:
        moved = _with_shift(first, second, points, moved)
    densities = [Density(problem_of(model)) for model in (first, second)]
    flat = zip(
        points.reshape(-1, points.shape[-1]), moved.reshape(-1, points.shape[-1]), strict=True
    )
    gaps = [densities[1](new)[0] - densities[0](old)[0] for old, new in flat]
    # the same posterior: densities differ by the Jacobian alone, which is the same everywhere;
    # the values are of the order of 1000, and x was shifted by several of its sds
    np.testing.assert_allclose(gaps, gaps[0], rtol=0, atol=1e-8)
    one, two = drawn_fit(first, points), drawn_fit(second, moved)
    np.testing.assert_allclose(two.posterior["sigma"], a_y * one.posterior["sigma"], rtol=1e-10)
    np.testing.assert_allclose(
        two.posterior["b"].sel(coef="x"), a_y / a_x * one.posterior["b"].sel(coef="x"), rtol=1e-8
    )
    np.testing.assert_allclose(
        two.posterior["sd_g"].sel(g_coef="x"),
        a_y / a_x * one.posterior["sd_g"].sel(g_coef="x"),
        rtol=1e-8,
    )
    np.testing.assert_allclose(
        fitted_draws(two), a_y * fitted_draws(one) + c_y, rtol=1e-8, atol=1e-8
    )


def _with_shift(first, second, points, moved):
    """Return the moved points with the coefficients that centred bars took up exchanged."""
    moved = moved.copy()
    before, after = problem_of(first), problem_of(second)
    parts = layout(before)
    for old, new, part, term in zip(
        before.bars, after.bars, parts.bars, first.design.terms, strict=True
    ):
        if old.shift is None:
            continue
        plain = points[..., part.effects] - _taken(old.shift, points[..., parts.coef])
        # effects are multiplied as their sds are
        ratio = np.exp((moved - points)[0, 0, part.sds])
        plain = plain * np.tile(ratio, len(term.levels))
        moved[..., part.effects] = plain + _taken(new.shift, moved[..., parts.coef])
    return moved


def _taken(shift, coef):
    return coef @ shift.reshape(-1, shift.shape[2]).T


@pytest.mark.parametrize(
    "formula", ["y ~ x + (x || g)", "y ~ x + (0 + x | g)", "y ~ x + x:z", "y ~ 0 + x"]
)
def test_where_the_zero_of_x_matters_it_does(drawn_fit, random_points, formula):
    """Without their margins such terms are other models when x is shifted, and stay so."""
    data = frame()
    first = Model(formula, data, centred=False)
    second = Model(formula, data.assign(x=data["x"] + 10), centred=False)
    points = random_points(first)
    change = fitted_draws(drawn_fit(second, points)) - fitted_draws(drawn_fit(first, points))
    # an intercept, where there is one, could take up a constant
    constant = 0.0 if first.design.intercept is None else change.mean(axis=1, keepdims=True)
    assert np.abs(change - constant).max() > 0.1


@pytest.mark.parametrize("formula", ["y ~ I(x**2)", "y ~ bs(x, df=4)", "y ~ log(x)", "y ~ h"])
def test_neither_do_powers_splines_logarithms_and_the_reference_level(formula):
    """The implied prior of the fitted values differs: their covariance X S X'."""
    data = frame().assign(x=lambda d: np.abs(d["x"]) + 1)
    moved = data.assign(x=data["x"] + 10, h=data["h"].cat.reorder_categories(["hi", "mid", "lo"]))
    implied = []
    for d in (data, moved):
        resolved = Model(formula, d).resolved
        sds = np.array([prior.values[1] for prior in resolved.coef])
        implied.append((resolved.X * sds**2) @ resolved.X.T)
    same = formula == "y ~ bs(x, df=4)"  # knots at quantiles move along: only extrapolation differs
    assert np.allclose(implied[0], implied[1], rtol=1e-6) == same


@pytest.mark.slow
def test_days_of_another_epoch_when_sampled():
    data = load_dataset("sleepstudy")
    fits = [
        Model(SLEEP, frame_).fit(draws=2000, seed=seed, target_accept=0.95, progress=False)
        for seed, frame_ in ((1, data), (2, data.assign(Days=data["Days"] + 2000)))
    ]
    tables = [fit.summary() for fit in fits]
    for name in ("b[Days]", "sd_Subject[Days]", "sigma"):
        a, b = (table.loc[name] for table in tables)
        # means of different draws of the same posterior: four combined standard errors
        error = np.hypot(a["sd"] / np.sqrt(a["ess_bulk"]), b["sd"] / np.sqrt(b["ess_bulk"]))
        assert abs(a["mean"] - b["mean"]) < 4 * error
        assert b["sd"] == pytest.approx(a["sd"], rel=0.06)
    # and the raw intercept is another thing
    assert abs(tables[1].loc["Intercept", "mean"] - tables[0].loc["Intercept", "mean"]) > 10000


def test_a_model_of_bad_data_says_which():
    with pytest.raises(DataError, match="no column 'w'"):
        Model("y ~ w", frame())

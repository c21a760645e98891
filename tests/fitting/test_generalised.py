"""Laplace and quadrature as the user meets them: tables, refusals, boundaries, separation."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special

import hiermodels as hm
from hiermodels.answers.regressions import complete_pooling, no_pooling
from hiermodels.errors import EngineError, EstimationWarning, FitError


def frame(seed=1, n=240, groups=16, sd=0.8):
    rng = np.random.default_rng(seed)
    g = np.arange(n) % groups
    x, h = rng.normal(1.0, 1.0, n), rng.integers(0, 3, n)
    b = rng.normal(0, [sd, 0.4 * sd], (groups, 2))
    eta = 0.2 + 0.5 * x + b[g, 0] + b[g, 1] * (x - 1.0)
    size = rng.integers(1, 5, n)
    return pd.DataFrame(
        {
            "y": rng.binomial(1, special.expit(eta)),
            "s": rng.binomial(size, special.expit(eta)),
            "size": size,
            "count": rng.poisson(np.exp(0.5 * eta)),
            "x": x,
            "h": [f"h{k}" for k in h],
            "w": rng.integers(1, 3, n).astype(float),
            "g": [f"g{k:02}" for k in g],
            "f": [f"f{k}" for k in (np.arange(n) // groups) % 5],
        }
    )


@pytest.fixture(scope="module")
def slopes():
    return hm.mle(hm.Model("y ~ x + h + (x | g)", frame(), "bernoulli"))


def test_every_table_is_there(slopes):
    fixed = slopes.fixef()
    assert list(fixed.index) == ["Intercept", "x", "h[T.h1]", "h[T.h2]"]
    assert list(fixed.columns) == ["estimate", "se", "z", "ci_low", "ci_high"]
    np.testing.assert_allclose(fixed["z"], fixed["estimate"] / fixed["se"])
    assert len(slopes.ranef()) == 32
    assert len(slopes.coef()) == 16 * 4
    assert slopes.varcorr()["group"].tolist() == ["g", "g"]
    assert len(slopes.correlations()) == 1
    assert list(slopes.summary().index[-3:]) == [
        "sd_g[Intercept]", "sd_g[x]", "cor_g[x, Intercept]"
    ]  # fmt: skip
    assert slopes.df == 7
    assert slopes.deviance == -2 * slopes.loglik
    assert slopes.aic == pytest.approx(slopes.deviance + 14)
    assert slopes.aicc > slopes.aic
    assert slopes.bic == pytest.approx(slopes.deviance + 7 * np.log(240))
    assert slopes.sigma is None
    assert (slopes.converged, slopes.certain) == (True, True)
    text = repr(slopes)
    assert "by Laplace's approximation" in text
    assert "from the curvature of the log likelihood" in text


def test_a_group_s_coefficients_hold_both_uncertainties(slopes):
    plain, whole = slopes.ranef(), slopes.coef()
    x = whole[whole["effect"] == "x"].reset_index()
    own = plain[plain["effect"] == "x"].reset_index()
    np.testing.assert_allclose(x["estimate"], slopes.fixef().loc["x", "estimate"] + own["estimate"])
    # in a group the sum is better known than the two apart
    apart = np.sqrt(own["se"] ** 2 + slopes.fixef().loc["x", "se"] ** 2)
    assert np.all(x["se"] > 0)
    assert np.mean(x["se"] < apart) > 0.5


def test_fitted_values_and_residuals(slopes):
    design = slopes.model.design
    mu = slopes.fitted()["estimate"]
    eta = design.X @ slopes.coefficients
    z, modes = design.terms[0].z, slopes.modes[0].mean
    eta = eta + np.sum(z * modes[design.terms[0].index], axis=1)
    np.testing.assert_allclose(mu, special.expit(eta), rtol=1e-9)
    np.testing.assert_allclose(slopes.residuals(), design.y - mu)
    pearson = (design.y - mu) / np.sqrt(mu * (1 - mu))
    np.testing.assert_allclose(slopes.residuals("pearson"), pearson, rtol=1e-9)
    log = np.where(design.y == 1, np.log(mu), np.log1p(-mu))
    np.testing.assert_allclose(slopes.residuals("deviance") ** 2, -2 * log, rtol=1e-9)
    with pytest.raises(FitError, match="'response', 'pearson', 'deviance'"):
        slopes.residuals("working")


# --- what a model may be written as ---------------------------------------------------------------


def test_weights_are_repeated_rows_and_trials_are_single_ones():
    data = frame()
    weighted = hm.mle(hm.Model("count | weights(w) ~ x + (1 | g)", data, "poisson"))
    repeated = data.loc[data.index.repeat(data["w"].astype(int))].reset_index(drop=True)
    plain = hm.mle(hm.Model("count ~ x + (1 | g)", repeated, "poisson"))
    # two searches of one function
    assert weighted.loglik == pytest.approx(plain.loglik, abs=1e-7)
    np.testing.assert_allclose(weighted.coefficients, plain.coefficients, atol=1e-5)
    np.testing.assert_allclose(weighted.fixef()["se"], plain.fixef()["se"], rtol=1e-4)

    trials = hm.mle(hm.Model("s | trials(size) ~ x + (1 | g)", data, "binomial"))
    single = [row._replace(y=int(k < row.s)) for row in data.itertuples() for k in range(row.size)]
    single = hm.mle(hm.Model("y ~ x + (1 | g)", pd.DataFrame(single), "bernoulli"))
    choices = float(np.sum(np.log(special.comb(data["size"], data["s"]))))
    assert trials.loglik - choices == pytest.approx(single.loglik, abs=1e-7)
    np.testing.assert_allclose(trials.coefficients, single.coefficients, atol=1e-5)
    np.testing.assert_allclose(
        trials.fitted()["estimate"].to_numpy()[0],
        data["size"][0] * single.fitted()["estimate"].to_numpy()[0], rtol=1e-4,
    )  # fmt: skip


def test_an_offset_moves_the_intercept():
    data = frame().assign(o=0.7)
    one = hm.mle(hm.Model("count ~ x + (1 | g)", data, "poisson"))
    two = hm.mle(hm.Model("count ~ x + (1 | g) + offset(o)", data, "poisson"))
    assert two.loglik == pytest.approx(one.loglik, abs=1e-7)
    np.testing.assert_allclose(two.coefficients, one.coefficients - [0.7, 0.0], atol=1e-5)


@pytest.mark.parametrize(("a", "c"), [(1.0, 1e4), (1e6, 0.0), (-1e-3, 5.0)])
def test_a_predictor_in_other_units_is_the_same_model(slopes, a, c):
    data = frame().assign(x=lambda d: a * d.x + c)
    other = hm.mle(hm.Model("y ~ x + h + (x | g)", data, "bernoulli"))
    # x itself is rounded to 1e-12 after adding 1e4
    assert other.loglik == pytest.approx(slopes.loglik, abs=1e-6)
    one, two = slopes.fixef().loc["x"], other.fixef().loc["x"]
    assert two["estimate"] * a == pytest.approx(one["estimate"], rel=1e-4)
    assert two["se"] * abs(a) == pytest.approx(one["se"], rel=1e-3)
    np.testing.assert_allclose(other.fitted()["estimate"], slopes.fitted()["estimate"], rtol=1e-4)


def test_crossed_groups_and_no_groups():
    crossed = hm.mle(hm.Model("y ~ x + (1 | g) + (1 | f)", frame(), "bernoulli"))
    assert crossed.converged
    assert set(crossed.ranef()["group"]) == {"g", "f"}
    plain = hm.mle(hm.Model("y ~ x", frame(), "bernoulli"))
    # the maximum of a logistic regression: the scores vanish
    design = plain.model.design
    score = design.X.T @ (design.y - plain.fitted()["estimate"].to_numpy())
    np.testing.assert_allclose(score, 0.0, atol=1e-3)
    assert plain.df == 2
    with pytest.raises(FitError, match="needs groups"):
        plain.ranef()


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_other_links(link):
    found = hm.mle(hm.Model("y ~ x + (1 | g)", frame(), "bernoulli", link=link))
    assert found.converged
    assert found.loglik == pytest.approx(
        hm.mle(hm.Model("y ~ x + (1 | g)", frame(), "bernoulli")).loglik, abs=3.0
    )


def known(frame):
    labels = sorted(set(frame["g"]))
    distance = np.abs(np.subtract.outer(np.arange(16), np.arange(16)))
    return {"K": pd.DataFrame(0.5**distance, labels, labels)}


def test_each_subpopulation_is_a_model_of_its_own():
    """Without common coefficients subpopulations have nothing in common."""
    data = frame().assign(half=lambda d: np.where(d.g < "g08", "a", "b"))
    whole = hm.mle(hm.Model("y ~ 0 + half + half:x + (x | gr(g, by=half))", data, "bernoulli"))
    parts = [
        hm.mle(hm.Model("y ~ x + (x | g)", own, "bernoulli")) for _, own in data.groupby("half")
    ]
    # three optimisers
    assert whole.loglik == pytest.approx(sum(part.loglik for part in parts), abs=1e-6)
    for k, (half, part) in enumerate(zip("ab", parts, strict=True)):
        np.testing.assert_allclose(whole.coefficients[[k, 2 + k]], part.coefficients, atol=1e-4)
        np.testing.assert_allclose(whole.covariances[0][k], part.covariances[0], atol=1e-3)
        mine, theirs = whole.ranef(), part.ranef()
        mine = mine[mine["level"].isin(theirs["level"])]
        np.testing.assert_allclose(mine["estimate"], theirs["estimate"], atol=1e-3)
        np.testing.assert_allclose(mine["se"], theirs["se"], rtol=1e-3)
        assert f"sd_g[{half}, x]" in whole.summary().index
    assert whole.df == sum(part.df for part in parts)
    ends = whole.intervals("bootstrap", draws=4, seed=1, parameters=("sd_g[b, x]",))
    assert np.isfinite(ends["ci_low"]).all()


def test_a_known_covariance_of_the_identity_is_none():
    data = frame()
    labels = sorted(set(data["g"]))
    identity = {"K": pd.DataFrame(4.0 * np.eye(16), labels, labels)}
    plain = hm.mle(hm.Model("count ~ x + (x | g)", data, "poisson"))
    model = hm.Model("count ~ x + (x | gr(g, cov=K))", data, "poisson", covariances=identity)
    same = hm.mle(model)
    assert same.loglik == pytest.approx(plain.loglik, abs=1e-6)
    # variances are in units of K
    np.testing.assert_allclose(4.0 * same.covariances[0], plain.covariances[0], atol=1e-3)
    np.testing.assert_allclose(same.ranef()["estimate"], plain.ranef()["estimate"], atol=1e-3)
    np.testing.assert_allclose(same.ranef()["se"], plain.ranef()["se"], rtol=1e-3)
    np.testing.assert_allclose(same.fixef()["se"], plain.fixef()["se"], rtol=1e-3)


def test_related_levels_are_estimated():
    data = frame()
    model = hm.Model("count ~ x + (x | gr(g, cov=K)) + (1 | f)", data, "poisson",
                     covariances=known(data))  # fmt: skip
    found = hm.mle(model)
    assert found.converged
    assert len(found.ranef()) == 2 * 16 + 5
    assert np.isfinite(found.ranef()["se"]).all()
    table = found.intervals(parameters=("sd_g[Intercept]",))
    assert table["ci_low"].iloc[0] < table["estimate"].iloc[0] < table["ci_high"].iloc[0]


def test_quadrature_is_better_than_one_node():
    model = hm.Model("y ~ x + (1 | g)", frame(), "bernoulli")
    laplace, one = hm.mle(model, "laplace"), hm.mle(model, "agq", nAGQ=1)
    assert one.loglik == pytest.approx(laplace.loglik, abs=1e-8)
    many, more = hm.mle(model, "agq", nAGQ=15), hm.mle(model, "agq", nAGQ=31)
    assert many.loglik == pytest.approx(more.loglik, abs=1e-5)
    assert 1e-3 < abs(many.loglik - laplace.loglik) < 1.0
    assert "quadrature with 15 nodes" in repr(many)


# --- boundaries and separation --------------------------------------------------------------------


def test_a_variance_of_zero_is_exactly_zero_and_named(caplog):
    # groups that are more alike than chance
    data = frame(seed=3, sd=0.0).assign(f=[f"f{k % 5}" for k in range(240)])
    data["count"] = np.arange(240) // 5 % 3
    with caplog.at_level("INFO", logger="hiermodels"):
        found = hm.mle(hm.Model("count ~ x + (1 | f)", data, "poisson"))
    assert found.singular
    assert found.converged
    assert found.certain
    assert found.vanished == ("the variance of Intercept by f is zero",)
    assert "singular" in caplog.text
    assert (found.ranef()[["estimate", "se"]] == 0.0).all(axis=None)
    # without the group effects it is the regression for all
    plain = hm.mle(hm.Model("count ~ x", data, "poisson"))
    assert found.loglik == pytest.approx(plain.loglik, abs=1e-7)
    np.testing.assert_allclose(found.fixef()["se"], plain.fixef()["se"], rtol=1e-5)


def separated(formula, data, family="bernoulli"):
    with pytest.warns(EstimationWarning, match="is not certain") as caught:
        found = hm.mle(hm.Model(formula, data, family))
    assert not found.converged
    assert not found.certain
    assert found.doubts[0] in str(caught[0].message)
    assert found.doubts[0] in repr(found)
    with pytest.raises(FitError, match="no finite maximum"):
        found.intervals()
    assert np.all(np.isfinite(found.fixef()))
    return found.doubts[0]


def test_complete_separation_is_named():
    text = separated("y ~ x + (1 | g)", frame().assign(y=lambda d: (d.x > 1.0).astype(int)))
    assert text.startswith("separation: the coefficient of x has no finite estimate")
    assert "x → ∞" in text
    assert "Use model.fit()" in text


def test_a_level_without_failures_is_named():
    data = frame()
    data["y"] = np.where(data["h"] == "h2", 1, data["y"])
    text = separated("y ~ x + h + (1 | g)", data)
    assert "the coefficient of h[T.h2]" in text
    assert "h[T.h2] → ∞" in text
    assert f"{(data.h == 'h2').sum()} of 240 rows" in text


def test_counts_of_zero_in_a_level_are_named():
    data = frame()
    data["count"] = np.where(data["h"] == "h1", 0, data["count"])
    text = separated("count ~ x + h + (1 | g)", data, "poisson")
    assert "h[T.h1] → −∞" in text


def test_groups_that_never_vary_are_named():
    data = frame().assign(y=lambda d: d.g.str[1:].astype(int) % 2)
    text = separated("y ~ x + (1 | g)", data)
    assert text.startswith("the sd of Intercept by g grows without end")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "family", "method", "message"),
    [
        ("y ~ x + (1 | g)", "bernoulli", "reml", "is for Gaussian models.*Use method='laplace'"),
        ("x ~ y + (1 | g)", "gaussian", "laplace", "likelihood is exact. Use method='reml' or"),
        ("y ~ x + (1 | g)", "bernoulli", "pql", "'auto', 'reml', 'ml', 'laplace', 'agq'"),
        ("y ~ x + (x | g)", "bernoulli", "agq", "one grouping with one effect.*2 effects"),
        ("y ~ x + (1 | g) + (1 | f)", "bernoulli", "agq", "2 groupings"),
        ("y ~ x", "bernoulli", "agq", "0 groupings"),
        ("y ~ x + (1 | gr(g, by=half))", "bernoulli", "agq", r"independent and alike, without gr"),
        ("y ~ x + (1 | mm(g, f))", "bernoulli", "laplace", r"several levels of mmgf \(mm\(\)\)"),
        ('y ~ x + (1 | gr(g, dist="student"))', "bernoulli", "laplace", "Student effects"),
    ],
)
def test_what_cannot_be_computed_is_refused(formula, family, method, message):
    model = hm.Model(
        formula, frame().assign(half=lambda d: np.where(d.g < "g08", "a", "b")), family
    )
    with pytest.raises(EngineError, match=message):
        hm.mle(model, method)


def test_least_squares_of_other_families_are_refused(slopes):
    for function in (no_pooling, complete_pooling):
        with pytest.raises(FitError, match=r"for Gaussian models.*bernoulli"):
            function(slopes)


def test_auto_takes_the_method_of_the_family():
    assert hm.mle(hm.Model("x ~ y + (1 | g)", frame())).method == "reml"
    assert hm.mle(hm.Model("y ~ x + (1 | g)", frame(), "bernoulli")).method == "laplace"


# --- intervals and likelihood ratios --------------------------------------------------------------


def test_profile_intervals_end_where_the_likelihood_has_fallen():
    model = hm.Model("count ~ x + (1 | g)", frame(), "poisson")
    found = hm.mle(model)
    table = found.intervals(parameters=("sd_g[Intercept]", "b[x]"))
    assert (table["ci_low"] < table["estimate"]).all()
    assert (table["ci_high"] > table["estimate"]).all()
    # the slope held at its end: as an offset, without a coefficient
    for end in ("ci_low", "ci_high"):
        held = frame().assign(o=lambda d, b=table.loc["b[x]", end]: b * d.x)
        other = hm.mle(hm.Model("count ~ 1 + (1 | g) + offset(o)", held, "poisson"))
        # half the 95 % quantile of chi-squared with one degree of freedom
        assert found.loglik - other.loglik == pytest.approx(1.9207, abs=2e-3)
    with pytest.raises(FitError, match="got parameter 'x'"):
        found.intervals(parameters=("x",))
    with pytest.raises(FitError, match="'profile' or 'bootstrap'"):
        found.intervals("wald")


def test_a_bootstrap_simulates_from_the_estimate():
    found = hm.mle(hm.Model("count ~ x + (1 | g)", frame(), "poisson"))
    names = ("sd_g[Intercept]", "b[x]")
    one = found.intervals("bootstrap", parameters=names, draws=40, seed=1)
    assert one.equals(found.intervals("bootstrap", parameters=names, draws=40, seed=1))
    assert one.attrs["draws"] + one.attrs["failed"] == 40
    profile = found.intervals(parameters=names)
    width = profile["ci_high"] - profile["ci_low"]
    # quantiles of 40 draws: a third of the width
    assert (abs(one["ci_low"] - profile["ci_low"]) < 0.34 * width).all()
    assert (abs(one["ci_high"] - profile["ci_high"]) < 0.34 * width).all()
    weighted = hm.mle(hm.Model("count | weights(w) ~ x + (1 | g)", frame(), "poisson"))
    with pytest.raises(FitError, match="no distribution to simulate from"):
        weighted.intervals("bootstrap")


def test_likelihood_ratios():
    data = frame()

    def fit(formula, method="laplace", family="bernoulli", **more):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimationWarning)
            return hm.mle(hm.Model(formula, data, family), method, **more)

    small, large = fit("y ~ x + (1 | g)"), fit("y ~ x + h + (1 | g)")
    table = hm.lrt(large, small)
    assert table["df"].tolist() == [3, 5]
    assert table["chisq"].iloc[1] == pytest.approx(2 * (large.loglik - small.loglik))
    assert table.attrs["note"] == ""
    variances = hm.lrt(fit("y ~ x"), small)
    assert "by the half-and-half mixture" in variances.attrs["note"]
    with pytest.raises(FitError, match="approximated in different ways"):
        hm.lrt(fit("y ~ 1 + (1 | g)", "agq"), small)
    with pytest.raises(FitError, match="approximated in different ways"):
        hm.lrt(fit("y ~ 1 + (1 | g)", "agq", nAGQ=3), fit("y ~ x + (1 | g)", "agq", nAGQ=5))
    other = hm.mle(hm.Model("y ~ 1 + (1 | g)", data, "bernoulli", link="probit"))
    with pytest.raises(FitError, match=r"families differ.*probit"):
        hm.lrt(other, small)

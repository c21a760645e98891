"""REML and maximum likelihood: against dense formulas, under changes of units, and what they say.

Agreement with R is in tests/reference/test_mixed_models.py.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import hiermodels as hm
from hiermodels.answers.regressions import complete_pooling, no_pooling
from hiermodels.engines.likelihood_problem import estimation_problem
from hiermodels.engines.optimise import maximise
from hiermodels.engines.profiling import evaluate
from hiermodels.errors import EngineError

pytestmark = pytest.mark.filterwarnings("error")


def frame(seed=1, n=60, groups=8):
    rng = np.random.default_rng(seed)
    g = np.r_[np.arange(groups), rng.integers(0, groups, n - groups)]
    x = rng.normal(2.0, 1.0, n)
    f = np.r_[0, 1, 2, rng.integers(0, 3, n - 3)]
    b = rng.normal(0, [1.0, 0.6], (groups, 2))
    y = 3.0 + 0.5 * x + b[g, 0] + b[g, 1] * x + rng.normal(0, 0.5, n)
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "z": rng.normal(0, 1, n),
            "g": [f"g{k}" for k in g],
            "top": [f"t{k // 3}" for k in g],
            "f": [f"f{k}" for k in f],
            "w": rng.uniform(0.5, 3.0, n),
            "s": rng.choice([0.2, 0.4, 0.7], n),
            "t": pd.Series(g).groupby(g).cumcount().to_numpy(),
        }
    )


SHAPES = {
    "intercept": "y ~ x + (1 | g)",
    "slope": "y ~ x + (x | g)",
    "uncorrelated": "y ~ x + (x || g)",
    "two bars": "y ~ x + (x | g) + (0 + z | g)",
    "factor": "y ~ x + (f | g)",
    "nested": "y ~ x + (x | g) + (1 | top)",
    "crossed": "y ~ x + (x | g) + (1 | f)",
    "nested and crossed": "y ~ x + z + (1 | g) + (1 | top) + (z | f)",
    "no coefficient": "y ~ 0 + (1 | g)",
    "precision": "y | precision(w) ~ x + (x | g)",
    "se": "y | se(s) ~ x + (x | g)",
    "se and sigma": "y | se(s, sigma=True) ~ x + (x | g)",
    "strata": ["y ~ x + (x | g)", "sigma ~ 0 + f"],
    "log-linear": ["y ~ x + (1 | g)", "sigma ~ z"],
    "ar": "y ~ x + (1 | g) + ar(t, g)",
    "cosy": "y ~ x + (0 + x | g) + cosy(g)",
    "no group": "y ~ x + z",
}
# A log-linear sd has a class of its own for each row: few rows.
FEW = {"log-linear"}


def model_of(shape, data=None):
    data = frame(n=40 if shape in FEW else 60) if data is None else data
    return hm.Model(SHAPES[shape], data)


def residual_covariance(estimate):
    """Dense R at the estimate, from the published parameters alone."""
    design, values = estimate.model.design, estimate.residual
    data, n = design.data, design.n
    text = str(estimate.model.formula)
    sd = np.ones(n)
    if "sigma ~ z" in text:
        sd = np.exp(values["sigma_Intercept"] + values["sigma_b"][0] * data["z"].to_numpy())
    elif np.ndim(values.get("sigma", 0.0)) == 1:
        labels = list(design.residual.sigma.labels)
        sd = values["sigma"][[labels.index(v) for v in data["f"]]]
    elif "sigma" in values:
        sd = np.full(n, float(values["sigma"]))
    correlation = np.eye(n)
    same = design.groups[0].index[:, None] == design.groups[0].index if design.groups else None
    if "ar" in values:
        t = data["t"].to_numpy()
        correlation = np.where(same, values["ar"] ** np.abs(t[:, None] - t), 0.0)
    if "cosy" in values:
        correlation = np.where(same, values["cosy"], 0.0) + (1 - values["cosy"]) * np.eye(n)
    if design.precision is not None:
        sd = sd / np.sqrt(design.precision)
    if design.se is not None:
        sd = np.sqrt(design.se**2 + (sd**2 if "sigma" in values else 0.0))
    return correlation * np.outer(sd, sd)


def dense(estimate):
    """Log likelihood, GLS coefficients and covariance, group effects and their sds, all dense."""
    design = estimate.model.design
    n, X = design.n, design.X
    R = residual_covariance(estimate)
    blocks, covariances = [], []
    for group in design.groups:
        for k in group.terms:
            term = design.terms[k]
            Z = np.zeros((n, len(term.levels), len(term.coefs)))
            Z[np.arange(n), term.index] = term.z
            blocks.append(Z.reshape(n, -1))
            covariances.append(np.kron(np.eye(len(term.levels)), estimate.covariances[k]))
    Z = np.concatenate([np.zeros((n, 0)), *blocks], axis=1)
    G = np.zeros((Z.shape[1], Z.shape[1]))
    at = 0
    for block in covariances:
        G[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    V = Z @ G @ Z.T + R
    P = np.linalg.inv(V)
    C = np.linalg.inv(X.T @ P @ X) if X.shape[1] else np.zeros((0, 0))
    beta = C @ X.T @ P @ design.y
    left = design.y - X @ beta
    log = np.linalg.slogdet(V)[1] + left @ P @ left
    m = n
    if estimate.method == "reml":
        m = n - X.shape[1]
        log += np.linalg.slogdet(X.T @ P @ X)[1] if X.shape[1] else 0.0
    modes = G @ Z.T @ P @ left
    given = G - G @ Z.T @ P @ Z @ G
    gain = np.concatenate([C @ X.T @ P, G @ Z.T @ P @ (np.eye(n) - X @ C @ X.T @ P)])
    joint = given + G @ Z.T @ P @ X @ C @ X.T @ P @ Z @ G
    cross = -C @ X.T @ P @ Z @ G
    del gain
    return -0.5 * (m * np.log(2 * np.pi) + log), beta, C, modes, given, joint, cross


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("shape", SHAPES)
def test_everything_equals_the_dense_formulas(shape, method):
    found = hm.mle(model_of(shape), method)
    loglik, beta, C, modes, given, joint, cross = dense(found)
    # both compute the same numbers by other ways: rounding alone
    assert found.loglik == pytest.approx(loglik, abs=1e-7)
    np.testing.assert_allclose(found.coefficients, beta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.vcov, C, rtol=1e-7, atol=1e-11)
    design = found.model.design
    if not design.groups:
        return
    table = found.ranef()
    at = 0
    for group in design.groups:
        for k in group.terms:
            term = design.terms[k]
            size = len(term.levels) * len(term.coefs)
            for b, name in enumerate(term.coefs):
                rows = table[(table.group == group.name) & (table.effect == name)]
                own = at + np.arange(len(term.levels)) * len(term.coefs) + b
                # the root of a variance that may be a rounding error of zero
                np.testing.assert_allclose(rows["estimate"], modes[own], rtol=1e-6, atol=1e-8)
                np.testing.assert_allclose(
                    rows["se"], np.sqrt(np.maximum(np.diag(given)[own], 0)), rtol=1e-6, atol=2e-7
                )
                whole = found.coef()
                whole = whole[(whole.group == group.name) & (whole.effect == name)]
                variance = np.diag(joint)[own]
                if name in design.coefs:
                    j = design.coefs.index(name)
                    variance = variance + 2 * cross[j, own] + C[j, j]
                np.testing.assert_allclose(whole["se"] ** 2, variance, rtol=1e-6, atol=1e-9)
            at += size


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_that_of_differences(shape, reml):
    model = model_of(shape)
    problem = estimation_problem(model.design, model.resolved, reml)
    x = np.random.default_rng(3).normal(0.4, 0.3, problem.ndim)
    for log_scale in (None, -0.3):
        point = evaluate(problem, x, log_scale=log_scale)
        for k in range(problem.ndim):
            step = 1e-5 * np.eye(problem.ndim)[k]
            ends = [
                evaluate(problem, x + sign * step, log_scale=log_scale).loglik for sign in (1, -1)
            ]
            # central differences of a value near 100: half of its digits
            assert point.gradient[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=2e-5)
    if problem.along is not None:
        ends = [evaluate(problem, x, log_scale=-0.3 + h).loglik for h in (1e-5, -1e-5)]
        assert point.gradient[-1] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=2e-5)


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_no_point_nearby_is_better(seed):
    model = hm.Model(SHAPES["crossed"], frame(seed))
    problem = estimation_problem(model.design, model.resolved, True)
    best = hm.mle(model).optimum
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-1, 1.0):
        x = np.maximum(best.x + rng.normal(0, size, problem.ndim), problem.bounds[0])
        assert evaluate(problem, x).loglik <= best.value + 1e-8


# --- units ----------------------------------------------------------------------------------------

CHANGES = [(1.0, 1e6), (1e6, 0.0), (1e-6, 0.0), (-1e3, 1e6)]


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize(("a", "c"), CHANGES)
@pytest.mark.parametrize("shape", ["slope", "nested", "ar"])
def test_a_response_in_other_units_gives_the_same_answers(shape, a, c, method):
    data = frame()
    one = hm.mle(model_of(shape, data), method)
    two = hm.mle(model_of(shape, data.assign(y=a * data.y + c)), method)
    m = one.nobs - (len(one.coefficients) if method == "reml" else 0)
    # y itself is rounded to 1e-10 after adding 1e6
    assert two.loglik == pytest.approx(one.loglik - m * np.log(abs(a)), abs=1e-6)
    np.testing.assert_allclose(two.varcorr()["sd"], abs(a) * one.varcorr()["sd"], rtol=1e-5)
    np.testing.assert_allclose(
        two.fixef()["estimate"] - [c, 0.0], a * one.fixef()["estimate"], rtol=1e-6,
        atol=1e-9 * abs(c),
    )  # fmt: skip
    np.testing.assert_allclose(two.fixef()["se"], abs(a) * one.fixef()["se"], rtol=1e-5)
    np.testing.assert_allclose(
        two.ranef()["estimate"], a * one.ranef()["estimate"], rtol=1e-5, atol=1e-6 * abs(a)
    )


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize(("a", "c"), CHANGES)
@pytest.mark.parametrize("shape", ["slope", "nested", "ar"])
def test_a_predictor_in_other_units_gives_the_same_answers(shape, a, c, method):
    data = frame()
    one = hm.mle(model_of(shape, data), method)
    two = hm.mle(model_of(shape, data.assign(x=a * data.x + c)), method)
    shift = -np.log(abs(a)) if method == "reml" else 0.0
    # x itself is rounded to 1e-10 after adding 1e6
    assert two.loglik == pytest.approx(one.loglik + shift, abs=1e-6)
    slope = one.fixef().loc["x"] / a
    assert two.fixef().loc["x", "estimate"] == pytest.approx(slope["estimate"], rel=1e-6)
    assert two.fixef().loc["x", "se"] == pytest.approx(abs(slope["se"]), rel=1e-5)
    np.testing.assert_allclose(two.fitted()["estimate"], one.fitted()["estimate"], rtol=1e-6)
    residual = two.varcorr().iloc[-1]["sd"]
    assert residual == pytest.approx(one.varcorr().iloc[-1]["sd"], rel=1e-5)
    at = [coef == "x" for coef in one.varcorr()["effect"]]
    np.testing.assert_allclose(two.varcorr()["sd"][at], one.varcorr()["sd"][at] / abs(a), rtol=1e-5)


def test_coding_a_factor_otherwise_is_the_same_model():
    one = hm.mle(model_of("factor"), "ml")
    two = hm.mle(hm.Model("y ~ x + (0 + f | g)", frame()), "ml")
    # two searches of one likelihood
    assert two.loglik == pytest.approx(one.loglik, abs=1e-7)


# --- boundaries, and what is not certain ----------------------------------------------------------


def test_a_variance_of_zero_is_exactly_zero_and_named(caplog):
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff2"))
    with caplog.at_level("INFO", logger="hiermodels"):
        found = hm.mle(model)
    assert found.converged
    assert found.certain
    assert found.singular
    assert found.vanished == ("the variance of Intercept by Batch is zero",)
    assert "singular" in caplog.text
    assert found.varcorr().loc[0, "variance"] == 0.0
    assert (found.ranef()[["estimate", "se"]] == 0.0).all(axis=None)
    assert "Singular: the variance of Intercept by Batch is zero." in repr(found)


def test_a_perfect_correlation_says_where_the_groups_meet():
    # lines through one point at x = 2: Intercept + 2 x is the same in every group
    data = frame()
    rng = np.random.default_rng(5)
    slopes = dict(zip(sorted(set(data.g)), rng.normal(0, 2.0, 8), strict=True))
    data["y"] = 1.0 + data.g.map(slopes) * (data.x - 2.0) + 0.3 * rng.normal(size=len(data))
    found = hm.mle(hm.Model("y ~ x + (x | g)", data))
    assert found.converged
    if not found.singular:
        pytest.fail("the correlation was expected to be -1")
    assert found.vanished[0].startswith("Intercept and x by g have correlation -1: Intercept + ")
    assert found.correlations()["estimate"].tolist() == [-1.0]
    meets = float(found.vanished[0].split(" + ")[1].split("·")[0])
    assert meets == pytest.approx(2.0, abs=0.3)


def test_a_regular_fit_says_nothing_of_the_kind():
    found = hm.mle(model_of("slope"))
    assert (found.singular, found.converged, found.certain) == (False, True, True)
    assert "Singular" not in repr(found)
    assert "z and intervals are normal ones" in repr(found)


def quadratic(x):
    return -float(x @ x), -2 * x


def test_a_search_of_two_hills_does_not_call_itself_certain():
    def hills(x):
        # maxima near 1 and near 10
        a, b = np.exp(-((x[0] - 1) ** 2)), 2 * np.exp(-((x[0] - 10) ** 2))
        return a + b, np.array([-2 * (x[0] - 1) * a - 2 * (x[0] - 10) * b])

    limits = np.array([0.0]), np.array([np.inf])
    found = maximise(hills, [np.array([0.5]), np.array([9.5])], *limits, np.array([], int))
    assert found.value == pytest.approx(2.0)
    assert found.stationary
    assert "different starts end at different" in found.doubts[0]


def test_a_better_place_than_where_the_starts_met_is_said_with_both_values():
    def dip(x):
        # both starts end in the saddle at 0; the curvature there leads to 0.25
        return x[0] ** 2 - x[0] ** 4, np.array([2 * x[0] - 4 * x[0] ** 3])

    limits = np.array([-np.inf]), np.array([np.inf])
    found = maximise(dip, [np.zeros(1), np.zeros(1)], *limits, np.array([], int))
    assert found.value == pytest.approx(0.25)
    assert found.doubts == (
        "the searches met at a log likelihood of 0.0000, but a better one, 0.2500, lay beyond it, "
        "which only one search has seen",
    )


def test_mle_of_something_else_says_what_it_takes():
    with pytest.raises(EngineError, match=r"takes a model, such as .* got str"):
        hm.mle("y ~ x")


def test_a_flat_direction_is_said():
    def ridge(x):
        return -((x[0] + x[1] - 1) ** 2), np.full(2, -2 * (x[0] + x[1] - 1))

    limits = np.full(2, -np.inf), np.full(2, np.inf)
    found = maximise(ridge, [np.zeros(2), np.ones(2)], *limits, np.array([], int))
    assert found.stationary
    assert not found.curved
    assert "flat in some direction" in " ".join(found.doubts)


def test_a_saddle_is_left():
    def saddle(x):
        # the starts lie where the slope by x[1] is zero, but the function grows that way
        return x[1] ** 2 - x[1] ** 4 - x[0] ** 2, np.array([-2 * x[0], 2 * x[1] - 4 * x[1] ** 3])

    limits = np.full(2, -np.inf), np.full(2, np.inf)
    starts = [np.array([1.0, 0.0]), np.array([2.0, 0.0])]
    found = maximise(saddle, starts, *limits, np.array([], int))
    assert found.value == pytest.approx(0.25)
    assert found.stationary
    assert found.curved


def test_an_optimum_held_by_a_bound_is_stationary():
    found = maximise(
        lambda x: quadratic(x + 1), [np.ones(1), np.full(1, 0.2)], np.zeros(1),
        np.full(1, np.inf), np.array([0]),
    )  # fmt: skip
    assert found.x[0] == 0.0
    assert found.stationary
    assert not found.doubts


def test_what_is_not_identified_warns():
    # three variance parameters, of which groups with two values of a group's x give two
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(12), 6)
    x = (g % 2).astype(float)
    y = rng.normal(size=72) + rng.normal(size=12)[g] * (1 + x)
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    with pytest.warns(hm.EstimationWarning, match="not certain"):
        found = hm.mle(hm.Model("y ~ x + (x | g)", data))
    assert not found.certain
    assert "Not certain" in repr(found)


# --- tables ---------------------------------------------------------------------------------------


def test_tables_have_the_columns_of_the_documentation():
    found = hm.mle(model_of("nested"))
    assert found.fixef().columns.tolist() == ["estimate", "se", "z", "ci_low", "ci_high"]
    assert found.fixef().index.tolist() == ["Intercept", "x"]
    rows = ["group", "effect", "level", "estimate", "se", "ci_low", "ci_high"]
    assert found.ranef().columns.tolist() == rows
    assert found.coef().columns.tolist() == rows
    assert found.varcorr().columns.tolist() == ["group", "effect", "variance", "sd", "var_prop"]
    assert found.varcorr()["var_prop"].sum() == pytest.approx(1.0)
    assert found.correlations().columns.tolist() == ["group", "effect1", "effect2", "estimate"]
    names = [
        "Intercept", "b[x]", "sd_g[Intercept]", "sd_g[x]", "sd_top[Intercept]",
        "cor_g[x, Intercept]", "sigma",
    ]  # fmt: skip
    assert found.summary().index.tolist() == names
    assert found.residuals().to_numpy() == pytest.approx(
        found.model.design.y - found.fitted()["estimate"].to_numpy()
    )
    half = stats.norm.ppf(0.9)
    row = found.fixef(prob=0.8).loc["x"]
    assert row["ci_high"] == pytest.approx(row["estimate"] + half * row["se"])


def test_criteria_count_all_parameters():
    found = hm.mle(model_of("nested"), "ml")
    assert found.df == 2 + 3 + 1 + 1
    assert found.aic == pytest.approx(-2 * found.loglik + 14)
    assert found.aicc == pytest.approx(found.aic + 2 * 7 * 8 / (60 - 8))
    assert found.bic == pytest.approx(-2 * found.loglik + 7 * np.log(60))


def test_weights_multiply_the_likelihood():
    # every row twice, or every weight two
    data = frame()
    one = hm.mle(hm.Model("y | weights(w) ~ x", data.assign(w=2.0)), "ml")
    two = hm.mle(hm.Model("y ~ x", pd.concat([data, data])), "ml")
    assert one.loglik == pytest.approx(two.loglik, abs=1e-8)
    assert one.fixef().loc["x", "se"] == pytest.approx(two.fixef().loc["x", "se"], rel=1e-9)


def test_precision_is_a_variance_divided():
    # lme4's weights: a mean of w rows has variance sigma^2 / w
    data = frame()
    one = hm.mle(hm.Model("y | precision(w) ~ x + (1 | g)", data))
    two = hm.mle(hm.Model("y | precision(w) ~ x + (1 | g)", data.assign(w=4 * data.w)))
    assert two.sigma == pytest.approx(2 * one.sigma, rel=1e-6)
    assert two.loglik == pytest.approx(one.loglik, abs=1e-8)


def test_priors_play_no_part():
    data = frame()
    plain = model_of("ar", data)
    narrow = plain.with_priors({"ar": "Uniform(-0.01, 0.01)", "b": "Normal(0, 0.001)"})
    assert hm.mle(narrow).loglik == pytest.approx(hm.mle(plain).loglik, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: hm.mle(model_of("slope"), "laplace"), "Use method='reml' or 'ml'"),
        (
            lambda: hm.mle(model_of("slope"), "lpalace"),
            "allowed are 'auto', 'reml'",
        ),
        (lambda: hm.mle(hm.Model("y ~ x", frame()[:2])), "leaves nothing"),
        (
            lambda: hm.mle(hm.Model("y ~ x + (1 | g)", frame().assign(y=lambda d: 2 * d.x + 1))),
            "gives the response 'y' exactly",
        ),
        (
            lambda: hm.mle(hm.Model("y | se(s) ~ x + (1 | g)", frame().assign(s=1e-6))),
            "known standard errors far below",
        ),
        (lambda: hm.mle(model_of("no group")).ranef(), r"ranef\(\) needs groups"),
        (lambda: hm.mle(model_of("no group")).coef(), r"coef\(\) needs groups"),
        (lambda: hm.mle(model_of("slope")).intervals("wald"), "'profile' or 'bootstrap'"),
        (
            lambda: hm.mle(model_of("slope")).intervals(parameters=("sd_h",)),
            "got parameter 'sd_h'; the model's are sd_g",
        ),
        (
            lambda: hm.mle(hm.Model("y | weights(w) ~ x + (1 | g)", frame())).intervals(
                "bootstrap"
            ),
            "no distribution to simulate",
        ),
    ],
)
def test_errors_say_what_is_allowed(call, match):
    with pytest.raises(hm.HierModelsError, match=match):
        call()


# --- intervals ------------------------------------------------------------------------------------


def test_a_profile_interval_ends_where_the_likelihood_has_fallen():
    # one variance only: the profile can be walked by hand
    found = hm.mle(model_of("intercept"), "ml")
    ends = found.intervals(parameters=("sd_g[Intercept]",)).iloc[0]
    design = found.model.design
    Z = (design.groups[0].index[:, None] == np.arange(8)).astype(float)
    X = design.X

    def profile(sd):
        def minus(log_sigma):
            V = sd**2 * Z @ Z.T + np.exp(2 * log_sigma) * np.eye(60)
            P = np.linalg.inv(V)
            left = design.y - X @ np.linalg.solve(X.T @ P @ X, X.T @ P @ design.y)
            return 0.5 * (60 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + left @ P @ left)

        from scipy.optimize import minimize_scalar

        return -minimize_scalar(minus, bounds=(-5, 3), method="bounded").fun

    for end in (ends["ci_low"], ends["ci_high"]):
        fall = 2 * (found.loglik - profile(end))
        # the search ends within 1e-6 of the sd's logarithm
        assert fall == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-3)


@pytest.mark.parametrize("shape", ["two bars", "strata", "ar", "se", "se and sigma", "cosy"])
def test_profile_intervals_hold_the_estimate(shape):
    table = hm.mle(model_of(shape)).intervals(prob=0.5)
    # a vanished component has its estimate at an end
    assert (table["ci_low"] <= table["estimate"] + 1e-6).all()
    assert (table["ci_high"] >= table["estimate"] - 1e-6).all()
    assert (table["ci_high"] > table["ci_low"]).all()


def test_a_bound_that_the_likelihood_reaches_is_the_end():
    found = hm.mle(hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff2")))
    ends = found.intervals().loc["sd_Batch[Intercept]"]
    assert ends["ci_low"] == 0.0
    assert 0.5 < ends["ci_high"] < 10.0


def test_the_bootstrap_can_be_repeated_and_is_about_the_profile():
    found = hm.mle(model_of("slope"))
    one = found.intervals("bootstrap", draws=60, seed=1)
    assert one.equals(found.intervals("bootstrap", draws=60, seed=1))
    assert not one.equals(found.intervals("bootstrap", draws=60, seed=2))
    assert one.attrs["failed"] == 0
    profile = found.intervals()
    # 60 draws: quantiles to within a third of the interval
    width = (profile["ci_high"] - profile["ci_low"]).loc["sigma"]
    assert abs(one.loc["sigma", "ci_low"] - profile.loc["sigma", "ci_low"]) < width / 3
    assert abs(one.loc["sigma", "ci_high"] - profile.loc["sigma", "ci_high"]) < width / 3


@pytest.mark.parametrize("shape", ["ar", "cosy", "strata", "precision", "se and sigma"])
def test_simulated_residuals_have_the_covariance_of_the_estimate(shape):
    from hiermodels.fitting.intervals import residual_simulator

    found = hm.mle(model_of(shape))
    x = found.optimum.x
    draw = residual_simulator(
        found.problem, found.model.design, x, evaluate(found.problem, x).scale
    )
    rng = np.random.default_rng(4)
    draws = np.array([draw(rng) for _ in range(4000)])
    R = residual_covariance(found)
    error = np.cov(draws.T) - R
    unit = np.sqrt(np.outer(np.diag(R), np.diag(R)))
    # 1,800 different entries of a sample covariance: five standard errors
    assert np.abs(error / unit).max() < 5 * np.sqrt(2 / 4000)


# --- comparisons ----------------------------------------------------------------------------------


def ml(formula, data=None, method="ml"):
    return hm.mle(hm.Model(formula, frame() if data is None else data), method)


def test_a_likelihood_ratio_is_that_of_the_log_likelihoods():
    one, two = ml("y ~ x + (1 | g)"), ml("y ~ x + (x | g)")
    for table in (hm.lrt(one, two), hm.lrt(two, one)):
        assert table["df"].tolist() == [4, 6]
        row = table.iloc[1]
        assert row["chisq"] == pytest.approx(2 * (two.loglik - one.loglik))
        assert row["p"] == pytest.approx(stats.chi2.sf(row["chisq"], 2))
        assert "p is too large" in table.attrs["note"]


def test_one_variance_has_its_mixture():
    table = hm.lrt(ml("y ~ x"), ml("y ~ x + (1 | g)"))
    half = stats.chi2.sf(table.loc[1, "chisq"], 1) / 2
    assert f"{half:.3g}" in table.attrs["note"]


NESTED = [
    ("y ~ x + (1 | g)", "y ~ x + z + (1 | g)"),
    ("y ~ x + (x || g)", "y ~ x + (x | g)"),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | top)"),
    ("y ~ x + (1 | g)", "y ~ x + (f | g)"),
    ("y ~ x + (1 | g)", "y ~ x + (0 + f | g)"),
    ("y ~ x + (1 | g)", ["y ~ x + (1 | g)", "sigma ~ 0 + f"]),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + ar(t, g)"),
    ("y ~ I(2 * x + 1) + (1 | g)", "y ~ x + (x | g)"),
]


@pytest.mark.parametrize(("small", "large"), NESTED)
def test_nested_models_are_compared(small, large):
    table = hm.lrt(ml(small), ml(large))
    assert table.loc[1, "chisq"] >= 0


@pytest.mark.parametrize(
    ("one", "two", "match"),
    [
        (lambda: ml("y ~ x + (1 | g)"), lambda: ml("y ~ z + (x | g)"), "population part"),
        (lambda: ml("y ~ x + (1 | g)"), lambda: ml("y ~ x + (z | f)"), "effects by g"),
        (lambda: ml("y ~ x + (1 | g)"), lambda: ml("y ~ x + (0 + x | g)"), "not nested"),
        (
            lambda: ml("y ~ x + (x | g)"),
            lambda: ml("y ~ x + z + f + (diag(x) | g)"),
            "effects by g",
        ),
        (lambda: ml("y ~ x + (1 | g)"), lambda: ml("y ~ x + (1 | g)", frame()[:50]), "60 and 50"),
        (
            lambda: ml("y ~ x + (1 | g)"),
            lambda: ml("y ~ x + (x | g)", frame().assign(y=lambda d: d.y + 1)),
            r"responses differ \(both are called y, but values",
        ),
        (
            lambda: ml("y ~ x + (1 | g)"),
            lambda: ml("log(e) ~ x + (x | g)", frame().assign(e=lambda d: np.exp(d.y))),
            r"responses differ \(y and log\(e\)\)",
        ),
        (
            lambda: ml("y ~ x + (1 | g)", method="reml"),
            lambda: ml("y ~ x + (x | g)"),
            "one estimate is REML",
        ),
        (
            lambda: ml("y ~ x + (1 | g)", method="reml"),
            lambda: ml("y ~ x + z + (1 | g)", method="reml"),
            "different population parts",
        ),
        (
            lambda: ml("y ~ I(2 * x) + (1 | g)", method="reml"),
            lambda: ml("y ~ x + (x | g)", method="reml"),
            "units and coding",
        ),
        (
            lambda: ml("y ~ x + (1 | g)"),
            lambda: ml("y | precision(w) ~ x + (x | g)"),
            r"differ in precision\(\)",
        ),
        (
            lambda: ml(["y ~ x", "sigma ~ 0 + f"]),
            lambda: ml("y ~ x + z + (x | g)"),
            "residual sd varies",
        ),
        (
            lambda: ml("y ~ x + ar(t, g)"),
            lambda: ml("y ~ x + (0 + x | g) + cosy(g)"),
            "residual structure",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(one, two, match):
    with pytest.raises(hm.HierModelsError, match=match):
        hm.lrt(one(), two())


def test_a_reml_comparison_of_variances_is_allowed():
    table = hm.lrt(ml("y ~ x + (1 | g)", method="reml"), ml("y ~ x + (x | g)", method="reml"))
    assert table.attrs["method"] == "reml"


# --- rivals ---------------------------------------------------------------------------------------


def test_groups_with_too_few_rows_are_marked_not_dropped():
    data = frame()
    data = data[(data.g != "g0") | (data.t == 0)]
    table = no_pooling(hm.mle(hm.Model("y ~ x + (x | g)", data)))
    assert len(table) == 16
    alone = table[table.level == "g0"]
    assert alone["reason"].tolist() == ["1 row for 2 effects"] * 2
    assert alone[["estimate", "se"]].isna().all(axis=None)
    assert table[table.level != "g0"]["reason"].isna().all()


def test_no_pooling_is_a_regression_for_each_group():
    data = frame()
    table = no_pooling(hm.mle(hm.Model("y ~ x + (x | g)", data))).set_index(["level", "effect"])
    for level, rows in data.groupby("g"):
        X = np.column_stack([np.ones(len(rows)), rows.x])
        beta, rss, *_ = np.linalg.lstsq(X, rows.y)
        sigma = np.sqrt(rss[0] / (len(rows) - 2))
        se = sigma * np.sqrt(np.diag(np.linalg.inv(X.T @ X)))
        # the same least squares by other ways
        np.testing.assert_allclose(table.loc[level]["estimate"], beta, rtol=1e-8)
        np.testing.assert_allclose(table.loc[level]["se"], se, rtol=1e-8)


def test_complete_pooling_ignores_the_groups():
    data = frame()
    table = complete_pooling(hm.mle(hm.Model("y ~ x + (x | g)", data)))
    plain = hm.mle(hm.Model("y ~ x", data))
    np.testing.assert_allclose(table["estimate"], plain.fixef()["estimate"], rtol=1e-9)
    np.testing.assert_allclose(table["se"], plain.fixef()["se"], rtol=1e-9)
    assert table.attrs["sigma"] == pytest.approx(plain.sigma)

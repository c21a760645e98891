"""Priors as numbers: defaults by hand, the user's, and what is and is not invariant, exactly.

A resolved prior is a distribution: coefficients are ``T @ gamma`` with gamma independent normal.
Invariance is tested on the mean and covariance that it gives to the linear predictor at the data.
"""

import numpy as np
import pandas as pd
import pytest

from hiermodels.library.datasets import load_dataset
from hiermodels.spec.design import build_design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors

# exact identities in float64; offsets below leave twelve digits or more
EXACT = 1e-8


def resolve(formula, data, family="gaussian", priors=None, link=None):
    chosen = Family(family, link or "")
    design = build_design(parse_formula(formula), data, chosen)
    return design, resolve_priors(design, chosen, priors)


def normal(prior):
    assert prior.name == "Normal"
    return dict(prior.arguments)


def half_t(prior):
    assert prior.name == "HalfStudentT"
    assert dict(prior.arguments)["nu"] == 3
    return dict(prior.arguments)["sigma"]


def implied(design, resolved):
    """Return mean and covariance of the linear predictor at the data rows under the prior."""
    mean = np.array([normal(prior)["mu"] for prior in resolved.coef])
    sd = np.array([normal(prior)["sigma"] for prior in resolved.coef])
    root = design.X @ resolved.T * sd
    return design.X @ resolved.T @ mean, root @ root.T


def bar_scales(resolved, k=0):
    """Return what the priors of a bar's sds say of its part of the predictor: |z| scale (n, q)."""
    term = resolved.terms[k]
    return np.abs(term.z) * np.array([half_t(prior) for prior in term.sd])


# --- defaults by hand -----------------------------------------------------------------------


def test_sleepstudy_by_hand():
    data = load_dataset("sleepstudy")
    design, resolved = resolve("Reaction ~ Days + (Days | Subject)", data)
    sd_y = data["Reaction"].std(ddof=1)
    sd_x = data["Days"].std(ddof=1)
    assert normal(resolved.coef[0]) == pytest.approx(
        {"mu": data["Reaction"].mean(), "sigma": 2.5 * sd_y}
    )
    assert normal(resolved.coef[1]) == pytest.approx({"mu": 0, "sigma": 2.5 * sd_y / sd_x})
    assert half_t(resolved.terms[0].sd[0]) == pytest.approx(sd_y)
    assert half_t(resolved.terms[0].sd[1]) == pytest.approx(sd_y / sd_x)
    assert resolved.terms[0].cor == Prior("LKJ", 2)
    assert half_t(resolved.sigma) == pytest.approx(sd_y)
    np.testing.assert_allclose(resolved.T, [[1, -4.5], [0, 1]])
    np.testing.assert_allclose(resolved.terms[0].T, [[1, -4.5], [0, 1]])
    # the digits that the table prints
    assert resolved.table["prior"].tolist() == [
        "Normal(mu=298.5, sigma=140.8)",
        "Normal(mu=0, sigma=48.89)",
        "HalfStudentT(nu=3, sigma=56.33)",
        "HalfStudentT(nu=3, sigma=19.56)",
        "LKJ(eta=2)",
        "HalfStudentT(nu=3, sigma=56.33)",
    ]
    assert resolved.table["parameter"].tolist() == [
        "Intercept",
        "b[Days]",
        "sd_Subject[Intercept]",
        "sd_Subject[Days]",
        "cor_Subject",
        "sigma",
    ]
    assert list(resolved.table.columns) == ["parameter", "prior", "source", "scale", "how"]
    assert resolved.table["source"].tolist() == ["default"] * 6
    at = "at the means"
    assert resolved.table["scale"].tolist() == [at, "raw", at, at, at, "raw"]
    assert design.n == 180


def test_why_the_raw_scale_would_not_do():
    """On raw days the slopes' sd prior would shrink with the origin; at the means it does not."""
    data = load_dataset("sleepstudy")
    _, near = resolve("Reaction ~ Days + (Days | Subject)", data)
    _, far = resolve("Reaction ~ Days + (Days | Subject)", data.assign(Days=data["Days"] + 2000))
    assert [str(p) for p in far.terms[0].sd] == [str(p) for p in near.terms[0].sd]


def test_factors_and_interactions_by_hand(frame):
    sd_y = frame["y"].std(ddof=1)
    design, resolved = resolve("y ~ x * h + (h | g)", frame)
    xc = frame["x"] - frame["x"].mean()
    h2 = (frame["h"] == "mid").astype(float)
    for name, column in (("x", xc), ("h[T.mid]", h2), ("x:h[T.mid]", xc * h2)):
        sigma = normal(resolved.coef[design.coefs.index(name)])["sigma"]
        assert sigma == pytest.approx(2.5 * sd_y / column.std(ddof=1)), name
    # indicators count as they are
    assert [half_t(prior) for prior in resolved.terms[0].sd] == pytest.approx([sd_y] * 3)


def test_bars_without_intercept_take_the_root_mean_square(frame):
    sd_y = frame["y"].std(ddof=1)
    rms = np.sqrt(np.mean(frame["x"] ** 2))
    for bar in ("(0 + x | g)", "(x || g)"):
        _, resolved = resolve(f"y ~ x + {bar}", frame)
        assert half_t(resolved.terms[-1].sd[0]) == pytest.approx(sd_y / rms)
    _, resolved = resolve("y ~ x + (0 + h + x | g)", frame)
    scales = [half_t(prior) for prior in resolved.terms[0].sd]
    assert scales == pytest.approx([sd_y] * 3 + [sd_y / frame["x"].std(ddof=1)])


def test_no_intercept_but_levels_by_hand(frame):
    sd_y = frame["y"].std(ddof=1)
    design, resolved = resolve("y ~ 0 + h + x", frame)
    for prior in resolved.coef[:3]:
        assert normal(prior) == pytest.approx({"mu": frame["y"].mean(), "sigma": 2.5 * sd_y})
    assert normal(resolved.coef[3])["sigma"] == pytest.approx(2.5 * sd_y / frame["x"].std(ddof=1))
    mean, _ = implied(design, resolved)
    np.testing.assert_allclose(mean, frame["y"].mean())
    assert resolved.table["scale"].tolist() == ["at the means"] * 3 + ["raw", "raw"]


def test_no_intercept_at_all_by_hand(frame):
    rms_y, rms_x = (np.sqrt(np.mean(frame[c] ** 2)) for c in ("y", "x"))
    _, resolved = resolve("y ~ 0 + x", frame)
    assert normal(resolved.coef[0]) == pytest.approx({"mu": 0, "sigma": 2.5 * rms_y / rms_x})


def test_an_offset_moves_the_intercept(frame):
    _, resolved = resolve("y ~ x + offset(z)", frame)
    assert normal(resolved.coef[0])["mu"] == pytest.approx((frame["y"] - frame["z"]).mean())


def test_poisson_with_exposure(frame):
    _, resolved = resolve("count ~ x + offset(log(z)) + (1 | g)", frame, "poisson")
    rate = frame["count"].sum() / frame["z"].sum()
    assert normal(resolved.coef[0]) == pytest.approx({"mu": np.log(rate), "sigma": 2.5})
    assert normal(resolved.coef[1])["sigma"] == pytest.approx(2.5 / frame["x"].std(ddof=1))
    assert half_t(resolved.terms[0].sd[0]) == 1.0
    assert resolved.sigma is None
    _, none = resolve("count ~ x", frame.assign(count=0), "poisson")
    assert normal(none.coef[0])["mu"] == pytest.approx(np.log(0.5 / 60))


def test_binomial_and_bernoulli(frame):
    _, resolved = resolve("count | trials(n) ~ x", frame, "binomial")
    p = frame["count"].sum() / frame["n"].sum()
    assert normal(resolved.coef[0]) == pytest.approx({"mu": np.log(p / (1 - p)), "sigma": 2.5})
    _, resolved = resolve("flag ~ x", frame, "bernoulli")
    p = frame["flag"].mean()
    assert normal(resolved.coef[0])["mu"] == pytest.approx(np.log(p / (1 - p)))
    # half an event from the ends
    for value, p in ((True, 59.5 / 60), (False, 0.5 / 60)):
        _, resolved = resolve("flag ~ x", frame.assign(flag=value), "bernoulli")
        assert normal(resolved.coef[0])["mu"] == pytest.approx(np.log(p / (1 - p)))
    _, resolved = resolve("count | trials(n) ~ x", frame.assign(count=0), "binomial")
    p = 0.5 / 1200
    assert normal(resolved.coef[0])["mu"] == pytest.approx(np.log(p / (1 - p)))


def test_known_standard_errors_leave_no_sigma(frame):
    assert resolve("y | se(z) ~ x", frame)[1].sigma is None
    assert resolve("y | se(z, sigma=True) ~ x", frame)[1].sigma is not None


# --- the user's priors ----------------------------------------------------------------------


def test_the_most_specific_key_wins(frame):
    formula = "y ~ x + z + (x | g) + (1 | s)"
    priors = {
        "b": "Normal(0, 1)",
        "z": "Normal(0, 2)",
        "sd": "HalfNormal(1)",
        "sd_g": "HalfNormal(2)",
        "sd_g[x]": "HalfNormal(3)",
        "sigma": "HalfNormal(4)",
        "cor": "LKJ(5)",
        "cor_g": "LKJ(6)",
    }
    _, resolved = resolve(formula, frame, priors=priors)
    table = resolved.table.set_index("parameter")
    assert table["prior"].drop("Intercept").to_dict() == {
        "b[x]": "Normal(mu=0, sigma=1)",
        "b[z]": "Normal(mu=0, sigma=2)",
        "sd_g[Intercept]": "HalfNormal(sigma=2)",
        "sd_g[x]": "HalfNormal(sigma=3)",
        "cor_g": "LKJ(eta=6)",
        "sd_s[Intercept]": "HalfNormal(sigma=1)",
        "sigma": "HalfNormal(sigma=4)",
    }
    assert set(table["source"].drop("Intercept")) == {"user"}
    assert table.loc["Intercept", "source"] == "default"  # b never covers it
    # the key may also be written as the table writes the parameter
    _, again = resolve(formula, frame, priors={"b": "Normal(0, 1)", "b[z]": "Normal(0, 2)"})
    assert again.coef[1:] == resolved.coef[1:]


def test_a_users_prior_is_on_the_raw_coefficient(frame):
    user = {"Intercept": "Normal(1, 2)", "x": "StudentT(3, 0, 1)"}
    design, resolved = resolve("y ~ x * z", frame, priors=user)
    free, _ = resolve("y ~ x * z", frame)
    np.testing.assert_array_equal(resolved.T[0], [1, 0, 0, 0])  # Intercept
    np.testing.assert_array_equal(resolved.T[1], [0, 1, 0, 0])  # x
    np.testing.assert_array_equal(resolved.T[2:], free.T[2:])
    np.testing.assert_allclose(resolved.X, design.X @ resolved.T, atol=1e-12)
    assert resolved.coef[0] == Prior("Normal", 1, 2)
    assert resolved.table["scale"].tolist() == ["raw", "raw", "at the means", "raw", "raw"]


@pytest.mark.parametrize(
    "priors", [{"sd_g[x]": "HalfNormal(2)"}, {"cor": "LKJ(1)"}, {"sd": "HalfNormal(1)"}]
)
def test_one_prior_on_a_bar_puts_all_of_it_on_the_raw_scale(frame, priors):
    design, resolved = resolve("y ~ x + (x | g) + (x | s)", frame, priors=priors)
    np.testing.assert_array_equal(resolved.terms[0].T, np.eye(2))
    np.testing.assert_array_equal(resolved.terms[0].z, design.terms[0].z)
    table = resolved.table.set_index("parameter")
    of_g = ["sd_g[Intercept]", "sd_g[x]", "cor_g"]
    assert table.loc[of_g, "scale"].tolist() == ["raw"] * 3
    if "sd_g[x]" in priors:  # the other bar stays at the means
        assert table.loc["sd_s[x]", "scale"] == "at the means"
        np.testing.assert_array_equal(resolved.terms[1].z, design.terms[1].z_centred)


@pytest.mark.parametrize("name", ["sigma", "sd", "sd_g", "cor"])
def test_a_predictor_named_like_a_variable(frame, name):
    """The vocabulary comes before coefficients; ``b[sigma]`` reaches the predictor."""
    frame[name] = frame["z"]
    prior = "LKJ(3)" if name == "cor" else "HalfNormal(3)"
    formula = f"y ~ {name} + (x | g)"
    _, resolved = resolve(formula, frame, priors={name: prior, f"b[{name}]": "Normal(0, 7)"})
    assert resolved.coef[1] == Prior("Normal", 0, 7)
    meant = {"sigma": resolved.sigma, "cor": resolved.terms[0].cor}
    assert meant.get(name, resolved.terms[0].sd[0]).values == (3.0,)
    _, resolved = resolve(formula, frame, priors={name: prior})
    assert normal(resolved.coef[1])["sigma"] == pytest.approx(
        2.5 * frame["y"].std() / frame["z"].std()
    )


# --- exact invariances ----------------------------------------------------------------------

COMMON = [
    "y ~ x",
    "y ~ x + z",
    "y ~ x * z",
    "y ~ x * h",
    "y ~ x * z * h",
    "y ~ h / x",
    "y ~ 0 + h + x",
    "y ~ 0 + h / x",
    "y ~ poly(x, 2)",
    "y ~ poly(x, 2) * h",
    "y ~ scale(x) * z",
]
BARS = [
    "y ~ x + (x | g)",
    "y ~ x + (x * z | g)",
    "y ~ x + (x * h | g)",
    "y ~ x + (h / x | g)",
    "y ~ x + (0 + h + x | g)",
    "y ~ x + (poly(x, 2) | g)",
]
MOVES = [(1.0, 2000.0), (-3.0, 0.0), (0.01, -7.0)]


@pytest.mark.parametrize(("a", "c"), MOVES)
@pytest.mark.parametrize("formula", COMMON)
def test_population_priors_do_not_depend_on_origin_and_unit_of_x(frame, formula, a, c):
    mean, cov = implied(*resolve(formula, frame))
    other_mean, other_cov = implied(*resolve(formula, frame.assign(x=a * frame["x"] + c)))
    np.testing.assert_allclose(other_mean, mean, rtol=EXACT, atol=EXACT)
    np.testing.assert_allclose(other_cov, cov, rtol=EXACT, atol=EXACT * cov.max())


@pytest.mark.parametrize(("a", "c"), MOVES)
@pytest.mark.parametrize("formula", BARS)
def test_bars_do_not_depend_on_origin_and_unit_of_x(frame, formula, a, c):
    """The columns times the scales of their sds are equal, and LKJ knows no signs."""
    wanted = bar_scales(resolve(formula, frame)[1])
    found = bar_scales(resolve(formula, frame.assign(x=a * frame["x"] + c))[1])
    np.testing.assert_allclose(found, wanted, rtol=EXACT, atol=EXACT * wanted.max())


@pytest.mark.parametrize(("a", "c"), MOVES)
@pytest.mark.parametrize("formula", [*COMMON, *BARS])
def test_priors_move_with_the_response(frame, formula, a, c):
    design, near = resolve(formula, frame)
    moved, far = resolve(formula, frame.assign(y=a * frame["y"] + c))
    mean, cov = implied(design, near)
    other_mean, other_cov = implied(moved, far)
    np.testing.assert_allclose(other_mean, a * mean + c, rtol=EXACT, atol=EXACT)
    np.testing.assert_allclose(other_cov, a**2 * cov, rtol=EXACT, atol=EXACT * cov.max())
    assert half_t(far.sigma) == pytest.approx(abs(a) * half_t(near.sigma), rel=EXACT)
    for k in range(len(near.terms)):
        wanted = abs(a) * bar_scales(near, k)
        np.testing.assert_allclose(bar_scales(far, k), wanted, rtol=EXACT)


@pytest.mark.parametrize(
    "formula", ["count ~ x * z", "count ~ x * h + offset(z)", "count ~ 0 + h + x"]
)
def test_invariance_under_a_log_link(frame, formula):
    mean, cov = implied(*resolve(formula, frame, "poisson"))
    moved = frame.assign(x=2 * frame["x"] - 50)
    other_mean, other_cov = implied(*resolve(formula, moved, "poisson"))
    np.testing.assert_allclose(other_mean, mean, rtol=EXACT)
    np.testing.assert_allclose(other_cov, cov, rtol=EXACT, atol=EXACT)


# --- stated non-invariances -----------------------------------------------------------------


@pytest.mark.parametrize("formula", ["y ~ 0 + x", "y ~ x:z", "y ~ x + x:z", "y ~ I(x**2)"])
def test_population_terms_that_depend_on_the_origin(frame, formula):
    _, cov = implied(*resolve(formula, frame))
    moved = frame.assign(x=frame["x"] + 5, z=frame["z"] + 5)
    _, other = implied(*resolve(formula, moved))
    assert np.abs(other - cov).max() > 0.01 * cov.max()


@pytest.mark.parametrize("bar", ["(x || g)", "(0 + x | g)", "(x:z | g)"])
def test_bars_that_depend_on_the_origin(frame, bar):
    near = resolve(f"y ~ x + {bar}", frame)[1]
    far = resolve(f"y ~ x + {bar}", frame.assign(x=frame["x"] + 5, z=frame["z"] + 5))[1]
    wanted, found = bar_scales(near, -1), bar_scales(far, -1)
    assert np.abs(found - wanted).max() > 0.01 * wanted.max()


@pytest.mark.parametrize(
    ("formula", "move"),
    [
        ("y ~ log(z)", lambda d: d.assign(z=d["z"] + 5)),
        # a spline moves with its knots, but turned round it leaves out the other end's column
        ("y ~ bs(x)", lambda d: d.assign(x=-d["x"])),
    ],
)
def test_functions_that_depend_on_the_origin(frame, formula, move):
    _, cov = implied(*resolve(formula, frame))
    _, other = implied(*resolve(formula, move(frame)))
    assert np.abs(other - cov).max() > 0.01 * cov.max()


def test_the_reference_level_matters(frame):
    _, cov = implied(*resolve("y ~ h", frame))
    turned = frame.assign(h=frame["h"].cat.reorder_categories(["high", "mid", "low"]))
    _, other = implied(*resolve("y ~ h", turned))
    assert np.abs(other - cov).max() > 0.01 * cov.max()


def test_a_users_prior_on_the_intercept_depends_on_the_origin(frame):
    user = {"Intercept": "Normal(0, 5)"}
    _, cov = implied(*resolve("y ~ x", frame, priors=user))
    _, other = implied(*resolve("y ~ x", frame.assign(x=frame["x"] + 5), priors=user))
    assert np.abs(other - cov).max() > 0.01 * cov.max()


# --- coordinates ----------------------------------------------------------------------------


@pytest.mark.parametrize("formula", [*COMMON, *BARS])
def test_columns_and_maps_agree(frame, formula):
    design, resolved = resolve(formula, frame)
    np.testing.assert_allclose(resolved.X, design.X @ resolved.T, atol=1e-11)
    for term, own in zip(design.terms, resolved.terms, strict=True):
        np.testing.assert_allclose(own.z, term.z @ own.T, atol=1e-11)


def test_priors_with_a_single_row():
    data = pd.DataFrame({"y": [2.0]})
    _, resolved = resolve("y ~ 1", data)
    assert normal(resolved.coef[0]) == {"mu": 2.0, "sigma": 2.5}


def test_the_table_says_which_key_gave_a_prior():
    priors = {
        "sd": "HalfNormal(30)",
        "sd_Subject[Days]": "PC(u=10, alpha=0.05)",
        "b": "Normal(0, 20)",
        "Days": "Normal(0, 10)",
    }
    formula = parse_formula("Reaction ~ Days + (Days | Subject)")
    gaussian = Family("gaussian")
    design = build_design(formula, load_dataset("sleepstudy"), gaussian)
    table = resolve_priors(design, gaussian, priors).table.set_index("parameter")
    given = table[table["source"] == "user"]
    assert given["how"].to_dict() == {
        "b[Days]": "by 'Days'",
        "sd_Subject[Intercept]": "by 'sd'",
        "sd_Subject[Days]": "by 'sd_Subject[Days]'",
    }
    assert table.loc["sd_Subject[Days]", "prior"].startswith("PC(u=10, alpha=0.05) = Exponential")

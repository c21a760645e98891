"""Design and priors as the conditional engine reads them, and which bars are centred."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import Density, constrain, layout, supports
from hiermodels.engines.forms import _information_wins, choose_forms
from hiermodels.errors import EngineError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors


def parts(formula, data, family="gaussian", link="", priors=None):
    chosen = Family(family, link)
    design = build_design(parse_formula(formula), data, chosen)
    return design, chosen, resolve_priors(design, chosen, priors)


def forms(formula, data, centred="auto", **options):
    return choose_forms(*parts(formula, data, **options), centred)


def grouped(levels, per_level, between, within=1.0, seed=1):
    """Return rows of y = effect of the group + noise, with a predictor x."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), per_level)
    x = rng.normal(3, 1, len(g))
    y = between * rng.normal(size=levels)[g] + within * rng.normal(size=len(g))
    slope = y + between * rng.normal(size=levels)[g] * x
    return pd.DataFrame({"y": y, "slope": slope, "x": x, "g": g, "k": np.arange(len(g)) % 7})


# --- the arrays -----------------------------------------------------------------------------------


def test_every_array_is_the_designs():
    data = grouped(8, 5, 1.0).assign(w=lambda d: 1.0 + d["k"])
    design, family, priors = parts(
        "y | weights(w) ~ x + (x | g) + (1 | k)", data, priors={"sigma": "Exponential(2)"}
    )
    problem = conditional_problem(design, family, priors, (False, True))
    assert supports(problem) is None
    np.testing.assert_array_equal(problem.y, design.y)
    np.testing.assert_array_equal(problem.X, priors.X)
    np.testing.assert_array_equal(problem.weights, data["w"])
    assert problem.precision is None
    assert problem.trials is None
    assert [bar.centred for bar in problem.bars] == [False, True]
    assert [bar.n_levels for bar in problem.bars] == [8, 7]
    assert [bar.lkj_eta for bar in problem.bars] == [2.0, None]
    np.testing.assert_array_equal(problem.bars[0].z, priors.terms[0].z)
    assert (problem.sigma_prior.kind, problem.sigma_prior.args) == ("Exponential", (2.0,))
    assert [row.kind for row in problem.coef_priors] == ["Normal", "Normal"]


# --- coefficients taken up by centred bars --------------------------------------------------------


def test_taking_up_coefficients_leaves_the_posterior_alone():
    """Densities with and without differ in coordinates only, by a shear of determinant one."""
    data = grouped(6, 5, 2.0)
    design, family, priors = parts("slope ~ x + (x | g)", data)
    problem = conditional_problem(design, family, priors, (True,))
    shift = problem.bars[0].shift
    # within every group the bar's columns are those of the common part
    np.testing.assert_allclose(shift, np.tile(np.eye(2), (6, 1, 1)), atol=1e-10)
    plain = conditional_problem(design, family, priors, (False,))
    at, bare = layout(problem), layout(plain)
    rng = np.random.default_rng(2)
    for x in rng.normal(0, 0.5, (3, at.ndim)):
        values = constrain(problem, x)
        y = x.copy()
        factor = values.sds[0][:, None] * values.chols[0]
        scores = np.linalg.solve(factor, values.effects[0].T).T
        y[bare.bars[0].effects] = scores.ravel()
        jacobian = len(scores) * np.log(np.diag(factor)).sum()
        value = Density(plain)(y)[0] - jacobian
        assert Density(problem)(x)[0] == pytest.approx(value, rel=1e-11)
        np.testing.assert_allclose(constrain(plain, y).effects[0], values.effects[0], rtol=1e-10)


def test_a_coefficient_is_taken_up_where_its_column_lies_in_the_bar():
    data = grouped(6, 8, 2.0)
    design, family, priors = parts("y ~ x + k + (1 | g)", data)
    shift = conditional_problem(design, family, priors, (True,)).bars[0].shift
    # the intercept moves with the groups' intercepts; x and k vary within them
    np.testing.assert_allclose(shift[:, 0], np.tile([1.0, 0.0, 0.0], (6, 1)), atol=1e-12)


def test_of_two_crossed_intercepts_neither_takes_the_coefficient():
    data = grouped(6, 7, 2.0)
    design, family, priors = parts("y ~ x + (1 | g) + (1 | k)", data)
    problem = conditional_problem(design, family, priors, (True, True))
    assert [bar.shift for bar in problem.bars] == [None, None]


# --- centred or not -------------------------------------------------------------------------------


def test_much_data_in_each_group_asks_for_the_centred_form():
    assert forms("y ~ 1 + (1 | g)", grouped(30, 50, between=2.0)) == (True,)
    assert forms("slope ~ x + (x | g)", grouped(30, 50, between=2.0)) == (True,)


@pytest.mark.parametrize(
    ("levels", "per_level", "between"),
    [(30, 3, 0.3), (30, 50, 0.0), (2, 50, 3.0)],
    ids=["few rows", "no variance between groups", "two groups"],
)
def test_little_data_asks_for_the_non_centred_form(levels, per_level, between):
    assert forms("y ~ 1 + (1 | g)", grouped(levels, per_level, between)) == (False,)


def test_each_bar_has_its_own_form():
    assert forms("y ~ 1 + (1 | g) + (1 | k)", grouped(30, 50, between=2.0)) == (True, False)


def test_forms_of_other_families_follow_the_information_in_the_response():
    rng = np.random.default_rng(3)
    data = grouped(40, 60, between=1.5)
    eta = np.random.default_rng(5).normal(0, 1.5, 40)[data["g"]]
    data["hit"] = (rng.random(len(data)) < 1 / (1 + np.exp(-eta))).astype(int)
    data["count"] = rng.poisson(np.exp(1 + eta / 2))
    data["n"] = 1
    assert forms("hit ~ 1 + (1 | g)", data, family="bernoulli") == (True,)
    assert forms("count ~ 1 + (1 | g)", data, family="poisson") == (True,)
    assert forms("hit | trials(n) ~ 1 + (1 | g)", data, family="binomial") == (True,)
    assert forms("count ~ 1 + (1 | k)", data, family="poisson") == (False,)
    few = data.groupby("g").head(2)
    assert forms("hit ~ 1 + (1 | g)", few, family="bernoulli") == (False,)


def test_known_standard_errors_count_as_the_noise_they_are():
    data = grouped(30, 4, between=2.0, within=0.1).assign(s=50.0)
    # the rows agree by chance; each is known to within 50 only
    assert forms("y | se(s) ~ 1 + (1 | g)", data) == (False,)
    assert forms("y | se(s) ~ 1 + (1 | g)", data.assign(s=0.1)) == (True,)


def test_a_perfect_fit_is_no_division_by_zero():
    data = grouped(6, 5, between=0.0, within=0.0).assign(y=lambda d: 2.0 * d["x"])
    assert forms("y ~ x + (1 | g)", data) in {(True,), (False,)}
    design, _, priors = parts("y ~ 1 + (1 | g)", data)
    index, nothing = design.terms[0].index, np.zeros(design.n)
    rows = np.bincount(index)
    assert not _information_wins(priors.terms[0], index, rows, nothing, nothing + 1, True)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_choice_does_not_hang_on_units(scale):
    data = grouped(30, 50, between=2.0)
    scaled = data.assign(x=data["x"] * scale, slope=data["slope"] / scale)
    assert forms("slope ~ x + (x | g)", scaled) == forms("slope ~ x + (x | g)", data)


def test_a_form_given_by_hand_is_taken():
    data = grouped(8, 5, 1.0)
    formula = "y ~ x + (x | g) + (1 | k)"
    assert forms(formula, data, True) == (True, True)
    assert forms(formula, data, np.False_) == (False, False)
    assert forms(formula, data, {"k": True}) == (forms(formula, data)[0], True)


@pytest.mark.parametrize(
    ("centred", "words"),
    [
        ("yes", "must be 'auto', True, False or a dictionary by grouping; got 'yes'"),
        (1, "got 1"),
        ({"h": True}, "names 'h', which is no grouping; there are g"),
        ({"g": "auto"}, "takes True or False by grouping; got 'auto'"),
    ],
)
def test_forms_that_do_not_exist(centred, words):
    with pytest.raises(EngineError, match=words):
        forms("y ~ 1 + (1 | g)", grouped(8, 5, 1.0), centred)
    if isinstance(centred, dict) and "h" in centred:
        with pytest.raises(EngineError, match="there are none"):
            forms("y ~ x", grouped(8, 5, 1.0), centred)

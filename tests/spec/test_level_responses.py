"""Responses by level: how formulas, designs and priors take them, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError, EngineError, FormulaError, PriorError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import resolve_priors
from hiermodels.spec.streamable import check_collapsible, check_streamable


def frame(n=60):
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": rng.normal(5, 2, n), "g": rng.choice(list("pqr"), n)})
    data["choice"] = np.tile(["bus", "car", "on foot"], n // 3)
    data["two"] = np.tile(["no", "yes", "yes"], n // 3)
    data["coded"] = np.tile([0, 1, 1], n // 3)
    for name, size in (("a", 4.0), ("b", 2.0), ("c", 1.0)):
        data[name] = rng.poisson(size, n) + (name == "a")
    return data


def design(formula, family="categorical", data=None, **options):
    return build_design(
        parse_formula(formula), frame() if data is None else data, Family(family), **options
    )


def priors(formula, family="categorical", user=None):
    own = design(formula, family)
    return resolve_priors(own, Family(family).with_levels(own.response_levels), user)


def test_every_level_but_the_first_has_the_formulas_right_side():
    found = design("choice ~ x + (x | g)")
    assert found.response_levels == ("bus", "car", "on foot")
    assert [part.name for part in found.parameters] == ["mu_car", "mu_on_foot"]
    assert (found.coefs, found.terms) == ((), ())
    assert found.by_level
    for part in found.parameters:
        assert part.coefs == ("Intercept", "x")
        assert [term.group for term in part.terms] == ["g"]
    np.testing.assert_array_equal(found.y[:4], [0, 1, 2, 0])
    assert str(found.formula) == "choice ~ x + (x | g)"


def test_a_level_may_have_a_formula_of_its_own():
    found = design(["choice ~ x", "mu_car ~ 1 + (1 | g)"])
    assert [part.coefs for part in found.parameters] == [("Intercept",), ("Intercept", "x")]
    assert [len(part.terms) for part in found.parameters] == [1, 0]
    with pytest.raises(FormulaError, match="has no mu_bus"):
        design(["choice ~ x", "mu_bus ~ 1"])


def test_a_formula_that_met_other_data_meets_new_ones():
    first = design("choice ~ x")
    again = build_design(first.formula, frame().query("choice != 'car'"), Family("categorical"))
    assert [part.name for part in again.parameters] == ["mu_on_foot"]
    assert again.parameters[0].coefs == ("Intercept", "x")


def test_the_order_of_a_categorical_says_which_level_is_the_reference():
    data = frame()
    levels = ["on foot", "bus", "tram", "car"]
    data["choice"] = pd.Categorical(data["choice"], levels)
    # tram never occurs
    assert design("choice ~ x", data=data).response_levels == ("on foot", "bus", "car")


def test_whole_numbers_name_levels():
    found = design("coded ~ x")
    assert found.response_levels == ("0", "1")
    assert found.parameters[0].name == "mu_1"


def test_counts_by_category():
    found = design("c(a, b, c) ~ x", "multinomial")
    assert found.y.shape == (60, 3)
    assert found.response_levels == ("a", "b", "c")
    np.testing.assert_array_equal(found.trials, frame()[["a", "b", "c"]].sum(axis=1))
    assert [part.name for part in found.parameters] == ["mu_b", "mu_c"]
    every = design("c(a, b, c) ~ x", "dirichlet_multinomial")
    assert [part.name for part in every.parameters] == ["mu_a", "mu_b", "mu_c"]
    assert {part.link for part in every.parameters} == {"log"}


def test_two_levels_have_the_priors_of_a_bernoulli_response():
    two = priors("two ~ x + (x | g)").parameters[0]
    own = design("coded ~ x + (x | g)", "bernoulli")
    one = resolve_priors(own, Family("bernoulli"))
    np.testing.assert_allclose(
        [prior.values for prior in two.coef], [prior.values for prior in one.coef], rtol=1e-12
    )
    assert [prior.name for prior in two.coef] == [prior.name for prior in one.coef]
    assert two.terms[0].sd == one.terms[0].sd
    assert two.terms[0].cor == one.terms[0].cor
    np.testing.assert_array_equal(two.T, one.T)


def test_a_prior_is_of_all_levels_or_of_one():
    found = priors(
        "choice ~ x + (1 | g)",
        user={"x": "Normal(0, 1)", "mu_car_b": "Normal(0, 2)", "sd_g": "HalfNormal(sigma=3)",
              "mu_car_sd": "HalfNormal(sigma=4)", "Intercept": "Normal(0, 9)"},
    )  # fmt: skip
    car, foot = found.parameters
    assert [str(prior) for prior in foot.coef] == [
        "Normal(mu=0, sigma=9)", "Normal(mu=0, sigma=1)",
    ]  # fmt: skip
    # a level's own class goes before what all levels share
    assert str(car.coef[1]) == "Normal(mu=0, sigma=2)"
    assert str(foot.terms[0].sd[0]) == "HalfNormal(sigma=3)"
    assert str(car.terms[0].sd[0]) == "HalfNormal(sigma=4)"
    with pytest.raises(PriorError, match="mu_on_foot_b"):
        priors("choice ~ x", user={"mu_bus_b": "Normal(0, 1)"})


def test_sources_beyond_memory_are_refused():
    with pytest.raises(EngineError, match="family='categorical' needs the rows"):
        check_collapsible(parse_formula("choice ~ x"), Family("categorical"))
    with pytest.raises(FormulaError, match="counts by category"):
        check_streamable(parse_formula("c(a, b) ~ x"))


def test_an_offset_is_every_levels():
    found = design("choice ~ 1 + offset(x)")
    for part in found.parameters:
        np.testing.assert_array_equal(part.offset, frame()["x"])
    assert not found.offset.any()
    shifted = resolve_priors(found, Family("categorical").with_levels(found.response_levels))
    plain = priors("choice ~ 1")
    mean = float(frame()["x"].mean())
    for a, b in zip(shifted.parameters, plain.parameters, strict=True):
        assert a.coef[0].values[0] == pytest.approx(b.coef[0].values[0] - mean)


BAD = {
    "one level": (
        "choice ~ x", "categorical", lambda d: d.assign(choice="bus"), "one category only",
    ),
    "truth values": (
        "coded ~ x", "categorical", lambda d: d.assign(coded=d.coded == 1), "family='bernoulli'",
    ),
    "a measurement": ("x ~ 1", "categorical", lambda d: d, "whole numbers that name levels"),
    "hundreds": (
        "coded ~ x", "categorical", lambda d: d.assign(coded=np.arange(len(d)) * 3),
        "has 60 categories",
    ),
    "one name": (
        "choice ~ x", "categorical",
        lambda d: d.assign(choice=d.choice.replace({"bus": "on-foot", "car": "on_foot"})),
        "would both be called mu_on_foot",
    ),
    "not by level": ("choice ~ x", "poisson", lambda d: d, "for others 'categorical'"),
    "negative": (
        "c(a, b, c) ~ x", "multinomial", lambda d: d.assign(b=-d.b - 1), r"c\(a, b, c\): b is -",
    ),
    "halves": ("c(a, b, c) ~ x", "multinomial", lambda d: d.assign(b=0.5), "must be a count"),
    "an empty row": (
        "c(a, b) ~ x", "multinomial", lambda d: d.assign(a=np.r_[0, d.a[1:]], b=np.r_[0, d.b[1:]]),
        "has no counts at",
    ),
    "an empty column": (
        "c(a, b, c) ~ x", "multinomial", lambda d: d.assign(c=0), "'c' of the response .* holds no",
    ),
    "text": ("c(a, choice) ~ x", "multinomial", lambda d: d, "is a factor; it must be numeric"),
    "one column": ("a ~ x", "multinomial", lambda d: d, r"write c\(a, b, c\)"),
    "counts elsewhere": ("c(a, b) ~ x", "poisson", lambda d: d, "family='multinomial'"),
    "one count": ("c(a) ~ x", "multinomial", lambda d: d, "two columns of counts or more"),
    "the same count": ("c(a, a) ~ x", "multinomial", lambda d: d, "a stands twice"),
    "no term": ("choice ~ 0", "categorical", lambda d: d, "has no term"),
    "a residual structure": (
        "choice ~ x + ar(x, g)", "categorical", lambda d: d, "Gaussian residuals",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_is_refused_with_the_reason(case):
    formula, family, change, words = BAD[case]
    with pytest.raises((DataError, FormulaError), match=words):
        design(formula, family, change(frame()))

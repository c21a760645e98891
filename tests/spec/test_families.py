"""Families and links, and what each allows as a response."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hiermodels.errors import DataError, HierModelsError
from hiermodels.spec.families import Family, as_family

PAIRS = [
    ("gaussian", "identity"),
    ("gaussian", "log"),
    ("gaussian", "inverse"),
    ("bernoulli", "logit"),
    ("bernoulli", "probit"),
    ("binomial", "cloglog"),
    ("poisson", "log"),
    ("poisson", "identity"),
    ("poisson", "sqrt"),
]


@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_links_and_their_inverses(name, link):
    family = Family(name, link)
    eta = np.array([0.1, 0.5, 1.5])
    mu = family.linkinv(eta)
    np.testing.assert_allclose(family.link_function(mu), eta, rtol=1e-12)
    wanted = {
        "identity": eta,
        "log": np.exp(eta),
        "inverse": 1 / eta,
        "logit": 1 / (1 + np.exp(-eta)),
        "probit": stats.norm.cdf(eta),
        "cloglog": 1 - np.exp(-np.exp(eta)),
        "sqrt": eta**2,
    }[link]
    np.testing.assert_allclose(mu, wanted, rtol=1e-12)


def test_usual_links_and_residual_sd():
    names = ("gaussian", "bernoulli", "binomial", "poisson")
    assert [Family(n).link for n in names] == ["identity", "logit", "logit", "log"]
    assert [Family(n).has_sigma for n in names] == [True, False, False, False]


def test_names_families_and_others_objects():
    assert as_family("normal") == as_family("gaussian") == Family("gaussian", "identity")
    assert as_family("bernoulli", "probit").link == "probit"
    assert as_family(Family("poisson")) == Family("poisson", "log")
    assert as_family(Family("poisson"), "sqrt").link == "sqrt"
    likelihood = SimpleNamespace(name="Bernoulli", params=("p",), parent="p", dist=None)
    links = {"p": SimpleNamespace(name="probit")}
    theirs = SimpleNamespace(name="bernoulli", likelihood=likelihood, link=links)
    assert as_family(theirs) == Family("bernoulli", "probit")


@pytest.mark.parametrize(
    ("family", "link", "message"),
    [
        ("foo", None, "'foo' is not known; allowed are gaussian, t, bernoulli, binomial, beta_b"),
        ("Gaussian", None, "Did you mean 'gaussian'"),
        ("negbinom", None, "'negbinom' is not known.*Did you mean 'negbinomial'"),
        (None, None, "A family is a name, a Family or Bambi's Family; got NoneType"),
        (["gaussian"], None, "got list"),
        ("gaussian", "logit", "gaussian has no link 'logit'; allowed are identity, log, inverse"),
    ],
)
def test_unknown_families_and_links(family, link, message):
    with pytest.raises(HierModelsError, match=message):
        as_family(family, link)


def test_a_family_name_is_text():
    with pytest.raises(HierModelsError, match="is not known"):
        Family(["gaussian"])


# --- responses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "labels", "y"),
    [
        ([0, 1, 1, 0], (), [0, 1, 1, 0]),
        ([0.0, 1.0, 1.0, 0.0], (), [0, 1, 1, 0]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
        ([True] * 4, ("False", "True"), [1, 1, 1, 1]),
        ([1, 1, 1, 1], (), [1, 1, 1, 1]),
        (["yes", "no", "no", "yes"], ("no", "yes"), [1, 0, 0, 1]),
        (pd.Categorical(list("baab"), ["b", "a", "c"]), ("b", "a"), [0, 1, 1, 0]),
        (pd.Categorical([3, 1, 1, 3], [3, 1]), ("3", "1"), [0, 1, 1, 0]),
        (pd.array([True, False, True, False], "boolean"), ("False", "True"), [1, 0, 1, 0]),
        (pd.array([1, 0, 1, 0], "Int64"), (), [1, 0, 1, 0]),
        (pd.array([True, False, True, False], "bool[pyarrow]"), ("False", "True"), [1, 0, 1, 0]),
    ],
)
def test_bernoulli_responses(build, values, labels, y):
    data = pd.DataFrame({"y": values, "x": [1.0, 2.0, 4.0, 3.0]})
    design = build("y ~ x", data, "bernoulli")
    assert design.response_levels == labels
    np.testing.assert_array_equal(design.y, y)


def test_a_comparison_as_a_response(build, frame):
    design = build("I(y > 3) ~ x", frame, "bernoulli")
    np.testing.assert_array_equal(design.y, (frame["y"] > 3).astype(float))
    assert design.response_levels == ("False", "True")


def test_binomial_trials(build, frame):
    by_column = build("count | trials(n) ~ x", frame, "binomial")
    by_number = build("count | trials(20) ~ x", frame, "binomial")
    np.testing.assert_array_equal(by_column.trials, np.full(60, 20.0))
    np.testing.assert_array_equal(by_number.trials, np.full(60, 20.0))


def refused(build, formula, data, family, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        build(formula, data, family)


def test_the_first_bad_row_is_named_by_the_users_index(build, frame):
    frame.index = [f"id{i}" for i in range(60)]
    frame["bad"] = frame["count"]
    frame.loc[["id7", "id40"], "bad"] = -2
    refused(build, "bad ~ x", frame, "poisson", "bad is -2 at row 'id7' \\(2 rows in all\\).*count")
    frame.index = np.arange(100, 160)
    refused(build, "bad ~ x", frame, "poisson", "bad is -2 at row 107 \\(2 rows in all\\)")
    frame["bad"] = frame["count"] + 0.5 * (frame.index == 103)
    refused(build, "bad ~ x", frame, "poisson", "at row 103 \\(1 row in all\\); it must be a count")


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("y ~ x", "bernoulli", "must be 0 or 1, True or False, or a factor with two levels"),
        ("h ~ x", "bernoulli", "factor with 3 levels.*low, mid, high.*needs two"),
        ("h ~ x", "gaussian", "is a factor with levels low, mid, high; family='gaussian' needs"),
        ("flag ~ x", "poisson", "family='poisson' needs numbers"),
        ("count ~ x", "binomial", "needs the number of trials: write 'count \\| trials\\(n\\)"),
        ("count | trials(w) ~ x", "binomial", "successes in . trials; there cannot be more"),
        ("count | trials(z) ~ x", "binomial", "must be a whole number of at least 1"),
        ("count | trials(0) ~ x", "binomial", "number of trials is 0 at row 0"),
        ("log(x) ~ z", "gaussian", "log\\(x\\) is nan at row .*log and sqrt take positive"),
        ("poly(x, 2) ~ z", "gaussian", "must be one number a row"),
        ("bs(x) ~ z", "gaussian", "must be one number a row"),
        ("n ~ x", "gaussian", "n is 20 in every row; there is nothing to model"),
    ],
)
def test_responses_outside_the_support(build, frame, formula, family, message):
    refused(build, formula, frame, family, message)


def test_log_of_zero_names_the_row(build, frame):
    frame.loc[5, "z"] = 0.0
    refused(
        build, "log(z) ~ x", frame, "gaussian", "log\\(z\\) is -inf at row 5 \\(1 row in all\\)"
    )


def test_huge_responses_are_refused(build, frame):
    frame.loc[5, "y"] = -1e308
    refused(build, "y ~ x", frame, "gaussian", "-1e\\+308 at row 5.*within")


@pytest.mark.parametrize(
    ("addition", "family", "message"),
    [
        ("trials(n)", "gaussian", "trials\\(\\) belongs to family='binomial'.*'gaussian'"),
        ("precision(w)", "poisson", "precision\\(\\) belongs to family='gaussian'"),
        ("se(w)", "bernoulli", "se\\(\\) belongs to family='gaussian'"),
        ("weights(x)", "gaussian", "weights\\(x\\) is -.*at row.*must be at least 0"),
        ("precision(I(w - 1))", "gaussian", "precision\\(.* is 0 at row.*must be above 0"),
        ("se(I(w - 1))", "gaussian", "must be above 0"),
        ("weights(0 * w)", "gaussian", "is 0 in every row; nothing would count"),
        ("weights(h)", "gaussian", "weights h is a factor; it must be numeric"),
        ("weights(poly(w, 2))", "gaussian", "weights poly.*factor|one number a row"),
        ("weights(2)", "gaussian", "weights\\(2\\) names no column"),
    ],
)
def test_additions_that_cannot_be(build, frame, addition, family, message):
    frame["b"] = frame["flag"].astype(int)
    with pytest.raises(HierModelsError, match=f"(?s){message}"):
        build(f"{'y' if family == 'gaussian' else 'b'} | {addition} ~ x", frame, family)


def test_zero_weights_are_allowed(build, frame):
    frame["v"] = frame["w"] - 1
    assert (build("y | weights(v) ~ x", frame).weights == frame["v"]).all()

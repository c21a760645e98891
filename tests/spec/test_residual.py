"""Residual structures and formulas for sigma: their grammar, their place in the design, priors."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from hiermodels.engines.assembly import conditional_problem
from hiermodels.errors import DataError, EngineError, FormulaError, PriorError
from hiermodels.spec.design import build_design
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import ResidualPriors, resolve_priors

GAUSSIAN = Family("gaussian")


@pytest.fixture
def frame():
    rng = np.random.default_rng(1)
    n = 24
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "count": rng.integers(0, 5, n),
            "x": np.linspace(1990.0, 2010.0, n),
            "t": np.tile([0, 1, 3, 4], 6),
            "half": np.tile([0.0, 0.5, 1.0, 1.5], 6),
            "when": np.tile(["may", "june", "july", "august"], 6),
            "g": np.repeat(np.arange(6), 4),
            "same": np.repeat(list("uvwxyz"), 4),
            "site": np.repeat(["n", "s"], 12),
            "wave": np.tile(["p", "q"], 12),
            "h": np.tile(["a", "b", "b", "c"], 6),
            "k": np.tile(["d", "e", "e", "d"], 6),
            "w": rng.uniform(1.0, 2.0, n),
            "v": np.repeat(rng.uniform(1.0, 2.0, 6), 4),
            "s": rng.uniform(1.0, 2.0, n),
            "odd name": np.repeat(np.arange(6), 4),
        },
        index=np.arange(100, 100 + n),
    )


def design(formula, data, family=GAUSSIAN):
    return build_design(parse_formula(formula), data, family)


def residual(formula, data):
    return design(formula, data).residual


def priors_of(formula, data, user=None):
    return resolve_priors(design(formula, data), GAUSSIAN, user)


# --- grammar --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "structure", "time", "group"),
    [
        ("y ~ ar(t, g)", "ar", "t", ("g",)),
        ("y ~ x + (x | g) + ar(time = t, gr = g)", "ar", "t", ("g",)),
        ("y ~ ar(gr=g, time=t) + x", "ar", "t", ("g",)),
        ("y ~ ar(I(t - 3), site:g)", "ar", "I(t - 3)", ("site", "g")),
        ("y ~ 1 + cosy(g)", "cosy", None, ("g",)),
        ("y ~ cosy(`odd name`)", "cosy", None, ("odd name",)),
        ("y ~ unstr(when, g)", "unstr", "when", ("g",)),
    ],
)
def test_structures_are_read(text, structure, time, group):
    parsed = parse_formula(text)
    term = parsed.residual
    assert (term.structure, term.time and term.time.label, term.group) == (structure, time, group)
    assert set(term.columns) <= set(parsed.columns)
    assert parse_formula(parsed.text) == parsed
    assert structure not in parsed.common


def test_a_structure_adds_no_column(frame):
    with_it, without = design("y ~ x + ar(t, g)", frame), design("y ~ x", frame)
    assert with_it.coefs == without.coefs == ("Intercept", "x")
    assert list(with_it.data) == ["y", "x", "t", "g"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ ar(t)", r"Got 'ar\(t\)', in which an argument is missing; write it as ar\(time, g"),
        ("y ~ ar(t, g, 2)", r"Got 'ar\(t, g, 2\)'; write it as ar\(time, g\)"),
        ("y ~ ar(t, g, gr=g)", r"write it as ar\(time, g\)"),
        ("y ~ ar(, g)", r"write it as ar\(time, g\)"),
        ("y ~ ar(1, g)", r"The time of ar\(\) must name a column"),
        ("y ~ ar(foo(t), g)", r"The function foo\(\) is not known"),
        ("y ~ ar(t.__class__, g)", "Attribute access|not allowed"),
        ("y ~ cosy()", r"write it as cosy\(g\)"),
        ("y ~ cosy(t, g)", r"write it as cosy\(g\)"),
        ("y ~ cosy(time=t)", r"write it as cosy\(g\)"),
        ("y ~ cosy(a/b)", "Got '/' where the series' grouping should stand"),
        ("y ~ cosy(f(g))", r"Got 'f\(g\)' where the series' grouping should stand"),
        ("y ~ cosy(a:)", "After ':' another column of the grouping is missing"),
        ("y ~ cosy(a b)", "Got 'b' where the series' grouping should stand"),
        ("y ~ x - ar(t, g)", "A residual structure is added, it cannot be taken away"),
        ("y ~ ar(t, g):x", "A residual structure is a term of its own: join it by"),
        ("y ~ x * ar(t, g)", r"ar\(\) is a term of its own, joined by \+"),
        ("y ~ (ar(t, g) | g)", r"ar\(\) is a term of its own, joined by \+"),
        ("y ~ (x + cosy(g))", r"cosy\(\) is a term of its own, joined by \+"),
        ("y ~ ar(t, g) + cosy(g)", r"one residual structure; ar\(t, g\) stands already"),
        ("y ~ ar(t, g) + ar(t, g)", r"one residual structure; ar\(t, g\) stands already"),
        ("y ~ ar(t, g", r"This '\(' is never closed"),
    ],
)
def test_what_is_no_structure(text, message):
    with pytest.raises(FormulaError, match=message) as caught:
        parse_formula(text)
    assert "^" in str(caught.value)


def test_a_formula_for_sigma():
    parsed = parse_formula(["y ~ x  + (1 | g)", "sigma ~  0 + C(t)"])
    assert parsed.text == "y ~ x + (1 | g); sigma ~ 0 + C(t)"
    assert parsed.sigma.common == "0 + `C(t)`"
    assert parsed.columns == ("y", "x", "t", "g")
    again = parse_formula(parsed.text)
    assert again.sigma.common == parsed.sigma.common
    assert again.common == parsed.common
    assert str(again) == parsed.text


def test_a_semicolon_in_quotes_starts_no_formula():
    assert parse_formula("`a; b ~ c` ~ x").response.label == "a; b ~ c"
    parsed = parse_formula("y ~ C(h, levels=['a; sigma ~ x', 'b']); sigma ~ x")
    assert parsed.sigma.common == "`x`"
    with pytest.raises(FormulaError, match="The character ';' has no meaning"):
        parse_formula("y ~ x; import os")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (["y ~ x", "y + 1 ~ x"], "a second formula, for .*response comes first"),
        (["y ~ x", "log(sigma) ~ x"], "a second formula, for 'log"),
        (["y ~ x", "sigma ~ x", "sigma ~ 1"], "sigma has two formulas"),
        (["y ~ x", "sigma ~ ar(t, g)"], r"ar\(\) stands in the formula of the response"),
        (["y ~ x", "sigma"], "The formula has no '~'"),
        (["y ~ x", ""], "The formula is empty"),
        ([], "The formula is empty"),
        (["y ~ x", 3], "A formula is text"),
        (3, "A formula is text.*got int"),
    ],
)
def test_what_is_no_formula_for_sigma(formula, message):
    with pytest.raises(FormulaError, match=message):
        parse_formula(formula)


# --- data -----------------------------------------------------------------------------------------


def test_series_order_and_levels(frame):
    shuffled = frame.sample(frac=1.0, random_state=1)
    found = residual("y ~ ar(t, g)", shuffled)
    assert found.series_levels == tuple("012345")
    np.testing.assert_array_equal(found.series, shuffled["g"])
    ordered = shuffled.iloc[found.order]
    np.testing.assert_array_equal(ordered["g"], np.sort(frame["g"]))
    np.testing.assert_array_equal(ordered["t"], np.tile([0, 1, 3, 4], 6))
    assert found.structure == "ar"
    assert "marginal sd" in found.note
    assert residual("y ~ cosy(g)", frame).note == ""


def test_rows_without_a_time_are_dropped_and_leave_a_gap(frame):
    gap = frame.assign(t=frame["t"].astype(float))
    gap.loc[101, "t"] = np.nan
    found = design("y ~ ar(t, g)", gap)
    assert found.dropped.by_column == {"t": 1}
    # the first series now has times 0, 3, 4: gaps 1 and 3 beside the others' 1, 2, 1
    np.testing.assert_array_equal(found.residual.found.steps, [[1, 11], [2, 5], [3, 1]])


def test_matrices_are_none_diagonal_or_sparse(frame):
    assert residual("y ~ x", frame).bases == (None,)
    (diagonal,) = residual("y | precision(w) ~ x", frame).bases
    np.testing.assert_allclose(diagonal, frame["w"])
    strata = residual(["y ~ x", "sigma ~ 0 + h"], frame).bases
    np.testing.assert_array_equal(np.sum(strata, axis=0), np.ones(24))
    for matrix in residual("y ~ unstr(t, g)", frame).bases:
        assert isinstance(matrix, sparse.csr_array)
        assert matrix.shape == (24, 24)
        assert abs(matrix - matrix.T).nnz == 0
    first = residual("y ~ ar(t, g)", frame.assign(t=np.tile(np.arange(4), 6))).bases
    assert first[0] is None
    assert residual("y | weights(w) ~ x", frame).total_weight == pytest.approx(frame["w"].sum())


@pytest.mark.parametrize(
    ("formula", "kind", "labels"),
    [
        ("y ~ x", "one", ("",)),
        (["y ~ x", "sigma ~ 1"], "one", ("",)),
        (["y ~ x", "sigma ~ 0 + h"], "strata", ("a", "b", "c")),
        (["y ~ x", "sigma ~ 0 + C(t)"], "strata", ("0", "1", "3", "4")),
        (["y ~ x", "sigma ~ h - 1"], "strata", ("a", "b", "c")),
        (["y ~ x", "sigma ~ 0 + site:wave"], "strata", ("n:p", "s:p", "n:q", "s:q")),
        (["y ~ x", "sigma ~ h"], "linear", ("Intercept", "h[T.b]", "h[T.c]")),
        (["y ~ x", "sigma ~ x"], "linear", ("Intercept", "x")),
        (["y ~ x", "sigma ~ 0 + x"], "linear", ("x",)),
        (["y ~ x", "sigma ~ 0 + h + site"], "linear", ("h[a]", "h[b]", "h[c]", "site[T.s]")),
        ("y ~ unstr(when, g)", "strata", ("august", "july", "june", "may")),
        ("y ~ unstr(half, g)", "strata", ("0", "0.5", "1", "1.5")),
        ("y ~ unstr(t, g)", "strata", ("0", "1", "3", "4")),
    ],
)
def test_kinds_of_sigma(frame, formula, kind, labels):
    sigma = residual(formula, frame).sigma
    assert (sigma.kind, sigma.labels) == (kind, labels)


def test_strata_are_the_rows_levels(frame):
    found = residual(["y ~ x", "sigma ~ 0 + site:wave"], frame).sigma
    own = (frame["site"] + ":" + frame["wave"]).tolist()
    assert [found.labels[s] for s in found.strata] == own
    ordered = frame.assign(h=pd.Categorical(frame["h"], ["c", "z", "a", "b"], ordered=True))
    assert residual(["y ~ x", "sigma ~ 0 + h"], ordered).sigma.labels == ("c", "a", "b")
    kept = frame.assign(h=pd.Categorical(frame["h"], ["c", "z", "a", "b"]))
    assert residual(["y ~ x", "sigma ~ 0 + h"], kept).sigma.labels == ("c", "a", "b")


def test_known_errors_leave_no_sigma(frame):
    found = residual("y | se(s) ~ x", frame)
    assert found.sigma is None
    assert (found.n_sigma, found.simple) == (0, True)
    np.testing.assert_allclose(found.bases[0], frame["s"] ** -2.0)
    assert found.constant == pytest.approx(2 * np.log(frame["s"]).sum())
    assert residual("y | se(s) ~ ar(t, g)", frame).sigma is None


def test_families_without_sigma_have_no_residual(frame):
    assert design("count ~ x", frame, Family("poisson")).residual is None


@pytest.mark.parametrize(
    ("formula", "error", "message"),
    [
        (
            "y ~ ar(half, g)",
            DataError,
            r"is 0.5 at row \S*101\S* .12 rows in all.; it must be a whole",
        ),
        ("y ~ ar(when, g)", DataError, "The time when is a factor; it must be numeric"),
        (
            "y ~ ar(t, site)",
            DataError,
            r"time t is the same at row \S*100\S* and row \S*104\S* of the series 'n'; under",
        ),
        ("y ~ unstr(h, g)", DataError, r"The time h is the same at row \S*101\S* and row \S*102"),
        ("y ~ ar(t, nope)", DataError, "The data have no column 'nope'"),
        (["y ~ x", "sigma ~ nope"], DataError, "The data have no column 'nope'"),
        (
            "y ~ (1 | wave) + ar(t, g)",
            DataError,
            "The series of ar.t, g. must each lie in one level of every grouping; the series '0' "
            "lies in several levels of 'wave'",
        ),
        ("y ~ (1 | site) + (1 | wave) + cosy(g)", DataError, "several levels of 'wave'"),
        ("y ~ unstr(t, site:g) + (1 | wave)", DataError, "several levels of 'wave'"),
        ("y ~ (1 | g) + cosy(g)", FormulaError, r"\(1 \| g\) and cosy\(g\) are not identified"),
        ("y ~ (x | same) + cosy(g)", FormulaError, r"\(1 \| same\) and cosy\(g\) are not ident"),
        ("y ~ (0 + x | g) + unstr(t, g)", FormulaError, "A bar by 'g' and unstr.* not identified"),
        ("y ~ cosy(y)", DataError, "the number .* a grouping needs whole numbers"),
        ("y ~ ar(t, g:t)", DataError, "Every series of ar.t, g:t. has one row only"),
        ("y | se(s, sigma=True) ~ ar(t, g)", FormulaError, "adds independent errors to correl"),
        (["y | se(s) ~ x", "sigma ~ x"], FormulaError, "replaces sigma.*se.s, sigma=True"),
        (["y ~ unstr(t, g)", "sigma ~ 0 + h"], FormulaError, "a sd for each time of its own"),
        ("y | weights(w) ~ cosy(g)", DataError, "the weights differ within a series"),
        (["y ~ x", "sigma ~ 0 + h:k"], DataError, "The stratum .* has no rows.*Merge levels"),
        (["y ~ x", "sigma ~ 0"], FormulaError, "has no term. For one sd write 'sigma ~ 1'"),
        (["y ~ x", "sigma ~ x + I(2 * x)"], DataError, "cannot be told apart"),
        (["y ~ x", "sigma ~ x + I(x * 0 + 1)"], DataError, "cannot be told apart"),
    ],
)
def test_errors(frame, formula, error, message):
    with pytest.raises(error, match=message):
        design(formula, frame)


def test_structures_belong_to_gaussian_residuals(frame):
    with pytest.raises(FormulaError, match="this model has family='poisson' with the link log"):
        design("count ~ ar(t, g)", frame, Family("poisson"))
    positive = frame.assign(y=frame["y"] ** 2 + 1)
    with pytest.raises(FormulaError, match=r"cosy\(g\) is a structure of Gaussian residuals"):
        design("y ~ cosy(g)", positive, Family("gaussian", "log"))
    with pytest.raises(FormulaError, match="The family 'poisson' has no sigma"):
        design(["count ~ x", "sigma ~ x"], frame, Family("poisson"))
    assert design(["y ~ x", "sigma ~ x"], positive, Family("gaussian", "log")).residual is not None


def test_series_within_bars_of_other_groupings_are_fine(frame):
    assert residual("y ~ (1 | site) + cosy(g)", frame).structure == "cosy"
    assert residual("y ~ (x | g) + (1 | site) + ar(t, g)", frame).structure == "ar"
    assert residual("y ~ (1 | site) + unstr(t, g)", frame).structure == "unstr"
    assert residual("y ~ (0 + x | g) + cosy(g)", frame).structure == "cosy"


def test_long_series_and_many_gaps_are_refused_with_the_reason():
    rng = np.random.default_rng(1)
    n = 5000
    frame = pd.DataFrame({"y": rng.normal(size=n), "g": 1, "t": np.cumsum(np.arange(n) % 1500 + 1)})
    assert "so long (up to 5,000 rows)" in residual("y ~ cosy(g)", frame).reason
    found = residual("y ~ ar(t, g)", frame)
    assert found.found is None
    assert "more matrices than the 1,000" in found.reason


def test_a_grouping_may_not_take_the_names_of_sigma(frame):
    for name in ("sigma_stratum", "sigma_coef", "sigma_b"):
        with pytest.raises(DataError, match=f"may not be called '{name}'"):
            design(f"y ~ (1 | {name})", frame.assign(**{name: frame["g"]}))


@pytest.mark.parametrize("formula", ["y ~ ar(t, g)", "y | se(s) ~ cosy(g)"])
def test_the_conditional_engine_refuses(frame, formula):
    found = design(formula, frame)
    with pytest.raises(EngineError, match="The conditional engine cannot take"):
        conditional_problem(found, GAUSSIAN, resolve_priors(found, GAUSSIAN), ())


# --- priors ---------------------------------------------------------------------------------------


def table_of(formula, data, user=None):
    table = priors_of(formula, data, user).table
    return {row.parameter: row for row in table.itertuples()}


def test_default_priors(frame):
    sd = float(frame["y"].std())
    default = Prior("HalfStudentT", 3.0, sd)
    plain = priors_of("y ~ x", frame)
    assert plain.sigma == default
    assert plain.residual.sigma == (default,)
    assert plain.residual.correlation is None

    rows = table_of(["y ~ x + ar(t, g)", "sigma ~ 0 + h"], frame)
    assert list(rows)[2:] == ["sigma[a]", "sigma[b]", "sigma[c]", "ar"]
    assert rows["ar"].prior == "Uniform(lower=-1, upper=1)"
    assert rows["sigma[b]"].prior == str(default)
    structured = priors_of(["y ~ x + ar(t, g)", "sigma ~ 0 + h"], frame)
    assert structured.sigma is None
    assert structured.residual.sigma == (default,) * 3

    cosy = priors_of("y ~ cosy(g)", frame).residual
    assert cosy.correlation == Prior("Uniform", -1 / 3, 1.0)
    assert (cosy.lower, cosy.upper) == (-1 / 3, 1.0)
    unstructured = priors_of("y ~ unstr(t, g)", frame).residual
    assert unstructured.correlation == Prior("LKJ", 1.0)
    assert len(unstructured.sigma) == 4
    assert priors_of("y | se(s) ~ x", frame).residual.sigma == ()


def test_user_priors(frame):
    user = {"sigma": "LogNormal(-1.5, 1)", "sigma[b]": "HalfNormal(2)", "ar": "Normal(0, 0.5)"}
    found = priors_of(["y ~ ar(t, g)", "sigma ~ 0 + h"], frame, user).residual
    wide = Prior("LogNormal", -1.5, 1.0)
    assert found.sigma == (wide, Prior("HalfNormal", 2.0), wide)
    assert found.correlation == Prior("Normal", 0.0, 0.5)
    rows = table_of(["y ~ ar(t, g)", "sigma ~ 0 + h"], frame, user)
    assert (rows["ar"].source, rows["ar"].how) == ("user", "truncated to (-1, 1)")
    part = priors_of("y ~ cosy(g)", frame, {"cosy": "Uniform(-1, 0.5)"}).residual
    assert (part.lower, part.upper) == (-1 / 3, 0.5)
    positive = priors_of("y ~ cosy(g)", frame, {"cosy": "Uniform(0, 1)"}).residual
    assert (positive.lower, positive.upper) == (0.0, 1.0)
    own = priors_of(
        "y ~ unstr(t, g)", frame, {"cor_residual": "LKJ(3)", "sigma[3]": "HalfNormal(1)"}
    )
    assert own.residual.correlation == Prior("LKJ", 3.0)
    assert own.residual.sigma[2] == Prior("HalfNormal", 1.0)


@pytest.mark.parametrize(
    ("formula", "user", "message"),
    [
        ("y ~ x", {"ar": "Uniform(0, 1)"}, "'ar' names nothing in this model"),
        ("y ~ ar(t, g)", {"cosy": "Uniform(0, 1)"}, "'cosy' names nothing"),
        ("y ~ ar(t, g)", {"sigma[a]": "HalfNormal(1)"}, "names nothing"),
        (
            "y ~ ar(t, g)",
            {"ar": "HalfNormal(1)"},
            "HalfNormal is no prior for 'ar'; allowed are Unif",
        ),
        ("y ~ ar(t, g)", {"ar": "LKJ(1)"}, "LKJ is no prior for 'ar'"),
        (
            "y ~ ar(t, g)",
            {"ar": "Uniform(1, 2)"},
            "lies between -1 and 1; give bounds that overlap",
        ),
        ("y ~ ar(t, g)", {"ar": "Uniform(1, 0)"}, "lower must be below upper"),
        ("y ~ ar(t, g)", {"ar": "Cauchy(0, 1)"}, "Cauchy is no prior for 'ar'"),
        ("y ~ unstr(t, g)", {"cor_residual": "Uniform(0, 1)"}, "Uniform is no prior for 'cor_res"),
        ("y ~ x", {"sigma": "Uniform(0, 1)"}, "Uniform is no prior for 'sigma'"),
        ("y ~ x", {"b": "Uniform(0, 1)"}, "Uniform is no prior for 'b'"),
        ("y | se(s) ~ ar(t, g)", {"sigma": "HalfNormal(1)"}, "'sigma' names nothing"),
        (["y ~ x", "sigma ~ x"], {"sigma": "HalfNormal(1)"}, "'sigma' names nothing"),
        (["y ~ x", "sigma ~ x"], {"sigma_b": "HalfNormal(1)"}, "no prior for 'sigma_b.*'"),
    ],
)
def test_priors_that_do_not_fit(frame, formula, user, message):
    with pytest.raises(PriorError, match=message):
        priors_of(formula, frame, user)


def test_priors_of_a_log_linear_sd(frame):
    """At the means; a user's prior is on the raw coefficient."""
    sd = float(frame["y"].std())
    rows = table_of(["y ~ 1", "sigma ~ x + h"], frame)
    assert list(rows)[1:] == [
        "sigma_Intercept",
        "sigma_b[h[T.b]]",
        "sigma_b[h[T.c]]",
        "sigma_b[x]",
    ] or (list(rows)[1:] == ["sigma_Intercept", "sigma_b[x]", "sigma_b[h[T.b]]", "sigma_b[h[T.c]]"])
    found = priors_of(["y ~ 1", "sigma ~ x"], frame).residual
    assert found.sigma[0] == Prior("Normal", math.log(sd), 1.0)
    spread = float(np.std(frame["x"]))
    assert found.sigma[1].values == pytest.approx((0.0, 1.0 / spread))
    own = residual(["y ~ 1", "sigma ~ x"], frame).sigma
    np.testing.assert_allclose(
        found.predictors[own.strata][:, 1], frame["x"] - frame["x"].mean(), atol=1e-10
    )
    raw = priors_of(["y ~ 1", "sigma ~ x"], frame, {"sigma_Intercept": "Normal(0, 2)"}).residual
    np.testing.assert_array_equal(raw.T[0], [1.0, 0.0])
    np.testing.assert_allclose(raw.predictors[own.strata][:, 1], frame["x"], rtol=1e-12)
    row = table_of(["y ~ 1", "sigma ~ x"], frame, {"sigma_b[x]": "Normal(0, 2)"})["sigma_b[x]"]
    assert (row.source, row.prior) == ("user", "Normal(mu=0, sigma=2)")


@pytest.mark.parametrize(
    ("formula", "user"),
    [
        ("y ~ x", {}),
        ("y | se(s) ~ x", {}),
        (["y ~ ar(t, g)", "sigma ~ 0 + h"], {"ar": "Normal(0, 0.5)", "sigma[b]": "HalfNormal(2)"}),
        (["y ~ cosy(g)", "sigma ~ x"], {"sigma_Intercept": "Normal(0, 2)"}),
        ("y ~ unstr(t, g)", {}),
    ],
)
def test_priors_of_residuals_survive_as_plain_values(frame, formula, user):
    wanted = priors_of(formula, frame, user).residual
    text = json.dumps(wanted.as_dict())
    got = ResidualPriors.from_dict(json.loads(text), residual(formula, frame))
    assert (got.sigma, got.correlation) == (wanted.sigma, wanted.correlation)
    assert (got.lower, got.upper) == (wanted.lower, wanted.upper)
    np.testing.assert_array_equal(got.T, wanted.T)
    np.testing.assert_allclose(got.predictors, wanted.predictors, rtol=1e-12, atol=1e-12)


def test_the_prior_of_a_log_linear_sd_does_not_depend_on_where_x_is_zero(frame):
    """Mean and covariance of the log sds over the rows, from independent coordinates."""

    def moments(data):
        found = priors_of(["y ~ 1", "sigma ~ x * site"], data).residual
        strata = residual(["y ~ 1", "sigma ~ x * site"], data).sigma.strata
        X = found.predictors[strata]
        mean, sd = np.array([prior.values for prior in found.sigma]).T
        return X @ mean, (X * sd**2) @ X.T

    wanted = moments(frame)
    for scale, shift in ((1.0, 1e4), (-30.0, 5.0), (1e-3, -2.0)):
        got = moments(frame.assign(x=scale * frame["x"] + shift))
        # predictors of size 1e4 keep 1e-12 of their spread of 20
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-9)
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-8, atol=1e-10)

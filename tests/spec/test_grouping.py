"""``gr()`` and ``mm()``: grammar, levels, subpopulations, covariances, memberships."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError, FormulaError
from hiermodels.spec.design import build_design, known_covariances
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import Prior, resolve_priors

LEVELS = tuple(f"g{i}" for i in range(6))


def design(formula, data, covariances=None):
    return build_design(parse_formula(formula), data, Family("gaussian"), covariances)


def relationship(labels, seed=1):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(len(labels), len(labels)))
    matrix = factor @ factor.T + np.eye(len(labels))
    return pd.DataFrame(matrix, list(labels), list(labels))


# --- grammar ----------------------------------------------------------------------------------


def test_what_is_read():
    parsed = parse_formula(
        'y ~ (x | gr(g, by=h, cov = K, dist="student")) + (1 | gr(a:b)) '
        "+ (1 | mm(s1, `s 2`, weights=cbind(w1, w2 * 2), scale=False))"
    )
    first, second, third = (bar.structure for bar in parsed.bars)
    assert (first.columns, first.by, first.cov, first.dist) == (("g",), "h", "K", "student")
    assert (second.columns, second.name, second.multiple) == (("a", "b"), "a:b", False)
    assert third.name == "mms1s 2"
    assert [weight.label for weight in third.weights] == ["w1", "w2 * 2"]
    assert not third.scale
    # the name of a covariance is no column
    assert parsed.columns == ("y", "x", "g", "h", "a", "b", "s1", "s 2", "w1", "w2")


def test_independent_effects_of_a_structured_grouping():
    for text in ("(x || gr(g, by=h))", "(x | gr(g, by=h, cor=FALSE))"):
        bars = parse_formula(f"y ~ {text}").bars
        assert all(bar.structure.by == "h" for bar in bars)
        assert not any(bar.correlated and "1 +" in bar.effects for bar in bars)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("gr()", r"write gr\(g, by=h"),
        ("gr(g, what=h)", "Got 'what=h'"),
        ("gr(g, by=h, by=k)", "Got 'by=k'"),
        ("gr(g, by=h + 1)", "where a name should stand"),
        ("gr(g, by='h')", "no meaning in a formula"),
        ("gr(g + h)", "where a grouping column should stand"),
        ("gr(g:)", "grouping column is missing"),
        ("gr(by=h)", r"write gr\(g, by=h"),
        ('gr(g, dist="cauchy")', "Got dist='cauchy'; allowed are"),
        ("gr(g, cor=3)", "it is True or False"),
        ("gr(g):h", "the whole grouping"),
        ("h/gr(g)", "the whole grouping"),
        ("mm(g)", r"write mm\(g1, g2"),
        ("mm(g, g)", "names a grouping twice"),
        ("mm(a:b, g)", "where a grouping column should stand"),
        ("mm(a, b, weights=w)", r"write weights=cbind\(w1, ...\).*2 memberships"),
        ("mm(a, b, weights=cbind(w))", "2 memberships"),
        ("mm(a, b, weights=cbind(w, ))", "2 memberships"),
        ("mm(a, b, by=h)", "Got 'by=h'"),
        ("other(g)", "A grouping is a column"),
    ],
)
def test_what_is_refused(group, message):
    with pytest.raises(FormulaError, match=message):
        parse_formula(f"y ~ x + (1 | {group})")


def test_a_group_call_stands_in_a_bar():
    with pytest.raises(FormulaError, match=r"gr\(\) stands on the right of a bar"):
        parse_formula("y ~ gr(g)")


# --- levels -----------------------------------------------------------------------------------


def test_gr_alone_is_the_grouping(frame):
    plain, called = design("y ~ (x | g)", frame), design("y ~ (x | gr(g))", frame)
    assert plain.terms[0].plain
    assert called.terms[0].plain
    np.testing.assert_array_equal(plain.terms[0].index, called.terms[0].index)
    assert plain.groups[0].name == called.groups[0].name == "g"


def test_subpopulations(frame):
    frame = frame.assign(half=frame["g"].isin(["g1", "g4"]).map({True: "second", False: "first"}))
    (term,) = design("y ~ (x | gr(g, by=half))", frame).terms
    assert term.by.labels == ("first", "second")
    np.testing.assert_array_equal(term.by.index, [0, 1, 0, 0, 1, 0])
    assert not term.plain
    with pytest.raises(
        DataError, match=r"every level in one subpopulation; 'g\d' has several.*'h'"
    ):
        design("y ~ (1 | gr(g, by=h))", frame)
    within = design("y ~ (1 | gr(h:g, by=h))", frame).terms[0]
    assert [within.by.labels[k] for k in within.by.index] == [
        label.split(":")[0] for label in within.levels
    ]


def test_memberships(frame):
    frame = frame.assign(g2=np.roll(frame["g"], 7), w1=2.0, w2=np.arange(60.0))
    (term,) = design("y ~ (x | mm(g, g2, weights=cbind(w1, w2)))", frame).terms
    assert term.group == "mmgg2"
    assert term.levels == LEVELS
    for m, column in enumerate(["g", "g2"]):
        assert [LEVELS[k] for k in term.members.index[:, m]] == list(frame[column])
    np.testing.assert_allclose(term.members.weights.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(term.members.weights[:, 0], 2 / (2 + np.arange(60)))
    raw = design("y ~ (1 | mm(g, g2, weights=cbind(w1, w2), scale=False))", frame).terms[0]
    np.testing.assert_array_equal(raw.members.weights, frame[["w1", "w2"]])
    equal = design("y ~ (1 | mm(g, g2))", frame)
    np.testing.assert_array_equal(equal.terms[0].members.weights, 0.5)
    assert equal.groups[0].n_rows.sum() == 120


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w1": -1.0}, "weight w1 of mm.. is -1 at row 0"),
        ({"w1": 0.0, "w2": 0.0}, "All weights of mm.. are 0 at row 0"),
        ({"w1": "much"}, "weight w1 is a factor"),
    ],
)
def test_weights_of_memberships(frame, change, message):
    frame = frame.assign(g2=np.roll(frame["g"], 7), w1=2.0, w2=1.0).assign(**change)
    with pytest.raises(DataError, match=message):
        design("y ~ (1 | mm(g, g2, weights=cbind(w1, w2)))", frame)


def test_a_grouping_has_one_structure(frame):
    frame = frame.assign(g2=np.roll(frame["g"], 7), half=frame["g"] == "g1")
    for second in ("(0 + x | g)", "(0 + x | gr(g, dist='student'))"):
        with pytest.raises(FormulaError, match="grouping 'g' has two structures"):
            design(f"y ~ (1 | gr(g, by=half)) + {second}", frame)
    with pytest.raises(FormulaError, match="share their degrees of freedom"):
        design("y ~ (x || gr(g, dist='student'))", frame)
    with pytest.raises(DataError, match="may not be called 'coef'"):
        design("y ~ (1 | gr(g, by=coef))", frame.assign(coef=frame["half"]))


# --- known covariances ------------------------------------------------------------------------


def test_a_covariance_is_put_in_the_levels_order(frame):
    known = relationship(["g5", "g2", "other", "g0", "g1", "g3", "g4"])
    (term,) = (made := design("y ~ (1 | gr(g, cov=K))", frame, {"K": known})).terms
    np.testing.assert_allclose(term.cov, known.loc[list(LEVELS), list(LEVELS)], rtol=1e-15)
    pd.testing.assert_frame_equal(
        known_covariances(made)["K"], known.loc[list(LEVELS), list(LEVELS)]
    )
    array = design("y ~ (1 | gr(g, cov=K))", frame, {"K": term.cov}).terms[0]
    np.testing.assert_array_equal(array.cov, term.cov)
    numbered = relationship([1, 2, 3, 4])
    assert design("y ~ (1 | gr(s, cov=K))", frame, {"K": numbered}).terms[0].cov.shape == (4, 4)


def test_what_is_no_covariance(frame):
    good = relationship(LEVELS)
    lopsided, indefinite, holes = good.copy(), good.copy(), good.copy()
    lopsided.iloc[0, 1] += 1.0
    indefinite.iloc[0, 0] = 0.0
    holes.iloc[1, 2] = np.nan
    same = good.copy()
    same.iloc[1, :] = same.iloc[0, :]
    same.iloc[:, 1] = same.iloc[:, 0]
    cases = [
        (good.to_numpy()[:, :4], "a square matrix; got one of 6 × 4"),
        (np.eye(5), "is 5 × 5, and the grouping has 6 levels"),
        (3.0, "a square matrix"),
        ("K", "must hold numbers"),
        (good.rename(index={"g3": "x"}, columns={"g3": "x"}), "lacks the level 'g3' .1 of 6"),
        (good.rename(columns={"g3": "x"}), "same names in its rows and columns.*'g3'"),
        (good.rename(index={"g3": "g2"}, columns={"g3": "g2"}), "each once; see 'g2'"),
        (lopsided, "not symmetric: .* for 'g0' and 'g1'"),
        (indefinite, "not positive definite: its smallest eigenvalue is -"),
        (same, "not positive definite.*the same individual"),
        (holes, "holds nan in row 1, column 2"),
    ]
    for value, message in cases:
        with pytest.raises(DataError, match=message):
            design("y ~ (1 | gr(g, cov=K))", frame, {"K": value})


def test_covariances_and_their_names(frame):
    good = relationship(LEVELS)
    with pytest.raises(
        FormulaError, match=r"cov=K names no covariance; given are none.*covariances"
    ):
        design("y ~ (1 | gr(g, cov=K))", frame)
    with pytest.raises(DataError, match="holds 'L', which no bar uses; the formula names 'K'"):
        design("y ~ (1 | gr(g, cov=K))", frame, {"K": good, "L": good})
    with pytest.raises(DataError, match=r"covariances is a dictionary.*got DataFrame"):
        design("y ~ (1 | gr(g, cov=K))", frame, good)


# --- priors -----------------------------------------------------------------------------------


def test_priors_of_structured_bars(frame):
    frame = frame.assign(half=frame["g"].isin(["g1", "g4"]).map({True: "b", False: "a"}))
    made = design('y ~ (x | gr(g, by=half, dist="student"))', frame)
    family = Family("gaussian")
    table = resolve_priors(made, family).table.set_index("parameter")
    wanted = ["sd_g[a, Intercept]", "sd_g[a, x]", "sd_g[b, Intercept]", "sd_g[b, x]"]
    assert [name for name in table.index if name.startswith("sd_")] == wanted
    assert table.loc["nu_g", "prior"] == "Gamma(alpha=2, beta=0.1)"
    given = {
        "sd_g": "HalfNormal(1)",
        "sd_g[b]": "HalfNormal(2)",
        "sd_g[x]": "HalfNormal(3)",
        "sd_g[b, x]": "HalfNormal(4)",
        "nu_g": "Gamma(4, 1)",
    }
    own = resolve_priors(made, family, given).terms[0]
    assert [prior.values[0] for prior in own.sd] == [1.0, 3.0, 2.0, 4.0]
    assert own.nu == Prior("Gamma", 4.0, 1.0)

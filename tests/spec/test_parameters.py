"""Formulas for the family's parameters: grammar, design, priors, new rows."""

import numpy as np
import pytest

from hiermodels.errors import DataError, FormulaError, PriorError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.priors import Prior, resolve_priors

BOTH = ["count ~ x + (x | g)", "shape ~ z * h + offset(w) + (z | s) + (1 | g)"]


def made(formula, frame, family="negativebinomial", priors=None):
    chosen = Family(family)
    design = build_design(parse_formula(formula), frame, chosen)
    return design, resolve_priors(design, chosen, priors)


def test_a_list_of_formulas_is_read():
    parsed = parse_formula(BOTH)
    assert str(parsed) == "; ".join(BOTH)
    own = parsed.parameters["shape"]
    assert own.common == "`z`*`h`"
    assert [bar.group_name for bar in own.bars] == ["s", "g"]
    assert set(parsed.columns) == {"count", "x", "g", "z", "h", "w", "s"}
    assert parse_formula(str(parsed)) == parse_formula([*BOTH])


def test_a_parameter_is_coded_like_the_mean(frame):
    """The same right side gives the same columns, whichever linear predictor it stands in."""
    design, priors = made(BOTH, frame)
    (own,) = design.parameters
    twin = build_design(
        parse_formula("count ~ z * h + offset(w) + (z | s) + (1 | g)"), frame, Family("poisson")
    )
    assert (own.name, own.link, own.intercept) == ("shape", "log", 0)
    assert own.coefs == twin.coefs
    assert own.slopes == twin.slopes
    for name in ("X", "X_centred", "T", "offset"):
        np.testing.assert_array_equal(getattr(own, name), getattr(twin, name))
    for term, other in zip(own.terms, twin.terms, strict=True):
        assert (term.group, term.coefs, term.levels) == (other.group, other.coefs, other.levels)
        np.testing.assert_array_equal(term.z_centred, other.z_centred)
    np.testing.assert_allclose(
        priors.parameters[0].X, own.X @ priors.parameters[0].T, rtol=0, atol=1e-12
    )


def test_new_rows_of_every_predictor(frame):
    design, _ = made(BOTH, frame)
    rows = [7, 3, 11]
    new = frame.iloc[rows].drop(columns=["count", "g", "s"])
    mean = design.encoding.rows(new.drop(columns=["z", "h", "w"]))
    np.testing.assert_array_equal(mean.X, design.X[rows])
    np.testing.assert_array_equal(mean.z[0], design.terms[0].z[rows])
    np.testing.assert_array_equal(mean.offset, 0)
    own = design.encoding.parameters["shape"].rows(new.drop(columns="x"))
    part = design.parameters[0]
    np.testing.assert_array_equal(own.X, part.X[rows])
    np.testing.assert_array_equal(own.offset, part.offset[rows])
    for z, term in zip(own.z, part.terms, strict=True):
        np.testing.assert_array_equal(z, term.z[rows])
    with pytest.raises(DataError, match="'w' of the new data has missing"):
        design.encoding.parameters["shape"].rows(new.assign(w=np.nan))


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        (["count ~ x", "shape ~ z"], "poisson", "'poisson' has no shape"),
        (["count ~ x", "phi ~ z"], "negativebinomial", "has no phi.*it has shape"),
        (["count ~ x", "cutpoints ~ z"], "cumulative", "'cumulative' has no cutpoints"),
        (["shape ~ x", "count ~ x"], "negativebinomial", "no count.*response comes first"),
        (["y ~ x", "sigma ~ 0"], "t", "has no term"),
        (["y ~ x + ar(s, g)", "sigma ~ (1 | g)"], "gaussian", "ar.*has group effects"),
    ],
)
def test_formulas_that_have_no_meaning(frame, formula, family, message):
    with pytest.raises(FormulaError, match=message):
        build_design(parse_formula(formula), frame, Family(family))


def test_bad_columns_of_a_parameter_are_named(frame):
    with pytest.raises(DataError, match="common part of the formula for shape"):
        made(["count ~ x", "shape ~ z + I(2 * z)"], frame)
    with pytest.raises(DataError, match="bar by g of the formula for shape"):
        made(["count ~ x", "shape ~ (z + I(2 * z) | g)"], frame)
    with pytest.raises(DataError, match=r"'shape_b'.*name of the posterior"):
        made(["count ~ x", "shape ~ (1 | shape_b)"], frame.assign(shape_b=frame["g"]))
    with pytest.raises(DataError, match="'g' and 'shape_g' both need the name 'shape_g_coef'"):
        made("count ~ (1 | g) + (1 | shape_g)", frame.assign(shape_g=frame["s"]))


def test_a_gaussian_sigma_with_bars_is_a_parameter(frame):
    design, priors = made(["y ~ x", "sigma ~ z + (1 | g)"], frame, "gaussian")
    assert [own.name for own in design.parameters] == ["sigma"]
    assert design.residual.sigma.kind == "modelled"
    assert "group effects" in design.residual.reason
    assert priors.sigma is None
    assert priors.residual.sigma == ()
    plain, _ = made(["y ~ x", "sigma ~ z"], frame, "gaussian")
    assert plain.parameters == ()
    assert plain.residual.sigma.kind == "linear"
    student, _ = made(["y ~ x", "sigma ~ z"], frame, "t")
    assert [own.name for own in student.parameters] == ["sigma"]


# --- priors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "response", "wanted"),
    [
        ("negativebinomial", "count", {"shape": "HalfStudentT(nu=3, sigma=5)"}),
        ("gamma", "z", {"shape": "HalfStudentT(nu=3, sigma=5)"}),
        ("beta", "unit", {"phi": "HalfStudentT(nu=3, sigma=5)"}),
        ("zero_inflated_poisson", "count", {"zi": "Beta(alpha=1, beta=1)"}),
        ("beta_binomial", "count | trials(n)", {"phi": "HalfStudentT(nu=3, sigma=5)"}),
        ("cumulative", "s", {"cutpoints": "Normal(mu=0, sigma=2.5)"}),
        ("t", "y", {"nu": "Gamma(alpha=2, beta=0.1)"}),
    ],
)
def test_default_priors_of_values(frame, family, response, wanted):
    frame = frame.assign(unit=frame["z"] / 3)
    _, priors = made(f"{response} ~ x", frame, family)
    table = priors.table.set_index("parameter")["prior"]
    for name, prior in wanted.items():
        assert table[name] == prior


def test_a_scale_of_student_errors_is_that_of_the_response(frame):
    _, priors = made("y ~ x", frame, "t")
    sigma, nu = priors.parameters
    assert (sigma.name, nu.name) == ("sigma", "nu")
    assert sigma.value == (Prior("HalfStudentT", 3.0, float(frame["y"].std())),)


def test_default_priors_of_a_linear_predictor(frame):
    """Intercepts at the link of 1, slopes by the sd of their column, whatever its origin."""
    far = frame.assign(z=frame["z"] + 1000)
    found = [made(["count ~ x", "shape ~ z + (z | g)"], data)[1] for data in (frame, far)]
    for priors in found:
        own = priors.parameters[0]
        assert own.value == ()
        assert own.coef[0] == Prior("Normal", 0.0, 2.5)
        np.testing.assert_allclose(own.coef[1].values[1], 1 / frame["z"].std(), rtol=1e-9)
        np.testing.assert_allclose(own.terms[0].sd[0].values, [3.0, 1.0])
        np.testing.assert_allclose(own.terms[0].sd[1].values[1], 1 / frame["z"].std(), rtol=1e-9)
    np.testing.assert_allclose(found[0].parameters[0].X, found[1].parameters[0].X, atol=1e-9)


def test_defaults_of_other_predictors(frame):
    _, zi = made(["count ~ x", "zi ~ x"], frame, "zero_inflated_poisson")
    assert zi.parameters[0].coef[0] == Prior("Normal", 0.0, 1.5)
    _, sigma = made(["y ~ x", "sigma ~ x + (1 | g)"], frame, "gaussian")
    centre, wide = sigma.parameters[0].coef[0].values
    np.testing.assert_allclose([centre, wide], [np.log(frame["y"].std()), 1.0])


def test_a_users_prior_of_a_parameter(frame):
    given = {
        "shape_Intercept": "Normal(1, 0.5)",
        "shape_b": "Normal(0, 0.3)",
        "shape_b[z]": "Normal(0, 0.1)",
        "shape_sd": "HalfNormal(1)",
        "shape_sd_s[z]": "HalfNormal(2)",
        "shape_cor": "LKJ(4)",
        "x": "Normal(0, 9)",
    }
    _, priors = made(BOTH, frame, priors=given)
    table = priors.table.set_index("parameter")
    own = table[table.index.str.startswith("shape")]
    assert set(own["source"]) == {"user"}
    assert table.loc["shape_b[z]", "prior"] == "Normal(mu=0, sigma=0.1)"
    assert table.loc["shape_sd_s[z]", "prior"] == "HalfNormal(sigma=2)"
    assert table.loc["shape_sd_g[Intercept]", "prior"] == "HalfNormal(sigma=1)"
    assert table.loc["shape_cor_s", "prior"] == "LKJ(eta=4)"
    assert table.loc["b[x]", "prior"] == "Normal(mu=0, sigma=9)"
    # on the raw coefficients: no row of T mixes them
    np.testing.assert_array_equal(priors.parameters[0].T, np.eye(len(priors.parameters[0].T)))


@pytest.mark.parametrize(
    ("formula", "family", "priors", "message"),
    [
        ("count ~ x", "negativebinomial", {"shape_b": "Normal(0, 1)"}, "'shape_b' names nothing"),
        (BOTH, "negativebinomial", {"shape": "HalfNormal(1)"}, "'shape' names nothing"),
        ("count ~ x", "negativebinomial", {"shape": "Normal(0, 1)"}, "no prior for 'shape'"),
        ("count ~ x", "zero_inflated_poisson", {"zi": "HalfNormal(1)"}, "allowed are Beta"),
        ("s ~ x", "cumulative", {"cutpoints": "HalfNormal(1)"}, "no prior for 'cutpoints'"),
        ("s ~ x", "cumulative", {"Intercept": "Normal(0, 1)"}, "'Intercept' names nothing"),
        ("count ~ x", "poisson", {"b": "Flat()"}, "does not integrate to 1.*separate.*wide one"),
        ("count ~ (1 | g)", "poisson", {"sd": "HalfFlat()"}, "does not integrate to 1"),
    ],
)
def test_priors_that_do_not_fit(frame, formula, family, priors, message):
    with pytest.raises(PriorError, match=message):
        made(formula, frame, family, priors)


def test_priors_of_cutpoints(frame):
    design, default = made("s ~ x", frame, "cumulative")
    assert design.threshold_labels == ("1|2", "2|3", "3|4")
    assert default.parameters[0].value == (Prior("Normal", 0.0, 2.5),) * 3
    np.testing.assert_allclose(default.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(default.X, design.X + default.shift, atol=1e-12)
    given = {"cutpoints": "Normal(0, 5)", "cutpoints[2|3]": "Normal(1, 1)"}
    _, own = made("s ~ x", frame, "cumulative", given)
    assert own.parameters[0].value[1] == Prior("Normal", 1.0, 1.0)
    assert list(own.table["parameter"]) == [
        "b[x]",
        "cutpoints[1|2]",
        "cutpoints[2|3]",
        "cutpoints[3|4]",
    ]
    # on the raw cutpoints: predictors stay where they are
    np.testing.assert_array_equal(own.shift, 0)
    np.testing.assert_allclose(own.X, design.X, atol=1e-12)


def test_predictor_like_a_parameter_is_reached_by_its_full_key(frame):
    named = frame.assign(shape=frame["x"])
    given = {"shape": "HalfNormal(3)", "b[shape]": "Normal(0, 7)"}
    _, priors = made("count ~ shape", named, priors=given)
    table = priors.table.set_index("parameter")["prior"]
    assert table["shape"] == "HalfNormal(sigma=3)"
    assert table["b[shape]"] == "Normal(mu=0, sigma=7)"

"""Bad input: one clear message each, with what was got, what is allowed and what to do."""

import re

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError, FormulaError, HierModelsError, PriorError
from hiermodels.spec.families import Family, as_family
from hiermodels.spec.priors import resolve_priors


def refused(build, error, *parts, formula, data=None, family="gaussian"):
    """Check that a design is refused and that each part of the message is there, in order."""
    with pytest.raises(error, match="(?s)" + ".*".join(re.escape(part) for part in parts)):
        build(formula, data, family)


# --- formula and columns --------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    ["y ~ xx", "xx ~ y", "y ~ log(xx)", "y ~ (1 | xx)", "y ~ (xx | g)", "y|weights(xx)~1"],
)
def test_unknown_column(build, formula):
    for error in (FormulaError, DataError):
        refused(
            build,
            error,
            "The data have no column 'xx'.",
            "Did you mean 'x'?",
            "They have 'y', 'x', 'z'",
            formula=formula,
        )


def test_attribute_of_a_column(build):
    parts = ("no column 'x.values'", "attribute access is not allowed", "compute the column")
    refused(build, FormulaError, *parts, formula="y ~ x.values")


def test_syntax_with_the_place_marked(build):
    with pytest.raises(FormulaError) as caught:
        build("y ~ x + (1 || g")
    assert str(caught.value).splitlines() == [
        "This '(' is never closed: add the missing ')'.",
        "    y ~ x + (1 || g",
        "            ^",
    ]


def test_text_after_a_complete_formula(build):
    refused(
        build,
        FormulaError,
        "Text after a complete formula. Join terms by +, -, :, * or /.",
        "y ~ x + (x | g) z\n",
        "^",
        formula="y ~ x + (x | g) z",
    )


def test_two_bars_in_one_bracket(build):
    refused(
        build,
        FormulaError,
        "A bar has one '|'. Write two bars: (x | g) + (x | h).",
        formula="y ~ (x | g | s)",
    )


@pytest.mark.parametrize("bar", ["( | g)", "(0 | g)", "(x - x - 1 | g)"])
def test_empty_bar(build, bar):
    refused(
        build,
        FormulaError,
        "The bar has no effects. Write (1 | g) for an intercept by group.",
        formula=f"y ~ x + {bar}",
    )


@pytest.mark.parametrize(
    ("bars", "effect", "once"),
    [
        ("(1 | g) + (x | g)", "Intercept", "(1 + x | g)"),
        ("(x | g) + (0 + x | g)", "x", "(1 + x | g)"),
        ("(x || g) + (x | g)", "Intercept", "(1 + x | g)"),
    ],
)
def test_the_same_effect_twice_on_one_factor(build, bars, effect, once):
    refused(
        build,
        FormulaError,
        f"The effect {effect!r} varies by 'g' in two bars",
        "cannot be told apart",
        f"Write it once, for instance {once}",
        formula=f"y ~ x + {bars}",
    )
    # columns of a factor are no text for a formula
    advice = "Leave it out of one of the two: 0 + leaves out an intercept."
    refused(build, FormulaError, advice, formula="y ~ x + (h | g) + (1 | g)")


def test_one_factor_under_two_names(build, frame):
    frame["copy"] = frame["g"].str.upper()
    parts = ("The groupings 'g' and 'copy' put the same rows together", "'Intercept'", "Leave one")
    refused(build, DataError, *parts, formula="y ~ (1 | g) + (1 | copy)", data=frame)
    refused(build, DataError, "'g:s' and 's:g'", formula="y ~ (1 | g:s) + (1 | s:g)")
    # different effects of one factor under two names can be told apart
    assert len(build("y ~ (1 | g) + (0 + x | copy)", frame).groups) == 2


def test_two_groupings_of_one_name(build, frame):
    frame["g:s"] = frame["w"]
    refused(
        build,
        DataError,
        "Two groupings are called 'g:s'",
        "made of 'g' and 's'",
        "Rename the column",
        formula="y ~ (1 | g:s) + (0 + x | `g:s`)",
        data=frame,
    )


# --- groupings ------------------------------------------------------------------------------


def test_a_grouping_with_one_level(build, frame):
    refused(
        build,
        DataError,
        "The grouping 'g' has one level only ('g1') in the rows used",
        "at least two. Leave the bar out",
        formula="y ~ x + (1 | g)",
        data=frame[frame["g"] == "g1"],
    )


def test_as_many_levels_as_rows(build, frame):
    frame["id"] = range(60)
    refused(
        build,
        DataError,
        "The grouping 'id' has as many levels (60) as there are rows (60)",
        "Leave the bar out, or give known standard errors by 'y | se(s)'",
        formula="y ~ x + (1 | id)",
        data=frame,
    )
    refused(build, DataError, "'id'", formula="y | se(z, sigma=True) ~ (1 | id)", data=frame)
    # one effect a row is what known standard errors and counts allow
    assert build("y | se(z) ~ (1 | id)", frame).n == 60
    assert build("count ~ (1 | id)", frame, "poisson").n == 60


def test_a_grouping_of_fractions(build, frame):
    parts = ("The grouping 'z' holds the number", "(row 0)", "whole numbers, text", "astype(str)")
    refused(build, DataError, *parts, formula="y ~ (1 | z)", data=frame)


@pytest.mark.parametrize("name", ["b", "sigma", "Intercept", "sd", "cor", "r", "chain", "draw"])
def test_a_grouping_named_like_a_reserved_word(build, frame, name):
    refused(
        build,
        DataError,
        f"A grouping may not be called {name!r}",
        f"Rename the column, for instance to {name + '_id'!r}",
        formula=f"y ~ x + (1 | {name})",
        data=frame.assign(**{name: frame["g"]}),
    )


def test_names_that_arviz_needs_say_so(build, frame):
    message = "'sample': that is how ArviZ calls the draws of all chains together. Rename"
    data = frame.assign(sample=frame["g"])
    refused(build, DataError, message, formula="y ~ x + (1 | sample)", data=data)


@pytest.mark.parametrize("name", ["obs", "observation", "row", "id"])
def test_names_that_groupings_by_row_often_have_are_free(build, frame, name):
    data = frame.assign(**{name: range(60)})
    assert build(f"count ~ x + (1 | {name})", data, "poisson").groups[0].name == name


@pytest.mark.parametrize("name", ["a/b", "a[b"])
def test_a_grouping_that_holds_a_slash(build, frame, name):
    refused(
        build,
        DataError,
        f"The grouping {name!r} holds '/' or '['",
        "Rename the column",
        formula=f"y ~ x + (1 | `{name}`)",
        data=frame.assign(**{name: frame["g"]}),
    )


def test_groupings_whose_variables_would_collide(build, frame):
    frame["g_coef"] = frame["s"]
    refused(
        build,
        DataError,
        "The groupings 'g' and 'g_coef' both need the name 'g_coef'",
        "Rename",
        formula="y ~ (1 | g) + (1 | g_coef)",
        data=frame,
    )


# --- predictors -----------------------------------------------------------------------------


def test_a_constant_predictor(build, frame):
    frame["x"] = 4.0
    parts = ("The predictor 'x' in {} is 4 in every row used", "Leave it out")
    refused(
        build, DataError, parts[0].format("the common part"), parts[1], formula="y ~ x", data=frame
    )
    bar = parts[0].format("the bar by g")
    refused(build, DataError, bar, parts[1], formula="y ~ (x | g)", data=frame)
    refused(
        build,
        DataError,
        "scale(x) is nan at row 0 (60 rows in all)",
        "a spread of zero under scale",
        formula="y ~ scale(x)",
        data=frame,
    )


def test_a_factor_with_one_level(build, frame):
    refused(
        build,
        DataError,
        "The factor 'h' has one level only ('mid') in the rows used",
        "Leave it out of the formula",
        formula="y ~ h",
        data=frame[frame["h"] == "mid"],
    )


def test_a_predictor_of_zeros(build, frame):
    refused(
        build,
        DataError,
        "The predictor 'v' in the common part is zero in every row used",
        formula="y ~ 0 + v",
        data=frame.assign(v=0.0),
    )


@pytest.mark.parametrize(
    ("right", "dependent", "partners"),
    [
        ("x + v", "v", "'Intercept', 'x'"),
        ("v + x + z", "x", "'Intercept', 'v'"),
        ("x + I(3 * x)", "I(3 * x)", "'x'"),
        ("x + z + u", "u", "'x', 'z'"),
        ("h + hh", "hh[T.b]", "'h[T.mid]'"),
    ],
)
def test_collinear_predictors_are_named(build, frame, right, dependent, partners):
    frame["v"] = 2 * frame["x"] + 1
    frame["u"] = frame["x"] - 3 * frame["z"]
    frame["hh"] = frame["h"].astype(str).map({"low": "a", "mid": "b", "high": "c"})
    partners = partners.removeprefix("'Intercept', ")  # both are centred before they are compared
    refused(
        build,
        DataError,
        f"The predictor {dependent!r} in the common part is an exact combination of {partners};",
        "Leave one of them out",
        formula=f"y ~ {right}",
        data=frame,
    )


def test_a_spline_beside_an_intercept_is_told_how_to_be_written(build):
    refused(
        build,
        DataError,
        "'cr(x, df=4)[4]' in the common part is an exact combination of",
        "write cr(x, df=4, constraints='center'), or leave the intercept out (0 + ...).",
        formula="y ~ cr(x, df=4)",
    )
    for right in ("cr(x, df=4, constraints='center')", "0 + cr(x, df=4)"):
        assert len(build(f"y ~ {right}").coefs) == 4 + right.startswith("cr")


def test_collinear_effects_of_a_bar(build, frame):
    refused(
        build,
        DataError,
        "The predictor 'I(2 * x)' in the bar by g is an exact combination of 'x'",
        formula="y ~ (x + I(2 * x) | g)",
    )


def test_a_far_copy_is_collinear_and_a_far_neighbour_is_not(build, frame):
    far = frame.assign(v=frame["x"] + 2.0**20)
    refused(build, DataError, "'v'", "exact combination", formula="y ~ x + v", data=far)
    near = frame.assign(v=frame["x"] + 1e-5 * frame["z"] + 2.0**20)
    assert build("y ~ x + v", near).X.shape == (60, 3)


def test_an_empty_cell_of_an_interaction(build, frame):
    data = frame[~((frame["h"] == "high") & (frame["k"] == "q"))]
    refused(
        build,
        DataError,
        "'h[T.high]:k[T.q]' in the common part is zero in every row used",
        "no row has that level or combination of levels",
        "merge levels",
        formula="y ~ h * k",
        data=data,
    )
    data = frame[~((frame["h"] == "low") & (frame["k"] == "p"))]
    refused(
        build,
        DataError,
        "'h[T.high]:k[T.q]' in the common part is an exact combination of",
        "A combination of levels that does not occur",
        formula="y ~ h * k",
        data=data,
    )


def test_more_coefficients_than_rows(build, frame):
    parts = ("There are 3 coefficients in the common part and 2 rows", "Leave predictors out")
    refused(build, DataError, *parts, formula="y ~ x + z", data=frame.iloc[:2])


def test_infinite_values(build, frame):
    frame.index = np.arange(60) + 500
    frame.loc[507, "x"] = -np.inf
    refused(
        build,
        DataError,
        "The column 'x' holds -inf at row 507 (1 row in all)",
        "must be finite. Drop those rows or mend them",
        formula="y ~ x",
        data=frame,
    )
    refused(build, DataError, "holds -inf at row 507", formula="x ~ y", data=frame)


def test_numbers_that_overflow(build, frame):
    big = frame.assign(x=frame["x"] * 1e200)
    parts = ("at row 0 (60 rows in all)", "beyond 1e+100", "Divide the column")
    refused(build, DataError, *parts, formula="y ~ x", data=big)
    small = frame.assign(x=frame["x"] * 1e-200)
    parts = ("'x' in the common part varies by", "Multiply the column")
    refused(build, DataError, *parts, formula="y ~ x", data=small)


@pytest.mark.parametrize("values", ["2020-01-01", pd.Timedelta(1, "D")])
def test_a_datetime_predictor(build, frame, values):
    frame["day"] = pd.to_datetime(values) if isinstance(values, str) else values
    refused(
        build,
        DataError,
        "The column 'day' holds dates or times",
        "needs numbers or factors",
        "(data['day'] - start).dt.days",
        formula="y ~ day",
        data=frame,
    )


@pytest.mark.parametrize(
    ("right", "message"),
    [
        ("I(h * 2)", "I(h * 2) cannot be computed: 'h' is a factor, arithmetic needs numbers"),
        ("log(k)", "log(k) cannot be computed: 'k' is a factor"),
        ("poly(h, 2)", "poly(h, 2) cannot be computed: 'h' is a factor"),
        ("scale(h)", "scale(h) cannot be computed: 'h' is a factor"),
        ("bs(x, df=1)", "bs(x, df=1) cannot be computed: Invalid value for `df`"),
        ("bs(x, nonsense=1)", "bs(x, nonsense=1) cannot be computed"),
        ("C(h, Treatment('other'))", "reference level 'other'; the levels are low, mid, high"),
        ("C(h, levels=['low'])", "must hold every level once; the data have low, mid, high"),
        ("I(-'a' + x)", "I(-'a' + x) cannot be computed"),
        ("offset(h)", "The offset h is a factor; it must be numeric"),
        ("offset(2)", "offset(2) names no column"),
    ],
)
def test_expressions_that_cannot_be_computed(build, right, message):
    refused(build, HierModelsError, message, formula=f"y ~ x + {right}")


# --- frames ---------------------------------------------------------------------------------


def test_a_response_that_is_missing(build, frame):
    frame["y"] = np.nan
    refused(
        build,
        DataError,
        "No row is left: every one of the 60 rows has a missing value.",
        "Missing by column: y (60)",
        "Leave those columns out or fill them in",
        formula="y ~ x",
        data=frame,
    )


def test_all_rows_dropped_between_columns(build, frame):
    frame.loc[:29, "x"] = np.nan
    frame.loc[30:, "z"] = np.nan
    parts = ("No row is left", "Missing by column: x (30), z (30)")
    refused(build, DataError, *parts, formula="y ~ x + z", data=frame)


def test_duplicated_column_names(build, frame):
    data = pd.concat([frame, frame[["x"]]], axis=1)
    parts = ("more than one column named 'x'", "Rename or drop all but one")
    refused(build, DataError, *parts, formula="y ~ x", data=data)
    assert build("y ~ z", data).n == 60  # only columns in use matter


@pytest.mark.parametrize(("name", "kind"), [(3, "int"), (None, "NoneType"), (("a", "b"), "tuple")])
def test_column_names_that_are_no_text(build, frame, name, kind):
    frame.columns = pd.Index([*frame.columns[:-1], name], dtype=object, tupleize_cols=False)
    parts = (f"Column names must be text; got {name!r} ({kind})", "Rename")
    refused(build, DataError, *parts, formula="y ~ x", data=frame)


def test_an_empty_frame(build, frame):
    parts = ("The data frame has no rows",)
    refused(build, DataError, *parts, formula="y ~ x", data=frame.iloc[:0])
    refused(build, DataError, "no column 'y'", formula="y ~ x", data=pd.DataFrame())


def test_not_a_frame(build):
    class Other:
        def to_pandas(self):
            raise AssertionError

    parts = ("must be a pandas DataFrame; got dict",)
    refused(build, DataError, *parts, formula="y ~ x", data={"y": [1], "x": [2]})
    refused(build, DataError, "got ndarray", formula="y ~ x", data=np.ones((2, 2)))
    refused(build, DataError, "got Other", "Call .to_pandas() on it", formula="y ~ x", data=Other())


# --- families and priors --------------------------------------------------------------------


def test_unknown_family():
    with pytest.raises(HierModelsError, match="'gamm' is not known; allowed are gaussian, t, bern"):
        as_family("gamm")


@pytest.mark.parametrize(
    ("priors", "parts"),
    [
        (
            {"xx": "Normal(0, 1)"},
            ("prior key 'xx' names nothing", "Did you mean 'x'?", "Allowed are"),
        ),
        ({"sd_s": "HalfNormal(1)"}, ("'sd_s' names nothing", "'sd_g'")),
        ({"sd_g[z]": "HalfNormal(1)"}, ("'sd_g[z]' names nothing", "sd_g[x]")),
        ({"r_g": "Normal(0, 1)"}, ("'r_g' names nothing",)),
        ({3: "Normal(0, 1)"}, ("prior key 3 names nothing",)),
        ({"x": "Norml(0, 1)"}, ("'Norml' is not known; allowed are", "Did you mean Normal")),
        ({"x": "Normal(0, sd=1)"}, ("Normal has no argument 'sd'; it takes mu, sigma",)),
        ({"x": "Normal(0, -1)"}, ("sigma must be finite and above 0; got -1.0",)),
        ({"x": "HalfNormal(1)"}, ("HalfNormal is no prior for 'x'; allowed are Normal, StudentT",)),
        ({"b": "LKJ(1)"}, ("LKJ is no prior for 'b'",)),
        ({"sd": "Normal(0, 1)"}, ("Normal is no prior for 'sd'; allowed are HalfNormal",)),
        ({"cor": "HalfNormal(1)"}, ("no prior for 'cor'; allowed are LKJ",)),
        ({"sigma": "Normal(0, 1)"}, ("Normal is no prior for 'sigma'",)),
        ({"Intercept": "HalfNormal(1)"}, ("no prior for 'Intercept'",)),
        ({"x": 3}, ("A prior is text such as", "got int")),
        (["x"], ("priors is a dictionary such as {'sd': 'HalfNormal(sigma=2)'}; got list",)),
        ("Normal(0, 1)", ("got str",)),
    ],
)
def test_priors_that_fit_nothing(build, priors, parts):
    design = build("y ~ x + (x | g)")
    with pytest.raises(PriorError, match=".*".join(re.escape(part) for part in parts)):
        resolve_priors(design, Family("gaussian"), priors)


@pytest.mark.parametrize(
    ("formula", "family", "key"),
    [
        ("y ~ 0 + x", "gaussian", "Intercept"),
        ("y ~ 1", "gaussian", "b"),
        ("y ~ x", "gaussian", "sd"),
        ("y ~ x + (1 | g)", "gaussian", "cor"),
        ("y ~ x + (x || g)", "gaussian", "cor_g"),
        ("count ~ x", "poisson", "sigma"),
        ("y | se(z) ~ x", "gaussian", "sigma"),
    ],
)
def test_keys_of_parameters_that_a_model_has_not(build, formula, family, key):
    with pytest.raises(PriorError, match=f"prior key {key!r} names nothing in this model"):
        resolve_priors(build(formula, None, family), Family(family), {key: "Normal(0, 1)"})

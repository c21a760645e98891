"""``X_centred = X @ T`` exactly, and columns that no centring can improve stay as they are."""

import numpy as np
import pandas as pd
import pytest

FORMULAS = [
    "y ~ x",
    "y ~ x + z",
    "y ~ x * z",
    "y ~ x * z * w",
    "y ~ x * h",
    "y ~ h / x",
    "y ~ x * h * k",
    "y ~ x * z * h",
    "y ~ poly(x, 2) * z",
    "y ~ bs(x) * h",
    "y ~ 0 + h + x",
    "y ~ 0 + h + x + x:h",
    "y ~ 0 + h:k + x",
    "y ~ x:z",
    "y ~ x + x:z",
    "y ~ 0 + x",
    "y ~ 0 + x + z + x:z",
    "y ~ scale(x) * I(z**2)",
    "y ~ h * k",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_T_is_unit_triangular_and_gives_the_centred_columns(build, formula):
    design = build(formula)
    np.testing.assert_allclose(design.X @ design.T, design.X_centred, atol=1e-11)
    np.testing.assert_array_equal(np.diag(design.T), 1.0)
    # triangular up to the order of columns: the rest is nilpotent, and the determinant is 1
    rest = design.T - np.eye(len(design.T))
    assert not np.linalg.matrix_power(rest, len(rest)).any()
    assert np.linalg.det(design.T) == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("formula", FORMULAS)
def test_bars_follow_the_same_rule(build, formula):
    effects = formula.removeprefix("y ~ ")
    term = build(f"y ~ 1 + ({effects} | g)").terms[0]
    common = build(formula)
    if term.correlated:
        np.testing.assert_array_equal(term.T, common.T)
        np.testing.assert_array_equal(term.z_centred, common.X_centred)
    else:
        np.testing.assert_array_equal(term.T, np.eye(1))
        np.testing.assert_array_equal(term.z_centred, term.z)


def test_independent_effects_stay_raw(build):
    for bar in ("(x || g)", "(diag(x + z) | g)", "(0 + x | g)"):
        for term in build(f"y ~ {bar}").terms:
            np.testing.assert_array_equal(term.T, np.eye(len(term.coefs)))
            np.testing.assert_array_equal(term.z_centred, term.z)


def centred_names(design):
    """Return the columns that differ from their raw values."""
    changed = ~np.isclose(design.X, design.X_centred).all(axis=0)
    return {name for name, other in zip(design.coefs, changed, strict=True) if other}


@pytest.mark.parametrize(
    ("formula", "centred"),
    [
        ("y ~ x", {"x"}),
        ("y ~ x * z", {"x", "z", "x:z"}),
        ("y ~ x:z", set()),  # neither margin is there
        ("y ~ x + x:z", {"x", "x:z"}),  # z is centred by x's column; x cannot be, without z
        ("y ~ 0 + x", set()),
        ("y ~ 0 + x + z", set()),
        ("y ~ 0 + h + x", {"x"}),  # the levels add up to 1
        ("y ~ x:h", set()),
        ("y ~ h / x", {"h[low]:x", "h[mid]:x", "h[high]:x"}),
        ("y ~ h * k", set()),
        ("y ~ I(x > 0)", set()),
    ],
)
def test_a_column_is_centred_where_its_margins_are_there(build, formula, centred):
    assert centred_names(build(formula)) == centred


def test_x_in_x_z_without_z_stays(build, frame):
    """In ``x + x:z`` the product is x times centred z."""
    design = build("y ~ x + x:z")
    wanted = frame["x"] * (frame["z"] - frame["z"].mean())
    np.testing.assert_allclose(design.X_centred[:, 2], wanted, atol=1e-12)


def test_centred_means_are_zero(build, frame):
    design = build("y ~ x * z + poly(w, 2)")
    for name in ("x", "z", "poly(w, 2)[1]", "poly(w, 2)[2]"):
        column = design.X_centred[:, design.coefs.index(name)]
        assert abs(column.mean()) < 1e-12
    wanted = (frame["x"] - frame["x"].mean()) * (frame["z"] - frame["z"].mean())
    np.testing.assert_allclose(design.X_centred[:, design.coefs.index("x:z")], wanted, atol=1e-12)


def test_far_origins_lose_no_digits(build, frame):
    """Centred columns come from centred factors: ``X @ T`` would cancel twelve digits here."""
    near = build("y ~ x * z * h + (x * z | g)")
    # multiples of 2**-20 and an offset of 2**20 add without rounding
    exact = frame.assign(x=np.round(frame["x"] * 2**20) / 2**20, z=np.round(frame["z"] * 64) / 64)
    near = build("y ~ x * z * h + (x * z | g)", exact)
    far = build(
        "y ~ x * z * h + (x * z | g)", exact.assign(x=exact["x"] + 2.0**20, z=exact["z"] - 2.0**20)
    )
    scale = np.abs(near.X_centred).max()
    np.testing.assert_allclose(far.X_centred, near.X_centred, atol=1e-9 * scale)
    np.testing.assert_allclose(far.terms[0].z_centred, near.terms[0].z_centred, atol=1e-9 * scale)
    cancelled = np.abs(far.X @ far.T - near.X_centred).max()
    assert cancelled > 1e-9 * scale  # else this test could not fail


def test_a_far_predictor_is_not_taken_for_a_constant(build, frame):
    year = pd.Series(1e13 + np.arange(60.0) % 7)
    assert build("y ~ year", frame.assign(year=year)).coefs == ("Intercept", "year")

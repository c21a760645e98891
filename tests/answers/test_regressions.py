"""One regression for each group and one for all, from a model, a fit or an estimate."""

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm


@pytest.fixture(scope="module")
def model():
    return hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))


def test_a_model_and_its_estimate_give_the_same(model):
    for function in (hm.no_pooling, hm.complete_pooling):
        pd.testing.assert_frame_equal(function(model), function(hm.mle(model)))


def test_one_group_of_several(model):
    data = hm.load_dataset("sleepstudy").assign(half=lambda d: d["Days"] < 5)
    crossed = hm.Model("Reaction ~ Days + (1 | Subject) + (1 | half)", data)
    assert set(hm.no_pooling(crossed).group) == {"Subject", "half"}
    assert set(hm.no_pooling(crossed, "half").group) == {"half"}
    with pytest.raises(hm.FitError, match="got group 'Days'; the model's groups are Subject, half"):
        hm.no_pooling(crossed, "Days")


def test_known_errors_take_the_place_of_a_residual_sd():
    data = pd.DataFrame({"school": list("ABCD"), "y": [28.0, 8, -3, 7], "s": [15.0, 10, 16, 11]})
    model = hm.Model("y | se(s) ~ 1 + (1 | school)", data)
    own = hm.no_pooling(model)
    # one row a school: the estimate is the row, its error the known one
    np.testing.assert_allclose(own["estimate"], data.y, rtol=1e-12)
    np.testing.assert_allclose(own["se"], data.s, rtol=1e-12)
    assert (own["sigma"] == 1.0).all()
    weights = 1 / data.s**2
    common = hm.complete_pooling(model)
    assert common.loc["Intercept", "estimate"] == pytest.approx(np.average(data.y, weights=weights))
    assert common.loc["Intercept", "se"] == pytest.approx(weights.sum() ** -0.5)
    assert common.attrs["sigma"] == 1.0


def test_as_many_coefficients_as_rows_leave_no_error():
    data = pd.DataFrame({"y": [1.0, 3.0], "x": [0.0, 1.0]})
    table = hm.complete_pooling(hm.Model("y ~ x", data))
    np.testing.assert_allclose(table["estimate"], [1.0, 2.0], rtol=1e-9)
    assert table["se"].isna().all()


def test_what_cannot_be_is_refused(model):
    plain = hm.Model("Reaction ~ Days", hm.load_dataset("sleepstudy"))
    with pytest.raises(hm.FitError, match=r"no groups; see complete_pooling\(\)"):
        hm.no_pooling(plain)
    counts = pd.DataFrame({"y": [1, 2, 0, 3], "g": list("aabb")})
    other = hm.Model("y ~ 1 + (1 | g)", counts, "poisson")
    for function in (hm.no_pooling, hm.complete_pooling):
        with pytest.raises(hm.FitError, match="this model has family='poisson'"):
            function(other)
        with pytest.raises(hm.FitError, match="takes a Model, a Fit or what"):
            function(counts)

"""Responses drawn from models with subpopulations, known covariances, t effects, memberships."""

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.errors import FitError

J = 400
LABELS = [f"g{j:03d}" for j in range(J)]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(J), 2)
    return pd.DataFrame(
        {
            "g": np.array(LABELS)[g],
            "g2": np.array(LABELS)[rng.integers(0, J, len(g))],
            "h": np.where(g < J // 2, "low", "high"),
            "x": np.tile([0.0, 1.0], J),
            "w1": 0.8,
            "w2": 0.2,
        }
    )


def level_values(y, frame):
    """Return intercept and slope of each level of a response without noise (J, 2)."""
    wide = pd.Series(y.to_numpy()).groupby([frame["g"], frame["x"]]).first().unstack()
    return np.column_stack([wide[0.0], wide[1.0] - wide[0.0]])


def test_subpopulations_have_their_own_covariances(frame):
    params = {"Intercept": 0.0, "b": 0.0, "sigma": 0.0}
    ways = (
        {"sd_g": [[0.5, 1.0], [2.0, 3.0]], "cor_g": [0.0, 0.8]},
        {"sd_g": {"high": [0.5, 1.0], "low": [2.0, 3.0]}, "cor_g": {"high": 0.0, "low": 0.8}},
        {"sd_g[high, Intercept]": 0.5, "sd_g[high, x]": 1.0, "sd_g[low, Intercept]": 2.0,
         "sd_g[low, x]": 3.0, "cor_g": [[[1, 0], [0, 1]], [[1, 0.8], [0.8, 1]]]},
    )  # fmt: skip
    formula = "y ~ x + (x | gr(g, by=h))"
    drawn = [hm.simulate(formula, frame, params | way, seed=1) for way in ways]
    assert all(own.equals(drawn[0]) for own in drawn)
    values = level_values(drawn[0], frame)
    for own, sds, cor in ((values[: J // 2], (2.0, 3.0), 0.8), (values[J // 2 :], (0.5, 1.0), 0.0)):
        # 4 standard errors of sds and of a correlation from 200 levels
        np.testing.assert_allclose(own.std(axis=0, ddof=1), sds, rtol=4 / np.sqrt(400))
        assert abs(np.corrcoef(own.T)[0, 1] - cor) < 4 / np.sqrt(200)


def test_known_covariances_memberships_and_t_effects(frame):
    known = pd.DataFrame(np.kron(np.eye(J // 2), [[1.0, 0.9], [0.9, 1.0]]), LABELS, LABELS)
    params = {"Intercept": 0.0, "sigma": 0.0, "sd_g": 2.0}
    y = hm.simulate("y ~ 1 + (1 | gr(g, cov=K))", frame, params, covariances={"K": known}, seed=1)
    values = y.to_numpy()[::2]
    assert np.corrcoef(values[::2], values[1::2])[0, 1] > 0.85
    assert values.std() == pytest.approx(2.0, rel=0.2)
    effects = np.arange(float(J))[:, None]
    formula = "y ~ 1 + (1 | mm(g, g2, weights=cbind(w1, w2)))"
    both = hm.simulate(formula, frame, {"Intercept": 0.0, "sigma": 0.0, "sd_mmgg2": 1.0,
                                        "r_mmgg2": effects}, seed=1)  # fmt: skip
    place = {label: k for k, label in enumerate(LABELS)}
    expected = 0.8 * frame["g"].map(place) + 0.2 * frame["g2"].map(place)
    np.testing.assert_allclose(both, expected, rtol=1e-12)
    wild = hm.simulate('y ~ 1 + (1 | gr(g, dist="student"))', frame, params | {"nu_g": 1.0}, seed=1)
    # half of a Cauchy distribution lies within its scale, and its extremes far out
    assert np.mean(np.abs(wild) < 2.0) == pytest.approx(0.5, abs=0.1)
    assert np.max(np.abs(wild)) > 50.0


def test_estimates_find_what_was_drawn(frame):
    params = {"Intercept": 5.0, "sigma": 0.5, "sd_g": [[0.4], [1.5]]}
    formula = "y ~ 1 + (1 | gr(g, by=h))"
    y = hm.simulate(formula, frame, params, seed=2)
    table = hm.mle(hm.Model(formula, frame.assign(y=y))).summary()["estimate"]
    # 4 standard errors of an sd from 200 levels, its estimate blurred by two rows each
    assert table["sd_g[low, Intercept]"] == pytest.approx(1.5, rel=4 / np.sqrt(400))
    assert table["sd_g[high, Intercept]"] == pytest.approx(0.4, rel=0.5)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"sd_g": 1.0}, "a line for each subpopulation, which are high, low"),
        ({"sd_g": {"tall": 1.0}}, "'tall'; its subpopulations are high, low"),
        ({"sd_g": {"low": 1.0}}, r"'sd_g\[high\]' is not given"),
        ({"sd_g": [[1.0], [-1.0]]}, "must not be negative"),
        ({}, "'sd_g'"),
    ],
)
def test_subpopulations_that_are_wrong_are_named(frame, params, words):
    with pytest.raises(FitError, match=words):
        hm.simulate(
            "y ~ 1 + (1 | gr(g, by=h))", frame, {"Intercept": 0.0, "sigma": 1.0} | params, seed=1
        )

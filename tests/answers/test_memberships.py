"""Rows that belong to several levels: predicted anew, and held fixed beside other groupings."""

import warnings

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.answers.shrinkage import rest
from hiermodels.errors import DataError, SamplingWarning

LABELS = [f"m{k}" for k in range(6)]
FORMULA = "y ~ x + (x | mm(a, b, weights=cbind(u, v))) + (1 | g)"


def frame(n=60):
    rng = np.random.default_rng(5)
    a, b = np.concatenate([np.arange(6), rng.integers(0, 6, n - 6)]), rng.integers(0, 6, n)
    effects = rng.normal(size=6)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "a": np.array(LABELS)[a],
            "b": np.array(LABELS)[b],
            "u": rng.uniform(0.5, 2.0, n),
            "v": rng.uniform(0.5, 2.0, n),
            "g": [f"g{k}" for k in rng.integers(0, 5, n)],
            "y": effects[a] + effects[b] + rng.normal(size=n),
        }
    )


@pytest.fixture(scope="module")
def fit():
    model = hm.Model(FORMULA, frame())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)


def test_own_rows_given_anew_are_the_own_rows(fit):
    own, again = hm.predict(fit).to_frame(), hm.predict(fit, frame()).to_frame()
    # the same sums in the same order
    np.testing.assert_allclose(again, own, rtol=1e-12)


def test_new_rows_weigh_their_levels(fit):
    rows = pd.DataFrame(
        {"x": [0.0, 2.0], "a": ["m1", "m4"], "b": ["m2", "m4"], "u": [3.0, 1.0], "v": [1.0, 1.0],
         "g": ["g0", "g1"]}
    )  # fmt: skip
    posterior = fit.posterior
    r = posterior["r_mmab"].sel(mmab=["m1", "m2", "m4"]).values
    base = posterior["Intercept"].values
    first = base + 0.75 * r[..., 0, 0] + 0.25 * r[..., 1, 0]
    first = first + posterior["r_g"].sel(g="g0").values[..., 0]
    slope = posterior["b"].values[..., 0]
    second = base + 2 * slope + r[..., 2, 0] + 2 * r[..., 2, 1]
    second = second + posterior["r_g"].sel(g="g1").values[..., 0]
    found = hm.predict(fit, rows).to_frame()["mean"]
    np.testing.assert_allclose(found, [first.mean(), second.mean()], rtol=1e-10)


def test_new_levels_among_memberships(fit):
    rows = frame().head(3).assign(b="new")
    with pytest.raises(DataError, match="'mmab' has 1 level that the fit has not seen: 'new'"):
        hm.predict(fit, rows)
    zero = hm.predict(fit, rows, new_levels="zero").to_frame()
    # a level at zero and a level that does not count, at the share that the first one has
    share = rows["u"] / (rows["u"] + rows["v"])
    own = fit.posterior["r_mmab"].sel(mmab=rows["a"].to_numpy()).mean(("chain", "draw")).values
    first = (1 - share.to_numpy()) * (own[:, 0] + rows["x"].to_numpy() * own[:, 1])
    alone = hm.predict(fit, rows.assign(v=0.0)).to_frame()
    np.testing.assert_allclose(alone["mean"] - first, zero["mean"], rtol=1e-9)
    drawn = hm.predict(fit, rows, new_levels="draw", kind="linear", seed=1).to_frame()
    assert (drawn["sd"] > zero["sd"]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u": -1.0}, "weight u of mm.. is -1 at row 0"),
        ({"u": 0.0, "v": 0.0}, "All weights of mm.. are 0 at row 0"),
        ({"u": None}, "'u' of the new data is missing at row 0"),
    ],
)
def test_wrong_memberships_are_named(fit, change, words):
    with pytest.raises(DataError, match=words):
        hm.predict(fit, frame().head(2).assign(**change))


def test_a_grid_may_name_memberships(fit):
    grid = {"a": ["m0"], "b": ["m1", "m2"], "u": 1.0, "v": 1.0}
    table = hm.predict(fit, grid).to_frame()
    assert len(table) == 2
    assert table["mean"].nunique() == 2


def test_other_groupings_are_held_with_every_membership(fit):
    """The part outside a factor counts the levels of all memberships."""
    design = fit.model.design
    effects = fit.idata["group_effects"]["r_mmab_mean"].values
    term = design.terms[0]
    expected = np.zeros(design.n)
    for i in range(design.n):
        for level, weight in zip(term.members.index[i], term.members.weights[i], strict=True):
            expected[i] += weight * term.z[i] @ effects[level]
    slope = float(fit.posterior["b"].mean())
    expected = expected + slope * design.data["x"].to_numpy()
    np.testing.assert_allclose(rest(fit, design.groups[1]), expected, rtol=1e-10)

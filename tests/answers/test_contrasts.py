"""Comparisons and slopes against coefficients and hand-made differences of predictions."""

import numpy as np
import pandas as pd
import pytest
import standin
from scipy import special

import hiermodels as hm
from hiermodels.errors import FitError, FormulaError


def binary(seed=1, n=80):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "x": rng.normal(size=n).round(2),
            "z": rng.uniform(1, 3, n).round(3),
            "h": rng.choice(list("abc"), n),
            "ok": rng.random(n) < 0.5,
            "cyl": rng.choice([4, 6, 8], n),
            "g": rng.choice(list("pqrs"), n),
        }
    )


@pytest.fixture(scope="module")
def logit():
    text = "y ~ x * h + log(z) + ok + C(cyl) + (x | g)"
    return standin.stand_in(text, binary(), family="bernoulli", draws=10)


def flat(fit, name):
    values = fit.idata["posterior"][name].values
    return values.reshape(-1, *values.shape[2:])


def draws_of(contrasts):
    return contrasts.draws.values.reshape(-1, contrasts.draws.sizes["contrast"])


def predicted(fit, frame, **options):
    return hm.predict(fit, frame, **options).draws.values.reshape(-1, len(frame))


# --- slopes -------------------------------------------------------------------------------------


def test_slopes_of_a_linear_model_are_its_coefficients(sleep):
    population = hm.slopes(sleep, groups="none")
    # differences of fourth order are exact for a line but for rounding at a step of 0.009
    np.testing.assert_allclose(draws_of(population)[:, 0], flat(sleep, "b")[:, 0], rtol=1e-9)
    assert population.about.to_dict("list") == {"term": ["Days"], "contrast": ["dydx"]}
    by_subject = hm.slopes(sleep, by="Subject")
    own = flat(sleep, "b") + flat(sleep, "r_Subject")[:, :, 1]
    np.testing.assert_allclose(draws_of(by_subject), own, rtol=1e-8, atol=1e-8)
    levels = sleep.model.design.groups[0].levels
    assert by_subject.about["Subject"].tolist() == list(levels)
    one = hm.comparisons(sleep, by="Subject")
    np.testing.assert_allclose(draws_of(one), own, rtol=1e-9, atol=1e-9)


def test_slopes_follow_the_chain_rule(logit):
    """d mu / d x = mu (1 - mu) times the derivative of the linear predictor."""
    data = binary()
    mu = predicted(logit, data)
    b = dict(zip(logit.model.design.slopes, flat(logit, "b").T, strict=True))
    index = logit.model.design.groups[0].index
    inner = b["x"][:, None] + flat(logit, "r_g")[:, index, 1]
    for level in "bc":
        inner = inner + np.outer(b[f"x:h[T.{level}]"], data["h"] == level)
    expected = mu * (1 - mu) * inner
    found = hm.slopes(logit, "x", by=False)
    # truncation at a thousandth of the range, to the fourth power
    np.testing.assert_allclose(draws_of(found), expected, rtol=1e-6, atol=1e-9)
    average = hm.slopes(logit, "x")
    np.testing.assert_allclose(draws_of(average)[:, 0], expected.mean(axis=1), rtol=1e-7)
    log_z = mu * (1 - mu) * np.outer(b["log(z)"], 1 / data["z"])
    found = hm.slopes(logit, "z", by=False)
    np.testing.assert_allclose(draws_of(found), log_z, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("slope", ["eyex", "eydx", "dyex"])
def test_elasticities_scale_the_derivative(logit, slope):
    data = binary()
    plain = draws_of(hm.slopes(logit, "z", by=False))
    scale = np.ones((1, len(data)))
    if slope in ("eyex", "dyex"):
        scale = scale * data["z"].to_numpy()
    if slope in ("eyex", "eydx"):
        scale = scale / predicted(logit, data)
    found = draws_of(hm.slopes(logit, "z", slope=slope, by=False))
    np.testing.assert_allclose(found, plain * scale, rtol=1e-10)


def test_slopes_of_averages_are_slopes_of_the_average(logit):
    grid = {"x": [0.0], "h": ["a", "b"]}
    found = draws_of(hm.slopes(logit, "x", grid, average_groups=True))
    ends = [
        predicted(logit, hm.predict(logit, {"x": [at], "h": ["a", "b"]}).data, average_groups=True)
        for at in (-1e-4, 1e-4)
    ]
    # the plain central difference is off by its step squared
    np.testing.assert_allclose(found, (ends[1] - ends[0]) / 2e-4, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("basis", ["bs(z, df=4)", "cr(z, df=4, constraints='center')"])
def test_slopes_of_splines_stay_within_their_knots(basis):
    data = binary().sort_values("z")
    fit = standin.stand_in(f"y ~ {basis} + (1 | g)", data, family="bernoulli", draws=5)
    found = draws_of(hm.slopes(fit, "z", by=False, kind="linear"))
    middle = data.iloc[20:60]
    step = 1e-5
    ends = [predicted(fit, middle.assign(z=middle["z"] + s), kind="linear") for s in (-step, step)]
    np.testing.assert_allclose(
        found[:, 20:60], (ends[1] - ends[0]) / (2 * step), rtol=1e-3, atol=1e-4
    )
    assert np.all(np.isfinite(found))
    if basis.startswith("bs"):
        with pytest.raises(FitError, match=r"change '\+1' of 'z' cannot be predicted: .*'iqr'"):
            hm.comparisons(fit, "z")
    assert hm.comparisons(fit, {"z": "minmax"}).about["contrast"].tolist() == ["minmax"]


def test_slopes_near_zero_of_a_logarithm():
    data = binary().assign(z=lambda d: d["z"] ** 9)
    fit = standin.stand_in("y ~ log(z) + (1 | g)", data, family="bernoulli", draws=3)
    found = draws_of(hm.slopes(fit, "z", {"z": [1e-6, 1.0]}, kind="linear"))
    expected = flat(fit, "b") / np.array([1e-6, 1.0])
    np.testing.assert_allclose(found, expected, rtol=1e-7)


# --- comparisons --------------------------------------------------------------------------------


def test_comparisons_are_differences_of_predictions(logit):
    data = binary()
    found = hm.comparisons(logit)
    assert found.about["contrast"].tolist() == [
        "+1", "b - a", "c - a", "+1", "True - False", "6 - 4", "8 - 4",
    ]  # fmt: skip
    assert found.about["term"].tolist() == ["x", "h", "h", "z", "ok", "cyl", "cyl"]
    changes = [
        ({"x": data["x"]}, {"x": data["x"] + 1}),
        ({"h": "a"}, {"h": "b"}),
        ({"h": "a"}, {"h": "c"}),
        ({"z": data["z"]}, {"z": data["z"] + 1}),
        ({"ok": False}, {"ok": True}),
        ({"cyl": 4}, {"cyl": 6}),
        ({"cyl": 4}, {"cyl": 8}),
    ]
    for k, (low, high) in enumerate(changes):
        expected = predicted(logit, data.assign(**high)) - predicted(logit, data.assign(**low))
        np.testing.assert_allclose(draws_of(found)[:, k], expected.mean(axis=1), atol=1e-13)


@pytest.mark.parametrize(
    ("comparison", "function"),
    [
        ("ratio", lambda h, lo: (h / lo).mean(axis=1)),
        ("ratioavg", lambda h, lo: h.mean(axis=1) / lo.mean(axis=1)),
        ("lnratio", lambda h, lo: np.log(h / lo).mean(axis=1)),
        ("lnratioavg", lambda h, lo: np.log(h.mean(axis=1) / lo.mean(axis=1))),
        ("lnor", lambda h, lo: (special.logit(h) - special.logit(lo)).mean(axis=1)),
        (
            "lnoravg",
            lambda h, lo: special.logit(h.mean(axis=1)) - special.logit(lo.mean(axis=1)),
        ),
        ("lift", lambda h, lo: ((h - lo) / lo).mean(axis=1)),
        ("liftavg", lambda h, lo: h.mean(axis=1) / lo.mean(axis=1) - 1),
    ],
)
def test_comparisons_by_other_functions(logit, comparison, function):
    data = binary()
    low, high = (predicted(logit, data.assign(h=level)) for level in "ac")
    found = hm.comparisons(logit, {"h": ["a", "c"]}, comparison=comparison)
    np.testing.assert_allclose(draws_of(found)[:, 0], function(high, low), rtol=1e-10, atol=1e-12)


def test_log_odds_ratios_of_a_logit_are_coefficients(logit):
    found = hm.comparisons(logit, "ok", comparison="lnor", groups="none")
    b = dict(zip(logit.model.design.slopes, flat(logit, "b").T, strict=True))
    np.testing.assert_allclose(draws_of(found)[:, 0], b["ok[T.True]"], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("asked", "low", "high", "label"),
    [
        (5, lambda x: x, lambda x: x + 5, "+5"),
        (-0.5, lambda x: x, lambda x: x - 0.5, "-0.5"),
        ([-1, 2], lambda x: -1.0, lambda x: 2.0, "2 - -1"),
        ("sd", lambda x: x - x.std() / 2, lambda x: x + x.std() / 2, "sd"),
        ("2sd", lambda x: x - x.std(), lambda x: x + x.std(), "2sd"),
        ("iqr", lambda x: x.quantile(0.25), lambda x: x.quantile(0.75), "iqr"),
        ("minmax", lambda x: x.min(), lambda x: x.max(), "minmax"),
    ],
)
def test_numbers_change_by_steps_or_between_values(logit, asked, low, high, label):
    data = binary()
    found = hm.comparisons(logit, {"x": asked}, by=False)
    assert set(found.about["contrast"]) == {label}
    x = data["x"]
    expected = predicted(logit, data.assign(x=high(x))) - predicted(logit, data.assign(x=low(x)))
    np.testing.assert_allclose(draws_of(found), expected, atol=1e-13)


def test_factors_change_by_reference_sequence_or_pairs(logit):
    def contrasts(asked):
        return hm.comparisons(logit, {"h": asked}).about["contrast"].tolist()

    assert contrasts("reference") == ["b - a", "c - a"]
    assert contrasts("sequential") == ["b - a", "c - b"]
    assert contrasts("pairwise") == ["b - a", "c - a", "c - b"]
    assert contrasts(["c", "a"]) == ["a - c"]
    assert hm.comparisons(logit, {"cyl": [4, "8"]}).about["contrast"].tolist() == ["8 - 4"]


def test_rows_are_averaged_by_columns(logit):
    data = binary()
    rows = draws_of(hm.comparisons(logit, "x", by=False))
    found = hm.comparisons(logit, "x", by=["ok", "h"])
    assert list(found.about.columns) == ["term", "contrast", "ok", "h"]
    for k, cell in found.about.iterrows():
        own = ((data["ok"] == cell["ok"]) & (data["h"] == cell["h"])).to_numpy()
        np.testing.assert_allclose(draws_of(found)[:, k], rows[:, own].mean(axis=1), atol=1e-13)
    table = found.to_frame(0.5)
    assert table.columns.tolist()[:5] == ["term", "contrast", "ok", "h", "mean"]
    np.testing.assert_allclose(table["ci_high"], np.quantile(draws_of(found), 0.75, axis=0))
    assert repr(found).startswith("Comparisons (difference), 40 draws; 95 % intervals")


def test_a_grid_keeps_its_rows_and_its_groups(logit):
    found = hm.comparisons(logit, "ok", {"x": [0, 1], "g": ["p", "q"]})
    assert found.about[["x", "g"]].to_numpy().tolist() == [[0, "p"], [0, "q"], [1, "p"], [1, "q"]]
    line = hm.comparisons(logit, "ok", {"x": [0, 1]})
    assert any("effects of g are zero" in note for note in line.notes)
    new = hm.comparisons(logit, "x", {"g": ["new"]}, new_levels="draw", seed=1)
    again = hm.comparisons(logit, "x", {"g": ["other", "new"]}, new_levels="draw", seed=1)
    np.testing.assert_array_equal(draws_of(new)[:, 0], draws_of(again)[:, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variables": "q"}, "got the variable 'q'; the predictors of this model are x, h, z"),
        ({"variables": {"x": "q"}}, "change 'q' of the numeric predictor 'x'; allowed are a step"),
        ({"variables": {"x": [1, 2, 3]}}, r"change \[1, 2, 3\] of the numeric predictor 'x'"),
        ({"variables": {"h": ["a", "q"]}}, "two of its levels, which are a, b, c"),
        ({"comparison": "diff"}, "got comparison='diff'; allowed are 'difference'"),
        ({"by": "foo"}, "got by='foo'; allowed are True, False and columns"),
        ({"kind": "response"}, "got kind='response'; allowed are 'expected', 'linear'"),
        ({"kind": "linear", "comparison": "lnor"}, "compares odds, and predictions reach from"),
        ({"newdata": 3}, "newdata is a DataFrame, a mapping"),
    ],
)
def test_what_comparisons_refuse(logit, options, message):
    with pytest.raises(FitError, match=message):
        hm.comparisons(logit, **options)


def test_what_slopes_refuse(logit):
    with pytest.raises(FitError, match=r"slopes need numeric predictors; h is not"):
        hm.slopes(logit, "h")
    with pytest.raises(FitError, match="got slope='dx'; allowed are 'dydx'"):
        hm.slopes(logit, slope="dx")
    assert hm.slopes(logit).about["term"].tolist() == ["x", "z"]
    alone = standin.stand_in("y ~ 1 + (1 | g)", binary(), family="bernoulli", draws=2)
    with pytest.raises(FitError, match="has no predictor to look at"):
        hm.comparisons(alone)
    assert issubclass(FormulaError, ValueError)

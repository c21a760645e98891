"""Statements about named quantities against shares of draws counted by hand."""

import numpy as np
import pandas as pd
import pytest
import standin

import hiermodels as hm
from hiermodels.errors import FitError


@pytest.fixture(scope="module")
def awkward():
    """A fit whose coefficients have names with brackets, colons and blanks."""
    rng = np.random.default_rng(6)
    n = 60
    data = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "x2": rng.normal(size=n),
            "my x": rng.normal(size=n),
            "sigma": rng.normal(size=n),
            "h": rng.choice(["a", "b c"], n),
            "g": rng.choice(list("pqrs"), n),
        }
    )
    return standin.stand_in("y ~ x * h + x2 + I(x2**2) + `my x` + sigma + (x | g)", data, draws=25)


def flat(fit, name, **at):
    return fit.idata["posterior"][name].sel(at).values.ravel()


def test_probabilities_are_shares_of_draws(sleep):
    days, sd = flat(sleep, "b", coef="Days"), flat(sleep, "sd_Subject", Subject_coef="Days")
    table = hm.hypothesis(sleep, ["Days > 10.5", "b[Days] <= 10.5", "sd_Subject[Days] < 6"])
    share = np.mean(days > 10.5)
    assert table.index.tolist() == ["Days > 10.5", "b[Days] <= 10.5", "sd_Subject[Days] < 6"]
    np.testing.assert_allclose(table["probability"], [share, 1 - share, np.mean(sd < 6)])
    np.testing.assert_allclose(table["odds"].iloc[0], share / (1 - share))
    np.testing.assert_allclose(table["odds"].prod(), table["odds"].iloc[2])
    np.testing.assert_allclose(table["estimate"], [*[days.mean() - 10.5] * 2, sd.mean() - 6])
    ends = np.quantile(sd - 6, [0.025, 0.975])
    np.testing.assert_allclose(table.loc["sd_Subject[Days] < 6", ["ci_low", "ci_high"]], ends)
    # these draws are independent, and ESS of 600 has an error of a few percent
    expected = np.sqrt(share * (1 - share) / len(days))
    np.testing.assert_allclose(table["mcse"].iloc[0], expected, rtol=0.25)


def test_expressions_are_evaluated_draw_by_draw(sleep):
    days, intercept = flat(sleep, "b", coef="Days"), flat(sleep, "Intercept")
    sigma = flat(sleep, "sigma")
    table = hm.hypothesis(
        sleep,
        [
            "Intercept + 9 * Days > 340",
            "exp(log(sigma)) ^ 2 > 660",
            "(Days > 10) & (sigma < 25)",
            "(Days > 10) | ~(sigma < 25)",
            "sigma > np.sqrt(650)",
        ],
    )
    expected = [
        np.mean(intercept + 9 * days > 340),
        np.mean(sigma**2 > 660),
        np.mean((days > 10) & (sigma < 25)),
        np.mean((days > 10) | (sigma >= 25)),
        np.mean(sigma > np.sqrt(650)),
    ]
    np.testing.assert_allclose(table["probability"], expected)
    assert 0 < min(expected) < max(expected) < 1
    assert table["estimate"].isna().tolist() == [False, False, True, True, False]


def test_group_effects_and_correlations_have_names(sleep):
    effects = sleep.idata["posterior"]["r_Subject"]
    one = effects.sel(Subject="308", Subject_coef="Days")
    two = effects.sel(Subject="309", Subject_coef="Days")
    cor = sleep.idata["posterior"]["cor_Subject"].values[..., 0, 1]
    table = hm.hypothesis(
        sleep,
        [
            "r_Subject[308, Days] > r_Subject[309,Days] + 15",
            "cor_Subject[Days, Intercept] > 0",
            "cor_Subject[Intercept,  Days] > 0",
        ],
    )
    expected = [np.mean(one > two + 15), np.mean(cor > 0), np.mean(cor > 0)]
    np.testing.assert_allclose(table["probability"], expected)


def test_names_may_hold_anything(awkward):
    coef = dict.fromkeys(awkward.model.design.slopes)
    for name in coef:
        for spelled in (f"b[{name}]", f"`{name}`", name if name != "sigma" else f"b[{name}]"):
            found = hm.hypothesis(awkward, f"{spelled} > 0").iloc[0]
            draws = flat(awkward, "b", coef=name)
            if spelled == "`sigma`":
                continue
            assert found["probability"] == np.mean(draws > 0), spelled
            np.testing.assert_allclose(found["estimate"], draws.mean())
    both = hm.hypothesis(awkward, "x:h[T.b c] + x2 - x > my x").iloc[0]
    draws = [flat(awkward, "b", coef=c) for c in ("x:h[T.b c]", "x2", "x", "my x")]
    np.testing.assert_allclose(both["estimate"], np.mean(draws[0] + draws[1] - draws[2] - draws[3]))


def test_the_posteriors_own_names_come_before_coefficients(awkward):
    found = hm.hypothesis(awkward, "sigma > 0").iloc[0]
    np.testing.assert_allclose(found["estimate"], flat(awkward, "sigma").mean())


def test_equalities_need_a_distance(sleep):
    days = flat(sleep, "b", coef="Days")
    point = hm.hypothesis(sleep, "Days - 10 = 0").iloc[0]
    assert np.isnan(point["probability"])
    assert np.isnan(point["odds"])
    np.testing.assert_allclose(point["estimate"], days.mean() - 10)
    near = hm.hypothesis(sleep, ["Days == 10", "Days > 0"], rope=0.8)
    np.testing.assert_allclose(near["probability"], [np.mean(abs(days - 10) <= 0.8), 1.0])
    assert np.isinf(near["odds"].iloc[1])
    assert np.isnan(near["mcse"].iloc[1])


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("Days", "must compare quantities of the posterior, such as 'Days > 5'"),
        ("5 > 3", "must compare quantities"),
        ("(Days > 1) > 0", "must compare quantities"),
        ("Dys > 5", r"names 'Dys', which the posterior does not have. Did you mean 'Days'\?"),
        ("sd_Subject > 3", "sd_Subject has several elements: name one of them"),
        ("r_Subject[999, Days] > 1", r"names 'r_Subject\[999, Days\]', which"),
        ("Days != 3", "write an equality with rope"),
        ("1 < Days < 3", "Write a chained comparison as two"),
        ("Days > 5 & sigma > 3", "Write a chained comparison as two"),
        ("(Days = 3) & (sigma > 2)", "An equality stands alone"),
        ("Days >", "no valid expression"),
        ("", "no valid expression"),
        ("log(-sigma) > 0", r"has no finite value in 600 of 600 draws"),
        ("sigma > 'a'", "'a' is no number"),
        ("poly(Days, 2) > 3", r"poly\(\) has no meaning for draws"),
        ("__import__('os').system('true') > 0", "cannot be read"),
        ("Days.__class__ > 0", "names with two leading underscores"),
        ("open('x') > 0", r"The function open\(\) is not known"),
        ("(lambda: 1)() > Days", "not allowed"),
        ("[d for d in Days] > 0", "not allowed"),
        ("9**9**9 > Days", "A power of constants"),
        ("Days > " + "(" * 300 + "1" + ")" * 300, "cannot be read|too deeply|no valid"),
        ("Days > " + "1" * 20_000, "20,007 characters"),
        (3, "must compare quantities"),
        ([], "give a statement such as"),
    ],
)
def test_what_is_refused(sleep, statement, message):
    with pytest.raises(FitError, match=message):
        hm.hypothesis(sleep, statement)


def test_options_are_checked(sleep):
    with pytest.raises(FitError, match="got rope=-1; it is a distance above 0"):
        hm.hypothesis(sleep, "Days = 1", rope=-1)
    with pytest.raises(FitError, match="got interval=95"):
        hm.hypothesis(sleep, "Days > 1", interval=95)
    with pytest.raises(FitError, match="got Prior"):
        hm.hypothesis(hm.Prior("Normal", mu=0, sigma=1), "Days > 1")

"""Predictions against hand-made linear predictors, and new groups against their distribution."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import standin
import xarray as xr
from scipy import integrate, special, stats

import hiermodels as hm
from hiermodels.answers.averaging import average_mean
from hiermodels.answers.new_levels import effect_factor, level_effects
from hiermodels.answers.rows import RowLevels
from hiermodels.errors import DataError, FitError, UnknownColumnError
from hiermodels.fitting.fit import Fit


def crossed(family="gaussian", seed=2):
    """Rows in schools, classes within schools and years across them, with a factor."""
    rng = np.random.default_rng(seed)
    n = 90
    data = pd.DataFrame(
        {
            "x": rng.normal(0, 1, n).round(2),
            "h": rng.choice(["low", "mid", "top"], n),
            "school": rng.choice(["s1", "s2", "s3", "s4"], n),
            "room": rng.choice([1, 2], n),
            "year": rng.choice([2001, 2002, 2003], n),
            "n": rng.integers(3, 9, n),
            "size": rng.uniform(1, 2, n),
        }
    )
    data["y"] = rng.normal(2, 1, n) if family == "gaussian" else rng.integers(0, 3, n)
    return data


FORMULA = "y ~ x * h + offset(log(size)) + (x | school/room) + (1 | year)"


@pytest.fixture(scope="module")
def nested():
    return standin.stand_in(FORMULA, crossed(), draws=20)


@pytest.fixture(scope="module")
def binomial():
    text = "y | trials(n) ~ x + (x | school)"
    return standin.stand_in(text, crossed("binomial"), family="binomial", draws=15)


def flat(fit, name):
    values = fit.idata["posterior"][name].values
    return values.reshape(-1, *values.shape[2:])


def by_hand(fit, groups):
    """The linear predictor of the fit's own rows (S, n)."""
    design = fit.model.design
    coef = {"Intercept": flat(fit, "Intercept")}
    coef |= {c: flat(fit, "b")[:, k] for k, c in enumerate(design.slopes)}
    eta = sum(np.outer(coef[c], design.X[:, k]) for k, c in enumerate(design.coefs))
    eta = eta + design.offset
    for group in design.groups:
        if group.name in groups:
            z = np.concatenate([design.terms[t].z for t in group.terms], axis=1)
            eta = eta + np.einsum("snq,nq->sn", flat(fit, f"r_{group.name}")[:, group.index], z)
    return eta


def rows_of(prediction):
    values = prediction.draws.values
    return values.reshape(-1, *values.shape[2:])


# --- own and new rows ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "binomial"])
def test_own_rows_are_the_fitted_values(kind, nested, binomial):
    fit = {"gaussian": nested, "binomial": binomial}[kind]
    expected = Fit(fit.model, fit.idata).fitted()
    # the same sums in the same order, but for matrix products
    pd.testing.assert_frame_equal(hm.predict(fit).to_frame(), expected, rtol=1e-12)


def test_new_rows_are_coded_like_the_first(nested):
    data = crossed().iloc[::-1]
    new = hm.predict(nested, data.drop(columns="y")).draws.values[..., ::-1]
    np.testing.assert_allclose(new, hm.predict(nested).draws.values, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_what_sigma_learnt_stays_on_some_of_the_rows():
    """A model on some of its rows codes sigma's predictors by what all of them were like."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": np.linspace(0.0, 9.0, 120), "g": np.arange(120) % 4})
    frame["y"] = frame["x"] + np.exp(0.1 * frame["x"]) * rng.normal(size=120)
    model = hm.Model(["y ~ x + (1 | g)", "sigma ~ scale(x)"], frame)
    fit = model.fit(draws=20, tune=40, chains=1, seed=1, cores=1, progress=False)
    some = Fit(model.on_rows(np.arange(100)), fit.idata)
    found, expected = (
        hm.predict(own, frame.iloc[90:], kind="response", seed=1).draws.values
        for own in (some, fit)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_rows_are_computed_in_blocks(nested, monkeypatch):
    new = pd.concat([crossed().iloc[:9], NEW]).reset_index(drop=True)
    calls = [
        {},
        {"newdata": new, "new_levels": "draw", "seed": 1},
        {"newdata": new, "new_levels": "resample", "seed": 1},
        {"average_groups": ["school"]},
    ]
    whole = [hm.predict(nested, **options).draws.values for options in calls]
    monkeypatch.setattr("hiermodels.answers.predicting._BLOCK", 80 * 4)
    for options, expected in zip(calls, whole, strict=True):
        found = hm.predict(nested, **options).draws.values
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_groups_are_added_by_choice(nested):
    every = ["school", "school:room", "year"]
    for groups, used in (
        ("all", every),
        ("none", []),
        (["school"], ["school"]),
        (("school:room", "year"), ["school:room", "year"]),
        ("year", ["year"]),
    ):
        found = rows_of(hm.predict(nested, kind="linear", groups=groups))
        np.testing.assert_allclose(found, by_hand(nested, used), rtol=1e-11)


def test_groups_left_out_need_no_columns(nested):
    data = crossed()[["x", "h", "size"]]
    found = rows_of(hm.predict(nested, data, groups="none"))
    np.testing.assert_allclose(found, by_hand(nested, []), rtol=1e-11)


def test_a_grid_holds_what_it_does_not_name(nested):
    found = hm.predict(nested, {"x": [0, 1], "h": ["low", "top"]})
    assert found.data["x"].tolist() == [0, 0, 1, 1]
    assert found.data["h"].tolist() == ["low", "top", "low", "top"]
    assert found.data["size"].nunique() == 1
    assert found.data["size"][0] == crossed()["size"].mean()
    assert any("school, school:room, year are zero" in note for note in found.notes)
    with_year = hm.predict(nested, {"x": 0, "year": [2001, 2002]})
    assert any("school, school:room are zero" in note for note in with_year.notes)
    apart = np.diff(rows_of(with_year), axis=1)[:, 0]
    np.testing.assert_allclose(apart, np.diff(flat(nested, "r_year")[:, :2, 0])[:, 0], atol=1e-12)


def test_a_grid_holds_coded_numbers_at_a_level():
    data = standin.sleepstudy()
    fit = standin.stand_in("Reaction ~ C(Days) + (1 | Subject)", data, draws=3)
    found = hm.predict(fit, {"Subject": ["308", "309"]})
    assert found.data["Days"].tolist() == [0, 0]


def test_trials_come_from_the_new_data_or_are_one(binomial):
    data = crossed("binomial")
    share = hm.predict(binomial, data.drop(columns=["n", "y"]))
    counts = hm.predict(binomial, data.drop(columns="y"))
    np.testing.assert_allclose(rows_of(counts), rows_of(share) * data["n"].to_numpy(), rtol=1e-12)
    assert share.notes == ("the data have no column for trials(n): each row is one trial",)
    assert "trials(n)" in repr(share)
    drawn = rows_of(hm.predict(binomial, data, kind="response", seed=1))
    assert np.all(drawn <= data["n"].to_numpy())
    with pytest.raises(DataError, match=r"number of trials is 2\.5 at row 0"):
        hm.predict(binomial, data.assign(n=2.5))


# --- new levels ---------------------------------------------------------------------------------

NEW = pd.DataFrame(
    {
        "x": [0.0, 1.0, 1.0, 0.5, 0.0],
        "h": ["low", "low", "low", "low", "low"],
        "size": 1.0,
        "school": ["s1", "new", "s1", "new", "other"],
        "room": [1, 1, 9, 1, 1],
        "year": [2001, 2001, 2001, 1999, 1999],
    }
)


def test_unseen_levels_are_refused_by_default(nested):
    with pytest.raises(DataError, match=r"'school' has 2 levels that the fit has not seen: 'new'"):
        hm.predict(nested, NEW)
    with pytest.raises(
        DataError, match=r"'school:room' has 3 levels .* 'new:1', 'other:1', 's1:9'"
    ):
        hm.predict(nested, NEW, groups=["school:room"])


def test_zero_is_the_population_line(nested):
    zero = rows_of(hm.predict(nested, NEW, new_levels="zero"))
    line = rows_of(hm.predict(nested, NEW, groups="none"))
    # the last row's groups are all new, the others' partly
    np.testing.assert_array_equal(zero[:, 4], line[:, 4])
    np.testing.assert_allclose(zero[:, 1] - line[:, 1], flat(nested, "r_year")[:, 0, 0], atol=1e-12)
    effects = flat(nested, "r_school")[:, 0] @ [1.0, 1.0] + flat(nested, "r_year")[:, 0, 0]
    np.testing.assert_allclose(zero[:, 2] - line[:, 2], effects, atol=1e-12)


@pytest.mark.parametrize("how", ["draw", "resample"])
def test_a_label_is_one_group_in_every_row(nested, how):
    """Rows 1 and 3 share a new school and a new room, at x = 1 and x = 1/2."""
    options = {"groups": ["school"], "new_levels": how, "seed": 4}
    line = rows_of(hm.predict(nested, NEW, groups="none"))
    found = rows_of(hm.predict(nested, NEW, **options)) - line
    at_two = NEW.iloc[[1]].assign(x=0.0)
    alone = rows_of(hm.predict(nested, at_two, **options))
    intercept = (alone - rows_of(hm.predict(nested, at_two, groups="none")))[:, 0]
    # linear in x, whatever other rows stand beside it
    np.testing.assert_allclose(found[:, 1] + intercept, 2 * found[:, 3], atol=1e-10)
    assert not np.allclose(found[:, 4], intercept)
    again = rows_of(hm.predict(nested, NEW, **options)) - line
    np.testing.assert_array_equal(again, found)
    other = rows_of(hm.predict(nested, NEW, **(options | {"seed": 5}))) - line
    assert not np.allclose(other[:, 1], found[:, 1])
    np.testing.assert_array_equal(other[:, 0], found[:, 0])


def test_resampled_groups_are_observed_ones(nested):
    """Intercept and slope of one observed school, for each draw."""
    frame = pd.concat([NEW.iloc[[1]].assign(x=0.0), NEW.iloc[[1]]])
    options = {"groups": ["school"], "new_levels": "resample", "seed": 4}
    found = rows_of(hm.predict(nested, frame, **options))
    found = found - rows_of(hm.predict(nested, frame, groups="none"))
    intercept, slope = found[:, 0], found[:, 1] - found[:, 0]
    observed = flat(nested, "r_school")
    near = np.abs(observed - np.stack([intercept, slope], axis=1)[:, None]).max(axis=2)
    chosen = near.argmin(axis=1)
    assert near.min(axis=1).max() < 1e-10
    assert len(np.unique(chosen)) == 4


def test_drawn_effects_have_each_draws_covariance(nested):
    posterior = nested.idata["posterior"].to_dataset()
    design = nested.model.design
    take = np.arange(80)
    factor = effect_factor(posterior, design, design.groups[0], "", take)
    sds, cor = flat(nested, "sd_school"), flat(nested, "cor_school")
    np.testing.assert_allclose(
        factor @ factor.transpose(0, 2, 1), sds[:, :, None] * cor * sds[:, None, :], rtol=1e-10
    )


def test_new_groups_spread_as_the_fit_says():
    cor = np.array([[1.0, -0.7], [-0.7, 1.0]])
    data = standin.sleepstudy()
    formula = "Reaction ~ Days + (Days | Subject)"
    fit = standin.exact_fit(formula, data, (24.0, 6.0), -0.7, 25.0, 5)
    posterior = fit.idata["posterior"].to_dataset()
    design, (group,) = fit.model.design, fit.model.design.groups
    labels = tuple(f"new {k}" for k in range(1500))
    levels = RowLevels(np.arange(1500)[:, None], None, labels, np.full(1500, -1))
    take = np.arange(20)
    drawn = level_effects(posterior, design, group, levels, "", take, "draw", 3)
    sample = drawn.reshape(-1, 2)
    expected = np.outer([24.0, 6.0], [24.0, 6.0]) * cor
    # 30,000 independent draws: relative errors of variances are sqrt(2/30000) = 0.8 %
    np.testing.assert_allclose(np.cov(sample.T), expected, rtol=0.04)
    assert np.all(np.abs(sample.mean(axis=0)) < 4 * np.array([24.0, 6.0]) / np.sqrt(30_000))
    assert stats.kstest(sample[:, 0] / 24.0, "norm").pvalue > 1e-3


def test_singular_correlations_can_be_drawn_from():
    fit = standin.exact_fit(
        "Reaction ~ Days + (Days | Subject)", standin.sleepstudy(), (24.0, 6.0), 0.5, 25.0, 2
    )
    tree = fit.idata["posterior"].to_dataset()
    tree["cor_Subject"].values[:] = 1.0
    new = {"Days": [0.0, 1.0], "Subject": ["new"]}
    altered = replace(fit, idata=xr.DataTree.from_dict({"posterior": tree}))
    found = rows_of(hm.predict(altered, new, new_levels="draw", seed=1))
    found = found - rows_of(hm.predict(altered, new, groups="none"))
    np.testing.assert_allclose((found[:, 1] - found[:, 0]) / found[:, 0], 0.25, rtol=1e-7)


def test_effects_beyond_memory_are_missed_only_where_needed():
    fit = standin.sleepstudy_fit(draws=5, keep_effects=False)
    with pytest.raises(FitError, match=r"r_Subject were left out, being beyond memory"):
        hm.predict(fit)
    with pytest.raises(FitError, match=r"r_Subject were left out"):
        hm.predict(fit, {"Days": 1, "Subject": ["x"]}, new_levels="resample")
    assert hm.predict(fit, groups="none").draws.shape == (4, 5, 180)
    drawn = hm.predict(fit, {"Days": 1, "Subject": ["x"]}, new_levels="draw")
    assert "1 new level of Subject: drawn from the fitted distribution" in drawn.notes


# --- averages over groups -----------------------------------------------------------------------


@pytest.mark.parametrize("link", ["logit", "cloglog", "probit", "log", "sqrt", "identity"])
def test_averages_are_integrals(link):
    inverse = {
        "logit": special.expit,
        "cloglog": lambda eta: -np.expm1(-np.exp(np.minimum(eta, 50.0))),
        "probit": special.ndtr,
        "log": np.exp,
        "sqrt": np.square,
        "identity": lambda eta: eta,
    }[link]
    centre = np.array([[-3.0, 0.2], [1.0, 4.0]])
    variance = np.array([[0.0, 0.04], [1.0, 25.0]])
    found = average_mean(link, inverse, centre, variance)
    for value, m, v in zip(found.value.flat, centre.flat, variance.flat, strict=True):
        sd = np.sqrt(v)
        exact = integrate.quad(
            lambda z, m=m, sd=sd: inverse(m + sd * z) * stats.norm.pdf(z), -13, 13,
            epsabs=1e-13, epsrel=1e-12, limit=400,
        )[0]  # fmt: skip
        # the trapezoidal rule at 7 sds, and quad's own tolerance
        np.testing.assert_allclose(value, exact, rtol=1e-9, atol=1e-10)
    assert found.error < 1e-8


def test_the_error_of_an_average_is_told():
    rough = average_mean("logit", special.expit, np.full((1, 1), 0.3), np.full((1, 1), 1e6))
    assert 1e-5 < rough.error < 1
    with pytest.raises(FitError, match="inverse link does not exist"):
        average_mean("inverse", np.reciprocal, np.ones((1, 1)), np.ones((1, 1)))


def test_averages_over_groups_are_those_of_many_new_groups(binomial):
    new = {"x": [-1.0, 1.5], "n": 5}
    averaged = hm.predict(binomial, new, average_groups=True)
    typical = hm.predict(binomial, new, groups="none")
    assert any("integrated to" in note for note in averaged.notes)
    labels = [f"new {k}" for k in range(3000)]
    many = hm.predict(binomial, new | {"school": labels}, groups="all", new_levels="draw", seed=3)
    drawn = rows_of(many).reshape(60, 2, 3000)
    error = drawn.std(axis=2) / np.sqrt(3000)
    z = (drawn.mean(axis=2) - rows_of(averaged)) / error
    # 120 averages, of labels that two rows share
    assert np.abs(z).max() < 4.5
    assert abs(z.mean()) < 5 / np.sqrt(60)
    gap = np.abs(rows_of(typical) - rows_of(averaged)) / error
    assert np.median(gap) > 5


def test_averages_with_the_identity_link_are_the_population_line(nested):
    averaged = rows_of(hm.predict(nested, average_groups=True))
    np.testing.assert_allclose(averaged, by_hand(nested, []), rtol=1e-11)
    part = rows_of(hm.predict(nested, average_groups=["school:room", "year"]))
    np.testing.assert_allclose(part, by_hand(nested, ["school"]), rtol=1e-11)


def test_averages_need_no_draws_of_group_effects():
    data = crossed("poisson")
    options = {"family": "poisson", "draws": 5}
    kept = standin.stand_in("y ~ x + (x | school)", data, **options)
    left = standin.stand_in("y ~ x + (x | school)", data, keep_effects=False, **options)
    found = rows_of(hm.predict(left, average_groups=True))
    design = kept.model.design
    sds, cor = flat(kept, "sd_school"), flat(kept, "cor_school")
    covariance = sds[:, :, None] * cor * sds[:, None, :]
    z = design.terms[0].z
    variance = np.einsum("na,sab,nb->sn", z, covariance, z)
    np.testing.assert_allclose(found, np.exp(by_hand(kept, []) + variance / 2), rtol=1e-10)


# --- responses ----------------------------------------------------------------------------------


def with_posterior(formula, data, draws=4000, **values):
    """Return a fit of a Gaussian formula whose parameters do not vary."""
    fit = standin.stand_in(formula, data, draws=1, chains=1)
    design = fit.model.design
    shape = (1, draws)
    variables = {"Intercept": (("chain", "draw"), np.full(shape, 2.0))}
    variables["b"] = (("chain", "draw", "coef"), np.zeros((*shape, len(design.slopes))))
    for name, value in values.items():
        value = np.asarray(value, dtype=float)
        dims = {"sigma": ["sigma_stratum"], "sigma_b": ["sigma_coef"]}.get(name)
        dims = (dims or ["sigma_stratum", "sigma_stratum_bis"])[: value.ndim]
        variables[name] = (("chain", "draw", *dims), np.broadcast_to(value, shape + value.shape))
    posterior = xr.Dataset(variables, coords={"coef": list(design.slopes)})
    for name, size in {"chain": 1, "draw": draws}.items():
        posterior = posterior.assign_coords({name: np.arange(size)})
    return replace(fit, idata=xr.DataTree.from_dict({"posterior": posterior}))


def series(seed=5):
    rng = np.random.default_rng(seed)
    rows = [(g, t) for g in "abcdef" for t in (0, 1, 3, 4)]
    data = pd.DataFrame(rows, columns=["g", "t"])
    return data.assign(y=rng.normal(size=len(data)), h=np.where(data["t"] > 1, "late", "early"))


def covariance_of(fit, new=None):
    drawn = rows_of(hm.predict(fit, new, kind="response", seed=2))
    return np.cov(drawn.T), drawn


def check_covariance(found, expected, draws=4000):
    sd = np.sqrt(np.diag(expected))
    # the standard error of a covariance of normals is sqrt((c_ii c_jj + c_ij^2) / draws)
    error = np.sqrt((np.outer(sd, sd) ** 2 + expected**2) / draws)
    assert np.abs((found - expected) / error).max() < 5


def test_autoregressive_responses_are_drawn_together():
    fit = with_posterior("y ~ 1 + ar(t, g)", series(), sigma=2.0, ar=-0.6)
    new = pd.DataFrame({"g": ["z", "b", "z", "z"], "t": [7, 1, 2, 5]})
    found, drawn = covariance_of(fit, new)
    gaps = np.abs(np.subtract.outer(new["t"].to_numpy(), new["t"].to_numpy()))
    same = np.equal.outer(new["g"].to_numpy(), new["g"].to_numpy())
    check_covariance(found, 4.0 * (-0.6) ** gaps * same)
    assert np.abs(drawn.mean() - 2.0) < 0.1
    prediction = hm.predict(fit, new, kind="response")
    assert any("not carried on" in note for note in prediction.notes)


def test_compound_symmetric_responses_are_drawn_together():
    data = series()
    fit = with_posterior("y ~ 1 + cosy(g)", data, sigma=2.0, cosy=-0.2)
    found, _ = covariance_of(fit, data.iloc[[0, 4, 1, 2, 5]])
    same = np.equal.outer(*[np.array(["a", "b", "a", "a", "b"])] * 2)
    check_covariance(found, 4.0 * np.where(same, -0.2 + 1.2 * np.eye(5), 0.0))
    longer = pd.DataFrame({"g": ["a"] * 9})
    with pytest.raises(FitError, match=r"A series of 9 rows cannot have the correlation -0\.2"):
        hm.predict(fit, longer, kind="response")


def test_unstructured_responses_are_drawn_together():
    cor = 0.3 + 0.7 * np.eye(4)
    cor[0, 3] = cor[3, 0] = -0.1
    sds = np.array([1.0, 2.0, 3.0, 4.0])
    fit = with_posterior("y ~ 1 + unstr(t, g)", series(), sigma=sds, cor_residual=cor)
    new = pd.DataFrame({"g": ["z", "z", "a"], "t": [4, 0, 1]})
    found, _ = covariance_of(fit, new)
    full = sds[:, None] * cor * sds
    expected = np.zeros((3, 3))
    expected[:2, :2] = full[np.ix_([3, 0], [3, 0])]
    expected[2, 2] = 4.0
    check_covariance(found, expected)
    with pytest.raises(DataError, match=r"has no occasion '2'; known are 0, 1, 3, 4"):
        hm.predict(fit, pd.DataFrame({"g": ["a"], "t": [2]}), kind="response")


@pytest.mark.parametrize("new", [None, "reversed"])
def test_residual_sds_follow_their_formula(new):
    data = series()
    rows = data if new is None else data.iloc[::-1]
    strata = with_posterior(["y ~ 1", "sigma ~ 0 + h"], data, 10, sigma=[1.0, 3.0])
    frame = None if new is None else rows.drop(columns="y")
    found = rows_of(hm.predict(strata, frame, parameter="sigma"))
    np.testing.assert_array_equal(found[0], np.where(rows["h"] == "late", 3.0, 1.0))
    linear = with_posterior(["y ~ 1", "sigma ~ t"], data, 10, sigma_Intercept=0.5, sigma_b=[-0.25])
    found = rows_of(hm.predict(linear, frame, parameter="sigma"))
    np.testing.assert_allclose(found[0], np.exp(0.5 - 0.25 * rows["t"]), rtol=1e-12)


def test_known_errors_and_precisions_scale_the_responses():
    data = series().assign(s=lambda d: 1.0 + d["t"])
    rows = data.iloc[[0, 3]]
    for text, values, variances in (
        ("y | se(s) ~ 1", {}, [1.0, 25.0]),
        ("y | se(s, sigma=True) ~ 1", {"sigma": 2.0}, [5.0, 29.0]),
        ("y | precision(s) ~ 1", {"sigma": 2.0}, [4.0, 0.8]),
    ):
        fit = with_posterior(text, data, **values)
        for frame in (rows, None):
            found, _ = covariance_of(fit, frame)
            at = [0, 1] if frame is not None else [0, 3]
            check_covariance(found[np.ix_(at, at)], np.diag(variances))
        with pytest.raises(UnknownColumnError, match="spread of the response needs it"):
            hm.predict(fit, rows[["t"]], kind="response")
        assert hm.predict(fit, rows[["t"]]).draws.shape == (1, 4000, 2)


def test_responses_spread_around_their_expectation(binomial):
    expected = rows_of(hm.predict(binomial))
    drawn = np.stack([rows_of(hm.predict(binomial, kind="response", seed=s)) for s in range(60)])
    n = binomial.model.design.trials
    error = np.sqrt(expected * (1 - expected / n) / 60)
    z = (drawn.mean(axis=0) - expected) / error
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    # means of 60 draws of few trials have longer tails than a normal
    assert abs(z.std() - 1) < 0.05


# --- what comes back ----------------------------------------------------------------------------


def test_draws_can_be_thinned(nested):
    every = hm.predict(nested)
    few = hm.predict(nested, draws=12)
    assert few.draws.shape == (4, 3, 90)
    assert few.draws["draw"].values.tolist() == [0, 10, 19]
    np.testing.assert_array_equal(few.draws, every.draws[:, [0, 10, 19]])


def test_the_table_has_the_rows_index(nested):
    data = crossed().iloc[:3].set_index(pd.Index(["a", "b", "a"]))
    prediction = hm.predict(nested, data, interval=0.5)
    table = prediction.to_frame()
    assert table.index.tolist() == ["a", "b", "a"]
    values = rows_of(prediction)
    np.testing.assert_allclose(table["ci_low"], np.quantile(values, 0.25, axis=0))
    np.testing.assert_allclose(table["sd"], values.std(axis=0, ddof=1))
    wide = prediction.to_frame(0.9, data=True)
    assert wide.columns.tolist()[-4:] == ["mean", "sd", "ci_low", "ci_high"]
    assert wide["school"].tolist() == data["school"].tolist()
    assert np.all(wide["ci_low"] < table["ci_low"])
    text = repr(prediction)
    assert text.startswith("Expected response at 3 rows, 80 draws; 50 % intervals")


def test_new_data_without_rows_or_with_holes(nested):
    with pytest.raises(DataError, match="no rows"):
        hm.predict(nested, crossed().iloc[:0])
    holes = crossed()
    holes.loc[2, "school"] = None
    with pytest.raises(DataError, match="'school' of the new data is missing at row 2"):
        hm.predict(nested, holes)
    with pytest.raises(DataError, match="has missing values"):
        hm.predict(nested, crossed().assign(x=np.nan))
    with pytest.raises(UnknownColumnError, match="no column 'size'"):
        hm.predict(nested, crossed().drop(columns="size"))
    with pytest.raises(DataError, match="level 'high', which the fit has not seen"):
        hm.predict(nested, crossed().assign(h="high"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mean"}, "got kind='mean'; allowed are 'expected', 'response', 'linear'"),
        ({"new_levels": "none"}, "got new_levels='none'; allowed are 'error', 'draw'"),
        ({"groups": "scool"}, "got groups='scool'; allowed are 'all', 'none' and a list"),
        ({"groups": 3}, "got groups=3; allowed are"),
        ({"average_groups": ["class"]}, r"got average_groups=\['class'\]; allowed are True"),
        ({"average_groups": True, "kind": "response"}, "averages the expected response"),
        ({"interval": 95}, "got interval=95; it is the probability"),
        ({"parameter": "shape"}, "got parameter='shape'; the family gaussian has sigma"),
        ({"parameter": "sigma", "kind": "linear"}, "sigma has no linear predictor"),
        ({"draws": 0}, "got draws=0; give a whole number"),
        ({"newdata": {"z": [1]}}, "got values for 'z', which is no predictor or grouping"),
        ({"newdata": {"x": []}}, "got no values for 'x'"),
        ({"newdata": {"x": range(2000), "size": range(2000)}}, "4,000,000 rows"),
    ],
)
def test_what_is_refused(nested, options, message):
    with pytest.raises(FitError, match=message):
        hm.predict(nested, **options)


def test_estimates_have_no_draws_to_predict_from():
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    with pytest.raises(FitError, match=r"give what model.fit\(\) or hm.load\(\) returned"):
        hm.predict(hm.mle(model))
    with pytest.raises(FitError, match="got Model"):
        hm.predict(model)


def test_a_sampled_fit_predicts_what_it_fitted():
    model = hm.Model("y ~ x + (x | school) + (1 | year)", crossed())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.SamplingWarning)
        fit = model.fit(draws=30, tune=50, chains=2, seed=1, progress=False)
    pd.testing.assert_frame_equal(hm.predict(fit).to_frame(), fit.fitted(), rtol=1e-12)

"""Shares of variance, implied quantities and other priors without rows: the frame's numbers.

Every test takes the same draws on both sides, so that no tolerance covers Monte Carlo error.
"""

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

import hiermodels as hm
from hiermodels.answers.drawn_priors import prior_draws
from hiermodels.answers.joint_likelihood import joint_log_likelihood
from hiermodels.answers.response_parts import even_rows
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.spec import streams
from hiermodels.spec.rowless import RowlessDesign
from hiermodels.spec.whole import Counted

#: Sums of a few hundred rows in another order, centred near their means.
EXACT = 1e-9


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Cut sources into many chunks."""
    monkeypatch.setattr(streams, "CHUNK", 90)


@pytest.fixture(scope="module")
def rows():
    """Rows in series of up to six times, in groups of two kinds, with weights and errors."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({"j": np.repeat(np.arange(60), 6), "t": np.tile(np.arange(6), 60)})
    n = len(frame)
    frame["g"] = frame["j"] // 5
    frame["h"] = np.where(frame["g"] % 3 == 0, "town", "land")
    frame["a"], frame["f"] = rng.integers(0, 8, n), rng.integers(0, 8, n)
    frame["x"], frame["o"] = rng.normal(40.0, 3.0, n), rng.normal(size=n)
    frame["w"], frame["v"] = rng.uniform(0.5, 2.0, n), rng.uniform(0.5, 2.0, n)
    frame["s"] = rng.choice([0.5, 0.75, 1.25], n)
    frame["d"], frame["c"] = rng.choice(np.linspace(-1.0, 1.0, 5), n), rng.choice(list("pqr"), n)
    frame["u"] = 1.0 + frame["j"] % 3
    frame["y"] = 5.0 + 0.3 * frame["x"] + rng.normal(size=12)[frame["g"]] + rng.normal(size=n)
    frame.loc[rng.choice(n, 9, replace=False), "x"] = np.nan
    return frame


def known():
    """Return a covariance between twelve levels, not of one variance."""
    root = np.random.default_rng(2).normal(size=(12, 24))
    names = [str(level) for level in range(12)]
    return pd.DataFrame(root @ root.T / 24, index=names, columns=names)


def both(formula, frame, **options):
    """Return the model from passes over the rows, and from the rows."""
    if "cov=K" in str(formula):
        options["covariances"] = {"K": known()}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    streamed = hm.Model(formula, table, memory="1 KB", **options)
    assert isinstance(streamed.design, RowlessDesign)
    return streamed, hm.Model(formula, frame, **options)


def on(models, draws=23):
    """Return fits of models that have the same draws, from the priors of the last."""
    held = models[-1]
    drawn = prior_draws(held.design, held.resolved, draws, np.random.default_rng(3))
    return [hm.Fit(model, xr.DataTree.from_dict({"posterior": drawn})) for model in models]


FORMULAS = [
    "y ~ x + offset(o) + (x | g) + (1 | a)",
    "y ~ 1 + (1 | g)",
    "y ~ 0 + x * c",
    "y ~ x + (1 | g) + (0 + x | g) + (x | g:a)",
    "y ~ x + (x || gr(g, by=h)) + (1 | c)",
    "y ~ x + (x | gr(g, cov=K))",
    "y ~ x + (x | mm(a, f))",
    "y ~ x + (1 | mm(a, f, weights=cbind(w, v))) + (1 | c)",
    "y | precision(w) ~ x + (1 | mm(a, f, weights=c(w, v), scale=False))",
    "y | weights(w) ~ x + (x | gr(g, by=h))",
    "y | se(s) ~ x + (x | g)",
    "y | se(s, sigma=True) ~ x + (x | g)",
    ["y ~ x + (x | g)", "sigma ~ 0 + c"],
    ["y | precision(w) ~ x + (x | g)", "sigma ~ 0 + c"],
    ["y | weights(w) ~ x + (1 | g)", "sigma ~ d + c"],
    ["y | se(s, sigma=True) ~ x + (1 | g)", "sigma ~ d"],
    "y ~ x + ar(t, j) + (x | g)",
    "y | precision(w) ~ x + ar(t, j) + (1 | g)",
    "y ~ x + cosy(j) + (x | g)",
    "y | se(w) ~ x + cosy(j) + (1 | g)",
    "y ~ x + unstr(t, j) + (x | gr(g, cov=K))",
    "y | precision(w) ~ x + unstr(t, j)",
    "y ~ x + (x | mm(a, f, weights=cbind(w, v)))",
    "y ~ x + (0 + x + c | mm(a, f, weights=c(w, v), scale=False))",
    'y ~ x + (x | gr(g, dist="student"))',
    ["y ~ x + ar(t, j) + (1 | g)", "sigma ~ 0 + c"],
    ["y ~ x + (1 | g)", "sigma ~ scale(d)"],
    "y ~ bs(x, df=5) + (1 | g)",
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_sums_over_rows(formula, rows):
    """Shares, and the log likelihood given everything else, are those of the rows."""
    streamed, held = on(both(formula, rows))
    if held.model.design.groups:
        np.testing.assert_allclose(hm.icc(streamed).draws, hm.icc(held).draws, rtol=EXACT)
    for scale in ("link", "response"):
        found, wanted = hm.r2(streamed, scale), hm.r2(held, scale)
        np.testing.assert_allclose(found.draws, wanted.draws, rtol=EXACT, atol=1e-12)
    take = np.arange(23)
    ours = joint_log_likelihood(streamed.model, streamed.posterior, take)
    theirs = joint_log_likelihood(held.model, held.posterior, take)
    np.testing.assert_allclose(ours, theirs, rtol=EXACT)


def test_weights_beside_a_structure(rows):
    """They multiply log likelihoods that are not those of single rows: with rows and without."""
    for fit in on(both("y | weights(u) ~ x + cosy(j) + (1 | g)", rows)):
        with pytest.raises(hm.FitError, match=r"weights\(\) multiplies log likelihoods"):
            joint_log_likelihood(fit.model, fit.posterior, np.arange(23))


def test_variances_summed_anew(rows, monkeypatch):
    """Variances of so many values that products are summed anew have the same likelihood."""
    from hiermodels.spec import bases

    formula = ["y | weights(w) ~ x + (1 | g)", "sigma ~ d"]
    with monkeypatch.context() as own:
        own.setattr(bases, "MAX_CLASSES", 1)
        streamed = hm.Model(formula, pa.Table.from_pandas(rows), memory="1 KB")
        assert streamed.design.residual.by_rows
    fits = on([streamed, hm.Model(formula, rows)])
    found, wanted = (joint_log_likelihood(f.model, f.posterior, np.arange(5)) for f in fits)
    np.testing.assert_allclose(found, wanted, rtol=EXACT)


# --- what priors say --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        "y | precision(w) ~ x + (x | g) + (1 | a)",
        "y ~ x + (1 | gr(g, by=h)) + (1 | mm(a, f))",
        "y ~ x + (x | g) + unstr(t, j)",
    ],
)
def test_what_priors_imply(formula, rows):
    """Quantities are the frame's, and so is what is called wild."""
    streamed, held = both(formula, rows, priors={"sd": "HalfNormal(300)"})
    found, wanted = (hm.prior_implied(model, 60, seed=1) for model in (streamed, held))
    assert list(found.draws) == list(wanted.draws)
    for name, values in wanted.draws.items():
        # draws scale with priors that stand on sums of the rows
        np.testing.assert_allclose(found.draws[name], values, rtol=1e-7, err_msg=name)
    assert list(found.table["word"]) == list(wanted.table["word"])
    assert any("range of the response" in word for word in found.wild["word"])
    assert found.notes == wanted.notes


def test_the_range_of_the_response(rows, tmp_path):
    """The least and the largest response are exact; saved fits hold them, and unweighted sums."""
    y = rows["y"].clip(10.0, 20.0)
    y[200], y[300] = 20.5, 9.5
    streamed, held = both("log(y) | precision(w) ~ x + (1 | g)", rows.assign(y=y))
    with pytest.warns(hm.SamplingWarning):
        fit = streamed.fit(draws=5, tune=20, chains=1, seed=1, progress=False, cores=1)
    for model in (streamed, hm.load(fit.save(tmp_path / "fit.nc")).model):
        ends = model.design.products.ends
        assert ends == (held.design.y.min(), held.design.y.max())
        found, wanted = on([model, held])
        np.testing.assert_allclose(hm.r2(found).draws, hm.r2(wanted).draws, rtol=EXACT)


def test_effects_beyond_memory(rows, monkeypatch):
    """Draws of effects that would fill memory are refused with their size."""
    monkeypatch.setattr("hiermodels.answers.implied_quantities._MOST_NUMBERS", 500)
    with pytest.raises(
        hm.FitError, match=r"60 draws of 12 group effects .* prior_implied\(model, 41\)"
    ):
        hm.prior_implied(both("y ~ x + (1 | g)", rows)[0], 60)


# --- rows that were counted -------------------------------------------------------------------


def counted(family, n=300):
    """Return a model of distinct rows with their numbers, and of the rows."""
    rng = np.random.default_rng(4)
    g, x = rng.integers(0, 4, n), rng.integers(0, 3, n) + 10
    frame = pd.DataFrame({"g": g, "x": x, "m": rng.integers(3, 5, n), "o": rng.integers(0, 2, n)})
    size = 2 if family == "bernoulli" else 4
    frame["y"] = np.minimum(rng.integers(0, size, n), frame["m"] if family == "binomial" else size)
    formula = f"y{' | trials(m)' if family == 'binomial' else ''} ~ x + offset(o) + (x | g)"
    table = pa.Table.from_pandas(frame)
    memory = "110 KB" if family == "binomial" else "70 KB"
    streamed = hm.Model(formula, table, family, memory=memory)
    assert isinstance(streamed.design.whole, Counted)
    return streamed, hm.Model(formula, frame, family)


def test_nothing_is_explained_without_predictors():
    """Sums with counts round, and what they round to is no variance."""
    rng = np.random.default_rng(4)
    table = pa.table({"b": rng.integers(0, 2, 400), "k": rng.integers(0, 3, 400)})
    (fit,) = on([hm.Model("b ~ 1 + (1 | k)", table, "bernoulli", memory="10 KB")])
    assert isinstance(fit.model.design.whole, Counted)
    for scale in ("link", "response"):
        assert (hm.r2(fit, scale).draws.sel(component="marginal") == 0.0).all()


@pytest.mark.parametrize("family", ["bernoulli", "binomial", "poisson", "negativebinomial"])
@pytest.mark.parametrize("scale", ["link", "response"])
def test_shares_where_rows_were_counted(family, scale):
    """Distinct rows count as often as they were met."""
    streamed, held = on(counted(family))
    for function in (hm.icc, hm.r2):
        found, wanted = function(streamed, scale).draws, function(held, scale).draws
        np.testing.assert_allclose(found, wanted, rtol=EXACT, atol=1e-12)


def test_even_rows_are_of_all_rows():
    """Rows taken evenly of distinct ones are met as often as among all rows."""
    design, _ = (model.design for model in counted("poisson"))
    most = len(design.y) // 2
    rows, whole = even_rows(design, most)
    assert whole.n == most == whole.counts.sum()
    every = np.repeat(np.arange(len(design.y)), design.whole.counts.astype(int))
    even = every[np.linspace(0, len(every) - 1, most).astype(int)]
    np.testing.assert_array_equal(np.repeat(rows, whole.counts.astype(int)), even)


def test_what_priors_imply_where_rows_were_counted():
    """Differences between groups stand at the means over all rows."""
    streamed, held = counted("poisson")
    found, wanted = (hm.prior_implied(model, 50, seed=1) for model in (streamed, held))
    for name, values in wanted.draws.items():
        # some draws of priors say rates of 1e300, whose working weights are mostly rounding
        rtol = 1e-3 if name.startswith("pooling") else 1e-7
        np.testing.assert_allclose(found.draws[name], values, rtol=rtol, err_msg=name)


# --- other priors -----------------------------------------------------------------------------

QUICK = {"tune": 100, "chains": 2, "seed": 1, "progress": False, "cores": 1}
ALTERNATIVES = {
    "y ~ x + c + (x | g)": {"b": "Normal(0, 0.5)", "sd": "HalfNormal(2)"},
    "y | precision(w) ~ x + ar(t, j)": {"b": "Normal(0, 0.5)", "sigma": "Exponential(1)"},
    'y ~ x + (1 | gr(g, dist="student"))': {"b": "Normal(0, 0.5)", "sd": "HalfNormal(2)"},
}


def assert_same_answers(found, wanted):
    """Tables agree to the rounding of sums over rows."""
    for name in ("alternative", "kind", "quantity"):
        assert list(found.table[name]) == list(wanted.table[name])
    assert list(found.alternatives["method"]) == list(wanted.alternatives["method"])
    assert found.notes == wanted.notes
    numbers = ["baseline", "baseline_sd", "mean", "sd", "shift", "shift_mcse", "sd_ratio"]
    # weights are exponentials of sums over rows, and their tail is smoothed
    own, other = found.table[numbers], wanted.table[numbers]
    np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-8)
    kinds = [name for name in wanted.scaling if name != "diagnosis"]
    assert wanted.scaling["likelihood"].notna().all()
    np.testing.assert_allclose(found.scaling[kinds], wanted.scaling[kinds], rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
@pytest.mark.parametrize("formula", ALTERNATIVES)
def test_other_priors(formula, rows):
    """Other priors are reached by the same weights as from the rows."""
    streamed, held = both(formula, rows)
    fit = held.fit(draws=150, **QUICK)
    alternatives = [{key: prior} for key, prior in ALTERNATIVES[formula].items()]
    found, wanted = (
        hm.prior_sensitivity(one, alternatives, refit=False)
        for one in (hm.Fit(streamed, fit.idata), fit)
    )
    assert set(wanted.alternatives["method"]) == {"reweighted"}
    assert_same_answers(found, wanted)


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_other_priors_where_rows_were_counted():
    """Rows that were counted have the frame's shifts, and the frame's power-scaling."""
    streamed, held = counted("poisson")
    fit = held.fit(draws=150, **QUICK)
    found, wanted = (
        hm.prior_sensitivity(one, [{"b": "Normal(0, 5)"}], refit=False)
        for one in (hm.Fit(streamed, fit.idata), fit)
    )
    assert_same_answers(found, wanted)


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_refits_without_rows(rows, tmp_path, monkeypatch):
    """Alternatives out of reach are fitted again from the products, and read back from a folder."""
    streamed, _ = both("y ~ x + (1 | g)", rows)
    fit = streamed.fit(draws=40, **QUICK)
    far = [{"sd": "HalfNormal(0.01)"}]
    found = hm.prior_sensitivity(fit, far, folder=tmp_path, scaling=False)
    assert list(found.alternatives["method"]) == ["refitted"]
    sent = cloudpickle.loads(cloudpickle.dumps(streamed))
    point = np.full(MarginalDensity(sent.marginal).ndim, 0.1)
    assert MarginalDensity(sent.marginal)(point)[0] == MarginalDensity(streamed.marginal)(point)[0]
    monkeypatch.setattr(hm.Model, "fit", None)
    again = hm.load(fit.save(tmp_path / "fit.nc"))
    read = hm.prior_sensitivity(again, far, folder=tmp_path, scaling=False)
    pd.testing.assert_frame_equal(read.table, found.table)
    other = hm.Model("y ~ x + (1 | g)", pa.Table.from_pandas(rows.iloc[:-3]), memory="1 KB")
    other = other.with_resolved(streamed.resolved)
    with pytest.raises(TypeError):
        hm.prior_sensitivity(hm.Fit(other, fit.idata), far, folder=tmp_path, scaling=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_refits_in_processes(rows):
    """Processes fit again from the products, with the same answer as one after another."""
    fit = both("y ~ x + (1 | g)", rows)[0].fit(draws=40, **QUICK)
    far = [{"sd": "HalfNormal(0.01)"}, {"sd": "HalfNormal(0.02)"}]
    own, other = (hm.prior_sensitivity(fit, far, scaling=False, cores=k) for k in (1, 2))
    assert list(own.alternatives["method"]) == ["refitted"] * 2
    pd.testing.assert_frame_equal(own.table, other.table)


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_effects_that_were_not_kept(rows):
    """Without draws of the effects what needs them is left out, and notes say so."""
    streamed, _ = both("y ~ x + (x | g)", rows)
    fit = streamed.fit(draws=100, memory="1 B", **QUICK)
    found = hm.prior_sensitivity(fit, [{"b": "Normal(0, 1)"}], refit=False)
    assert {"icc", "pooling factor"} < set(found.table["kind"])
    assert "rank" not in set(found.table["kind"])
    assert found.scaling["likelihood"].isna().all()
    assert "The draws of r_g were left out, so that groups are not ranked." in found.notes
    shares = hm.r2(fit)
    assert shares.to_frame()["mean"].notna().tolist() == [True, True, False]
    assert "bayes needs draws of the group effects" in str(shares)

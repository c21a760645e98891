"""Sources beyond memory: groupings with a structure, and residual variances of many values."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hiermodels.answers.pointwise import row_densities
from hiermodels.engines.assembly import conditional_problem
from hiermodels.engines.conditional import log_density
from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.engines.standing import for_all_rows
from hiermodels.errors import DataError, EngineError, FormulaError
from hiermodels.fitting.estimation import mle
from hiermodels.fitting.model import Model
from hiermodels.spec import streams
from hiermodels.spec.rowless import RowlessDesign, product_rows


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Cut sources into many chunks."""
    monkeypatch.setattr(streams, "CHUNK", 150)


@pytest.fixture(scope="module")
def frame():
    """Rows in schools of two kinds, with pairs of teachers and classes of spread."""
    rng = np.random.default_rng(11)
    n = 1500
    rows = pd.DataFrame(
        {
            "x": rng.normal(40.0, 3.0, n),
            "z": rng.normal(size=n),
            "g": rng.integers(0, 24, n),
            "a": rng.integers(2, 14, n),
            "f": rng.integers(0, 12, n),
            "w": rng.uniform(0.0, 2.0, n),
            "v": rng.choice([0.0, 0.5, 1.5], n),
            "s": rng.choice([0.5, 0.75, 1.25, 2.0], n),
            "d": rng.choice(np.linspace(-1.0, 1.0, 9), n),
            "c": rng.choice(list("pqr"), n),
        }
    )
    rows["h"] = np.where(rows["g"] % 3 == 0, "town", "land")
    effect = rng.normal(size=24)
    rows["y"] = 5.0 + 0.3 * rows["x"] + effect[rows["g"]] + np.exp(rows["d"]) * rng.normal(size=n)
    rows.loc[rng.choice(n, 25, replace=False), "x"] = np.nan
    # memberships that never count, of a level that has no other
    rows.loc[rows["a"] == 13, "w"] = 0.0
    return rows


def known(levels, seed=2):
    """Return a covariance between levels, in another order than theirs."""
    root = np.random.default_rng(seed).normal(size=(len(levels), 2 * len(levels)))
    names = [str(level) for level in levels][::-1]
    return pd.DataFrame(root @ root.T / (2 * len(levels)), index=names, columns=names)


def both(formula, rows, **options):
    """Return the model from passes over the rows, and from the rows."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    streamed = Model(formula, table, memory="1 KB", **options)
    held = Model(formula, rows, **options)
    assert isinstance(streamed.design, RowlessDesign)
    return streamed, held


def assert_same(streamed, held):
    """Levels, rows, priors and likelihood are the frame's."""
    for own, other in zip(streamed.design.groups, held.design.groups, strict=True):
        assert own.levels == other.levels
        np.testing.assert_array_equal(own.n_rows, other.n_rows)
    a, b = streamed.priors, held.priors
    assert list(a["parameter"]) == list(b["parameter"])
    assert streamed.resolved.residual.as_dict().keys() == held.resolved.residual.as_dict().keys()
    for one, two in zip(
        streamed.resolved.residual.sigma, held.resolved.residual.sigma, strict=True
    ):
        np.testing.assert_allclose(one.values, two.values, rtol=1e-9)
    density, wanted = MarginalDensity(streamed.marginal), MarginalDensity(held.marginal)
    rng = np.random.default_rng(3)
    for _ in range(3):
        point = 0.3 * rng.normal(size=wanted.ndim)
        value, gradient = density(point)
        expected, slopes = wanted(point)
        # sums of as many products in another order
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-7 * np.abs(slopes).max())


GROUPINGS = [
    "y ~ x + (x | gr(g, by=h))",
    "y ~ x + (x || gr(g, by=h)) + (1 | c)",
    "y ~ x + (x | gr(g, cov=K))",
    "y ~ x + (1 | g) + (1 | gr(f, cov=K))",
    "y ~ x + (x | mm(a, f))",
    "y ~ x + (1 | mm(a, f, weights=cbind(w, z2))) + (1 | c)",
    "y | precision(s) ~ x + (1 | mm(a, f, weights=c(w, v), scale=False))",
    "y ~ x + (x | mm(a, f, weights=cbind(w, z2)))",
    "y ~ x + (x * c || mm(a, f, weights=cbind(w, z2))) + (1 | mm(g, f, weights=c(s, v)))",
    "y | weights(s) ~ (0 + x + z | mm(a, f, weights=cbind(w, s), scale=False)) + (1 | c)",
]


@pytest.mark.parametrize("formula", GROUPINGS)
def test_structured_groupings(formula, frame):
    """Subpopulations, known covariances and memberships have the frame's likelihood."""
    rows = frame.assign(z2=1.0 + frame["z"] ** 2)
    options = {}
    if "cov=K" in formula:
        options["covariances"] = {"K": known(range(24 if "gr(g" in formula else 12))}
    streamed, held = both(formula, rows, **options)
    assert_same(streamed, held)
    if "weights" in formula:
        with pytest.raises(DataError, match="needs the rows"):
            streamed.design.terms[0].members.weights  # noqa: B018


def test_estimates_of_weighted_slopes(frame):
    """REML of memberships whose weights multiply slopes is the frame's; effects are too."""
    formula = "y ~ x + (x | mm(a, f, weights=cbind(w, s)))"
    share = frame["w"] / (frame["w"] + frame["s"])
    slopes = np.random.default_rng(5).normal(size=14)
    both_slopes = share * slopes[frame["a"]] + (1.0 - share) * slopes[frame["f"]]
    streamed, held = both(formula, frame.assign(y=frame["y"] + both_slopes * (frame["x"] - 40.0)))
    ours, theirs = mle(streamed), mle(held)
    # to the optimiser's tolerance
    assert ours.loglik == pytest.approx(theirs.loglik, abs=1e-7)
    np.testing.assert_allclose(ours.ranef()["estimate"], theirs.ranef()["estimate"], atol=1e-4)
    assert "no weights" in repr(product_rows(streamed.design).terms[0].members)


VARIANCES = [
    ["y ~ x + (x | g)", "sigma ~ d"],
    ["y ~ x + (1 | g)", "sigma ~ d + I(s**2) + c"],
    ["y | weights(s) ~ x + (1 | g)", "sigma ~ 0 + c + d"],
    ["y ~ x + (1 | gr(g, by=h))", "sigma ~ d"],
    ["y ~ x + (1 | mm(a, f))", "sigma ~ d"],
    "y | se(s, sigma=True) ~ x + (x | g)",
    "y | se(sqrt(s), sigma=True) ~ x + (1 | gr(g, by=h))",
    ["y | se(s, sigma=True) ~ x + (1 | g)", "sigma ~ d"],
    ["y ~ x + z", "sigma ~ d"],
    ["y ~ scale(x) + (1 | g)", "sigma ~ scale(d) + poly(s, 2) + C(v)"],
    ["y | se(s, sigma=True) ~ x + (1 | g)", "sigma ~ 0 + center(d)"],
    ["y ~ bs(x, df=4) + (1 | g)", "sigma ~ bs(d, df=4)"],
]


@pytest.mark.parametrize("formula", VARIANCES, ids=str)
def test_variances_of_few_values(formula, frame):
    """Where residual variances take few values they have cross-products each."""
    assert_same(*both(formula, frame))


@pytest.mark.parametrize("limit", [1, 10_000])
def test_variances_summed_anew(limit, frame, monkeypatch):
    """Rows that stand for others give the same likelihood where they are summed anew."""
    from hiermodels.spec import bases

    formula = ["y ~ x + (1 | g)", "sigma ~ d"]
    with monkeypatch.context() as own:
        own.setattr(bases, "MAX_CLASSES", limit)
        streamed = Model(formula, pa.Table.from_pandas(frame), memory="1 KB")
        assert streamed.design.residual.by_rows is (limit == 1)
    assert_same(streamed, Model(formula, frame))


def test_too_many_variances(frame):
    """A predictor of sigma with many values is refused with their number."""
    rows = frame.assign(d=np.random.default_rng(1).normal(size=len(frame)))
    table = pa.Table.from_pandas(rows)
    with pytest.raises(
        EngineError, match=r"on 'd', which has 1,\d+ distinct values in .*300\. Round"
    ):
        Model(["y ~ x + (1 | g)", "sigma ~ d"], table, memory="1 KB")
    with pytest.raises(EngineError, match="distinct values"):
        Model("y | se(w + 1, sigma=True) ~ x + (1 | g)", table, memory="1 KB")
    with pytest.raises(FormulaError, match="knots at quantiles of distinct values"):
        Model(["y ~ x + (1 | g)", "sigma ~ cr(s, df=3)"], table, memory="1 KB")


def test_what_structures_may_not_hold(frame):
    """What a frame is refused for, a source is refused for; what needs the rows says so."""

    def model(formula, **options):
        return Model(formula, pa.Table.from_pandas(frame), memory="1 KB", **options)

    with pytest.raises(DataError, match="needs every level in one subpopulation"):
        model("y ~ x + (1 | gr(g, by=c))")
    with pytest.raises(FormulaError, match="names no covariance"):
        model("y ~ x + (1 | gr(g, cov=K))")
    with pytest.raises(DataError, match="lacks the level"):
        model("y ~ x + (1 | gr(g, cov=K))", covariances={"K": known(range(20))})
    with pytest.raises(DataError, match="which no bar uses"):
        model("y ~ x + (1 | g)", covariances={"K": known(range(24))})
    with pytest.raises(DataError, match="must be at least 0"):
        model("y ~ x + (1 | mm(a, f, weights=cbind(z, w)))")
    chained = pa.Table.from_pandas(frame.rename(columns={"h": "chain"}))
    with pytest.raises(DataError, match="may not be called 'chain'"):
        Model("y ~ x + (1 | gr(g, by=chain))", chained, memory="1 KB")


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | gr(g, cov=K))",
        "y ~ x + (1 | gr(g, by=h)) + (x | mm(a, f, weights=cbind(w, s)))",
        ["y | se(s, sigma=True) ~ x + (1 | g)", "sigma ~ scale(d)"],
    ],
    ids=str,
)
def test_saved_and_loaded(formula, frame, tmp_path):
    """A saved fit has the structures, so that it is refitted without the data."""
    import hiermodels as hm

    options = {"covariances": {"K": known(range(24))}} if "cov=K" in formula else {}
    model = Model(formula, pa.Table.from_pandas(frame), memory="1 KB", **options)
    fit = model.fit(draws=20, tune=50, chains=2, seed=1, progress=False, cores=1)
    again = hm.load(fit.save(tmp_path / "fit.nc"))
    point = np.full(MarginalDensity(model.marginal).ndim, 0.1)
    assert MarginalDensity(again.model.marginal)(point)[0] == pytest.approx(
        MarginalDensity(model.marginal)(point)[0], rel=1e-12
    )
    for own, other in zip(again.model.design.groups, model.design.groups, strict=True):
        np.testing.assert_array_equal(own.n_rows, other.n_rows)
    pd.testing.assert_frame_equal(again.summary(), fit.summary())


CONDITIONAL = [
    'y ~ x + (x | gr(g, dist="student"))',
    "y ~ x + (1 | g) + (x | f)",
    ['y ~ x + (1 | gr(g, dist="student"))', "sigma ~ d"],
    ['y ~ offset(z) + (1 | gr(g, dist="student", by=h))', "sigma ~ 0 + c"],
    'y | weights(s) ~ x + (1 | gr(g, dist="student")) + (1 | c)',
    ["y | weights(w) ~ x + (1 | g)", "sigma ~ c"],
    'y | precision(s) ~ x + (1 | gr(g, dist="student"))',
    'y | se(s) ~ x + (1 | gr(g, dist="student"))',
    ['y | se(s, sigma=True) ~ x + (1 | gr(g, dist="student"))', "sigma ~ d"],
    'y ~ x + (1 | gr(g, dist="student")) + (1 | mm(a, f, weights=cbind(w, s)))',
    'y ~ x + (x | gr(g, dist="student")) + (x + z | mm(a, f, weights=cbind(w, s)))',
]


@pytest.mark.parametrize("formula", CONDITIONAL, ids=str)
def test_effects_among_the_coordinates(formula, frame):
    """Given the effects, rows with the same products have the frame's likelihood."""
    streamed, held = both(formula, frame, engine="conditional")
    assert streamed.centred == held.centred

    def problem(model):
        rows = product_rows(model.design)
        made = conditional_problem(rows, model.family, model.resolved, model.centred)
        return for_all_rows(made, rows)

    ours, theirs = problem(streamed), problem(held)
    rng = np.random.default_rng(3)
    for _ in range(3):
        point = 0.3 * rng.normal(size=theirs.layout.ndim)
        value, gradient = log_density(ours, point)
        expected, slopes = log_density(theirs, point)
        # sums of as many squares in another order
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-8 * np.abs(slopes).max())


@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_student_effects(frame, tmp_path):
    """Student effects are drawn from rows that were not kept; a saved fit is fitted again."""
    import hiermodels as hm

    formula = 'y ~ x + (1 | gr(g, dist="student"))'
    settings = {"draws": 300, "tune": 300, "chains": 2, "seed": 1, "progress": False, "cores": 1}
    streamed, held = both(formula, frame)
    assert streamed.engine == held.engine == "conditional"
    fit = streamed.fit(**settings)
    ours, theirs = fit.summary(), held.fit(**settings).summary()
    # two posteriors of about 200 effective draws each
    distance = np.abs(ours["mean"] - theirs["mean"]) / theirs["sd"]
    assert distance.max() < 4 * np.sqrt(2 / 200)
    again = hm.load(fit.save(tmp_path / "fit.nc")).model
    assert again.engine == "conditional"
    assert again.fit(**settings | {"draws": 20}).summary().index.equals(ours.index)
    with pytest.raises(EngineError, match="sampler='pymc' needs the rows"):
        streamed.fit(sampler="pymc")


def test_which_engine_is_taken(frame, monkeypatch):
    """The engine is the frame's; where only the marginal one can run it may not take too long."""
    from hiermodels.engines import choice

    def model(formula, **options):
        return Model(formula, pa.Table.from_pandas(frame), memory="1 KB", **options)

    formula = "y ~ x + (1 | g) + (1 | f)"
    assert model(formula).engine == "marginal"
    shrunk = {"priors": {"b": "R2D2M2()"}}
    with pytest.raises(EngineError, match=r"not kept: the kernel has no prior R2D2M2.* Leave"):
        model("y ~ x + z + (1 | g)", engine="conditional", **shrunk)
    with pytest.raises(EngineError, match=r"no prior R2D2M2.*Student effects"):
        model('y ~ x + z + (1 | gr(g, dist="student"))', **shrunk)
    monkeypatch.setattr(choice, "_MORE_GRADIENTS", 1e-9)
    assert Model(formula, frame).engine == "conditional"
    assert model(formula).engine == "conditional"
    made = model("y ~ x + z + (1 | g) + (1 | f)", **shrunk)
    assert made.engine == "marginal"
    assert "no prior R2D2M2 of a coefficient, and cross-products are all" in str(made)
    monkeypatch.setattr(choice, "_MOST_OPERATIONS", 1.0)
    with pytest.raises(EngineError, match=r"would take .* GB and about .*memory='64 GB'"):
        model("y ~ x + z + (1 | g) + (1 | f)", **shrunk)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | gr(g, by=h)) + (1 | mm(a, f, weights=cbind(w, s)))",
        ["y ~ x + (x | g) + (x | mm(a, f, weights=cbind(w, s)))", "sigma ~ scale(d)"],
    ],
    ids=["intercepts", "slopes"],
)
def test_predictions_of_structured_rows(formula, frame, tmp_path):
    """Rows of subpopulations and memberships are predicted as they are from rows held."""
    import hiermodels as hm

    table = pa.Table.from_pandas(frame)
    with pytest.warns(hm.SamplingWarning):
        fit = Model(formula, table, memory="1 KB").fit(
            draws=20, tune=50, chains=2, seed=1, progress=False, cores=1
        )
    held = hm.Fit(Model(formula, frame), fit.idata)
    path = hm.predict_to(fit, table, tmp_path / "rows.out", draws=40)
    found = pd.read_parquet(path)
    np.testing.assert_allclose(found["mean"], held.fitted()["mean"], rtol=1e-10)
    expected = row_densities(held.model, held.posterior, np.arange(9), np.arange(40))
    np.testing.assert_allclose(
        np.stack(found["log_likelihood"].iloc[:9]).T, expected, rtol=1e-8, atol=1e-9
    )
    ours, theirs = hm.pooling(fit).to_frame(), hm.pooling(held).to_frame()
    for name in ("n", "no_pool", "no_pool_se", "complete", "pooling_factor"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-7, err_msg=name)

"""A fit of a source beyond memory: what needs its rows says so by name, what does not works."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hiermodels as hm


@pytest.fixture(scope="module")
def rows():
    """Rows in eight groups."""
    rng = np.random.default_rng(5)
    g, x = rng.integers(0, 8, 2000), rng.normal(size=2000)
    y = x + rng.normal(size=8)[g] + rng.normal(size=2000)
    return pd.DataFrame({"y": y, "x": x, "h": rng.choice(list("ab"), 2000), "g": g})


@pytest.fixture(scope="module")
def fit(rows):
    """A fit of them whose rows were not kept."""
    model = hm.Model("y ~ x + h + (1 | g)", pa.Table.from_pandas(rows), memory="1 KB")
    with pytest.warns(hm.SamplingWarning):
        return model.fit(draws=40, tune=60, chains=2, seed=1, cores=1, progress=False)


REFUSED = {
    "check()": lambda fit: hm.check(fit),
    "compare()": lambda fit: hm.compare({"a": fit, "b": fit}),
    "comparisons()": lambda fit: hm.comparisons(fit, "x"),
    "kfold()": lambda fit: hm.kfold(fit),
    "logo()": lambda fit: hm.logo(fit),
    "loo()": lambda fit: hm.loo(fit),
    "pointwise_log_likelihood()": lambda fit: hm.pointwise_log_likelihood(fit),
    "predict()": lambda fit: hm.predict(fit),
    "prior_predictive()": lambda fit: hm.prior_predictive(fit.model),
    "sbc()": lambda fit: hm.sbc(fit.model, 2, cores=1, progress=False),
    "slopes()": lambda fit: hm.slopes(fit, "x"),
    "to_bambi()": lambda fit: hm.to_bambi(fit.model),
    "fitted()": lambda fit: fit.fitted(),
    "residuals()": lambda fit: fit.residuals(),
    "intervals('bootstrap')": lambda fit: hm.mle(fit.model).intervals("bootstrap"),
    "on_rows()": lambda fit: fit.model.on_rows([0, 1]),
    "with_response()": lambda fit: fit.model.with_response(np.zeros(2000)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name, fit):
    """The error names the function, says why, and what to do."""
    start = re.escape(f"{name} needs the rows themselves, and the 2,000 rows of this model were")
    with pytest.raises(hm.FitError, match=f"^{start} read in passes.*memory='64 GB'"):
        REFUSED[name](fit)


def test_what_needs_no_rows(fit, rows):
    """Tables, pooling, ranks, lint and predictions for rows that are given work."""
    assert len(fit.ranef()) == 8
    assert len(fit.coef()) == 24
    assert hm.rank_groups(fit).to_frame()["n"].sum() == 2000
    assert hm.pooling(fit).to_frame()["n"].sum() == 2000
    assert hm.compare_estimates(fit).to_frame()["reml"].notna().any()
    assert hm.complete_pooling(fit)["se"].notna().all()
    assert len(hm.no_pooling(fit)) == 8
    assert len(hm.hypothesis(fit, "x > 0")) == 1
    assert "not kept" in hm.lint(fit).skipped[0]
    assert hm.predict(fit, rows.head(3)).draws.shape[-1] == 3
    assert hm.icc(fit).to_frame().index.tolist() == ["g"]
    assert hm.r2(fit).to_frame()["mean"].between(0, 1).all()
    assert "What the priors say" in str(hm.prior_implied(fit.model, 50, seed=1))
    found = hm.prior_sensitivity(fit, [{"b": "Normal(0, 5)"}], refit=False)
    assert "icc[g]" in set(found.table["quantity"])
    assert hm.predict(fit, {"x": [0, 1]}).draws.shape[-1] == 2
    assert hm.comparisons(fit, "h", rows.head(3)).draws.shape[-1] == 3
    assert hm.slopes(fit, "x", pa.Table.from_pandas(rows)).draws.shape[-1] == 1

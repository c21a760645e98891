"""The spread that group effects give each row, against dense covariances."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_leave_out import frame, model_of, one_draw, signal

import hiermodels as hm
from hiermodels.answers.row_spread import centred_columns, centred_roots
from hiermodels.fitting.fit import Fit

STRUCTURES = {
    "by": "y ~ x + (x | gr(a, by=half)) + (1 | c)",
    "cov": "y ~ x + (x | gr(a, cov=K))",
    "mm": "y ~ x + (x | mm(a, o, weights=cbind(w, v))) + (1 | e)",
    "mm and cov": "y ~ x + (1 | mm(a, o, cov=K))",
    "plain": "y ~ x + (x | a) + (1 | c)",
}


def fit_of(name):
    model = model_of(STRUCTURES[name], frame())
    draw = one_draw(model, 3)
    coords = {}
    for group in model.design.groups:
        coords[f"{group.name}_coef"] = list(group.coefs)
        coords[f"{group.name}_coef_bis"] = list(group.coefs)
        by = model.design.terms[group.terms[0]].by
        if by is not None:
            coords[by.name] = list(by.labels)
    draw = draw.assign_coords({k: v for k, v in coords.items() if k in draw.dims})
    draw = draw.assign_coords(coef=list(model.design.slopes))
    return Fit(model, xr.DataTree.from_dict({"posterior": draw})), draw


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_variance_of_a_row_is_that_of_its_effects(name):
    fit, draw = fit_of(name)
    found = np.zeros(fit.model.design.n)
    for group in fit.model.design.groups:
        z = centred_columns(fit.model.design, group)
        scores = centred_roots(fit, group, np.array([0]))
        found += np.sum((z @ scores[0]) ** 2, axis=1)
    # the signal's variance without that of the coefficients
    whole = np.diag(signal(fit.model, draw)[1])
    X = fit.model.design.X @ fit.model.resolved.T
    fixed = sum((X[:, k] * prior.values[1]) ** 2 for k, prior in enumerate(fit.model.resolved.coef))
    np.testing.assert_allclose(found, whole - fixed, rtol=1e-8)


def test_shares_are_averages_over_the_rows():
    fit, draw = fit_of("by")
    table = hm.icc(fit).to_frame()
    parts = []
    for group in fit.model.design.groups:
        z = centred_columns(fit.model.design, group)
        scores = centred_roots(fit, group, np.array([0]))
        parts.append(np.mean(np.sum((z @ scores[0]) ** 2, axis=1)))
    total = sum(parts) + float(draw["sigma"].values[0, 0]) ** 2
    expected = pd.Series([*parts, sum(parts)], ["a", "c", "all groups"]) / total
    np.testing.assert_allclose(table["mean"], expected[table.index], rtol=1e-10)

"""Laplace's approximation and quadrature against every generalised model of lme4 and glmmTMB.

The likelihood may be better than the reference's, never worse by more than 1e-4 (their optimisers
stop earlier). Estimates agree to a thousandth of a standard error.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import special

import hiermodels as hm
from hiermodels.engines.laplace import (
    LaplaceLikelihood,
    coefficient_covariance,
    maximise_approximation,
)
from hiermodels.engines.laplace_problem import laplace_problem

LOGLIK = 1e-4
SPEED = "decision ~ sex + samerace + attractive_{0} + sincere_{0} + intelligent_{0} + (1 | iid)"
SCALES = {
    "attractive": 1.950168865888451,
    "sincere": 1.740315102314397,
    "intelligent": 1.550452903507386,
}
PATENTS = "ncit ~ opposition + biopharm + "
CASES = [
    ("speed_dating", "laplace_z", SPEED.format("z"), 0),
    ("speed_dating", "laplace_sc_columns", SPEED.format("sc"), 0),
    ("speed_dating", "glmmTMB_z", SPEED.format("z"), 0),
    ("speed_dating", "agq15_z", SPEED.format("z"), 15),
    ("patents", "poisson_year", PATENTS + "(1 | year)", 0),
    ("patents", "poisson_year_agq25", PATENTS + "(1 | year)", 25),
    ("patents", "poisson_year_glmmTMB", PATENTS + "(1 | year)", 0),
    ("patents", "poisson_year_observation", PATENTS + "(1 | year) + (1 | subject)", 0),
    ("patents", "poisson_year_observation_glmmTMB", PATENTS + "(1 | year) + (1 | subject)", 0),
    ("patents", "poisson_observation", PATENTS + "(1 | subject)", 0),
    ("patents", "poisson_observation_glmmTMB", PATENTS + "(1 | subject)", 0),
    ("patents", "poisson_glm", "ncit ~ opposition + biopharm", 0),
]
NAMES = {
    "(Intercept)": "Intercept", "sexMale": "sex[T.Male]", "sameraceYes": "samerace[T.Yes]",
}  # fmt: skip


@pytest.fixture(scope="module")
def estimates(shared_data, reference):
    known = {}

    def find(data, formula, nodes):
        if (data, formula, nodes) not in known:
            frame = shared_data(data)
            if data == "speed_dating":
                scaled = {f"{k}_z": frame[f"{k}_sc"] * 0.5 / s for k, s in SCALES.items()}
                frame = frame.assign(**scaled)
            model = hm.Model(formula, frame, "bernoulli" if data == "speed_dating" else "poisson")
            how = {"method": "agq", "nAGQ": nodes} if nodes else {"method": "laplace"}
            known[data, formula, nodes] = hm.mle(model, **how)
        return known[data, formula, nodes]

    return find


@pytest.mark.parametrize(("data", "name", "formula", "nodes"), CASES)
def test_estimates_are_those_of_r(estimates, reference, data, name, formula, nodes):
    ours, theirs = estimates(data, formula, nodes), reference(data)["models"][name]
    loglik = ours.loglik
    if nodes and data == "patents":
        # lme4 leaves out the saturated model where there is more than one node
        y = ours.model.design.y
        loglik -= float(np.sum(special.xlogy(y, y) - y - special.gammaln(y + 1)))
    assert -LOGLIK < loglik - theirs["logLik"] < 1e-3
    assert ours.df == theirs["n_parameters"]
    assert ours.nobs == theirs["nobs"]
    if loglik == ours.loglik:
        assert ours.aic == pytest.approx(theirs["AIC"], abs=2e-3)
        assert ours.bic == pytest.approx(theirs["BIC"], abs=2e-3)
    table = ours.fixef()
    for row in theirs["fixed_effects"]:
        mine = table.loc[NAMES.get(row["term"], row["term"])]
        assert abs(mine["estimate"] - row["estimate"]) < 1e-3 * row["se"]
        # lme4 takes its Hessian from differences of values: three to four digits
        assert mine["se"] == pytest.approx(row["se"], rel=1e-3)
    sds = ours.varcorr().set_index("group")["sd"]
    for row in theirs.get("variance_components", []):
        assert sds[row["group"]] == pytest.approx(row["sd"], rel=1e-4)
    assert ours.converged
    assert ours.certain
    assert not ours.singular


@pytest.mark.parametrize(
    ("data", "name", "formula", "nodes"),
    [case for case in CASES if "glm" not in case[1] and "agq" not in case[1]],
)
def test_conditional_modes_are_those_of_lme4(estimates, reference, data, name, formula, nodes):
    ours, theirs = estimates(data, formula, nodes), reference(data)["models"][name]["ranef"]
    table = ours.ranef()
    for group, known in theirs.items():
        found = table[table["group"] == group].set_index("level")
        if "terms" in known:
            levels, terms = known["levels"], known["terms"]["(Intercept)"]
            modes, sds = np.array(terms["mode"]), np.array(terms["sd"])
        else:
            levels = known["first_10_levels"]
            modes, sds = np.array(known["first_10_modes"]), np.array(known["first_10_sd"])
            assert found["estimate"].mean() == pytest.approx(known["mode_mean"], abs=1e-4)
            assert found["estimate"].std() == pytest.approx(known["mode_sd"], rel=1e-4)
        mine = found.loc[levels]
        assert np.max(np.abs(mine["estimate"] - modes) / sds) < 1e-3
        np.testing.assert_allclose(mine["se"], sds, rtol=1e-3)


@pytest.mark.parametrize(
    ("data", "name", "formula", "group"),
    [
        ("speed_dating", "glmmTMB_z", SPEED.format("z"), "iid"),
        ("patents", "poisson_year_glmmTMB", PATENTS + "(1 | year)", "year"),
        ("patents", "poisson_observation_glmmTMB", PATENTS + "(1 | subject)", "subject"),
    ],
)
def test_joint_uncertainty_of_the_modes_is_glmmtmb_s(
    estimates, reference, data, name, formula, group
):
    ours, theirs = estimates(data, formula, 0), reference(data)["models"][name]["ranef"][group]
    joint = np.sqrt(ours.modes[0].joint[:, 0, 0])
    levels = list(ours.model.design.groups[0].levels)
    names = theirs["levels"] if "terms" in theirs else theirs["first_10_levels"]
    known = theirs["terms"]["(Intercept)"]["sd"] if "terms" in theirs else theirs["first_10_sd"]
    # glmmTMB adds the uncertainty of the variance too, which is small beside the coefficients'
    mine = joint[[levels.index(k) for k in names]]
    np.testing.assert_allclose(mine, known, rtol=0.02)


def test_a_negative_binomial_is_glmmtmb_s(shared_data, reference):
    theirs = reference("patents")["models"]["nbinom2_year"]
    model = hm.Model(PATENTS + "(1 | year)", shared_data("patents"), "poisson")
    family = SimpleNamespace(name="negativebinomial", link="log", link_function=np.log)
    problem = laplace_problem(model.design, family, model.resolved)
    found = maximise_approximation(problem, LaplaceLikelihood(problem))
    assert -LOGLIK < found.value - theirs["logLik"] < 1e-3
    estimates = model.design.T @ problem.coefficients(found.x)
    root = model.design.T
    covariance = root @ coefficient_covariance(problem, found) @ root.T
    for k, row in enumerate(theirs["fixed_effects"]):
        assert abs(estimates[k] - row["estimate"]) < 1e-3 * row["se"]
        assert np.sqrt(covariance[k, k]) == pytest.approx(row["se"], rel=1e-3)
    assert np.exp(problem.phi(found.x)) == pytest.approx(theirs["dispersion_sigma"], rel=1e-4)
    assert found.x[0] == pytest.approx(theirs["variance_components"][0]["sd"], rel=1e-3)


# Lesnoff et al. (2004), as lme4 has them: herd, period, cases, animals.
CBPP = (
    "1,1,2,14 1,2,3,12 1,3,4,9 1,4,0,5 2,1,3,22 2,2,1,18 2,3,1,21 3,1,8,22 3,2,2,16 3,3,0,16 "
    "3,4,2,20 4,1,2,10 4,2,0,10 4,3,2,9 4,4,0,6 5,1,5,18 5,2,0,25 5,3,0,24 5,4,1,4 6,1,3,17 "
    "6,2,0,17 6,3,0,18 6,4,1,20 7,1,8,16 7,2,1,10 7,3,3,9 7,4,0,5 8,1,12,34 9,1,2,9 9,2,0,6 "
    "9,3,0,8 9,4,0,6 10,1,1,22 10,2,1,22 10,3,0,18 10,4,2,22 11,1,0,25 11,2,5,27 11,3,3,22 "
    "11,4,1,22 12,1,2,10 12,2,1,8 12,3,0,6 12,4,0,5 13,1,1,21 13,2,2,24 13,3,0,19 13,4,0,23 "
    "14,1,11,19 14,2,0,2 14,3,0,3 14,4,0,2 15,1,1,19 15,2,1,15 15,3,1,15 15,4,0,15"
)  # fmt: skip


def test_standard_errors_are_those_of_lme4_at_its_tightest():
    """glmer with bobyqa and tolPwrss=1e-13; its default leaves them 1.3 % apart."""
    rows = [[int(v) for v in row.split(",")] for row in CBPP.split()]
    data = pd.DataFrame(rows, columns=["herd", "period", "cases", "size"])
    model = hm.Model("cases | trials(size) ~ C(period) + (1 | herd)", data, "binomial")
    found = hm.mle(model)
    assert found.loglik == pytest.approx(-92.0262819, abs=1e-6)
    table = found.fixef()
    expected = [-1.3985321, -0.9923327, -1.1286720, -1.5803139]
    np.testing.assert_allclose(table["estimate"], expected, atol=2e-6)
    # from the curvature in theta and the coefficients together
    expected = [0.2324719, 0.3066423, 0.3266376, 0.4274363]
    np.testing.assert_allclose(table["se"], expected, atol=2e-6)
    assert found.varcorr()["sd"][0] == pytest.approx(0.6422614, abs=2e-6)

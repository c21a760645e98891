"""Posteriors against those of brms under the same priors, written out in full.

Everything that brms printed is compared: coefficients, sds, correlations, residual sd, and every
group effect. About a thousand comparisons at four standard errors: seeds are fixed, so the outcome
is always the same; a change of the engine's stream of random numbers may ask for another seed, a
wrong posterior fails with any.
"""

import re
import warnings

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from hiermodels.errors import SamplingWarning
from hiermodels.fitting.model import Model

DRAWS, SEED = 2500, 3
# Small steps: few divergences by the conditional engine too.
TARGET = 0.95
# Combined Monte Carlo standard errors of the means, and share of the sd, that may separate them.
ERRORS, SHARE = 4.0, 0.06

STUDIES = {
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", "gaussian"),
    "bounce_slope": ("bounce", "bounce_time ~ age_scaled + (age_scaled | county)", "gaussian"),
    "bounce_nested": ("bounce", "bounce_time ~ age_scaled + (1 | county/location)", "gaussian"),
    "pupils_crossed": (
        "pupils",
        "achievement ~ sex + ses + (1 | primary_school_id) + (1 | secondary_school_id)",
        "gaussian",
    ),
    "nurses_nested": (
        "nurses",
        "stress ~ age + sex + experience + treatment + wardtype + hospsize + (1 | hospital)"
        " + (1 | hospital:ward)",
        "gaussian",
    ),
    "chickweight": (
        "ChickWeight", "sqrt(weight) ~ Time + Diet:Time + (0 + Time | Chick)", "gaussian",
    ),
    "patents_poisson": ("patents", "ncit ~ opposition + biopharm + (1 | year)", "poisson"),
    "eight_schools": ("eight_schools", "y | se(sigma) ~ 1 + (1 | school)", "gaussian"),
    "speed_dating": (
        "speed_dating",
        "decision ~ sex + samerace + attractive_sc + sincere_sc + intelligent_sc + (1 | iid)",
        "bernoulli",
    ),
}  # fmt: skip

_DISTRIBUTIONS = {
    r"normal\((.*)\)": r"Normal(\1)",
    r"student_t\(3,0,(.*)\)": r"HalfStudentT(3, \1)",
    r"lkj_corr_cholesky\((.*)\)": r"LKJ(\1)",
}


def priors_of(rows, coefficients):
    """Return brms's prior table as ours; its intercept was an ordinary coefficient."""
    found = {}
    for row in rows:
        matches = [(p, r) for p, r in _DISTRIBUTIONS.items() if re.fullmatch(p, row["prior"])]
        ((pattern, ours),) = matches
        prior = re.sub(pattern, ours, row["prior"])
        if row["class"] == "b":
            names = [row["coef"]] if row["coef"] else [*coefficients, "Intercept"]
            for name in names:
                # a row for one coefficient goes before the row for all
                if row["coef"] or name not in found:
                    found[name] = prior
        else:
            found[{"L": "cor"}.get(row["class"], row["class"])] = prior
    return found


def plain(name):
    """Return a coefficient's name without what formulaic and R write differently."""
    bare = re.sub(r"\[T\.(.*?)\]", r"\1", name).replace(" ", "")
    return ":".join(sorted(bare.split(":")))


def our_draws(posterior, groups):
    """Return the draws of everything published, by brms's names."""
    found = {}
    if "Intercept" in posterior:
        found["b_Intercept"] = posterior["Intercept"]
    for name in posterior["coef"].values if "coef" in posterior.coords else ():
        found[f"b_{plain(str(name))}"] = posterior["b"].sel(coef=name)
    if "sigma" in posterior:
        found["sigma"] = posterior["sigma"]
    for group in groups:
        g, dim = group.name, f"{group.name}_coef"
        for k, effect in enumerate(group.coefs):
            found[f"sd_{g}__{effect}"] = posterior[f"sd_{g}"].sel({dim: effect})
            for other in group.coefs[:k]:
                at = {dim: other, f"{dim}_bis": effect}
                found[f"cor_{g}__{other}__{effect}"] = posterior[f"cor_{g}"].sel(at)
            for level in group.levels:
                name = f"r_{g}[{level.replace(':', '_')},{effect}]"
                found[name] = posterior[f"r_{g}"].sel({g: level, dim: effect})
    return {name: np.asarray(draws.values) for name, draws in found.items()}


def their_name(variable):
    """Return brms's name of a variable, terms of an interaction in alphabetical order."""
    return f"b_{plain(variable[2:])}" if variable.startswith("b_") else variable


def differences(ours, theirs):
    """Return what is too far apart, in words."""
    far = []
    for variable, row in theirs.items():
        draws = ours[variable]
        mean, sd = draws.mean(), draws.std(ddof=1)
        mean_error = np.hypot(array_stats.mcse(draws, method="mean"), row["mcse_mean"])
        sd_error = np.hypot(array_stats.mcse(draws, method="sd"), row["mcse_sd"])
        if not abs(mean - row["mean"]) <= ERRORS * mean_error:
            far.append(f"{variable}: mean {mean:.4g}, theirs {row['mean']:.4g}")
        if not abs(sd - row["sd"]) <= max(SHARE * row["sd"], ERRORS * sd_error):
            far.append(f"{variable}: sd {sd:.4g}, theirs {row['sd']:.4g}")
    return far


def drawn(model):
    """Return a fit whose few divergences, if any, are counted rather than warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        fit = model.fit(draws=DRAWS, seed=SEED, target_accept=TARGET, progress=False)
    # one in a thousand moves no mean by a standard error
    assert fit.diagnosis.n_divergent <= 10
    assert fit.diagnosis.r_hat < 1.02
    return fit


SLOW = {(name, "conditional") for name in ("speed_dating", "nurses_nested", "bounce_nested")}


def cases():
    """Return each study, the Gaussian ones by both engines."""
    for name, (_, _, family) in STUDIES.items():
        engines = ("marginal", "conditional") if family == "gaussian" else ("conditional",)
        for engine in engines:
            slow = [pytest.mark.slow] if (name, engine) in SLOW else []
            yield pytest.param(name, engine, marks=slow, id=f"{name}-{engine}")


@pytest.mark.parametrize(("name", "engine"), list(cases()))
def test_the_posterior_is_that_of_brms(name, engine, shared_data, reference):
    dataset, formula, family = STUDIES[name]
    data, theirs = shared_data(dataset), reference(f"posterior/{name}")
    if dataset == "bounce":
        data["age_scaled"] = (data["age"] - data["age"].mean()) / data["age"].std(ddof=0)
    priors = priors_of(theirs["priors"], Model(formula, data, family).design.slopes)
    model = Model(formula, data, family, priors=priors, engine=engine)
    # nothing is left to a default
    assert set(model.priors["source"]) == {"user"}
    assert model.design.n == theirs["nobs"]
    fit = drawn(model)
    # brms prints the sigma of a model that has none, as 0
    rows = {their_name(row["variable"]): row for row in theirs["summary"] if row["sd"] > 0}
    ours = our_draws(fit.posterior, model.design.groups)
    assert set(ours) == set(rows)
    assert differences(ours, rows) == []


def test_ar1_residuals_are_those_of_brms(shared_data, reference):
    theirs = reference("posterior/gpa_ar1")
    priors = {
        "ar": "Normal(0, 0.5)",
        "b": "Normal(0, 1)",
        "Intercept": "Normal(2.5, 1)",
        "sd": "HalfStudentT(3, 0.5)",
        "sigma": "HalfStudentT(3, 0.5)",
    }
    formula = "gpa ~ occasion + (1 | student) + ar(occasion, student)"
    model = Model(formula, shared_data("gpa"), priors=priors)
    fit = drawn(model)
    rows = {their_name(row["variable"]): row for row in theirs["summary"]}
    ours = our_draws(fit.posterior, model.design.groups)
    # brms's sigma is the sd of what is new at each step
    ours["sigma"] = ours["sigma"] * np.sqrt(1 - fit.posterior["ar"].values ** 2)
    ours["ar[1]"] = fit.posterior["ar"].values
    assert set(ours) == set(rows)
    assert differences(ours, rows) == []


def test_a_sd_for_each_occasion_is_that_of_brms(shared_data, reference):
    theirs = reference("posterior/gpa_heterogeneous")
    priors = {
        "sigma": "LogNormal(-1.5, 1)",
        "b": "Normal(0, 1)",
        "Intercept": "Normal(2.5, 1)",
        "sd": "HalfStudentT(3, 0.5)",
    }
    formulas = ["gpa ~ occasion + (1 | student)", "sigma ~ 0 + occas"]
    model = Model(formulas, shared_data("gpa"), priors=priors)
    fit = drawn(model)
    rows = {their_name(row["variable"]): row for row in theirs["summary"]}
    ours = our_draws(fit.posterior, model.design.groups)
    sigma = ours.pop("sigma")
    for k, label in enumerate(fit.posterior["sigma_stratum"].values):
        ours[f"b_sigma_occas{str(label).replace(' ', '')}"] = np.log(sigma[..., k])
    assert set(ours) == set(rows)
    assert differences(ours, rows) == []

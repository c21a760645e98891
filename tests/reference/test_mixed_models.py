"""REML and maximum likelihood against every linear mixed model that lme4, nlme and glmmTMB fitted.

The likelihood may be better than the reference's, never worse by more than 1e-5: the optimisers
there stop at about 1e-8, so that a difference is a worse optimum. Estimates agree within a
thousandth of what is known about them, which two optimisers of the same likelihood do.
"""

import re

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm

LOGLIK, SHARE = 1e-5, 1e-3
LMER = {
    "ChickWeight": {
        "slope_only": "sqrt(weight) ~ Time + (Time - 1 | Chick) + Diet:Time",
        "intercept_and_slope": "sqrt(weight) ~ Time + (Time | Chick) + Diet:Time",
    },
    "Dyestuff": {"batch": "Yield ~ 1 + (1 | Batch)"},
    "Dyestuff2": {"batch": "Yield ~ 1 + (1 | Batch)"},
    "bounce": {
        "random_intercept": "bounce_time ~ age_scaled + (1 | county)",
        "random_slope": "bounce_time ~ age_scaled + (age_scaled | county)",
        "random_slope_uncorrelated": "bounce_time ~ age_scaled + (age_scaled || county)",
        "nested_location": "bounce_time ~ age_scaled + (1 | county/location)",
        "nested_location_slope":
            "bounce_time ~ age_scaled + (age_scaled | county) + (1 | county:location)",
        "location_slope": "bounce_time ~ age_scaled + (age_scaled | county:location)",
        "random_slope_nlme": "bounce_time ~ age_scaled + (age_scaled | county)",
    },
    "gpa": {
        "random_intercept": "gpa ~ occasion + (1 | student)",
        "random_slope": "gpa ~ occasion + (1 + occasion | student)",
        "random_slope_uncorrelated": "gpa ~ occasion + (1 + occasion || student)",
        "cluster_level_covariates": "gpa ~ occasion + sex + highgpa + (1 | student)",
        "heterovar_nlme": ["gpa ~ occasion + (1 | student)", "sigma ~ 0 + C(occasion)"],
        "heterovar_glmmTMB": ["gpa ~ occasion + (1 | student)", "sigma ~ 0 + C(occasion)"],
        "heterovar_glmmTMB_dispformula":
            ["gpa ~ occasion + (1 | student)", "sigma ~ 0 + C(occasion)"],
        "ar1_nlme": "gpa ~ occasion + (1 | student) + ar(occasion, student)",
        "ar1_glmmTMB_no_nugget": "gpa ~ occasion + (1 | student) + ar(occasion, student)",
    },
    "nurses": {
        name: "stress ~ age + sex + experience + treatment + wardtype + hospsize + " + bars
        for name, bars in {
            "nested_ward": "(1 | hospital/ward)",
            "nested_wardid": "(1 | hospital) + (1 | hospital:wardid)",
            "crossed_wardid": "(1 | hospital) + (1 | wardid)",
            "crossed_bad_ward": "(1 | hospital) + (1 | ward)",
            "treatment_slope": "(1 + treatment | hospital) + (1 | hospital:ward)",
        }.items()
    },
    "pupils": {
        "crossed": "achievement ~ sex + ses + (1 | primary_school_id) + (1 | secondary_school_id)",
        "ses3_slope": "achievement ~ ses + (1 + ses | primary_school_id)",
        "ses3_intercept_form": "achievement ~ ses + (0 + ses | primary_school_id)",
        "ses3_interaction":
            "achievement ~ ses + (1 | primary_school_id) + (1 | primary_school_id:ses)",
    },
    "random_slopes_simulated": {
        "model_ints_only": "y ~ x + (1 | groups)",
        "model_with_slopes": "y ~ x + (1 | groups) + (0 + x | groups)",
        "correlated": "y ~ x + (1 + x | groups)",
    },
    "science": {
        "school_and_class": "like ~ sex + PrivPub + (1 | school) + (1 | school:class)",
        "class_only": "like ~ sex + PrivPub + (1 | school:class)",
        "school_only": "like ~ sex + PrivPub + (1 | school)",
    },
    "sleepstudy": {
        "correlated": "Reaction ~ Days + (Days | Subject)",
        "uncorrelated": "Reaction ~ Days + (Days || Subject)",
        "random_intercept": "Reaction ~ Days + (1 | Subject)",
        "correlated_days2to9": "Reaction ~ Days + (Days | Subject)",
        "uncorrelated_days2to9": "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
    },
    "sociometric": {
        f"model_{k}": f"rating ~ {fixed}(1 | group:sender) + (1 | group:receiver){last}"
        for k, (fixed, last) in enumerate(
            [
                ("", ""),
                ("", " + (1 | group)"),
                ("sexsend + sexrec + agesend + agerec + grsize + ", " + (1 | group)"),
                ("sexsend * sexrec + agesend + agerec + grsize + ", " + (1 | group)"),
            ],
            1,
        )
    },
}  # fmt: skip
SINGULAR = {
    ("Dyestuff2", "batch"): "the variance of Intercept by Batch is zero",
    ("bounce", "random_slope_ml"): "Intercept and age_scaled by county have correlation -1",
    ("bounce", "nested_location_slope_reml"): "by county have correlation -1",
    ("bounce", "location_slope_reml"): "by county:location have correlation -1",
    ("nurses", "crossed_bad_ward_reml"): "the variance of Intercept by ward is zero",
    ("pupils", "ses3_slope"): "the effects by primary_school_id have a covariance of lower rank",
    ("pupils", "ses3_intercept_form"): "have a covariance of lower rank",
    ("science", "school_and_class"): "the variance of Intercept by school is zero",
}
# Effects of glmmTMB's way to write residual structures.
OCCASIONS = ("occasyear", "occas[")
# The independent part and the diagonal variances are not identified apart in this formulation.
ARBITRARY = {"heterovar_glmmTMB_ml"}


# By both methods; other names with a method stand for the one that R used.
BOTH = {
    "slope_only", "batch", "random_intercept", "random_slope", "nested_location",
    "heterovar_nlme", "ar1_nlme", "nested_ward", "crossed", "ses3_slope", "ses3_interaction",
    "school_and_class", "class_only", "uncorrelated", *(f"model_{k}" for k in range(1, 5)),
}  # fmt: skip


def cases():
    for data, models in LMER.items():
        for name, formula in models.items():
            both = name in BOTH or (data, name) == ("sleepstudy", "correlated")
            used = ("reml", "ml") if both else ("ml" if "glmmTMB" in name else "reml",)
            for method in used:
                plain = data == "random_slopes_simulated"
                key = name if plain else f"{name}_{method}"
                yield pytest.param(data, key, formula, method, id=f"{data}-{key}")


def frame_of(shared_data, data, name):
    frame = shared_data(data)
    if data == "bounce":
        frame["age_scaled"] = (frame.age - frame.age.mean()) / frame.age.std(ddof=0)
    if "ses3" in name:
        three = dict.fromkeys(("lowest", "2", "3"), "low") | {"4": "mid", "5": "mid"}
        frame["ses"] = pd.Categorical(
            frame.ses.astype(str).map(three | {"highest": "high"}), ["low", "mid", "high"]
        )
    return frame[frame.Days >= 2] if "days2to9" in name else frame


@pytest.fixture(scope="module")
def estimates(shared_data, reference):
    """``estimates(data, name, formula, method)``: ours and R's, each fitted once."""
    kept = {}

    def get(data, name, formula, method):
        if (data, name) not in kept:
            known = reference(data)["models"]
            model = hm.Model(formula, frame_of(shared_data, data, name))
            kept[data, name] = hm.mle(model, method), known[name]
        return kept[data, name]

    return get


def coefficient(name):
    """Return a coefficient's name whatever its coding is written like: parts without brackets."""
    plain = re.sub(r"\[(?:T\.)?([^\]]*)\]", r"\1", name.replace("(Intercept)", "Intercept"))
    return frozenset(re.sub(r"C\((\w+)\)", r"\1", plain).split(":"))


def factor(name):
    """Return a grouping's name without the number that R gives a second bar on it."""
    return re.sub(r"\.\d+$", "", name)


def near(value, expected, tolerance):
    assert np.abs(np.asarray(value) - np.asarray(expected)).max() <= tolerance


@pytest.mark.parametrize(("data", "name", "formula", "method"), list(cases()))
class TestModel:
    def test_the_likelihood_is_not_below(self, estimates, data, name, formula, method):
        ours, theirs = estimates(data, name, formula, method)
        assert ours.loglik >= theirs["logLik"] - LOGLIK
        # above it only where the other optimiser stopped early
        assert ours.loglik <= theirs["logLik"] + 1e-4
        assert ours.converged
        assert ours.certain, ours.doubts

    def test_coefficients_and_their_errors(self, estimates, data, name, formula, method):
        ours, theirs = estimates(data, name, formula, method)
        table = ours.fixef()
        found = {coefficient(k): row for k, row in table.iterrows()}
        assert len(found) == len(theirs["fixed_effects"])
        for row in theirs["fixed_effects"]:
            mine = found[coefficient(row["term"])]
            near(mine["estimate"], row["estimate"], SHARE * row["se"])
            near(mine["se"], row["se"], SHARE * row["se"])

    def test_variances(self, estimates, data, name, formula, method):
        ours, theirs = estimates(data, name, formula, method)
        if name in ARBITRARY:
            pytest.skip("the split of this formulation is arbitrary")
        table = ours.varcorr()
        total = table["variance"].sum()
        groups = table[table.group != "Residual"]
        found = {(r.group, coefficient(r.effect)): r.variance for r in groups.itertuples()}
        known = [
            row for row in theirs["variance_components"]
            if not row["effect"].startswith(OCCASIONS)
        ]  # fmt: skip
        assert len(found) == len(known)
        for row in known:
            pair = factor(row["group"]), coefficient(row["effect"])
            near(found[pair], row["variance"], SHARE * total)
        strata = theirs.get("residual_variance_by_stratum")
        residual = table[table.group == "Residual"]["variance"].to_numpy()
        if strata:
            near(residual, list(strata.values()), SHARE * total)
        elif "ar1" in theirs:
            near(residual, theirs["ar1"]["process_variance"], SHARE * total)
        elif theirs["residual_variance"] is not None:
            near(residual, theirs["residual_variance"], SHARE * total)

    def test_correlations(self, estimates, data, name, formula, method):
        ours, theirs = estimates(data, name, formula, method)
        matrices = {}
        for term, covariance in zip(ours.model.design.terms, ours.covariances, strict=True):
            for a, one in enumerate(term.coefs):
                for b, two in enumerate(term.coefs):
                    pair = (term.group, coefficient(one), coefficient(two))
                    matrices[pair] = covariance[a, b]
        total = ours.varcorr()["variance"].sum()
        for row in theirs["covariances"]:
            if row["group"] == "Residual" or row["effect1"].startswith(OCCASIONS):
                continue
            effects = coefficient(row["effect1"]), coefficient(row["effect2"])
            pair = factor(row["group"]), *effects
            near(matrices[pair], row["covariance"], SHARE * total)
        for key, parameter in (("correlation_structure", "Phi"), ("ar1", "phi")):
            if key in theirs and "ar" in ours.residual:
                known = theirs[key].get("coefficients", theirs[key])[parameter]
                near(ours.residual["ar"], known, SHARE)

    def test_group_effects(self, estimates, data, name, formula, method):
        ours, theirs = estimates(data, name, formula, method)
        sigma = np.sqrt(ours.varcorr().query("group == 'Residual'")["variance"].mean())
        for group, values in (theirs.get("ranef") or {}).items():
            table = ours.ranef()
            for effect, numbers in values["terms"].items():
                if effect.startswith(OCCASIONS):
                    continue
                mine = table[
                    (table.group == factor(group))
                    & (table.effect.map(coefficient) == coefficient(effect))
                ].set_index("level").loc[values["levels"]]  # fmt: skip
                unit = mine["se"].to_numpy()
                known = numbers["sd"]
                # nlme gives none; glmmTMB's are not those given the coefficients
                if theirs["package"] == "lme4":
                    # what has no variance has no sd to measure by: then by the residual's
                    known = np.array(known, dtype=float)
                    near((mine["se"] - known) / np.maximum(known, SHARE * sigma), 0.0, SHARE)
                modes = np.array(numbers["mode"], dtype=float)
                near((mine["estimate"] - modes) / np.maximum(unit, SHARE * sigma), 0.0, SHARE)

    def test_criteria_and_singularity(self, estimates, data, name, formula, method):
        ours, theirs = estimates(data, name, formula, method)
        if name in ARBITRARY:
            pytest.skip("this formulation counts a parameter that is not identified")
        assert ours.df == theirs["n_parameters"]
        near(ours.aic, theirs["AIC"], 2e-4)
        if theirs["package"] == "lme4":
            near(ours.bic, theirs["BIC"], 2e-4)
        text = [t for (d, n), t in SINGULAR.items() if d == data and name.startswith(n)]
        assert ours.singular == bool(text)
        assert all(t in " ".join(ours.vanished) for t in text)
        if theirs["singular"]:
            assert ours.singular


# --- printed elsewhere ----------------------------------------------------------------------------


def test_the_optimum_that_others_miss(shared_data):
    # another program stops at -1733.39, below its own random-intercept model
    frame = frame_of(shared_data, "bounce", "")
    found = hm.mle(hm.Model("bounce_time ~ age_scaled + (age_scaled | county)", frame))
    assert found.loglik == pytest.approx(-1731.5176, abs=1e-4)
    assert found.certain


@pytest.mark.parametrize("name", ["correlated", "uncorrelated", "random_intercept"])
def test_profile_intervals_of_sleepstudy(estimates, name):
    formula = LMER["sleepstudy"][name]
    ours, theirs = estimates("sleepstudy", f"{name}_ml", formula, "ml")
    known = theirs["confidence_intervals"]
    names = {
        "sd_(Intercept)|Subject": "sd_Subject[Intercept]",
        "sd_Days|Subject": "sd_Subject[Days]",
        "cor_Days.(Intercept)|Subject": "cor_Subject[Days, Intercept]",
        "sigma": "sigma",
    }
    table = ours.intervals()
    for k, parameter in enumerate(known["parameter"]):
        if parameter in names:
            row = table.loc[names[parameter]]
            # lme4 interpolates its profile: three digits
            width = known["upper"][k] - known["lower"][k]
            near(row["ci_low"], known["lower"][k], 2e-3 * width)
            near(row["ci_high"], known["upper"][k], 2e-3 * width)


OLS = [
    ("sleepstudy", "complete_pooling", "Reaction ~ Days"),
    ("bounce", "complete_pooling", "bounce_time ~ age_scaled"),
    ("bounce", "county_fixed", "bounce_time ~ age_scaled + county"),
    ("gpa", "complete_pooling", "gpa ~ occasion"),
    ("science", "complete_pooling", "like ~ sex + PrivPub"),
]


@pytest.mark.parametrize(("data", "name", "formula"), OLS)
def test_a_plain_regression_is_least_squares(shared_data, reference, data, name, formula):
    theirs = reference(data)["models"][name]
    model = hm.Model(formula, frame_of(shared_data, data, name))
    assert hm.mle(model, "ml").loglik == pytest.approx(theirs["logLik"], abs=1e-7)
    ours = hm.mle(model)
    for table in (ours.fixef(), hm.complete_pooling(ours)):
        found = {coefficient(k): row for k, row in table.iterrows()}
        for row in theirs["fixed_effects"]:
            mine = found[coefficient(row["term"])]
            # closed form: all digits
            near(mine["estimate"], row["estimate"], 1e-9 * (abs(row["estimate"]) + row["se"]))
            near(mine["se"], row["se"], 1e-9 * row["se"])
    assert ours.sigma == pytest.approx(theirs["residual_sd"], rel=1e-9)


NO_POOLING = [
    ("sleepstudy", (), "Reaction ~ Days + (Days | Subject)"),
    ("gpa", (), "gpa ~ occasion + (occasion | student)"),
    ("ChickWeight", (), "sqrt(weight) ~ Time + (Time | Chick)"),
    ("bounce", ("by_county",), "bounce_time ~ age_scaled + (age_scaled | county)"),
    (
        "bounce",
        ("by_county_location",),
        "bounce_time ~ age_scaled + (age_scaled | county:location)",
    ),
]


@pytest.mark.parametrize(("data", "path", "formula"), NO_POOLING)
def test_no_pooling_is_least_squares_by_group(shared_data, reference, data, path, formula):
    known = reference(data)["no_pooling"]
    for name in path:
        known = known[name]
    table = hm.no_pooling(hm.Model(formula, frame_of(shared_data, data, "")))
    assert len(table) == 2 * len(known["levels"])
    for term, values in known["coefficients"].items():
        mine = table[table.effect.map(coefficient) == coefficient(term)].set_index("level")
        mine = mine.loc[[str(level) for level in known["levels"]]]
        assert mine["n"].tolist() == known["n"]
        # closed form, in other columns: all digits of the estimate's own error
        estimates = np.array(values["estimate"], dtype=float)
        errors = np.array(values["se"], dtype=float)
        np.testing.assert_array_equal(np.isnan(mine["se"]), np.isnan(errors))
        np.testing.assert_allclose(mine["estimate"], estimates, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(mine["se"], errors, rtol=1e-8)


def test_every_linear_mixed_model_is_here(reference_dir, reference):
    # one model of R's is richer than ours: an independent residual beside the autoregression
    done = {(case.values[0], case.values[1]) for case in cases()}
    for path in sorted((reference_dir / "reference").glob("*.json")):
        for name, model in reference(path.stem).get("models", {}).items():
            mixed = model["package"] in ("lme4", "nlme", "glmmTMB")
            if mixed and model["family"] == "gaussian(identity)" and name != "ar1_glmmTMB_ml":
                assert (path.stem, name) in done

"""What lint sees without a fit: each finding where it belongs, and not where it does not."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.library.datasets import FOLDER_VARIABLE, load_dataset
from hiermodels.library.studies import load_study, study_names
from hiermodels.spec import findings as orchestrator
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.findings import find_in_design
from hiermodels.spec.findings_catalogue import KINDS, PAGE, Finding, Findings
from hiermodels.spec.formula import parse_formula

N = 240


def look(formula, data, family="gaussian"):
    design = build_design(parse_formula(formula), data, Family(family))
    return find_in_design(design, Family(family))


def only(formula, data, code, family="gaussian"):
    """Return the one finding of a kind."""
    (found,) = [f for f in look(formula, data, family) if f.code == code]
    return found


@pytest.fixture(scope="module")
def clean():
    """Twelve groups of twenty rows; nothing in it deserves a finding."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(12), 20)
    x = np.tile(np.linspace(-1, 1, 20), 12)
    eta = 0.5 * x + rng.normal(0, 0.5, 12)[g]
    return pd.DataFrame(
        {
            "y": rng.normal(eta, 1.0).round(6),
            "x": x,
            "z": rng.permutation(np.tile(np.linspace(0, 3, 20), 12)),
            "h": np.tile(["a", "b"], N // 2),
            "g": [f"unit {k}" for k in g],
            "number": g,
            "count": rng.poisson(np.exp(1.0 + eta)),
            "yes": rng.binomial(1, 1 / (1 + np.exp(-eta))),
            "time": np.tile(np.arange(20), 12),
        }
    )


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("y ~ x * h + z + (x | g)", "gaussian"),
        ("y ~ x + z + h + (h | g)", "gaussian"),
        ("y ~ x + h + (0 + h | g)", "gaussian"),
        ("y ~ x + (1 | g) + ar(time, g)", "gaussian"),
        ("count ~ x + (1 | g)", "poisson"),
        ("count ~ x + (1 | g)", "negativebinomial"),
        ("yes ~ x + h + z + (1 | g)", "bernoulli"),
        ("y ~ x", "gaussian"),
    ],
)
def test_clean_data_have_no_finding(clean, formula, family):
    assert look(formula, clean, family).codes == ()


# --- groupings ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wards():
    """Wards numbered 1 to 4 in each of twelve hospitals, five nurses each."""
    rng = np.random.default_rng(1)
    hospital, ward = np.repeat(np.arange(12), 20) + 1, np.tile(np.repeat([1, 2, 3, 4], 5), 12)
    unit = hospital * 10 + ward
    frame = pd.DataFrame({"hospital": hospital, "ward": ward, "wardid": unit})
    return frame.assign(y=rng.normal(size=N), kind=np.where(unit % 3 == 0, "special", "general"))


def test_labels_used_again_are_asked_about(wards):
    found = only("y ~ 1 + (1 | hospital) + (1 | ward)", wards, "reused-labels")
    assert found.about == ("hospital", "ward")
    assert "4 labels of ward (1, 2, 3, 4)" in found.seen
    assert "12 of the 12 levels of hospital, 48 combinations" in found.seen
    assert "(1 | hospital/ward)" in found.do


def test_a_predictor_that_belongs_to_the_wards_tells_too(wards):
    names = wards.assign(ward=wards["ward"].map({1: "east", 2: "west", 3: "old", 4: "new"}))
    formula = "y ~ kind + (1 | hospital) + (1 | ward)"
    assert "kind is the same in all rows" in only(formula, names, "reused-labels").seen
    assert "reused-labels" not in look(formula.replace("kind", "1"), names).codes


@pytest.mark.parametrize(
    "formula",
    ["y ~ 1 + (1 | hospital/ward)", "y ~ 1 + (1 | hospital) + (1 | wardid)"],
)
def test_unique_or_nested_labels_are_not(wards, formula):
    assert {"reused-labels", "crossed-nesting"}.isdisjoint(look(formula, wards).codes)


def test_a_crossing_with_one_row_a_combination_is_no_question():
    plate, sample = np.divmod(np.arange(144), 6)
    data = pd.DataFrame({"plate": plate + 1, "cast": sample + 1})
    data["y"] = np.random.default_rng(2).normal(size=144)
    assert "reused-labels" not in look("y ~ 1 + (1 | plate) + (1 | cast)", data).codes


def test_a_nesting_that_is_really_crossed_is_asked_about():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"school": rng.integers(1, 21, 400), "mover": rng.integers(1, 31, 400)})
    data["kind"] = np.where(data["mover"] % 2, "p", "q")
    data["y"] = rng.normal(size=400)
    nested = "y ~ 1 + (1 | school/mover)"
    assert "no school has more than" in only(nested, data, "crossed-nesting").seen
    known = only(nested.replace("1 +", "kind +", 1), data, "crossed-nesting")
    assert "kind is the same wherever a label occurs" in known.seen
    assert "(1 | school) + (1 | mover)" in known.do
    crossed = look("y ~ 1 + (1 | school) + (1 | mover)", data)
    assert {"crossed-nesting", "reused-labels"}.isdisjoint(crossed.codes)


@pytest.mark.parametrize(("levels", "few"), [(2, True), (4, True), (5, False)])
def test_fewer_than_five_levels_are_few(clean, levels, few):
    data = clean.assign(g=clean["number"] % levels)
    assert ("few-levels" in look("y ~ x + (1 | g)", data).codes) == few


def test_few_levels_are_said_once_by_the_sd_concerned(clean):
    data = clean.assign(g=clean["number"] % 3)
    once = only(["y ~ x + (1 | g)", "sigma ~ 1 + (1 | g)"], data, "few-levels")
    assert "Give sd_g a prior" in once.do
    assert "Give sigma_sd_g a prior" in only(["y ~ x", "sigma ~ (1 | g)"], data, "few-levels").do


def test_one_row_a_level_is_said_by_family(clean):
    data = clean.assign(row=np.arange(N), n=10)
    poisson = only("count ~ x + (1 | row)", data, "one-row-levels", "poisson")
    assert "240 levels of row has one row" in poisson.seen
    assert "overdispersion" in poisson.do
    other = only("yes ~ x + (1 | row)", data, "one-row-levels", "bernoulli")
    assert other.do.startswith("Leave the bar out")


def test_known_errors_tell_a_level_of_one_row_apart():
    assert load_study("eight_schools").model(lint=False).findings.codes == ()


@pytest.mark.parametrize(
    ("formula", "rows_each", "many"),
    [
        ("y ~ x + (1 | g)", 2, False),
        ("y ~ x + (1 | g)", 3, False),
        ("y ~ x + (x | g)", 2, True),
        ("y ~ x + (x | g)", 3, False),
    ],
)
def test_as_many_effects_as_rows_are_many(clean, formula, rows_each, many):
    data = clean.assign(g=np.arange(N) // rows_each)
    assert ("many-levels" in look(formula, data).codes) == many


def test_mostly_single_rows_are_many_levels(clean):
    data = clean.assign(g=np.minimum(np.arange(N), 200))
    assert (
        "201 levels in 240 rows; 200 levels have"
        in only("y ~ x + (1 | g)", data, "many-levels").seen
    )


# --- slopes ---------------------------------------------------------------------------------


def test_a_slope_needs_its_population_effect(clean):
    found = only("y ~ 1 + (x | g)", clean, "missing-population-effect")
    assert found.about == ("g", "x")
    assert "Add x" in found.do
    assert look("y ~ 0 + x + (0 + x | g)", clean).codes == ()


def test_other_codings_of_the_same_columns_are_population_effects(clean):
    assert look("y ~ 0 + h + (1 | g)", clean).codes == ()
    assert look("y ~ h + (0 + h | g)", clean).codes == ()
    assert "missing-population-effect" in look("y ~ 0 + x + (1 | g)", clean).codes


def test_a_slope_needs_a_predictor_that_varies_within_groups(clean):
    data = clean.assign(w=clean["number"] * 1.5, arm=np.where(clean["number"] % 2, "p", "q"))
    found = only("y ~ w + (w | g)", data, "constant-within-groups")
    assert "none of the 12 levels of g" in found.seen
    factor = only("y ~ arm + (arm | g)", data, "constant-within-groups")
    assert "(1 | gr(g, by=arm))" in factor.do
    assert look("y ~ w + (1 | g)", data).codes == ()


def test_one_row_for_each_group_and_condition_is_unreplicated(clean):
    data = clean.assign(c=np.tile([f"c{k}" for k in range(20)], 12))
    found = only("y ~ c + (c | g)", data, "unreplicated-cells")
    assert "240 of the 240 combinations of g and c" in found.seen
    assert "unreplicated-cells" not in look("y ~ h + (h | g)", clean).codes
    few = data[data["c"].isin(["c0", "c1", "c2"])]
    twice = pd.concat([few, few.assign(y=few["y"] + 1)])
    assert "unreplicated-cells" not in look("y ~ c + (c | g)", twice).codes


def test_an_origin_far_away_is_said(clean):
    data = clean.assign(year=2000 + clean["time"])
    found = only("y ~ year + (year | g)", data, "far-origin")
    assert "2000 to 2019" in found.seen
    assert "cor_g" in found.seen
    assert "independent at year = 0" in only("y ~ year + (year || g)", data, "far-origin").seen
    for formula in ("y ~ year + (1 | g)", "y ~ center(year) + (center(year) | g)"):
        assert "far-origin" not in look(formula, data).codes
    assert look("y ~ time + (time | g)", data).codes == ()


# --- predictors -----------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "found"), [(100.0, False), (5000.0, True)])
def test_scales_that_differ_by_a_thousand_are_said(clean, factor, found):
    data = clean.assign(big=factor * clean["z"])
    assert ("different-scales" in look("y ~ x + big + (1 | g)", data).codes) == found


def test_nearly_collinear_predictors_are_named(clean):
    rng = np.random.default_rng(4)
    data = clean.assign(w=clean["z"] + rng.normal(0, 0.01, N), v=clean["z"] + rng.normal(0, 1, N))
    found = only("y ~ x + z + w + (1 | g)", data, "nearly-collinear")
    assert set(found.about) == {"z", "w"}
    assert "nearly-collinear" not in look("y ~ x + z + v + (1 | g)", data).codes


def test_the_columns_of_one_basis_are_not_called_collinear(clean):
    data = clean.assign(year=2000.0 + clean["time"])
    assert "nearly-collinear" not in look("y ~ bs(x, df=8) + (1 | g)", data).codes
    powers = only("y ~ year + I(year**2) + (1 | g)", data, "nearly-collinear")
    assert "poly(year, 2)" in powers.do


def test_two_slopes_in_one_coefficient_are_told_apart():
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(40), 10)
    mean = rng.normal(0, 1, 40)
    data = pd.DataFrame({"g": g, "x": mean[g] + rng.normal(0, 1, 400)})
    inner = data["x"] - data.groupby("g")["x"].transform("mean")
    noise = rng.normal(0, 1, 400) + rng.normal(0, 0.3, 40)[g]
    two = data.assign(y=inner - 2 * mean[g] + noise)
    found = only("y ~ x + (1 | g)", two, "mixed-slopes")
    assert "x_within + x_mean" in found.do
    one = data.assign(y=data["x"] + noise)
    assert look("y ~ x + (1 | g)", one).codes == ()
    split = two.assign(x_mean=two.groupby("g")["x"].transform("mean"))
    assert "mixed-slopes" not in look("y ~ x + x_mean + (1 | g)", split).codes
    within = split.assign(x_within=split["x"] - split["x_mean"])
    assert look("y ~ x_within + x_mean + (1 | g)", within).codes == ()


# --- responses ------------------------------------------------------------------------------


def test_a_level_without_a_single_yes_separates(clean):
    data = clean.assign(yes=np.where(clean["h"] == "b", 0, clean["yes"]))
    found = only("yes ~ x + h + (1 | g)", data, "separation", "bernoulli")
    assert "'b' (120 rows, all 0)" in found.seen
    words = data.assign(yes=pd.Categorical(np.where(data["yes"], "stay", "leave")))
    assert "all 'leave'" in only("yes ~ h + (1 | g)", words, "separation", "bernoulli").seen
    assert look("yes ~ x + (1 | g)", data, "bernoulli").codes == ()


def test_a_number_that_divides_the_yes_from_the_no_separates(clean):
    data = clean.assign(yes=(clean["z"] > 1.5).astype(int))
    assert "z divides" in only("yes ~ z + (1 | g)", data, "separation", "bernoulli").seen


def test_a_level_without_a_count_separates(clean):
    data = clean.assign(count=np.where(clean["h"] == "b", 0, clean["count"] + 1))
    assert only("count ~ h + (1 | g)", data, "separation", "poisson").about == ("h",)


def test_counts_that_vary_too_much_are_overdispersed(clean):
    rng = np.random.default_rng(7)
    mean = np.exp(1.0 + 0.5 * clean["x"]) * rng.gamma(1.0, 1.0, N)
    data = clean.assign(count=rng.poisson(mean), row=np.arange(N))
    assert "overdispersion" in look("count ~ x + (1 | g)", data, "poisson").codes
    assert "overdispersion" not in look("count ~ x + (1 | g)", data, "negativebinomial").codes
    # an effect for each row, or for each group, is no overdispersion
    assert look("count ~ x + (1 | row)", data, "poisson").codes == ("one-row-levels",)
    grouped = clean.assign(count=rng.poisson(np.exp(rng.normal(1, 1, 12)[clean["number"]])))
    assert look("count ~ 1 + (1 | g)", grouped, "poisson").codes == ()
    assert "overdispersion" in look("count ~ x", grouped, "poisson").codes


@pytest.mark.parametrize("family", ["poisson", "negativebinomial"])
def test_zeros_beyond_the_distribution_are_counted(clean, family):
    rng = np.random.default_rng(8)
    counts = rng.poisson(6.0, N) * (rng.uniform(size=N) < 0.6)
    found = only("count ~ x", clean.assign(count=counts), "zero-inflation", family)
    assert f"{int(np.sum(counts == 0))} of 240 rows" in found.seen
    spread = rng.poisson(6.0 * rng.gamma(1.0, 1.0, N))
    assert "zero-inflation" not in look("count ~ x", clean.assign(count=spread), family).codes


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda y: np.clip(np.round(y + 4), 1, 7), "7 whole values"),
        (lambda y: np.maximum(y, 0.0), "lowest value"),
        (lambda y: np.minimum(y, 0.5), "highest value"),
        (lambda y: 1 / (1 + np.exp(-2 * y)), "as shares do"),
        (np.exp, "zero lies"),
    ],
)
def test_a_bounded_response_is_no_gaussian(clean, make, words):
    data = clean.assign(b=make(clean["y"].to_numpy()))
    assert words in only("b ~ x + (1 | g)", data, "bounded-response").seen


@pytest.mark.parametrize(
    "make", [lambda y: np.exp(0.1 * y) + 5, lambda y: 100 + y, lambda y: y - y.min() + 1]
)
def test_a_positive_response_far_from_zero_may_be_gaussian(clean, make):
    assert look("b ~ x + (1 | g)", clean.assign(b=make(clean["y"].to_numpy()))).codes == ()


def test_a_bound_that_is_modelled_is_no_finding(clean):
    data = clean.assign(b=np.maximum(clean["y"], 0.0), c=np.where(clean["y"] < 0, "left", "none"))
    assert look("b | cens(c) ~ x + (1 | g)", data).codes == ()


def test_a_count_is_not_continuous(clean):
    rng = np.random.default_rng(9)
    small, large = rng.poisson(np.exp(rng.normal(1.5, 0.8, N))), rng.poisson(900, N)
    assert only("c ~ x", clean.assign(c=small), "count-response").about == ("c",)
    assert look("c ~ x", clean.assign(c=large)).codes == ()


def test_gaps_in_time_are_counted(clean):
    data = clean[~((clean["time"] > 4) & (clean["time"] < 8) & (clean["number"] < 3))]
    found = only("y ~ x + (1 | g) + ar(time, g)", data, "time-gaps")
    assert "3 of 219 steps of time are longer than 1 (up to 4), in 3 of 12 series" in found.seen
    coarse = clean.assign(time=12 * clean["time"])
    assert "multiple of 12" in only("y ~ x + ar(time, g)", coarse, "time-gaps").do


# --- the whole ------------------------------------------------------------------------------


VARIANTS = [(name, key) for name in study_names() for key in load_study(name).variants]


@pytest.mark.parametrize(("name", "key"), VARIANTS)
def test_studies_have_the_findings_that_their_files_list(monkeypatch, reference_dir, name, key):
    monkeypatch.setenv(FOLDER_VARIABLE, str(reference_dir / "data"))
    study = load_study(name)
    variant = study.variant(key)
    formula = variant.formula if isinstance(variant.formula, str) else list(variant.formula)
    design = build_design(parse_formula(formula), study.frame(key), Family(variant.family))
    assert find_in_design(design, Family(variant.family)).codes == tuple(sorted(variant.findings))


def test_every_kind_says_why_where_from_and_where_to_read():
    for code, kind in KINDS.items():
        assert kind.code == code
        assert kind.link == f"{PAGE}#{code}"
        assert len(kind.title) > 10
        assert len(kind.why) > 40
        assert (
            "convention" in kind.basis
            or "doi:" in kind.basis
            or "lme4" in kind.basis
            or ("no threshold" in kind.basis)
        )


def test_findings_are_a_sequence_with_a_table():
    finding = Finding("few-levels", ("g",), "g has 2 levels.", "Do this.")
    found = Findings((finding,), ("the rows.",))
    assert (len(found), found[0], list(found), found.codes) == (1, finding, [finding],
                                                                ("few-levels",))  # fmt: skip
    assert finding.line == "g has 2 levels. Do this. [docs/lint.md#few-levels]"
    table = found.to_frame()
    assert list(table.columns) == ["code", "about", "seen", "why", "do", "basis", "link"]
    assert "Not looked at: the rows." in repr(found)
    assert repr(Findings()) == "No findings."
    assert len(found + found) == 2


def test_rows_beyond_memory_are_left_alone_and_it_is_said(monkeypatch, wards):
    monkeypatch.setattr(orchestrator, "MOST_NUMBERS", 100)
    found = look("y ~ 1 + (1 | hospital) + (1 | ward)", wards)
    assert found.codes == ("few-levels",)
    assert "the 240 rows" in found.skipped[0]


def test_formulas_of_parameters_are_looked_at_too(clean):
    found = look(["y ~ x + (1 | g)", "sigma ~ 1 + (x | g)"], clean)
    assert found.codes == ("missing-population-effect",)


def test_what_two_formulas_share_is_said_once(clean):
    noise = np.random.default_rng(4).normal(0, 0.01, N)
    data = clean.assign(x=clean["x"] * 1e5, twin=clean["z"] + noise)
    both = ["y ~ x + z + twin + (1 | g)", "sigma ~ x + z + twin"]
    assert [f.code for f in look(both, data)] == ["different-scales", "nearly-collinear"]


def test_sleepstudy_is_clean():
    assert look("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).codes == ()

"""The report: complete, harmless, self-contained, and whole or not there."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import standin
import xarray as xr

import hiermodels as hm
from hiermodels.errors import FitError
from hiermodels.fitting.tables import fixef
from hiermodels.library.datasets import load_dataset
from hiermodels.show.reporting import report_html, write_report, writing
from hiermodels.show.reporting.comparing import told
from hiermodels.show.reporting.methods import describe_methods
from hiermodels.show.reporting.words import number
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula

SECTIONS = [
    "model",
    "data",
    "priors",
    "sampler",
    "coefficients",
    "variances",
    "shares",
    "rivals",
    "effects",
    "shrinkage",
    "pooling",
    "panels",
    "methods",
    "versions",
]


class Page(HTMLParser):
    """What a page refers to, its pictures, its sections, its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.sections, self.tags, self.words = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag == "img":
            self.images.append(found)
        if tag == "section":
            self.sections.append(found["id"])

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def sleep_page(sleep):
    return report_html(sleep)


def test_all_sections_are_there_in_order(sleep_page):
    assert Page(sleep_page).sections == SECTIONS


def test_nothing_outside_the_page_is_named(sleep_page):
    page = Page(sleep_page)
    assert all(v.startswith(("data:", "#")) for v in page.links)
    assert "url(" not in sleep_page
    assert "@import" not in sleep_page
    assert "http" not in re.sub(r'"data:[^"]*"', "", sleep_page).replace("http-equiv", "")
    assert "script" not in page.tags


def test_the_numbers_are_those_of_the_tables(sleep, sleep_page):
    text = Page(sleep_page).text
    row = fixef(sleep.idata["posterior"].to_dataset()).loc["Days"]
    shown = " ".join(number(row[c]) for c in ("mean", "sd", "ci_low", "ci_high"))
    assert f"Days {shown} {row['ess_bulk']:,.0f} {row['ess_tail']:,.0f} {row['r_hat']:.3f}" in text
    assert "180 rows were used; none was dropped." in text
    assert "The draws pass every check" in text


def test_every_picture_says_in_numbers_what_is_seen(sleep_page):
    images = Page(sleep_page).images
    assert len(images) == 6
    for image in images:
        assert len(image["alt"]) > 60
        assert re.search(r"\d", image["alt"])
        assert int(image["width"]) > 100


def test_mathematics_is_mathml_with_the_model_s_names(sleep_page):
    assert sleep_page.count("<math") == 4
    assert "<mtext>Reaction</mtext>" in sleep_page
    assert "<mtext>Days</mtext>" in sleep_page


def evil():
    rng = np.random.default_rng(1)
    name, group = "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'
    frame = pd.DataFrame({name: rng.normal(size=60), group: rng.choice(list("&<>"), 60)})
    frame["</style>$y$"] = rng.normal(size=60)
    return frame, name, group


def test_names_that_are_markup_are_harmless():
    frame, name, group = evil()
    fit = standin.stand_in(f"`</style>$y$` ~ `{name}` + (`{name}` | `{group}`)", frame, draws=20)
    text = report_html(fit)
    page = Page(text)
    assert "script" not in page.tags
    assert text.count("<style>") == text.count("</style>") == 1
    assert all(i["src"].startswith("data:image/png") for i in page.images)
    assert html.escape(name) in text
    assert not any("onerror" in i for i in page.images)


def test_a_model_without_groups_says_so_in_each_section(no_groups):
    page = Page(report_html(no_groups))
    assert page.sections == SECTIONS
    assert page.text.count("The model has no groups, so there is nothing to show here.") == 5
    assert "no intraclass correlation" in page.text
    assert "plain regression" in page.text


def test_one_effect_and_no_numeric_predictor():
    data = load_dataset("Dyestuff")
    fit = standin.stand_in(
        "Yield ~ 1 + (1 | Batch)", data, {"Batch": (40.0,)}, sigma=50.0, draws=50
    )
    text = Page(report_html(fit)).text
    assert "Only Intercept varies by Batch" in text
    assert "no numeric predictor" in text
    assert "No group effects are correlated" in text


def test_a_bad_verdict_stands_at_the_top(nested):
    page = Page(report_html(nested))
    assert "Not every check of the draws passed." in page.text
    assert "7 of 600 draws" in page.text


def test_dropped_rows_are_said():
    data = standin.sleepstudy()
    data.loc[[3, 9], "Days"] = np.nan
    fit = standin.stand_in("Reaction ~ Days + (1 | Subject)", data, draws=20, sigma=30.0)
    assert (
        "178 rows were used; 2 rows dropped with missing values in Days (2)."
        in Page(report_html(fit)).text
    )


def test_counts_and_many_terms_use_vectors():
    rng = np.random.default_rng(2)
    data = pd.DataFrame(rng.normal(size=(80, 5)), columns=list("abcde"))
    data["g"], data["y"] = np.repeat(list("uvwx"), 20), rng.poisson(2, 80)
    fit = standin.stand_in(
        "y ~ a + b + c + d + e + (a + b | g)",
        data,
        {"g": (0.3, 0.1, 0.1)},
        family="poisson",
        draws=20,
    )
    text = report_html(fit)
    assert "<mi mathvariant='bold'>b</mi>" in text
    assert "log scale" in Page(text).text
    assert "on the log scale: posterior mean" in Page(text).text


# --- rivals, shares, pooling, methods -----------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    model = hm.Model(
        "Reaction ~ Days + (Days | Subject)",
        load_dataset("sleepstudy"),
        priors={"sigma": "HalfNormal(sigma=60)"},
    )
    return model.fit(draws=250, tune=300, chains=4, seed=3, progress=False)


@pytest.fixture(scope="module")
def real_page(real):
    return Page(report_html(real))


def test_rivals_and_shares_are_those_of_the_answers(real, real_page):
    row = hm.compare_estimates(real).table.loc["sd_Subject[Days]"]
    shown = " ".join(number(row[c]) for c in ("mean", "median", "sd", "reml", "ml"))
    assert f"sd_Subject[Days] {shown}" in real_page.text
    icc = hm.icc(real).to_frame().loc["Subject"]
    shown = " ".join(number(icc[c]) for c in ("mean", "median", "sd", "ci_low", "ci_high"))
    assert f"Subject {shown}" in real_page.text
    r2 = hm.r2(real).to_frame().loc["conditional"]
    shown = " ".join(number(r2[c]) for c in ("mean", "median", "sd", "ci_low", "ci_high"))
    assert f"conditional {shown}" in real_page.text
    assert len(real_page.images) == 7
    assert all(len(i["alt"]) > 60 and re.search(r"\d", i["alt"]) for i in real_page.images)


def test_pooling_is_that_of_the_answers(real, real_page):
    found = hm.pooling(real)
    row = found.by_effect.set_index("effect").loc["Days"]
    shown = f"Days 18 {number(row['mean_factor'])} {number(row['pooling_lambda'])}"
    assert shown in real_page.text
    level = found.table[found.table["level"] == "335"].iloc[1]
    shown = " ".join(number(level[f"pooling_factor{end}"]) for end in ("", "_low", "_high"))
    assert shown in real_page.text


def test_methods_hold_this_fit_s_numbers(real, real_page):
    found = real.diagnosis
    text = real_page.text
    for piece in (
        "fitted to 180 rows",
        "its formula is Reaction ~ Days + (Days | Subject).",
        "Intercept and Days by Subject (18 levels of 10 rows)",
        "except those chosen for sigma",
        "sigma ~ HalfNormal(sigma=60)",
        "LKJ priors of correlation matrices are those of Lewandowski et al. (2009)",
        "4 chains of 250 draws each after 300 of warm-up, target acceptance 0.8, seed 3.",
        "integrated out exactly",
        f"R-hat was {number(found.r_hat)}",
        f"{found.ess_bulk:,.0f} and {found.ess_tail:,.0f} (Vehtari et al. 2021",
        "estimated by restricted maximum likelihood and maximum likelihood (Bates et al. 2015)",
        f"PyMC {json.loads(real.idata.attrs['versions'])['pymc']}",
    ):
        assert piece in text, piece


def test_every_work_cited_is_listed_and_every_work_listed_is_cited(real):
    rivals = hm.compare_estimates(real)
    found = describe_methods(real, real.diagnosis, tuple(rivals.estimates.values()))
    cited = set(
        re.findall(r"((?:[A-Z][a-z]+(?: and [A-Z][a-z]+| et al\.)?)) \(?(\d{4})", found.paragraph)
    )
    assert cited == {(work.authors, str(work.year)) for work in found.works}
    for work in found.works:
        assert work.full.startswith(work.authors.split()[0])
        assert f"({work.year})" in work.full


def test_what_is_not_available_is_said_in_a_sentence(sleep, no_groups):
    assert (
        "Not available for this model: compare_estimates() takes"
        in Page(report_html(no_groups)).text
    )

    def half():
        yield "before"
        raise FitError("not for this family.")

    blocks = list(told(half()))
    assert blocks[0] == "before"
    assert blocks[1].value == "Not available for this model: not for this family."


def test_a_fault_of_the_program_is_not_hidden():
    def broken():
        yield "before"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(told(broken()))


def test_other_families_have_shares_on_both_scales():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 15), "x": rng.normal(size=120)})
    data["y"] = rng.poisson(np.exp(0.5 + 0.3 * data["x"]))
    fit = standin.stand_in("y ~ x + (1 | g)", data, {"g": (0.3,)}, family="poisson", draws=20)
    text = Page(report_html(fit)).text
    assert "Intraclass correlations, link scale" in text
    assert "Intraclass correlations, response scale" in text
    for scale in ("link", "response"):
        value = hm.icc(fit, scale).to_frame().loc["g", "mean"]
        assert f"g {number(value)}" in text


def of_family(fit, name, formula, **draws):
    tree = fit.idata.copy()
    posterior = fit.idata["posterior"].to_dataset().drop_vars("Intercept", errors="ignore")
    posterior = posterior.assign({k: v for k, v in draws.items()})
    if name != "cumulative":
        posterior = posterior.assign(Intercept=fit.idata["posterior"]["Intercept"])
    tree["posterior"] = xr.DataTree(posterior)
    family, parsed = Family(name), parse_formula(formula)
    design = build_design(parsed, fit.model.design.data, family)
    return replace(fit, model=replace(fit.model, family=family, design=design), idata=tree)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 12), "x": rng.normal(size=96)})
    data["y"] = rng.poisson(2.0, 96)
    return standin.stand_in("y ~ x + (1 | g)", data, {"g": (0.3,)}, family="poisson", draws=20)


def test_parameters_of_a_family_are_told_and_tabled(counts):
    rng = np.random.default_rng(5)
    shape = (("chain", "draw"), rng.gamma(9.0, 0.4, (4, 20)))
    fit = of_family(counts, "negativebinomial", "y ~ x + (1 | g)", shape=shape)
    page = report_html(fit)
    text = Page(page).text
    assert "negative binomial (overdispersed counts)" in text
    assert "The parameter shape is the same for all rows." in text
    assert f"shape {number(shape[1].mean())}" in text
    assert "<mtext>Negativebinomial</mtext>" in page
    assert "<mo>,</mo><mtext>shape</mtext>" in page


def test_ordered_categories_have_cutpoints_and_no_panels(counts):
    levels = sorted(set(counts.model.design.y))
    cuts = np.linspace(-1.0, 1.0, len(levels) - 1) + np.zeros((4, 20, len(levels) - 1))
    fit = of_family(
        counts, "cumulative", "y ~ x + (1 | g)", cutpoints=(("chain", "draw", "cutpoint"), cuts)
    )
    text = Page(report_html(fit)).text
    assert "one of ordered categories" in text
    assert "categories of a cumulative model have none" in text
    assert "categories have no variance on the response scale" in text


# --- the file -----------------------------------------------------------------------------------


def test_a_file_or_a_folder_may_be_named(no_groups, tmp_path):
    assert write_report(no_groups, tmp_path) == tmp_path / "report.html"
    assert write_report(no_groups, str(tmp_path / "my.html")) == tmp_path / "my.html"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my.html", "report.html"]


def test_a_folder_that_is_not_there_is_an_error(no_groups, tmp_path):
    with pytest.raises(FitError, match="does not exist"):
        write_report(no_groups, tmp_path / "no" / "report.html")


def test_a_failure_leaves_the_old_report_whole(no_groups, tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def half(self, *args, **kwargs):
        with open(self, "w") as stream:
            stream.write("<!DOCTYPE")
        raise OSError("disk full")

    monkeypatch.setattr(writing.Path, "write_text", half)
    with pytest.raises(OSError, match="disk full"):
        write_report(no_groups, target)
    monkeypatch.undo()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (251.4049, "251.4"),
        (10.5, "10.50"),
        (0.000123456, "0.0001235"),
        (123456.7, "123,457"),
        (1234.0, "1234"),
        (18, "18"),
        (float("nan"), "not known"),
        (None, ""),
    ],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text

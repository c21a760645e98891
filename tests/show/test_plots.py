"""Pictures draw the tables of the answers, fit their words, and are known to pyplot."""

import itertools
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import standin
import xarray as xr
from matplotlib.figure import Figure

import hiermodels as hm
from hiermodels.answers.lines import group_lines
from hiermodels.answers.movements import level_ellipses, movements, typical_distances
from hiermodels.answers.pooling_factors import measure_pooling
from hiermodels.answers.rivals import compare_rivals
from hiermodels.answers.shrinkage import group_estimates
from hiermodels.answers.shrinkage_panels import simulate_panels
from hiermodels.answers.variance_curves import variance_curves
from hiermodels.errors import FitError
from hiermodels.fitting.draws import group_labels
from hiermodels.fitting.tables import ranef
from hiermodels.show.plots import (
    plot_caterpillar,
    plot_estimates,
    plot_groups,
    plot_pooling,
    plot_shrinkage,
    plot_shrinkage_demo,
    plot_varcorr,
)
from hiermodels.show.plots.style import plain, short, short_names
from hiermodels.spec.distributions import Prior
from hiermodels.spec.families import Family
from hiermodels.spec.prior_functions import prior_density

CASES = ["sleep", "one_effect", "three", "many", "nested"]


@pytest.fixture(params=CASES)
def fit(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_a_new_figure_is_pyplots_and_given_axes_make_none(request):
    fit = request.getfixturevalue(CASES[0])
    plot_shrinkage(fit)
    assert len(plt.get_fignums()) == 1, "plt.show() and notebooks would not show it"
    plt.close("all")
    plot_shrinkage(fit, ax=Figure().add_subplot())
    assert plt.get_fignums() == []


def drawn(figure):
    """Draw a figure, warnings being errors, and return its renderer."""
    figure.canvas.draw()
    return figure.canvas.get_renderer()


def canvas(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    return drawn(figure)


def figure_of(picture):
    return picture if isinstance(picture, Figure) else picture.figure


def assert_words_fit(figure):
    """No two tick labels of an axis overlap; titles stay inside the figure."""
    renderer = canvas(figure)
    for ax in figure.axes:
        if not ax.get_visible():
            continue
        for axis in (ax.xaxis, ax.yaxis):
            boxes = [
                t.label1.get_window_extent(renderer)
                for t in axis.get_major_ticks()
                if t.label1.get_visible() and t.label1.get_text()
            ]
            for a, b in itertools.pairwise(sorted(boxes, key=lambda x: (x.y0, x.x0))):
                assert not a.overlaps(b), (ax.get_title(loc="left"), a, b)
        neighbours = [o for o in figure.axes if o is not ax and o.bbox.x0 > ax.bbox.x1 - 1]
        same_row = [o for o in neighbours if abs(o.bbox.y1 - ax.bbox.y1) < 1 and o.get_visible()]
        head = ax.title if ax.get_title() else ax._left_title
        box = head.get_window_extent(renderer)
        limit = min([o.bbox.x0 for o in same_row], default=figure.bbox.x1 + 1)
        assert box.x1 <= limit, head.get_text()


def labels_of(fit):
    return group_labels(fit.model.design)


PLOTS = {
    "caterpillar": plot_caterpillar,
    "shrinkage": plot_shrinkage,
    "groups": plot_groups,
    "varcorr": plot_varcorr,
}


@pytest.mark.parametrize("name", PLOTS)
def test_every_picture_of_every_case_fits_its_words(fit, name):
    figure = figure_of(PLOTS[name](fit))
    assert_words_fit(figure)


@pytest.mark.parametrize("name", ["caterpillar", "shrinkage"])
def test_axes_that_are_given_are_drawn_on_and_returned(fit, name):
    ax = Figure(figsize=(5, 4), layout="constrained").add_subplot()
    assert PLOTS[name](fit, ax=ax) is ax
    assert ax.lines
    assert_words_fit(ax.figure)


def test_long_names_of_quantities_do_not_run_into_each_other():
    data = standin.sleepstudy().rename(columns={"Subject": "secondary_school_identifier"})
    formula = "Reaction ~ Days + (Days | secondary_school_identifier)"
    fit = standin.stand_in(formula, data, sigma=25.0, draws=20)
    assert_words_fit(plot_varcorr(fit))


def test_given_axes_show_one_quantity(sleep):
    ax = Figure().add_subplot()
    assert plot_varcorr(sleep, ax, quantity="sd_Subject[Days]") is ax
    assert ax.get_title(loc="left") == "sd_Subject[Days]"


# --- what is drawn is what the tables say -------------------------------------------------------


def test_the_caterpillar_draws_ranef_in_order(sleep):
    ax = plot_caterpillar(sleep, effect="Days")
    table = ranef(
        sleep.idata["posterior"].to_dataset(),
        sleep.idata["group_effects"].to_dataset(),
        labels_of(sleep),
    )
    mine = table[table["effect"] == "Days"].sort_values("mean")
    dots = ax.lines[1]
    np.testing.assert_allclose(dots.get_xdata(), mine["mean"])
    ends = np.array([path.vertices[:, 0] for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose(ends, mine[["ci_low", "ci_high"]])
    assert [t.get_text() for t in ax.get_yticklabels()] == list(mine["level"])
    assert plot_caterpillar(table, "Subject", "Days").lines[1].get_xydata().shape == (18, 2)


def test_thousands_of_levels_are_chosen_from_and_the_title_says_so(many):
    ax = plot_caterpillar(many)
    assert "50 of 3,000 levels" in ax.get_title(loc="left").replace("\n", " ")
    assert len(ax.lines[1].get_xdata()) == 50
    ax = plot_shrinkage(many)
    assert "40 of 3,000 levels" in ax.get_title(loc="left").replace("\n", " ")
    figure = plot_groups(many)
    assert sum(a.get_visible() for a in figure.axes) == 12
    heads = [t.get_text().replace("\n", " ") for s in figure.subfigs for t in s.texts]
    heads += [s._suptitle.get_text().replace("\n", " ") for s in figure.subfigs if s._suptitle]
    assert any("12 of 3,000 levels" in h for h in heads)


def test_shrinkage_arrows_go_from_own_to_partial(sleep):
    ax = plot_shrinkage(sleep)
    table = group_estimates(sleep)
    a, b = (table[table["effect"] == e].set_index("level") for e in ("Intercept", "Days"))
    arrows = [t for t in ax.texts if getattr(t, "arrow_patch", None) is not None]
    starts = {tuple(np.round(t.xyann, 8)) for t in arrows}
    assert starts == set(zip(a["no_pool"].round(8), b["no_pool"].round(8), strict=True))
    ends = {tuple(np.round(t.xy, 8)) for t in arrows}
    assert ends == set(zip(a["mean"].round(8), b["mean"].round(8), strict=True))


def test_one_effect_joins_own_estimate_and_interval(one_effect):
    ax = plot_shrinkage(one_effect)
    rows = group_estimates(one_effect).sort_values("mean")
    np.testing.assert_allclose(ax.lines[1].get_xdata(), rows["no_pool"])
    np.testing.assert_allclose(ax.lines[2].get_xdata(), rows["mean"])


def test_level_names_in_the_plane_do_not_overlap(sleep):
    ax = plot_shrinkage(sleep)
    renderer = canvas(ax.figure)
    boxes = [t.get_window_extent(renderer) for t in ax.texts if t.get_text()]
    assert len(boxes) >= 12
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)


def test_wild_own_estimates_do_not_stretch_the_plane(sleep):
    data = standin.sleepstudy()
    data["Subject"] = data["Subject"].astype(str)
    wild = (data["Subject"] == "308") & (data["Days"] < 2)
    other = data["Subject"] != "308"
    data.loc[wild, "Reaction"] = [100.0, 900.0]
    fit = standin.stand_in(
        "Reaction ~ Days + (Days | Subject)",
        data[wild | other],
        {"Subject": (24.0, 6.0)},
        sigma=25.0,
    )
    ax = plot_shrinkage(fit)
    assert ax.get_ylim()[1] < 100
    assert "1 own estimate beyond the edges" in ax.get_title(loc="left").replace("\n", " ")


def test_panels_draw_data_and_lines(sleep):
    figure = plot_groups(sleep, groups=["335", "308"])
    lines = group_lines(sleep, groups=["335", "308"])
    ax = figure.axes[1]
    assert ax.get_title(loc="left") == "308 (n = 10)"
    mine = lines[lines["level"] == "308"]
    data = standin.sleepstudy()
    data = data[data["Subject"].astype(str) == "308"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), data["Reaction"])
    for line, column in zip(ax.lines[1:], ("complete", "no_pool", "partial"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), mine[column])
    # Told apart without colour.
    assert (
        len({line.get_linestyle() + str(line._unscaled_dash_pattern) for line in ax.lines[1:]}) == 3
    )


def test_a_group_without_own_estimate_is_marked(many):
    table = group_estimates(many)
    level = table.loc[table["reason"].notna(), "level"].iloc[0]
    ax = plot_groups(many, groups=[level]).axes[0]
    assert [t.get_text() for t in ax.texts] == ["no own estimate"]


def test_varcorr_draws_the_densities(sleep):
    figure = plot_varcorr(sleep)
    table = variance_curves(sleep)
    names = list(dict.fromkeys(table["quantity"]))
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible()] == names
    mine = table[table["quantity"] == "sigma"]
    np.testing.assert_allclose(figure.axes[3].lines[0].get_ydata(), mine["density"])


# --- pooling, rivals, sizes -----------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    """A fit by the sampler: estimates beside the posterior need its model."""
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    return model.fit(draws=250, tune=300, chains=4, seed=3, progress=False)


@pytest.fixture(scope="module")
def panels():
    return simulate_panels(students=12, seed=1)


@pytest.fixture(scope="module")
def thirty():
    rng = np.random.default_rng(6)
    names = [f"a_rather_long_predictor_{k:02d}" for k in range(30)]
    data = pd.DataFrame(rng.normal(size=(400, 30)), columns=names)
    data["g"] = np.repeat([f"unit {k}" for k in range(8)], 50)
    data["y"] = rng.normal(size=400)
    bars = " + ".join(names)
    sds = {"g": (0.5,) * 31}
    return standin.stand_in(f"y ~ {bars} + ({bars} || g)", data, sds, draws=5)


@pytest.fixture(scope="module")
def successes():
    rng = np.random.default_rng(7)
    data = pd.DataFrame({"x": rng.normal(size=300), "g": np.repeat(list("abcdefghij"), 30)})
    data["y"] = rng.integers(0, 2, 300)
    sds = {"g": (0.6, 0.3)}
    return standin.stand_in("y ~ x + (x | g)", data, sds, family="bernoulli", draws=20)


@pytest.fixture(scope="module")
def two_levels():
    data = standin.sleepstudy()
    data = data[data["Subject"].astype(str).isin(["308", "309"])].copy()
    data["Subject"] = data["Subject"].astype(str)
    sds = {"Subject": (300.0, 80.0)}
    return standin.stand_in("Reaction ~ Days + (Days | Subject)", data, sds, sigma=25.0, draws=40)


@pytest.fixture(scope="module")
def crossed():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"school": rng.choice(list("uvwxyz"), 150)})
    data["rater"] = rng.choice(list("pqrs"), 150)
    data["score"] = rng.normal(size=150)
    return standin.stand_in("score ~ 1 + (1 | school) + (1 | rater)", data, draws=20)


MORE = ["thirty", "successes", "two_levels", "crossed"]
EVERY = {
    "caterpillar": plot_caterpillar,
    "shrinkage": plot_shrinkage,
    "size": lambda fit: plot_shrinkage(fit, by="size"),
    "groups": plot_groups,
    "varcorr": plot_varcorr,
    "pooling": plot_pooling,
}


@pytest.mark.parametrize("case", MORE)
@pytest.mark.parametrize("name", EVERY)
def test_every_picture_of_awkward_cases_fits_its_words(request, case, name):
    assert_words_fit(figure_of(EVERY[name](request.getfixturevalue(case))))


@pytest.mark.parametrize("name", ["size", "pooling"])
def test_pictures_by_size_fit_their_words(fit, name):
    assert_words_fit(figure_of(EVERY[name](fit)))


def text_of(ax):
    return ax.get_title(loc="left").replace("\n", " ")


def test_factors_are_drawn_at_their_rows(many):
    found = measure_pooling(many, group="g")
    ax = plot_pooling(found)
    rows = found.table[found.table["effect"] == "Intercept"]
    drawn_at = ax.lines[0].get_xydata().round(6)
    columns = ["n", "pooling_factor", "pooling_factor_low", "pooling_factor_high"]
    expected = rows[columns].round(6).drop_duplicates().to_numpy()[:, :2]
    np.testing.assert_allclose(np.sort(drawn_at, axis=0), np.sort(expected, axis=0))
    assert "3,000 levels" in text_of(ax)


def test_levels_of_one_size_stand_by_effect(sleep):
    found = measure_pooling(sleep)
    ax = plot_pooling(found)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["Intercept", "Days"]
    assert "every level of Subject has 10 rows" in ax.get_xlabel()
    means = found.table.groupby("effect", sort=False)["pooling_factor"].first()
    np.testing.assert_allclose([line.get_ydata()[0] for line in ax.lines[:2]], means, atol=1e-6)


def test_distances_are_drawn_against_rows(many):
    ax = plot_shrinkage(many, by="size", effects="x")
    table = movements(many, "x")
    known = table.dropna(subset=["distance"])
    np.testing.assert_allclose(ax.lines[0].get_xydata(), known[["n", "distance"]])
    typical = typical_distances(table)
    np.testing.assert_allclose(ax.lines[1].get_xydata(), typical[["n", "distance"]])
    missing = int(table["distance"].isna().sum())
    assert f"{missing} without an own estimate" in text_of(ax)
    assert ax.get_ylabel() == "distance moved (y per unit of x)"


def test_ellipses_of_a_few_levels_are_drawn(sleep):
    ax = plot_shrinkage(sleep, max_ellipses=2)
    assert len(ax.patches) == 2
    assert len(plot_shrinkage(sleep, max_ellipses=0).patches) == 0
    found = level_ellipses(sleep, sleep.model.design.groups[0].levels)
    outlines = [found[level].outline(0.95)[:5].round(9).tolist() for level in found]
    assert ax.patches[0].get_xy()[:5].round(9).tolist() in outlines


def test_one_effect_of_several_may_be_asked_for(sleep):
    ax = plot_shrinkage(sleep, effects="Days")
    assert ax.get_xlabel() == "Days of each level (Reaction per unit of Days)"
    assert "Days, one of 2 effects" in text_of(ax)


def test_few_levels_are_not_lost_in_the_population(two_levels):
    ax = plot_shrinkage(two_levels)
    low, high = ax.get_ylim()
    table = group_estimates(two_levels)
    own = table.loc[table["effect"] == "Days", "no_pool"]
    # the 95 % ellipse of the population alone is some 400 high
    assert high - low < 250
    assert low < own.min() < own.max() < high


def test_the_rivals_are_drawn_where_the_table_has_them(real):
    found = compare_rivals(real)
    figure = plot_estimates(found)
    axes = [ax for ax in figure.axes if ax.lines]
    assert len(axes) == len(found.table)
    for ax, (_, row) in zip(axes, found.table.iterrows(), strict=True):
        (interval,) = ax.collections[0].get_segments()
        np.testing.assert_allclose(interval[:, 0], row[["ci_low", "ci_high"]].astype(float))
        marks = {
            line.get_marker(): line.get_xdata()[0]
            for line in ax.lines
            if len(line.get_xdata()) == 1
        }
        assert marks["o"] == row["mean"]
        assert marks["s"] == pytest.approx(row["reml"], rel=1e-12)
        assert marks["^"] == pytest.approx(row["ml"], rel=1e-12)
    assert_words_fit(figure)
    few = plot_estimates(found, max_parameters=2)
    assert "the first 2 of 6 parameters" in few.get_suptitle().replace("\n", " ")


def test_five_studies_are_drawn_with_their_factors(panels):
    figure = plot_shrinkage_demo(panels)
    assert len(figure.axes) == 5
    ax = figure.axes[0]
    first = panels.table[panels.table["panel"] == "as observed"]
    own = first[first["effect"] == "Intercept"].sort_values("student")["own"]
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_xdata(), own)
    mean = panels.by_panel.set_index(["panel", "effect"])["mean_factor"]
    assert f"{mean['as observed', 'Intercept']:.2f} (intercept)" in ax.get_title(loc="left")
    assert_words_fit(figure)


def test_priors_are_drawn_beside_posteriors(sleep):
    figure = plot_varcorr(sleep)
    table = variance_curves(sleep)
    for ax, (_, rows) in zip(figure.axes, table.groupby("quantity", sort=False), strict=False):
        np.testing.assert_allclose(ax.lines[1].get_ydata(), rows["prior_density"])
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ["posterior", "prior", "prior, implied by that at the predictors' means"]


def of_family(fit, name, **draws):
    """Return a fit of counts as one of another family, with draws of its parameters."""
    tree = fit.idata.copy()
    shape = fit.idata["posterior"].to_dataset().sizes
    shape = (shape["chain"], shape["draw"])
    posterior = (
        fit.idata["posterior"]
        .to_dataset()
        .assign({k: (("chain", "draw"), np.reshape(v, shape)) for k, v in draws.items()})
    )
    tree["posterior"] = xr.DataTree(posterior)
    return replace(fit, model=replace(fit.model, family=Family(name)), idata=tree)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(9)
    data = pd.DataFrame({"x": np.tile(np.arange(6.0), 8), "g": np.repeat(list("abcdefgh"), 6)})
    data["y"] = rng.poisson(3, 48)
    return standin.stand_in("y ~ x + (x | g)", data, {"g": (0.5, 0.1)}, family="poisson", draws=25)


def test_parameters_of_a_family_stand_against_their_priors(counts):
    draws = np.random.default_rng(1).gamma(9.0, 0.4, 100)
    fit = of_family(counts, "negativebinomial", shape=draws)
    figure = plot_varcorr(fit)
    heads = [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible()]
    assert heads[-1] == "shape"
    x = figure.axes[3].lines[1].get_xdata()
    expected = prior_density(Prior("HalfStudentT", 3.0, 5.0), x)
    np.testing.assert_allclose(figure.axes[3].lines[1].get_ydata(), expected, rtol=1e-12)
    assert "other parameters" in figure.get_suptitle()


def test_families_without_own_regressions_are_drawn_without_them(counts):
    fit = of_family(counts, "hurdle_poisson", hu=np.full(100, 0.2))
    figure = plot_groups(fit, max_panels=4)
    assert_words_fit(figure)
    (legend,) = figure.subfigs[1].legends
    assert [t.get_text() for t in legend.get_texts()] == ["data", "partial pooling, 95 % band"]
    assert "Regressions without pooling are not computed here" in notes_of(figure)
    ax = plot_shrinkage(fit)
    assert len(ax.patches) == 3
    assert "own estimate" not in [t.get_text() for t in ax.get_legend().get_texts()]
    with pytest.raises(FitError, match="for the hurdle_poisson family"):
        plot_shrinkage(fit, by="size")


def notes_of(figure):
    return " ".join(t.get_text() for part in figure.subfigs for t in part.texts).replace("\n", " ")


def test_lines_of_zero_inflated_counts_say_what_they_are(counts):
    fit = of_family(counts, "zero_inflated_poisson", zi=np.full(100, 0.2))
    assert "Lines are means without the added zeros" in notes_of(plot_groups(fit))


def test_categories_have_no_mean_to_draw(counts):
    with pytest.raises(FitError, match="categories of a cumulative model have none"):
        plot_groups(of_family(counts, "cumulative"))


def test_uneven_panels_get_axes_of_their_own(counts):
    data = counts.model.design.data.copy()
    data.loc[data["g"] == "a", "y"] = [200, 220, 260, 300, 330, 380]
    fit = standin.stand_in("y ~ x + (x | g)", data, {"g": (2.0, 0.1)}, family="poisson", draws=20)
    figure = plot_groups(fit)
    assert_words_fit(figure)
    assert "vertical axes differ" in figure.subfigs[0].get_suptitle().replace("\n", " ")
    tops = {round(ax.get_ylim()[1], 6) for ax in figure.axes if ax.get_visible()}
    assert len(tops) > 1


def test_what_plots_cannot_draw_they_say(sleep, no_groups, crossed):
    with pytest.raises(FitError, match="by='rows'"):
        plot_shrinkage(sleep, by="rows")
    with pytest.raises(FitError, match="which draws one"):
        plot_shrinkage(sleep, by="size", effects=("Intercept", "Days"))
    with pytest.raises(FitError, match="Subject has Intercept, Days"):
        plot_shrinkage(sleep, effects="days")
    with pytest.raises(FitError, match="name two different ones of Intercept"):
        plot_shrinkage(crossed, "rater", effects=("Intercept", "x"))
    with pytest.raises(FitError, match="no groups"):
        plot_pooling(no_groups)
    with pytest.raises(FitError, match="at least one panel"):
        plot_varcorr(sleep, max_panels=0)
    with pytest.raises(FitError, match="at least one must be shown"):
        plot_estimates(sleep, max_parameters=0)


# --- words --------------------------------------------------------------------------------------


def test_names_are_shortened_and_stay_different():
    same = [f"The Royal Infirmary of Saint {k}, northern site" for k in "ABC"]
    assert short_names(same, 20) == ["… A,", "… B,", "… C,"]
    close = [f"{'x' * 30}{k}{'y' * 30}" for k in "abc"]
    found = short_names(close, 12)
    assert len(set(found)) == 3
    assert all(len(f) <= 12 for f in found)
    assert short("short") == "short"
    assert len(short("a" * 100, 22)) == 22


def test_dollars_and_line_breaks_in_names_are_shown_as_they_are():
    ax = Figure().add_subplot()
    ax.set_title(plain("cost in $ or $_x$\n{bad"))
    canvas(ax.figure)
    assert plain("a\nb\x00$") == "a b?\\$"


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", [plot_caterpillar, plot_shrinkage, plot_groups])
def test_a_model_without_groups_is_an_error(plot, no_groups):
    with pytest.raises(FitError, match="no groups"):
        plot(no_groups)


def test_unknown_names_list_the_known(sleep):
    with pytest.raises(FitError, match="Subject has Intercept, Days"):
        plot_caterpillar(sleep, effect="days")
    with pytest.raises(FitError, match="sd_Subject"):
        plot_varcorr(sleep, quantity="sd")
    with pytest.raises(FitError, match="max_panels=2"):
        plot_groups(sleep, groups=["308", "309", "310"], max_panels=2)

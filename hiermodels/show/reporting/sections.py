"""The sections of the report, each from the answers; none is left out without a sentence."""

import json
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata

import pandas as pd

from hiermodels.answers.checking import grouping
from hiermodels.answers.fitted import Fitted, dataset, has_own_rows, labels
from hiermodels.answers.lines import group_lines, group_points
from hiermodels.answers.rivals import compare_rivals
from hiermodels.answers.shrinkage import choose, group_estimates
from hiermodels.answers.variance_curves import variance_curves
from hiermodels.fitting import tables
from hiermodels.fitting.diagnostics import Diagnosis
from hiermodels.fitting.draws import all_group_labels
from hiermodels.fitting.estimate import Estimate
from hiermodels.fitting.fit import Fit
from hiermodels.show.plots import (
    plot_caterpillar,
    plot_groups,
    plot_shrinkage,
    plot_varcorr,
)
from hiermodels.show.reporting import words
from hiermodels.show.reporting.blocks import (
    Block,
    Section,
    heading,
    picture,
    rows_table,
    table,
    text,
)
from hiermodels.show.reporting.comparing import (
    ask,
    pooling_blocks,
    rivals_blocks,
    shares_blocks,
    told,
)
from hiermodels.show.reporting.maths import formulas
from hiermodels.show.reporting.methods import describe_methods
from hiermodels.spec.design import Group

#: Grouping factors and effects that get pictures; the tables hold all.
MOST_FACTORS = 4
MOST_EFFECTS = 4
#: Levels of a picture, and of the table under it.
MOST_LEVELS = 40
SHARED_ROWS = (
    "The levels of {group} share rows, or have spreads by subpopulation: no regression of a level "
    "on its own can be held against the pooled one."
)
#: Sections on what is defined for one linear predictor.
ONE_MEAN = frozenset({"shares", "rivals", "shrinkage", "pooling", "panels"})
BY_LEVEL = (
    "Shares of variance, shrinkage, pooling factors and lines by group are defined for one linear "
    "predictor; each level of this response has its own."
)
NO_GROUPS = "The model has no groups, so there is nothing to show here."
PACKAGES = ("hiermodels", "pymc", "nutpie", "arviz", "formulaic", "numpy", "pandas", "xarray")

_ESTIMATE = {"mean": "mean", "sd": "sd", "ci_low": "2.5 %", "ci_high": "97.5 %"}
_DRAWS = {"ess_bulk": "ESS bulk", "ess_tail": "ESS tail", "r_hat": "R-hat"}


def sections(fit: Fit, diagnosis: Diagnosis) -> list[Section]:
    """Return all sections of the report, in order.

    Parameters
    ----------
    fit : Fit
    diagnosis : Diagnosis

    Returns
    -------
    list of Section
    """
    rivals = ask(lambda: compare_rivals(fit))
    estimates = () if isinstance(rivals, str) else tuple(rivals.estimates.values())
    parts = [
        ("model", "The model", _model(fit)),
        ("data", "The data and their groups", _data(fit)),
        ("priors", "Priors", _priors(fit)),
        ("sampler", "Can the draws be trusted?", _sampler(diagnosis)),
        ("coefficients", "Coefficients", _coefficients(fit)),
        ("variances", "Variance components and correlations", _variances(fit)),
        ("shares", "Shares of variance", shares_blocks(fit)),
        ("rivals", "The posterior beside its rivals", rivals_blocks(rivals)),
        ("effects", "Group effects", _effects(fit)),
        ("shrinkage", "Shrinkage", _shrinkage(fit)),
        ("pooling", "How far groups are pooled", _pooling(fit)),
        ("panels", "Data and lines by group", _panels(fit)),
        ("methods", "Methods, to be taken over", _methods(fit, diagnosis, estimates)),
        ("versions", "Versions and seed", _versions(fit)),
    ]
    if fit.model.design.by_level:
        parts = [part for part in parts if part[0] not in ONE_MEAN]
    return [Section(name, said, tuple(told(blocks))) for name, said, blocks in parts]


def _model(fit: Fitted) -> Iterator[Block]:
    yield Block("list", words.model_sentences(fit.model))
    for formula in formulas(fit.model):
        yield Block("math", formula)
    note = "Rows are numbered i"
    if fit.model.design.terms:
        note += "; levels j; g[i] is the level of g that row i belongs to"
    yield text(f"{note}. The draws were computed by the {fit.model.engine} engine.")


def _data(fit: Fitted) -> Iterator[Block]:
    yield text(words.dropped_sentence(fit.model))
    frame = grouping(fit)
    if frame.empty:
        yield text("The rows do not fall into groups: the formula has no bars.")
        return
    names = {
        "group": "group",
        "effects": "effects that vary",
        "levels": "levels",
        "rows_min": "fewest rows",
        "rows_median": "median rows",
        "rows_max": "most rows",
    }
    yield table(frame, "Levels, and rows for each level", names)


def _priors(fit: Fitted) -> Iterator[Block]:
    priors = fit.model.priors
    if priors.empty:
        yield text("The model has no parameters with a prior.")
        return
    yield table(priors, "Every prior, on the scale where it stands")


def _sampler(diagnosis: Diagnosis) -> Iterator[Block]:
    yield Block("verdict", diagnosis.verdict)
    rows = words.diagnosis_rows(diagnosis)
    yield rows_table(rows, "The sampler's own figures", ("check", "value", "of"))
    yield text(
        "A divergence marks a place where the sampler could not follow the posterior. R-hat "
        "compares chains: near 1 they agree. ESS, the effective sample size, says how many "
        "independent draws the draws are worth."
    )


def _coefficients(fit: Fitted) -> Iterator[Block]:
    parameters = fit.model.resolved.parameters
    frame = tables.fixef(dataset(fit, "posterior"), parameters=parameters)
    if frame.empty:
        yield text("The model has no population coefficients.")
        return
    link = fit.model.family.link
    scale = "" if link == "identity" else f", on the {link} scale"
    caption = f"Population coefficients{scale}: posterior mean, sd and 95 % interval"
    yield table(frame, caption, _ESTIMATE | _DRAWS, index="coefficient")


def _variances(fit: Fitted) -> Iterator[Block]:
    posterior, groups = dataset(fit, "posterior"), all_group_labels(fit.model.design)
    yield from _values(fit)
    frame = tables.varcorr(posterior, groups)
    if frame.empty:
        yield text("The model has neither group effects nor a residual sd.")
        return
    names = {
        "group": "group",
        "effect": "effect",
        "sd": "sd",
        "sd_ci_low": "sd 2.5 %",
        "sd_ci_high": "sd 97.5 %",
        "variance": "variance",
        "var_prop": "share",
    }
    yield table(frame, "Standard deviations and variances", names)
    if groups:
        yield text(
            "The share is of the sum of the variances listed. It depends on where predictors have "
            "their zero, and is no intraclass correlation where slopes vary."
        )
    together = tables.correlations(posterior, groups)
    if together.empty:
        said = "No group effects are correlated in this model." if groups else NO_GROUPS
        yield text(said)
    else:
        pairs = {"group": "group", "effect1": "effect", "effect2": "with"}
        shown = pairs | {k: _ESTIMATE[k] for k in ("mean", "ci_low", "ci_high")}
        yield table(together, "Correlations between group effects", shown)
    curves = variance_curves(fit)
    yield picture(plot_varcorr(curves), words.varcorr_alt(curves))


def _values(fit: Fitted) -> Iterator[Block]:
    """Yield the table of the family's parameters that are one value."""
    named = [own.name for own in fit.model.resolved.parameters if not own.linear]
    parameters = fit.model.resolved.parameters
    frame = tables.summary(dataset(fit, "posterior"), (), parameters=parameters)
    frame = frame.loc[[name for name in named if name in frame.index]]
    if not frame.empty:
        caption = "Parameters of the family: posterior mean, sd and 95 % interval"
        yield table(frame, caption, _ESTIMATE | _DRAWS, index="parameter")


def _shown_groups(fit: Fitted) -> Iterator[tuple[Group, Block | None]]:
    """Yield the factors that get pictures, each with a heading where there are several."""
    groups = fit.model.design.groups
    for g in groups[:MOST_FACTORS]:
        yield g, heading(g.name) if len(groups) > 1 else None


def _more_groups(fit: Fitted) -> Iterator[Block]:
    """Yield a sentence on factors that get no pictures."""
    others = [g.name for g in fit.model.design.groups[MOST_FACTORS:]]
    if others:
        yield text(f"Not drawn here: {words.listed(others)}.")


def _effects_by_level(fit: Fitted) -> Iterator[Block]:
    """Yield the effects on each level's linear predictor."""
    groups = all_group_labels(fit.model.design)
    yield text(BY_LEVEL if groups else f"{NO_GROUPS} {BY_LEVEL}")
    frame = tables.ranef(dataset(fit, "posterior"), dataset(fit, "group_effects"), groups)
    pairs = [(g.name, effect) for g in groups for effect in g.shown]
    for name, effect in pairs[:MOST_EFFECTS]:
        mine = frame[(frame["group"] == name) & (frame["effect"] == effect)]
        drawn = plot_caterpillar(frame, name, effect, max_levels=MOST_LEVELS)
        yield picture(drawn, words.caterpillar_alt(mine, name, effect, MOST_LEVELS))
    if len(pairs) > MOST_EFFECTS:
        others = [f"{effect} by {name}" for name, effect in pairs[MOST_EFFECTS:]]
        yield text(f"Not drawn here: {words.listed(others)}.")


def _effects(fit: Fitted) -> Iterator[Block]:
    if fit.model.design.by_level:
        yield from _effects_by_level(fit)
        return
    if not fit.model.design.groups:
        yield text(NO_GROUPS)
        return
    yield text(
        "How far each level lies from the population, in order. Intervals are for one level at a "
        "time: that the smallest or largest one stands out is partly the choice of looking there."
    )
    frame = tables.ranef(dataset(fit, "posterior"), dataset(fit, "group_effects"), labels(fit))
    for g, head in _shown_groups(fit):
        if head:
            yield head
        for effect in g.coefs[:MOST_EFFECTS]:
            mine = frame[(frame["group"] == g.name) & (frame["effect"] == effect)]
            alt = words.caterpillar_alt(mine, g.name, effect, MOST_LEVELS)
            drawn = plot_caterpillar(frame, g.name, effect, max_levels=MOST_LEVELS)
            yield picture(drawn, alt)
        if len(g.coefs) > MOST_EFFECTS:
            yield text(f"Not drawn here: {words.listed(g.coefs[MOST_EFFECTS:])} by {g.name}.")
    yield from _more_groups(fit)


def _shrinkage(fit: Fitted) -> Iterator[Block]:
    if not fit.model.design.groups:
        yield text(NO_GROUPS)
        return
    yield text(
        "A level's own estimate uses its rows alone, everything outside its bars held at its "
        "posterior mean. Partial pooling moves it towards the population, the further the less "
        "its rows say."
    )
    for g, head in _shown_groups(fit):
        if head:
            yield head
        if not has_own_rows(fit, g):
            yield text(SHARED_ROWS.format(group=g.name))
            continue
        frame = group_estimates(fit, group=g.name)
        note = ""
        if len(g.coefs) == 1:
            note = f"Only {g.coefs[0]} varies by {g.name}, so each level is a line, not an arrow."
        elif len(g.coefs) > 2:
            note = f"{g.coefs[0]} and {g.coefs[1]} are drawn, of {len(g.coefs)} effects."
        drawn = plot_shrinkage(fit, g.name, max_levels=MOST_LEVELS)
        yield picture(drawn, words.shrinkage_alt(frame, g.name), note)
        yield _numbers(frame, g)
    yield from _more_groups(fit)


def _numbers(frame: pd.DataFrame, g: Group) -> Block:
    """Return the folded table of own, common and partially pooled estimates."""
    first = frame[frame["effect"] == g.coefs[0]]
    levels = choose([str(v) for v in first["level"]], MOST_LEVELS, first["mean"])
    kept = frame[frame["level"].isin(levels)]
    names = {
        "effect": "effect",
        "level": g.name,
        "n": "rows",
        "no_pool": "own",
        "no_pool_se": "se",
        "complete": "for all",
        "mean": "pooled",
        "ci_low": "2.5 %",
        "ci_high": "97.5 %",
    }
    if kept["reason"].notna().any():
        names["reason"] = "why there is no own estimate"
    many = len(g.levels) > MOST_LEVELS
    which = f"{len(levels)} of {len(g.levels):,} levels" if many else f"all {len(levels)} levels"
    return table(kept, f"The numbers by {g.name}, {which}", names, hidden=True)


def _pooling(fit: Fitted) -> Iterator[Block]:
    if not fit.model.design.groups:
        yield text(NO_GROUPS)
        return
    shown = [g for g, _ in _shown_groups(fit)]
    yield from pooling_blocks(fit, shown, MOST_LEVELS)
    yield from _more_groups(fit)


def _methods(fit: Fitted, diagnosis: Diagnosis, estimates: Sequence[Estimate]) -> Iterator[Block]:
    found = describe_methods(fit, diagnosis, estimates)
    yield text(
        "Written from this fit. Every number is this model's; which of the sentences a paper needs "
        "is for its authors to say."
    )
    yield Block("quote", found.paragraph)
    yield heading("Works cited")
    yield Block("list", [work.full for work in sorted(found.works, key=lambda w: w.full)])


def _panels(fit: Fitted) -> Iterator[Block]:
    if not fit.model.design.groups:
        yield text(NO_GROUPS)
        return
    for g, head in _shown_groups(fit):
        if head:
            yield head
        if not has_own_rows(fit, g):
            yield text(SHARED_ROWS.format(group=g.name))
            continue
        lines = group_lines(fit, group=g.name)
        levels = list(dict.fromkeys(str(v) for v in lines["level"]))
        points = group_points(fit, levels, lines.attrs["x"], g.name)
        if lines.attrs["x"] is None:
            yield text(
                "The model has no numeric predictor: the lines are flat, along the number of the "
                "row within its group."
            )
        alt = words.groups_alt(lines, points, fit.model.design.response)
        yield picture(plot_groups(fit, group=g.name), alt)
    yield from _more_groups(fit)


def _versions(fit: Fitted) -> Iterator[Block]:
    attrs = fit.idata.attrs
    seed = getattr(fit, "seed", None)
    rows = [("seed", "not recorded" if seed is None else str(seed))]
    rows.append(("computed by", str(attrs.get("how", f"{fit.model.engine} engine"))))
    used = json.loads(attrs["versions"]) if "versions" in attrs else _installed()
    rows.extend((str(name), str(number)) for name, number in used.items())
    yield rows_table(rows, "What the draws were made with", ("what", "value"))


def _installed() -> dict[str, str]:
    """Return the versions at hand, for draws that do not say theirs."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    """Return a package's version; the one that is not installed as such says so."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"

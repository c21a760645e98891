"""The model, its data and its pictures in plain sentences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hiermodels.answers.fitted import Model
from hiermodels.fitting.diagnostics import Diagnosis
from hiermodels.spec.counted import counted_column
from hiermodels.spec.design import Group
from hiermodels.spec.rowless import RowlessDesign, product_rows
from hiermodels.spec.whole import Counted

_FAMILIES = {
    "gaussian": "normal (Gaussian)",
    "bernoulli": "Bernoulli (success or failure)",
    "binomial": "binomial (successes out of trials)",
    "poisson": "Poisson (counts)",
    "t": "Student t (normal with heavier tails)",
    "negativebinomial": "negative binomial (overdispersed counts)",
    "gamma": "gamma (positive)",
    "beta": "beta (between 0 and 1)",
    "beta_binomial": "beta-binomial (overdispersed successes out of trials)",
    "zero_inflated_poisson": "zero-inflated Poisson (counts)",
    "zero_inflated_negativebinomial": "zero-inflated negative binomial (counts)",
}
_SCALES = {
    "identity": "The mean itself is the sum of the effects below.",
    "logit": "The effects add up on the logit scale: the logarithm of the odds of success.",
    "log": "The effects add up on the log scale: on the scale of the response they multiply.",
}


def family_name(name: str) -> str:
    """Return what a family is called in a sentence."""
    return _FAMILIES.get(name, name.replace("_", " "))


def number(value: object, digits: int = 4) -> str:
    """Return a number with a few significant digits; "not known" for NaN, text as it is."""
    if isinstance(value, str) or value is None:
        return value or ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return "not known"
        if abs(value) >= 10**digits and np.isfinite(value):
            return f"{value:,.0f}"
        return f"{value:#.{digits}g}".removesuffix(".")
    return str(value)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names joined by commas, the first ones only where they are many."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def model_sentences(model: Model) -> list[str]:
    """Return what the model says, a sentence an entry."""
    design, family = model.design, model.family
    kind = family_name(family.name)
    scale = _SCALES.get(family.link, f"The effects add up on the {family.link} scale.")
    out = [f"Each value of {design.response} is {kind} around a mean of its own. {scale}"]
    if design.by_level:
        return [*_by_level(model), *_parameters(model), *_additions(model)]
    if design.thresholds:
        out = [
            f"Each value of {design.response} is one of ordered categories: "
            f"{listed(design.response_levels)}. Cutpoints on the {family.link} scale part them; "
            "the effects add up to what is subtracted from each cutpoint."
        ]
    elif design.response_levels:
        failure, success = design.response_levels
        out.append(f"Success is {success}, failure is {failure}.")
    if design.coefs:
        out.append(f"The same for all rows (population): {listed(design.coefs)}.")
    else:
        out.append("The formula has no population coefficients.")
    for term in design.terms:
        what = listed(term.coefs)
        plural = len(term.coefs) > 1
        together = ""
        if plural:
            together = ", correlated with each other" if term.correlated else ", uncorrelated"
        out.append(
            f"Each of the {len(term.levels):,} levels of {term.group} has its own "
            f"deviation{'s' if plural else ''} for {what}{together}. They are drawn from a normal "
            "distribution whose spread the data inform: that is what pools the groups."
        )
    if not design.terms:
        out.append("The formula has no bars: a plain regression, without groups to pool.")
    return out + _parameters(model) + _residuals(model) + _additions(model)


def _by_level(model: Model) -> list[str]:
    """Return sentences on a response whose levels have a linear predictor each."""
    design, family = model.design, model.family
    levels = listed(design.response_levels)
    if family.response == "levels":
        head = f"Each value of {design.response} is one of {levels}, which have no order."
    else:
        head = f"Each row of {design.response} holds counts of {levels}."
    if family.link == "softmax":
        scale = (
            "The effects of each level add up to the logarithm of its odds against the reference, "
            f"{design.response_levels[0]}; probabilities of all levels add up to 1."
        )
    else:
        scale = (
            "The effects of each level add up to the logarithm of its concentration: its share is "
            "that over the sum of all, which says how alike the shares of rows are."
        )
    return [head, scale]


def _parameters(model: Model) -> list[str]:
    """Return sentences on the family's parameters besides the mean."""
    designs = {part.name: part for part in model.design.parameters}
    out = []
    for own in model.resolved.parameters:
        if own.linear and model.design.by_level:
            coefs = listed(designs[own.name].coefs) or "no coefficients"
            bars = [term.group for term in designs[own.name].terms]
            out.append(f"{own.name}: {coefs}{f'; effects by {listed(bars)}' if bars else ''}.")
        elif own.linear:
            groups = [term.group for term in designs[own.name].terms]
            varies = f"; effects vary by {listed(groups)}" if groups else ""
            coefs = listed(designs[own.name].coefs) or "none"
            link = f"on the {own.link} scale"
            out.append(f"{own.name} has a formula of its own, {link}: {coefs}{varies}.")
        elif own.name != "cutpoints":
            out.append(f"The parameter {own.name} is the same for all rows.")
    return out


_STRUCTURES = {
    "ar": "Residuals of one {group} are correlated, the less the further apart in {time}: "
    "ar to the power of the distance.",
    "cosy": "Residuals of one {group} are all correlated alike, by cosy.",
    "unstr": "Residuals of one {group} have a sd at each value of {time} and a correlation for "
    "each pair of them.",
}


def _residuals(model: Model) -> list[str]:
    """Return sentences on residuals that are correlated or differ in spread."""
    residual = model.design.residual
    if residual is None or residual.simple:
        return []
    out = []
    sigma = residual.sigma
    if sigma is not None and sigma.kind == "linear":
        out.append("The logarithm of the residual sd is a linear function of its own predictors.")
    elif sigma is not None and sigma.kind == "strata" and residual.structure != "unstr":
        out.append(f"Residuals have a sd for each of {listed(sigma.labels)}.")
    if residual.term is not None:
        time = "" if residual.term.time is None else residual.term.time.label
        sentence = _STRUCTURES[residual.structure]
        out.append(sentence.format(group=residual.term.group_name, time=time))
    return [*out, residual.note] if residual.note else out


def _additions(model: Model) -> list[str]:
    """Return sentences on offset, weights, precision and standard errors."""
    design, formula = product_rows(model.design), model.design.formula
    out = []
    if np.any(design.offset):
        out.append("An offset with coefficient 1 is added to the linear predictor.")
    counted = counted_column(design)
    if counted is not None:
        out.append(
            f"Rows that agree in every column were counted together: {counted} in the formula is "
            "how many they are, and multiplies their log likelihood."
        )
    elif "weights" in formula.additions:
        out.append("weights() multiplies the log likelihood of each row.")
    if "precision" in formula.additions:
        out.append("precision() divides the residual variance of each row.")
    if "se" in formula.additions:
        also = "beside" if design.se_with_sigma else "in place of"
        out.append(f"se() gives each row a known standard error, {also} an estimated residual sd.")
    return out


def dropped_sentence(model: Model) -> str:
    """Return how many rows were used, how many dropped, and why."""
    design = model.design
    used = f"{design.n_rows:,} rows were used"
    if isinstance(design.whole, Counted):
        used += f", counted together as {design.n:,} distinct ones"
    elif isinstance(design, RowlessDesign):
        used += ", read in passes and kept as sums of their products"
    return f"{used}; {design.dropped}." if design.dropped.n else f"{used}; none was dropped."


def diagnosis_rows(found: Diagnosis) -> list[tuple[str, str, str]]:
    """Return the sampler's figures: what, value, where the worst one is."""
    rows = [
        ("chains and draws kept of each", f"{found.n_chains} x {found.n_draws:,}", ""),
        ("divergent draws", f"{found.n_divergent:,}", ""),
        ("largest R-hat", number(found.r_hat), found.r_hat_name),
        ("smallest bulk ESS", _whole(found.ess_bulk), found.ess_bulk_name),
        ("smallest tail ESS", _whole(found.ess_tail), found.ess_tail_name),
    ]
    if found.n_max_depth:
        rows.append(("draws cut off at the largest tree depth", f"{found.n_max_depth:,}", ""))
    return rows


def _whole(value: float) -> str:
    return "not known" if np.isnan(value) else f"{value:,.0f}"


# --- what is seen in a picture ----------------------------------------------------------------


def caterpillar_alt(rows: pd.DataFrame, group: str, effect: str, most: int) -> str:
    """Return what the caterpillar of one effect shows."""
    order = rows.sort_values("mean")
    low, high = order.iloc[0], order.iloc[-1]
    apart = int(((rows["ci_low"] > 0) | (rows["ci_high"] < 0)).sum())
    shown = f"{most} of {len(rows):,}" if len(rows) > most else f"all {len(rows):,}"
    return (
        f"Caterpillar plot of the effects of {effect} by {group}, {shown} levels in order: "
        f"posterior means from {number(low['mean'])} ({low['level']}) to {number(high['mean'])} "
        f"({high['level']}), each with its 95 % interval; {apart} of {len(rows):,} intervals "
        "lie wholly on one side of 0."
    )


def shrinkage_alt(rows: pd.DataFrame, group: str) -> str:
    """Return what the shrinkage picture of a factor shows, effect by effect."""
    parts = []
    for effect, mine in rows.groupby("effect", sort=False):
        known = mine.dropna(subset=["no_pool"])
        if len(known) > 1:
            parts.append(
                f"{effect}: own estimates spread over {number(known['no_pool'].min())} to "
                f"{number(known['no_pool'].max())}, partially pooled ones over "
                f"{number(mine['mean'].min())} to {number(mine['mean'].max())}"
            )
    missing = int(rows.drop_duplicates("level")["no_pool"].isna().sum())
    lost = f"; {missing:,} levels have no own estimate" if missing else ""
    return (
        f"Shrinkage by {group}: each level's own estimate is joined to its partially pooled one, "
        f"nearer to the population. {'; '.join(parts)}{lost}."
    )


def groups_alt(lines: pd.DataFrame, points: pd.DataFrame, response: str) -> str:
    """Return what the panels show."""
    levels = list(dict.fromkeys(str(v) for v in lines["level"]))
    shown = f"{int(points['n'].sum()):,} rows of data, " if len(points) else ""
    along = lines.attrs["x"] or "row number within the group"
    first, last = (lines[lines["level"] == v] for v in (levels[0], levels[-1]))
    ends = [
        f"{v}: partial pooling goes from {number(part['partial'].iloc[0])} to "
        f"{number(part['partial'].iloc[-1])}"
        for v, part in ((levels[0], first), (levels[-1], last))
    ]
    return (
        f"{len(levels)} panels, one a level of {lines.attrs['group']}, of {response} against "
        f"{along} from {number(float(lines['x'].min()))} to {number(float(lines['x'].max()))}: "
        f"{shown}one regression for all, one for each group, and partial "
        f"pooling with its band. {'; '.join(ends)}."
    )


def varcorr_alt(table: pd.DataFrame) -> str:
    """Return what the densities show: mean and interval of each quantity."""
    rows = table.drop_duplicates("quantity")
    parts = [
        f"{q}: mean {number(float(m))}, 95 % interval {number(float(a))} to {number(float(b))}, "
        f"prior {prior or 'not known'}"
        for q, m, a, b, prior in rows[["quantity", "mean", "ci_low", "ci_high", "prior"]].to_numpy()
    ]
    return f"Posterior densities against their priors. {'; '.join(parts)}."


def rivals_alt(table: pd.DataFrame, first: str) -> str:
    """Return what the picture of rivals shows."""
    parts = [
        f"{name}: posterior mean {number(float(mean))}, {first} {number(float(other))}"
        for name, mean, other in zip(table.index, table["mean"], table[first], strict=True)
    ]
    return f"Posterior means with 95 % intervals beside other estimates. {'; '.join(parts)}."


def pooling_alt(table: pd.DataFrame, group: str) -> str:
    """Return what the picture of pooling factors shows, effect by effect."""
    parts = []
    for effect, factor in table.groupby("effect", sort=False)["pooling_factor"]:
        ends = f"{number(factor.min(), 2)} to {number(factor.max(), 2)}"
        parts.append(f"{effect}: {ends}, mean {number(factor.mean(), 2)}")
    return (
        f"Pooling factors of the levels of {group} against their numbers of rows, from "
        f"{table['n'].min():,} to {table['n'].max():,}; 0 is the own estimate, 1 the population. "
        f"{'; '.join(parts)}."
    )


def distance_alt(table: pd.DataFrame, group: Group) -> str:
    """Return what the picture of distances by size shows."""
    rows = table[table["effect"] == group.coefs[0]]
    distance = (rows["mean"] - rows["no_pool"]).abs()
    small = rows["n"] <= rows["n"].median()
    return (
        f"How far partial pooling moves {group.coefs[0]} of each level of {group.name} from its "
        f"own estimate, against its number of rows: median {number(distance[small].median())} "
        f"among the half with fewer rows, {number(distance[~small].median())} among the others."
    )

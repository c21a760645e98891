"""A model in print: what is worth knowing about its data, its groups, priors and engine."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hiermodels.engines.choice import Choice
from hiermodels.spec.additions import Censoring, Truncation
from hiermodels.spec.counted import counted_column
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.predictors import Group, Predictor
from hiermodels.spec.whole import Counted


def notes(design: Design) -> list[str]:
    """Return what is worth knowing about the data, a sentence each."""
    found = []
    if design.reading is not None:
        found.append(f"{design.reading}.")
    if design.dropped.n:
        found.append(f"{design.dropped}.")
    if design.thresholds:
        found.append(f"{design.response}: categories {' < '.join(design.response_levels)}.")
    elif design.by_level:
        found.append(f"{design.response}: {_levels(design)}.")
    elif design.response_levels:
        failure, success = design.response_levels
        found.append(f"{design.response}: success is {success!r}, failure is {failure!r}.")
    if design.censoring is not None:
        found.append(_censored(design.censoring))
    if design.truncation is not None:
        found.append(_truncated(design.truncation))
    # rows that were counted have weights that nobody wrote
    if "weights" in design.formula.additions and not isinstance(design.whole, Counted):
        found.append(
            "weights() multiplies each row's log likelihood; for variances "
            "sigma²/w, as in lme4, write precision()."
        )
    if "precision" in design.formula.additions:
        found.append("precision() divides each row's variance: sigma²/w, as lme4's weights.")
    if design.residual is not None and design.residual.note:
        found.append(design.residual.note)
    return found


def _rows(design: Design) -> str:
    """Return how many rows there are, and how many stand for them."""
    if isinstance(design.whole, Counted):
        column = counted_column(design)
        counted = "" if column is None else f", counted in {column}"
        return f"{design.whole.n:,} rows ({design.n:,} distinct{counted})"
    return f"{design.n:,} rows"


def _levels(design: Design) -> str:
    """Return a response's levels, and what their linear predictors stand for."""
    first, *others = design.response_levels
    if len(design.parameters) > len(others):
        return f"counts of {', '.join(design.response_levels)}, each with a linear predictor"
    return f"reference {first!r}; log odds against it of {', '.join(map(repr, others))}"


def _count(part: Predictor) -> str:
    """Return how many coefficients a linear predictor has."""
    size = len(part.coefs)
    cutpoints = f" and {part.thresholds} cutpoints" if part.thresholds else ""
    return f"{size} population coefficient{'s' * (size != 1)}{cutpoints}"


def _group_text(group: Group) -> str:
    """Return one grouping's levels, rows and effects."""
    rows = group.n_rows
    per = f"{rows.min()}" if rows.min() == rows.max() else f"{rows.min()} to {rows.max()}"
    return (
        f"Group {group.name}: {len(group.levels):,} levels, {per} rows each "
        f"(median {np.median(rows):g}); {', '.join(group.coefs)}"
    )


def _censored(censoring: Censoring) -> str:
    """Return how many responses are bounds."""
    words = {-1: "from above (left)", 1: "from below (right)", 2: "by an interval"}
    counts = {kind: int(np.sum(censoring.kind == kind)) for kind in words}
    said = [f"{count:,} {words[kind]}" for kind, count in counts.items() if count]
    return f"cens(): responses known {', '.join(said)}." if said else "cens(): none is censored."


def _truncated(truncation: Truncation) -> str:
    """Return between what bounds responses are recorded."""
    found = []
    for word, bound in (("from", truncation.lower), ("up to", truncation.upper)):
        if bound is not None:
            low, high = float(bound.min()), float(bound.max())
            found.append(f"{word} {low:g}" if low == high else f"{word} {low:g} to {high:g} by row")
    return f"trunc(): only responses {' '.join(found)} are recorded."


def model_text(
    formula: str,
    family: Family,
    design: Design,
    priors: pd.DataFrame,
    choice: Choice,
    forms: Sequence[bool],
    findings: Sequence[str] = (),
) -> str:
    """Return formula, family, groups, priors, and the engine with the reason for it.

    Parameters
    ----------
    formula : str
    family : Family
    design : Design
    priors : pandas.DataFrame
        The prior table.
    choice : Choice
    forms : sequence of bool
        Of the conditional engine, for each bar whether it is centred; empty otherwise.
    findings : sequence of str
        What lint found, a line each.
    """
    head = [
        f"Model: {formula}",
        f"Family: {family.name} ({family.link} link)",
        f"Data: {_rows(design)}{'' if design.by_level else f', {_count(design)}'}",
        *(f"Note: {note}" for note in notes(design)),
        *(_group_text(group) for group in design.groups),
    ]
    if not design.groups and not design.by_level:
        nothing = "none (a plain regression)" if not design.parameters else "none of the mean"
        head.append(f"Groups: {nothing}")
    for part in design.parameters:
        head.append(f"Parameter {part.name} ({part.link} link): {_count(part)}")
        head += [f"  {_group_text(group)}" for group in part.groups]
    with pd.option_context("display.width", 200, "display.max_colwidth", 60):
        table = priors.to_string(index=False, max_rows=60)
    bars = [
        f"{term.group} {'centred' if form else 'non-centred'}"
        for term, form in zip(design.terms, forms, strict=False)
    ]
    engine = f"Engine: {choice.engine} ({choice.reason}){'; ' * bool(bars)}{'; '.join(bars)}"
    found = [f"Finding: {line}" for line in findings]
    return "\n".join([*head, "Priors:", table, engine, *found])

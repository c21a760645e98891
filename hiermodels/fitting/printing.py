"""A model in print: what is worth knowing about its data, its groups, priors and engine."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hiermodels.engines.choice import Choice
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family


def notes(design: Design) -> list[str]:
    """Return what is worth knowing about the data, a sentence each."""
    found = []
    if design.dropped.n:
        found.append(f"{design.dropped}.")
    if design.response_levels:
        failure, success = design.response_levels
        found.append(f"{design.response}: success is {success!r}, failure is {failure!r}.")
    if design.weights is not None:
        found.append(
            "weights() multiplies each row's log likelihood; for variances "
            "sigma²/w, as in lme4, write precision()."
        )
    if design.precision is not None:
        found.append("precision() divides each row's variance: sigma²/w, as lme4's weights.")
    if design.residual is not None and design.residual.note:
        found.append(design.residual.note)
    return found


def model_text(
    formula: str,
    family: Family,
    design: Design,
    priors: pd.DataFrame,
    choice: Choice,
    forms: Sequence[bool],
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
    """
    head = [
        f"Model: {formula}",
        f"Family: {family.name} ({family.link} link)",
        f"Data: {design.n:,} rows, {len(design.coefs)} population coefficients",
        *(f"Note: {note}" for note in notes(design)),
    ]
    for group in design.groups:
        rows = group.n_rows
        per = f"{rows.min()}" if rows.min() == rows.max() else f"{rows.min()} to {rows.max()}"
        head.append(
            f"Group {group.name}: {len(group.levels):,} levels, {per} rows each "
            f"(median {np.median(rows):g}); {', '.join(group.coefs)}"
        )
    if not design.groups:
        head.append("Groups: none (a plain regression)")
    with pd.option_context("display.width", 200, "display.max_colwidth", 60):
        table = priors.to_string(index=False, max_rows=60)
    bars = [
        f"{term.group} {'centred' if form else 'non-centred'}"
        for term, form in zip(design.terms, forms, strict=False)
    ]
    engine = f"Engine: {choice.engine} ({choice.reason}){'; ' * bool(bars)}{'; '.join(bars)}"
    return "\n".join([*head, "Priors:", table, engine])

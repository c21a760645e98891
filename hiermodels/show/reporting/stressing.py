"""The page on how a fit answers to other priors."""

from pathlib import Path

import pandas as pd

from hiermodels.answers.checking import diagnose
from hiermodels.answers.moved import MANY, PriorSensitivity
from hiermodels.fitting.fit import Fit
from hiermodels.show.plots.stress import plot_prior_sensitivity
from hiermodels.show.reporting.blocks import Block, Section, picture, table, text
from hiermodels.show.reporting.writing import page_html, write_page

_SHIFT = {
    "quantity": "quantity",
    "alternative": "alternative",
    "baseline": "mean",
    "baseline_sd": "sd",
    "mean": "mean there",
    "sd": "sd there",
    "shift": "shift in sds",
    "verdict": "verdict",
}
_WAYS = (
    "An alternative is reached by weighting the fit's draws where Pareto smoothing allows (k up to "
    "0.7), and fitted again elsewhere. Shifts are differences of posterior means in posterior sds "
    "of the fit: below 0.1 a quantity stays, up to 0.5 it moves a little, up to 1 it moves, beyond "
    "that it hangs on the prior."
)


def write_sensitivity(fit: Fit, found: PriorSensitivity, path: str | Path) -> Path:
    """Write the page on a fit's sensitivity to its priors, self-contained.

    Parameters
    ----------
    fit : Fit
    found : PriorSensitivity
    path : path-like

    Returns
    -------
    pathlib.Path
    """
    parts = (
        Section("verdict", "Verdict", _verdict(found)),
        Section("alternatives", "Alternatives", _alternatives(found)),
        Section("quantities", "What moves", _quantities(found)),
        Section("scaling", "Power-scaling", _scaling(found)),
        Section("priors", "Priors of the fit", (_priors(fit),)),
    )
    title = f"Priors of {fit.model.design.response} under stress"
    return write_page(page_html(fit, title, parts, diagnose(fit)), Path(path))


def _verdict(found: PriorSensitivity) -> tuple[Block, ...]:
    """Return the worst case, its picture, and what was left out."""
    blocks = [text(found.verdict)]
    if len(found.table):
        alt = f"Shifts of the posterior means by alternative prior. {found.verdict}"
        blocks.append(picture(plot_prior_sensitivity(found), alt))
    return (*blocks, text(_WAYS), *(text(note) for note in found.notes))


def _alternatives(found: PriorSensitivity) -> tuple[Block, ...]:
    names = {
        "alternative": "alternative",
        "method": "reached by",
        "pareto_k": "Pareto k",
        "ess": "effective draws",
        "largest_shift": "largest shift in sds",
        "quantity": "of",
        "verdict": "verdict",
    }
    return (table(found.alternatives, "Alternatives, the worst first", names),)


def _quantities(found: PriorSensitivity) -> tuple[Block, ...]:
    """Return the worst case of every quantity, pooling factors and ranks folded."""
    if not len(found.table):
        return (text("No alternative was reached."),)
    worst = found.worst
    many = worst["kind"].isin(MANY)
    shown = table(worst[~many], "Parameters and shares, each under its worst alternative", _SHIFT)
    if not many.any():
        return (shown,)
    caption = "Pooling factors and ranks of the groups"
    return shown, table(worst[many].head(400), caption, _SHIFT, hidden=True)


def _scaling(found: PriorSensitivity) -> tuple[Block, ...]:
    """Return the sensitivities to power-scaling."""
    if found.scaling is None:
        return (text("Priors and likelihood were not power-scaled."),)
    frame = found.scaling
    unknown = [name for name in frame.columns if frame[name].isna().all()]
    names = {
        name: str(name).removeprefix("prior_") if name != "prior" else "all priors"
        for name in frame.columns
        if name not in unknown
    }
    note = (
        "How fast the posterior of each parameter changes where a class of priors, or the "
        "likelihood, is raised to a power near 1; above 0.05 it matters. Kallioinen et al. (2024), "
        "doi:10.1007/s11222-023-10366-5."
    )
    return (text(note), table(frame, "Sensitivity to power-scaling", names, index="parameter"))


def _priors(fit: Fit) -> Block:
    priors: pd.DataFrame = fit.model.priors
    names = {"parameter": "parameter", "prior": "prior", "source": "source", "scale": "scale"}
    return table(priors, "Priors", names)

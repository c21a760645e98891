"""A study of a model's priors in a folder: the fit, tables, a picture and a page; it can go on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hiermodels.answers.alternatives import make_alternatives, read_alternatives
from hiermodels.answers.kept_results import ResultFolder, digest
from hiermodels.answers.moved import PriorSensitivity
from hiermodels.answers.prior_stress import stress_priors
from hiermodels.errors import FitError
from hiermodels.fitting.archive import priors_to_dict
from hiermodels.fitting.fit import Fit
from hiermodels.fitting.io import load
from hiermodels.fitting.model import Model
from hiermodels.show.plots.stress import plot_prior_sensitivity
from hiermodels.show.reporting.stressing import write_sensitivity


@dataclass(frozen=True)
class StressPlan:
    """What a study of priors does.

    Attributes
    ----------
    alternatives : Path or None
        A TOML file; None for the grid.
    results : Path
        The folder that keeps the fit and each alternative's results.
    seed, cores : int
    progress : bool
    """

    alternatives: Path | None
    results: Path
    seed: int
    cores: int
    progress: bool


def run_stress(
    model: Model, plan: StressPlan, say: Callable[[str], None]
) -> tuple[Fit, PriorSensitivity | None]:
    """Fit a model, or read its fit, and compare priors; what was done before is not done again.

    Parameters
    ----------
    model : Model
    plan : StressPlan
    say : callable
        Takes what a reader should know on the way.

    Returns
    -------
    fit : Fit
    found : PriorSensitivity or None
        None where the fit was interrupted.

    Raises
    ------
    PriorError
        An alternative names nothing, before anything is fitted.
    FitError
        The folder cannot be written to.
    """
    wanted = None if plan.alternatives is None else read_alternatives(plan.alternatives)
    make_alternatives(model, wanted)
    ResultFolder(plan.results).prepare()
    fit = _fit(model, plan, say)
    if fit.interrupted:
        return fit, None
    say("Comparing priors ...")
    found = stress_priors(
        fit, wanted, folder=plan.results, cores=plan.cores, progress=plan.progress
    )
    return fit, found


def _fit(model: Model, plan: StressPlan, say: Callable[[str], None]) -> Fit:
    """Return the fit that the folder holds of this model, or make and keep it."""
    design = model.design
    priors = priors_to_dict(model.resolved)
    name = digest(
        model.formula.text,
        [model.family.name, model.family.link, model.engine_asked, plan.seed],
        design.data.to_csv().encode(),
        priors,
    )
    path = plan.results / f"fit-{name}.nc"
    if path.is_file():
        try:
            fit = load(path)
        except FitError:
            say(f"{path} cannot be read, and is made anew.")
        else:
            say(f"Going on with the fit kept in {path}.")
            return fit
    say(str(model))
    say("Sampling ...")
    fit = model.fit(seed=plan.seed, progress=plan.progress)
    if not fit.interrupted:
        fit.save(path)
    return fit


def write_stress(fit: Fit, found: PriorSensitivity, folder: Path) -> None:
    """Write tables, picture and page into a folder.

    Parameters
    ----------
    fit : Fit
    found : PriorSensitivity
    folder : Path
        Which gets ``alternatives.csv``, ``quantities.csv``, ``power_scaling.csv``,
        ``sensitivity.png`` and ``sensitivity.html``.
    """
    found.alternatives.to_csv(folder / "alternatives.csv", index=False, lineterminator="\n")
    found.table.to_csv(folder / "quantities.csv", index=False, lineterminator="\n")
    if found.scaling is not None:
        found.scaling.to_csv(folder / "power_scaling.csv", lineterminator="\n")
    plot_prior_sensitivity(found).savefig(folder / "sensitivity.png", dpi=200)
    write_sensitivity(fit, found, folder / "sensitivity.html")

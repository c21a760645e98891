"""The commands: ``demo``, ``fit`` and ``lint DATA FORMULA``, ``study``, ``sensitivity``."""

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import hiermodels as hm
from hiermodels.cli.console import fail, is_terminal, messages, print_table, say
from hiermodels.cli.folders import check_apart, output_folder, tables_of, write_fit
from hiermodels.cli.prior_words import parse_priors
from hiermodels.errors import HierModelsError
from hiermodels.spec.opening import check_place, is_small_file
from hiermodels.spec.sources import read_table

if TYPE_CHECKING:
    from hiermodels.library.studies import Reference

DEMO_FORMULA = "Reaction ~ Days + (Days | Subject)"

BAD_INPUT = 2
INTERRUPTED = 130

# how a model is told to hold the rows, in the package's messages and here
_HOLD = ("hm.Model(formula, source, memory='64 GB')", "--memory '64 GB'")
_SOURCE = "CSV or Parquet: a file, a folder or a pattern in quotes; or duckdb:///file.db?table=t."
_MEMORY = "What the rows may take, such as 4GB; beyond it they are read in passes. 1 GB by default."

app = typer.Typer(
    name="hiermodels",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; those of the process by default.

    Returns
    -------
    int
        0 for success, 2 for bad input, 130 after Ctrl-C, 1 for any other failure.

    Examples
    --------
    >>> from hiermodels.cli import main
    >>> main(["fit"])  # the data and the formula are missing, as one line on stderr says
    2
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with messages():
            code = app(words or ["--help"], prog_name="hiermodels", standalone_mode=False) or 0
    except typer.TyperException as error:
        text = error.format_message()
        if "unexpected extra argument" in text:
            text += ". A pattern of files belongs in quotes: 'trips/*.parquet'."
        return fail(text, error.exit_code)
    except HierModelsError as error:
        return fail(str(error).replace(*_HOLD), BAD_INPUT)
    except OSError as error:
        return fail(f"{error.strerror or error} ({error.filename or 'while writing'})", 1)
    if code == INTERRUPTED:
        print("hiermodels: interrupted", file=sys.stderr)
    return int(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"hiermodels {hm.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Its version."),
    ] = False,
) -> None:
    """Bayesian hierarchical models from a formula and a table, with the pooling visible."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html.")] = Path(),
) -> int:
    """Fit the sleepstudy data, which come with the package, and write report.html."""
    with output_folder(out) as staging:
        say("Reading sleepstudy: reaction times (ms) of 18 subjects over ten days of short sleep.")
        data = hm.load_dataset("sleepstudy")
        fit = _fit(data, DEMO_FORMULA, {}, {"seed": 1})
        say("Writing the report: tables, pictures, and the sampler's verdict ...")
        hm.report(fit, staging / "report.html")
    say(f"The report: {out / 'report.html'}")
    return INTERRUPTED if fit.interrupted else 0


@app.command("fit")
def fit_file(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help=_SOURCE),
    ],
    formula: Annotated[
        str, typer.Argument(metavar="FORMULA", help="For instance 'y ~ x + (x | g)'.")
    ],
    family: Annotated[str, typer.Option(help="gaussian, bernoulli, binomial, poisson.")] = (
        "gaussian"
    ),
    prior: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A prior, such as 'sd_g=HalfNormal(sigma=2)'; may be given several times.",
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each chain.")] = 1000,
    tune: Annotated[int, typer.Option(min=1, help="Draws of each chain to adapt by.")] = 1000,
    chains: Annotated[int, typer.Option(min=1)] = 4,
    cores: Annotated[int | None, typer.Option(min=1, help="All by default.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed, the same draws.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report, the draws and the tables.")] = (
        Path("hiermodels-fit")
    ),
    engine: Annotated[str, typer.Option(help="How the posterior is computed.")] = "auto",
    memory: Annotated[str | None, typer.Option(help=_MEMORY)] = None,
) -> int:
    """Fit FORMULA to the table DATA; write report.html, fit.nc and the tables as CSV."""
    priors = parse_priors(prior or [])
    check_apart(data, out)
    with output_folder(out) as staging:
        say(f"Reading {data} ...")
        sampling = {"draws": draws, "tune": tune, "chains": chains, "cores": cores, "seed": seed}
        options = {"family": family, "priors": priors or None, "engine": engine}
        options |= {} if memory is None else {"memory": memory}
        rows = _rows_of(data, memory)
        if not isinstance(rows, str):
            say(f"{len(rows):,} rows, {len(rows.columns)} columns.")
        fit = _fit(rows, formula, options, sampling)
        write_fit(fit, staging)
    say(f"Written to {out}: report.html, fit.nc and the tables as CSV.")
    return INTERRUPTED if fit.interrupted else 0


@app.command("study")
def fit_study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as pupils; 'list' shows all.")],
    variant: Annotated[
        str | None, typer.Option(help="Which of its models; the main one by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same draws.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the report, the draws and the tables.")] = (
        Path("hiermodels-study")
    ),
) -> int:
    """Fit a model of a study: a question, its data, and what other programs found."""
    if name == "list":
        for key, title in hm.list_studies()["title"].items():
            say(f"{key}: {title}")
        return 0
    study = hm.load_study(name)
    chosen = study.variant(variant)
    frame = study.frame(chosen.name)
    with output_folder(out) as staging:
        say(str(study))
        say(f"\nVariant {chosen.name}, {len(frame):,} rows.")
        formula = chosen.formula if isinstance(chosen.formula, str) else "; ".join(chosen.formula)
        options = {"family": chosen.family, "priors": dict(chosen.priors) or None}
        fit = _fit(frame, formula, options, {"seed": seed})
        for reference in chosen.references.values():
            _print_reference(reference)
        write_fit(fit, staging)
    say(f"Written to {out}: report.html, fit.nc and the tables as CSV.")
    return INTERRUPTED if fit.interrupted else 0


@app.command("lint")
def lint_file(
    data: Annotated[str, typer.Argument(metavar="DATA", help=_SOURCE)],
    formula: Annotated[
        str, typer.Argument(metavar="FORMULA", help="For instance 'y ~ x + (x | g)'.")
    ],
    family: Annotated[str, typer.Option(help="As of fit.")] = "gaussian",
    memory: Annotated[str | None, typer.Option(help=_MEMORY)] = None,
) -> int:
    """Look FORMULA and the table DATA over, without a fit, for what is worth a second thought."""
    options = {} if memory is None else {"memory": memory}
    say(str(hm.lint(formula, _rows_of(data, memory), family, **options)))
    return 0


@app.command("sensitivity")
def stress_fit(
    data: Annotated[
        str, typer.Argument(metavar="STUDY|DATA", help="A study's name, or data as of fit.")
    ],
    formula: Annotated[
        str | None, typer.Argument(metavar="FORMULA", help="With DATA: 'y ~ x + (x | g)'.")
    ] = None,
    alternatives: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="A table of priors for each alternative; a grid of sensible ones by default.",
        ),
    ] = None,
    family: Annotated[str, typer.Option(help="With DATA.")] = "gaussian",
    prior: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A prior of the fit itself; several times."),
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Of a study; the main one by default.")] = (
        None
    ),
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same draws.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Refits that run at a time.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for tables, picture and page.")] = Path(
        "hiermodels-sensitivity"
    ),
) -> int:
    """Say how far other priors would move a fit: CSV, PNG, and sensitivity.html.

    What is done is kept in OUT/results: a run that was stopped goes on where it was.
    """
    # with it comes the sampler, which --help and bad input need not wait for
    from hiermodels.show.reporting.stress_folder import StressPlan, run_stress, write_stress

    model = _model_of(data, formula, family, parse_priors(prior or []), variant)
    plan = StressPlan(alternatives, out / "results", seed, cores, is_terminal())
    with output_folder(out) as staging:
        try:
            fit, found = run_stress(model, plan, say)
        except KeyboardInterrupt:
            found = None
        if found is None:
            return INTERRUPTED
        say(repr(found))
        write_stress(fit, found, staging)
    say(f"Written to {out}: sensitivity.html, sensitivity.png and the tables as CSV.")
    return 0


def _model_of(
    data: str, formula: str | None, family: str, priors: dict[str, str], variant: str | None
) -> "hm.Model":
    """Return the model of a study, or of a file and a formula."""
    if formula is None:
        study = hm.load_study(data)
        chosen = study.variant(variant)
        say(str(study))
        return study.model(chosen.name).with_priors(priors)
    return hm.Model(formula, _rows_of(data), family, priors or None)


def _rows_of(data: str, memory: str | None = None) -> Any:
    """Return a small file as a data frame, a source as it is."""
    check_place(data)
    if memory is not None or not is_small_file(data):
        return data
    return read_table(data)


def _fit(
    data: Any, formula: str, options: dict[str, Any], sampling: dict[str, Any]
) -> "hm.Fit":  # as text: evaluating it would load the sampler
    """Return the fit, after printing the model before it and the tables after it."""
    say("Loading the sampler ...")
    logger = logging.getLogger("hiermodels")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the printed model holds what is logged here
    try:
        model = hm.Model(formula, data, **options)
    finally:
        logger.setLevel(level)
    say(str(model))
    say(
        "Compiling the model and sampling: the first run on a machine compiles for up to a "
        "minute, later ones do not ..."
    )
    start = time.perf_counter()
    fit = model.fit(**sampling, progress=is_terminal())
    seconds = time.perf_counter() - start
    if fit.interrupted:
        say(f"Interrupted after {seconds:.1f} s; what was drawn so far is kept.")
    else:
        say(f"Sampled in {seconds:.1f} s.")
    for name, table in tables_of(fit).items():
        if name != "coef":  # population plus group effect: both are printed already
            print_table(name, table)
    return fit


def _print_reference(reference: "Reference") -> None:
    """Print what another program found."""
    found = ", ".join(f"{key} {value:.4g}" for key, value in reference.estimates.items())
    loglik = "" if reference.loglik is None else f", log-likelihood {reference.loglik:.4f}"
    say(f"{reference.tool}, {reference.method}{loglik}: {found}")

"""The command line: ``demo``, ``fit DATA FORMULA``, ``study NAME``, ``sensitivity``.

Exit codes: 0 for success, 2 with one line on stderr for input that cannot be used, 130 after
Ctrl-C (what was drawn by then is saved), 1 for anything else.
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import pandas as pd
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

import hiermodels as hm
from hiermodels.errors import DataError, HierModelsError, PriorError, SamplingWarning
from hiermodels.spec.sources import read_table

if TYPE_CHECKING:
    from hiermodels.library.studies import Reference

DEMO_FORMULA = "Reaction ~ Days + (Days | Subject)"
TABLES = ("fixef", "varcorr", "correlations", "ranef", "coef")
"""The accessors of a fit that are written as CSV; each file bears the name of its accessor."""

BAD_INPUT = 2
INTERRUPTED = 130
_MOST_ROWS = 40

app = typer.Typer(
    name="hiermodels",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)


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
        with _messages():
            code = app(words or ["--help"], prog_name="hiermodels", standalone_mode=False) or 0
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except HierModelsError as error:
        return _fail(str(error), BAD_INPUT)
    except OSError as error:
        return _fail(f"{error.strerror or error} ({error.filename or 'while writing'})", 1)
    if code == INTERRUPTED:
        print("hiermodels: interrupted", file=sys.stderr)
    return int(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        _say(f"hiermodels {hm.__version__}")
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
    with _output_folder(out) as staging:
        _say("Reading sleepstudy: reaction times (ms) of 18 subjects over ten days of short sleep.")
        data = hm.load_dataset("sleepstudy")
        fit = _fit(data, DEMO_FORMULA, {}, {"seed": 1})
        _say("Writing the report: tables, pictures, and the sampler's verdict ...")
        hm.report(fit, staging / "report.html")
    _say(f"The report: {out / 'report.html'}")
    return INTERRUPTED if fit.interrupted else 0


@app.command("fit")
def fit_file(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A CSV or Parquet file.")],
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
) -> int:
    """Fit FORMULA to the table DATA; write report.html, fit.nc and the tables as CSV."""
    priors = _parse_priors(prior or [])
    if data.resolve() in {(out / f"{name}.csv").resolve() for name in TABLES}:
        raise DataError(f"{str(data)!r} would be overwritten by a table; give another --out.")
    with _output_folder(out) as staging:
        _say(f"Reading {data} ...")
        frame = read_table(data)
        _say(f"{len(frame):,} rows, {len(frame.columns)} columns.")
        sampling = {"draws": draws, "tune": tune, "chains": chains, "cores": cores, "seed": seed}
        options = {"family": family, "priors": priors or None, "engine": engine}
        fit = _fit(frame, formula, options, sampling)
        _write(fit, staging)
    _say(f"Written to {out}: report.html, fit.nc and the tables as CSV.")
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
            _say(f"{key}: {title}")
        return 0
    study = hm.load_study(name)
    chosen = study.variant(variant)
    frame = study.frame(chosen.name)
    with _output_folder(out) as staging:
        _say(str(study))
        _say(f"\nVariant {chosen.name}, {len(frame):,} rows.")
        formula = chosen.formula if isinstance(chosen.formula, str) else "; ".join(chosen.formula)
        options = {"family": chosen.family, "priors": dict(chosen.priors) or None}
        fit = _fit(frame, formula, options, {"seed": seed})
        for reference in chosen.references.values():
            _print_reference(reference)
        _write(fit, staging)
    _say(f"Written to {out}: report.html, fit.nc and the tables as CSV.")
    return INTERRUPTED if fit.interrupted else 0


@app.command("sensitivity")
def stress_fit(
    data: Annotated[
        str, typer.Argument(metavar="STUDY|DATA", help="A study's name, or a CSV or Parquet file.")
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

    model = _model_of(data, formula, family, _parse_priors(prior or []), variant)
    plan = StressPlan(alternatives, out / "results", seed, cores, _err.is_terminal)
    with _output_folder(out) as staging:
        try:
            fit, found = run_stress(model, plan, _say)
        except KeyboardInterrupt:
            found = None
        if found is None:
            return INTERRUPTED
        _say(repr(found))
        write_stress(fit, found, staging)
    _say(f"Written to {out}: sensitivity.html, sensitivity.png and the tables as CSV.")
    return 0


def _model_of(
    data: str, formula: str | None, family: str, priors: dict[str, str], variant: str | None
) -> "hm.Model":
    """Return the model of a study, or of a file and a formula."""
    if formula is None:
        study = hm.load_study(data)
        chosen = study.variant(variant)
        _say(str(study))
        return study.model(chosen.name).with_priors(priors)
    frame = read_table(Path(data))
    return hm.Model(formula, frame, family, priors or None)


def _print_reference(reference: "Reference") -> None:
    """Print what another program found."""
    found = ", ".join(f"{key} {value:.4g}" for key, value in reference.estimates.items())
    loglik = "" if reference.loglik is None else f", log-likelihood {reference.loglik:.4f}"
    _say(f"{reference.tool}, {reference.method}{loglik}: {found}")


def _write(fit: "hm.Fit", folder: Path) -> None:
    """Write draws, tables and the report."""
    _say("Writing the draws, the tables and the report ...")
    fit.save(folder / "fit.nc")
    for name, table in _tables(fit).items():
        label = table.index.name
        table.to_csv(folder / f"{name}.csv", index=label is not None, lineterminator="\n")
    hm.report(fit, folder / "report.html")


def _fit(
    data: pd.DataFrame, formula: str, options: dict[str, Any], sampling: dict[str, Any]
) -> "hm.Fit":  # as text: evaluating it would load the sampler
    """Return the fit, after printing the model before it and the tables after it."""
    _say("Loading the sampler ...")
    logger = logging.getLogger("hiermodels")
    level = logger.level
    logger.setLevel(logging.WARNING)  # the printed model holds the notes that are logged here
    try:
        model = hm.Model(formula, data, **options)
    finally:
        logger.setLevel(level)
    _say(str(model))
    _say(
        "Compiling the model and sampling: the first run on a machine compiles for up to a "
        "minute, later ones do not ..."
    )
    start = time.perf_counter()
    fit = model.fit(**sampling, progress=_err.is_terminal)
    seconds = time.perf_counter() - start
    if fit.interrupted:
        _say(f"Interrupted after {seconds:.1f} s; what was drawn so far is kept.")
    else:
        _say(f"Sampled in {seconds:.1f} s.")
    for name, table in _tables(fit).items():
        if name != "coef":  # population plus group effect: both are printed already
            _print_table(name, table)
    return fit


def _tables(fit: "hm.Fit") -> dict[str, pd.DataFrame]:
    """Return the tables of a fit by name; without groups, the coefficients alone."""
    names = TABLES if fit.model.design.groups else TABLES[:1]
    return {name: getattr(fit, name)() for name in names}


_TITLES = {
    "fixef": "Population coefficients",
    "varcorr": "Variance components",
    "correlations": "Correlations of the group effects",
    "ranef": "Group effects (deviations from the population)",
}


def _print_table(name: str, frame: pd.DataFrame) -> None:
    """Print the first rows of a table, and say how many there are."""
    if frame.empty:
        return
    shown = frame.head(_MOST_ROWS)
    more = len(frame) - len(shown)
    caption = f"the first {len(shown)} of {len(frame):,} rows" if more else None
    # Light rules and narrow gaps: eight columns of numbers have to fit a terminal of 80 characters.
    table = Table(
        title=_TITLES[name], caption=caption, box=SIMPLE_HEAD, title_justify="left",
        collapse_padding=True,
    )  # fmt: skip
    labelled = shown.reset_index() if shown.index.name else shown
    for column in labelled.columns:
        numeric = pd.api.types.is_numeric_dtype(labelled[column])
        # Where there is no room, names are folded; a number is never cut.
        table.add_column(
            Text(str(column)), justify="right" if numeric else "left", no_wrap=numeric,
            overflow="fold",
        )  # fmt: skip
    for row in labelled.itertuples(index=False):
        cells = zip(row, labelled.columns, strict=True)
        table.add_row(*(Text(_cell(value, str(column))) for value, column in cells))
    _out.print(table)


def _cell(value: object, column: str) -> str:
    """Return a number with four digits, sample sizes and R-hat as usual, all else as text."""
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return "–"
    if column == "r_hat":
        return f"{value:.3f}"
    if column.startswith("ess_") or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".")


def _parse_priors(texts: Sequence[str]) -> dict[str, str]:
    """Return key -> text of KEY=VALUE words; the split is the first = outside brackets."""
    priors: dict[str, str] = {}
    for text in texts:
        depth = 0
        at = -1
        for position, character in enumerate(text):
            depth += (character in "([") - (character in ")]")
            if character == "=" and depth == 0:
                at = position
                break
        key, value = text[:at].strip(), text[at + 1 :].strip()
        if at < 0 or not key or not value:
            raise PriorError(
                f"--prior {text!r} is not KEY=VALUE; write for instance "
                "--prior 'sd=HalfNormal(sigma=2)'."
            )
        if key in priors:
            raise PriorError(f"--prior gives {key!r} twice; give each key once.")
        priors[key] = value
    return priors


@contextlib.contextmanager
def _output_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into, whose files are moved to ``out`` once all are complete.

    ``out`` is tried before anything is computed: a fit that cannot be written down is lost time.
    """
    existing = out.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        # On the same file system as ``out``, so that moving a file is one step.
        staging = Path(tempfile.mkdtemp(prefix=".hiermodels-", dir=existing))
    except OSError as error:
        raise DataError(
            f"--out {str(out)!r} cannot be written to ({error.strerror}); give another folder."
        ) from error
    try:
        yield staging
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(staging.iterdir()):
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Send the package's log and its warnings to stderr as plain lines."""
    logger = logging.getLogger("hiermodels")
    handler = logging.StreamHandler(sys.stderr)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            usual = warnings.showwarning

            def show(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                if issubclass(category, SamplingWarning):
                    print(f"warning: {message}", file=sys.stderr)
                else:
                    usual(message, category, filename, lineno, file, line)

            warnings.simplefilter("always", SamplingWarning)
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _say(text: str) -> None:
    _out.print(text, markup=False, highlight=False, soft_wrap=True)


def _fail(message: str, code: int) -> int:
    """Print one line on stderr and return the exit code."""
    print(f"hiermodels: error: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """Return a message as one line; a place underlined by ^ is put between » and «."""
    lines: list[str] = []
    for line in message.splitlines():
        marks = line.strip()
        if lines and marks and set(marks) == {"^"}:
            start = line.index("^")
            above = lines.pop().ljust(start)
            end = start + len(marks)
            line = f"{above[:start]}»{above[start:end]}«{above[end:]}"
        lines.append(line)
    return " ".join(" ".join(lines).split())

"""The report: one page that needs nothing but itself."""

import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from hiermodels.answers.checking import diagnose
from hiermodels.answers.rows import all_groups
from hiermodels.errors import FitError
from hiermodels.fitting.diagnostics import Diagnosis
from hiermodels.fitting.fit import Fit
from hiermodels.show.reporting.blocks import Section
from hiermodels.show.reporting.sections import sections


def report_html(fit: Fit) -> str:
    """Return the report as the text of an HTML page.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    str
        Self-contained: styles and pictures are inside, there are no scripts, and the page itself
        forbids every request. Names from data and formula are escaped.
    """
    found = diagnose(fit)
    design = fit.model.design
    groups = ", ".join(all_groups(design) if design.by_level else [g.name for g in design.groups])
    title = f"{design.response} by {groups}" if groups else f"A regression of {design.response}"
    return page_html(fit, title, sections(fit, found), found)


def page_html(fit: Fit, title: str, parts: Sequence[Section], found: Diagnosis) -> str:
    """Return a page about a fit as the text of an HTML page.

    Parameters
    ----------
    fit : Fit
    title : str
    parts : sequence of Section
    found : Diagnostics
        The verdict on the draws, which heads the page.
    """
    environment = Environment(
        loader=PackageLoader("hiermodels.show.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        formula=str(fit.model.formula),
        diagnosis=found,
        sections=parts,
    )


def write_report(fit: Fit, path: str | os.PathLike[str] = "report.html") -> Path:
    """Write the report of a fit as one self-contained HTML file.

    The file is complete or not there: it is written beside its place and then moved, so that a
    report that fails half-way leaves an older one whole.

    Parameters
    ----------
    fit : Fit
    path : path-like
        A file, or an existing folder, which then gets ``report.html``.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    FitError
        The folder does not exist.
    """
    target = Path(path)
    if target.is_dir():
        target = target / "report.html"
    if not target.parent.is_dir():
        raise FitError(
            f"got path={str(path)!r}, whose folder {str(target.parent)!r} does not exist: make it "
            "first, or write elsewhere"
        )
    return write_page(report_html(fit), target)


def write_page(page: str, target: Path) -> Path:
    """Write a page in one step: an older file stays whole if writing fails."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return target

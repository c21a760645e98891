"""What lint can see without a fit: every check of a design, in milliseconds."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hiermodels.errors import DataError
from hiermodels.spec.design import Design
from hiermodels.spec.families import Family
from hiermodels.spec.findings_catalogue import KINDS, Finding, Findings
from hiermodels.spec.findings_groups import crossed_nesting, few_levels, level_sizes, reused_labels
from hiermodels.spec.findings_predictors import different_scales, mixed_slopes, nearly_collinear
from hiermodels.spec.findings_responses import (
    count_findings,
    gaussian_response,
    separation,
    time_gaps,
)
from hiermodels.spec.findings_slopes import (
    constant_slopes,
    far_origins,
    missing_population_effects,
    unreplicated_cells,
)
from hiermodels.spec.predictors import Predictor, Term

MOST_NUMBERS: Final = 10_000_000
"""With more numbers than this in the model matrices, rows are not looked at."""


def find_in_design(design: Design, family: Family) -> Findings:
    """Look a design over for what a reader who knows mixed models would ask about.

    Parameters
    ----------
    design : Design
    family : Family

    Returns
    -------
    Findings
        In the order of the catalogue. Nothing is fitted and nothing is changed; the cost is a few
        passes over the rows, and beyond memory rows are left alone, which ``skipped`` says.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> find_in_design(model.design, model.family).codes
    ()
    """
    parts: tuple[Predictor, ...] = (design, *design.parameters)
    found = [finding for part in parts for finding in few_levels(part)]
    held = _holds_rows(design)
    if held or not design.formula.additions:
        found += [f for part in parts for f in level_sizes(design, part, family)]
    skipped: tuple[str, ...] = ()
    numbers = design.n * sum(
        len(part.coefs) + sum(len(term.coefs) for term in part.terms) for part in parts
    )
    if not held or numbers > MOST_NUMBERS:
        why = f"with {numbers:,} numbers in the model matrices" if held else "as none is held"
        skipped = (f"the {design.n:,} rows: {why} only the sizes of groupings were looked at.",)
    else:
        found += list(_in_rows(_unkept(design), family))
    order = {code: k for k, code in enumerate(KINDS)}
    return Findings(tuple(sorted(found, key=lambda finding: order[finding.code])), skipped)


def _holds_rows(design: Design) -> bool:
    """Whether a design has its rows; one of a source beyond memory refuses them."""
    try:
        return len(design.y) == design.n
    except DataError:
        return False


def _unkept(design: Design) -> Design:
    """Return the design with matrices of its own: what they compute goes when lint is done."""

    def anew(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple(
            replace(term, matrix=replace(term.matrix), centred=replace(term.centred))
            for term in terms
        )

    return replace(
        design,
        matrix=replace(design.matrix),
        centred=replace(design.centred),
        terms=anew(design.terms),
        parameters=tuple(
            replace(
                own,
                matrix=replace(own.matrix),
                centred=replace(own.centred),
                terms=anew(own.terms),
            )
            for own in design.parameters
        ),
    )


def _in_rows(design: Design, family: Family) -> Iterator[Finding]:
    """Yield what takes passes over the rows to be seen."""
    parts: tuple[Predictor, ...] = (design, *design.parameters)
    # a Poisson count has no variance that a cell's could be taken for
    dispersed = family.name not in ("poisson", "binomial")
    yield from reused_labels(design)
    yield from crossed_nesting(design)
    for part in parts:
        yield from missing_population_effects(part)
        yield from constant_slopes(part)
        yield from unreplicated_cells(design, part, dispersed)
        yield from far_origins(part)
        yield from different_scales(part)
        yield from nearly_collinear(part)
    yield from separation(design, family)
    yield from count_findings(design, family)
    yield from gaussian_response(design, family)
    yield from time_gaps(design)
    yield from mixed_slopes(design, family)

"""What lint can see without a fit: every check of a design, in milliseconds."""

from collections.abc import Iterator
from typing import Final

from hiermodels.spec.counted import all_rows
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
from hiermodels.spec.predictors import Predictor
from hiermodels.spec.whole import Counted, Whole

MOST_NUMBERS: Final = 20_000_000
"""With more numbers than this in the model matrices, rows are not looked at."""
MOST_COUNTED: Final = 2_000_000
"""The same of rows that were counted together, which take memory to be looked at one by one."""


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
        passes over the rows. Rows that are too many, or stand for others of a source that was read
        in passes, are left alone, which ``skipped`` says; those that were counted together are
        looked at one by one.

    Examples
    --------
    >>> import hiermodels as hm
    >>> model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    >>> find_in_design(model.design, model.family).codes
    ()
    """
    design = single_where_few(design)
    parts: tuple[Predictor, ...] = (design, *design.parameters)
    found = list(few_levels(design))
    if not isinstance(design.whole, Counted):
        found += [f for part in parts for f in level_sizes(design, part, family)]
    skipped: tuple[str, ...] = ()
    numbers = _numbers(design)
    if design.whole is not None:
        skipped = (_unseen(design.whole),)
    elif numbers > MOST_NUMBERS:
        skipped = (
            f"the {design.n:,} rows: with {numbers:,} numbers in the model matrices only the sizes "
            "of groupings were looked at.",
        )
    else:
        found += list(_in_rows(design, family, parts))
    order = {code: k for k, code in enumerate(KINDS)}
    # the formula of a parameter often has what the mean has, and once is enough
    once = dict.fromkeys(sorted(found, key=lambda finding: order[finding.code]))
    return Findings(tuple(once), skipped)


def single_where_few(design: Design) -> Design:
    """Return a design with a row for each row counted, where these are not too many."""
    if not isinstance(design.whole, Counted) or _numbers(design) > MOST_COUNTED:
        return design
    return all_rows(design)


def _numbers(design: Design) -> int:
    """Return how many numbers the model matrices of all rows hold."""
    parts: tuple[Predictor, ...] = (design, *design.parameters)
    width = sum(len(part.coefs) + sum(len(term.coefs) for term in part.terms) for part in parts)
    return design.n_rows * width


def _unseen(whole: Whole | Counted) -> str:
    """Return what is not looked at where rows stand for others."""
    if isinstance(whole, Counted):
        return (
            f"the {whole.n:,} rows, which are too many to be looked at one by one, and of which "
            "the distinct ones were kept: only the numbers of levels were looked at."
        )
    return (
        f"the {whole.n:,} rows, which were read in passes and not kept: only the sizes of "
        "groupings were looked at."
    )


def _in_rows(design: Design, family: Family, parts: tuple[Predictor, ...]) -> Iterator[Finding]:
    """Yield what takes passes over the rows to be seen."""
    # a Poisson count has no variance that a cell's could be taken for
    dispersed = family.name not in ("poisson", "binomial", "multinomial")
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

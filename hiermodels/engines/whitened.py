"""Whether a conditional model is sampled in whitened coordinates, and the map where it is."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.blocks import BarBlock
from hiermodels.engines.collapsing import collapse
from hiermodels.engines.conditional import ConditionalProblem, Density
from hiermodels.engines.response_derivatives import FAMILIES, SCALES, Response
from hiermodels.engines.starting import starting_point
from hiermodels.engines.supported import supports
from hiermodels.engines.whitening import WhiteningMap, whiten
from hiermodels.engines.whitening_mode import WhiteBar, WhiteModel

Array = NDArray[np.float64]

# With fewer effects the sampler's own adaptation is as good, and the search for a mode costs more.
_FEW: Final = 60
# Effects that cross the largest grouping's: the search for a mode factors a matrix dense in them a
# hundred times, at 2,000 for half a minute.
_WIDE: Final = 2000
# Rows a level beyond which nested effects mix well in the sums that hierarchical centring takes.
_FEW_ROWS: Final = 2.0
# Multiplications of a map by those of a density without it, beyond which it costs more than
# the steps that it saves.
_DEAR: Final = 12.0
# An entry takes as long as so many multiplications of the density: it is looked up, and counts in
# the map and in its transpose. (Measured: 4,400 to 4,600 entries beside 23,000 and 43,000.)
_ENTRY: Final = 6.0
# What a map gains where no grouping's levels are well informed: their scores are nearly as
# independent as in the prior. (Measured: nothing.)
_LITTLE: Final = 1.3
# What a row costs besides its coefficients and effects, in multiplications.
_ROW: Final = 8.0


@dataclass(frozen=True, eq=False)
class Whitened:
    """A problem in the form that its map is for.

    Attributes
    ----------
    problem : ConditionalProblem
        Its coordinates are those that the map returns.
    map : WhiteningMap
    """

    problem: ConditionalProblem
    map: WhiteningMap


def not_whitenable(problem: ConditionalProblem) -> str | None:
    """Return None where there can be a map for the model, else the reason in words."""
    if supports(problem) is not None:
        return "there is no kernel"
    if problem.family not in FAMILIES:
        return f"not for the family {problem.family}"
    if problem.censoring is not None or problem.truncation is not None or problem.se is not None:
        return "not for bounds or known errors of the response"
    names = [block.name for block in problem.blocks]
    known = SCALES.get(problem.family)
    if names != ([] if known is None else [known]):
        return "not for these further parameters"
    if any(len(block.values) != 1 or block.X is not None for block in problem.blocks):
        return f"not where {known} has a formula or strata"
    if not all(map(_plain, problem.bars)):
        return "not for bars with by, cov, mm or Student's t"
    return None


def _plain(bar: BarBlock) -> bool:
    """Whether a bar's levels are independent, normal and alike."""
    odd = (bar.by, bar.cov, bar.nu_prior, bar.members)
    return all(part is None for part in odd)


def not_worth(problem: ConditionalProblem) -> str | None:
    """Return None where a map may well pay, else the reason in words; before any is made."""
    sizes = sorted(bar.n_levels * bar.q for bar in problem.bars)
    if sum(sizes) < _FEW:
        return f"{sum(sizes)} effects of groups are few"
    if len(problem.bars) == 1:
        # 500 people rating: as many effective draws a second with a map as without
        return "a bar alone gains little"
    widest = max(range(len(problem.bars)), key=lambda k: problem.bars[k].n_levels)
    crossing = sum(
        bar.n_levels * bar.q
        for k, bar in enumerate(problem.bars)
        if k != widest and not _nested(problem.bars[widest], bar)
    )
    if crossing > _WIDE:
        return f"{crossing:,} effects cross the largest grouping's"
    rows = len(problem.y) / problem.bars[widest].n_levels
    if not crossing and rows > _FEW_ROWS:
        # the levels' sums with their parents' effects are free of each other already
        return "nested groupings with enough rows a level gain nothing"
    return None


def _nested(inner: BarBlock, outer: BarBlock) -> bool:
    """Whether every level of one bar lies in one level of another."""
    pairs = np.unique(inner.index.astype(np.int64) * outer.n_levels + outer.index)
    return len(pairs) <= len(np.unique(inner.index))


def _work(problem: ConditionalProblem) -> float:
    """Return roughly how many multiplications the density without a map takes."""
    columns = problem.X.shape[1] + sum(bar.q for bar in problem.bars)
    return float(2.0 * len(problem.y) * (_ROW + columns) + 4.0 * problem.layout.ndim)


def white_model(problem: ConditionalProblem) -> WhiteModel:
    """Return what the search for a mode reads of a model in standard scores."""
    short = collapse(problem)
    response = Response(
        short.family, short.link, short.y, short.trials, short.weights, short.precision
    )
    parts = problem.layout
    scale = parts.parameters[0].values.start if parts.parameters else None

    def rows(eta: Array, x: Array) -> tuple[Array, Array]:
        found = response.derivatives(eta, 0.0 if scale is None else float(x[scale]))
        return found.slope, found.expected

    priors = np.array([prior.args[-2:] for prior in problem.coef_priors]).reshape(-1, 2)
    bars = tuple(
        WhiteBar(bar.z, bar.index, bar.n_levels, part.sds, part.correlations, part.effects)
        for bar, part in zip(short.bars, parts.bars, strict=True)
    )
    return WhiteModel(
        short.X, short.offset, parts.coef, priors[:, 0], priors[:, 1] ** -2.0, bars, parts.ndim,
        Density(problem), rows,
    )  # fmt: skip


def whitened(
    problem: ConditionalProblem, asked: bool | None = None, *, free: bool = False
) -> Whitened | str:
    """Return the map of a model with the form it is for, or in words why there is none.

    Parameters
    ----------
    problem : ConditionalProblem
        What shifts centred bars goes into the map.
    asked : bool, optional
        True: also where it may not pay. False: never. By default where it pays.
    free : bool
        Whether the bars' forms are chosen again by what the mode says of them, which sees groups
        of one row too; else they are kept.
    """
    if asked is False:
        return "as asked"
    reason = not_whitenable(problem)
    if reason is None and asked is None:
        reason = not_worth(problem)
    if reason is not None:
        return reason
    forms = tuple(bar.centred for bar in problem.bars)
    scores = _with_forms(problem, (False,) * len(forms))
    model = white_model(scores)
    found = whiten(model, starting_point(scores, Density(scores), 0), None if free else forms)
    if found is None:
        return "no mode was found"
    if asked is None:
        work = _work(collapse(problem))
        if found.map.entries > _DEAR * work:
            return f"the map has {found.map.entries:,} entries"
        poor = free and not any(forms) and not any(found.centred)
        if poor and 1.0 + _ENTRY * found.map.entries / work > _LITTLE:
            return "the data say little about the levels of every grouping"
    return Whitened(_with_forms(problem, found.centred), found.map)


def _with_forms(problem: ConditionalProblem, forms: tuple[bool, ...]) -> ConditionalProblem:
    """Return the problem with its bars in these forms, unshifted."""
    bars = tuple(
        replace(bar, centred=form, shift=None)
        for bar, form in zip(problem.bars, forms, strict=True)
    )
    return replace(problem, bars=bars)

"""Sections that hold the posterior against something: rivals, shares of variance, pooling."""

from collections.abc import Callable, Iterator

import numpy as np

from hiermodels.answers.fitted import Fitted
from hiermodels.answers.pooling_factors import Pooling, measure_pooling
from hiermodels.answers.rivals import Rivals
from hiermodels.answers.shrinkage import choose
from hiermodels.answers.variance_shares import Shares, explained, intraclass
from hiermodels.errors import HierModelsError
from hiermodels.show.plots import plot_estimates, plot_pooling, plot_shrinkage
from hiermodels.show.reporting import words
from hiermodels.show.reporting.blocks import Block, heading, picture, table, text
from hiermodels.spec.design import Group

#: Parameters of the picture of rivals; the table holds all.
MOST_PARAMETERS = 24
_SHARES = {
    "mean": "mean",
    "median": "median",
    "sd": "sd",
    "ci_low": "2.5 %",
    "ci_high": "97.5 %",
}
_RIVALS = {"reml": "REML", "ml": "ML", "laplace": "Laplace"}


def ask[T](question: Callable[[], T]) -> T | str:
    """Return an answer, or in a sentence why there is none for this model."""
    try:
        return question()
    except HierModelsError as error:
        return f"Not available for this model: {error}"


def told(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield blocks; where an answer is not available, a sentence that says why ends them."""
    try:
        yield from blocks
    except HierModelsError as error:
        yield text(f"Not available for this model: {error}")


# --- rivals ---------------------------------------------------------------------------------


def rivals_blocks(found: Rivals | str) -> Iterator[Block]:
    """Yield the table of rivals and its picture."""
    if isinstance(found, str):
        yield text(found)
        return
    frame = found.table
    known = [name for name in _RIVALS if name in frame]
    yield text(
        f"The same model estimated by {words.listed([_RIVALS[n] for n in known])}, and one "
        "regression for all rows, which knows no groups. A reason stands where posterior mean and "
        f"{_RIVALS[known[0]]} part by more than Monte Carlo error and a quarter of the posterior "
        "sd: near a boundary, or with few groups, a mode is not where the posterior's mass is."
    )
    names = {"mean": "mean", "median": "median", "sd": "sd"} | {n: _RIVALS[n] for n in known}
    names |= {"complete": "one regression"}
    if frame["flag"].any():
        names |= {"reason": "why they part"}
    shown = frame.assign(reason=frame["reason"].fillna(""))
    yield table(shown, "Posterior beside its rivals", names, index="parameter")
    for note in found.notes:
        yield text(f"{note[:1].upper()}{note[1:]}.")
    drawn = plot_estimates(found, max_parameters=MOST_PARAMETERS)
    yield picture(drawn, words.rivals_alt(frame.iloc[:MOST_PARAMETERS], known[0]))


# --- shares of variance -----------------------------------------------------------------------


def shares_blocks(fit: Fitted) -> Iterator[Block]:
    """Yield intraclass correlations and R squared, on the link and the response scale."""
    gaussian = fit.model.family.link == "identity"
    scales = ("link",) if gaussian else ("link", "response")
    if fit.model.design.groups:
        yield from _shares("Intraclass correlations", scales, lambda s: intraclass(fit, s))
    else:
        yield text("The model has no groups, and so no intraclass correlation.")
    yield from _shares("R²", scales, lambda s: explained(fit, s))


def _shares(
    name: str, scales: tuple[str, ...], ask_for: Callable[[str], Shares]
) -> Iterator[Block]:
    """Yield the table of each scale, and once how it is to be read."""
    notes: tuple[str, ...] = ()
    for scale in scales:
        found = ask(lambda scale=scale: ask_for(scale))  # type: ignore[misc]
        if isinstance(found, str):
            yield text(f"{name} on the {scale} scale. {found}")
            continue
        where = f", {found.scale} scale" if len(scales) > 1 else ""
        frame = found.to_frame().dropna(how="all")
        if scale == "link" and len(scales) > 1:
            # defined on the response scale alone, and told there
            frame = frame.drop(index="bayes", errors="ignore")
        yield table(frame, f"{name}{where}: posterior", _SHARES, index="of")
        notes = found.notes
    for note in notes:
        yield text(f"{note[:1].upper()}{note[1:].rstrip('.')}.")


# --- pooling --------------------------------------------------------------------------------


def pooling_blocks(fit: Fitted, groups: list[Group], most: int) -> Iterator[Block]:
    """Yield how far each factor's levels are pooled: by effect, by level, against rows."""
    yield text(
        "The pooling factor of a level is the variance of its effect given the data, over its "
        "variance in the population: 0 where the level stands on its own, 1 where its rows say "
        "nothing. Lambda is Gelman and Pardoe's summary of all levels."
    )
    for g in groups:
        if len(fit.model.design.groups) > 1:
            yield heading(g.name)
        found = measure_pooling(fit, group=g.name)
        names = {
            "effect": "effect",
            "levels": "levels",
            "mean_factor": "mean factor",
            "pooling_lambda": "lambda",
        }
        yield table(found.by_effect, f"Pooling by {g.name}", names)
        yield picture(plot_pooling(found, g.name), words.pooling_alt(found.table, g.name))
        yield _levels(found, g, most)
        if len(np.unique(g.n_rows)) > 1 and found.table["no_pool"].notna().any():
            drawn = plot_shrinkage(fit, g.name, by="size")
            yield picture(drawn, words.distance_alt(found.table, g))


def _levels(found: Pooling, g: Group, most: int) -> Block:
    """Return the folded table of factors by level."""
    first = found.table[found.table["effect"] == g.coefs[0]]
    levels = choose([str(v) for v in first["level"]], most, first["mean"])
    kept = found.table[found.table["level"].isin(levels)]
    names = {
        "effect": "effect",
        "level": g.name,
        "n": "rows",
        "no_pool": "own",
        "mean": "pooled",
        "pooling_factor": "factor",
        "pooling_factor_low": "2.5 %",
        "pooling_factor_high": "97.5 %",
    }
    which = f"all {len(levels)} levels"
    if len(g.levels) > most:
        which = f"{len(levels)} of {len(g.levels):,} levels"
    return table(kept, f"Pooling factors by {g.name}, {which}", names, hidden=True)

"""Findings about groupings: how many levels, how they lie to each other, what repeats in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hiermodels.spec.design import Design, group_structures
from hiermodels.spec.families import Family
from hiermodels.spec.findings_catalogue import Finding
from hiermodels.spec.frame import as_groups, combine_groups
from hiermodels.spec.names import sd_name
from hiermodels.spec.predictors import Group, Predictor

Ints = NDArray[np.intp]
_FEW = 5
_RESTARTS = 0.9
_NUMBERED = re.compile(r"\D*?(\d+)|([A-Za-z])")


@dataclass(frozen=True)
class Labels:
    """The labels of a column, as levels of rows."""

    name: str
    index: Ints
    levels: tuple[str, ...]


# --- the size of groupings ------------------------------------------------------------------


def few_levels(design: Design) -> Iterator[Finding]:
    """Yield groupings with fewer than five levels, each once."""
    said: dict[str, str] = {}
    own = [(group, "") for group in design.groups]
    own += [(group, part.name) for part in design.parameters for group in part.groups]
    for group, parameter in own:
        levels = len(group.levels)
        sd = said.setdefault(group.name, sd_name(group.name, parameter))
        if levels < _FEW and sd == sd_name(group.name, parameter):
            yield Finding(
                "few-levels",
                (group.name,),
                f"{group.name} has {levels} levels ({', '.join(group.levels)}).",
                f"Give {sd} a prior that you can defend and see how much hangs on it, "
                f"or make {group.name} a predictor in place of a grouping.",
            )


def level_sizes(design: Design, part: Predictor, family: Family) -> Iterator[Finding]:
    """Yield groupings with one row a level, or nearly as many levels or effects as rows."""
    if "se" in design.formula.additions and not design.se_with_sigma:
        return  # known errors say what varies within a level
    for group in part.groups:
        levels, n = len(group.levels), part.n
        effects = levels * len(group.coefs)
        if group.n_rows.max() == 1:
            yield _one_row(design, group, family)
        elif 2 * levels > n or effects >= n:
            many = f"{levels:,} levels in {n:,} rows"
            if effects >= n:
                many = f"{effects:,} effects ({levels:,} levels, {', '.join(group.coefs)}) in "
                many += f"{n:,} rows"
            single = int(np.sum(group.n_rows == 1))
            yield Finding(
                "many-levels",
                (group.name,),
                f"{group.name} has {many}; {single:,} levels have one row only.",
                f"Vary less by {group.name} (such as (1 | {group.name})), or see by "
                "hm.prior_sensitivity() how much of its sd comes from the prior.",
            )


def _one_row(design: Design, group: Group, family: Family) -> Finding:
    """Return the finding of a grouping with one row a level."""
    counts = family.name == "poisson"
    trials = family.name == "binomial" and design.trials is not None and design.trials.min() > 1
    if counts or trials:
        other = "negativebinomial" if counts else "beta_binomial"
        do = (
            "Keep it if it is meant to take up overdispersion; predictions then need a new level. "
            f"family={other!r} does the same with one parameter."
        )
    else:
        do = "Leave the bar out, or name the column of the units that have several rows."
    return Finding(
        "one-row-levels",
        (group.name,),
        f"Each of the {len(group.levels):,} levels of {group.name} has one row.",
        do,
    )


# --- how groupings lie to each other --------------------------------------------------------


def reused_labels(design: Design) -> Iterator[Finding]:
    """Yield pairs of groupings in which one's labels are given anew in each level of the other."""
    made = {name: own.columns for name, own in group_structures(design).items()}
    groups = [g for g in design.groups if len(made[g.name]) == 1 and not _multiple(design, g)]
    for parent, child in permutations(groups, 2):
        cells = _Cells(parent, child)
        if len(child.levels) >= len(parent.levels) or not cells.crossed or cells.rows < 2:
            continue
        telling = _constant_in_cells(design, parent, child)
        if not (cells.restarts or telling):
            continue
        why = "its labels start again in each of them" if cells.restarts else ""
        if telling:
            why += " and " * bool(why) + f"{telling} is the same in all rows of a combination"
        yield Finding(
            "reused-labels",
            (parent.name, child.name),
            f"The {len(child.levels)} labels of {child.name} ({_some(child.levels)}) occur in up "
            f"to {cells.parents.max()} of the {len(parent.levels)} levels of {parent.name}, "
            f"{cells.count:,} combinations; {why}.",
            f"If a label means another unit in each {parent.name}, write "
            f"(1 | {parent.name}/{child.name}); if it is the same unit everywhere, all is well.",
        )


def crossed_nesting(design: Design) -> Iterator[Finding]:
    """Yield nested groupings whose inner labels seem to mean the same unit under any parent."""
    made = {name: own.columns for name, own in group_structures(design).items()}
    predictors = {label for column in design.columns for label in column.labels}
    names = {group.name for group in design.groups}
    for group in design.groups:
        if len(made[group.name]) != 2 or _multiple(design, group):
            continue
        first, second = made[group.name]
        if first not in names or second in names or second in predictors:
            continue
        parent, child = _labels(design, first), _labels(design, second)
        cells = _Cells(parent, child)
        # labels that start again under every parent are what nesting is written for
        if not cells.crossed or cells.restarts or np.median(cells.parents) < 2:
            continue
        known = _property_of(design, child, parent, (first, second))
        many = len(child.levels) > cells.children.max()
        if not (known or many):
            continue
        how = f"{known} is the same wherever a label occurs" if known else (
            f"no {first} has more than {cells.children.max()} of them"
        )  # fmt: skip
        yield Finding(
            "crossed-nesting",
            (first, second),
            f"{group.name} has {len(group.levels):,} levels, but {second} only "
            f"{len(child.levels)} labels, which occur in {np.median(cells.parents):g} levels of "
            f"{first} each (median); {how}.",
            f"If a label of {second} means the same unit in every {first}, write "
            f"(1 | {first}) + (1 | {second}); if not, all is well.",
        )


class _Cells:
    """The combinations of two groupings: how many, of how many rows, and what restarts."""

    def __init__(self, parent: Labels | Group, child: Labels | Group) -> None:
        size = len(child.levels)
        pairs, counts = np.unique(parent.index * size + child.index, return_counts=True)
        up, down = pairs // size, pairs % size
        self.count = len(pairs)
        self.rows = float(np.mean(counts))
        # by label of the child its parents, by parent its labels
        self.parents = np.bincount(down, minlength=size)
        self.children = np.bincount(up, minlength=len(parent.levels))
        self.crossed = bool(self.parents.max() > 1 and self.children.max() > 1)
        self.restarts = self.crossed and self._restarts(child.levels, up, down)

    def _restarts(self, labels: tuple[str, ...], up: Ints, down: Ints) -> bool:
        """Return whether nearly every parent has the first labels, without a gap."""
        found = [_NUMBERED.fullmatch(label) for label in labels]
        if not all(found) or np.mean(self.parents > 1) < _RESTARTS:
            return False
        number = np.array([int(m[1]) if m and m[1] else -1 for m in found])
        if (number < 0).any():
            number = np.arange(len(labels)) + 1  # letters, in their order
        first = int(number.min())
        last = np.zeros(len(self.children), dtype=np.intp)
        np.maximum.at(last, up, number[down] - first + 1)
        return first in (0, 1) and float(np.mean(last == self.children)) >= _RESTARTS


def _multiple(design: Design, group: Group) -> bool:
    """Whether rows belong to several levels of a grouping."""
    return any(design.terms[k].members is not None for k in group.terms)


def _labels(design: Design, name: str) -> Labels:
    """Return a grouping column's labels."""
    index, levels = combine_groups([as_groups(design.data[name], name)])
    return Labels(name, index, levels)


def _predictors(design: Design, left_out: tuple[str, ...]) -> Iterator[tuple[str, Ints]]:
    """Yield the columns of predictors, as codes."""
    for name in design.encoding.levels:
        if name not in left_out and name in design.data:
            yield name, pd.factorize(design.data[name])[0].astype(np.intp)


def _steady(codes: Ints, index: Ints) -> bool:
    """Whether codes are the same in all rows of each level."""
    first = np.zeros(int(index.max()) + 1, dtype=np.intp)
    first[index] = codes
    return bool(np.array_equal(first[index], codes))


def _constant_in_cells(design: Design, parent: Group, child: Group) -> str:
    """Return a predictor that is the same in each combination, and in no level alone; else ''."""
    own = (parent.name, child.name)
    cell = np.unique(parent.index * len(child.levels) + child.index, return_inverse=True)[1]
    for name, codes in _predictors(design, own):
        within = _steady(codes, parent.index) or _steady(codes, child.index)
        if not within and _steady(codes, cell.astype(np.intp)):
            return name
    return ""


def _property_of(design: Design, child: Labels, parent: Labels, own: tuple[str, ...]) -> str:
    """Return a predictor that is a property of the child's labels, not of the parents; else ''."""
    for name, codes in _predictors(design, own):
        if codes.max() > 0 and _steady(codes, child.index) and not _steady(codes, parent.index):
            return name
    return ""


def _some(labels: tuple[str, ...], most: int = 6) -> str:
    """Return the first labels as text."""
    return ", ".join(labels[:most]) + (", ..." if len(labels) > most else "")

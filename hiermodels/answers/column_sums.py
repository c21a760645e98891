"""Averages of predictions that are linear in coded columns, from sums of the columns over rows.

An average of linear predictors is the linear predictor at the average of the columns: of the
population's over all rows, and of a bar's over the rows of each level. So a pass over the rows sums
columns, and draws meet the sums alone.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from hiermodels.answers.fitted import Model
from hiermodels.answers.measures import Measure, coded_points
from hiermodels.answers.new_levels import check_unseen, flat, level_effects
from hiermodels.answers.predicting import Asked
from hiermodels.answers.rows import RowLevels, Rows, first_term
from hiermodels.engines.responses import parameter_names
from hiermodels.spec.design import Group
from hiermodels.spec.names import of_parameter
from hiermodels.spec.streams import Sums

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_CELL: Final = 1 << 31
_BLOCK: Final = 8_000_000


def is_linear(model: Model, kind: str) -> bool:
    """Return whether predictions of a kind are linear in the mean's coded columns."""
    family = model.family
    if family.by_level:
        return False
    if kind == "linear":
        return True
    shares = {"zi", "hu", "cutpoints"} & {*parameter_names(family), *_names(model)}
    plain = family.link == "identity" and not (family.ordinal or shares)
    return kind == "expected" and plain and model.design.trials is None


def _names(model: Model) -> list[str]:
    """Return the names of the family's parameters."""
    return [own.name for own in model.family.parameters]


@dataclass(frozen=True)
class _Keyed:
    """Sums by key, ascending: keys (k,) and sums (k, q)."""

    keys: Ints
    sums: Floats


def _keyed(keys: Ints, values: Floats) -> _Keyed:
    """Return the sums of rows by key."""
    codes, found = pd.factorize(keys, sort=True)
    sums = np.empty((len(found), values.shape[1]))
    for k in range(values.shape[1]):
        sums[:, k] = np.bincount(codes, values[:, k], len(found))
    return _Keyed(np.asarray(found, dtype=np.int64), sums)


def _added(a: _Keyed, b: _Keyed) -> _Keyed:
    """Return the sums of both."""
    return _keyed(np.concatenate([a.keys, b.keys]), np.concatenate([a.sums, b.sums]))


class _Levels:
    """The levels of a grouping that were met: those of the fit by position, new ones after them."""

    def __init__(self, asked: Asked, group: Group) -> None:
        self.group = group
        by = getattr(first_term(asked.fit.model.design, group), "by", None)
        self.by: list[int] | None = None if by is None else by.index.tolist()
        self.new: dict[str, int] = {}

    def numbers(self, levels: RowLevels) -> Ints:
        """Return the number of each label of some rows."""
        found = levels.known.astype(np.int64)
        for k in np.flatnonzero(found < 0):
            label = levels.labels[k]
            if label not in self.new:
                self.new[label] = len(self.group.levels) + len(self.new)
                if self.by is not None and levels.by is not None:
                    self.by.append(int(levels.by[k]))
            found[k] = self.new[label]
        return found

    def levels(self, numbers: Ints) -> RowLevels:
        """Return the levels of these numbers, one a row."""
        count = len(self.group.levels)
        labels = (*self.group.levels, *self.new)
        known = np.where(numbers < count, numbers, -1).astype(np.intp)
        by = None if self.by is None else np.array(self.by, dtype=np.intp)[numbers]
        index = np.arange(len(numbers), dtype=np.intp)[:, None]
        return RowLevels(index, None, tuple(labels[k] for k in numbers), known, by)


class ColumnSums:
    """Sums of coded columns over rows, for every part of every measure.

    Parameters
    ----------
    asked : Asked
        Linear, as :func:`is_linear` says.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.error = 0.0
        design = asked.fit.model.design
        self.groups = [g for g in design.groups if g.name in asked.wanted]
        self.levels = {group.name: _Levels(asked, group) for group in self.groups}
        self.base: dict[tuple[int, int], Sums[_Keyed]] = {}
        self.by_level: dict[tuple[int, int, str], Sums[_Keyed]] = {}
        for group in self.groups:
            # draws that are needed and were not kept are missed before the rows are read
            self._effects(group, np.zeros(1, dtype=np.int64))

    def add(self, number: int, measure: Measure, cells: Ints, counts: Floats) -> Rows:
        """Add the rows of a measure.

        Parameters
        ----------
        number : int
            Which measure it is.
        measure : Measure
        cells : ndarray of int (m,)
            The average that each row belongs to.
        counts : ndarray (m,)
            For how many rows each stands.

        Returns
        -------
        Rows
        """
        weights = measure.weights or ()
        used = [f for f in range(len(measure.frames)) if any(own[f].any() for own in weights)]
        rows = coded_points(self.asked, measure, used)
        for group in self.groups:
            if self.asked.effects.new_levels == "error":
                check_unseen(rows.levels[group.name], group)
        for part, own in enumerate(weights):
            self._add_part((number, part), rows, own[used] * counts, cells)
        return rows

    def _add_part(self, key: tuple[int, int], rows: Rows, weights: Floats, cells: Ints) -> None:
        """Add the rows of one part: weights (F, m)."""
        coded = rows.coded[""]
        f, m = weights.shape
        columns = np.column_stack([coded.X, coded.offset])
        total = np.einsum("fm,fmp->mp", weights, columns.reshape(f, m, -1))
        self.base.setdefault(key, Sums(_added)).put(_keyed(cells, total))
        for group in self.groups:
            levels = rows.levels[group.name]
            z = np.concatenate([coded.z[k] for k in group.terms], axis=1)
            numbers = self.levels[group.name].numbers(levels)[levels.index]
            weighted = weights.reshape(f * m, 1) * z
            at = cells if f == 1 else np.tile(cells, f)
            if f > 1 and levels.weights is None and _alike(numbers, f):
                # the same level at every point: differences first, where most is zero
                weighted, numbers, at = weighted.reshape(f, m, -1).sum(axis=0), numbers[:m], cells
            into = self.by_level.setdefault((*key, group.name), Sums(_added))
            if not weighted.any():
                continue
            for member in range(numbers.shape[1]):
                share = 1.0 if levels.weights is None else levels.weights[:, member, None]
                into.put(_keyed(at * _CELL + numbers[:, member], weighted * share))

    def averages(self, number: int, sizes: Floats) -> list[Floats]:
        """Return the averages (S, cells, 1) of each part of a measure."""
        parts = sorted(part for own, part in self.base if own == number)
        return [self._average((number, part), sizes)[:, :, None] for part in parts]

    def _average(self, key: tuple[int, int], sizes: Floats) -> Floats:
        """Return draws (S, cells) of one part's averages."""
        asked, design = self.asked, self.asked.fit.model.design
        take, posterior = asked.take, asked.posterior
        base = self.base[key].total()
        sums = np.zeros((len(sizes), len(design.coefs) + 1))
        if base is not None:
            sums[base.keys] = base.sums
        out = np.zeros((len(take), len(sizes))) + sums[:, -1]
        if design.intercept is not None:
            intercept = flat(posterior[of_parameter("", "Intercept")], take)
            out += intercept[:, None] * sums[:, design.intercept]
        if design.slopes:
            columns = [k for k in range(len(design.coefs)) if k != design.intercept]
            out += flat(posterior[of_parameter("", "b")], take) @ sums[:, columns].T
        for group in self.groups:
            found = self.by_level[*key, group.name].total()
            if found is not None:
                self._add_effects(group, found, out)
        return np.asarray(out / sizes)

    def _add_effects(self, group: Group, found: _Keyed, out: Floats) -> None:
        """Add to draws (S, cells) the sums of a grouping's effects."""
        step = max(1, _BLOCK // (len(out) * found.sums.shape[1]))
        for start in range(0, len(found.keys), step):
            cells, numbers = np.divmod(found.keys[start : start + step], _CELL)
            z = found.sums[start : start + step]
            drawn = self._effects(group, numbers)
            values = np.einsum("slq,lq->sl", drawn, z)
            first = np.flatnonzero(np.r_[True, np.diff(cells) != 0])
            out[:, cells[first]] += np.add.reduceat(values, first, axis=1)

    def _effects(self, group: Group, numbers: Ints) -> Floats:
        """Return draws of the effects of some levels (S, L, q)."""
        asked = self.asked
        return level_effects(
            asked.posterior,
            asked.fit.model.design,
            group,
            self.levels[group.name].levels(numbers),
            "",
            asked.take,
            asked.effects.new_levels,
            asked.effects.seed,
        )


def _alike(numbers: Any, points: int) -> bool:
    """Whether rows have the same levels at every point."""
    by_point = numbers.reshape(points, -1)
    return bool(np.all(by_point == by_point[0]))

"""Where the products of each row stand in the arrow's buffer, for sums that are made again.

See `hiermodels.engines.row_kernels`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines import row_kernels as places
from hiermodels.engines.arrow_layout import (
    ARROW,
    AT_BLOCKS,
    AT_LEVELS,
    AT_PAIRS,
    AT_START,
    AT_TAIL,
    BLOCK,
    LEVEL,
    PAIR,
    Writer,
)
from hiermodels.engines.residual_packing import PackedResidual
from hiermodels.errors import EngineError
from hiermodels.spec.gram import Gram, build_gram
from hiermodels.spec.gram_parts import Array, Grouping, Index
from hiermodels.spec.gram_products import Rows, find_meetings
from hiermodels.spec.gram_tree import find_touches, find_tree
from hiermodels.spec.matrices import Columns
from hiermodels.spec.residual import Residual


@dataclass(frozen=True, eq=False)
class RowSums:
    """The rows of a model whose residual variances take many values.

    Attributes
    ----------
    residual : PackedResidual
        With a class for each distinct variance.
    classes : ndarray of int (n,)
    scale : ndarray (n,)
        What multiplies each row's precision.
    values : ndarray (n, columns)
        Columns of the chain's groupings, of the border's as `_runs` orders them, then X, the other
        coefficients' and y.
    """

    residual: PackedResidual
    classes: Index
    scale: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Family:
    """Products of two runs of columns, and where each row's stand in the arrow's buffer.

    Attributes
    ----------
    left, right : tuple of int
        First column and number of columns.
    place, width : ndarray of int (n,) or (1,)
        Where the block of products begins, and how far its lines are apart.
    """

    left: tuple[int, int]
    right: tuple[int, int]
    place: NDArray[np.int64]
    width: NDArray[np.int64]


def build_row_sums(
    groupings: tuple[Grouping, ...],
    X: Columns,
    X_other: Columns,
    y: Array,
    residual: Residual,
    packed: PackedResidual,
) -> tuple[Gram, RowSums]:
    """Return cross-products with places for those of every parameter, and the rows.

    Parameters
    ----------
    groupings : tuple of Grouping
    X, X_other : ndarray (n, p), (n, p_other)
    y : ndarray (n,)
        Response without offset.
    residual : Residual
        Of independent rows.
    packed : PackedResidual
        Of `residual`.

    Returns
    -------
    Gram
        Of 1 + n_phi matrices; the first is that of the known parts, the others are zero.
    RowSums
    """
    scale = residual.row_scale
    nothing = np.zeros(len(y))
    gram = build_gram(groupings, X, X_other, y, (scale, *[nothing] * packed.n_phi))
    centre = np.concatenate([gram.centre, gram.other_centre])
    rows = Rows(groupings, X, X_other, y, (None,), gram.R, centre)
    runs = [_columns(groupings[run[0]], run[1:]) for run in _runs(gram)]
    values = np.column_stack([*runs, rows.tail(slice(None))])
    if residual.found is None or residual.found.classes is None:
        raise EngineError("The residual variances of these rows are all the same.")
    return gram, RowSums(packed, residual.found.classes, scale, values)


# --- places ---------------------------------------------------------------------------------


def _runs(gram: Gram) -> Iterator[tuple[int, ...]]:
    """Yield what stands side by side in the rows: a grouping with one or two of its memberships."""
    yield from ((k, 0) for k in gram.chain)
    for k in gram.border:
        slots = range(gram.groupings[k].slots.shape[1])
        yield from ((k, slot) for slot in slots)
        yield from ((k, *pair) for pair in combinations(slots, 2))


def _columns(grouping: Grouping, slots: tuple[int, ...]) -> Array:
    """Return a membership's columns (n, q); of two the first's, for products with the second's."""
    z = grouping.slot_columns(slots[0], slice(0, len(grouping.index)))
    if len(slots) == 1:
        return z
    # of one level twice both orders of the two stand in one block, of two levels one of them
    twice = grouping.slots[:, slots[0]] == grouping.slots[:, slots[1]]
    return z * np.where(twice, 2.0, 1.0)[:, None]


def _families(gram: Gram, f: Array, head: int) -> Iterator[Family]:
    """Yield where products stand, for a buffer that `write_arrow` wrote."""
    whole = f.view(np.int64)
    own = whole[head : head + ARROW]
    groupings, runs = gram.groupings, list(_runs(gram))
    sizes = np.cumsum([0, *(groupings[run[0]].q for run in runs)])
    first = {run: int(at) for run, at in zip(runs, sizes, strict=False)}
    tail = int(sizes[-1]), gram.tail
    chain_end = int(sizes[len(gram.chain)])
    nodes, _, _ = find_tree([groupings[k] for k in gram.chain])
    for h, (k, node) in enumerate(zip(gram.chain, nodes, strict=True)):
        touches = find_touches(groupings, gram.border, node)
        q, fixed = groupings[k].q, groupings[k].q + gram.later(h)
        start = int(whole[own[AT_LEVELS] + h * LEVEL + AT_START])
        place = whole[start : start + gram.levels[h].parent.size][node]
        width = (fixed + touches.columns + gram.tail)[node].astype(np.int64)
        left = first[k, 0], q
        yield Family(left, (left[0], chain_end - left[0]), place, width)
        for b, met in zip(gram.border, touches.rows, strict=True):
            for slot, own_level in enumerate(met.T):
                before = touches.before[own_level] - touches.before[touches.start[node]]
                right = first[b, slot], groupings[b].q
                yield Family(left, right, place + fixed + before, width)
        yield Family(left, tail, place + width - gram.tail, width)
    yield from _corner_families(gram, whole, own, first, tail)
    yield Family(tail, tail, np.array([own[AT_TAIL]]), np.array([gram.tail]))


def _corner_families(
    gram: Gram, whole: NDArray[np.int64], own: NDArray[np.int64],
    first: dict[tuple[int, ...], int], tail: tuple[int, int],
) -> Iterator[Family]:  # fmt: skip
    """Yield where products of border groupings stand."""
    pairs = whole[own[AT_PAIRS] :][: PAIR * len(gram.corner.pairs)].reshape(-1, PAIR)
    blocks = whole[own[AT_BLOCKS] :][: BLOCK * len(gram.corner.blocks)].reshape(-1, BLOCK)
    crossed = [(k, gram.groupings[k]) for k in gram.border]
    seen = 0
    for a, (k, g) in enumerate(crossed):
        for other, later in crossed[a:]:
            meets = find_meetings(g, later, k == other)
            width = np.full(gram.n, later.q, dtype=np.int64)
            for (one, two), at in meets.rows.items():
                run: tuple[int, ...] = k, one
                if k == other and one != two:
                    if one > two:
                        continue
                    # the pair's block is that of the lower level with the higher
                    run, at = (k, one, two), np.where(at < 0, meets.rows[two, one], at)
                place = pairs[seen + at, 4]
                yield Family((first[run], g.q), (first[other, two], later.q), place, width)
            seen += len(meets.keys)
    seen = 0
    for k, g in crossed:
        width = np.full(gram.n, gram.tail, dtype=np.int64)
        for slot, level in enumerate(g.slots.T):
            yield Family((first[k, slot], g.q), tail, blocks[seen + level, 2], width)
        seen += g.n_levels


def _spans(gram: Gram, f: Array, head: int) -> NDArray[np.int64]:
    """Return from where to where the buffer holds sums over rows (k, 2)."""
    whole = f.view(np.int64)
    own = whole[head : head + ARROW]
    corner = gram.corner
    spans = [(own[AT_TAIL], own[AT_TAIL] + corner.tail.size)]
    if corner.products.size:
        # blocks exist wherever pairs do, and the first pair's products come first
        at = whole[own[AT_PAIRS] + 4]
        spans.append((at, at + corner.products.size))
    for h, level in enumerate(gram.levels):
        start = whole[own[AT_LEVELS] + h * LEVEL + AT_START]
        spans.append((whole[start], whole[start] + level.products.size))
    return np.array(spans, dtype=np.int64)


def write_rows(
    rows: RowSums, gram: Gram, inner: Array, head: int, address: int = 0, ndim: int = 0,
    at_phi: int = 0, given: int = -1,
) -> Array:  # fmt: skip
    """Write the rows and the arrow's buffer into one buffer.

    Parameters
    ----------
    rows : RowSums
    gram : Gram
        Not compressed.
    inner : ndarray
        Holds what `write_arrow` wrote of `gram`.
    head : int
        Where the arrow's head stands in `inner`.
    address, ndim, at_phi : int, optional
        The kernel to run on the copy, the length of its vector, and where the residual's
        parameters begin in it.
    given : int, optional
        Where in `inner` log|R| and its derivatives go; nowhere by default.

    Returns
    -------
    ndarray
        One dimension, float64, read-only; see `row_kernels`.
    """
    writer = Writer(places.HEAD)
    own = np.zeros(places.HEAD, dtype=np.int64)
    own[places.INNER], own[places.INNER_SIZE] = writer.add(inner), inner.size
    own[places.NDIM], own[places.ADDRESS] = ndim, address
    own[places.AT_PHI], own[places.GIVEN] = at_phi, given
    part = rows.residual
    own[places.N_PHI], own[places.CODE] = part.n_phi, part.code
    own[places.AT_BLOCK], own[places.BLOCK_SIZE] = writer.add(part.block), part.block.size
    own[places.CLASSES], own[places.AT_CLASS] = part.n_bases, writer.add_index(rows.classes)
    own[places.AT_SCALE] = writer.add(rows.scale)
    own[places.ROWS], own[places.COLUMNS] = rows.values.shape
    own[places.AT_VALUES] = writer.add(rows.values)
    records = []
    for family in _families(gram, inner, head):
        at, wide = writer.add_index(family.place), writer.add_index(family.width)
        records.append((*family.left, *family.right, at, wide, int(family.place.size > 1)))
    own[places.FAMILIES] = len(records)
    own[places.AT_FAMILIES] = writer.add_index(np.array(records, dtype=np.int64))
    spans = _spans(gram, inner, head)
    own[places.SPANS], own[places.AT_SPANS] = len(spans), writer.add_index(spans)
    own[places.TOTAL] = writer.end
    buffer = np.concatenate([own.view(np.float64), *writer.parts])
    buffer.flags.writeable = False
    return buffer

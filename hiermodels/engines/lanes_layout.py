"""Cross-products written for the kernels that take many groups at a time.

Where every group has the same columns after its own, groups stand side by side in blocks of
`LANES`: each number of a node is a row of its block, so that the inner loops run over groups. What
fills up a block has no rows: its products are zero and add nothing.

Below the top level of a chain blocks come in runs: a lane holds children of one parent in every
block of its run. What children pass to parents is summed over a run before it is scattered, and
what parents pass down is gathered once for a run.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.engines.arrow_layout import (
    ARROW,
    AT_BLOCKS,
    AT_GROUPS,
    AT_LEVELS,
    AT_PAIRS,
    AT_PRIOR,
    AT_TAIL,
    CORNER,
    CROSSED,
    INVERSE,
    KNOWN,
    LAMBDAS,
    N_BLOCKS,
    N_PAIRS,
    OTHERS,
    REST,
    SCRATCH,
    START,
    WORK,
    H,
    M,
    P,
    Writer,
    lambda_starts,
)
from hiermodels.spec.gram import ChainLevel, Gram

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# One more place in the head, and the record of a level of the chain.
LANES: Final = 21
(
    SIZE, OWNER, LATER, RUNS, AT_RUNS, AT_PARENT, AT_MULTIPLICITY, MULTIPLE, AT_PRODUCTS, FACTOR,
    FRONT, OMEGA,
) = range(12)  # fmt: skip
LEVEL: Final = 12

# Numbers of a block's widest array, which stay in the processor's first cache, and most lanes.
_BLOCK: Final = 2048
_LANES: Final = 256
_MOST: Final = 20_000_000
_FILLED: Final = 0.25
# Blocks of a run: more save little, and leave more lanes empty.
_RUN: Final = 16


def suits_lanes(gram: Gram) -> bool:
    """Whether to take groups side by side: the border is small, or most of it is touched."""
    if not gram.chain:
        return False
    crossed, p = gram.corner.n_columns, gram.n_coefs
    numbers = 0
    for h, level in enumerate(gram.levels):
        q, n_nodes = gram.groupings[level.grouping].q, len(level.parent)
        if float(level.touch_columns.sum()) < _FILLED * crossed * n_nodes:
            return False
        wide = q + gram.later(h) + crossed + p + 1
        numbers += n_nodes * (gram.n_bases * q * wide + (2 * wide**2 if h > 0 else q * wide))
    return numbers <= _MOST or crossed == 0


def write_lanes(gram: Gram, prior: Array, writer: Writer) -> int:
    """Write cross-products and the coefficients' prior; return where the head stands.

    Parameters
    ----------
    gram : Gram
    prior : ndarray (p + 1, p + 1)
        As `write_arrow` takes it.
    writer : Writer
    """
    corner = gram.corner
    head = np.zeros(ARROW, dtype=np.int64)
    head[[H, M, P]] = len(gram.chain), gram.n_bases, gram.n_coefs
    head[[OTHERS, CROSSED]] = gram.n_others, corner.n_columns
    starts = lambda_starts(gram)
    head[LAMBDAS] = starts[-1]
    records = [(g.q, at) for g, at in zip(gram.groupings, starts, strict=False)]
    head[AT_GROUPS] = writer.add_index(np.array(records, dtype=np.int64))
    at_corner = writer.add(corner.products)
    head[N_PAIRS], head[N_BLOCKS] = len(corner.pairs), len(corner.blocks)
    head[AT_PAIRS] = writer.add_index(corner.pairs + np.array([0, 0, 0, 0, at_corner]))
    head[AT_BLOCKS] = writer.add_index(corner.blocks + np.array([0, 0, at_corner]))
    head[AT_TAIL], head[AT_PRIOR] = writer.add(corner.tail), writer.add(prior)
    head[KNOWN] = writer.add(gram.known) if gram.dependent else 0
    n_corner = corner.n_columns + gram.n_coefs + 1
    head[INVERSE] = head[CORNER] + n_corner**2
    head[START] = head[INVERSE] + n_corner**2
    end = int(head[START]) + n_corner
    wides = [
        gram.groupings[level.grouping].q + gram.later(h) + n_corner
        for h, level in enumerate(gram.levels)
    ]
    q = max(g.q for g in gram.groupings)
    lanes = count_lanes(gram)
    runs, positions = place_nodes(gram)
    levels = np.zeros((len(gram.chain), LEVEL), dtype=np.int64)
    for h in range(len(gram.chain)):
        levels[h, AT_PARENT] = writer.add_index(_parents(gram, h, runs[h], positions, wides, lanes))
        end = _write_level(gram, h, levels[h], lanes, runs[h], positions[h], wides[h], end, writer)
    head[AT_LEVELS] = writer.add_index(levels)
    wide = max(wides) + gram.n_others
    head[LANES], head[REST], head[WORK] = lanes, 0, end
    corner_work = 6 * q * (n_corner + gram.n_others) + 3 * gram.tail**2
    kept = max([0, *(w**2 for w in wides[1:])])
    head[SCRATCH] = end + max((5 * q * wide + q + 3 + kept) * lanes, corner_work)
    return writer.add_index(head)


def count_lanes(gram: Gram) -> int:
    """Return how many groups stand side by side."""
    q = max(g.q for g in gram.groupings)
    border = gram.corner.n_columns + gram.n_coefs + 1
    wide = max(
        gram.groupings[level.grouping].q + gram.later(h) + border
        for h, level in enumerate(gram.levels)
    )
    most = max(len(level.parent) for level in gram.levels)
    # as few blocks as have room, filled evenly: a lane that stands empty costs as much as others
    blocks = -(-most // min(max(8, _BLOCK // (q * wide)), _LANES))
    return -(-most // (4 * blocks)) * 4


def place_nodes(gram: Gram) -> tuple[list[Index], list[Index]]:
    """Return by level the first block of each run (runs + 1,), and each node's block and lane.

    A node stands at block times lanes plus lane.
    """
    lanes = count_lanes(gram)
    runs, positions = [], []
    for h, level in enumerate(gram.levels):
        n_nodes = len(level.parent)
        if h + 1 == len(gram.levels):
            runs.append(np.arange(-(-n_nodes // lanes) + 1, dtype=np.int64))
            positions.append(np.arange(n_nodes, dtype=np.int64))
            continue
        # the children of one parent are neighbours, and fill one or more lanes evenly
        children = np.bincount(level.parent, minlength=len(gram.levels[h + 1].parent))
        longest = min(_RUN, max(1, n_nodes // lanes))
        own = -(-children // longest)
        parent = np.repeat(np.arange(len(children)), own)
        place = np.arange(len(parent)) - np.repeat(np.cumsum(own) - own, own)
        size = children[parent] // own[parent] + (place < children[parent] % own[parent])
        order = np.argsort(-size, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        starts = np.concatenate([[0], np.cumsum(size[order[::lanes]])]).astype(np.int64)
        lane = np.repeat(rank, size)
        slot = np.arange(n_nodes) - np.repeat(np.cumsum(size) - size, size)
        runs.append(starts)
        positions.append((starts[lane // lanes] + slot) * lanes + lane % lanes)
    return runs, positions


class Lanes:
    """Where the groups of cross-products stand side by side, to read what kernels write.

    Parameters
    ----------
    gram : Gram
    """

    def __init__(self, gram: Gram) -> None:
        self._gram = gram
        self._lanes = count_lanes(gram)
        self._runs, self._positions = place_nodes(gram)
        self.shapes = [(g.n_levels, g.q) for g in gram.groupings]
        for h, level in enumerate(gram.levels):
            places = int(self._runs[h][-1]) * self._lanes
            self.shapes[level.grouping] = places, gram.groupings[level.grouping].q

    def levels(self, h: int) -> Index:
        """Return the level at each place of the chain's h-th grouping, -1 where there is none."""
        levels = np.full(int(self._runs[h][-1]) * self._lanes, -1, dtype=np.int64)
        levels[self._positions[h]] = self._gram.levels[h].levels
        return levels

    def by_level(self, *arrays: Array) -> list[Array]:
        """Return arrays (chains, numbers of all groupings) with blocks turned into levels.

        The first has q numbers for each level, the others q squared.
        """
        out = []
        for power, values in enumerate(arrays):
            sizes = [(n, q if power == 0 else q * q) for n, q in self.shapes]
            parts = np.split(values, np.cumsum([n * size for n, size in sizes])[:-1], axis=1)
            for h, level in enumerate(self._gram.levels):
                n, size = sizes[level.grouping]
                blocks = parts[level.grouping].reshape(len(values), -1, size, self._lanes)
                rows = blocks.transpose(0, 1, 3, 2).reshape(len(values), n, size)
                part = np.empty((len(values), len(level.levels), size))
                part[:, level.levels] = rows[:, self._positions[h]]
                parts[level.grouping] = part.reshape(len(values), -1)
            out.append(np.concatenate(parts, axis=1))
        return out


def _parents(
    gram: Gram, h: int, runs: Index, positions: list[Index], wides: list[int], lanes: int
) -> Index:
    """Return by run and lane where its parent's numbers begin among the fronts of its level."""
    parent = np.zeros((len(runs) - 1, lanes), dtype=np.int64)
    if h + 1 < len(gram.levels):
        block, lane = np.divmod(positions[h], lanes)
        run = np.searchsorted(runs, block, side="right") - 1
        above, beside = np.divmod(positions[h + 1][gram.levels[h].parent], lanes)
        parent[run, lane] = above * wides[h + 1] ** 2 * lanes + beside
    return parent


def _write_level(
    gram: Gram,
    h: int,
    record: Index,
    lanes: int,
    runs: Index,
    positions: Index,
    wide: int,
    end: int,
    writer: Writer,
) -> int:
    """Write one grouping of the chain; return the end of its scratch."""
    level = gram.levels[h]
    q, blocks = gram.groupings[level.grouping].q, int(runs[-1])
    record[[SIZE, OWNER, LATER, RUNS]] = q, level.grouping, gram.later(h), len(runs) - 1
    record[AT_RUNS] = writer.add_index(runs)
    multiplicity = np.zeros(blocks * lanes)
    multiplicity[positions] = level.multiplicity
    record[AT_MULTIPLICITY] = writer.add(multiplicity)
    record[MULTIPLE] = int(np.any(level.multiplicity != 1.0))
    products = _dense_products(gram, h, level)
    padded = np.zeros((products.shape[1], blocks * lanes))
    padded[:, positions] = products.T
    record[AT_PRODUCTS] = writer.add(padded.reshape(-1, blocks, lanes).transpose(1, 0, 2))
    record[FACTOR] = end
    end += blocks * q * wide * lanes
    if h > 0:
        size = blocks * wide**2 * lanes
        record[FRONT], record[OMEGA] = end, end + size
        end += 2 * size
    return end


def _dense_products(gram: Gram, h: int, level: ChainLevel) -> Array:
    """Return products (J, M q raw), every border column included."""
    q, n_nodes, m = gram.groupings[level.grouping].q, len(level.parent), gram.n_bases
    if not gram.border:
        return level.products.reshape(n_nodes, -1)
    head, crossed, tail = q + gram.later(h), gram.corner.n_columns, gram.tail
    raw = head + crossed + tail
    dense = np.zeros((n_nodes, m * q, raw))
    sizes = np.array([g.q for g in gram.groupings])[level.touch_grouping]
    columns = np.concatenate([np.zeros(0, dtype=np.intp), *map(np.arange, sizes)]) + np.repeat(
        level.touch_corner, sizes
    )
    starts = np.concatenate([[0], np.cumsum(level.touch_columns)])
    for node in range(n_nodes):
        own = columns[starts[node] : starts[node + 1]] + head
        places = np.concatenate([np.arange(head), own, np.arange(raw - tail, raw)])
        part = level.products[level.start[node] : level.start[node + 1]]
        dense[node][:, places] = part.reshape(m * q, -1)
    return dense.reshape(n_nodes, -1)

"""Cross-products written for the kernels that take many groups at a time.

Where every group has the same columns after its own, groups stand side by side in blocks of
`LANES`: each number of a node is a row of its block, so that the inner loops run over groups. What
fills up the last block has no rows: its products are zero and add nothing.
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
    SIZE, OWNER, LATER, BLOCKS, AT_PARENT, AT_MULTIPLICITY, MULTIPLE, AT_PRODUCTS, FACTOR, FRONT,
    OMEGA,
) = range(11)  # fmt: skip
LEVEL: Final = 11

# Numbers of a block's widest array, which stay in the processor's first cache.
_BLOCK: Final = 2048
_MOST: Final = 20_000_000
_FILLED: Final = 0.25


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
    n_corner = corner.n_columns + gram.n_coefs + 1
    head[INVERSE] = head[CORNER] + n_corner**2
    head[START] = head[INVERSE] + n_corner**2
    end = int(head[START]) + n_corner
    wides = [
        gram.groupings[level.grouping].q + gram.later(h) + n_corner
        for h, level in enumerate(gram.levels)
    ]
    q = max(g.q for g in gram.groupings)
    most = max(len(level.parent) for level in gram.levels)
    lanes = min(-(-most // 4) * 4, max(8, _BLOCK // (q * max(wides)) // 8 * 8), 256)
    levels = np.zeros((len(gram.chain), LEVEL), dtype=np.int64)
    for h, level in enumerate(gram.levels):
        above = wides[h + 1] if h + 1 < len(wides) else 0
        end = _write_level(gram, h, level, levels[h], lanes, wides[h], above, end, writer)
    head[AT_LEVELS] = writer.add_index(levels)
    wide = max(wides) + gram.n_others
    head[LANES], head[REST], head[WORK] = lanes, 0, end
    corner_work = 6 * q * (n_corner + gram.n_others) + 3 * gram.tail**2
    head[SCRATCH] = end + max((5 * q * wide + q + 3) * lanes, corner_work)
    return writer.add_index(head)


def _write_level(
    gram: Gram,
    h: int,
    level: ChainLevel,
    record: Index,
    lanes: int,
    wide: int,
    above: int,
    end: int,
    writer: Writer,
) -> int:
    """Write one grouping of the chain; return the end of its scratch."""
    q, n_nodes = gram.groupings[level.grouping].q, len(level.parent)
    blocks = -(-n_nodes // lanes)
    record[[SIZE, OWNER, LATER, BLOCKS]] = q, level.grouping, gram.later(h), blocks
    multiplicity = np.zeros(blocks * lanes)
    multiplicity[:n_nodes] = level.multiplicity
    record[AT_MULTIPLICITY] = writer.add(multiplicity)
    record[MULTIPLE] = int(np.any(level.multiplicity != 1.0))
    # where a parent's numbers begin within its level's fronts, for the first of them
    parent = np.zeros(blocks * lanes, dtype=np.int64)
    block, lane = np.divmod(level.parent, lanes)
    parent[:n_nodes] = block * above**2 * lanes + lane
    record[AT_PARENT] = writer.add_index(parent)
    products = _dense_products(gram, h, level)
    padded = np.zeros((products.shape[1], blocks * lanes))
    padded[:, :n_nodes] = products.T
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

"""Cross-products written into the flat buffer that the arrow's kernels read.

Positions count float64. Whole numbers are int64 of the same width, read through a view; everything
stands at positions relative to the beginning of the buffer, and scratch positions relative to the
kernel's working memory.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hiermodels.spec.gram import ChainLevel, Gram

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# Places in the head.
(
    H, M, P, OTHERS, CROSSED, AT_GROUPS, AT_LEVELS, N_PAIRS, AT_PAIRS, N_BLOCKS, AT_BLOCKS,
    AT_TAIL, AT_PRIOR, SCRATCH, CORNER, INVERSE, START, WORK, REST, LAMBDAS, AT_FIRST,
) = range(21)  # fmt: skip
ARROW: Final = 24
# Where the border scores' prior precision stands; 0 for the identity. Place 21 is `lanes_layout`'s.
KNOWN: Final = 22
# Record of a grouping: effects, and the first entry of its factor among all factors.
GROUP_SIZE, GROUP_AT = 0, 1
GROUP: Final = 2
# Record of a level of the chain.
(
    SIZE, OWNER, LATER, NODES, AT_PARENT, AT_MULTIPLICITY, AT_START, AT_TOUCHES, AT_TOUCH_GROUP,
    AT_TOUCH_PLACE, AT_COLUMNS, AT_FACTOR, FRONT, OMEGA,
) = range(14)  # fmt: skip
LEVEL: Final = 14
PAIR: Final = 5
BLOCK: Final = 3


class Writer:
    """Collects numbers for a buffer, and says where each will stand."""

    def __init__(self, head: int) -> None:
        self.parts: list[Array] = []
        self.end = head

    def add(self, values: Array) -> int:
        """Return where these numbers begin."""
        start = self.end
        self.parts.append(np.ascontiguousarray(values, dtype=np.float64).ravel())
        self.end += self.parts[-1].size
        return start

    def add_index(self, values: NDArray[np.integer]) -> int:
        """Return where these whole numbers begin."""
        return self.add(np.ascontiguousarray(values, dtype=np.int64).ravel().view(np.float64))


def lambda_starts(gram: Gram) -> tuple[int, ...]:
    """Return where the (q, q) factor of each grouping begins among all factors, and their size."""
    return tuple(int(k) for k in np.cumsum([0, *(g.q**2 for g in gram.groupings)]))


def write_arrow(gram: Gram, prior: Array, writer: Writer) -> int:
    """Write the cross-products and the coefficients' prior.

    Parameters
    ----------
    gram : Gram
    prior : ndarray (p + 1, p + 1)
        Precision of the kernel's coefficients, its product with their mean, and the mean's square
        under it: zeros for flat ones.
    writer : Writer

    Returns
    -------
    int
        Where the head stands.
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
    head[AT_TAIL] = writer.add(corner.tail)
    head[AT_PRIOR] = writer.add(prior)
    head[KNOWN] = writer.add(gram.known) if gram.dependent else 0
    n_corner = corner.n_columns + gram.n_coefs + 1
    head[INVERSE] = head[CORNER] + n_corner**2
    head[START] = head[INVERSE] + n_corner**2
    end = int(head[START]) + n_corner
    levels = np.zeros((len(gram.chain), LEVEL), dtype=np.int64)
    rest = 0
    for h, level in enumerate(gram.levels):
        end, most = _write_level(gram, h, level, levels[h], end, writer)
        rest = max(rest, most)
    head[AT_LEVELS] = writer.add_index(levels)
    q = max((g.q for g in gram.groupings), default=1)
    wide = max(rest + q, n_corner) + gram.n_others
    head[REST], head[WORK] = rest, end
    head[SCRATCH] = end + 6 * q * wide + rest**2 + 3 * gram.tail * (wide + 1)
    return writer.add_index(head)


def _write_level(
    gram: Gram, h: int, level: ChainLevel, record: Index, end: int, writer: Writer
) -> tuple[int, int]:
    """Write one grouping of the chain; return the end of its scratch and its widest rest."""
    q = gram.groupings[level.grouping].q
    record[[SIZE, OWNER, LATER]] = q, level.grouping, gram.later(h)
    record[NODES] = len(level.parent)
    record[AT_PARENT] = writer.add_index(level.parent)
    record[AT_MULTIPLICITY] = writer.add(level.multiplicity)
    record[AT_START] = writer.add_index(level.start + writer.end + len(level.start))
    writer.add(level.products)
    record[AT_TOUCHES] = writer.add_index(level.touch_start)
    record[AT_TOUCH_GROUP] = writer.add_index(level.touch_grouping)
    record[AT_TOUCH_PLACE] = writer.add_index(level.touch_position)
    record[AT_COLUMNS] = writer.add_index(level.touch_columns)
    rest = gram.later(h) + level.touch_columns + gram.n_coefs + 1
    factors = np.cumsum([end, *(q * (q + rest))])
    record[AT_FACTOR] = writer.add_index(factors[:-1])
    end = int(factors[-1])
    most = int(rest.max())
    if h > 0:
        record[FRONT], record[OMEGA] = end, end + (q + most) ** 2
        end += 2 * (q + most) ** 2
    return end, most

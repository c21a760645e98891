"""Which groupings contain each other, and which levels meet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hiermodels.spec.compiling import cached_kernel
from hiermodels.spec.gram_parts import Grouping, Index

# numba carries no types: mypy cannot see through its decorators.
# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False


@cached_kernel
def _first(index: Index, first: Index) -> None:
    for i in range(index.shape[0] - 1, -1, -1):
        first[index[i]] = i


def _first_rows(grouping: Grouping) -> Index:
    """Return the first row of every level."""
    first = np.zeros(grouping.n_levels, dtype=np.intp)
    _first(grouping.index, first)
    return first


def _nested(inner: Grouping, outer: Grouping) -> bool:
    """Whether every level of one grouping lies within one level of the other."""
    return bool(np.all(outer.index[_first_rows(inner)][inner.index] == outer.index))


def find_chain(groupings: Sequence[Grouping]) -> tuple[int, ...]:
    """Return the grouping with most levels and those that it is nested in, inner to outer.

    Groupings whose levels share rows or depend on each other are never among them.
    """
    # Of two with the same levels the one with more effects is worth more outside the corner.
    order = sorted(
        (k for k, grouping in enumerate(groupings) if not grouping.crossed),
        key=lambda k: (groupings[k].n_levels, groupings[k].q),
        reverse=True,
    )
    chain = order[:1]
    for k in order[1:]:
        if _nested(groupings[chain[-1]], groupings[k]):
            chain.append(k)
    return tuple(chain)


def find_tree(chain: Sequence[Grouping]) -> tuple[list[Index], list[Index], list[Index]]:
    """Return by grouping the node of each row, each node's parent, and its level."""
    nodes: list[Index] = []
    parents: list[Index] = []
    levels: list[Index] = []
    for h, grouping in enumerate(chain):
        first = _first_rows(grouping)
        keys = [np.arange(grouping.n_levels), *(outer.index[first] for outer in chain[h + 1 :])]
        order = np.lexsort(keys).astype(np.intp)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        nodes.append(rank[grouping.index])
        levels.append(order)
    for h in range(len(chain)):
        if h + 1 < len(chain):
            parents.append(nodes[h + 1][_first_rows(chain[h])[levels[h]]])
        else:
            parents.append(np.zeros(len(levels[h]), dtype=np.intp))
    return nodes, parents, levels


@dataclass(frozen=True, eq=False)
class Touches:
    """Which border levels the nodes of one grouping meet, in order."""

    keys: Index
    start: Index
    grouping: Index
    level: Index
    columns: Index
    before: Index  # columns before each touch, over all nodes
    rows: tuple[Index, ...]  # by border grouping, the touches of every row (n, M)


def find_touches(groupings: Sequence[Grouping], border: Sequence[int], node: Index) -> Touches:
    """Return which border levels the nodes of a grouping meet, given each row's node."""
    n_nodes = int(node.max()) + 1
    bases = np.cumsum([0, *(groupings[k].n_levels for k in border)])
    found = []
    for base, k in zip(bases, border, strict=False):
        code = (node * bases[-1] + base)[:, None] + groupings[k].slots
        found.append(np.unique(code, return_inverse=True))
    keys = np.sort(np.concatenate([np.zeros(0, dtype=np.intp), *(own for own, _ in found)]))
    owner, block = np.divmod(keys, max(bases[-1], 1))
    place = np.searchsorted(bases[1:], block, side="right")
    kinds = np.array(border, dtype=np.intp)[place] if len(keys) else place
    sizes = np.array([g.q for g in groupings], dtype=np.intp)[kinds]
    before = np.cumsum(np.concatenate([[0], sizes])).astype(np.intp)
    start = np.searchsorted(owner, np.arange(n_nodes + 1)).astype(np.intp)
    rows = tuple(
        np.searchsorted(keys, own)[inverse].reshape(len(node), -1) for own, inverse in found
    )
    columns = before[start[1:]] - before[start[:-1]]
    level = block - bases[place] if len(keys) else block
    return Touches(keys, start, kinds.astype(np.intp), level, columns, before, rows)


def touch_positions(
    groupings: Sequence[Grouping],
    border: Sequence[int],
    first: Index,
    own: Touches,
    parent: Index,
    above: Touches | None,
) -> Index:
    """Return where each touched level begins among the parent's columns, or in the corner."""
    owner = np.repeat(np.arange(len(own.columns)), np.diff(own.start))
    if above is None:
        begin = dict(zip(border, first, strict=False))
        bases = np.array([begin.get(k, 0) for k in range(len(groupings))], dtype=np.intp)
        sizes = np.array([g.q for g in groupings], dtype=np.intp)
        return np.asarray(bases[own.grouping] + own.level * sizes[own.grouping], dtype=np.intp)
    n_blocks = max(sum(groupings[k].n_levels for k in border), 1)
    place = np.searchsorted(above.keys, parent[owner] * n_blocks + own.keys % n_blocks)
    return np.asarray(above.before[place] - above.before[above.start[parent[owner]]], dtype=np.intp)

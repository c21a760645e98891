"""Groups side by side: every node has a place, and a lane of a run holds one parent's children."""

import numpy as np
import pytest

from hiermodels.engines.lanes_layout import Lanes, count_lanes, place_nodes
from hiermodels.spec.gram import build_gram
from hiermodels.spec.gram_parts import Grouping


def tree(children):
    """Return cross-products of parents with so many children of two rows each."""
    parent = np.repeat(np.arange(len(children)), children)
    inner = np.repeat(np.arange(len(parent)), 2)
    outer, n = parent[inner], 2 * len(parent)
    groupings = [
        Grouping("inner", np.ones((n, 1)), inner, len(parent)),
        Grouping("outer", np.ones((n, 1)), outer, len(children)),
    ]
    rng = np.random.default_rng(0)
    return build_gram(groupings, np.ones((n, 1)), np.ones((n, 0)), rng.normal(size=n))


@pytest.mark.parametrize(
    "children",
    [[1, 2, 3], [500, 1, 1], [3] * 300, [1, 40] * 150, list(range(1, 60)), [2] * 1000 + [400]],
)
def test_children_of_one_parent_share_lanes(children):
    gram = tree(children)
    lanes = count_lanes(gram)
    assert lanes % 4 == 0
    runs, positions = place_nodes(gram)
    for own, level in zip(positions, gram.levels, strict=True):
        assert len(set(own.tolist())) == len(level.parent)
    inner = positions[0]
    assert inner.max() < runs[0][-1] * lanes
    block, lane = np.divmod(inner, lanes)
    run = np.searchsorted(runs[0], block, side="right") - 1
    owners = {}
    for where, parent in zip(zip(run, lane, strict=True), gram.levels[0].parent, strict=True):
        owners.setdefault(where, set()).add(int(parent))
    assert all(len(parents) == 1 for parents in owners.values())
    # what stands empty costs as much as what does not
    assert runs[0][-1] * lanes <= 2 * len(inner) + 20 * lanes
    found = Lanes(gram).levels(0)
    np.testing.assert_array_equal(found[inner], gram.levels[0].levels)
    assert np.count_nonzero(found >= 0) == len(inner)


@pytest.mark.parametrize("border", [1, 30, 38, 100, 400])
@pytest.mark.parametrize("groups", [1, 18, 50, 53, 300])
def test_few_lanes_stand_empty(groups, border):
    # 50 groups beside 38 columns once stood in two blocks of 48
    index, n = np.repeat(np.arange(groups), 2), 2 * groups
    X = np.random.default_rng(0).normal(size=(n, border))
    gram = build_gram(
        [Grouping("g", np.ones((n, 1)), index, groups)], X, np.ones((n, 0)), np.zeros(n)
    )
    lanes = count_lanes(gram)
    blocks = int(place_nodes(gram)[0][0][-1])
    assert lanes % 4 == 0
    assert groups <= blocks * lanes < groups + 4 * blocks

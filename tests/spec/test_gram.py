"""Cross-products: equal to dense ones on every shape, and unmoved by origin and scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from hiermodels.spec.gram import Grouping, build_gram, compress


def grouping(name, index, q, rng):
    index = np.asarray(index, dtype=np.intp)
    return Grouping(name, rng.normal(size=(len(index), q)), index, int(index.max()) + 1)


def covering(rng, levels, n):
    return rng.permutation(np.concatenate([np.arange(levels), rng.integers(0, levels, n - levels)]))


def random_groupings(rng, n, shape):
    """Return groupings of a shape: letters n (nested in each other) and c (crossed)."""
    groupings, q = [], lambda: int(rng.integers(1, 5))
    nested = shape.count("n")
    index = covering(rng, int(rng.integers(8, max(9, n // 2))), n)
    for k in range(nested):
        groupings.append(grouping(f"n{k}", index, q(), rng))
        index = index // 2
    for k in range(shape.count("c")):
        groupings.append(grouping(f"c{k}", covering(rng, int(rng.integers(2, 7)), n), q(), rng))
    order = rng.permutation(len(groupings))
    return [groupings[k] for k in order]


def dense_columns(gram, X, other, y):
    """Return by grouping (n, J, q), and the tail, as the cross-products hold them."""
    blocks = []
    for g in gram.groupings:
        Z = np.zeros((gram.n, g.n_levels, g.q))
        Z[np.arange(gram.n), g.index] = g.z
        blocks.append(Z)
    left = y - X @ gram.centre - other @ gram.other_centre
    return blocks, np.column_stack([X @ np.linalg.inv(gram.R), other, left])


def matrix(basis, n):
    if basis is None:
        return np.eye(n)
    return np.diag(basis) if isinstance(basis, np.ndarray) else basis.toarray()


def node_columns(gram, blocks, tail, h, node):
    """Return own columns and those after them of one node, in the order of its products."""
    level = gram.levels[h]
    own = blocks[level.grouping][:, level.levels[node]]
    parts, at = [own], node
    for above in range(h + 1, len(gram.levels)):
        at = gram.levels[above - 1].parent[at]
        parts.append(blocks[gram.levels[above].grouping][:, gram.levels[above].levels[at]])
    crossed = np.concatenate(
        [np.zeros((gram.n, 0)), *(blocks[k].reshape(gram.n, -1) for k in gram.border)], axis=1
    )
    # Where the touched columns stand in the corner, through the fronts of the ancestors.
    places = touched_columns(gram, h, node)
    parts += [crossed[:, places], tail]
    return own, np.concatenate(parts, axis=1)


def touched_columns(gram, h, node):
    level = gram.levels[h]
    span = slice(level.touch_start[node], level.touch_start[node + 1])
    sizes = [gram.groupings[k].q for k in level.touch_grouping[span]]
    columns = [
        first + np.arange(q) for first, q in zip(level.touch_position[span], sizes, strict=True)
    ]
    columns = np.concatenate([np.zeros(0, dtype=int), *columns])
    if h + 1 == len(gram.levels):
        return columns
    return touched_columns(gram, h + 1, level.parent[node])[columns]


SHAPES = ("", "n", "nn", "nnn", "c", "nc", "ncc", "nnc", "nncc")


@given(st.sampled_from(SHAPES), st.integers(0, 10**6), st.booleans())
def test_products_equal_dense_ones(shape, seed, chained):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 50))
    groupings = random_groupings(rng, n, shape)
    X = rng.normal(size=(n, int(rng.integers(0, 4))))
    other = rng.normal(size=(n, int(rng.integers(0, 3))))
    y = rng.normal(size=n)
    bases = [None, rng.uniform(size=n), sparse.csr_array(np.diag(rng.uniform(size=n)))]
    bases = bases[: int(rng.integers(1, 4))]
    gram = build_gram(groupings, X, other, y, bases, chained)
    blocks, tail = dense_columns(gram, X, other, y)
    assert sorted(gram.chain + gram.border) == list(range(len(groupings)))
    for m, basis in enumerate(bases):
        M = matrix(basis, n)
        # Sums of a few dozen products in another order.
        close = {"rtol": 1e-11, "atol": 1e-12}
        np.testing.assert_allclose(gram.corner.tail[m], tail.T @ M @ tail, **close)
        for h, level in enumerate(gram.levels):
            for node in range(len(level.levels)):
                own, after = node_columns(gram, blocks, tail, h, node)
                found = level.products[level.start[node] : level.start[node + 1]]
                found = found.reshape(len(bases), own.shape[1], -1)[m]
                np.testing.assert_allclose(found, own.T @ M @ after, **close)
        crossed = np.zeros((gram.corner.n_columns,) * 2)
        for first, second, a, b, at in gram.corner.pairs:
            qa, qb = groupings[a].q, groupings[b].q
            part = gram.corner.products[at : at + len(bases) * qa * qb]
            crossed[first : first + qa, second : second + qb] = part.reshape(-1, qa, qb)[m]
        whole = np.concatenate(
            [np.zeros((n, 0)), *(blocks[k].reshape(n, -1) for k in gram.border)], axis=1
        )
        upper = np.triu(np.ones_like(crossed))
        for k, first in zip(gram.border, gram.corner.first, strict=True):
            size = groupings[k].n_levels * groupings[k].q
            upper[first : first + size, first : first + size] = 1.0
        np.testing.assert_allclose(crossed * upper, (whole.T @ M @ whole) * upper, **close)


def test_rows_that_no_node_touches_hold_no_products():
    # Every nonzero product of the head's columns with the border is among those touched.
    rng = np.random.default_rng(5)
    groupings = random_groupings(rng, 60, "ncc")
    X, y = rng.normal(size=(60, 1)), rng.normal(size=60)
    gram = build_gram(groupings, X, np.zeros((60, 0)), y)
    blocks, _ = dense_columns(gram, X, np.zeros((60, 0)), y)
    whole = np.concatenate([blocks[k].reshape(60, -1) for k in gram.border], axis=1)
    level = gram.levels[0]
    for node in range(len(level.levels)):
        own = blocks[level.grouping][:, level.levels[node]]
        nonzero = np.flatnonzero(np.any(own.T @ whole != 0, axis=0))
        assert set(nonzero) <= set(touched_columns(gram, 0, node))
        assert level.touch_columns[node] == len(touched_columns(gram, 0, node))


def test_children_of_one_parent_stand_side_by_side():
    rng = np.random.default_rng(3)
    inner = rng.permutation(np.repeat(np.arange(12), 4))
    outer = np.array([0, 2, 1, 0, 2, 1, 0, 1, 2, 0, 1, 2])[inner]
    groupings = [grouping("outer", outer, 1, rng), grouping("inner", inner, 1, rng)]
    gram = build_gram(groupings, np.ones((48, 1)), np.ones((48, 0)), rng.normal(size=48))
    assert gram.chain == (1, 0)
    parents = gram.levels[0].parent
    assert np.all(np.diff(parents) >= 0)
    np.testing.assert_array_equal(np.bincount(parents), [4, 4, 4])


def test_crossed_groupings_are_border_and_two_names_of_one_factor_are_nested():
    rng = np.random.default_rng(3)
    a, b = np.repeat(np.arange(10), 5), np.tile(np.arange(5), 10)
    crossed = [grouping("a", a, 1, rng), grouping("b", b, 1, rng)]
    rest = np.ones((50, 1)), np.ones((50, 0)), rng.normal(size=50)
    assert build_gram(crossed, *rest).border == (1,)
    same = [grouping("a", a, 1, rng), grouping("again", a, 1, rng)]
    assert build_gram(same, *rest).border == ()


def test_origin_and_scale_of_response_and_predictors_do_not_matter():
    rng = np.random.default_rng(8)
    n = 200
    x, index = rng.normal(size=n), rng.integers(0, 9, n)
    y = 2.0 + x + rng.normal(size=n)
    group = [grouping("g", np.arange(9)[index], 2, rng)]
    none = np.ones((n, 0))
    first = build_gram(group, np.column_stack([np.ones(n), x]), none, y)
    far = build_gram(group, np.column_stack([np.ones(n), 1e3 * x + 1e6]), none, y + 1e6)
    # Columns of 1e6 with spread 1e3 hold 1e-13 of relative accuracy; the response 1e-10.
    np.testing.assert_allclose(
        np.abs(far.levels[0].products), np.abs(first.levels[0].products), atol=1e-7
    )
    np.testing.assert_allclose(far.corner.tail[0, -1, -1], first.corner.tail[0, -1, -1], rtol=1e-8)


def test_columns_that_depend_on_each_other_are_only_scaled():
    rng = np.random.default_rng(8)
    x = rng.normal(size=30)
    X = np.column_stack([x, 2 * x, np.zeros(30)])
    gram = build_gram([], X, np.ones((30, 0)), x)
    np.testing.assert_allclose(gram.R, np.diag([*np.linalg.norm(X, axis=0)[:2], 1.0]))
    np.testing.assert_array_equal(gram.centre, np.zeros(3))


@pytest.mark.parametrize("m", [1, 2])
def test_compression_keeps_sums_of_squares(m):
    rng = np.random.default_rng(2)
    # 50 groups with the same times, 2 of their own.
    times = np.concatenate([np.tile([0.0, 1.0, 2.0], 50), [0.0, 3.0, 1.0, 1.0]])
    index = np.concatenate([np.repeat(np.arange(50), 3), [50, 50, 51, 51]])
    z = np.column_stack([np.ones_like(times), times])
    n = len(index)
    group = Grouping("g", z, index.astype(np.intp), 52)
    bases = [None, times][:m]
    gram = build_gram([group], z, np.ones((n, 0)), rng.normal(size=n), bases)
    small = compress(gram)
    shape = (-1, m * 2, 2 + gram.tail)
    full = gram.levels[0].products.reshape(shape)
    part = small.levels[0].products.reshape(shape)
    weight = small.levels[0].multiplicity
    assert weight.sum() == 52
    assert len(part) == 2 + m * 2 * gram.tail
    np.testing.assert_allclose(
        np.einsum("j,jab->ab", weight, part[..., :2]), full[..., :2].sum(axis=0), rtol=1e-12
    )
    tails = [k[..., 2:].reshape(len(k), -1) for k in (full, part)]
    np.testing.assert_allclose(tails[1].T @ tails[1], tails[0].T @ tails[0], atol=1e-10)


def test_compression_leaves_nested_and_crossed_groupings_alone():
    rng = np.random.default_rng(5)
    for shape in ("nn", "nc", ""):
        groupings = random_groupings(rng, 60, shape)
        gram = build_gram(groupings, np.ones((60, 1)), np.ones((60, 0)), rng.normal(size=60))
        assert compress(gram) is gram

"""Core-sets: the greedy choice, its radius, copies."""

import numpy as np
import pytest

from skuq.active_learning import core_set


def test_on_a_line():
    np.testing.assert_array_equal(core_set([[0.0], [1.0], [10.0]], [[0.0]], 2), [2, 1])
    np.testing.assert_array_equal(core_set([[1.0], [10.0]], [[0.0]], 9), [1, 0])


def radius(pool, centres):
    return np.linalg.norm(pool[:, None] - centres[None], axis=2).min(axis=1).max()


def test_equals_a_plain_loop():
    random = np.random.default_rng(0)
    pool, known = random.normal(size=(80, 3)) + 100, random.normal(size=(5, 3)) + 100
    found, centres = core_set(pool, known, 10), known
    before = radius(pool, centres)
    for place in found:
        distances = np.linalg.norm(pool[:, None] - centres[None], axis=2).min(axis=1)
        assert place == distances.argmax()
        centres = np.vstack([centres, pool[place]])
        after = radius(pool, centres)
        assert after <= before
        before = after


def test_many_labelled_rows_are_read_in_blocks():
    random = np.random.default_rng(1)
    pool, known = random.normal(size=(50, 2)), random.normal(size=(600, 2))
    distances = np.linalg.norm(pool[:, None] - known[None], axis=2).min(axis=1)
    assert core_set(pool, known, 1)[0] == distances.argmax()


def test_copies_come_last():
    pool = np.repeat(np.arange(5.0)[:, None], 4, axis=0) + 1e6
    found = core_set(pool, [[1e6 + 2.0]], 20, random_state=0)
    assert sorted(found) == list(range(20))
    assert sorted(pool[found[:4], 0] - 1e6) == [0, 1, 3, 4]


def test_without_labelled_rows_the_first_is_random():
    pool = np.arange(6.0)[:, None]
    firsts = {int(core_set(pool, None, 1, random_state=seed)[0]) for seed in range(60)}
    assert firsts == set(range(6))
    assert len(core_set(pool, np.empty((0, 1)), 2, random_state=0)) == 2


def test_refusals():
    with pytest.raises(ValueError, match="equally many columns"):
        core_set([[1.0]], [[1.0, 2.0]], 1)
    with pytest.raises(ValueError, match="features must be finite"):
        core_set([[np.nan]], None, 1)
    with pytest.raises(ValueError, match="n must be"):
        core_set([[1.0]], None, 0)

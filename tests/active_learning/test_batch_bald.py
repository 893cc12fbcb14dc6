"""BatchBALD against enumerated joint entropies."""

import itertools

import numpy as np
import pytest

from skuq.active_learning import bald, batch_bald


def draws_of(n_draws=5, n_pool=12, n_classes=3, seed=0):
    random = np.random.default_rng(seed)
    return random.dirichlet(np.full(n_classes, 0.4), size=(n_draws, n_pool))


def information(draws, rows):
    """Mutual information of the labels of these rows and the draw, from all combinations."""
    joint = []
    for labels in itertools.product(range(draws.shape[2]), repeat=len(rows)):
        joint.append(np.prod([draws[:, i, k] for i, k in zip(rows, labels)], axis=0).mean())
    entropy = -sum(p * np.log(p) for p in joint if p > 0)
    return entropy + sum((draws[:, i] * np.log(draws[:, i])).sum(1).mean() for i in rows)


def test_greedy_by_exact_joint_information():
    draws = draws_of()
    found = batch_bald(draws, 4, random_state=0)
    chosen = []
    for place in found:
        left = [i for i in range(12) if i not in chosen]
        gains = [information(draws, [*chosen, i]) for i in left]
        assert place == left[int(np.argmax(gains))]
        chosen.append(int(place))


def test_sampled_joint_information_is_close():
    draws = draws_of(seed=1)
    exact = batch_bald(draws, 5, n_exact=9, random_state=0)
    sampled = batch_bald(draws, 5, n_exact=1, n_samples=20000, random_state=0)
    assert abs(information(draws, exact) - information(draws, sampled)) < 0.02


def test_the_first_is_that_of_bald(dropout, blobs):
    X = blobs[0]
    found = batch_bald(dropout.predict_draws(X), 3, random_state=0)
    assert found[0] == bald(dropout, X).argmax() and len(set(found)) == 3


def test_many_rows_and_a_small_pool():
    draws = draws_of()
    assert sorted(batch_bald(draws, 20, n_samples=50, random_state=0)) == list(range(12))
    few = batch_bald(draws, 2, n_candidates=2, random_state=0)
    alone = [information(draws, [i]) for i in range(12)]
    assert set(few) == set(np.argsort(alone)[-2:])


def test_refusals():
    with pytest.raises(ValueError, match="at least 2 draws"):
        batch_bald(draws_of(n_draws=1), 2)
    with pytest.raises(ValueError, match="sum to 1"):
        batch_bald(2 * draws_of(), 2)
    with pytest.raises(ValueError, match="3 axes"):
        batch_bald(draws_of()[0], 2)

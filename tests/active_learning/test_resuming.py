"""Interrupted simulations go on, and only where nothing has changed."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from skuq.active_learning import ActiveLearner, QueryStrategy, compare_queries, margin
from skuq.active_learning._identity import identity_of

OPTIONS = {"batch_size": 7, "n_rounds": 2, "initial": 10, "random_state": 0}
LOGISTIC = LogisticRegression(C=0.1)


def simulate(folder, X, y, X_test, **options):
    learner = ActiveLearner(LOGISTIC, checkpoint_dir=folder, **{**OPTIONS, **options})
    return learner.simulate(X, y, X_test, y)


def test_a_pool_that_has_ended_has_no_more_rounds(blobs, tmp_path):
    X, y = blobs
    runs = [simulate(tmp_path, X, y, X, batch_size=200, n_rounds=5) for _ in range(3)]
    for learner in runs:
        assert [r["n_labelled"] for r in learner.rounds_] == [10, 210, 240]
        assert learner.area_under_curve_ == runs[0].area_under_curve_


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, list], ids=["array", "frame", "list"])
def test_other_data_are_another_simulation(blobs, tmp_path, kind):
    X, y = blobs
    simulate(tmp_path, kind(X), y, kind(X))
    for rows, test in ((X[::-1], X), (X, 2 * X)):
        with pytest.raises(ValueError, match="another simulation"):
            simulate(tmp_path, kind(rows), y, kind(test))
    simulate(tmp_path, kind(X), y, kind(X), verbose=1)  # changes nothing


def test_identities_know_no_addresses():
    def twice(n):
        return lambda estimator, pool: n * margin(estimator, pool)

    def of(**options):
        return identity_of(ActiveLearner(LOGISTIC, **{**OPTIONS, **options}), np.ones(3))

    assert of(strategy=twice(2)) == of(strategy=twice(2)) != of(strategy=twice(3))
    assert of(strategy=lambda e, X: X[:, 0]) != of(strategy=lambda e, X: X[:, 1])
    assert of(strategy=QueryStrategy("margin")) != of(strategy=QueryStrategy("entropy"))
    first, *rest = (np.arange(2000) for _ in range(2))
    rest[0][1000] = 0  # repr leaves the middle out
    assert of(initial=first) != of(initial=rest[0])
    seeds = [np.random.RandomState(k) for k in (0, 1)]
    assert of(random_state=seeds[0]) == of(random_state=seeds[1])  # the file has the seed


@pytest.mark.parametrize("seeds", [(None, None), (1, 2)], ids=["none", "generators"])
def test_a_comparison_without_a_seed_goes_on(blobs, tmp_path, seeds):
    X, y = blobs

    def compare(n_seeds):
        seed = seeds[n_seeds - 2]  # another one in each call
        state = None if seed is None else np.random.RandomState(seed)
        return compare_queries(
            LOGISTIC, [margin], X, y, n_seeds=n_seeds, n_rounds=1, batch_size=5, initial=5,
            checkpoint_dir=tmp_path, random_state=state,
        ).scores  # fmt: skip

    first, more = compare(2), compare(3)
    assert list(first) == ["margin", "random"]
    for name in first:
        np.testing.assert_array_equal(more[name][:2], first[name])

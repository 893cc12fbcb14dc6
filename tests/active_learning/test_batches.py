"""Batches: top and stochastic selection, weighted k-means, BADGE."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import skuq
from skuq.active_learning import badge, kmeans_weighted, select
from skuq.active_learning._badge import seed_products


def test_top():
    scores = np.array([0.3, 0.9, -1.0, 0.5])
    np.testing.assert_array_equal(select(scores, 2), [1, 3])
    np.testing.assert_array_equal(select(scores, 99), [1, 3, 0, 2])
    labelled = np.array([False, True, False, False])
    np.testing.assert_array_equal(select(scores, 2, labelled=labelled), [3, 0])
    assert len(select(scores, 3, labelled=np.ones(4, bool))) == 0


def test_ties_are_in_random_order():
    firsts = {int(select(np.zeros(4), 1, random_state=seed)[0]) for seed in range(40)}
    assert firsts == {0, 1, 2, 3}
    generator = np.random.RandomState(0)
    assert len(select(np.zeros(4), 2, random_state=generator)) == 2


def test_power_draws_by_score():
    """The first row is drawn with probabilities proportional to score^power."""
    scores = np.array([1.0, 2.0, 0.0, 1.0])
    random = np.random.RandomState(0)
    firsts = [
        select(scores, 1, method="power", power=2.0, random_state=random)[0] for _ in range(3000)
    ]
    shares = np.bincount(firsts, minlength=4) / 3000
    np.testing.assert_allclose(shares, [1 / 6, 4 / 6, 0, 1 / 6], atol=0.03)
    uniform = [
        select(scores, 1, method="power", power=0, random_state=random)[0] for _ in range(3000)
    ]
    np.testing.assert_allclose(np.bincount(uniform) / 3000, 0.25, atol=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.nan], 1), "must be finite"),
        (([[1.0]], 1), "1 axis"),
        ((["a"], 1), "must be numbers"),
        (([1.0], 0), "n must be"),
        (([1.0], 1.5), "n must be"),
    ],
    ids=["NaN", "two axes", "text", "none", "half"],
)
def test_refused_scores(arguments, message):
    with pytest.raises(ValueError, match=message):
        select(*arguments)


def test_refused_options():
    with pytest.raises(ValueError, match="at least 0"):
        select([-1.0, 1.0], 1, method="power")
    with pytest.raises(ValueError, match="power must be"):
        select([1.0], 1, method="power", power=np.nan)
    with pytest.raises(ValueError, match="method must be"):
        select([1.0], 1, method="best")
    with pytest.raises(ValueError, match="labelled must be booleans"):
        select([1.0, 2.0], 1, labelled=[0, 1])


def test_weighted_k_means_takes_one_of_each_cluster():
    random = np.random.default_rng(0)
    centres = np.repeat(np.arange(4) * 10.0, 25)
    features = np.column_stack([centres, np.zeros(100)]) + random.normal(0, 0.1, (100, 2))
    scores = random.uniform(0.5, 1, 100)
    found = kmeans_weighted(features, scores, 4, share=100, random_state=0)
    assert sorted(found // 25) == [0, 1, 2, 3]
    assert (np.diff(scores[found]) <= 0).all()
    high = np.where(np.arange(100) < 25, 1.0, 0.0)
    assert (kmeans_weighted(features, high, 2, random_state=0) < 25).all()


def test_weighted_k_means_of_copies_and_few_rows():
    same = np.ones((6, 2))
    assert len(set(kmeans_weighted(same, np.arange(6.0), 3, random_state=0))) == 3
    assert sorted(kmeans_weighted(same[:2], [0.0, 0.0], 3, random_state=0)) == [0, 1]
    with pytest.raises(ValueError, match="expected equal"):
        kmeans_weighted(same, [1.0], 2)
    with pytest.raises(ValueError, match="at least 0"):
        kmeans_weighted(same, -np.ones(6), 2)


def test_badge_begins_with_the_longest_gradient(one_network, blobs):
    X = blobs[0]
    p = one_network.predict_proba(X)
    residual = p - np.eye(3)[p.argmax(axis=1)]
    features = np.column_stack([skuq.predict_features(one_network, X), np.ones(len(X))])
    gradients = (residual[:, :, None] * features[:, None, :]).reshape(len(X), -1)
    found = badge(one_network, X, 12, random_state=0)
    assert found[0] == (gradients**2).sum(axis=1).argmax()
    assert len(set(found)) == 12
    np.testing.assert_array_equal(found, badge(one_network, X, 12, random_state=0))


def test_badge_draws_by_squared_distance():
    """Four gradients: of three that are left, one is a copy of the first."""
    left = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    right = np.ones((4, 1))
    random = np.random.RandomState(0)
    seconds = [seed_products(left, right, 2, random)[1] for _ in range(2000)]
    shares = np.bincount(seconds, minlength=4) / 2000
    np.testing.assert_allclose(shares, [0, 0, 5 / 6, 1 / 6], atol=0.03)
    assert sorted(seed_products(left, right, 4, random)) == [0, 1, 2, 3]


def test_badge_of_other_estimators(blobs, regressors, regression):
    X, y = blobs
    assert len(badge(LogisticRegression(max_iter=2000).fit(X, y), X, 300, random_state=0)) == len(X)
    with pytest.raises(TypeError, match="badge needs a classifier"):
        badge(regressors[0], regression[0], 2)

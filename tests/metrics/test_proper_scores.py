"""Proper scores and their parts."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from skuq._bins import uniform_index
from skuq.metrics import brier_decomposition, brier_score, negative_log_likelihood
from tests.metrics.test_debiased_and_smooth_errors import sample


def test_scores_are_those_of_scikit_learn():
    for k in (2, 4):
        y, proba = sample(200, k)
        weight = np.random.default_rng(0).random(200)
        for w in (None, weight):
            assert negative_log_likelihood(y, proba, sample_weight=w) == pytest.approx(
                log_loss(y, proba, sample_weight=w)
            )
            assert brier_score(y, proba, sample_weight=w) == pytest.approx(
                brier_score_loss(y, proba if k > 2 else proba[:, 1], sample_weight=w)
            )
    assert np.isfinite(negative_log_likelihood([0, 1], [[0.0, 1.0], [1.0, 0.0]]))


def test_brier_decomposition_is_exact_where_bins_hold_one_value():
    random = np.random.default_rng(0)
    p = random.choice([0.05, 0.25, 0.45, 0.65, 0.95], 400)
    y = (random.random(400) < p**2).astype(int)
    parts = brier_decomposition(y, p, n_bins=5)
    assert parts.reliability - parts.resolution + parts.uncertainty == pytest.approx(
        brier_score(y, p)
    )
    assert parts.uncertainty == pytest.approx(y.mean() * (1 - y.mean()))
    expected = np.mean([(v - y[p == v].mean()) ** 2 for v in p])
    assert parts.reliability == pytest.approx(expected)


def test_brier_decomposition_of_several_classes_is_that_of_binned_probabilities():
    y, proba = sample(2000, 3)
    parts = brier_decomposition(y, proba, n_bins=8)
    binned = np.empty_like(proba)
    for k in range(3):
        index = uniform_index(proba[:, k], np.linspace(0, 1, 9))
        for b in np.unique(index):
            binned[index == b, k] = proba[index == b, k].mean()
    expected = ((binned - np.eye(3)[y]) ** 2).sum(1).mean()
    assert parts.reliability - parts.resolution + parts.uncertainty == pytest.approx(expected)


@pytest.mark.parametrize(
    "score",
    [negative_log_likelihood, brier_score],
)
def test_proper_scores_are_least_at_the_truth(score):
    grid = np.linspace(0.01, 0.99, 99)
    for truth in (0.1, 0.37, 0.8):
        y, weight = np.array([0, 1]), np.array([1 - truth, truth])
        values = [score(y, np.full(2, p), sample_weight=weight) for p in grid]
        assert grid[np.argmin(values)] == pytest.approx(truth, abs=0.006)

"""Scores from predictions: formulas, scikit-learn's estimators, what they refuse."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import TensorDataset

from skuq import TorchClassifier
from skuq.active_learning import (
    bald,
    entropy,
    least_confidence,
    margin,
    mean_std,
    random_scores,
    variance,
    variation_ratio,
)
from skuq.likelihoods import Bernoulli

OF_PROBABILITIES = {
    entropy: lambda p: -(p * np.log(p)).sum(axis=1),
    margin: lambda p: 1 - np.sort(p)[:, -1] + np.sort(p)[:, -2],
    least_confidence: lambda p: 1 - p.max(axis=1),
}


@pytest.mark.parametrize("query", OF_PROBABILITIES, ids=lambda q: q.__name__)
def test_of_mean_probabilities(query, ensemble, blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    for fitted in (ensemble, pipeline):
        expected = OF_PROBABILITIES[query](fitted.predict_proba(X))
        np.testing.assert_allclose(query(fitted, X), expected, rtol=1e-5)


def test_of_disagreement(dropout, blobs):
    X = blobs[0]
    draws = dropout.predict_draws(X)
    mean = draws.mean(axis=0)
    information = -(mean * np.log(mean)).sum(1) + (draws * np.log(draws)).sum(2).mean(0)
    np.testing.assert_allclose(bald(dropout, X), information, atol=1e-9)
    votes = draws.argmax(axis=2)
    most = np.stack([(votes == k).sum(axis=0) for k in range(3)]).max(axis=0)
    np.testing.assert_allclose(variation_ratio(dropout, X), 1 - most / 6, atol=1e-12)
    np.testing.assert_allclose(mean_std(dropout, X), draws.std(axis=0).mean(axis=1), rtol=1e-9)


def test_one_draw_cannot_disagree(one_network, regressors, blobs, regression):
    X = blobs[0]
    np.testing.assert_allclose(bald(one_network, X), 0, atol=1e-12)
    np.testing.assert_array_equal(variation_ratio(one_network, X), 0)
    np.testing.assert_allclose(variance(regressors[1], regression[0], "epistemic"), 0, atol=1e-12)
    with pytest.raises(ValueError, match="one draw"):
        mean_std(one_network, X)


def test_of_regressors(regressors, regression):
    fitted, X = regressors[0], regression[0]
    for kind in ("total", "aleatoric", "epistemic"):
        expected = fitted.predict_uncertainty(X, kind=kind)
        np.testing.assert_array_equal(variance(fitted, X, kind), expected)
    epistemic = fitted.predict_uncertainty(X, kind="epistemic")
    np.testing.assert_allclose(mean_std(fitted, X) ** 2, epistemic, rtol=1e-7)


def test_a_gaussian_process(regression):
    X, y = regression
    fitted = GaussianProcessRegressor(alpha=1.0).fit(X[:30], y[:30])
    _, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(variance(fitted, X), std**2, rtol=1e-9)


def test_several_labels_are_added(blobs):
    X, y = blobs
    fitted = TorchClassifier(likelihood=Bernoulli(), max_epochs=1, random_state=0)
    fitted.fit(X, np.eye(3)[y])
    p = fitted.predict_proba(X)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
    np.testing.assert_allclose(entropy(fitted, X), expected, rtol=1e-6)


def test_random_scores_have_a_seed(blobs):
    X = blobs[0]
    first, again = (random_scores(None, X, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(set(first)) == len(X) and not np.array_equal(first, random_scores(None, X))


def test_a_dataset_and_a_read_only_view(ensemble, blobs):
    X = np.array(blobs[0], order="F")
    X.flags.writeable = False
    expected = margin(ensemble, blobs[0])
    np.testing.assert_allclose(margin(ensemble, X[::-1]), expected[::-1])
    rows = TensorDataset(*map(torch.from_numpy, blobs))
    np.testing.assert_allclose(margin(ensemble, rows), expected)
    assert random_scores(None, rows).shape == expected.shape


def test_refusals(ensemble, regressors, blobs, regression):
    X = blobs[0]
    with pytest.raises(TypeError, match=r"entropy needs a classifier, got TorchRegressor"):
        entropy(regressors[0], regression[0])
    with pytest.raises(TypeError, match="variance needs a regressor"):
        variance(ensemble, X)
    with pytest.raises(ValueError, match="kind must be"):
        variance(regressors[0], regression[0], kind="noise")
    with pytest.raises(NotFittedError):
        margin(TorchClassifier(), X)
    with pytest.raises(ValueError, match="0 rows"):
        margin(ensemble, X[:0])
    with pytest.raises(ValueError, match="NaN"):
        margin(ensemble, np.full_like(X, np.nan))
    with pytest.raises(TypeError, match="expected a fitted estimator first"):
        margin(X, ensemble)
    with pytest.raises(TypeError):
        bald(Ridge().fit(*regression), regression[0])

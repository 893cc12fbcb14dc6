"""Beside scikit-activeml: the same numbers, and skuq's estimators inside of its wrappers."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.active_learning import QueryStrategy, bald
from skuq.active_learning._closed_forms import model_change
from skuq.posteriors import MCDropout
from tests.active_learning.conftest import quick

pool = pytest.importorskip("skactiveml.pool")
classifiers = pytest.importorskip("skactiveml.classifier")
regressors = pytest.importorskip("skactiveml.regressor")


@pytest.fixture(scope="module")
def labels(blobs):
    return np.where(np.arange(240) < 60, blobs[1], np.nan)


@pytest.fixture(scope="module")
def wrapped(blobs, labels):
    network = TorchClassifier(**quick(MCDropout(6)))
    made = classifiers.SklearnClassifier(network, classes=[0, 1, 2], random_state=0)
    return made.fit(blobs[0], labels)


def test_greedy_bald_of_one_estimator_as_a_committee(wrapped, blobs, labels):
    """`predict_draws` gives the committee; the utilities are skuq's mutual information."""
    X = blobs[0]
    strategy = pool.GreedyBALD(
        sample_predictions_method_name="predict_draws", sample_predictions_dict={}, random_state=0
    )
    rows, utilities = strategy.query(
        X, labels, wrapped, fit_ensemble=False, batch_size=5, return_utilities=True
    )
    found = bald(wrapped.estimator_, X[60:])
    np.testing.assert_allclose(utilities[0][60:], found, atol=1e-10)
    ours = QueryStrategy("bald").query(X, labels, wrapped.estimator_, batch_size=5)
    assert set(rows) == set(ours)


def test_strategies_take_what_skuq_wraps(wrapped, blobs, labels):
    X = blobs[0]
    entropy = pool.UncertaintySampling(method="entropy", random_state=0)
    rows = entropy.query(X, labels, wrapped, batch_size=4, fit_clf=False)
    ours = QueryStrategy("entropy").query(X, labels, wrapped, batch_size=4)
    assert set(rows) == set(ours)
    assert len(pool.Badge(random_state=0).query(X, labels, wrapped, batch_size=3)) == 3


def test_regressors_in_its_wrapper(regression):
    X, y = regression
    y = np.where(np.arange(120) < 40, y, np.nan)
    network = TorchRegressor(**quick(MCDropout(4), 2))
    made = regressors.SklearnRegressor(network, random_state=0).fit(X, y)
    assert skuq.predict_uncertainty(made.estimator_, X).shape == (120,)
    rows = pool.GreedySamplingTarget(random_state=0).query(X, y, made, batch_size=2)
    assert len(rows) == 2


def test_expected_model_change_of_the_same_members(monkeypatch):
    """Their bootstrap members, noted while it fits them, in skuq's closed form."""
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 3))
    y = np.where(np.arange(40) < 15, X @ [1.0, -2.0, 0.5] + random.normal(size=40), np.nan)
    members = []

    class Noted(LinearRegression):
        def fit(self, X, y, **options):
            members.append(self)
            return super().fit(X, y, **options)

    def with_one(rows):
        return np.column_stack([rows, np.ones(len(rows))])

    made = regressors.SklearnRegressor(Noted(), random_state=0).fit(X, y)
    members.clear()
    strategy = pool.ExpectedModelChangeMaximization(
        bootstrap_size=4, feature_map=with_one, random_state=0
    )
    _, utilities = strategy.query(X, y, made, fit_reg=False, return_utilities=True)
    draws = np.stack([member.predict(X[15:]) for member in members[-4:]])
    own = made.predict(X[15:])
    lengths = np.linalg.norm(with_one(X[15:]), axis=1)
    expected = np.abs(own - draws).mean(axis=0) * lengths
    np.testing.assert_allclose(utilities[0][15:], expected, rtol=1e-9)
    ours = model_change(lengths, draws, own)
    np.testing.assert_allclose(ours, expected, rtol=1e-9)

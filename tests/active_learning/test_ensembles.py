"""Queries of scikit-learn's ensembles and meta-estimators, against a few lines of NumPy."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import entr
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import RFE
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

import skuq
from skuq.active_learning import (
    ActiveLearner,
    bald,
    entropy,
    expected_gradient_length,
    expected_model_change,
    margin,
    mean_std,
    variance,
    variation_ratio,
)


@pytest.fixture(scope="module")
def forest(blobs):
    return RandomForestClassifier(9, random_state=0).fit(blobs[0][:60], blobs[1][:60])


def test_queries_of_a_forest(forest, blobs):
    X = blobs[0][60:]
    each = np.stack([tree.predict_proba(X) for tree in forest.estimators_])
    mean = each.mean(axis=0)
    information = entr(mean).sum(axis=1) - entr(each).sum(axis=2).mean(axis=0)
    votes = np.stack([(each.argmax(axis=2) == k).sum(axis=0) for k in range(3)])
    first, second = np.sort(mean, axis=1)[:, :-3:-1].T
    for query, expected in {
        bald: information,
        variation_ratio: 1 - votes.max(axis=0) / 9,
        mean_std: each.std(axis=0).mean(axis=1),
        entropy: entr(mean).sum(axis=1),
        margin: 1 - (first - second),
    }.items():
        np.testing.assert_allclose(query(forest, X), expected, atol=1e-12)


def test_queries_of_a_forest_of_numbers(regression):
    X, y = regression
    forest = RandomForestRegressor(9, random_state=0).fit(X[:60], y[:60])
    draws = np.stack([tree.predict(X) for tree in forest.estimators_])
    np.testing.assert_allclose(variance(forest, X, "epistemic"), draws.var(axis=0), rtol=1e-9)
    lengths = np.sqrt((X**2).sum(axis=1) + 1)
    change = np.abs(draws - draws.mean(axis=0)).mean(axis=0) * lengths
    np.testing.assert_allclose(expected_model_change(forest, X), change, rtol=1e-9)


def test_doubt_of_a_gaussian_process_which_has_no_members(regression):
    X, y = regression
    process = GaussianProcessRegressor(RBF() + WhiteKernel(0.5), optimizer=None).fit(X[:40], y[:40])
    std = process.predict(X, return_std=True)[1]
    np.testing.assert_allclose(variance(process, X), std**2)
    np.testing.assert_allclose(variance(process, X, "epistemic"), std**2 - 0.5, atol=1e-9)


def test_one_draw_has_no_disagreement(blobs):
    X, y = blobs
    bag = BaggingClassifier(LogisticRegression(), 1, random_state=0).fit(X, y)
    np.testing.assert_allclose(bald(bag, X), 0, atol=1e-12)
    assert not variation_ratio(bag, X).any()


def test_others_around_a_network_answer_by_their_probabilities(one_network, blobs):
    X, y = blobs
    around = CalibratedClassifierCV(one_network, cv=2).fit(X, y)
    np.testing.assert_allclose(entropy(around, X), entr(around.predict_proba(X)).sum(axis=1))
    for strategy in ("margin", "core_set", "badge", "kmeans"):
        learner = ActiveLearner(around, strategy, batch_size=2, random_state=0)
        assert len(learner.fit(X, np.where(np.arange(240) < 40, y, np.nan)).ask()) == 2
    chosen = RFE(LogisticRegression(max_iter=2000), n_features_to_select=1).fit(X, y)
    np.testing.assert_allclose(entropy(chosen, X), entr(chosen.predict_proba(X)).sum(axis=1))


def test_machines_of_pairs_of_classes_have_no_last_layer(blobs):
    X, y = blobs
    with pytest.raises(TypeError, match="each pair of classes"):
        expected_gradient_length(SVC(kernel="linear").fit(X[:40], y[:40]), X)


def test_a_learner_answers_as_its_forest(blobs):
    X, y = blobs
    labels = np.where(np.arange(240) < 60, y, np.nan)
    learner = ActiveLearner(RandomForestClassifier(9, random_state=0), "bald").fit(X, labels)
    inside = learner.estimator_
    np.testing.assert_array_equal(skuq.predict_draws(learner, X), skuq.predict_draws(inside, X))
    np.testing.assert_array_equal(
        learner.predict_uncertainty(X), skuq.predict_uncertainty(inside, X)
    )


def test_a_forest_behind_a_column_transformer(blobs):
    X, y = blobs
    frame = pd.DataFrame(X).add_prefix("x").assign(kind=np.where(X[:, 0] > 0, "a", "b"))
    columns = make_column_transformer(
        (StandardScaler(), list(frame.columns[:-1])), (OneHotEncoder(), ["kind"])
    )
    pipeline = make_pipeline(columns, RandomForestClassifier(9, random_state=0)).fit(frame, y)
    expected = bald(pipeline[-1], columns.fit(frame).transform(frame))
    np.testing.assert_allclose(bald(pipeline, frame), expected)


def test_forests_of_several_targets_are_refused(blobs):
    X, y = blobs
    forest = RandomForestClassifier(2, random_state=0).fit(X, np.column_stack([y, y > 0]))
    with pytest.raises(ValueError, match=r"one label for each row.*predicts 2"):
        margin(forest, X)

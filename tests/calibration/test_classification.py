"""Calibrators of classifiers: every answer is calibrated, on any labels."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler, fit_temperature
from skuq.metrics import expected_calibration_error
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate


@pytest.fixture(scope="module")
def split():
    X, y = make_classification(
        900, 12, n_informative=6, n_classes=3, flip_y=0.2, random_state=0, class_sep=1.5
    )
    return train_test_split(X, y, test_size=0.5, random_state=0)


def overconfident(posterior=None):
    return TorchClassifier(
        posterior=posterior or PointEstimate(), max_epochs=100, lr=0.01, random_state=0
    )


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(5), DeepEnsemble(2)], ids=str)
def test_every_answer_is_calibrated(posterior, split):
    X, X_test, y, y_test = split
    scaler = TemperatureScaler(overconfident(posterior), cv=3).fit(X, y)
    temperature = scaler.temperature_
    assert temperature > 1.3
    raw = np.log(scaler.estimator_.predict_draws(X_test))
    expected = np.exp(raw / temperature)
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(scaler.predict_draws(X_test), expected, atol=1e-9)
    np.testing.assert_allclose(scaler.predict_proba(X_test), expected.mean(0), atol=1e-9)
    parts = scaler.predict_uncertainty(X_test, kind="all")
    np.testing.assert_allclose(parts, skuq.uncertainty.entropy_decomposition(expected), atol=1e-9)
    proba = scaler.predict_proba(X_test)
    assert np.array_equal(scaler.predict(X_test), scaler.classes_[proba.argmax(1)])
    before, after = (log_loss(y_test, e.predict_proba(X_test)) for e in (scaler.estimator_, scaler))
    assert after < before
    if isinstance(posterior, PointEstimate):
        assert np.array_equal(scaler.predict(X_test), scaler.estimator_.predict(X_test))


def test_prefit_is_not_fitted_again(split):
    X, X_test, y, y_test = split
    network = overconfident(MCDropout(5)).fit(X, y)
    before = network.predict_proba(X)
    scaler = TemperatureScaler(FrozenEstimator(network)).fit(X_test, y_test)
    assert np.array_equal(network.predict_proba(X), before)
    expected = fit_temperature(np.log(network.predict_draws(X_test)), y_test)
    assert scaler.temperature_ == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(skuq.predict_uncertainty(scaler, X), scaler.predict_uncertainty(X))


@pytest.mark.parametrize("labels", ["abc", (-1, 0, 1), (1, 2, 3), (10, 20, 30)], ids=str)
def test_labels_of_any_kind(labels, split):
    X, X_test, y, y_test = split
    network = LogisticRegression(C=1e6).fit(5 * X, y)
    labels = np.array(list(labels))
    named = LogisticRegression(C=1e6).fit(5 * X, labels[y])
    expected = TemperatureScaler(FrozenEstimator(network)).fit(X_test, y_test)
    scaler = TemperatureScaler(FrozenEstimator(named)).fit(X_test, labels[y_test])
    assert scaler.temperature_ == pytest.approx(expected.temperature_, rel=1e-3)
    assert np.array_equal(scaler.classes_, labels)
    assert set(scaler.predict(X_test)) <= set(labels)


def test_two_classes(split):
    X, X_test, y, y_test = split
    y, y_test = np.where(y > 0, 1, -1), np.where(y_test > 0, 1, -1)
    scaler = TemperatureScaler(overconfident(), cv=3).fit(X, y)
    odds = scaler.decision_function(X_test)
    np.testing.assert_allclose(
        odds, scaler.estimator_.decision_function(X_test) / scaler.temperature_, atol=1e-6
    )
    assert log_loss(y_test, scaler.predict_proba(X_test)) < 1


@pytest.mark.parametrize("missing_from", ["calibration", "fold"])
def test_a_missing_class(missing_from, split):
    X, X_test, y, y_test = split
    if missing_from == "calibration":
        network = overconfident().fit(X, y)
        kept = y_test < 2
        scaler = TemperatureScaler(FrozenEstimator(network)).fit(X_test[kept], y_test[kept])
    else:
        train = np.flatnonzero(y < 2)[::2]
        folds = [(train, np.setdiff1d(np.arange(len(y)), train))]
        scaler = TemperatureScaler(overconfident(), cv=folds).fit(X, y)
        raw = overconfident().fit(X[train], y[train])
        seen = np.setdiff1d(np.flatnonzero(y < 2), train)
        expected = fit_temperature(np.log(raw.predict_proba(X[seen])), y[seen])
        assert scaler.temperature_ == pytest.approx(expected, rel=1e-4)
    assert scaler.predict_proba(X_test).shape == (len(X_test), 3)
    assert np.isfinite(scaler.temperature_) and scaler.temperature_ > 1


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(20, random_state=0),
        SVC(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), overconfident()),
        GridSearchCV(overconfident(), {"lr": [0.01]}, cv=2),
    ],
    ids=str,
)
def test_around_any_classifier(estimator, split):
    X, X_test, y, y_test = split
    scaler = TemperatureScaler(estimator, cv=3).fit(X, y)
    np.testing.assert_allclose(scaler.predict_proba(X_test).sum(1), 1)
    assert log_loss(y_test, scaler.predict_proba(X_test)) < np.log(3)
    assert scaler.predict_uncertainty(X_test).shape == y_test.shape


def test_inside_of_a_pipeline(split):
    X, X_test, y, _ = split
    scaler = TemperatureScaler(overconfident(MCDropout(4)), cv=2)
    fitted = make_pipeline(StandardScaler(), scaler).fit(X, y)
    assert skuq.predict_uncertainty(fitted, X_test, "epistemic").shape == (len(X_test),)


def test_sample_weight_reaches_estimator_and_temperature(split):
    X, _, y, _ = split
    weight = np.where(y == 0, 10.0, 1.0)
    weighted = TemperatureScaler(LogisticRegression(), cv=3).fit(X, y, sample_weight=weight)
    assert np.array_equal(
        weighted.estimator_.coef_, LogisticRegression().fit(X, y, sample_weight=weight).coef_
    )
    assert (
        weighted.temperature_
        != TemperatureScaler(LogisticRegression(), cv=3).fit(X, y).temperature_
    )


def test_scores_of_pairs_of_classes_are_not_taken_for_scores_of_classes(split):
    X, X_test, y, _ = split
    pairs = SVC(decision_function_shape="ovo").fit(X, y)
    with pytest.raises(TypeError, match="one score per class"):
        TemperatureScaler(FrozenEstimator(pairs)).fit(X, y)
    raw = SVC(decision_function_shape="ovr").fit(X, y)
    scaler = TemperatureScaler(FrozenEstimator(raw)).fit(X, y)
    assert np.array_equal(scaler.predict(X_test), raw.predict(X_test))


def test_groups_reach_the_folds(split):
    X, _, y, _ = split
    groups = np.arange(len(y)) // 10
    scaler = TemperatureScaler(LogisticRegression(), cv=GroupKFold(3)).fit(X, y, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    expected = TemperatureScaler(LogisticRegression(), cv=folds).fit(X, y)
    assert scaler.temperature_ == expected.temperature_


class Unscored(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self


def test_what_cannot_be_calibrated(split):
    X, _, y, _ = split
    with pytest.raises(TypeError, match="Unscored has neither predict_proba"):
        TemperatureScaler(Unscored()).fit(X, y)
    with pytest.raises(ValueError, match="does not take it"):
        TemperatureScaler(Unscored()).fit(X, y, sample_weight=np.ones(len(y)))
    with pytest.raises(ValueError, match=r"labels .* that the estimator was not"):
        network = LogisticRegression().fit(X, y)
        TemperatureScaler(FrozenEstimator(network)).fit(X, y + 1)
    with pytest.raises(ValueError, match="'objective' parameter"):
        TemperatureScaler(LogisticRegression(), objective="accuracy").fit(X, y)
    with pytest.raises(TypeError, match="needs a classifier, got TorchRegressor"):
        TemperatureScaler(TorchRegressor()).fit(X, X[:, 0])


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_falls_on_an_overconfident_net(seed):
    X, y = load_digits(return_X_y=True)
    X, rest, y, y_rest = train_test_split(X / 16, y, train_size=300, random_state=seed)
    X_calibration, X_test, y_calibration, y_test = train_test_split(
        rest, y_rest, test_size=0.5, random_state=seed
    )
    network = TorchClassifier(
        posterior=PointEstimate(),
        max_epochs=150,
        lr=0.01,
        random_state=seed,
        module__activation="relu",
    ).fit(X, y)
    scaler = TemperatureScaler(FrozenEstimator(network)).fit(X_calibration, y_calibration)
    before, after = (
        expected_calibration_error(y_test, e.predict_proba(X_test)) for e in (network, scaler)
    )
    assert scaler.temperature_ > 1 and after < before

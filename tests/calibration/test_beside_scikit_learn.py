"""Calibrated beside scikit-learn: its numbers, its weights, rows seen in training."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import TemperatureScaler, VarianceScaler
from skuq.posteriors import PointEstimate
from tests.calibration.helpers import softmax

# -- beside scikit-learn ---------------------------------------------------------------------------


temperature_in_sklearn = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8), reason="needs scikit-learn 1.8"
)


@pytest.fixture(scope="module")
def halves():
    X, y = make_classification(
        1200, 10, n_informative=6, n_classes=3, flip_y=0.2, class_sep=1.5, random_state=0
    )
    return train_test_split(X, y, test_size=0.5, random_state=0)


def theirs(fitted, X, y):
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted), method="temperature").fit(X, y)
    return 1 / calibrated.calibrated_classifiers_[0].calibrators[0].beta_


def loss(fitted, X, y, temperature):
    logits = np.log(fitted.predict_proba(X)) / temperature
    return log_loss(y, softmax(logits), labels=fitted.classes_)


@temperature_in_sklearn
def test_agreement_with_scikit_learn(halves):
    X, X_apart, y, y_apart = halves
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=60, lr=0.01, random_state=0)
    network.fit(X, y)
    ours = TemperatureScaler(FrozenEstimator(network)).fit(X_apart, y_apart).temperature_
    other = theirs(network, X_apart, y_apart)
    assert ours == pytest.approx(other, rel=1e-3)
    assert loss(network, X_apart, y_apart, ours) <= loss(network, X_apart, y_apart, other) + 1e-12


@temperature_in_sklearn
@pytest.mark.parametrize("labels", [(1, 2, 3), (10, 20, 30)])
def test_labels_that_scikit_learn_may_not_take(labels, halves):
    """Ours does not depend on what the labels are called, and its loss is never above theirs."""
    X, X_apart, y, y_apart = halves
    network = TorchClassifier(posterior=PointEstimate(), max_epochs=60, lr=0.01, random_state=0)
    plain = network.fit(X, y)
    expected = TemperatureScaler(FrozenEstimator(plain)).fit(X_apart, y_apart).temperature_
    labels = np.array(labels)
    named = sklearn.base.clone(network).fit(X, labels[y])
    ours = TemperatureScaler(FrozenEstimator(named)).fit(X_apart, labels[y_apart]).temperature_
    assert ours == pytest.approx(expected, rel=1e-6)
    try:
        other = theirs(named, X_apart, labels[y_apart])
    except Exception:
        return
    assert loss(named, X_apart, labels[y_apart], ours) <= (
        loss(named, X_apart, labels[y_apart], other) + 1e-12
    )


@temperature_in_sklearn
def test_saturated_float32_probabilities():
    """Of 0 and 1 to the last bit of float32: the temperature must be large, and found."""
    random = np.random.default_rng(0)
    z = random.normal(size=(4000, 4)) * 60
    y = (random.random((4000, 1)) > softmax(z / 60).cumsum(1)).sum(1).clip(max=3)
    proba = softmax(z.astype(np.float32))
    assert (proba == 1).mean() > 0.1

    class Fixed(LogisticRegression):
        decision_function = property()

        def predict_proba(self, X):
            return X.astype(np.float32)

    fixed = Fixed(max_iter=1000).fit(proba, y)
    ours = TemperatureScaler(FrozenEstimator(fixed)).fit(proba, y).temperature_
    clipped = np.log(proba.astype(float).clip(np.finfo(float).eps))

    def nll(t):
        return log_loss(y, softmax(clipped / t))

    grid = np.exp(np.linspace(0, 4.6, 300))
    assert nll(ours) <= min(map(nll, grid)) + 1e-9
    try:
        other = theirs(fixed, proba, y)
    except Exception:
        return
    assert nll(ours) <= nll(other) + 1e-12


def test_isotonic_and_sigmoid_are_scikit_learns(halves):
    X, X_apart, y, y_apart = halves
    network = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=20, random_state=0))
    for method in ("isotonic", "sigmoid"):
        calibrated = CalibratedClassifierCV(network, method=method, cv=2).fit(X, y)
        np.testing.assert_allclose(calibrated.predict_proba(X_apart).sum(1), 1)
        assert skuq.metrics.ece_scorer(calibrated, X_apart, y_apart) > -0.15


# -- weights and rows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "around",
    [
        lambda e: make_pipeline(StandardScaler(), e),
        lambda e: GridSearchCV(e, {"C": [1.0]}, cv=2),
        lambda e: GridSearchCV(make_pipeline(StandardScaler(), e), {}, cv=2),
    ],
    ids=["pipeline", "search", "search of a pipeline"],
)
def test_sample_weight_reaches_the_last_step(around, halves):
    X, _, y, _ = halves
    weight = np.where(y == 0, 10.0, 1.0)
    estimator = around(LogisticRegression())
    scaler = TemperatureScaler(estimator, cv=3).fit(X, y, sample_weight=weight)
    proba = scaler.estimator_.predict_proba(X)
    plain = sklearn.base.clone(estimator).fit(X, y).predict_proba(X)
    assert proba[:, 0].mean() > plain[:, 0].mean() + 0.05


def test_rows_seen_in_training_are_known_again(halves):
    X, X_apart, y, y_apart = halves
    network = make_pipeline(StandardScaler(), TorchClassifier(max_epochs=3, random_state=0))
    network.fit(X, y)
    mixed, mixed_y = np.vstack([X[:200], X_apart[:200]]), np.r_[y[:200], y_apart[:200]]
    for frozen in (network, TemperatureScaler(FrozenEstimator(network)).fit(X_apart, y_apart)):
        with pytest.warns(UserWarning, match="was trained on 50% of the rows"):
            TemperatureScaler(FrozenEstimator(frozen)).fit(mixed, mixed_y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="training ended")
        TemperatureScaler(FrozenEstimator(network)).fit(X_apart, y_apart)
        TemperatureScaler(network, cv=2).fit(X, y)
    target = X[:, 0] + np.random.default_rng(0).normal(size=len(X))
    regressor = TorchRegressor(max_epochs=3, random_state=0).fit(X, target)
    with pytest.warns(UserWarning, match="100% of the rows"):
        VarianceScaler(FrozenEstimator(regressor)).fit(X, target)

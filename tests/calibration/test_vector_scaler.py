"""A scale and a bias for each class: planted ones are found, and estimators improve by them."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler, VectorScaler, fit_temperature, fit_vector_scaling
from skuq.calibration._logits import check_logits
from skuq.calibration._vector import _loss_and_gradient
from skuq.posteriors import MCDropout
from tests.calibration.helpers import softmax
from tests.calibration.test_temperature import planted


def planted_vector(n=20_000, seed=0):
    random = np.random.default_rng(seed)
    z = 1.5 * random.normal(size=(n, 3))
    y = (random.random((n, 1)) > softmax(z).cumsum(1)).sum(1).clip(max=2)
    scale, bias = np.array([0.5, 1.0, 2.0]), np.array([0.4, 0.0, -0.4])
    return (z - bias) / scale, y, scale, bias


def test_a_planted_scale_and_bias_are_found():
    logits, y, scale, bias = planted_vector()
    found = fit_vector_scaling(logits, y, l2=0)
    np.testing.assert_allclose(found[0], scale, rtol=0.06)
    np.testing.assert_allclose(found[1], bias, atol=0.06)
    draws = fit_vector_scaling(np.stack([logits, logits]), y, l2=0)
    np.testing.assert_allclose(draws, found, atol=1e-4)


@pytest.mark.parametrize("n_draws", [1, 3])
def test_gradient_is_the_derivative(n_draws):
    logits, y = planted(2.0, n=40, n_draws=n_draws)
    arrays = check_logits(logits, y, np.linspace(0.1, 1, 40))
    parameters = np.random.default_rng(0).normal(size=8)
    _, gradient = _loss_and_gradient(arrays, parameters)
    for i in range(8):
        step = 1e-6 * np.eye(8)[i]
        up, down = (_loss_and_gradient(arrays, parameters + s)[0] for s in (step, -step))
        assert gradient[i] == pytest.approx((up - down) / 2e-6, abs=1e-7)


def test_a_large_penalty_is_a_temperature():
    logits, y, *_ = planted_vector(2000)
    scale, bias = fit_vector_scaling(logits, y, l2=1e9)
    np.testing.assert_allclose(scale, 1 / fit_temperature(logits, y), rtol=1e-3)
    np.testing.assert_allclose(bias, 0, atol=1e-3)


def test_vector_scaler_beats_one_temperature_where_classes_differ():
    X, y = make_classification(1500, 8, n_informative=5, n_classes=3, flip_y=0.1, random_state=0)
    X_apart, X_test, y_apart, _y_test = train_test_split(X, y, random_state=0)
    logits, y_all, *_ = planted_vector(3000)

    class Fixed(LogisticRegression):
        def decision_function(self, X):
            return X

    fixed = Fixed(max_iter=1000).fit(logits, y_all)
    scores = [
        log_loss(y_all, cls(FrozenEstimator(fixed)).fit(logits, y_all).predict_proba(logits))
        for cls in (TemperatureScaler, VectorScaler)
    ]
    assert scores[1] < scores[0] - 0.01
    network = TorchClassifier(posterior=MCDropout(4), max_epochs=15, lr=0.01, random_state=0)
    scaler = VectorScaler(network, cv=2).fit(X_apart, y_apart)
    draws = softmax(np.log(scaler.estimator_.predict_draws(X_test)) * scaler.scale_ + scaler.bias_)
    np.testing.assert_allclose(scaler.predict_draws(X_test), draws, atol=1e-9)
    np.testing.assert_allclose(scaler.predict_proba(X_test), draws.mean(0), atol=1e-9)
    assert scaler.loss_after_ <= scaler.loss_before_


def test_scales_are_of_log_probabilities():
    logits, y, *_ = planted_vector(400)

    class Shifted(LogisticRegression):
        def decision_function(self, X):
            return X + 5 * X[:, :1]

    scaler = VectorScaler(FrozenEstimator(Shifted().fit(logits, y))).fit(logits, y)
    x = np.log(softmax(logits))
    for learnt, expected in zip((scaler.scale_, scaler.bias_), fit_vector_scaling(x, y)):
        np.testing.assert_allclose(learnt, expected, atol=1e-6)
    proba = softmax(scaler.scale_ * x + scaler.bias_)
    np.testing.assert_allclose(scaler.predict_proba(logits), proba, atol=1e-12)


def test_separable_data_without_a_penalty():
    y = np.arange(30) % 3
    with pytest.warns(ConvergenceWarning, match="has no optimum"):
        fit_vector_scaling(np.eye(3)[y] * 4 + 1e-3 * y[:, None], y, l2=0)
    with pytest.raises(ValueError, match="l2 must be"):
        fit_vector_scaling(np.eye(3), [0, 1, 2], l2=-1)

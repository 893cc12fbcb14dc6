"""Objectives, several labels, vectors, weights through pipelines, rows seen in training."""

import warnings

import numpy as np
import pytest
import sklearn
import torch
from scipy.special import entr
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import (
    TemperatureScaler,
    VarianceScaler,
    VectorScaler,
    fit_temperature,
    fit_vector_scaling,
)
from skuq.calibration._logits import check_logits
from skuq.calibration._temperature import loss_at, search_temperature
from skuq.calibration._vector import _loss_and_gradient
from skuq.metrics import expected_calibration_error
from skuq.posteriors import MCDropout, PointEstimate

from .test_temperature import planted


def softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


# -- objectives and shapes --------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["nll", "brier", "ece"])
@pytest.mark.parametrize("n_draws", [0, 3])
def test_a_planted_temperature_is_found_by_every_objective(objective, n_draws):
    logits, y = planted(2.5, n=20_000, n_draws=n_draws)
    fitted = fit_temperature(logits, y, objective=objective)
    assert fitted == pytest.approx(2.5, rel=0.08 if objective == "ece" else 0.03)


@pytest.mark.parametrize("objective", ["nll", "brier", "ece"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.filterwarnings("ignore:the temperature is at its bound")
def test_no_objective_is_worse_than_a_grid(objective, seed):
    random = np.random.default_rng(seed)
    draws = random.lognormal(sigma=1) * random.normal(size=(seed % 2 + 1, 60, 3))
    arrays = check_logits(draws, np.r_[0, 1, random.integers(0, 3, 58)], None)
    best = min(loss_at(arrays, t, objective) for t in np.exp(np.linspace(-4.6, 4.6, 400)))
    found = loss_at(arrays, search_temperature(arrays, objective).temperature, objective)
    assert found <= best + (2e-3 if objective == "ece" else 1e-9)
    assert found <= loss_at(arrays, 1.0, objective)


def test_the_objectives_are_the_metrics():
    logits, y = planted(3.0, n=500)
    arrays, proba = check_logits(logits, y, None), softmax(logits / 1.7)
    assert loss_at(arrays, 1.7, "nll") == pytest.approx(log_loss(y, proba))
    assert loss_at(arrays, 1.7, "brier") == pytest.approx(skuq.metrics.brier_score(y, proba))
    assert loss_at(arrays, 1.7, "ece") == pytest.approx(expected_calibration_error(y, proba))


def test_dense_outputs_are_rows():
    random = np.random.default_rng(0)
    logits, labels = planted(2.5, n=210)
    images = np.moveaxis(logits.reshape(5, 6, 7, 4), -1, 1)
    y, flat = labels.reshape(5, 6, 7), logits
    expected = fit_temperature(flat, y.ravel())
    assert fit_temperature(images, y) == pytest.approx(expected)
    assert fit_temperature(torch.tensor(images), torch.tensor(y)) == pytest.approx(expected)
    weight = random.random(5)
    assert fit_temperature(images, y, weight) == pytest.approx(
        fit_temperature(flat, y.ravel(), np.repeat(weight, 42))
    )
    draws = np.stack([images, 0.5 * images])
    expected = fit_temperature(np.stack([flat, 0.5 * flat]), y.ravel())
    assert fit_temperature(draws, y) == pytest.approx(expected)
    with pytest.raises(ValueError, match="y must have shape"):
        fit_temperature(images, y[:, :5])


def test_several_labels_each_by_itself():
    random = np.random.default_rng(0)
    z = random.normal(size=(20_000, 3))
    y = (random.random(z.shape) < 1 / (1 + np.exp(-z))).astype(int)
    found = fit_temperature(z * [0.5, 1.0, 3.0], y, multilabel=True)
    np.testing.assert_allclose(found, [0.5, 1.0, 3.0], rtol=0.05)
    draws = fit_temperature(np.stack([z, z]) * [0.5, 1.0, 3.0], y, multilabel=True)
    np.testing.assert_allclose(draws, found, rtol=1e-4)
    one = fit_temperature(np.stack([0 * z[:, 0], z[:, 0] * 0.5], 1), y[:, 0])
    assert found[0] == pytest.approx(one)
    with pytest.raises(ValueError, match="label 1: y holds a single class"):
        fit_temperature(z, y * [1, 0, 1], multilabel=True)
    with pytest.raises(ValueError, match="multilabel=True, y must have"):
        fit_temperature(z, y[:, 0], multilabel=True)


def test_attributes_of_the_fit():
    X, y = make_classification(600, 12, n_informative=6, n_classes=3, flip_y=0.2, random_state=0)
    forest = RandomForestClassifier(20, random_state=0)
    for objective in ("nll", "brier", "ece"):
        scaler = TemperatureScaler(forest, cv=3, objective=objective).fit(X, y)
        assert scaler.loss_after_ <= scaler.loss_before_
        assert scaler.n_iter_ >= 1
        assert hasattr(scaler, "flat_range_") is (objective == "ece")
    low, high = scaler.flat_range_
    assert low <= scaler.temperature_ <= high


# -- several labels ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier((30,), max_iter=300, alpha=0.0, random_state=0),
        RandomForestClassifier(30, random_state=0),
        OneVsRestClassifier(LogisticRegression(C=100)),
        make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(C=100))),
    ],
    ids=["mlp", "forest", "one versus rest", "pipeline"],
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_multilabel_classifiers(estimator):
    X, y = make_multilabel_classification(300, 8, n_classes=4, random_state=0)
    scaler = TemperatureScaler(estimator, cv=3).fit(X, y)
    assert scaler.temperature_.shape == (4,)
    proba = scaler.predict_proba(X)
    assert proba.shape == y.shape and ((proba >= 0) & (proba <= 1)).all()
    assert np.array_equal(scaler.predict(X), (proba > 0.5).astype(int))
    raw = skuq._composition.predictions(scaler.estimator_, X, logits=True, multilabel=True)
    raw = raw[0]._reduce(raw[1], lambda d: (d.logits[..., 1] - d.logits[..., 0]).movedim(0, 1))
    np.testing.assert_allclose(
        scaler.decision_function(X), raw[:, 0] / scaler.temperature_, atol=1e-9
    )
    assert scaler.loss_after_ <= scaler.loss_before_
    uncertainty = scaler.predict_uncertainty(X, kind="all")
    assert uncertainty.total.shape == y.shape
    entropy = entr(proba) + entr(1 - proba)
    np.testing.assert_allclose(uncertainty.total, entropy, atol=1e-9)
    assert scaler.predict_draws(X).shape == (1, *y.shape)
    with pytest.raises(ValueError, match="not for multilabel"):
        VectorScaler(estimator).fit(X, y)


# -- vectors ----------------------------------------------------------------------------------


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


def test_separable_data_without_a_penalty():
    y = np.arange(30) % 3
    with pytest.warns(ConvergenceWarning, match="has no optimum"):
        fit_vector_scaling(np.eye(3)[y] * 4 + 1e-3 * y[:, None], y, l2=0)
    with pytest.raises(ValueError, match="l2 must be"):
        fit_vector_scaling(np.eye(3), [0, 1, 2], l2=-1)


# -- beside scikit-learn ----------------------------------------------------------------------

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


# -- weights and rows -------------------------------------------------------------------------


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
        TemperatureScaler(FrozenEstimator(network)).fit(X_apart, y_apart)
        TemperatureScaler(network, cv=2).fit(X, y)
    target = X[:, 0] + np.random.default_rng(0).normal(size=len(X))
    regressor = TorchRegressor(max_epochs=3, random_state=0).fit(X, target)
    with pytest.warns(UserWarning, match="100% of the rows"):
        VarianceScaler(FrozenEstimator(regressor)).fit(X, target)

"""Temperatures by every objective, of any shape of outputs, and of several labels."""

import numpy as np
import pytest
import torch
from scipy.special import entr
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq.calibration import TemperatureScaler, VectorScaler, fit_temperature
from skuq.calibration._logits import check_logits
from skuq.calibration._temperature import loss_at, search_temperature
from skuq.metrics import expected_calibration_error
from tests.calibration.helpers import softmax
from tests.calibration.test_temperature import planted

# -- objectives and shapes -------------------------------------------------------------------------


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


# -- several labels --------------------------------------------------------------------------------


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

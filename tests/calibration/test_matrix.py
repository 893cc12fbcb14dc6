"""A matrix over probabilities: the optimum, what it keeps, and what it finds that others miss."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skuq import TorchClassifier
from skuq.calibration import (
    MatrixScaler,
    fit_matrix_scaling,
    fit_temperature,
    fit_vector_scaling,
)
from skuq.calibration._logits import _BLOCK_NUMBERS, check_logits
from skuq.calibration._matrix import _loss_and_gradient, search_matrix
from skuq.posteriors import MCDropout
from tests.calibration.helpers import softmax
from tests.calibration.test_vector import noisy


def changed(logits, temperature, scale, matrix):
    log_proba = log_softmax(logits / temperature, axis=-1)
    return log_proba * scale + np.exp(log_proba) @ np.transpose(matrix)


def loss(logits, y, weight):
    proba = softmax(logits).mean(0)
    return -weight @ np.log(proba[np.arange(len(y)), y])


def objective(parameters, logits, y, weight, l2, temperature):
    """Of the docstring: the sum over rows, in units of a row of weight 1."""
    scale, matrix = parameters[:3], parameters[3:].reshape(3, 3)
    penalty = (matrix**2).sum() + 100 * ((scale - scale.mean()) ** 2).sum()
    return loss(changed(logits, temperature, scale, matrix), y, weight) + l2 * penalty


def planted(n=20_000, seed=0, size=1.0):
    """Labels that follow a scale of 1 and a matrix."""
    random = np.random.default_rng(seed)
    z = 2 * random.normal(size=(n, 3))
    matrix = size * np.array([[0.5, -1.0, 0.0], [-0.5, 0.5, 1.0], [0.0, 0.5, -1.0]])
    truth = softmax(changed(z, 1.0, 1.0, matrix))
    y = (random.random((n, 1)) > truth.cumsum(1)).sum(1).clip(max=2)
    return z, y, truth, matrix


@pytest.mark.parametrize("l2", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("n_draws", [1, 3])
def test_the_optimum_is_that_of_another_optimiser(l2, n_draws):
    logits, y = noisy(n_draws=n_draws)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    temperature, scale, matrix = fit_matrix_scaling(logits, y, weight, l2=l2)
    assert temperature == fit_temperature(logits, y, weight)
    found, arguments = np.r_[scale, matrix.ravel()], (logits, y, weight, l2, temperature)
    start = np.r_[np.ones(3), np.zeros(9)]
    other = minimize(objective, start, arguments, "BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(found, other.x, atol=1e-4)
    for step in 1e-4 * np.eye(12):  # the slope is 0 in each direction
        slope = objective(found + step, *arguments) - objective(found - step, *arguments)
        assert abs(slope) / 2e-4 < 1e-4


@pytest.mark.parametrize("n_draws", [1, 3])
def test_gradient_is_the_derivative(n_draws):
    logits, y = noisy(n_draws=n_draws)
    arrays = check_logits(logits, y, np.linspace(0.1, 1, len(y)))
    parameters = np.random.default_rng(0).normal(size=(3, 4))
    _, gradient = _loss_and_gradient(arrays, 1.7, parameters)
    for index in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[index] = 1e-6
        up, down = (_loss_and_gradient(arrays, 1.7, parameters + s)[0] for s in (step, -step))
        assert gradient[index] == pytest.approx((up - down) / 2e-6, abs=1e-7)


def test_a_planted_matrix_is_found():
    logits, y, truth, matrix = planted()
    found = fit_matrix_scaling(logits, y, l2=0)
    np.testing.assert_allclose(softmax(changed(logits, *found)), truth, atol=0.03)
    assert np.corrcoef(found[2].ravel(), (matrix - matrix.mean(0)).ravel())[0, 1] > 0.98
    np.testing.assert_allclose(found[2].sum(0), 0, atol=1e-12)
    scale, bias = fit_vector_scaling(logits, y)
    error = np.abs(softmax(changed(logits, *found)) - truth).mean()
    for other in (logits / fit_temperature(logits, y), scale * logits + bias):
        assert np.abs(softmax(other) - truth).mean() > 3 * error


def test_a_large_penalty_is_a_temperature():
    logits, y, *_ = planted(2000)
    temperature, scale, matrix = fit_matrix_scaling(logits, y, l2=1e9)
    np.testing.assert_allclose(scale, 1, rtol=1e-6)
    np.testing.assert_allclose(matrix, 0, atol=1e-6)
    expected = softmax(logits / fit_temperature(logits, y))
    np.testing.assert_allclose(
        softmax(changed(logits, temperature, scale, matrix)), expected, atol=1e-6
    )


def test_what_does_not_change_the_probabilities_changes_nothing():
    logits, y, *_ = planted(400)
    found = softmax(changed(logits, *fit_matrix_scaling(logits, y)))
    shift = np.random.default_rng(1).normal(size=(400, 1)) * 5
    shifted = fit_matrix_scaling(logits + shift, y)
    np.testing.assert_allclose(softmax(changed(logits, *shifted)), found, atol=1e-5)
    scaled = fit_matrix_scaling(7 * logits, y)  # of other units
    np.testing.assert_allclose(softmax(changed(7 * logits, *scaled)), found, atol=1e-5)
    order = [2, 0, 1]
    permuted = fit_matrix_scaling(logits[:, order], np.argsort(order)[y])
    np.testing.assert_allclose(
        softmax(changed(logits[:, order], *permuted)), found[:, order], atol=1e-5
    )
    draws = fit_matrix_scaling(np.stack([logits, logits]), y)
    np.testing.assert_allclose(softmax(changed(logits, *draws)), found, atol=1e-4)


def test_weights_are_repeated_rows_and_blocks_are_sums(monkeypatch):
    logits, y, *_ = planted(300)
    weight = np.random.default_rng(0).integers(0, 4, 300)
    twice = np.repeat(np.arange(300), weight)
    expected = fit_matrix_scaling(logits[twice], y[twice])
    for blocks in (False, True):
        if blocks:
            monkeypatch.setitem(_BLOCK_NUMBERS, "cpu", 100)
        for weighted, repeated in zip(fit_matrix_scaling(logits, y, weight), expected):
            np.testing.assert_allclose(weighted, repeated, atol=1e-5)


def test_two_classes():
    """Between two classes, the log-odds gain (M_10 − M_00)(1 − p) + (M_11 − M_01) p."""
    random = np.random.default_rng(0)
    z = 3 * random.normal(size=4000)
    p = 1 / (1 + np.exp(-z))
    y = (random.random(4000) < 1 / (1 + np.exp(-(z + 1.5 * p - 0.5 * (1 - p))))).astype(int)
    temperature, scale, matrix = fit_matrix_scaling(np.column_stack([0 * z, z]), y, l2=0.01)
    log_proba = log_softmax(np.column_stack([0 * z, z]) / temperature, axis=1)
    odds = changed(np.column_stack([0 * z, z]), temperature, scale, matrix) @ [-1, 1]
    gain = matrix[1] - matrix[0]
    np.testing.assert_allclose(odds, log_proba @ (scale * [-1, 1]) + np.exp(log_proba) @ gain)
    found = 1 / (1 + np.exp(-odds))
    truth = 1 / (1 + np.exp(-(z + 1.5 * p - 0.5 * (1 - p))))
    assert np.abs(found - truth).max() < 0.05 < np.abs(p - truth).max()


@pytest.mark.parametrize("l2", [0.0, 1.0])
@pytest.mark.parametrize("size", [0.01, 1.0, 1e5])
@pytest.mark.parametrize("n_draws", [1, 2])
def test_rows_that_are_all_right_have_no_optimum(l2, size, n_draws):
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 40)
    logits = size * (np.eye(3)[y] + random.uniform(0, 0.5))
    with pytest.warns(ConvergenceWarning, match="matrix scaling has no optimum"):
        found = fit_matrix_scaling(np.repeat(logits[None], n_draws, axis=0), y, l2=l2)
    assert all(np.isfinite(part).all() for part in found)


@pytest.mark.parametrize("factor", [-3, 1e-4, 1e4, 1e20, 1e300])  # the first misleads
def test_a_temperature_at_its_bound_is_no_reason_to_warn(factor):
    logits, y = noisy()
    logits, weight = factor * logits, np.ones(len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        temperature, scale, matrix = fit_matrix_scaling(logits, y)
    best = objective(np.r_[scale, matrix.ravel()], logits, y, weight, 1.0, temperature)
    assert best < len(y) * np.log(3)
    for other in (0.9, 1.1):
        moved = np.r_[other * scale, matrix.ravel()]
        assert objective(moved, logits, y, weight, 1.0, temperature) > best
    with pytest.raises(ValueError, match="l2 must be"):
        fit_matrix_scaling(logits, y, l2=float("nan"))


def test_constant_logits_have_frequencies():
    y = np.repeat([0, 1, 2], [30, 60, 110])
    found = fit_matrix_scaling(np.zeros((200, 3)), y, l2=0)
    proba = softmax(changed(np.zeros((200, 3)), *found))
    np.testing.assert_allclose(proba, np.tile([0.15, 0.3, 0.55], (200, 1)), atol=1e-4)


def test_a_class_without_rows_becomes_unlikely():
    logits, y, *_ = planted(600)
    kept = y != 2
    before = fit_temperature(logits[kept], y[kept])
    after = softmax(changed(logits, *fit_matrix_scaling(logits[kept], y[kept])))[:, 2]
    assert after.mean() < 0.2 * softmax(logits / before)[:, 2].mean()
    with pytest.raises(ValueError, match="single class"):
        fit_matrix_scaling(logits, np.zeros(600))


class Fixed(LogisticRegression):
    def decision_function(self, X):
        return X


def test_scaler():
    logits, y, *_ = planted(1000)
    scaler = MatrixScaler(FrozenEstimator(Fixed().fit(logits, y)), l2=0.5).fit(logits, y)
    found = search_matrix(check_logits(logits, y, None), 0.5)
    np.testing.assert_allclose(scaler.scale_, found.scale, rtol=1e-6)
    np.testing.assert_allclose(scaler.matrix_, found.matrix, atol=1e-6)
    assert scaler.temperature_ == pytest.approx(found.temperature)
    assert scaler.n_iter_ > 1
    rows = changed(logits, *found[:3])
    np.testing.assert_allclose(scaler.predict_proba(logits), softmax(rows), atol=1e-12)
    weight = np.full(1000, 1e-3)
    assert scaler.loss_before_ == pytest.approx(loss(logits[None], y, weight))
    assert scaler.loss_after_ == pytest.approx(loss(rows[None], y, weight))
    assert scaler.loss_after_ < scaler.loss_before_ - 0.01


@pytest.mark.filterwarnings("ignore:the temperature")
def test_draws_are_changed_before_they_are_averaged(blobs):
    X, y = blobs
    names = np.array(["ant", "bee", "cat"])[y]
    network = TorchClassifier(posterior=MCDropout(4), max_epochs=3, random_state=0)
    scaler = MatrixScaler(network, cv=2).fit(X, names)
    logits = np.log(scaler.estimator_.predict_draws(X).astype(float))
    draws = softmax(changed(logits, scaler.temperature_, scaler.scale_, scaler.matrix_))
    np.testing.assert_allclose(scaler.predict_draws(X), draws, atol=1e-5)
    np.testing.assert_allclose(scaler.predict_proba(X), draws.mean(0), atol=1e-5)
    assert np.array_equal(scaler.predict(X), scaler.classes_[draws.mean(0).argmax(1)])
    parts = scaler.predict_uncertainty(X, kind="all")
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic, atol=1e-6)

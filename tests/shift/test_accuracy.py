"""Accuracy without labels: right where its assumption holds, and how it fails elsewhere."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge

from skuq import TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.posteriors import PointEstimate
from skuq.shift import corrupt, expected_accuracy
from skuq.shift._accuracy import mean_confidence, thresholded_confidence
from tests.selective.helpers import Outputs, outputs


def test_thresholded_confidence_by_hand():
    known, right = np.array([0.5, 0.6, 0.7, 0.8, 0.9]), np.array([0, 1, 0, 1, 1], dtype=bool)
    # Three of five are right, and three exceed .7.
    assert thresholded_confidence(np.array([0.65, 0.7, 0.99, 0.2]), known, right) == (0.5, 0.7)
    assert thresholded_confidence(known, known, right) == (0.6, 0.7)
    assert thresholded_confidence(known, known, ~right & False) == (0, np.inf)
    assert thresholded_confidence(known, known, right | True)[0] == 1


def test_mean_confidence_by_hand():
    mean, error = mean_confidence(np.array([0.5, 0.7, 0.9]))
    assert mean == pytest.approx(0.7) and error == pytest.approx(0.2 / np.sqrt(3))


def test_both_are_right_for_calibrated_probabilities():
    """Over 100 worlds of 300 new and 300 known rows; errors are as large as they claim."""
    found, accuracy = [], []
    proba, y = outputs(60_000)
    classifier = Outputs().fit(proba, y)
    for new, known in np.random.default_rng(0).permutation(60_000).reshape(100, 2, 300):
        reference = (proba[known], y[known])
        found.append(expected_accuracy(classifier, proba[new], reference, n_bootstraps=20))
        accuracy.append((proba[new].argmax(1) == y[new]).mean())
    confidence, spread, thresholded, thresholded_spread, _ = np.transpose(found)
    truth = (proba.argmax(1) == y).mean()
    assert confidence.mean() == pytest.approx(truth, abs=0.005)
    assert thresholded.mean() == pytest.approx(truth, abs=0.01)
    assert spread.mean() == pytest.approx(confidence.std(), rel=0.25)
    assert thresholded_spread.mean() == pytest.approx(thresholded.std(), rel=0.25)


def test_both_follow_a_shift_of_the_rows_that_keeps_probabilities_right():
    proba, y = outputs(4000)
    classifier = Outputs().fit(proba, y)
    hard = proba[3000:][proba[3000:].max(1) < 0.8]
    found = expected_accuracy(classifier, hard, (proba[:3000], y[:3000]))
    assert found.confidence == pytest.approx(hard.max(1).mean())
    assert found.confidence < 0.75 < classifier.score(proba[:3000], y[:3000])
    assert found.thresholded < found.confidence + 0.2


def test_both_are_too_high_where_the_network_is_sure_and_wrong():
    """Under rotation by 60 degrees a calibrated network stays sure; its accuracy does not stay."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    network = TorchClassifier(
        posterior=PointEstimate(), max_epochs=10, lr=0.01, random_state=0
    ).fit(X[:700], y[:700])
    scaled = TemperatureScaler(FrozenEstimator(network)).fit(X[700:1200], y[700:1200])
    reference = (X[700:1200], y[700:1200])
    same = expected_accuracy(scaled, X[1200:], reference)
    accuracy = scaled.score(X[1200:], y[1200:])
    assert abs(same.confidence - accuracy) < 0.05 and abs(same.thresholded - accuracy) < 0.05
    turned = corrupt(X[1200:], "rotation", 5, image_shape=(8, 8))
    found, accuracy = expected_accuracy(scaled, turned, reference), scaled.score(turned, y[1200:])
    assert found.confidence > accuracy + 10 * found.confidence_std
    assert found.thresholded > accuracy
    assert found.confidence < same.confidence  # the direction is right, the size is not


def test_without_a_reference():
    proba, y = outputs(50)
    found = expected_accuracy(Outputs().fit(proba, y), proba)
    assert found.confidence == proba.max(1).mean() and np.isnan(found[2:]).all()


def test_bad_input():
    proba, y = outputs(50)
    classifier = Outputs().fit(proba, y)
    with pytest.raises(TypeError, match="Ridge"):
        expected_accuracy(Ridge().fit(proba, y), proba)
    with pytest.raises(ValueError, match=r"reference must be a pair \(X, y\), got ndarray"):
        expected_accuracy(classifier, proba, proba)
    with pytest.raises(ValueError, match="missing label"):
        expected_accuracy(classifier, proba, (proba, [None, *y[1:]]))
    with pytest.raises(ValueError, match="inconsistent"):
        expected_accuracy(classifier, proba, (proba, y[:7]))


def test_labels_of_another_type_are_no_errors_of_the_network():
    classifier, X = Outputs(("no", "yes")).fit(np.zeros((1, 2)), None), np.array([[0.9, 0.1]] * 4)
    with pytest.raises(ValueError, match="both hold text or both hold numbers"):
        expected_accuracy(classifier, X, reference=(X, [0, 0, 1, 0]))
    assert expected_accuracy(classifier, X, reference=(X, ["no"] * 4)).thresholded == 1
    with pytest.raises(ValueError, match="n_bootstraps must be an integer"):
        expected_accuracy(classifier, X, n_bootstraps=1.5)

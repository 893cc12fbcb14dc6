"""Calibration of classifiers of pixels, from the pixels that count."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skuq.calibration import MatrixScaler, TemperatureScaler, VectorScaler, _places, fit_temperature
from skuq.likelihoods import Bernoulli
from skuq.posteriors import PointEstimate
from tests.networks.dense import images, segmenter


@pytest.fixture(scope="module")
def fitted():
    return segmenter(ignore_label=255, max_epochs=20).fit(*images(12))


def left_out(seed=1):
    X, y = images(8, seed=seed)
    y[2, :3] = 255
    y[5] = 255
    return X, y


def test_the_temperature_is_that_of_all_counted_pixels(fitted):
    X, y = left_out()
    scaler = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    logits = np.log(fitted.predict_draws(X))
    expected = fit_temperature(np.moveaxis(logits, 2, -1)[:, y != 255], y[y != 255])
    assert scaler.temperature_ == pytest.approx(expected, rel=1e-6)
    assert scaler.loss_after_ <= scaler.loss_before_
    weight = np.arange(8.0)
    weighted = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y, sample_weight=weight)
    of_pixels = np.broadcast_to(weight[:, None, None], y.shape)[y != 255]
    expected = fit_temperature(np.moveaxis(logits, 2, -1)[:, y != 255], y[y != 255], of_pixels)
    assert weighted.temperature_ == pytest.approx(expected, rel=1e-6)


def test_every_answer_is_calibrated(fitted):
    X, y = left_out()
    scaler = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    tempered = fitted.predict_draws(X) ** (1 / scaler.temperature_)
    tempered /= tempered.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(scaler.predict_draws(X), tempered, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scaler.predict_proba(X), tempered.mean(0), rtol=0, atol=1e-12)
    assert np.array_equal(scaler.predict(X), tempered.mean(0).argmax(1))
    assert scaler.predict_uncertainty(X, "epistemic").shape == y.shape
    assert 0 < scaler.score(X, y) <= 1
    vector = VectorScaler(FrozenEstimator(fitted), l2=1e8).fit(X, y)
    np.testing.assert_allclose(vector.scale_, 1 / scaler.temperature_, rtol=1e-3)
    matrix = MatrixScaler(FrozenEstimator(fitted), l2=1e8).fit(X, y)
    np.testing.assert_allclose(matrix.predict_draws(X), tempered, rtol=0, atol=1e-5)


def test_a_sample_of_the_pixels_is_enough(fitted, monkeypatch):
    X, y = images(20, height=12, width=12, seed=2)
    whole = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    monkeypatch.setattr(_places, "_MOST", 1000)
    monkeypatch.setattr(_places, "_CHUNK_BYTES", 100_000)  # seven images
    sampled = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    assert sampled._places.n_chosen == 50
    assert sampled.temperature_ != whole.temperature_
    assert sampled.temperature_ == pytest.approx(whole.temperature_, rel=0.2)
    again = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    assert again.temperature_ == sampled.temperature_


def test_cross_fitting_and_pipelines():
    X, y = images(9)
    y[4, 0] = 255
    one = segmenter(PointEstimate(), ignore_label=255, max_epochs=20)
    inner = make_pipeline(FunctionTransformer(np.negative), one)
    scaler = TemperatureScaler(inner, cv=3).fit(X, y)
    assert np.array_equal(scaler.classes_, [0, 1, 2]) and scaler.temperature_ > 0
    assert scaler.predict_proba(X).shape == (9, 3, 6, 4) and 0 < scaler.score(X, y) <= 1
    with pytest.raises(ValueError, match=r"labels \[7\] that the estimator was not fitted on"):
        TemperatureScaler(FrozenEstimator(scaler.estimator_)).fit(2 * X, np.where(y == 1, 7, y))


def test_masks_that_overlap_have_a_temperature_each():
    X, y = images(8)
    masks = np.stack([y == 0, y == 2], axis=1).astype(int)
    one = segmenter(likelihood=Bernoulli(), ignore_label=9).fit(X, masks)
    held, labels = images(8, seed=3)
    truth = np.stack([labels == 0, labels == 2], axis=1).astype(int)
    truth[0, :, :2] = 9
    scaler = TemperatureScaler(FrozenEstimator(one)).fit(held, truth)
    proba = one.predict_draws(held)
    counts = (truth != 9).all(axis=1)
    logits = np.moveaxis(np.log(proba / (1 - proba)), 2, -1)[:, counts]
    expected = fit_temperature(logits, np.moveaxis(truth, 1, -1)[counts], multilabel=True)
    np.testing.assert_allclose(scaler.temperature_, expected, rtol=1e-6)
    assert scaler.predict_proba(held).shape == (8, 2, 6, 4)

"""A weight of 2 is the same as the row twice, in every calibrator."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.model_selection import KFold

from skuq.calibration import (
    MatrixScaler,
    QuantileRecalibrator,
    TemperatureScaler,
    VarianceScaler,
    VectorScaler,
    fit_matrix_scaling,
    fit_temperature,
    fit_vector_scaling,
)
from tests.calibration.test_vector import noisy


def rows(classifies):
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 3))
    y = X @ [1.0, -1.0, 0.5] + random.gamma(2.0, size=60)
    weight = random.integers(0, 4, 60)
    weight[:3] = 2, 1, 3
    return X, np.digitize(y, [1.0, 2.5]) if classifies else y, weight


@pytest.mark.parametrize(
    ("calibrator", "options"),
    [
        (TemperatureScaler, {"objective": "nll"}),
        (TemperatureScaler, {"objective": "brier"}),
        (TemperatureScaler, {"objective": "ece"}),
        (VectorScaler, {"l2": 2.0}),
        (VectorScaler, {"l2": 0.0}),
        (MatrixScaler, {}),
        (MatrixScaler, {"l2": 0.1}),
        (VarianceScaler, {}),
        (QuantileRecalibrator, {}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_weight_of_two_is_the_row_twice(calibrator, options):
    X, y, weight = rows(calibrator._classifies)
    model = (LogisticRegression() if calibrator._classifies else BayesianRidge()).fit(X, y)
    X_apart, twice = X + 0.5, np.repeat(np.arange(60), weight)
    weighted, repeated = (calibrator(FrozenEstimator(model), **options) for _ in range(2))
    weighted.fit(X_apart, y, sample_weight=weight)
    repeated.fit(X_apart[twice], y[twice])
    if calibrator._classifies:
        answers = [c.predict_proba(X) for c in (weighted, repeated)]
    else:
        answers = [c.predict_quantiles(X, [0.01, 0.3, 0.5, 0.99]) for c in (weighted, repeated)]
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_ranks_of_weighted_rows():
    X, y, _ = rows(classifies=False)
    model = FrozenEstimator(BayesianRidge().fit(X, y))
    fitted = QuantileRecalibrator(model).fit(X[:4], y[:4], sample_weight=[1, 2, 0, 0.5])
    (frequencies,) = fitted.frequencies_
    pit = QuantileRecalibrator(model).fit(X[[0, 1, 3]], y[[0, 1, 3]]).levels_[0]
    assert np.array_equal(fitted.levels_[0], pit)
    mean, std = model.predict(X[:4], return_std=True)
    order = np.argsort(((y[:4] - mean) / std)[[0, 1, 3]])
    mass = np.array([1, 2, 0.5])[order]
    expected = (np.r_[0, mass.cumsum()[:-1]] + (mass + 1) / 2) / 4.5
    np.testing.assert_allclose(frequencies, [0, *expected, 1], rtol=1e-12)


def test_arrays_of_logits():
    random = np.random.default_rng(1)
    logits = random.normal(size=(2, 50, 3))
    y, weight = random.integers(0, 3, 50), random.integers(0, 4, 50)
    twice = np.repeat(np.arange(50), weight)
    for weighted, repeated in zip(
        fit_vector_scaling(logits, y, weight), fit_vector_scaling(logits[:, twice], y[twice])
    ):
        np.testing.assert_allclose(weighted, repeated, atol=1e-6)


@pytest.mark.parametrize("fit", [fit_vector_scaling, fit_matrix_scaling])
def test_weights_of_absurd_size(fit):
    """Their sum overflows, or has few digits; against the penalty they are strong or weak."""
    logits, y = noisy()
    share = np.random.default_rng(0).uniform(0.5, 1, len(y))
    expected = [np.ravel(part) for part in fit(logits, y, 1e9 * share)]
    for size in (1e100, 1.7e308):  # 1.7e308 is nearly the largest number
        for found, known in zip(fit(logits, y, size * share), expected):
            np.testing.assert_allclose(np.ravel(found), known, atol=1e-3)
    *_, scale, offset = fit(logits, y, 1e-310 * share)  # numbers of few digits
    np.testing.assert_allclose(scale, scale[0], rtol=1e-6)
    np.testing.assert_allclose(offset, 0, atol=1e-6)
    temperature = fit_temperature(logits, y, share)
    for size in (1e-310, 1.7e308):
        assert fit_temperature(logits, y, size * share) == pytest.approx(temperature, rel=1e-9)


@pytest.mark.parametrize("scaler", [VectorScaler, MatrixScaler])
def test_large_weights_do_not_strengthen_the_penalty(scaler):
    X, y, _ = rows(classifies=True)
    model = FrozenEstimator(LogisticRegression().fit(X, y))

    def loss(weight):
        fitted = scaler(model).fit(X + 0.5, y, sample_weight=np.full(60, weight))
        return fitted.loss_after_

    assert loss(1e200) == pytest.approx(loss(1e20), abs=1e-6)
    assert loss(1e-200) == pytest.approx(loss(1e-20), abs=1e-6)
    assert loss(1e20) < loss(1.0) - 1e-4 < loss(1e-20) - 1e-3


@pytest.mark.parametrize("fit", [fit_temperature, fit_vector_scaling, fit_matrix_scaling])
def test_rows_of_weight_zero_do_not_bring_a_class(fit):
    logits, y = noisy()
    with pytest.raises(ValueError, match="single class in the rows of positive weight"):
        fit(logits, y, y == 1)


def test_folds_that_have_not_seen_the_classes_they_predict():
    X, y = np.arange(30.0)[:, None], np.repeat([0, 1, 2], 10)
    with pytest.raises(ValueError, match=r"no row is left to calibrate on.*shuffle"):
        MatrixScaler(LogisticRegression(), cv=KFold(3)).fit(X, y)

"""A weight of 2 is the same as the row twice, in every calibrator."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LogisticRegression

from skuq.calibration import (
    MatrixScaler,
    QuantileRecalibrator,
    TemperatureScaler,
    VarianceScaler,
    VectorScaler,
    fit_vector_scaling,
)


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

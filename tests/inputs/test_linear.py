"""Slopes: exact for lines, close to Monte Carlo for curves, in every family and unit."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skuq
from skuq import TorchRegressor
from skuq.calibration import VarianceScaler
from skuq.inputs import InputNoise
from skuq.inputs._linear import widened
from skuq.likelihoods import Gaussian, Laplace, StudentT
from skuq.posteriors import DeepEnsemble, PointEstimate
from tests.inputs.helpers import Linear, curve, line, noisy

COVARIANCE = np.array([[0.04, 0.03, 0.0], [0.03, 0.09, 0.01], [0.0, 0.01, 0.16]])
SCALES = {
    "one": (0.3, np.eye(3) * 0.09),
    "each": ([0.1, 0.0, 2.0], np.diag([0.01, 0.0, 4.0])),
    "covariance": (COVARIANCE, COVARIANCE),
}


@pytest.fixture(scope="module")
def linear():
    X, y = line()
    options = {"precision": "float64", "max_epochs": 5, "lr": 0.05, "random_state": 0}
    likelihood = Gaussian(heteroscedastic=False)
    posterior = DeepEnsemble(2)
    return TorchRegressor(Linear, posterior=posterior, likelihood=likelihood, **options).fit(X, y)


def coefficients(fitted, X):
    """The lines of all draws, in the units of X and y, from differences."""
    draws = fitted.predict_draws(np.vstack([np.zeros(3), np.eye(3)]))[..., 0]
    return draws[:, 1:] - draws[:, :1]


@pytest.mark.parametrize("method", ["linear", "monte_carlo"])
@pytest.mark.parametrize("kind", SCALES)
def test_exact_for_lines(linear, kind, method):
    """wᵀ Σ w + σ², and the disagreement of the draws."""
    X, _ = line()
    scale, covariance = SCALES[kind]
    model = noisy(linear, scale=scale, method=method)
    parts = model.predict_uncertainty(X[:9], kind="nested")
    w = coefficients(linear, X)
    expected = np.einsum("mi,ij,mj->m", w, covariance, w).mean()
    plain = linear.predict_uncertainty(X[:9], kind="all")
    np.testing.assert_allclose(parts.input, expected, rtol=1e-9)
    np.testing.assert_allclose(parts.noise, plain.aleatoric, rtol=1e-9)
    np.testing.assert_allclose(parts.epistemic, plain.epistemic, rtol=1e-7)
    np.testing.assert_allclose(parts.total, plain.total + expected, rtol=1e-9)
    both = model.predict_uncertainty(X[:9], kind="all")
    np.testing.assert_allclose(both.aleatoric, parts.noise + parts.input, rtol=1e-9)
    np.testing.assert_allclose(both.total, parts.total, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X[:9]), linear.predict(X[:9]), rtol=1e-9)


def test_intervals_of_a_line():
    """Of one draw: normal with the total variance."""
    X, y = line()
    fitted = TorchRegressor(
        Linear, posterior=PointEstimate(), precision="float64", max_epochs=5, random_state=0
    ).fit(X, y)
    model = noisy(fitted, scale=0.5)
    mean, std = model.predict(X[:9], return_std=True)
    np.testing.assert_allclose(std**2, model.predict_uncertainty(X[:9]), rtol=1e-9)
    interval = skuq.predict_interval(model, X[:9], confidence_level=0.8)
    np.testing.assert_allclose(interval[:, 1], mean + norm.ppf(0.9) * std, rtol=1e-7)
    assert (np.ptp(interval, axis=1) > np.ptp(fitted.predict_interval(X[:9], 0.8), axis=1)).all()


@pytest.fixture(scope="module")
def bent():
    X, y = curve()
    options = {"max_epochs": 60, "lr": 0.02, "random_state": 0}
    return TorchRegressor(posterior=DeepEnsemble(2), **options).fit(X, y)


def brute_force(fitted, x, scale, n_samples=2000):
    """Mean, total variance and the three parts at one row, from many predictions."""
    even = (np.arange(n_samples) + 0.5) / n_samples
    moved = x + scale * norm.ppf(even)[:, None]
    centre = fitted.predict_draws(moved)[..., 0]
    noise = fitted.predict_uncertainty(moved, kind="aleatoric").mean()
    return noise + centre.var(axis=1).mean() + centre.mean(axis=1).var(), centre.mean()


def test_close_to_monte_carlo_on_a_curve(bent):
    """Within 2 % for small errors; for large ones only the copies are right."""
    rows = np.linspace(-1.3, 1.3, 6)[:, None]
    for scale, methods in ((0.05, ("linear", "monte_carlo")), (0.6, ("monte_carlo",))):
        for method in methods:
            model = noisy(bent, scale=scale, method=method)
            total, mean = model.predict_uncertainty(rows), model.predict(rows)
            expected = [brute_force(bent, row, scale) for row in rows]
            limit = 0.02 if scale == 0.05 else 0.05
            np.testing.assert_allclose(total, [e[0] for e in expected], rtol=limit)
            np.testing.assert_allclose(mean, [e[1] for e in expected], atol=0.01)
    far = noisy(bent, scale=0.6).predict_uncertainty(rows)
    assert np.abs(far / [e[0] for e in expected] - 1).max() > 0.3


@pytest.mark.parametrize("likelihood", [StudentT(), Laplace()], ids=str)
def test_other_families(likelihood):
    """Their convolution with a normal distribution: variance exactly, probabilities to 0.003."""
    X, y = line()
    fitted = TorchRegressor(
        Linear, likelihood=likelihood, posterior=PointEstimate(), precision="float64",
        max_epochs=20, lr=0.05, random_state=0,
    ).fit(X, y)  # fmt: skip
    model = noisy(fitted, scale=0.4)
    parts = model.predict_uncertainty(X[:3], kind="nested")
    variance = model.predict(X[:3], return_std=True)[1] ** 2
    np.testing.assert_allclose(variance, parts.total, rtol=1e-9)
    assert (parts.input > 0.05 * parts.noise).all()
    added = torch.from_numpy(parts.input[None, :, None])
    y_at = torch.from_numpy(fitted.predict(X[:3]) + 0.7 * variance**0.5)[:, None]
    shifts = torch.special.ndtri((torch.arange(400).double() + 0.5) / 400)
    base = fitted.likelihood_.predictive(fitted.draws(torch.from_numpy(X[:3])))
    expected = sum(base.cdf(y_at - added.sqrt() * shift)[0] for shift in shifts) / len(shifts)
    found = widened(base, added).cdf(y_at)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.003)


def test_through_a_pipeline_a_calibrator_and_several_targets():
    """The error is in the units of X, before a scaler; variances in those of y, per target."""
    X, y = line()
    X = X * [1.0, 50.0, 0.1]
    two = np.stack([y, 100 * y], axis=1)
    options = {"max_epochs": 5, "precision": "float64", "lr": 0.05, "random_state": 0}
    inner = TorchRegressor(Linear, posterior=PointEstimate(), **options)
    model = InputNoise(make_pipeline(StandardScaler(), inner), scale=[0.1, 5.0, 0.01]).fit(X, two)
    steps = np.vstack([X[:1], X[0] + np.eye(3)])
    w = model.predict(steps)[1:] - model.predict(steps)[:1]
    expected = ((w * [[0.1], [5.0], [0.01]]) ** 2).sum(axis=0)
    parts = model.predict_uncertainty(X[:4], kind="nested")
    np.testing.assert_allclose(parts.input, np.tile(expected, (4, 1)), rtol=1e-6)
    assert model.predict_interval(X[:4]).shape == (4, 2, 2)
    scaler = VarianceScaler(FrozenEstimator(model)).fit(X[:40] + 1e-9, two[:40])
    assert scaler.scale_.shape == (2,)
    around = InputNoise(VarianceScaler(inner, cv=2), scale=0.1).fit(X, y)
    assert (around.predict_uncertainty(X[:4], kind="nested").input > 0).all()


def test_counts_and_other_targets_need_samples():
    X, y = line()
    counts = np.round(np.exp(0.2 * y)).clip(0)
    poisson = TorchRegressor(likelihood=skuq.likelihoods.Poisson(), max_epochs=2).fit(X, counts)
    with pytest.raises(ValueError, match="counts"):
        noisy(poisson, scale=0.1).predict_interval(X[:3])
    assert noisy(poisson, scale=0.1, method="monte_carlo").predict_interval(X[:3]).shape == (3, 2)
    turned = TransformedTargetRegressor(TorchRegressor(max_epochs=2), transformer=StandardScaler())
    turned.fit(X, y)
    with pytest.raises(TypeError, match="use method='monte_carlo'"):
        noisy(turned, scale=0.1).predict_uncertainty(X[:3])
    parts = noisy(turned, scale=0.1, method="monte_carlo", n_samples=4)
    assert parts.predict_uncertainty(X[:3], kind="nested").input.shape == (3,)


def test_rows_that_are_no_vectors():
    """Sequences: a number for all values, or one for each."""

    class Mean(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.last = nn.Linear(4, n_outputs)

        def forward(self, x):
            return self.last(x.mean(1))

    X = np.random.default_rng(0).normal(size=(30, 5, 4))
    y = X.mean(axis=(1, 2))
    fitted = TorchRegressor(Mean, posterior=PointEstimate(), max_epochs=3).fit(X, y)
    one = noisy(fitted, scale=0.2, X=X).predict_uncertainty(X[:3], kind="nested")
    each = noisy(fitted, scale=np.full((5, 4), 0.2), X=X)
    np.testing.assert_array_equal(each.predict_uncertainty(X[:3], kind="nested").input, one.input)
    copies = noisy(fitted, scale=0.2, X=X, method="monte_carlo")
    found = copies.predict_uncertainty(X[:3], kind="nested").input
    np.testing.assert_allclose(found, one.input, rtol=1e-3)

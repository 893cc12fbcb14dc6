"""Calibrators of regressors: closed forms, every answer, levels that are reached."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq.calibration import QuantileRecalibrator, VarianceScaler, fit_variance_scale
from skuq.likelihoods import Gaussian, Poisson
from skuq.metrics import crps, gaussian_nll, nll_scorer, prediction_interval_coverage
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate


def data(n=400, seed=0, n_targets=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 3))
    noise = random.gamma(2.0, size=(n, max(n_targets, 1))) - 2
    y = X @ [1.0, -2.0, 0.5] + 3
    y = y[:, None] + noise * np.arange(1, max(n_targets, 1) + 1)
    return X, y if n_targets else y[:, 0]


def network(posterior=None, **options):
    options = {"max_epochs": 10, "lr": 0.01, "random_state": 0, **options}
    return TorchRegressor(posterior=posterior or MCDropout(4), **options)


def test_scale_of_arrays():
    random = np.random.default_rng(0)
    std = random.lognormal(size=5000)
    y = random.normal(0, 2.5 * std)
    assert fit_variance_scale(y, 0 * y, std) == pytest.approx(2.5, rel=0.03)
    scale = fit_variance_scale(y, 0 * y, std)
    grid = scale * np.linspace(0.9, 1.1, 21)
    losses = [gaussian_nll(y, 0 * y, k * std) for k in grid]
    assert np.argmin(losses) == 10
    two = np.stack([y, 3 * y], axis=1)
    scales = fit_variance_scale(two, 0 * two, np.stack([std, std], axis=1))
    np.testing.assert_allclose(scales, [scale, 3 * scale])
    weight = random.integers(0, 3, 5000)
    rows = np.repeat(np.arange(5000), weight)
    assert fit_variance_scale(y, 0 * y, std, weight) == pytest.approx(
        fit_variance_scale(y[rows], 0 * y[rows], std[rows])
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1.0], [1.0], [0.0]), "std must be positive"),
        (([1.0], [1.0], [1.0]), "every prediction is exact"),
        (([1.0, 2.0], [1.0], [1.0]), "one shape"),
        (([np.nan], [1.0], [1.0]), "NaN"),
    ],
)
def test_bad_arrays(arrays, message):
    with pytest.raises(ValueError, match=message):
        fit_variance_scale(*arrays)


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(4), DeepEnsemble(2)], ids=str)
@pytest.mark.parametrize("n_targets", [0, 2])
def test_variances_are_scaled_and_means_stay(posterior, n_targets):
    X, y = data(n_targets=n_targets)
    X_apart, y_apart = data(seed=1, n_targets=n_targets)
    fitted = network(posterior).fit(X, y)
    scaler = VarianceScaler(FrozenEstimator(fitted)).fit(X_apart, y_apart)
    mean, std = fitted.predict(X_apart, return_std=True)
    expected = np.sqrt(np.mean(((y_apart - mean) / std) ** 2, axis=0))
    np.testing.assert_allclose(scaler.scale_, expected)
    assert isinstance(scaler.scale_, float) is (n_targets == 0)
    scaled_mean, scaled_std = scaler.predict(X_apart, return_std=True)
    np.testing.assert_allclose(scaled_mean, mean, atol=1e-9)
    np.testing.assert_allclose(scaled_std, expected * std)
    for before, after in zip(
        fitted.predict_uncertainty(X, "all"), scaler.predict_uncertainty(X, "all")
    ):
        np.testing.assert_allclose(after, expected**2 * before, rtol=1e-9, atol=1e-12)
    centre = fitted.predict(X)
    raw, wide = fitted.predict_interval(X, 0.8), scaler.predict_interval(X, 0.8)
    k = np.reshape(expected, (-1, 1)) if n_targets else expected
    np.testing.assert_allclose(wide - centre[..., None], k * (raw - centre[..., None]), atol=1e-8)
    assert scaler.predict_draws(X).shape == fitted.predict_draws(X).shape


def test_cross_fitting():
    X, y = data()
    scaler = VarianceScaler(BayesianRidge(), cv=KFold(4)).fit(X, y)
    folds = cross_val_predict(BayesianRidge(), X, y, cv=4)
    assert scaler.scale_ == pytest.approx(
        np.sqrt(np.mean((y - folds) ** 2 / _left_out_std(X, y) ** 2))
    )
    assert np.array_equal(scaler.estimator_.coef_, BayesianRidge().fit(X, y).coef_)
    parallel = VarianceScaler(BayesianRidge(), cv=KFold(4), n_jobs=2).fit(X, y)
    assert parallel.scale_ == scaler.scale_


def _left_out_std(X, y):
    std = np.empty(len(y))
    for train, test in KFold(4).split(X):
        std[test] = BayesianRidge().fit(X[train], y[train]).predict(X[test], return_std=True)[1]
    return std


@pytest.mark.parametrize("calibrator", [VarianceScaler, QuantileRecalibrator])
@pytest.mark.parametrize(
    "around",
    [
        lambda: make_pipeline(StandardScaler(), network()),
        lambda: TransformedTargetRegressor(network(), transformer=StandardScaler()),
        lambda: TransformedTargetRegressor(network(), func=np.arcsinh, inverse_func=np.sinh),
        lambda: GridSearchCV(network(), {"lr": [0.01]}, cv=2),
        BayesianRidge,
    ],
    ids=["pipeline", "linear", "arcsinh", "search", "bayesian ridge"],
)
def test_around_anything(calibrator, around):
    X, y = data()
    scaler = calibrator(around(), cv=3).fit(X, y)
    mean, std = scaler.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape and (std > 0).all()
    assert np.isfinite(nll_scorer(scaler, X, y))
    coverage = prediction_interval_coverage(y, scaler.predict_interval(X, 0.8))
    assert 0.65 < coverage < 0.95
    inside = make_pipeline(StandardScaler(), calibrator(BayesianRidge(), cv=3)).fit(X, y)
    assert skuq.predict_interval(inside, X).shape == (len(y), 2)
    outside = TransformedTargetRegressor(
        calibrator(BayesianRidge(), cv=3),
        func=lambda v: 2 * v + 1,
        inverse_func=lambda v: (v - 1) / 2,
    ).fit(X, y)
    plain = calibrator(BayesianRidge(), cv=3).fit(X, y)
    np.testing.assert_allclose(
        skuq.predict_interval(outside, X), plain.predict_interval(X), rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_recalibrated_quantiles_reach_their_levels(weighted):
    """Skewed noise under normal predictions: 0.8 holds less or more before, 0.8 after."""
    X, y = data(600)
    X_apart, y_apart = data(2000, seed=1)
    X_test, y_test = data(4000, seed=2)
    fitted = network(module__dropout=0.0, posterior=PointEstimate()).fit(X, y)
    weight = np.ones(2000) if weighted else None
    calibrated = QuantileRecalibrator(FrozenEstimator(fitted))
    calibrated.fit(X_apart, y_apart, sample_weight=weight)
    levels = np.array([0.02, 0.1, 0.5, 0.9, 0.98])
    before, after = (
        np.abs((y_test[:, None] <= e.predict_quantiles(X_test, levels)).mean(0) - levels).max()
        for e in (fitted, calibrated)
    )
    assert after < 0.035 < before
    mean, std = fitted.predict(X_test, return_std=True)
    plain = crps(y_test, mean, std)
    assert -skuq.metrics.crps_scorer(calibrated, X_test, y_test) < plain
    assert nll_scorer(calibrated, X_test, y_test) > -gaussian_nll(y_test, mean, std)


def test_the_map_is_that_of_ranks():
    X, y = data(9)
    fitted = BayesianRidge().fit(X, y)
    calibrated = QuantileRecalibrator(FrozenEstimator(fitted)).fit(X, y)
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(
        calibrated.levels_[0], np.r_[0, np.sort(norm.cdf(y, mean, std)), 1], atol=1e-12
    )
    np.testing.assert_allclose(calibrated.frequencies_[0], np.linspace(0, 1, 11))
    quantiles = calibrated.predict_quantiles(X, [0.5])
    level = np.median(norm.cdf(y, mean, std))
    np.testing.assert_allclose(quantiles[:, 0], norm.ppf(level, mean, std), rtol=1e-9)


def test_moments_of_the_recalibrated_distribution_are_those_of_its_quantiles():
    X, y = data(100)
    calibrated = QuantileRecalibrator(network(), cv=3).fit(X, y)
    levels = (np.arange(300) + 0.5) / 300
    quantiles = calibrated.predict_quantiles(X[:5], levels)
    mean, std = calibrated.predict(X[:5], return_std=True)
    np.testing.assert_allclose(mean, quantiles.mean(1), atol=0.03)
    np.testing.assert_allclose(std, quantiles.std(1), rtol=0.05)
    np.testing.assert_allclose(calibrated.predict_uncertainty(X[:5]), std**2)


def test_what_recalibration_does_not_have():
    X, y = data(60)
    calibrated = QuantileRecalibrator(BayesianRidge(), cv=2).fit(X, y)
    with pytest.raises(ValueError, match="only kind='total'"):
        calibrated.predict_uncertainty(X, "epistemic")
    with pytest.raises(AttributeError, match="no predict_draws"):
        calibrated.predict_draws(X)


def test_recalibration_warns_of_targets_beyond_all_quantiles():
    X, y = data(60)
    fitted = network(max_epochs=30).fit(X, y)
    far = y.copy()
    far[0] = 1e6
    with pytest.warns(UserWarning, match="no quantile reaches them"):
        QuantileRecalibrator(FrozenEstimator(fitted)).fit(X[:30] + 1e-3, far[:30])


def test_variances_then_quantiles():
    # Networks of a quarter of the rows, after ten epochs, err by as much as the luck of the split.
    halves = KFold(2)
    both = QuantileRecalibrator(VarianceScaler(network(), cv=halves), cv=halves).fit(*data(800))
    X, y = data(2000, seed=1)
    coverage = prediction_interval_coverage(y, both.predict_interval(X, 0.8))
    assert coverage == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("calibrator", [VarianceScaler, QuantileRecalibrator])
def test_what_cannot_be_calibrated(calibrator):
    X, y = data(30)
    with pytest.raises(TypeError, match="needs a regressor, got TorchClassifier"):
        calibrator(TorchClassifier()).fit(X, y)
    with pytest.raises(TypeError, match="LinearRegression has no predictive distribution"):
        calibrator(LinearRegression()).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        calibrator(BayesianRidge()).fit(X, y * np.nan)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, bool, np.float32, object])
@pytest.mark.parametrize("likelihood", [Gaussian(), Poisson()], ids=str)
def test_targets_of_any_kind_of_number(likelihood, dtype):
    X, y = data(60)
    y = np.abs(y).round().clip(max=1 if dtype is bool else 100)
    fitted = network(PointEstimate(), likelihood=likelihood, max_epochs=2).fit(X + 1e-3, y)
    of_kind, of_floats = (
        QuantileRecalibrator(FrozenEstimator(fitted)).fit(X, t) for t in (y.astype(dtype), y)
    )
    assert np.array_equal(of_kind.levels_[0], of_floats.levels_[0])

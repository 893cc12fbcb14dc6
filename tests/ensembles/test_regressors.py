"""scikit-learn's ensembles of regressors, and ``return_std``, against hand computation."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import ARDRegression, BayesianRidge, LinearRegression, QuantileRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

import skuq
from skuq import metrics as m
from skuq._distributions._members import normal_members
from skuq.calibration import QuantileRecalibrator, VarianceScaler
from skuq.pipeline import make_pipeline
from skuq.selective import SelectiveRegressor


@pytest.fixture(scope="module")
def rows(diabetes):
    X, y = diabetes
    X = np.asarray(X, dtype=float)[:160]
    return X[::2], X[1::2], y[:160:2], y[1:160:2]


ENSEMBLES = {
    "forest": RandomForestRegressor(9, random_state=0),
    "leaves": RandomForestRegressor(9, min_samples_leaf=4, random_state=0),
    "extra trees": ExtraTreesRegressor(9, min_samples_leaf=3, random_state=0),
    "absolute error": RandomForestRegressor(3, criterion="absolute_error", random_state=0),
    "tree": DecisionTreeRegressor(max_depth=2),
    "bag of columns": BaggingRegressor(max_features=0.5, random_state=0),
    "bag of ridges": BaggingRegressor(BayesianRidge(), random_state=0),
    "voting": VotingRegressor([("a", LinearRegression()), ("b", BayesianRidge())], weights=[1, 3]),
    "stacking": StackingRegressor(
        [("a", LinearRegression()), ("b", DecisionTreeRegressor(max_depth=2))], BayesianRidge()
    ),
    "boosting": GradientBoostingRegressor(n_estimators=15, random_state=0),
    "histograms": HistGradientBoostingRegressor(max_iter=15),
    "process": GaussianProcessRegressor(RBF() + WhiteKernel(), normalize_y=True, optimizer=None),
    "ridge": BayesianRidge(),
    "relevance": ARDRegression(),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_mean_and_variance_are_those_of_the_draws(name, rows):
    X, X_test, y, y_test = rows
    ensemble = ENSEMBLES[name].fit(X, y)
    draws = skuq.predict_draws(ensemble, X_test)
    np.testing.assert_allclose(draws.mean(0)[:, 0], ensemble.predict(X_test))
    total, aleatoric, epistemic = skuq.predict_uncertainty(ensemble, X_test, kind="all")
    np.testing.assert_allclose(total, aleatoric + epistemic)
    if len(draws) > 1:
        np.testing.assert_allclose(epistemic, draws.var(0)[:, 0])
    interval = skuq.predict_interval(ensemble, X_test, 0.8)
    assert (interval[:, 0] <= interval[:, 1]).all()
    assert -m.crps_scorer(ensemble, X_test, y_test) > 0
    named = make_pipeline(StandardScaler(with_mean=False, with_std=False), ensemble).fit(X, y)
    assert np.array_equal(named.predict_interval(X_test, 0.8), interval)


def test_draws_of_a_forest_are_the_leaves_of_its_trees(rows):
    X, X_test, y, _ = rows
    forest = RandomForestRegressor(5, min_samples_leaf=4, bootstrap=False, random_state=0)
    forest.set_params(max_features=0.5).fit(X, y)
    mean, variance = [], []
    for tree in forest.estimators_:
        here, there = tree.apply(X), tree.apply(X_test)
        mean.append([y[here == leaf].mean() for leaf in there])
        variance.append([y[here == leaf].var() for leaf in there])
    np.testing.assert_allclose(skuq.predict_draws(forest, X_test)[..., 0], mean)
    parts = skuq.predict_uncertainty(forest, X_test, kind="all")
    np.testing.assert_allclose(parts.aleatoric, np.mean(variance, axis=0))
    np.testing.assert_allclose(parts.epistemic, np.var(mean, axis=0))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_full_trees_have_no_noise(offset, rows):
    """Their leaves hold one value, so the quantiles are those of the trees' predictions."""
    X, X_test, y, y_test = rows
    forest = RandomForestRegressor(20, random_state=0).fit(X, y + offset)
    trees = np.stack([tree.predict(X_test) for tree in forest.estimators_])
    assert not skuq.predict_uncertainty(forest, X_test, "aleatoric").any()
    expected = np.quantile(trees, [0.05, 0.95], axis=0, method="inverted_cdf").T
    assert np.array_equal(skuq.predict_interval(forest, X_test, 0.9), expected)
    apart = np.abs(trees[:, None] - trees).mean((0, 1))
    crps = np.abs(trees - y_test - offset).mean(0) - apart / 2
    assert -m.crps_scorer(forest, X_test, y_test + offset) == pytest.approx(crps.mean())
    with pytest.raises(ValueError, match="without noise, so y has no density"):
        m.nll_scorer(forest, X_test, y_test)


def test_quantiles_of_points_beside_normals():
    """Half of the mass at 0, half standard normal around 1: the level is reached by hand."""
    mean, std = torch.tensor([0.0, 1.0]).double(), torch.tensor([0.0, 1.0]).double()
    mixed = normal_members(mean[:, None, None], std[:, None, None])
    levels = torch.tensor([0.05, 0.4, 0.9]).double()[:, None, None]
    found = mixed.quantile_of_mixture(levels).ravel()
    expected = [1 + norm.ppf(0.1), 0.0, 1 + norm.ppf(0.8)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert mixed.quantile_of_mixture(torch.tensor(0.9).double()).shape == (1, 1)


def test_parts_of_gaussian_regressors(rows):
    X, X_test, y, y_test = rows
    process = ENSEMBLES["process"].fit(X, y)
    mean, std = process.predict(X_test, return_std=True)
    parts = skuq.predict_uncertainty(process, X_test, kind="all")
    np.testing.assert_allclose(parts.total, std**2)
    np.testing.assert_allclose(parts.aleatoric, process._y_train_std**2 * 1.0)  # of WhiteKernel()
    ridge = BayesianRidge().fit(X, y)
    parts = skuq.predict_uncertainty(ridge, X_test, kind="all")
    mean, std = ridge.predict(X_test, return_std=True)
    np.testing.assert_allclose(parts.aleatoric, 1 / ridge.alpha_)
    np.testing.assert_allclose(parts.epistemic, std**2 - 1 / ridge.alpha_)
    ends = mean[:, None] + std[:, None] * norm.ppf([0.1, 0.9])
    np.testing.assert_allclose(skuq.predict_interval(ridge, X_test, 0.8), ends)
    assert m.crps_scorer(ridge, X_test, y_test) == pytest.approx(-m.crps(y_test, mean, std))


def test_parts_follow_transformed_targets(rows):
    X, X_test, y, _ = rows
    plain = BayesianRidge().fit(X, (y - y.mean()) / y.std())
    fitted = TransformedTargetRegressor(BayesianRidge(), transformer=StandardScaler()).fit(X, y)
    parts = skuq.predict_uncertainty(fitted, X_test, kind="all")
    inner = skuq.predict_uncertainty(plain, X_test, kind="all")
    for part, unit in zip(parts, inner):
        np.testing.assert_allclose(part, y.var() * unit)
    logs = TransformedTargetRegressor(BayesianRidge(), func=np.log, inverse_func=np.exp).fit(X, y)
    parts = skuq.predict_uncertainty(logs, X_test, kind="all")
    inner = skuq.predict_uncertainty(logs.regressor_, X_test, kind="all")
    np.testing.assert_allclose(parts.epistemic / parts.total, inner.epistemic / inner.total)
    forest = TransformedTargetRegressor(
        RandomForestRegressor(5, random_state=0), func=np.log, inverse_func=np.exp
    ).fit(X, y)
    trees = np.stack([np.exp(tree.predict(X_test)) for tree in forest.regressor_.estimators_])
    np.testing.assert_allclose(skuq.predict_uncertainty(forest, X_test), trees.var(0))


def test_calibrators_report_and_selection(rows):
    X, X_test, y, y_test = rows
    forest = RandomForestRegressor(9, min_samples_leaf=4, random_state=0).fit(X, y)
    parts = skuq.predict_uncertainty(forest, X_test, kind="all")
    scaler = VarianceScaler(FrozenEstimator(forest)).fit(X_test, y_test)
    k2 = np.mean((y_test - forest.predict(X_test)) ** 2 / parts.total)
    assert scaler.scale_ == pytest.approx(np.sqrt(k2))
    scaled = skuq.predict_uncertainty(scaler, X_test, kind="all")
    np.testing.assert_allclose(scaled.epistemic, k2 * parts.epistemic)
    recalibrated = QuantileRecalibrator(FrozenEstimator(forest)).fit(X_test, y_test)
    inside = m.prediction_interval_coverage(y_test, recalibrated.predict_interval(X_test, 0.8))
    assert abs(inside - 0.8) < 0.05
    accepted = SelectiveRegressor(FrozenEstimator(forest), coverage=0.5).fit(X_test, y_test)
    assert 0.4 < accepted.accept(X_test).mean() < 0.6
    page = skuq.report(forest, X_test, y_test)
    assert page.metrics["negative log-likelihood (nats)"] == pytest.approx(
        -m.nll_scorer(forest, X_test, y_test)
    )
    full = RandomForestRegressor(9, random_state=0).fit(X, y)
    assert "negative log-likelihood (nats)" not in skuq.report(full, X_test, y_test).metrics
    with pytest.raises(ValueError, match="certain of some rows: their variance is 0"):
        VarianceScaler(FrozenEstimator(LonelyTree().fit(X, y))).fit(X_test, y_test)


class LonelyTree(DecisionTreeRegressor):
    """A full tree: one draw without noise."""


def test_several_targets(rows):
    X, X_test, y, _ = rows
    Y = np.column_stack([y, -2 * y])
    forest = RandomForestRegressor(5, random_state=0).fit(X, Y)
    assert skuq.predict_draws(forest, X_test).shape == (5, len(X_test), 2)
    assert skuq.predict_interval(forest, X_test).shape == (len(X_test), 2, 2)
    trees = np.stack([tree.predict(X_test) for tree in forest.estimators_])
    np.testing.assert_allclose(skuq.predict_uncertainty(forest, X_test), trees.var(0))
    process = GaussianProcessRegressor(RBF() + WhiteKernel(), optimizer=None, normalize_y=True)
    parts = skuq.predict_uncertainty(process.fit(X, Y), X_test, kind="all")
    np.testing.assert_allclose(parts.total, process.predict(X_test, return_std=True)[1] ** 2)
    np.testing.assert_allclose(parts.aleatoric, np.tile(Y.var(0), (len(X_test), 1)))


def test_what_is_no_distribution(rows):
    X, X_test, y, _ = rows
    with pytest.raises(NotFittedError):
        skuq.predict_interval(GaussianProcessRegressor(), X_test)
    for model in (
        GradientBoostingRegressor(loss="quantile", n_estimators=2),
        HistGradientBoostingRegressor(loss="quantile", quantile=0.9, max_iter=2),
    ):
        with pytest.raises(TypeError, match="predicts one quantile"):
            skuq.predict_interval(model.fit(X, y), X_test)
    with pytest.raises(TypeError, match="cannot call predict_interval of QuantileRegressor"):
        skuq.predict_interval(QuantileRegressor(solver="highs").fit(X, y), X_test)

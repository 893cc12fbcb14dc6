"""SelectiveRegressor: bounded losses, Chow's rule for variances, several targets."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LogisticRegression

from skuq import TorchRegressor
from skuq.metrics._guarantees import certified, ranked
from skuq.posteriors import PointEstimate
from skuq.selective import SelectiveRegressor
from tests.selective.helpers import MeanAndVariance

N = 1000


@pytest.fixture(scope="module")
def known():
    """Normal targets whose mean and variance are known."""
    random = np.random.default_rng(0)
    X = np.column_stack([random.normal(size=N), random.uniform(0.01, 1, N)])
    return X, X[:, 0] + np.sqrt(X[:, 1]) * random.normal(size=N)


@pytest.fixture(scope="module")
def frozen(known):
    return FrozenEstimator(MeanAndVariance().fit(*known))


@pytest.mark.parametrize("loss", ["squared", "absolute"])
@pytest.mark.parametrize("method", ["fixed_sequence", "sgr", "crc"])
def test_clipped_losses_in_their_units(frozen, known, loss, method):
    X, y = known
    error = np.abs(y - X[:, 0])
    losses = (error**2 if loss == "squared" else error).clip(max=2.0)
    selective = SelectiveRegressor(
        frozen, target_risk=0.5, loss=loss, loss_bound=2.0, method=method
    ).fit(X, y)
    expected = certified(ranked(losses / 2, X[:, 1]), 0.25, 0.05, method)
    assert selective.threshold_ == pytest.approx(expected.threshold)
    assert selective.risk_ == pytest.approx(losses[selective.accept(X)].mean())
    assert selective.bound_ == pytest.approx(2 * expected.bound) and selective.bound_ <= 0.5
    assert selective.certified_ and 0.2 < selective.coverage_ <= 1


def test_outside_of_the_interval(frozen, known):
    X, y = known
    spread = np.where(X[:, 1] > 0.5, 2.0, 1.0) * (y - X[:, 0])  # intervals above .5 are too narrow
    y = X[:, 0] + spread
    selective = SelectiveRegressor(
        frozen, target_risk=0.15, loss="outside_interval", interval_level=0.9
    ).fit(X, y)
    outside = np.abs(spread) > 1.6448536 * np.sqrt(X[:, 1])
    assert selective.risk_ == pytest.approx(outside[selective.accept(X)].mean())
    assert selective.certified_ and selective.bound_ == 0.15
    assert 0.4 < selective.coverage_ < 0.8
    assert selective.report(X, y).overall.risk_of_all == pytest.approx(outside.mean())


def test_the_cost_of_a_refusal_is_compared_with_the_variance(frozen, known):
    X, y = known
    selective = SelectiveRegressor(frozen, reject_cost=0.25).fit(X, y)
    assert np.array_equal(selective.accept(X), X[:, 1] <= 0.25)
    assert np.isnan(selective.bound_) and not selective.certified_  # the loss has no bound
    assert selective.risk_ == pytest.approx(((y - X[:, 0]) ** 2)[X[:, 1] <= 0.25].mean())
    bounded = SelectiveRegressor(frozen, reject_cost=0.25, loss_bound=1.0).fit(X, y)
    assert bounded.certified_ and bounded.risk_ < bounded.bound_ < 1
    with pytest.raises(ValueError, match="needs uncertainty='total' and loss='squared'"):
        SelectiveRegressor(frozen, reject_cost=0.25, loss="absolute").fit(X, y)


def test_numbers_of_refused_rows(frozen, known):
    X, y = known
    selective = SelectiveRegressor(frozen, coverage=0.6, reject_label=np.nan).fit(X, y)
    mean, std = selective.predict(X, return_std=True)
    accepted = selective.accept(X)
    assert np.array_equal(np.isnan(mean), ~accepted) and accepted.mean() == 0.6
    assert np.array_equal(mean[accepted], X[accepted, 0])
    assert std == pytest.approx(np.sqrt(X[:, 1]))
    assert np.array_equal(selective.predict(X), mean, equal_nan=True)
    plain = clone(selective).set_params(reject_label=None).fit(X, y)
    assert np.array_equal(plain.predict(X), X[:, 0])
    assert plain.score(X, y) == selective.score(X, y) == frozen.score(X, y)
    interval = selective.predict_interval(X, 0.9)
    assert interval[:, 1] == pytest.approx(X[:, 0] + 1.644853627 * np.sqrt(X[:, 1]), abs=1e-6)


def test_several_targets(diabetes):
    X, y = diabetes
    Y = np.column_stack([y, y[::-1]])
    network = TorchRegressor(posterior=PointEstimate(), max_epochs=3, lr=0.01, random_state=0)
    selective = SelectiveRegressor(network, coverage=0.5, reject_label=np.nan).fit(X, Y)
    accepted = selective.accept(X)
    total = selective.predict_uncertainty(X)
    assert total.shape == Y.shape
    assert np.array_equal(accepted, total.mean(axis=1) <= selective.threshold_)
    predicted = selective.predict(X)
    assert np.array_equal(np.isnan(predicted), np.repeat(~accepted[:, None], 2, axis=1))
    error = ((selective.estimator_.predict(X) - Y) ** 2).mean(axis=1)
    assert selective.report(X, Y).overall.risk == pytest.approx(error[accepted].mean())


def test_any_regressor_with_a_standard_deviation(known):
    X, y = known
    selective = SelectiveRegressor(BayesianRidge(), coverage=0.5).fit(X, y)
    assert selective.accept(X).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of"),
        ({"target_risk": 0.1}, "a guarantee needs a bounded loss: give loss_bound"),
        ({"target_risk": 2.0, "loss_bound": 1.0}, "must be smaller than the largest loss.* 1;"),
        ({"target_risk": 1.0, "loss": "outside_interval"}, "must be smaller than the largest"),
        ({"coverage": 0.5, "uncertainty": "entropy"}, "uncertainty must be one of 'total'"),
        ({"coverage": 0.5, "loss_bound": 0}, "'loss_bound' parameter"),
        ({"coverage": 0.5, "loss": "zero_one"}, "'loss' parameter"),
        ({"coverage": 0.5, "reject_label": "no"}, "'reject_label' parameter"),
    ],
)
def test_bad_parameters(frozen, known, options, message):
    with pytest.raises(ValueError, match=message):
        SelectiveRegressor(frozen, **options).fit(*known)


def test_bad_input(frozen, known):
    X, y = known
    with pytest.raises(TypeError, match="needs a regressor, got LogisticRegression"):
        SelectiveRegressor(LogisticRegression(), coverage=0.5).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        SelectiveRegressor(frozen, coverage=0.5).fit(X, np.where(y > 2, np.nan, y))
    with pytest.raises(NotFittedError):
        SelectiveRegressor(frozen, coverage=0.5).predict(X)

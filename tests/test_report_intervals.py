"""Confidence intervals on the page of a report."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import BayesianRidge

import skuq
from skuq import _report_intervals as intervals
from skuq.metrics import bootstrap, negative_log_likelihood

pytest.importorskip("matplotlib")


def test_a_classifier():
    X, y = load_breast_cancer(return_X_y=True)
    forest = RandomForestClassifier(10, max_depth=3, random_state=0).fit(X[::3], y[::3])
    X, y = X[1::3], y[1::3]
    page = skuq.report(forest, X, y, n_resamples=30)
    for name, (low, high) in page.intervals.items():
        assert low <= high
        assert low <= page.metrics[name] <= high or name.startswith("ECE"), name
    found = bootstrap(negative_log_likelihood, y, forest.predict_proba(X), n_resamples=30)
    name = "negative log-likelihood (nats)"
    assert page.intervals[name] == pytest.approx((found.low, found.high))
    assert ">95 % interval<" in page.html and f"{found.low:.4g} to {found.high:.4g}" in page.html
    floor = intervals.calibrated_ece(forest.predict_proba(X))
    assert f"0; a calibrated model shows {floor:.2g}" in page.html
    grouped = skuq.report(forest, X, y, groups=np.arange(len(y)) // 20, n_resamples=30)
    assert grouped.intervals["accuracy"] != page.intervals["accuracy"]
    with pytest.raises(ValueError, match="inconsistent numbers"):
        skuq.report(forest, X, y, groups=y[1:])
    none = skuq.report(forest, X, y, n_resamples=0)
    assert none.intervals == {} and ">95 % interval<" not in none.html


def test_a_regressor(diabetes):
    X, y = diabetes
    page = skuq.report(BayesianRidge().fit(X[::2], y[::2]), X[1::2], y[1::2], n_resamples=30)
    for name, (low, high) in page.intervals.items():
        assert low <= page.metrics[name] <= high or name == "ENCE", name
    assert {"CRPS", "RMSE", "R²", "coverage of 90% intervals"} <= set(page.intervals)
    forest = RandomForestRegressor(5, random_state=0).fit(X[::2], y[::2])
    page = skuq.report(forest, X[1::2], y[1::2], n_resamples=20)
    assert "negative log-likelihood (nats)" not in page.intervals and "CRPS" in page.intervals
    assert skuq.report(forest, X[:8], y[:8]).intervals == {}


def test_the_ece_of_a_calibrated_model():
    """Of one confidence p, it is the mean distance of a share from p."""
    proba = np.tile([0.8, 0.2], (400, 1))
    expected = np.sqrt(2 / np.pi * 0.8 * 0.2 / 400)
    assert intervals.calibrated_ece(proba) == pytest.approx(expected, rel=0.2)

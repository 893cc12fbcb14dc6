"""Confidence intervals on the page of a report."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error

import skuq
from skuq import _report_intervals as intervals
from skuq import metrics as m
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
    for wrong in (1, -3, 2.5, "20", None):
        with pytest.raises(ValueError, match="n_resamples must be 0, or an integer above 1"):
            skuq.report(forest, X, y, n_resamples=wrong)
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


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_the_bootstrap(grouped, diabetes):
    """The page computes all metrics from counts of rows; `bootstrap` takes the rows themselves."""
    X, y = diabetes
    options = {"groups": np.arange(len(y)) // 3 if grouped else None, "n_resamples": 25}
    model = BayesianRidge().fit(X[::2], y[::2])
    mean, std = model.predict(X, return_std=True)
    of_mean = {"CRPS": m.crps, "negative log-likelihood (nats)": m.gaussian_nll}
    expected = {
        name: bootstrap(metric, y, mean, std, **options) for name, metric in of_mean.items()
    }
    expected["ENCE"] = bootstrap(
        m.expected_normalized_calibration_error, y, mean, std, interval="basic", **options
    )
    expected["R²"] = bootstrap(r2_score, y, mean, **options)
    expected["RMSE"] = bootstrap(root_mean_squared_error, y, mean, **options)
    expected["AURC (squared error)"] = bootstrap(
        m.area_under_risk_coverage, y, mean, std**2, loss="squared", **options
    )
    band = skuq.predict_interval(model, X, 0.8)
    expected["coverage of 80% intervals"] = bootstrap(
        m.prediction_interval_coverage, y, band, **options
    )
    scores, bands = intervals.scores_of_rows(model, X, y), {0.8: band}
    counted = intervals.of_regressor(y, mean, std**2, scores, bands)
    check(intervals.intervals_of(counted, len(y), **options), expected)
    rough = RandomForestClassifier(4, max_depth=2, random_state=0)  # with many ties
    labels = np.array(["low", "mid", "top"])[np.digitize(y, [100, 200])]
    rough.fit(X, labels)
    proba, predicted = rough.predict_proba(X), rough.predict(X)
    ranks = (labels, predicted, skuq.predict_uncertainty(rough, X))
    expected = {
        "accuracy": bootstrap(accuracy_score, labels, predicted, **options),
        "Brier score": bootstrap(m.brier_score, labels, proba, **options),
        "ECE (top label, 15 bins)": bootstrap(
            m.expected_calibration_error, labels, proba, interval="basic", **options
        ),
        "AURC": bootstrap(m.area_under_risk_coverage, *ranks, **options),
        "AUGRC": bootstrap(m.area_under_risk_coverage, *ranks, method="generalized", **options),
        "AUROC of errors": bootstrap(m.uncertainty_error_auroc, *ranks, **options),
    }
    counted = intervals.of_classifier(labels, proba, rough.classes_, *ranks[1:])
    check(intervals.intervals_of(counted, len(y), **options), expected)


def check(got, expected):
    for name, found in expected.items():
        ends = (max(found.low, 0), found.high) if name[:3] in ("ECE", "ENC") else found[1:3]
        assert got[name] == pytest.approx(ends, rel=1e-9), name


def test_the_ece_of_a_calibrated_model():
    """Of one confidence p, it is the mean distance of a share from p."""
    proba = np.tile([0.8, 0.2], (400, 1))
    expected = np.sqrt(2 / np.pi * 0.8 * 0.2 / 400)
    assert intervals.calibrated_ece(proba) == pytest.approx(expected, rel=0.2)

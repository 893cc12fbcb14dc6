"""shift_report: measures against their functions, curves, pictures, and what falls under shift."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LogisticRegression

from skuq import TorchClassifier, TorchRegressor, predict_uncertainty
from skuq.calibration import TemperatureScaler
from skuq.metrics import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    prediction_interval_coverage,
)
from skuq.posteriors import DeepEnsemble, PointEstimate
from skuq.selective import SelectiveClassifier, SelectiveRegressor
from skuq.shift import corrupt, shift_report
from skuq.shift._report import ShiftReport, novelty_auroc
from tests.selective.helpers import Strangeness


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return X[:700] / 16, y[:700], X[1200:] / 16, y[1200:]


@pytest.fixture(scope="module")
def network(data):
    options = {"posterior": DeepEnsemble(2), "max_epochs": 20, "lr": 0.01, "random_state": 0}
    return TorchClassifier(**options).fit(*data[:2])


@pytest.fixture(scope="module")
def report(network, data):
    return shift_report(network, *data[2:], image_shape=(8, 8))


def test_measures_are_those_of_the_corrupted_rows(report, network, data):
    _, _, X, y = data
    by_place = {(r["corruption"], r["severity"]): r for r in report.records}
    assert len(by_place) == len(report.records) == 9 * 6
    for severity in (0, 4):
        found = by_place["rotation", severity]
        rows = corrupt(X, "rotation", severity, image_shape=(8, 8))
        proba, parts = network.predict_proba(rows, return_uncertainty=True)
        assert found["accuracy"] == network.score(rows, y)
        assert found["nll"] == negative_log_likelihood(y, proba)
        assert found["brier"] == brier_score(y, proba)
        assert found["ece"] == expected_calibration_error(y, proba)
        assert found["total"] == parts.total.mean()
        assert found["epistemic"] == parts.epistemic.mean()
        auroc = novelty_auroc(predict_uncertainty(network, X), parts.total)
        assert found["novelty_auroc"] == auroc
    clean = [r for r in report.records if r["severity"] == 0]
    assert all({**r, "corruption": ""} == {**clean[0], "corruption": ""} for r in clean)
    assert clean[0]["novelty_auroc"] == 0.5


def test_quality_falls_as_severity_rises(report):
    rank = {
        measure: stats.spearmanr(range(6), report.curve(measure).median).statistic
        for measure in report.measures
    }
    assert rank["accuracy"] < -0.8
    assert min(rank[m] for m in ("nll", "brier", "ece", "total", "novelty_auroc")) > 0.8


def test_curves_are_quartiles_over_corruptions(report):
    curve = report.curve("brier")
    values = [r["brier"] for r in report.records if r["severity"] == 5]
    assert curve.severity.tolist() == [0, 1, 2, 3, 4, 5] and len(values) == 9
    assert (curve.low[5], curve.median[5], curve.high[5]) == pytest.approx(
        np.quantile(values, [0.25, 0.5, 0.75])
    )
    with pytest.raises(ValueError, match=r"measure must be one of 'accuracy', .* got 'acc'"):
        report.curve("acc")


def test_a_frame(report):
    frame = report.frame()
    assert list(frame.columns) == ["corruption", "severity", *report.measures]
    assert len(frame) == 54 and frame.groupby("severity")["accuracy"].mean().is_monotonic_decreasing
    assert "9 corruptions" in repr(report)


def test_pictures(report, data):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    axes = report.plot(name="ensemble").axes_
    assert report.figure_ is axes[0].figure
    assert [ax.get_ylabel() for ax in axes] == ["accuracy", "ECE", "mean total uncertainty"]
    assert np.array_equal(axes[0].lines[0].get_ydata(), report.curve("accuracy").median)
    assert report.plot("nll", ax=axes[0]).axes_[0] is axes[0] and len(axes[0].lines) == 2
    assert axes[0].get_legend().get_texts()[0].get_text() == "ensemble"
    with pytest.raises(ValueError, match="ax must hold 2 axes, one per measure, got 1"):
        report.plot(["nll", "ece"], ax=axes[0])
    pyplot.close("all")


def test_any_classifier_and_corruptions_of_ones_own(data):
    X, y, X_new, y_new = data
    fitted = LogisticRegression(max_iter=500).fit(X, y)

    def half(X, severity, random):
        return X / 2**severity

    report = shift_report(fitted, X_new, y_new, {"half": half}, [0, 2])
    assert [r["severity"] for r in report.records] == [0, 2]
    assert report.records[1]["accuracy"] == fitted.score(X_new / 4, y_new)
    assert report.records[0]["epistemic"] == 0


def test_a_detector_measures_novelty(network, data):
    _, _, X, y = data
    detector = Strangeness().fit(X)
    options = {"image_shape": (8, 8), "novelty": detector}
    (record,) = shift_report(network, X, y, "brightness", [3], **options).records
    brighter = corrupt(X, "brightness", 3, image_shape=(8, 8))
    assert record["novelty_auroc"] == novelty_auroc(1 - X[:, 0], 1 - brighter[:, 0]) < 0.01


def test_novelty_auroc_by_hand():
    assert novelty_auroc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert novelty_auroc(np.array([1.0, 2.0]), np.array([2.0, 0.0])) == (0.5 + 1) / 4


def test_calibrated_and_selective_classifiers(network, data):
    _, _, X, y = data
    scaled = TemperatureScaler(FrozenEstimator(network)).fit(X[:200], y[:200])
    selective = SelectiveClassifier(FrozenEstimator(network), coverage=0.5, reject_label=-1)
    selective.fit(X[:200], y[:200])
    options = {"corruptions": ["contrast"], "severities": [3], "image_shape": (8, 8)}
    plain, cooled, refusing = (
        shift_report(estimator, X[200:], y[200:], **options).records[0]
        for estimator in (network, scaled, selective)
    )
    assert refusing == plain and cooled["nll"] != plain["nll"]


def test_regressors(diabetes):
    X, y = diabetes
    options = {"posterior": PointEstimate(), "max_epochs": 20, "lr": 0.01, "random_state": 0}
    network = TorchRegressor(**options).fit(X[:200], y[:200])
    report = shift_report(network, X[200:], y[200:], ["noise"])
    noisy = corrupt(X[200:], "noise", 5)
    last = report.records[-1]
    error = y[200:] - network.predict(noisy)
    assert last["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    interval = network.predict_interval(noisy, 0.9)
    assert last["coverage"] == prediction_interval_coverage(y[200:], interval)
    assert last["rmse"] > report.records[0]["rmse"]
    assert {"nll", "crps", "total", "epistemic", "novelty_auroc"} < set(report.measures)
    selective = SelectiveRegressor(FrozenEstimator(network), coverage=0.5, reject_label=np.nan)
    selective.fit(X[200:], y[200:])
    assert shift_report(selective, X[200:], y[200:], ["noise"]).records == report.records


def test_bad_input(network, data):
    _, _, X, y = data
    with pytest.raises(ValueError, match="Did you mean 'blur'"):
        shift_report(network, X, y, ["blurr"], image_shape=(8, 8))
    with pytest.raises(ValueError, match="at least one corruption and one severity"):
        shift_report(network, X, y, [], image_shape=(8, 8))
    with pytest.raises(ValueError, match="inconsistent"):
        shift_report(network, X, y[:5])
    with pytest.raises(ValueError, match="severity must be an integer from 0 to 5, got 9"):
        shift_report(network, X, y, severities=[9])
    assert isinstance(shift_report(network, X, y, severities=[0]), ShiftReport)


def test_a_column_of_targets_is_read_as_a_row(network, data):
    _, _, X, y = data
    column, flat = (shift_report(network, X, t, ["noise"], 0).records for t in (y[:, None], y))
    assert column == flat and flat[0]["accuracy"] == network.score(X, y)
    regressor = BayesianRidge().fit(X, y)
    column, flat = (shift_report(regressor, X, t, ["noise"], 0).records for t in (y[:, None], y))
    assert column == flat and flat[0]["rmse"] > 0


def test_functions_that_are_none_or_lose_rows(network, data):
    with pytest.raises(TypeError, match="'fog' must be a function"):
        shift_report(network, *data[2:], {"fog": 3})
    with pytest.raises(ValueError, match="'fog' must return as many rows"):
        shift_report(network, *data[2:], {"fog": lambda X, severity, generator: X[:3]})

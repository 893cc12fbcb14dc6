"""Displays: what they hold is what the metrics say, and they share axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq import metrics as m
from skuq.posteriors import MCDropout


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def classified(blobs):
    X, y = blobs
    y = np.array(["a", "b<c", "d"])[y]
    network = TorchClassifier(posterior=MCDropout(5), max_epochs=8, lr=0.01, random_state=0)
    pipeline = make_pipeline(StandardScaler(), network)
    return GridSearchCV(pipeline, {"torchclassifier__lr": [0.01]}, cv=2).fit(X, y), X, y


@pytest.fixture(scope="module")
def regressed():
    random = np.random.default_rng(0)
    X = random.uniform(-2, 2, (200, 1))
    y = np.sin(2 * X[:, 0]) + 0.2 * random.normal(size=200) + 10
    network = TorchRegressor(posterior=MCDropout(5), max_epochs=20, lr=0.01, random_state=0)
    scaled = TransformedTargetRegressor(network, transformer=StandardScaler())
    return make_pipeline(StandardScaler(), scaled).fit(X, y), X, y


def labels_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_reliability(classified):
    search, X, y = classified
    display = m.ReliabilityDisplay.from_estimator(search, X, y, n_bins=8)
    same = m.ReliabilityDisplay.from_predictions(y, search.predict_proba(X), n_bins=8, name="same")
    np.testing.assert_array_equal(display.accuracy, same.accuracy)
    expected = m.expected_calibration_error(y, search.predict_proba(X), n_bins=8)
    assert display.ece == pytest.approx(expected)
    assert display.share.sum() == pytest.approx(1)
    again = m.ReliabilityDisplay.from_estimator(search, X, y, ax=display.ax_, name="again")
    assert again.ax_ is display.ax_ and len(labels_of(display.ax_)) == 3
    assert again.line_.get_color() != display.line_.get_color()
    with pytest.raises(ValueError, match="one kind of event"):
        m.ReliabilityDisplay.from_estimator(search, X, y, kind="classwise")


def test_error_bars_of_reliability_are_wilson_intervals():
    display = m.ReliabilityDisplay.from_predictions([1] * 8 + [0] * 2, [0.9] * 10, kind="binary")
    low, high = display.accuracy - display.error[0], display.accuracy + display.error[1]
    assert (low[0], high[0]) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # 8 of 10


def test_risk_coverage(classified, regressed):
    search, X, y = classified
    display = m.RiskCoverageDisplay.from_estimator(search, X, y)
    uncertainty = skuq.predict_uncertainty(search, X)
    same = m.RiskCoverageDisplay.from_predictions(y, search.predict(X), uncertainty)
    np.testing.assert_array_equal(display.risk, same.risk)
    assert display.aurc == pytest.approx(-m.aurc_scorer(search, X, y))
    assert (display.oracle <= display.risk + 1e-12).all()
    m.RiskCoverageDisplay.from_estimator(search, X, y, kind="epistemic", ax=display.ax_)
    assert len(labels_of(display.ax_)) == 4
    model, X, y = regressed
    display = m.RiskCoverageDisplay.from_estimator(model, X, y)
    assert display.risk[-1] == pytest.approx(np.mean((y - model.predict(X)) ** 2))


def test_uncertainty_histogram(classified, regressed):
    search, X, y = classified
    display = m.UncertaintyHistogramDisplay.from_estimator(search, X, y)
    assert display.auroc == pytest.approx(m.error_auroc_scorer(search, X, y))
    assert len(display.first) + len(display.second) == len(y)
    far = m.UncertaintyHistogramDisplay.from_estimator(search, X, X_other=X + 30)
    assert far.groups[1] == "out of distribution"
    right = m.UncertaintyHistogramDisplay.from_predictions([0.1, 0.2], [])
    assert np.isnan(right.auroc)
    with pytest.raises(ValueError, match="not both"):
        m.UncertaintyHistogramDisplay.from_estimator(search, X)
    model, X, y = regressed
    with pytest.raises(TypeError, match="give X_other"):
        m.UncertaintyHistogramDisplay.from_estimator(model, X, y)


def test_decomposition(classified, regressed):
    for model, X, y in (classified, regressed):
        parts = skuq.predict_uncertainty(model, X, kind="all")
        display = m.DecompositionDisplay.from_estimator(model, X, y)
        np.testing.assert_array_equal(display.aleatoric, parts.aleatoric)
        same = m.DecompositionDisplay.from_predictions(parts.aleatoric, parts.epistemic)
        np.testing.assert_array_equal(display.epistemic, same.epistemic)
    with pytest.raises(ValueError, match="one shape"):
        m.DecompositionDisplay.from_predictions([1.0], [1.0, 2.0])


def test_bands(regressed):
    model, X, y = regressed
    display = m.PredictionBandDisplay.from_estimator(model, X, y, confidence_level=0.8, n_grid=50)
    expected = skuq.predict_interval(model, display.x[:, None], 0.8)
    np.testing.assert_allclose(display.total, expected)
    assert (np.ptp(display.total, axis=1) >= np.ptp(display.noise, axis=1) * 0.98).all()
    ridge = BayesianRidge().fit(X, y)
    m.PredictionBandDisplay.from_estimator(ridge, X, y, ax=display.ax_)
    frame = pd.DataFrame({"hour": X[:, 0]})
    m.PredictionBandDisplay.from_estimator(BayesianRidge().fit(frame, y), frame, y)
    by_hand = m.PredictionBandDisplay.from_predictions([1, 0], [1, 0], [0.1, 0.1], [0.2, 0.2])
    assert by_hand.x.tolist() == [0, 1]
    with pytest.raises(ValueError, match="exactly one feature"):
        m.PredictionBandDisplay.from_estimator(model, np.hstack([X, X]), y)


def test_coverage_and_pit(regressed):
    model, X, y = regressed
    display = m.RegressionCalibrationDisplay.from_estimator(model, X, y)
    for level in (0.3, 0.8):
        covered = m.prediction_interval_coverage(y, skuq.predict_interval(model, X, level))
        index = np.argmin(np.abs(display.expected - level))
        assert display.observed[index] == pytest.approx(covered, abs=0.011)
    ridge = BayesianRidge().fit(X, y)
    mean, std = ridge.predict(X, return_std=True)
    pit = m.PITDisplay.from_estimator(ridge, X, y)
    np.testing.assert_allclose(pit.pit, m.pit_values(y, mean, std))
    m.PITDisplay.from_predictions(m.pit_values(y, mean, std), ax=pit.ax_, name="same")
    assert len(labels_of(pit.ax_)) == 3
    both = TorchRegressor(max_epochs=2, random_state=0).fit(X, np.stack([y, y], axis=1))
    assert len(m.PITDisplay.from_estimator(both, X, np.stack([y, y], axis=1)).pit) == 2 * len(y)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        m.PITDisplay.from_predictions([0.1, 1.2])
    with pytest.raises(TypeError, match="of regressors"):
        m.PITDisplay.from_estimator(LogisticRegression().fit(X, y > 10), X, y > 10)
    with pytest.raises(TypeError, match="return_std"):
        m.PITDisplay.from_estimator(LinearRegression().fit(X, y), X, y)


def test_rc_parameters_are_left_alone(classified):
    before = dict(plt.rcParams)
    m.ReliabilityDisplay.from_estimator(*classified)
    assert dict(plt.rcParams) == before

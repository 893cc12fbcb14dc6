"""Displays: what they hold is what the metrics say, and they share axes."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import TorchClassifier, TorchRegressor
from skuq import metrics as m
from skuq.calibration import TemperatureScaler
from skuq.metrics._axes import description
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
    assert again.ax_ is display.ax_ and len(labels_of(display.ax_)) == 4
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
    frame, load = pd.DataFrame({"hour": X[:, 0]}), pd.Series(y, name="load (kW)")
    named = m.PredictionBandDisplay.from_estimator(BayesianRidge().fit(frame, y), frame, load)
    assert (named.ax_.get_xlabel(), named.ax_.get_ylabel()) == ("hour", "load (kW)")
    m.PredictionBandDisplay.from_estimator(model, X, y, ax=named.ax_)
    assert (named.ax_.get_xlabel(), named.ax_.get_ylabel()) == ("hour", "load (kW)")
    assert labels_of(named.ax_).count("data") == 1
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
    assert len(labels_of(pit.ax_)) == 4
    both = TorchRegressor(max_epochs=2, random_state=0).fit(X, np.stack([y, y], axis=1))
    assert len(m.PITDisplay.from_estimator(both, X, np.stack([y, y], axis=1)).pit) == 2 * len(y)
    assert m.PITDisplay.from_predictions([0.0, 1.0]).pit.tolist() == [0, 1]
    for bad in ([0.1, 1.2], [-0.1, 0.5], [], [[0.1, 0.2]], 0.5):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            m.PITDisplay.from_predictions(bad)
    with pytest.raises(TypeError, match="needs a regressor"):
        m.PITDisplay.from_estimator(LogisticRegression().fit(X, y > 10), X, y > 10)
    with pytest.raises(TypeError, match="return_std"):
        m.PITDisplay.from_estimator(LinearRegression().fit(X, y), X, y)


def drawn(classified, regressed):
    """One of each display, and two on one axes where they can share."""
    search, X, y = classified
    model, Z, t = regressed
    yield m.DecompositionDisplay.from_estimator(search, X, y)
    yield m.UncertaintyHistogramDisplay.from_estimator(search, X, y)
    for display in (m.ReliabilityDisplay, m.RiskCoverageDisplay):
        first = display.from_estimator(search, X, y)
        yield display.from_estimator(search, X, y, ax=first.ax_, name="a second one")
    for display in (m.PITDisplay, m.RegressionCalibrationDisplay, m.PredictionBandDisplay):
        first = display.from_estimator(model, Z, t)
        yield display.from_estimator(model, Z, t, ax=first.ax_, name="a second one")


def test_no_legend_covers_data(classified, regressed):
    for display in drawn(classified, regressed):
        display.figure_.canvas.draw()
        legend = display.ax_.get_legend().get_window_extent()
        figure = display.figure_.bbox
        assert not legend.overlaps(display.ax_.bbox), type(display).__name__
        assert figure.y0 <= legend.y0 and legend.y1 <= figure.y1, type(display).__name__
        assert 0 <= legend.x0 - display.ax_.bbox.x0 < 0.1 * display.ax_.bbox.width


def lightness(colours):
    """Relative luminance (WCAG 2) of colours over white, one laid on the other."""
    shown = np.ones(3)
    for *rgb, alpha in colours:
        shown = (1 - alpha) * shown + alpha * np.array(rgb)
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_bands_are_told_apart(regressed):
    """Paper, the outer band and the inner one on top of it differ in lightness and in edges."""
    outer, inner = m.PredictionBandDisplay.from_estimator(*regressed).ax_.collections
    faces = [band.get_facecolor()[0] for band in (outer, inner)]
    levels = [lightness(faces[:n]) for n in range(3)]
    contrasts = [(a + 0.05) / (b + 0.05) for a, b in itertools.pairwise(levels)]
    assert contrasts[0] > 1.1 and contrasts[1] > 1.6, contrasts
    assert outer.get_linewidth()[0] >= 1 and inner.get_linewidth()[0] == 0


def test_curves_that_come_later_are_not_cut_off():
    y = np.array([0, 0, 0, 0])
    good = m.RiskCoverageDisplay.from_predictions(y, [0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])
    m.RiskCoverageDisplay.from_predictions(y, [1, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], ax=good.ax_)
    assert good.ax_.get_ylim()[0] == 0 and good.ax_.get_ylim()[1] > 1
    perfect = m.RiskCoverageDisplay.from_predictions(y, y, [0.1, 0.2, 0.3, 0.4])
    assert perfect.ax_.get_ylim()[1] >= 0.5


def test_axes_say_kind_and_unit(classified, regressed):
    search, X, y = classified
    shown = m.UncertaintyHistogramDisplay.from_estimator(search, X, y, kind="epistemic")
    assert shown.ax_.get_xlabel() == "epistemic uncertainty (nats)"
    assert m.RiskCoverageDisplay.from_estimator(search, X, y).ax_.get_ylabel() == (
        "share of errors of the samples kept"
    )
    model, X, y = regressed
    shown = m.UncertaintyHistogramDisplay.from_estimator(model, X, X_other=X + 3)
    assert shown.ax_.get_xlabel() == "total uncertainty (squared units of y)"
    ranked = m.RiskCoverageDisplay.from_estimator(model, X, y, kind="aleatoric")
    assert ranked.ax_.get_ylabel() == "mean squared error of the samples kept"
    assert "aleatoric ranks" in labels_of(ranked.ax_)[-1]
    parts = m.DecompositionDisplay.from_estimator(model, X, pd.Series(y, name="load"))
    assert parts.ax_.get_ylabel() == "epistemic uncertainty (squared units of load)"
    by_hand = m.UncertaintyHistogramDisplay.from_predictions([0.1, 0.2], [0.3])
    assert by_hand.ax_.get_xlabel() == "uncertainty"


def test_names_say_what_is_inside(classified, regressed):
    search, X, y = classified
    shown = m.ReliabilityDisplay.from_estimator(search, X, y)
    assert shown.name == "TorchClassifier with MCDropout"
    shown = m.UncertaintyHistogramDisplay.from_estimator(search, X, y)
    title = shown.ax_.get_legend().get_title().get_text()
    assert title == f"{shown.name}: AUROC {shown.auroc:.3f}"
    calibrated = make_pipeline("passthrough", TemperatureScaler(FrozenEstimator(search)))
    inside = "TorchClassifier with MCDropout"
    assert description(calibrated) == f"TemperatureScaler of {inside}"
    model, X, y = regressed
    assert m.PITDisplay.from_estimator(model, X, y).name == "TorchRegressor with MCDropout"
    assert m.PITDisplay.from_estimator(BayesianRidge().fit(X, y), X, y).name == "BayesianRidge"
    assert m.PITDisplay.from_estimator(model, X, y, name="mine").plot(name="other").name == "mine"


def test_rc_parameters_are_left_alone(classified):
    before = dict(plt.rcParams)
    m.ReliabilityDisplay.from_estimator(*classified)
    assert dict(plt.rcParams) == before

"""Drawings: each line, bar and band shows the numbers that the display holds."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import BayesianRidge

import skuq
from skuq import TorchClassifier
from skuq import metrics as m
from skuq.posteriors import MCDropout


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def classified(blobs):
    X, y = blobs
    network = TorchClassifier(posterior=MCDropout(5), max_epochs=8, lr=0.01, random_state=0)
    return network.fit(X, y), X, y


def lines_of(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def bars_of(ax):
    return np.array([(b.get_x(), b.get_y(), b.get_width(), b.get_height()) for b in ax.patches])


def bands_of(ax):
    """Of each band its lower and its upper edge, at increasing x."""
    for band in ax.collections:
        corners = band.get_paths()[0].vertices
        x = np.unique(corners[:, 0])
        at = [corners[corners[:, 0] == value, 1] for value in x]
        yield x, np.array([(y.min(), y.max()) for y in at])


def rows(*columns):
    return np.column_stack(np.broadcast_arrays(*columns))


def test_risk_coverage():
    y, guess = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 1])
    shown = m.RiskCoverageDisplay.from_predictions(y, guess, [0.1, 0.5, 0.4, 0.9, 0.2])
    lines = lines_of(shown.ax_)
    np.testing.assert_array_equal(lines["random ranks"], rows([0, 1], 0.4))
    np.testing.assert_array_equal(lines["ranks of an oracle"], rows(shown.coverage, shown.oracle))
    np.testing.assert_array_equal(shown.line_.get_xydata(), rows(shown.coverage, shown.risk))
    assert shown.ax_.get_xlim() == (0, 1.02)
    assert shown.ax_.get_ylim() == (0, pytest.approx(1.05 * max(shown.risk)))


@pytest.mark.parametrize("kind", ["total", "aleatoric", "epistemic"])
def test_uncertainty_histogram(classified, kind):
    model, X, y = classified
    near, far = (skuq.predict_uncertainty(model, Z, kind=kind) for Z in (X, X + 30))
    shown = m.UncertaintyHistogramDisplay.from_estimator(model, X, X_other=X + 30, kind=kind)
    np.testing.assert_array_equal(shown.first, near)
    np.testing.assert_array_equal(shown.second, far)
    shown = m.UncertaintyHistogramDisplay.from_estimator(model, X, y, kind=kind)
    wrong = model.predict(X) != y
    np.testing.assert_array_equal(shown.first, near[~wrong])
    np.testing.assert_array_equal(shown.second, near[wrong])
    ranked = m.RiskCoverageDisplay.from_estimator(model, X, y, kind=kind)
    expected = m.RiskCoverageDisplay.from_predictions(y, model.predict(X), near)
    np.testing.assert_array_equal(ranked.risk, expected.risk)


def test_bars_of_a_histogram_are_shares_of_their_group():
    options = {"histtype": "bar", "hatch": None}
    shown = m.UncertaintyHistogramDisplay.from_predictions(
        [0.0, 0.0, 0.3, 0.6], [0.6, 0.6], **options
    )
    bars = bars_of(shown.ax_).reshape(2, 30, 4)
    np.testing.assert_allclose(bars[0, [0, 15, 29], 3], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(bars[..., 3].sum(1), 1)
    assert bars[1, 29, 3] == 1
    assert shown.auroc == pytest.approx(7 / 8)
    assert [t.get_text() for t in shown.ax_.get_legend().get_texts()] == [
        "in distribution (4)",
        "out of distribution (2)",
    ]
    alike = m.UncertaintyHistogramDisplay.from_predictions([0.0, 0.0], [0.0], **options)
    low, high = alike.ax_.get_xlim()
    assert low < 0 < high < 1e-8


def test_decomposition():
    one, two = np.array([0.1, 0.5, 0.3]), np.array([0.2, 0.0, 0.4])
    shown = m.DecompositionDisplay.from_predictions(one, two, wrong=[0, 1, 0])
    right, wrong = (points.get_offsets() for points in shown.ax_.collections)
    np.testing.assert_array_equal(right, rows(one, two)[[0, 2]])
    np.testing.assert_array_equal(wrong, rows(one, two)[[1]])
    texts = [text.get_text() for text in shown.ax_.get_legend().get_texts()]
    assert texts == ["right (2)", "wrong (1)", "same total"]
    assert len(shown.ax_.get_lines()) == 7
    for line in shown.ax_.get_lines():  # along each the sum is one number
        assert np.ptp(line.get_xydata().sum(1)) == 0
    assert shown.ax_.get_xlim()[0] == shown.ax_.get_ylim()[0] == 0
    assert shown.ax_.get_xlim()[1] > 0.5 and shown.ax_.get_ylim()[1] > 0.4


def test_reliability():
    p = np.array([0.15, 0.12, 0.62, 0.66, 0.95, 0.91])
    y = np.array([0, 1, 1, 0, 1, 1])
    shown = m.ReliabilityDisplay.from_predictions(y, p, kind="binary", n_bins=10)
    confidence, accuracy = [0.135, 0.64, 0.93], [0.5, 0.5, 1]
    lines = lines_of(shown.ax_)
    np.testing.assert_array_equal(lines["perfectly calibrated"], [[0, 0], [1, 1]])
    np.testing.assert_allclose(shown.line_.get_xydata(), rows(confidence, accuracy))
    bars = bars_of(shown.ax_)
    np.testing.assert_allclose(bars[:, 0], [0.1, 0.6, 0.9], atol=1e-12)
    np.testing.assert_allclose(bars[:, 2], 0.1)
    # Each bin holds a third: bars of one height, within the strip below the diagram.
    assert np.ptp(bars[:, 3]) == 0
    strip = -shown.ax_.get_ylim()[0]
    np.testing.assert_allclose(bars[:, 1], -strip)
    assert 0 < bars[0, 3] < strip
    assert "33% at most" in str([t.get_text() for t in shown.ax_.get_legend().get_texts()])
    more = m.ReliabilityDisplay.from_predictions(y[1:], p[1:], kind="binary", n_bins=10)
    heights = bars_of(more.ax_)[:, 3]
    np.testing.assert_allclose(heights, [bars[0, 3] / 2, bars[0, 3], bars[0, 3]])
    errors, gaps = (c.get_segments() for c in shown.ax_.collections if hasattr(c, "get_segments"))
    ends = np.stack([shown.accuracy - shown.error[0], shown.accuracy + shown.error[1]], axis=1)
    np.testing.assert_allclose(np.array(errors)[..., 1], ends)
    np.testing.assert_allclose(np.array(gaps)[..., 1], rows(accuracy, confidence))
    np.testing.assert_allclose(np.array(gaps)[..., 0], rows(confidence, confidence))


@pytest.mark.parametrize("n_bins", [4, 10])
def test_pit(n_bins):
    pit = np.r_[np.zeros(3), np.full(9, 0.6), np.full(8, 1.0)]
    shown = m.PITDisplay.from_predictions(pit, n_bins=n_bins)
    heights, edges, _ = next(p for p in shown.ax_.patches if hasattr(p, "get_data")).get_data()
    np.testing.assert_allclose(edges, np.linspace(0, 1, n_bins + 1))
    in_bins = np.histogram(pit, bins=edges)[0]
    np.testing.assert_allclose(heights, in_bins / 20 * n_bins)
    band = next(p for p in shown.ax_.patches if not hasattr(p, "get_data"))
    low, high = stats.binom(20, 1 / n_bins).ppf([0.025, 0.975]) / 20 * n_bins
    assert (band.get_y(), band.get_height()) == pytest.approx((low, high - low))
    assert shown.ax_.get_ylim() == (0, pytest.approx(1.05 * max(heights)))
    np.testing.assert_array_equal(lines_of(shown.ax_)["perfectly calibrated"][:, 1], 1)


def test_coverage_of_intervals():
    pit = np.array([0.5, 0.3, 0.9, 0.01])  # inside of the intervals of 0, 40, 80, 98 %
    shown = m.RegressionCalibrationDisplay.from_predictions(pit)
    at = np.round(shown.expected * 100).astype(int)
    assert at.tolist() == list(range(101))
    for level, share in ((0, 0.25), (39, 0.25), (41, 0.5), (79, 0.5), (81, 0.75), (97, 0.75)):
        assert shown.observed[level] == share
    assert shown.observed[99] == 1
    np.testing.assert_array_equal(shown.line_.get_xydata(), rows(shown.expected, shown.observed))
    ((x, edges),) = bands_of(shown.ax_)
    between = np.sort(rows(shown.expected, shown.observed), axis=1)
    np.testing.assert_allclose(edges[(x > 0) & (x < 1)], between[1:-1])
    # Steps of a quarter at 0, .4, .8, .98, by the trapezoid rule over percents.
    assert shown.miscalibration_ == pytest.approx(
        np.abs(shown.observed - shown.expected)[1:-1].mean() * 0.99 + 0.25 / 200
    )


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_bands_by_hand(level):
    shown = m.PredictionBandDisplay.from_predictions(
        [2, 1], [5.0, 3.0], [0.1, 0.2], [0.3, 0.4], confidence_level=level
    )
    half = stats.norm.ppf((1 + level) / 2)
    (x, total), (_, noise) = bands_of(shown.ax_)
    np.testing.assert_array_equal(x, [1, 2])
    np.testing.assert_allclose(
        total, [[3 - 0.4 * half, 3 + 0.4 * half], [5 - 0.3 * half, 5 + 0.3 * half]]
    )
    np.testing.assert_allclose(
        noise, [[3 - 0.2 * half, 3 + 0.2 * half], [5 - 0.1 * half, 5 + 0.1 * half]]
    )
    np.testing.assert_array_equal(shown.line_.get_xydata(), [[1, 3], [2, 5]])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_bands_of_an_estimator(level):
    X = np.random.default_rng(0).uniform(-1, 3, (30, 1))
    y = 2 * X[:, 0] + 1
    ridge = BayesianRidge().fit(X, y + np.arange(30) % 3)
    shown = m.PredictionBandDisplay.from_estimator(
        ridge, X, y, confidence_level=level, margin=0.5, n_grid=20
    )
    reach = 0.5 * np.ptp(X)
    np.testing.assert_allclose(shown.x, np.linspace(X.min() - reach, X.max() + reach, 20))
    mean, std = ridge.predict(shown.x[:, None], return_std=True)
    half = stats.norm.ppf((1 + level) / 2) * std
    np.testing.assert_allclose(shown.mean, mean)
    np.testing.assert_allclose(shown.total, rows(mean - half, mean + half))
    half = stats.norm.ppf((1 + level) / 2) / np.sqrt(ridge.alpha_)  # the precision of the noise
    np.testing.assert_allclose(shown.noise, rows(mean - half, mean + half))
    np.testing.assert_array_equal(lines_of(shown.ax_)["data"], rows(X[:, 0], y))

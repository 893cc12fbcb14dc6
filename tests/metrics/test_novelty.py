"""Metrics of novelty against scikit-learn and tables made by hand; the joint task; pictures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from skuq.metrics import (
    NoveltyHistogramDisplay,
    NoveltyROCDisplay,
    area_under_risk_coverage,
    novelty_metrics,
    risk_coverage_curve,
)
from skuq.novelty import NoveltyDetector


def by_scikit_learn(known, novel):
    is_novel = np.repeat([0, 1], [len(known), len(novel)])
    scores = np.concatenate([known, novel])
    flagged, found, _ = roc_curve(is_novel, scores, drop_intermediate=False)
    accepted, kept, _ = roc_curve(1 - is_novel, -scores, drop_intermediate=False)
    return (
        roc_auc_score(is_novel, scores),
        average_precision_score(is_novel, scores),
        average_precision_score(1 - is_novel, -scores),
        flagged[found >= 0.95 - 1e-12].min(),
        accepted[kept >= 0.95 - 1e-12].min(),
        ((flagged + 1 - found) / 2).min(),
    )


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize(("n_known", "n_novel"), [(333, 222), (20, 100), (7, 1), (1, 5)])
def test_as_scikit_learn(decimals, n_known, n_novel):
    rng = np.random.default_rng(0)
    known = rng.normal(size=n_known).round(decimals)
    novel = rng.normal(1, 1, size=n_novel).round(decimals)
    expected = by_scikit_learn(known, novel)
    np.testing.assert_allclose(novelty_metrics(known, novel), expected, atol=1e-12)


scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(scores, scores)
def test_any_scores(known, novel):
    found = novelty_metrics(known, novel)
    np.testing.assert_allclose(found, by_scikit_learn(np.array(known), np.array(novel)), atol=1e-9)
    assert all(0 <= value <= 1 for value in found) and found.detection_error <= 0.5
    stretched = novelty_metrics(np.exp(known), np.exp(novel))  # only ranks count
    np.testing.assert_allclose(stretched, found)
    other_way = novelty_metrics(-np.array(known), -np.array(novel))
    assert other_way.auroc == pytest.approx(1 - found.auroc)


def test_ties_by_hand():
    """Known 0 1 1 2, novel 1 2 2 3 3: who is at least 2: one known, four novel."""
    found = novelty_metrics([0, 1, 1, 2], [1, 2, 2, 3, 3])
    # pairs won: 1 over (0), half over (1, 1); 2 over (0, 1, 1), half over (2); 3 over all
    assert found.auroc == pytest.approx((1 + 1 + 2 * 3.5 + 2 * 4) / 20)
    # precision at the score of each novel row: 2/2 twice, 4/5 twice, 5/8
    assert found.average_precision_novel == pytest.approx((2 + 2 * 4 / 5 + 5 / 8) / 5)
    # 1/1, then 3/4 twice, then 4/7
    assert found.average_precision_known == pytest.approx((1 + 2 * 3 / 4 + 4 / 7) / 4)
    assert found.fpr_at_95_novel_found == 3 / 4  # the threshold must be 1 to find all five
    assert found.fpr_at_95_known_kept == 3 / 5  # and 2 to keep all four
    assert found.detection_error == pytest.approx((1 / 4 + 1 / 5) / 2)  # flags from 2 on


def test_the_two_shares_of_95_percent_differ():
    """95 of 100 is exactly enough, and the two name different mistakes."""
    known = np.arange(100.0)
    novel = np.append(np.full(5, -1.0), np.full(95, 97.5))
    found = novelty_metrics(known, novel)
    assert found.fpr_at_95_novel_found == 0.02
    assert found.fpr_at_95_known_kept == 0.05
    twice = novelty_metrics(known, np.append(np.full(6, -1.0), np.full(94, 97.5)))
    assert twice.fpr_at_95_novel_found == 1.0
    assert twice.fpr_at_95_known_kept == 0.06


def test_extremes():
    assert novelty_metrics([0, 1], [2, 3]) == (1, 1, 1, 0, 0, 0)
    alike = novelty_metrics([1, 1], [1, 1])
    assert alike == (0.5, 0.5, 0.5, 1, 1, 0.5)
    worst = novelty_metrics([2, 3], [0, 1])
    assert (worst.auroc, worst.detection_error) == (0, 0.5)
    assert novelty_metrics([-np.inf, 0], [np.inf]).auroc == 1


@pytest.mark.parametrize(
    ("known", "novel", "message"),
    [
        ([], [1], "known must hold the scores of at least 1 row"),
        ([1], [], "novel must hold the scores of at least 1 row"),
        ([1, np.nan], [1], "known contains NaN"),
        ([1], [[1], [2]], r"novel must .* shape \(n_samples,\), got \(2, 1\)"),
        (None, [1], "known must be an array of numbers, got None"),
    ],
)
def test_bad_scores(known, novel, message):
    with pytest.raises(ValueError, match=message):
        novelty_metrics(known, novel)


# ---------------------------------------------------------------------------------------------
# The joint task


def test_accepted_novel_rows_are_errors():
    y, predicted = np.array(["a", "b", "a", "b", "b"]), np.array(["a", "b", "b", "b", "b"])
    uncertainty, novel = [0.1, 0.2, 0.3, 0.4, 0.5], np.array([False, True, False, False, False])
    curve = risk_coverage_curve(y, predicted, uncertainty, novel=novel)
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 2 / 3, 2 / 4, 2 / 5])
    area = area_under_risk_coverage(y, predicted, uncertainty, novel=novel)
    assert area == pytest.approx(curve.risk.mean())
    other = np.where(novel, "z", y)  # the label of a novel row is not looked at
    same = risk_coverage_curve(other, predicted, uncertainty, novel=novel)
    np.testing.assert_array_equal(same.risk, curve.risk)
    none = risk_coverage_curve(y, predicted, uncertainty, novel=np.zeros(5, bool))
    np.testing.assert_array_equal(none.risk, risk_coverage_curve(y, predicted, uncertainty).risk)
    weighted = risk_coverage_curve(
        y, predicted, uncertainty, novel=novel, sample_weight=[1, 0, 1, 1, 1]
    )
    np.testing.assert_allclose(weighted.risk, [0, 1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize("novel", [[0, 1, 0], [True, False], [[True], [False], [True]]])
def test_a_mask_is_of_booleans(novel):
    with pytest.raises(ValueError, match="novel must be a mask of 3 booleans"):
        risk_coverage_curve([0, 1, 1], [0, 1, 0], [0.1, 0.2, 0.3], novel=novel)


def test_only_errors_count_novel_rows():
    with pytest.raises(ValueError, match="expected loss='zero_one', got loss='squared'"):
        risk_coverage_curve([0.0, 1], [0.0, 1], [0.1, 0.2], loss="squared", novel=[True, False])


# ---------------------------------------------------------------------------------------------
# Pictures


@pytest.fixture
def ax():
    yield plt.figure().subplots()
    plt.close("all")


def test_histogram(ax):
    rng = np.random.default_rng(0)
    known, novel = rng.normal(5, 1, 100), rng.normal(8, 1, 50)
    display = NoveltyHistogramDisplay.from_predictions(
        known, novel, threshold=7.0, name="mine", ax=ax
    )
    assert display.metrics == novelty_metrics(known, novel)
    title = ax.get_legend().get_title().get_text()
    assert title == f"mine: AUROC {display.metrics.auroc:.3f}"
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["known (100)", "novel (50)", "flagged to the right"]
    assert ax.get_xscale() == "linear"
    heights = [p.get_path().vertices[:, 1].max() for p in ax.patches]
    assert all(0 < height <= 1 for height in heights)


def test_novel_rows_that_are_very_far_are_drawn_on_a_logarithmic_axis(ax):
    NoveltyHistogramDisplay.from_predictions([1.0, 2.0], [1e4, 2e4], ax=ax)
    assert ax.get_xscale() == "log"
    with pytest.raises(ValueError, match="finite scores"):
        NoveltyHistogramDisplay.from_predictions([1.0], [np.inf], ax=ax)
    NoveltyHistogramDisplay.from_predictions([0.0, 0.0], [0.0], ax=ax)  # all alike


def test_roc(ax):
    display = NoveltyROCDisplay.from_predictions([0, 1, 1, 2], [1, 2, 2, 3, 3], ax=ax)
    np.testing.assert_allclose(display.flagged, [0, 0, 1 / 4, 3 / 4, 1])
    np.testing.assert_allclose(display.found, [0, 2 / 5, 4 / 5, 1, 1])
    assert np.trapezoid(display.found, display.flagged) == pytest.approx(display.metrics.auroc)
    again = NoveltyROCDisplay.from_predictions([0, 1], [0.5, 2], name="other", ax=ax)
    assert again.line_.get_color() != display.line_.get_color()
    assert len(ax.get_legend().get_texts()) == 3


def test_from_a_detector(ax):
    X = np.random.default_rng(0).normal(size=(200, 3))
    detector = NoveltyDetector().fit(X[:100])
    display = NoveltyHistogramDisplay.from_estimator(detector, X[100:], X[100:] + 5, ax=ax)
    np.testing.assert_array_equal(display.novel, detector.predict_novelty(X[100:] + 5))
    assert display.threshold == -detector.offset_ and display.name == "NoveltyDetector"
    roc = NoveltyROCDisplay.from_estimator(detector, X[100:], X[100:] + 5, ax=ax, lw=3)
    assert roc.metrics == display.metrics and roc.line_.get_linewidth() == 3

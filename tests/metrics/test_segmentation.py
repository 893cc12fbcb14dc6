"""Metrics of segmentations: by hand, by scikit-learn on flattened pixels, streamed and stacked."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, recall_score

from skuq import metrics as m
from skuq._confusion import ConfusionCounts
from skuq.metrics._rank_counts import RankCounts

VOID = 7


@pytest.fixture(scope="module")
def maps():
    """Masks of five images, probabilities of three classes and total uncertainties."""
    generator = np.random.default_rng(0)
    y = generator.integers(3, size=(5, 9, 11))
    logits = generator.normal(size=(5, 3, 9, 11))
    np.put_along_axis(logits, y[:, None], 1.2 + np.take_along_axis(logits, y[:, None], 1), 1)
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y[generator.random(y.shape) < 0.2] = VOID
    y[3] = VOID  # an image without any pixel that counts
    return y, proba, -(proba * np.log(proba)).sum(axis=1)


@pytest.fixture(scope="module")
def flat(maps):
    """The same for the pixels that count, in one list."""
    y, proba, total = maps
    counted = y != VOID
    return y[counted], np.moveaxis(proba, 1, -1)[counted], total[counted]


KNOWN = {"labels": [0, 1, 2], "ignore_label": VOID}


def test_overlap_by_hand():
    y_true = [[0, 0, 0, 1], [1, 1, 9, 9]]
    y_pred = [[0, 0, 1, 1], [1, 2, 0, 2]]
    iou = m.intersection_over_union(y_true, y_pred, labels=[0, 1, 2, 3], ignore_label=9)
    np.testing.assert_allclose(iou, [2 / 3, 2 / 4, 0, np.nan])
    options = {"labels": [0, 1, 2, 3], "ignore_label": 9}
    mean = m.mean_intersection_over_union(y_true, y_pred, **options)
    assert mean == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    np.testing.assert_allclose(m.dice_score(y_true, y_pred, **options), [4 / 5, 4 / 6, 0, np.nan])
    assert m.mean_dice_score(y_true, y_pred, **options) == pytest.approx((4 / 5 + 4 / 6) / 3)
    assert m.pixel_accuracy(y_true, y_pred, ignore_label=9) == pytest.approx(4 / 6)


def test_overlap_is_that_of_scikit_learn(maps, flat):
    y, proba, _ = maps
    predicted, labels = proba.argmax(axis=1), flat[1].argmax(axis=1)
    each = {"average": None}
    iou = m.intersection_over_union(y, predicted, ignore_label=VOID)
    np.testing.assert_allclose(iou, jaccard_score(flat[0], labels, **each), rtol=1e-14)
    dice = m.dice_score(y, predicted, ignore_label=VOID)
    np.testing.assert_allclose(dice, f1_score(flat[0], labels, **each), rtol=1e-14)
    np.testing.assert_allclose(dice, 2 * iou / (1 + iou), rtol=1e-14)
    recall = m.SegmentationScores(**KNOWN).update(y, proba).recall()
    np.testing.assert_allclose(recall, recall_score(flat[0], labels, **each), rtol=1e-14)


def test_labels_of_any_type_and_images_of_any_size():
    names = np.array(["pole", "road", "void"])
    y_true = [names[[[0, 1], [1, 2]]], names[[[1, 1, 0]]]]
    y_pred = [names[[[0, 0], [1, 1]]], names[[[1, 1, 0]]]]
    iou = m.intersection_over_union(y_true, y_pred, ignore_label="void")
    np.testing.assert_allclose(iou, [2 / 3, 3 / 4])
    scores = m.SegmentationScores(["pole", "road"], ignore_label="void")
    for mask, predicted in zip(y_true, y_pred):
        first = np.where(predicted == "pole", 0.8, 0.3)
        scores.update([mask], [np.stack([first, 1 - first])])
    np.testing.assert_allclose(scores.intersection_over_union(), iou)
    assert scores.n_pixels_ == 6


def test_weights_of_places():
    counts = ConfusionCounts(2)
    counts.add(np.array([[0, 1]]), np.array([[0, 0]]), np.array([[0.5, 1.5]]))
    assert counts.accuracy() == 0.25
    np.testing.assert_allclose(counts.intersection_over_union(), [0.25, 0])


@pytest.mark.parametrize("kind", ["top-label", "classwise"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_the_calibration_error_is_that_of_the_flattened_pixels(maps, flat, kind, norm):
    y, proba, _ = maps
    of_maps = m.pixel_calibration_error(y, proba, kind=kind, norm=norm, n_bins=7, **KNOWN)
    of_rows = m.expected_calibration_error(flat[0], flat[1], kind=kind, norm=norm, n_bins=7)
    assert of_maps == pytest.approx(of_rows, abs=1e-14)
    assert of_maps > 0.01


def test_binary_calibration():
    y = np.array([[[0, 1, 1, 0]]])
    proba = np.array([[[[0.9, 0.4, 0.3, 0.6]], [[0.1, 0.6, 0.7, 0.4]]]])
    of_rows = m.expected_calibration_error(y.ravel(), proba[0, 1, 0], kind="binary")
    assert m.pixel_calibration_error(y, proba, kind="binary") == pytest.approx(of_rows)


def test_a_stream_gives_the_scores_of_the_stack(maps, flat):
    y, proba, total = maps
    stack = m.SegmentationScores(**KNOWN).update(y, proba, total)
    stream = m.SegmentationScores(**KNOWN)
    for images in ([4], [1, 0], [3], [2]):
        stream.update(list(y[images]), list(proba[images]))  # by default the same uncertainty
    for scores in (stack, stream):
        assert scores.n_pixels_ == len(flat[0])
        assert np.array_equal(scores.confusion_matrix(), stack.confusion_matrix())
        nll = m.negative_log_likelihood(*flat[:2])
        assert scores.negative_log_likelihood() == pytest.approx(nll, rel=1e-13)
        assert scores.brier_score() == pytest.approx(m.brier_score(*flat[:2]), rel=1e-13)
        ece = m.expected_calibration_error(*flat[:2])
        assert scores.calibration_error() == pytest.approx(ece, abs=1e-13)
        labels = flat[1].argmax(axis=1)
        assert scores.pixel_accuracy() == pytest.approx((labels == flat[0]).mean())
        mean = jaccard_score(flat[0], labels, average="macro")
        assert scores.mean_intersection_over_union() == pytest.approx(mean)
        np.testing.assert_allclose(scores.dice_score(), f1_score(flat[0], labels, average=None))
        ranks = (flat[0], labels, flat[2])
        for coverage in (0.3, 0.8, 1.0):
            exact = m.accuracy_at_coverage(*ranks, coverage=coverage)
            assert scores.accuracy_at_coverage(coverage) == pytest.approx(exact, abs=2e-3)
        aurc = m.area_under_risk_coverage(*ranks)
        assert scores.area_under_risk_coverage() == pytest.approx(aurc, abs=1e-3)
        auroc = m.uncertainty_error_auroc(*ranks)
        assert scores.uncertainty_error_auroc() == pytest.approx(auroc, abs=1e-3)
        predicted = proba.argmax(axis=1)
        patches = m.pavpu_score(y, predicted, total, threshold=0.8, ignore_label=VOID)
        np.testing.assert_allclose(scores.pavpu(0.8), patches)
        np.testing.assert_allclose(
            scores.pavpu(), m.pavpu_score(y, predicted, total, ignore_label=VOID)
        )
        curve = m.pixel_risk_coverage_curve(y, predicted, total, ignore_label=VOID)
        for one, other in zip(scores.risk_coverage_curve(), curve):
            np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_ranks_with_ties_are_exact(seed):
    """On numbers of few digits, nothing is rounded."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(-9, 10, size=60) / 8
    wrong = generator.random(60) < 0.3
    counts = RankCounts()
    for part in np.array_split(np.arange(60), 7):
        counts.add(scores[part], wrong[part])
    exact = (np.zeros(60), wrong.astype(float), scores)
    for coverage in (0.01, 0.2, 1 / 3, 0.5, 0.9, 1.0):
        expected = m.accuracy_at_coverage(*exact, coverage=coverage)
        assert counts.accuracy_at_coverage(coverage) == pytest.approx(expected, abs=1e-12)
    expected = m.area_under_risk_coverage(*exact)
    assert counts.area_under_risk_coverage() == pytest.approx(expected, rel=1e-11)
    assert counts.error_auroc() == pytest.approx(m.uncertainty_error_auroc(*exact), rel=1e-12)
    curve, all_points = counts.curve(), m.risk_coverage_curve(*exact)
    last = np.append(np.diff(all_points.threshold) > 0, True)
    np.testing.assert_allclose(curve.coverage, all_points.coverage[last])
    np.testing.assert_allclose(curve.risk, all_points.risk[last])
    kept = [(scores <= t).mean() for t in curve.threshold]
    np.testing.assert_allclose(kept, curve.coverage)  # a threshold keeps what it says


def test_uncertainties_may_be_infinite_or_tiny_and_zero_has_no_sign():
    counts = RankCounts()
    values = np.array([-np.inf, -1e-300, -0.0, 0.0, 1e-300, 1.0, np.inf])
    counts.add(values, np.array([False] * 6 + [True]))
    assert counts.counts.tolist() == [1, 1, 2, 1, 1, 1]
    threshold = counts.curve().threshold
    assert np.isneginf(threshold[0]) and np.isposinf(threshold[-1])
    assert (np.diff(threshold) > 0).all() and 1.0 <= threshold[-2] < 1 + 2**-11
    assert counts.error_auroc() == 1


def test_pavpu_by_hand():
    """Four patches: accurate and certain, accurate and uncertain, and two that are inaccurate."""
    y_true, y_pred = np.zeros((4, 4), int), np.zeros((4, 4), int)
    y_pred[2:] = [[1, 1, 1, 1], [1, 0, 0, 0]]  # 1/4 and 2/4 right: not more than half
    uncertainty = np.repeat(np.repeat([[0.1, 0.9], [0.2, 0.8]], 2, axis=0), 2, axis=1)
    scores = m.pavpu_score(y_true, y_pred, uncertainty, threshold=0.5, patch_size=2)
    assert scores == (1 / 2, 1 / 2, 2 / 4)
    lenient = m.pavpu_score(
        y_true, y_pred, uncertainty, threshold=0.5, patch_size=2, min_accuracy=0.49
    )
    assert lenient == (1 / 2, 0, 1 / 4)
    default = m.pavpu_score(y_true, y_pred, uncertainty, patch_size=2)  # threshold .5, the mean
    assert default == scores


def test_pavpu_leaves_out_pixels_that_do_not_count():
    y_true = np.array([[0, 9, 9, 9, 0], [9, 9, 9, 9, 1]])
    y_pred = np.array([[0, 1, 1, 1, 0], [1, 1, 1, 1, 0]])
    uncertainty = np.where(y_true == 9, 5.0, 0.25)
    uncertainty[1, 4] = 0.75
    # patches: (0, 0) of one pixel, one of none, and one at the edge, half of it right
    scores = m.pavpu_score(y_true, y_pred, uncertainty, threshold=0.3, patch_size=2, ignore_label=9)
    assert scores == (1, 1, 1)


def test_pavpu_of_one_kind_is_undefined_but_for_the_total():
    y = np.zeros((1, 4, 4), int)
    scores = m.pavpu_score(y, y, np.ones(y.shape), threshold=0.5)
    np.testing.assert_equal(scores, (np.nan, np.nan, 0.0))
    scores = m.pavpu_score(y, y, np.ones(y.shape), threshold=1.0)
    np.testing.assert_equal(scores, (1.0, np.nan, 1.0))


def test_images_without_counted_pixels():
    nothing = np.full((2, 3, 4), VOID)
    iou = m.intersection_over_union(nothing, nothing * 0, **KNOWN)
    assert np.isnan(iou).all() and iou.shape == (3,)
    assert np.isnan(m.mean_intersection_over_union(nothing, nothing * 0, **KNOWN))
    scores = m.SegmentationScores(**KNOWN).update(nothing, np.full((2, 3, 3, 4), 1 / 3))
    assert scores.n_pixels_ == 0 and np.isnan(scores.pixel_accuracy())
    for ask in (
        scores.negative_log_likelihood, scores.brier_score, scores.calibration_error,
        scores.risk_coverage_curve, scores.accuracy_at_coverage, scores.pavpu,
        scores.area_under_risk_coverage,
        lambda: m.pixel_calibration_error(nothing, np.full((2, 3, 3, 4), 1 / 3), **KNOWN),
        lambda: m.pavpu_score(nothing, nothing * 0, np.ones(nothing.shape), ignore_label=VOID),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no pixel counts"):
            ask()


Y = np.array([[[0, 1], [1, 0]]])
P = np.full((1, 2, 2, 2), 0.5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: m.pixel_accuracy(Y, Y[:, :1]), r"image 0 must have shape \(2, 2\).*got \(1, 2\)"),
        (lambda: m.pixel_accuracy(Y, np.concatenate([Y, Y])), "same images.*got 1 and 2"),
        (lambda: m.pixel_accuracy(Y.ravel(), Y.ravel()), r"shape \(n, H, W\).*got shape \(4,\)"),
        (lambda: m.pixel_accuracy(None, Y), r"y_true must have shape.*got shape \(\)"),
        (lambda: m.pixel_accuracy(Y, [[[0.0, np.nan], [1, 0]]]), "y_pred contains NaN"),
        (
            lambda: m.dice_score(Y + 254, Y, labels=[0, 1]),
            r"y_true contains labels \[254 255\].*ignore_label=None",
        ),
        (lambda: m.dice_score(Y, Y + 1, labels=[0, 1]), r"y_pred contains labels \[2\]"),
        (lambda: m.dice_score(Y, Y, labels=[1, 0]), r"sorted.*got \[1 0\]"),
        (lambda: m.dice_score(Y, Y, labels=[0, 1], ignore_label=1), "not ignore_label=1"),
        (lambda: m.dice_score(Y, Y, ignore_label="255"), "'255' is text.*ever be ignored"),
        (lambda: m.pixel_calibration_error(Y, P[:, 0]), r"\(n_classes, 2, 2\).*got \(2, 2\)"),
        (lambda: m.pixel_calibration_error(Y, P, labels=[0, 1, 2]), "3 classes.*got 2: pass"),
        (lambda: m.pixel_calibration_error(Y, 1.2 * P), "rows of y_proba must sum to 1"),
        (lambda: m.pixel_calibration_error(Y, np.nan * P), "y_proba contains NaN"),
        (lambda: m.pixel_accuracy_at_coverage(Y, Y, np.nan * Y), "uncertainty contains NaN"),
        (lambda: m.pixel_accuracy_at_coverage(Y, Y, Y, coverage=0), r"\(0, 1\], got 0"),
        (lambda: m.pavpu_score(Y, Y, Y, patch_size=0), "patch_size.*got 0"),
        (lambda: m.pavpu_score(Y, Y, Y, min_accuracy=1), r"\[0, 1\), got 1"),
        (lambda: m.pavpu_score(Y, Y, Y[0]), "same images|must have shape"),
        (lambda: m.SegmentationScores([0, 1], n_bins=0), "n_bins"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Several masks of an image that may overlap: scores, pictures and the report, by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import jaccard_score, multilabel_confusion_matrix

import skuq
from skuq import TorchSegmenter
from skuq import metrics as m
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli
from skuq.metrics import SegmentationDisplay, SegmentationScores
from skuq.posteriors import MCDropout

VOID = 7


@pytest.fixture(scope="module")
def segmented():
    X = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
    y = np.stack([X[:, 0] > 0, X[:, 0] > 1, X[:, 1] > 0], axis=1).astype(int)
    y[:, 1, 0] = VOID  # counts in no mask
    network = TorchSegmenter(
        module__base_width=4, module__depth=1, max_epochs=15, lr=0.03, ignore_label=VOID,
        likelihood=Bernoulli(), posterior=MCDropout(3), random_state=0,
    )  # fmt: skip
    return network.fit(X, y), X, y


@pytest.fixture
def no_figures_left():
    yield
    plt.close("all")


def test_scores_by_hand():
    y = np.array([[[[0, 1, 1, 0]], [[1, 1, VOID, 0]]]])  # an image, two masks, four pixels
    proba = np.array([[[[0.2, 0.8, 0.9, 0.6]], [[0.6, 0.3, 0.5, 0.1]]]])
    scores = SegmentationScores(["cat", "dog"], ignore_label=VOID, overlapping=True)
    scores.update(y, proba)
    assert scores.n_pixels_ == 6  # the third pixel counts in no mask
    assert scores.pixel_accuracy() == pytest.approx(4 / 6)  # wrong: cat of 4, dog of 2
    assert np.array_equal(scores.confusion_matrix(), [[[1, 1], [0, 1]], [[1, 0], [1, 1]]])
    np.testing.assert_allclose(scores.intersection_over_union(), [1 / 2, 1 / 2])
    np.testing.assert_allclose(scores.dice_score(), [2 / 3, 2 / 3])
    np.testing.assert_allclose(scores.recall(), [1, 1 / 2])
    of_truth = np.array([0.8, 0.8, 0.4, 0.6, 0.3, 0.9])
    assert scores.negative_log_likelihood() == pytest.approx(-np.log(of_truth).mean())
    assert scores.brier_score() == pytest.approx(((1 - of_truth) ** 2).mean())
    # From the most certain: right 0.9, right 0.8 twice, wrong 0.7, right 0.6 and wrong 0.6.
    assert scores.accuracy_at_coverage(0.5) == 1
    assert scores.accuracy_at_coverage(4 / 6) == 3 / 4


def test_a_label_that_is_nowhere_is_undefined():
    scores = SegmentationScores([0, 1], overlapping=True)
    scores.update(np.array([[[[1, 1]], [[0, 0]]]]), np.array([[[[0.9, 0.2]], [[0.1, 0.1]]]]))
    np.testing.assert_array_equal(scores.intersection_over_union(), [0.5, np.nan])
    assert scores.mean_intersection_over_union() == 0.5


@pytest.mark.parametrize("calibrated", [False, True])
def test_scores_of_an_estimator_are_those_of_the_scorers(segmented, calibrated):
    model, X, y = segmented
    if calibrated:
        model = TemperatureScaler(FrozenEstimator(model)).fit(X + 0.3, y)
    scores = SegmentationScores.from_estimator(model, X, y, batch_size=4)
    counted = np.broadcast_to((y != VOID).all(axis=1, keepdims=True), y.shape)
    assert scores.overlapping and scores.n_pixels_ == counted.sum()
    expected = {
        m.mean_iou_scorer: scores.mean_intersection_over_union(),
        m.pixel_accuracy_scorer: scores.pixel_accuracy(),
        m.nll_scorer: -scores.negative_log_likelihood(),
        m.brier_scorer: -scores.brier_score(),
        m.ece_scorer: -scores.calibration_error(),
        m.error_auroc_scorer: scores.uncertainty_error_auroc(),
    }
    for scorer, value in expected.items():
        assert scorer(model, X, y) == pytest.approx(
            value, abs=1e-3 if "auroc" in str(scorer) else 1e-6
        )
    rows = counted.all(axis=1)
    truth, guess = (np.moveaxis(a, 1, -1)[rows] for a in (y, model.predict(X)))
    expected = multilabel_confusion_matrix(truth, guess)
    assert np.array_equal(scores.confusion_matrix(), expected)
    iou = jaccard_score(truth, guess, average=None)
    np.testing.assert_allclose(scores.intersection_over_union(), iou)
    epistemic = SegmentationScores.from_estimator(model, X, y, kind="epistemic")
    assert epistemic.uncertainty_error_auroc() != scores.uncertainty_error_auroc()


def test_a_stream_of_images_of_several_sizes_gives_the_same(segmented):
    model, X, y = segmented
    whole = SegmentationScores.from_estimator(model, X, y)
    proba, total = model.predict_proba(X), model.predict_uncertainty(X)
    parts = SegmentationScores(model.classes_, ignore_label=VOID, overlapping=True)
    columns = [slice(5), slice(5, None)]  # each image in two pieces
    for part in columns:
        parts.update(*([one[..., part] for one in maps] for maps in (y, proba, total)))
    assert np.array_equal(whole.confusion_matrix(), parts.confusion_matrix())
    assert parts.area_under_risk_coverage() == pytest.approx(whole.area_under_risk_coverage())
    assert parts.calibration_error() == pytest.approx(whole.calibration_error())


@pytest.mark.usefixtures("no_figures_left")
def test_each_mask_has_a_row_of_pictures(segmented):
    model, X, y = segmented
    display = SegmentationDisplay.from_estimator(
        model, X, y, n_images=2, class_names=("a", "b", "c")
    )
    assert display.axes_.shape == (6, 5)
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["a", "b", "c"] * 2
    parts = model.predict_uncertainty(X[:2], kind="all")
    shown = {2: model.predict(X[:2]), 3: parts.aleatoric, 4: parts.epistemic}
    for column, maps in shown.items():
        for ax, expected in zip(display.axes_[:, column], maps.reshape(6, 8, 8)):
            np.testing.assert_allclose(ax.get_images()[0].get_array(), expected, rtol=1e-5)
    for ax, mask in zip(display.axes_[:, 1], y[:2].reshape(6, 8, 8)):
        drawn = ax.get_images()[0].get_array()
        assert drawn.mask[0].all() and not drawn.mask[1:].any()  # ignored in every mask
        assert np.array_equal(drawn[1:], mask[1:])
    ticks = [text.get_text() for text in display.bars_[0].ax.get_xticklabels()]
    assert ticks == ["0", "1"]
    without = SegmentationDisplay.from_estimator(model, X[:1])
    assert without.axes_.shape == (3, 4) and without.row_names == ["0", "1", "2"]


def test_the_report(segmented):
    model, X, y = segmented
    page = skuq.report(model, X, y, n_most_uncertain=2)
    scores = SegmentationScores.from_estimator(model, X, y)
    assert page.metrics["mean IoU"] == pytest.approx(m.mean_iou_scorer(model, X, y))
    assert page.metrics["Brier score"] == pytest.approx(scores.brier_score())
    assert f"{6 * 3 * 8 * 7} pixels of overlapping masks" in page.html
    share = y[:, 2, 1:].mean()
    assert f"<td>{share:.2%}</td><td>{scores.intersection_over_union()[2]:.3f}</td>" in page.html
    most = np.argsort(-model.predict_uncertainty(X).mean(axis=(1, 2, 3)))
    assert f"<tr><td>{most[0]}</td>" in page.html
    with pytest.raises(ValueError, match=r"n_samples, 3, height, width\).*got \(6, 8, 8\)"):
        skuq.report(model, X, y[:, 0])


@pytest.mark.parametrize(
    ("y", "proba", "message"),
    [
        (np.zeros((2, 4, 5)), np.zeros((2, 3, 4, 5)), r"y_true must have shape \(n, 3, H, W\)"),
        (np.zeros((2, 3, 4, 5)), np.zeros((2, 2, 4, 5)), r"y_proba .*got .*\(2, 4, 5\)"),
        (np.zeros((2, 3, 4, 5)), np.zeros((1, 3, 4, 5)), "the same images"),
        (np.zeros((2, 3, 4, 5)), np.zeros((2, 3, 4, 6)), r"expected|must have shape"),
        (np.full((2, 3, 4, 5), 2), np.zeros((2, 3, 4, 5)), r"labels \[2\] .* not among"),
        (np.zeros((2, 3, 4, 5)), np.full((2, 3, 4, 5), 1.5), "probabilities|proba"),
    ],
)
def test_bad_input_is_refused(y, proba, message):
    scores = SegmentationScores([0, 1, 2], overlapping=True)
    with pytest.raises(ValueError, match=message):
        scores.update(y, proba)

"""Scorers on a segmenter: the numbers of its pixels that count, in one list."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, log_loss
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch.utils.data import StackDataset

import skuq
from skuq import TorchDenseRegressor, TorchSegmenter
from skuq import metrics as m
from skuq.augmentation import Flip, TestTimeAugmentation
from skuq.calibration import TemperatureScaler
from skuq.likelihoods import Bernoulli
from skuq.posteriors import MCDropout

VOID = "void"


def segmenter(**options):
    small = {"module__base_width": 4, "module__depth": 1, "max_epochs": 3, "batch_size": 4}
    return TorchSegmenter(**small, posterior=MCDropout(3), lr=0.02, random_state=0, **options)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(8, 1, 8, 10)).astype(np.float32)
    names = np.array(["dark", "grey", "light"])
    y = names[np.digitize(X[:, 0] + 0.3 * generator.normal(size=(8, 8, 10)), (-0.5, 0.5))]
    y = np.where(generator.random(y.shape) < 0.15, VOID, y)
    y[5] = VOID
    return X, y


@pytest.fixture(scope="module")
def fitted(data):
    return segmenter(ignore_label=VOID).fit(*data)


def flattened(estimator, X, y):
    """Labels, probabilities, predictions and total uncertainty of the pixels that count."""
    counted = y != VOID
    proba, parts = estimator.predict_proba(X, return_uncertainty=True)
    rows = np.moveaxis(proba, 1, -1)[counted]
    return y[counted], rows, estimator.predict(X)[counted], parts.total[counted]


def test_scores_are_those_of_the_flattened_pixels(data, fitted):
    X, y = data
    truth, proba, predicted, total = flattened(fitted, X, y)
    labels = {"labels": fitted.classes_}
    expected = {
        m.nll_scorer: -log_loss(truth, proba, **labels),
        m.brier_scorer: -m.brier_score(truth, proba, **labels),
        m.ece_scorer: -m.expected_calibration_error(truth, proba, **labels),
        m.classwise_ece_scorer: -m.expected_calibration_error(
            truth, proba, kind="classwise", **labels
        ),
        m.aurc_scorer: -m.area_under_risk_coverage(truth, predicted, total),
        m.error_auroc_scorer: m.uncertainty_error_auroc(truth, predicted, total),
        m.mean_iou_scorer: jaccard_score(truth, predicted, average="macro"),
        m.mean_dice_scorer: f1_score(truth, predicted, average="macro"),
        m.pixel_accuracy_scorer: accuracy_score(truth, predicted),
    }
    together = m.uncertainty_scorers({str(i): s for i, s in enumerate(expected)})(fitted, X, y)
    assert list(together.values()) == pytest.approx(list(expected.values()), abs=1e-9)
    assert m.mean_iou_scorer(fitted, X, y) == pytest.approx(fitted.score(X, y), abs=1e-12)
    options = {"ignore_label": VOID, **labels}
    functions = {
        m.mean_iou_scorer: m.mean_intersection_over_union(y, fitted.predict(X), **options),
        m.ece_scorer: -m.pixel_calibration_error(y, fitted.predict_proba(X), **options),
    }
    for scorer, value in functions.items():
        assert scorer(fitted, X, y) == pytest.approx(value, abs=1e-9)
    assert expected[m.mean_iou_scorer] > 0.3


def test_all_scores_from_a_stream(data, fitted):
    X, y = data
    stack = m.SegmentationScores.from_estimator(fitted, X, y)
    pairs = ((X[i : i + 3], y[i : i + 3]) for i in (0, 3, 6))
    stream = m.SegmentationScores.from_estimator(fitted, pairs)
    single = m.SegmentationScores.from_estimator(fitted, X, y, batch_size=1, kind="total")
    for scores in (stack, stream, single):
        assert scores.n_pixels_ == (y != VOID).sum()
        nll = -m.nll_scorer(fitted, X, y)
        assert scores.negative_log_likelihood() == pytest.approx(nll, rel=1e-6)
        assert scores.mean_intersection_over_union() == pytest.approx(fitted.score(X, y))
        aurc = -m.aurc_scorer(fitted, X, y)
        assert scores.area_under_risk_coverage() == pytest.approx(aurc, abs=1e-3)
    by_epistemic = m.SegmentationScores.from_estimator(fitted, X, y, kind="epistemic")
    exact = m.pixel_accuracy_at_coverage(
        y, fitted.predict(X), fitted.predict_uncertainty(X, "epistemic"), ignore_label=VOID
    )
    assert by_epistemic.accuracy_at_coverage(0.8) == pytest.approx(exact)
    with pytest.raises(ValueError, match="same images, got 8 and 7"):
        m.SegmentationScores.from_estimator(fitted, X, y[:7])


def test_around_a_segmenter(data, fitted):
    """A calibrator, and a search over a Pipeline: the label that does not count is found inside."""
    X, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that trained the segmenter
        scaled = TemperatureScaler(FrozenEstimator(fitted)).fit(X, y)
    truth, proba, predicted, _ = flattened(scaled, X, y)
    nll = log_loss(truth, proba, labels=fitted.classes_)
    assert -m.nll_scorer(scaled, X, y) == pytest.approx(nll, rel=1e-6)
    scores = m.SegmentationScores.from_estimator(scaled, X, y)
    assert scores.negative_log_likelihood() == pytest.approx(nll, rel=1e-6)
    assert scores.pixel_accuracy() == pytest.approx(accuracy_score(truth, predicted))
    piped = make_pipeline(FunctionTransformer(), fitted)
    nll = -m.nll_scorer(fitted, X, y)
    assert -m.nll_scorer(piped, X, y) == pytest.approx(nll, rel=1e-6)
    scores = m.SegmentationScores.from_estimator(piped, X, y)
    assert scores.negative_log_likelihood() == pytest.approx(nll, rel=1e-6)
    with pytest.raises(ValueError, match="no images"):
        m.SegmentationScores.from_estimator(fitted, [])


def test_around_test_time_augmentation(data, fitted):
    X, y = data
    augmented = TestTimeAugmentation(FrozenEstimator(fitted), Flip()).fit(X, y)
    truth, proba, predicted, _ = flattened(augmented, X, y)
    nll = log_loss(truth, proba, labels=fitted.classes_)
    assert -m.nll_scorer(augmented, X, y) == pytest.approx(nll, rel=1e-6)
    assert m.pixel_accuracy_scorer(augmented, X, y) == accuracy_score(truth, predicted)
    assert m.mean_iou_scorer(augmented, X, y) == pytest.approx(augmented.score(X, y))
    assert skuq.report(augmented, X, y).metrics["pixel accuracy"] == pytest.approx(
        accuracy_score(truth, predicted)
    )


def test_datasets_are_scored_as_arrays(data, fitted):
    X, y = data
    dataset = StackDataset(X, y)
    assert m.mean_iou_scorer(fitted, dataset) == m.mean_iou_scorer(fitted, X, y)
    assert m.nll_scorer(fitted, dataset, None) == pytest.approx(m.nll_scorer(fitted, X, y))
    scores = m.SegmentationScores.from_estimator(fitted, dataset, batch_size=3)
    assert np.array_equal(
        scores.confusion_matrix(),
        m.SegmentationScores.from_estimator(fitted, X, y).confusion_matrix(),
    )
    with pytest.raises(ValueError, match="a scorer needs y"):
        m.mean_iou_scorer(fitted, X)


def test_weights_of_images_are_those_of_their_pixels(data, fitted):
    X, y = data
    weight = np.array([2.0, 0, 1, 1, 0, 1, 1, 1])
    twice = np.repeat(np.arange(8), weight.astype(int))
    for scorer in (m.nll_scorer, m.mean_iou_scorer, m.ece_scorer, m.pixel_accuracy_scorer):
        expected = scorer(fitted, X[twice], y[twice])
        assert scorer(fitted, X, y, weight) == pytest.approx(expected, abs=1e-6)


def test_cross_validation_with_pickled_scorers(data):
    scoring = {"iou": pickle.loads(pickle.dumps(m.mean_iou_scorer)), "nll": m.nll_scorer}
    scores = cross_validate(segmenter(ignore_label=VOID), *data, scoring=scoring, cv=2)
    assert np.isfinite(scores["test_iou"]).all() and (scores["test_nll"] < 0).all()


def test_labels_that_the_segmenter_does_not_know(data, fitted):
    X, y = data
    with pytest.raises(ValueError, match=r"labels .*blue.* not fitted on"):
        m.mean_iou_scorer(fitted, X, np.where(y == "dark", "blue", y))
    with pytest.raises(ValueError, match="no pixel of y counts"):
        m.mean_iou_scorer(fitted, X, np.full(y.shape, VOID))


def test_several_masks(data):
    X, _ = data
    y = np.stack([X[:, 0] > 0, X[:, 0] > 1], axis=1).astype(int)
    y[:, :, 0] = -1
    network = segmenter(likelihood=Bernoulli(), ignore_label=-1).fit(X, y)
    proba, counted = network.predict_proba(X), y >= 0
    truth, chances = y[counted], proba[counted]
    nll = -m.nll_scorer(network, X, y)
    assert nll == pytest.approx(log_loss(truth, chances), rel=1e-6)
    accuracy = m.pixel_accuracy_scorer(network, X, y)
    assert accuracy == pytest.approx(((chances > 0.5) == truth).mean())
    assert m.mean_iou_scorer(network, X, y) == pytest.approx(network.score(X, y), abs=1e-12)
    both = [f1_score(y[:, k, 1:].ravel(), (proba[:, k, 1:] > 0.5).ravel()) for k in range(2)]
    assert m.mean_dice_scorer(network, X, y) == pytest.approx(np.mean(both))


def test_mean_iou_of_a_classifier_of_rows(blobs):
    from skuq import TorchClassifier

    X, y = blobs
    network = TorchClassifier(max_epochs=3, lr=0.01, random_state=0).fit(X, y)
    expected = jaccard_score(y, network.predict(X), average="macro")
    assert m.mean_iou_scorer(network, X, y) == pytest.approx(expected)


@pytest.mark.parametrize("n_targets", [None, 2])
def test_regressors_of_pixels(n_targets):
    """Each pixel whose target is known is a sample."""
    X = np.random.default_rng(0).normal(size=(6, 1, 8, 10)).astype(np.float32)
    y = 2 * X[:, 0] + 1.0 if n_targets is None else np.concatenate([X, 1 - 2 * X], axis=1)
    y = y + 0.1 * np.random.default_rng(1).normal(size=y.shape)
    y[..., 0] = np.nan
    small = {"module__base_width": 4, "module__depth": 1, "max_epochs": 3, "random_state": 0}
    network = TorchDenseRegressor(**small, posterior=MCDropout(3)).fit(X, y)
    mean, total = network.predict(X), network.predict_uncertainty(X)
    interval = network.predict_interval(X)
    if n_targets is None:
        flat = [part[..., 1:].ravel() for part in (y, mean, total)]
        ends = interval[..., 1:, :].reshape(-1, 2)
    else:
        flat = [np.moveaxis(part[..., 1:], 1, -1).reshape(-1, 2) for part in (y, mean, total)]
        ends = np.moveaxis(interval[..., 1:, :], 1, -2).reshape(-1, 2, 2)
    width = m.interval_score(flat[0], ends)
    assert -m.interval_score_scorer(network, X, y) == pytest.approx(width, rel=1e-5)
    if n_targets is None:
        aurc = m.area_under_risk_coverage(*flat, loss="squared")
        assert -m.aurc_scorer(network, X, y) == pytest.approx(aurc, rel=1e-5)
    bound = -m.gaussian_nll(flat[0], flat[1], np.sqrt(flat[2]))  # of a normal with these moments
    assert m.nll_scorer(network, X, y) == pytest.approx(bound, rel=0.05)
    assert -10 < m.crps_scorer(network, X, y) < 0
    with pytest.raises(ValueError, match="all are NaN"):
        m.crps_scorer(network, X, np.full(y.shape, np.nan))
    with pytest.raises(TypeError, match="got a regressor of pixels"):
        skuq.report(network, X, y)

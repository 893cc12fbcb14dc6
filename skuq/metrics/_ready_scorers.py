"""The scorers that are ready for ``scoring=``, each with the sign, range and unit of its number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skuq._confusion import ConfusionCounts, mean_of_defined
from skuq.metrics._calibration import expected_calibration_error
from skuq.metrics._checks import check_weight
from skuq.metrics._intervals import interval_score, prediction_interval_coverage
from skuq.metrics._proper import brier_score
from skuq.metrics._scorers import UncertaintyScorer, make_uncertainty_scorer
from skuq.metrics._selective import area_under_risk_coverage, uncertainty_error_auroc

__all__ = [
    "aurc_scorer",
    "brier_scorer",
    "classwise_ece_scorer",
    "crps_scorer",
    "ece_scorer",
    "error_auroc_scorer",
    "interval_score_scorer",
    "mean_dice_scorer",
    "mean_iou_scorer",
    "nll_scorer",
    "picp_scorer",
    "pixel_accuracy_scorer",
]

Metric = Callable[..., float]


def _mean_of_rows(y_true: Any, rows: np.ndarray, *, sample_weight: Any = None) -> float:
    return float(np.average(rows, weights=check_weight(sample_weight, len(rows))))


def _coverage_gap(
    y_true: Any, interval: Any, *, confidence_level: float, sample_weight: Any = None
) -> float:
    coverage = prediction_interval_coverage(y_true, interval, sample_weight=sample_weight)
    return abs(coverage - confidence_level)


def _counts(y_true: Any, y_pred: Any, labels: Any, sample_weight: Any) -> ConfusionCounts:
    true, predicted = (np.searchsorted(labels, values) for values in (y_true, y_pred))
    counts = ConfusionCounts(len(labels))
    counts.add(true, predicted, check_weight(sample_weight, len(true)))
    return counts


def _mean_overlap(
    score: Callable[[ConfusionCounts], np.ndarray], y: Any, p: Any, labels: Any, mask: Any, w: Any
) -> float:
    """Average over the classes; with several masks, over the masks, of where each holds 1."""
    if mask is None:
        return mean_of_defined(score(_counts(y, p, labels, w)))
    both = np.arange(2 * (mask.max() + 1))  # 0 and 1 of each mask
    return mean_of_defined(score(_counts(2 * mask + y, 2 * mask + p, both, w))[1::2])


def _mean_iou(
    y_true: Any, y_pred: Any, *, labels: Any, mask: Any = None, sample_weight: Any = None
) -> float:
    score = ConfusionCounts.intersection_over_union
    return _mean_overlap(score, y_true, y_pred, labels, mask, sample_weight)


def _mean_dice(
    y_true: Any, y_pred: Any, *, labels: Any, mask: Any = None, sample_weight: Any = None
) -> float:
    return _mean_overlap(ConfusionCounts.dice, y_true, y_pred, labels, mask, sample_weight)


def _accuracy(y_true: Any, y_pred: Any, *, labels: Any, sample_weight: Any = None) -> float:
    return _counts(y_true, y_pred, labels, sample_weight).accuracy()


def _ready(
    text: str, metric: Callable[..., float], needs: str, **options: Any
) -> UncertaintyScorer:
    """Make a scorer that has its own help text."""
    scorer = make_uncertainty_scorer(metric, needs=needs, **options)
    scorer.__doc__ = text
    return scorer


def _lower(
    text: str, metric: Callable[..., float], needs: str, **options: Any
) -> UncertaintyScorer:
    return _ready(text, metric, needs, greater_is_better=False, **options)


def picp_scorer(confidence_level: float = 0.9) -> UncertaintyScorer:
    """Make a scorer of intervals: −|coverage − confidence_level|, between −1 and 0, 0 at best.

    The score is not the coverage, because then the widest intervals would win.

    Parameters
    ----------
    confidence_level : float in (0, 1), default=0.9
        Level of the central intervals, and the share of targets that they should hold.

    Returns
    -------
    UncertaintyScorer
        A scorer of regressors, for ``scoring=``.
    """
    text = (
        "Minus the distance of the coverage of central intervals from their level, of regressors: "
        "−|coverage − confidence_level|, between −1 and 0, 0 at best."
    )
    return _lower(text, _coverage_gap, "interval", confidence_level=confidence_level)


ece_scorer = _lower(
    "Minus the expected calibration error of the predicted class in 15 bins, of classifiers: −ECE, "
    "between −1 and 0, 0 at best. See `expected_calibration_error`.",
    expected_calibration_error,
    "proba",
)
classwise_ece_scorer = _lower(
    "Minus the expected calibration error of every class's probability in 15 bins, their mean, of "
    "classifiers: between −1 and 0, 0 at best. See `expected_calibration_error`, kind='classwise'.",
    expected_calibration_error,
    "proba",
    kind="classwise",
)
brier_scorer = _lower(
    "Minus the Brier score, the mean squared distance of probabilities from the labels, of "
    "classifiers: between −2 (two classes: −1) and 0, 0 at best. See `brier_score`.",
    brier_score,
    "proba",
)
nll_scorer = _ready(
    "Mean log-likelihood of the true labels or targets under the predictive mixture, in nats: "
    "minus the negative log-likelihood (NLL). Classifiers: at most 0, 0 at best. Regressors: the "
    "density has units, 1/y, so the score has no upper limit. See `negative_log_likelihood`.",
    _mean_of_rows,
    "log_likelihood",
)
crps_scorer = _lower(
    "Minus the continuous ranked probability score of the predictive mixture, in the units of y, "
    "of regressors: −CRPS, at most 0, 0 at best. See `crps`.",
    _mean_of_rows,
    "crps",
)
interval_score_scorer = _lower(
    "Minus the interval score (Winkler) of central 90 % intervals, width and penalty for targets "
    "outside, in the units of y, of regressors: at most 0, 0 at best. See `interval_score`.",
    interval_score,
    "interval",
)
aurc_scorer = _lower(
    "Minus the area under the risk–coverage curve of the total uncertainty: −AURC, at most 0, 0 at "
    "best. The risk is the share of errors of a classifier, the mean squared error of a regressor. "
    "See `area_under_risk_coverage`.",
    area_under_risk_coverage,
    "uncertainty",
)
error_auroc_scorer = _ready(
    "AUROC of finding a classifier's errors by the total uncertainty, with its sign: between 0 and "
    "1, 0.5 for random ranks, 1 at best. See `uncertainty_error_auroc`.",
    uncertainty_error_auroc,
    "uncertainty",
)
mean_iou_scorer = _ready(
    "Mean over the classes of the intersection over union of true and predicted pixels, of "
    "segmenters: between 0 and 1, 1 at best. See `mean_intersection_over_union`.",
    _mean_iou,
    "prediction",
)
mean_dice_scorer = _ready(
    "Mean over the classes of the Dice score of true and predicted pixels, of segmenters: between "
    "0 and 1, 1 at best. See `mean_dice_score`.",
    _mean_dice,
    "prediction",
)
pixel_accuracy_scorer = _ready(
    "Share of the pixels that count whose label is right, of segmenters: between 0 and 1, 1 at "
    "best. See `pixel_accuracy`.",
    _accuracy,
    "prediction",
)

"""Calibration and uncertainty of pixels and patches, counted image by image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skuq._bins import BinSums
from skuq._utils._typing import ArrayLike
from skuq.metrics._calibration import calibration_error_of, confidence_and_hit
from skuq.metrics._checks import check_n_bins, check_option
from skuq.metrics._pixels import (
    counted_uncertainty,
    flat_probabilities,
    images_with,
    labels_of,
)
from skuq.metrics._rank_counts import PatchCounts, RankCounts
from skuq.metrics._selective import RiskCoverageCurve

__all__ = [
    "PatchScores",
    "pavpu_score",
    "pixel_accuracy_at_coverage",
    "pixel_calibration_error",
    "pixel_risk_coverage_curve",
    "scores_of_patches",
]


class PatchScores(NamedTuple):
    """How accuracy and uncertainty of patches go together; each is a share, 1 at best.

    Attributes
    ----------
    accurate_if_certain : float
        Share of the certain patches that are accurate; NaN if none is certain.
    uncertain_if_inaccurate : float
        Share of the inaccurate patches that are uncertain; NaN if none is inaccurate.
    pavpu : float
        Share of all patches that are accurate and certain, or inaccurate and uncertain.
    """

    accurate_if_certain: float
    uncertain_if_inaccurate: float
    pavpu: float


def pixel_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 15,
    norm: str = "l1",
    kind: str = "top-label",
    labels: ArrayLike | None = None,
    ignore_label: Any = None,
) -> float:
    """Compute the expected calibration error over pixels: `expected_calibration_error` of maps.

    It is the same number as that of the flattened pixels that count, from running sums.

    Parameters
    ----------
    y_true : array-like of shape (n, H, W), or sequence of n arrays of shape (H, W)
        True label of each pixel.
    y_proba : array-like of shape (n, n_classes, H, W), or sequence of arrays (n_classes, H, W)
        Predicted probabilities, with classes in the order of the sorted labels.
    n_bins, norm, kind : as in `expected_calibration_error`
        Number of bins, of equal width; how to combine their gaps; what to compare.
    labels, ignore_label : as in `intersection_over_union`
        All labels, and the label of pixels that do not count. Without labels, y_true must hold all.

    Returns
    -------
    float in [0, 1]
        The error; 0 means perfectly calibrated.

    Raises
    ------
    ValueError
        If shapes, labels and probabilities do not fit together, or if no pixel counts.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.metrics import pixel_calibration_error
    >>> y_proba = np.full((1, 2, 2, 2), 0.1)
    >>> y_proba[:, 0] = 0.9                         # 90 % sure, right in 3 of 4 pixels
    >>> round(pixel_calibration_error([[[0, 0], [1, 0]]], y_proba), 2)
    0.15
    """
    check_n_bins(n_bins)
    check_option("norm", norm, ("l1", "l2", "max"))
    check_option("kind", kind, ("top-label", "classwise", "binary"))
    known = labels_of(y_true, y_true, labels, ignore_label)
    levels = np.linspace(0, 1, n_bins + 1)
    sums: dict[int, BinSums] = {}
    for mask, proba in images_with(y_true, "y_proba", y_proba, with_classes=True):
        counted = known.counted(mask)
        codes = known.codes("y_true", mask[counted])
        rows = flat_probabilities(codes, proba, counted, len(known.classes))
        if len(rows):
            for k, (confidence, hit) in enumerate(confidence_and_hit(codes, rows, kind)):
                sums.setdefault(k, BinSums(levels, "uniform")).add(confidence, hit, None)
    if not sums:
        raise ValueError(f"no pixel counts: all have ignore_label={ignore_label!r}")
    return calibration_error_of((each.bins() for each in sums.values()), norm)


def pixel_risk_coverage_curve(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    ignore_label: Any = None,
) -> RiskCoverageCurve:
    """Compute the share of errors among the most certain pixels, for every share that is kept.

    As `risk_coverage_curve` of all pixels, but from running counts: uncertainties that agree to 1
    part in 4096 count as equal, and the curve has one point for each level that occurs.

    Parameters
    ----------
    y_true, y_pred, ignore_label : as in `intersection_over_union`
        True and predicted labels of pixels, and the label of pixels that do not count.
    uncertainty : array-like of shape (n, H, W), or sequence of n arrays of shape (H, W)
        Uncertainty of each pixel, in any unit; higher is more uncertain.

    Returns
    -------
    RiskCoverageCurve
        Named tuple of coverage, risk and threshold, each of shape (n_levels,).

    Raises
    ------
    ValueError
        If shapes differ, an uncertainty is NaN, or no pixel counts.

    Examples
    --------
    >>> from skuq.metrics import pixel_risk_coverage_curve
    >>> y_true, y_pred, uncertainty = [[0, 1], [1, 9]], [[0, 1], [0, 0]], [[0.1, 0.2], [0.7, 0.9]]
    >>> curve = pixel_risk_coverage_curve(y_true, y_pred, uncertainty, ignore_label=9)
    >>> curve.risk.round(2).tolist()
    [0.0, 0.0, 0.33]
    """
    return _ranks(y_true, y_pred, uncertainty, ignore_label).curve()


def pixel_accuracy_at_coverage(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    coverage: float = 0.8,
    ignore_label: Any = None,
) -> float:
    """Compute the accuracy on the most certain pixels, the fewest that make up a share.

    Parameters
    ----------
    y_true, y_pred, uncertainty, ignore_label : as in `pixel_risk_coverage_curve`
        True and predicted labels of pixels, their uncertainties, and the label of pixels that do
        not count.
    coverage : float in (0, 1], default=0.8
        Share of the pixels to keep.

    Returns
    -------
    float in [0, 1]
        Accuracy of the kept pixels. Where the share cuts through pixels of equal uncertainty (to 1
        part in 4096), it is the mean over their orders.

    Examples
    --------
    >>> from skuq.metrics import pixel_accuracy_at_coverage
    >>> y_true, y_pred, uncertainty = [[0, 1], [1, 0]], [[0, 1], [0, 0]], [[0.1, 0.2], [0.9, 0.3]]
    >>> pixel_accuracy_at_coverage(y_true, y_pred, uncertainty, coverage=0.75)
    1.0
    """
    return _ranks(y_true, y_pred, uncertainty, ignore_label).accuracy_at_coverage(coverage)


def _ranks(y_true: Any, y_pred: Any, uncertainty: Any, ignore_label: Any) -> RankCounts:
    known = labels_of(y_true, y_pred, None, ignore_label)
    counts = RankCounts()
    both = zip(
        images_with(y_true, "y_pred", y_pred), images_with(y_true, "uncertainty", uncertainty)
    )
    for (mask, predicted), (_, score) in both:
        counted = known.counted(mask)
        counts.add(counted_uncertainty(score, counted), (mask != predicted)[counted])
    return counts


def pavpu_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    threshold: float | None = None,
    patch_size: int = 4,
    min_accuracy: float = 0.5,
    ignore_label: Any = None,
) -> PatchScores:
    """Compute patch accuracy vs patch uncertainty (PAvPU) [1]_.

    Patches tile each image from the upper left. A patch is accurate if more than `min_accuracy` of
    its pixels are right, and uncertain if its mean uncertainty is above the threshold. With the
    numbers n of patches that are accurate or inaccurate (a, i) and certain or uncertain (c, u),
    p(accurate | certain) = n_ac / (n_ac + n_ic), p(uncertain | inaccurate) = n_iu / (n_ic + n_iu)
    and PAvPU = (n_ac + n_iu) / (n_ac + n_au + n_ic + n_iu).

    Parameters
    ----------
    y_true, y_pred, uncertainty, ignore_label : as in `pixel_risk_coverage_curve`
        True and predicted labels of pixels, their uncertainties, and the label of pixels that do
        not count. A patch is judged by its pixels that count, and left out if there are none.
    threshold : float, default=None
        Largest uncertainty of a certain patch, in the unit of `uncertainty`, which counts by steps
        of 1 part in 4096. None takes the mean over all patches. The paper scans thresholds.
    patch_size : int, default=4
        Height and width of a patch in pixels; patches at the right and the lower edge may be
        smaller.
    min_accuracy : float in [0, 1), default=0.5
        Share of right pixels that an accurate patch exceeds.

    Returns
    -------
    PatchScores
        Named tuple of accurate_if_certain, uncertain_if_inaccurate and pavpu.

    Raises
    ------
    ValueError
        If shapes differ, an uncertainty is NaN, an option is out of its range, or no pixel counts.

    References
    ----------
    .. [1] J. Mukhoti and Y. Gal, "Evaluating Bayesian Deep Learning Methods for Semantic
       Segmentation", 2018, arXiv:1811.12709.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.metrics import pavpu_score
    >>> y_true, y_pred = np.zeros((1, 2, 6), int), np.zeros((1, 2, 6), int)
    >>> y_pred[:, :, :2] = 1                                      # the first patch is wrong
    >>> uncertainty = np.repeat([[[0.9, 0.2, 0.6]] * 2], 2, axis=2)
    >>> pavpu_score(y_true, y_pred, uncertainty, threshold=0.5, patch_size=2)
    PatchScores(accurate_if_certain=1.0, uncertain_if_inaccurate=1.0, pavpu=0.6666666666666666)
    """
    known = labels_of(y_true, y_pred, None, ignore_label)
    counts = PatchCounts(patch_size, min_accuracy)
    both = zip(
        images_with(y_true, "y_pred", y_pred), images_with(y_true, "uncertainty", uncertainty)
    )
    for (mask, predicted), (_, score) in both:
        counted = known.counted(mask)
        counted_uncertainty(score, counted)
        counts.add(score, mask != predicted, counted)
    return scores_of_patches(counts, threshold)


def scores_of_patches(counts: PatchCounts, threshold: float | None) -> PatchScores:
    """Compute the three shares from the counts of patches."""
    table = counts.table(counts.mean_uncertainty() if threshold is None else threshold)
    (right_sure, _), (wrong_sure, wrong_unsure) = table
    with np.errstate(invalid="ignore"):
        shares = (
            right_sure / (right_sure + wrong_sure),
            wrong_unsure / (wrong_sure + wrong_unsure),
            (right_sure + wrong_unsure) / table.sum(),
        )
    return PatchScores(*map(float, shares))

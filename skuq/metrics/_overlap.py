"""Overlap of true and predicted classes, counted image by image."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._confusion import ConfusionCounts, mean_of_defined
from skuq._utils._typing import ArrayLike
from skuq.metrics._pixels import images_with, labels_of

__all__ = [
    "dice_score",
    "intersection_over_union",
    "mean_dice_score",
    "mean_intersection_over_union",
    "pixel_accuracy",
]


def intersection_over_union(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    ignore_label: Any = None,
) -> np.ndarray:
    """Compute the intersection over union of each class: TP / (TP + FP + FN), over all pixels.

    Also known as the Jaccard index. The counts of all images are added before they are divided, as
    in the PASCAL VOC challenge [1]_.

    Parameters
    ----------
    y_true : array-like of shape (n, H, W), or sequence of n arrays of shape (H, W)
        True label of each pixel, of any type; images may differ in size.
    y_pred : as y_true
        Predicted label of each pixel.
    labels : array-like of shape (n_classes,), default=None
        All labels, sorted and without the ignored one, as ``segmenter.classes_``. None takes those
        that occur in y_true or y_pred.
    ignore_label : label, default=None
        True label of pixels that do not count; None counts all.

    Returns
    -------
    ndarray of shape (n_classes,)
        The score of each class in [0, 1], in the order of the labels. NaN for a class that is
        neither true nor predicted anywhere.

    Raises
    ------
    ValueError
        If shapes differ, or if there are labels that are not among `labels`.

    References
    ----------
    .. [1] M. Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", IJCV
       2015, doi:10.1007/s11263-014-0733-5.

    Examples
    --------
    >>> from skuq.metrics import intersection_over_union
    >>> intersection_over_union([[0, 0], [1, 1]], [[0, 1], [1, 1]], labels=[0, 1, 2])
    array([0.5       , 0.66666667,        nan])
    """
    return _confusion(y_true, y_pred, labels, ignore_label).intersection_over_union()


def mean_intersection_over_union(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    ignore_label: Any = None,
) -> float:
    """Compute the mean over classes of `intersection_over_union` (mIoU).

    Parameters
    ----------
    y_true, y_pred, labels, ignore_label : as in `intersection_over_union`
        True and predicted labels of pixels, all labels, and the label of pixels that do not count.

    Returns
    -------
    float in [0, 1]
        The mean over the classes that occur; 1 is best. NaN if no pixel counts.

    Examples
    --------
    >>> from skuq.metrics import mean_intersection_over_union
    >>> round(mean_intersection_over_union([[0, 0], [1, 1]], [[0, 1], [1, 1]]), 4)
    0.5833
    """
    scores = _confusion(y_true, y_pred, labels, ignore_label).intersection_over_union()
    return mean_of_defined(scores)


def dice_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    ignore_label: Any = None,
) -> np.ndarray:
    """Compute the Dice score of each class: 2 TP / (2 TP + FP + FN), over all pixels [1]_.

    It is the F1 score of the class, and 2 IoU / (1 + IoU).

    Parameters
    ----------
    y_true, y_pred, labels, ignore_label : as in `intersection_over_union`
        True and predicted labels of pixels, all labels, and the label of pixels that do not count.

    Returns
    -------
    ndarray of shape (n_classes,)
        The score of each class in [0, 1]; NaN for a class that is neither true nor predicted.

    References
    ----------
    .. [1] L. R. Dice, "Measures of the Amount of Ecologic Association Between Species", Ecology
       26(3), 1945, doi:10.2307/1932409.

    Examples
    --------
    >>> from skuq.metrics import dice_score
    >>> dice_score([[0, 0], [1, 1]], [[0, 1], [1, 1]])
    array([0.66666667, 0.8       ])
    """
    return _confusion(y_true, y_pred, labels, ignore_label).dice()


def mean_dice_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    ignore_label: Any = None,
) -> float:
    """Compute the mean over classes of `dice_score`.

    Parameters
    ----------
    y_true, y_pred, labels, ignore_label : as in `intersection_over_union`
        True and predicted labels of pixels, all labels, and the label of pixels that do not count.

    Returns
    -------
    float in [0, 1]
        The mean over the classes that occur; 1 is best. NaN if no pixel counts.

    Examples
    --------
    >>> from skuq.metrics import mean_dice_score
    >>> round(mean_dice_score([[0, 0], [1, 1]], [[0, 1], [1, 1]]), 4)
    0.7333
    """
    return mean_of_defined(_confusion(y_true, y_pred, labels, ignore_label).dice())


def pixel_accuracy(y_true: ArrayLike, y_pred: ArrayLike, *, ignore_label: Any = None) -> float:
    """Compute the share of pixels whose label is right.

    Parameters
    ----------
    y_true, y_pred, ignore_label : as in `intersection_over_union`
        True and predicted labels of pixels, and the label of pixels that do not count.

    Returns
    -------
    float in [0, 1]
        The accuracy; NaN if no pixel counts.

    Examples
    --------
    >>> from skuq.metrics import pixel_accuracy
    >>> pixel_accuracy([[0, 0], [1, 255]], [[0, 1], [1, 1]], ignore_label=255)
    0.6666666666666666
    """
    return _confusion(y_true, y_pred, None, ignore_label).accuracy()


def _confusion(y_true: Any, y_pred: Any, labels: Any, ignore_label: Any) -> ConfusionCounts:
    known = labels_of(y_true, y_pred, labels, ignore_label)
    counts = ConfusionCounts(len(known.classes))
    for mask, predicted in images_with(y_true, "y_pred", y_pred):
        counted = known.counted(mask)
        counts.add(known.codes("y_true", mask[counted]), known.codes("y_pred", predicted[counted]))
    return counts

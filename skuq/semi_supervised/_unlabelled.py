"""Which rows have a label: −1 in y, or images whose pixels are all ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from skuq._data._checks import refuse_no_labels, shape_of
from skuq._pixels import is_label

__all__ = ["NO_LABEL", "labelled_rows"]

# What marks a row without a label, for a classifier and for a segmenter.
NO_LABEL = {False: "y = -1", True: "only pixels of the estimator's ignore_label"}


def labelled_rows(y: Any, estimator: Any, several_classes: bool = True) -> tuple[Any, np.ndarray]:
    """Return y as an array, and where it has labels.

    Parameters
    ----------
    y : array-like of shape (n_samples,), or (n_samples, height, width)
        Labels, or masks.
    estimator : TorchClassifier or TorchSegmenter
        The estimator that will learn from them.
    several_classes : bool, default=True
        Whether there must be at least two classes, as for learning.

    Returns
    -------
    y : ndarray
        Labels, in an array of their own type; in rows without a label, any of them or −1.
    labelled : ndarray of bool, of shape (n_samples,)
        Whether the row has a label.

    Raises
    ------
    ValueError
        If no row has a label, or if −1 seems to be a class or is written as text.
    """
    if estimator._is_dense:
        return _labelled_images(np.asarray(y), estimator)
    if len(shape := shape_of(y)) > 1 and shape[1] > 1:
        raise ValueError(
            f"y has shape {shape}, expected (n_samples,): MeanTeacher needs one label for each row"
        )
    refuse_missing(y)
    labels = column_or_1d(y, warn=True)
    labelled = np.array([not _is_none(label) for label in labels.tolist()], dtype=bool)
    texts = {label for label in labels.tolist() if isinstance(label, str | bytes)}
    if written := texts & {"-1", "-1.0", b"-1", b"-1.0"}:
        raise ValueError(
            f"y holds the text {written.pop()!r}. If it marks rows without a label, it must be the "
            "number -1 in an array of objects: np.array(['cat', 'dog', -1], dtype=object)"
        )
    _check_some(labelled)
    if labels.dtype == object and len(labels):
        labels = _of_own_type(labels, labelled)
    kinds = np.unique(labels[labelled])
    if several_classes and len(kinds) == 1 and not labelled.all():
        raise ValueError(
            f"only one class is left, {kinds}: to MeanTeacher, y = -1 is a row without a label. If "
            "-1 is a class of yours, give it another number, such as y = (y > 0).astype(int), and "
            "mark rows without a label by -1"
        )
    return labels, labelled


def _of_own_type(labels: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return labels of objects as an array of their type; those of other rows mean nothing."""
    refuse_no_labels("y", labels[labelled])
    known = np.array(labels[labelled].tolist())
    filled = np.full(len(labels), known[0], dtype=known.dtype)
    filled[labelled] = known
    return filled


def refuse_missing(y: Any) -> None:
    """Refuse NaN and None, which could be meant as missing labels."""
    values = np.asarray(y)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError("y contains NaN; mark rows without a label by -1")
    if values.dtype.kind == "O":
        missing = [label for label in values.ravel() if label is None or label != label]
        if missing:
            raise ValueError(f"y contains {missing[0]!r}; mark rows without a label by -1")


def _is_none(label: Any) -> bool:
    return not isinstance(label, str | bytes | bool) and bool(label == -1)


def _check_some(labelled: np.ndarray) -> None:
    if len(labelled) and not labelled.any():
        raise ValueError(
            f"none of {len(labelled)} rows has a label; expected labels in some rows of y, and -1 "
            "(or ignore_label in all pixels of an image) only in those without one"
        )


def _labelled_images(masks: np.ndarray, estimator: Any) -> tuple[np.ndarray, np.ndarray]:
    if estimator.ignore_label is None or masks.ndim < 3:  # the estimator refuses other shapes
        return masks, np.ones(len(masks), dtype=bool)
    places = tuple(range(1, masks.ndim))
    labelled = np.asarray(~is_label(masks, estimator.ignore_label).all(axis=places))
    _check_some(labelled)
    return masks, labelled

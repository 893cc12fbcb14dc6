"""Read images of labels, predictions and uncertainties, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from skuq._data._checks import refuse_no_labels
from skuq._pixels import check_ignore_label, is_label
from skuq.metrics._checks import ProbabilityTable, check_labels, check_real

__all__ = [
    "PixelLabels",
    "counted_uncertainty",
    "flat_probabilities",
    "images_with",
    "labels_of",
]


class PixelLabels:
    """The labels that pixels can have, and the one of pixels that do not count.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, sorted, without the ignored one.
    """

    def __init__(self, labels: Any, ignore_label: Any = None) -> None:
        self.classes = np.asarray(labels)
        self.ignore_label = ignore_label
        if self.classes.ndim != 1 or not np.array_equal(self.classes, np.unique(self.classes)):
            raise ValueError(
                f"labels must be sorted and without repetition, as in classes_, got {self.classes}"
            )
        check_ignore_label(ignore_label, self.classes)
        if not len(self.classes) or is_label(self.classes, ignore_label).any():
            raise ValueError(
                f"labels must hold at least one label and not ignore_label={ignore_label!r}, got "
                f"{self.classes}"
            )

    def counted(self, y_true: np.ndarray) -> np.ndarray:
        """Return which pixels count."""
        return ~is_label(y_true, self.ignore_label)

    def codes(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the place of each label among the classes; refuse all others."""
        index = np.searchsorted(self.classes, values).clip(max=len(self.classes) - 1)
        found = self.classes[index] == values
        if not np.all(found):
            raise ValueError(
                f"{name} contains labels {np.unique(values[~found])[:5]} that are not among "
                f"labels={self.classes}. Pixels that do not count need ignore_label, got "
                f"ignore_label={self.ignore_label!r}"
            )
        return index


def labels_of(masks: Any, predicted: Any, labels: Any, ignore_label: Any) -> PixelLabels:
    """Return the given labels, or else all that occur in the masks and in the predictions."""
    if labels is None:
        parts = []
        for name, values in (("y_true", masks), ("y_pred", predicted)):
            for image in _images(name, values):
                check_labels(name, image[~is_label(image, ignore_label)])
                parts.append(np.unique(image))
        labels = np.unique(np.concatenate(parts)) if parts else np.empty(0)
        labels = labels[~is_label(labels, ignore_label)]
    return PixelLabels(labels, ignore_label)


def _images(name: str, masks: Any) -> Sequence[np.ndarray]:
    """List images (H, W) of an array (n, H, W), or of a sequence of images of any sizes."""
    if isinstance(masks, list | tuple) and masks and np.ndim(masks[0]) == 2:
        return [np.asarray(one) for one in masks]
    array = np.asarray(masks)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"{name} must have shape (n, H, W), or be a sequence of arrays of shape (H, W), got "
            f"shape {array.shape}"
        )
    return [array] if array.ndim == 2 else list(array)


def images_with(
    y_true: Any, name: str, other: Any, *, with_classes: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each mask (H, W) with its image of `other`: (H, W), or (n_classes, H, W)."""
    refuse_no_labels("y_true", y_true)
    masks = _images("y_true", y_true)
    others: Any = other if isinstance(other, list | tuple) else np.asarray(other)
    if len(masks) == 1 and np.ndim(y_true) == 2:
        others = [others]
    if not masks or len(masks) != len(others):
        raise ValueError(
            f"y_true and {name} must hold the same images, at least one, got {len(masks)} and "
            f"{len(others)}"
        )
    for number, (mask, one) in enumerate(zip(masks, others)):
        values = np.asarray(one)
        size = values.shape[1:] if with_classes else values.shape
        if size != mask.shape:
            expected = f"(n_classes, {mask.shape[0]}, {mask.shape[1]})"
            raise ValueError(
                f"{name} of image {number} must have shape "
                f"{expected if with_classes else mask.shape}, as its mask, got {values.shape}"
            )
        yield mask, values


def flat_probabilities(
    codes: np.ndarray, proba: np.ndarray, counted: np.ndarray, n_classes: int
) -> np.ndarray:
    """Check the probabilities (n_classes, H, W) of an image; return those of counted pixels.

    Returns
    -------
    ndarray of float32 or float64 of shape (n_counted, n_classes)
    """
    if len(proba) != n_classes:
        raise ValueError(
            f"y_proba must have shape (n, n_classes, H, W) with {n_classes} classes, as labels, "
            f"got {len(proba)}: pass labels=segmenter.classes_"
        )
    if proba.dtype not in (np.float32, np.float64):
        proba = proba.astype(float)
    rows = np.ascontiguousarray(proba[:, counted].T)
    if not len(rows):
        return rows
    return ProbabilityTable(codes, rows, None).take(slice(None))[1]


def counted_uncertainty(uncertainty: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Check the uncertainties of an image; return those of counted pixels."""
    return check_real("uncertainty", uncertainty[counted], allow_infinite=True)

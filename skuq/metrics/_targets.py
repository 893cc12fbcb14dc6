"""Encode targets for reductions of predictive distributions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_array, column_or_1d

from skuq._data._checks import names_of_labels, refuse_no_labels, refuse_other_labels
from skuq._data._streams import with_targets
from skuq._meta import innermost, label_names_of
from skuq._pixels import is_label
from skuq._predict import ClassifierPredictions, Predictions
from skuq._utils._typing import ArrayLike
from skuq.metrics._checks import check_weight

__all__ = [
    "CountedPixels",
    "counted_pixels",
    "encoded_targets",
    "is_multilabel",
    "label_values",
    "with_known_targets",
]


def with_known_targets(X: Any, y: Any) -> tuple[Any, Any]:
    """Return X and y, which a Dataset may hold; refuse to score without targets."""
    X, y = with_targets(X, y)
    if y is None:
        raise ValueError("a scorer needs y: expected true labels or targets, got y=None")
    return X, y


def encoded_targets(asked: Predictions, y: ArrayLike) -> np.ndarray:
    """Encode targets as class indices, or as floats (n_samples, n_targets)."""
    if not isinstance(asked, ClassifierPredictions):
        values = np.asarray(y, dtype=float)
        if not np.isfinite(values).all():
            raise ValueError("y contains NaN or infinity")
        return values.reshape(len(values), -1)
    if is_multilabel(asked):
        refuse_other_labels(names_of_labels(y), label_names_of(asked))
        indicators: np.ndarray = check_array(y, accept_sparse=False, dtype=np.int64)
        if indicators.shape[1] != len(asked.classes_) or not np.isin(indicators, (0, 1)).all():
            raise ValueError(
                f"y must hold 0 or 1 for each of {len(asked.classes_)} labels, got shape "
                f"{indicators.shape} and values from {indicators.min()} to {indicators.max()}"
            )
        return indicators
    refuse_no_labels("y", y)
    labels = column_or_1d(y)
    index: np.ndarray = np.searchsorted(asked.classes_, labels).clip(max=len(asked.classes_) - 1)
    if not np.array_equal(asked.classes_[index], labels):
        raise ValueError(
            f"y contains labels {np.setdiff1d(labels, asked.classes_)[:5]} that the estimator was "
            f"not fitted on; its classes are {asked.classes_}"
        )
    return index


class CountedPixels(NamedTuple):
    """Masks or targets for the estimator, and which of their pixels count.

    With several masks for each image, the masks are the last axis of both.
    """

    codes: np.ndarray  # (n_images, height, width), class indices, 0 where a pixel does not count;
    # for a regressor (n_images, height, width, n_targets), floats
    counted: np.ndarray

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Return the values of the pixels that count, in one list."""
        flat: np.ndarray = values[self.counted]
        return flat

    def which_mask(self) -> np.ndarray:
        """Return the number of the mask of each, where there are several."""
        return self.flat(np.broadcast_to(np.arange(self.counted.shape[-1]), self.counted.shape))

    def flat_weights(self, sample_weight: Any) -> np.ndarray | None:
        """Return a weight for each pixel that counts, from weights of images."""
        weight = check_weight(sample_weight, len(self.counted))
        if weight is None:
            return None
        of_pixels: np.ndarray = weight.repeat(self.counted.reshape(len(weight), -1).sum(axis=1))
        return of_pixels


def counted_pixels(asked: Predictions, X: Any, y: ArrayLike) -> CountedPixels | None:
    """Encode the masks of a segmenter, or targets of pixels; None for one answer for each row."""
    leaf, _ = innermost(asked, X)
    if not getattr(leaf, "_is_dense", False):
        return None
    if not isinstance(asked, ClassifierPredictions):
        return _counted_targets(asked, y)
    masks = np.asarray(y)
    if is_multilabel(asked):
        masks = np.moveaxis(masks, 1, -1)
    counted = ~is_label(masks, leaf.ignore_label)
    if is_multilabel(asked):  # a pixel counts if it does in all masks
        counted = np.broadcast_to(counted.all(axis=-1, keepdims=True), masks.shape)
    if not counted.any():
        raise ValueError(f"no pixel of y counts: all have ignore_label={leaf.ignore_label!r}")
    codes = np.zeros(masks.shape, dtype=np.int64)
    of_counted = masks[counted]
    if is_multilabel(asked):
        of_counted = of_counted.reshape(-1, masks.shape[-1])
    codes[counted] = encoded_targets(asked, of_counted).ravel()
    return CountedPixels(codes, counted)


def _counted_targets(asked: Any, y: ArrayLike) -> CountedPixels:
    """Give targets of pixels a last axis; those with NaN do not count."""
    maps = np.asarray(y, dtype=float)
    if np.isinf(maps).any():
        raise ValueError("y contains infinity; mark pixels that do not count by NaN")
    maps = np.moveaxis(maps, 1, -1) if asked._target_shape else maps[..., None]
    counted = ~np.isnan(maps).any(axis=-1)
    if not counted.any():
        raise ValueError("no pixel of y counts: all are NaN")
    return CountedPixels(np.where(counted[..., None], maps, 0.0), counted)


def like_target(asked: Any, values: np.ndarray) -> np.ndarray:
    """Drop the axis of targets, the second of rows or of listed pixels, if y had none."""
    return values if asked._target_shape else values[:, 0]


def is_multilabel(asked: Predictions) -> bool:
    """Return whether the classifier predicts several labels at once."""
    return isinstance(asked, ClassifierPredictions) and asked._multilabel


def label_values(asked: Any) -> np.ndarray:
    """Return the values that a label can have: 0 or 1 where there are several labels."""
    return np.arange(2) if is_multilabel(asked) else asked.classes_

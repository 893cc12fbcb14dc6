"""Masks and maps as arrays: where a label is, and how well two of them agree."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.metrics import r2_score

from skuq._confusion import ConfusionCounts, mean_of_defined

__all__ = ["check_ignore_label", "is_label", "map_r2", "mean_iou"]


def is_label(values: np.ndarray, label: Any) -> np.ndarray:
    """Return where values are the label, which may be NaN; nowhere if it is None."""
    if label is None:
        return np.zeros(np.shape(values), dtype=bool)
    if isinstance(label, float | np.floating) and np.isnan(label):
        is_float = values.dtype.kind == "f"
        return np.isnan(values) if is_float else np.zeros(values.shape, dtype=bool)
    if (values.dtype.kind in "US") != isinstance(label, str):
        if values.dtype.kind != "O":
            return np.zeros(values.shape, dtype=bool)
    same: np.ndarray = np.asarray(values == label)
    return same


def check_ignore_label(ignore_label: Any, labels: np.ndarray) -> None:
    """Refuse what can be no pixel of these labels: several labels, text among numbers."""
    if ignore_label is None or not labels.size:
        return
    if np.ndim(ignore_label) != 0:
        raise ValueError(
            f"ignore_label must be one label, got {ignore_label!r}; give that label to all pixels "
            "that do not count"
        )
    is_text = [isinstance(one, str | bytes) for one in (ignore_label, labels.flat[0])]
    if is_text[0] != is_text[1]:
        kinds = ["text" if text else "not text" for text in is_text]
        raise ValueError(
            f"ignore_label={ignore_label!r} is {kinds[0]}, but labels such as "
            f"{labels.flat[0]} are {kinds[1]}: no pixel would ever be ignored. Expected a label "
            "of their type"
        )
    if labels.dtype.kind in "iu" and isinstance(ignore_label, Integral):
        least, most = np.iinfo(labels.dtype).min, np.iinfo(labels.dtype).max
        if not least <= int(ignore_label) <= most:
            raise ValueError(
                f"ignore_label={ignore_label!r} is no {labels.dtype}, the type of the masks, which "
                f"holds {least} to {most}: no pixel would ever be ignored. Give the value that "
                "such pixels have there, or masks of another type"
            )


def mean_iou(y: Any, predicted: np.ndarray, ignore_label: Any, sample_weight: Any = None) -> float:
    """Compute the mean intersection over union, with one running count of pixels per class."""
    truth = np.asarray(y)
    _check_shape(truth, predicted)
    weight = _weights_of_images(sample_weight, len(truth))
    several = truth.ndim == 4  # each label is then a mask of 0 and 1
    labels = np.arange(2) if several else np.union1d(truth, predicted)
    counts = [ConfusionCounts(len(labels)) for _ in range(truth.shape[1] if several else 1)]
    for w, true, guess in zip(weight, truth, predicted):
        counted = ~is_label(true, ignore_label)
        masks = zip(true, guess) if several else [(true, guess)]
        known = counted.all(axis=0) if several else counted
        for of_mask, pair in zip(counts, masks):
            a, b = (np.searchsorted(labels, mask[known]) for mask in pair)
            of_mask.add(a, b, np.full(len(a), w))
    if not any(of_mask.matrix.any() for of_mask in counts):
        raise ValueError(f"no pixel of y counts: all are {ignore_label!r}, the ignore_label")
    overlaps = [of_mask.intersection_over_union() for of_mask in counts]
    return mean_of_defined(np.array([o[1] for o in overlaps]) if several else overlaps[0])


def map_r2(y: Any, predicted: np.ndarray, sample_weight: Any = None) -> float:
    """Compute R² over the pixels where no target is NaN, on average over the targets."""
    truth = np.asarray(y, dtype=np.float64)
    _check_shape(truth, predicted)
    weight = _weights_of_images(sample_weight, len(truth))
    if truth.ndim == 3:
        truth, predicted = truth[:, None], predicted[:, None]
    rows, guess = (np.moveaxis(maps, 1, -1) for maps in (truth, predicted))
    of_pixels = np.broadcast_to(weight[:, None, None], rows.shape[:3])
    known = ~np.isnan(rows).any(axis=-1)
    return float(r2_score(rows[known], guess[known], sample_weight=of_pixels[known]))


def _check_shape(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape == predicted.shape:
        return
    n, *size = predicted.shape
    hint = ". Give y[:, 0]" if truth.shape == (n, 1, *size) else ""
    raise ValueError(f"y has shape {truth.shape}, expected {predicted.shape}, as predictions{hint}")


def _weights_of_images(sample_weight: Any, n_images: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_images)
    weight: np.ndarray = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_images,):
        raise ValueError(
            f"sample_weight has shape {weight.shape}, expected {(n_images,)}, a number for each "
            "image; weights of single pixels are for `fit` only"
        )
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError(
            "sample_weight must be finite, not negative and not all zero, got values from "
            f"{weight.min():.3g} to {weight.max():.3g}"
        )
    return weight

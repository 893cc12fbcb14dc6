"""Check the input of every metric. Bad input never yields a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skuq._data._checks import refuse_no_labels, weights_of_size
from skuq._utils._arrays import tensor_of
from skuq._utils._typing import ArrayLike

__all__ = [
    "check_labels",
    "check_n_bins",
    "check_option",
    "check_predictions",
    "check_probabilities",
    "check_real",
    "check_weight",
    "two_columns",
    "weighted_mean",
]

_BLOCK_NUMBERS, _BLOCK_ROWS = 2**18, 2**16  # temporary arrays of this size fit the cache
_RANGE_TOLERANCE, _SUM_TOLERANCE = 1e-6, 1e-4


def check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def check_n_bins(n_bins: int) -> None:
    if not isinstance(n_bins, int | np.integer) or isinstance(n_bins, bool) or n_bins < 1:
        raise ValueError(f"n_bins must be an integer of at least 1, got {n_bins!r}")


def check_weight(sample_weight: ArrayLike | None, n_samples: int) -> np.ndarray | None:
    """Return weights as floats; None (all equal) stays None."""
    if n_samples == 0:
        raise ValueError("y_true is empty: a metric needs at least 1 sample")
    if sample_weight is None:
        return None
    weight = column_or_1d(sample_weight).astype(float)
    if len(weight) != n_samples:
        raise ValueError(f"sample_weight must hold {n_samples} numbers, got {len(weight)}")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must be finite, not negative and not all zero")
    return weights_of_size(weight)


def check_real(name: str, values: Any, *, allow_infinite: bool = False) -> np.ndarray:
    """Return numbers as float64; refuse NaN."""
    if values is None:
        raise ValueError(f"{name} must be an array of numbers, got None")
    array = np.asarray(values, dtype=float, order="C")
    if np.isnan(array).any() or not (allow_infinite or np.isfinite(array).all()):
        raise ValueError(f"{name} contains NaN{'' if allow_infinite else ' or infinity'}")
    return array


def check_labels(name: str, values: np.ndarray) -> bool:
    """Refuse labels that are missing or no labels; return whether they are text."""
    missing = (values != values) | (values == np.array(None))
    if np.any(missing):
        raise ValueError(f"{name} contains NaN or None")
    if values.dtype.kind == "f" and not np.equal(values, np.rint(values)).all():
        raise ValueError(f"{name} holds continuous numbers, not labels: choose another loss")
    return values.dtype.kind in "US" or any(isinstance(v, str) for v in values.flat[:1])


def weighted_mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    """Average over the samples (the first axis) by weight, and evenly over all other axes."""
    return float(np.average(values.reshape(len(values), -1).mean(axis=1), weights=weight))


class ProbabilityTable(NamedTuple):
    """Indices of the true classes, probabilities and weights, of checked shapes.

    `take` checks the values of the probabilities, so that one pass over the rows is enough.
    """

    y: np.ndarray
    proba: np.ndarray  # (n_samples,) or (n_samples, n_classes), in float32 or float64
    weight: np.ndarray | None

    def take(self, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Take some rows, without those of weight zero."""
        values = tensor_of(self.proba[rows], only_read=True)
        proba = values.numpy()
        low, high = map(float, values.aminmax())  # NaN if any is
        valid = low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE
        if valid and proba.ndim == 2:  # this product is the fastest sum of short rows
            sums = proba @ np.ones(proba.shape[1], proba.dtype)
            valid = bool(np.abs(sums - 1).max() <= _SUM_TOLERANCE)
        if not valid:
            _refuse(self.proba)
        if low < 0 or high > 1:
            proba = proba.clip(0, 1)
        if proba.ndim == 1:  # `two_columns` subtracts it from 1
            proba = proba.astype(float, copy=False)
        y, weight = self.y[rows], None if self.weight is None else self.weight[rows]
        if weight is not None and not weight.all():
            counted = weight > 0
            y, proba, weight = y[counted], proba[counted], weight[counted]
        return y, proba, weight

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Take all rows, block by block."""
        n_columns = self.proba.size // len(self.proba)
        step = min(_BLOCK_ROWS, max(1, _BLOCK_NUMBERS // n_columns))
        for start in range(0, len(self.proba), step):
            yield self.take(slice(start, start + step))


def check_predictions(
    y_true: ArrayLike, y_proba: ArrayLike, labels: ArrayLike | None, sample_weight: ArrayLike | None
) -> ProbabilityTable:
    """Check labels, shapes and weights; `ProbabilityTable.take` checks the probabilities."""
    refuse_no_labels("y_true", y_true)
    truth: np.ndarray = column_or_1d(y_true)
    proba = np.asarray(y_proba)
    if proba.dtype not in (np.float32, np.float64):
        proba = np.asarray(y_proba, dtype=float)
    check_consistent_length(truth, proba)
    weight = check_weight(sample_weight, len(truth))
    if proba.ndim != 1 and (proba.ndim != 2 or proba.shape[1] < 2):
        raise ValueError(
            f"y_proba must have shape (n_samples,) or (n_samples, n_classes), got {proba.shape}"
        )
    index = _class_indices(truth, labels, 2 if proba.ndim == 1 else proba.shape[1])
    return ProbabilityTable(index, proba, weight)


def check_probabilities(
    y_true: ArrayLike, y_proba: ArrayLike, labels: ArrayLike | None, sample_weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return indices of the true classes, probabilities and weights, without rows of weight zero.

    Probabilities have shape (n, n_classes). A `y_proba` of one dimension, the probability of the
    second of two classes, keeps that shape: `two_columns` widens it.
    """
    predictions = check_predictions(y_true, y_proba, labels, sample_weight)
    y, proba, weight = predictions.take(slice(None))
    return y, proba.astype(float, copy=False), weight


def two_columns(proba: np.ndarray) -> np.ndarray:
    """Probabilities of shape (n_samples, n_classes)."""
    return np.column_stack([1 - proba, proba]) if proba.ndim == 1 else proba


def _refuse(proba: np.ndarray) -> NoReturn:
    """Raise the error that names the fault of the probabilities."""
    low, high = proba.min(), proba.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("y_proba contains NaN or infinity")
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ValueError(f"y_proba must lie in [0, 1], got values from {low:.3g} to {high:.3g}")
    raise ValueError("the rows of y_proba must sum to 1")


def _class_indices(y_true: np.ndarray, labels: Any, n_classes: int) -> np.ndarray:
    """Return the place of each label among `labels`, or among the labels in y_true."""
    index = _indices_of_integers(y_true, labels, n_classes)
    if index is not None:
        return index
    if labels is not None:
        classes = np.asarray(labels)
        if not np.array_equal(classes, np.unique(classes)):
            raise ValueError("labels must be sorted and without repetition, as in classes_")
    else:
        classes = np.unique(y_true)
        if n_classes == 2 and np.isin(classes.astype(object), [0, 1]).all():
            classes = np.array([0, 1], dtype=y_true.dtype)
    if len(classes) != n_classes:
        raise ValueError(
            f"y_proba has {n_classes} columns, but {len(classes)} labels are known: pass "
            "labels=classifier.classes_"
        )
    index = np.searchsorted(classes, y_true).clip(max=len(classes) - 1)
    if not np.array_equal(classes[index], y_true):
        raise ValueError(
            f"y_true contains labels {np.setdiff1d(y_true, classes)[:5]} that are not among "
            f"labels={classes}"
        )
    return index


def _indices_of_integers(y_true: np.ndarray, labels: Any, n_classes: int) -> np.ndarray | None:
    """Do the same without a sort, for the common case of consecutive integers: 0, 1, …"""
    known = None if labels is None else np.asarray(labels)
    if y_true.dtype.kind not in "bui" or (known is not None and known.dtype.kind not in "bui"):
        return None
    least, most = int(y_true.min()), int(y_true.max())
    if known is not None and known.size:
        first = int(known.flat[0])
    else:
        first = 0 if n_classes == 2 and least >= 0 and most <= 1 else least
    if not -(2**62) < first <= least <= most < min(first + n_classes, 2**62):
        return None
    if known is not None and not np.array_equal(known, first + np.arange(n_classes)):
        return None
    index = y_true.astype(np.intp, copy=False)
    index = index - first if first else index
    all_known = known is not None or (n_classes == 2 and first == 0)
    return index if all_known or np.bincount(index, minlength=n_classes).all() else None

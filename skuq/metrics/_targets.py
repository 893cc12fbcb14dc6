"""Encode targets for reductions of predictive distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, column_or_1d

from skuq._data._checks import refuse_no_labels
from skuq._predict import ClassifierPredictions, Predictions
from skuq._utils._typing import ArrayLike

__all__ = ["encoded_targets", "is_multilabel", "label_values"]


def encoded_targets(asked: Predictions, y: ArrayLike) -> np.ndarray:
    """Encode targets as class indices, or as floats (n_samples, n_targets)."""
    if not isinstance(asked, ClassifierPredictions):
        values = np.asarray(y, dtype=float)
        if not np.isfinite(values).all():
            raise ValueError("y contains NaN or infinity")
        return values.reshape(len(values), -1)
    if is_multilabel(asked):
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


def is_multilabel(asked: Predictions) -> bool:
    """Return whether the classifier predicts several labels at once."""
    return isinstance(asked, ClassifierPredictions) and asked._multilabel


def label_values(asked: Any) -> np.ndarray:
    """Return the values that a label can have: 0 or 1 where there are several labels."""
    return np.arange(2) if is_multilabel(asked) else asked.classes_

"""Counts of true and predicted classes, and the scores of overlap that they give."""

from __future__ import annotations

import warnings

import numpy as np

__all__ = ["ConfusionCounts", "mean_of_defined"]


class ConfusionCounts:
    """A confusion matrix that grows batch by batch.

    Attributes
    ----------
    matrix : ndarray of float64 of shape (n_classes, n_classes)
        The weight of the places of each true class (row) and predicted class (column).
    """

    def __init__(self, n_classes: int) -> None:
        self.matrix = np.zeros((n_classes, n_classes))

    def add(
        self, true: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None = None
    ) -> None:
        """Add class indices of any shape, and the weights of them."""
        n_classes = len(self.matrix)
        pairs = true.ravel() * n_classes + predicted.ravel()
        weight = None if weight is None else weight.ravel()
        counts = np.bincount(pairs, weight, n_classes**2)
        self.matrix += counts.reshape(n_classes, n_classes)

    def accuracy(self) -> float:
        """Compute the share of places that are right; NaN without any."""
        return float(_ratio(np.trace(self.matrix), self.matrix.sum()))

    def recall(self) -> np.ndarray:
        """Compute the share of the places of each class that is found; NaN without any."""
        return _ratio(self.matrix.diagonal(), self.matrix.sum(axis=1))

    def intersection_over_union(self) -> np.ndarray:
        """Compute TP / (TP + FP + FN) of each class; NaN if it is neither true nor predicted."""
        return _ratio(self.matrix.diagonal(), self._true_and_predicted() - self.matrix.diagonal())

    def dice(self) -> np.ndarray:
        """Compute 2 TP / (2 TP + FP + FN) of each class; NaN if it is neither."""
        return _ratio(2 * self.matrix.diagonal(), self._true_and_predicted())

    def _true_and_predicted(self) -> np.ndarray:
        total: np.ndarray = self.matrix.sum(axis=0) + self.matrix.sum(axis=1)
        return total


def mean_of_defined(values: np.ndarray) -> float:
    """Average the values that are not NaN; NaN if all are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        return float(np.nanmean(values))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; 0/0 is NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole)

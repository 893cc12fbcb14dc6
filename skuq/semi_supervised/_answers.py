"""The methods of `MeanTeacher` that need more than the estimator that it trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skuq._data._inputs import as_inputs
from skuq._delegated import Delegated
from skuq._utils._sklearn_compat import _safe_indexing, available_if
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.semi_supervised._unlabelled import labelled_rows

__all__ = ["TeachersAnswers"]


def _is_around_segmenter(self: Any) -> bool:
    return hasattr(self.estimator, "predict_image_uncertainty")


class TeachersAnswers(Delegated):
    """Answers of the teacher; arrays have the axes that those of the estimator have."""

    estimator: Any
    estimator_: Any

    def _answers(self) -> Any:
        """Return the object that predicts."""
        check_is_fitted(self)
        return self.estimator_

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the classes, in the order of the columns."""
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"{type(self).__name__} has no classes_ before fit")
        classes: np.ndarray = self.estimator_.classes_
        return classes

    @available_if(_is_around_segmenter)
    def predict_image_uncertainty(self, X: MatrixLike, **options: Any) -> np.ndarray:
        """Measure how uncertain the segmentation of each image is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, as the segmenter takes them.
        **options
            As in `TorchSegmenter.predict_image_uncertainty`.

        Returns
        -------
        ndarray of shape (n_samples,)
            A number for each image.
        """
        answer: np.ndarray = self._answers().predict_image_uncertainty(X, **options)
        return answer

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy, or the mean IoU of a segmenter, on rows with a label.

        Rows without a label do not count, so that searches may cross-validate over all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,), or (n_samples, height, width)
            Labels, or −1 for a row without one.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            At most 1; greater is better.
        """
        asked, X = self._answers(), as_inputs(X)
        labels, labelled = labelled_rows(y, self.estimator, several_classes=False)
        if labelled.all():
            return float(asked.score(X, labels, sample_weight))
        check_consistent_length(X, labelled, sample_weight)
        known = np.flatnonzero(labelled)
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(asked.score(_safe_indexing(X, known), labels[known], weight))

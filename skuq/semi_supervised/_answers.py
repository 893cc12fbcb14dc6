"""The methods of `MeanTeacher` that predict: those of the estimator that it trained."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skuq._reductions import Part
from skuq._utils._sklearn_compat import _safe_indexing, available_if
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.semi_supervised._unlabelled import labelled_rows
from skuq.uncertainty import Uncertainty

__all__ = ["TeachersAnswers"]


def _is_around_segmenter(self: Any) -> bool:
    return hasattr(self.estimator, "predict_image_uncertainty")


class TeachersAnswers:
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

    def predict(self, X: MatrixLike) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples,), or (n_samples, height, width)
            Labels, each one of `classes_`.
        """
        labels: np.ndarray = self._answers().predict(X)
        return labels

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: Literal[False] = ...
    ) -> np.ndarray: ...

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: Literal[True]
    ) -> tuple[np.ndarray, Uncertainty]: ...

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: bool
    ) -> np.ndarray | tuple[np.ndarray, Uncertainty]: ...

    def predict_proba(
        self, X: MatrixLike, return_uncertainty: bool = False
    ) -> np.ndarray | tuple[np.ndarray, Uncertainty]:
        """Predict the probability of each class, the mean over the draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.
        return_uncertainty : bool, default=False
            Whether to return ``predict_uncertainty(X, kind="all")``, too.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, ...), or that and an `Uncertainty`
            Probabilities, with classes in the order of `classes_`.
        """
        answer: np.ndarray | tuple[np.ndarray, Uncertainty]
        answer = self._answers().predict_proba(X, return_uncertainty)
        return answer

    def predict_log_proba(self, X: MatrixLike) -> np.ndarray:
        """Predict logarithms of the probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, ...)
            Logarithms of `predict_proba`.
        """
        log_proba: np.ndarray = self._answers().predict_log_proba(X)
        return log_proba

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Compute log-probabilities, or the log-odds of two classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, ...), or (n_samples, ...) for two classes
            Logits of the mean prediction.
        """
        scores: np.ndarray = self._answers().decision_function(X)
        return scores

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Part = ..., measure: str = ...
    ) -> np.ndarray: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["all"], measure: str = ...
    ) -> Uncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: str, measure: str = ...
    ) -> np.ndarray | Uncertainty: ...

    def predict_uncertainty(
        self, X: MatrixLike, kind: str = "total", measure: str = "entropy"
    ) -> np.ndarray | Uncertainty:
        """Measure how uncertain the prediction of each row, or pixel, is.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty; "all" returns an `Uncertainty` of all three.
        measure : {"entropy", "variance", "variation_ratio", "margin", "least_confidence"}, \
                default="entropy"
            How to measure it, as in `TorchClassifier.predict_uncertainty`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, height, width), or Uncertainty of three
            Nats for the entropy; higher is more uncertain.
        """
        answer: np.ndarray | Uncertainty = self._answers().predict_uncertainty(X, kind, measure)
        return answer

    @available_if(_is_around_segmenter)
    def predict_image_uncertainty(self, X: MatrixLike, **options: Any) -> np.ndarray:
        """Measure how uncertain the segmentation of each image is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images.
        **options
            As in `TorchSegmenter.predict_image_uncertainty`.

        Returns
        -------
        ndarray of shape (n_samples,)
            A number for each image.
        """
        answer: np.ndarray = self._answers().predict_image_uncertainty(X, **options)
        return answer

    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """Predict the probabilities of every draw of the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or torch Dataset
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes, ...)
            Probabilities, whose mean over the first axis is `predict_proba`.
        """
        draws: np.ndarray = self._answers().predict_draws(X)
        return draws

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
        asked = self._answers()
        labels, labelled = labelled_rows(y, self.estimator, several_classes=False)
        weight = np.ones(len(labelled)) if sample_weight is None else np.asarray(sample_weight)
        if labelled.all():
            return float(asked.score(X, labels, sample_weight))
        known = np.flatnonzero(labelled)
        return float(asked.score(_safe_indexing(X, known), labels[known], weight[known]))

"""The methods that predict of an estimator that leaves the answers to another object."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from sklearn.base import is_classifier, is_regressor

from skuq._reductions import Part
from skuq._utils._sklearn_compat import available_if
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.uncertainty import Uncertainty

__all__ = ["Delegated", "is_around_classifier"]


def is_around_classifier(self: Any) -> bool:
    """Return whether an estimator is around a classifier, for `available_if`."""
    return bool(is_classifier(self.estimator))


def _is_around_regressor(self: Any) -> bool:
    return bool(is_regressor(self.estimator))


class Delegated:
    """Mixin of estimators around another one, whose ``_answers()`` returns what predicts."""

    estimator: Any

    def _answers(self) -> Any:
        """Return the object that predicts; NotFittedError before `fit`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _answers")

    @overload
    def predict(self, X: MatrixLike, *, return_std: Literal[False] = ...) -> np.ndarray: ...

    @overload
    def predict(
        self, X: MatrixLike, *, return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(self, X: MatrixLike, **options: Any) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict the class that is decided for, or the mean of a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        **options
            For a regressor ``return_std``: whether to return the standard deviation, too.

        Returns
        -------
        ndarray of shape (n_samples,), or of the shape of y, or two of them
            Labels of a classifier; the mean of a regressor, and its standard deviation if asked.
        """
        answer: np.ndarray | tuple[np.ndarray, np.ndarray] = self._answers().predict(X, **options)
        return answer

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: Literal[False] = ...
    ) -> np.ndarray: ...

    @overload
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: Literal[True]
    ) -> tuple[np.ndarray, Uncertainty]: ...

    @available_if(is_around_classifier)
    def predict_proba(
        self, X: MatrixLike, return_uncertainty: bool = False
    ) -> np.ndarray | tuple[np.ndarray, Uncertainty]:
        """Predict the probability of each class, the mean over the draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
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

    @available_if(is_around_classifier)
    def predict_log_proba(self, X: MatrixLike) -> np.ndarray:
        """Predict logarithms of the probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, ...)
            Logarithms of `predict_proba`.
        """
        log_proba: np.ndarray = self._answers().predict_log_proba(X)
        return log_proba

    @available_if(is_around_classifier)
    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Compute log-probabilities, or the log-odds of two classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
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
        self, X: MatrixLike, kind: Part = ..., **options: Any
    ) -> np.ndarray: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["all"], **options: Any
    ) -> Uncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: str, **options: Any
    ) -> np.ndarray | Uncertainty: ...

    def predict_uncertainty(
        self, X: MatrixLike, kind: str = "total", **options: Any
    ) -> np.ndarray | Uncertainty:
        """Measure how uncertain the prediction of each row is.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty; "all" returns an `Uncertainty` of all three.
        **options
            For a classifier ``measure``, as in `TorchClassifier.predict_uncertainty`.

        Returns
        -------
        ndarray of shape (n_samples,) or of the shape of y, or Uncertainty of three
            Nats for the entropy of classes; a regressor's variances in squared units of y.
        """
        answer: np.ndarray | Uncertainty
        answer = self._answers().predict_uncertainty(X, kind, **options)
        return answer

    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """Predict probabilities of a classifier, or means of a regressor, of every draw.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes, ...) or (n_draws, n_samples, n_targets)
            Probabilities, or means in the units of y.
        """
        draws: np.ndarray = self._answers().predict_draws(X)
        return draws

    @available_if(_is_around_regressor)
    def predict_quantiles(self, X: MatrixLike, q: ArrayLike) -> np.ndarray:
        """Predict quantiles of the predictive distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        q : float or array-like of shape (n_quantiles,)
            Levels strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles) or (n_samples, n_targets, n_quantiles)
            Quantiles in the units of y.
        """
        quantiles: np.ndarray = self._answers().predict_quantiles(X, q)
        return quantiles

    @available_if(_is_around_regressor)
    def predict_interval(self, X: MatrixLike, confidence_level: float = 0.9) -> np.ndarray:
        """Predict a central interval.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        confidence_level : float in (0, 1), default=0.9
            Probability that the interval holds y.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_targets, 2)
            Lower and upper ends, in the units of y.
        """
        interval: np.ndarray = self._answers().predict_interval(X, confidence_level)
        return interval

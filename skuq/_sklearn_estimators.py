"""scikit-learn's own estimators, seen as a posterior of one draw."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from torch import Tensor
from torch.distributions import Distribution, Normal

from skuq._distributions._softmax import Softmax
from skuq._predict import ClassifierPredictions, Predictions, RegressorPredictions
from skuq._utils._arrays import tensor_of
from skuq._utils._sklearn_compat import _num_samples

__all__ = ["of_probabilities", "predictions_of", "reduced"]

_SMALLEST_STD = 1e-150  # a Gaussian process can be certain


def predictions_of(
    estimator: Any, *, logits: bool = False, multilabel: bool = False
) -> Predictions:
    """Return the object that predicts for a fitted estimator: itself, or one draw made of it.

    Parameters
    ----------
    estimator : object
        A skuq estimator, a classifier with `predict_proba` or `decision_function`, or a regressor
        whose `predict` takes ``return_std=True``.
    logits : bool, default=False
        Whether to prefer the `decision_function` of a classifier to its `predict_proba`.
    multilabel : bool, default=False
        Whether the classifier was fitted on indicators of several labels.
    """
    if isinstance(estimator, Predictions):
        return estimator
    if hasattr(estimator, "_answers"):  # skuq's own that is a classifier or a regressor
        own: Predictions = estimator._answers()
        return own
    if is_classifier(estimator):
        return _Classifier(estimator, logits, multilabel)
    if "return_std" in inspect.signature(getattr(estimator, "predict", len)).parameters:
        return _Regressor(estimator)
    raise TypeError(
        f"{type(estimator).__name__} has no predictive distribution: expected a skuq estimator, a "
        "classifier, or a regressor whose predict takes return_std=True"
    )


def reduced(
    reduction: Callable[..., Any], predictive: Distribution, aligned: tuple[np.ndarray, ...]
) -> Any:
    """Apply a reduction to the distributions of all rows at once."""
    n_rows = predictive.batch_shape[1]
    if any(len(rows) != n_rows for rows in aligned):
        raise ValueError(f"X has {n_rows} rows and y has {len(aligned[0])}; expected equal numbers")
    result = reduction(predictive, *(tensor_of(a, copy=True) for a in aligned))
    if isinstance(result, Tensor):
        return result.numpy()
    return tuple(part.numpy() for part in result)


def of_probabilities(proba: np.ndarray) -> Softmax:
    """Make the distribution of one draw, of shape (1, n_samples, n_classes)."""
    values = tensor_of(proba, copy=True)[None]
    predictive = Softmax(values.clamp(min=np.finfo(float).eps).log())
    predictive.probs = values  # exactly the given values, since metrics bin them
    return predictive


class _Classifier(ClassifierPredictions):
    def __init__(self, estimator: Any, logits: bool, multilabel: bool) -> None:
        self.estimator = estimator
        self.logits = logits
        self.multilabel = multilabel
        self.classes_ = estimator.classes_

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        scores = self._scores(X) if self.logits else None
        if scores is not None:
            predictive = Softmax(tensor_of(scores, copy=True)[None])
        else:
            predictive = of_probabilities(self._proba(X))
        return reduced(reduction, predictive, aligned)

    def _scores(self, X: Any) -> np.ndarray | None:
        """Return logits (n_samples, n_classes) or (n_samples, n_labels, 2), or None."""
        if not hasattr(self.estimator, "decision_function"):
            return None
        scores = np.asarray(self.estimator.decision_function(X), dtype=float)
        if self.multilabel or (scores.ndim == 1 and len(self.classes_) == 2):
            return np.stack([np.zeros_like(scores), scores], axis=-1)
        # One-vs-one machines may give a score per pair.
        pairwise = getattr(self.estimator, "decision_function_shape", None) == "ovo"
        fits = scores.shape == (_num_samples(X), len(self.classes_)) and not pairwise
        return scores if fits else None

    def _proba(self, X: Any) -> np.ndarray:
        if not hasattr(self.estimator, "predict_proba"):
            raise TypeError(
                f"{type(self.estimator).__name__} has neither predict_proba nor a "
                "decision_function with one score per class; one of them is needed"
            )
        proba = self.estimator.predict_proba(X)
        if self.multilabel:
            if isinstance(proba, list):  # forests and neighbours give an array per label
                if any(part.shape[1] != 2 for part in proba):
                    raise ValueError("each label must be 0 in some rows and 1 in others")
                proba = np.stack([part[:, 1] for part in proba], axis=1)
            return np.stack([1 - proba, proba], axis=-1)
        proba = np.asarray(proba, dtype=float)
        if proba.ndim != 2 or np.abs(proba.sum(axis=1) - 1).max() > 1e-4:
            raise ValueError(
                f"predict_proba of {type(self.estimator).__name__} must give rows that sum to 1 "
                f"over its classes, got shape {proba.shape}; multilabel classifiers can only be "
                "calibrated"
            )
        return proba


class _Regressor(RegressorPredictions):
    _target_shape: tuple[int, ...] = ()  # set by the first prediction

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        mean, std = (np.asarray(part, float) for part in self.estimator.predict(X, return_std=True))
        if mean.ndim > 1:
            self._target_shape = mean.shape[1:]
        shape = (1, len(mean), -1)
        normal = Normal(
            tensor_of(mean).reshape(shape),
            tensor_of(std).reshape(shape).clamp(min=_SMALLEST_STD),
            validate_args=False,
        )
        return reduced(reduction, normal, aligned)

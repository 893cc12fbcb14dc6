"""Estimators of other packages: a stack of draws if they are registered, else one draw."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from torch import Tensor, float64
from torch.distributions import Distribution, Normal

from skuq._distributions._members import Members, normal_members
from skuq._distributions._softmax import Softmax
from skuq._predict import ClassifierPredictions, Predictions, RegressorPredictions
from skuq._registry import DrawsOf, find_draws
from skuq._utils._arrays import tensor_of
from skuq._utils._sklearn_compat import _num_samples, _safe_indexing

__all__ = ["has_draws", "of_probabilities", "predictions_of", "reduced", "takes_return_std"]

_SMALLEST_STD = 1e-150  # a Gaussian process can be certain
_BLOCK_ROWS = 8192  # of the draws of an ensemble, which are in memory together


def predictions_of(
    estimator: Any, *, logits: bool = False, multilabel: bool = False
) -> Predictions:
    """Return the object that predicts for a fitted estimator: itself, or one draw made of it.

    Parameters
    ----------
    estimator : object
        A skuq estimator, an estimator of a registered class, a classifier with `predict_proba` or
        `decision_function`, or a regressor whose `predict` takes ``return_std=True``.
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
    row = find_draws(estimator)
    if row is not None and not multilabel:
        if _classifies(estimator):
            return _DrawnClassifier(estimator, logits, row.function)
        return _DrawnRegressor(estimator, row.function)
    if is_classifier(estimator):
        return _Classifier(estimator, logits, multilabel)
    if takes_return_std(estimator):
        return _Regressor(estimator)
    raise TypeError(
        f"{type(estimator).__name__} has no predictive distribution: expected a skuq estimator, a "
        "classifier, a regressor whose predict takes return_std=True, or an ensemble of a class "
        "that skuq.register_draws knows"
    )


def has_draws(estimator: Any) -> bool:
    """Return whether this is an estimator of a registered class, or one with ``return_std``."""
    return find_draws(estimator) is not None or takes_return_std(estimator)


def takes_return_std(estimator: Any) -> bool:
    """Return whether `predict` gives standard deviations."""
    method = getattr(estimator, "predict", None)
    try:
        return "return_std" in inspect.signature(method).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):  # no method, or one written in C
        return False


def _classifies(estimator: Any) -> bool:
    """Return whether this is a classifier; some packages do not say so in scikit-learn's way."""
    try:
        if is_classifier(estimator) or is_regressor(estimator):
            return bool(is_classifier(estimator))
    except (AttributeError, TypeError):  # an estimator without scikit-learn's tags
        pass
    return hasattr(estimator, "predict_proba")


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


def _in_blocks(
    X: Any,
    distribution_of: Callable[[Any], Distribution],
    reduction: Callable[..., Any],
    aligned: tuple[np.ndarray, ...],
) -> Any:
    """Reduce the distributions of a block of rows at a time."""
    n_rows = _num_samples(X)
    if n_rows <= _BLOCK_ROWS or any(len(rows) != n_rows for rows in aligned):
        return reduced(reduction, distribution_of(X), aligned)
    parts = []
    X = X.tocsr() if hasattr(X, "tocsr") else X  # a sparse matrix of another kind has no rows
    for start in range(0, n_rows, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        rows = distribution_of(_safe_indexing(X, block))
        parts.append(reduced(reduction, rows, tuple(a[block] for a in aligned)))
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*parts))
    return np.concatenate(parts)


class _DrawnClassifier(_Classifier):
    """A classifier of a registered class."""

    def __init__(self, estimator: Any, logits: bool, function: DrawsOf) -> None:
        if not isinstance(getattr(estimator, "classes_", None), np.ndarray):
            raise TypeError(
                f"{type(estimator).__name__} must have classes_, an array of the labels of one "
                f"target, got {getattr(estimator, 'classes_', None)!r}"
            )
        super().__init__(estimator, logits, multilabel=False)
        self._function = function

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return _in_blocks(X, self._distribution, reduction, aligned)

    def _distribution(self, X: Any) -> Members:
        draws = _checked_draws(self.estimator, self._function(self.estimator, X), X, 3)
        off = np.abs(draws.sum(axis=2) - 1).max(initial=0)
        if draws.shape[2] != len(self.classes_) or off > 1e-4 or draws.min(initial=0) < 0:
            raise ValueError(
                f"the draws of {type(self.estimator).__name__} must be probabilities of shape "
                f"(n_draws, n_samples, {len(self.classes_)}) that sum to 1 over the classes, got "
                f"shape {draws.shape}, values from {draws.min(initial=0):.3g} and sums up to "
                f"{off:.3g} away from 1"
            )
        scores = self._scores(X) if self.logits else None
        mean = draws.mean(axis=0)
        whole = of_probabilities(mean)
        predictive = Members(
            tensor_of(draws),
            whole if scores is None else Softmax(tensor_of(scores, copy=True)[None]),
        )
        predictive.mean_probs = whole.probs[0]  # to the last bit what scikit-learn averages
        return predictive


class _DrawnRegressor(RegressorPredictions):
    """A regressor of a registered class."""

    _target_shape: tuple[int, ...] = ()  # set by the first prediction

    def __init__(self, estimator: Any, function: DrawsOf) -> None:
        self.estimator = estimator
        self._function = function

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return _in_blocks(X, self._distribution, reduction, aligned)

    def _distribution(self, X: Any) -> Distribution:
        found = self._function(self.estimator, X)
        if isinstance(found, Distribution):
            return self._checked_distribution(found, X)
        mean, std = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        mean = _checked_draws(self.estimator, mean, X, 2, 3)
        std = np.zeros_like(mean) if std is None else _checked_draws(self.estimator, std, X, 2, 3)
        if std.shape != mean.shape or std.min(initial=0) < 0:
            raise ValueError(
                f"std of the draws of {type(self.estimator).__name__} must be at least 0 and have "
                f"the shape of the means, {mean.shape}; got shape {std.shape} and values from "
                f"{std.min(initial=0):.3g}"
            )
        self._target_shape = mean.shape[2:]
        shape = (*mean.shape[:2], -1)
        return normal_members(tensor_of(mean.reshape(shape)), tensor_of(std.reshape(shape)))

    def _checked_distribution(self, found: Distribution, X: Any) -> Distribution:
        shape = tuple(found.batch_shape)
        if len(shape) != 3 or not shape[0] or shape[1] != _num_samples(X):
            raise ValueError(
                f"the distribution of {type(self.estimator).__name__} must have batch shape "
                f"(n_draws, {_num_samples(X)}, n_targets), got {shape}"
            )
        moments = found.mean, found.variance
        if any(part.dtype != float64 or not part.isfinite().all() for part in moments):
            raise ValueError(
                f"the distribution of {type(self.estimator).__name__} must have means and "
                "variances that are finite numbers in float64, got some that are not, or dtype "
                f"{moments[0].dtype}"
            )
        self._target_shape = () if shape[2] == 1 else shape[2:]
        return found


def _checked_draws(estimator: Any, draws: Any, X: Any, *ndims: int) -> np.ndarray:
    """Return draws in float64; refuse what is not finite, or of another number of rows."""
    array = np.array(draws, dtype=float, order="C")
    n_rows = _num_samples(X)
    if array.ndim not in ndims or not len(array) or array.shape[1] != n_rows:
        known = {2: "(n_draws, n_samples)", 3: "(n_draws, n_samples, n)"}
        axes = " or ".join(known[n] for n in ndims)
        raise ValueError(
            f"the draws of {type(estimator).__name__} must have shape {axes} with {n_rows} rows, "
            f"got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"the draws of {type(estimator).__name__} contain NaN or infinity")
    return array

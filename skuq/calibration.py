"""Calibration: probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    clone,
    is_classifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.utils import get_tags, indexable
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, has_fit_parameter
from torch import Tensor
from torch.distributions import Categorical

from skuq._predict import ClassifierPredictions
from skuq._sklearn_compat import (
    StrOptions,
    _check_sample_weight,
    _num_samples,
    _safe_indexing,
    validate_parameter_constraints,
)
from skuq._temperature import fit_temperature
from skuq.pipeline import see_through

__all__ = ["TemperatureScaler", "fit_temperature"]

_NEVER = 1e6  # a class that a fold has not seen lies so far below the best logit


class TemperatureScaler(ClassifierPredictions, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Calibrates a classifier by one temperature for the logits of every draw [1]_.

    The logits of each draw are divided by T before probabilities are averaged, so every answer is
    calibrated: `predict_proba`, `predict_uncertainty`, `predict_draws`, `decision_function`. With
    one draw the predicted class never changes; with several it can, and `predict` is the most
    probable class of the calibrated mean.

    Parameters
    ----------
    estimator : classifier
        A skuq classifier, a Pipeline or a search around one, or any scikit-learn classifier with
        `decision_function` or `predict_proba` (then there is one draw). A fitted one that must
        not be fitted again comes as ``FrozenEstimator(estimator)``, and all of X, y calibrates;
        those must be rows that it was not fitted on.
    cv : int, cross-validation generator or iterable, default=5
        Otherwise logits are cross-fitted: T is fitted on the predictions of folds that were left
        out, and the estimator is fitted anew on everything. A search inside is run in each fold.
    objective : {"nll"}, default="nll"
        What T minimises: the negative log-likelihood.

    Attributes
    ----------
    temperature_ : float
        T: above 1 softens, below 1 sharpens.
    estimator_ : classifier
        The fitted estimator.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_, feature_names_in_ : those of the estimator

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.calibration import TemperatureScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> scaler = TemperatureScaler(network, cv=3).fit(X, y)
    >>> scaler.predict_proba(X).shape
    (150, 3)
    """

    _parameter_constraints: ClassVar[dict] = {
        "cv": ["cv_object"],
        "objective": [StrOptions({"nll"})],
    }

    def __init__(self, estimator: Any, cv: Any = 5, objective: str = "nll") -> None:
        self.estimator = estimator
        self.cv = cv
        self.objective = objective

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> TemperatureScaler:
        """Fit the temperature, and the estimator unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            Labels of any type.
        sample_weight : array-like of shape (n_samples,), default=None
        groups : array-like of shape (n_samples,), default=None
            For a `cv` that keeps groups together.

        Returns
        -------
        self : TemperatureScaler
        """
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        if not is_classifier(self.estimator):
            raise TypeError(
                f"TemperatureScaler needs a classifier, got {type(self.estimator).__name__}"
            )
        check_classification_targets(y)
        X, y = indexable(X, column_or_1d(y, warn=True))
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(self.estimator)
            fitted, classes = self.estimator, self.estimator.classes_
            logits, known = _draw_logits(fitted, X), np.ones(len(y), dtype=bool)
        else:
            fitted = self._fit_inner(X, y, sample_weight)
            classes = fitted.classes_
            logits, known = self._cross_fitted_logits(X, y, sample_weight, groups, classes)
        index = np.searchsorted(classes, y).clip(max=len(classes) - 1)
        if not np.array_equal(classes[index], y):
            raise ValueError(
                f"y contains labels {np.setdiff1d(y, classes)[:5]} that the estimator was not "
                f"fitted on; its classes are {classes}"
            )
        weight = None if sample_weight is None else sample_weight[known]
        self.temperature_ = fit_temperature(logits[:, known], index[known], weight)
        self.estimator_, self.classes_ = fitted, classes
        return self

    def _fit_inner(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> Any:
        estimator = clone(self.estimator)
        if sample_weight is None:
            return estimator.fit(X, y)
        if not has_fit_parameter(estimator, "sample_weight"):
            raise ValueError(
                f"sample_weight was given, but {type(estimator).__name__}.fit does not take it "
                "(put TemperatureScaler inside of a Pipeline, around its last step)"
            )
        return estimator.fit(X, y, sample_weight=sample_weight)

    def _cross_fitted_logits(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        groups: Any,
        classes: np.ndarray,
    ) -> tuple[Tensor, np.ndarray]:
        """Logits of left-out rows, and which rows' class their fold had seen."""
        logits, known = None, np.zeros(len(y), dtype=bool)
        for train, test in check_cv(self.cv, y, classifier=True).split(X, y, groups):
            weight = None if sample_weight is None else sample_weight[train]
            fold = self._fit_inner(_safe_indexing(X, train), y[train], weight)
            seen = _draw_logits(fold, _safe_indexing(X, test))
            if logits is None:
                logits = torch.zeros(len(seen), len(y), len(classes), dtype=torch.float64)
            below = seen.amax(-1, keepdim=True) - _NEVER
            part = below.expand(-1, -1, len(classes)).clone()
            part[..., np.searchsorted(classes, fold.classes_)] = seen
            logits[:, test] = part
            known[test] = np.isin(y[test], fold.classes_)
        assert logits is not None
        return logits, known

    def _reduce(self, X: Any, reduction: Callable[[Any], Any]) -> Any:
        check_is_fitted(self)
        temperature = self.temperature_

        def tempered(predictive: Categorical) -> Any:
            logits = predictive.logits / temperature
            return reduction(Categorical(logits=logits, validate_args=False))

        return _reduce_draws(self.estimator_, X, tempered)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "temperature_")

    @property
    def n_features_in_(self) -> int:
        """Number of features that the estimator was fitted on."""
        return self._fitted_estimator("n_features_in_").n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features that the estimator was fitted on."""
        return self._fitted_estimator("feature_names_in_").feature_names_in_

    def _fitted_estimator(self, attribute: str) -> Any:
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"{type(self).__name__} has no {attribute} before fit")
        return self.estimator_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = get_tags(self.estimator).input_tags.sparse
        return tags


def _reduce_draws(estimator: Any, X: Any, reduction: Callable[[Any], Any]) -> Any:
    """Reduce the predictive distributions of a skuq classifier, or of any other as one draw."""
    leaf, inner, _ = see_through(estimator, X)
    if isinstance(leaf, ClassifierPredictions):
        return leaf._reduce(inner, reduction)
    reduced = reduction(Categorical(logits=_scores(estimator, X)[None], validate_args=False))
    if isinstance(reduced, Tensor):
        return reduced.numpy()
    return tuple(part.numpy() for part in reduced)


def _scores(estimator: Any, X: Any) -> Tensor:
    """Logits of any scikit-learn classifier, of shape (n_samples, n_classes)."""
    n_classes = len(estimator.classes_)
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(X), dtype=float)
        if scores.ndim == 1 and n_classes == 2:
            return torch.from_numpy(np.column_stack([np.zeros_like(scores), scores]))
        leaf = see_through(estimator, X)[0]
        pairwise = getattr(leaf, "decision_function_shape", None) == "ovo"  # a score per pair
        if scores.shape == (_num_samples(X), n_classes) and not pairwise:
            return torch.from_numpy(scores)
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{type(estimator).__name__} has neither predict_proba nor a decision_function with "
            "one score per class; TemperatureScaler needs one of them"
        )
    proba = np.asarray(estimator.predict_proba(X), dtype=float)
    return torch.from_numpy(np.log(np.clip(proba, np.finfo(float).eps, None)))


def _draw_logits(estimator: Any, X: Any) -> Tensor:
    """Logits of all draws, of shape (n_draws, n_samples, n_classes)."""
    rows_first = _reduce_draws(estimator, X, lambda predictive: predictive.logits.movedim(0, 1))
    return torch.from_numpy(np.moveaxis(rows_first, 1, 0))

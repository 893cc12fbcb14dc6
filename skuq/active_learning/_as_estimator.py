"""What an `ActiveLearner` answers like the estimator inside of it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, overload

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skuq._reductions import Part
from skuq._utils._sklearn_compat import available_if
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.active_learning._asked import measures_uncertainty
from skuq.pipeline import predict_uncertainty
from skuq.uncertainty import Uncertainty

__all__ = ["AsEstimator"]


def _inside(method: str) -> Any:
    return lambda self: hasattr(getattr(self, "estimator_", self.estimator), method)


class AsEstimator:
    """Mixin that predicts by `estimator_`, and has the tags of `estimator`."""

    estimator: Any
    estimator_: Any

    _answers_by_estimator: ClassVar[bool] = True  # `skuq.predict_draws` and others see through it

    @available_if(_inside("predict"))
    def predict(self, X: MatrixLike) -> np.ndarray:
        """Predict by the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        """
        check_is_fitted(self, "estimator_")
        return np.asarray(self.estimator_.predict(X))

    @available_if(_inside("predict_proba"))
    def predict_proba(self, X: MatrixLike) -> np.ndarray:
        """Predict probabilities by the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        """
        check_is_fitted(self, "estimator_")
        return np.asarray(self.estimator_.predict_proba(X))

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

    @available_if(lambda self: measures_uncertainty(getattr(self, "estimator_", self.estimator)))
    def predict_uncertainty(
        self, X: MatrixLike, kind: str = "total", **options: Any
    ) -> np.ndarray | Uncertainty:
        """Measure the uncertainty of the fitted estimator; see `skuq.predict_uncertainty`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        kind : {"total", "aleatoric", "epistemic", "all"}, default="total"
            The part of the uncertainty to return.
        **options
            Further arguments of the estimator's method, such as ``measure``.
        """
        check_is_fitted(self, "estimator_")
        return predict_uncertainty(self.estimator_, X, kind=kind, **options)

    @available_if(_inside("score"))
    def score(self, X: MatrixLike, y: ArrayLike) -> float:
        """Score the fitted estimator by its own `score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples, ...)
            True labels or targets.
        """
        check_is_fitted(self, "estimator_")
        return float(self.estimator_.score(X, y))

    @property
    def classes_(self) -> np.ndarray:
        """The labels that the fitted estimator knows."""
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"{type(self).__name__} has no classes_ before fit")
        return np.asarray(self.estimator_.classes_)

    @property
    def n_features_in_(self) -> int:
        """Number of features that the fitted estimator knows."""
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"{type(self).__name__} has no n_features_in_ before fit")
        return int(self.estimator_.n_features_in_)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features that the fitted estimator knows."""
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"{type(self).__name__} has no feature_names_in_ before fit")
        return np.asarray(self.estimator_.feature_names_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Any:
        tags: Any = super().__sklearn_tags__()  # type: ignore[misc]
        inner = get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.target_tags, tags.input_tags = inner.target_tags, inner.input_tags
        return tags

"""The base of the calibrators of classifiers: their evidence are the logits of every draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, column_or_1d
from torch import Tensor

from skuq._composition import predictions
from skuq._data._checks import names_of_labels, refuse_no_labels, refuse_other_labels, shape_of
from skuq._data._streams import with_targets
from skuq._distributions._members import Members, around, whole_of
from skuq._distributions._softmax import Softmax
from skuq._meta import ignore_label_of, label_names_of
from skuq._pixels import is_label, mean_iou
from skuq._predict import ClassifierPredictions, Predictions
from skuq._utils._messages import name_of
from skuq._utils._random import Purpose, derive_seed, root_seed
from skuq._utils._sklearn_compat import _safe_indexing
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.calibration._base import Calibrator
from skuq.calibration._logits import Logits, check_logits, label_columns
from skuq.calibration._places import SampledPlaces

__all__ = ["ClassifierCalibrator", "changed"]

_UNSEEN_GAP = 1e6  # the logit of a class that a fold has not seen is so far below the best


class ClassifierCalibrator(ClassifierPredictions, ClassifierMixin, Calibrator):
    """Base of the calibrators whose evidence is the logits of all draws.

    They have shape (n_samples, n_draws, n_classes); for several labels at once, (n_samples,
    n_draws, n_labels, 2).
    """

    _classifies = True
    _places: SampledPlaces | None = None  # of the pixels to learn from, if y are masks

    def _check_estimator(self) -> None:
        if not is_classifier(self.estimator):
            raise TypeError(
                f"{type(self).__name__} needs a classifier, got {name_of(self.estimator)}"
            )

    def _read_targets(self, y: Any) -> np.ndarray:
        refuse_no_labels("y", y)
        self._places = None
        if len(shape_of(y)) > 2:
            masks = np.asarray(y)
            self._multilabel = masks.ndim == 4
            seed = derive_seed(root_seed(self.random_state), Purpose.OTHER)
            self._places = SampledPlaces.of(masks, seed)
            return masks
        if type_of_target(y) == "continuous-multioutput":
            raise ValueError(
                f"{type(self).__name__} learns from labels, got y of shape {shape_of(y)} with "
                "numbers between them. If these are probabilities of classes, fit the estimator on "
                "them, and give other rows with a label each: "
                f"{type(self).__name__}(FrozenEstimator(estimator)).fit(X, labels)"
            )
        check_classification_targets(y)
        self._multilabel = type_of_target(y) == "multilabel-indicator"
        if self._multilabel:
            self._given_names = names_of_labels(y)
            indicators: np.ndarray = check_array(y, accept_sparse=False, dtype=np.int64)
            return indicators
        labels: np.ndarray = column_or_1d(y, warn=True)
        return labels

    def _begin(self, fitted: Any, y: np.ndarray) -> None:
        if self._multilabel:
            self.classes_ = np.arange(y.shape[1])
            self._keep_label_names(fitted)
            return
        self.classes_ = fitted.classes_
        unknown = np.setdiff1d(y, self.classes_)
        if self._places is not None:
            unknown = unknown[~is_label(unknown, ignore_label_of(fitted))]
        if len(unknown):
            raise ValueError(
                f"y contains labels {unknown[:5]} that the estimator was not fitted on; its "
                f"classes are {self.classes_}"
            )

    def _keep_label_names(self, fitted: Any) -> None:
        """Keep the names of the columns of y, or those that the estimator was fitted on."""
        self.__dict__.pop("label_names_", None)
        given, known = self.__dict__.pop("_given_names", None), label_names_of(fitted)
        refuse_other_labels(given, known)
        names = known if given is None else given
        if names is not None:
            self.label_names_ = names

    def _ask(self, estimator: Any, X: Any) -> tuple[Predictions, Any]:
        return predictions(estimator, X, logits=True, multilabel=self._multilabel)

    def _evidence(self, estimator: Any, X: Any, y: np.ndarray) -> np.ndarray:
        if self._multilabel and self._places is None and _predicts_one(estimator, X):
            raise ValueError(
                f"y holds several labels, but the {name_of(estimator)} predicts one: fit it "
                "on indicators"
            )

        def logits_of(part: Any) -> np.ndarray:
            asked, inner = self._ask(estimator, part)
            logits: np.ndarray = asked._reduce(
                inner, lambda predictive: whole_of(predictive).logits.movedim(0, 1)
            )
            return logits

        if self._places is None:
            logits, counts = logits_of(X), np.ones(len(y), dtype=bool)
        else:
            logits = self._places.of_images(logits_of, X)
            y = self._places.of_masks(y)
            counts = ~is_label(y, ignore_label_of(estimator))
        if self._multilabel:
            logits[~(counts if counts.ndim == 1 else counts.all(axis=-1))] = np.nan
            return logits
        joined = np.repeat(logits.max(axis=-1, keepdims=True) - _UNSEEN_GAP, len(self.classes_), -1)
        joined[..., np.searchsorted(self.classes_, estimator.classes_)] = logits
        joined[~np.isin(y, estimator.classes_) | ~counts] = np.nan
        return joined

    def _as_rows(
        self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if self._places is None:
            return evidence, y, weight
        n_places, labels = evidence.shape[1], self._places.of_masks(y)
        weight = None if weight is None else np.repeat(weight, n_places)
        rows = evidence.reshape(-1, *evidence.shape[2:])
        return rows, labels.reshape(len(rows), *labels.shape[2:]), weight

    def score(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute the accuracy, or the mean intersection over union of a segmenter.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, height, width), default=None
            True labels or masks; None if X is a Dataset, which has them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            At most 1; greater is better.
        """
        if self._places is None:
            return super().score(X, y, sample_weight)
        X, y = with_targets(X, y)
        return mean_iou(y, self.predict(X), ignore_label_of(self.estimator), sample_weight)

    def _checked_logits(
        self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> list[Logits]:
        """Check the logits: one entry for each label, or a single entry for several classes."""
        if self._multilabel:
            scores = evidence[..., 1] - evidence[..., 0]
            return list(label_columns(np.moveaxis(scores, 1, 0), y, weight))
        index = np.searchsorted(self.classes_, y)
        return [check_logits(np.moveaxis(evidence, 1, 0), index, weight)]


def changed(predictive: Softmax, change: Callable[[Tensor], Tensor]) -> Softmax:
    """Change the logits of all draws; those of an ensemble that gives probabilities, of its mean.

    Members such as trees give probabilities of 0 and 1, whose logits no factor can change. Their
    draws move along with the mean.
    """
    whole = Softmax(change(whole_of(predictive).logits))
    if not isinstance(predictive, Members):
        return whole
    moved = Members(around(predictive.probs, whole.probs[0]), whole)
    moved.mean_probs = whole.probs[0]
    return moved


def _predicts_one(estimator: Any, X: Any) -> bool:
    return np.ndim(estimator.predict(_safe_indexing(X, [0]))) != 2

"""Calibrators of probabilities: they change the logits of every draw."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
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
from skuq._utils._sklearn_compat import Interval, StrOptions, _safe_indexing
from skuq._utils._typing import ArrayLike, MatrixLike, RandomState
from skuq.calibration._base import Calibrator
from skuq.calibration._logits import Logits, check_logits, label_columns
from skuq.calibration._places import SampledPlaces
from skuq.calibration._temperature import loss_at, search_temperature
from skuq.calibration._vector import search_scales

__all__ = ["TemperatureScaler", "VectorScaler"]

_UNSEEN_GAP = 1e6  # the logit of a class that a fold has not seen is so far below the best


class _ClassifierCalibrator(ClassifierPredictions, ClassifierMixin, Calibrator):
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


def _changed(predictive: Softmax, change: Callable[[Tensor], Tensor]) -> Softmax:
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


class TemperatureScaler(_ClassifierCalibrator):
    """Calibrates a classifier by one temperature for the logits of every draw [1]_.

    The logits of each draw are divided by T before probabilities are averaged, so every answer is
    calibrated: `predict_proba`, `predict_uncertainty`, `predict_draws`, `decision_function`. With
    one draw the predicted class never changes; with several it can, and `predict` is the most
    probable class of the calibrated mean.

    Parameters
    ----------
    estimator : classifier
        A skuq classifier; a Pipeline or a search around one; or any scikit-learn classifier with
        `decision_function` or `predict_proba`, which counts as one draw. Pass a fitted classifier
        as ``FrozenEstimator(estimator)``: then all rows of X and y calibrate it, and it must not
        have been fitted on them. A multilabel classifier gets one temperature for each label.
    cv : int, cross-validation generator or iterable, default=5
        Folds for an estimator that is not frozen: each fold is predicted by an estimator that was
        fitted on the others, T is fitted on these predictions, and at the end the estimator is
        fitted on all rows. A search inside runs in each fold. A number makes that many shuffled
        folds, stratified by class, which do not separate rows of one group. A splitter is used
        unchanged: `TimeSeriesSplit`, or ``KFold(5)`` for folds in the order of the rows.
    objective : {"nll", "brier", "ece"}, default="nll"
        The objective that T minimises: negative log-likelihood, Brier score, or the expected
        calibration error (top label, 15 bins).
    n_jobs : int, default=None
        Number of folds that joblib fits at the same time.
    verbose : int, default=0
        1 shows a progress bar over the folds.
    random_state : int, RandomState instance or None, default=0
        Seed of the shuffled folds; None shuffles differently in each call. Training uses the
        `random_state` of the estimator.

    Attributes
    ----------
    temperature_ : float, or ndarray of shape (n_labels,) for multilabel
        The temperature T: above 1 softens, below 1 sharpens.
    n_iter_ : int
        Number of evaluations of the objective (with several labels, the largest number).
    loss_before_, loss_after_ : float
        The objective at T = 1 and at T, on the rows that T was fitted on (mean over the labels).
    flat_range_ : tuple of two floats
        Temperatures between which the calibration error is less than 0.001 above its best. Only
        with ``objective="ece"`` and one label per row: this error jumps when rows change bins.
    estimator_ : classifier
        The fitted estimator.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, in the order of the columns.
    n_features_in_ : int
        Number of features that the estimator was fitted on.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of these features; only if all are strings.

    See Also
    --------
    VectorScaler : A scale and a bias for each class.
    sklearn.calibration.CalibratedClassifierCV : Isotonic and sigmoid calibration.

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
    >>> scaler.loss_after_ <= scaler.loss_before_
    True
    """

    _learnt_above: ClassVar[dict[str, float]] = {"temperature_": 0.0}
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Calibrator._parameter_constraints,
        "objective": [StrOptions({"nll", "brier", "ece"})],
    }

    def __init__(
        self,
        estimator: Any,
        cv: Any = 5,
        objective: str = "nll",
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(estimator, cv, n_jobs, verbose, random_state)
        self.objective = objective

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        columns = self._checked_logits(evidence, y, weight)
        found = [search_temperature(column, self.objective) for column in columns]
        temperatures = np.array([search.temperature for search in found])
        self.temperature_ = temperatures if self._multilabel else float(temperatures[0])
        self.n_iter_ = max(search.n_iter for search in found)
        before = [loss_at(column, 1.0, self.objective) for column in columns]
        after = [loss_at(c, t, self.objective) for c, t in zip(columns, temperatures)]
        self.loss_before_, self.loss_after_ = float(np.mean(before)), float(np.mean(after))
        if len(found) == 1 and found[0].flat_range is not None:
            self.flat_range_ = found[0].flat_range

    def _calibrated(self, predictive: Softmax) -> Softmax:
        temperature: Any = self.temperature_
        if self._multilabel:
            temperature = predictive.logits.new_tensor(temperature)[:, None]
        return _changed(predictive, lambda logits: logits / temperature)


class VectorScaler(_ClassifierCalibrator):
    """Calibrates a classifier by a scale and a bias for each class [1]_.

    The logits z of each draw become a ⊙ z + b before probabilities are averaged. a and b minimise
    the mean negative log-likelihood plus a penalty: `l2`/n times the squared distance from a single
    temperature, Σ_k (a_k − ā)² + Σ_k b_k², where n is the number of samples (or the sum of their
    weights). The larger `l2` and the smaller n, the nearer is the result to `TemperatureScaler`.
    The predicted class can change even with one draw. Not for several labels at once.

    Parameters
    ----------
    estimator, cv, n_jobs, verbose, random_state : as in `TemperatureScaler`
        The estimator and how it is cross-fitted.
    l2 : float >= 0, default=2.0
        Strength of the penalty, in rows. `sample_weight` counts rows: weights of sum 1 are as weak
        against the penalty as a single row.

    Attributes
    ----------
    scale_ : ndarray of shape (n_classes,)
        The factors a of the logits.
    bias_ : ndarray of shape (n_classes,)
        The offsets b of the logits, of mean 0.
    n_iter_ : int
        Number of iterations of the optimizer.
    loss_before_, loss_after_ : float
        Mean negative log-likelihood without scaling and with it, on the rows that it was fitted
        on.
    estimator_, classes_, n_features_in_, feature_names_in_ : as in `TemperatureScaler`
        The fitted estimator, its classes and its features.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.calibration import VectorScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = TorchClassifier(lr=0.01, max_epochs=20, random_state=0)
    >>> VectorScaler(network, cv=3).fit(X, y).scale_.shape
    (3,)
    """

    _learnt_above: ClassVar[dict[str, float]] = {"scale_": -np.inf, "bias_": -np.inf}
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Calibrator._parameter_constraints,
        "l2": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any,
        cv: Any = 5,
        l2: float = 2.0,
        n_jobs: int | None = None,
        verbose: int = 0,
        random_state: RandomState = 0,
    ) -> None:
        super().__init__(estimator, cv, n_jobs, verbose, random_state)
        self.l2 = l2

    def _read_targets(self, y: Any) -> np.ndarray:
        target = super()._read_targets(y)
        if self._multilabel:
            raise ValueError("VectorScaler is not for multilabel targets: use TemperatureScaler")
        return target

    def _learn(self, evidence: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        (logits,) = self._checked_logits(evidence, y, weight)
        found = search_scales(logits, self.l2)
        self.scale_, self.bias_, self.n_iter_ = found.scale, found.bias, found.n_iter
        self.loss_before_, self.loss_after_ = loss_at(logits, 1.0, "nll"), found.loss

    def _calibrated(self, predictive: Softmax) -> Softmax:
        scale, bias = (torch.as_tensor(v) for v in (self.scale_, self.bias_))
        return _changed(predictive, lambda z: z * scale.to(z) + bias.to(z))

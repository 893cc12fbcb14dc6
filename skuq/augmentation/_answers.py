"""Predictions of test-time augmentation: averages over views, and votes of the views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skuq._delegated import Delegated, is_around_classifier
from skuq._distributions._softmax import log_mean, mean_of_draws
from skuq._meta import ignore_label_of
from skuq._pixels import map_r2, mean_iou
from skuq._predict import ClassifierPredictions, RegressorPredictions
from skuq._reductions import Part
from skuq._sklearn_estimators import of_probabilities, reduced
from skuq._utils._sklearn_compat import available_if
from skuq._utils._typing import ArrayLike, MatrixLike
from skuq.augmentation._evaluation import Evaluation
from skuq.augmentation._mixing import (
    ClassMean,
    NestedUncertainty,
    TargetMixture,
    nested_of_classes,
    nested_of_targets,
)
from skuq.augmentation._votes import MultiViewVote, multi_view_vote
from skuq.uncertainty import Uncertainty

__all__ = ["AugmentedPredictions", "ViewPredictions", "ask_views"]

_TIE = 1e-12  # the lead of the winner of a tie
_NO_VOTE = np.finfo(float).eps  # the share of a class without votes; its logarithm is finite


class ViewPredictions(NamedTuple):
    """Predictions of the views, each the average of the draws; the first view is the row itself.

    Attributes
    ----------
    labels : ndarray of shape (n_views, n_samples)
        The most probable class.
    confidence : ndarray of shape (n_views, n_samples)
        The probability of that class.
    certainty : ndarray of shape (n_views, n_samples), or None
        1/(1 + σ²), if the likelihood predicts a noise σ², as `UncertaintyAware` does.
    confidence_hard, certainty_hard : ndarray of shape (n_views, n_samples) of bool, or None
        Whether confidence and certainty reach the threshold, if there is one.
    """

    labels: np.ndarray
    confidence: np.ndarray
    certainty: np.ndarray | None
    confidence_hard: np.ndarray | None
    certainty_hard: np.ndarray | None


def ask_views(
    evaluation: Evaluation, X: Any, classes: np.ndarray, threshold: float | None = None
) -> ViewPredictions:
    """Compute the predictions of every view of every row."""

    def reduction(predictive: Any) -> tuple[Tensor, ...]:
        confidence, label = log_mean(predictive).max(-1)
        parts = label, confidence.exp().clamp(max=1)
        if not evaluation.gives_noise:
            return parts
        return *parts, mean_of_draws(1 / (1 + predictive.noise_variance))

    parts = zip(*evaluation.each(X, reduction))
    labels, confidence, *rest = (np.stack(part) for part in parts)
    certainty = rest[0] if rest else None
    hard = [
        None if threshold is None or scores is None else scores >= threshold
        for scores in (confidence, certainty)
    ]
    return ViewPredictions(classes[labels], confidence, certainty, *hard)


class AveragedClasses(ClassifierPredictions):
    """A classifier whose draws are means of probabilities over the views."""

    def __init__(self, evaluation: Evaluation, classes: np.ndarray, multilabel: bool) -> None:
        self._evaluation = evaluation
        self.classes_ = classes
        self._multilabel = multilabel
        self._is_dense = evaluation._is_dense
        self.ignore_label = ignore_label_of(evaluation.estimator)

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return self._evaluation.fold(X, ClassMean, reduction, *aligned)

    def predict_uncertainty(self, X: Any, kind: str = "total", measure: str = "entropy") -> Any:
        if kind != "nested":
            return super().predict_uncertainty(X, kind, measure)
        reduction = nested_of_classes(measure)
        parts = self._evaluation.fold(X, lambda: ClassMean(measure), reduction)
        return NestedUncertainty(*map(self._like_labels, parts))


class VotedClasses(ClassifierPredictions):
    """A classifier of one draw, whose probabilities are the shares of the votes."""

    def __init__(self, vote: Callable[[Any], MultiViewVote], classes: np.ndarray) -> None:
        self._vote = vote
        self.classes_ = classes

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return reduced(reduction, of_probabilities(_shares(self._vote(X))), aligned)


def _shares(vote: MultiViewVote) -> np.ndarray:
    """Scale the weights to sum 1; the winner of a tie gets a little more than the others."""
    shares = (vote.weights / vote.weights.sum(axis=1, keepdims=True)).clip(min=_NO_VOTE)
    shares[np.arange(len(shares)), np.searchsorted(vote.classes, vote.predicted)] += _TIE
    normalised: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return normalised


class MixedTargets(RegressorPredictions):
    """A regressor whose draws are mixtures of the distributions that their views predict."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._target_shape = evaluation.target_shape
        self._is_dense = evaluation._is_dense

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return self._evaluation.fold(X, TargetMixture, reduction, *aligned)

    def predict_uncertainty(self, X: Any, kind: str = "total") -> Any:
        if kind != "nested":
            return super().predict_uncertainty(X, kind)
        return NestedUncertainty(*map(self._like_target, self._reduce(X, nested_of_targets)))


class AugmentedPredictions(Delegated):
    """The methods of `TestTimeAugmentation` that predict."""

    vote: str
    classes_: np.ndarray
    threshold_: float | None
    _evaluation: Evaluation
    _multilabel: bool

    def _averages(self) -> Any:
        check_is_fitted(self)
        if not self._evaluation.classifies:
            return MixedTargets(self._evaluation)
        return AveragedClasses(self._evaluation, self.classes_, self._multilabel)

    def _answers(self) -> Any:
        """Return the object that predicts for `skuq._sklearn_estimators.predictions_of`."""
        check_is_fitted(self)
        if self.vote == "mean":
            return self._averages()
        return VotedClasses(self.predict_votes, self.classes_)

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
        """Predict probabilities: averaged over views and draws, or the shares of the votes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        return_uncertainty : bool, default=False
            Whether to return ``predict_uncertainty(X, kind="all")``, too.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or that and an `Uncertainty`
            Each row sums to 1; columns are in the order of `classes_`.
        """
        if return_uncertainty and self.vote != "mean":
            return self._answers().predict_proba(X), self.predict_uncertainty(X, kind="all")
        answer: np.ndarray | tuple[np.ndarray, Uncertainty]
        answer = self._answers().predict_proba(X, return_uncertainty)
        return answer

    @available_if(is_around_classifier)
    def predict_views(self, X: MatrixLike) -> ViewPredictions:
        """Predict the label of each view, with its confidence and certainty.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.

        Returns
        -------
        ViewPredictions of ndarrays of shape (n_views, n_samples)
            Labels, confidences and certainties, view by view.
        """
        check_is_fitted(self)
        if self._multilabel or self._evaluation._is_dense:
            raise ValueError("predict_views needs one label per row, but y had several in fit")
        return ask_views(self._evaluation, X, self.classes_, self.threshold_)

    @available_if(is_around_classifier)
    def predict_votes(self, X: MatrixLike) -> MultiViewVote:
        """Let the views vote by the rule `vote`; "mean" counts votes, like "mode".

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.

        Returns
        -------
        MultiViewVote
            The decisions, the weights of all classes, and the rows where every view abstained.
        """
        views = self.predict_views(X)
        rule = "mode" if self.vote == "mean" else self.vote
        return multi_view_vote(
            views.labels, views.confidence, views.certainty, rule, self.threshold_, self.classes_
        )

    @overload  # type: ignore[override]  # it has a further kind
    def predict_uncertainty(
        self, X: MatrixLike, kind: Part = ..., **options: Any
    ) -> np.ndarray: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["all"], **options: Any
    ) -> Uncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: Literal["nested"], **options: Any
    ) -> NestedUncertainty: ...

    @overload
    def predict_uncertainty(
        self, X: MatrixLike, kind: str, **options: Any
    ) -> np.ndarray | Uncertainty | NestedUncertainty: ...

    def predict_uncertainty(
        self, X: MatrixLike, kind: str = "total", **options: Any
    ) -> np.ndarray | Uncertainty | NestedUncertainty:
        """Measure how uncertain the averaged prediction is, for any `vote`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        kind : {"total", "aleatoric", "epistemic", "all", "nested"}, default="total"
            The part of the uncertainty to return. The aleatoric part is the uncertainty within and
            between the views of a draw; the epistemic part is the disagreement of the draws. "all"
            returns an `Uncertainty`, "nested" a `NestedUncertainty` with both aleatoric parts.
        **options
            For a classifier ``measure``, as in `TorchClassifier.predict_uncertainty`.

        Returns
        -------
        ndarray of shape (n_samples,) or of the shape of y, Uncertainty or NestedUncertainty
            Nats for the entropy of classes; a regressor's variances in squared units of y.
        """
        answer: np.ndarray | Uncertainty | NestedUncertainty
        answer = self._averages().predict_uncertainty(X, kind, **options)
        return answer

    def predict_draws(self, X: MatrixLike) -> np.ndarray:
        """Predict probabilities or means of every draw, averaged over the views, for any `vote`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes) or (n_draws, n_samples, n_targets)
            Probabilities of a classifier; means of a regressor, in the units of y.
        """
        draws: np.ndarray = self._averages().predict_draws(X)
        return draws

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy of a classifier, mean IoU of a segmenter, or R² of a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, height, width)
            True labels, targets or masks.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; None weighs all equally.

        Returns
        -------
        float
            At most 1; greater is better.
        """
        if self._evaluation._is_dense and is_around_classifier(self):
            return mean_iou(y, self.predict(X), ignore_label_of(self.estimator), sample_weight)
        if self._evaluation._is_dense:
            return map_r2(y, self.predict(X), sample_weight)
        metric: Callable[..., float] = accuracy_score if is_around_classifier(self) else r2_score
        return metric(y, self.predict(X), sample_weight=sample_weight)

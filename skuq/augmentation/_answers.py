"""What test-time augmentation answers, of averages over views and of their votes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from skuq._foreign import of_probabilities, reduced
from skuq._predict import ClassifierPredictions, RegressorPredictions
from skuq._softmax import log_mean, mean_of_draws
from skuq.augmentation._evaluation import Evaluation
from skuq.augmentation._mixing import (
    ClassMean,
    NestedUncertainty,
    TargetMixture,
    nested_of_classes,
    nested_of_targets,
)
from skuq.augmentation._votes import MultiViewVote

__all__ = ["AveragedClasses", "MixedTargets", "ViewPredictions", "VotedClasses", "ask_views"]

_TIE = 1e-12  # what the winner of a tie has more than the others


class ViewPredictions(NamedTuple):
    """What the views say, each the average of the draws; the identity is the first.

    Attributes
    ----------
    labels : ndarray of shape (n_views, n_samples)
        The most probable class.
    confidence : ndarray of shape (n_views, n_samples)
        Its probability.
    certainty : ndarray of shape (n_views, n_samples), or None
        1/(1 + σ²), if the likelihood has a noise σ², as `UncertaintyAware` has.
    confidence_hard, certainty_hard : ndarray of shape (n_views, n_samples) of bool, or None
        Whether confidence and certainty are at least the threshold, if there is one.
    """

    labels: np.ndarray
    confidence: np.ndarray
    certainty: np.ndarray | None
    confidence_hard: np.ndarray | None
    certainty_hard: np.ndarray | None


def ask_views(
    evaluation: Evaluation, X: Any, classes: np.ndarray, threshold: float | None = None
) -> ViewPredictions:
    """The predictions of every view of every row."""

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
    """For every draw the mean of the probabilities over the views."""

    def __init__(self, evaluation: Evaluation, classes: np.ndarray, multilabel: bool) -> None:
        self._evaluation = evaluation
        self.classes_ = classes
        self._multilabel = multilabel

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return self._evaluation.fold(X, ClassMean, reduction, *aligned)

    def predict_uncertainty(self, X: Any, kind: str = "total", measure: str = "entropy") -> Any:
        if kind != "nested":
            return super().predict_uncertainty(X, kind, measure)
        reduction = nested_of_classes(measure)
        return NestedUncertainty(*self._evaluation.fold(X, lambda: ClassMean(measure), reduction))


class VotedClasses(ClassifierPredictions):
    """One draw, whose probabilities are the shares of the votes; see `TestTimeAugmentation`."""

    def __init__(self, vote: Callable[[Any], MultiViewVote], classes: np.ndarray) -> None:
        self._vote = vote
        self.classes_ = classes

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return reduced(reduction, of_probabilities(_shares(self._vote(X))), aligned)


def _shares(vote: MultiViewVote) -> np.ndarray:
    """Weights that sum to one; the winner of a tie has a little more, so that it is the largest."""
    shares = vote.weights / vote.weights.sum(axis=1, keepdims=True)
    shares[np.arange(len(shares)), np.searchsorted(vote.classes, vote.predicted)] += _TIE
    return shares / shares.sum(axis=1, keepdims=True)


class MixedTargets(RegressorPredictions):
    """For every draw the mixture of the distributions that its views predict."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._target_shape = evaluation.target_shape

    def _reduce(self, X: Any, reduction: Callable[..., Any], *aligned: np.ndarray) -> Any:
        return self._evaluation.fold(X, TargetMixture, reduction, *aligned)

    def predict_uncertainty(self, X: Any, kind: str = "total") -> Any:
        if kind != "nested":
            return super().predict_uncertainty(X, kind)
        return NestedUncertainty(*map(self._like_target, self._reduce(X, nested_of_targets)))

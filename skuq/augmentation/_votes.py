"""Votes of several views of a row, weighted by how sure each view is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skuq._utils._typing import ArrayLike

__all__ = ["RULES", "MultiViewVote", "VoteThreshold", "multi_view_vote", "vote_threshold"]

RULES = ("mode", "confidence", "confidence_hard", "certainty", "certainty_hard")


class MultiViewVote(NamedTuple):
    """The result of `multi_view_vote`.

    Attributes
    ----------
    predicted : ndarray of shape (n_samples,)
        The class with the largest weight.
    weights : ndarray of shape (n_samples, n_classes)
        The sum of the weights of the views that vote for each class; columns as in `classes`.
    abstained : ndarray of shape (n_samples,), of bool
        Samples for which every view had weight 0. There the mode decides, and `weights` are the
        numbers of votes.
    classes : ndarray of shape (n_classes,)
        Labels of the classes, in the order of the columns.
    """

    predicted: Any
    weights: np.ndarray
    abstained: Any
    classes: np.ndarray


class VoteThreshold(NamedTuple):
    """The result of `vote_threshold`.

    Attributes
    ----------
    threshold : float
        Confidence below which a view abstains.
    accuracy : float
        Accuracy of the hard vote with this threshold, on the samples that tuned it.
    """

    threshold: float
    accuracy: float


def multi_view_vote(
    labels: ArrayLike,
    confidence: ArrayLike | None = None,
    certainty: ArrayLike | None = None,
    rule: str = "mode",
    threshold: float | None = None,
    classes: ArrayLike | None = None,
) -> MultiViewVote:
    """Let the views of each sample vote for a class [1]_.

    The vote of view a counts w_a, and the class with the largest Σ_a w_a wins. Ties go to the
    class whose views have the highest summed confidence (if it is given), then to the first class.

    Parameters
    ----------
    labels : array-like of shape (n_views, n_samples), or (n_views,) for one sample
        The label that each view predicts.
    confidence : array-like of the shape of `labels`, default=None
        The largest probability of each view, in [0, 1].
    certainty : array-like of the shape of `labels`, default=None
        How little noise each view sees, at least 0: 1/(1 + σ²) of the `UncertaintyAware`
        likelihood.
    rule : {"mode", "confidence", "confidence_hard", "certainty", "certainty_hard"}, default="mode"
        The weight w_a of a vote: 1; the confidence; 1 if the confidence is at least `threshold`,
        else 0; the certainty; 1 if the certainty is at least `threshold`, else 0.
    threshold : float, default=None
        Threshold of the two hard rules, which need it; `vote_threshold` finds one.
    classes : array-like of shape (n_classes,), default=None
        All labels, in increasing order; None takes the labels in `labels`.

    Returns
    -------
    MultiViewVote
        The decisions and the weights; for one sample without the axis of samples.

    Raises
    ------
    ValueError
        If the input that a rule needs is missing, shapes differ, or values are not finite or out
        of range.

    References
    ----------
    .. [1] A. Kornaev, E. Kornaeva, O. Ivanov, I. Pershin, D. Alukaev, "Awareness of uncertainty in
       classification using a multivariate model and multi-views", 2024, arXiv:2404.10314.

    Examples
    --------
    >>> from skuq.augmentation import multi_view_vote
    >>> vote = multi_view_vote([7, 4, 4], confidence=[0.9, 0.4, 0.3], rule="confidence")
    >>> int(vote.predicted), vote.classes, vote.weights
    (7, array([4, 7]), array([0.7, 0.9]))
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(map(repr, RULES))}, got {rule!r}")
    labels = _views(labels, "labels")
    single = labels.ndim == 1
    scores = {
        "confidence": _scores(confidence, "confidence", labels, highest=1.0),
        "certainty": _scores(certainty, "certainty", labels, highest=np.inf),
    }
    kind = rule.removesuffix("_hard")
    if kind != "mode" and scores[kind] is None:
        raise ValueError(f"rule={rule!r} needs {kind}, got None: give it for every view")
    if rule.endswith("_hard") and threshold is None:
        raise ValueError(f"rule={rule!r} needs a threshold, got None: see vote_threshold")
    if threshold is not None and not np.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, got {threshold!r}")
    known = _known_classes(labels, classes)
    index = np.searchsorted(known, labels).reshape(len(labels), -1)
    score = scores.get(kind)  # None for the mode
    weight = np.ones(index.shape) if score is None else score.reshape(index.shape)
    if rule.endswith("_hard") and threshold is not None:
        weight = np.where(weight >= threshold, 1.0, 0.0)
    chosen, sums, abstained = _decide(index, weight, scores["confidence"], len(known))
    if single:
        return MultiViewVote(known[chosen[0]], sums[0], bool(abstained[0]), known)
    return MultiViewVote(known[chosen], sums, abstained, known)


def _views(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"{name} must have shape (n_views, n_samples) or (n_views,), got {array.shape}"
        )
    return array


def _scores(values: Any, name: str, labels: np.ndarray, highest: float) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values, dtype=float)
    if array.shape != labels.shape:
        raise ValueError(f"{name} must have the shape of labels, {labels.shape}, got {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any() or (array > highest + 1e-6).any():
        end = "" if highest == np.inf else f" and at most {highest:g}"
        raise ValueError(f"{name} must be finite, at least 0{end}, got other values")
    return array


def _known_classes(labels: np.ndarray, classes: Any) -> np.ndarray:
    if classes is None:
        return np.unique(labels)
    known = np.asarray(classes)
    if known.ndim != 1 or not np.array_equal(known, np.unique(known)):
        raise ValueError(f"classes must be different labels in increasing order, got {classes!r}")
    unknown = np.setdiff1d(labels, known)
    if len(unknown):
        raise ValueError(f"labels contains {unknown[:5]}, which are not in classes, {known}")
    return known


def _sums(index: np.ndarray, weight: np.ndarray, n_classes: int) -> np.ndarray:
    """Sum weights (n_views, n_samples) by class."""
    rows, sums = np.arange(index.shape[1]), np.zeros((index.shape[1], n_classes))
    for view, own in zip(index, weight):
        sums[rows, view] += own
    return sums


def _winners(sums: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """Choose the largest sum; ties go to the largest sum of confidences, then to the first."""
    tied = sums == sums.max(axis=1, keepdims=True)
    winners: np.ndarray = np.where(tied, confidences, -np.inf).argmax(axis=1)
    return winners


def _decide(
    index: np.ndarray, weight: np.ndarray, confidence: np.ndarray | None, n_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sums = _sums(index, weight, n_classes)
    abstained = sums.max(axis=1) == 0
    if abstained.any():
        counts = _sums(index[:, abstained], np.ones((len(index), abstained.sum())), n_classes)
        sums[abstained] = counts
    confidences = np.zeros_like(sums)
    if confidence is not None:
        confidences = _sums(index, confidence.reshape(index.shape), n_classes)
    return _winners(sums, confidences), sums, abstained


def vote_threshold(
    labels: ArrayLike,
    scores: ArrayLike,
    y_true: ArrayLike,
    confidence: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    classes: ArrayLike | None = None,
) -> VoteThreshold:
    """Find the threshold for which a hard vote is right most often.

    The result is exact: the accuracy changes only at values of `scores`, and all of them are tried.
    Among equally good thresholds it is the lowest, at which most views vote, halfway down to the
    next value (0 if all views vote).

    Parameters
    ----------
    labels : array-like of shape (n_views, n_samples)
        The label that each view predicts.
    scores : array-like of shape (n_views, n_samples)
        Confidences or certainties: a vote counts if its score is at least the threshold.
    y_true : array-like of shape (n_samples,)
        Labels of samples that the model was not fitted on.
    confidence : array-like of shape (n_views, n_samples), default=None
        Confidences that break ties, as in `multi_view_vote`; None takes `scores`.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.
    classes : array-like of shape (n_classes,), default=None
        All labels, in increasing order; they must include `y_true`. None takes the labels in
        `labels` and `y_true`, which must then have at least one in common.

    Returns
    -------
    VoteThreshold
        The threshold, and the accuracy that it gives on these samples.

    Raises
    ------
    ValueError
        If shapes differ, values are out of range, weights are negative or all zero, or no view can
        vote for the labels in `y_true`.

    Examples
    --------
    >>> from skuq.augmentation import vote_threshold
    >>> labels, scores = [[0, 1], [1, 0], [1, 0]], [[0.9, 0.8], [0.4, 0.3], [0.4, 0.2]]
    >>> best = vote_threshold(labels, scores, [0, 1])
    >>> round(best.threshold, 3), best.accuracy
    (0.6, 1.0)
    """
    labels, truth = _views(labels, "labels"), np.asarray(y_true)
    if labels.ndim != 2 or truth.shape != labels.shape[1:]:
        raise ValueError(
            "labels must have shape (n_views, n_samples) and y_true (n_samples,), got "
            f"{labels.shape} and {truth.shape}"
        )
    if scores is None:
        raise ValueError("scores must be given, of the shape of labels, got None")
    voted = np.unique(labels) if classes is None else _known_classes(labels, classes)
    known = np.isin(truth, voted)
    if not known.any() or (classes is not None and not known.all()):
        raise ValueError(
            f"y_true contains {np.unique(truth[~known])[:5]}, which no view votes for; the labels "
            f"are {voted}. If there are more, give classes"
        )
    score = _scores(scores, "scores", labels, highest=np.inf)
    ties = score if confidence is None else _scores(confidence, "confidence", labels, 1.0)
    weight = np.ones(len(truth)) if sample_weight is None else np.asarray(sample_weight, float)
    if weight.shape != truth.shape or not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(
            f"sample_weight must be finite, at least 0, of shape {truth.shape}, got {weight.shape}"
        )
    if not weight.any():
        raise ValueError("sample_weight is zero for every sample")
    values, accuracy = _accuracies(labels, score, truth, ties, weight)  # type: ignore[arg-type]
    best = int(np.flatnonzero(accuracy == accuracy.max())[-1])  # the lowest: values decrease
    if best == len(values) - 1:
        return VoteThreshold(0.0, float(accuracy[best]))
    middle = (values[best] + values[best + 1]) / 2
    threshold = middle if middle > values[best + 1] else values[best]
    return VoteThreshold(float(threshold), float(accuracy[best]))


def _accuracies(
    labels: np.ndarray,
    score: np.ndarray,
    truth: np.ndarray,
    ties: np.ndarray,
    weight: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct scores, decreasing, and the accuracy with each as the threshold.

    The decision for a sample changes only when one of its own views begins to vote. So views are
    added one by one, the surest first, and each change of accuracy is noted at the view's score.
    """
    known = np.unique(labels)
    index, n_classes = np.searchsorted(known, labels), len(known)
    confidences = _sums(index, ties, n_classes)

    def right(sums: np.ndarray) -> np.ndarray:
        hits: np.ndarray = weight * (known[_winners(sums, confidences)] == truth)
        return hits

    order = np.argsort(-score, axis=0, kind="stable")
    rows = np.arange(len(truth))
    before = without_votes = right(
        _sums(index, np.ones(index.shape), n_classes)
    )  # the mode decides
    sums = np.zeros((len(truth), n_classes))
    changes = np.empty(score.shape)
    for rank, view in enumerate(order):
        sums[rows, index[view, rows]] += 1
        after = right(sums)
        changes[rank], before = after - before, after
    places = np.take_along_axis(score, order, axis=0).ravel()
    values, inverse = np.unique(-places, return_inverse=True)
    total = without_votes.sum() + np.bincount(inverse, changes.ravel()).cumsum()
    return -values, total / weight.sum()

"""Bagging, voting and stacking: each member is a draw.

A member that knows a distribution of its own, such as a forest or a network of skuq, is one draw:
its probabilities, or a normal distribution of its mean and total variance.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from skuq._composition import predictions, see_through
from skuq._distributions._members import around
from skuq._predict import Predictions
from skuq._sklearn_estimators import has_draws
from skuq._utils._sklearn_compat import _num_samples

__all__ = [
    "bagged_classifiers",
    "bagged_regressors",
    "stacked_classifiers",
    "stacked_regressors",
    "voting_classifiers",
    "voting_regressors",
]

_MOST_COPIES = 1000  # of all members, where weights count


def bagged_classifiers(bag: Any, X: Any) -> np.ndarray:
    """Return the probabilities of each member, which may have seen only some columns or classes."""
    rows = _checked_rows(bag, X)
    members = zip(bag.estimators_, bag.estimators_features_)
    n_classes = len(bag.classes_)
    return np.stack([_probabilities(member, rows[:, some], n_classes) for member, some in members])


def bagged_regressors(bag: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments of each member."""
    rows = _checked_rows(bag, X)
    members = zip(bag.estimators_, bag.estimators_features_)
    return _stacked([_moments(member, rows[:, some]) for member, some in members])


def voting_classifiers(voting: Any, X: Any) -> np.ndarray:
    """Return the probabilities of each member, as often as it counts."""
    if voting.voting != "soft":
        raise TypeError(
            f"VotingClassifier(voting={voting.voting!r}) counts votes and has no probabilities: "
            "set voting='soft'"
        )
    n_classes = len(voting.classes_)
    each = np.stack([_probabilities(member, X, n_classes) for member in voting.estimators_])
    return each[_copies(voting)]


def voting_regressors(voting: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments of each member, as often as it counts."""
    mean, std = _stacked([_moments(member, X) for member in voting.estimators_])
    copies = _copies(voting)
    return mean[copies], std[copies]


def stacked_classifiers(stack: Any, X: Any) -> np.ndarray:
    """Return the probabilities of each member, moved to those of the whole stack."""
    for member in stack.estimators_:
        if not hasattr(member, "predict_proba"):
            raise TypeError(
                f"the members of a StackingClassifier need predict_proba to disagree in, but "
                f"{type(member).__name__} has none"
            )
    each = np.stack([_of_member(member, X, stack.classes_) for member in stack.estimators_])
    moved: np.ndarray = around(each, stack.predict_proba(X))
    return moved


def stacked_regressors(stack: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of the members, moved to that of the whole stack, and its noise.

    The noise is that of the final estimator, if it knows one.
    """
    each = np.stack([np.asarray(member.predict(X), float) for member in stack.estimators_])
    mean, std = _moments(stack.final_estimator_, stack.transform(X))
    mean = mean + each - each.mean(axis=0)
    return mean, np.broadcast_to(std, mean.shape)


def _checked_rows(bag: Any, X: Any) -> Any:
    """Check rows as scikit-learn's bagging does."""
    return validate_data(
        bag, X, accept_sparse=["csr", "csc"], dtype=None, ensure_all_finite=False, reset=False
    )


def _probabilities(member: Any, X: Any, n_classes: int) -> np.ndarray:
    """Return probabilities of all classes; members are trained on the numbers of the classes."""
    if not hasattr(member, "predict_proba"):
        votes: np.ndarray = np.eye(n_classes)[np.asarray(member.predict(X), dtype=int)]
        return votes
    proba = np.asarray(member.predict_proba(X), dtype=float)
    if proba.shape[1] == n_classes:
        return proba
    joined = np.zeros((len(proba), n_classes))
    joined[:, np.asarray(member.classes_, dtype=int)] = proba
    return joined


def _of_member(member: Any, X: Any, classes: np.ndarray) -> np.ndarray:
    """Return probabilities of all classes; a member that knows fewer came fitted, with labels."""
    if len(member.classes_) == len(classes):
        return _probabilities(member, X, len(classes))
    joined = np.zeros((_num_samples(X), len(classes)))
    joined[:, np.searchsorted(classes, member.classes_)] = member.predict_proba(X)
    return joined


def _moments(member: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation; 0 for a member that knows only a mean."""
    leaf, _, _ = see_through(member, X)
    if not (has_draws(leaf) or isinstance(leaf, Predictions) or hasattr(leaf, "_answers")):
        mean = np.asarray(member.predict(X), dtype=float)
        return mean, np.zeros_like(mean)
    asked: Any
    asked, inner = predictions(member, X)
    mean, std = asked.predict(inner, return_std=True)
    return mean, std


def _stacked(moments: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([mean for mean, _ in moments]), np.stack([std for _, std in moments])


def _copies(voting: Any) -> list[int]:
    """List the members, each as often as its weight says."""
    if voting.weights is None:
        return list(range(len(voting.estimators_)))
    given = zip(voting.estimators, voting.weights)
    weights = [float(weight) for (_, member), weight in given if not isinstance(member, str)]
    shares = [Fraction(weight / max(weights)).limit_denominator(_MOST_COPIES) for weight in weights]
    unit = lcm(*(share.denominator for share in shares))
    counts = [int(share * unit) for share in shares]
    exact = np.allclose(counts, unit * np.asarray(weights) / max(weights), rtol=1e-9)
    if not exact or sum(counts) > _MOST_COPIES or min(weights) < 0:
        raise ValueError(
            f"weights={voting.weights} of {type(voting).__name__} are no ratio of small whole "
            "numbers, so members cannot count as often: expected weights such as [2, 1, 1]"
        )
    return [member for member, count in enumerate(counts) for _ in range(count)]

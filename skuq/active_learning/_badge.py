"""BADGE: batches that are diverse in the gradients that they would give."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skuq._utils._typing import MatrixLike, RandomState
from skuq.active_learning._asked import check_fitted, class_probabilities, embedding
from skuq.active_learning._select import checked_size

__all__ = ["badge"]


def badge(
    estimator: Any,
    X: MatrixLike,
    n: int,
    *,
    layer: str | None = None,
    random_state: RandomState = None,
) -> np.ndarray:
    """Choose rows whose gradients are long and point in different directions [1]_.

    The gradient of the last layer, for the class that the network predicts, is (p − e_ŷ) ⊗ (f, 1).
    k-means++ draws the batch: each row with a probability proportional to the squared distance of
    its gradient to the next one chosen. No gradient is ever stored: distances of products follow
    from those of their factors.

    Parameters
    ----------
    estimator : fitted classifier
        A classifier of skuq, through Pipelines and calibrators; or any other with `predict_proba`,
        whose features are the columns of X.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.
    n : int
        How many rows to choose. A pool with fewer gives all.
    layer : str, default=None
        The layer whose input is f, as in `skuq.predict_features`.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws, and of the first row if several gradients are the longest.

    Returns
    -------
    ndarray of int of shape (n,)
        Places in the pool, in the order of choice; the first has the longest gradient.

    References
    ----------
    .. [1] J. T. Ash, C. Zhang, A. Krishnamurthy, J. Langford, A. Agarwal, "Deep Batch Active
       Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020, arXiv:1906.03671.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.active_learning import badge
    >>> X, y = load_iris(return_X_y=True)
    >>> len(set(badge(LogisticRegression(max_iter=500).fit(X, y), X, 5, random_state=0)))
    5
    """
    check_fitted(estimator, X)
    proba = class_probabilities(estimator, X, "badge")
    residual = proba.copy()
    residual[np.arange(len(proba)), proba.argmax(axis=1)] -= 1
    features = embedding(estimator, X, layer)
    features = np.column_stack([features, np.ones(len(features))])
    n, random = checked_size(n, len(features)), check_random_state(random_state)
    return seed_products(residual, features, n, random)


def seed_products(left: np.ndarray, right: np.ndarray, n: int, random: Any) -> np.ndarray:
    """Choose n rows by k-means++ among the products left ⊗ right of each row."""
    squares = (left**2).sum(axis=1) * (right**2).sum(axis=1)
    free = np.ones(len(left), dtype=bool)
    distances = np.full(len(left), np.inf)
    chosen = np.empty(n, dtype=np.intp)
    longest = np.flatnonzero(squares == squares.max())
    place = int(longest[0] if len(longest) == 1 else random.choice(longest))
    for k in range(n):
        if k:
            weights = np.where(free, distances, 0.0)
            total = weights.sum()
            if not total > 0:  # only copies of chosen gradients are left
                weights, total = free.astype(float), free.sum()
            place = int(random.choice(len(left), p=weights / total))
        chosen[k], free[place] = place, False
        products = (left @ left[place]) * (right @ right[place])
        apart = np.maximum(squares + squares[place] - 2 * products, 0.0)
        apart[apart < 1e-12 * squares.max()] = 0.0  # rounding of equal gradients
        np.minimum(distances, apart, out=distances)
    return chosen

"""Forests: each tree is a draw.

The spread of the trees is the disagreement of members, not the variance of the forest, which is
that of their mean and shrinks with their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["forest_classifier", "forest_regressor", "tree_regressor"]

_OF_VARIANCE = ("squared_error", "friedman_mse")  # criteria whose impurity is a variance
_ROUNDING = 64 * np.finfo(float).eps  # of E[y²] − E[y]², relative to E[y²]


def forest_classifier(forest: Any, X: Any) -> np.ndarray:
    """Return the probabilities of each tree: the shares of the classes in its leaf."""
    rows = forest._validate_X_predict(X)
    return np.stack([tree.predict_proba(rows, check_input=False) for tree in forest.estimators_])


def forest_regressor(forest: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of y in the leaf of each tree."""
    rows = forest._validate_X_predict(X)
    leaves = [_leaf_moments(tree, rows) for tree in forest.estimators_]
    return np.stack([mean for mean, _ in leaves]), np.stack([std for _, std in leaves])


def tree_regressor(tree: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of y in the leaf, as one draw."""
    mean, std = _leaf_moments(tree, tree._validate_X_predict(X, True))
    return mean[None], std[None]


def _leaf_moments(tree: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return moments of y in the leaf; a std of 0 where the tree does not keep the variance.

    A tree of several targets keeps the mean of their variances only.
    """
    mean = tree.predict(rows, check_input=False)
    if tree.criterion not in _OF_VARIANCE or mean.ndim > 1:
        return mean, np.zeros_like(mean)
    variance = tree.tree_.impurity[tree.apply(rows, check_input=False)]
    variance = np.where(variance > _ROUNDING * (mean**2 + variance.clip(0)), variance, 0.0)
    return mean, np.sqrt(variance)

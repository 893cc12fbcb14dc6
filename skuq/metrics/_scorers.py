"""Scorers: plain callables ``scorer(estimator, X, y)``, greater is better.

They work wherever scikit-learn takes ``scoring=``, on stock Pipelines and searches, too.
"""

from __future__ import annotations

from typing import Any

from skuq.metrics._calibration import expected_calibration_error

__all__ = ["ece_scorer"]


def ece_scorer(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Negated `expected_calibration_error` (15 uniform bins, top label): greater is better.

    Parameters
    ----------
    estimator : fitted classifier with `predict_proba` and `classes_`
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    float in [-1, 0]

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_validate
    >>> from skuq.metrics import ece_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> scores = cross_validate(LogisticRegression(max_iter=500), X, y, scoring=ece_scorer)
    >>> bool((scores["test_score"] <= 0).all())
    True
    """
    proba = estimator.predict_proba(X)
    error = expected_calibration_error(
        y, proba, labels=estimator.classes_, sample_weight=sample_weight
    )
    return -error

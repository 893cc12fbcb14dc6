"""Scores from predictions: how unsure an estimator is, and how much its draws disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr
from sklearn.utils import check_random_state

from skuq._utils._typing import MatrixLike, RandomState
from skuq.active_learning._asked import (
    check_fitted,
    class_probabilities,
    count_rows,
    draws_of,
    knows_uncertainty,
    needs_classifier,
    needs_regressor,
    one_per_row,
)
from skuq.pipeline import predict_uncertainty

__all__ = [
    "bald",
    "entropy",
    "least_confidence",
    "margin",
    "mean_std",
    "random_scores",
    "variance",
    "variation_ratio",
]


def random_scores(estimator: Any, X: MatrixLike, *, random_state: RandomState = None) -> np.ndarray:
    """Draw a score for each row, uniform in [0, 1): what any other query must beat.

    Parameters
    ----------
    estimator : object
        Nothing is asked of it; it may be None.
    X : array-like of shape (n_pool, ...)
        The pool.
    random_state : int, RandomState instance or None, default=None
        Seed of the scores.

    Returns
    -------
    ndarray of shape (n_pool,)
        One random number for each row.
    """
    scores: np.ndarray = check_random_state(random_state).random_sample(count_rows(X))
    return scores


def _measured(estimator: Any, X: Any, measure: str, query: str) -> np.ndarray:
    """Measure total uncertainty: the sum over several labels, the mean over pixels."""
    check_fitted(estimator, X)
    needs_classifier(estimator, query)
    if knows_uncertainty(estimator):
        found = predict_uncertainty(estimator, X, kind="total", measure=measure)
        return one_per_row(found, add=np.ndim(found) == 2)
    proba = class_probabilities(estimator, X, query)
    if measure == "entropy":
        return np.asarray(entr(proba).sum(axis=1))
    largest = np.sort(proba, axis=1)[:, ::-1]
    if measure == "margin":
        second = largest[:, 1] if proba.shape[1] > 1 else 0.0
        return np.asarray(1.0 - (largest[:, 0] - second))
    return np.asarray(1.0 - largest[:, 0])


def entropy(estimator: Any, X: MatrixLike) -> np.ndarray:
    """Score rows by the entropy −Σ_k p_k log p_k of their predicted class [1]_.

    Parameters
    ----------
    estimator : fitted classifier
        Any classifier with `predict_proba`.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.

    Returns
    -------
    ndarray of shape (n_pool,)
        Nats; higher is better to label. The sum over several labels, the mean over pixels.

    References
    ----------
    .. [1] B. Settles, "Active Learning Literature Survey", University of Wisconsin–Madison,
       Computer Sciences Technical Report 1648, 2009.
    """
    return _measured(estimator, X, "entropy", "entropy")


def margin(estimator: Any, X: MatrixLike) -> np.ndarray:
    """Score rows by 1 − (p₁ − p₂), where p₁ and p₂ are the two largest probabilities [1]_.

    Parameters
    ----------
    estimator : fitted classifier
        Any classifier with `predict_proba`.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.

    Returns
    -------
    ndarray of shape (n_pool,)
        Numbers in [0, 1]; higher is better to label. The sum over several labels, the mean over
        pixels.

    References
    ----------
    .. [1] T. Scheffer, C. Decomain, S. Wrobel, "Active Hidden Markov Models for Information
       Extraction", IDA 2001, doi:10.1007/3-540-44816-0_31.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.active_learning import margin
    >>> X, y = load_iris(return_X_y=True)
    >>> scores = margin(LogisticRegression(max_iter=500).fit(X, y), X)
    >>> bool(scores[y == 0].max() < scores.max())  # setosa, class 0, is easy
    True
    """
    return _measured(estimator, X, "margin", "margin")


def least_confidence(estimator: Any, X: MatrixLike) -> np.ndarray:
    """Score rows by 1 − max_k p_k.

    Parameters
    ----------
    estimator : fitted classifier
        Any classifier with `predict_proba`.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.

    Returns
    -------
    ndarray of shape (n_pool,)
        Numbers in [0, 1]; higher is better to label. The sum over several labels, the mean over
        pixels.
    """
    return _measured(estimator, X, "least_confidence", "least_confidence")


def variation_ratio(estimator: Any, X: MatrixLike) -> np.ndarray:
    """Score rows by the share of draws that do not vote for the most frequent class [1]_.

    Parameters
    ----------
    estimator : fitted classifier
        A classifier with several draws: of skuq, or an ensemble that `skuq.predict_draws` knows.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.

    Returns
    -------
    ndarray of shape (n_pool,)
        Numbers in [0, 1]; higher is better to label. Zero everywhere if there is one draw.

    References
    ----------
    .. [1] Y. Gal, R. Islam, Z. Ghahramani, "Deep Bayesian Active Learning with Image Data",
       ICML 2017, arXiv:1703.02910.
    """
    check_fitted(estimator, X)
    needs_classifier(estimator, "variation_ratio")
    found = predict_uncertainty(estimator, X, kind="total", measure="variation_ratio")
    return one_per_row(found, add=np.ndim(found) == 2)


def bald(estimator: Any, X: MatrixLike) -> np.ndarray:
    """Score rows by the mutual information of their label and the parameters [1]_.

    It is H(mean p) − mean H(p) over the draws: high where each draw is sure and they disagree.

    Parameters
    ----------
    estimator : fitted classifier
        A classifier with several draws: of skuq, or an ensemble that `skuq.predict_draws` knows.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.

    Returns
    -------
    ndarray of shape (n_pool,)
        Nats; higher is better to label. Zero everywhere if there is one draw.

    References
    ----------
    .. [1] N. Houlsby, F. Huszár, Z. Ghahramani, M. Lengyel, "Bayesian Active Learning for
       Classification and Preference Learning", 2011, arXiv:1112.5745.
    """
    check_fitted(estimator, X)
    needs_classifier(estimator, "bald")
    found = predict_uncertainty(estimator, X, kind="epistemic")
    return one_per_row(found, add=np.ndim(found) == 2)


def mean_std(estimator: Any, X: MatrixLike) -> np.ndarray:
    """Score rows by the standard deviation of the draws, a mean over classes or targets [1]_.

    Parameters
    ----------
    estimator : fitted classifier or regressor
        One with several draws: of skuq, or an ensemble that `skuq.predict_draws` knows.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.

    Returns
    -------
    ndarray of shape (n_pool,)
        Probabilities, or units of y; higher is better to label.

    Raises
    ------
    ValueError
        If there is one draw.

    References
    ----------
    .. [1] Y. Gal, R. Islam, Z. Ghahramani, "Deep Bayesian Active Learning with Image Data",
       ICML 2017, arXiv:1703.02910.
    """
    check_fitted(estimator, X)
    return one_per_row(draws_of(estimator, X, "mean_std").std(axis=0))


def variance(estimator: Any, X: MatrixLike, kind: str = "total") -> np.ndarray:
    """Score rows by the variance that a regressor predicts.

    Parameters
    ----------
    estimator : fitted regressor
        A regressor of skuq, or one that `skuq.predict_uncertainty` knows: an ensemble such as a
        forest, or a regressor whose `predict` takes ``return_std=True``.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.
    kind : {"total", "aleatoric", "epistemic"}, default="total"
        The part of the variance.

    Returns
    -------
    ndarray of shape (n_pool,)
        Squared units of y; higher is better to label. The sum over several targets.
    """
    check_fitted(estimator, X)
    needs_regressor(estimator, "variance")
    if kind not in ("total", "aleatoric", "epistemic"):
        raise ValueError(f"kind must be 'total', 'aleatoric' or 'epistemic', got {kind!r}")
    return one_per_row(predict_uncertainty(estimator, X, kind=kind), add=True)

"""Expected gradient length and expected model change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from torch import Tensor
from torch.distributions import Distribution

from skuq._composition import see_through
from skuq._features import map_features
from skuq._utils._typing import MatrixLike
from skuq.active_learning._asked import (
    check_fitted,
    class_probabilities,
    dense_rows,
    draws_of,
    has_network,
    needs_regressor,
)
from skuq.active_learning._closed_forms import model_change, sigmoid_length, softmax_length
from skuq.active_learning._network import map_with_lengths, network_of, squared_gradients

__all__ = ["expected_gradient_length", "expected_model_change"]


def expected_gradient_length(
    estimator: Any, X: MatrixLike, *, scope: str = "last", power: int | None = None
) -> np.ndarray:
    """Score rows by the expected length of the gradient that their label would give.

    A classifier has the score Σ_k p_k ‖∇ℓ(x, k)‖^power [1]_. With ``scope="last"`` it is
    ‖(f, 1)‖^power Σ_k p_k ‖p − e_k‖^power, where f enters the last layer. With ``power=2`` it is
    the trace of the Fisher information of the row.

    A regressor has the score ‖∇f‖² · mean_k[σ_k² + (μ_k − f)²] over its draws k [2]_, the expected
    squared gradient of ½(y − f)² if y comes from the predictive distribution. Since f = mean μ_k,
    this is the squared length of ∇f times the total variance of `skuq.predict_uncertainty`:
    expected gradient length and Bayesian uncertainty are two sides of one coin.

    Parameters
    ----------
    estimator : fitted classifier or regressor
        A skuq estimator; a Pipeline, search or calibrator around one (the calibration is not
        applied); or a linear model of scikit-learn that is a classifier, which is its own last
        layer.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.
    scope : {"last", "all"}, default="last"
        The parameters whose gradient counts: those of the last `torch.nn.Linear`, in closed form,
        or all, by a backward pass for each class of each row.
    power : {1, 2}, default=None
        Power of the length. None is 1 for classifiers, and 2, the only one, for regressors.

    Returns
    -------
    ndarray of shape (n_pool,)
        Higher is better to label. Lengths of several networks are averaged, and so are those of
        all draws with ``scope="last"``.

    Raises
    ------
    ValueError
        If the network does not end in a linear layer and ``scope="last"``, if there are several
        labels for each row, or if `power` is 1 and the estimator a regressor.

    Notes
    -----
    The length of a gradient grows with the length of f. So rows that are far from the others look
    worth a label even where the network is sure. Scale the columns of X.

    References
    ----------
    .. [1] B. Settles, M. Craven, "An Analysis of Active Learning Strategies for Sequence Labeling
       Tasks", EMNLP 2008.
    .. [2] M. Shukla, "Bayesian Uncertainty and Expected Gradient Length - Regression: Two Sides Of
       The Same Coin?", WACV 2022, arXiv:2104.09493.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.active_learning import expected_gradient_length
    >>> X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, 0, 1, 1]
    >>> scores = expected_gradient_length(LogisticRegression().fit(X, y), [[0.0], [9.0]])
    >>> bool(scores[0] > scores[1])
    True
    """
    check_fitted(estimator, X)
    if scope not in ("last", "all"):
        raise ValueError(f"scope must be 'last' or 'all', got {scope!r}")
    if power not in (None, 1, 2):
        raise ValueError(f"power must be 1, 2 or None, got {power!r}")
    if not has_network(estimator):
        return _of_linear_model(estimator, X, scope, power or 1)
    leaf, rows = network_of(estimator, X, "expected_gradient_length")
    if leaf._is_dense:
        raise TypeError(
            f"expected_gradient_length needs one label for each row, and {type(leaf).__name__} "
            "answers for pixels. egl_plus_plus is for maps of numbers"
        )
    if leaf._task == "regression":
        if power == 1:
            raise ValueError(
                "power=1 has no closed form for a regressor; expected power=2, or "
                "expected_model_change, which is without noise"
            )
        return _of_regressor(leaf, rows, scope)
    return _of_classifier(leaf, rows, scope, power or 1)


def _of_classifier(leaf: Any, rows: Any, scope: str, power: int) -> np.ndarray:
    one_logit = leaf.network_.n_outputs == 1

    def score(predictive: Distribution, squared: Tensor) -> Tensor:
        proba = predictive.mean_probs  # type: ignore[attr-defined]
        _check_one_label(proba.ndim)
        p = proba.cpu().numpy()
        found = sigmoid_length(p[:, 1], power) if one_logit else softmax_length(p, power)
        lengths = squared if power == 2 else squared.sqrt()
        return torch.from_numpy(found).to(squared.device) * lengths.mean(0)

    if scope == "last":
        return map_with_lengths(leaf, rows, score, "expected_gradient_length")
    proba = np.asarray(leaf.predict_proba(rows), dtype=float)
    if np.abs(proba.sum(axis=1) - 1).max() > 1e-3:
        _check_one_label(3)
    gradients = squared_gradients(leaf, rows, np.eye(proba.shape[1]))
    return np.asarray((proba * gradients ** (power / 2)).sum(axis=1))


def _check_one_label(n_axes: int) -> None:
    if n_axes > 2:
        raise ValueError(
            "expected_gradient_length needs one label for each row, and this classifier predicts "
            "several; entropy and bald take them"
        )


def _of_regressor(leaf: Any, rows: Any, scope: str) -> np.ndarray:
    if scope == "last":

        def score(predictive: Distribution, squared: Tensor) -> Tensor:
            means, variances = predictive.mean, predictive.variance
            expected = (variances + (means - means.mean(0)) ** 2).mean(0)
            return squared.mean(0) * expected.flatten(1).sum(1)

        return map_with_lengths(leaf, rows, score, "expected_gradient_length")
    parts = np.asarray(leaf.predict_uncertainty(rows), dtype=float)
    parts = parts.reshape(len(parts), -1)
    gradients = squared_gradients(leaf, rows, np.eye(parts.shape[1]))
    return np.asarray((gradients * parts).sum(axis=1))


def _of_linear_model(estimator: Any, X: Any, scope: str, power: int) -> np.ndarray:
    """Compute the score of scikit-learn's linear classifiers, whose features are the columns."""
    leaf, _, _ = see_through(estimator, X)
    if not hasattr(leaf, "coef_") or not hasattr(leaf, "classes_"):
        others = "entropy and margin take any classifier"
        if not is_classifier(leaf):
            others = "variance takes any regressor that knows one, and core_set any"
        raise TypeError(
            "expected_gradient_length needs a network or a linear classifier, got "
            f"{type(leaf).__name__}; {others}"
        )
    if hasattr(leaf, "support_vectors_") and len(leaf.classes_) > 2:
        raise TypeError(
            f"expected_gradient_length needs a last layer with a row for each class, and "
            f"{type(leaf).__name__} has one for each pair of classes; entropy and margin take it"
        )
    proba = class_probabilities(estimator, X, "expected_gradient_length")
    rows = dense_rows(estimator, X)
    bias = float(np.any(leaf.intercept_) or getattr(leaf, "fit_intercept", True))
    lengths = ((rows**2).sum(axis=1) + bias) ** (power / 2)
    if len(leaf.coef_) == 1:
        return np.asarray(sigmoid_length(proba[:, 1], power) * lengths)
    return np.asarray(softmax_length(proba, power) * lengths)


def expected_model_change(estimator: Any, X: MatrixLike, *, layer: str | None = None) -> np.ndarray:
    """Score rows by mean_k ‖f − f_k‖ · ‖(φ, 1)‖, over the draws f_k of a regressor [1]_.

    It is the expected length of the gradient in the last layer if the draws, without noise, are the
    labels that are possible.

    Parameters
    ----------
    estimator : fitted regressor
        A regressor with several draws. φ enters the last layer of the network; without a network,
        as in an ensemble of scikit-learn, it is the row itself.
    X : array-like of shape (n_pool, ...)
        The pool, in any form that the estimator predicts.
    layer : str, default=None
        The layer whose input is φ, as in `skuq.predict_features`.

    Returns
    -------
    ndarray of shape (n_pool,)
        Higher is better to label; φ of an ensemble has a mean length.

    Raises
    ------
    ValueError
        If there is one draw.

    References
    ----------
    .. [1] W. Cai, Y. Zhang, J. Zhou, "Maximizing Expected Model Change for Active Learning in
       Regression", ICDM 2013, doi:10.1109/ICDM.2013.104.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq import TorchRegressor
    >>> from skuq.active_learning import expected_model_change
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = TorchRegressor(max_epochs=3, random_state=0).fit(X[:50], y[:50])
    >>> expected_model_change(regressor, X[50:]).shape
    (392,)
    """
    check_fitted(estimator, X)
    needs_regressor(estimator, "expected_model_change")
    draws = draws_of(estimator, X, "expected_model_change")
    if has_network(estimator):
        lengths = map_features(
            estimator, X, lambda f: ((f**2).sum(2) + 1).sqrt().mean(0), layer=layer
        )
    else:
        lengths = np.sqrt((dense_rows(estimator, X) ** 2).sum(axis=1) + 1)
    return model_change(lengths, draws)

"""Expected gradient lengths in closed form, from probabilities, moments and feature lengths."""

from __future__ import annotations

import numpy as np

__all__ = ["bayesian_length", "model_change", "sigmoid_length", "softmax_length"]


def softmax_length(proba: np.ndarray, power: int) -> np.ndarray:
    """Compute Σ_k p_k ‖p − e_k‖^power, the expected length of the gradient in the logits.

    Since ‖p − e_k‖² = Σ_j p_j² − 2 p_k + 1, it is 1 − Σ_j p_j² for power 2.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.
    power : {1, 2}
        The power of the length.
    """
    square = np.einsum("ij,ij->i", proba, proba)
    if power == 2:
        return np.asarray(np.maximum(1.0 - square, 0.0))
    lengths = -2.0 * proba  # one array, whose layout is that of the probabilities
    lengths += square[:, None] + 1.0
    np.sqrt(np.maximum(lengths, 0.0, out=lengths), out=lengths)
    return np.asarray(np.einsum("ij,ij->i", proba, lengths))


def sigmoid_length(proba: np.ndarray, power: int) -> np.ndarray:
    """Compute the same for one logit, p(1 − p)^power + (1 − p) p^power: 2p(1 − p), or p(1 − p).

    Parameters
    ----------
    proba : ndarray of shape (n_samples,)
        Probabilities of the second class.
    power : {1, 2}
        The power of the length.
    """
    return np.asarray(proba * (1 - proba) * (2 if power == 1 else 1))


def bayesian_length(
    squared_gradient: np.ndarray,
    means: np.ndarray,
    variances: np.ndarray | float,
    prediction: np.ndarray | None = None,
) -> np.ndarray:
    """Compute ‖∇f‖² · mean_k[σ_k² + (μ_k − f)²], the expected ‖∇ ½(y − f)²‖² for y ~ N(μ_k, σ_k²).

    For f = mean_k μ_k it is ‖∇f‖² times the total variance. Several targets are added.

    Parameters
    ----------
    squared_gradient : ndarray of shape (n_samples,) or (n_samples, n_targets)
        ‖∇f‖² with respect to the parameters.
    means, variances : ndarray of shape (n_draws, n_samples) or (n_draws, n_samples, n_targets)
        Moments of the draws; variances of 0 leave only how much draws disagree.
    prediction : ndarray of shape (n_samples,) or (n_samples, n_targets), default=None
        The prediction f of the network that learns; None takes the mean of the draws.
    """
    f = means.mean(axis=0) if prediction is None else prediction
    expected = (variances + (means - f) ** 2).mean(axis=0)
    if expected.ndim > 1 and squared_gradient.ndim == 1:
        squared_gradient = squared_gradient[:, None]
    score = squared_gradient * expected
    return np.asarray(score if score.ndim == 1 else score.sum(axis=1))


def model_change(
    lengths: np.ndarray, draws: np.ndarray, prediction: np.ndarray | None = None
) -> np.ndarray:
    """Compute mean_k ‖(f − f_k)‖ · ‖φ‖, the expected model change of Cai et al.

    Parameters
    ----------
    lengths : ndarray of shape (n_samples,)
        ‖φ‖ of each row.
    draws : ndarray of shape (n_draws, n_samples) or (n_draws, n_samples, n_targets)
        Predictions f_k of the members.
    prediction : ndarray of shape (n_samples,) or (n_samples, n_targets), default=None
        The prediction f of the network that learns; None takes the mean of the members.
    """
    change = draws - (draws.mean(axis=0) if prediction is None else prediction)
    change = np.abs(change) if change.ndim == 2 else np.linalg.norm(change, axis=2)
    return np.asarray(change.mean(axis=0) * lengths)

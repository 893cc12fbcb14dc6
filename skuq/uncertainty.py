"""Measures of uncertainty and their decompositions: pure functions of arrays.

Every function takes NumPy arrays or torch tensors and returns the same kind in float64 (a tensor
stays on its device and is differentiable). Probabilities of draws have shape (n_draws, n_samples,
n_classes), mean probabilities (n_samples, n_classes); further axes (height, width) may follow the
classes. Entropies are in nats. Higher is always more uncertain.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._probabilities import checked_probabilities, checked_tensor
from skuq._distributions._softmax import mean_of_draws
from skuq._utils._typing import ArrayLike

__all__ = [
    "Uncertainty",
    "entropy",
    "entropy_decomposition",
    "expected_entropy",
    "least_confidence",
    "margin",
    "moment_decomposition",
    "mutual_information",
    "variance_decomposition",
    "variation_ratio",
]

_SMALLEST = torch.finfo(torch.float64).tiny


class Uncertainty(NamedTuple):
    """Total uncertainty and its two parts; ``total = aleatoric + epistemic``.

    Attributes
    ----------
    total : array
        The whole uncertainty, the sum of the two parts.
    aleatoric : array
        Noise in the data: it stays even if the true function is known.
    epistemic : array
        Ignorance of the function: the disagreement of the draws. More data can reduce it.
    """

    total: Any
    aleatoric: Any
    epistemic: Any


# ---------------------------------------------------------------------------------------------
# Input


class _OfMean(Protocol):
    """A measure of mean probabilities."""

    @overload
    def __call__(self, proba: Tensor) -> Tensor: ...

    @overload
    def __call__(self, proba: ArrayLike) -> np.ndarray: ...


class _OfDraws(Protocol):
    """A measure of the probabilities of draws."""

    @overload
    def __call__(self, draws: Tensor) -> Tensor: ...

    @overload
    def __call__(self, draws: ArrayLike) -> np.ndarray: ...


class _Decomposition(Protocol):
    def __call__(self, draws: ArrayLike | Tensor) -> Uncertainty: ...


def _of_mean(function: Callable[[Tensor], Tensor]) -> _OfMean:
    @functools.wraps(function)
    def checked(proba: Any) -> Any:
        return _like_input(function(checked_probabilities(proba, "proba", 2)), proba)

    return checked


def _of_draws(function: Callable[[Tensor], Tensor]) -> _OfDraws:
    @functools.wraps(function)
    def checked(draws: Any) -> Any:
        return _like_input(function(checked_probabilities(draws, "draws", 3)), draws)

    return checked


def _decomposition(function: Callable[[Tensor], Uncertainty]) -> _Decomposition:
    @functools.wraps(function)
    def checked(draws: Any) -> Any:
        parts = function(checked_probabilities(draws, "draws", 3))
        return Uncertainty(*(_like_input(part, draws) for part in parts))

    return checked


def _like_input(result: Tensor, given: Any) -> Any:
    return result if isinstance(given, Tensor) else result.numpy()


# ---------------------------------------------------------------------------------------------
# Measures of mean probabilities


def _log(proba: Tensor) -> Tensor:
    """Compute a logarithm that is finite at zero (`torch.special.xlogy` is far slower)."""
    return proba.clamp(min=_SMALLEST).log()


def _entropy(proba: Tensor, log_proba: Tensor, class_axis: int) -> Tensor:
    return -(proba * log_proba).sum(class_axis)


@_of_mean
def entropy(proba: Tensor) -> Tensor:
    """Compute the Shannon entropy, H = −Σ_k p_k log p_k.

    Parameters
    ----------
    proba : array or Tensor of shape (n_samples, n_classes, ...)
        Probability of each class, for each sample; they sum to 1 over the classes.

    Returns
    -------
    array or Tensor of shape (n_samples, ...)
        Entropy of each sample in nats, between 0 (certain) and log(n_classes).

    Raises
    ------
    ValueError
        If values are not finite, leave [0, 1] or do not sum to 1.
    """
    return _entropy(proba, _log(proba), 1)


@_of_mean
def least_confidence(proba: Tensor) -> Tensor:
    """Compute one minus the largest probability.

    Parameters
    ----------
    proba : array or Tensor of shape (n_samples, n_classes, ...)
        Probability of each class, for each sample; they sum to 1 over the classes.

    Returns
    -------
    array or Tensor of shape (n_samples, ...)
        Value of each sample, between 0 (certain) and 1 − 1/n_classes.
    """
    return _least_confidence(proba)


def _least_confidence(proba: Tensor) -> Tensor:
    return 1 - proba.amax(1)


@_of_mean
def margin(proba: Tensor) -> Tensor:
    """Compute one minus the difference of the two largest probabilities.

    Parameters
    ----------
    proba : array or Tensor of shape (n_samples, n_classes, ...)
        Probability of each class, for each sample; they sum to 1 over the classes.

    Returns
    -------
    array or Tensor of shape (n_samples, ...)
        Value of each sample, between 0 (certain) and 1 (two classes are equally probable).

    Raises
    ------
    ValueError
        If there is only one class.
    """
    return _margin(proba)


def _margin(proba: Tensor) -> Tensor:
    if proba.shape[1] < 2:
        raise ValueError(
            f"margin needs at least 2 classes, got proba of shape {tuple(proba.shape)}"
        )
    first, second = proba.topk(2, dim=1).values.unbind(1)
    return 1 - (first - second)


# ---------------------------------------------------------------------------------------------
# Measures of draws


@_of_draws
def expected_entropy(draws: Tensor) -> Tensor:
    """Compute the mean entropy of the draws, the aleatoric part of the total entropy.

    Parameters
    ----------
    draws : array or Tensor of shape (n_draws, n_samples, n_classes, ...)
        Probability of each class, as each draw of the posterior predicts it; they sum to 1 over the
        classes.

    Returns
    -------
    array or Tensor of shape (n_samples, ...)
        Mean entropy of each sample in nats, between 0 and log(n_classes).
    """
    return mean_of_draws(_entropy(draws, _log(draws), 2))


@_of_draws
def mutual_information(draws: Tensor) -> Tensor:
    """Compute the mutual information of label and draw [1]_.

    It is the epistemic part of the total entropy: the mean over draws of KL(p_m ‖ mean p), between
    0 and min(log n_draws, log n_classes).

    Parameters
    ----------
    draws : array or Tensor of shape (n_draws, n_samples, n_classes, ...)
        Probability of each class, as each draw of the posterior predicts it; they sum to 1 over the
        classes.

    Returns
    -------
    array or Tensor of shape (n_samples, ...)
        Mutual information of each sample in nats; 0 where all draws agree.

    References
    ----------
    .. [1] N. Houlsby et al., "Bayesian Active Learning for Classification and Preference
       Learning", 2011, arXiv:1112.5745.
    """
    parts = _decompose_entropy(_entropy(draws, _log(draws), 2), mean_of_draws(draws))
    epistemic: Tensor = parts.epistemic
    return epistemic


@_decomposition
def entropy_decomposition(draws: Tensor) -> Uncertainty:
    """Split the entropy of the mean: it is expected entropy + mutual information.

    Parameters
    ----------
    draws : array or Tensor of shape (n_draws, n_samples, n_classes, ...)
        Probability of each class, as each draw of the posterior predicts it; they sum to 1 over the
        classes.

    Returns
    -------
    Uncertainty of arrays or Tensors of shape (n_samples, ...)
        Total entropy of each sample, its aleatoric and its epistemic part, in nats.

    Examples
    --------
    Two draws that are certain of different classes disagree; two that both hesitate do not:

    >>> import numpy as np
    >>> from skuq.uncertainty import entropy_decomposition
    >>> draws = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
    >>> parts = entropy_decomposition(draws)
    >>> parts.aleatoric.round(3), parts.epistemic.round(3)
    (array([0.   , 0.693]), array([0.693, 0.   ]))
    """
    return _decompose_entropy(_entropy(draws, _log(draws), 2), mean_of_draws(draws))


def _decompose_entropy(entropies: Tensor, mean: Tensor) -> Uncertainty:
    aleatoric = mean_of_draws(entropies)
    if len(entropies) == 1:  # exactly zero: rounding must not rank the rows
        return Uncertainty(aleatoric, aleatoric, torch.zeros_like(aleatoric))
    epistemic = (_entropy(mean, _log(mean), 1) - aleatoric).clamp(min=0)
    return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


@_decomposition
def variance_decomposition(draws: Tensor) -> Uncertainty:
    """Split the total variance of the one-hot label into its two parts.

    1 − Σ_k p̄_k² = mean(1 − Σ_k p_k²) + Σ_k Var p_k, total = aleatoric + epistemic.

    Parameters
    ----------
    draws : array or Tensor of shape (n_draws, n_samples, n_classes, ...)
        Probability of each class, as each draw of the posterior predicts it; they sum to 1 over the
        classes.

    Returns
    -------
    Uncertainty of arrays or Tensors of shape (n_samples, ...)
        Total variance of each sample, between 0 and 1 − 1/n_classes, its aleatoric and its
        epistemic part.
    """
    return _decompose_variance(draws, mean_of_draws(draws))


def _label_variance(draws: Tensor) -> Tensor:
    """Compute the variance of the one-hot label, for each draw."""
    return (1 - draws.square().sum(2)).clamp(min=0)


def _decompose_variance(draws: Tensor, mean: Tensor) -> Uncertainty:
    aleatoric = mean_of_draws(_label_variance(draws))
    epistemic = _variance(draws, mean).sum(1)
    return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


def _variance(draws: Tensor, mean: Tensor) -> Tensor:
    """Compute the variance over the draws in two passes, faster than torch's own single pass."""
    return mean_of_draws((draws - mean).square())


@_of_draws
def variation_ratio(draws: Tensor) -> Tensor:
    """Compute the share of draws that do not vote for the most frequent class.

    Parameters
    ----------
    draws : array or Tensor of shape (n_draws, n_samples, n_classes, ...)
        Probability of each class, as each draw of the posterior predicts it; they sum to 1 over the
        classes.

    Returns
    -------
    array or Tensor of shape (n_samples, ...)
        Share for each sample, between 0 (all draws agree) and 1 − 1/min(n_draws, n_classes).
    """
    return _variation_ratio(draws)


def _variation_ratio(draws: Tensor) -> Tensor:
    draws = draws.detach()
    votes = torch.eq(draws, draws.amax(2, keepdim=True), out=torch.empty_like(draws))
    # Indices take several times as long, but checking for ties would make a GPU wait.
    if draws.is_cuda or float(votes.sum()) > votes[:, :, 0].numel():
        first = draws.max(2, keepdim=True).indices
        votes = torch.zeros_like(draws).scatter_(2, first, 1.0)
    return 1 - mean_of_draws(votes).amax(1)


def moment_decomposition(mean: ArrayLike | Tensor, variance: ArrayLike | Tensor) -> Uncertainty:
    """Split the variance of y by the law of total variance [1]_.

    Var y = mean of the variances + variance of the means, total = aleatoric + epistemic.

    Parameters
    ----------
    mean, variance : array or Tensor of shape (n_draws, n_samples, ...)
        Mean and variance of y, as each draw of the posterior predicts them.

    Returns
    -------
    Uncertainty of arrays or Tensors of shape (n_samples, ...)
        Total variance of each sample, its aleatoric and its epistemic part, in squared units of y.

    Raises
    ------
    ValueError
        If values are not finite, variances are negative, or shapes differ.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and Scalable Predictive
       Uncertainty Estimation using Deep Ensembles", NeurIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> from skuq.uncertainty import moment_decomposition
    >>> parts = moment_decomposition([[0.0], [1.0], [2.0]], [[1.0], [2.0], [3.0]])
    >>> float(parts.aleatoric[0]), round(float(parts.total[0]), 4)
    (2.0, 2.6667)
    """
    means, variances = checked_tensor(mean, "mean", 2), checked_tensor(variance, "variance", 2)
    if means.shape != variances.shape:
        raise ValueError(
            f"mean and variance must have one shape, got {tuple(means.shape)} and "
            f"{tuple(variances.shape)}"
        )
    if bool((variances < 0).any()):
        raise ValueError("variance contains negative values")
    return Uncertainty(*(_like_input(part, mean) for part in _moments(means, variances)))


def _moments(mean: Tensor, variance: Tensor) -> Uncertainty:
    aleatoric = mean_of_draws(variance)
    epistemic = _variance(mean, mean_of_draws(mean))
    epistemic = torch.where(epistemic.isnan(), math.inf, epistemic)  # of infinite means
    return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)

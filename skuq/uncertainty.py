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
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._softmax import Softmax, mean_of_draws
from skuq._utils._arrays import tensor_of

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


def _as_tensor(values: Any, name: str, ndim: int) -> Tensor:
    if not isinstance(values, Tensor):
        values = tensor_of(np.asarray(values, dtype=float))
    values = values.double()
    if values.ndim < ndim or values.numel() == 0:
        raise ValueError(
            f"{name} must be a non-empty array of at least {ndim} dimensions, got shape "
            f"{tuple(values.shape)}"
        )
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} contains NaN or infinity")
    return values


def _check_probabilities(values: Tensor, name: str, class_axis: int) -> None:
    if bool((values < -1e-6).any()) or bool((values > 1 + 1e-6).any()):
        raise ValueError(f"{name} must lie in [0, 1], got values outside")
    total = values.sum(class_axis)
    worst = float((total.detach() - 1).abs().max())
    if worst > 1e-4:
        raise ValueError(
            f"{name} must sum to 1 over the classes (axis {class_axis}), got sums that differ from "
            f"1 by up to {worst:.3g}"
        )


def _returns_like_input(result: Any, given: Any) -> Any:
    if isinstance(given, Tensor):
        return result
    if isinstance(result, Uncertainty):
        return Uncertainty(*(part.numpy() for part in result))
    return result.numpy()


def _of_probabilities(ndim: int, name: str) -> Callable[[Callable], Callable]:
    """Checks and converts probabilities; `_bare` undoes it."""

    def decorate(function: Callable[[Tensor], Any]) -> Callable[[Any], Any]:
        @functools.wraps(function)
        def checked(proba: Any) -> Any:
            tensor = _as_tensor(proba, name, ndim)
            _check_probabilities(tensor, name, ndim - 1)
            return _returns_like_input(function(tensor.clamp(0, 1)), proba)

        return checked

    return decorate


def _bare(function: Any) -> Any:
    """The function of an unchecked tensor behind a public one."""
    return function.__wrapped__


# ---------------------------------------------------------------------------------------------
# Of mean probabilities


def _log(proba: Tensor) -> Tensor:
    """Finite at zero, where it is multiplied by zero (`torch.special.xlogy` is far slower)."""
    return proba.clamp(min=_SMALLEST).log()


def _entropy(proba: Tensor, log_proba: Tensor, class_axis: int) -> Tensor:
    return -(proba * log_proba).sum(class_axis)


@_of_probabilities(2, "proba")
def entropy(proba: Any) -> Any:
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


@_of_probabilities(2, "proba")
def least_confidence(proba: Any) -> Any:
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
    return 1 - proba.amax(1)


@_of_probabilities(2, "proba")
def margin(proba: Any) -> Any:
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
    if proba.shape[1] < 2:
        raise ValueError(
            f"margin needs at least 2 classes, got proba of shape {tuple(proba.shape)}"
        )
    first, second = proba.topk(2, dim=1).values.unbind(1)
    return 1 - (first - second)


# ---------------------------------------------------------------------------------------------
# Of draws


@_of_probabilities(3, "draws")
def expected_entropy(draws: Any) -> Any:
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


@_of_probabilities(3, "draws")
def mutual_information(draws: Any) -> Any:
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
    return _bare(entropy_decomposition)(draws).epistemic


@_of_probabilities(3, "draws")
def entropy_decomposition(draws: Any) -> Any:
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
    if len(entropies) == 1:  # no rounding: a ranking must see that all are equal
        return Uncertainty(aleatoric, aleatoric, torch.zeros_like(aleatoric))
    epistemic = (_entropy(mean, _log(mean), 1) - aleatoric).clamp(min=0)
    return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


@_of_probabilities(3, "draws")
def variance_decomposition(draws: Any) -> Any:
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
    """Variance of the one-hot label, for each draw."""
    return (1 - draws.square().sum(2)).clamp(min=0)


def _decompose_variance(draws: Tensor, mean: Tensor) -> Uncertainty:
    aleatoric = mean_of_draws(_label_variance(draws))
    epistemic = _variance(draws, mean).sum(1)
    return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


def _variance(draws: Tensor, mean: Tensor) -> Tensor:
    """Variance over the draws, in two passes (torch's own takes one, and several times as long)."""
    return mean_of_draws((draws - mean).square())


@_of_probabilities(3, "draws")
def variation_ratio(draws: Any) -> Any:
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
    draws = draws.detach()
    votes = torch.eq(draws, draws.amax(2, keepdim=True), out=torch.empty_like(draws))
    # Indices take several times as long, but a GPU would have to wait to hear of a tie.
    if draws.is_cuda or float(votes.sum()) > votes[:, :, 0].numel():
        first = draws.max(2, keepdim=True).indices
        votes = torch.zeros_like(draws).scatter_(2, first, 1.0)
    return 1 - mean_of_draws(votes).amax(1)


def moment_decomposition(mean: Any, variance: Any) -> Any:
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
    means, variances = _as_tensor(mean, "mean", 2), _as_tensor(variance, "variance", 2)
    if means.shape != variances.shape:
        raise ValueError(
            f"mean and variance must have one shape, got {tuple(means.shape)} and "
            f"{tuple(variances.shape)}"
        )
    if bool((variances < 0).any()):
        raise ValueError("variance contains negative values")
    return _returns_like_input(_moments(means, variances), mean)


def _moments(mean: Tensor, variance: Tensor) -> Uncertainty:
    aleatoric = mean_of_draws(variance)
    epistemic = _variance(mean, mean_of_draws(mean))
    epistemic = torch.where(epistemic.isnan(), math.inf, epistemic)  # of infinite means
    return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


# ---------------------------------------------------------------------------------------------
# By name


def _draws(predictive: Softmax) -> Tensor:
    """Their probabilities, unchecked; the classes are the third axis, also of several labels."""
    return predictive.probs.movedim(-1, 2)


def _mean(predictive: Softmax) -> Tensor:
    return predictive.mean_probs.movedim(-1, 1)


# What `predict_uncertainty(measure=...)` of a classifier offers: measures whose mean over the draws
# is the aleatoric part of that of their mean, and measures that have no parts.
DECOMPOSED: dict[str, Callable[[Softmax], Uncertainty]] = {
    "entropy": lambda predictive: _decompose_entropy(predictive.entropy(), _mean(predictive)),
    "variance": lambda predictive: _decompose_variance(_draws(predictive), _mean(predictive)),
}
OF_EACH_DRAW: dict[str, Callable[[Softmax], Tensor]] = {
    "entropy": lambda predictive: predictive.entropy(),
    "variance": lambda predictive: _label_variance(_draws(predictive)),
}
TOTALS: dict[str, Callable[[Softmax], Tensor]] = {
    "variation_ratio": lambda predictive: _bare(variation_ratio)(_draws(predictive)),
    "margin": lambda predictive: _bare(margin)(_mean(predictive)),
    "least_confidence": lambda predictive: _bare(least_confidence)(_mean(predictive)),
}

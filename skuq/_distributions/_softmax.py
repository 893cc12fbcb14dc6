"""Distributions over classes, one for each draw, and what their mean says.

Sums over classes and draws are fastest where neighbouring rows lie side by side in memory. The
engine therefore hands over outputs of shape (..., n_rows, n_classes) whose rows are the last axis
in memory; nothing here needs that, but everything keeps it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.distributions.utils import lazy_property

__all__ = ["TRUSTED", "Softmax", "log_mean", "mean_of_draws"]

TRUSTED = 1e-200  # smaller mean probabilities come from logarithms: a term may have underflowed


class Softmax(Categorical):
    """The categorical distribution of logits.

    Normalised logits and probabilities come from the same exponentials; torch's own takes them
    for each of the two, and copies what is not contiguous.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)
    """

    def __init__(self, logits: Tensor) -> None:
        self._param = logits
        self._num_events = logits.shape[-1]
        self._shifted = logits - logits.detach().amax(-1, keepdim=True)
        self._share = self._shifted.exp()
        self._mass = self._share.sum(-1, keepdim=True)
        Distribution.__init__(self, logits.shape[:-1], validate_args=False)

    @lazy_property
    def logits(self) -> Tensor:
        return self._shifted - self._mass.log()

    @lazy_property
    def probs(self) -> Tensor:
        return self._share / self._mass

    def entropy(self) -> Tensor:
        """In nats, from the same exponentials: log Z − Σ_k e_k s_k / Z, both terms positive."""
        inner = (self._share * self._shifted).sum(-1, keepdim=True) / self._mass
        return (self._mass.log() - inner).squeeze(-1)

    @lazy_property
    def mean_probs(self) -> Tensor:
        """The mean over draws, the first axis of the batch."""
        return mean_of_draws(self.probs)


def mean_of_draws(values: Tensor) -> Tensor:
    """The mean over the first axis, laid out as the values are.

    torch lays out a mean anew, which takes ten times as long where rows are last in memory.
    """
    if len(values) == 1:
        return values[0]
    order = sorted(range(1, values.ndim), key=values.stride, reverse=True)
    mean = values.permute(0, *order).mean(0)
    return mean.permute(*(order.index(axis) for axis in range(1, values.ndim)))


def log_mean(predictive: Softmax) -> Tensor:
    """The logarithm of the mean over draws (the first axis) of the probabilities.

    Finite also where probabilities underflow.
    """
    if predictive.batch_shape[0] == 1:
        return predictive.logits[0]
    mean = predictive.mean_probs
    trusted = mean > TRUSTED
    if not mean.is_cuda and bool(trusted.all()):  # a GPU would have to wait for the answer
        return mean.log()
    logits = predictive.logits
    exact = logits.logsumexp(0) - math.log(len(logits))
    return torch.where(trusted, mean.clamp(min=TRUSTED).log(), exact)

"""Distributions over classes, one for each draw, and their mean.

Sums over classes and draws are fastest if neighbouring rows are neighbours in memory. So the engine
gives outputs of shape (..., n_rows, n_classes) whose last axis in memory is the rows. The functions
keep that layout, but do not need it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.distributions.utils import lazy_property

__all__ = ["TRUSTED", "Softmax", "log_mean", "mean_of_draws"]

TRUSTED = 1e-200  # below, a term may have underflowed, so logarithms give the mean probability


class Softmax(Categorical):
    """The categorical distribution of logits.

    Normalised logits and probabilities share the same exponentials. torch's class computes them
    twice, and copies tensors that are not contiguous.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)
        Logits, which need not be normalised.
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
        """Compute the entropy in nats, log Z − Σ_k e_k s_k / Z, a sum of two positive terms."""
        inner = (self._share * self._shifted).sum(-1, keepdim=True) / self._mass
        return (self._mass.log() - inner).squeeze(-1)

    @lazy_property
    def mean_probs(self) -> Tensor:
        """The mean over the draws, which are the first axis of the batch."""
        return mean_of_draws(self.probs)


def mean_of_draws(values: Tensor) -> Tensor:
    """Average over the first axis, and keep the layout of the values in memory.

    torch's mean has a new layout, which takes ten times as long if rows are last in memory.
    """
    if len(values) == 1:
        return values[0]
    order = sorted(range(1, values.ndim), key=values.stride, reverse=True)
    mean = values.permute(0, *order).mean(0)
    return mean.permute(*(order.index(axis) for axis in range(1, values.ndim)))


def log_mean(predictive: Softmax) -> Tensor:
    """Compute the logarithm of the mean over draws (the first axis) of the probabilities.

    It is finite even where probabilities underflow.
    """
    if predictive.batch_shape[0] == 1:
        return predictive.logits[0]
    mean = predictive.mean_probs
    trusted = mean > TRUSTED
    if not mean.is_cuda and bool(trusted.all()):  # this check would make a GPU wait
        return mean.log()
    logits = predictive.logits
    exact = logits.logsumexp(0) - math.log(len(logits))
    return torch.where(trusted, mean.clamp(min=TRUSTED).log(), exact)

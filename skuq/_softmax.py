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

__all__ = ["Softmax", "log_mean"]

_TRUSTED = 1e-200  # smaller mean probabilities come from logarithms: a term may have underflowed


class Softmax(Categorical):
    """The categorical distribution of logits: normalised logits and probabilities at once.

    torch's own takes exponentials for each of the two, and copies what is not contiguous.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)
    """

    probs: Tensor
    logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        shifted = logits - logits.detach().amax(-1, keepdim=True)
        share = shifted.exp()
        mass = share.sum(-1, keepdim=True)
        self.logits = self._param = shifted - mass.log()
        self.__dict__["probs"] = share / mass  # elsewhere made of the logits when asked for
        self._num_events = logits.shape[-1]
        Distribution.__init__(self, logits.shape[:-1], validate_args=False)


def log_mean(predictive: Categorical) -> Tensor:
    """The logarithm of the mean over draws (the first axis) of the probabilities.

    Finite also where probabilities underflow.
    """
    logits = predictive.logits
    if len(logits) == 1:
        return logits[0]
    mean = predictive.probs.mean(0)
    trusted = mean > _TRUSTED
    if not logits.is_cuda and bool(trusted.all()):
        return mean.log()
    exact = logits.logsumexp(0) - math.log(len(logits))
    return torch.where(trusted, mean.clamp(min=_TRUSTED).log(), exact)

"""One noise level for all rows, for posteriors that must know it before they begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skuq._networks._module import call
from skuq._training._problem import Problem

__all__ = ["evaluator", "settle_noise"]


@torch.no_grad()
def settle_noise(problem: Problem, network: nn.Module) -> None:
    """Let the likelihood learn its noise from a trained network, if it has one level for all rows.

    Without unseen rows, it learns from the training rows; the noise is then rather too small.

    Parameters
    ----------
    problem : Problem
        Has the likelihood and the rows.
    network : nn.Module
        The trained network.
    """
    if problem.learn_noise(network):
        return
    outputs, targets, weights = [], [], []
    for batch in problem.batches(large=True):
        outputs.append(call(network, batch[0], problem.numerics))
        targets.append(batch[1])
        weights.append(torch.ones(len(batch[0])) if batch.weight is None else batch.weight)
    target, weight = (torch.cat(parts).cpu().numpy() for parts in (targets, weights))
    problem.likelihood.finish(evaluator(torch.cat(outputs)[None]), target, weight, True)


def evaluator(outputs: Tensor) -> Callable[..., np.ndarray]:
    """Make the function that `Likelihood.finish` calls, from known outputs of all draws."""

    def evaluate(reduction: Any, *aligned: np.ndarray) -> np.ndarray:
        rows = (torch.as_tensor(values, device=outputs.device) for values in aligned)
        reduced: np.ndarray = reduction(outputs, *rows).cpu().numpy()
        return reduced

    return evaluate

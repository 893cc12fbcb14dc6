"""Adversarial training: rows moved a little in the direction in which their loss grows most."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Batch
from skuq._data._places import row_losses
from skuq._networks._module import call
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem

__all__ = ["adversarial_hooks"]


def adversarial_hooks(problem: Problem, step: float, n_networks: int) -> list[TrainingHook]:
    """Make a hook for each network, which adds the loss of adversarial rows.

    Parameters
    ----------
    problem : Problem
        Has the training rows, which are read once.
    step : float
        The length of the step, relative to the range of each feature.
    n_networks : int
        Number of networks.
    """
    low, high = _ranges(problem)
    return [_Adversarial(problem, step, low, high) for _ in range(n_networks)]


def _ranges(problem: Problem) -> tuple[Tensor, Tensor]:
    """Find the smallest and the largest value of each feature.

    Rows of several lengths have other widths in each batch, of which shorter ones are prefixes.
    """
    low = high = problem.sample[0]
    for x, _ in problem.batches(large=True):
        low = _of_both(torch.minimum, low, x.amin(0))
        high = _of_both(torch.maximum, high, x.amax(0))
    return low, high


def _of_both(choose: Any, one: Tensor, other: Tensor) -> Tensor:
    n = min(one.shape[-1], other.shape[-1])
    rest = one[..., n:] if one.shape[-1] > n else other[..., n:]
    return torch.cat([choose(one[..., :n], other[..., :n]), rest], dim=-1)


class _Adversarial(TrainingHook):
    """Adds the loss at x + ε (high − low) sign(∇_x loss), within the range of the data [1]_.

    References
    ----------
    .. [1] I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and Harnessing Adversarial Examples",
       ICLR 2015, arXiv:1412.6572.
    """

    def __init__(self, problem: Problem, step: float, low: Tensor, high: Tensor) -> None:
        self._likelihood = problem.likelihood
        self._numerics = problem.numerics
        self._step, self._low, self._high = step, low, high

    def penalty(self, module: nn.Module, batch: Batch) -> Tensor:
        x, target = batch
        given = x.detach().requires_grad_()
        loss = self._loss(module, given, target, batch.weight)
        (slope,) = torch.autograd.grad(loss, given, allow_unused=True)
        if slope is None:
            raise ValueError(
                f"adversarial={self._step} moves rows along the gradient of the loss, but "
                f"{type(module).__name__} has none in X, as for token ids: set adversarial=0"
            )
        low, high = (limit[..., : x.shape[-1]].to(x) for limit in (self._low, self._high))
        moved = x + self._step * (high - low) * slope.sign()
        return self._loss(module, moved.clamp(low, high), target, batch.weight)

    def _loss(self, module: nn.Module, x: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        outputs = call(module, x, self._numerics)
        return row_losses(self._likelihood.loss, outputs, target, weight).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: training does not change it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""

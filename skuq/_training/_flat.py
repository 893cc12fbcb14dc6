"""Put the parameters of an optimizer into one tensor, so that a step is a single kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["forget_gradients", "lay_flat"]

_ALIGNMENT = 64  # elements: a cache line of every dtype, and more than a vector of any CPU


def lay_flat(optimizer: torch.optim.Optimizer) -> None:
    """Make the parameters of each group slices of one tensor, which the optimizer steps instead.

    For optimizers that treat every element by itself. Call it before the first step, but after a
    backward: parameters without a gradient stay as they are. Each slice begins at a multiple of
    `_ALIGNMENT`, and the tensor ends at one. A kernel may round the last few elements, which do not
    fill a vector, in another way; these are never elements of a parameter. An optimizer with state
    from its construction on (Adagrad) keeps its own parameters.
    """
    if optimizer.state:
        return
    for group in optimizer.param_groups:
        used = [p for p in group["params"] if p.grad is not None]
        if len({(p.device, p.dtype) for p in used}) == 1:
            unused = [p for p in group["params"] if p.grad is None]
            group["params"] = [_flattened(used), *unused]


def _flattened(parameters: list[nn.Parameter]) -> nn.Parameter:
    sizes = [-(-p.numel() // _ALIGNMENT) * _ALIGNMENT for p in parameters]
    flat = nn.Parameter(parameters[0].new_zeros(sum(sizes)))
    flat.grad = torch.zeros_like(flat)
    for parameter, *slices in zip(parameters, flat.detach().split(sizes), flat.grad.split(sizes)):
        values, gradient = (part[: parameter.numel()].view_as(parameter) for part in slices)
        parameter.data = values.copy_(parameter.detach())
        parameter.grad = gradient.copy_(parameter.grad)
    return flat


def forget_gradients(optimizer: Any) -> None:
    """Set gradients to zero in place: gradients of a flat tensor must keep their memory."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.zero_()

"""The parameters of an optimizer in one tensor: a step is one kernel, not one for each."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["forget_gradients", "lay_flat"]

_ALIGNMENT = 64  # elements: a cache line of every dtype, and more than a vector of any CPU


def lay_flat(optimizer: torch.optim.Optimizer) -> None:
    """Make the parameters of each group slices of one tensor, which the optimizer steps instead.

    For optimizers that treat every element by itself, before their first step, after a backward
    that shows which parameters get a gradient: the others stay as they are. Each slice begins at
    a multiple of `_ALIGNMENT`, and so ends the tensor: the few elements that a kernel leaves over
    from its vectors, which it may round otherwise, are never elements of a parameter. An optimizer
    that holds state from its construction on (Adagrad) knows its parameters and keeps them.
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
    """Set them to zero in place: those of a flat tensor must stay where they are."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.zero_()

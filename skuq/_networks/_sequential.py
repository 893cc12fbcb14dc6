"""Run the layers of a container in place where no other code can notice."""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from skuq._networks._layers import DrawnLinear

__all__ = ["share_memory_of_activations"]

_FRESH = (  # layers whose output is a new tensor
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    DrawnLinear,
)


class _Sequential:
    """Mixin before a container: a ReLU works in place after a layer that makes a new tensor.

    This happens only in the forward of the container; code that calls its layers one by one sees no
    change. It does not happen with gradients, whose backward through views changed in place is
    slow.
    """

    def forward(self: Any, x: Any) -> Any:
        before: nn.Module | None = None
        for layer in self:
            plain = _is_plain(before) and not _has_hooks(layer)
            if type(layer) is nn.ReLU and plain and not x.requires_grad:
                x = x.relu_()
            else:
                x = layer(x)
            before = layer
        return x


def _is_plain(layer: Any) -> bool:
    """Return whether a layer has torch's own forward; a user's forward may return its input."""
    own = any(getattr(type(layer), "forward", None) is kind.forward for kind in _FRESH)
    return own and not _has_hooks(layer)


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)


def share_memory_of_activations(module: nn.Module) -> None:
    """Let the containers of a private copy of a module work in place."""
    for container in module.modules():
        kind: Any = type(container)
        if kind.forward is nn.Sequential.forward:
            container.__class__ = _in_order(kind)


@functools.cache
def _in_order(original: Any) -> Any:
    return type(original.__name__, (_Sequential, original), {})

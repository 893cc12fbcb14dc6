"""Find code of a network that comes from outside of torch and skuq."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

__all__ = ["comes_from", "runs_foreign_forward"]


def comes_from(made: Any, *packages: str) -> bool:
    """Return whether one of these packages defines a class or function, or that of a partial.

    The names of the packages end in a dot.
    """
    while isinstance(made, functools.partial):
        made = made.func
    return f"{getattr(made, '__module__', '')}.".startswith(packages)


def runs_foreign_forward(module: nn.Module) -> bool:
    """Return whether a call runs code from outside of torch and skuq."""
    return any(_is_foreign(layer) for layer in module.modules())


def _is_foreign(layer: nn.Module) -> bool:
    hooks = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_hooks)
    known = comes_from(type(layer), "torch.nn.", "skuq.") and "forward" not in vars(layer)
    return not known or any(hooks) or isinstance(layer, torch.jit.ScriptModule)

"""Find code of a network that comes from outside of torch and skuq."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

__all__ = ["comes_from", "is_plain", "runs_foreign_forward"]

_N_AXES = ("1d", "2d", "3d")
_PLAIN = (  # layers whose forward draws nothing; in nn.Dropout*, skuq decides about that
    *(getattr(nn, f"{kind}{n}") for kind in ("Conv", "BatchNorm", "Dropout") for n in _N_AXES),
    *(getattr(nn, f"{pool}Pool{n}") for pool in ("Max", "Avg", "AdaptiveAvg") for n in _N_AXES),
    *(nn.Linear, nn.Sequential, nn.Flatten, nn.Identity, nn.LayerNorm, nn.GroupNorm, nn.Dropout),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus),
)
_PLAIN_FORWARDS = {kind.forward for kind in _PLAIN}


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


def is_plain(module: nn.Module) -> bool:
    """Return whether all of a call is the forward of usual layers, as torch has written them.

    Such a call draws nothing outside of dropout layers, and that of a copy uses only the copy.
    """
    forwards = {type(layer).forward for layer in module.modules()}
    return forwards <= _PLAIN_FORWARDS and not runs_foreign_forward(module)


def _is_foreign(layer: nn.Module) -> bool:
    hooks = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_hooks)
    known = comes_from(type(layer), "torch.nn.", "skuq.") and "forward" not in vars(layer)
    return not known or any(hooks) or isinstance(layer, torch.jit.ScriptModule)

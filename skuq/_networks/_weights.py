"""Read and set all tensors that training may change: a state dict and the buffers that it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["buffers_outside", "put_buffers", "put_weights", "weights_of"]


def weights_of(module: nn.Module) -> dict[str, Any]:
    """Return the state dict of a module and, by name, its buffers with ``persistent=False``."""
    return {**module.state_dict(), **buffers_outside(module)}


def put_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Set the values of `weights_of`, in place. RuntimeError if an entry is missing."""
    names = module.state_dict().keys()
    module.load_state_dict({name: value for name, value in weights.items() if name in names})
    put_buffers(module, {name: value for name, value in weights.items() if name not in names})


def buffers_outside(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a state dict lacks."""
    names = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers() if name not in names}


@torch.no_grad()
def put_buffers(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Set the values of `buffers_outside`; replace buffers that a forward makes or resizes."""
    own = dict(module.named_buffers())
    for name, value in saved.items():
        if name in own and own[name].shape == value.shape:
            own[name].copy_(value)
            continue
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        if leaf in owner._buffers:
            setattr(owner, leaf, value.clone())
        else:
            owner.register_buffer(leaf, value.clone(), persistent=False)

"""Watch which layers a forward calls, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skuq._networks._inserted import is_linear, outer_name

__all__ = ["LayerCalls", "linear_layers", "watch_layers"]


@dataclass
class LayerCalls:
    """The record of `watch_layers`: names in the order of calls, and the last output."""

    names: list[str] = field(default_factory=list)
    last_output: Any = None

    def last_layer(self, output: Tensor) -> str | None:
        """Return the name of the watched layer whose output is the network's `output`, if any."""
        found = self.last_output
        if not isinstance(found, Tensor):
            return None
        found = found[:, None] if found.ndim == 1 else found
        same = found.shape == output.shape and torch.equal(found.to(output.dtype), output)
        return self.names[-1] if same else None


@contextmanager
def watch_layers(layers: Mapping[str, nn.Module]) -> Iterator[LayerCalls]:
    """Watch calls of layers.

    Parameters
    ----------
    layers : mapping of str to nn.Module
        The layers, by any names. They have hooks only inside the ``with`` block.
    """
    calls, hooks = LayerCalls(), []

    def called(name: str, output: Any) -> None:
        calls.names.append(name)
        calls.last_output = output.detach().clone() if isinstance(output, Tensor) else None

    for name, layer in layers.items():
        hook = layer.register_forward_hook(
            lambda layer, args, output, name=name: called(name, output),
            prepend=True,  # the hooks of the user may change the output
        )
        hooks.append(hook)
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def linear_layers(module: nn.Module) -> dict[str, nn.Module]:
    """List the ``nn.Linear`` layers, by their names before dropout was inserted."""
    named = module.named_modules()
    return {outer_name(name, module): layer for name, layer in named if is_linear(layer)}

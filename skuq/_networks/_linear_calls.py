"""Which ``nn.Linear`` layers a forward calls, in which order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skuq._networks._inserted import is_linear, outer_name

__all__ = ["LinearCalls", "watch_linear_layers"]


@dataclass
class LinearCalls:
    """What `watch_linear_layers` saw: names in the order of calls, and the last output."""

    names: list[str] = field(default_factory=list)
    last_output: Any = None

    def last_layer(self, output: Tensor) -> str | None:
        """The name of the layer whose output is `output`, that of the network, if it is linear."""
        found = self.last_output
        if not isinstance(found, Tensor):
            return None
        found = found[:, None] if found.ndim == 1 else found
        same = found.shape == output.shape and torch.equal(found.to(output.dtype), output)
        return self.names[-1] if same else None


@contextmanager
def watch_linear_layers(module: nn.Module) -> Iterator[LinearCalls]:
    """Watch the linear layers of a module, by the names that they had before dropout was inserted.

    Parameters
    ----------
    module : nn.Module
        Has hooks in the ``with`` block only.
    """
    calls, hooks = LinearCalls(), []

    def called(name: str, output: Any) -> None:
        calls.names.append(name)
        calls.last_output = output.detach().clone() if isinstance(output, Tensor) else None

    for name, layer in module.named_modules():
        if is_linear(layer):
            known = outer_name(name, module)
            hook = layer.register_forward_hook(
                lambda layer, args, output, known=known: called(known, output)
            )
            hooks.append(hook)
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()

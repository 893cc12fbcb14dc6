"""Mask weights instead of inputs, where only a linear layer follows dropout.

W (m ⊙ x) = (W ⊙ m) x: all draws of the layer are then one matrix product with the rows before the
dropout, which are the same for all draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from skuq._networks._dropout import drive
from skuq._networks._module import Numerics, call, private_copy

__all__ = ["linear_readers"]

Site = tuple[str, int]  # the name of a dropout layer, and the number of its call


def linear_readers(network: nn.Module, x: Tensor, numerics: Numerics) -> dict[Site, str]:
    """Find calls of dropout layers whose output only one linear layer reads.

    Parameters
    ----------
    network : nn.Module
        The network; it is not changed.
    x : Tensor of shape (n_rows, ...)
        Some rows.
    numerics : Numerics
        Device and precision.

    Returns
    -------
    dict of (str, int) to str
        The linear layer for each call of a dropout layer. That layer is called once, and its weight
        has no other use.
    """
    shell, outputs = private_copy(network), _Outputs()
    drive(shell, outputs)
    with _linear_calls(shell) as (calls, inside), _Readers(outputs, inside), torch.no_grad():
        call(shell, x, numerics)
    parameters = Counter(id(p) for _, p in shell.named_parameters(remove_duplicate=False))
    found = {}
    for site, readers in outputs.readers.items():
        if len(readers) == 1 and (name := readers.pop()) and calls[name] == 1:
            if parameters[id(shell.get_submodule(name).weight)] == 1:
                found[site] = name
    return found


class _Outputs:
    """Copies the output of every call of every dropout layer, so that each has its own memory."""

    def __init__(self) -> None:
        self.readers: dict[Site, set[str]] = {}
        self.sites: dict[int, Site] = {}  # by the address of the memory
        self._kept: list[Tensor] = []

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        if layer.p == 0:
            return x
        output = x.clone()
        self._kept.append(output)
        site = layer._site, layer._calls
        layer._calls += 1
        self.sites[output.untyped_storage().data_ptr()] = site
        self.readers[site] = set()
        return output


class _Readers(TorchDispatchMode):
    """Records in which linear layer ("": none) each operation on such a copy happens."""

    def __init__(self, outputs: _Outputs, inside: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self._outputs = outputs
        self._inside = inside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_iter((args, kwargs)):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                site = self._outputs.sites.get(tensor.untyped_storage().data_ptr())
                if site is not None:
                    self._outputs.readers[site].add(self._inside[-1])
        return func(*args, **(kwargs or {}))


@contextmanager
def _linear_calls(shell: nn.Module) -> Iterator[tuple[Counter[str], list[str]]]:
    """Watch linear layers: yield the number of calls of each, and the stack of running ones."""
    calls: Counter[str] = Counter()
    inside = [""]

    def begin(name: str) -> None:
        calls[name] += 1
        inside.append(name)

    hooks = []
    for name, layer in shell.named_modules():
        if type(layer) is nn.Linear and name:
            hooks.append(layer.register_forward_pre_hook(lambda *_, name=name: begin(name)))
            hooks.append(layer.register_forward_hook(lambda *_: inside.pop() and None))
    yield calls, inside
    for hook in hooks:
        hook.remove()

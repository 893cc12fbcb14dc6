"""The last linear layer of a network, and its inputs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skuq._networks._inserted import is_linear
from skuq._networks._layer_calls import watch_layers
from skuq._networks._module import Numerics, call, private_copy
from skuq._utils._tensors import agree

__all__ = ["InputOf", "last_linear", "watch_calls"]


class InputOf(nn.Module):
    """A network up to a layer; returns the flattened input of that layer.

    Parameters
    ----------
    network : nn.Module
        The network. It gets a hook.
    layer : str
        The name of the layer, which a forward calls once.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self._seen: list[Tensor] = []
        network.get_submodule(layer).register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._seen[:] = [args[0] if args else named["input"]]

    def forward(self, x: Tensor) -> Tensor:
        self.network(x)
        return self.seen()

    def seen(self) -> Tensor:
        """Return, once, the flattened input of the layer in the last forward of `network`."""
        return self._seen.pop().flatten(1)


def watch_calls(
    shell: nn.Module, names: list[str], x: Tensor, numerics: Numerics
) -> tuple[Counter[str], str, Tensor | None, Tensor]:
    """Run a private copy of a network, and watch these layers.

    Returns how often each is called, the name and the output of the last one, and the output of the
    network.
    """
    with watch_layers({name: shell.get_submodule(name) for name in names}) as calls:
        with torch.no_grad():
            output = call(shell, x, numerics)
    last = calls.names[-1] if calls.names else ""
    return Counter(calls.names), last, calls.last_output, output


def last_linear(network: nn.Module, x: Tensor, numerics: Numerics, *, exactly: bool = False) -> str:
    """Find the name of the last ``nn.Linear`` of a network.

    Parameters
    ----------
    network : nn.Module
        The network; it is not changed.
    x : Tensor of shape (n_rows, ...)
        Some rows.
    numerics : Numerics
        Device and precision.
    exactly : bool, default=False
        Whether nothing may follow the layer, so that outputs are linear in its parameters.
        Otherwise a softmax may follow.

    Raises
    ------
    ValueError
        If there is none, it is called more than once, its weight is tied to another layer, or more
        follows it. The message gives the reason.
    """
    modules = dict(network.named_modules())
    names = [name for name, m in modules.items() if _is_plain(m) or _is_reparametrized(m)]
    shell = private_copy(network)
    calls, name, found, output = watch_calls(shell, names, x, numerics)
    if found is None:
        raise ValueError("it has no nn.Linear layer" + (" that it calls" if names else ""))
    if not _is_plain(modules[name]):
        raise ValueError(
            f"its last nn.Linear, {name!r}, is reparametrized (weight_norm, spectral_norm, pruning "
            "or another parametrization): other parameters make its weight. Make it a plain layer "
            "first, by torch.nn.utils.parametrize.remove_parametrizations, prune.remove or "
            "remove_weight_norm"
        )
    if calls[name] > 1:
        raise ValueError(
            f"its last nn.Linear, {name!r}, is called {calls[name]} times in a forward"
        )
    weight = network.get_submodule(name).weight
    uses = [n for n, p in network.named_parameters(remove_duplicate=False) if p is weight]
    if len(uses) > 1:
        raise ValueError(
            f"the weight of its last nn.Linear, {name!r}, is tied: it is {' and '.join(uses)}"
        )
    follows = "something" if exactly else "more than a softmax"
    is_end = _is_linear_in(shell, name, x, numerics, output) if exactly else True
    if not _ends_in(found, output, softmax=not exactly) or not is_end:
        hooked = bool(modules[name]._forward_hooks)
        hint = ", which has a forward hook (layer._forward_hooks)" if hooked else ""
        raise ValueError(f"{follows} follows its last nn.Linear, {name!r}{hint}")
    return name


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module in eval mode computes W x + b from parameters that are W and b."""
    kind = type(module)
    computes = kind.forward is nn.Linear.forward or getattr(kind, "is_plain_in_eval_mode", False)
    linear = isinstance(module, nn.Linear) and computes
    return linear and module._parameters.get("weight") is not None


def _is_reparametrized(module: nn.Module) -> bool:
    """Return whether the weight of a linear layer is computed from other parameters."""
    return is_linear(module) and module._parameters.get("weight") is None


def _ends_in(found: Tensor, output: Tensor, softmax: bool) -> bool:
    """Return whether the network's output is the output of the layer, or its softmax."""
    found = found.to(output.dtype)
    if found.ndim == 1:
        found = found[:, None]
    if found.shape != output.shape:
        return False
    if torch.allclose(output, found, rtol=1e-5, atol=0):  # outputs may have any unit
        return True
    candidates = (found.softmax(-1), found.log_softmax(-1)) if softmax else ()
    return any(torch.allclose(output, one, rtol=1e-5, atol=1e-6) for one in candidates)


def _is_linear_in(
    shell: nn.Module, name: str, x: Tensor, numerics: Numerics, output: Tensor
) -> bool:
    """Return whether outputs are linear in a layer's parameters: they change sign together.

    The outputs themselves need not show a ReLU after the layer.
    """
    prefix = f"{name}." if name else ""
    layer = shell.get_submodule(name)
    negative = {f"{prefix}{n}": -p for n, p in layer.named_parameters(recurse=False)}
    with torch.no_grad():
        turned = call(lambda x: functional_call(shell, negative, (x,)), x, numerics)
    return agree(turned, -output, numerics.tolerance, range(output.shape[1]))

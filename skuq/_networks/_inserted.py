"""Insert dropout before layers of a network without dropout."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from skuq._networks._dropout import dropout_layers
from skuq._networks._module import Numerics, call, private_copy
from skuq._networks._names import name_of_module
from skuq._utils._messages import suggest
from skuq._utils._tensors import agree

__all__ = [
    "DroppedInput",
    "check_as_before",
    "insert_dropout",
    "inserted_dropout",
    "is_linear",
    "outer_name",
]

_MOST_NAMES = 20  # layers that a message names


class DroppedInput(nn.Module):
    """A layer with dropout before it.

    All other attributes, such as the weight, are those of the layer.

    Parameters
    ----------
    layer : nn.Module
        The layer.
    p : float
        The rate of the dropout.
    """

    def __init__(self, layer: nn.Module, p: float) -> None:
        super().__init__()
        self.inserted_dropout = nn.Dropout(p)
        self.layer = layer

    def module_of_user(self) -> nn.Module:
        """Return the layer, whose name messages give."""
        return self.layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            return self.layer(self._dropped(args[0]), *args[1:], **kwargs)
        name = next(iter(inspect.signature(self.layer.forward).parameters), "")
        return self.layer(**{**kwargs, name: self._dropped(kwargs.get(name))})

    def _dropped(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"the input of the {type(self.layer).__name__} layer that where= names is {kind}, "
                "but dropout needs one tensor of floating-point numbers: name a later layer"
            )
        return self.inserted_dropout(x)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "_modules" not in self.__dict__ or name == "layer":
                raise
            return getattr(self.layer, name)


def outer_name(name: str, module: nn.Module) -> str:
    """Return the name that a layer had before dropout was inserted."""
    parent, _, child = name.rpartition(".")
    is_inside = child == "layer" and isinstance(module.get_submodule(parent), DroppedInput)
    return parent if is_inside else name


def inserted_dropout(module: nn.Module) -> dict[str, float]:
    """List the layers before which `insert_dropout` put dropout, with its rate."""
    return {
        name: layer.inserted_dropout.p
        for name, layer in module.named_modules()
        if isinstance(layer, DroppedInput)
    }


def insert_dropout(module: nn.Module, where: str | Sequence[str], p: float) -> nn.Module:
    """Insert ``nn.Dropout(p)`` before some layers of a module.

    Parameters
    ----------
    module : nn.Module
        The module, changed in place.
    where : "last", "linear" or sequence of str
        "last" inserts it before the ``nn.Linear`` that was registered last, "linear" before each of
        them but the first, and names before the layers of these names.
        p : float
            The rate of the dropout.

    Returns
    -------
    nn.Module
        The module. If it is one layer itself, a module around it.

    Raises
    ------
    ValueError
        If the module has dropout already, or no such layer, or if one of the layers lies in
        another.
    """
    _refuse_dropout(module)
    named = dict(module.named_modules())
    chosen = {id(named[name]) for name in _places(module, named, where)}
    wrapped: dict[int, DroppedInput] = {}

    def behind_dropout(layer: nn.Module) -> nn.Module:
        return wrapped.setdefault(id(layer), DroppedInput(layer, p))

    for parent in list(module.modules()):
        for name, layer in parent._modules.items():
            if id(layer) in chosen and layer is not None:
                parent._modules[name] = behind_dropout(layer)
    return behind_dropout(module) if id(module) in chosen else module


def check_as_before(module: nn.Module, x: Tensor, numerics: Numerics) -> None:
    """Refuse a module whose forward behaves differently once dropout is inserted.

    Parameters
    ----------
    module : nn.Module
        The module with inserted dropout; it is not changed.
    x : Tensor of shape (n_rows, ...)
        Some rows.
        numerics : Numerics
            Device and precision.

    Raises
    ------
    ValueError
        If its outputs with dropout off differ from the outputs of the original: its forward
        checks the class of a layer.
    """
    plain = private_copy(module)
    for parent in list(plain.modules()):
        for name, layer in parent._modules.items():
            if isinstance(layer, DroppedInput):
                parent._modules[name] = layer.layer
    with torch.no_grad():
        before, after = (call(shell, x, numerics) for shell in (plain, private_copy(module)))
    if not agree(after, before, numerics.tolerance, range(before.shape[1])):
        raise ValueError(
            f"the forward of {name_of_module(module)} gives other outputs once dropout is before "
            f"{', '.join(map(repr, inserted_dropout(module)))}, maybe because it checks the class "
            "of a layer (isinstance). Put nn.Dropout into the module itself, and use MCDropout()"
        )


def _refuse_dropout(module: nn.Module) -> None:
    active = {name: layer.p for name, layer in dropout_layers(module).items() if layer.p > 0}
    if active:
        found = ", ".join(f"'{name}' with p = {p:g}" for name, p in active.items())
        raise ValueError(
            f"{type(module).__name__} has dropout already ({found}), which MCDropout() samples as "
            "it was trained: leave out p and where. To insert other dropout instead, set the p of "
            "these layers to 0 first (module__dropout=0 for the default module)"
        )


def _places(module: nn.Module, named: dict[str, nn.Module], where: Any) -> list[str]:
    """List the names of the layers before which dropout goes."""
    linear = [name for name, layer in module.named_modules() if is_linear(layer)]
    kind = type(module).__name__
    if where == "last":
        if not linear:
            raise ValueError(
                f"where='last' finds no nn.Linear in {kind}; name the layers before which dropout "
                f"goes, where=[...]. It has {_candidates(named)}"
            )
        return linear[-1:]
    if where == "linear":
        if len(linear) < 2:
            found = f"only one, {linear[0]!r}: use where='last'" if linear else "none"
            raise ValueError(
                f"where='linear' means every nn.Linear but the first, and {kind} has {found}; or "
                f"name the layers, where=[...]. It has {_candidates(named)}"
            )
        return linear[1:]
    aliases = dict(module.named_modules(remove_duplicate=False))
    for name in where:
        layer = named.get(name)
        if layer is None and name in aliases:
            first = next(n for n, other in named.items() if other is aliases[name])
            raise ValueError(f"where={where!r}: {name!r} is the layer {first!r}; give that name")
        if layer is None or type(layer).forward is nn.Module.forward:
            why = "a container that is never called" if name in named else "no layer"
            raise ValueError(
                f"where={where!r} names {name!r}, which is {why} of {kind}."
                f"{suggest(str(name), named)} It has {_candidates(named)}"
                f"{_hint_at_compiled(module)}"
            )
    _refuse_nested(where, named)
    return list(where)


def _refuse_nested(where: Sequence[str], named: dict[str, nn.Module]) -> None:
    """Refuse names of which one is inside of another."""
    for outer in where:
        inside = {id(layer) for layer in named[outer].modules()} - {id(named[outer])}
        for name in where:
            if id(named[name]) in inside:
                raise ValueError(
                    f"where={list(where)!r}: the layer {name!r} lies in {outer!r}. Name layers of "
                    f"which none holds another: for dropout at the start of {outer!r}, name the "
                    "layer in it that is called first"
                )


def _hint_at_compiled(module: nn.Module) -> str:
    """Explain the names in a module that torch.compile has wrapped; else ""."""
    if not hasattr(module, "_orig_mod"):
        return ""
    return (
        ". torch.compile puts '_orig_mod.' before its names: pass the module inside, its attribute "
        "_orig_mod, and set compile=True for speed"
    )


def is_linear(layer: nn.Module) -> bool:
    """Return whether a layer is an ``nn.Linear`` that is called; attention only reads weights."""
    return isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear)


def _candidates(named: dict[str, nn.Module]) -> str:
    """List the layers with their own parameters, by name and kind."""
    own = [
        f"{name!r} ({type(layer).__name__})"
        for name, layer in named.items()
        if name and any(True for _ in layer.parameters(recurse=False))
    ]
    more = f" and {len(own) - _MOST_NAMES} more" if len(own) > _MOST_NAMES else ""
    return (", ".join(own[:_MOST_NAMES]) or "no layer with parameters") + more

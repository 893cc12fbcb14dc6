"""Names of modules in messages."""

from __future__ import annotations

from torch import nn

__all__ = ["name_of_module"]


def name_of_module(module: nn.Module) -> str:
    """Return the name of the class of a module; of dropout around it, that of the user's module."""
    inner = getattr(type(module), "module_of_user", None)
    return type(module if inner is None else inner(module)).__name__

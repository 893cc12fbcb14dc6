"""Convert modules, generators, callbacks and hooks to and from values of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from skuq._networks._weights import buffers_outside, put_buffers
from skuq._training._checkpoints import checked_type, storable
from skuq._training._hooks import TrainingHook
from skuq._utils._random import PrivateGlobals

__all__ = [
    "attributes_of",
    "hook_states",
    "load_generators",
    "module_state",
    "put_into",
    "put_into_attributes",
    "put_into_hooks",
    "checked_history",
    "stored_generators",
]

_PLAIN = (bool, int, float, str, type(None))


def module_state(module: nn.Module) -> dict[str, Any]:
    """Return the state dict, buffers that it lacks, and attributes that a forward may change."""
    return {
        "state": module.state_dict(),
        "buffers": buffers_outside(module),
        "numbers": {
            name: {k: v for k, v in vars(layer).items() if type(v) in _PLAIN and k[0] != "_"}
            for name, layer in module.named_modules()
        },
    }


def put_into(module: nn.Module, saved: dict[str, Any]) -> None:
    """Restore a `module_state` in place. ValueError if it belongs to another module."""
    try:
        module.load_state_dict(saved["state"])
    except RuntimeError as error:
        raise ValueError(
            f"it belongs to another module than the present {type(module).__name__}, which has the "
            f"same name: {error}"
        ) from None
    put_buffers(module, saved["buffers"])
    for name, numbers in saved["numbers"].items():
        vars(module.get_submodule(name)).update(numbers)


def stored_generators(state: dict[str, Any]) -> dict[str, Any]:
    """Return the states of the generators of a network."""
    other = state["other"]
    return {
        "shuffling": state["shuffling"].get_state(),
        "dropout": state["dropout"].get_state(),
        "other": other.state() if isinstance(other, PrivateGlobals) else None,
    }


def load_generators(state: dict[str, Any], saved: dict[str, Any]) -> None:
    """Restore `stored_generators`, in place."""
    for name in ("shuffling", "dropout"):
        state[name].set_state(saved[name].cpu())
    # If there is none now, nothing draws from global generators: only bars needed it, now off.
    if saved["other"] is not None and state["other"] is not None:
        state["other"].load_state(saved["other"])


def _is_constant(value: Any) -> bool:
    """Return whether training cannot change `value`: a function, a class."""
    return isinstance(value, type) or (callable(value) and not getattr(value, "__dict__", {}))


def attributes_of(what: str, listener: Any) -> dict[str, Any]:
    """Return the state of a callback, or of a posterior's hook.

    Raises
    ------
    ValueError
        If a user's callback or hook has an attribute that a checkpoint cannot hold.
    """
    if hasattr(listener, "state_dict"):
        return {"own": listener.state_dict()}
    attributes, states = {}, {}
    for key, value in vars(listener).items():
        if hasattr(value, "load_state_dict") and not isinstance(value, type):
            states[key] = value.state_dict()
        elif storable(value):
            attributes[key] = value
        elif not _is_constant(value) and not type(listener).__module__.startswith("skorch."):
            raise ValueError(
                f"checkpoint_dir cannot be used with {what}: its attribute {key!r}, of type "
                f"{type(value).__name__}, is neither numbers, text, arrays and tensors nor has a "
                f"state_dict. Give {type(listener).__name__} the methods state_dict() and "
                "load_state_dict(state), which say what to keep, or set checkpoint_dir=None"
            )
    return {"attributes": attributes, "states": states}


def put_into_attributes(listener: Any, saved: dict[str, Any]) -> None:
    """Restore the state that `attributes_of` returned."""
    if "own" in saved:
        listener.load_state_dict(saved["own"])
        return
    vars(listener).update(saved["attributes"])
    for key, state in saved["states"].items():
        getattr(listener, key).load_state_dict(state)


def hook_states(hooks: Sequence[TrainingHook]) -> list[dict[str, Any]]:
    """Return the states of the hooks of a posterior."""
    return [attributes_of(f"{type(h).__name__}, a hook of the posterior", h) for h in hooks]


def put_into_hooks(hooks: Sequence[TrainingHook], saved: list[dict[str, Any]]) -> None:
    """Restore `hook_states`."""
    for hook, state in zip(hooks, saved, strict=True):
        put_into_attributes(hook, state)


def checked_history(history: Any) -> list[dict[str, Any]]:
    """Check a saved history and return it; TypeError if it is none."""
    return [checked_type(row, dict) for row in checked_type(history, list)]

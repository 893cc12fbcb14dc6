"""What a training that stopped goes on from: all that one epoch hands to the next."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._networks._weights import buffers_outside, put_buffers, put_weights, weights_of
from skuq._training._checkpoints import Checkpoints, of_type, storable
from skuq._training._hooks import TrainingHook
from skuq._training._settings import Settings, Trained, check_trained
from skuq._utils._random import PrivateGlobals

__all__ = [
    "Keeper",
    "attributes_of",
    "hook_states",
    "load_finished",
    "load_generators",
    "module_state",
    "put_into",
    "put_into_hooks",
    "rows_of",
    "save_finished",
    "stored_generators",
]

_PLAIN = (bool, int, float, str, type(None))


def module_state(module: nn.Module) -> dict[str, Any]:
    """The state dict, buffers that are not in it, and numbers that a forward may count in."""
    return {
        "state": module.state_dict(),
        "buffers": buffers_outside(module),
        "numbers": {
            name: {k: v for k, v in vars(layer).items() if type(v) in _PLAIN and k[0] != "_"}
            for name, layer in module.named_modules()
        },
    }


def put_into(module: nn.Module, saved: dict[str, Any]) -> None:
    """`module_state` back, in place. ValueError if it is that of another module."""
    try:
        module.load_state_dict(saved["state"])
    except RuntimeError as error:
        raise ValueError(
            f"it is of another module than {type(module).__name__} is now, though it has the same "
            f"name: {error}"
        ) from None
    put_buffers(module, saved["buffers"])
    for name, numbers in saved["numbers"].items():
        vars(module.get_submodule(name)).update(numbers)


def stored_generators(state: dict[str, Any]) -> dict[str, Any]:
    """The states of the generators of a network."""
    other = state["other"]
    return {
        "shuffling": state["shuffling"].get_state(),
        "dropout": state["dropout"].get_state(),
        "other": other.state() if isinstance(other, PrivateGlobals) else None,
    }


def load_generators(state: dict[str, Any], saved: dict[str, Any]) -> None:
    """`stored_generators` back, in place."""
    for name in ("shuffling", "dropout"):
        state[name].set_state(saved[name].cpu())
    # Without it nothing draws from global generators: bars had asked for it, which are gone now.
    if saved["other"] is not None and state["other"] is not None:
        state["other"].load_state(saved["other"])


def _is_constant(value: Any) -> bool:
    """Whether training does not change `value`: a function, a class."""
    return isinstance(value, type) or (callable(value) and not getattr(value, "__dict__", {}))


def attributes_of(what: str, listener: Any) -> dict[str, Any]:
    """What a callback of skorch or of a user, or a posterior's hook, remembers.

    Raises
    ------
    ValueError
        If a user's callback or hook has something that a checkpoint cannot hold.
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
    """`attributes_of` back."""
    if "own" in saved:
        listener.load_state_dict(saved["own"])
        return
    vars(listener).update(saved["attributes"])
    for key, state in saved["states"].items():
        getattr(listener, key).load_state_dict(state)


def hook_states(hooks: Sequence[TrainingHook]) -> list[dict[str, Any]]:
    """What the hooks of a posterior remember."""
    return [attributes_of(f"{type(h).__name__}, a hook of the posterior", h) for h in hooks]


def put_into_hooks(hooks: Sequence[TrainingHook], saved: list[dict[str, Any]]) -> None:
    """`hook_states` back."""
    for hook, state in zip(hooks, saved, strict=True):
        put_into_attributes(hook, state)


def rows_of(history: Any) -> list[dict[str, Any]]:
    """A history that was saved; TypeError if it is none."""
    return [of_type(row, dict) for row in of_type(history, list)]


def save_finished(
    name: str, trained: list[Trained], settings: Settings, hooks: Sequence[TrainingHook]
) -> None:
    """A training came to its end: who resumes takes its networks as they are."""
    if settings.checkpoints is not None:
        networks = [
            {"module": module_state(one.module), "history": list(one.history)} for one in trained
        ]
        state = {"finished": True, "networks": networks, "hooks": hook_states(hooks)}
        settings.checkpoints.save(name, state)


def load_finished(
    name: str,
    networks: list[nn.Module],
    train: Rows,
    settings: Settings,
    hooks: Sequence[TrainingHook],
) -> list[Trained] | None:
    """What `save_finished` saved, put into untrained networks; None if that did not happen."""
    if settings.checkpoints is None:
        return None
    with settings.checkpoints.restored(name) as saved:
        if saved is None or not of_type(saved["finished"], bool):
            return None
        done = []
        for network, one in zip(networks, saved["networks"], strict=True):
            put_into(network, one["module"])
            done.append(Trained(network, rows_of(one["history"])))
        put_into_hooks(hooks, saved["hooks"])
    for trained in done:
        check_trained(trained.module, train, settings, trained.history, math.nan)
    return done


class Keeper:
    """Keeps what is needed to go on with the training of one network, epoch by epoch.

    Parameters
    ----------
    name : str
        Of the training, among the checkpoints.
    settings : Settings
        Its `checkpoints` are written and read; if `keeps_interrupted`, the weights after each
        epoch stay in memory.
    ours : tuple of types
        Callbacks that are not asked for their state.
    hooks : sequence of TrainingHook
        Of the posterior: none, or one.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        ours: tuple[type, ...],
        hooks: Sequence[TrainingHook],
    ) -> None:
        self._name = name
        self._hooks = hooks
        self._checkpoints: Checkpoints | None = settings.checkpoints
        self._keeps = settings.keeps_interrupted
        self._ours = ours
        self.kept: tuple[dict[str, Tensor], list[dict[str, Any]], list[dict[str, Any]]] | None = (
            None
        )

    def _callbacks(self, net: Any) -> dict[str, Any]:
        return {name: c for name, c in net.callbacks_ if not isinstance(c, self._ours)}

    def begin(self, net: Any) -> int:
        """Put the last checkpoint into a net that is ready to train; the epochs that it has."""
        if self._checkpoints is None:
            return 0
        self._listeners(net)  # refused here, not after an epoch
        with self._checkpoints.restored(self._name) as saved:
            if saved is None:
                return 0
            put_into(net.module, saved["module"])
            net.optimizer_.load_state_dict(saved["optimizer"])
            load_generators(net.state, saved["generators"])
            net.history[:] = rows_of(saved["history"])
            net._best_losses = of_type(saved["best_losses"], dict)
            for name, callback in self._callbacks(net).items():
                put_into_attributes(callback, saved["callbacks"][name])
            put_into_hooks(self._hooks, saved["hooks"])
        self._keep(net)
        return len(net.history)

    def put_back(self, net: Any) -> bool:
        """After Ctrl-C: the network as it was after its last epoch, or the best of early stopping;
        whether there is such a thing."""
        if self.kept is None:
            return False
        weights, history, hooks = self.kept
        put_weights(net.module, weights)
        put_into_hooks(self._hooks, hooks)
        net.history[:] = history
        net.notify("on_train_end", X=None, y=None)
        return True

    def epoch_is_over(self, net: Any) -> None:
        self._keep(net)
        if self._checkpoints is not None and self._checkpoints.due(self._name):
            self._checkpoints.save(self._name, self._state(net))

    def _keep(self, net: Any) -> None:
        if self._keeps:
            weights = {name: t.clone() for name, t in weights_of(net.module).items()}
            self.kept = weights, list(net.history), copy.deepcopy(hook_states(self._hooks))

    def _listeners(self, net: Any) -> dict[str, Any]:
        callbacks = {
            name: attributes_of(f"the callback {name!r}", callback)
            for name, callback in self._callbacks(net).items()
        }
        return {"callbacks": callbacks, "hooks": hook_states(self._hooks)}

    def _state(self, net: Any) -> dict[str, Any]:
        return {
            "finished": False,
            "module": module_state(net.module),
            "optimizer": net.optimizer_.state_dict(),
            "generators": stored_generators(net.state),
            "history": list(net.history),
            "best_losses": net._best_losses,
            **self._listeners(net),
        }

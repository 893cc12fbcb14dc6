"""Save a training after each epoch: on the disk, and in memory in case of Ctrl-C."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._training._checkpoints import checked_type
from skuq._training._divergence import check_trained
from skuq._training._hooks import TrainingHook
from skuq._training._settings import Settings, Trained
from skuq._training._stored import (
    checked_history,
    hook_states,
    module_state,
    put_into,
    put_into_hooks,
)

__all__ = ["LastEpoch", "Saving", "load_finished", "save_finished"]


@dataclass
class LastEpoch:
    """The state of a network after its last whole epoch."""

    weights: dict[str, Tensor]
    n_epochs: int  # rows of its history
    stopped: bool = False  # whether early stopping has stopped it


class Loop(Protocol):
    """The training loop of one network, or of several in a stack."""

    def checkpoint(self) -> dict[str, Any]:
        """Return all state that one epoch hands to the next, except that of hooks.

        ValueError if a checkpoint cannot hold the state of a user's callback.
        """

    def load_checkpoint(self, saved: dict[str, Any]) -> int:
        """Restore a `checkpoint` in place; return its number of epochs."""

    def last_epoch(self) -> list[LastEpoch]:
        """Return the state of each network after an epoch."""

    def put_back(self, networks: list[LastEpoch]) -> None:
        """Restore the states of `last_epoch`, in place."""


class Saving:
    """Saves one training, and goes on from its last checkpoint.

    Parameters
    ----------
    name : str
        The name of the training among the checkpoints.
    loop : Loop
        The training loop.
    settings : Settings
        Holds the `checkpoints` to write and read. With `keeps_interrupted`, the weights after each
        epoch also stay in memory.
    hooks : sequence of TrainingHook
        The hooks of the posterior: one for each network, or none.
    """

    def __init__(
        self, name: str, loop: Loop, settings: Settings, hooks: Sequence[TrainingHook]
    ) -> None:
        self._name = name
        self._loop = loop
        self._settings = settings
        self._hooks = hooks
        self._last: list[LastEpoch] = []
        self._hooks_then: list[dict[str, Any]] = []

    def begin(self) -> int:
        """Restore the last checkpoint into a loop that is ready to train; return its epochs."""
        checkpoints = self._settings.checkpoints
        if checkpoints is None:
            return 0
        self._state()  # refuses what cannot be saved now, not after an epoch
        with checkpoints.restored(self._name) as saved:
            if saved is None:
                return 0
            n_epochs = self._loop.load_checkpoint(saved)
            put_into_hooks(self._hooks, saved["hooks"])
        self._remember()
        return n_epochs

    def epoch_is_over(self) -> None:
        self._remember()
        checkpoints = self._settings.checkpoints
        if checkpoints is not None and checkpoints.due(self._name):
            checkpoints.save(self._name, self._state())

    def put_back(self) -> bool:
        """Restore networks and hooks of the last whole epoch; return False if there is none."""
        if not self._last:
            return False
        put_into_hooks(self._hooks, self._hooks_then)
        self._loop.put_back(self._last)
        return True

    def _remember(self) -> None:
        if self._settings.keeps_interrupted:
            self._last = self._loop.last_epoch()
            self._hooks_then = copy.deepcopy(hook_states(self._hooks))

    def _state(self) -> dict[str, Any]:
        return {"finished": False, **self._loop.checkpoint(), "hooks": hook_states(self._hooks)}


def save_finished(
    name: str, trained: list[Trained], settings: Settings, hooks: Sequence[TrainingHook]
) -> None:
    """Save networks after their training; a resumed fit does not train them again."""
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
    """Load the networks of `save_finished` into untrained ones; None if there are none."""
    if settings.checkpoints is None:
        return None
    with settings.checkpoints.restored(name) as saved:
        if saved is None or not checked_type(saved["finished"], bool):
            return None
        done = []
        for network, one in zip(networks, saved["networks"], strict=True):
            put_into(network, one["module"])
            done.append(Trained(network, checked_history(one["history"])))
        put_into_hooks(hooks, saved["hooks"])
    for trained in done:
        check_trained(trained.module, train, settings, trained.history, math.nan)
    return done

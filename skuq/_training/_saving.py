"""Saves a training after its epochs: on the disk, and in memory for the case of Ctrl-C."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._training._checkpoints import of_type
from skuq._training._divergence import check_trained
from skuq._training._hooks import TrainingHook
from skuq._training._settings import Settings, Trained
from skuq._training._stored import (
    hook_states,
    module_state,
    put_into,
    put_into_hooks,
    rows_of,
)

__all__ = ["LastEpoch", "Saving", "load_finished", "save_finished"]


@dataclass
class LastEpoch:
    """A network as it was after its last whole epoch."""

    weights: dict[str, Tensor]
    n_epochs: int  # rows of its history
    stopped: bool = False  # by early stopping


class Loop(Protocol):
    """What trains: one network, or several in a stack."""

    def checkpoint(self) -> dict[str, Any]:
        """All that one epoch hands to the next, hooks aside.

        ValueError if a checkpoint cannot hold what a callback of the user remembers.
        """

    def load_checkpoint(self, saved: dict[str, Any]) -> int:
        """`checkpoint` back, in place; returns the number of epochs that it has."""

    def last_epoch(self) -> list[LastEpoch]:
        """Each network as it is after an epoch."""

    def put_back(self, networks: list[LastEpoch]) -> None:
        """`last_epoch` back, in place."""


class Saving:
    """Saves one training, and goes on from what was saved.

    Parameters
    ----------
    name : str
        Of the training, among the checkpoints.
    loop : Loop
    settings : Settings
        Its `checkpoints` are written and read; if `keeps_interrupted`, the weights after each
        epoch stay in memory.
    hooks : sequence of TrainingHook
        Of the posterior: one for each network, or none.
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
        """Put the last checkpoint into a loop that is ready to train; the epochs that it has."""
        checkpoints = self._settings.checkpoints
        if checkpoints is None:
            return 0
        self._state()  # what cannot be saved is refused here, not after an epoch
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
        """After Ctrl-C: the networks and hooks as they were after the last whole epoch; whether
        there is such a thing."""
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
    """Save networks whose training is finished; a resumed fit takes them as they are."""
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

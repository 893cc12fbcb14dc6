"""One network of a stack: its history, its early stopping, its best weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from skuq._training._history import Record
from skuq._training._interrupts import StopTraining
from skuq._training._net import early_stopping
from skuq._training._saving import LastEpoch
from skuq._training._stack import Stack
from skuq._training._stored import checked_history
from skuq.exceptions import DivergedError

__all__ = ["Member"]


class Member:
    """The progress of one network of a stack. Early stopping sees it in the place of skorch's net.

    Parameters
    ----------
    number : int
        The number of the network in the fit, for errors.
    index : int
        Its place in the stack.
    stack : Stack
        The stack that trains it.
    record : Record
        Its history.
    """

    verbose = 0  # for skorch's early stopping

    def __init__(self, number: int, index: int, stack: Stack, record: Record) -> None:
        self.number = number
        self.index = index
        self.record = record
        self.stopped = False
        self._stack = stack
        self._best: dict[str, Tensor] | None = None
        self._stopping = None
        if record.settings.patience is not None:
            self._stopping = early_stopping(record.settings, load_best=False)
            self._stopping.on_train_begin(self)

    @property
    def history(self) -> Any:
        return self.record.rows

    def weights(self) -> dict[str, Tensor]:
        """Copy the best weights that early stopping has seen; without it, the present weights."""
        return self._best or self._stack.state(self.index)

    def stop_early(self) -> None:
        """Ask early stopping, after an epoch, whether the network goes on.

        A stopped network still takes steps in the stack, but its best weights stay.
        """
        if self._stopping is None:
            return
        try:
            self._stopping.on_epoch_end(self)
        except StopTraining:
            self.stopped = True
        if self._stopping.best_epoch_ == self.history[-1, "epoch"]:
            self._best = self._stack.state(self.index)

    def put_back(self, last: LastEpoch) -> None:
        del self.history[last.n_epochs :]
        self._best, self.stopped = last.weights, last.stopped

    def checkpoint(self) -> dict[str, Any]:
        return {
            "history": list(self.history),
            "best": self.record.least,
            "best_state": self._best,
            "misses": self._stopping.misses_ if self._stopping else 0,
            "stopped": self.stopped,
        }

    def load_checkpoint(self, saved: dict[str, Any]) -> None:
        self.history[:] = checked_history(saved["history"])
        self.record.least, self._best = saved["best"], saved["best_state"]
        self.stopped = saved["stopped"]
        if self._stopping is not None:
            self._stopping.misses_ = saved["misses"]
            self._stopping.dynamic_threshold_ = self.record.least["valid"]

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Add the number of the network to a `DivergedError`."""
        try:
            yield
        except DivergedError as error:
            error.network = self.number
            raise

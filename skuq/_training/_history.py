"""The record of the epochs of one network, for both training loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from skuq._training._divergence import Gradients, check_losses
from skuq._training._settings import Settings
from skuq._utils._progress import Task

__all__ = ["Record"]


@dataclass
class Record:
    """The losses of one network, epoch by epoch, in the columns of skorch's history.

    Parameters
    ----------
    rows : list of dict
        The history, one row for each epoch; the loop appends the rows.
        settings : Settings
            How the network is trained, for errors.
    task : Task
        The training of this network; its epochs become subtasks.
    snapshot : callable
        Maps a function that gives weights, and a history, to a function that makes the attributes
        of an estimator.
    gradients : Gradients
        Gradient norms, for errors.
    index : int, default=None
        The place of the network in a stack.
    """

    rows: list[dict[str, Any]]
    settings: Settings
    task: Task
    snapshot: Callable[..., Any]
    gradients: Gradients
    index: int | None = None
    least: dict[str, float] = field(default_factory=dict)  # mean losses of this training, by kind

    def begin_epoch(self) -> None:
        """Report to callbacks that an epoch begins."""
        self._epoch = self.task.subtask("epoch").begin()

    def add(self, kind: str, mean: float, each: Tensor) -> None:
        """Record the losses of an epoch in the last row.

        Parameters
        ----------
        kind : "train" or "valid"
        mean : float
            The mean over the rows.
        each : Tensor of shape (n_batches,)
            The mean loss of each batch.

        Raises
        ------
        DivergedError
            If the mean is not finite.
        """
        row, least = self.rows[-1], self.least.get(kind, float("inf"))
        self.least[kind] = min(mean, least)
        row |= {f"{kind}_loss": mean, f"{kind}_loss_best": mean < least}
        row[f"{kind}_batch_count"] = len(each)
        epoch = row["epoch"]
        check_losses(kind, mean, each, epoch, self.settings, self.gradients, self.index)

    def end_epoch(self, weights: Callable[[], dict[str, Tensor]]) -> bool:
        """Report the end of the epoch; return whether a callback asks for the end of training."""
        row = self.rows[-1]
        losses = {name: row[name] for name in ("train_loss", "valid_loss") if name in row}
        return self._epoch.end(self.snapshot(weights, self.rows), **losses)

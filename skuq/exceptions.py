"""Errors that a caller may want to catch by name."""

from __future__ import annotations

__all__ = ["DivergedError", "PersistenceError"]


class DivergedError(ValueError):
    """Training produced a loss or a weight that is NaN or infinite.

    A subclass of `ValueError`, so that ``GridSearchCV(error_score=...)`` counts a diverged
    candidate as failed instead of scoring it.

    Parameters
    ----------
    message : str, default=""
        The text of the error.

    Attributes
    ----------
    epoch, batch : int or None
        The first place where the loss was not finite, both counted from 1. If weights are not
        finite after training, the last place.
    gradient_norm : float or None
        The last known finite Euclidean norm of the gradient, which is computed in the first step of
        each epoch. NaN or infinite if no finite norm is known.
    network : int or None
        The number of the network, from 0.
    """

    def __init__(
        self,
        message: str = "",
        *,
        epoch: int | None = None,
        batch: int | None = None,
        gradient_norm: float | None = None,
        network: int | None = None,
    ) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
        self.gradient_norm = gradient_norm
        self.network = network

    def __str__(self) -> str:
        return f"network {self.network}: {super().__str__()}" if self.network else super().__str__()


class PersistenceError(ValueError):
    """An object cannot be saved, or a file cannot be loaded; the message gives the reason."""

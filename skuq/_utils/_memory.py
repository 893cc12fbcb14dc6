"""Errors of devices without free memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["explained_at_fit", "give_back", "is_out_of_memory"]

# Messages of torch when it raises a plain RuntimeError.
_MESSAGES = ("can't allocate memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that a device, or the host, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


def give_back(device: torch.device) -> None:
    """Return the memory of torch's cache to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def explained_at_fit(n_rows: int, n_networks: int, device: torch.device) -> Iterator[None]:
    """Name a batch size to try if there is no memory for a step.

    Only the user can decide to use it, since fewer rows in a step change the training.

    Parameters
    ----------
    n_rows : int
        Number of rows of a batch.
    n_networks : int
        Number of networks that train at once.
    device : torch.device
        The device of the training.
    """
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    give_back(device)
    together = f" of {n_networks} networks at once" if n_networks > 1 else ""
    advice = f"try batch_size={max(1, n_rows // 2)}" if n_rows > 1 else "the network is too large"
    if n_networks > 1:
        advice += ", or n_jobs=1 of the posterior, which trains one network after another"
    raise torch.OutOfMemoryError(
        f"{device} has no memory for a training step{together} on {n_rows} rows: {advice}. "
        f"({reason})"
    )

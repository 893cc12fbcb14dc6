"""Devices by name, and work on several devices at once, with a thread for each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from skuq._utils._progress import Task, Watcher

__all__ = ["current", "first_named", "fits", "named_devices", "on_each", "same_device"]


def named_devices(device: Any) -> list[torch.device]:
    """List the devices of an estimator's parameter `device`; "auto" is CUDA if there is a GPU.

    Raises
    ------
    ValueError
        If a device is not available, or a list is empty or has devices of several kinds.
    """
    if not isinstance(device, list | tuple):
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return [_available(device)]
    if not device:
        raise ValueError(
            f"device={device!r} names no device; give some, such as ['cuda:0', 'cuda:1'], or "
            "device='auto'"
        )
    for one in device:
        if not isinstance(one, str | torch.device) or one == "auto":
            raise ValueError(
                f"device={device!r}: a list must hold names of devices, such as 'cuda:0', got "
                f"{one!r} in it"
            )
    found = [_with_index(_available(one)) for one in device]
    if len(kinds := sorted({one.type for one in found})) > 1:
        raise ValueError(
            f"device={device!r}: the devices of a list must be of one kind, got {kinds}, because "
            "results differ between kinds"
        )
    return found


def _available(device: Any) -> torch.device:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={str(device)!r} is not available here ({str(error).splitlines()[0]}); "
            "use device='auto'."
        ) from None
    return torch.device(device)


def _with_index(device: torch.device) -> torch.device:
    """Add the index of the current device to "cuda", since each thread has its own current one."""
    return device if device.index is not None else torch.empty(0, device=device).device


def first_named(device: Any) -> Any:
    """Return the first device of a list, which evaluates predictions, or the single device."""
    return device[0] if isinstance(device, list | tuple) and device else device


def same_device(one: torch.device, other: torch.device) -> bool:
    """Return whether two devices are the same; "cuda" equals any GPU."""
    return one == other or (one.type == other.type and None in (one.index, other.index))


def fits(n_bytes: int, device: torch.device) -> bool:
    """Return whether data need at most half of the free memory of a GPU."""
    return device.type != "cuda" or n_bytes <= torch.cuda.mem_get_info(device)[0] // 2


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Make ``device="cuda"`` in a module mean this device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


# ---------------------------------------------------------------------------------------------
# Several at once


class _Stoppable(Watcher):
    """Raises a KeyboardInterrupt in the subtasks of other threads, which Ctrl-C does not reach."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop

    def subtask(self) -> _Stoppable:
        return self

    def begin(self, name: str, size: int, of: str) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt


def on_each(
    devices: Sequence[torch.device],
    work: Callable[[int, Task], Iterator[Any]],
    receive: Callable[[Any], None],
) -> list[KeyboardInterrupt]:
    """Work on several devices at once.

    Parameters
    ----------
    devices : sequence of torch.device
        The devices, each with a thread; a device may be in the list twice.
    work : callable
        ``work(index, task)`` yields results. After an error in a thread, and after Ctrl-C, the
        subtasks of `task` raise a KeyboardInterrupt when other threads begin them.
    receive : callable
        Called with each result, in this thread, as results come.

    Returns
    -------
    list of KeyboardInterrupt
        The interrupt of this thread, and the interrupts of other threads.

    Raises
    ------
    Exception
        The error of the first device whose thread raised anything else.
    """
    stop, mail = threading.Event(), queue.SimpleQueue[tuple[int, bool, Any]]()
    errors: dict[int, BaseException | None] = {}

    def thread(index: int) -> None:
        error = None
        try:
            with current(devices[index]):
                for result in work(index, Task("fit", [_Stoppable(stop)])):
                    mail.put((index, False, result))
        except BaseException as raised:
            error = raised
            stop.set()
        mail.put((index, True, error))

    def read_all() -> None:
        while len(errors) < sum(worker.ident is not None for worker in threads):
            try:  # a Ctrl-C just before an endless wait would not end it
                index, is_over, content = mail.get(timeout=1)
            except queue.Empty:
                continue
            if is_over:
                errors[index] = content
            else:
                receive(content)

    interrupted: list[KeyboardInterrupt] = []
    numbers = range(len(devices))
    threads = [threading.Thread(target=thread, args=(k,), daemon=True) for k in numbers]
    try:
        for worker in threads:
            worker.start()
        read_all()
    except KeyboardInterrupt as error:  # a second one leaves at once
        interrupted.append(error)
        stop.set()
        read_all()
    finally:
        stop.set()
    raised = [error for _, error in sorted(errors.items()) if error is not None]
    for one in raised:
        if not isinstance(one, KeyboardInterrupt):
            raise one
        interrupted.append(one)
    return interrupted

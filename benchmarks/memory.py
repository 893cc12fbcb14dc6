"""How much memory a call takes: how far it raises the peak of a process of its own."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["extra_memories", "extra_memory"]

CLEAR = Path("/proc/self/clear_refs")


def extra_memory(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    """MiB by which a call raises the peak of a process of its own.

    `prepare(*arguments)`, a function of a module, is called there and returns the call. What it
    needed itself does not count: the record of the peak begins anew after it, where the system
    can do that.
    """
    return extra_memories(prepare, [arguments])[0]


def extra_memories(
    prepare: Callable[..., Callable[[], Any]], calls: Sequence[tuple]
) -> list[float]:
    """The same for several calls, in one process where the record of the peak can begin anew."""
    if len(calls) > 1 and not CLEAR.exists():
        return [extra_memory(prepare, *arguments) for arguments in calls]
    # A fork would begin with the memory of this process.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    child = context.Process(target=_child, args=(sender, threads, prepare, calls))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"the process that measures {prepare} died") from None
    finally:
        child.join()


def _child(sender: Any, threads: int, prepare: Callable, calls: Sequence[tuple]) -> None:
    torch.set_num_threads(threads)
    rises = []
    for arguments in calls:
        call = prepare(*arguments)
        _forget_peak()
        before = _peak_bytes()
        call()
        rises.append((_peak_bytes() - before) / 2**20)
        del call
    sender.send(rises)


def _forget_peak() -> None:
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # free memory that is kept would hide what the call takes
        CLEAR.write_text("5")
    except (AttributeError, OSError):
        pass


def _peak_bytes() -> int:
    """VmHWM where there is one: the peak that getrusage tells is inherited from the parent."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

"""A lock that threads get in the order in which they asked for it."""

from __future__ import annotations

import os
import threading
from collections import deque

__all__ = ["Turns"]


class Turns:
    """A reentrant lock, fair: who lets go of it and asks again comes after all who wait.

    In a forked process it is free: the thread that held it is not there.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._owner: int | None = None
        self._depth = 0

    @property
    def wanted(self) -> bool:
        """Whether a thread waits for it that would get it from one release."""
        return bool(self._waiting) and self._depth == 1

    @property
    def mine(self) -> bool:
        """Whether this thread has it."""
        return self._owner == threading.get_ident() and self._process == os.getpid()

    def acquire(self) -> None:
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc]
        with self._changed:
            if self._owner != threading.get_ident():
                self._wait()
            self._depth += 1

    def _wait(self) -> None:
        mine = object()
        self._waiting.append(mine)
        try:
            self._changed.wait_for(lambda: self._owner is None and self._waiting[0] is mine)
            self._owner = threading.get_ident()
        finally:  # Ctrl-C may end the waiting
            self._waiting.remove(mine)
            self._changed.notify_all()

    def release(self) -> None:
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._changed.notify_all()

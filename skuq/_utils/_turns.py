"""A lock that threads get in the order of their requests."""

from __future__ import annotations

import os
import threading
from collections import deque

__all__ = ["Turns"]


class Turns:
    """A fair reentrant lock: a thread that releases it and asks again waits behind all others.

    It is free in a forked process, since the thread that held it is not there.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._owner: int | None = None
        self._depth = 0

    @property
    def wanted(self) -> bool:
        """Whether another thread waits, and one release would give it the lock."""
        return bool(self._waiting) and self._depth == 1

    @property
    def mine(self) -> bool:
        """Whether this thread has the lock."""
        return self._owner == threading.get_ident() and self._process == os.getpid()

    def acquire(self) -> None:
        """Wait for the lock and take it."""
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
        """Give the lock back."""
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._changed.notify_all()

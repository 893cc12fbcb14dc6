"""Ctrl-C, and callbacks that stop a training: both raise a KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["CtrlC", "StopTraining"]


class StopTraining(KeyboardInterrupt):
    """A callback asks for the end of training (in skorch, it raises KeyboardInterrupt)."""


class CtrlC:
    """A context that knows whether Ctrl-C raised a KeyboardInterrupt.

    Python raises it in a signal handler, in the main thread. Inside the context, a second handler
    around it remembers the error. The context does nothing in other threads, which never get the
    error, and in programs whose handler is not written in Python.
    """

    def __init__(self) -> None:
        self._error: KeyboardInterrupt | None = None
        self._before: Callable[..., Any] | None = None

    def __enter__(self) -> CtrlC:
        before = signal.getsignal(signal.SIGINT)
        if callable(before) and threading.current_thread() is threading.main_thread():
            self._before = before
            self._handler = self._remember  # one object, so that __exit__ can recognise it
            signal.signal(signal.SIGINT, self._handler)
        return self

    def __exit__(self, *error: object) -> None:
        # If a callback has set another handler meanwhile, that one stays.
        if self._before and signal.getsignal(signal.SIGINT) is self._handler:
            signal.signal(signal.SIGINT, self._before)
        self._error = None  # its traceback holds the frames of the fit

    def raised(self, error: BaseException) -> bool:
        """Return whether Ctrl-C raised this error."""
        return error is self._error

    def _remember(self, number: int, frame: Any) -> None:
        assert self._before is not None
        try:
            self._before(number, frame)
        except KeyboardInterrupt as error:
            self._error = error
            raise

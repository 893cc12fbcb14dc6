"""Ctrl-C, and callbacks that stop a training: both arrive as a KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["CtrlC", "StopTraining"]


class StopTraining(KeyboardInterrupt):
    """A callback asked for the end of training (skorch's way is to raise KeyboardInterrupt)."""


class CtrlC:
    """A context that knows which KeyboardInterrupt Ctrl-C has raised.

    Python raises it in a signal handler, in the main thread. While the context lasts, a handler
    around that one remembers the error. Other threads never get it, nor does a program that has no
    handler written in Python: there the context does nothing.
    """

    def __init__(self) -> None:
        self._error: KeyboardInterrupt | None = None
        self._before: Callable[..., Any] | None = None

    def __enter__(self) -> CtrlC:
        before = signal.getsignal(signal.SIGINT)
        if callable(before) and threading.current_thread() is threading.main_thread():
            self._before = before
            self._handler = self._remember  # one object: it is looked for at the end
            signal.signal(signal.SIGINT, self._handler)
        return self

    def __exit__(self, *error: object) -> None:
        # A handler that a callback has set meanwhile stays.
        if self._before and signal.getsignal(signal.SIGINT) is self._handler:
            signal.signal(signal.SIGINT, self._before)
        self._error = None  # its traceback holds the frames of the fit

    def raised(self, error: BaseException) -> bool:
        """Whether this error is what Ctrl-C has raised."""
        return error is self._error

    def _remember(self, number: int, frame: Any) -> None:
        assert self._before is not None
        try:
            self._before(number, frame)
        except KeyboardInterrupt as error:
            self._error = error
            raise

"""Methods that some parameters take away."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, cast

__all__ = ["Unavailable", "available_unless"]

Method = TypeVar("Method", bound=Callable[..., Any])


class Unavailable(ValueError, AttributeError):
    """A method that is not there with these parameters: `hasattr` says no, and a call says why."""


class _Available:
    """A method that is looked up as long as `reason(object)` gives none against it."""

    def __init__(self, method: Callable[..., Any], reason: Callable[[Any], str | None]) -> None:
        functools.update_wrapper(cast("Any", self), method)
        self._method = method
        self._reason = reason

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self._method
        if (reason := self._reason(instance)) is not None:
            raise Unavailable(reason)
        return MethodType(self._method, instance)


def available_unless(reason: Callable[[Any], str | None]) -> Callable[[Method], Method]:
    """Decorate a method that objects do not have where `reason` gives a text.

    scikit-learn's own ``available_if`` hides the reason from the caller of the method.

    Parameters
    ----------
    reason : callable
        Maps the object to the message of the error, or to None where it has the method.
    """

    def decorate(method: Method) -> Method:
        available: Any = _Available(method, reason)
        found: Method = available
        return found

    return decorate

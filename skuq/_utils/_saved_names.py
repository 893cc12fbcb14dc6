"""The names under which files of `skuq.save` hold classes that declare one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

__all__ = ["declared", "saved_as"]

Class = TypeVar("Class", bound=type)

_OWN = ("skuq", "sklearn", "torch", "numpy")  # packages whose names only skuq declares

_QUALIFIED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

_declared: dict[str, type] = {}


def saved_as(name: str) -> Callable[[Class], Class]:
    """Let files of `skuq.save` hold instances of the decorated class, under a name.

    For posteriors, likelihoods and kinds of draws that you write yourself. `skuq.load` finds the
    class by this name, so import its module before you load. A file stores the attributes of an
    instance, which must be numbers, text, arrays, tensors, or containers of these; `load` sets
    them on a new instance, and does not call the constructor. Do not trust their values in code
    that could do harm: files can be forged.

    Parameters
    ----------
    name : str
        The name in files, such as ``"mypackage.BiasNoise"``. Keep it when you move or rename the
        class, and old files still load.

    Returns
    -------
    callable
        The class decorator; it returns the class unchanged.

    Raises
    ------
    TypeError
        If the name is no text.
    ValueError
        If the name is not of the form ``"package.Name"``, belongs to skuq, or is the name of
        another class.

    Examples
    --------
    >>> from skuq.persistence import saved_as
    >>> from skuq.posteriors import Draws, Posterior
    >>> @saved_as("mypackage.SingleDraw")
    ... class SingleDraw(Posterior):
    ...     def fit(self, problem):
    ...         (network,) = problem.train()
    ...         return Draws(network)
    """

    if not isinstance(name, str):
        raise TypeError(
            f"saved_as takes the name that files give the class, got {name!r}: write "
            "@saved_as('mypackage.Name') above the class"
        )

    def declare(cls: Class) -> Class:
        is_own = cls.__module__.partition(".")[0] == "skuq"
        if not (is_own or (_QUALIFIED.fullmatch(name) and name.partition(".")[0] not in _OWN)):
            raise ValueError(
                f"{cls.__qualname__} cannot be saved as {name!r}: expected a name with the name of "
                f"your package before it, such as 'mypackage.{cls.__name__}', and not one of "
                f"{', '.join(_OWN)}"
            )
        other = _declared.get(name)
        if other is not None and _place(other) != _place(cls):
            raise ValueError(
                f"{_place(cls)} cannot be saved as {name!r}: that is the name of {_place(other)}; "
                "give it another name"
            )
        _declared[name] = cls  # a class that is defined again, as in a notebook, takes its place
        return cls

    return declare


def declared() -> Mapping[str, type]:
    """Return the classes that were declared, by their names in files."""
    return MappingProxyType(_declared)


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"

"""Find out whether an object behaves as scikit-learn's class does."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["is_stock"]

_METHODS = (
    "decision_function",
    "inverse_transform",
    "predict",
    "predict_log_proba",
    "predict_proba",
    "transform",
)
_KNOWN = ("imblearn", "sklearn", "skuq")  # subclasses in these packages keep the meaning


def is_stock(value: Any, *kinds: type) -> bool:
    """Return whether `value` is of one of these classes, with their methods.

    A subclass with its own `predict` or `inverse_transform` does not count, since it may behave in
    another way. A subclass that only adds methods counts.

    Parameters
    ----------
    value : object
        Any object.
    *kinds : type
        Classes of scikit-learn.
    """
    return any(isinstance(value, kind) and _has_methods_of(value, kind) for kind in kinds)


def _has_methods_of(value: Any, kind: type) -> bool:
    if set(vars(value)) & set(_METHODS):
        return False
    if type(value).__module__.partition(".")[0] in _KNOWN:
        return True
    own, known = (
        [inspect.getattr_static(cls, name, None) for name in _METHODS]
        for cls in (type(value), kind)
    )
    return all(a is b for a, b in zip(own, known))

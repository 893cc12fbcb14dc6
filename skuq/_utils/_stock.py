"""Which objects do exactly what their class is known for."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["is_stock"]

_ANSWERS = (
    "decision_function",
    "inverse_transform",
    "predict",
    "predict_log_proba",
    "predict_proba",
    "transform",
)
_KNOWN = ("imblearn", "sklearn", "skuq")  # packages whose own subclasses keep the meaning


def is_stock(value: Any, *kinds: type) -> bool:
    """Whether it is one of these kinds, and answers as that does.

    A subclass that has an answer of its own, a `predict` or an `inverse_transform`, is something
    else: what is known of the class need not hold. One that only adds to it will do.

    Parameters
    ----------
    value : object
    *kinds : classes of scikit-learn
    """
    return any(isinstance(value, kind) and _answers_as(value, kind) for kind in kinds)


def _answers_as(value: Any, kind: type) -> bool:
    if set(vars(value)) & set(_ANSWERS):
        return False
    if type(value).__module__.partition(".")[0] in _KNOWN:
        return True
    own, known = (
        [inspect.getattr_static(cls, name, None) for name in _ANSWERS]
        for cls in (type(value), kind)
    )
    return all(a is b for a, b in zip(own, known))

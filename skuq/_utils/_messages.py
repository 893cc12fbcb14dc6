"""Messages: warnings, names of objects, and suggestions of names."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator

from skuq._utils._stock import is_stock

__all__ = ["checked_level", "name_of", "suggest", "unfrozen", "warn", "without_vmap_warnings"]

# Packages through which a user's call may reach skuq.
_BETWEEN = {"skuq", "sklearn", "skorch", "torch", "joblib", "contextlib", "functools"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the line of the user's code that called skuq."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def without_vmap_warnings() -> Iterator[None]:
    """Hide torch's warning that an operation under vmap is a loop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def unfrozen(estimator: Any) -> Any:
    """Return the estimator inside of a FrozenEstimator, or the estimator itself."""
    while is_stock(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def name_of(estimator: Any) -> str:
    """Return the name of an estimator in messages."""
    return type(unfrozen(estimator)).__name__


def checked_level(name: str, value: Any) -> float:
    """Return a number strictly between 0 and 1; refuse anything else."""
    try:
        level = float(value) if np.ndim(value) == 0 else np.nan
    except (TypeError, ValueError):
        level = np.nan
    if isinstance(value, str) or not 0 < level < 1:
        raise ValueError(f"{name} must be one number strictly between 0 and 1, got {value!r}")
    return level


def suggest(name: str, valid: Any) -> str:
    """Suggest the nearest valid name, or return an empty text."""
    near = difflib.get_close_matches(name, list(valid), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""

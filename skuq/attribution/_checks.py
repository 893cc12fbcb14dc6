"""Checks of arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._utils._messages import suggest
from skuq._utils._random import Purpose, derive_seed, root_seed

__all__ = ["check_name", "check_number", "seed_of"]


def check_name(name: str, value: Any, known: Any) -> None:
    """Refuse a value that is none of the known names.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : object
        What was given.
    known : iterable of str
        What is known.
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}."
            f"{suggest(str(value), known)}"
        )


def check_number(name: str, value: Any, least: float, whole: bool = False) -> None:
    """Refuse anything but a number that is large enough.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : object
        What was given.
    least : float
        The smallest number that may be given.
    whole : bool, default=False
        Whether it must be an integer.
    """
    kinds: Any = int | np.integer if whole else int | float | np.number
    if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
        kind = "an integer" if whole else "a number"
        raise ValueError(f"{name} must be {kind} of at least {least}, got {value!r}")


def seed_of(random_state: Any) -> int:
    """Make a seed of at most 62 bits from what users give.

    Parameters
    ----------
    random_state : int, RandomState or None
        As in scikit-learn.
    """
    known = random_state is None or isinstance(random_state, int | np.integer)
    if not (known or isinstance(random_state, np.random.RandomState)) or (
        known and random_state is not None and random_state < 0
    ):
        raise ValueError(
            "random_state must be an integer of at least 0, a numpy.random.RandomState or None, "
            f"got {random_state!r}"
        )
    root = root_seed(random_state)
    return root if root < 2**62 else derive_seed(root, Purpose.OTHER) >> 1

"""JSON with limits: the depth and the number of values are bounded before parsing."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from skuq.exceptions import PersistenceError

__all__ = ["MOST_DEPTH", "dump", "parse"]

MOST_DEPTH = 64
MOST_VALUES = 1_000_000  # about 100 MB in Python
_BLOCK = 2**20


def dump(value: Any) -> bytes:
    """Write compact JSON in ASCII; floats are exact, NaN and infinity are refused."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    _check_size(text, "the object to save")
    return text


def parse(text: bytes, what: str) -> Any:
    """Parse a JSON text.

    Raises
    ------
    PersistenceError
        If the text is no JSON in UTF-8, has duplicate keys or NaN, is deeper than `MOST_DEPTH`, or
        has more than `MOST_VALUES` values.
    """
    _check_size(text, what)
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except PersistenceError as error:
        raise PersistenceError(f"{what} is malformed: {error}") from None
    except (ValueError, RecursionError) as error:
        raise PersistenceError(f"{what} is no valid JSON: {error}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise PersistenceError(f"the key {name[:80]!r} is there twice")
        found[name] = value
    return found


def _finite(text: str) -> float:
    """Parse a number; refuse 1e400 and the like, which Python reads as infinity."""
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


def _no_constant(name: str) -> Any:
    raise PersistenceError(f"{name} is not allowed")


def _check_size(text: bytes, what: str) -> None:
    """Bound the depth and the number of values by brackets and commas outside of strings."""
    depth = n_values = 0
    inside = 0  # 1 if a block begins inside a string
    # Pairs from the left: a quote is escaped after an odd number of backslashes.
    bare = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    for start in range(0, len(bare), _BLOCK):
        block = np.frombuffer(bare, np.uint8, min(_BLOCK, len(bare) - start), start)
        quoted = (np.cumsum(block == ord('"'), dtype=np.uint8) + inside) & 1
        inside = int(quoted[-1])
        plain = np.where(quoted, 0, block)
        opening = (plain == ord("[")) | (plain == ord("{"))
        closing = (plain == ord("]")) | (plain == ord("}"))
        depths = depth + np.cumsum(
            opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int32
        )
        if depths.max() > MOST_DEPTH:
            raise PersistenceError(f"{what} is nested more than {MOST_DEPTH} levels deep")
        depth = int(depths[-1])
        n_values += int(opening.sum()) + int((plain == ord(",")).sum())
        if n_values > MOST_VALUES:
            raise PersistenceError(f"{what} holds more than {MOST_VALUES} values")

"""JSON with limits: what comes in is bounded in depth and in number before it is parsed."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from skuq.exceptions import PersistenceError

__all__ = ["MOST_DEPTH", "dump", "parse"]

MOST_DEPTH = 64
MOST_VALUES = 1_000_000  # which Python turns into 100 MB or so
_BLOCK = 2**20


def dump(value: Any) -> bytes:
    """Compact, in ASCII; floats round-trip to the bit, NaN and infinity are not JSON."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    _check_size(text, "what is to be saved")
    return text


def parse(text: bytes, what: str) -> Any:
    """The value of a JSON text.

    Raises
    ------
    PersistenceError
        For what is no JSON in UTF-8, duplicate keys, NaN, a depth of more than `MOST_DEPTH`, or
        more than `MOST_VALUES` values.
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
    """1e400 is a number that Python reads as infinity."""
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


def _no_constant(name: str) -> Any:
    raise PersistenceError(f"{name} is not allowed")


def _check_size(text: bytes, what: str) -> None:
    """Bounds depth and number of values by the brackets and commas outside of strings."""
    depth = n_values = 0
    inside = 0  # of a string, at the beginning of a block
    # Pairs from the left: after a run of backslashes a quote is escaped if their number is odd.
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

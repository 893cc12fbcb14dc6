"""MC dropout of segmentation networks by other packages, where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Predict = Callable[[Any], Any]
PEERS: dict[str, Callable[..., Predict | None]] = {}

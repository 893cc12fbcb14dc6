"""Blocks of rows on their way through the engine, and what is left of them on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["Chunks", "Reduced", "one_behind", "padded"]


class Chunks:
    """Goes through rows in chunks, whose size may fall on the way; yields where each begins.

    Attributes
    ----------
    n_rows, before : int
        Of a chunk, now and at first.
    done : int
        Rows that need not be asked for again; set by who goes through.
    halved : bool
        Whether the size has just fallen.
    """

    def __init__(self, total: int, n_rows: int) -> None:
        self.total = total
        self.n_rows = self.before = n_rows
        self.done = 0
        self.halved = False

    def __len__(self) -> int:
        return -(-self.total // self.n_rows)

    def __iter__(self) -> Iterator[int]:
        while self.done < self.total:
            self.halved = False
            yield self.done

    def halve(self) -> None:
        self.n_rows = self.n_rows // 2
        self.halved = True


def padded(rows: Tensor, n_rows: int) -> Tensor:
    missing = n_rows - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


class Reduced:
    """What is left of a block of rows, on its way to the CPU."""

    def __init__(
        self,
        start: int,
        n_rows: int,
        output: Tensor,
        reduction: Any,
        aligned: Iterator[Tensor],
        places: torch.Size,
    ) -> None:
        self.start = start
        self.places = places
        self._n_rows = n_rows
        self._output = output
        reduced = reduction(output, *aligned)
        self.single = isinstance(reduced, Tensor)
        # The sum is finite where every output is; whether it is is asked when it has arrived.
        parts = [output.sum(), *([reduced] if self.single else reduced)]
        self._arrived = None
        if output.is_cuda:
            parts = [
                torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(
                    part, non_blocking=True
                )
                for part in parts
            ]
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(output.device))
        self._parts = parts

    def parts(self) -> list[Tensor]:
        """What the reduction gave. Raises ValueError if an output was not finite."""
        if self._arrived is not None:
            self._arrived.synchronize()
        total, *parts = self._parts
        if not math.isfinite(total):
            _check_finite(self._output[:, : self._n_rows], self.start, math.prod(self.places))
        return parts


def one_behind(blocks: Iterator[Reduced]) -> Iterator[Reduced]:
    """While a GPU is busy with a block, the one before is fetched."""
    before = None
    for block in blocks:
        if before is not None:
            yield before
        before = block
    if before is not None:
        yield before


def _check_finite(output: Tensor, start: int, n_places: int) -> None:
    strange = ~torch.isfinite(output).all(-1).all(0)
    if bool(strange.any()):
        first = start + int(strange.nonzero()[0])
        raise ValueError(
            f"the network returned NaN or infinity for row {first // n_places} of X; "
            "expected finite outputs. Is the row far outside of the data that the network was "
            "fitted on?"
        )

"""Blocks of rows on their way through the engine, and their results on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["Chunks", "Reduced", "one_behind", "padded"]


class Chunks:
    """Goes through rows in chunks whose size may fall; yields the first row of each.

    Attributes
    ----------
    n_rows, before : int
        Number of rows of a chunk: now, and at the beginning.
    done : int
        Number of finished rows; the loop over the chunks sets it.
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
        """Halve the size of the chunks to come."""
        self.n_rows = self.n_rows // 2
        self.halved = True


def padded(rows: Tensor, n_rows: int) -> Tensor:
    """Repeat the first row until there are `n_rows` rows."""
    missing = n_rows - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


class Reduced:
    """The reduced outputs of a block of rows, on their way to the CPU."""

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
        # The sum is finite only if all outputs are, which `parts` checks on the CPU.
        parts = [output.sum(), *([reduced] if self.single else reduced)]
        self._copied_event = None
        if output.is_cuda:
            parts = [
                torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(
                    part, non_blocking=True
                )
                for part in parts
            ]
            self._copied_event = torch.cuda.Event()
            self._copied_event.record(torch.cuda.current_stream(output.device))
        self._parts = parts

    def parts(self) -> list[Tensor]:
        """Return the results of the reduction; raise a ValueError if an output was not finite."""
        if self._copied_event is not None:
            self._copied_event.synchronize()
        total, *parts = self._parts
        if not math.isfinite(total):
            _check_finite(self._output[:, : self._n_rows], self.start, math.prod(self.places))
        return parts


def one_behind(blocks: Iterator[Reduced]) -> Iterator[Reduced]:
    """Yield each block only after the next one began, so that a GPU stays busy."""
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

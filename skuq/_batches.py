"""The data of a training: rows that lie on the device, and batches that are slices of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["Batch", "Rows", "SlicedBatches", "StackedBatches"]

_COPY_BYTES = 512 * 2**20  # a shuffled copy of the data up to this size is made in each epoch


class Batch(tuple):
    """The pair (x, target) that skorch expects, and the weights of its rows."""

    weight: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, target: Tensor, weight: Tensor | None) -> Batch:
        batch = cls((x, target))
        batch.weight = weight
        return batch


@dataclass
class Rows(Dataset):
    """Rows on the device: inputs, encoded targets and weights (mean 1 over the data set)."""

    X: Tensor
    y: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, index: Any) -> Batch:
        weight = None if self.weight is None else self.weight[index]
        return Batch.of(self.X[index], self.y[index], weight)

    __getitems__ = __getitem__

    def take(self, index: Any) -> Rows:
        """The rows at these indices."""
        index = torch.as_tensor(index, device=self.X.device)
        weight = None if self.weight is None else self.weight[index]
        return Rows(self.X[index], self.y[index], weight)


class SlicedBatches:
    """Batches as slices of the rows, shuffled by a private generator in training.

    A last batch of a single row is joined to the one before: BatchNorm needs two.
    """

    OPTIONS: ClassVar[set[str]] = {"batch_size", "shuffle", "drop_last"}

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        shuffle: bool,
        generator: torch.Generator | None,
        drop_last: bool = False,
    ) -> None:
        self._rows = rows
        self._size = min(batch_size, len(rows)) if batch_size > 0 else len(rows)
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._generator = generator

    def _spans(self) -> list[tuple[int, int]]:
        n = len(self._rows)
        starts = list(range(0, n, self._size))
        if self._drop_last and n % self._size:
            starts.pop()
            n -= n % self._size
        elif len(starts) > 1 and n % self._size == 1:
            starts.pop()
        return list(zip(starts, [*starts[1:], n]))

    def __len__(self) -> int:
        return len(self._spans())

    def __iter__(self) -> Iterator[Batch]:
        rows = self._rows
        if not self._shuffle:
            for start, stop in self._spans():
                yield rows[start:stop]
            return
        order = torch.randperm(len(rows), generator=self._generator).to(rows.X.device)
        if rows.X.numel() * rows.X.element_size() <= _COPY_BYTES:
            shuffled = rows.take(order)
            for start, stop in self._spans():
                yield shuffled[start:stop]
        else:
            for start, stop in self._spans():
                yield rows[order[start:stop]]


class StackedBatches(SlicedBatches):
    """Batches of several networks at once, each with its own order: (x, target, weight), of shape
    (n_networks, n_rows, ...).

    Attributes
    ----------
    indices : Tensor of shape (n_networks, n_rows), or None
        The rows of each network, if not all.
    """

    indices: Tensor | None = None

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        shuffle: bool,
        generators: Sequence[torch.Generator],
        drop_last: bool = False,
    ) -> None:
        super().__init__(rows, batch_size, shuffle, None, drop_last)
        self._generators = generators

    def __iter__(self) -> Iterator[Any]:
        rows, order = self._rows, self._orders().to(self._rows.X.device)
        size = rows.X.numel() * rows.X.element_size() * len(self._generators)
        shuffled = rows.take(order) if size <= _COPY_BYTES else None
        for start, stop in self._spans():
            if shuffled is None:
                batch = rows[order[:, start:stop]]
            else:
                batch = shuffled[:, start:stop]
            yield (*batch, batch.weight)

    def _orders(self) -> Tensor:
        n_rows = len(self._rows)
        if self._shuffle:
            order = torch.stack([torch.randperm(n_rows, generator=g) for g in self._generators])
        else:
            order = torch.arange(n_rows).expand(len(self._generators), n_rows)
        return order if self.indices is None else self.indices.gather(1, order)

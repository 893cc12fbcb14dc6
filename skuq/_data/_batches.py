"""The data of a training: rows, on the device if they fit, and batches, which are slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from skuq._networks._inputs import Layout
from skuq._utils._arrays import tensor_of
from skuq._utils._devices import fits, same_device

__all__ = ["Batch", "Rows", "SlicedBatches", "StackedBatches", "StreamedRows", "sent"]

_COPY_BYTES = 512 * 2**20  # a shuffled copy of the data up to this size is made in each epoch


class Batch(tuple[Any, ...]):
    """The pair (x, target) that skorch expects, and the weights of its rows."""

    weight: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, target: Tensor, weight: Tensor | None) -> Batch:
        """Make a batch of its parts."""
        batch = cls((x, target))
        batch.weight = weight
        return batch

    def itself(self) -> Batch:
        """Return the batch unchanged, as the `collate_fn` of a DataLoader."""
        return self

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device."""
        x, target = self
        if x.device == device:
            return self
        weight = None if self.weight is None else sent(self.weight, device)
        return Batch.of(sent(x, device), sent(target, device), weight)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Send a tensor to a device; to a GPU from pinned memory, without waiting."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass
class Rows(Dataset[Any]):
    """Inputs, encoded targets and weights (mean 1 over the data set), all on one device.

    The device is the network's, or the host if the data do not fit or share memory with an array.
    """

    X: Tensor
    y: Tensor
    weight: Tensor | None = None
    layout: Layout | None = None  # of several inputs whose padding is cut in each batch

    may_be_copied: ClassVar[bool] = True  # a shuffled copy is made if it is not too large

    def __len__(self) -> int:
        return len(self.X)

    @property
    def inputs(self) -> Any:
        """The inputs without targets, as an object that takes indices."""
        return self.X

    @property
    def targets(self) -> Tensor:
        """The targets without inputs."""
        return self.y

    @property
    def device(self) -> torch.device:
        return self.X.device

    def on(self, device: torch.device, lock: Any = None) -> Rows:
        """Move the rows to a device; leave them on the host if they are there or do not fit.

        Streamed rows hold the lock while they read, since a user's Dataset may not be safe for
        threads.
        """
        if self.device.type == "cpu" or same_device(self.device, device):
            return self
        there = device if fits(self.X.nbytes, device) else torch.device("cpu")
        weight = None if self.weight is None else self.weight.to(there)
        return replace(self, X=self.X.to(there), y=self.y.to(there), weight=weight)

    @property
    def row_shape(self) -> torch.Size:
        return torch.Size(self.X.shape[1:])

    def first(self, n_rows: int) -> Tensor:
        """Return the inputs of the first rows, repeated if there are too few."""
        whole = replace(self, layout=None)
        inputs: Tensor = whole[torch.arange(n_rows) % len(self)][0]
        return inputs

    def __getitem__(self, index: Any) -> Batch:
        weight = None if self.weight is None else self.weight[index]
        x = self.X[index]
        x = x if self.layout is None else self.layout.trimmed(x)
        return Batch.of(x, self.y[index], weight)

    __getitems__ = __getitem__

    def take(self, index: Any) -> Rows:
        """Take rows by indices, of shape (n_rows,) or (n_networks, n_rows)."""
        index = torch.as_tensor(index, device=self.X.device)

        def taken(tensor: Tensor) -> Tensor:  # several times as fast as tensor[index]
            rows: Tensor = tensor.index_select(0, index.flatten()).unflatten(0, index.shape)
            return rows

        weight = None if self.weight is None else taken(self.weight)
        return Rows(taken(self.X), taken(self.y), weight, self.layout)


@dataclass
class StreamedRows(Rows):
    """Rows outside of memory; taking some of them reads nothing."""

    X: Any  # Streamed
    index: Tensor = None  # type: ignore[assignment]  # the rows to use
    # Makes targets and weights of targets that are read anew with their rows.
    fresh: Callable[[list[Any], Any], tuple[Tensor, Tensor | None]] | None = None

    may_be_copied = False

    def on(self, device: torch.device, lock: Any = None) -> StreamedRows:
        return self if lock is None else replace(self, X=self.X.locked(lock))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def inputs(self) -> Any:
        return self.X.subset(self.index.numpy())

    @property
    def targets(self) -> Tensor:
        return self.y[self.index]

    @property
    def device(self) -> torch.device:
        return self.y.device

    def __getitem__(self, key: Any) -> Batch:
        index = self.index[key]
        flat = index.flatten().numpy()
        if self.fresh is None:
            x, target = tensor_of(self.X[flat], copy=True), self.y[index]
            weight = None if self.weight is None else self.weight[index]
            return Batch.of(x.reshape(*index.shape, *x.shape[1:]), target, weight)
        rows, targets = self.X.pairs(flat)
        x, (target, weight) = tensor_of(rows, copy=True), self.fresh(targets, flat)
        weight = None if weight is None else weight.reshape(*index.shape, *weight.shape[1:])
        x, target = (t.reshape(*index.shape, *t.shape[1:]) for t in (x, target))
        return Batch.of(x, target, weight)

    __getitems__ = __getitem__

    def take(self, index: Any) -> StreamedRows:
        return replace(self, index=self.index[torch.as_tensor(index)])


class SlicedBatches:
    """Batches as slices of the rows, shuffled by a private generator in training.

    They are on `device` if it is given, otherwise on the device of the rows. A single last row
    joins the batch before, since BatchNorm needs two rows. `change` makes another batch of each,
    with numbers of the generator.
    """

    OPTIONS: ClassVar[set[str]] = {"batch_size", "shuffle", "drop_last"}

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        shuffle: bool,
        generator: torch.Generator | None,
        drop_last: bool = False,
        device: torch.device | None = None,
        n_rows: int | None = None,
        change: Callable[[Batch, torch.Generator], Batch] | None = None,
    ) -> None:
        self._change = change
        self._rows = rows
        self._n_rows = n_rows = len(rows) if n_rows is None else n_rows
        self._size = min(batch_size, n_rows) if batch_size > 0 else n_rows
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._generator = generator
        self._device = device

    def _spans(self) -> list[tuple[int, int]]:
        n = self._n_rows
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
        if self._device is None or same_device(self._device, self._rows.device):
            return self._slices()
        return _ahead(self._slices(), self._device)

    def _slices(self) -> Iterator[Batch]:
        return self._unchanged() if self._change is None else map(self._changed, self._unchanged())

    def _changed(self, batch: Batch) -> Batch:
        assert self._change is not None and self._generator is not None
        return self._change(batch, self._generator)

    def _unchanged(self) -> Iterator[Batch]:
        rows, order = self._rows, self._order()
        if order is None:
            for start, stop in self._spans():
                yield rows[start:stop]
            return
        shuffled = None
        if rows.may_be_copied:
            size = rows.row_shape.numel() * rows.X.element_size() * order.numel()
            shuffled = rows.take(order) if size <= _COPY_BYTES else None
        axes_before = (slice(None),) * (order.ndim - 1)
        for start, stop in self._spans():
            if shuffled is None:
                yield rows.take(order[..., start:stop])[:]
            else:
                yield shuffled[(*axes_before, slice(start, stop))]

    def _order(self) -> Tensor | None:
        """Draw the order of the rows in this epoch; None keeps their order."""
        if not self._shuffle:
            return None
        return torch.randperm(self._n_rows, generator=self._generator)


def _ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Move batches to another device; to a GPU, the next one while the network uses the last."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copying, working = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    before = None
    for batch in batches:
        with torch.cuda.stream(copying):
            after = batch.to(device)
        if before is not None:
            yield before
        working.wait_stream(copying)
        for tensor in (*after, after.weight):
            if tensor is not None:
                tensor.record_stream(working)  # keeps its memory until it is read
        before = after
    if before is not None:
        yield before


class StackedBatches(SlicedBatches):
    """Batches of several networks at once, each with its own order of the rows.

    Tensors have shape (n_networks, n_rows, ...).

    Parameters
    ----------
    rows : Rows
        The rows of all networks.
    indices : Tensor of shape (n_networks, n_rows), or None
        The rows of each network; None for all rows.
    generators : sequence of torch.Generator
        The generator of each network, for its order of the rows.
    **options
        Those of `SlicedBatches`.
    """

    def __init__(
        self,
        rows: Rows,
        indices: Tensor | None,
        *,
        generators: Sequence[torch.Generator],
        **options: Any,
    ) -> None:
        n_rows = None if indices is None else indices.shape[1]
        super().__init__(rows, generator=None, n_rows=n_rows, **options)
        self._indices = indices
        self._generators = generators

    def _order(self) -> Tensor:
        n_rows = self._n_rows
        if self._shuffle:
            order = torch.stack([torch.randperm(n_rows, generator=g) for g in self._generators])
        else:
            order = torch.arange(n_rows).expand(len(self._generators), n_rows)
        return order if self._indices is None else self._indices.gather(1, order)

    def _changed(self, batch: Batch) -> Batch:
        """Change the batch of each network with numbers of its own generator."""
        assert self._change is not None
        (x, target), weight = batch, batch.weight
        parts = [
            self._change(Batch.of(x[k], target[k], None if weight is None else weight[k]), own)
            for k, own in enumerate(self._generators)
        ]
        x, target = (torch.stack([part[side] for part in parts]) for side in (0, 1))
        if all(part.weight is None for part in parts):
            return Batch.of(x, target, None)
        ones = torch.ones_like(x[0, :, 0])
        weights = [ones if part.weight is None else part.weight for part in parts]
        return Batch.of(x, target, torch.stack(weights))

"""Rows outside of memory: in a large memory map, or in a torch Dataset.

They are read when they are needed, a batch or a chunk at a time. An IterableDataset has no order of
its own, so it is written to a temporary file first; from there rows can be shuffled, set apart and
read again in each epoch.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from skuq._data._inputs import Packer, as_inputs
from skuq._utils._random import PrivateGlobals

__all__ = [
    "Streamed",
    "is_dataset",
    "read_dataset",
    "rereadable",
    "streamed_if_mapped",
    "with_targets",
]

_MAPPED_BYTES = 32 * 2**20  # smaller memory maps are read at once
_BLOCK_BYTES = 4 * 2**20
# float64 holds numbers of any type; the estimator checks the rows again.
_ANY_ROWS = {"dtype": np.float64, "ensure_all_finite": False, "ensure_2d": False, "allow_nd": True}


class Streamed:
    """Rows that are read on demand, with the attributes of an array that training needs.

    Parameters
    ----------
    read : callable
        Maps indices of shape (n,) to an array of n rows.
    shape : tuple of int
        Shape of all rows that can be read.
    dtype : dtype
        Type of the numbers.
    index : ndarray of shape (n_samples,), default=None
        The rows to use, in order; None uses all.
    read_pairs : callable, default=None
        Maps indices to an array of rows and a list of their targets, where both are read together.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], np.ndarray],
        shape: tuple[int, ...],
        dtype: Any,
        index: np.ndarray | None = None,
        read_pairs: Callable[[np.ndarray], tuple[np.ndarray, list[Any]]] | None = None,
    ) -> None:
        self._read = read
        self._read_pairs = read_pairs
        self._index = np.arange(shape[0]) if index is None else index
        self.shape = (len(self._index), *shape[1:])
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * int(self.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        return self._read(self._index[key])

    @property
    def has_pairs(self) -> bool:
        """Whether rows are read together with their targets."""
        return self._read_pairs is not None

    def pairs(self, key: Any) -> tuple[np.ndarray, list[Any]]:
        """Read rows and their targets."""
        assert self._read_pairs is not None, "these rows have no targets"
        return self._read_pairs(self._index[key])

    def locked(self, lock: Any) -> Streamed:
        """Return the same rows for several threads, which then read one after another."""

        def in_turn(read: Callable[[np.ndarray], Any] | None) -> Any:
            def reading(index: np.ndarray) -> Any:
                # In this order: a thread with its turn at the generators may wait for the lock.
                with _private(0), lock:
                    return read(index)  # type: ignore[misc]

            return read and reading

        pairs = in_turn(self._read_pairs)
        return Streamed(in_turn(self._read), self.shape, self.dtype, self._index, pairs)

    def subset(self, key: Any) -> Streamed:
        """Return some of the rows, without reading them."""
        index = self._index[key]
        return Streamed(self._read, self.shape, self.dtype, index, self._read_pairs)


def streamed_if_mapped(X: Any) -> Any:
    """Return X, or a stream of it if it lies in a memory map that is not small."""
    base = X
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    if not isinstance(base, np.memmap | mmap.mmap) or X.nbytes <= _MAPPED_BYTES:
        return X
    return Streamed(X.__getitem__, X.shape, X.dtype)


def is_dataset(X: Any) -> bool:
    """Return whether X is a torch Dataset; raise a TypeError for a DataLoader."""
    if isinstance(X, DataLoader):
        raise TypeError(
            "X is a DataLoader; expected an array or a torch Dataset, since the estimator makes "
            "batches itself. Give loader.dataset, and its options as parameters of the estimator: "
            "batch_size=, iterator_train__num_workers=, iterator_train__sampler= and the like"
        )
    return isinstance(X, Dataset)


# float64 holds numbers of any type; the estimator checks the rows again.
_ANY_ROWS = {"dtype": np.float64, "ensure_all_finite": False, "ensure_2d": False, "allow_nd": True}


def with_targets(X: Any, y: Any) -> tuple[Any, Any]:
    """Return X and y; if y is None and X a Dataset, read both from it.

    An IterableDataset is read only once, since it may give other rows, or none, the next time.
    """
    X = as_inputs(X)
    if y is not None or not is_dataset(X):
        return X, y
    pack = None if isinstance(X, IterableDataset) else Packer(None, np.float64)
    rows, y = read_dataset(X, _ANY_ROWS, with_targets=True, pack=pack)
    if y is not None and y.dtype == object and (unknown := [v is None for v in y.flat]).count(True):
        raise ValueError(
            f"{type(X).__name__} has {sum(unknown)} item(s) whose target is None; expected a "
            "target in each. Leave these out, for example with torch.utils.data.Subset"
        )
    return (_StreamedDataset(rows) if isinstance(X, IterableDataset) else X), y


def rereadable(X: Any) -> Any:
    """Return X, or an IterableDataset as rows that can be read several times."""
    if not isinstance(X, IterableDataset):
        return as_inputs(X)
    return _StreamedDataset(read_dataset(X, _ANY_ROWS, with_targets=False)[0])


class _StreamedDataset(Dataset[Any]):
    """Streamed rows as a Dataset."""

    def __init__(self, rows: Streamed) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._rows[index]


def read_dataset(
    dataset: Any,
    checks: dict[str, Any],
    with_targets: bool,
    seed: int = 0,
    pack: Callable[[Any], Any] | None = None,
) -> tuple[Streamed, np.ndarray | None]:
    """Return the rows of a Dataset, to be read on demand, and its targets, if asked for.

    Parameters
    ----------
    dataset : torch Dataset or IterableDataset
        Its items are pairs (x, y); for a prediction they may be x.
    checks : dict
        Options of scikit-learn's check of X.
    with_targets : bool
        Whether items must have targets, which are then read in one pass.
    seed : int, default=0
        Seed of the global generators while rows are read outside of a training.
    pack : callable, default=None
        Makes one array of the several inputs of an item.
    """
    pair = partial(_pair, dataset, with_targets=with_targets, pack=pack)
    if isinstance(dataset, IterableDataset):
        with PrivateGlobals(seed):
            return _spooled(dataset, checks, with_targets, pair)
    if not hasattr(dataset, "__len__"):
        raise TypeError(
            f"{type(dataset).__name__} has no __len__; give it one, or make it an IterableDataset"
        )
    if not len(dataset):
        raise ValueError(f"Found array with 0 sample(s): {type(dataset).__name__} is empty")
    with _private(seed):
        first = _row(pair(dataset[0])[0], checks)

    def read_pairs(index: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        with _private(seed + int(index[0]) if len(index) else seed):
            pairs = [pair(dataset[int(i)]) for i in index]
            return _block([x for x, _ in pairs], first.shape, checks), [y for _, y in pairs]

    def read(index: np.ndarray) -> np.ndarray:
        return read_pairs(index)[0]

    shape, read_both = (len(dataset), *first.shape), read_pairs if with_targets else None
    rows = Streamed(read, shape, first.dtype, read_pairs=read_both)
    if not with_targets:
        return rows, None
    step, targets = _rows_at_once(first), []
    for start in range(0, len(dataset), step):
        stop = min(start + step, len(dataset))
        with _private(seed + start):
            pairs = [pair(dataset[i]) for i in range(start, stop)]
        _block([x for x, _ in pairs], first.shape, checks)  # raises errors now, not in some epoch
        targets += [_small(y) for _, y in pairs]
    return rows, _stacked(targets)


def _private(seed: int) -> AbstractContextManager[Any]:
    """Make global generators private while rows are read, since a Dataset may augment them.

    In a training they are private already, and go on from batch to batch; a worker of a DataLoader
    is another process.
    """
    in_training = PrivateGlobals.in_training() or get_worker_info() is not None
    return nullcontext() if in_training else PrivateGlobals(seed)


def _spooled(
    dataset: Any, checks: dict[str, Any], with_targets: bool, pair: Callable[[Any], Any]
) -> tuple[Streamed, np.ndarray | None]:
    """Read an IterableDataset once, into a temporary file."""
    pairs: Iterator[Any] = (pair(item) for item in dataset)
    targets: list[Any] = []
    first, step = None, 1
    with tempfile.TemporaryFile() as file:
        while part := list(islice(pairs, step)):
            if first is None:
                first = _row(part[0][0], checks)
                step = _rows_at_once(first)
            file.write(_block([x for x, _ in part], first.shape, checks).tobytes())
            targets += [_small(y) for _, y in part]
        if first is None:
            raise ValueError(f"Found array with 0 sample(s): {type(dataset).__name__} is empty")
        file.flush()
        # The map keeps the content of the file as long as the map itself exists.
        mapped = np.memmap(file, first.dtype, "r", shape=(len(targets), *first.shape))
    rows = Streamed(mapped.__getitem__, mapped.shape, mapped.dtype)
    return rows, _stacked(targets) if with_targets else None


def _rows_at_once(first: np.ndarray) -> int:
    return max(1, _BLOCK_BYTES // max(1, first.nbytes))


def _pair(
    dataset: Any, item: Any, with_targets: bool, pack: Callable[[Any], Any] | None = None
) -> tuple[Any, Any]:
    """Return x and y of an item; y is None if it has none."""
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0] if pack is None else pack(item[0]), _value(item[1])
    if isinstance(item, Mapping) and pack is not None and not with_targets:
        return pack(item), None
    if with_targets or isinstance(item, tuple | list | dict):
        expected = "pairs (x, y)" if with_targets else "x, or pairs (x, y)"
        raise ValueError(
            f"{type(dataset).__name__} gives {_kind(item)}; expected {expected}, x an array or a "
            f"tensor. {_advice(item)}"
        )
    return item, None


def _kind(item: Any) -> str:
    kind = f"items of type {type(item).__name__}"
    if isinstance(item, dict):
        return f"{kind} with keys {', '.join(repr(key) for key in list(item)[:5])}"
    return f"{kind} and length {len(item)}" if isinstance(item, tuple | list) else kind


def _advice(item: Any) -> str:
    """Explain how to make pairs of such items."""
    if isinstance(item, dict):
        keys = [*map(repr, item), "'x'", "'y'"] if len(item) < 2 else [*map(repr, item)]
        pair = f"item[{keys[0]}], item[{keys[1]}]"
        return f"Wrap it in a Dataset whose __getitem__ returns such a pair, as in `return {pair}`"
    if isinstance(item, tuple | list):
        return "Wrap it in a Dataset whose __getitem__ returns the two, or give TensorDataset(X, y)"
    return (
        "If the targets are in an array y, give torch.utils.data.StackDataset(dataset, y), or "
        "wrap it in a Dataset whose __getitem__ returns both"
    )


def _value(y: Any) -> Any:
    y = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else y
    return y[()] if isinstance(y, np.ndarray) and y.ndim == 0 else y


def _small(y: Any) -> Any:
    """Keep masks of small numbers in bytes, since those of all images are in memory."""
    if not isinstance(y, np.ndarray) or y.ndim < 2 or y.dtype.kind not in "iu" or not y.size:
        return y
    return y.astype(np.uint8) if y.min() >= 0 and y.max() < 256 else y


def _stacked(targets: list[Any]) -> np.ndarray:
    shapes = {np.shape(y) for y in targets}
    if len(shapes) > 1 and all(isinstance(y, np.ndarray) for y in targets):
        one, other = sorted(shapes)[:2]
        raise ValueError(
            f"the targets of the Dataset have several shapes, such as {one} and {other}; expected "
            "one shape: resize or crop images and masks to one size"
        )
    return np.asarray(targets)


def _row(x: Any, checks: dict[str, Any]) -> np.ndarray:
    if isinstance(x, dict | set | str | bytes):
        raise ValueError(
            f"a row of the Dataset is a {type(x).__name__}; expected an array or a tensor of "
            "numbers. Wrap it in a Dataset whose __getitem__ makes one array of it"
        )
    x = np.atleast_1d(np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x))
    row: np.ndarray = _block([x], x.shape, checks)[0]
    return row


def _block(xs: list[Any], shape: tuple[int, ...], checks: dict[str, Any]) -> np.ndarray:
    """Check rows of one shape, and join them."""
    rows = [x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in xs]
    rows = [np.atleast_1d(row) for row in rows]
    for row in rows:
        if row.shape != shape:
            raise ValueError(
                f"a row of the Dataset has shape {row.shape}, but its first row has {shape}; "
                "expected rows of one shape"
            )
    block: np.ndarray = check_array(np.stack(rows), input_name="X", **checks)
    return block

"""Batches from torch's DataLoader, for options that need one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from skuq._data._batches import Batch, Rows

__all__ = ["loader"]

_WITH_STATE = ("sampler", "batch_sampler", "collate_fn", "worker_init_fn", "generator")


def loader(
    rows: Rows,
    options: dict[str, Any],
    generator: torch.Generator,
    prefix: str,
    copies: dict[str, tuple[Any, Any]],
) -> DataLoader[Any]:
    """Make a DataLoader of rows with the user's options, which do not change.

    Parameters
    ----------
    rows : Rows
        The rows to load.
    options : dict
        Options of the DataLoader.
    generator : Generator
        Generator of the order and of the seeds of workers, unless `options` have one.
    prefix : str
        Name of the options in messages.
    copies : dict
        Collects, by name, options that may hold generators, and their copies, which the loader
        uses. Give the same dict again to go on with the same copies.

    Raises
    ------
    ValueError
        If a sampler is made for another number of rows.
    """
    own = _private_options(options, copies)
    name = next((name for name in ("batch_sampler", "sampler") if name in options), "sampler")
    _check_length(own.get(name), f"{prefix}__{name}", len(rows))
    own = {"collate_fn": Batch.itself, "generator": generator, **own}
    return DataLoader(_Sampled(rows, f"{prefix}__{name}"), **own)


def _private_options(
    options: dict[str, Any], copies: dict[str, tuple[Any, Any]] | None = None
) -> dict[str, Any]:
    """Copy the options that may have a state, if they can be copied."""
    own, copies = dict(options), {} if copies is None else copies
    for name in _WITH_STATE:
        if own.get(name) is not None:
            if name not in copies or copies[name][0] is not own[name]:
                copies[name] = own[name], _copied(own[name])
            own[name] = copies[name][1]
    return own


def _copied(value: Any) -> Any:
    """Copy a value, but share the data sets that it refers to."""
    memo: dict[int, Any] = {}
    holders = [value, getattr(value, "__self__", None)]  # the object of a method
    for holder in holders:
        for held in (holder, *getattr(holder, "__dict__", {}).values()):
            if isinstance(held, Dataset):
                memo[id(held)] = held
            elif isinstance(held, Sampler) and held not in holders:
                holders.append(held)
    try:
        return copy.deepcopy(value, memo)
    except TypeError:  # iterators and files cannot be copied, so use the given one
        return value


class _Sampled(Dataset[Any]):
    """Rows at the indices of a sampler; an index out of range has an error of its own."""

    def __init__(self, rows: Rows, asked_by: str) -> None:
        self._rows = rows
        self._asked_by = asked_by

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Batch:
        n_rows, asked = len(self._rows), torch.as_tensor(index)
        if asked.numel() and asked.dtype != torch.bool:
            for row in (int(asked.min()), int(asked.max())):
                if not -n_rows <= row < n_rows:
                    raise ValueError(_other_length(self._asked_by, f"asks for row {row}", n_rows))
        return self._rows[index]

    __getitems__ = __getitem__


def _check_length(sampler: Any, name: str, n_rows: int) -> None:
    """Refuse samplers of torch that were made for another number of rows."""
    inner = getattr(sampler, "sampler", sampler)
    weights, source = getattr(inner, "weights", None), getattr(inner, "data_source", None)
    if weights is not None and len(weights) != n_rows:
        raise ValueError(_other_length(name, f"has weights of {len(weights)} rows", n_rows))
    if source is not None and hasattr(source, "__len__") and len(source) > n_rows:
        raise ValueError(_other_length(name, f"is for {len(source)} rows", n_rows))


def _other_length(name: str, fault: str, n_rows: int) -> str:
    return (
        f"{name} {fault}, but training uses {n_rows} rows. A sampler fits only one number of "
        "rows: cross-validation and searches fit on a part of them, and early stopping sets some "
        "apart. Instead of a sampler, give fit a sample_weight, or TorchClassifier a "
        "class_weight; or make a sampler for as many rows as training uses"
    )

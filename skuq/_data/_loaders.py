"""Batches from torch's DataLoader, where an option of the user needs one."""

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
    """A DataLoader of rows with the options of the user, which stay as they are.

    Parameters
    ----------
    rows : Rows
    options : dict
        Of a DataLoader.
    generator : Generator
        Of the order and of the seeds of workers, where `options` have none.
    prefix : str
        What a message calls the options.
    copies : dict
        Takes, by name, options that may hold generators of their own, and the copies of them that
        are used. Whoever gives it again goes on where these are.

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
    """The same with copies of what may have a state, as far as it can be copied."""
    own, copies = dict(options), {} if copies is None else copies
    for name in _WITH_STATE:
        if own.get(name) is not None:
            if name not in copies or copies[name][0] is not own[name]:
                copies[name] = own[name], _copied(own[name])
            own[name] = copies[name][1]
    return own


def _copied(value: Any) -> Any:
    """A copy that shares the data sets that it refers to."""
    memo: dict[int, Any] = {}
    holders = [value, getattr(value, "__self__", None)]  # of a method, its object
    for holder in holders:
        for held in (holder, *getattr(holder, "__dict__", {}).values()):
            if isinstance(held, Dataset):
                memo[id(held)] = held
            elif isinstance(held, Sampler) and held not in holders:
                holders.append(held)
    try:
        return copy.deepcopy(value, memo)
    except TypeError:  # an iterator, a file: the user's own has to serve
        return value


class _Sampled(Dataset[Any]):
    """Rows as a sampler asks for them; one that is not there is explained."""

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
    """Refuse what torch's samplers tell of another number of rows."""
    inner = getattr(sampler, "sampler", sampler)
    weights, source = getattr(inner, "weights", None), getattr(inner, "data_source", None)
    if weights is not None and len(weights) != n_rows:
        raise ValueError(_other_length(name, f"has weights of {len(weights)} rows", n_rows))
    if source is not None and hasattr(source, "__len__") and len(source) > n_rows:
        raise ValueError(_other_length(name, f"is for {len(source)} rows", n_rows))


def _other_length(name: str, what: str, n_rows: int) -> str:
    return (
        f"{name} {what}, but {n_rows} rows are trained on. A sampler is made for one number of "
        "rows: cross-validation and searches fit on a part of them, and early stopping sets some "
        "apart. Give fit a sample_weight, or TorchClassifier a class_weight, in place of a "
        "sampler, or make one for as many rows as are trained on"
    )

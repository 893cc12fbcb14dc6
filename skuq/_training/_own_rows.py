"""The rows that early stopping watches: the same for all networks, or other ones for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skuq._data._batches import Rows
from skuq._data._checks import train_valid_indices
from skuq._utils._random import Purpose, derive_seed

__all__ = ["OwnRows", "Splits"]

Split = tuple[np.ndarray, np.ndarray]  # indices to train on, and to watch


@dataclass(frozen=True)
class Splits:
    """The rows to set apart for early stopping, by the number of the network.

    Splits are independent: network k has the same one for any number of networks. A fit of one
    network has that of network 0.

    Parameters
    ----------
    target : ndarray of shape (n_rows, ...)
        The targets, for stratified splits.
    groups : array-like of shape (n_rows,), or None
        The group of each row; rows of one group stay together.
    fraction : float
        The share of the rows to set apart.
    stratify : bool
        Whether to stratify the classes.
    root : int
        The seed of the fit.
    """

    target: np.ndarray
    groups: Any
    fraction: float
    stratify: bool
    root: int

    def __call__(self, number: int) -> Split:
        """Choose the rows of a network."""
        seed = derive_seed(self.root, Purpose.SPLIT, number)
        return train_valid_indices(self.target, self.groups, self.fraction, seed, self.stratify)


@dataclass(frozen=True)
class OwnRows:
    """All rows of a fit, and their split for each network: an ensemble trains on all of them.

    Parameters
    ----------
    rows : Rows
        All rows.
    split : callable
        Maps the number of a network to the indices of its training and its validation rows.
    """

    rows: Rows
    split: Callable[[int], Split]

    def watched(self, number: int) -> np.ndarray:
        """Return the indices of the validation rows of a network."""
        return self.split(number)[1]

    def on(self, device: torch.device, lock: Any = None) -> OwnRows:
        """Return a copy with the rows on another device, see `Rows.on`."""
        return replace(self, rows=self.rows.on(device, lock))

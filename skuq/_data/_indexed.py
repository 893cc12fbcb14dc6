"""A torch Dataset whose items can be chosen by their numbers, as scikit-learn does."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from skuq._data._streams import is_dataset

__all__ = ["IndexedDataset"]


class IndexedDataset(Dataset[Any]):
    """A torch Dataset for scikit-learn's folds and searches.

    scikit-learn takes rows by arrays of their numbers, which torch's Datasets do not understand. An
    IndexedDataset does, and gives another one. So `cross_val_score`, `cross_validate`,
    `GridSearchCV` and the like take it as X, with ``y=None``. Nothing is read until it is needed.
    Folds stratified by class, or by group, need labels: give ``cv=list(splitter.split(rows, y))``.

    Parameters
    ----------
    dataset : torch Dataset
        A map-style Dataset, whose items are pairs (x, y).
    indices : array-like of shape (n_samples,), default=None
        The numbers of the items to use, in order, or a mask of all items; None uses all. Negative
        numbers count from the end.

    Attributes
    ----------
    shape : tuple of int
        The number of items.

    Raises
    ------
    TypeError
        If it is no Dataset, or one without length, such as an IterableDataset.
    ValueError
        If the indices are no whole numbers of one dimension, or no mask of all items.
    IndexError
        If there is no item of such a number.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import KFold, cross_val_score
    >>> from torch.utils.data import TensorDataset
    >>> import skuq
    >>> from skuq.datasets import IndexedDataset
    >>> X, y = load_iris(return_X_y=True)
    >>> pairs = IndexedDataset(TensorDataset(torch.tensor(X), torch.tensor(y)))
    >>> network = skuq.TorchClassifier(lr=0.01, max_epochs=5, random_state=0)
    >>> folds = KFold(3, shuffle=True, random_state=0)
    >>> cross_val_score(network, pairs, cv=folds, scoring=skuq.metrics.nll_scorer).shape
    (3,)
    """

    def __init__(self, dataset: Any, indices: Any = None) -> None:
        if not is_dataset(dataset) or isinstance(dataset, IterableDataset):
            raise TypeError(
                f"expected a torch Dataset with items by number, got {type(dataset).__name__}; an "
                "IterableDataset has no order that folds could share"
            )
        self.dataset = dataset
        self.indices = np.arange(len(dataset)) if indices is None else _chosen(dataset, indices)
        self.shape = self.indices.shape

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, Integral):
            return self.dataset[int(self.indices[key])]
        return IndexedDataset(self.dataset, self.indices[key])


def _chosen(dataset: Any, indices: Any) -> np.ndarray:
    """Return the numbers of items, from numbers or a mask."""
    given, n_items = np.asarray(indices), len(dataset)
    if given.dtype == bool and given.shape == (n_items,):
        return np.flatnonzero(given)
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise ValueError(
            f"indices must be whole numbers of shape (n_samples,), or a mask of {n_items} "
            f"booleans, got dtype {given.dtype} and shape {given.shape}"
        )
    wrong = given[(given < -n_items) | (given >= n_items)]
    if wrong.size:
        raise IndexError(f"indices must lie in 0 … {n_items - 1}, got {wrong[0]}")
    numbers: np.ndarray = given.astype(np.intp)
    return np.where(numbers < 0, numbers + n_items, numbers)

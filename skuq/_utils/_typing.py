"""Types of arguments that public functions share."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import sparray, spmatrix
from torch.utils.data import Dataset

__all__ = ["ArrayLike", "DataFrame", "MatrixLike", "RandomState", "StrPath"]


class _Inputs(Protocol):
    """Rows of several inputs: `skuq.Inputs`, of a room above."""

    arrays: dict[str, np.ndarray]
    shape: tuple[int, ...]


# Rows: arrays, tensors, data frames, sparse matrices, torch Datasets, and several inputs by name.
MatrixLike: TypeAlias = (
    ArrayLike | sparray | spmatrix | Dataset[Any] | _Inputs | Mapping[str, ArrayLike]
)

# Seeds: an integer, a generator as in scikit-learn, or None for fresh entropy.
RandomState: TypeAlias = int | np.random.RandomState | None

StrPath: TypeAlias = str | PathLike[str]

# A pandas DataFrame. pandas is optional and has no types of its own.
DataFrame: TypeAlias = Any

"""Types of arguments that public functions share."""

from __future__ import annotations

from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import sparray, spmatrix
from torch.utils.data import Dataset

__all__ = ["ArrayLike", "DataFrame", "MatrixLike", "RandomState", "StrPath"]

# Rows: arrays, tensors, data frames, sparse matrices, and torch Datasets.
MatrixLike: TypeAlias = ArrayLike | sparray | spmatrix | Dataset[Any]

# Seeds: an integer, a generator as in scikit-learn, or None for fresh entropy.
RandomState: TypeAlias = int | np.random.RandomState | None

StrPath: TypeAlias = str | PathLike[str]

# A pandas DataFrame. pandas is optional and has no types of its own.
DataFrame: TypeAlias = Any

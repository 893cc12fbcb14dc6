"""Corruptions of tables, in five severities each.

A function takes numbers of shape (n_rows, n_columns), a severity of 1 to 5, and a generator, and
returns numbers of that shape. NaN is a cell that is missing already. The generator starts anew for
each severity, so that a higher one repeats the same change, only stronger.
"""

from __future__ import annotations

import numpy as np

from skuq.shift._images import Corruption

__all__ = ["TABLE_CORRUPTIONS"]


def noise(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Add normal noise, in units of each column's standard deviation."""
    size = (0.1, 0.25, 0.5, 1.0, 2.0)[severity - 1]
    noisy: np.ndarray = x + size * np.nanstd(x, axis=0) * random.standard_normal(x.shape)
    return noisy


def scale(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Multiply each column by a factor above or below 1, as instruments of other units would."""
    sign = random.choice((-1.0, 1.0), x.shape[1])
    scaled: np.ndarray = x * (1.1, 1.25, 1.5, 2.0, 3.0)[severity - 1] ** sign
    return scaled


def missing_cells(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Replace cells by the median of their column, as an imputer fills what is missing."""
    share = (0.05, 0.1, 0.2, 0.35, 0.5)[severity - 1]
    return np.where(random.random(x.shape) < share, np.nanmedian(x, axis=0), x)


def permuted_columns(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Shuffle some columns among the rows."""
    n_columns = x.shape[1]
    n_permuted = max(1, round((0.05, 0.1, 0.2, 0.4, 0.7)[severity - 1] * n_columns))
    order = np.argsort(random.random(x.shape), axis=0)
    chosen = random.permutation(n_columns)[:n_permuted]
    x = x.copy()
    x[:, chosen] = np.take_along_axis(x, order, axis=0)[:, chosen]
    return x


TABLE_CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: function for function in (noise, scale, missing_cells, permuted_columns)
}

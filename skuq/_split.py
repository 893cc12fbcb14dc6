"""The rows that early stopping watches."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split

__all__ = ["train_valid_indices"]


def train_valid_indices(
    y: np.ndarray, groups: Any, fraction: float, seed: int, stratify: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled indices of training and validation rows.

    Classes are stratified, as far as they are large enough; each keeps a row in training. Rows of
    one group stay together.

    Raises
    ------
    ValueError
        If there are too few rows, or groups, to set some apart.
    """
    n_rows, seed = len(y), seed % 2**32
    rows = np.arange(n_rows)
    n_valid = int(np.ceil(fraction * n_rows))
    if n_valid < 1 or n_valid >= n_rows:
        raise ValueError(
            f"early_stopping=True sets validation_fraction={fraction} of {n_rows} rows apart, "
            "which leaves none to train on; give more rows or set early_stopping=False"
        )
    if groups is not None:
        if len(np.unique(groups)) < 2:
            raise ValueError("early_stopping=True with groups needs at least 2 groups, got 1")
        if stratify:
            n_splits = min(max(2, round(1 / fraction)), len(np.unique(groups)))
            splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
        else:
            splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        return next(splitter.split(rows, y, groups))
    if not stratify:
        return tuple(train_test_split(rows, test_size=n_valid, random_state=seed))
    # One row of each class stays in training, whatever its size.
    shuffled = np.random.default_rng(seed).permutation(n_rows)
    _, first = np.unique(y[shuffled], return_index=True)
    kept = shuffled[first]
    rest = np.setdiff1d(rows, kept)
    n_valid = min(n_valid, len(rest))
    if n_valid == 0:
        raise ValueError(
            "early_stopping=True finds no row to set apart: every class has a single one; give "
            "more rows or set early_stopping=False"
        )
    if n_valid == len(rest):
        return kept, rest
    counts = np.unique(y[rest], return_counts=True)[1]
    can_stratify = counts.min() >= 2 and len(counts) <= n_valid <= len(rest) - len(counts)
    train, valid = train_test_split(
        rest, test_size=n_valid, random_state=seed, stratify=y[rest] if can_stratify else None
    )
    return np.concatenate([train, kept]), valid

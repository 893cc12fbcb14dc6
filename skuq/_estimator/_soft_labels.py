"""Probabilities of classes as targets: the names of their columns, and checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._data._checks import refuse_no_labels

__all__ = ["checked_probabilities", "names_of_classes", "names_of_columns"]

_TOLERANCE = 1e-4  # of a sum of probabilities; those of float32 networks differ by 1e-6


def names_of_columns(y: Any) -> list[Any] | None:
    """Return the names of the columns of a frame; None for arrays."""
    columns = getattr(y, "columns", None)
    return None if columns is None else list(columns)


def names_of_classes(given: Any, columns: list[Any] | None) -> Any:
    """Return the name of the class of each column: that of the frame, or the given one.

    Parameters
    ----------
    given : array-like of shape (n_classes,), or None
        The argument `classes` of `partial_fit`.
    columns : list, or None
        The names of the columns of a frame.

    Returns
    -------
    array-like of shape (n_classes,), or None
        The names; None for 0, 1, …
    """
    if given is None or columns is None:
        return columns if given is None else given
    if list(np.unique(given)) != list(np.unique(columns)):
        raise ValueError(
            f"classes={given!r} must name the columns of y, which are {columns}; leave it out"
        )
    return columns


def checked_probabilities(y: np.ndarray, names: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check probabilities of classes, and put their columns into the order of the sorted names.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_classes)
        The probabilities.
    names : array-like of shape (n_classes,), or None
        The name of the class of each column; None for 0, 1, …

    Returns
    -------
    proba : ndarray of shape (n_rows, n_classes)
        The probabilities as float64. The sum of each row is 1 to rounding.
    classes : ndarray of shape (n_classes,)
        The sorted names.
    """
    if y.ndim != 2 or y.shape[1] < 2:
        raise ValueError(
            f"y has shape {y.shape}, but soft_labels=True expects (n_samples, n_classes): a "
            "probability for each of at least 2 classes. For a label in each row leave soft_labels "
            "out"
        )
    proba = _as_numbers(y)
    if (proba < 0).any():
        row = int((proba < 0).any(axis=1).argmax())
        raise ValueError(
            f"y holds negative probabilities of classes, the first in row {row}: {proba[row]}"
        )
    sums = proba.sum(axis=1, keepdims=True)
    off = np.abs(sums[:, 0] - 1) > _TOLERANCE
    if off.any():
        row = int(off.argmax())
        raise ValueError(
            f"each row of y must sum to 1, as probabilities of classes do; {off.sum()} rows do "
            f"not, the first is row {row} with the sum {sums[row, 0]:.6g}. If y holds counts of "
            "votes, give y / y.sum(axis=1, keepdims=True)"
        )
    if names is None:
        return proba / sums, np.arange(y.shape[1])
    refuse_no_labels("the names of the columns of y", names, "rename these columns")
    labels = np.asarray(names)
    if (labels != labels).any():
        raise ValueError(f"a column of y has the name NaN, among {names!r}: rename it")
    if labels.shape != (y.shape[1],) or len(np.unique(labels)) != len(labels):
        raise ValueError(
            f"expected a name of its own for each of the {y.shape[1]} columns of y, got {names!r}"
        )
    order = np.argsort(labels, kind="stable")
    return (proba / sums)[:, order], labels[order]


def _as_numbers(y: np.ndarray) -> np.ndarray:
    try:
        return y.astype(float)
    except (TypeError, ValueError):
        raise ValueError(
            f"soft_labels=True expects probabilities in y, got entries such as {y.tolist()[0][0]!r}"
        ) from None

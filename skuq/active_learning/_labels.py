"""Labels of which some are missing."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_labelled", "known_labels", "with_labels"]


def is_labelled(y: Any, missing_label: Any) -> np.ndarray:
    """Return which rows have a label; a row of several targets needs all of them."""
    labels = np.asarray(y)
    if missing_label is None or missing_label != missing_label:  # None, or NaN
        missing = labels == None if labels.dtype == object else np.zeros(labels.shape, bool)  # noqa: E711
        if labels.dtype.kind in "fO":
            missing = missing | np.asarray(labels != labels, dtype=bool)
    else:
        missing = np.asarray(labels == missing_label, dtype=bool)
        if missing.shape != labels.shape:  # values that cannot be compared
            missing = np.zeros(labels.shape, bool)
    return np.asarray(~np.asarray(missing).reshape(len(labels), -1).any(axis=1))


def known_labels(y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return known labels, as numbers or strings if missing ones had made them objects."""
    known = np.asarray(y)[labelled]
    return np.asarray(known.tolist()) if known.dtype == object and len(known) else known


def with_labels(y: np.ndarray, places: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a copy of y with these labels; its type widens if they need it."""
    if y.dtype.kind in "biuf" and labels.dtype.kind in "biuf":
        y = y.astype(np.result_type(y, labels))
    elif y.dtype.kind == labels.dtype.kind == "U":
        y = y.astype(np.result_type(y, labels))
    else:
        y = y.astype(object)
    y = np.array(y)
    y[places] = labels
    return y

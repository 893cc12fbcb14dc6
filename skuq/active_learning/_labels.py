"""Labels of which some are missing."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_labelled", "known_labels", "with_labels"]


def is_labelled(y: Any, missing_label: Any) -> np.ndarray:
    """Return which rows have a label; a row of several targets needs all of them."""
    labels = np.asarray(y)
    if missing_label is None or missing_label != missing_label:  # None, or NaN
        missing = np.zeros(labels.shape, dtype=bool)
        if labels.dtype == object:
            flat = [_stands_for_nothing(label) for label in labels.ravel()]
            missing = np.array(flat, dtype=bool).reshape(labels.shape)
        elif labels.dtype.kind == "f":
            missing = np.isnan(labels)
    else:
        found = labels == missing_label
        # Values that cannot be compared give one answer.
        missing = found if np.shape(found) == labels.shape else np.zeros(labels.shape, dtype=bool)
    return np.asarray(~np.asarray(missing, dtype=bool).reshape(len(labels), -1).any(axis=1))


def _stands_for_nothing(label: Any) -> bool:
    """Return whether a label is None, NaN or pandas' NA."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # NA is neither equal nor unequal
        return True


def known_labels(y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return known labels, as numbers or strings if missing ones had made them objects."""
    known: np.ndarray = np.asarray(y)[labelled]
    if known.dtype != object or not len(known):
        return known
    if len({isinstance(label, str) for label in known.ravel()}) > 1:
        raise ValueError("labels must be all text or all numbers, got both")
    return np.asarray(known.tolist())


def with_labels(y: np.ndarray, places: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a copy of y with these labels; its type widens if they need it."""
    kinds = {"text" if each.dtype.kind == "U" else each.dtype.kind for each in (y, labels)}
    if "text" in kinds and kinds & set("biuf"):
        raise ValueError(
            f"labels are of another type than y: got {labels.dtype}, expected {y.dtype}"
        )
    y = np.array(y, dtype=object if "O" in kinds else np.result_type(y, labels))
    y[places] = labels
    return y

"""Labels of which some are missing."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_labelled", "known_labels", "label_array", "seen_labels", "with_labels"]


def label_array(y: Any) -> np.ndarray:
    """Return a copy of labels as an array; NaN or None in a list of texts stays what it is."""
    labels = np.array(y)
    if labels.dtype.kind in "US" and not hasattr(y, "dtype"):  # NumPy makes the text "nan" of NaN
        each = np.array(y, dtype=object)
        if any(not isinstance(label, str) for label in each.ravel()):
            labels = each
    if labels.dtype == object:  # None also stands for pandas' NA, which no file can hold
        missing = [_stands_for_nothing(label) for label in labels.ravel()]
        labels[np.array(missing, dtype=bool).reshape(labels.shape)] = None
    return labels


def is_labelled(y: Any, missing_label: Any) -> np.ndarray:
    """Return which rows have a label; a row of several targets needs all of them."""
    labels = label_array(y)
    if _stands_for_nothing(missing_label):
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
    if labels.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"expected labels of shape {(len(places), *y.shape[1:])}, as y of fit has shape "
            f"{y.shape}; got {labels.shape}"
        )
    y = np.array(y, dtype=object if "O" in kinds else np.result_type(y, labels))
    y[places] = labels
    return y


def seen_labels(y: np.ndarray, labelled: np.ndarray, strategy: Any) -> np.ndarray:
    """Return y as a strategy expects it: what it takes for missing stands in unlabelled rows."""
    missing = getattr(strategy, "missing_label", None)
    numbers = y.dtype.kind in "biuf"
    if missing is None and numbers:
        missing = np.nan
    known = known_labels(y, labelled)
    text = isinstance(missing, str) and known.dtype.kind == "U"
    kind = np.result_type(known, np.asarray(missing)) if text or numbers else object
    seen: np.ndarray = np.full(y.shape, missing, dtype=kind)
    seen[labelled] = known
    return seen

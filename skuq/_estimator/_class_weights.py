"""The weight of each class, from `class_weight`."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._utils._messages import suggest

__all__ = ["weights_of_classes"]


def weights_of_classes(
    class_weight: dict[Any, float] | str,
    classes: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
) -> np.ndarray:
    """Compute the weight of each class, of shape (n_classes,).

    Parameters
    ----------
    class_weight : dict or "balanced"
        A weight for each label, or "balanced", which gives all present classes the same total.
    classes : ndarray of shape (n_classes,)
        The labels, sorted.
    target : ndarray of shape (n_rows,)
        The index of the class of each row.
    weight : ndarray of shape (n_rows,), or None
        Weights of the rows themselves; None weights all equally.
    """
    if isinstance(class_weight, dict):
        given: np.ndarray = _given(class_weight, classes.tolist())
        return given
    share = np.bincount(target, weight, len(classes)).astype(float)
    n_present, total = (share > 0).sum(), share.sum()
    weights: np.ndarray = np.ones(len(classes))
    np.divide(total, n_present * share, out=weights, where=share > 0)
    return weights


def _given(class_weight: dict[Any, float], classes: list[Any]) -> np.ndarray:
    """List the weight of each class; a class without a given weight has weight 1."""
    weights = np.ones(len(classes))
    for label, weight in class_weight.items():
        if label not in classes:
            hint = suggest(str(label), map(str, classes))
            if str(label) in map(str, classes):  # "0" for 0, 1.5 for "1.5"
                kind = type(classes[0]).__name__
                hint = f" Labels are of type {kind}, and this is a {type(label).__name__}."
            raise ValueError(
                f"class_weight names {label!r}, which is not among the classes {classes}.{hint}"
            )
        if not isinstance(weight, int | float | np.number) or not 0 <= weight < np.inf:
            raise ValueError(f"class_weight[{label!r}] must be finite and >= 0, got {weight!r}")
        weights[classes.index(label)] = weight
    return weights

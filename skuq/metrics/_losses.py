"""Losses of single predictions, by name or by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skuq._utils._typing import ArrayLike
from skuq.metrics._checks import check_labels, check_option, check_real

__all__ = ["Loss", "novel_as_errors", "sample_losses"]

Loss: TypeAlias = str | Callable[[np.ndarray, np.ndarray], ArrayLike]

_LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "zero_one": lambda y_true, y_pred: y_true != y_pred,
    "squared": lambda y_true, y_pred: (y_true - y_pred) ** 2,
    "absolute": lambda y_true, y_pred: np.abs(y_true - y_pred),
}


def sample_losses(y_true: ArrayLike, y_pred: ArrayLike, loss: Loss) -> np.ndarray:
    """Compute the loss of each sample, averaged over its targets."""
    truth, predicted = np.asarray(y_true), np.asarray(y_pred)
    check_consistent_length(truth, predicted)
    if truth.shape != predicted.shape:
        raise ValueError(
            f"y_true and y_pred must have one shape, got {truth.shape} and {predicted.shape}"
        )
    if callable(loss):
        losses = np.asarray(loss(truth, predicted), dtype=float)
    else:
        check_option("loss", loss, tuple(_LOSSES))
        if loss != "zero_one":
            truth, predicted = check_real("y_true", truth), check_real("y_pred", predicted)
        elif check_labels("y_true", truth) != check_labels("y_pred", predicted):
            raise ValueError(
                "y_true and y_pred must both hold text or both hold numbers, got one of each"
            )
        losses = np.asarray(_LOSSES[loss](truth, predicted), dtype=float)
    if losses.shape[:1] != truth.shape[:1]:
        raise ValueError(f"loss must give a number per sample, got shape {losses.shape}")
    return check_real("loss", losses.reshape(len(losses), -1).mean(axis=1))


def novel_as_errors(losses: np.ndarray, novel: Any, loss: Loss) -> np.ndarray:
    """Let novel samples lose 1, whichever label is predicted."""
    mask = np.asarray(novel)
    if mask.dtype != bool or mask.shape != losses.shape:
        raise ValueError(
            f"novel must be a mask of {len(losses)} booleans, True for novel samples, got dtype "
            f"{mask.dtype} and shape {mask.shape}"
        )
    if loss != "zero_one":
        raise ValueError(
            "novel samples count as errors, which lose 1: expected loss='zero_one', got "
            f"loss={loss!r}"
        )
    return np.where(mask, 1.0, losses)

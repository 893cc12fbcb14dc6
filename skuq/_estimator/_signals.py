"""Warn of causes of bad networks that raise no error: unscaled features, short training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

__all__ = ["warn_if_not_converged", "warn_of_scales"]

_LARGEST = 30.0  # root mean square; a standardised feature has 1
_SMALLEST = 0.01  # of the largest absolute value of a feature
_FALL = 0.02  # largest share of the last tenth of the epochs in the whole fall of the loss
_FEWEST_EPOCHS = 4
_LOOKED_AT = 10_000  # rows


def warn_of_scales(X: np.ndarray, names: Sequence[str] | None, estimator: str) -> None:
    """Warn of features with so small or large a scale that a network learns badly from X.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The training rows.
    names : sequence of str, or None
        Names of the features.
    estimator : str
        The name of the estimator's class, for the message.
    """
    rows = X[:_LOOKED_AT].astype(np.float64)
    peak = np.abs(rows).max(axis=0)
    scale = np.sqrt(np.mean(np.square(rows / np.maximum(peak, 1e-300)), axis=0)) * peak
    strange = np.flatnonzero((scale > _LARGEST) | ((peak > 0) & (peak < _SMALLEST)))
    if not len(strange):
        return
    shown = ", ".join(
        f"{names[k] if names is not None else f'feature {k}'} ({scale[k]:.3g})" for k in strange[:3]
    )
    warnings.warn(
        f"{len(strange)} of {X.shape[1]} features are far from unit scale; the root mean square of "
        f"{shown}{', …' if len(strange) > 3 else ''}. Networks learn badly from such features: put "
        f"a StandardScaler before, make_pipeline(StandardScaler(), {estimator}(...))",
        UserWarning,
        stacklevel=2,
    )


def warn_if_not_converged(histories: list[list[dict[str, Any]]], max_epochs: int) -> None:
    """Warn if the loss was still falling when the epochs were over.

    A straight line through the losses of the last three tenths of the epochs estimates the fall of
    the loss in the last tenth. Its share in the fall since the first epoch must be small. With
    several networks, the median counts.

    Parameters
    ----------
    histories : list of lists of dict
        The history of each network.
    max_epochs : int
        The number of epochs. Networks that stopped earlier are left out, because early stopping or
        a callback decided that.
    """
    falls = [
        _last_fall(np.array([epoch["train_loss"] for epoch in history]))
        for history in histories
        if len(history) == max_epochs >= _FEWEST_EPOCHS and "train_loss" in history[0]
    ]
    if falls and np.median(falls) > _FALL:
        warnings.warn(
            f"training ended while the loss was still falling: the last tenth of the {max_epochs} "
            f"epochs had {100 * np.median(falls):.1f} % of the whole fall, expected at most "
            f"{100 * _FALL:.0f} %. Give more epochs (max_epochs={2 * max_epochs}), or a higher "
            "learning rate (lr)",
            ConvergenceWarning,
            stacklevel=2,
        )


def _last_fall(losses: np.ndarray) -> float:
    end = losses[-max(_FEWEST_EPOCHS, round(0.3 * len(losses))) :]
    epochs = np.arange(len(end)) - (len(end) - 1) / 2
    slope = float((epochs * end).sum() / (epochs**2).sum())
    whole = losses[0] - (end.mean() + slope * epochs[-1])
    return -slope * len(losses) / 10 / whole if whole > 0 else 0.0

"""Warn of causes of bad networks that raise no error: unscaled features, short training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._data._places import row_losses
from skuq._networks._module import Numerics, call, private_copy
from skuq._utils._messages import warn
from skuq._utils._random import PrivateGlobals
from skuq.likelihoods import Likelihood

__all__ = ["losses_with_zeros", "warn_if_not_converged", "warn_of_scales"]

_MOST_OFFSET = 100.0  # of the mean, in standard deviations
_LARGEST = 30.0  # root mean square; a standardised feature has 1
_SMALLEST = 0.01  # of the largest absolute value of a feature
_FALL = 0.02  # largest share of the last tenth of the epochs in the whole fall of the loss
_FEWEST_EPOCHS = 4
_LOOKED_AT = 10_000  # rows
_MARGIN = 0.1  # nats above the loss of zeros
_UNTRAINED = 1.0  # the same, where training has just begun: first weights are random


def warn_of_scales(X: np.ndarray, names: Sequence[str] | None, estimator: str) -> None:
    """Warn of features whose offset or scale makes a network learn badly from them.

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
    units = rows / np.maximum(peak, 1e-300)  # no squares that overflow
    mean, deviation = units.mean(axis=0), units.std(axis=0)
    far = np.hypot(mean, deviation) * peak > _LARGEST
    flat = (deviation > 1e-12) & (np.abs(mean) > _MOST_OFFSET * deviation)
    strange = np.flatnonzero(far | flat | ((peak > 0) & (peak < _SMALLEST)))
    if not len(strange):
        return
    shown = ", ".join(
        f"{names[k] if names is not None else f'feature {k}'} (mean {mean[k] * peak[k]:.3g}, "
        f"standard deviation {deviation[k] * peak[k]:.2g})"
        for k in strange[:3]
    )
    warn(
        f"{len(strange)} of {X.shape[1]} features are far from zero mean and unit scale: {shown}"
        f"{', …' if len(strange) > 3 else ''}. Networks learn badly from such features: put "
        f"a StandardScaler before, make_pipeline(StandardScaler(), {estimator}(...))",
        UserWarning,
    )


def losses_with_zeros(
    module: nn.Module,
    rows: Rows,
    likelihood: Likelihood,
    numerics: Numerics,
    n_rows: int,
    last: float = math.inf,
    places: tuple[int, ...] = (),
) -> tuple[float, float]:
    """Compute the training loss of a trained network, and that of outputs that are all zero.

    Zeros stand for the mean of y, or for equal probabilities. A learning rate that is too high
    ends above that, often without a loss that is not finite.

    Parameters
    ----------
    module : nn.Module
        The trained network; it is not changed.
    rows : Rows
        The training rows.
    likelihood : Likelihood
        Fitted to the targets.
    numerics : Numerics
        The device and the precision of the network.
    n_rows : int
        How many rows to evaluate: a batch, for which there was memory in training.
    last : float, default=inf
        The loss of the last epoch. Where it is below that of zeros, it is returned instead: dropout
        and other terms of the loss only raise it.
    places : tuple of int, default=()
        The places of a row, if the network answers for each.
    """
    if not rows.may_be_copied:  # reading single rows on demand takes long
        return 0.0, 0.0
    index = torch.linspace(0, len(rows) - 1, min(len(rows), n_rows), dtype=torch.float64)
    batch = rows[index.long().to(rows.device)].to(numerics.device)
    size = (len(batch[0]), likelihood.n_outputs_, *places)
    share = 1.0 if batch.weight is None else float(batch.weight.mean())

    def mean_loss(output: Tensor) -> float:
        each = row_losses(likelihood.loss, output, batch[1], batch.weight)
        return float(each.mean()) / share if share else 0.0

    with torch.no_grad():
        of_zeros = mean_loss(torch.zeros(size, dtype=numerics.dtype, device=numerics.device))
        if last < of_zeros:
            return last, of_zeros
        with PrivateGlobals(0):  # a forward may draw
            return mean_loss(call(private_copy(module), batch[0], numerics)), of_zeros


def warn_if_not_converged(
    histories: list[list[dict[str, Any]]],
    max_epochs: int,
    losses: tuple[float, float],
    lr: float,
    watched: bool = False,
) -> None:
    """Warn if a network has learnt nothing, or the loss was still falling after the last epoch.

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
    losses : pair of float
        Those of `losses_with_zeros`.
    lr : float
        The learning rate.
    watched : bool, default=False
        Whether early stopping decides on the number of epochs.
    """
    falls = [
        _last_fall(np.array([epoch["train_loss"] for epoch in history]))
        for history in histories
        if len(history) == max_epochs > 1 and "train_loss" in history[0]
    ]
    is_falling = bool(falls) and float(np.median(falls)) > _FALL
    excess = losses[0] - losses[1]
    if excess > (_UNTRAINED if is_falling or max_epochs == 1 else _MARGIN):
        warn(
            f"the network has learnt nothing: its training loss is {losses[0]:.3g}, and "
            f"{losses[1]:.3g} for outputs that are all zero. Lower lr (now {lr:g}), or scale the "
            "features",
            ConvergenceWarning,
        )
    elif is_falling and not watched:
        warn(
            f"training ended while the loss was still falling: the last tenth of the {max_epochs} "
            f"epochs had {100 * np.median(falls):.1f} % of the whole fall, expected at most "
            f"{100 * _FALL:.0f} %. Give more epochs (max_epochs={2 * max_epochs}) or a higher "
            "learning rate (lr); early_stopping=True ends before a network fits noise",
            ConvergenceWarning,
        )


def _last_fall(losses: np.ndarray) -> float:
    end = losses[-max(_FEWEST_EPOCHS, round(0.3 * len(losses))) :]
    epochs = np.arange(len(end)) - (len(end) - 1) / 2
    slope = float((epochs * end).sum() / (epochs**2).sum())
    whole = losses[0] - (end.mean() + slope * epochs[-1])
    return -slope * len(losses) / 10 / whole if whole > 0 else 0.0

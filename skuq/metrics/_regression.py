"""Compare predicted distributions of real targets with the targets: scores and calibration.

`mean` and `std` of the shape of y give a predicted normal distribution. With a further first axis
they give an equal mixture of normal distributions, one for each draw of a posterior. ``std=None``
makes points of them, so that the draws of an ensemble are an empirical distribution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq._bins import quantile_edges
from skuq._distributions._mixture import normal_mixture_crps
from skuq._utils._arrays import tensor_of
from skuq._utils._typing import ArrayLike
from skuq.metrics._checks import (
    check_n_bins,
    check_real,
    check_weight,
    weighted_mean,
)

__all__ = [
    "crps",
    "expected_normalized_calibration_error",
    "gaussian_nll",
    "pit_values",
    "sharpness",
]


def _check_normals(
    y_true: Any, mean: Any, std: Any, sample_weight: Any, *, points: bool = True
) -> tuple[Tensor, Tensor, Tensor, np.ndarray | None]:
    """Check y (n, ...), means and standard deviations (n_draws, n, ...), and weights."""
    y, means = check_real("y_true", y_true), check_real("mean", mean)
    weight = check_weight(sample_weight, len(y) if y.ndim else 0)
    if means.shape == y.shape:
        means = means[None]
    if means.shape[1:] != y.shape or not len(means):
        raise ValueError(
            f"mean must have the shape of y_true, {y.shape}, or (n_draws, *{y.shape}), got "
            f"{means.shape}"
        )
    if std is None and points:
        stds = np.zeros_like(means)
    else:
        stds = check_real("std", std)
        if stds.shape != np.shape(mean):
            raise ValueError(f"std must have the shape of mean, {np.shape(mean)}, got {stds.shape}")
        if (stds < 0).any() or not (points or stds.all()):
            raise ValueError(f"std must be {'>= 0' if points else 'positive'}")
        stds = stds.reshape(means.shape)
    return tensor_of(y), tensor_of(means), tensor_of(stds), weight


def gaussian_nll(
    y_true: ArrayLike, mean: ArrayLike, std: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Compute the negative log-likelihood of a normal distribution, or of an equal mixture.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True targets. Several targets are independent given the draw: their densities multiply.
    mean, std : array-like of the shape of y_true, or (n_draws, *shape of y_true)
        Predicted means and standard deviations; a first axis of draws makes an equal mixture.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float
        Mean loss in nats per sample; lower is better. It depends on the unit of y.

    Raises
    ------
    ValueError
        If shapes differ, or a std is not positive.

    Examples
    --------
    >>> from skuq.metrics import gaussian_nll
    >>> round(gaussian_nll([0.0], [0.0], [1.0]), 4)                      # ½ log 2π
    0.9189
    """
    y, means, stds, weight = _check_normals(y_true, mean, std, sample_weight, points=False)
    log_density = -0.5 * ((y - means) / stds).square() - stds.log() - 0.5 * math.log(2 * math.pi)
    joint = log_density.reshape(*means.shape[:2], -1).sum(-1)
    return weighted_mean((math.log(len(joint)) - joint.logsumexp(0)).numpy(), weight)


def crps(
    y_true: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute the continuous ranked probability score (CRPS): lower is better [1]_.

    CRPS = E|Y − y| − ½ E|Y − Y'|, in closed form: for a normal distribution,
    σ [z (2Φ(z) − 1) + 2φ(z) − 1/√π]; for an equal mixture of them [2]_; and for points.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True targets.
    mean : array-like of the shape of y_true, or (n_draws, *shape of y_true)
        Predicted means; a first axis of draws makes an equal mixture.
    std : array-like of the shape of `mean`, default=None
        Predicted standard deviations. None or 0 makes points of the means; the score of one point
        is the absolute error.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float
        Mean score over samples and targets, in the unit of y.

    References
    ----------
    .. [1] T. Gneiting and A. Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation",
       JASA 102, 2007, doi:10.1198/016214506000001437.
    .. [2] E. Grimit, T. Gneiting, V. Berrocal, N. Johnson, "The continuous ranked probability
       score for circular variables and its application to mesoscale forecast ensemble
       verification", QJRMS 132, 2006, doi:10.1256/qj.05.235.

    Examples
    --------
    >>> from skuq.metrics import crps
    >>> round(crps([0.0], [0.0], [1.0]), 4)
    0.2337
    >>> crps([3.0], [1.0])
    2.0
    """
    y, means, stds, weight = _check_normals(y_true, mean, std, sample_weight)
    return weighted_mean(normal_mixture_crps(y, means, stds).numpy(), weight)


def pit_values(y_true: ArrayLike, mean: ArrayLike, std: ArrayLike | None = None) -> np.ndarray:
    """Compute the probability integral transform F(y), the predicted P(Y ≤ y) [1]_.

    The values of calibrated predictions are uniform on [0, 1]. Their histogram has the shape of a
    U where predictions are too narrow.

    Parameters
    ----------
    y_true, mean, std : as in `crps`
        True targets, predicted means and standard deviations. Among points, those equal to y count
        half.

    Returns
    -------
    ndarray of the shape of y_true
        F(y) of each target, in [0, 1].

    References
    ----------
    .. [1] T. Gneiting, F. Balabdaoui, A. Raftery, "Probabilistic forecasts, calibration and
       sharpness", JRSS B 69, 2007, doi:10.1111/j.1467-9868.2007.00587.x.

    Examples
    --------
    >>> from skuq.metrics import pit_values
    >>> pit_values([0.0, 1.0], [0.0, 0.0], [1.0, 1.0]).round(3)
    array([0.5  , 0.841])
    """
    y, means, stds, _ = _check_normals(y_true, mean, std, None)
    distance = y - means
    steps = 0.5 * (1 + distance.sign())
    smooth = torch.special.ndtr(distance / torch.where(stds > 0, stds, 1))
    return torch.where(stds > 0, smooth, steps).mean(0).numpy()


def expected_normalized_calibration_error(
    y_true: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    *,
    n_bins: int = 10,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compare the errors with the predicted std, bin by bin (ENCE) [1]_.

    ENCE is the mean over bins of |RMSE − root mean variance| / root mean variance. Samples enter
    bins of equal weight by their predicted std (equal values share a bin).

    Parameters
    ----------
    y_true, mean, std : array-like of shape (n_samples,) or (n_samples, n_targets)
        True targets, predicted means and standard deviations. Each of several targets is binned by
        itself, and the errors are averaged.
    n_bins : int, default=10
        Number of bins of the predicted std.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float >= 0
        The relative error; 0 means calibrated.

    References
    ----------
    .. [1] D. Levi, L. Gispan, N. Giladi, E. Fetaya, "Evaluating and Calibrating Uncertainty
       Prediction in Regression Tasks", Sensors 22, 2022, arXiv:1905.11659.

    Examples
    --------
    >>> from skuq.metrics import expected_normalized_calibration_error
    >>> expected_normalized_calibration_error([1.0, -1.0], [0.0, 0.0], [2.0, 2.0])
    0.5
    """
    check_n_bins(n_bins)
    y, means, stds, weight = _check_normals(y_true, mean, std, sample_weight, points=False)
    if len(means) > 1:
        raise ValueError(
            "mean and std must have the shape of y_true: combine draws first, as "
            "predict(X, return_std=True) does"
        )
    shares = np.ones(len(y)) if weight is None else weight
    shares, counted = shares[shares > 0], shares > 0
    residuals = (y - means[0]).numpy()[counted].reshape(len(shares), -1)
    spreads = stds[0].numpy()[counted].reshape(len(shares), -1)
    unit = _unit(spreads)  # ratios do not depend on it
    residuals, spreads = residuals / unit, spreads / unit
    errors = []
    for residual, spread in zip(residuals.T, spreads.T):
        index = np.searchsorted(quantile_edges(spread, shares, n_bins), spread, side="left")
        size = np.bincount(index, shares)
        filled = size > 0
        square, variance = (
            np.bincount(index, shares * values**2)[filled] / size[filled]
            for values in (residual, spread)
        )
        errors.append(np.mean(np.abs(np.sqrt(square / variance) - 1)))
    return float(np.mean(errors))


def sharpness(std: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Compute the root mean square of predicted standard deviations.

    It measures how narrow predictions are, not whether they are right: compare it only among
    calibrated models.

    Parameters
    ----------
    std : array-like of shape (n_samples,) or (n_samples, n_targets)
        Predicted standard deviations.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float >= 0
        Root mean square in the unit of y; smaller means narrower predictions.

    Examples
    --------
    >>> from skuq.metrics import sharpness
    >>> round(sharpness([3.0, 4.0, 5.0, 2.0]) ** 2, 6)
    13.5
    """
    stds = check_real("std", std)
    if (stds < 0).any():
        raise ValueError("std must be >= 0")
    weight = check_weight(sample_weight, len(stds) if stds.ndim else 0)
    unit = _unit(stds)
    return unit * math.sqrt(weighted_mean((stds / unit) ** 2, weight))


def _unit(values: np.ndarray) -> float:
    """Find a power of two near the largest value: squares in it neither overflow nor vanish."""
    return float(np.ldexp(1.0, np.frexp(values.max(initial=0))[1]))

"""Compare predicted intervals and quantiles with the targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._utils._messages import checked_level
from skuq._utils._typing import ArrayLike
from skuq.metrics._checks import (
    check_option,
    check_real,
    check_weight,
    weighted_mean,
)

__all__ = [
    "interval_score",
    "mean_interval_width",
    "pinball_loss",
    "prediction_interval_coverage",
    "quantile_calibration_error",
]


def _check_interval(y_true: Any, interval: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = check_real("y_true", y_true)
    ends = check_real("interval", interval, allow_infinite=True)
    if ends.shape != (*y.shape, 2):
        raise ValueError(
            f"interval must have shape {(*y.shape, 2)}, lower and upper on the last axis, got "
            f"{ends.shape}"
        )
    return y, *_ends(ends)


def _ends(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = ends[..., 0], ends[..., 1]
    if (lower > upper).any():
        raise ValueError("interval has lower ends above upper ends")
    if (lower == np.inf).any() or (upper == -np.inf).any():
        raise ValueError(
            "interval has a lower end of +inf or an upper end of -inf, which holds no number; an "
            "unbounded interval is (-inf, inf)"
        )
    return lower, upper


def _check_quantiles(y_true: Any, quantiles: Any, q: Any) -> tuple[np.ndarray, ...]:
    """y with a last axis of one, quantiles, levels."""
    y, predicted = check_real("y_true", y_true), check_real("quantiles", quantiles)
    levels = np.atleast_1d(check_real("q", q))
    if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"q must be one or more levels strictly between 0 and 1, got {q!r}")
    if predicted.shape == y.shape and len(levels) == 1:
        predicted = predicted[..., None]
    if predicted.shape != (*y.shape, len(levels)):
        raise ValueError(
            f"quantiles must have shape {(*y.shape, len(levels))}, a level each on the last axis, "
            f"got {predicted.shape}"
        )
    return y[..., None], predicted, levels


def interval_score(
    y_true: ArrayLike,
    interval: ArrayLike,
    *,
    confidence_level: float = 0.9,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Score intervals by their width, plus 2/α for each unit that y lies outside [1]_.

    α = 1 − confidence_level. It is a proper score.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True targets.
    interval : array-like of shape (n_samples, 2) or (n_samples, n_targets, 2)
        Lower and upper ends, as `predict_interval` gives them, in the unit of y.
    confidence_level : float in (0, 1), default=0.9
        Share of targets that the intervals should hold.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float
        Mean score in the unit of y; lower is better.

    References
    ----------
    .. [1] T. Gneiting and A. Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation",
       JASA 102, 2007, doi:10.1198/016214506000001437.

    Examples
    --------
    >>> from skuq.metrics import interval_score
    >>> round(interval_score([0.0, 3.0], [[-1, 1], [-1, 1]], confidence_level=0.8), 6)  # 2, 2 + 20
    12.0
    """
    outside = 2 / (1 - checked_level("confidence_level", confidence_level))
    y, lower, upper = _check_interval(y_true, interval)
    weight = check_weight(sample_weight, len(y))
    misses = np.maximum(lower - y, 0) + np.maximum(y - upper, 0)
    return weighted_mean(upper - lower + outside * misses, weight)


def prediction_interval_coverage(
    y_true: ArrayLike, interval: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Compute the share of targets inside their interval, ends included (PICP).

    Parameters
    ----------
    y_true, interval, sample_weight : as in `interval_score`
        True targets, ends of their intervals, and weights of the samples.

    Returns
    -------
    float in [0, 1]
        Coverage; calibrated intervals reach their confidence level.

    Examples
    --------
    >>> from skuq.metrics import prediction_interval_coverage
    >>> prediction_interval_coverage([0.0, 3.0], [[-1, 1], [-1, 1]])
    0.5
    """
    y, lower, upper = _check_interval(y_true, interval)
    weight = check_weight(sample_weight, len(y))
    return weighted_mean(((lower <= y) & (y <= upper)).astype(float), weight)


def mean_interval_width(interval: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Compute the mean width of intervals (MPIW).

    Parameters
    ----------
    interval : array-like of shape (n_samples, 2) or (n_samples, n_targets, 2)
        Lower and upper ends, as `predict_interval` gives them, in the unit of y.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float >= 0
        Mean width in the unit of y.

    Examples
    --------
    >>> from skuq.metrics import mean_interval_width
    >>> mean_interval_width([[-1, 1], [0, 4]])
    3.0
    """
    ends = check_real("interval", interval, allow_infinite=True)
    if ends.ndim < 2 or ends.shape[-1] != 2:
        raise ValueError(f"interval must have shape (n_samples, ..., 2), got {ends.shape}")
    weight = check_weight(sample_weight, len(ends))
    lower, upper = _ends(ends)
    return weighted_mean(upper - lower, weight)


def pinball_loss(
    y_true: ArrayLike, quantiles: ArrayLike, q: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Compute the mean loss of predicted quantiles, max(q (y − Q), (q − 1)(y − Q)) [1]_.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
        True targets.
    quantiles : array-like of shape (*shape of y_true, n_quantiles)
        Predicted quantiles, as `predict_quantiles` gives them. For a single level the shape of
        y_true is enough.
    q : float or array-like of shape (n_quantiles,)
        Levels of the quantiles, in (0, 1).
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float >= 0
        Mean loss over samples, targets and levels, in the unit of y; lower is better.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression Quantiles", Econometrica 46, 1978,
       doi:10.2307/1913643.

    Examples
    --------
    >>> from skuq.metrics import pinball_loss
    >>> round(pinball_loss([1.0, 0.0], [0.0, 1.0], 0.9), 6)                   # (0.9 + 0.1) / 2
    0.5
    """
    y, predicted, levels = _check_quantiles(y_true, quantiles, q)
    weight = check_weight(sample_weight, len(y))
    excess = y - predicted
    return weighted_mean(np.maximum(levels * excess, (levels - 1) * excess), weight)


def quantile_calibration_error(
    y_true: ArrayLike,
    quantiles: ArrayLike,
    q: ArrayLike,
    *,
    norm: str = "l1",
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compare the share of y at or below a predicted quantile with its level [1]_.

    Parameters
    ----------
    y_true, quantiles, q, sample_weight : as in `pinball_loss`
        True targets, predicted quantiles, their levels, and weights of the samples.
    norm : {"l1", "l2", "max"}, default="l1"
        How to combine the gaps of the levels: their mean, their root mean square, or the largest.

    Returns
    -------
    float in [0, 1]
        The error, averaged over targets; 0 means calibrated.

    References
    ----------
    .. [1] V. Kuleshov, N. Fenner, S. Ermon, "Accurate Uncertainties for Deep Learning Using
       Calibrated Regression", ICML 2018, arXiv:1807.00263.

    Examples
    --------
    >>> from skuq.metrics import quantile_calibration_error
    >>> quantile_calibration_error([1.0, 2.0, 3.0, 4.0], [[2.5]] * 4, [0.5])
    0.0
    """
    check_option("norm", norm, ("l1", "l2", "max"))
    y, predicted, levels = _check_quantiles(y_true, quantiles, q)
    weight = check_weight(sample_weight, len(y))
    gap = np.abs(np.average(y <= predicted, axis=0, weights=weight) - levels)
    if norm == "l1":
        return float(gap.mean())
    return float(np.mean(np.sqrt((gap**2).mean(-1)) if norm == "l2" else gap.max(-1)))

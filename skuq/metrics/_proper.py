"""Proper scores of probabilities, and their parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skuq._bins import bin_statistics
from skuq._utils._typing import ArrayLike
from skuq.metrics._calibration import confidence_and_hit
from skuq.metrics._checks import check_n_bins, check_option, check_probabilities, two_columns

__all__ = ["BrierDecomposition", "brier_decomposition", "brier_score", "negative_log_likelihood"]


class BrierDecomposition(NamedTuple):
    """Brier score = reliability − resolution + uncertainty.

    Attributes
    ----------
    reliability : float
        Mean squared gap between probability and frequency; 0 means calibrated.
    resolution : float
        Mean squared gap between the frequencies of the bins and the overall ones; higher is better.
    uncertainty : float
        The score of a forecast that always gives the overall frequencies.
    """

    reliability: float
    resolution: float
    uncertainty: float


def negative_log_likelihood(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute the mean of −log p of the true class, in nats.

    Parameters
    ----------
    y_true, y_proba, labels, sample_weight : as in `expected_calibration_error`
        Labels, probabilities, the list of all labels, and weights of the samples. Probabilities
        below 2.2e-16 count as 2.2e-16, as in `sklearn.metrics.log_loss`. The scorer `nll_scorer`
        takes log-probabilities from estimators that give them and needs no such limit.

    Returns
    -------
    float >= 0
        Mean loss in nats; 0 if the true class always has probability 1.

    Examples
    --------
    >>> from skuq.metrics import negative_log_likelihood
    >>> round(negative_log_likelihood([0, 1], [0.5, 0.5]), 4)
    0.6931
    """
    y, proba, weight = check_probabilities(y_true, y_proba, labels, sample_weight)
    proba = two_columns(proba)
    of_label = proba[np.arange(len(y)), y].clip(np.finfo(float).eps)
    return float(-np.average(np.log(of_label), weights=weight))


def brier_score(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute the mean squared distance of the probabilities from the labels [1]_.

    Σ_k (p_k − [y = k])² in [0, 2] for three or more classes; for two, half of it, (p − y)² of
    the second class in [0, 1]: the convention of `sklearn.metrics.brier_score_loss`.

    Parameters
    ----------
    y_true, y_proba, labels, sample_weight : as in `expected_calibration_error`
        Labels, probabilities, the list of all labels, and weights of the samples.

    Returns
    -------
    float
        Mean squared distance; 0 if the true class always has probability 1.

    References
    ----------
    .. [1] G. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
       Review 78, 1950.

    Examples
    --------
    >>> from skuq.metrics import brier_score
    >>> brier_score([0, 1], [0.5, 0.5])
    0.25
    """
    y, proba, weight = check_probabilities(y_true, y_proba, labels, sample_weight)
    proba = two_columns(proba)
    distance = (proba**2).sum(axis=1) - 2 * proba[np.arange(len(y)), y] + 1
    half = 0.5 if proba.shape[1] == 2 else 1.0
    return float(half * np.average(distance, weights=weight))


def brier_decomposition(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> BrierDecomposition:
    """Split the Brier score into reliability − resolution + uncertainty [1]_.

    Each class is decomposed against the rest, in bins of its probability, and the parts are added
    with the convention of `brier_score`. They add up to the Brier score of probabilities that are
    replaced by the mean of their bin: to the score itself where a bin holds one value only.

    Parameters
    ----------
    y_true, y_proba, labels, sample_weight : as in `expected_calibration_error`
        Labels, probabilities, the list of all labels, and weights of the samples.
    n_bins, strategy : as in `expected_calibration_error`
        Number of bins, and the rule that sets their edges.

    Returns
    -------
    BrierDecomposition
        Named tuple of reliability, resolution and uncertainty.

    References
    ----------
    .. [1] A. Murphy, "A New Vector Partition of the Probability Score", Journal of Applied
       Meteorology 12, 1973.

    Examples
    --------
    >>> from skuq.metrics import brier_decomposition
    >>> parts = brier_decomposition([0, 0, 1, 1], [0.25, 0.25, 0.25, 0.75])
    >>> [round(part, 4) for part in parts]
    [0.0208, 0.0833, 0.25]
    """
    check_n_bins(n_bins)
    check_option("strategy", strategy, ("uniform", "quantile"))
    y, proba, weight = check_probabilities(y_true, y_proba, labels, sample_weight)
    total = np.zeros(3)
    kind = "binary" if proba.ndim == 1 or proba.shape[1] == 2 else "classwise"
    for confidence, hit in confidence_and_hit(y, proba, kind):
        bins = bin_statistics(confidence, hit, weight, n_bins, strategy)
        base = bins.share @ bins.accuracy
        total += (
            bins.share @ (bins.confidence - bins.accuracy) ** 2,
            bins.share @ (bins.accuracy - base) ** 2,
            base * (1 - base),
        )
    return BrierDecomposition(*map(float, total))

"""Confidence intervals of the numbers of a report."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._bins import uniform_index
from skuq._distributions._members import NoDensityError
from skuq.metrics import make_uncertainty_scorer, uncertainty_scorers
from skuq.metrics._bootstrap import counts_of_rows, interval_of
from skuq.metrics._calibration import confidence_and_hit
from skuq.metrics._counted import (
    ByUncertainty,
    Counted,
    calibration_error_by_count,
    mean_by_count,
    normalized_error_by_count,
    r2_by_count,
    resampled,
)

__all__ = [
    "Intervals",
    "calibrated_ece",
    "ece_note",
    "intervals_of",
    "of_classifier",
    "of_regressor",
    "scores_of_rows",
]

Intervals = dict[str, tuple[float, float]]
_LEAST_ROWS = 10  # with fewer, intervals of resamples mean nothing
_N_CALIBRATED = 100
_N_BINS, _N_BINS_OF_STD = 15, 10
_ECE, _ENCE = "ECE (top label, 15 bins)", "ENCE"
_NLL = "negative log-likelihood (nats)"
_BIASED = (_ECE, _ENCE)  # on few rows; both are at least 0
_LEVEL = 0.95


def intervals_of(
    metrics: dict[str, Counted], n_rows: int, groups: Any, n_resamples: int
) -> Intervals:
    """Return the intervals of metrics by their names, all on the same resamples.

    Parameters
    ----------
    metrics : dict of str to callable
        Metrics as functions of how often each row counts.
    n_rows : int
        Number of rows.
    groups : array-like of shape (n_samples,), or None
        The group of each row.
    n_resamples : int
        Number of resamples; 0 leaves the intervals out.
    """
    few = n_rows if groups is None else len(np.unique(np.asarray(groups)))
    if not n_resamples or few < _LEAST_ROWS:
        return {}
    found: Intervals = {}
    each = resampled(metrics, counts_of_rows(n_rows, groups, 0, n_resamples))
    for name, values in each.items():
        value = metrics[name](np.ones(n_rows))
        try:
            got = interval_of(value, values, _LEVEL, "basic" if name in _BIASED else "percentile")
        except ValueError:  # undefined on many resamples, such as an AUROC of few errors
            continue
        low = max(got.low, 0.0) if name in _BIASED else got.low
        found[name] = (low, max(got.high, low))
    return found


def of_classifier(
    y: np.ndarray, proba: Any, labels: np.ndarray, predicted: np.ndarray, total: np.ndarray
) -> dict[str, Counted]:
    """Return the metrics of a classifier's page by their names."""
    chances, index = np.asarray(proba, dtype=float), np.searchsorted(labels, y)
    right = y == predicted
    of_label = chances[np.arange(len(y)), index]
    distance = np.square(chances - (y[:, None] == labels)).sum(axis=1)
    ((confidence, hit),) = confidence_and_hit(index, chances, "top-label")
    ranks = ByUncertainty(~right, total)
    metrics = {
        "accuracy": mean_by_count(right),
        _NLL: mean_by_count(-np.log(of_label.clip(np.finfo(float).eps))),
        "Brier score": mean_by_count(distance / 2 if len(labels) == 2 else distance),
        _ECE: calibration_error_by_count(confidence, hit, _N_BINS),
        "AURC": ranks.area_under_risk_coverage,
        "AUGRC": ranks.generalized_area,
    }
    if 0 < right.sum() < len(y):
        metrics["AUROC of errors"] = ranks.error_auroc
    return metrics


def of_regressor(
    y: np.ndarray,
    predicted: np.ndarray,
    total: np.ndarray,
    scores: dict[str, np.ndarray],
    bands: dict[float, np.ndarray],
) -> dict[str, Counted]:
    """Return the metrics of a regressor's page by their names.

    `scores` holds numbers of the rows that a metric averages, and `bands` intervals by level.
    """
    squares, std = np.square(y - predicted), np.sqrt(total)
    mean_square = mean_by_count(squares)
    metrics = {
        "R²": r2_by_count(y, predicted),
        "RMSE": lambda counts: float(np.sqrt(mean_square(counts))),
        **{name: mean_by_count(rows) for name, rows in scores.items()},
    }
    if std.all():
        metrics[_ENCE] = normalized_error_by_count(y - predicted, std, _N_BINS_OF_STD)
    metrics["AURC (squared error)"] = ByUncertainty(squares, total).area_under_risk_coverage
    for level, band in bands.items():
        low, high = band.T
        metrics[f"coverage of {level:.0%} intervals"] = mean_by_count((low <= y) & (y <= high))
        if np.isfinite(band).all():
            metrics[f"width of {level:.0%} intervals"] = mean_by_count(high - low)
    return metrics


def scores_of_rows(estimator: Any, X: Any, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the likelihood and the CRPS of each row, by their names on the page.

    There is no likelihood if members predict bare numbers.
    """
    found: dict[str, np.ndarray] = {}

    def keep(y_true: Any, rows: np.ndarray, *, name: str, sign: float) -> float:
        found[name] = sign * np.asarray(rows)
        return 0.0

    density = make_uncertainty_scorer(keep, needs="log_likelihood", name=_NLL, sign=-1.0)
    crps = make_uncertainty_scorer(keep, needs="crps", name="CRPS", sign=1.0)
    try:
        uncertainty_scorers(density=density, crps=crps)(estimator, X, y)
    except NoDensityError:
        crps(estimator, X, y)
    return found


def ece_note(proba: Any) -> dict[str, str]:
    """Say what the ECE is at best on so few rows, by its name on the page."""
    return {_ECE: f"0; a calibrated model shows {calibrated_ece(proba):.2g}"}


def calibrated_ece(proba: Any) -> float:
    """Compute the ECE that a calibrated model of these confidences shows on as many rows.

    Labels are drawn from the confidences themselves. Noise in the bins adds up, so the ECE is not
    0; J. Bröcker, L. Smith, "Increasing the Reliability of Reliability Diagrams", Weather and
    Forecasting 22, 2007, doi:10.1175/WAF993.1, draw labels in this way for the bins.
    """
    confidence = np.asarray(proba, dtype=float).max(axis=1).clip(0, 1)
    index = uniform_index(confidence, np.linspace(0, 1, _N_BINS + 1))
    random = np.random.default_rng(0)
    errors = []
    for _ in range(_N_CALIBRATED):
        right = random.random(len(confidence)) < confidence
        errors.append(np.abs(np.bincount(index, confidence - right)).sum() / len(confidence))
    return float(np.mean(errors))

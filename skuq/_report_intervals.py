"""Confidence intervals of the numbers of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skuq._distributions._members import NoDensityError
from skuq.metrics import (
    area_under_risk_coverage,
    bootstrap,
    expected_calibration_error,
    expected_normalized_calibration_error,
    make_uncertainty_scorer,
    uncertainty_error_auroc,
)
from skuq.pipeline import predict_interval

__all__ = ["Intervals", "calibrated_ece", "of_classifier", "of_regressor"]

Intervals = dict[str, tuple[float, float]]
_LEAST_ROWS = 10  # with fewer, intervals of resamples mean nothing
_N_CALIBRATED = 100


class _Resampled:
    """Bootstraps the metrics of a page, all on the same resamples."""

    def __init__(self, y: np.ndarray, groups: Any, n_resamples: int) -> None:
        self.found: Intervals = {}
        self._y = y
        few = len(y) if groups is None else len(np.unique(groups))
        self._options: dict[str, Any] = {
            "groups": groups,
            "n_resamples": n_resamples,
            "random_state": 0,
        }
        self._off = n_resamples < 2 or few < _LEAST_ROWS

    def mean(self, name: str, rows: np.ndarray) -> None:
        """Add a metric that is the mean of numbers of the rows."""
        self.add(name, lambda y, values: float(values.mean()), rows.astype(float))

    def add(
        self, name: str, metric: Callable[..., float], *arrays: Any, least: float | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        """Add a metric; `least` is its lower limit, if it is biased on few rows."""
        if self._off:
            return
        method = "percentile" if least is None else "basic"
        try:
            found = bootstrap(metric, self._y, *arrays, interval=method, **self._options, **options)
        except ValueError:  # undefined on many resamples, such as an AUROC of few errors
            return
        low = found.low if least is None else max(found.low, least)
        self.found[name] = (low, max(found.high, low))


def of_classifier(
    y: np.ndarray,
    predicted: np.ndarray,
    proba: np.ndarray,
    total: np.ndarray,
    labels: np.ndarray,
    groups: Any,
    n_resamples: int,
) -> Intervals:
    """Return the intervals of a classifier's metrics by their names on the page."""
    page = _Resampled(y, groups, n_resamples)
    of_label = proba[np.arange(len(y)), np.searchsorted(labels, y)]
    hit = y[:, None] == labels
    page.mean("accuracy", y == predicted)
    page.mean("negative log-likelihood (nats)", -np.log(of_label.clip(np.finfo(float).eps)))
    distance = np.square(proba - hit).sum(axis=1)  # for two classes, half of it
    page.mean("Brier score", distance / 2 if len(labels) == 2 else distance)
    ece = "ECE (top label, 15 bins)"
    page.add(ece, expected_calibration_error, proba, least=0.0, labels=labels)
    page.add("AURC", area_under_risk_coverage, predicted, total)
    page.add("AUGRC", area_under_risk_coverage, predicted, total, method="generalized")
    page.add("AUROC of errors", uncertainty_error_auroc, predicted, total)
    return page.found


def of_regressor(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    predicted: np.ndarray,
    total: np.ndarray,
    levels: tuple[float, ...],
    groups: Any,
    n_resamples: int,
) -> Intervals:
    """Return the intervals of a regressor's metrics by their names on the page."""
    page, std = _Resampled(y, groups, n_resamples), np.sqrt(total)
    page.add("R²", _r2, predicted)
    page.add("RMSE", lambda y, p: float(np.sqrt(np.mean((y - p) ** 2))), predicted)
    for name, needs, sign in (
        ("negative log-likelihood (nats)", "log_likelihood", -1.0),
        ("CRPS", "crps", 1.0),
    ):
        rows = _of_each_row(estimator, X, y, needs)
        if rows is not None:
            page.mean(name, sign * rows)
    if std.all():
        page.add("ENCE", expected_normalized_calibration_error, predicted, std, least=0.0)
    page.add("AURC (squared error)", area_under_risk_coverage, predicted, total, loss="squared")
    for level in levels:
        ends = predict_interval(estimator, X, level)
        inside = (ends[:, 0] <= y) & (y <= ends[:, 1])
        page.mean(f"coverage of {level:.0%} intervals", inside)
        page.mean(f"width of {level:.0%} intervals", ends[:, 1] - ends[:, 0])
    return page.found


def _r2(y: np.ndarray, predicted: np.ndarray) -> float:
    if not y.var():
        raise ValueError("R² needs targets that differ")
    return float(1 - np.mean((y - predicted) ** 2) / y.var())


def _of_each_row(estimator: Any, X: Any, y: np.ndarray, needs: str) -> np.ndarray | None:
    """Return the values of each row that a scorer averages; None if they are undefined."""
    found: list[np.ndarray] = []

    def keep(y_true: Any, rows: np.ndarray) -> float:
        found.append(rows)
        return 0.0

    try:
        make_uncertainty_scorer(keep, needs=needs)(estimator, X, y)
    except NoDensityError:
        return None
    return found[0]


def calibrated_ece(proba: np.ndarray) -> float:
    """Compute the ECE that a calibrated model of these confidences shows on as many rows.

    Labels are drawn from the confidences themselves. Noise in the bins adds up, so the ECE is not
    0; J. Bröcker, L. Smith, "Increasing the Reliability of Reliability Diagrams", Weather and
    Forecasting 22, 2007, doi:10.1175/WAF993.1, draw labels in this way for the bins.
    """
    confidence = np.asarray(proba, dtype=float).max(axis=1).clip(0, 1)
    random = np.random.default_rng(0)
    right = random.random((_N_CALIBRATED, len(confidence))) < confidence
    errors = [
        expected_calibration_error(one.astype(int), confidence, labels=[0, 1], kind="binary")
        for one in right
    ]
    return float(np.mean(errors))

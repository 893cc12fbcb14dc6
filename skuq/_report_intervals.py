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

__all__ = ["Intervals", "Resampled", "calibrated_ece", "ece_note"]

Intervals = dict[str, tuple[float, float]]
_LEAST_ROWS = 10  # with fewer, intervals of resamples mean nothing
_N_CALIBRATED = 100
_ECE = "ECE (top label, 15 bins)"


class Resampled:
    """Confidence intervals of the metrics of a page, all on the same resamples.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        The true labels or targets.
    groups : array-like of shape (n_samples,), or None
        The group of each row.
    n_resamples : int
        Number of resamples; below 2 there are no intervals.
    """

    def __init__(self, y: np.ndarray, groups: Any, n_resamples: int) -> None:
        self._found: Intervals = {}
        self._y = y
        few = len(y) if groups is None else len(np.unique(groups))
        self._options: dict[str, Any] = {"groups": groups, "n_resamples": n_resamples}
        self._off = n_resamples < 2 or few < _LEAST_ROWS

    def judged(
        self,
        estimator: Any,
        X: Any,
        predicted: np.ndarray,
        total: np.ndarray,
        classifies: bool,
        levels: tuple[float, ...],
    ) -> Intervals:
        """Return the intervals by the names of the metrics on the page."""
        if self._off:
            return {}
        if classifies:
            self._judge_classifier(estimator, X, predicted, total)
        else:
            self._judge_regressor(estimator, X, predicted, total, levels)
        return self._found

    def _judge_classifier(
        self, estimator: Any, X: Any, predicted: np.ndarray, total: np.ndarray
    ) -> None:
        y, proba, labels = self._y, np.asarray(estimator.predict_proba(X)), estimator.classes_
        of_label = proba[np.arange(len(y)), np.searchsorted(labels, y)]
        self._mean("accuracy", y == predicted)
        self._mean("negative log-likelihood (nats)", -np.log(of_label.clip(np.finfo(float).eps)))
        distance = np.square(proba - (y[:, None] == labels)).sum(axis=1)
        self._mean("Brier score", distance / 2 if len(labels) == 2 else distance)
        self._add(_ECE, expected_calibration_error, proba, least=0.0, labels=labels)
        self._add("AURC", area_under_risk_coverage, predicted, total)
        self._add("AUGRC", area_under_risk_coverage, predicted, total, method="generalized")
        if 0 < np.sum(y != predicted) < len(y):
            self._add("AUROC of errors", uncertainty_error_auroc, predicted, total)

    def _judge_regressor(
        self,
        estimator: Any,
        X: Any,
        predicted: np.ndarray,
        total: np.ndarray,
        levels: tuple[float, ...],
    ) -> None:
        y, std = self._y, np.sqrt(total)
        self._add("R²", _r2, predicted)
        self._add("RMSE", lambda y, p: float(np.sqrt(np.mean((y - p) ** 2))), predicted)
        for name, needs, sign in (
            ("negative log-likelihood (nats)", "log_likelihood", -1.0),
            ("CRPS", "crps", 1.0),
        ):
            rows = _of_each_row(estimator, X, y, needs)
            if rows is not None:
                self._mean(name, sign * rows)
        if std.all():
            self._add("ENCE", expected_normalized_calibration_error, predicted, std, least=0.0)
        aurc = "AURC (squared error)"
        self._add(aurc, area_under_risk_coverage, predicted, total, loss="squared")
        for level in levels:
            low, high = predict_interval(estimator, X, level).T
            self._mean(f"coverage of {level:.0%} intervals", (low <= y) & (y <= high))
            self._mean(f"width of {level:.0%} intervals", high - low)

    def _mean(self, name: str, rows: np.ndarray) -> None:
        """Add a metric that is the mean of numbers of the rows."""
        self._add(name, lambda y, values: float(values.mean()), rows.astype(float))

    def _add(
        self,
        name: str,
        metric: Callable[..., float],
        *arrays: Any,
        least: float | None = None,
        **options: Any,
    ) -> None:
        """Add a metric; `least` is its lower limit, if it is biased on few rows."""
        interval = "percentile" if least is None else "basic"
        more = {**self._options, **options}
        try:
            found = bootstrap(metric, self._y, *arrays, interval=interval, **more)
        except ValueError:  # undefined on many resamples, such as an AUROC of few errors
            return
        low = found.low if least is None else max(found.low, least)
        self._found[name] = (low, max(found.high, low))


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


def ece_note(estimator: Any, X: Any) -> dict[str, str]:
    """Say what the ECE is at best on so few rows, by its name on the page."""
    return {_ECE: f"0; a calibrated model shows {calibrated_ece(estimator.predict_proba(X)):.2g}"}


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

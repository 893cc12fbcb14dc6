"""Metrics as functions of how often each row counts, for many resamples of the same rows.

What does not change from one resample to the next, such as the order of the rows by their
uncertainty, is computed once. So a resample of n rows costs a few sums of n numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from skuq._bins import uniform_index

__all__ = [
    "Counted",
    "ByUncertainty",
    "calibration_error_by_count",
    "mean_by_count",
    "normalized_error_by_count",
    "r2_by_count",
    "resampled",
]

Counted = Callable[[np.ndarray], float]  # of the counts of the rows, as floats; NaN if undefined


def resampled(metrics: dict[str, Counted], counts: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    """Compute each of the metrics on each resample, given by the counts of its rows."""
    values = [[metric(one) for metric in metrics.values()] for one in counts]
    return dict(zip(metrics, np.array(values).T))


def mean_by_count(values: Any) -> Counted:
    """Return the mean of finite numbers of the rows."""
    numbers = np.asarray(values, dtype=float)
    return lambda counts: float(numbers @ counts / counts.sum())


def r2_by_count(y: np.ndarray, predicted: np.ndarray) -> Counted:
    """Return R², which is undefined where all targets are equal."""
    squares = np.square(y - predicted)

    def metric(counts: np.ndarray) -> float:
        variance = np.square(y - y @ counts / counts.sum()) @ counts
        return float(1 - squares @ counts / variance) if variance else np.nan

    return metric


def calibration_error_by_count(confidence: np.ndarray, hit: np.ndarray, n_bins: int) -> Counted:
    """Return the ECE of bins of equal width."""
    index = uniform_index(confidence, np.linspace(0, 1, n_bins + 1))
    gap = confidence - hit

    def metric(counts: np.ndarray) -> float:
        return float(np.abs(np.bincount(index, gap * counts)).sum() / counts.sum())

    return metric


def normalized_error_by_count(residual: np.ndarray, std: np.ndarray, n_bins: int) -> Counted:
    """Return the ENCE: bins of equal weight by the std, whose edges move with the resample."""
    order = np.argsort(std, kind="stable")
    spread = std[order]
    unit = spread[-1]  # ratios do not depend on it, but squares could vanish
    square, variance = np.square(residual[order] / unit), np.square(spread / unit)
    levels = np.linspace(0, 1, n_bins + 1)[1:]

    def metric(counts: np.ndarray) -> float:
        drawn = counts[order]
        reached = drawn.cumsum()
        edges = np.unique(spread[np.searchsorted(reached, levels * reached[-1] * (1 - 1e-12))])
        starts = np.append(0, np.searchsorted(spread, edges[:-1], side="right"))
        errors = np.add.reduceat(drawn * square, starts)
        expected = np.add.reduceat(drawn * variance, starts)
        return float(np.mean(np.abs(np.sqrt(errors / expected) - 1)))

    return metric


class ByUncertainty:
    """Losses in the order of their uncertainties, where equal ones share their mean loss.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,)
        Loss of each row.
    uncertainty : ndarray of shape (n_samples,)
        Uncertainty of each row.
    """

    def __init__(self, losses: np.ndarray, uncertainty: np.ndarray) -> None:
        self._order = np.argsort(uncertainty, kind="stable")
        ordered = uncertainty[self._order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self._starts = None if len(starts) == len(ordered) else starts
        self._losses = np.asarray(losses, dtype=float)[self._order]
        self._known: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._harmonic = np.zeros(1)

    def _levels(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many rows each level of uncertainty has, and what they lose together."""
        if self._known is None or self._known[0] is not counts:
            size = counts[self._order]
            lost = size * self._losses
            if self._starts is not None:
                size, lost = (np.add.reduceat(part, self._starts) for part in (size, lost))
            self._known = counts, size, lost
        return self._known[1:]

    def area_under_risk_coverage(self, counts: np.ndarray) -> float:
        """Return the AURC: the mean of the risk over all coverages 1/n … 1."""
        size, lost = self._levels(counts)
        kept = size.cumsum()
        before = kept - size
        rate = lost / size.clip(min=1)
        # Within a level the risk of k kept rows is rate + (lost before − rate · before) / k.
        sums = self._sums_of_inverses(int(kept[-1]))
        inverses = sums[kept.astype(np.intp)] - sums[before.astype(np.intp)]
        return float((lost.sum() + (lost.cumsum() - lost - rate * before) @ inverses) / kept[-1])

    def generalized_area(self, counts: np.ndarray) -> float:
        """Return the AUGRC: the integral over the coverage of the share that is kept and loses."""
        size, lost = self._levels(counts)
        return float((lost.cumsum() - lost / 2) @ size / size.sum() ** 2)

    def error_auroc(self, counts: np.ndarray) -> float:
        """Return the probability that an error (loss 1) is more uncertain than a right answer."""
        size, wrong = self._levels(counts)
        right = size - wrong
        pairs = right.sum() * wrong.sum()
        return float(wrong @ (right.cumsum() - right / 2) / pairs) if pairs else np.nan

    def _sums_of_inverses(self, n: int) -> np.ndarray:
        """Return 0, 1, 1 + 1/2, … up to at least the sum of n terms."""
        if len(self._harmonic) <= n:
            self._harmonic = np.append(0, (1 / np.arange(1, n + 1)).cumsum())
        return self._harmonic

"""Levels of false alarms: thresholds, conformal p-values, false discoveries in a batch."""

from __future__ import annotations

import math

import numpy as np

from skuq._utils._messages import checked_level

__all__ = ["discoveries", "p_values_of", "threshold"]


def threshold(novelty: np.ndarray, contamination: float) -> float:
    """Find the threshold that flags this share of known rows: the strangest, at most so many.

    It lies between the last row that is flagged and the next, so that rounding flags no other.
    """
    descending = np.sort(novelty)[::-1]
    n_flagged = math.floor(contamination * len(novelty) + 1e-9)
    if n_flagged == 0:
        return float(descending[0])
    above, below = descending[n_flagged - 1 : n_flagged + 1]
    return float(below + (above - below) / 2)


def p_values_of(novelty: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Compute (1 + number of known rows that are at least as strange) / (n + 1).

    Parameters
    ----------
    novelty : ndarray of shape (n_samples,)
        Scores of new rows.
    known : ndarray of shape (n,)
        Scores of known rows, in ascending order.
    """
    at_least = len(known) - np.searchsorted(known, novelty, side="left")
    p_values: np.ndarray = (1 + at_least) / (len(known) + 1)
    return p_values


def discoveries(p_values: np.ndarray, fdr: float, n_known: int) -> np.ndarray:
    """Return where the procedure of Benjamini and Hochberg rejects that rows are known."""
    level = checked_level("fdr", fdr)
    fewest = math.ceil(1 / level - 1e-9) - 1
    if n_known < fewest:
        raise ValueError(
            f"fdr={fdr} cannot be reached: {n_known} calibration rows give no p-value below "
            f"1/{n_known + 1}; expected at least {fewest} rows. To find one strange row among m, "
            "it takes m times as many"
        )
    order = np.sort(p_values)
    passing = np.flatnonzero(order <= level * np.arange(1, len(order) + 1) / len(order) + 1e-12)
    if not len(passing):
        return np.zeros(len(p_values), dtype=bool)
    found: np.ndarray = p_values <= order[passing[-1]]
    return found

"""How well scores tell novel rows from known ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from skuq._utils._typing import ArrayLike
from skuq.metrics._checks import check_real

__all__ = ["NoveltyMetrics", "checked_scores", "novelty_metrics"]

_MOST = 0.95  # of the novel rows to find, of the known rows to keep


class NoveltyMetrics(NamedTuple):
    """How well scores tell novel rows from known ones.

    Attributes
    ----------
    auroc : float in [0, 1]
        Probability that a novel row scores higher than a known one, plus half of that of a tie.
        1 is best, 0.5 is chance.
    average_precision_novel : float in [0, 1]
        Mean precision, over the novel rows, of flagging all rows that score at least as high: the
        area below the precision–recall curve that counts novel rows as positive. It depends on how
        many rows of each kind there are.
    average_precision_known : float in [0, 1]
        The same with known rows as positive, by low scores.
    fpr_at_95_novel_found : float in [0, 1]
        Share of the known rows that are flagged, at the highest threshold that flags at least 95 %
        of the novel ones. 0 is best.
    fpr_at_95_known_kept : float in [0, 1]
        Share of the novel rows that are accepted, at the lowest threshold that accepts at least
        95 % of the known ones. 0 is best.
    detection_error : float in [0, 0.5]
        Least mean of the share of known rows that are flagged and the share of novel rows that are
        accepted, over all thresholds. 0 is best.
    """

    auroc: float
    average_precision_novel: float
    average_precision_known: float
    fpr_at_95_novel_found: float
    fpr_at_95_known_kept: float
    detection_error: float


def checked_scores(name: str, scores: ArrayLike) -> np.ndarray:
    """Return scores of one kind of rows; infinity is a rank like any other."""
    values = check_real(name, scores, allow_infinite=True)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"{name} must hold the scores of at least 1 row, of shape (n_samples,), got "
            f"{values.shape}"
        )
    return values


def novelty_metrics(known: ArrayLike, novel: ArrayLike) -> NoveltyMetrics:
    """Measure how well scores tell novel rows from known ones.

    Papers call two different numbers "FPR at 95 % TPR": known rows flagged when 95 % of the novel
    ones are found [1]_, and novel rows accepted when 95 % of the known ones are kept [2]_. They can
    order methods differently, so both have a name of their own here. All thresholds are scores that
    occur, and equal scores are on the same side.

    Parameters
    ----------
    known : array-like of shape (n_known,)
        Scores of rows like those the model was trained on; higher is stranger, as from
        `predict_novelty` or `predict_uncertainty`.
    novel : array-like of shape (n_novel,)
        Scores of rows of another kind.

    Returns
    -------
    NoveltyMetrics
        Named tuple of six numbers.

    Raises
    ------
    ValueError
        If one of the two is empty, or holds NaN.

    References
    ----------
    .. [1] D. Hendrycks, M. Mazeika, T. Dietterich, "Deep Anomaly Detection with Outlier Exposure",
       ICLR 2019, arXiv:1812.04606.
    .. [2] S. Liang, Y. Li, R. Srikant, "Enhancing the Reliability of Out-of-distribution Image
       Detection in Neural Networks", ICLR 2018, arXiv:1706.02690.

    Examples
    --------
    >>> from skuq.metrics import novelty_metrics
    >>> found = novelty_metrics(known=[0.1, 0.2, 0.3, 0.6], novel=[0.5, 0.8, 0.9])
    >>> round(found.auroc, 3), found.fpr_at_95_novel_found, round(found.fpr_at_95_known_kept, 3)
    (0.917, 0.25, 0.333)
    """
    low, high = np.sort(checked_scores("known", known)), np.sort(checked_scores("novel", novel))
    n_low, n_high = len(low), len(high)
    below, not_above, accepted = _counts(low, high)
    flagged = n_low - below
    found = n_high - _first_of_equals(high)  # novel rows that score at least as high
    kept = n_low - _first_of_equals(-low[::-1])[::-1]  # known rows that score at most as high
    to_find, to_keep = (math.ceil(_MOST * n - 1e-9) for n in (n_high, n_low))
    errors = flagged / n_low - found / n_high  # twice the mean, less 1
    return NoveltyMetrics(
        auroc=float((below.sum() + not_above.sum()) / (2 * n_low * n_high)),
        average_precision_novel=float((found / (found + flagged)).mean()),
        average_precision_known=float((kept / (kept + accepted)).mean()),
        fpr_at_95_novel_found=float(flagged[n_high - to_find] / n_low),
        fpr_at_95_known_kept=float(accepted[to_keep - 1] / n_high),
        detection_error=float(min((errors.min() + 1) / 2, 0.5)),
    )


def _counts(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count known rows below and not above each novel score, and novel rows not above a known one.

    A stable sort merges sorted numbers in one pass, several times as fast as `searchsorted`.
    """
    is_high = np.argsort(np.concatenate([low, high]), kind="stable") >= len(low)
    not_above = np.flatnonzero(is_high) - np.arange(len(high))
    last = low[np.maximum(not_above - 1, 0)]
    if (last == high).any():  # a known score equals a novel one
        below, accepted = np.searchsorted(low, high), np.searchsorted(high, low, side="right")
        return below, not_above, accepted
    return not_above, not_above, np.flatnonzero(~is_high) - np.arange(len(low))


def _first_of_equals(ascending: np.ndarray) -> np.ndarray:
    """Return the place of the first equal number, for each of the sorted numbers."""
    places = np.arange(len(ascending))
    begins = np.append(True, ascending[1:] != ascending[:-1])
    return places if begins.all() else np.maximum.accumulate(np.where(begins, places, 0))

"""Calibration of probabilities: confidence against frequency, bin by bin."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

__all__ = ["expected_calibration_error"]


class Bins(NamedTuple):
    """Of each bin that is not empty: its weight share, mean confidence and frequency of success."""

    share: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def bin_statistics(
    confidence: np.ndarray, hit: np.ndarray, weight: np.ndarray, n_bins: int, strategy: str
) -> Bins:
    """Bins are closed on the right; the first also holds 0. Empty ones are left out."""
    levels = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        levels = np.unique(np.quantile(confidence, levels, weights=weight, method="inverted_cdf"))
    n_bins = max(1, len(levels) - 1)
    index = np.clip(np.searchsorted(levels, confidence, side="left") - 1, 0, n_bins - 1)
    share = np.bincount(index, weight, n_bins)
    kept = np.flatnonzero(share > 0)
    return Bins(
        share=share[kept] / share.sum(),
        confidence=np.bincount(index, weight * confidence, n_bins)[kept] / share[kept],
        accuracy=np.bincount(index, weight * hit, n_bins)[kept] / share[kept],
    )


def check_probabilities(
    y_true: Any, y_proba: Any, labels: Any, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the true classes, probabilities of shape (n, n_classes), weights.

    A `y_proba` of one dimension is the probability of the second of two classes.
    """
    y_true = column_or_1d(y_true)
    proba = np.asarray(y_proba, dtype=float)
    check_consistent_length(y_true, proba, sample_weight)
    if not len(y_true):
        raise ValueError("y_true is empty: a metric needs at least 1 sample")
    if proba.ndim == 1:
        proba = np.column_stack([1 - proba, proba])
    if proba.ndim != 2 or proba.shape[1] < 2:
        raise ValueError(
            f"y_proba must have shape (n_samples,) or (n_samples, n_classes), got {proba.shape}"
        )
    if not np.isfinite(proba).all():
        raise ValueError("y_proba contains NaN or infinity")
    if (proba < -1e-6).any() or (proba > 1 + 1e-6).any():
        raise ValueError("y_proba must lie in [0, 1], got values outside")
    if np.abs(proba.sum(axis=1) - 1).max() > 1e-4:
        raise ValueError("the rows of y_proba must sum to 1")
    classes = _classes(y_true, labels, proba.shape[1])
    index = np.searchsorted(classes, y_true).clip(max=len(classes) - 1)
    if not np.array_equal(classes[index], y_true):
        raise ValueError(
            f"y_true contains labels {np.setdiff1d(y_true, classes)[:5]} that are not among "
            f"labels={classes}"
        )
    if sample_weight is None:
        weight = np.ones(len(y_true))
    else:
        weight = column_or_1d(sample_weight).astype(float)
        if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
            raise ValueError("sample_weight must be finite, not negative and not all zero")
    kept = weight > 0
    return index[kept], proba[kept].clip(0, 1), weight[kept]


def _classes(y_true: np.ndarray, labels: Any, n_classes: int) -> np.ndarray:
    if labels is not None:
        classes = np.asarray(labels)
        if not np.array_equal(classes, np.unique(classes)):
            raise ValueError("labels must be sorted and without repetition, as in classes_")
    else:
        classes = np.unique(y_true)
        if n_classes == 2 and np.isin(classes.astype(object), [0, 1]).all():
            classes = np.array([0, 1], dtype=y_true.dtype)
    if len(classes) != n_classes:
        raise ValueError(
            f"y_proba has {n_classes} columns, but {len(classes)} labels are known: pass "
            "labels=classifier.classes_"
        )
    return classes


def expected_calibration_error(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    kind: str = "top-label",
    labels: Any = None,
    sample_weight: Any = None,
) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, bin by bin [1]_.

    ECE = Σ_b (n_b / n) |conf_b − acc_b| over bins that are closed on the right (the first holds
    0, too); empty bins count nothing. The estimate is biased upwards: perfectly calibrated
    predictions have an ECE that falls as n^{-1/2}.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of any type.
    y_proba : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes
        Columns in the order of the sorted labels; of one dimension: the probability of the second.
    n_bins : int, default=15
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or of equal weight (equal values share a bin).
    norm : {"l1", "l2", "max"}, default="l1"
        Mean absolute gap; root of the mean squared gap; the largest gap (MCE).
    kind : {"top-label", "classwise", "binary"}, default="top-label"
        "top-label": the largest probability against whether that class is right. "binary" (two
        classes): the probability of the second class against how often it is true, another
        number. "classwise": the mean over all classes of that [2]_.
    labels : array-like of shape (n_classes,), default=None
        All labels, sorted, where y_true may lack some: ``classifier.classes_``.
    sample_weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    ValueError
        If probabilities or labels do not fit together, or an option is unknown.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.
    .. [2] M. Kull et al., "Beyond temperature scaling", NeurIPS 2019, arXiv:1910.12656.

    Examples
    --------
    >>> from skuq.metrics import expected_calibration_error
    >>> y_true = ["cat", "cat", "dog", "cat"]
    >>> y_proba = [[0.9, 0.1]] * 4          # 90 % sure, right in 3 of 4
    >>> round(expected_calibration_error(y_true, y_proba), 2)
    0.15
    """
    _check_option("strategy", strategy, ("uniform", "quantile"))
    _check_option("norm", norm, ("l1", "l2", "max"))
    _check_option("kind", kind, ("top-label", "classwise", "binary"))
    if not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise ValueError(f"n_bins must be an integer of at least 1, got {n_bins!r}")
    y, proba, weight = check_probabilities(y_true, y_proba, labels, sample_weight)
    if kind == "binary" and proba.shape[1] != 2:
        raise ValueError(f"kind='binary' needs two classes, got {proba.shape[1]}")
    errors = []
    for confidence, hit in confidence_and_hit(y, proba, kind):
        bins = bin_statistics(confidence, hit, weight, n_bins, strategy)
        gap = np.abs(bins.confidence - bins.accuracy)
        if norm == "l1":
            errors.append(bins.share @ gap)
        else:
            errors.append(np.sqrt(bins.share @ gap**2) if norm == "l2" else gap.max())
    return float(np.mean(errors))


def confidence_and_hit(
    y: np.ndarray, proba: np.ndarray, kind: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pairs of confidence and success that a kind of calibration compares."""
    if kind == "top-label":
        return [(proba.max(axis=1), proba.argmax(axis=1) == y)]
    columns = [1] if kind == "binary" else range(proba.shape[1])
    return [(proba[:, k], y == k) for k in columns]


def _check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")

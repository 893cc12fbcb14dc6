"""Calibration of probabilities: confidence against frequency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.fft import dct, idct
from scipy.optimize import brentq

from skuq._bins import Bins, BinSums, bin_statistics, uniform_index
from skuq._utils._arrays import tensor_of
from skuq._utils._messages import warn
from skuq._utils._typing import ArrayLike
from skuq.metrics._checks import (
    ProbabilityTable,
    check_n_bins,
    check_option,
    check_predictions,
    check_probabilities,
    two_columns,
)

__all__ = [
    "canonical_calibration_error",
    "expected_calibration_error",
    "smooth_calibration_error",
]


def confidence_and_hit(
    y: np.ndarray, proba: np.ndarray, kind: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of confidence and success that a kind of calibration compares."""
    check_option("kind", kind, ("top-label", "classwise", "binary"))
    if kind == "binary" and proba.ndim == 1:
        yield proba, y == 1
        return
    proba = two_columns(proba)
    if kind == "binary" and proba.shape[1] != 2:
        raise ValueError(f"kind='binary' needs two classes, got {proba.shape[1]}")
    if kind == "top-label":
        yield _top_label(y, proba)
        return
    for k in [1] if kind == "binary" else range(proba.shape[1]):
        yield proba[:, k], y == k


def _top_label(y: np.ndarray, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest probability of each row, and whether the first class with it is right.

    The places of the maxima matter only where classes tie, below one half. Finding them costs
    twice as much as the maxima, so they are found only there.
    """
    values = tensor_of(proba, only_read=True)
    proba, n_classes = values.numpy(), proba.shape[1]
    confidence = values.amax(1).numpy()
    hit = proba.ravel().take(np.arange(0, proba.size, n_classes) + y) == confidence
    may_tie = confidence <= 0.5 + 1e-4 + 1e-6 * n_classes  # as the checks let sums be off
    rows = np.flatnonzero(hit & may_tie)
    hit[rows] = proba.take(rows, axis=0).argmax(axis=1) == y.take(rows)
    return confidence, hit


def expected_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    kind: str = "top-label",
    debias: bool = False,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute the expected calibration error: gaps of confidence and accuracy, bin by bin [1]_.

    ECE = Σ_b (n_b / n) |conf_b − acc_b| over bins that are closed on the right (the first holds
    0, too). Empty bins do not count. The estimate is biased upwards: the ECE of perfectly
    calibrated predictions falls only as n^{-1/2}.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, of any type.
    y_proba : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes
        Predicted probabilities. Columns are in the order of the sorted labels; an array of one
        dimension holds the probability of the second class.
    n_bins : int, default=15
        Number of bins of the confidence.
    strategy : {"uniform", "quantile"}, default="uniform"
        Make bins of equal width, or of equal weight (equal values share a bin).
    norm : {"l1", "l2", "max"}, default="l1"
        How to combine the gaps: their mean absolute value, the root of their mean square, or the
        largest of them (MCE).
    kind : {"top-label", "classwise", "binary"}, default="top-label"
        "top-label" compares the largest probability with whether that class is right. "binary" (two
        classes) compares the probability of the second class with how often it is true, which is
        another number. "classwise" does so for every class and takes the mean [2]_.
    debias : bool, default=False
        With ``norm="l2"``: subtract from each squared gap its own sampling variance,
        acc·(1 − acc)/(n_b − 1) [3]_. A sum below zero counts as zero; bins of one sample are left
        out, with a warning.
    labels : array-like of shape (n_classes,), default=None
        All labels, sorted. Give ``classifier.classes_`` if y_true may lack some; None takes the
        labels in y_true.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.

    Returns
    -------
    float in [0, 1]
        The error; 0 means perfectly calibrated.

    Raises
    ------
    ValueError
        If probabilities or labels do not fit together, or an option is unknown.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, arXiv:1706.04599.
    .. [2] M. Kull et al., "Beyond temperature scaling", NeurIPS 2019, arXiv:1910.12656.
    .. [3] A. Kumar, P. Liang, T. Ma, "Verified Uncertainty Calibration", NeurIPS 2019,
       arXiv:1909.10155.

    Examples
    --------
    >>> from skuq.metrics import expected_calibration_error
    >>> y_true = ["cat", "cat", "dog", "cat"]
    >>> y_proba = [[0.9, 0.1]] * 4          # 90 % sure, right in 3 of 4
    >>> round(expected_calibration_error(y_true, y_proba), 2)
    0.15
    """
    check_n_bins(n_bins)
    check_option("strategy", strategy, ("uniform", "quantile"))
    check_option("norm", norm, ("l1", "l2", "max"))
    if debias and norm != "l2":
        raise ValueError(f"debias=True needs norm='l2', got norm={norm!r}")
    table = check_predictions(y_true, y_proba, labels, sample_weight)
    return calibration_error_of(_bins_of_each(table, kind, n_bins, strategy), norm, debias)


def calibration_error_of(bins: Iterable[Bins], norm: str, debias: bool = False) -> float:
    """Combine the gaps of each set of bins, and average over the sets."""
    return float(np.mean([_gap_norm(each, norm, debias) for each in bins]))


def _bins_of_each(table: ProbabilityTable, kind: str, n_bins: int, strategy: str) -> Iterator[Bins]:
    """Yield the bins of each pair of confidence and success."""
    if strategy == "quantile":  # its edges need all confidences at once
        y, proba, weight = table.take(slice(None))
        for confidence, hit in confidence_and_hit(y, proba, kind):
            yield bin_statistics(confidence, hit, weight, n_bins, strategy)
        return
    levels = np.linspace(0, 1, n_bins + 1)
    sums: dict[int, BinSums] = defaultdict(lambda: BinSums(levels, strategy))
    for y, proba, weight in table.blocks():
        for k, (confidence, hit) in enumerate(confidence_and_hit(y, proba, kind)):
            sums[k].add(confidence, hit, weight)
    for each in sums.values():
        yield each.bins()


def _gap_norm(bins: Bins, norm: str, debias: bool) -> float:
    gap = np.abs(bins.confidence - bins.accuracy)
    if norm == "l1":
        return float(bins.share @ gap)
    if norm == "max":
        return float(gap.max())
    square = gap**2
    if debias:
        known = bins.n_effective > 1 + 1e-9
        if not known.all():
            warn(
                f"{(~known).sum()} bins of a single sample are left out of the debiased "
                "calibration error; use fewer bins or strategy='quantile'",
                UserWarning,
            )
        variance = bins.accuracy * (1 - bins.accuracy)
        square = np.where(known, square - variance / np.where(known, bins.n_effective - 1, 1), 0)
    return float(np.sqrt(max(0.0, bins.share @ square)))


def canonical_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 10,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compare whole vectors of probabilities with the frequencies of the classes [1]_.

    Every class axis is cut into bins of equal width; in each cell that holds samples, mean
    probabilities and frequencies are compared by total variation, ½ Σ_k |p̄_k − freq_k|. The
    estimate is biased upwards, more so with more classes.

    Parameters
    ----------
    y_true, y_proba, labels, sample_weight : as in `expected_calibration_error`
        Labels, probabilities, the list of all labels, and weights of the samples. Probabilities of
        one dimension become two columns.
    n_bins : int, default=10
        Bins per class, closed on the right.

    Returns
    -------
    float in [0, 1]
        The error; 0 means that frequencies match probabilities in every cell.

    References
    ----------
    .. [1] D. Widmann, F. Lindsten, D. Zachariah, "Calibration tests in multi-class
       classification", NeurIPS 2019, arXiv:1910.11385.

    Examples
    --------
    >>> from skuq.metrics import canonical_calibration_error
    >>> round(canonical_calibration_error([0, 0, 1, 0], [[0.9, 0.1]] * 4), 2)
    0.15
    """
    check_n_bins(n_bins)
    y, proba, weight = check_probabilities(y_true, y_proba, labels, sample_weight)
    proba, weight = two_columns(proba), np.ones(len(y)) if weight is None else weight
    cells = uniform_index(proba, np.linspace(0, 1, n_bins + 1))
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    excess = 0.0
    for k in range(proba.shape[1]):
        excess += np.abs(np.bincount(cell.ravel(), weight * (proba[:, k] - (y == k)))).sum()
    return float(excess / (2 * weight.sum()))


def smooth_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    kind: str = "top-label",
    bandwidth: float | None = None,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute a calibration error without bins: a kernel smooths the residuals [1]_.

    smECE_σ = ∫ |Σ_i w_i (hit_i − conf_i) K_σ(t, conf_i)| dt over confidences t in [0, 1], with a
    normal kernel reflected at both ends and weights that sum to 1. Without a bandwidth, the σ for
    which smECE_σ = σ is used, which leaves no parameter to choose.

    Parameters
    ----------
    y_true, y_proba, labels, sample_weight : as in `expected_calibration_error`
        Labels, probabilities, the list of all labels, and weights of the samples.
    kind : {"top-label", "classwise", "binary"}, default="top-label"
        Which confidence to compare with which event, as in `expected_calibration_error`.
    bandwidth : float > 0 or None, default=None
        Width σ of the kernel, in units of the confidence; None finds it from the data.

    Returns
    -------
    float in [0, 1]
        The error; 0 means perfectly calibrated.

    Notes
    -----
    Evaluated on 4096 cells of the confidence, linear between them, which resolves bandwidths
    above 0.001.

    References
    ----------
    .. [1] J. Błasiok and P. Nakkiran, "Smooth ECE: Principled Reliability Diagrams via Kernel
       Smoothing", ICLR 2024, arXiv:2309.12236.

    Examples
    --------
    >>> from skuq.metrics import smooth_calibration_error
    >>> round(smooth_calibration_error([0, 0, 1, 0], [[0.9, 0.1]] * 4), 2)
    0.15
    """
    if bandwidth is not None and not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth must be a positive number or None, got {bandwidth!r}")
    y, proba, weight = check_probabilities(y_true, y_proba, labels, sample_weight)
    share = np.full(len(y), 1 / len(y)) if weight is None else weight / weight.sum()
    errors = [
        _smooth_error(confidence, share * (hit - confidence), bandwidth)
        for confidence, hit in confidence_and_hit(y, proba, kind)
    ]
    return float(np.mean(errors))


def _smooth_error(confidence: np.ndarray, residual: np.ndarray, bandwidth: float | None) -> float:
    n_cells = 4096
    place = (confidence * n_cells - 0.5).clip(0, n_cells - 1)  # in units of cell centres
    left = np.minimum(place.astype(np.intp), n_cells - 2)
    fraction = place - left
    cells = np.bincount(left, residual * (1 - fraction), n_cells)
    cells += np.bincount(left + 1, residual * fraction, n_cells)
    spectrum = dct(cells)  # even at both ends, so the kernel is reflected there
    frequency = np.pi * np.arange(n_cells)

    def error(sigma: float) -> float:
        return float(np.abs(idct(spectrum * np.exp(-0.5 * (sigma * frequency) ** 2))).sum())

    if bandwidth is not None:
        return error(bandwidth)
    smallest = 1e-3
    if error(smallest) <= smallest:
        return error(smallest)
    if error(1.0) >= 1.0:  # all are certain and wrong
        return 1.0
    return float(brentq(lambda sigma: error(sigma) - sigma, smallest, 1.0, xtol=1e-9))

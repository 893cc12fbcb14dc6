"""Selective prediction: how well an uncertainty separates right predictions from wrong ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_consistent_length

from skuq._utils._messages import checked_level, warn
from skuq._utils._typing import ArrayLike
from skuq.metrics._checks import check_option, check_real, check_weight
from skuq.metrics._guarantees import METHODS, SelectiveGuarantee, certified, empirical, ranked
from skuq.metrics._losses import Loss, novel_as_errors, sample_losses

__all__ = [
    "RiskCoverageCurve",
    "SelectiveGuarantee",
    "accuracy_at_coverage",
    "area_under_risk_coverage",
    "coverage_at_risk",
    "risk_coverage_curve",
    "uncertainty_error_auroc",
]


class RiskCoverageCurve(NamedTuple):
    """Coverage and risk of the k most certain samples, for k = 1 … n.

    Attributes
    ----------
    coverage : ndarray of shape (n_samples,)
        Share of the samples (by weight) that is kept, increasing to 1.
    risk : ndarray of shape (n_samples,)
        Mean loss of the samples that are kept.
    threshold : ndarray of shape (n_samples,)
        Largest uncertainty of the samples that are kept.
    """

    coverage: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray


def _check(
    y_true: Any,
    y_pred: Any,
    uncertainty: Any,
    loss: Any,
    sample_weight: Any,
    at_least: int = 2,
    novel: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return losses, uncertainties and weights, without samples of weight zero."""
    scores = check_real("uncertainty", uncertainty, allow_infinite=True)
    check_consistent_length(y_true, scores)
    weight = check_weight(sample_weight, len(scores))
    losses = sample_losses(y_true, y_pred, loss)
    losses = losses if novel is None else novel_as_errors(losses, novel, loss)
    if scores.ndim != 1:
        raise ValueError(
            f"uncertainty must have shape (n_samples,), got {scores.shape}: with several targets, "
            "reduce them to one number per sample, by a mean, say"
        )
    weight = np.ones(len(scores)) if weight is None else weight
    counted = weight > 0
    if counted.sum() < at_least:
        raise ValueError(f"at least {at_least} samples are needed, got {counted.sum()}")
    return losses[counted], scores[counted], weight[counted]


def _curve(losses: np.ndarray, scores: np.ndarray, weight: np.ndarray) -> RiskCoverageCurve:
    """Sort by uncertainty; equal uncertainties share their mean loss, as averaged over orders."""
    order = np.argsort(scores, kind="stable")
    levels, group = np.unique(scores[order], return_inverse=True)
    weight, lost = weight[order], (weight * losses)[order]
    by_group = np.bincount(group, lost) / np.bincount(group, weight)
    if len(levels) < len(order):
        weight = (np.bincount(group, weight) / np.bincount(group))[group]  # so do their weights
    coverage = weight.cumsum()
    risk = (weight * by_group[group]).cumsum() / coverage
    return RiskCoverageCurve(coverage / coverage[-1], risk, levels[group])


def risk_coverage_curve(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    loss: Loss = "zero_one",
    sample_weight: ArrayLike | None = None,
    novel: ArrayLike | None = None,
) -> RiskCoverageCurve:
    """Compute the mean loss of the most certain samples, for every share that is kept [1]_.

    Samples of equal uncertainty share their mean loss, so the order of rows does not matter.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,) or (n_samples, n_targets)
        True labels or targets, and predictions; the losses of several targets are averaged.
    uncertainty : array-like of shape (n_samples,)
        Uncertainty of each prediction, in any unit; higher is more uncertain.
    loss : {"zero_one", "squared", "absolute"} or callable, default="zero_one"
        Loss of a prediction. A callable maps (y_true, y_pred) to one loss per sample.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts; None weighs all equally.
    novel : array-like of bool of shape (n_samples,), default=None
        True for novel samples, which no class fits: to keep one is an error, whichever label is
        predicted. Their `y_true` may be any label. Needs ``loss="zero_one"``.

    Returns
    -------
    RiskCoverageCurve
        Named tuple of coverage, risk and threshold.

    Raises
    ------
    ValueError
        If there are fewer than 2 samples, or NaN.

    References
    ----------
    .. [1] R. El-Yaniv and Y. Wiener, "On the Foundations of Noise-free Selective Classification",
       JMLR 11, 2010, https://www.jmlr.org/papers/v11/el-yaniv10a.html.

    Examples
    --------
    >>> from skuq.metrics import risk_coverage_curve
    >>> curve = risk_coverage_curve([0, 1, 1, 0], [0, 1, 0, 0], [0.1, 0.2, 0.9, 0.3])
    >>> curve.coverage.tolist(), curve.risk.tolist()
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25])
    """
    return _curve(*_check(y_true, y_pred, uncertainty, loss, sample_weight, novel=novel))


def area_under_risk_coverage(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    loss: Loss = "zero_one",
    method: str = "mean",
    excess: bool = False,
    sample_weight: ArrayLike | None = None,
    novel: ArrayLike | None = None,
) -> float:
    """Compute the area under the risk–coverage curve (AURC): lower is better.

    Parameters
    ----------
    y_true, y_pred, uncertainty, loss, sample_weight, novel : as in `risk_coverage_curve`
        True labels or targets, predictions, their uncertainties, the loss, weights of the samples,
        and which of them are novel.
    method : {"mean", "trapezoid", "generalized"}, default="mean"
        "mean" is the mean of the risk over all coverages 1/n … 1 [1]_. "trapezoid" integrates by
        the trapezoid rule from 1/n to 1 and divides by 1 − 1/n, which is another published number.
        "generalized" is AUGRC [2]_, the integral from coverage 0 of the share of samples that are
        kept and lose; at 0/1 loss it is (1 − AUROC)·acc·(1 − acc) + (1 − acc)²/2.
    excess : bool, default=False
        Subtract the area of the oracle, which keeps the samples of smallest loss first
        (E-AURC [1]_).

    Returns
    -------
    float
        Area in units of the loss: 0 if no sample loses; the mean loss (half of it for
        "generalized") if the uncertainty is constant.

    References
    ----------
    .. [1] Y. Geifman, G. Uziel, R. El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
       Classifiers", ICLR 2019, arXiv:1805.08206.
    .. [2] J. Traub et al., "Overcoming Common Flaws in the Evaluation of Selective Classification
       Systems", NeurIPS 2024, arXiv:2407.01032.

    Examples
    --------
    >>> from skuq.metrics import area_under_risk_coverage
    >>> y_true, y_pred, uncertainty = [1, 1, 1], [1, 0, 1], [0.3, 0.4, 0.2]
    >>> round(area_under_risk_coverage(y_true, y_pred, uncertainty), 4)
    0.1111
    >>> round(area_under_risk_coverage(y_true, y_pred, uncertainty, method="trapezoid"), 4)
    0.0833
    """
    check_option("method", method, ("mean", "trapezoid", "generalized"))
    losses, scores, weight = _check(y_true, y_pred, uncertainty, loss, sample_weight, novel=novel)
    area = _area(_curve(losses, scores, weight), method)
    if excess:
        area -= _area(_curve(losses, losses, weight), method)
    return area


def _area(curve: RiskCoverageCurve, method: str) -> float:
    coverage, risk = curve.coverage, curve.risk
    if method == "mean":
        return float(np.diff(coverage, prepend=0) @ risk)
    if method == "trapezoid":
        return float(np.trapezoid(risk, coverage) / (1 - coverage[0]))
    return float(np.trapezoid(np.append(0, coverage * risk), np.append(0, coverage)))


def uncertainty_error_auroc(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    loss: Loss = "zero_one",
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute how well the uncertainty separates errors from right predictions (AUROC).

    It is the probability that an error is more uncertain than a right prediction; ties count half.

    Parameters
    ----------
    y_true, y_pred, uncertainty, sample_weight : as in `risk_coverage_curve`
        True labels or targets, predictions, their uncertainties, and weights of the samples.
    loss : "zero_one" or callable, default="zero_one"
        Loss that marks errors. A callable must give 0 (right) or 1 (an error).

    Returns
    -------
    float in [0, 1]
        Area under the ROC curve; 0.5 is chance. NaN, with a warning, if all or no predictions are
        errors.

    Warns
    -----
    UndefinedMetricWarning
        If all or none of the predictions are errors.

    Examples
    --------
    >>> from skuq.metrics import uncertainty_error_auroc
    >>> uncertainty_error_auroc([0, 1, 1, 0], [0, 1, 0, 0], [0.1, 0.2, 0.9, 0.3])
    1.0
    """
    losses, scores, weight = _check(y_true, y_pred, uncertainty, loss, sample_weight, at_least=1)
    errors = _as_errors(losses)
    if errors.all() or not errors.any():
        which = "all" if errors.all() else "none"
        warn(
            f"{which} of the predictions are errors: their AUROC is not defined, NaN is returned",
            UndefinedMetricWarning,
        )
        return float("nan")
    # An infinite uncertainty is a rank like any other.
    ranks = np.unique(scores, return_inverse=True)[1]
    return float(roc_auc_score(errors, ranks, sample_weight=weight))


def _as_errors(losses: np.ndarray) -> np.ndarray:
    if not np.isin(losses, [0, 1]).all():
        raise ValueError("the loss must be 0 (right) or 1 (an error) for every sample")
    errors: np.ndarray = losses == 1
    return errors


def accuracy_at_coverage(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    coverage: float = 0.8,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute the accuracy on the most certain samples, the fewest that make up a share.

    Parameters
    ----------
    y_true, y_pred, uncertainty, sample_weight : as in `risk_coverage_curve`
        True labels or targets, predictions, their uncertainties, and weights of the samples.
    coverage : float in (0, 1], default=0.8
        Share of the samples to keep.

    Returns
    -------
    float in [0, 1]
        Accuracy of the kept samples. Where the share cuts through samples of equal uncertainty, it
        is the mean over their orders.

    Examples
    --------
    >>> from skuq.metrics import accuracy_at_coverage
    >>> accuracy_at_coverage([0, 1, 1, 0], [0, 1, 0, 0], [0.1, 0.2, 0.9, 0.3], coverage=0.75)
    1.0
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1], got {coverage!r}")
    losses, scores, weight = _check(
        y_true, y_pred, uncertainty, "zero_one", sample_weight, at_least=1
    )
    curve = _curve(losses, scores, weight)
    reached = np.flatnonzero(curve.coverage >= coverage - 1e-9)
    return float(1 - curve.risk[reached[0]])


def coverage_at_risk(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    uncertainty: ArrayLike,
    *,
    risk: float,
    delta: float | None = 0.001,
    method: str = "sgr",
    n_starts: int = 2,
    loss: Loss = "zero_one",
) -> SelectiveGuarantee:
    """Find the largest share of samples that has an error rate of at most `risk`.

    With `delta`, the threshold comes with a guarantee: on new samples of the same distribution the
    error rate of kept ones is at most `risk`, with probability 1 − delta over the samples given
    here. Use samples that trained nothing. `skuq.selective` makes estimators of such thresholds.

    Parameters
    ----------
    y_true, y_pred, uncertainty : as in `risk_coverage_curve`
        True labels or targets, predictions, their uncertainties.
    risk : float in (0, 1)
        Largest error rate that is allowed.
    delta : float in (0, 1) or None, default=0.001
        Probability that the guarantee fails. None asks only for the error rate of these samples,
        without a guarantee.
    method : {"sgr", "fixed_sequence", "crc"}, default="sgr"
        How thresholds are tested. "sgr" is a binary search [1]_, which tests at most
        k = ⌊log₂ n⌋ + 1 thresholds, each by the upper limit of its binomial tail at level delta/k.
        "fixed_sequence" [2]_ tests every threshold by its binomial tail, from the smallest that can
        pass, until one fails. "crc" [3]_ bounds the expected joint risk, E[loss · kept], which is
        a weaker promise: it does not use `delta`.
    n_starts : int, default=2
        Number of places, evenly spaced, at which a fixed sequence starts. They share delta, and
        one early error does not end them all.
    loss : "zero_one" or callable, default="zero_one"
        A callable maps (y_true, y_pred) to losses in [0, 1]. Unless all are 0 or 1, the bounds of
        Hoeffding and Bentkus replace the binomial tail.

    Returns
    -------
    SelectiveGuarantee
        Named tuple of coverage, threshold, risk and bound. If no threshold passes, the coverage is
        0 and the threshold −inf. Few samples cannot pass, even if all are right: with
        ``risk=0.05, delta=0.05`` fewer than 196 by "sgr", and fewer than 59 by "fixed_sequence".

    References
    ----------
    .. [1] Y. Geifman and R. El-Yaniv, "Selective Classification for Deep Neural Networks",
       NeurIPS 2017, arXiv:1705.08500.
    .. [2] A. Angelopoulos, S. Bates, E. Candès, M. I. Jordan, L. Lei, "Learn then Test: Calibrating
       Predictive Algorithms to Achieve Risk Control", 2021, arXiv:2110.01052.
    .. [3] A. Angelopoulos, S. Bates, A. Fisch, L. Lei, T. Schuster, "Conformal Risk Control",
       ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.metrics import coverage_at_risk
    >>> y_true, uncertainty = np.zeros(1000), np.linspace(0, 1, 1000)
    >>> y_pred = uncertainty > 0.7                          # the 300 most uncertain are wrong
    >>> coverage_at_risk(y_true, y_pred, uncertainty, risk=0.02, delta=None).coverage
    0.714
    >>> coverage_at_risk(y_true, y_pred, uncertainty, risk=0.02).coverage
    0.702
    """
    risk = checked_level("risk", risk)
    check_option("method", method, METHODS)
    if isinstance(n_starts, bool) or not isinstance(n_starts, int | np.integer) or n_starts < 1:
        raise ValueError(f"n_starts must be an integer of at least 1, got {n_starts!r}")
    losses, scores, _ = _check(y_true, y_pred, uncertainty, loss, None, at_least=1)
    rows = ranked(losses, scores)
    if delta is None:
        return empirical(rows, risk)
    return certified(rows, risk, checked_level("delta", delta), method, n_starts)

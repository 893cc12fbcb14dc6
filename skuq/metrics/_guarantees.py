"""Thresholds of an uncertainty that hold a target risk, from losses of rows that trained nothing.

These functions know arrays only. Rows are ranked by their uncertainty, and a threshold keeps all
rows up to it, so that each distinct uncertainty is one candidate. A test of a candidate has the
hypothesis that the mean loss of what it keeps exceeds the target; rejecting it certifies the
candidate. If the risk rises with the threshold, the tests are exact although the candidates come
from the same rows: above the last threshold that holds the target, every row that is kept in
addition loses more than the target on average. If it does not rise everywhere, candidates may be
wrong by about one row.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats
from scipy.special import bdtr, rel_entr

__all__ = [
    "METHODS",
    "Ranked",
    "SelectiveGuarantee",
    "at_coverage",
    "at_threshold",
    "certified",
    "empirical",
    "fewest_rows",
    "p_values",
    "ranked",
    "upper_limit",
]

METHODS = ("fixed_sequence", "sgr", "crc")


class SelectiveGuarantee(NamedTuple):
    """A threshold that `coverage_at_risk` found.

    Attributes
    ----------
    coverage : float
        Share of the samples that is kept; 0 if no threshold passes.
    threshold : float
        Keep the samples whose uncertainty is at most this; −inf if no threshold passes.
    risk : float
        Error rate of the kept samples; NaN if none is kept.
    bound : float
        With probability 1 − delta the true error rate of kept samples is at most this; NaN without
        `delta`. With ``method="crc"`` it is the target, which the expected joint risk holds.
    """

    coverage: float
    threshold: float
    risk: float
    bound: float


class Ranked(NamedTuple):
    """The rows up to each distinct uncertainty.

    Attributes
    ----------
    n_kept : ndarray of shape (n_thresholds,)
        Number of the rows that each threshold keeps, increasing to the number of rows.
    total : ndarray of shape (n_thresholds,)
        Sum of their losses, which lie in [0, 1].
    threshold : ndarray of shape (n_thresholds,)
        The distinct uncertainties, increasing.
    binary : bool
        Whether every loss is 0 or 1.
    """

    n_kept: np.ndarray
    total: np.ndarray
    threshold: np.ndarray
    binary: bool


def ranked(losses: np.ndarray, scores: np.ndarray) -> Ranked:
    """Sort rows by uncertainty, and count those up to each distinct one.

    Parameters
    ----------
    losses : ndarray of shape (n_samples,)
        Losses in [0, 1].
    scores : ndarray of shape (n_samples,)
        Uncertainties, without NaN.
    """
    if len(losses) and not (losses.min() >= 0 and losses.max() <= 1):
        raise ValueError(
            f"losses must lie in [0, 1], got {losses.min():.3g} to {losses.max():.3g}: divide by "
            "the largest loss that is possible, or clip"
        )
    order = np.argsort(scores, kind="stable")
    ordered, total = scores[order], losses[order].cumsum()
    n_kept = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    binary = bool(np.isin(losses, (0, 1)).all())
    return Ranked(n_kept, total[n_kept - 1], ordered[n_kept - 1], binary)


def p_values(
    total: np.ndarray | float, n_kept: np.ndarray | int, risk: float, binary: bool
) -> np.ndarray:
    """Compute p-values of the hypothesis that the mean loss exceeds `risk`.

    For losses of 0 and 1 it is the binomial tail P(Bin(n, risk) ≤ errors), which is exact. For
    losses in [0, 1] it is the smaller one of the bounds of Hoeffding and Bentkus [1]_.

    Parameters
    ----------
    total : ndarray or float
        Sum of the losses of the rows that are kept.
    n_kept : ndarray or int
        Number of these rows.
    risk : float in (0, 1)
        Mean loss of the hypothesis.
    binary : bool
        Whether every loss is 0 or 1.

    Returns
    -------
    ndarray
        p-values, of the shape of `total`.

    References
    ----------
    .. [1] S. Bates, A. Angelopoulos, L. Lei, J. Malik, M. I. Jordan, "Distribution-Free,
       Risk-Controlling Prediction Sets", J. ACM 68, 2021, arXiv:2101.02703.
    """
    total, n_kept = np.asarray(total, dtype=float), np.asarray(n_kept)
    if binary:
        exact: np.ndarray = bdtr(total, n_kept, risk)
        return exact
    mean = np.minimum(total / n_kept, risk)
    hoeffding = np.exp(-n_kept * (rel_entr(mean, risk) + rel_entr(1 - mean, 1 - risk)))
    whole = np.minimum(np.ceil(total - 1e-9), n_kept)  # a sum of rounded losses
    bound: np.ndarray = np.minimum(hoeffding, np.e * bdtr(whole, n_kept, risk)).clip(max=1)
    return bound


def upper_limit(total: float, n_kept: int, delta: float, binary: bool) -> float:
    """Return the mean loss that is not exceeded with probability 1 − delta, at one threshold.

    It is where the p-value is `delta`; for losses of 0 and 1 that is the upper limit of Clopper and
    Pearson.

    Parameters
    ----------
    total, n_kept, binary : as in `p_values`
        Sum of the losses, number of rows, and whether the losses are 0 or 1.
    delta : float in (0, 1)
        Probability that the true mean loss is larger.
    """
    if n_kept == 0 or total >= n_kept:
        return 1.0
    if binary:
        return float(stats.beta.ppf(1 - delta, total + 1, n_kept - total))

    def excess(risk: float) -> float:
        return float(p_values(total, n_kept, risk, binary)) - delta

    return float(optimize.brentq(excess, max(total / n_kept, 1e-12), 1 - 1e-12))


def _fewest_right(risk: float, delta: float) -> int:
    """Return the least number of rows without any loss whose p-value is at most `delta`."""
    n = max(1, math.floor(math.log(delta) / math.log1p(-risk)))
    return n if (1 - risk) ** n <= delta else n + 1


def fewest_rows(risk: float, delta: float, method: str) -> int:
    """Return the least number of rows that can hold the target, if none of them loses.

    Parameters
    ----------
    risk : float in (0, 1)
        Target of the risk.
    delta : float in (0, 1)
        Probability that the guarantee fails; "crc" does not use it.
    method : {"fixed_sequence", "sgr", "crc"}
        How thresholds are tested.
    """
    if method == "crc":
        return max(1, math.ceil(1 / risk - 1 - 1e-9))
    if method == "fixed_sequence":
        return _fewest_right(risk, delta)
    # ⌊log₂ n⌋ + 1 tests share the error; the first one keeps ⌊n/2⌋ + 1 rows, and must pass.
    for n_bits in range(1, 64):
        n = max(2 * _fewest_right(risk, delta / n_bits) - 2, 1 << (n_bits - 1))
        if n.bit_length() == n_bits:
            return n
    raise ValueError(f"no number of rows certifies risk={risk} at delta={delta}")


def certified(
    rows: Ranked, risk: float, delta: float, method: str, n_starts: int = 2
) -> SelectiveGuarantee:
    """Find the threshold of the largest coverage that is certified to hold the target.

    Parameters
    ----------
    rows : Ranked
        Losses and uncertainties, from `ranked`.
    risk : float in (0, 1)
        Target of the risk.
    delta : float in (0, 1)
        Probability that the guarantee fails; "crc" does not use it.
    method : {"fixed_sequence", "sgr", "crc"}
        How thresholds are tested.
    n_starts : int, default=2
        Number of starts of a fixed sequence.
    """
    n, bound = int(rows.n_kept[-1]), risk
    if method == "crc":
        joint = (rows.total + 1) / (n + 1)
        chosen = int(np.searchsorted(joint, risk + 1e-12, side="right")) - 1
    elif method == "fixed_sequence":
        chosen = _fixed_sequence(rows, risk, delta, n_starts)
    else:
        chosen = _binary_search(rows, risk, delta / n.bit_length())
    if chosen < 0:
        return SelectiveGuarantee(0.0, -np.inf, np.nan, np.nan)
    if method == "sgr":
        level = delta / n.bit_length()
        bound = upper_limit(rows.total[chosen], rows.n_kept[chosen], level, rows.binary)
    return _found(rows, chosen, bound)


def at_threshold(rows: Ranked, threshold: float, delta: float) -> SelectiveGuarantee:
    """Judge a threshold that was fixed before these rows were seen.

    Parameters
    ----------
    rows : Ranked
        Losses and uncertainties, from `ranked`.
    threshold : float
        Keep the rows whose uncertainty is at most this.
    delta : float in (0, 1)
        Probability that the true risk exceeds the bound.
    """
    chosen = int(np.searchsorted(rows.threshold, threshold, side="right")) - 1
    if chosen < 0:
        return SelectiveGuarantee(0.0, float(threshold), np.nan, np.nan)
    bound = upper_limit(rows.total[chosen], rows.n_kept[chosen], delta, rows.binary)
    return _found(rows, chosen, bound)._replace(threshold=float(threshold))


def at_coverage(rows: Ranked, coverage: float, delta: float) -> SelectiveGuarantee:
    """Find the smallest threshold that keeps a share of these rows, and judge it.

    Rows of one uncertainty are kept or refused together, so ties may keep more. The threshold
    depends on the uncertainties only and not on the losses.

    Parameters
    ----------
    rows : Ranked
        Losses and uncertainties, from `ranked`.
    coverage : float in (0, 1]
        Share of the rows to keep.
    delta : float in (0, 1)
        Probability that the true risk exceeds the bound.
    """
    wanted = math.ceil(coverage * int(rows.n_kept[-1]) - 1e-9)
    reached = int(np.searchsorted(rows.n_kept, max(wanted, 1)))
    return at_threshold(rows, float(rows.threshold[reached]), delta)


def empirical(rows: Ranked, risk: float) -> SelectiveGuarantee:
    """Find the threshold of the largest coverage whose risk on these rows holds the target.

    Parameters
    ----------
    rows : Ranked
        Losses and uncertainties, from `ranked`.
    risk : float in (0, 1)
        Target of the risk.
    """
    fits = np.flatnonzero(rows.total <= risk * rows.n_kept + 1e-9)  # 0.29 * 100 < 29
    if not len(fits):
        return SelectiveGuarantee(0.0, -np.inf, np.nan, np.nan)
    return _found(rows, int(fits[-1]), np.nan)


def _found(rows: Ranked, chosen: int, bound: float) -> SelectiveGuarantee:
    n_kept = rows.n_kept[chosen]
    return SelectiveGuarantee(
        coverage=float(n_kept / rows.n_kept[-1]),
        threshold=float(rows.threshold[chosen]),
        risk=float(rows.total[chosen] / n_kept),
        bound=float(bound),
    )


def _fixed_sequence(rows: Ranked, risk: float, delta: float, n_starts: int) -> int:
    """Test thresholds from the smallest that can pass, until one fails; −1 if the first fails.

    Several starts, evenly spaced, share `delta`. A sequence that reaches the next start unbroken
    brings its part of it along (the fallback procedure). The number of starts falls as far as the
    number of rows needs.
    """
    n = int(rows.n_kept[-1])
    while n_starts > 1 and _fewest_right(risk, delta / n_starts) > n:
        n_starts -= 1
    share = delta / n_starts
    first = _fewest_right(risk, share)
    if first > n:
        return -1
    passing = p_values(rows.total, rows.n_kept, risk, rows.binary)
    ranks = first + (n - first) * np.arange(n_starts) // n_starts
    starts = np.append(np.searchsorted(rows.n_kept, ranks), len(passing))
    chosen, level = -1, 0.0
    for start, stop in pairwise(starts):
        level += share
        failing = np.flatnonzero(passing[start:stop] > level)
        last = start + failing[0] if len(failing) else stop
        if last > start:
            chosen = int(last) - 1
        if len(failing):
            level = 0.0
    return chosen


def _binary_search(rows: Ranked, risk: float, level: float) -> int:
    """Find the last passing threshold by at most ⌊log₂ n⌋ + 1 tests; −1 if none passes."""
    chosen, low, high = -1, 0, len(rows.n_kept) - 1
    while low <= high:
        middle = (low + high + 1) // 2
        if p_values(rows.total[middle], rows.n_kept[middle], risk, rows.binary) <= level:
            chosen, low = middle, middle + 1
        else:
            high = middle - 1
    return chosen

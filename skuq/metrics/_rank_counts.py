"""Running counts of errors by uncertainty, over pixels and over patches of pixels."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import digamma

from skuq.metrics._selective import RiskCoverageCurve

__all__ = ["PatchCounts", "RankCounts"]

# Uncertainties count by their first 12 binary digits, so as equal if they agree to 1 part in 4096.
# However many pixels there are, no more than some ten thousand levels are kept.
_DROPPED_BITS = np.int64(40)
_ALL_BUT_SIGN = np.int64(2**63 - 1)


def _levels(uncertainty: np.ndarray) -> np.ndarray:
    """Map numbers to integers in the same order; those of almost equal numbers are equal."""
    bits = (uncertainty.astype(np.float64) + 0.0).view(np.int64)  # −0 becomes 0
    ordered: np.ndarray = np.where(bits < 0, bits ^ _ALL_BUT_SIGN, bits) >> _DROPPED_BITS
    return ordered


def _largest_of(levels: np.ndarray) -> np.ndarray:
    """Return the largest number of each level."""
    ordered = (levels << _DROPPED_BITS) | ((np.int64(1) << _DROPPED_BITS) - 1)
    numbers = np.where(ordered < 0, ordered ^ _ALL_BUT_SIGN, ordered).view(np.float64)
    return np.where(np.isnan(numbers), np.inf, numbers)


class RankCounts:
    """How many there are at each level of uncertainty, and how many of them are wrong.

    Attributes
    ----------
    levels : ndarray of int64 of shape (n_levels,)
        Levels that occur, sorted.
    counts, errors : ndarray of int64 of shape (n_levels,)
        How many have each level, and how many of them are wrong.
    """

    def __init__(self) -> None:
        self.levels = np.empty(0, np.int64)
        self.counts, self.errors = np.zeros((2, 0), np.int64)

    def add(self, uncertainty: np.ndarray, wrong: np.ndarray) -> None:
        """Add uncertainties, and whether each belongs to an error, both of shape (n,)."""
        new, index = np.unique(_levels(uncertainty), return_inverse=True)
        levels = np.union1d(self.levels, new)
        old_place, new_place = np.searchsorted(levels, self.levels), np.searchsorted(levels, new)
        counts, errors = np.zeros((2, len(levels)), np.int64)
        counts[old_place], errors[old_place] = self.counts, self.errors
        counts[new_place] += np.bincount(index, minlength=len(new))
        errors[new_place] += np.bincount(index[wrong], minlength=len(new))
        self.levels, self.counts, self.errors = levels, counts, errors

    def curve(self) -> RiskCoverageCurve:
        """Return coverage, risk and threshold, one point for each level."""
        self._refuse_nothing()
        kept = self.counts.cumsum()
        return RiskCoverageCurve(
            kept / kept[-1], self.errors.cumsum() / kept, _largest_of(self.levels)
        )

    def accuracy_at_coverage(self, coverage: float) -> float:
        """Return the accuracy of the most certain share; equal ones share their errors."""
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage must lie in (0, 1], got {coverage!r}")
        self._refuse_nothing()
        kept, errors = self.counts.cumsum(), self.errors.cumsum()
        wanted = max(1, math.ceil((coverage - 1e-9) * kept[-1]))
        last = int(np.searchsorted(kept, wanted))
        share = (kept[last] - wanted) / self.counts[last]  # of the last level, not kept
        return float(1 - (errors[last] - share * self.errors[last]) / wanted)

    def area_under_risk_coverage(self) -> float:
        """Return the mean of the risk over all coverages 1/n … 1, with equal ones in any order."""
        self._refuse_nothing()
        kept, errors = self.counts.cumsum(), self.errors.cumsum()
        before, rate = kept - self.counts, self.errors / self.counts
        # Within a level the risk of k kept ones is rate + (errors before − rate · before) / k.
        harmonic = digamma(kept + 1) - digamma(before + 1)
        excess = errors - self.errors - rate * before
        return float((self.errors.sum() + excess @ harmonic) / kept[-1])

    def error_auroc(self) -> float:
        """Return the probability that an error is more uncertain than a right one; NaN if none."""
        right = self.counts - self.errors
        n_right, n_wrong = right.sum(), self.errors.sum()
        if not n_right or not n_wrong:
            return math.nan
        below = right.cumsum() - right / 2  # ties count half
        return float(self.errors @ below / n_right / n_wrong)

    def _refuse_nothing(self) -> None:
        if not len(self.levels):
            raise ValueError("no pixel counts: all have the ignored label, or none were given")


class PatchCounts:
    """Patches of pixels: how accurate, against how uncertain.

    Attributes
    ----------
    ranks : RankCounts
        Patches by their mean uncertainty; "wrong" are those that are not accurate.
    """

    def __init__(self, patch_size: int, min_accuracy: float) -> None:
        if not isinstance(patch_size, int | np.integer) or patch_size < 1:
            raise ValueError(f"patch_size must be an integer of at least 1, got {patch_size!r}")
        if not 0 <= min_accuracy < 1:
            raise ValueError(f"min_accuracy must lie in [0, 1), got {min_accuracy!r}")
        self.patch_size, self.min_accuracy = int(patch_size), min_accuracy
        self.ranks, self._sum = RankCounts(), 0.0

    def add(self, uncertainty: np.ndarray, wrong: np.ndarray, counted: np.ndarray) -> None:
        """Add an image: arrays of shape (H, W)."""
        size = self._sums(counted.astype(float))
        some = size > 0
        accuracy = 1 - self._sums((wrong & counted).astype(float))[some] / size[some]
        mean = self._sums(np.where(counted, uncertainty, 0.0))[some] / size[some]
        self.ranks.add(mean, accuracy <= self.min_accuracy)
        self._sum += mean.sum()

    def _sums(self, image: np.ndarray) -> np.ndarray:
        """Add up each patch; those at the right and the lower edge may be smaller."""
        for axis in (0, 1):
            starts = np.arange(0, image.shape[axis], self.patch_size)
            image = np.add.reduceat(image, starts, axis=axis)
        return image

    def mean_uncertainty(self) -> float:
        """Return the mean over patches of their uncertainty."""
        self.ranks._refuse_nothing()
        return float(self._sum / self.ranks.counts.sum())

    def table(self, threshold: float) -> np.ndarray:
        """Count patches by accurate, inaccurate (rows), certain, uncertain (columns)."""
        self.ranks._refuse_nothing()
        certain = self.ranks.levels <= _levels(np.array([threshold]))[0]
        wrong, right = self.ranks.errors, self.ranks.counts - self.ranks.errors
        return np.array([[part[certain].sum(), part[~certain].sum()] for part in (right, wrong)])

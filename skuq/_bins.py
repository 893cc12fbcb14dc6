"""Bins of confidence: mean confidence and frequency of success in each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["BinSums", "Bins", "bin_statistics", "quantile_edges", "uniform_index"]

_BLOCK = 2**15  # rows; temporary arrays of this size fit the cache


class Bins(NamedTuple):
    """Weight share, mean confidence and frequency of success of each bin that is not empty."""

    share: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    n_effective: np.ndarray  # (Σw)²/Σw²: with equal weights, the number of rows
    edges: np.ndarray  # (n_bins, 2)


class BinSums:
    """Sums over the rows of each bin, filled block by block.

    Bins are closed on the right; the first also holds 0.
    """

    def __init__(self, levels: np.ndarray, strategy: str) -> None:
        self.levels, self.strategy = levels, strategy
        self.weighted = False
        self.counts, self.sums, self.hits, self.squares = np.zeros((4, len(levels) - 1))

    def add(self, confidence: np.ndarray, hit: np.ndarray, weight: np.ndarray | None) -> None:
        n_bins, confidence = len(self.counts), np.asarray(confidence, dtype=float)
        if self.strategy == "uniform":
            index = uniform_index(confidence, self.levels)
        else:
            index = np.searchsorted(self.levels[1:], confidence, side="left")
        if weight is None:
            self.sums += np.bincount(index, confidence, n_bins)
            index += np.multiply(hit, n_bins, dtype=np.intp)
            missed, right = np.bincount(index, minlength=2 * n_bins).reshape(2, n_bins)
            self.counts += missed + right
            self.hits += right
        else:
            self.weighted = True
            self.counts += np.bincount(index, weight, n_bins)
            self.squares += np.bincount(index, weight * weight, n_bins)
            self.hits += np.bincount(index, weight * hit, n_bins)
            self.sums += np.bincount(index, weight * confidence, n_bins)

    def bins(self) -> Bins:
        """Return the bins that are not empty."""
        filled = np.flatnonzero(self.counts > 0)
        counts = self.counts[filled]
        edges = np.stack([self.levels[:-1], self.levels[1:]], axis=1)
        return Bins(
            share=counts / counts.sum(),
            confidence=self.sums[filled] / counts,
            accuracy=self.hits[filled] / counts,
            n_effective=counts**2 / self.squares[filled] if self.weighted else counts,
            edges=edges[filled],
        )


def bin_statistics(
    confidence: np.ndarray,
    hit: np.ndarray,
    weight: np.ndarray | None,
    n_bins: int,
    strategy: str,
) -> Bins:
    """Sort all rows into bins."""
    levels = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        levels = np.append(confidence.min(), quantile_edges(confidence, weight, n_bins))
    sums = BinSums(levels, strategy)
    for start in range(0, len(confidence), _BLOCK):
        rows = slice(start, start + _BLOCK)
        sums.add(confidence[rows], hit[rows], None if weight is None else weight[rows])
    return sums.bins()


def quantile_edges(values: np.ndarray, weight: np.ndarray | None, n_bins: int) -> np.ndarray:
    """Find upper ends of bins of equal weight; equal values share a bin."""
    levels = np.linspace(0, 1, n_bins + 1)[1:]
    order = np.argsort(values, kind="stable")
    reached = np.arange(1.0, len(values) + 1) if weight is None else weight[order].cumsum()
    # Only ratios of weights should matter, not the rounding of levels and sums.
    ends = np.searchsorted(reached, levels * reached[-1] * (1 - 1e-12))
    return np.unique(values[order][ends])


def uniform_index(confidence: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Find the bin (levels[i], levels[i + 1]] of each value; equal to a search, but faster."""
    n_bins = len(levels) - 1
    place = confidence * n_bins
    index = place.astype(np.intp)
    gap = np.rint(place)
    np.abs(np.subtract(place, gap, out=gap), out=gap)
    if gap.min(initial=1) < 1e-9:  # rounding decides at an edge
        near = gap < 1e-9
        index[near] = (np.searchsorted(levels, confidence[near], side="left") - 1).clip(0)
    return index

"""Bins of confidence: mean confidence and frequency of success in each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Bins", "bin_statistics", "quantile_edges", "uniform_index"]

_BLOCK = 2**16  # rows whose temporaries stay in the cache


class Bins(NamedTuple):
    """Of each bin that is not empty: its weight share, mean confidence and frequency of success."""

    share: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    n_effective: np.ndarray  # (Σw)²/Σw²: with equal weights, the number of rows
    edges: np.ndarray  # (n_bins, 2)


def bin_statistics(
    confidence: np.ndarray,
    hit: np.ndarray,
    weight: np.ndarray | None,
    n_bins: int,
    strategy: str,
) -> Bins:
    """Bins are closed on the right; the first also holds 0. Empty ones are left out."""
    levels = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        levels = np.append(confidence.min(), quantile_edges(confidence, weight, n_bins))
        n_bins = len(levels) - 1
    counts, sums, hits, squares = np.zeros((4, n_bins))
    for start in range(0, len(confidence), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = confidence[rows]
        if strategy == "uniform":
            index = uniform_index(block, levels)
        else:
            index = np.searchsorted(levels[1:], block, side="left")
        if weight is None:
            both = np.bincount(index + n_bins * hit[rows], minlength=2 * n_bins)
            counts += both[:n_bins] + both[n_bins:]
            hits += both[n_bins:]
            sums += np.bincount(index, block, n_bins)
        else:
            w = weight[rows]
            counts += np.bincount(index, w, n_bins)
            squares += np.bincount(index, w * w, n_bins)
            hits += np.bincount(index, w * hit[rows], n_bins)
            sums += np.bincount(index, w * block, n_bins)
    kept = np.flatnonzero(counts > 0)
    edges = np.stack([levels[:-1], levels[1:]], axis=1)
    return Bins(
        share=counts[kept] / counts.sum(),
        confidence=sums[kept] / counts[kept],
        accuracy=hits[kept] / counts[kept],
        n_effective=counts[kept] if weight is None else counts[kept] ** 2 / squares[kept],
        edges=edges[kept],
    )


def quantile_edges(values: np.ndarray, weight: np.ndarray | None, n_bins: int) -> np.ndarray:
    """Upper ends of bins of equal weight; fewer where values are equal, which share a bin."""
    levels = np.linspace(0, 1, n_bins + 1)[1:]
    order = np.argsort(values, kind="stable")
    reached = np.arange(1.0, len(values) + 1) if weight is None else weight[order].cumsum()
    # Only ratios of weights matter, not how levels and sums are rounded.
    ends = np.searchsorted(reached, levels * reached[-1] * (1 - 1e-12))
    return np.unique(values[order][ends])


def uniform_index(confidence: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Bins (levels[i], levels[i + 1]] of equal width, exactly as a search finds them."""
    n_bins = len(levels) - 1
    place = confidence * n_bins
    index = place.astype(np.intp)
    place -= index
    near = (place < 1e-9) | (place > 1 - 1e-9)  # of an edge, where rounding decides
    if near.any():
        index[near] = (np.searchsorted(levels, confidence[near], side="left") - 1).clip(0)
    return index

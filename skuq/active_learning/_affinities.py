"""How alike rows are: the input affinities of t-SNE."""

from __future__ import annotations

import numpy as np

from skuq._utils._messages import warn

__all__ = ["affinities", "squared_distances"]

_STEPS = 60


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute ‖a_i − b_j‖² of all pairs of rows."""
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    found = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    return np.asarray(np.maximum(found, 0.0))


def affinities(squared: np.ndarray, perplexity: float, tolerance: float = 1e-4) -> np.ndarray:
    """Compute p_{j|i} ∝ exp(−β_i d²_ij), with β_i so that exp(entropy) is the perplexity [1]_.

    Newton's steps in log β are kept inside a bracket, and rows stop when they have arrived.

    Parameters
    ----------
    squared : ndarray of shape (n_rows, n_others)
        Squared distances.
    perplexity : float
        Effective number of neighbours, smaller than n_others.
    tolerance : float, default=1e-4
        Largest error of the entropy, in nats.

    References
    ----------
    .. [1] L. van der Maaten, G. Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008.
    """
    target = np.log(perplexity)
    distances = squared - squared.min(axis=1, keepdims=True)
    spread = distances.mean(axis=1)
    log_beta = -np.log(np.where(spread > 0, spread, 1.0))
    low, high = np.full(len(squared), -np.inf), np.full(len(squared), np.inf)
    found: np.ndarray = np.empty_like(distances)
    active = np.arange(len(squared))
    for _ in range(_STEPS):
        d, beta = distances[active], np.exp(log_beta[active])[:, None]
        p = np.exp(-beta * d)
        mass = p.sum(axis=1, keepdims=True)
        p /= mass
        mean = (p * d).sum(axis=1)
        entropy = np.log(mass[:, 0]) + beta[:, 0] * mean
        error = entropy - target
        slope = -(beta[:, 0] ** 2) * ((p * d * d).sum(axis=1) - mean**2)
        found[active] = p
        flat = spread[active] == 0  # equally far from all: uniform for any β
        going = (np.abs(error) > tolerance) & ~flat
        if not going.any():
            return found
        active, error, slope = active[going], error[going], slope[going]
        here = log_beta[active]
        low[active] = np.where(error > 0, here, low[active])  # too many neighbours: larger β
        high[active] = np.where(error > 0, high[active], here)
        with np.errstate(divide="ignore", invalid="ignore"):
            there = here - error / slope
        bounded = np.isfinite(low[active]) & np.isfinite(high[active])
        middle = np.where(
            bounded, (low[active] + high[active]) / 2, here + np.where(error > 0, 2.0, -2.0)
        )
        inside = np.isfinite(there) & (there > low[active]) & (there < high[active])
        inside &= np.abs(there - here) < 5
        log_beta[active] = np.where(inside, there, middle)
    # As many nearest rows as this are equally near: their entropy cannot fall further.
    nearest = (distances[active] == 0).sum(axis=1)
    n_failed = int((nearest < perplexity * (1 - 1e-3)).sum()) if perplexity > 1.001 else 0
    if n_failed:
        warn(f"affinities of {n_failed} rows did not reach the perplexity {perplexity:g}")
    return found

"""Gaussians of classes in a space of features: fitted, distances, densities."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf

__all__ = ["Gaussians", "distances", "fit_gaussians", "log_densities"]

_SINGULAR = 1e-12  # smallest eigenvalue of a covariance, relative to the largest
_OF_FLOAT32, _OF_FLOAT64 = 1e-6, 1e-12  # rounding, relative to the largest size of a feature
_LEAST_SPREAD = 0.1  # of a feature of a network, relative to the typical one


class Gaussians(NamedTuple):
    """A Gaussian for each class.

    Attributes
    ----------
    means : ndarray of shape (n_classes, n_features)
        Mean of each class.
    whitening : ndarray of shape (1 or n_classes, n_features, n_features)
        Matrices that turn deviations from a mean, as rows, into independent ones of variance 1.
        A single matrix if all classes share one covariance.
    log_peak : ndarray of shape (1 or n_classes,)
        Logarithm of the density at the mean.
    log_prior : ndarray of shape (n_classes,)
        Logarithm of the share of each class.
    """

    means: np.ndarray
    whitening: np.ndarray
    log_peak: np.ndarray
    log_prior: np.ndarray


def fit_gaussians(
    features: np.ndarray,
    codes: np.ndarray,
    *,
    tied: bool = True,
    empirical: bool = False,
    network: bool = False,
) -> Gaussians:
    """Fit a Gaussian to each class.

    Covariances are estimated of features in units of their standard deviation within classes, so
    units do not matter. A feature that is constant gets the typical deviation of the others: what
    moves it is strange, but not infinitely so. For the same reason, features of a network, which
    share one unit, have at least a tenth of it: a ReLU may be off for nearly all known rows.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features, in float64.
    codes : ndarray of shape (n_samples,)
        Classes 0, 1, …; each has a row.
    tied : bool, default=True
        Whether all classes share one covariance.
    empirical : bool, default=False
        Whether to use empirical covariances (divided by the number of rows); otherwise those of
        Ledoit and Wolf.
    network : bool, default=False
        Whether they are features of one layer of a network, computed in float32.
    """
    counts = np.bincount(codes)
    means = np.stack([features[codes == code].mean(axis=0) for code in range(len(counts))])
    residual = features - means[codes]
    spread = _size(residual)
    smallest = (_OF_FLOAT32 if network else _OF_FLOAT64) * np.abs(features).max(axis=0)
    moves = spread > smallest
    typical = float(_size(spread[moves])) if moves.any() else 1.0
    least = _LEAST_SPREAD * typical if network else 0.0
    scale = np.where(moves, np.maximum(spread, least), typical)
    residual /= scale
    parts = [residual] if tied else [residual[codes == code] for code in range(len(counts))]
    whitening, log_peak = zip(*(_whitening(p, smallest / scale, empirical) for p in parts))
    return Gaussians(
        means,
        np.stack(whitening) / scale[:, None],
        np.array(log_peak) - np.log(scale).sum(),
        np.log(counts / len(codes)),
    )


def _size(rows: np.ndarray) -> np.ndarray:
    """Return the root of the mean square of each column, in any units: squares may not overflow."""
    largest = np.abs(rows).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    size: np.ndarray = unit * np.sqrt(np.mean((rows / unit) ** 2, axis=0))
    return size


def _whitening(
    residual: np.ndarray, smallest: np.ndarray, empirical: bool
) -> tuple[np.ndarray, float]:
    """Return the matrix that whitens such rows, and the logarithm of the density at their mean."""
    moves = np.sqrt(np.mean(residual**2, axis=0)) > smallest
    covariance = np.eye(residual.shape[1])  # constant: as in the other classes, or other features
    if moves.any():
        estimate = _empirical if empirical else _ledoit_wolf
        covariance[np.ix_(moves, moves)] = estimate(residual[:, moves])
    values, vectors = np.linalg.eigh(covariance)
    if _is_singular(values):
        rank = int((values > _SINGULAR * values[-1]).sum())
        raise ValueError(
            f"the covariance of {len(residual)} rows has rank {rank} of {len(values)} features, so "
            "it has no inverse: use covariance='ledoit_wolf', give more rows, or drop features "
            "that follow from others"
        )
    log_peak = -0.5 * (np.log(values).sum() + len(values) * math.log(2 * math.pi))
    return vectors / np.sqrt(values), log_peak


def _empirical(rows: np.ndarray) -> np.ndarray:
    covariance: np.ndarray = rows.T @ rows / len(rows)
    return covariance


def _ledoit_wolf(rows: np.ndarray) -> np.ndarray:
    """Estimate the covariance of such deviations from a mean; it always has an inverse.

    Where all deviations are equal but for their sign, Ledoit and Wolf see no noise and do not
    shrink: two rows of a class, say, or a column of as many zeros as ones, twice. Then a multiple
    of the identity, of the same trace, counts as one more row.
    """
    shrunk = LedoitWolf(assume_centered=True, store_precision=False).fit(rows)
    covariance: np.ndarray = shrunk.covariance_
    n_rows, n_features = rows.shape
    unshrunk = shrunk.shrinkage_ <= n_features * _SINGULAR  # otherwise, it has an inverse
    if unshrunk and _is_singular(np.linalg.eigvalsh(covariance)):
        spherical = np.trace(covariance) / n_features * np.eye(n_features)
        covariance = (n_rows * covariance + spherical) / (n_rows + 1)
    return covariance


def _is_singular(ascending: np.ndarray) -> bool:
    """Return whether a covariance of these eigenvalues has no inverse."""
    return bool(ascending[0] <= _SINGULAR * ascending[-1])


def distances(gaussians: Gaussians, features: np.ndarray) -> np.ndarray:
    """Compute squared Mahalanobis distances to all means, of shape (n_samples, n_classes)."""
    means, whitening = gaussians.means, gaussians.whitening
    found = np.empty((len(features), len(means)))
    if len(whitening) == 1:
        centre = means.mean(axis=0)  # against cancellation
        features = (features - centre) @ whitening[0]
        means = (means - centre) @ whitening[0]
    for code, mean in enumerate(means):
        deviation = features - mean
        if len(whitening) > 1:
            deviation = deviation @ whitening[code]
        np.einsum("ij,ij->i", deviation, deviation, out=found[:, code])
    return found


def log_densities(gaussians: Gaussians, features: np.ndarray) -> np.ndarray:
    """Compute log p(features, class), of shape (n_samples, n_classes)."""
    joint: np.ndarray = (
        gaussians.log_prior + gaussians.log_peak - 0.5 * distances(gaussians, features)
    )
    return joint

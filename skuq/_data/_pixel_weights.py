"""Weights of pixels in a loss: by how rare the class is, and by how close two regions are."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["RULES", "class_weights", "pixel_counts", "pixel_weights"]

RULES = ("balanced", "median_frequency", "border")
_GAP_WEIGHT, _GAP_WIDTH = 10.0, 5.0  # w0, and σ in pixels, of Ronneberger et al.
_REACH = 8 * _GAP_WIDTH  # beyond it the term is below w0 · 1.3e-14
_TOUCHING = np.ones((3, 3), dtype=bool)  # pixels that share a corner are of one region


def pixel_weights(
    rule: str, codes: np.ndarray, n_classes: int, counted: np.ndarray | None = None
) -> np.ndarray:
    """Compute the weight of every pixel by a rule.

    Parameters
    ----------
    rule : {"balanced", "median_frequency", "border"}
        "balanced" and "median_frequency" weigh by class, see `class_weights`. "border" is the map
        of U-Net [1]_: w_c + w0 · exp(−(d1 + d2)² / (2σ²)) with w_c the balanced weight, w0 = 10 and
        σ = 5 pixels. d1 and d2 are the distances to the nearest and to the second nearest of the
        other regions, where a region is a connected part of one class, background or not. So the
        term is large in narrow gaps between two regions, and in thin regions.
    codes : ndarray of int of shape (n, H, W)
        Classes, 0 … n_classes − 1. Pixels that do not count may hold anything.
    n_classes : int
        Number of classes; some may have no pixel.
    counted : ndarray of bool of shape (n, H, W), default=None
        Pixels that count; None counts all. The others belong to no region and get weight 0.

    Returns
    -------
    ndarray of float64 of shape (n, H, W)
        The weights. Those of "balanced" have mean 1 over the pixels that count.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
       Segmentation", MICCAI 2015, arXiv:1505.04597.
    """
    of_class = class_weights(
        "balanced" if rule == "border" else rule, pixel_counts(codes, n_classes, counted)
    )
    known = codes if counted is None else np.where(counted, codes, 0)
    weights: np.ndarray = of_class[known]
    if rule == "border":
        for image, weight in enumerate(weights):
            weight += gap_weights(codes[image], None if counted is None else counted[image])
    if counted is not None:
        weights[~counted] = 0.0
    return weights


def pixel_counts(
    codes: np.ndarray, n_classes: int, counted: np.ndarray | None = None
) -> np.ndarray:
    """Count the pixels of each class in each image, for `class_weights`; batches concatenate.

    Returns
    -------
    ndarray of int64 of shape (n, n_classes)
    """
    counts = np.empty((len(codes), n_classes), dtype=np.int64)
    for image, one in enumerate(codes):
        values = one.ravel() if counted is None else one[counted[image]]
        counts[image] = np.bincount(values, minlength=n_classes)
    return counts


def class_weights(rule: str, counts: np.ndarray) -> np.ndarray:
    """Compute the weight of each class from its pixels in each image.

    Parameters
    ----------
    rule : {"balanced", "median_frequency"}
        "balanced" is n_pixels / (n_classes · n_pixels of the class), over the classes that occur,
        as scikit-learn has it. "median_frequency" [1]_ is the median of all frequencies divided by
        that of the class; the frequency of a class is its share of the pixels of the images in
        which it occurs.
    counts : ndarray of shape (n_images, n_classes)
        As `pixel_counts` gives them.

    Returns
    -------
    ndarray of float64 of shape (n_classes,)
        The weights; 0 for a class without pixels.

    References
    ----------
    .. [1] D. Eigen and R. Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a
       Common Multi-Scale Convolutional Architecture", ICCV 2015, arXiv:1411.4734.
    """
    of_class = counts.sum(axis=0)
    occurs = of_class > 0
    weights = np.zeros(counts.shape[1])
    if not occurs.any():
        return weights
    if rule == "balanced":
        weights[occurs] = of_class.sum() / (occurs.sum() * of_class[occurs])
    elif rule == "median_frequency":
        around = ((counts > 0) * counts.sum(axis=1, keepdims=True)).sum(axis=0)
        frequency = of_class[occurs] / around[occurs]
        weights[occurs] = np.median(frequency) / frequency
    else:
        raise ValueError(
            f"pixel_weight must be an array or one of {', '.join(map(repr, RULES))}, got {rule!r}"
        )
    return weights


def gap_weights(codes: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
    """Compute the term w0 · exp(−(d1 + d2)² / (2σ²)) of one image, 0 with fewer than 3 regions."""
    nearest = np.full((2, *codes.shape), np.inf)  # the distances d1, d2 to other regions
    for label in np.unique(codes if counted is None else codes[counted]):
        of_label = codes == label if counted is None else (codes == label) & counted
        regions, n_regions = ndimage.label(of_label, _TOUCHING)
        for number, box in enumerate(ndimage.find_objects(regions, n_regions), start=1):
            around = tuple(
                slice(max(0, int(side.start - _REACH)), int(side.stop + _REACH)) for side in box
            )
            elsewhere = regions[around] != number
            distance = np.where(elsewhere, ndimage.distance_transform_edt(elsewhere), np.inf)
            first, second = nearest[:, *around]
            np.minimum(second, np.maximum(first, distance), out=second)
            np.minimum(first, distance, out=first)
    total: np.ndarray = nearest.sum(axis=0)
    gap: np.ndarray = _GAP_WEIGHT * np.exp(-(total**2) / (2 * _GAP_WIDTH**2))
    return gap

"""Several masks of an image, which may overlap, as images with one mask of 0 and 1 each."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._pixels import is_label

__all__ = ["chances_apart", "maps_apart", "masks_apart"]


def maps_apart(name: str, values: Any, n_labels: int) -> list[np.ndarray]:
    """List the maps (H, W) of images (n_labels, H, W), image by image, label by label."""
    return [one for image in _images(name, values, n_labels) for one in image]


def masks_apart(name: str, masks: Any, n_labels: int, ignore_label: Any) -> list[np.ndarray]:
    """List the masks; a pixel that does not count in one of an image counts in none of them."""
    found = []
    for image in _images(name, masks, n_labels):
        ignored = is_label(image, ignore_label).any(axis=0)
        found += [
            np.where(ignored, ignore_label, mask) if ignored.any() else mask for mask in image
        ]
    return found


def chances_apart(name: str, proba: Any, n_labels: int) -> list[np.ndarray]:
    """List the probabilities (2, H, W) of 0 and of 1 in each mask, from those of 1."""
    return [np.stack([1 - one, one]) for one in maps_apart(name, proba, n_labels)]


def _images(name: str, values: Any, n_labels: int) -> list[np.ndarray]:
    images = [np.asarray(one) for one in values]
    for image in images:
        if image.ndim != 3 or len(image) != n_labels:
            raise ValueError(
                f"{name} must have shape (n, {n_labels}, H, W), a mask for each of {n_labels} "
                f"labels that may overlap, or be a sequence of arrays ({n_labels}, H, W); got an "
                f"image of shape {image.shape}"
            )
    return images

"""Segments: the parts of an image, or of a table's columns, that are attributed as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from skuq._utils._messages import suggest
from skuq._utils._optional import import_optional

__all__ = ["consecutive", "segments_of_columns", "segments_of_images", "unions"]

_LARGEST = 0.3  # share of the image in a union

_NAMES = ("slic", "grid", "pixels")


def segments_of_images(images: np.ndarray, segments: Any, n_segments: int) -> np.ndarray:
    """Label the pixels of each image by its segment.

    Parameters
    ----------
    images : ndarray of shape (n, n_channels, height, width)
        The images.
    segments : {"slic", "grid", "pixels"}, array-like or callable
        As in `attribute_uncertainty`.
    n_segments : int
        About how many segments "slic" and "grid" make.

    Returns
    -------
    ndarray of int64 of shape (n, height, width)
        Labels from 0, without gaps, for each image.
    """
    shape = (len(images), *images.shape[2:])
    if isinstance(segments, str):
        if segments not in _NAMES:
            raise ValueError(
                f"segments must be one of {', '.join(map(repr, _NAMES))}, an array or a callable, "
                f"got {segments!r}.{suggest(segments, _NAMES)}"
            )
        if segments == "pixels":
            found = np.broadcast_to(np.arange(shape[1] * shape[2]).reshape(shape[1:]), shape)
        elif segments == "grid":
            found = np.broadcast_to(_grid(shape[1], shape[2], n_segments), shape)
        else:
            found = np.stack([_slic(image, n_segments) for image in images])
    elif callable(segments):
        found = np.stack([_made_by(segments, image) for image in images])
    else:
        found = _checked(np.asarray(segments), shape)
    return np.stack([consecutive(labels) for labels in found])


def _grid(height: int, width: int, n_segments: int) -> np.ndarray:
    side = max(1, round(math.sqrt(height * width / n_segments)))
    rows, columns = np.arange(height) // side, np.arange(width) // side
    grid: np.ndarray = rows[:, None] * (columns[-1] + 1) + columns
    return grid


def _slic(image: np.ndarray, n_segments: int) -> np.ndarray:
    """Call SLIC on an image whose values are brought to [0, 1] first."""
    slic = import_optional(
        "skimage.segmentation", "attribution", "attribute_uncertainty with segments='slic'"
    ).slic
    low, high = float(image.min()), float(image.max())
    scaled = (image.astype(np.float64) - low) / (high - low or 1.0)
    labels: np.ndarray = slic(
        np.moveaxis(scaled, 0, -1),
        n_segments=n_segments,
        compactness=0.3,
        sigma=0.5,
        start_label=0,
        convert2lab=False,
        channel_axis=-1,
    )
    return labels


def _made_by(function: Callable[[np.ndarray], Any], image: np.ndarray) -> np.ndarray:
    """Call a user's function with an image of shape (height, width, n_channels)."""
    made = np.asarray(function(np.moveaxis(image, 0, -1).copy()))
    if made.ndim == 3 and made.dtype == bool:
        made = _painted(made)
    return _checked(made, image.shape[1:], "the labels that segments returned")


def _painted(masks: np.ndarray) -> np.ndarray:
    """Turn masks that may overlap into labels: smaller ones lie over larger ones.

    Pixels of no mask form one more segment.
    """
    labels = np.zeros(masks.shape[1:], dtype=np.int64)
    for label, k in enumerate(np.argsort(-masks.sum((1, 2)), kind="stable"), start=1):
        labels[masks[k]] = label
    return labels


def _checked(labels: np.ndarray, shape: tuple[int, ...], what: str = "segments") -> np.ndarray:
    """Return labels of pixels of the given shape, those of one image for all if need be."""
    if labels.dtype.kind not in "iub" or labels.shape not in (shape, shape[-2:]):
        raise ValueError(
            f"{what} must be integers of shape {shape[-2:]}"
            + (f" or {shape}" if len(shape) == 3 else " (or boolean masks, one after another)")
            + f", one label for each pixel; got {labels.dtype} of shape {labels.shape}"
        )
    return np.broadcast_to(labels, shape)


def segments_of_columns(n_columns: int, segments: Any) -> np.ndarray:
    """Label the columns of a table: each by itself, or in groups.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    segments : None or array-like of shape (n_columns,)
        The group of each column.
    """
    if segments is None:
        return np.arange(n_columns)
    labels = np.asarray(segments)
    if isinstance(segments, str) or callable(segments) or labels.shape != (n_columns,):
        got = repr(segments) if isinstance(segments, str) else f"shape {labels.shape}"
        raise ValueError(
            f"segments of a table must be the group of each of its {n_columns} columns, got {got}; "
            "for rows that are flat images, give image_shape="
        )
    return consecutive(labels)


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Number labels from 0 without gaps, in their order."""
    inverse: np.ndarray = np.unique(labels, return_inverse=True)[1]
    return inverse.reshape(labels.shape).astype(np.int64)


def unions(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Merge the most similar neighbours again and again; return the unions on the way.

    A thing that is cut into several segments, which hide each other's effect, is then one union.
    The cost of merging is that of Ward: by how much it raises the sum of squares, over means and
    standard deviations of the channels.

    Parameters
    ----------
    image : ndarray of shape (n_channels, height, width)
        The image.
    labels : ndarray of int of shape (height, width)
        Its segments, from 0.

    Returns
    -------
    ndarray of bool of shape (n_unions, n_segments)
        Which segments each union has: at least two, and at most `_LARGEST` of the image.
    """
    size = np.bincount(labels.ravel()).astype(float)
    features = _features(image.reshape(len(image), -1), labels.ravel(), size)
    touching = _touching(labels, len(size))
    members, found = np.eye(len(size), dtype=bool), []
    cost = np.stack([_costs(features, size, touching, k) for k in range(len(size))])
    for _ in range(len(size) - 1):
        one, two = divmod(int(cost.argmin()), len(size))
        if not np.isfinite(cost[one, two]):
            break
        together = size[one] + size[two]
        features[one] = (size[one] * features[one] + size[two] * features[two]) / together
        size[one] = together
        members[one] |= members[two]
        touching[one] |= touching[two]
        touching[:, one] |= touching[:, two]
        touching[one, one] = touching[two, :] = touching[:, two] = False
        cost[two, :] = cost[:, two] = np.inf
        cost[one, :] = cost[:, one] = _costs(features, size, touching, one)
        if together <= _LARGEST * labels.size:
            found.append(members[one].copy())
    return np.array(found, dtype=bool).reshape(len(found), len(size))


def _costs(features: np.ndarray, size: np.ndarray, touching: np.ndarray, one: int) -> np.ndarray:
    """Return what merging a segment with each other would cost; infinity if they do not touch."""
    weight = size[one] * size / (size[one] + size)
    return np.where(touching[one], weight * ((features - features[one]) ** 2).sum(1), np.inf)


def _features(pixels: np.ndarray, labels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return means and standard deviations of the channels in each segment, side by side."""
    sums = np.stack([np.bincount(labels, channel) for channel in pixels], 1)
    mean = sums / size[:, None]
    squares = np.stack([np.bincount(labels, channel**2) for channel in pixels], 1)
    return np.hstack([mean, np.sqrt((squares / size[:, None] - mean**2).clip(0))])


def _touching(labels: np.ndarray, n_segments: int) -> np.ndarray:
    """Return which segments have pixels side by side, of shape (n_segments, n_segments)."""
    touching = np.zeros((n_segments, n_segments), dtype=bool)
    for one, two in ((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])):
        touching[one.ravel(), two.ravel()] = touching[two.ravel(), one.ravel()] = True
    np.fill_diagonal(touching, False)
    return touching

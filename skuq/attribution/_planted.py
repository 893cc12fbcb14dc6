"""Known causes of uncertainty: images with a region that was corrupted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from skuq._utils._messages import checked_level
from skuq._utils._typing import MatrixLike, RandomState
from skuq.attribution._checks import check_name, seed_of
from skuq.attribution._images import ImageRows
from skuq.attribution._target import target_of

__all__ = ["PlantedRegions", "planted_regions"]

# Maps images (n, n_channels, height, width), their range and a generator to what a region shows.
_Corruption = Callable[[np.ndarray, tuple[float, float], np.random.Generator], np.ndarray]


def _patch(x: np.ndarray, limits: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """Show another image of the set."""
    n = len(x)
    other: np.ndarray = x[(np.arange(n) + random.integers(1, max(n, 2), size=n)) % n]
    return other


def _noise(x: np.ndarray, limits: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """Show noise, uniform over the range of the images."""
    return random.uniform(*limits, size=x.shape).astype(x.dtype)


def _rectangle(
    x: np.ndarray, limits: tuple[float, float], random: np.random.Generator
) -> np.ndarray:
    """Show a grey surface."""
    return np.full_like(x, sum(limits) / 2)


CORRUPTIONS: dict[str, _Corruption] = {
    "patch": _patch,
    "noise": _noise,
    "rectangle": _rectangle,
}


class PlantedRegions(NamedTuple):
    """Images with a corrupted region; the result of `planted_regions`.

    Attributes
    ----------
    X : ndarray of shape (n_kept, ...)
        The corrupted images, in the layout of those that were given.
    regions : ndarray of bool of shape (n_kept, height, width)
        Where they are corrupted.
    kept : ndarray of int of shape (n_kept,)
        Which of the given images they are.
    before, after : ndarray of shape (n_kept,)
        The uncertainty without and with the region.
    """

    X: np.ndarray
    regions: np.ndarray
    kept: np.ndarray
    before: np.ndarray
    after: np.ndarray


def planted_regions(
    estimator: Any,
    X: MatrixLike,
    *,
    corruption: str = "patch",
    area: float = 0.1,
    keep: float = 0.15,
    kind: str = "total",
    measure: str = "entropy",
    image_shape: tuple[int, ...] | None = None,
    random_state: RandomState = 0,
) -> PlantedRegions:
    """Corrupt a random rectangle in each image, and keep those that it makes more uncertain.

    A good attribution finds the rectangle: see `iou` and `detection_accuracy`.

    Parameters
    ----------
    estimator : object
        As in `attribute_uncertainty`.
    X : array-like of shape (n, height, width), (n, n_channels, height, width) or (n, n_pixels)
        Images that trained nothing.
    corruption : {"patch", "noise", "rectangle"}, default="patch"
        What the rectangle shows: the same place of another image of X, uniform noise over the range
        of X, or the middle of that range.
    area : float in (0, 1), default=0.1
        Share of the pixels in the rectangle, about; its sides are at most 2 to 1 where they fit.
    keep : float in (0, 1], default=0.15
        Share of the images to keep: those whose uncertainty rises most. Images whose uncertainty
        does not rise are never kept.
    kind, measure, image_shape : as in `attribute_uncertainty`
        The uncertainty, and how images lie in flat rows.
    random_state : int, RandomState or None, default=0
        Seed of the rectangles and the noise.

    Returns
    -------
    PlantedRegions
        Named tuple of X, regions, kept, before and after.

    Raises
    ------
    ValueError
        If an argument is out of range, or no image becomes more uncertain.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skuq import TorchClassifier
    >>> from skuq.attribution import planted_regions
    >>> X, y = load_digits(return_X_y=True)
    >>> network = TorchClassifier(max_epochs=20, lr=0.01, random_state=0).fit(X[:900] / 16, y[:900])
    >>> planted = planted_regions(network, X[900:] / 16, area=0.2, image_shape=(8, 8))
    >>> planted.regions.shape[1:], bool((planted.after > planted.before).all())
    ((8, 8), True)
    """
    check_name("corruption", corruption, CORRUPTIONS)
    area, random = checked_level("area", area), np.random.default_rng(seed_of(random_state))
    keep = 1.0 if keep == 1 else checked_level("keep", keep)
    images, target = ImageRows(X, image_shape), target_of(estimator, kind, measure, X)
    x = images.tensor.numpy()
    regions = _rectangles(len(x), x.shape[2:], area, random)
    shown = CORRUPTIONS[corruption](x, (float(x.min()), float(x.max())), random)
    changed = torch.from_numpy(np.where(regions[:, None], shown, x))
    before, after = (images.numbers(target, each) for each in (images.tensor, changed))
    rise = after - before
    most = np.argsort(-rise, kind="stable")[: max(1, round(keep * len(x)))]
    kept = np.sort(most[rise[most] > 0])
    if not len(kept):
        raise ValueError(
            f"corruption={corruption!r} of {area:.0%} of the pixels made none of {len(x)} images "
            "more uncertain; give more images or a larger area"
        )
    X = images.as_given(changed)[kept]
    return PlantedRegions(X, regions[kept], kept, before[kept], after[kept])


def _rectangles(
    n: int, sides: tuple[int, int], area: float, random: np.random.Generator
) -> np.ndarray:
    """Draw one rectangle in each image, anywhere inside."""
    height, width = sides
    n_pixels = area * height * width
    aspect = 2.0 ** random.uniform(-1, 1, size=n)
    tall = np.clip(np.round(np.sqrt(n_pixels * aspect)), 1, height).astype(int)
    wide = np.clip(np.round(n_pixels / tall), 1, width).astype(int)
    top, left = (random.integers(0, size) for size in (height - tall + 1, width - wide + 1))
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None]
    top, left, tall, wide = (each[:, None, None] for each in (top, left, tall, wide))
    inside: np.ndarray = (
        (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    )
    return inside

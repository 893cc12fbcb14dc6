"""Corruptions of images, in five severities each.

A function takes images of shape (n_images, n_channels, height, width) with values in [0, 1], a
severity of 1 to 5, and a generator. It returns images of that shape, which the caller clips to
[0, 1]. The generator starts anew for each severity, so that a higher one repeats the same change,
only stronger.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

__all__ = ["IMAGE_CORRUPTIONS"]

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def gaussian_noise(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Add normal noise."""
    return x + (0.05, 0.1, 0.15, 0.22, 0.3)[severity - 1] * random.standard_normal(x.shape)


def shot_noise(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Count few photons: the variance of a pixel is proportional to its value."""
    n_photons = (60, 25, 12, 6, 3)[severity - 1]
    noisy: np.ndarray = random.poisson(x * n_photons) / n_photons
    return noisy


def impulse_noise(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Set pixels to black or white."""
    share, place = (0.02, 0.05, 0.1, 0.17, 0.27)[severity - 1], random.random(x.shape)
    return np.where(place < share, (random.random(x.shape) < 0.5).astype(x.dtype), x)


def blur(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian of so many pixels, or more in images of a side above 28."""
    width = (0.4, 0.7, 1.0, 1.4, 2.0)[severity - 1] * max(1, min(x.shape[2:]) / 28)
    blurred: np.ndarray = ndimage.gaussian_filter(x, (0, 0, width, width), mode="nearest")
    return blurred


def contrast(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Draw all pixels of an image towards their mean."""
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    faded: np.ndarray = mean + (0.75, 0.5, 0.35, 0.22, 0.12)[severity - 1] * (x - mean)
    return faded


def brightness(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Brighten all pixels by the same amount."""
    return x + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]


def pixelate(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Average over blocks of pixels."""
    for axis in (2, 3):
        side = x.shape[axis]
        n_blocks = max(1, round((0.75, 0.6, 0.45, 0.35, 0.25)[severity - 1] * side))
        block = np.arange(side) * n_blocks // side
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        sums = np.add.reduceat(x, starts, axis=axis)
        sizes = np.bincount(block).reshape([-1 if a == axis else 1 for a in range(4)])
        x = np.take(sums / sizes, block, axis=axis)
    return x


def translation(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Move each image in a direction of its own, by a share of its side; black comes in."""
    angle = random.uniform(0, 2 * np.pi, len(x))
    move = 2 * (0.04, 0.08, 0.12, 0.17, 0.23)[severity - 1]  # the side of the grid is 2
    return _moved(x, np.zeros(len(x)), move * np.cos(angle), move * np.sin(angle))


def rotation(x: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Turn each image about its centre, to the left or to the right; black comes in."""
    side = random.choice((-1.0, 1.0), len(x))
    angle = np.deg2rad((10, 20, 30, 45, 60)[severity - 1]) * side
    return _moved(x, angle, np.zeros(len(x)), np.zeros(len(x)))


def _moved(x: np.ndarray, angle: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Turn by angles, and move in units of half a side."""
    cos, sin = np.cos(angle), np.sin(angle)
    shape = x.shape[2] / x.shape[3]  # the grid is square, the pixels too
    theta = np.stack(
        [np.stack([cos, -sin * shape, -right], 1), np.stack([sin / shape, cos, -down], 1)], 1
    )
    images = torch.from_numpy(np.array(x, dtype=np.float64))
    grid = functional.affine_grid(torch.from_numpy(theta), list(x.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    result: np.ndarray = moved.numpy()
    return result


IMAGE_CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        gaussian_noise, shot_noise, impulse_noise, blur, contrast, brightness, pixelate,
        translation, rotation,
    )
}  # fmt: skip

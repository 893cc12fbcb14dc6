"""Images of shapes, to segment: labels are uncertain in known places."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from skuq._utils._random import root_seed
from skuq._utils._typing import RandomState

__all__ = ["SHAPE_NAMES", "Shapes", "make_shapes"]

# The names of the labels 0 … 4 of `make_shapes`.
SHAPE_NAMES = ("background", "disc", "square", "triangle", "pole")

_POLE = 4
_COLOURS = np.array(
    [(-0.6, -0.6, -0.6), (1.6, -0.2, -0.4), (1.3, -0.3, 1.4), (-0.2, 0.1, 1.7), (0.1, 0.0, 0.1)]
)
_GREY = np.array([0.6, 0.6, 0.6])  # of occluders
_COLOUR_SPREAD = 0.25  # standard deviation of the colour of a shape around that of its class
_SMALLEST = 16


class Shapes(NamedTuple):
    """Images of shapes, their masks, and where the masks are uncertain.

    Attributes
    ----------
    X : ndarray of float32 of shape (n_samples, 3, height, width)
        Images in three colours, of roughly zero mean and unit scale.
    y : ndarray of int64 of shape (n_samples, height, width)
        Labels of pixels, with jitter: 0 background, 1 disc, 2 square, 3 triangle, 4 pole.
    y_clean : ndarray of int64 of shape (n_samples, height, width)
        The same without jitter.
    jittered : ndarray of bool of shape (n_samples, height, width)
        Pixels near a border that jitter moves: within two standard deviations.
    occluded : ndarray of bool of shape (n_samples, height, width)
        Pixels that an occluder hides.
    """

    X: np.ndarray
    y: np.ndarray
    y_clean: np.ndarray
    jittered: np.ndarray
    occluded: np.ndarray


def make_shapes(
    n_samples: int = 100,
    *,
    size: int | tuple[int, int] = 32,
    n_shapes: int = 3,
    label_jitter: float = 1.0,
    noise: float = 0.3,
    occlusion: float = 0.5,
    thin: float = 0.8,
    leave_out: Any = None,
    random_state: RandomState = None,
) -> Shapes:
    """Make images of discs, squares, triangles and thin poles, with a label for every pixel.

    The masks are uncertain in three ways that segmentation of photographs has. Borders: an
    annotator draws every shape too large or too small, by a number of pixels from N(0, σ²), so a
    pixel at distance d outside of a lone shape has its label with probability Φ(−d/σ). Occluders:
    grey rectangles hide what is under them, but not its label. Thin structures: poles, one pixel
    wide in images of up to 47 columns, have at most 5 % of the pixels, a colour close to the
    background's, and no jitter.

    Squares mix the red of discs with the blue of triangles. To networks that were trained without
    squares (`leave_out`), they look like either, and an ensemble disagrees about them.

    Parameters
    ----------
    n_samples : int, default=100
        Number of images. The first images of a seed do not depend on it.
    size : int or (int, int), default=32
        Height and width of the images in pixels, at least 16; one number for both.
    n_shapes : int, default=3
        Number of discs, squares and triangles in each image; later ones cover earlier ones.
    label_jitter : float >= 0, default=1.0
        Standard deviation σ of the moves of borders, in pixels.
    noise : float >= 0, default=0.3
        Standard deviation of the noise of every pixel and colour. The colours of classes differ by
        1 to 2.
    occlusion : float in [0, 1], default=0.5
        Probability that an image has an occluder.
    thin : float in [0, 1], default=0.8
        Probability that an image has a pole.
    leave_out : int or sequence of int, default=None
        Labels, of 1 … 4, whose shapes are left out. All else stays as it is with this seed.
    random_state : int, RandomState instance or None, default=None
        Seed of everything that is random.

    Returns
    -------
    Shapes
        Named tuple of X, y, y_clean, jittered and occluded.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> from skuq.datasets import make_shapes
    >>> shapes = make_shapes(20, random_state=0)
    >>> shapes.X.shape, shapes.y.shape
    ((20, 3, 32, 32), (20, 32, 32))
    >>> bool((shapes.y == 4).mean() < 0.05)
    True
    """
    height, width = _checked_size(size)
    _check_counts(n_samples=n_samples, n_shapes=n_shapes)
    _check_numbers(label_jitter=label_jitter, noise=noise, occlusion=occlusion, thin=thin)
    left_out = _checked_labels(leave_out)
    check_random_state(random_state)  # raises if it is no random state
    generator = np.random.default_rng(root_seed(random_state))
    images = [
        _Canvas(height, width, float(label_jitter), left_out, generator)
        .shapes(int(n_shapes))
        .pole(float(thin))
        .occluder(float(occlusion))
        .finished(float(noise))
        for _ in range(int(n_samples))
    ]
    return Shapes(*map(np.stack, zip(*images)))


class _Canvas:
    """One image and its masks. Every step draws its random numbers also if it paints nothing."""

    def __init__(
        self,
        height: int,
        width: int,
        jitter: float,
        left_out: tuple[int, ...],
        generator: np.random.Generator,
    ) -> None:
        self.rows, self.columns = np.mgrid[:height, :width].astype(float)
        self.short = min(height, width)
        self.jitter, self.left_out, self.generator = jitter, left_out, generator
        colour = self._colour(0)
        self.image = np.tile(colour[:, None, None], (1, height, width))
        self.mask, self.clean = np.zeros((2, height, width), dtype=np.int64)
        self.jittered, self.occluded = np.zeros((2, height, width), dtype=bool)

    def _colour(self, label: int) -> np.ndarray:
        colour: np.ndarray = _COLOURS[label] + _COLOUR_SPREAD * self.generator.normal(size=3)
        return colour

    def _place(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns around a random centre."""
        height, width = self.rows.shape
        row, column = self.generator.random(2)
        return self.rows - row * (height - 1), self.columns - column * (width - 1)

    def shapes(self, number: int) -> _Canvas:
        """Paint discs, squares and triangles; later ones cover earlier ones."""
        for _ in range(number):
            label = int(self.generator.integers(1, 4))
            radius = self.short * self.generator.uniform(0.14, 0.26)
            angle = self.generator.uniform(0, 2 * np.pi)
            down, right = self._place()
            along = np.cos(angle) * right + np.sin(angle) * down
            across = np.cos(angle) * down - np.sin(angle) * right
            colour, move = self._colour(label), self.jitter * self.generator.normal()
            if label not in self.left_out:
                self._paint(label, _DISTANCES[label](along, across, radius), move, colour)
        return self

    def _paint(self, label: int, distance: np.ndarray, move: float, colour: np.ndarray) -> None:
        inside = distance <= 0
        self.image[:, inside] = colour[:, None]
        self.clean[inside] = label
        self.mask[distance <= move] = label
        self.jittered[inside] = False
        self.jittered[np.abs(distance) <= 2 * self.jitter] = self.jitter > 0

    def pole(self, probability: float) -> _Canvas:
        """Paint a pole that stands on the lower edge; its mask is exact."""
        height, width = self.rows.shape
        thickness = max(1, round(width / 48))
        stands, start, slope, top = self.generator.random(4)
        middle = start * (width - 1) + 0.4 * (slope - 0.5) * (height - 1 - self.rows)
        left = np.floor(middle - (thickness - 1) / 2 + 0.5)
        there = (self.columns >= left) & (self.columns < left + thickness)
        there &= self.rows >= 0.4 * top * height
        colour = self._colour(_POLE)
        if stands < probability and _POLE not in self.left_out:
            self.image[:, there] = colour[:, None]
            self.clean[there] = self.mask[there] = _POLE
            self.jittered[there] = False
        return self

    def occluder(self, probability: float) -> _Canvas:
        """Hide a part of the image."""
        down, right = self._place()
        hides, high, wide = self.generator.random(3)
        if hides < probability:
            high, wide = ((0.08 + 0.1 * part) * self.short for part in (high, wide))
            self.occluded = (np.abs(down) <= high) & (np.abs(right) <= wide)
            self.image[:, self.occluded] = _GREY[:, None]
        return self

    def finished(self, noise: float) -> tuple[np.ndarray, ...]:
        """Add noise; return the fields of `Shapes`."""
        image = self.image + noise * self.generator.normal(size=self.image.shape)
        return image.astype(np.float32), self.mask, self.clean, self.jittered, self.occluded


# Distances to the border, negative inside, from coordinates around the centre.


def _to_disc(along: np.ndarray, across: np.ndarray, radius: float) -> np.ndarray:
    distance: np.ndarray = np.hypot(along, across) - radius
    return distance


def _to_square(along: np.ndarray, across: np.ndarray, radius: float) -> np.ndarray:
    beside = np.stack([np.abs(along), np.abs(across)]) - 0.9 * radius
    distance: np.ndarray = np.hypot(*beside.clip(0)) + beside.max(axis=0).clip(max=0)
    return distance


def _to_triangle(along: np.ndarray, across: np.ndarray, radius: float) -> np.ndarray:
    """Compute the distance to the farthest of three sides, which is less beyond the corners."""
    third = np.sqrt(0.75)
    sides = np.stack([across, third * along - across / 2, -third * along - across / 2])
    distance: np.ndarray = sides.max(axis=0) - 0.6 * radius
    return distance


_DISTANCES: dict[int, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    1: _to_disc,
    2: _to_square,
    3: _to_triangle,
}


# ---------------------------------------------------------------------------------------------
# Checks


def _check_counts(**counts: Any) -> None:
    for name, number in counts.items():
        least = 1 if name == "n_samples" else 0
        if not isinstance(number, int | np.integer) or number is True or number < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {number!r}")


def _check_numbers(**numbers: Any) -> None:
    for name, number in numbers.items():
        most = np.inf if name in ("label_jitter", "noise") else 1
        real = isinstance(number, Real) and not isinstance(number, bool)
        if not real or not 0 <= number <= most or not np.isfinite(number):
            ends = "of at least 0" if most == np.inf else "in [0, 1]"
            raise ValueError(f"{name} must be a number {ends}, got {number!r}")


def _checked_size(size: Any) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, Integral) else size
    whole = isinstance(sides, tuple | list) and len(sides) == 2
    if (
        not whole
        or not all(isinstance(side, int | np.integer) for side in sides)
        or (min(sides) < _SMALLEST)
    ):
        raise ValueError(
            f"size must be one or two integers of at least {_SMALLEST} pixels, got {size!r}"
        )
    return int(sides[0]), int(sides[1])


def _checked_labels(leave_out: Any) -> tuple[int, ...]:
    if leave_out is None:
        return ()
    labels = (leave_out,) if isinstance(leave_out, Integral) else tuple(leave_out)
    strange = [label for label in labels if label not in range(1, len(SHAPE_NAMES))]
    if strange:
        raise ValueError(
            f"leave_out must hold labels of 1 … {len(SHAPE_NAMES) - 1}, got {strange[0]!r}; the "
            f"labels are {dict(enumerate(SHAPE_NAMES))}"
        )
    return tuple(map(int, labels))

"""Views of rows: functions of a batch whose changes should not matter for the prediction."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import interpolate

from skuq._utils._sklearn_compat import Interval, StrOptions, validate_parameter_constraints

__all__ = ["Crop", "FeatureNoise", "Flip", "GaussianNoise", "Shift", "View"]


class View(BaseEstimator):
    """Base class of the views of skuq, and the contract of any view.

    A view is any callable ``view(X, generator) -> X`` or ``view(X) -> X``. X is a float tensor of
    shape (n_rows, ...); the result has the same shape. The generator is passed if the signature
    names `generator` or has two arguments. It is a `torch.Generator` on the CPU, seeded anew for
    each call. Draw from it and move the numbers: ``torch.rand(3, generator=generator).to(X)``.
    Draw once for the whole batch. Drawing for each row works, too, but is slower; see
    `TestTimeAugmentation`.

    For dense outputs (a prediction for each pixel) a view needs ``inverse(outputs) -> outputs`` or
    ``inverse(outputs, generator)``. It moves outputs of shape (n, n_outputs, ...) back to their
    places; its generator has the same seed as in the call.

    For the training of a segmenter (`TorchSegmenter.training_views`) a view needs
    ``of_mask(masks, generator) -> masks``. It does to masks, float tensors of shape (n_rows,
    n_masks, height, width), what the call does to images, with the same numbers of the generator,
    but takes the nearest pixel where the call interpolates. The last mask holds the weights of the
    pixels: zero leaves a pixel out.

    A view may also have ``fit(X) -> view``. `TestTimeAugmentation.fit` calls it once on a copy of
    the view, with its rows.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def validate(self) -> None:
        """Check the parameters; raises ``InvalidParameterError`` (a `ValueError`)."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )

    def __call__(self, X: Tensor, generator: torch.Generator) -> Tensor:
        """Make the view of a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not implement __call__")


def _check_axis(view: View, axis: int, X: Tensor) -> None:
    if X.ndim < 3 or -axis > X.ndim - 1:
        raise ValueError(
            f"{view} is for images or sequences and needs an axis {axis} in each row, got rows of "
            f"shape {tuple(X.shape[1:])}: reshape X, or use FeatureNoise for tables"
        )


class Flip(View):
    """Mirrors every row along one axis.

    Parameters
    ----------
    axis : int < 0, default=-1
        The axis, counted from the last: −1 flips images left to right, −2 upside down.

    Examples
    --------
    >>> import torch
    >>> from skuq.augmentation import Flip
    >>> Flip()(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.Generator())
    tensor([[[3., 2., 1.]]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "axis": [Interval(Integral, None, -1, closed="right")]
    }

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def __call__(self, X: Tensor, generator: torch.Generator) -> Tensor:
        _check_axis(self, self.axis, X)
        return X.flip(self.axis)

    def of_mask(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Flip masks as images.

        Parameters
        ----------
        masks : Tensor of shape (n_rows, n_masks, height, width)
            Masks of the images.
        generator : torch.Generator
            Not used.
        """
        return self(masks, generator)

    def inverse(self, outputs: Tensor) -> Tensor:
        """Flip outputs back.

        Parameters
        ----------
        outputs : Tensor of shape (n_rows, ...)
            Outputs of the network for the view.

        Returns
        -------
        Tensor of the shape of `outputs`
            Outputs at their places in the row itself.
        """
        return outputs.flip(self.axis)


class Shift(View):
    """Moves every row by the same few pixels, drawn once for the view, and never zero.

    Parameters
    ----------
    max_shift : int >= 1, default=1
        Largest number of pixels along an axis, in either direction.
    axes : tuple of int < 0, default=(-2, -1)
        The axes to move along, counted from the last.
    fill : {"edge", "zero", "wrap"}, default="edge"
        How to fill the gap: with the pixels of the edge, with zeros, or with the pixels that leave
        on the other side. Only "wrap" has an inverse, which dense outputs need.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_shift": [Interval(Integral, 1, None, closed="left")],
        "axes": [tuple, list],
        "fill": [StrOptions({"edge", "zero", "wrap"})],
    }

    def __init__(
        self, max_shift: int = 1, axes: tuple[int, ...] = (-2, -1), fill: str = "edge"
    ) -> None:
        self.max_shift = max_shift
        self.axes = axes
        self.fill = fill

    def validate(self) -> None:
        super().validate()
        if not self.axes or not all(int(axis) == axis < 0 for axis in self.axes):
            raise ValueError(f"axes must be negative integers, got {self.axes!r}")

    def _steps(self, generator: torch.Generator) -> list[int]:
        side = 2 * self.max_shift + 1
        n_moves = side ** len(self.axes)
        move = int(torch.randint(n_moves - 1, (), generator=generator))
        move += move >= n_moves // 2  # the one in the middle does not move at all
        return [move // side**k % side - self.max_shift for k in range(len(self.axes))]

    def __call__(self, X: Tensor, generator: torch.Generator) -> Tensor:
        for axis, step in zip(self.axes, self._steps(generator)):
            _check_axis(self, axis, X)
            size = X.shape[axis]
            if self.max_shift >= size:
                raise ValueError(f"{self} moves by up to all of the {size} pixels of axis {axis}")
            source = torch.arange(size, device=X.device) - step
            inside = (source >= 0) & (source < size)
            place = source % size if self.fill == "wrap" else source.clamp(0, size - 1)
            X = X.index_select(axis, place)
            if self.fill == "zero":
                X = X * inside.to(X.dtype).reshape(-1, *(1 for _ in range(-axis - 1)))
        return X

    def of_mask(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Move masks as images; with ``fill="zero"`` the gap has weight zero.

        Parameters
        ----------
        masks : Tensor of shape (n_rows, n_masks, height, width)
            Masks of the images.
        generator : torch.Generator
            Draws the step, as in the call.
        """
        return self(masks, generator)

    @property
    def inverse(self) -> Callable[[Tensor, torch.Generator], Tensor]:
        """The function that moves outputs back; only with ``fill="wrap"``."""
        if self.fill != "wrap":
            raise AttributeError(
                f"{self} has no inverse, since pixels leave the row: use fill='wrap'"
            )
        return self._back

    def _back(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        steps = self._steps(generator)
        return outputs.roll([-step for step in steps], dims=list(self.axes))


class Crop(View):
    """Cuts the same box out of every image, drawn once for the view, and enlarges it to full size.

    The box is bilinearly interpolated on the last two axes.

    Parameters
    ----------
    min_scale : float in (0, 1), default=0.8
        Least side of the box, as a share of the side of the image. The share is drawn uniformly
        between this and 1, and the side is rounded to pixels.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "min_scale": [Interval(Real, 0, 1, closed="neither")]
    }

    def __init__(self, min_scale: float = 0.8) -> None:
        self.min_scale = min_scale

    def of_mask(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Cut the same box out of masks, and enlarge it by nearest neighbours.

        Parameters
        ----------
        masks : Tensor of shape (n_rows, n_masks, height, width)
            Masks of the images.
        generator : torch.Generator
            Draws the box, as in the call.
        """
        return self._cropped(masks, generator, {"mode": "nearest-exact"})

    def __call__(self, X: Tensor, generator: torch.Generator) -> Tensor:
        return self._cropped(X, generator, {"mode": "bilinear", "align_corners": False})

    def _cropped(self, X: Tensor, generator: torch.Generator, how: dict[str, Any]) -> Tensor:
        _check_axis(self, -2, X)
        drawn = torch.rand(4, generator=generator).tolist()
        height, width = X.shape[-2:]
        top, tall = self._span(height, *drawn[:2])
        left, wide = self._span(width, *drawn[2:])
        box = X[..., top : top + tall, left : left + wide].reshape(len(X), -1, tall, wide)
        resized = interpolate(box, size=(height, width), **how)
        return resized.reshape(X.shape)

    def _span(self, size: int, share: float, place: float) -> tuple[int, int]:
        """Return where the box begins on an axis, and its length."""
        length = max(1, round(size * (self.min_scale + (1 - self.min_scale) * share)))
        return min(int(place * (size - length + 1)), size - length), length


class GaussianNoise(View):
    """Adds normal noise, the same to every row, drawn once for the view.

    Parameters
    ----------
    std : float > 0, default=0.1
        Standard deviation of the noise, in units of X.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "std": [Interval(Real, 0, None, closed="neither")]
    }

    def __init__(self, std: float = 0.1) -> None:
        self.std = std

    def __call__(self, X: Tensor, generator: torch.Generator) -> Tensor:
        return X + self.std * _noise_of_a_row(X, generator)

    def of_mask(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Return masks unchanged: noise moves nothing.

        Parameters
        ----------
        masks : Tensor of shape (n_rows, n_masks, height, width)
            Masks of the images.
        generator : torch.Generator
            Not used.
        """
        return masks

    def inverse(self, outputs: Tensor) -> Tensor:
        """Return outputs unchanged: noise moves nothing.

        Parameters
        ----------
        outputs : Tensor of shape (n_rows, ...)
            Outputs of the network for the view.

        Returns
        -------
        Tensor of the shape of `outputs`
            The same outputs.
        """
        return outputs


class FeatureNoise(View):
    """Adds normal noise in proportion to how much each feature varies, the same to every row.

    Parameters
    ----------
    scale : float > 0, default=0.1
        Standard deviation of the noise, as a multiple of the standard deviation of the feature.

    Attributes
    ----------
    std_ : Tensor of the shape of a row
        Standard deviations of the features over the rows in `fit`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "scale": [Interval(Real, 0, None, closed="neither")]
    }

    std_: Tensor

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = scale

    def fit(self, X: Tensor) -> Self:
        """Learn how much each feature varies.

        Parameters
        ----------
        X : Tensor of shape (n_rows, ...)
            Rows whose features vary as usual.

        Raises
        ------
        ValueError
            If there is only one row.
        """
        if len(X) < 2:
            raise ValueError(
                f"{self} needs at least 2 samples to learn how much each feature varies, got "
                f"{len(X)} sample(s): give more, or use GaussianNoise"
            )
        self.std_ = X.double().std(0, correction=0)
        return self

    def __call__(self, X: Tensor, generator: torch.Generator) -> Tensor:
        return X + (self.scale * self.std_).to(X) * _noise_of_a_row(X, generator)

    def inverse(self, outputs: Tensor) -> Tensor:
        """Return outputs unchanged: noise moves nothing.

        Parameters
        ----------
        outputs : Tensor of shape (n_rows, ...)
            Outputs of the network for the view.

        Returns
        -------
        Tensor of the shape of `outputs`
            The same outputs.
        """
        return outputs


def _noise_of_a_row(X: Tensor, generator: torch.Generator) -> Tensor:
    """Draw in float64, so that the noise is the same in every precision."""
    return torch.randn(X.shape[1:], generator=generator, dtype=torch.float64).to(X)

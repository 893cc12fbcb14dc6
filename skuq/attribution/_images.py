"""Images as users give them, in several layouts."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq._utils._optional import import_optional
from skuq.attribution._target import Target

__all__ = ["ImageRows", "are_images"]


def are_images(X: Any, image_shape: tuple[int, ...] | None) -> bool:
    """Return whether rows are images: by their number of axes, or since the user says so."""
    return image_shape is not None or len(np.shape(X)) > 2


class ImageRows:
    """Images, as a tensor of shape (n, n_channels, height, width).

    Parameters
    ----------
    X : array-like
        Images of shape (n, height, width) or (n, n_channels, height, width), or flat ones.
    image_shape : tuple of int, default=None
        (height, width) or (n_channels, height, width) of flat images.
    """

    def __init__(self, X: Any, image_shape: tuple[int, ...] | None = None) -> None:
        if hasattr(X, "toarray"):
            raise TypeError("X is a sparse matrix; attribution needs an array: X.toarray()")
        values = X.detach().cpu().numpy() if isinstance(X, Tensor) else np.asarray(X)
        self._columns = getattr(X, "columns", None)
        shape = values.shape
        inner = shape[1:] if image_shape is None else image_shape
        sides = isinstance(inner, tuple | list) and all(isinstance(s, Integral) for s in inner)
        if not sides or len(inner) not in (2, 3) or int(np.prod(inner)) != int(np.prod(shape[1:])):
            raise ValueError(
                "images must have shape (n, height, width) or (n, n_channels, height, width); for "
                "flat rows give image_shape=(height, width) or (n_channels, height, width). Got X "
                f"of shape {shape} and image_shape={image_shape}"
            )
        if len(shape) == 4 and shape[1] > 4 >= shape[3]:
            raise ValueError(
                f"X of shape {shape} seems to have its channels last; expected (n, n_channels, "
                "height, width), as torch has it: X.transpose(0, 3, 1, 2)"
            )
        if len(values) == 0:
            raise ValueError(f"X must have at least one row, got shape {shape}")
        if values.dtype.kind not in "fiub":
            raise TypeError(f"images must be numbers, got {values.dtype}")
        self._row_shape = shape[1:]
        dtype = np.float64 if values.dtype == np.float64 else np.float32
        height, width = inner[-2:]
        array = values.astype(dtype).reshape(len(values), -1, height, width)
        if not np.isfinite(array).all():
            raise ValueError("X contains NaN or infinity; images must be finite")
        self.tensor = torch.from_numpy(array)

    def __len__(self) -> int:
        return len(self.tensor)

    def taken(self, which: np.ndarray) -> ImageRows:
        """Return some of the images."""
        some = copy.copy(self)
        some.tensor = self.tensor[which]
        return some

    def as_given(self, images: Tensor) -> np.ndarray:
        """Return images in the layout of X."""
        given: np.ndarray = images.detach().reshape(len(images), *self._row_shape).numpy()
        return given

    def as_rows(self, images: Tensor) -> Tensor:
        """Return images as rows of the estimator, differentiably."""
        return images.reshape(len(images), *self._row_shape)

    def uncertainty(self, target: Target, images: Tensor, with_gradient: bool) -> Tensor:
        """Compute the uncertainty of images, of shape (m,)."""
        if with_gradient and target.function is not None:
            return target.function(self.as_rows(images)).cpu().double()
        return torch.from_numpy(self.numbers(target, images))

    def numbers(self, target: Target, images: Tensor) -> np.ndarray:
        """Compute the uncertainty of images without a gradient, by the names of X's columns."""
        rows: Any = self.as_given(images)
        if self._columns is not None:
            pandas = import_optional("pandas", "pandas", "a table of images")
            rows = pandas.DataFrame(rows, columns=list(self._columns))
        return target.numbers(rows)

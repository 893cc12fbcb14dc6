"""Apply corruptions to rows of any form: images, flattened images, tables, data frames."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from skuq._utils._messages import suggest
from skuq.shift._images import IMAGE_CORRUPTIONS
from skuq.shift._tables import TABLE_CORRUPTIONS

__all__ = ["Corrupter", "corrupt"]

Rows = TypeVar("Rows")
Corruptions: TypeAlias = Sequence[str] | Mapping[str, Callable[..., Any]] | None


def corrupt(
    X: Rows,
    corruption: str,
    severity: int,
    *,
    image_shape: tuple[int, ...] | None = None,
    value_range: tuple[float, float] | None = None,
    random_state: int = 0,
) -> Rows:
    """Corrupt rows by one of skuq's own corruptions.

    Parameters
    ----------
    X : array-like of shape (n_images, height, width), (n_images, n_channels, height, width), or \
            (n_rows, n_columns)
        Images or a table; of a data frame only columns of numbers change.
    corruption : str
        For images "gaussian_noise", "shot_noise", "impulse_noise", "blur", "contrast",
        "brightness", "pixelate", "translation" or "rotation". For tables "noise", "scale",
        "missing_cells" (replaced by the column's median) or "permuted_columns".
    severity : int, 0 to 5
        0 changes nothing.
    image_shape : tuple of int, default=None
        Shape of an image, if the rows of X are flattened images: (height, width), or
        (n_channels, height, width).
    value_range : pair of floats, default=None
        Values of black and white; None takes the smallest and the largest number in X.
    random_state : int, default=0
        Seed of the noise. It gives the same noise at all severities, only stronger.

    Returns
    -------
    array-like of the shape and type of X
        The corrupted rows; X itself at severity 0.

    Raises
    ------
    ValueError
        If the corruption is unknown, or not one for these rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skuq.shift import corrupt
    >>> images = load_digits().images
    >>> corrupt(images, "rotation", 3).shape
    (1797, 8, 8)
    """
    corrupter = Corrupter(X, image_shape, value_range, random_state)
    changed: Rows = corrupter(X, corruption, severity)
    return changed


class Corrupter:
    """Corrupts rows of one form.

    Parameters
    ----------
    X, image_shape, value_range, random_state : as in `corrupt`
        Rows whose form is meant, and how images lie in them.
    """

    def __init__(
        self,
        X: Any,
        image_shape: tuple[int, ...] | None,
        value_range: tuple[float, float] | None,
        random_state: int,
    ) -> None:
        if hasattr(X, "toarray"):
            raise ValueError("X is a sparse matrix; corruptions need an array: X.toarray()")
        shape = np.shape(X)
        if image_shape is None and len(shape) in (3, 4):
            image_shape = shape[1:]
        if image_shape is not None and (
            len(image_shape) not in (2, 3) or int(np.prod(image_shape)) != int(np.prod(shape[1:]))
        ):
            raise ValueError(
                "image_shape must be (height, width) or (n_channels, height, width) of as many "
                f"numbers as a row of X, got {image_shape} and rows of shape {shape[1:]}"
            )
        if image_shape is None and len(shape) != 2:
            raise ValueError(
                "X must have shape (n_rows, n_columns), (n_images, height, width) or (n_images, "
                f"n_channels, height, width), got {shape}"
            )
        self._image_shape, self._range, self._seed = image_shape, value_range, random_state
        self.known = TABLE_CORRUPTIONS if image_shape is None else IMAGE_CORRUPTIONS

    def named(self, corruptions: Corruptions) -> dict[str, Any]:
        """Return corruptions by name; None means all for these rows.

        Parameters
        ----------
        corruptions : list of str, dict of callables, or None
            Names of skuq's own, or functions ``(X, severity, generator) -> X`` by name.
        """
        if corruptions is None:
            return dict.fromkeys(self.known)
        if isinstance(corruptions, str):
            corruptions = [corruptions]
        if isinstance(corruptions, Mapping):
            for name, function in corruptions.items():
                if not callable(function):
                    raise TypeError(
                        f"the corruption {name!r} must be a function (X, severity, generator) -> X,"
                        f" got {function!r}"
                    )
            return dict(corruptions)
        for name in corruptions:
            self._check_name(name)
        return dict.fromkeys(corruptions)

    def _check_name(self, name: str) -> None:
        if name not in self.known:
            kind = "a table" if self._image_shape is None else "images"
            raise ValueError(
                f"corruption must be one of {', '.join(map(repr, self.known))} for {kind}, got "
                f"{name!r}.{suggest(str(name), self.known)}"
            )

    def __call__(self, X: Any, name: str, severity: int, function: Any = None) -> Any:
        """Corrupt rows; severity 0 returns X itself."""
        whole = isinstance(severity, int | np.integer) and not isinstance(severity, bool)
        if not whole or not 0 <= severity <= 5:
            raise ValueError(f"severity must be an integer from 0 to 5, got {severity!r}")
        if function is None:
            self._check_name(name)
        if severity == 0:
            return X
        random = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        if function is not None:
            changed = function(X, severity, random)
            if np.shape(changed)[:1] != np.shape(X)[:1]:
                raise ValueError(
                    f"the corruption {name!r} must return as many rows as it got, {len(X)}, got "
                    f"shape {np.shape(changed)}"
                )
            return changed
        if self._image_shape is None:
            return self._table(X, name, int(severity), random)
        return self._images(np.asarray(X), name, int(severity), random)

    def _table(self, X: Any, name: str, severity: int, random: np.random.Generator) -> Any:
        if hasattr(X, "select_dtypes"):
            names, changed = X.columns, X.copy()
            changed.columns = range(len(names))  # several columns may have one name
            columns = changed.select_dtypes("number").columns
            numbers = changed[columns].to_numpy(dtype=float, na_value=np.nan)
            values = self.known[name](numbers, severity, random)
            for k, column in enumerate(columns):
                changed[column] = values[:, k]
            changed.columns = names
            return changed
        values = np.asarray(X)
        changed = self.known[name](values.astype(float), severity, random)
        return changed.astype(values.dtype) if values.dtype.kind == "f" else changed

    def _images(
        self, X: np.ndarray, name: str, severity: int, random: np.random.Generator
    ) -> np.ndarray:
        low, high = (X.min(), X.max()) if self._range is None else self._range
        low, span = float(low), float(high) - float(low)
        if not span > 0:
            raise ValueError(f"value_range must rise from black to white, got {low:g} to {high:g}")
        height, width = self._image_shape[-2:]  # type: ignore[index]
        images = ((X.astype(float) - low) / span).reshape(len(X), -1, height, width)
        changed = self.known[name](images, severity, random).clip(0, 1) * span + low
        if X.dtype.kind in "ui":
            changed = changed.round()
        return changed.reshape(X.shape).astype(X.dtype)

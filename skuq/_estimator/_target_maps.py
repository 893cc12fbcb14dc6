"""Maps of real targets: a number, or several, for each pixel of an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from skuq._estimator._images import Images, channels_last
from skuq.likelihoods import Likelihood

__all__ = ["TargetMaps"]


class TargetMaps(Images):
    """Mixin of the steps of `fit` that look at targets, of shape (n_samples, height, width).

    For several targets, their shape is (n_samples, n_targets, height, width). NaN marks a pixel
    that does not count.
    """

    _target_shape: tuple[int, ...]  # () for a single target without an axis, else (n_targets,)

    def _checked_maps(self, y: Any, shape: tuple[int, ...], likelihood: Likelihood) -> np.ndarray:
        try:
            maps = np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError):
            kind = getattr(y, "dtype", type(y).__name__)
            raise ValueError(
                f"y must hold numbers, one for each pixel, got {kind}; labels of pixels are for "
                "TorchSegmenter"
            ) from None
        expected = (shape[0], *shape[2:])
        if maps.ndim == 4:
            expected = (shape[0], maps.shape[1], *shape[2:])
        if maps.shape != expected or 0 in expected:
            raise ValueError(
                f"y has shape {maps.shape}, expected {expected}: a target for each pixel of the "
                f"images, which have shape {shape}; or (n_samples, n_targets, height, width)"
                + (channels_last(shape, shape[3]) if maps.shape == shape[:3] else "")
            )
        if np.isinf(maps).any():
            raise ValueError("y contains infinity; mark pixels that do not count by NaN")
        if np.isnan(maps).all():
            raise ValueError("every pixel of y is NaN; nothing can be learnt")
        return maps

    def _read_targets(self, y: np.ndarray, reset: bool, classes: Any = None) -> np.ndarray:
        """Return targets of shape (n_samples, height, width, n_targets)."""
        shape = y.shape[1:-2]
        if reset:
            self._target_shape = shape
        elif shape != self._target_shape:
            raise ValueError(
                f"y has shape {y.shape}; training goes on from targets of shape (n_samples, "
                f"{', '.join(map(str, (*self._target_shape, 'height', 'width')))})"
            )
        return y[..., None] if y.ndim == 3 else np.moveaxis(y, 1, -1)

    def _read_again(self, y: np.ndarray) -> np.ndarray:
        if np.isinf(y).any():
            raise ValueError("y contains infinity; mark pixels that do not count by NaN")
        return self._read_targets(np.asarray(y, dtype=np.float64), reset=False)

    def _counted(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        missing = np.isnan(target)
        if not missing.any():
            return np.ascontiguousarray(target), np.ones(target.shape[:-1], dtype=bool)
        known = target[~missing.any(axis=-1)]
        usual = known.mean(axis=0) if len(known) else 0.0
        return np.where(missing, usual, target), ~missing.any(axis=-1)

    def _weights_by_rule(self, rule: str, target: np.ndarray, counts: np.ndarray) -> np.ndarray:
        raise ValueError(
            f"pixel_weight={rule!r} is a rule for labels; give an array of shape (n_samples, "
            "height, width)"
        )

"""The pixels of masks from which a calibrator learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from torch.utils.data import Subset

from skuq._data._streams import is_dataset
from skuq._utils._saved_names import saved_as
from skuq._utils._sklearn_compat import _num_samples, _safe_indexing

__all__ = ["SampledPlaces"]

_MOST = 100_000  # pixels in all: more change a temperature by less than their own scatter
_CHUNK_BYTES = 64 * 2**20


@saved_as("skuq.calibration.SampledPlaces")
class SampledPlaces(NamedTuple):
    """The same few pixels of every image, drawn without replacement; all of them if they are few.

    Logits of all draws are kept for these only, since those of whole images would fill the memory.
    """

    shape: tuple[int, ...]
    n_chosen: int
    seed: int

    @classmethod
    def of(cls, masks: np.ndarray, seed: int) -> Self:
        """Choose pixels of masks (n, height, width) or (n, n_labels, height, width)."""
        shape = masks.shape[-2:]
        n_chosen = min(math.prod(shape), max(1, _MOST // max(1, len(masks))))
        return cls(shape, n_chosen, seed)

    @property
    def _index(self) -> np.ndarray:
        size = math.prod(self.shape)
        chosen = np.random.default_rng(self.seed).permutation(size)[: self.n_chosen]
        return np.sort(chosen)

    def of_masks(self, masks: np.ndarray) -> np.ndarray:
        """Take the pixels of masks: (n, n_chosen), or (n, n_chosen, n_labels)."""
        taken: np.ndarray = masks.reshape(*masks.shape[:-2], -1)[..., self._index]
        return taken if taken.ndim == 2 else np.moveaxis(taken, 1, -1)

    def of_images(self, maps: Callable[[Any], np.ndarray], X: Any) -> np.ndarray:
        """Take the pixels of maps (n, height, width, ...) of images, a few images at a time."""
        n_images, step, parts = _num_samples(X), 1, []
        start = 0
        while start < n_images:
            stop = min(start + step, n_images)
            some = np.arange(start, stop)
            part = maps(Subset(X, some.tolist()) if is_dataset(X) else _safe_indexing(X, some))
            step = max(1, int(_CHUNK_BYTES // (part.nbytes / len(part))))
            flat = part.reshape(len(part), -1, *part.shape[3:])
            parts.append(flat[:, self._index])
            start = stop
        return np.concatenate(parts)

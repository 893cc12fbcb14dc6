"""Views of the images of a batch in training: each image changes with its mask and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skuq._data._batches import Batch

__all__ = ["viewed"]

_CHANCE = 0.5  # that a view changes an image


def viewed(batch: Batch, views: Sequence[Any], generator: torch.Generator) -> Batch:
    """Change each image of a batch by each view with probability ½.

    Parameters
    ----------
    batch : Batch
        Images (n, n_channels, height, width), targets (n, height, width, ...) and weights
        (n, height, width) or None; they are not changed.
    views : sequence of views
        Each is called as ``view(images, generator)``, and for masks as
        ``view.of_mask(masks, generator)``, with the same numbers.
    generator : torch.Generator
        Draws whether a view changes an image, and the seed of each call.
    """
    x, target = batch
    weight = torch.ones_like(x[:, 0]) if batch.weight is None else batch.weight
    chosen = torch.rand((len(x), len(views)), generator=generator) < _CHANCE
    seeds = torch.randint(2**62, (len(x), len(views)), generator=generator)
    images, masks = [], []
    for k in range(len(x)):
        image, mask = x[k : k + 1], _as_images(target[k : k + 1], weight[k : k + 1])
        for view, change, seed in zip(views, chosen[k], seeds[k]):
            if change:
                image = view(image, torch.Generator().manual_seed(int(seed)))
                own = torch.Generator().manual_seed(int(seed))
                mask = view.of_mask(mask, own)
        images.append(image)
        masks.append(mask)
    changed = torch.cat(masks)
    of_places = changed[:, :-1].movedim(1, -1).to(target.dtype)
    counts = changed[:, -1].to(weight.dtype)
    whole = batch.weight is None and bool((counts == 1).all())
    return Batch.of(torch.cat(images), of_places.reshape(target.shape), None if whole else counts)


def _as_images(target: Tensor, weight: Tensor) -> Tensor:
    """Make targets and weights the channels of one image, (1, n_targets + 1, height, width)."""
    channels = target[:, None] if target.ndim == 3 else target.movedim(-1, 1)
    return torch.cat([channels.to(torch.float64), weight[:, None].to(torch.float64)], dim=1)

"""Rows without labels: how `MeanTeacher` reads them, and what noise suits each of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skuq._data._batches import Batch
from skuq._data._checks import checks_of_rows, dense, rows_on_device
from skuq._data._views import viewed
from skuq._networks._inputs import Layout, Part
from skuq._networks._module import Numerics

__all__ = ["Unlabelled", "seeing_codes"]


@dataclass
class Unlabelled:
    """Rows without labels.

    Attributes
    ----------
    X : Tensor of shape (n_rows, ...)
        The rows.
    weight : Tensor of shape (n_rows,), or None
        Their weights, of mean 1.
    spread : Tensor that broadcasts with a row
        The standard deviation of each feature, or of each channel of images; 0 for whole numbers
        of several inputs, such as token ids, and for the codes of categories.
    layout : Layout or None
        That of several inputs whose padding is cut in each batch.
    views : sequence of views
        What changes images in training.
    """

    X: Tensor
    weight: Tensor | None
    spread: Tensor
    layout: Layout | None = None
    views: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.X)

    @classmethod
    def of(cls, estimator: Any, X: Any, weight: Any, numerics: Numerics) -> Unlabelled:
        """Check rows as the estimator, which has read others, checks rows to predict.

        Parameters
        ----------
        estimator : TorchEstimator
            The estimator.
        X : array-like of shape (n_rows, ...), or None
            The rows as the estimator takes them; None if there are none.
        weight : ndarray of shape (n_rows,), or None
            Their weights, of mean 1.
        numerics : Numerics
            Device and precision.
        """
        if X is None:
            none = torch.empty((0, *estimator._row_shape), dtype=numerics.dtype)
            return cls(none, None, torch.zeros(()))
        checks, layout = checks_of_rows(numerics), estimator._layout
        X = estimator._packed(X, checks, learn=False)
        X = dense(estimator._check_more_rows(X, checks))
        rows = rows_on_device(X, np.zeros(len(X)), weight, numerics, None, layout)
        spread = _spread(rows.X) if layout is None else _spread_of_inputs(rows.X, layout)
        views = estimator._views_of_training()
        return cls(rows.X, rows.weight, spread, rows.layout, views)

    def batch(
        self, index: Tensor, like: Tensor, make_generator: Callable[[], torch.Generator]
    ) -> tuple[Tensor, Tensor | None]:
        """Return some rows, changed by the views, and the weights of rows or of their places.

        Parameters
        ----------
        index : Tensor of shape (n_some,)
            Their numbers.
        like : Tensor
            Has the device and the type that they get.
        make_generator : callable
            Makes the generator of the views.
        """
        x = self.X[index.to(self.X.device)].to(like)
        x = x if self.layout is None else self.layout.trimmed(x)
        weight = self.weight
        weight = None if weight is None else weight[index.to(weight.device)].to(like)
        if not self.views:
            return x, weight
        places = (len(x), *x.shape[2:])
        if weight is not None:
            weight = weight[:, None, None].expand(places)
        changed = viewed(Batch.of(x, x.new_zeros(places), weight), self.views, make_generator())
        return changed[0], changed.weight  # 0 where a view has filled a place

    def spread_of(self, x: Tensor) -> Tensor:
        """Return the deviations for a batch, whose padding may be cut."""
        spread = self.spread if self.layout is None else self.spread[..., : x.shape[-1]]
        return spread.to(x)


def _spread(X: Tensor) -> Tensor:
    """Compute the standard deviation of each feature of a table, or of each channel of images."""
    axes = [0, *range(2, X.ndim)] if X.ndim > 2 else [0]
    return X.double().std(axes, correction=0, keepdim=True)[0]


def _spread_of_inputs(X: Tensor, layout: Layout) -> Tensor:
    """Compute it for each number in rows of several inputs; positions of a sequence count alike."""
    found = layout.unpacked(X)
    mask = found.pop("", None)

    def of_part(part: Part) -> Tensor:
        values = found[part.name]
        one = torch.zeros((1, *values.shape[1:]), dtype=torch.float64, device=X.device)
        if part.kind != "float":
            return one
        if not part.free:
            return one + _spread(values)
        there = values.flatten(0, 1) if mask is None else values[mask.bool()]
        return one + there.double().std(0, correction=0)

    parts = [of_part(part) for part in layout.parts]
    if layout.adds_mask and mask is not None:
        parts.append(torch.zeros_like(mask[:1]))
    return layout.joined(parts)[0]


def seeing_codes(module: nn.Module, x: Tensor, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Run a network, and find the columns of a table that its embeddings take as codes.

    Noise would turn such a number into the code of something else.

    Parameters
    ----------
    module : nn.Module
        The network.
    x : Tensor of shape (n_rows, ...)
        The rows that it gets.
    run : callable
        Calls the network on these rows.

    Returns
    -------
    outputs : Tensor
        What `run` returned.
    codes : Tensor of bool, of shape (n_columns,) or (0,)
        Whether a column differs from what an embedding got by a constant only; of shape (0,) if
        there is no embedding, or no table.
    """
    seen: list[Tensor] = []
    embeddings = [e for e in module.modules() if isinstance(e, nn.Embedding | nn.EmbeddingBag)]
    if x.ndim != 2 or not embeddings:
        return run(), torch.zeros(0, dtype=torch.bool)
    hooks = [e.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for e in embeddings]
    try:
        outputs = run()
    finally:
        for hook in hooks:
            hook.remove()
    codes = torch.zeros(x.shape[1], dtype=torch.bool)
    for indices in seen:
        if indices.shape == x.shape:
            return outputs, torch.ones_like(codes)
        if indices.ndim and len(indices) == len(x) and x.shape[1]:
            for column in indices.flatten(1).T if indices.ndim > 1 else indices[None]:
                apart = x - column[:, None]
                codes |= ((apart == apart[:1]).all(0) & (x == x.round()).all(0)).cpu()
    return outputs, codes

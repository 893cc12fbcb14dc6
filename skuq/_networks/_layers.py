"""Layers of all draws or networks at once: a few large kernels instead of many small ones."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["STACKED", "DrawnLinear"]

# ---------------------------------------------------------------------------------------------
# Layers of stacked networks: parameters (n_networks, ...), x (n_networks, n_rows, ...)


class StackedLinear(nn.Linear):
    """The linear layers of all networks as one batched product.

    The small batches of training are fastest without vmap, and as W xᵀ. In memory, the rows are the
    last axis of the outputs.
    """

    def forward(self, x: Tensor) -> Tensor:
        columns, bias = x.flatten(1, -2).mT, cast("Tensor | None", self.bias)
        if bias is None:
            out = torch.bmm(self.weight, columns)
        else:
            out = torch.baddbmm(bias[:, :, None], self.weight, columns)
        rows_first: Tensor = out.mT.unflatten(1, x.shape[1:-1])
        return rows_first


def _join_channels(x: Tensor) -> Tensor:
    """Join the channels of all networks: (n_rows, n_networks · n_channels, ...)."""
    return x.transpose(0, 1).flatten(1, 2)


def _split_channels(x: Tensor, n_networks: int) -> Tensor:
    apart: Tensor = x.unflatten(1, (n_networks, -1)).transpose(0, 1)
    return apart


def _join_networks(parameter: Any) -> Any:
    return None if parameter is None else parameter.flatten(0, 1)


class _StackedConvolution:
    """A convolution with a group for each network."""

    def forward(self: Any, x: Tensor) -> Tensor:
        n_networks, rows = len(x), _join_channels(x)
        padding = self.padding
        if self.padding_mode != "zeros":
            rows = F.pad(rows, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(self.kernel_size)]
        out = convolve(
            rows,
            _join_networks(self.weight),
            _join_networks(self.bias),
            self.stride,
            padding,
            self.dilation,
            groups=n_networks * self.groups,
        )
        return _split_channels(out, n_networks)


class _StackedBatchNorm:
    """Batch normalisation with statistics of each channel of each network."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # cumulative; the networks have seen equally many batches
            momentum = 1 / float(self.num_batches_tracked.amax()) if self.training else 0.0
        own = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, variance, weight, bias = map(_join_networks, own)
        rows = _join_channels(x)
        out = F.batch_norm(rows, mean, variance, weight, bias, self.training, momentum, self.eps)
        return _split_channels(out, len(x))


class StackedLayerNorm(nn.LayerNorm):
    """Layer normalisation of each row, scaled by the weights of its network."""

    def forward(self, x: Tensor) -> Tensor:
        out = F.layer_norm(x, self.normalized_shape, None, None, self.eps)
        for own, combine in ((self.weight, torch.mul), (self.bias, torch.add)):
            if own is not None:
                between = (1,) * (out.ndim - own.ndim)
                out = combine(out, own.unflatten(0, (-1, *between)))
        return out


class StackedEmbedding(nn.Embedding):
    """The embeddings of all networks as one table."""

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_idx is not None or self.max_norm is not None:
            raise NotImplementedError("a table of all networks has no place for these")
        n_networks, n_rows = self.weight.shape[:2]
        first = torch.arange(n_networks, device=x.device) * n_rows
        rows = x + first.view(-1, *(1,) * (x.ndim - 1))
        return F.embedding(rows, self.weight.flatten(0, 1))


class _RowsOfAll:
    """A layer without parameters that treats rows independently: all rows form one batch."""

    def forward(self: Any, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # type: ignore[misc]
        return out


class StackedFlatten(nn.Flatten):
    """Flattens rows that have the axis of networks before them."""

    def forward(self, x: Tensor) -> Tensor:
        first, last = (axis + 1 if axis >= 0 else axis for axis in (self.start_dim, self.end_dim))
        return x.flatten(first, last)


def _stacked_versions(
    mixin: type, *kinds: type[nn.Module]
) -> dict[type[nn.Module], type[nn.Module]]:
    return {kind: type(f"Stacked{kind.__name__}", (mixin, kind), {}) for kind in kinds}


# Layers of torch, and the layers that do the same for a stack of networks.
STACKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Embedding: StackedEmbedding,
    nn.Flatten: StackedFlatten,
    nn.LayerNorm: StackedLayerNorm,
    **_stacked_versions(_StackedConvolution, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    **_stacked_versions(_StackedBatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    **_stacked_versions(
        _RowsOfAll,
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
        *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    ),
}

# ---------------------------------------------------------------------------------------------
# Layers of stacked draws


class DrawnLinear(nn.Linear):
    """A linear layer under vmap, whose weight has an axis that vmap hides.

    vmap's own rule for `linear` multiplies by the weight of each draw. Written as W xᵀ, one product
    serves the weights of all draws if the rows do not depend on a draw. In memory, the rows are the
    last axis of the outputs, which is best for a following product or reduction over outputs.
    """

    def forward(self, x: Tensor) -> Tensor:
        out, bias = torch.mm(self.weight, x.flatten(0, -2).mT), cast("Tensor | None", self.bias)
        if bias is not None:
            out = out.add_(bias[:, None])
        rows_first: Tensor = out.mT.unflatten(0, x.shape[:-1])
        return rows_first

"""Layers of all draws or networks at once: linear ones are few large matrix products."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["STACKED", "DrawnLinear"]


class StackedLinear(nn.Linear):
    """Layers that know the axis of networks: weight (n_networks, out, in), x (n_networks, ..., in).

    Small batches, as in training, are fastest without vmap, and as W xᵀ: outputs lie in memory with
    the rows last.
    """

    def forward(self, x: Tensor) -> Tensor:
        columns, bias = x.flatten(1, -2).mT, cast("Tensor | None", self.bias)
        if bias is None:
            out = torch.bmm(self.weight, columns)
        else:
            out = torch.baddbmm(bias[:, :, None], self.weight, columns)
        return out.mT.unflatten(1, x.shape[1:-1])


class StackedFlatten(nn.Flatten):
    """Flattens rows where the axis of networks comes before theirs."""

    def forward(self, x: Tensor) -> Tensor:
        first, last = (axis + 1 if axis >= 0 else axis for axis in (self.start_dim, self.end_dim))
        return x.flatten(first, last)


class DrawnLinear(nn.Linear):
    """A layer under vmap, whose weight has an axis that vmap hides.

    vmap's own rule for `linear` multiplies by the weight of each draw. Written as W xᵀ, the
    weights of all draws meet rows that do not depend on a draw in one product. Outputs lie in
    memory with the rows last, as what comes next, a product or a reduction over outputs, wants
    them.
    """

    def forward(self, x: Tensor) -> Tensor:
        out, bias = torch.mm(self.weight, x.flatten(0, -2).mT), cast("Tensor | None", self.bias)
        if bias is not None:
            out = out.add_(bias[:, None])
        return out.mT.unflatten(0, x.shape[:-1])


# Layers of torch, and those that do the same for networks in a stack.
STACKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Flatten: StackedFlatten,
}

"""Linear layers with a weight for each draw or network, as few large matrix products."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["DrawnLinear", "StackedLinear"]


class StackedLinear(nn.Linear):
    """Layers that know the axis of networks: weight (n_networks, out, in), x (n_networks, ..., in).

    Small batches, as in training, are fastest without vmap.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, bias = x.flatten(1, -2), cast("Tensor | None", self.bias)
        if bias is None:
            out = torch.bmm(rows, self.weight.mT)
        else:
            out = torch.baddbmm(bias[:, None], rows, self.weight.mT)
        return out.unflatten(1, x.shape[1:-1])


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

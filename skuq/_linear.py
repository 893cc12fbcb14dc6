"""Linear layers with a weight for each draw or network, as few large matrix products."""

from __future__ import annotations

from typing import Any, cast

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

    vmap's own rule multiplies by the weight of each draw; here all weights meet rows that do not
    depend on a draw in one product. Outputs lie in memory with the rows last, as what comes next,
    a product or a reduction over outputs, wants them.
    """

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """Only its rule for vmap is ever used; autograd sees the operations inside of that."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        n_draws, (x_axis, weight_axis, bias_axis) = info.batch_size, in_dims
        weight = weight.movedim(weight_axis, 0)
        if bias is None:
            bias = weight.new_zeros(())
        elif bias_axis is not None:
            bias = bias.movedim(bias_axis, 0)[:, :, None]
        else:
            bias = bias[:, None]
        if x_axis is None:
            shape, columns = x.shape[:-1], x.flatten(0, -2).mT
            every = bias.expand(n_draws, weight.shape[1], 1).flatten(0, 1)
            out = torch.addmm(every, weight.flatten(0, 1), columns).unflatten(0, (n_draws, -1))
        else:
            x = x.movedim(x_axis, 0)
            shape = x.shape[1:-1]
            out = torch.baddbmm(bias, weight, x.flatten(1, -2).mT)
        return out.mT.unflatten(1, shape), 0

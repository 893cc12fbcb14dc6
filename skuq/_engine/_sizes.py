"""The sizes of tensors in a forward, from which the engine derives its chunks."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

__all__ = ["OutputSizes", "share_of_draws"]


def share_of_draws(fewer: list[int], sizes: list[int], n_draws: int) -> float:
    """Compute the share of a network, in bytes of its tensors, that depends on the draw.

    The arguments are the sizes of all tensors for n_draws − 1 and for n_draws draws.
    """
    per_draw = sum(sizes) - sum(fewer)
    once = sum(sizes) - n_draws * per_draw
    return per_draw / max(once + per_draw, 1e-9)


class OutputSizes(TorchDispatchMode):
    """Records the size in bytes of every tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self.sizes.append(tensor.numel() * tensor.element_size())
        return result

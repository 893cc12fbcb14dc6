"""Train several networks as one: parameters are stacked, one forward and backward serves all.

A linear layer of all networks is one batched matrix product. There are three ways to train:

1. directly, if the module gives the same outputs with an axis of networks before the axis of rows;
2. under vmap, which adds that axis by itself;
3. one network after another, if neither works, or if a stack would not be exact (an optimizer that
   couples elements, a user's callback).

The choice is made once. It compares outputs and gradients on a few rows, and never measures time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from skuq._data._batches import Rows, SlicedBatches
from skuq._networks._dropout import Recorder, apply_mask, drive, dropout_layers, mask_shape
from skuq._networks._layers import STACKED
from skuq._networks._module import Numerics, call, copied
from skuq._networks._precision import is_usual
from skuq._networks._refusals import sparse_layers
from skuq._networks._weights import weights_of
from skuq._training._settings import Settings
from skuq._utils._messages import without_vmap_warnings
from skuq._utils._random import PrivateGlobals
from skuq._utils._tensors import agree, all_agree, tensors_of
from skuq.modules import LearntDropout

__all__ = ["MAX_NETWORKS", "Stack", "StackedSampler", "may_stack"]

MAX_NETWORKS = 16  # in a stack: memory holds the activations of all
_TRIED_ROWS = 8
_CONVOLUTIONS = nn.modules.conv._ConvNd

# Optimizers that treat every element by itself: a stack then steps like its single networks.
_ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.ASGD,
    torch.optim.Rprop,
)


def may_stack(module: nn.Module, settings: Settings) -> bool:
    """Return whether a stack of such networks trains like the single networks, but faster.

    On a CPU, stacked convolutions are slower than single ones.
    """
    on_cpu = settings.numerics.device.type == "cpu"
    convolves = any(isinstance(layer, _CONVOLUTIONS) for layer in module.modules())
    learns_dropout = any(isinstance(layer, LearntDropout) for layer in module.modules())
    return (
        settings.optimizer in _ELEMENTWISE
        and settings.callbacks is None
        and settings.verbose < 2  # skorch's table shows one network
        and not any(name.startswith("callbacks__") for name in settings.net_options)
        and set(settings.train_options) | set(settings.valid_options) <= SlicedBatches.OPTIONS
        and not settings.compile
        and not (on_cpu and convolves)
        and not learns_dropout  # the networks of a stack have one rate
        and not sparse_layers(module)
        and all(is_usual(tensor) for _, tensor in tensors_of(module).items())
    )


class Stack:
    """Networks of one kind as one module, with the names of their parameters.

    Parameters
    ----------
    networks : sequence of nn.Module
        The networks.
    numerics : Numerics
        Device and precision.
    vectorized : bool
        Whether vmap adds the axis of networks; otherwise the layers handle it themselves.
    """

    def __init__(self, networks: Sequence[nn.Module], numerics: Numerics, vectorized: bool) -> None:
        self.numerics = numerics
        self.vectorized = vectorized
        self.n_networks = len(networks)
        self.module = _stacked_copy(networks)
        if vectorized:
            self._one = copied(networks[0])
        else:
            for layer in self.module.modules():
                layer.__class__ = STACKED.get(type(layer), type(layer))

    @classmethod
    def of(cls, networks: Sequence[nn.Module], train: Rows, numerics: Numerics) -> Stack | None:
        """Find a stack with the outputs and gradients of the networks; None if there is none."""
        x = train.first(2 * _TRIED_ROWS).to(numerics.device)
        for vectorized in (False, True):
            if vectorized and any(layer.p > 0 for layer in dropout_layers(networks[0]).values()):
                return None  # the private dropout masks do not work under vmap
            with PrivateGlobals(0), without_vmap_warnings():  # a forward may draw
                agrees = _agrees(networks[:2], x, numerics, vectorized)
            if agrees:
                return cls(networks, numerics, vectorized)
        return None

    def train(self, mode: bool) -> None:
        self.module.train(mode)
        if self.vectorized:
            self._one.train(mode)

    def tensors(self) -> dict[str, Tensor]:
        return tensors_of(self.module)

    def weights(self, index: int) -> dict[str, Tensor]:
        """Return views of the weights of one network."""
        return {name: t[index] for name, t in weights_of(self.module).items()}

    def state(self, index: int) -> dict[str, Tensor]:
        """Copy the weights of one network."""
        return {name: tensor.clone() for name, tensor in self.weights(index).items()}

    def __call__(self, x: Tensor) -> Tensor:
        """Map x of shape (n_networks, n_rows, ...) to outputs (n_networks, n_rows, n_outputs)."""
        if not self.vectorized:
            return call(self.module, x, self.numerics)

        def one(tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
            return call(lambda x: functional_call(self._one, tensors, (x,)), rows, self.numerics)

        # The trial showed no randomness. If there is some later, each network gets its own.
        return vmap(one, randomness="different")(self.tensors(), x)


class StackedSampler:
    """Draws the dropout masks of each network from its own generator, as in a single training."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        if not layer.training or layer.p == 0:
            return x
        shape = mask_shape(layer, x.shape[1:])
        keep = torch.empty((len(x), *shape), dtype=x.dtype, device=x.device)
        for mask, generator in zip(keep, self._generators):
            mask.bernoulli_(1 - layer.p, generator=generator)
        return apply_mask(layer, x, keep)


def _stacked_copy(networks: Sequence[nn.Module]) -> nn.Module:
    """Copy the first network and give it the stacked tensors of all; tied tensors stay tied."""
    memo: dict[int, Any] = {}
    others = [tensors_of(network) for network in networks]
    for name, tensor in tensors_of(networks[0]).items():
        stacked = torch.stack([tensors[name].detach() for tensors in others])
        if isinstance(tensor, nn.Parameter):
            stacked = nn.Parameter(stacked, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = stacked
    return copied(networks[0], memo)


def _agrees(networks: Sequence[nn.Module], x: Tensor, numerics: Numerics, vectorized: bool) -> bool:
    """Return whether a stack has the outputs, gradients and buffers of its networks in training."""
    rows = x.unflatten(0, (len(networks), _TRIED_ROWS))
    separate = [copied(network).train() for network in networks]
    for network in separate:
        drive(network, Recorder())
    expected = torch.stack([call(n, r, numerics) for n, r in zip(separate, rows)])
    direction = torch.linspace(0.5, 1.5, expected.numel(), device=rows.device).view_as(expected)
    try:
        stack = Stack(networks, numerics, vectorized)
        stack.train(True)
        drive(stack.module, Recorder())
        output = stack(rows)
        if output.shape != expected.shape:
            return False
        (output * direction).sum().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # any error means that this way does not work
        return False
    (expected * direction).sum().backward()
    states, gradients = [], []
    tensors, others = stack.tensors(), [tensors_of(network) for network in separate]
    for name, tensor in tensors.items():
        same = [own[name] for own in others]
        states.append((tensor, torch.stack([t.detach() for t in same])))
        if tensor.grad is not None and all(t.grad is not None for t in same):
            own = torch.stack([t.grad for t in same if t.grad is not None])
            gradients.append((tensor.grad, own))
        elif tensor.grad is not None or any(t.grad is not None for t in same):
            return False
    # A running mean, or the gradient of a bias before a normalisation, may be 0 up to rounding.
    whole = [pair for pair in states if not pair[0].is_floating_point()]
    broken = [pair for pair in states if pair[0].is_floating_point()]
    return (
        agree(output, expected, numerics.tolerance)
        and all(torch.equal(*pair) for pair in whole)
        and all_agree(broken, numerics.tolerance)
        and all_agree(gradients, numerics.tolerance)
    )

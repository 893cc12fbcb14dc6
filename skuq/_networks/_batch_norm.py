"""New estimates of the running statistics of BatchNorm layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["batch_statistics"]


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[bool]:
    """Begin fresh running statistics, to which each call of `network` in eval mode adds.

    At the end, they are the plain means over the batches. Yields whether the network has any.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    try:
        yield bool(layers)
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
            layer.eval()

"""New estimates of the running statistics of BatchNorm layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["batch_statistics", "running_statistics"]


def _tracking(network: nn.Module) -> dict[str, _BatchNorm]:
    """List the BatchNorm layers that keep running statistics, by name."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    }


def running_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances of all BatchNorm layers, by the name of the buffer."""
    return {
        f"{name}.{statistic}" if name else statistic: getattr(layer, statistic)
        for name, layer in _tracking(network).items()
        for statistic in ("running_mean", "running_var")
    }


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[bool]:
    """Begin fresh running statistics, to which each call of `network` in eval mode adds.

    At the end, they are the plain means over the batches. Yields whether the network has any.
    """
    layers = list(_tracking(network).values())
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

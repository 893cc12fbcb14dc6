"""Layers whose weights are normal: means, deviations, and noise on the outputs in training."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["KINDS", "divergence", "make_plain", "make_variational", "variational_layers"]

_LEAST_VARIANCE = 1e-16  # of an output: the slope of the root is finite
_ENDING = "_log_scale"  # of the logarithms of the deviations of a parameter


class _Variational:
    """A layer that is linear in its weights, which are normal with independent entries.

    The parameters of the layer are the means. In training, the outputs of each row have noise of
    their own, with the variance that the weights give them (local reparametrisation). In eval mode
    the layer computes with the means.
    """

    is_plain_in_eval_mode = True

    def _linear(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not implement _linear")

    def forward(self: Any, x: Tensor) -> Tensor:
        mean: Tensor = self._linear(x, self.weight, self.bias)
        if not self.training:
            return mean
        weight, bias = (_variance(self, name) for name in ("weight", "bias"))
        variance: Tensor = self._linear(x.square(), weight, bias)
        return mean + variance.clamp_min(_LEAST_VARIANCE).sqrt() * torch.randn_like(mean)


class _Linear(_Variational, nn.Linear):
    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)


class _Convolution(_Variational):
    def _linear(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        outputs: Tensor = self._conv_forward(x, weight, bias)
        return outputs


class _Conv1d(_Convolution, nn.Conv1d):
    pass


class _Conv2d(_Convolution, nn.Conv2d):
    pass


class _Conv3d(_Convolution, nn.Conv3d):
    pass


_VARIATIONAL: dict[type, type] = {
    nn.Linear: _Linear,
    nn.Conv1d: _Conv1d,
    nn.Conv2d: _Conv2d,
    nn.Conv3d: _Conv3d,
}
_PLAIN = {variational: plain for plain, variational in _VARIATIONAL.items()}
KINDS: dict[str, tuple[type, ...]] = {
    "linear": (nn.Linear,),
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "linear+conv": tuple(_VARIATIONAL),
}


def _variance(layer: Any, name: str) -> Tensor | None:
    if getattr(layer, name) is None:
        return None
    variance: Tensor = (2 * getattr(layer, name + _ENDING)).exp()
    return variance


def make_variational(module: nn.Module, kinds: tuple[type, ...], scale: float) -> None:
    """Make all layers of some kinds variational, in place.

    Parameters
    ----------
    module : nn.Module
        The untrained network.
    kinds : tuple of type
        The classes of the layers; subclasses with a forward of their own stay as they are.
    scale : float
        The deviation of all weights and biases at the start.

    Raises
    ------
    ValueError
        If there is no such layer, or if two of them share a weight.
    """
    found = {name: layer for name, layer in module.named_modules() if type(layer) in kinds}
    if not found:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"Variational finds no {names} layer in {type(module).__name__}, so no weight would be "
            "random. Choose other layers=, or MCDropout or DeepEnsemble"
        )
    owners: dict[int, str] = {}
    for owner, layer in module.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            first = owners.setdefault(id(parameter), f"{owner}.{own}")
            if first != f"{owner}.{own}" and (owner in found or first.rpartition(".")[0] in found):
                raise ValueError(
                    f"{first!r} and '{owner}.{own}' are one tied parameter, which Variational "
                    "cannot sample twice. Untie them, or choose MCDropout or DeepEnsemble"
                )
    for layer in found.values():
        layer.__class__ = _VARIATIONAL[type(layer)]
        for name, parameter in list(layer.named_parameters(recurse=False)):
            start = torch.full_like(parameter.detach(), math.log(scale))
            layer.register_parameter(name + _ENDING, nn.Parameter(start))


def make_plain(module: nn.Module) -> nn.Module:
    """Turn variational layers into layers of torch, in place; they compute with their weights."""
    for layer in module.modules():
        if type(layer) in _PLAIN:
            layer.__class__ = _PLAIN[type(layer)]
    return module


def variational_layers(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return means and logarithms of deviations, by the name of the parameter in the module."""
    return {
        f"{owner}.{name}".removeprefix("."): (parameter, getattr(layer, name + _ENDING))
        for owner, layer in module.named_modules()
        if type(layer) in _PLAIN
        for name, parameter in layer.named_parameters(recurse=False)
        if not name.endswith(_ENDING)
    }


def divergence(module: nn.Module, prior_scale: float) -> Tensor:
    """Compute the Kullback-Leibler divergence of all weights from their prior, in nats.

    It is Σ ½ [(σ² + μ²) / s² − 1 − log(σ² / s²)] over all weights and biases, where s is
    `prior_scale` for biases and `prior_scale` / √fan-in for weights.
    """
    total: Any = 0.0
    for mean, log_scale in variational_layers(module).values():
        scale = prior_scale / math.sqrt(max(1, mean[0].numel()))
        relative = log_scale - math.log(scale)
        squares = (2 * relative).exp() + (mean / scale).square()
        total = total + 0.5 * (squares - 1 - 2 * relative).sum()
    result: Tensor = total
    return result

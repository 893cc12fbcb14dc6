"""Let dropout layers take their masks from a given source.

`drive` replaces the class of every dropout layer of a private module. The masks then come from a
source instead of torch's global generator: a `Sampler` in training, `FixedMasks` at prediction, or
a `Recorder`, which finds where dropout happens. The layers keep their names, parameters and hooks,
and a layer may be used at several places.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skuq.modules import LearntDropout

__all__ = [
    "FixedMasks",
    "Recorder",
    "Sampler",
    "apply_mask",
    "drive",
    "driven",
    "dropout_layers",
    "mask_shape",
    "restart_calls",
]

_CHANNELWISE = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
_ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
_KINDS = (nn.Dropout, nn.AlphaDropout, *_CHANNELWISE, LearntDropout)
_SELU_FLOOR = 1.7580993408473766  # −α′ of SELU: the value of a dropped unit of an alpha dropout

Source = Callable[[Any, Tensor], Tensor]


def dropout_layers(module: nn.Module) -> dict[str, Any]:
    """List the ``nn.Dropout*`` layers of `module` by name, each once, however often it is used.

    Those with a learnt rate are among them. A subclass with its own forward is left out, because
    its effect is unknown.
    """
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _KINDS) and any(type(layer).forward is k.forward for k in _KINDS)
    }


def mask_shape(layer: nn.Module, shape: torch.Size) -> tuple[int, ...]:
    """Return the shape of a mask, with its batch axis, for an input of this shape."""
    if isinstance(layer, LearntDropout):
        return layer.mask_shape(shape)
    if not isinstance(layer, _CHANNELWISE):
        return tuple(shape)
    if isinstance(layer, nn.Dropout1d) and len(shape) == 2:  # torch reads it as (C, L)
        return (shape[0], 1)
    return (*shape[:2], *(1 for _ in shape[2:]))


def apply_mask(layer: Any, x: Tensor, keep: Tensor) -> Tensor:
    """Apply dropout to `x`: keep entries where `keep` is 1, drop them where it is 0.

    Inverted dropout scales by 1/(1 − p). Alpha dropout keeps zero mean and unit variance by
    y = a(x·m − α′·(1 − m)·(−1)) + b as in Klambauer et al. 2017, arXiv:1706.02515.
    """
    p: float = layer.p
    if p >= 1:
        return x * torch.zeros_like(keep)
    if not isinstance(layer, _ALPHA):
        return x * (keep / (1 - p))
    scale: float = ((1 - p) * (1 + p * _SELU_FLOOR**2)) ** -0.5
    return (x * keep + _SELU_FLOOR * (keep - 1)) * scale + _SELU_FLOOR * scale * p


class Sampler:
    """Draws fresh masks from a private generator, while the layer is in training mode."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        if not layer.training or layer.p == 0:
            return x
        if isinstance(layer, LearntDropout):
            noise = torch.empty(layer.mask_shape(x.shape), dtype=layer.logit.dtype, device=x.device)
            return layer.softly(x, noise.uniform_(generator=self._generator))
        keep = torch.empty(mask_shape(layer, x.shape), dtype=x.dtype, device=x.device)
        return apply_mask(layer, x, keep.bernoulli_(1 - layer.p, generator=self._generator))


class Recorder:
    """Passes inputs through and records the shape of every call of every layer."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[torch.Size, tuple[int, ...]]]] = {}

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        if layer.p == 0:
            return x
        self.calls.setdefault(layer._site, []).append((x.shape, mask_shape(layer, x.shape)))
        return x


class FixedMasks:
    """Applies masks from buffers of the layer: ``mask_0`` in its first call, and so on.

    Parameters
    ----------
    elsewhere : set of (str, int)
        Layers, by name, and calls that do nothing, because the weights of the next layer are masked
        instead.
    """

    def __init__(self, elsewhere: Container[tuple[str, int]] = ()) -> None:
        self._elsewhere = elsewhere

    def __call__(self, layer: Any, x: Tensor) -> Tensor:
        if layer.p == 0:
            return x
        call = layer._calls
        layer._calls = call + 1
        if (layer._site, call) in self._elsewhere:
            return x
        mask = getattr(layer, f"mask_{call}", None)
        if mask is None:
            raise ValueError(
                f"dropout layer '{layer._site}' was called {call + 1} times in one forward, more "
                "often than in fit; masks are fixed in fit, so the number of calls must not vary"
            )
        if x.ndim != mask.ndim + 1 or any(m not in (1, n) for m, n in zip(mask.shape, x.shape[1:])):
            raise ValueError(
                f"dropout layer '{layer._site}' got an input of shape {tuple(x.shape)}, but its "
                f"masks were drawn in fit for rows of shape {tuple(mask.shape)}; give rows of the "
                "same shape as in fit, or use a dropout whose mask does not depend on it "
                "(nn.Dropout2d)"
            )
        return apply_mask(layer, x, mask)


class _Driven:
    """Mixin before a dropout class: takes masks from a source, not torch's global generator."""

    _source: Source

    def forward(self, x: Tensor) -> Tensor:
        return self._source(self, x)


@functools.cache
def _driven_class(original: Any) -> Any:
    return type(original.__name__, (_Driven, original), {})


def restart_calls(module: nn.Module, args: Any) -> None:
    """Begin a new forward for `FixedMasks`: a forward pre-hook of the whole module."""
    for layer in module.modules():
        if isinstance(layer, _Driven):
            layer.__dict__["_calls"] = 0


def drive(module: nn.Module, source: Source) -> Callable[[], None]:
    """Let dropout layers of `module` take masks from `source`; return a function that undoes it."""
    layers = dropout_layers(module)
    originals: dict[str, Any] = {name: type(layer) for name, layer in layers.items()}
    for name, layer in layers.items():
        state = layer.__dict__
        state["_source"], state["_site"], state["_calls"] = source, name, 0
        layer.__class__ = _driven_class(originals[name])

    def restore() -> None:
        for name, layer in layers.items():
            layer.__class__ = originals[name]
            for attribute in ("_source", "_site", "_calls"):
                layer.__dict__.pop(attribute, None)

    return restore


@contextmanager
def driven(module: nn.Module, source: Source) -> Iterator[None]:
    """Apply `drive` inside a ``with`` block."""
    restore = drive(module, source)
    try:
        yield
    finally:
        restore()

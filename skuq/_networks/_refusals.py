"""Refuse modules that cannot be used, with the reason and a fix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skuq._networks._dropout import Recorder, drive
from skuq._networks._names import name_of_module
from skuq._utils._random import PrivateGlobals

__all__ = ["check_kind", "check_trainable", "hint_at_channels", "sparse_layers"]

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_TAKE_SPARSE = (torch.optim.SGD, torch.optim.Adagrad, torch.optim.SparseAdam)


def check_kind(module: nn.Module) -> None:
    """Refuse a module that cannot be copied, or whose tensors cannot be replaced.

    Raises
    ------
    TypeError
        If the module is, or contains, a module of torch.jit or one that spreads batches over
        devices.
    ValueError
        If it has tensors on the meta device, which has no values.
    """
    name = name_of_module(module)
    for where, layer in module.named_modules():
        place = f"'{where}' of {name}" if where else name
        if isinstance(layer, torch.jit.ScriptModule):
            raise TypeError(
                f"{place} is scripted or traced (torch.jit): it can neither be copied nor be "
                "evaluated with the tensors of several draws. Pass the class or function that it "
                "was made from; for speed set compile=True"
            )
        if isinstance(layer, _PARALLEL):
            raise TypeError(
                f"{place} is a {type(layer).__name__}, which spreads batches over devices: pass "
                "the module inside, its attribute `module`. Networks are trained on several "
                "devices with device=['cuda:0', 'cuda:1'], see skuq.posteriors.DeepEnsemble"
            )
    for where, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"'{where}' of {name} is on the meta device, which holds no values: build the "
                "module outside of torch.device('meta'), or call its to_empty(device='cpu') and "
                "load its weights"
            )


def sparse_layers(module: nn.Module) -> list[str]:
    """List the layers whose weights get sparse gradients."""
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag)
        and layer.sparse
        and layer.weight.requires_grad
    ]


def check_trainable(module: nn.Module, x: Tensor, optimizer: Any, call: Any) -> None:
    """Refuse a module that training could not change.

    Parameters
    ----------
    module : nn.Module
        The untrained module.
    x : Tensor of shape (n_rows, ...)
        Some rows.
    optimizer : type
        The class of the optimizer.
    call : callable
        Maps a module and rows to outputs.

    Raises
    ------
    ValueError
        If no parameter trains, if no gradient reaches the parameters, or if the optimizer does not
        take the sparse gradients of some layers.
    """
    name = name_of_module(module)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        has_some = next(module.parameters(), None) is not None
        what = f"every parameter of {name} is frozen" if has_some else f"{name} has no parameters"
        raise ValueError(
            f"{what}: there is nothing to train. Set max_epochs=0 to take it as it is"
            + ("; or let some be trained, requires_grad_(True)" if has_some else "")
        )
    sparse = sparse_layers(module)
    if sparse and optimizer.__module__.startswith("torch.") and optimizer not in _TAKE_SPARSE:
        raise ValueError(
            f"layer '{sparse[0]}' of {name} has sparse=True, and {optimizer.__name__} takes no "
            "sparse gradients: set sparse=False, or optimizer=torch.optim.SGD or "
            "torch.optim.Adagrad"
        )
    for layer in module.modules():
        layer.training = not isinstance(layer, nn.modules.batchnorm._NormBase)
    drive(module, Recorder())
    with torch.enable_grad(), PrivateGlobals(3):
        output = call(module, x)
    if not output.requires_grad:
        raise ValueError(
            f"no gradient reaches the parameters of {name} from its outputs in training mode: "
            "they are integers, detached, or computed under torch.no_grad. Return logits or "
            "parameters of a distribution in floating point; or set max_epochs=0 to take the "
            "network as it is"
        )


def hint_at_channels(module: nn.Module, x: Tensor) -> str:
    """Explain how to add the axis of channels, if rows of a convolution lack it; else ""."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            if x.ndim == len(layer.kernel_size) + 1:
                return (
                    f" {type(layer).__name__} takes an axis of channels before the others, which "
                    "X lacks: give X[:, None]."
                )
            break
    return ""

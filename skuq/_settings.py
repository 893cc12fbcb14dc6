"""How networks are trained, and what is true of every training: one by one, or as a stack."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skuq._batches import Rows
from skuq._network import Numerics, call, first_rows
from skuq._random import Purpose, derive_seed, generator
from skuq.exceptions import DivergedError

__all__ = ["Settings", "Trained", "check_loss", "check_trained", "network_state"]


@dataclass(frozen=True)
class Settings:
    """How a network is trained: the estimator's parameters, with nothing left to decide."""

    optimizer: type[torch.optim.Optimizer]
    lr: float
    max_epochs: int
    batch_size: int
    patience: int | None  # epochs without improvement before early stopping; None: never
    callbacks: Any
    verbose: int
    compile: bool | str  # the mode of torch.compile
    numerics: Numerics
    net_options: dict[str, Any]  # optimizer__*, callbacks__*
    train_options: dict[str, Any]  # iterator_train__*, without the prefix
    valid_options: dict[str, Any]


@dataclass
class Trained:
    """A trained network and what going on with its training needs."""

    module: nn.Module
    history: list[dict]
    state: dict[str, Any] = field(default_factory=dict)


def network_state(root: int, network: int, settings: Settings) -> dict[str, Any]:
    """The generators of a network: they depend on the seed of the fit and its number alone."""
    device = settings.numerics.device
    return {
        "shuffling": generator(derive_seed(root, Purpose.SHUFFLING, network)),
        "dropout": generator(derive_seed(root, Purpose.DROPOUT, network), device),
        "other": None,
    }


def check_loss(prefix: str, loss: float, epoch: int, lr: float, network: int = 0) -> None:
    """Raise a `DivergedError` if a mean loss is not finite."""
    if not math.isfinite(loss):
        whose = f"network {network}: " if network else ""
        raise DivergedError(
            f"{whose}the {prefix} loss is {loss} in epoch {epoch}: training diverged. Lower lr "
            f"(now {lr}), scale the features, or clip gradients with skorch's "
            "GradientNormClipping callback."
        )


def check_trained(module: nn.Module, train: Rows, settings: Settings) -> None:
    """Put a trained module in order; DivergedError if a weight is not finite."""
    module.eval().zero_grad(set_to_none=True)
    for layer in module.modules():  # what a forward leaves behind must not hold a graph
        for name, value in vars(layer).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(layer, name, value.detach())
    with torch.no_grad():
        call(module, first_rows(train.X, 2).to(settings.numerics.device), settings.numerics)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not bool(torch.isfinite(tensor).all()):
            raise DivergedError(
                f"'{name}' holds NaN or infinity after training: training diverged. "
                f"Lower lr (now {settings.lr}) or scale the features."
            )

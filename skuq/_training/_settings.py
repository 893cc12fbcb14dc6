"""How networks are trained: the settings, the generators, and the result of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from skuq._data._batches import Batch
from skuq._data._views import viewed
from skuq._networks._module import Numerics
from skuq._networks._refusals import sparse_layers
from skuq._training._checkpoints import Checkpoints
from skuq._utils._devices import same_device
from skuq._utils._random import PrivateGlobals, Purpose, derive_seed, generator

__all__ = [
    "Interrupted",
    "Settings",
    "Trained",
    "may_fuse",
    "network_state",
    "training_state",
]


_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)


@dataclass(frozen=True)
class Settings:
    """How a network is trained: the estimator's parameters, with all choices made."""

    optimizer: type[torch.optim.Optimizer]
    lr: float
    max_epochs: int
    batch_size: int
    patience: int | None  # epochs without improvement before early stopping; None: never
    callbacks: Any
    verbose: int
    compile: bool | str  # the mode of torch.compile
    numerics: Numerics
    devices: Sequence[torch.device]  # the first one is the device of `numerics`
    net_options: dict[str, Any]  # optimizer__*, callbacks__*
    train_options: dict[str, Any]  # iterator_train__*, without the prefix
    valid_options: dict[str, Any]
    checkpoints: Checkpoints | None = None
    keeps_interrupted: bool = False  # whether Ctrl-C keeps finished networks and epochs
    views: Sequence[Any] = ()  # of images, which change the batches of training
    repeatable: bool = False  # whether a random_state promises the same fit each time
    # Maps the share of the epochs that is over, in [0, 1), to a factor of all learning rates.
    schedule: Callable[[float], float] | None = None
    likelihood_is_loss: bool = False  # trains with the true likelihood, not a likelihood's `loss`

    @property
    def change(self) -> Callable[[Batch, torch.Generator], Batch] | None:
        """The function that changes a batch of training, if there is one."""
        if not self.views:
            return None
        return lambda batch, generator: viewed(batch, self.views, generator)

    @property
    def n_batch_rows(self) -> int:
        """The number of rows of a batch, if there are enough."""
        return self.train_options.get("batch_size") or self.batch_size


@dataclass
class Trained:
    """A trained network, and the state from which its training can go on."""

    module: nn.Module
    history: list[dict[str, Any]]
    state: dict[str, Any] = field(default_factory=dict)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C arrived after at least one finished epoch, which can be kept.

    Attributes
    ----------
    trained : list of Trained
        The networks after their last whole epoch.
    finished : list of bool
        For each network, whether early stopping had ended its training.
    """

    def __init__(self, trained: list[Trained], finished: list[bool]) -> None:
        super().__init__()
        self.trained = trained
        self.finished = finished


def network_state(
    root: int, network: int, settings: Settings, private: bool = False, stage: int = 0
) -> dict[str, Any]:
    """Make the generators of a network from the seed of the fit, its number, and the stage.

    With `private`, the global generators are private while it trains. Stage 0 trains the network;
    in later stages a posterior explores from there.
    """
    device, more = settings.numerics.device, (stage,) if stage else ()
    seed = derive_seed(root, Purpose.OTHER, network, *more)
    return {
        "shuffling": generator(derive_seed(root, Purpose.SHUFFLING, network, *more)),
        "dropout": generator(derive_seed(root, Purpose.DROPOUT, network, *more), device),
        "other": PrivateGlobals(seed, of_training=True) if private else None,
    }


def may_fuse(module: nn.Module, settings: Settings) -> bool:
    """Return whether one kernel may step all parameters, and the user has not chosen otherwise.

    torch has no such kernel for complex parameters and for sparse gradients.
    """
    chosen = {f"optimizer__{n}" for n in ("foreach", "fused", "differentiable", "capturable")}
    return (
        settings.optimizer in _FUSED
        and settings.numerics.device.type in ("cpu", "cuda")
        and all(parameter.is_floating_point() for parameter in module.parameters())
        and not sparse_layers(module)
        and not chosen & set(settings.net_options)
    )


def training_state(
    root: int,
    network: int,
    settings: Settings,
    private: bool,
    before: Trained | None,
    stage: int = 0,
) -> dict[str, Any]:
    """Return the state from which training goes on, or a new `network_state`.

    A generator cannot move to another device; a new one takes its place there.
    """
    begun = network_state(root, network, settings, private, stage)
    if before is None or not before.state:
        return begun
    state, device = dict(before.state), settings.numerics.device
    if not same_device(state["dropout"].device, device):
        seed = derive_seed(root, Purpose.DROPOUT, network, len(before.history))
        state["dropout"] = generator(seed, device)
    state["other"] = state["other"] or begun["other"]
    return state

"""How networks are trained, and what is true of every training: one by one, or as a stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._networks._module import Numerics, call
from skuq._networks._precision import not_finite
from skuq._networks._refusals import sparse_layers
from skuq._training._checkpoints import Checkpoints
from skuq._utils._devices import same_device
from skuq._utils._random import PrivateGlobals, Purpose, derive_seed, generator
from skuq.exceptions import DivergedError

__all__ = [
    "Gradients",
    "Interrupted",
    "Settings",
    "Trained",
    "check_losses",
    "check_trained",
    "gradient_norms",
    "may_fuse",
    "network_state",
    "training_state",
]


_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)


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
    devices: Sequence[torch.device]  # of which that of `numerics` is the first
    net_options: dict[str, Any]  # optimizer__*, callbacks__*
    train_options: dict[str, Any]  # iterator_train__*, without the prefix
    valid_options: dict[str, Any]
    checkpoints: Checkpoints | None = None
    keeps_interrupted: bool = False  # whether Ctrl-C leaves what is finished
    repeatable: bool = False  # whether a random_state promises the same fit again

    @property
    def n_batch_rows(self) -> int:
        """Rows of a batch, where there are as many."""
        return self.train_options.get("batch_size") or self.batch_size


@dataclass
class Trained:
    """A trained network and what going on with its training needs."""

    module: nn.Module
    history: list[dict[str, Any]]
    state: dict[str, Any] = field(default_factory=dict)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C arrived when something could be kept.

    Attributes
    ----------
    trained : list of Trained
        The networks as they were after their last epoch.
    finished : list of bool
        Whether early stopping had ended the training of each.
    """

    def __init__(self, trained: list[Trained], finished: list[bool]) -> None:
        super().__init__()
        self.trained = trained
        self.finished = finished


def network_state(
    root: int, network: int, settings: Settings, private: bool = False, stage: int = 0
) -> dict[str, Any]:
    """The generators of a network: from the seed of the fit, its number, and the stage.

    `private` says that the global ones must be private while it trains. Stage 0 trains it; in later
    ones a posterior explores from there.
    """
    device, more = settings.numerics.device, (stage,) if stage else ()
    seed = derive_seed(root, Purpose.OTHER, network, *more)
    return {
        "shuffling": generator(derive_seed(root, Purpose.SHUFFLING, network, *more)),
        "dropout": generator(derive_seed(root, Purpose.DROPOUT, network, *more), device),
        "other": PrivateGlobals(seed, of_training=True) if private else None,
    }


def may_fuse(module: nn.Module, settings: Settings) -> bool:
    """Whether one kernel may step all parameters, and the user has not chosen how they are.

    torch has none for complex parameters and for sparse gradients.
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
    """`network_state`, or where training goes on, that which it left.

    A generator cannot move to another device: there, a new one takes its place.
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


def gradient_norms(module: nn.Module, n_networks: int | None = None) -> Tensor:
    """The Euclidean norm of the gradient; of a stack, of each network. Nobody waits for it."""
    gradients = [p.grad.detach() for p in module.parameters() if p.grad is not None]
    gradients = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    if n_networks is None:
        return torch.nn.utils.get_total_norm(gradients)
    each = [gradient.reshape(n_networks, -1).norm(dim=1) for gradient in gradients]
    return torch.stack(each).norm(dim=0) if each else torch.zeros(n_networks)


@dataclass
class Gradients:
    """The norms in the first steps of the last two epochs: one per epoch costs next to nothing."""

    last: list[tuple[int, Tensor]] = field(default_factory=list)

    def add(self, epoch: int, norms: Tensor) -> None:
        self.last = [*self.last[-1:], (epoch, norms)]

    def known(self, index: int | None = None) -> tuple[float, str]:
        """The last finite norm, of one network of a stack, and in words where it was."""
        norm, words = math.nan, "is not known"
        for epoch, norms in self.last:
            found = float(norms if index is None else norms[index])
            if math.isfinite(found) or not math.isfinite(norm):
                norm, words = found, f"was {found:.3g} in batch 1 of epoch {epoch}"
        return norm, words


def check_losses(
    prefix: str,
    loss: float,
    each: Tensor,
    epoch: int,
    settings: Settings,
    gradients: Gradients,
    index: int | None = None,
) -> None:
    """Raise a `DivergedError` if a mean loss is not finite.

    Parameters
    ----------
    prefix : "train" or "valid"
    loss : float
    each : Tensor of shape (n_batches,)
        The losses that it is the mean of.
    epoch : int
    settings : Settings
    gradients : Gradients
    index : int, default=None
        Of a network in a stack.
    """
    if math.isfinite(loss):
        return
    batch = 1 + int((~torch.isfinite(each)).int().argmax())
    norm, words = gradients.known(index)
    raise DivergedError(
        f"the {prefix} loss is {float(each[batch - 1])} in batch {batch} of {len(each)} of epoch "
        f"{epoch}; the gradient norm {words}: training diverged. {_mend(settings)}",
        epoch=epoch,
        batch=batch,
        gradient_norm=norm,
    )


def _mend(settings: Settings) -> str:
    return (
        f"Lower lr (now {settings.lr}), scale the features, or clip gradients with skorch's "
        "GradientNormClipping callback."
    )


def check_trained(
    module: nn.Module, train: Rows, settings: Settings, history: list[dict[str, Any]], norm: float
) -> None:
    """Put a trained module in order; DivergedError if a weight is not finite.

    `norm` is that of the gradient in the last step.
    """
    module.eval().zero_grad(set_to_none=True)
    for layer in module.modules():  # what a forward leaves behind must not hold a graph
        for name, value in vars(layer).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(layer, name, value.detach())
    with torch.no_grad():
        call(module, train.first(2).to(settings.numerics.device), settings.numerics)
    bad = not_finite(module)
    if bad is not None:
        epoch, batch = history[-1]["epoch"], int(history[-1]["train_batch_count"])
        raise DivergedError(
            f"'{bad}' holds NaN or infinity after training, that is after batch {batch} of "
            f"epoch {epoch}, with a gradient norm of {norm:.3g}: training diverged. "
            f"{_mend(settings)}",
            epoch=epoch,
            batch=batch,
            gradient_norm=norm,
        )

"""Stop a training that diverges: losses or weights are not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Rows
from skuq._networks._module import call
from skuq._networks._precision import not_finite
from skuq._training._settings import Settings
from skuq.exceptions import DivergedError

__all__ = ["Gradients", "check_losses", "check_trained", "gradient_norms"]


def gradient_norms(module: nn.Module, n_networks: int | None = None) -> Tensor:
    """Compute the Euclidean norm of the gradient, on the device; for a stack, of each network."""
    gradients = [p.grad.detach() for p in module.parameters() if p.grad is not None]
    gradients = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    if n_networks is None:
        return torch.nn.utils.get_total_norm(gradients)
    each = [gradient.reshape(n_networks, -1).norm(dim=1) for gradient in gradients]
    return torch.stack(each).norm(dim=0) if each else torch.zeros(n_networks)


@dataclass
class Gradients:
    """Gradient norms of the first step of the last two epochs: one norm per epoch is cheap."""

    last: list[tuple[int, Tensor]] = field(default_factory=list)

    def add(self, epoch: int, norms: Tensor) -> None:
        self.last = [*self.last[-1:], (epoch, norms)]

    def known(self, index: int | None = None) -> tuple[float, str]:
        """Return the last finite norm, and say where it was; `index` is a network of a stack."""
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
        The mean loss of the epoch.
    each : Tensor of shape (n_batches,)
        The loss of each batch.
    epoch : int
        The number of the epoch.
    settings : Settings
        The message suggests changes of these.
    gradients : Gradients
        Known gradient norms, for the message.
    index : int, default=None
        The place of the network in a stack.
    """
    if math.isfinite(loss):
        return
    batch = 1 + int((~torch.isfinite(each)).int().argmax())
    norm, words = gradients.known(index)
    raise DivergedError(
        f"the {prefix} loss is {float(each[batch - 1])} in batch {batch} of {len(each)} of epoch "
        f"{epoch}; the gradient norm {words}: training diverged. {_advice(settings)}",
        epoch=epoch,
        batch=batch,
        gradient_norm=norm,
    )


def _advice(settings: Settings) -> str:
    return (
        f"Lower lr (now {settings.lr}), scale the features, or clip gradients with skorch's "
        "GradientNormClipping callback."
    )


def check_trained(
    module: nn.Module, train: Rows, settings: Settings, history: list[dict[str, Any]], norm: float
) -> None:
    """Prepare a trained module for use; DivergedError if a weight is not finite.

    `norm` is the norm of the gradient in the last step.
    """
    module.eval().zero_grad(set_to_none=True)
    for layer in module.modules():  # tensors that a forward left as attributes may hold a graph
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
            f"{_advice(settings)}",
            epoch=epoch,
            batch=batch,
            gradient_norm=norm,
        )

"""Parts of skorch's net that need only torch: the criterion, and default options."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from skuq._data._places import row_losses
from skuq._training._settings import Settings, may_fuse
from skuq.likelihoods import Likelihood

__all__ = ["Criterion", "unless_chosen"]


class Criterion(nn.Module):
    """The weighted loss of each row: the training loss in training mode, else the true NLL.

    With `likelihood_is_loss` it is the true NLL in both.
    """

    def __init__(self, likelihood: Likelihood, likelihood_is_loss: bool = False) -> None:
        super().__init__()
        self.likelihood = likelihood
        self._has_own_loss = not likelihood_is_loss

    def forward(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        likelihood, trains = self.likelihood, self.training and self._has_own_loss
        rule = likelihood.loss if trains else likelihood.negative_log_likelihood
        return row_losses(rule, output, target, weight)


def unless_chosen(module: nn.Module, settings: Settings) -> dict[str, Any]:
    """Return options that the user did not choose: the fused optimizer, the mode of compiling."""
    options: dict[str, Any] = {}
    if isinstance(settings.compile, str):
        options["compile__mode"] = settings.compile
    if may_fuse(module, settings):
        options["optimizer__fused"] = True
    return options

"""Parts of skorch's net that need only torch: the criterion, and default options."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from skuq._data._places import row_losses
from skuq._training._settings import Settings, may_fuse
from skuq.likelihoods import Likelihood

__all__ = ["Criterion", "unless_chosen"]


class Criterion(nn.Module):
    """The weighted loss of each row: the training loss in training mode, else the true NLL."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        rule = self.likelihood.loss if self.training else self.likelihood.negative_log_likelihood
        return row_losses(rule, output, target, weight)


def unless_chosen(module: nn.Module, settings: Settings) -> dict[str, Any]:
    """Return options that the user did not choose: the fused optimizer, the mode of compiling."""
    options: dict[str, Any] = {}
    if isinstance(settings.compile, str):
        options["compile__mode"] = settings.compile
    if may_fuse(module, settings):
        options["optimizer__fused"] = True
    return options

"""What skorch's net is made of, in terms of torch only: the criterion, and default options."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from skuq._training._settings import Settings, may_fuse
from skuq.likelihoods import Likelihood

__all__ = ["Criterion", "unless_chosen"]


class Criterion(nn.Module):
    """The weighted losses of rows, in the form that skorch calls: in training those that the
    likelihood trains with, else the true NLL."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        rule = self.likelihood.loss if self.training else self.likelihood.negative_log_likelihood
        losses: Tensor = rule(output, target)
        return losses if weight is None else weight * losses


def unless_chosen(module: nn.Module, settings: Settings) -> dict[str, Any]:
    """Options of the net where the user chose none: the fused optimizer, the mode of compiling."""
    options: dict[str, Any] = {}
    if isinstance(settings.compile, str):
        options["compile__mode"] = settings.compile
    if may_fuse(module, settings):
        options["optimizer__fused"] = True
    return options

"""Training of dropout layers with learnt rates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skuq._data._batches import Batch
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem
from skuq.modules import ConcreteDropout

__all__ = ["learning_rates_of_dropout"]


def learning_rates_of_dropout(problem: Problem) -> dict[str, Any]:
    """Return the options of `Problem.train` for a network with `ConcreteDropout`; else none.

    Raises
    ------
    ValueError
        If the likelihood has one noise level for all rows, which is not known in training.
    """
    if not _layers(problem.untrained()):
        return {}
    if not problem.knows_noise:
        raise ValueError(
            f"ConcreteDropout weighs the likelihood against its prior, but {problem.likelihood} "
            "learns its noise only after training: let the network predict the noise "
            "(heteroscedastic=True), or use nn.Dropout"
        )
    return {"hooks": [_Divergences(problem.n_rows)], "likelihood_is_loss": True}


def _layers(module: nn.Module) -> list[ConcreteDropout]:
    return [layer for layer in module.modules() if isinstance(layer, ConcreteDropout)]


class _Divergences(TrainingHook):
    """Adds the divergence of all layers from their priors, divided by the amount of data."""

    def __init__(self, n_rows: float) -> None:
        self._n_rows = n_rows

    def penalty(self, module: nn.Module, batch: Batch) -> Tensor:
        return torch.stack([layer.divergence() for layer in _layers(module)]).sum() / self._n_rows

"""A summary of a network: outputs, last layer, dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skuq._networks._dropout import dropout_layers
from skuq._networks._inserted import inserted_dropout
from skuq._networks._layer_calls import linear_layers, watch_layers
from skuq._networks._module import Numerics, call, private_copy
from skuq._networks._names import name_of_module

__all__ = ["NetworkSummary", "summarise"]

_NONE = "no dropout layers"


@dataclass(frozen=True)
class NetworkSummary:
    """A summary of a network; ``print`` shows it in one line.

    Attributes
    ----------
    name : str
        The name of its class.
    n_parameters : int
        The number of weights and biases.
    n_outputs : int
        The number of raw outputs of a row.
    last_layer : str or None
        The name of the ``nn.Linear`` whose output is the network's output; None if there is none.
    dropout_layers : dict of str to float
        Names and rates of the network's own ``nn.Dropout*`` layers.
    inserted_dropout : dict of str to float
        Names of the layers before which `MCDropout` inserted dropout, and its rate.
    """

    name: str
    n_parameters: int
    n_outputs: int
    last_layer: str | None
    dropout_layers: dict[str, float]
    inserted_dropout: dict[str, float]

    def __str__(self) -> str:
        last = "no nn.Linear at its end"
        if self.last_layer is not None:
            last = f"last layer {self.last_layer!r}"
        parts = [
            f"{self.n_outputs} output{'s' * (self.n_outputs != 1)}",
            f"{self.n_parameters:,} parameters",
            last,
        ]
        dropout = {"dropout layers": {n: p for n, p in self.dropout_layers.items() if p > 0}}
        dropout["dropout inserted before"] = self.inserted_dropout
        for what, rates in dropout.items():
            if rates:
                parts.append(f"{what} " + ", ".join(f"{n!r} (p = {p:g})" for n, p in rates.items()))
        return f"{self.name}: {', '.join(parts if any(dropout.values()) else [*parts, _NONE])}"


def summarise(module: nn.Module, x: Tensor, numerics: Numerics) -> NetworkSummary:
    """Summarise a network.

    Parameters
    ----------
    module : nn.Module
        The network; it is not changed.
    x : Tensor of shape (n_rows, ...)
        Some rows.
        numerics : Numerics
            Device and precision.
    """
    shell = private_copy(module)
    with torch.no_grad(), watch_layers(linear_layers(shell)) as linear:
        output = call(shell, x, numerics)
    inserted = inserted_dropout(module)
    put_in = {f"{name}.inserted_dropout".lstrip(".") for name in inserted}
    return NetworkSummary(
        name=name_of_module(module),
        n_parameters=sum(p.numel() for p in module.parameters()),
        n_outputs=output.shape[1],
        last_layer=linear.last_layer(output),
        dropout_layers={n: m.p for n, m in dropout_layers(module).items() if n not in put_in},
        inserted_dropout=inserted,
    )

"""Small networks: the default network of the estimators."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

__all__ = ["MLP"]

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}


class MLP(nn.Sequential):
    """A multilayer perceptron: blocks of linear layer, activation and dropout, then a linear layer.

    Parameters
    ----------
    n_features : int
        Number of inputs of a row; a row of more dimensions is flattened.
    n_outputs : int
        Number of raw outputs.
    hidden_layer_sizes : int or sequence of int, default=(100, 100)
        Number of units in each hidden layer; an integer makes one layer.
    dropout : float in [0, 1], default=0.0
        Rate of the dropout after each hidden layer. Estimators that build their default network
        for `MCDropout` set 0.1.
    activation : {"silu", "relu", "tanh", "gelu"}, default="silu"
        Function that follows each hidden linear layer.

    Examples
    --------
    >>> import torch
    >>> from skuq.modules import MLP
    >>> MLP(n_features=4, n_outputs=3, hidden_layer_sizes=(16,))(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        hidden_layer_sizes: int | Sequence[int] = (100, 100),
        dropout: float = 0.0,
        activation: str = "silu",
    ) -> None:
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {sorted(_ACTIVATIONS)}, got {activation!r}"
            )
        sizes = (hidden_layer_sizes,) if isinstance(hidden_layer_sizes, int) else hidden_layer_sizes
        if any(size < 1 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be positive, got {hidden_layer_sizes!r}")
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in zip((n_features, *sizes), sizes):
            layers += [nn.Linear(n_in, n_out), _ACTIVATIONS[activation](), nn.Dropout(dropout)]
        super().__init__(*layers, nn.Linear((n_features, *sizes)[-1], n_outputs))

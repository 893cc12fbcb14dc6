"""Multilayer perceptrons: `skuq.modules.MLP`, and `skuq.modules.TabularMLP` for mixed tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["MLP", "TabularMLP"]

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
_MOST_DIMENSIONS = 16  # of an embedding


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


class TabularMLP(nn.Module):
    """A multilayer perceptron for tables of numbers and categories, with an embedding of each.

    Estimators call it with the columns of a data frame: floats, and codes of the categorical
    columns (of type category, or with text). Codes 1, 2, … are the categories that `fit` has seen,
    sorted; a missing value is one of them, the last, if `fit` has seen any. Code 0 stands for all
    others. Its embedding [1]_ is not trained: it stays random, and another one in each member of a
    `skuq.posteriors.DeepEnsemble`, so that members differ on what they have not seen.

    It is the default network for such data frames.

    Parameters
    ----------
    n_numbers : int
        Number of columns of floats. Scale them as for any network.
    n_outputs : int
        Number of raw outputs.
    n_categories : sequence of int, default=()
        Number of codes of each categorical column, code 0 included.
    hidden_layer_sizes : int or sequence of int, default=(100, 100)
        Number of units in each hidden layer; an integer makes one layer.
    dropout : float in [0, 1], default=0.0
        Rate of the dropout after each hidden layer.
    activation : {"silu", "relu", "tanh", "gelu"}, default="silu"
        Function that follows each hidden linear layer.
    embedding_size : int, default=None
        Number of dimensions of each embedding. None: the root of the number of its codes, rounded
        up, plus one, but at most 16.

    Raises
    ------
    ValueError
        If a size is not positive, or there is no input.

    References
    ----------
    .. [1] C. Guo, F. Berkhahn, "Entity Embeddings of Categorical Variables", 2016,
       arXiv:1604.06737.

    Examples
    --------
    >>> import torch
    >>> from skuq.modules import TabularMLP
    >>> network = TabularMLP(n_numbers=2, n_outputs=3, n_categories=(4, 6))
    >>> network(torch.zeros(5, 2), torch.ones(5, 2, dtype=torch.long)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        n_numbers: int,
        n_outputs: int,
        n_categories: Sequence[int] = (),
        hidden_layer_sizes: int | Sequence[int] = (100, 100),
        dropout: float = 0.0,
        activation: str = "silu",
        embedding_size: int | None = None,
    ) -> None:
        super().__init__()
        sizes = [
            min(_MOST_DIMENSIONS, math.ceil(math.sqrt(n)) + 1)
            if embedding_size is None
            else embedding_size
            for n in n_categories
        ]
        if n_numbers + len(sizes) < 1 or min([*sizes, *n_categories, 1]) < 1:
            raise ValueError(
                "expected at least one column, and positive sizes, got "
                f"n_numbers={n_numbers}, n_categories={tuple(n_categories)} and "
                f"embedding_size={embedding_size}"
            )
        self.embeddings = nn.ModuleList(nn.Embedding(n, d) for n, d in zip(n_categories, sizes))
        self.perceptron = MLP(
            n_numbers + sum(sizes), n_outputs, hidden_layer_sizes, dropout, activation
        )

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Compute the outputs of rows.

        Parameters
        ----------
        numbers : Tensor of shape (n, n_numbers)
            The columns of floats.
        codes : Tensor of shape (n, n_categorical_columns), default=None
            The codes of the categories, int64; None if there is no such column.

        Returns
        -------
        Tensor of shape (n, n_outputs)
            The raw outputs.
        """
        parts = [numbers]
        if codes is not None:
            parts += [embed(codes[..., k]) for k, embed in enumerate(self.embeddings)]
        outputs: Tensor = self.perceptron(torch.cat(parts, dim=-1))
        return outputs

"""Small networks: the default network of the estimators, and a layer for your own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["MLP", "RandomFeatures"]

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
    dropout : float in [0, 1], default=0.1
        Rate of the dropout after each hidden layer.
    activation : {"relu", "tanh", "gelu", "silu"}, default="relu"
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
        dropout: float = 0.1,
        activation: str = "relu",
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


class RandomFeatures(nn.Module):
    """Random cosine features of a Gaussian process with the squared-exponential kernel [1]_.

    The features are φ(x) = √2 cos(W x / ℓ + b), with standard normal W and b uniform in [0, 2π),
    drawn once and never trained. Then φ(x) · φ(x') / n_outputs is about exp(−|x − x'|² / (2 ℓ²)).

    A linear layer on such features of a distance-preserving network is a spectral-normalised neural
    Gaussian process (SNGP [2]_): put ``torch.nn.utils.parametrizations.spectral_norm`` on the
    hidden layers, this layer before the last ``nn.Linear``, and use `LastLayerLaplace`. Far from
    the data, features are new, so predictions become uncertain. The default prior of
    `LastLayerLaplace` gives such a process a variance of ⅓.

    Parameters
    ----------
    n_inputs : int
        Number of inputs of a row.
    n_outputs : int, default=256
        Number of features.
    lengthscale : float > 0, default=1.0
        The distance ℓ between inputs over which the kernel falls.

    Raises
    ------
    ValueError
        If a parameter is not positive.

    References
    ----------
    .. [1] A. Rahimi, B. Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007.
    .. [2] J. Liu, Z. Lin, S. Padhy, D. Tran, T. Bedrax-Weiss, B. Lakshminarayanan, "Simple and
       Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness",
       NeurIPS 2020, arXiv:2006.10108.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from torch.nn.utils.parametrizations import spectral_norm
    >>> from skuq.modules import RandomFeatures
    >>> network = nn.Sequential(
    ...     spectral_norm(nn.Linear(2, 32)), nn.ReLU(), RandomFeatures(32), nn.Linear(256, 3)
    ... )
    >>> network(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    weight: Tensor
    shift: Tensor

    def __init__(self, n_inputs: int, n_outputs: int = 256, lengthscale: float = 1.0) -> None:
        super().__init__()
        if n_inputs < 1 or n_outputs < 1 or lengthscale <= 0:
            raise ValueError(
                "n_inputs, n_outputs and lengthscale of RandomFeatures must be positive, got "
                f"{n_inputs}, {n_outputs} and {lengthscale}"
            )
        self.register_buffer("weight", torch.randn(n_outputs, n_inputs) / lengthscale)
        self.register_buffer("shift", 2 * torch.pi * torch.rand(n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features.

        Parameters
        ----------
        x : Tensor of shape (..., n_inputs)
            The inputs.

        Returns
        -------
        Tensor of shape (..., n_outputs)
            The features, between −√2 and √2.
        """
        return 2**0.5 * torch.cos(nn.functional.linear(x, self.weight, self.shift))

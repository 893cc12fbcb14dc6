"""Small networks: the default networks of the estimators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

__all__ = ["MLP", "UNet"]

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


class UNet(nn.Module):
    """A small U-Net [1]_: an encoder and a decoder of convolutions, joined at each resolution.

    A block is twice: a 3×3 convolution, BatchNorm, ReLU and, in some blocks, ``nn.Dropout2d``,
    which drops whole channels. So its masks do not depend on the size of an image. Images of any
    size are padded inside, by repeating their borders, to a multiple of 2 to the power of `depth`;
    outputs have the size of the image.

    Parameters
    ----------
    n_channels : int
        Number of channels of an image.
    n_outputs : int
        Number of raw outputs for each pixel.
    base_width : int, default=16
        Number of channels of the first block; each level below has twice as many.
    depth : int, default=3
        How often the encoder halves height and width.
    dropout : float in [0, 1), default=0.1
        Rate of the dropout after each convolution of the blocks that have one.
    dropout_blocks : int, default=1
        Number of blocks with dropout, counted from the output: 1 is the last block of the decoder,
        ``2 * depth + 1`` are all blocks. `skuq.posteriors.MCDropout` computes everything before the
        first dropout only once for all draws, so fewer blocks make predictions cheaper.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
       Segmentation", MICCAI 2015, arXiv:1505.04597.

    Examples
    --------
    >>> import torch
    >>> from skuq.modules import UNet
    >>> UNet(n_channels=3, n_outputs=5, base_width=4, depth=2)(torch.zeros(2, 3, 30, 41)).shape
    torch.Size([2, 5, 30, 41])
    """

    def __init__(
        self,
        n_channels: int,
        n_outputs: int,
        base_width: int = 16,
        depth: int = 3,
        dropout: float = 0.1,
        dropout_blocks: int = 1,
    ) -> None:
        super().__init__()
        if base_width < 1 or depth < 0 or dropout_blocks < 0:
            raise ValueError(
                "base_width must be at least 1, depth and dropout_blocks at least 0, got "
                f"{base_width}, {depth} and {dropout_blocks}"
            )
        widths = [base_width * 2**level for level in range(depth + 1)]
        n_blocks = 2 * depth + 1
        rates = [dropout if n_blocks - k <= dropout_blocks else 0.0 for k in range(n_blocks)]
        self.encoder = nn.ModuleList(
            _block(n_in, n_out, rate)
            for n_in, n_out, rate in zip([n_channels, *widths], widths, rates)
        )
        self.rise = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[-2::-1]
        )
        self.decoder = nn.ModuleList(
            _block(2 * width, width, rate)
            for width, rate in zip(widths[-2::-1], rates[depth + 1 :])
        )
        self.head = nn.Conv2d(base_width, n_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs of images.

        Parameters
        ----------
        x : Tensor of shape (n, n_channels, height, width)
            The images, of any height and width.

        Returns
        -------
        Tensor of shape (n, n_outputs, height, width)
            Raw outputs of each pixel.
        """
        height, width = x.shape[-2:]
        step = 2 ** len(self.rise)
        x = pad(x, (0, -width % step, 0, -height % step), mode="replicate")
        skipped = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else max_pool2d(x, 2))
            skipped.append(x)
        for rise, block, skip in zip(self.rise, self.decoder, skipped[-2::-1]):
            x = block(torch.cat([skip, rise(x)], dim=1))
        outputs: Tensor = self.head(x)
        return outputs[..., :height, :width]


def _block(n_in: int, n_out: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (n_in, n_out):
        layers += [nn.Conv2d(size, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)]
        layers.append(nn.ReLU())
        if dropout > 0:
            layers.append(nn.Dropout2d(dropout))
    return nn.Sequential(*layers)

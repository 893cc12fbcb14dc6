"""Small networks: the default networks of the estimators, and layers for your own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, max_pool2d, pad

from skuq._perceptrons import MLP, TabularMLP

__all__ = ["MLP", "ConcreteDropout", "RandomFeatures", "TabularMLP", "UNet"]


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


class ConcreteDropout(nn.Module):
    """A linear layer or convolution behind dropout whose rate is learnt [1]_.

    Use it in the place of the layer, and `skuq.posteriors.MCDropout`. In training, a mask is 1 − z
    with z = σ((log p / (1 − p) + log u / (1 − u)) / temperature) and u uniform in [0, 1], which is
    almost 0 or 1, and has a gradient in p. `MCDropout` adds to the loss the divergence from the
    prior, divided by the amount of data (the sum of the sample weights). For weights W, K inputs
    and the prior N(0, s²) of a weight, it is, up to a constant,

        |W|² / (2 s² (1 − p)) − K H(p),    H(p) = −p log p − (1 − p) log(1 − p),

    so the rate falls as data grow. After training, masks are 0 or 1, with the learnt rate.

    Parameters
    ----------
    layer : nn.Linear, nn.Conv1d, nn.Conv2d or nn.Conv3d
        The layer. Before a convolution, whole channels are dropped.
    p : float in (0, 1), default=0.1
        The rate at the start.
    prior_scale : float > 0, default=3.0
        The standard deviation s of the prior, times the root of the fan-in of the layer.
    temperature : float > 0, default=0.1
        How far masks of training are from 0 and 1.

    Attributes
    ----------
    layer : nn.Module
        The layer.
    dropout : nn.Module
        The dropout; its ``p`` is the rate, and its parameter ``logit`` is log p / (1 − p).

    Raises
    ------
    ValueError
        If the layer is of another kind, or a number is out of range.

    Notes
    -----
    Under other posteriors, or in a loop of your own, nothing adds `divergence`: the rate then only
    serves the training loss, and falls. Networks with such layers train one after another.

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete Dropout", NeurIPS 2017, arXiv:1705.07832.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from torch import nn
    >>> from skuq import TorchClassifier
    >>> from skuq.modules import ConcreteDropout
    >>> from skuq.posteriors import MCDropout
    >>> class Network(nn.Sequential):
    ...     def __init__(self, n_features, n_outputs):
    ...         super().__init__(
    ...             nn.Linear(n_features, 50), nn.ReLU(), ConcreteDropout(nn.Linear(50, n_outputs))
    ...         )
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TorchClassifier(
    ...     Network, posterior=MCDropout(), lr=0.01, max_epochs=5, random_state=0
    ... ).fit(X, y)
    >>> list(classifier.network_.dropout_layers)
    ['2.dropout']
    """

    def __init__(
        self,
        layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d,
        p: float = 0.1,
        prior_scale: float = 3.0,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise ValueError(
                "layer must be an nn.Linear or an nn.Conv1d to nn.Conv3d, got "
                f"{type(layer).__name__}"
            )
        if not 0 < p < 1:
            raise ValueError(f"p must be in (0, 1), got {p!r}: training needs a rate to begin with")
        if prior_scale <= 0 or temperature <= 0:
            raise ValueError(
                "prior_scale and temperature of ConcreteDropout must be positive, got "
                f"{prior_scale} and {temperature}"
            )
        self.prior_scale = prior_scale
        self.dropout = LearntDropout(p, temperature, channelwise=not isinstance(layer, nn.Linear))
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs of the layer, in training mode from inputs behind a mask.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            The inputs of the layer, with a batch axis.

        Returns
        -------
        Tensor of shape (n, ...)
            The outputs of the layer.
        """
        outputs: Tensor = self.layer(self.dropout(x))
        return outputs

    def divergence(self) -> Tensor:
        """Compute the divergence from the prior, up to a constant.

        Returns
        -------
        Tensor of shape ()
            |W|² / (2 s² (1 − p)) − K H(p), in nats, differentiable in the weights and the rate.
        """
        weight, logit = self.layer.weight, self.dropout.logit
        dropped, kept = logsigmoid(logit), logsigmoid(-logit)  # logarithms of p and 1 − p
        entropy = -(dropped.exp() * dropped + kept.exp() * kept)
        precision = weight[0].numel() / self.prior_scale**2
        return precision / 2 * weight.square().sum() * (-kept).exp() - weight.shape[1] * entropy


class LearntDropout(nn.Module):
    """Dropout with a learnt rate, a part of `ConcreteDropout`.

    Parameters
    ----------
    p : float in (0, 1)
        The rate at the start.
    temperature : float > 0
        How far masks of training are from 0 and 1.
    channelwise : bool
        Whether whole channels, the second axis, are dropped.
    """

    def __init__(self, p: float, temperature: float, channelwise: bool) -> None:
        super().__init__()
        self.temperature = temperature
        self.channelwise = channelwise
        self.logit = nn.Parameter(torch.tensor(p).logit())
        self._fixed: float | None = None

    @property
    def p(self) -> float:
        """The rate: as learnt so far, or as it was set."""
        return float(self.logit.detach().sigmoid()) if self._fixed is None else self._fixed

    @p.setter
    def p(self, p: float) -> None:
        self._fixed = p

    def mask_shape(self, shape: torch.Size) -> tuple[int, ...]:
        """Return the shape of a mask, with its batch axis, for an input of this shape."""
        return (*shape[:2], *(1 for _ in shape[2:])) if self.channelwise else tuple(shape)

    def softly(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Apply the mask of training that belongs to uniform noise."""
        noise = uniform.clamp(1e-7, 1 - 1e-7).logit()
        keep = (-(self.logit + noise) / self.temperature).sigmoid()
        return x * (keep * (1 + self.logit.exp())).to(x.dtype)  # 1 / (1 − p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop inputs in training mode, with noise of the global generator."""
        if not self.training or self.p == 0:
            return x
        like = self.logit
        return self.softly(
            x, torch.rand(self.mask_shape(x.shape), dtype=like.dtype, device=like.device)
        )

    def extra_repr(self) -> str:
        """Describe the rate."""
        return f"p={self.p:.3g}, temperature={self.temperature}"

"""Tiny networks that answer for each pixel, and images with masks for them."""

import numpy as np
from torch import nn

from skuq import TorchSegmenter
from skuq.posteriors import MCDropout

CHEAP = {"max_epochs": 3, "lr": 0.02, "random_state": 0}


class Pixelwise(nn.Sequential):
    """Convolutions of 3 × 3, with dropout of channels."""

    def __init__(self, n_channels, n_outputs, width=5, dropout=0.2):
        super().__init__(
            nn.Conv2d(n_channels, width, 3, padding=1),
            nn.Tanh(),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, n_outputs, 1),
        )


class LinearOfPixels(nn.Module):
    """Linear layers of the channels of a pixel: networks that can be stacked on a CPU."""

    def __init__(self, n_channels, n_outputs, width=6, dropout=0.0):
        super().__init__()
        self.inner = nn.Linear(n_channels, width)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(width, n_outputs)

    def forward(self, x):
        hidden = self.dropout(self.inner(x.movedim(-3, -1)).tanh())
        return self.outer(hidden).movedim(-1, -3)


def images(n=6, n_channels=2, height=6, width=4, seed=0):
    """Images of noise, and masks of three classes that depend on the first channel."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, n_channels, height, width))
    noisy = X[:, 0] + 0.3 * random.normal(size=(n, height, width))
    return X, np.digitize(noisy, [-0.5, 0.5])


def segmenter(posterior=None, **options):
    options = {"precision": "float64", **CHEAP, **options}
    module = options.pop("module", Pixelwise)
    return TorchSegmenter(module, posterior=posterior or MCDropout(4), **options)

"""What stands in the place of masked pixels: the blurred image, or what the rest suggests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["BLURS", "Perturbation", "blur", "blur_width", "called", "fill_in", "mixed_blurs"]

# From images (m, C, H, W) and masks (m, 1, H, W) in [0, 1] to the replacement of the images.
Perturbation = Callable[[Tensor, Tensor], Tensor]

BLURS = (0.5, 1.0, 2.0, 4.0)  # the widths that a learnt blur mixes, as multiples of `blur_width`
_LEAST = 1e-6  # the weight of the mean of all unmasked pixels, where none is near


def blur_width(height: int, width: int) -> float:
    """Return the standard deviation of blurs in pixels: 2 of a side of 28, in proportion."""
    return max(height, width) / 14


def called(perturbation: Perturbation, x: Tensor, mask: Tensor) -> Tensor:
    """Call a user's perturbation, and check what it returns.

    Parameters
    ----------
    perturbation : callable
        The function.
    x, mask : Tensor
        Images of shape (m, n_channels, height, width) and masks of shape (m, 1, height, width).
    """
    made = perturbation(x, mask)
    if not isinstance(made, Tensor) or made.shape != x.shape:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(
            "perturbation must return a tensor of the shape of the images, "
            f"{tuple(x.shape)}, got {got}"
        )
    return made


def _kernel(size: int, sigma: float, like: Tensor) -> Tensor:
    """Return weights of a Gaussian between all places of one axis, of shape (size, size)."""
    at = torch.arange(size, dtype=like.dtype, device=like.device)
    return torch.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2))


def _spread(x: Tensor, sigma: float) -> Tensor:
    """Sum over the neighbours of each pixel, with Gaussian weights."""
    rows, columns = (_kernel(size, sigma, x) for size in x.shape[-2:])
    return rows @ x @ columns


def blur(x: Tensor, sigma: float) -> Tensor:
    """Blur images; at the borders, the weights inside sum to one.

    Parameters
    ----------
    x : Tensor of shape (..., height, width)
        The images.
    sigma : float
        Standard deviation of the Gaussian, in pixels.
    """
    inside = _spread(torch.ones(x.shape[-2:], dtype=x.dtype, device=x.device), sigma)
    return _spread(x, sigma) / inside


def fill_in(x: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Blur what is not masked (a normalised convolution), so that masked pixels leave no trace.

    Parameters
    ----------
    x : Tensor of shape (m, n_channels, height, width)
        The images.
    mask : Tensor of shape (m, 1, height, width)
        1 where pixels are masked, 0 elsewhere.
    sigma : float
        Standard deviation of the Gaussian, in pixels.

    Returns
    -------
    Tensor of shape (m, n_channels, height, width)
        The weighted mean of the unmasked pixels around each pixel. Far from all of them it is
        the mean of all unmasked ones; where everything is masked, the mean of the image.
    """
    keep = 1 - mask
    total, whole = keep.sum((-2, -1), keepdim=True), x.mean((-2, -1), keepdim=True)
    tiny = torch.finfo(x.dtype).tiny
    mean = ((keep * x).sum((-2, -1), keepdim=True) + tiny * whole) / (total + tiny)
    weight = _spread(keep, sigma) + _LEAST
    return (_spread(keep * x, sigma) + _LEAST * mean) / weight


def mixed_blurs(x: Tensor, log_weights: Tensor, sigma: float) -> Tensor:
    """Mix blurs of several widths, with the softmax of learnt numbers as weights.

    Parameters
    ----------
    x : Tensor of shape (m, n_channels, height, width)
        The images.
    log_weights : Tensor of shape (m, len(BLURS))
        The numbers.
    sigma : float
        The width that `BLURS` multiplies.
    """
    weights = log_weights.softmax(1).to(x.dtype)
    each = torch.stack([blur(x, sigma * factor) for factor in BLURS], 1)
    return torch.einsum("mk,mkchw->mchw", weights, each)

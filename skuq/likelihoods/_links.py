"""The link from an unbounded output to a variance, a scale or a rate.

An exponential makes any output positive. But far from the training rows, the outputs of a network
grow, and their exponentials can become a noise of millions. So the link is an exponential up to
some point, then a straight line, up to a bound.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

__all__ = ["LINEAR_FROM", "MOST_NOISE", "positive", "positive_slope"]

LINEAR_FROM = 4.0  # exp(4): 7.4 standard deviations of y
MOST_NOISE = 1e4  # a variance, over the variance of y; a rate, over the mean
_CLAMPED = 30.0  # the least logarithm; also the largest, in a link without a linear part


def positive(raw: Tensor, linear_from: float | None, unit: np.ndarray | None = None) -> Tensor:
    """Map outputs to positive numbers, smoothly.

    exp(s) up to s = c, and the tangent exp(c) (1 + s − c) beyond it, at most `MOST_NOISE`. In a
    unit u it is u times the link of s − log u: bounds are multiples of u, and exp(s) stays exp(s).

    Parameters
    ----------
    raw : Tensor
        Outputs, s.
    linear_from : float or None
        The point c. None gives the exponential of s clamped to [−30, 30], the link of likelihoods
        that older versions fitted, and of outputs that are not standardised.
    unit : ndarray, default=None
        The unit u, which broadcasts against the outputs; None is 1.
    """
    if unit is not None:
        return raw.new_tensor(unit) * positive(raw - raw.new_tensor(np.log(unit)), linear_from)
    if linear_from is None:
        return raw.clamp(-_CLAMPED, _CLAMPED).exp()
    low = raw.clamp(-_CLAMPED, linear_from).exp()
    beyond = (raw - linear_from).clamp(0, _end(linear_from) - linear_from)
    return low + math.exp(linear_from) * beyond


def positive_slope(
    raw: Tensor, linear_from: float | None, unit: np.ndarray | None = None
) -> Tensor:
    """Compute the derivative of `positive`; it is zero where the link is clamped."""
    if unit is not None:
        shifted = raw - raw.new_tensor(np.log(unit))
        return raw.new_tensor(unit) * positive_slope(shifted, linear_from)
    end = _CLAMPED if linear_from is None else _end(linear_from)
    inside = (raw > -_CLAMPED) & (raw < end)
    steepest = raw.clamp(-_CLAMPED, end if linear_from is None else linear_from)
    return steepest.exp() * inside


def _end(linear_from: float) -> float:
    """Return the output at which the straight line reaches the bound."""
    return linear_from - 1 + MOST_NOISE * math.exp(-linear_from)

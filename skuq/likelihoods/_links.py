"""The link from an unbounded output to a variance, a scale or a rate.

An exponential makes any output positive, and outputs near zero are its logarithms. Far from the
training rows a network's outputs grow, and their exponentials with them, to a noise of millions.
So the link goes on as a straight line from some point on, and ends at a bound.
"""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["LINEAR_FROM", "MOST_NOISE", "positive", "positive_slope"]

LINEAR_FROM = 4.0  # exp(4): a standard deviation 7.4 times that of y
MOST_NOISE = 1e4  # a variance, in units of that of y; a rate, in units of the mean
_CLAMPED = 30.0  # no logarithm is smaller; and none is larger in a link that is not linear


def positive(raw: Tensor, linear_from: float | None) -> Tensor:
    """Map outputs to positive numbers, smoothly.

    exp(s) up to s = c, and the tangent exp(c) (1 + s − c) beyond it, at most `MOST_NOISE`.

    Parameters
    ----------
    raw : Tensor
        s.
    linear_from : float or None
        c. None gives the exponential of s clamped to [−30, 30], the link of likelihoods that were
        fitted before there was this one.
    """
    if linear_from is None:
        return raw.clamp(-_CLAMPED, _CLAMPED).exp()
    low = raw.clamp(-_CLAMPED, linear_from).exp()
    beyond = (raw - linear_from).clamp(0, _end(linear_from) - linear_from)
    return low + math.exp(linear_from) * beyond


def positive_slope(raw: Tensor, linear_from: float | None) -> Tensor:
    """The derivative of `positive`: zero where it is clamped."""
    end = _CLAMPED if linear_from is None else _end(linear_from)
    inside = (raw > -_CLAMPED) & (raw < end)
    steepest = raw.clamp(-_CLAMPED, end if linear_from is None else linear_from)
    return steepest.exp() * inside


def _end(linear_from: float) -> float:
    """Where the straight line reaches the bound."""
    return linear_from - 1 + MOST_NOISE * math.exp(-linear_from)

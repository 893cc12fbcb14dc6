"""Distributions of the members of ensembles that skuq has not trained.

Members of such ensembles often give bare numbers: probabilities of exactly 0 or 1, or means
without noise. Such draws have no logits that a temperature could divide, and no density.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from skuq._distributions._mixture import normal_mixture_crps
from skuq._distributions._softmax import Softmax

__all__ = [
    "Belief",
    "Members",
    "NoDensityError",
    "NormalMembers",
    "around",
    "normal_members",
    "whole_of",
]

_HALVINGS = 64  # of the bracket of a quantile


class NoDensityError(ValueError):
    """A distribution has points, so that a likelihood is undefined."""


class Members(Softmax):
    """The probabilities that each member of an ensemble gives, and the ensemble's own answer.

    Parameters
    ----------
    probs : Tensor of shape (n_draws, n_rows, n_classes)
        Probabilities of each member.
    whole : Softmax of batch shape (1, n_rows)
        The answer of the ensemble, which a temperature changes.
    """

    def __init__(self, probs: Tensor, whole: Softmax) -> None:
        super().__init__(probs.clamp(min=np.finfo(float).eps).log())
        self.probs = probs  # exactly the given values, since metrics bin them
        self.whole = whole


def whole_of(predictive: Softmax) -> Softmax:
    """Return the distribution whose logits a calibrator may change: that of the ensemble."""
    whole: Softmax = getattr(predictive, "whole", predictive)
    return whole


def around(probs: Any, centre: Any) -> Any:
    """Move probabilities of members so that their mean is `centre`.

    Each becomes centre + c (p − p̄). The factor c of a row is 1, or the largest number at which no
    probability is negative.

    Parameters
    ----------
    probs : ndarray or Tensor of shape (n_draws, n_rows, n_classes)
        Probabilities of each member.
    centre : array of the same kind, of shape (n_rows, n_classes)
        The new mean.
    """
    deviation = torch.as_tensor(probs) - torch.as_tensor(probs).mean(0)
    middle = torch.as_tensor(centre)
    room = torch.where(deviation < 0, middle / -deviation, torch.inf)
    share = room.amin(-1).amin(0).clamp(max=1)[:, None]
    moved = (middle + share * deviation).clamp(min=0)
    return moved if isinstance(probs, Tensor) else moved.numpy()


class NormalMembers(Normal):
    """Normal distributions of which some have no spread: members that give only a mean.

    Parameters
    ----------
    mean, std : Tensor of shape (n_draws, n_rows, n_targets)
        Moments; a std of 0 is a point.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__(mean, std, validate_args=False)

    def cdf(self, value: Tensor) -> Tensor:
        distance = value - self.loc
        beyond = torch.where(distance >= 0, torch.inf, -torch.inf).to(distance.dtype)
        share: Tensor = torch.special.ndtr(
            torch.where(self.scale > 0, distance / self.scale, beyond)
        )
        return share

    def icdf(self, value: Tensor) -> Tensor:
        quantile: Tensor = self.loc + self.scale * torch.special.ndtri(value)
        return quantile

    def log_prob(self, value: Tensor) -> Tensor:
        raise NoDensityError(
            "some members of the ensemble predict a number without noise, so y has no density and "
            "no likelihood. Use the CRPS or the coverage of intervals; or members that know their "
            "noise, such as trees with min_samples_leaf above 1"
        )

    def quantile_of_mixture(self, level: Tensor) -> Tensor:
        """Find the least number at which the mean distribution function reaches the level."""
        shape = self.loc.shape[1:]
        level = level.expand(*level.shape[: max(0, level.ndim - len(shape))], *shape)
        axis = -1 - len(shape)  # of the draws
        if not bool(self.scale.any()):
            n = len(self.loc)
            place = (level * n - 1e-9).ceil().long().clamp(1, n) - 1
            ordered = self.loc.sort(0).values.expand(
                *level.shape[: level.ndim - len(shape)], n, *shape
            )
            return ordered.gather(axis, place.unsqueeze(axis)).squeeze(axis)
        single = self.icdf(level.unsqueeze(axis))
        low, high = single.amin(axis), single.amax(axis)
        for _ in range(_HALVINGS):
            middle = low + (high - low) / 2
            reached = self.cdf(middle.unsqueeze(axis)).mean(axis) >= level
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
        return high

    def crps_of_mixture(self, y: Tensor) -> Tensor:
        return normal_mixture_crps(y, self.loc, self.scale)


def normal_members(mean: Tensor, std: Tensor) -> Normal:
    """Make normal draws, of which some may have no spread."""
    if bool((std > 0).all()):
        return Normal(mean, std, validate_args=False)
    return NormalMembers(mean, std)


class Belief(Normal):
    """One normal distribution, of which a known part of the variance is doubt about the function.

    Parameters
    ----------
    mean, std : Tensor of shape (1, n_rows, n_targets)
        Moments of y.
    function_variance : Tensor of shape (1, n_rows, n_targets)
        The part of the variance that more data would remove.
    """

    def __init__(self, mean: Tensor, std: Tensor, function_variance: Tensor) -> None:
        super().__init__(mean, std, validate_args=False)
        self.function_variance = torch.minimum(function_variance, std.square())

    def crps_of_mixture(self, y: Tensor) -> Tensor:
        return normal_mixture_crps(y, self.loc, self.scale)

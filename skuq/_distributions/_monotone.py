"""Monotone maps of targets, known only by their values.

A target transformer is two functions, y = forward(z) and z = inverse(y). This file finds where
forward is defined, its limits at the ends, and its slope. No tolerance is in the unit of y, which
may be any unit: steps are shares of the spread of z, and the map converts them to y.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["MonotoneMap"]

Function = Callable[[Tensor], Tensor]

_EPS = torch.finfo(torch.float64).eps
_HALVINGS = 80  # of the bracket of an end: exact to the last bit, or to 1e-24 of it near 0


class MonotoneMap:
    """The map y = forward(z) of each target (last axis), continued by its limits beyond its ends.

    The map ends where forward gives NaN, as (λz + 1)^(1/λ) does for λz < −1, or turns around, as z²
    does at 0 if the inverse is √y. Beyond an end, y is the limit of forward at the end, which may
    be infinite.

    Parameters
    ----------
    forward, inverse : functions of tensors (..., n_targets)
        The map from z to y, and the map back.
    probes : Tensor of shape (n_probes, n_targets)
        Values of z to try forward on.

    Attributes
    ----------
    low, high : Tensor of shape (n_targets,)
        The ends, as values of z; infinite if there is no end.
    at_low, at_high : Tensor of shape (n_targets,)
        The limits of y at the ends; NaN if there is no end.

    Raises
    ------
    ValueError
        If forward is defined nowhere, or has a gap between values where it is defined.
    """

    def __init__(self, forward: Function, inverse: Function, probes: Tensor) -> None:
        self._forward = forward
        self._inverse = inverse
        self._locate(probes)

    def forward(self, z: Tensor) -> Tensor:
        """Compute y; beyond the ends, its limits."""
        y = self._continued(z)
        if bool(y.isnan().any()):  # beyond the values tried so far
            self._locate(torch.cat([self._z_inside[None], z.reshape(-1, z.shape[-1])]))
            y = self._continued(z)
        return y

    def inverse(self, y: Tensor) -> Tensor:
        """Compute z; NaN if the transformer refuses y."""
        return _called(self._inverse, y)

    def outside(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether y, with z = inverse(y), lies below all values of the map, or above."""
        ends = torch.stack([self.at_low, self.at_high])
        least = torch.where(ends.isnan(), math.inf, ends).amin(0)
        most = torch.where(ends.isnan(), -math.inf, ends).amax(0)
        # With a single end, the other values lie on the side of those inside.
        least = torch.where(least <= self._y_inside, least, -math.inf)
        most = torch.where(most >= self._y_inside, most, math.inf)
        below = (y < least) | (z.isnan() & (y < self._y_inside))
        return below, (y > most) | (z.isnan() & ~below)

    def log_slope(self, y: Tensor, z: Tensor, unit: Tensor) -> Tensor:
        """Compute log |dz/dy| by differences of the inverse, or of forward at its ends.

        The differences are of fourth order if the map is smooth within a step. Near a kink or an
        end, two close points are used.

        Parameters
        ----------
        y, z : Tensor of shape (..., n_targets)
            Values of the map and their inverses.
        unit : Tensor of shape (..., n_targets)
            The spread of z; the map is assumed to be smooth on this scale.
        """
        unit = torch.maximum(unit, 8 * _EPS * z.abs())
        span = _two_points(self._raw, z, 1e-3 * unit) * unit
        usable = span.isfinite() & (span > 0)
        ratio = torch.where(usable, 1 + z.abs() / unit + y.abs() / span, 1.0)  # of rounding
        h = (0.1 * (_EPS * ratio) ** 0.2).clamp(max=0.1)
        noise = 1e-6 + 1280 * _EPS * ratio / h
        slope = _steepness(self.inverse, y, torch.where(usable, h * span, 1e-6 * y.abs()), noise)
        if not bool((found := slope.isfinite()).all()):  # close to an end: perhaps at 0 …
            slope = torch.where(found, slope, _steepness(self.inverse, y, 1e-3 * y.abs(), noise))
            found = slope.isfinite()  # … or y is the end itself
            slope = torch.where(found, slope, 1 / _four_points(self._raw, z, h * unit))
        return slope.log()

    # -- where it ends ---------------------------------------------------------------------------

    def _raw(self, z: Tensor) -> Tensor:
        return _called(self._forward, z)

    def _continued(self, z: Tensor) -> Tensor:
        y = self._raw(torch.minimum(torch.maximum(z, self.low), self.high))
        return torch.where(z < self.low, self.at_low, torch.where(z > self.high, self.at_high, y))

    def _ends_before(self, z: Tensor) -> Tensor:
        """Return whether the map is undefined at z, or turned around before z.

        If it turned around, the inverse of forward(z) is another place with the same y, and y
        leaves the range of these two values between them.
        """
        y = self._raw(z)
        back = self.inverse(y)
        there, between = self._raw(back), self._raw(z + (back - z) / 2)
        size = torch.maximum(y.abs(), there.abs())  # between may be infinite, at a pole
        least, most = torch.minimum(y, there), torch.maximum(y, there)
        turned = (between < least - 8 * _EPS * size) | (between > most + 8 * _EPS * size)
        return y.isnan() | turned

    def _locate(self, probes: Tensor) -> None:
        z = probes.sort(0).values
        beyond = self._ends_before(z)
        index = torch.arange(len(z), device=z.device)[:, None]
        first = torch.where(beyond, len(z), index).amin(0)
        last = torch.where(beyond, -1, index).amax(0)
        inside = (index >= first) & (index <= last)
        if bool((first > last).any()) or bool((beyond & inside).any()):
            self._forward(z)  # an error of the transformer itself explains more
            raise ValueError(
                "the inverse of the target transformer gives NaN, or is not monotone, where the "
                "predictions have their mass; clip inside of the inverse, or use a transformer "
                "that is defined there"
            )
        middle = ((first + last) // 2)[None]
        self._z_inside = z.gather(0, middle)[0]
        self._y_inside = self._raw(self._z_inside[None])[0]
        good = torch.stack([z.gather(0, first[None])[0], z.gather(0, last[None])[0]])
        neighbours = torch.stack([first - 1, last + 1]).clamp(0, len(z) - 1)
        bad = torch.where(
            torch.stack([first == 0, last == len(z) - 1]), good, z.gather(0, neighbours)
        )
        ends, limits = self._limits(good, bad)
        none = torch.full_like(self._z_inside, math.inf)
        self.low = torch.where(first == 0, -none, ends[0])
        self.high = torch.where(last == len(z) - 1, none, ends[1])
        self.at_low = torch.where(first == 0, math.nan, limits[0])
        self.at_high = torch.where(last == len(z) - 1, math.nan, limits[1])

    def _limits(self, good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
        """Find the last good z between a good and a bad one, and the limit of y there.

        If the limit is finite, steps of y shrink with steps of z; otherwise it is infinite.
        """
        for halving in range(_HALVINGS):
            middle = good + (bad - good) / 2
            if halving == 0:  # to find an end at 0 exactly
                middle = torch.where(good.sign() * bad.sign() < 0, 0.0, middle)
            if bool(((middle == good) | (middle == bad)).all()):
                break
            beyond = self._ends_before(middle)
            good, bad = torch.where(beyond, good, middle), torch.where(beyond, middle, bad)
        distance = torch.maximum(4 * _EPS * good.abs(), 4 * (good - bad).abs())
        inwards = (good - bad).sign() * distance
        at, near, far = (self._raw(good + inwards * size) for size in (0.0, 2.0**10, 2.0**20))
        last, before = (at - near).abs(), (near - far).abs()
        grows = (last >= 0.9 * before) & (last > 64 * _EPS * near.abs())
        return good, torch.where(grows, (at - near).sign() * math.inf, at)


def _called(function: Function, values: Tensor) -> Tensor:
    """Call a function; return NaN for values that are not finite, and for rows that it refuses.

    scikit-learn's transformers raise an error for values outside of their domain.
    """
    flat = values.reshape(-1, values.shape[-1])
    finite = flat.isfinite()
    if not bool(finite.all()):
        anything = flat[finite][:1] if bool(finite.any()) else torch.ones_like(flat.flatten()[:1])
        flat = torch.where(finite, flat, anything)
    result = torch.where(finite, _by_halves(function, flat), math.nan)
    return result.reshape(values.shape)


def _by_halves(function: Function, rows: Tensor) -> Tensor:
    """Call a function on the halves of the rows that it refuses, down to single rows."""
    try:
        return function(rows)
    except ValueError:
        if len(rows) == 1:
            return torch.full_like(rows, math.nan)
    half = len(rows) // 2
    return torch.cat([_by_halves(function, rows[:half]), _by_halves(function, rows[half:])])


def _steepness(function: Function, x: Tensor, step: Tensor, noise: Tensor) -> Tensor:
    """Compute |f'(x)| from four points, or from two close points if the results contradict."""
    step = torch.maximum(step, 512 * _EPS * x.abs())
    wide, close = _four_points(function, x, step), _two_points(function, x, step / 128)
    agree = (wide - close).abs() <= noise * close
    return torch.where(agree, wide, close)


def _two_points(function: Function, x: Tensor, step: Tensor) -> Tensor:
    after, before = x + step, x - step
    return (function(after) - function(before)).abs() / (after - before)


def _four_points(function: Function, x: Tensor, step: Tensor) -> Tensor:
    step = (x + step) - x  # the step after rounding
    near = function(x + step) - function(x - step)
    far = function(x + 2 * step) - function(x - 2 * step)
    return (8 * near - far).abs() / (12 * step)

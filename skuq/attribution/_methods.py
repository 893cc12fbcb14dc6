"""Methods of captum on an uncertainty: by gradients, by windows, and by samples of segments."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq._utils._optional import import_optional
from skuq._utils._random import PrivateGlobals
from skuq.attribution._problem import Problem

__all__ = ["BY_GRADIENT", "BY_SEGMENTS", "by_gradient", "by_segments", "by_windows"]

BY_GRADIENT = ("gradient", "smoothgrad", "integrated_gradients", "ua_backprop")
BY_SEGMENTS = ("kernel_shap", "lime")

N_SMOOTH = 25  # noisy copies of each row
NOISE = 0.15  # their standard deviation, as a share of the range of X
N_STEPS = 50  # of the path of integrated gradients

Function = Callable[[Tensor], Tensor]


def _captum(method: str) -> ModuleType:
    return import_optional(
        "captum.attr", "attribution", f"attribute_uncertainty with method={method!r}"
    )


def by_gradient(
    method: str, function: Function, x: Tensor, baseline: Tensor, noise: float, at_once: int
) -> Tensor:
    """Attribute the uncertainty to each number of the rows.

    Parameters
    ----------
    method : str
        One of `BY_GRADIENT`.
    function : callable
        From rows (m, ...) to uncertainties (m,).
    x, baseline : Tensor of shape (n, ...)
        The rows, and where paths begin.
    noise : float
        Standard deviation of the noise of "smoothgrad".
    at_once : int
        How many rows are evaluated at a time.

    Returns
    -------
    Tensor of the shape of x
        Signed derivatives, averaged ones, or parts of U(x) − U(baseline). "ua_backprop" gives
        shares of U(x) that are not negative.
    """
    attr = _captum(method)
    rows = x.clone().requires_grad_()
    if method == "integrated_gradients":
        made = attr.IntegratedGradients(function).attribute(
            rows, baselines=baseline, n_steps=N_STEPS, internal_batch_size=max(at_once, len(x))
        )
    elif method == "smoothgrad":
        made = attr.NoiseTunnel(attr.Saliency(function)).attribute(
            rows,
            nt_type="smoothgrad",
            nt_samples=N_SMOOTH,
            nt_samples_batch_size=max(1, at_once // len(x)),
            stdevs=noise,
            abs=False,
        )
    else:
        made = attr.Saliency(function).attribute(rows, abs=False)
        if method == "ua_backprop":
            with torch.no_grad():
                made = _shares(made * (x - baseline), function(x))
    found: Tensor = made.detach()
    return found


def _shares(product: Tensor, u: Tensor) -> Tensor:
    """Split U in proportion to the sizes of a product; evenly where all of it is zero."""
    size = product.abs().flatten(1).double()
    total = size.sum(1, keepdim=True)
    share = torch.where(total > 0, size / total.clamp(min=1e-300), 1 / size.shape[1])
    return (share * u.double()[:, None]).reshape(product.shape)


def by_windows(
    function: Function, x: Tensor, replacement: Tensor, window: tuple[int, int], at_once: int
) -> Tensor:
    """Replace windows that slide over images, and average what that lowers.

    Parameters
    ----------
    function : callable
        From images (m, n_channels, height, width) to uncertainties (m,).
    x, replacement : Tensor of shape (n, n_channels, height, width)
        The images, and what a window shows instead.
    window : tuple of int
        Height and width of the windows; they move by half of that.
    at_once : int
        How many images are evaluated at a time.
    """
    sides = (x.shape[1], *window)
    with torch.no_grad():
        found: Tensor = (
            _captum("occlusion")
            .Occlusion(function)
            .attribute(
                x,
                sliding_window_shapes=sides,
                strides=(x.shape[1], *(max(1, side // 2) for side in window)),
                baselines=replacement,
                perturbations_per_eval=max(1, at_once // len(x)),
            )
        )
    return found


def by_segments(
    method: str, problem: Problem, n_samples: int | None, seed: int, names: np.ndarray
) -> Tensor:
    """Attribute the uncertainty to the segments by samples of masks, one row after another.

    captum sees a row as its segments: 1 where a segment stays, 0 where it is replaced.

    Parameters
    ----------
    method : str
        One of `BY_SEGMENTS`.
    problem : Problem
        The rows.
    n_samples : int or None
        Masks for each row; None means 512 and two for each segment.
    seed : int
        Seed of the samples.
    names : ndarray of int of shape (n,)
        Numbers of the rows: the samples of each do not depend on the rows beside it.

    Returns
    -------
    Tensor of shape (n, n_segments)
        The value of each segment, in units of the uncertainty.
    """
    attr = _captum(method)
    values = torch.zeros(problem.area.shape, dtype=torch.float64)
    for row in range(len(values)):
        k = int(problem.n_each[row])
        ask = _presence(problem, row)
        whole, none = torch.ones(1, k), torch.zeros(1, k)
        if k == 1:
            values[row, 0] = ask(whole)[0] - ask(none)[0]
            continue
        if n_samples is not None and n_samples < k + 2:
            raise ValueError(
                f"n_samples must be at least two more than the {k} segments of row {names[row]}, "
                f"got {n_samples}; several hundred are usual"
            )
        options: dict[str, Any] = {
            "baselines": none,
            "n_samples": n_samples or 512 + 2 * k,
            "perturbations_per_eval": problem.at_once,
        }
        if method == "lime":
            linear = import_optional("captum._utils.models.linear_model", "attribution", "lime")
            explain = attr.Lime(ask, linear.SkLearnRidge(alpha=1.0))
        else:
            explain = attr.KernelShap(ask)
        with PrivateGlobals(seed + int(names[row])), torch.no_grad():
            found = explain.attribute(whole, **options)
        values[row, :k] = found[0].double()
    return values * problem.before[:, None]


def _presence(problem: Problem, row: int) -> Function:
    """Return the uncertainty, relative to that of the row, as a function of what stays."""

    def ask(stays: Tensor) -> Tensor:
        weights = torch.zeros(len(stays), problem.area.shape[1])
        weights[:, : stays.shape[1]] = 1 - stays.float()
        u = problem.evaluate(torch.full((len(stays),), row), weights)
        return u / problem.before[row]

    return ask

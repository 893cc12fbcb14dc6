"""Checked logits with their labels and weights, in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skuq._utils._arrays import tensor_of

__all__ = ["Logits", "check_logits", "check_penalty", "label_columns"]

_TOTAL = 1e100  # a strength of a penalty that leaves nothing free
_BLOCK_NUMBERS = {"cpu": 2**17, "gpu": 2**22}  # logits that a pass holds in float64 at a time


class Logits(NamedTuple):
    """Checked logits with their labels and weights, on one device."""

    draws: Tensor  # (n_draws, n_samples, n_classes), of any floating type
    labels: Tensor  # (n_samples,) of class indices
    weight: Tensor  # (n_samples,) in float64, of sum 1
    span: float  # the largest logit less the least
    size: float  # the sum of the given weights, or the number of labels; infinite on overflow

    def take(self, stride: int) -> Logits:
        """Take every `stride`-th row."""
        some = self.weight[::stride]
        share = float(some.sum())
        return Logits(
            self.draws[:, ::stride],
            self.labels[::stride],
            some / share,
            self.span,
            share * self.size,
        )

    def strength(self, l2: float) -> float:
        """Compute the factor of a penalty in rows, beside the mean loss."""
        return min(float(l2) / self.size, _TOTAL)

    @property
    def rows_at_once(self) -> int:
        n_draws, _, n_classes = self.draws.shape
        numbers = _BLOCK_NUMBERS["cpu" if self.draws.device.type == "cpu" else "gpu"]
        return min(len(self.labels), max(1, numbers // (n_draws * n_classes)))

    def blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        step = self.rows_at_once
        for start in range(0, len(self.labels), step):
            rows = slice(start, start + step)
            yield self.draws[:, rows], self.labels[rows], self.weight[rows]


def check_logits(logits: Any, y: Any, sample_weight: Any) -> Logits:
    """Check logits; each place of dense outputs becomes a row."""
    draws, labels = _as_tensor(logits), _as_tensor(y)
    labels = labels.to(draws.device)
    if draws.ndim == labels.ndim + 1:
        draws = draws[None]
    if draws.ndim != labels.ndim + 2 or 0 in draws.shape or draws.shape[2] < 2:
        raise ValueError(
            "logits must have shape (n_samples, n_classes) or (n_draws, n_samples, n_classes) "
            "with at least 2 classes, and the further axes of y, which has shape "
            f"{tuple(labels.shape)}; got {tuple(_as_tensor(logits).shape)}"
        )
    n_draws, n_samples, n_classes = draws.shape[:3]
    if tuple(labels.shape) != (n_samples, *draws.shape[3:]):
        raise ValueError(
            f"y must have shape {(n_samples, *draws.shape[3:])} as logits do, got "
            f"{tuple(labels.shape)}"
        )
    weight, size = _check_weight(sample_weight, labels)
    if draws.ndim > 3:
        draws = draws.movedim(2, -1).reshape(n_draws, -1, n_classes)
        labels = labels.reshape(-1)
    low, high = torch.stack(torch.aminmax(draws.detach())).tolist()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(
            "logits contain NaN or infinity: they must be finite. If they are logarithms of "
            "probabilities of 0, clip the probabilities first"
        )
    if labels.is_floating_point() and not bool((labels == labels.round()).all()):
        raise ValueError("y must hold indices of the classes, got fractions or NaN")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        labels = labels.long()
    least, most = torch.stack(torch.aminmax(labels)).tolist()
    if least < 0 or most >= n_classes:
        raise ValueError(
            f"y must hold indices of the classes from 0 to {n_classes - 1}, got values from "
            f"{least} to {most}; encode labels first"
        )
    if sample_weight is not None and least < most:
        least, most = torch.stack(torch.aminmax(labels.reshape(-1)[weight > 0])).tolist()
    if least == most:
        raise ValueError(
            "y holds a single class in the rows of positive weight: calibration needs rows of at "
            "least two"
        )
    return Logits(draws.detach(), labels.long(), weight, high - low, size)


def check_penalty(l2: Any) -> None:
    """Refuse a strength of a penalty that is not one finite number >= 0."""
    if not isinstance(l2, Real) or not 0 <= float(l2) < math.inf:
        raise ValueError(f"l2 must be a finite number >= 0, got {l2!r}")


def label_columns(logits: Any, y: Any, sample_weight: Any) -> Iterator[Logits]:
    """Yield the logits 0 and z of each of several labels."""
    scores, labels = _as_tensor(logits), _as_tensor(y)
    if labels.ndim != 2 or tuple(scores.shape[-2:]) != tuple(labels.shape):
        raise ValueError(
            "with multilabel=True, y must have shape (n_samples, n_labels) and logits that or "
            f"(n_draws, n_samples, n_labels), got {tuple(labels.shape)} and {tuple(scores.shape)}"
        )
    for label in range(labels.shape[1]):
        score = scores[..., label]
        pair = torch.stack([torch.zeros_like(score), score], dim=-1)
        try:
            checked = check_logits(pair, labels[:, label], sample_weight)
        except ValueError as error:
            raise ValueError(f"label {label}: {error}") from None
        yield checked


def _as_tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "bui" and array.dtype not in (np.float32, np.float64):
        try:
            array = array.astype(float)
        except (TypeError, ValueError):
            raise ValueError(
                f"logits and y must be numbers, got {array.dtype}; encode labels first"
            ) from None
    return tensor_of(array)


def _check_weight(sample_weight: Any, labels: Tensor) -> tuple[Tensor, float]:
    """Return one weight for each label, scaled to sum 1, and their sum before.

    The sum can overflow, and that of tiny weights has few digits: so the largest is divided out.
    """
    if sample_weight is None:
        size = labels.numel()
        equal = torch.full((size,), 1 / size, dtype=torch.float64, device=labels.device)
        return equal, size
    if not isinstance(sample_weight, Tensor):
        sample_weight = tensor_of(np.asarray(sample_weight, dtype=float))
    weight = torch.as_tensor(sample_weight, dtype=torch.float64, device=labels.device)
    if weight.shape == labels.shape[:1]:
        weight = weight.reshape(-1, *(1 for _ in labels.shape[1:])).expand(labels.shape)
    valid = weight.shape == labels.shape and bool((weight >= 0).all()) and weight.sum() > 0
    if not valid or not bool(torch.isfinite(weight).all()):
        raise ValueError(f"sample_weight must be {len(labels)} finite numbers >= 0, not all zero")
    most = weight.max()
    shares = weight.reshape(-1) / most
    total = shares.sum()
    return shares / total, float(total) * float(most)

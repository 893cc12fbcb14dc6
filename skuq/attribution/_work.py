"""The two kinds of rows, images and tables, behind one face."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq.attribution._images import ImageRows
from skuq.attribution._methods import BY_GRADIENT, NOISE, by_gradient, by_segments, by_windows
from skuq.attribution._perturbations import Perturbation, blur, blur_width, called, fill_in
from skuq.attribution._problem import ImageProblem, Problem, TableProblem
from skuq.attribution._search import single_flips
from skuq.attribution._segments import segments_of_columns
from skuq.attribution._tables import TableRows
from skuq.attribution._target import Target

__all__ = ["ImageWork", "TableWork", "Work"]


class Work:
    """Rows to attribute.

    Attributes
    ----------
    shape : tuple of int
        That of the values.
    X : ndarray or DataFrame
        The rows.
    segments : ndarray or None
        Labels of pixels or columns.
    image_shape, names : tuple and None, or None and list
        Which kind of rows they are.
    """

    shape: tuple[int, ...]
    X: Any
    segments: np.ndarray | None
    image_shape: tuple[int, int, int] | None = None
    names: list[str] | None = None

    def uncertainty(self) -> np.ndarray:
        """Compute the uncertainty of all rows."""
        raise NotImplementedError

    def problem(self, group: np.ndarray, before: np.ndarray) -> Problem:
        """Return the search of masks for some rows, whose uncertainty is given."""
        raise NotImplementedError

    def values(
        self,
        method: str,
        group: np.ndarray,
        before: np.ndarray,
        n_samples: int | None,
        seed: int,
    ) -> np.ndarray:
        """Attribute some rows by any method but "optimized"."""
        raise NotImplementedError

    def put(self, refined: Any, group: np.ndarray, rows: Any) -> None:
        """Write some rows into a copy of all."""
        raise NotImplementedError

    def _by_segments(
        self, method: str, group: np.ndarray, before: np.ndarray, n_samples: int | None, seed: int
    ) -> np.ndarray:
        problem = self.problem(group, before)
        if method == "occlusion":
            each = single_flips(problem, 0.0, most=0).contribution
        else:
            each = by_segments(method, problem, n_samples, seed, group)
        even: np.ndarray = problem.spread(each / problem.counts.clamp(min=1)).numpy()
        return even.reshape(len(group), *self.shape[1:])


class ImageWork(Work):
    """Images to attribute.

    Parameters
    ----------
    images : ImageRows
        The images.
    segments : ndarray of int64 of shape (n, height, width), or None
        Their segments.
    target : Target
        The uncertainty.
    perturbation : {"infill", "blur"} or callable
        What stands in the place of masked pixels.
    at_once : int
        How many images are evaluated at a time.
    """

    def __init__(
        self,
        images: ImageRows,
        segments: np.ndarray | None,
        target: Target,
        perturbation: str | Perturbation,
        at_once: int,
    ) -> None:
        n, n_channels, height, width = images.tensor.shape
        self.shape, self.image_shape = (n, height, width), (n_channels, height, width)
        self.X = images.as_given(images.tensor)
        self.segments = segments
        self._images, self._target = images, target
        self._perturbation, self._at_once = perturbation, at_once
        self._differentiable = target.function is not None and target.prefix is None

    def uncertainty(self) -> np.ndarray:
        with torch.no_grad():
            parts = [self._ask(part) for part in self._images.tensor.split(self._at_once)]
        return torch.cat(parts).double().numpy()

    def _ask(self, images: Tensor) -> Tensor:
        return self._images.uncertainty(self._target, images, self._differentiable)

    def problem(self, group: np.ndarray, before: np.ndarray) -> Problem:
        assert self.segments is not None
        return ImageProblem(
            self._images.taken(group),
            self.segments[group],
            self._target,
            before,
            self._perturbation,
            self._at_once,
        )

    def values(
        self,
        method: str,
        group: np.ndarray,
        before: np.ndarray,
        n_samples: int | None,
        seed: int,
    ) -> np.ndarray:
        if method not in BY_GRADIENT and self.segments is not None:
            return self._by_segments(method, group, before, n_samples, seed)
        x = self._images.tensor[group]
        height, width = x.shape[2:]
        if method == "occlusion":
            window = max(1, round(height / 7)), max(1, round(width / 7))
            found = by_windows(self._ask, x, self._replacement(x), window, self._at_once).sum(1)
            return found.double().numpy()
        if not self._differentiable:
            raise TypeError(_no_gradient(method, self._target))
        noise = NOISE * float(self._images.tensor.max() - self._images.tensor.min())
        baseline = torch.zeros_like(x) if method == "ua_backprop" else self._replacement(x)
        each = by_gradient(method, self._ask, x, baseline, noise, self._at_once).double()
        found = each.abs().sum(1) if method in ("gradient", "smoothgrad") else each.sum(1)
        if self.segments is None:
            return found.numpy()
        return _evened(found.numpy(), self.segments[group])

    def _replacement(self, x: Tensor) -> Tensor:
        """Return what stands for nothing where there is no mask: the whole image is replaced."""
        sigma = blur_width(*x.shape[2:])
        whole = torch.ones_like(x[:, :1])
        if callable(self._perturbation):
            return called(self._perturbation, x, whole)
        return fill_in(x, whole, sigma) if self._perturbation == "infill" else blur(x, sigma)

    def put(self, refined: Any, group: np.ndarray, rows: Any) -> None:
        refined[group] = rows


class TableWork(Work):
    """Rows of a table to attribute.

    Parameters
    ----------
    table : TableRows
        The rows and the baseline.
    segments : array-like of shape (n_columns,), or None
        Groups of columns; None leaves each by itself.
    target : Target
        The uncertainty.
    at_once : int
        How many rows are evaluated at a time.
    """

    def __init__(self, table: TableRows, segments: Any, target: Target, at_once: int) -> None:
        names = table.names
        self.shape, self.names, self.X = (len(table), len(names)), names, table.rows
        self.segments: np.ndarray = segments_of_columns(len(table.names), segments)
        self._grouped = segments is not None
        self._table, self._target, self._at_once = table, target, at_once

    def uncertainty(self) -> np.ndarray:
        return self._target.numbers(self._table.rows)

    def problem(self, group: np.ndarray, before: np.ndarray) -> Problem:
        return TableProblem(
            self._table.taken(group), self.segments, self._target, before, self._at_once
        )

    def values(
        self,
        method: str,
        group: np.ndarray,
        before: np.ndarray,
        n_samples: int | None,
        seed: int,
    ) -> np.ndarray:
        if method not in BY_GRADIENT:
            return self._by_segments(method, group, before, n_samples, seed)
        function = self._target.function
        if function is None:
            raise TypeError(_no_gradient(method, self._target))
        if self._table.mixed:
            raise ValueError(
                f"a step before the network mixes the columns {self._table.mixed}, so gradients "
                f"cannot be divided between them; method={method!r} needs inputs that come from "
                "one column each. Take 'optimized', 'occlusion', 'kernel_shap' or 'lime', which "
                "replace whole columns"
            )
        z, z_baseline, spread, source = self._table.taken(group).inputs()
        unit = torch.where(spread > 0, spread, 1.0)
        scaled, baseline = z / unit, (z_baseline / unit).expand_as(z)
        noise = NOISE * float(self._table.span())
        found = by_gradient(
            method, lambda s: function(s * unit).cpu(), scaled, baseline, noise, self._at_once
        ).double()
        if method in ("gradient", "smoothgrad"):
            found = found.abs() * (spread > 0)
        values = torch.zeros(len(z), self.shape[1], dtype=torch.float64)
        known = source >= 0
        values.index_add_(1, source[known], found[:, known])
        labels = np.broadcast_to(self.segments, values.shape)
        return _evened(values.numpy(), labels) if self._grouped else values.numpy()

    def put(self, refined: Any, group: np.ndarray, rows: Any) -> None:
        self._table.put(refined, group, rows)


def _no_gradient(method: str, target: Target) -> str:
    why = target.why_not or "its steps before the network cannot be differentiated"
    return (
        f"method={method!r} needs a gradient, which this estimator does not have: {why}. Take "
        "'optimized' with optimizer='greedy', 'occlusion', 'kernel_shap' or 'lime'"
    )


def _evened(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average values over each segment of each row, which keeps their sum."""
    even = np.empty_like(values)
    for row, (value, label) in enumerate(zip(values, labels)):
        sums = np.bincount(label.ravel(), value.ravel()) / np.bincount(label.ravel())
        even[row] = sums[label]
    return even

"""What is searched: the uncertainty of rows whose segments are replaced, for many rows at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skuq.attribution._images import ImageRows
from skuq.attribution._perturbations import (
    BLURS,
    Perturbation,
    blur,
    blur_width,
    called,
    fill_in,
    mixed_blurs,
)
from skuq.attribution._segments import unions
from skuq.attribution._tables import TableRows
from skuq.attribution._target import Target

__all__ = ["ImageProblem", "Problem", "TableProblem"]


class Problem:
    """Rows, their segments, and the uncertainty when some segments are replaced.

    Attributes
    ----------
    labels : Tensor of int64 of shape (n, n_places)
        The segment of each pixel or column.
    n_each : Tensor of int64 of shape (n,)
        The number of segments of each row.
    area : Tensor of shape (n, n_segments)
        The share of pixels or columns in each segment; 0 beyond the last one.
    before : Tensor of float64 of shape (n,)
        The uncertainty of the rows themselves.
    has_gradient : bool
        Whether `uncertainty` can be differentiated.
    learns : bool
        Whether the perturbation has parameters to learn.
    """

    has_gradient: bool
    learns = False

    def __init__(self, labels: np.ndarray, before: np.ndarray, at_once: int) -> None:
        self.labels = torch.from_numpy(labels.reshape(len(labels), -1).copy())
        self.n_each = self.labels.amax(1) + 1
        self.before = torch.from_numpy(before)
        n, n_places = self.labels.shape
        counts = torch.zeros(n, int(self.n_each.max()))
        self.counts = counts.scatter_add_(1, self.labels, torch.ones(n, n_places))
        self.area = self.counts / n_places
        self.at_once = at_once

    def singles(self) -> Tensor:
        """Return each segment as a move by itself, of shape (n, n_segments, n_segments)."""
        return torch.diag_embed(self.exists())

    def moves(self) -> Tensor:
        """Return what a search adds to a mask, or removes, in one step.

        Returns
        -------
        Tensor of bool of shape (n, n_moves, n_segments)
            Single segments, then unions of several; what a row lacks is empty.
        """
        return self.singles()

    def exists(self) -> Tensor:
        """Return which segments each row has, of shape (n, n_segments)."""
        return torch.arange(self.area.shape[1]) < self.n_each[:, None]

    def uncertainty(self, rows: Tensor, weights: Tensor, learnt: Tensor | None = None) -> Tensor:
        """Return the uncertainty of some rows with replaced segments, perhaps differentiably.

        Parameters
        ----------
        rows : Tensor of int64 of shape (m,)
            Which rows; they may repeat.
        weights : Tensor of shape (m, n_segments)
            1 where a segment is replaced, 0 where it stays.
        learnt : Tensor of shape (m, n_parameters), default=None
            Parameters of the perturbation.
        """
        raise NotImplementedError

    def replaced(self, mask: Tensor, learnt: Tensor | None = None) -> Any:
        """Return the rows with the segments of a mask replaced, as the user gave them."""
        raise NotImplementedError

    def evaluate(self, rows: Tensor, weights: Tensor, learnt: Tensor | None = None) -> Tensor:
        """Compute `uncertainty` without a gradient, for a limited number of rows at a time."""
        if not len(rows):
            return torch.zeros(0, dtype=torch.float64)
        with torch.no_grad():
            parts = [
                self.uncertainty(
                    rows[at], weights[at], None if learnt is None else learnt[rows[at]]
                )
                for at in torch.arange(len(rows)).split(self.at_once)
            ]
        return torch.cat(parts)

    def spread(self, each: Tensor) -> Tensor:
        """Give each pixel or column the number of its segment, of shape (n, n_places)."""
        return each.gather(1, self.labels)


class ImageProblem(Problem):
    """Images whose segments are replaced by a perturbation.

    Parameters
    ----------
    images : ImageRows
        The images.
    labels : ndarray of shape (n, height, width)
        Their segments.
    target : Target
        The uncertainty.
    before : ndarray of shape (n,)
        That of the images.
    perturbation : {"infill", "blur"} or callable
        What stands in the place of masked pixels.
    at_once : int
        How many images are evaluated at a time.
    """

    def __init__(
        self,
        images: ImageRows,
        labels: np.ndarray,
        target: Target,
        before: np.ndarray,
        perturbation: str | Perturbation,
        at_once: int,
    ) -> None:
        super().__init__(labels, before, at_once)
        self._images, self._target, self._perturbation = images, target, perturbation
        self.has_gradient = target.function is not None and target.prefix is None
        self.learns = perturbation == "blur"
        self._sigma = blur_width(*images.tensor.shape[2:])
        if self.learns:
            self._blurred = blur(images.tensor, self._sigma)

    def moves(self) -> Tensor:
        images = self._images.tensor.double().numpy()
        labels = self.labels.numpy().reshape(len(images), *images.shape[2:])
        several = [unions(image, label) for image, label in zip(images, labels)]
        more = torch.zeros(len(labels), max(map(len, several)), self.area.shape[1]).bool()
        for row, some in enumerate(several):
            more[row, : len(some), : some.shape[1]] = torch.from_numpy(some)
        return torch.cat([self.singles(), more], 1)

    def uncertainty(self, rows: Tensor, weights: Tensor, learnt: Tensor | None = None) -> Tensor:
        return self._images.uncertainty(
            self._target, self._changed(rows, weights, learnt), self.has_gradient
        )

    def _changed(self, rows: Tensor, weights: Tensor, learnt: Tensor | None) -> Tensor:
        x = self._images.tensor[rows]
        mask = weights.to(x.dtype).gather(1, self.labels[rows])
        mask = mask.reshape(len(x), 1, *x.shape[2:])
        return x + mask * (self._replacement(rows, x, mask, learnt) - x)

    def _replacement(self, rows: Tensor, x: Tensor, mask: Tensor, learnt: Tensor | None) -> Tensor:
        if callable(self._perturbation):
            return called(self._perturbation, x, mask)
        if self._perturbation == "infill":
            return fill_in(x, mask, self._sigma)
        return self._blurred[rows] if learnt is None else mixed_blurs(x, learnt, self._sigma)

    def first_parameters(self) -> Tensor:
        """Return where learning the blur begins: mostly at the default width."""
        start = torch.zeros(len(self.before), len(BLURS))
        start[:, BLURS.index(1.0)] = 2.0
        return start

    def replaced(self, mask: Tensor, learnt: Tensor | None = None) -> np.ndarray:
        with torch.no_grad():
            changed = self._changed(torch.arange(len(mask)), mask, learnt)
        return self._images.as_given(changed)


class TableProblem(Problem):
    """Rows of a table, some of whose columns are replaced by those of a baseline.

    Parameters
    ----------
    table : TableRows
        The rows and the baseline.
    labels : ndarray of shape (n_columns,)
        The group of each column.
    target : Target
        The uncertainty.
    before : ndarray of shape (n,)
        That of the rows.
    at_once : int
        How many rows are evaluated at a time.
    """

    def __init__(
        self,
        table: TableRows,
        labels: np.ndarray,
        target: Target,
        before: np.ndarray,
        at_once: int,
    ) -> None:
        super().__init__(np.broadcast_to(labels, (len(before), len(labels))), before, at_once)
        self._table, self._target = table, target
        self.has_gradient = target.function is not None and not table.mixed
        self._groups = torch.from_numpy(labels)

    def uncertainty(self, rows: Tensor, weights: Tensor, learnt: Tensor | None = None) -> Tensor:
        if not self.has_gradient:
            mask = weights[:, self._groups].numpy() > 0.5
            changed = self._table.replaced(rows.numpy(), mask)
            return torch.from_numpy(self._target.numbers(changed))
        function: Callable[[Tensor], Tensor] = self._target.function  # type: ignore[assignment]
        z, z_baseline, _, source = self._table.inputs()
        move = weights.to(z.dtype)[:, self._groups[source.clamp(min=0)]] * (source >= 0)
        return function(z[rows] + move * (z_baseline - z[rows])).cpu().double()

    def replaced(self, mask: Tensor, learnt: Tensor | None = None) -> Any:
        return self._table.replaced(np.arange(len(mask)), mask[:, self._groups].numpy() > 0.5)

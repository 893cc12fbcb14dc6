"""Evaluate a fitted estimator on views of rows, one chunk of rows after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length
from torch import Tensor
from torch.distributions import Distribution

from skuq._composition import predictions
from skuq._data._checks import CheckedRows, dense
from skuq._data._inputs import as_inputs
from skuq._meta import innermost
from skuq._predict import ClassifierPredictions
from skuq._utils._arrays import tensor_of
from skuq._utils._sklearn_compat import _num_samples, _safe_indexing
from skuq.augmentation._fixed import FixedView, fix

__all__ = ["Evaluation", "as_rows"]

_FEW = 32  # rows to try views on
_CHUNK_BYTES = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}  # predictions of all views for a chunk
_FOREIGN_ROWS = 4096  # in a chunk of an estimator that has no chunks of its own


class Evaluation:
    """Predictions of a fitted estimator for rows and for views of them.

    Parameters
    ----------
    estimator : fitted classifier or regressor
        Anything that `skuq._composition.predictions` sees through.
    views : list of (callable, seed)
        Views besides the identity.
    X : array-like of shape (n_samples, ...)
        Rows as `estimator` takes them. The first few are used to try the views.
    multilabel : bool
        Whether a classifier was fitted on indicators of several labels.

    Attributes
    ----------
    classifies : bool
        Whether the estimator is a classifier.
    gives_noise : bool
        Whether it predicts how noisy a label is, as `UncertaintyAware` does.
    target_shape : tuple of int
        Shape of a target of a regressor, without the axis of samples.
    views : list of FixedView
        The views besides the identity.

    Raises
    ------
    ValueError
        If a view changes the shape of rows, is not repeatable, or lacks an inverse that masks need.
    """

    def __init__(
        self, estimator: Any, views: list[tuple[Any, int]], X: Any, multilabel: bool
    ) -> None:
        self.estimator = estimator
        self._multilabel = multilabel
        few = _safe_indexing(X, np.arange(_num_samples(X))[:_FEW])
        self._leaf, inner = innermost(estimator, few)
        # If no step transforms rows, views are made on the device of the network.
        self._directly = inner is few and hasattr(self._leaf, "_engine")
        self._is_dense = getattr(self._leaf, "_is_dense", False)
        self._learn_sizes(_safe_indexing(few, np.arange(min(1, _num_samples(few)))))
        rows = self._rows(few).cpu() if views else torch.empty(0)
        self.views = [fix(view, k, seed, rows) for k, (view, seed) in enumerate(views, 1)]
        if self._is_dense and views:
            self._check_inverses(rows)

    def _check_inverses(self, rows: Tensor) -> None:
        if not self._directly:
            raise ValueError(
                f"steps before the {type(self._leaf).__name__} transform images, so outputs for "
                "their views cannot be moved back: put TestTimeAugmentation behind these steps, as "
                "the last step of the Pipeline"
            )
        for view in self.views:
            view.inverse(torch.zeros(1, 1, *rows.shape[2:]))

    def _learn_sizes(self, few: Any) -> None:
        """Note which shapes and how many bytes the estimator predicts for a row."""
        seen: list[Distribution] = []
        asked, inner = self._ask(few)
        asked._reduce(inner, _called_for_effect(seen.append))
        first = seen[0]
        self.classifies = isinstance(asked, ClassifierPredictions)
        self.gives_noise = hasattr(first, "noise_variance")
        self.target_shape = getattr(asked, "_target_shape", ())
        numbers: Any = first.logits if self.classifies else first.mean  # type: ignore[attr-defined]
        places = math.prod(np.shape(inner)[2:]) if self._is_dense else 1
        self._bytes_per_row = 8 * numbers[:, 0].numel() * places

    def _chunk_rows(self) -> int:
        """Return the number of rows to evaluate at a time: whole chunks of the engine."""
        engine = getattr(self._leaf, "_engine", None)
        if engine is None:
            return _FOREIGN_ROWS
        budget = _CHUNK_BYTES.get(engine.numerics.device.type, _CHUNK_BYTES["cpu"])
        per_chunk = engine.n_rows * self._bytes_per_row * (1 + len(self.views))
        return int(engine.n_rows) * max(1, int(budget // per_chunk))

    # -- views of rows -------------------------------------------------------------------------

    def _ask(self, X: Any) -> tuple[Any, Any]:
        return predictions(self.estimator, X, multilabel=self._multilabel)

    def _rows(self, X: Any) -> Tensor:
        """Make a float tensor of rows, as views take it."""
        if not self._directly:
            return as_rows(X)
        numerics, rows = self._leaf._engine.numerics, self._leaf._check_rows(X)
        if not isinstance(rows, Tensor):
            rows = tensor_of(rows, copy=True)
        return rows.to(numerics.device, numerics.dtype)

    def _seen(self, view: FixedView, rows: Tensor, X: Any) -> Any:
        """Make a view of rows, as what X is, an array or a data frame; or on the device."""
        viewed = view(rows)
        if self._directly:
            return CheckedRows(viewed, view.inverse if self._is_dense else None)
        values = viewed.numpy()
        if hasattr(X, "iloc"):
            return type(X)(values, columns=X.columns, index=X.index)
        if hasattr(X, "columns"):
            return type(X)(values, schema=list(X.columns))
        return values

    def _chunks(self, X: Any) -> Iterator[tuple[slice, Any]]:
        X = as_inputs(X)
        n_rows, step = _num_samples(X), self._chunk_rows()
        for start in range(
            0, max(1, n_rows), step
        ):  # without rows, the estimator raises its own error
            span = slice(start, min(start + step, n_rows))
            if step >= n_rows:
                yield span, X
            elif isinstance(X, CheckedRows):
                yield span, X[span]
            else:
                yield span, _safe_indexing(X, np.arange(span.start, span.stop))

    # -- evaluating ----------------------------------------------------------------------------

    def each(self, X: Any, reduction: Callable[[Any], Any]) -> list[Any]:
        """Reduce the predictions for every view, the identity first."""
        per_view: list[list[Any]] = [[] for _ in range(1 + len(self.views))]
        for _, chunk in self._chunks(X):
            asked, inner = self._ask(chunk)
            per_view[0].append(asked._reduce(inner, reduction))
            rows = self._rows(chunk) if self.views else torch.empty(0)
            for view, parts in zip(self.views, per_view[1:]):
                asked, inner = self._ask(self._seen(view, rows, chunk))
                parts.append(asked._reduce(inner, reduction))
        return [_joined(parts) for parts in per_view]

    def fold(
        self,
        X: Any,
        begin: Callable[[], Any],
        reduction: Callable[..., Any],
        *aligned: np.ndarray,
    ) -> Any:
        """Reduce one distribution for each draw, made of the distributions of all its views.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the estimator takes them.
        begin : callable
            Makes an object for a block of rows: its ``add`` takes the distributions of each view,
            its ``result`` returns one distribution made of them.
        reduction, *aligned : as in `skuq._predict`
        """
        if not self.views:
            asked, inner = self._ask(X)
            return asked._reduce(inner, reduction, *aligned)
        check_consistent_length(X, *aligned)
        return _joined(
            [
                self._fold_chunk(chunk, begin, reduction, [rows[span] for rows in aligned])
                for span, chunk in self._chunks(X)
            ]
        )

    def _fold_chunk(
        self, X: Any, begin: Callable[[], Any], reduction: Callable[..., Any], aligned: list[Any]
    ) -> Any:
        """Reduce a chunk; the estimator uses the same blocks of rows for every view."""
        folds: list[Any] = []

        def first(predictive: Any) -> Tensor:
            folds.append(begin())
            return _called_for_effect(folds[-1].add)(predictive)

        asked, inner = self._ask(X)
        asked._reduce(inner, first)
        rows = self._rows(X)
        for view in self.views[:-1]:
            blocks = iter(folds)

            def add_to_next(predictive: Any, blocks: Iterator[Any] = blocks) -> None:
                next(blocks).add(predictive)

            asked, inner = self._ask(self._seen(view, rows, X))
            asked._reduce(inner, _called_for_effect(add_to_next))
        last = iter(folds)

        def finish(predictive: Any, *rows: Tensor) -> Any:
            block = next(last)
            block.add(predictive)
            return reduction(block.result(), *rows)

        asked, inner = self._ask(self._seen(self.views[-1], rows, X))
        return asked._reduce(inner, finish, *aligned)


def as_rows(X: Any) -> Tensor:
    """Make a float tensor on the CPU of rows of any kind."""
    try:
        values = np.asarray(dense(X))
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"views need rows of numbers, but X cannot be converted to floats ({error}). Put "
            "TestTimeAugmentation behind the steps that encode X, as the last step of a Pipeline."
        ) from error
    return tensor_of(values, copy=True)


def _called_for_effect(effect: Callable[[Any], Any]) -> Callable[[Any], Tensor]:
    """Make a reduction that calls `effect` and returns no numbers."""

    def reduction(predictive: Any) -> Tensor:
        effect(predictive)
        where = predictive.logits if hasattr(predictive, "logits") else predictive.mean
        return torch.empty((predictive.batch_shape[1], 0), device=where.device)

    return reduction


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], tuple):
        return tuple(map(np.concatenate, zip(*parts)))
    return np.concatenate(parts)

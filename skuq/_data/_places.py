"""The axes of rows, outputs, classes and places in arrays, decided once for all modules.

A *row* is one entry of X's first axis: a line of a table, an image. A network may predict for each
*place* of a row, such as each pixel of an image. Code that reduces, scores or learns then treats
each place as a row:

=====================  ==========================================================================
arrays of              axes
=====================  ==========================================================================
a network's output     (n_rows, n_outputs, \\*places), as torch's convolutions have them
raw draws              (n_draws, n_rows, n_outputs, \\*places): ``Engine.__call__``
likelihoods            (..., n_places, n_outputs): a loss or a distribution for each place;
                       n_places is n_rows times the number of places of a row
reductions             (n_draws, n_places, n_outputs): input from ``Engine.map``; in memory
                       the places lie last
``Softmax``            (..., n_places, n_classes): classes last
targets, weights       (n_rows, \\*places), or (n_rows, \\*places, n_targets)
results of reductions  (n_rows, \\*places, ...): ``Engine.map``
public arrays          (n_rows, n_classes, \\*places), and (n_draws, n_rows, n_classes, \\*places):
                       `skuq.uncertainty`, ``predict_proba``, ``predict_draws``
=====================  ==========================================================================

Without places, these are the usual arrays of a table, and nothing is copied. The number of places
comes from each output, not from `fit`: images of another size have another number.

A batch, the input of a network, is one tensor, or a dict of tensors whose first axes are the rows.
The module gets a dict as keyword arguments, as in skorch. Rows, streams and chunks slice, pad and
move each tensor of a dict in the same way. X of the estimators is one tensor today.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

__all__ = ["classes_second", "flat_places", "places_as_rows", "row_losses", "rows_with_places"]

Values = TypeVar("Values", np.ndarray, Tensor)


def places_as_rows(output: Tensor) -> Tensor:
    """Make each place a row.

    Parameters
    ----------
    output : Tensor of shape (n_draws, n_rows, n_outputs, *places)

    Returns
    -------
    Tensor of shape (n_draws, n_places, n_outputs)
        The places of the first row come first. It is a view if possible; then places may lie last
        in memory.
    """
    return output if output.ndim == 3 else output.movedim(2, 1).flatten(2).mT


def flat_places(values: Values, places: Sequence[int]) -> Values:
    """Make one axis of rows and places: (n_rows, *places, ...) becomes (n_places, ...)."""
    if not len(places):
        return values
    rest: Sequence[int] = values.shape[1 + len(places) :]
    return values.reshape((len(values) * math.prod(places), *rest))


def rows_with_places(values: Values, n_rows: int, places: Sequence[int]) -> Values:
    """Undo `flat_places`: (n_places, ...) becomes (n_rows, *places, ...)."""
    return values.reshape((n_rows, *places, *values.shape[1:])) if len(places) else values


def classes_second(values: np.ndarray) -> np.ndarray:
    r"""Give results of reductions, (n_rows, \*places, n_classes), the axes of public arrays."""
    return np.moveaxis(values, -1, 1)


def row_losses(
    rule: Callable[[Tensor, Tensor], Tensor],
    output: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """Compute the loss of each row: the mean over its places, each times its weight.

    Parameters
    ----------
    rule : callable
        Maps outputs (n_places, n_outputs) and targets (n_places, ...) to losses (n_places,).
    output : Tensor of shape (n_rows, n_outputs, *places)
    target : Tensor of shape (n_rows, *places, ...)
    weight : Tensor of shape (n_rows, *places), or (n_rows,), default=None

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    if output.ndim == 2:
        losses = rule(output, target)
        return losses if weight is None else weight * losses
    flat = output.movedim(1, -1).flatten(0, -2)
    target = flat_places(target, output.shape[2:])
    # Masks are kept in small integers.
    losses = rule(flat, target if target.is_floating_point() else target.long())
    each = losses.reshape(len(output), -1)
    if weight is not None:
        each = weight.reshape(len(output), -1) * each
    return each.mean(1)

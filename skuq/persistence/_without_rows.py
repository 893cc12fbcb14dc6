"""Rows of no data, on which `load` checks a network that was saved without training rows."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from skuq._engine._engine import Engine
from skuq._networks._inputs import Layout
from skuq.exceptions import PersistenceError

__all__ = ["without_rows"]


def without_rows(engine: Engine, layout: Layout | None) -> Engine:
    """Return a copy of an engine whose three rows are no rows of the training data.

    Floats are random numbers with the mean 0 and the standard deviation 1. Rows of whole numbers,
    which may be token ids or codes, are ones.

    Raises
    ------
    PersistenceError
        If the network cannot take such rows.
    """
    own = copy.copy(engine)
    own.__dict__.update(engine.__getstate__())  # on the CPU, with sizes for the rows of training
    own._sample = _rows_like(own._sample, layout)
    try:
        with torch.no_grad():
            outputs = own(own._sample)
        finite = bool(torch.isfinite(outputs).all())
    except Exception as error:
        raise PersistenceError(_message(engine, f"it raises {type(error).__name__}")) from error
    if not finite:
        raise PersistenceError(_message(engine, "its outputs are not finite"))
    return own


def _message(engine: Engine, why: str) -> str:
    return (
        f"keep_rows=False records the outputs of {type(engine.draws.module).__name__} on rows of "
        f"random numbers, or of ones for whole numbers, but {why}. Let it take such rows, or save "
        "with keep_rows=True"
    )


def _rows_like(rows: Tensor, layout: Layout | None) -> Tensor:
    """Make rows of the same shape without the values of the given ones."""
    random = torch.Generator().manual_seed(0)
    made = torch.randn(rows.shape, generator=random, dtype=torch.float64).to(rows.dtype)
    if layout is None:
        whole = bool((rows == rows.floor()).all())
        return torch.ones_like(rows) if whole else made
    inputs = [
        made_of if made_of.is_floating_point() else torch.ones_like(made_of)
        for made_of in (layout.unpacked(made)[part.name] for part in layout.parts)
    ]
    if layout.adds_mask:
        inputs.append(torch.ones_like(layout.unpacked(rows)[""]))
    return layout.joined(inputs).to(rows.dtype)

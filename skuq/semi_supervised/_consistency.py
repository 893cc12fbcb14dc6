"""The formulas of the uncertainty-aware mean teacher (arXiv:1907.07034), on tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["average_weight", "disagreement", "entropy", "ramp", "threshold"]

_FLOOR = 1e-6  # inside the logarithm of the entropy
_NO_ROWS = 1e-16  # keeps a mean over no rows at all at zero


def ramp(share: float) -> float:
    """Return exp(−5 (1 − t)²) for the share t of the way that is done; 1 at its end.

    Parameters
    ----------
    share : float
        The share; below 0 counts as 0, above 1 as 1.
    """
    return math.exp(-5 * (1 - min(max(share, 0.0), 1.0)) ** 2)


def threshold(rule: str | float | None, share: float, n_classes: int) -> float:
    """Return the entropy in nats below which a row counts.

    Parameters
    ----------
    rule : "ramp", float or None
        "ramp" is (0.75 + 0.25 ramp(share)) log C, a number a share of log C, None infinity.
    share : float
        The share of the training that is over.
    n_classes : int
        The number of classes C.
    """
    if rule is None:
        return math.inf
    part = 0.75 + 0.25 * ramp(share) if isinstance(rule, str) else float(rule)
    return part * math.log(n_classes)


def average_weight(step: int, decay: float) -> float:
    """Return the weight α of the teacher in its next average, min(1 − 1/(step + 1), decay)."""
    return min(1 - 1 / (step + 1), decay)


def entropy(proba: Tensor) -> Tensor:
    """Compute −Σ_c p log(p + 1e-6) along the last axis, in nats."""
    return -(proba * torch.log(proba + _FLOOR)).sum(-1)


def disagreement(
    student: Tensor, teacher: Tensor, counts: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Compute Σ w ‖p − q‖² / (C Σ w) over the rows that count; 0 if none does.

    Parameters
    ----------
    student, teacher : Tensor of shape (n_rows, n_classes)
        Probabilities p and q.
    counts : Tensor of bool, of shape (n_rows,)
        The rows whose teacher is certain enough.
    weight : Tensor of shape (n_rows,), default=None
        Weights w of the rows; None weights all equally.

    Returns
    -------
    Tensor of shape ()
        Differentiable in `student`.
    """
    share = counts.to(student.dtype)
    if weight is not None:
        share = share * weight
    distance = (student - teacher).square().sum(-1)
    return (share * distance).sum() / (student.shape[-1] * share.sum() + _NO_ROWS)

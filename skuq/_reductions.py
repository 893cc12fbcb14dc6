"""Reductions of the predictive distributions of all draws to uncertainties.

`skuq._predict` explains reductions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from torch import Tensor
from torch.distributions import Distribution

from skuq._distributions._softmax import Softmax, mean_of_draws
from skuq._utils._messages import warn
from skuq.uncertainty import (
    Uncertainty,
    _decompose_entropy,
    _decompose_variance,
    _label_variance,
    _least_confidence,
    _margin,
    _moments,
    _variation_ratio,
)

__all__ = [
    "DECOMPOSED",
    "OF_EACH_DRAW",
    "TOTALS",
    "ManyDraws",
    "Part",
    "class_uncertainty",
    "of_targets",
    "target_uncertainty",
]

Part: TypeAlias = Literal["total", "aleatoric", "epistemic"]  # the kinds that are one array
_MANY_BYTES = 2**30
KINDS = ("total", "aleatoric", "epistemic", "all")


def _draws(predictive: Softmax) -> Tensor:
    """Their probabilities, unchecked; the classes are the third axis, also of several labels."""
    return predictive.probs.movedim(-1, 2)


def _mean(predictive: Softmax) -> Tensor:
    return predictive.mean_probs.movedim(-1, 1)


# The measures of `predict_uncertainty` of a classifier: measures with parts, whose mean over the
# draws is the aleatoric part, and measures without parts.
DECOMPOSED: dict[str, Callable[[Softmax], Uncertainty]] = {
    "entropy": lambda predictive: _decompose_entropy(predictive.entropy(), _mean(predictive)),
    "variance": lambda predictive: _decompose_variance(_draws(predictive), _mean(predictive)),
}
OF_EACH_DRAW: dict[str, Callable[[Softmax], Tensor]] = {
    "entropy": lambda predictive: predictive.entropy(),
    "variance": lambda predictive: _label_variance(_draws(predictive)),
}
TOTALS: dict[str, Callable[[Softmax], Tensor]] = {
    "variation_ratio": lambda predictive: _variation_ratio(_draws(predictive)),
    "margin": lambda predictive: _margin(_mean(predictive)),
    "least_confidence": lambda predictive: _least_confidence(_mean(predictive)),
}


def _check_kind(kind: str) -> None:
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")


def _select(parts: Uncertainty, kind: str) -> Any:
    return parts if kind == "all" else getattr(parts, kind)


def of_targets(reduction: Callable[..., Any]) -> Callable[..., Any]:
    """Let a reduction refuse another number of targets than the regressor has.

    Broadcasting would score every target against each.
    """

    def checked(predictive: Distribution, y: Tensor, *rows: Tensor) -> Any:
        if y.shape[-1] != predictive.batch_shape[-1]:
            raise ValueError(
                f"y has {y.shape[-1]} targets, but the regressor predicts "
                f"{predictive.batch_shape[-1]}"
            )
        return reduction(predictive, y, *rows)

    return checked


class ManyDraws:
    """Warns once if the draws of all rows take much memory."""

    def __init__(self) -> None:
        self._warned = False

    def warn_of(self, draws: Tensor, n_rows: int | None) -> None:
        """Warn, given the draws of some rows and the number of all rows, if it is known."""
        size = draws[:, :1].numel() * (draws.shape[1] if n_rows is None else n_rows) * 8
        if size > _MANY_BYTES and not self._warned:
            self._warned = True
            warn(
                f"predict_draws keeps every draw: {size / 2**30:.1f} GiB. Give fewer rows at a "
                "time, or use predict_uncertainty, which keeps no draws.",
                UserWarning,
            )


def class_uncertainty(kind: str = "total", measure: str = "entropy") -> Callable[[Softmax], Any]:
    """Make the reduction behind `predict_uncertainty` of a classifier."""
    _check_kind(kind)
    if isinstance(measure, str) and measure in DECOMPOSED:
        return lambda predictive: _select(DECOMPOSED[measure](predictive), kind)
    if not isinstance(measure, str) or measure not in TOTALS:
        known = ", ".join(map(repr, (*DECOMPOSED, *TOTALS)))
        raise ValueError(f"measure must be one of {known}, got {measure!r}")
    if kind != "total":
        raise ValueError(
            f"measure={measure!r} does not decompose: it has only kind='total', got "
            f"kind={kind!r}; use measure='entropy' or 'variance'"
        )
    return TOTALS[measure]


def target_uncertainty(kind: str = "total") -> Callable[[Distribution], Any]:
    """Make the reduction behind `predict_uncertainty` of a regressor."""
    _check_kind(kind)
    return lambda predictive: _select(_target_parts(predictive), kind)


def _target_parts(predictive: Distribution) -> Uncertainty:
    """Split variances; a single draw may know which part of its own is doubt about the function.

    A nonlinear transformer of targets keeps that share, which is right to first order.
    """
    parts = _moments(predictive.mean, predictive.variance)
    inner: Any = predictive
    while not hasattr(inner, "function_variance"):
        if not hasattr(inner, "base"):
            return parts
        inner = inner.base
    doubt = parts.aleatoric * mean_of_draws(inner.function_variance / inner.variance).clamp(0, 1)
    return Uncertainty(parts.total, parts.aleatoric - doubt, parts.epistemic + doubt)

"""Real targets by quantiles: the pinball loss."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._families import QuantileKnots
from skuq._utils._sklearn_compat import Interval
from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._standardised import Standardised

__all__ = ["Quantile"]


class Quantile(Standardised, Likelihood):
    """Real targets by several quantiles, without a family of distributions.

    Targets are standardised inside. For each of D targets the outputs are the quantiles θ at the
    levels q, [θ_11 … θ_DK]. The loss is the pinball loss [1]_, summed over levels and targets,

        Σ_k max(q_k (y − θ_k), (q_k − 1)(y − θ_k)).

    The q_k-quantile of y minimises it.

    The predicted distribution of y has these quantiles: it is uniform between neighbours, with
    exponential tails beyond the outermost. Mean, variance and intervals come from it; with a single
    draw, `predict_quantiles` at the levels q returns the outputs of the network. Outputs that cross
    are sorted, which never makes them worse [2]_.

    Parameters
    ----------
    q : sequence of float, default=(0.05, 0.25, 0.5, 0.75, 0.95)
        At least two increasing levels in (0, 1). Include the levels that you will predict, and more
        in between for a better mean and variance.
    min_scale : float, default=1e-3
        Limits the density to 1/`min_scale`, in units of the standard deviation of y: quantiles are
        at least `min_scale` times the difference of their levels apart.
    standardise : bool or pair (location, scale), default=True
        The units in which the network works. True takes y minus its mean over its standard
        deviation, both of the training rows; False takes y itself. A pair takes
        (y − location) / scale, numbers or arrays of shape (n_targets,). False and a pair are for
        networks that were trained elsewhere; `min_scale` stays relative to the spread of y.

    Notes
    -----
    The pinball loss is no negative log-likelihood. Early stopping monitors the negative
    log-likelihood of the predicted distribution.

    References
    ----------
    .. [1] R. Koenker, G. Bassett, "Regression Quantiles", Econometrica 46, 1978,
       doi:10.2307/1913643.
    .. [2] V. Chernozhukov, I. Fernández-Val, A. Galichon, "Quantile and Probability Curves Without
       Crossing", Econometrica 78, 2010, doi:10.3982/ECTA7880.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import Quantile
    >>> likelihood = Quantile(q=(0.1, 0.5, 0.9)).fit(np.array([[-1.0], [1.0]]))
    >>> crossed = likelihood.predictive(torch.tensor([[2.0, 0.5, -1.0]]))
    >>> [round(float(crossed.icdf(torch.tensor(q))), 3) for q in (0.1, 0.5, 0.9)]
    [-1.0, 0.5, 2.0]
    """

    task = "regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "q": ["array-like"],
        "min_scale": [Interval(Real, 0, None, closed="neither")],
        "standardise": ["boolean", tuple, list],
    }

    def __init__(
        self,
        q: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        min_scale: float = 1e-3,
        standardise: Any = True,
    ) -> None:
        self.q = q
        self.min_scale = min_scale
        self.standardise = standardise

    def validate(self) -> None:
        super().validate()
        levels = np.asarray(self.q, dtype=float)
        inside = levels.ndim == 1 and len(levels) >= 2 and (levels > 0).all() and (levels < 1).all()
        if not inside or not (np.diff(levels) > 0).all():
            raise ValueError(
                f"q must be at least two increasing levels in (0, 1), got {self.q!r}. For the "
                "median only, use Laplace()."
            )

    @property
    def _outputs_per_target(self) -> int:
        return len(self.q)

    def explain_outputs(self) -> str:
        return f"{len(self.q)} quantiles of each of {self.n_targets_} targets"

    def links(self) -> list[str]:
        return [self._location_link] * self.n_outputs_

    def output_units(self) -> np.ndarray:
        return np.repeat(self.spread_, len(self.q))

    def _quantiles(self, output: Tensor) -> Tensor:
        quantiles: Tensor = output.unflatten(-1, (self.n_targets_, len(self.q)))
        return quantiles

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        levels = output.new_tensor(self.q)
        excess = target[..., None] - self._quantiles(output)
        return torch.maximum(levels * excess, (levels - 1) * excess).sum((-1, -2))

    def fisher(self, output: Tensor) -> Tensor:
        raise TypeError(
            "Quantile has no Fisher information: its loss is not a negative log-likelihood"
        )

    def _distribution(self, output: Tensor, location: Any = 0.0, scale: Any = 1.0) -> QuantileKnots:
        levels = output.new_tensor(self.q)
        ordered = self._quantiles(output).sort(-1).values
        gaps = ordered.diff(dim=-1)
        least = self._floor(self.min_scale, 1, output, parts=True)
        missing = (least * levels.diff() - gaps).clamp(min=0)
        # Quantiles above the middle move up, those below it move down.
        spread = torch.cat([torch.zeros_like(ordered[..., :1]), missing.cumsum(-1)], dim=-1)
        middle = int((levels - 0.5).abs().argmin())
        ordered = ordered + spread - spread[..., middle : middle + 1]
        if isinstance(location, Tensor):  # the quantiles lie on the last axis
            location, scale = location[:, None], scale[:, None]
        return QuantileKnots(levels, location + scale * ordered)

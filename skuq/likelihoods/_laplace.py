"""Real targets with Laplace noise: the absolute error."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, distributions

from skuq._utils._sklearn_compat import Interval
from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._noise import common_noise
from skuq.likelihoods._standardised import Standardised

__all__ = ["Laplace"]


class Laplace(Standardised, Likelihood):
    """Real targets with Laplace noise: the location is the median, and the loss the absolute error.

    Targets are standardised inside, and independent given x.

    * heteroscedastic: outputs [m_1 … m_D, s_1 … s_D] with scale b = e(s) + `min_scale`, where
      e(s) = exp(s) up to s = 2; the loss is the negative log-likelihood, |y − m|/b + log(2b),
      summed over the targets. For a given m the best b is the mean absolute residual.
    * homoscedastic: outputs [m_1 … m_D]; the loss is the absolute error |y − m|. b of each target
      is learnt after training on rows that training has not seen, like σ² of `Gaussian`.

    The variance is 2b².

    Parameters
    ----------
    heteroscedastic : bool, default=True
        Whether the network predicts the noise for each x (2 outputs per target). If not, one noise
        level holds for all x (1 output per target).
    min_scale : float, default=1e-3
        Added to b (if homoscedastic: least b), in units of the standard deviation of y.
    standardise : bool or pair (location, scale), default=True
        The units in which the network works. True takes y minus its mean over its standard
        deviation, both of the training rows; False takes y itself. A pair takes
        (y − location) / scale, numbers or arrays of shape (n_targets,). False and a pair are for
        networks that were trained elsewhere; `min_scale` stays relative to the spread of y.

    Notes
    -----
    Beyond s = 2 the link e(s) goes on as √(e⁴ (2s − 3)), up to 100 times the standard deviation of
    y: rows far from the training data then have a noise that is large, and not absurd.

    References
    ----------
    .. [1] S. Prince, "Understanding Deep Learning", MIT Press, 2023, chapter 5.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import Laplace
    >>> likelihood = Laplace(min_scale=1e-6).fit(np.array([[8.0], [12.0]]))
    >>> predictive = likelihood.predictive(torch.zeros(1, 2))
    >>> round(float(predictive.mean), 3), round(float(predictive.variance), 3)
    (10.0, 8.0)
    """

    task = "regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "heteroscedastic": ["boolean"],
        "min_scale": [Interval(Real, 0, None, closed="neither")],
        "standardise": ["boolean", tuple, list],
    }

    def __init__(
        self, heteroscedastic: bool = True, min_scale: float = 1e-3, standardise: Any = True
    ) -> None:
        self.heteroscedastic = heteroscedastic
        self.min_scale = min_scale
        self.standardise = standardise

    @property
    def _outputs_per_target(self) -> int:
        return 2 if self.heteroscedastic else 1

    def fit(self, *args: Any, **kwargs: Any) -> Self:
        super().fit(*args, **kwargs)
        self.noise_scale_ = self.spread_.copy()
        return self

    def explain_outputs(self) -> str:
        if self.heteroscedastic:
            return (
                f"a median and a log-scale for each of {self.n_targets_} targets; "
                "Laplace(heteroscedastic=False) needs only the medians"
            )
        return f"a median for each of {self.n_targets_} targets"

    def _distribution(
        self, output: Tensor, location: Any = 0.0, scale: Any = 1.0
    ) -> distributions.Laplace:
        median, *rest = output.split(self.n_targets_, dim=-1)
        if rest:
            b = self._scale_of(rest[0]) + self._floor(self.min_scale, 1, output)
        else:
            b = output.new_tensor(self.noise_scale_).expand_as(median)
        return distributions.Laplace(location + scale * median, scale * b, validate_args=False)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if self.heteroscedastic:
            return super().loss(output, target)
        return (target - output).abs().sum(-1)

    def fisher(self, output: Tensor) -> Tensor:
        b = self._distribution(output).scale
        if not self.heteroscedastic:
            return torch.diag_embed(1 / b.square())
        slope = self._slope_of_scale(output[..., self.n_targets_ :])
        diagonal = torch.cat([1 / b.square(), (slope / b).square()], dim=-1)
        return torch.diag_embed(diagonal)

    @property
    def wants_unseen_rows(self) -> bool:
        return not self.heteroscedastic

    def finish(
        self,
        evaluate: Callable[..., Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
        given_noise: bool = False,
    ) -> None:
        if not self.heteroscedastic:
            least = self._least_noise(self.min_scale, 1)
            self.noise_scale_ = common_noise(evaluate, target, sample_weight, 1, given_noise, least)

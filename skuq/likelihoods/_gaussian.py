"""Real targets with normal noise."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, distributions

from skuq._utils._sklearn_compat import Interval
from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._links import positive, positive_slope
from skuq.likelihoods._noise import common_noise
from skuq.likelihoods._standardised import Standardised

__all__ = ["Gaussian"]


_ROWS_OF_ONE = 20.0  # rows of squared residuals 1: few watched rows change the noise little


class Gaussian(Standardised, Likelihood):
    """Real targets with normal noise: the outputs are means and, by default, log-variances.

    Targets are standardised inside; results are in the units of y. Several targets are independent
    given x.

    * heteroscedastic [1]_: outputs [μ_1 … μ_D, s_1 … s_D] with σ² = e(s) + `min_variance`, where
      e(s) = exp(s) up to s = 4; the loss is β-NLL [2]_, stopgrad(σ^{2β}) · ½[(y − μ)²/σ² + log σ²],
      summed over the targets.
    * homoscedastic: outputs [μ_1 … μ_D]; the loss is ½(y − μ)². σ² of each target is learnt after
      training, on rows that training has not seen. It maximises the likelihood of the mixture of
      all draws, so that it does not count the spread of the draws a second time. Without early
      stopping this needs further trainings; `docs/losses.md` lists them.

    Parameters
    ----------
    heteroscedastic : bool, default=True
        Whether the network predicts the noise for each x (2 outputs per target). If not, one noise
        level holds for all x (1 output per target).
    beta : float in [0, 1], default=0.5
        Exponent β of the β-NLL: 0 is the negative log-likelihood, 1 gives the mean the gradient of
        the squared error. Ignored if homoscedastic.
    min_variance : float, default=1e-6
        Added to σ² (if homoscedastic: least σ²), in units of the variance of y. Without it the
        likelihood has no bound where residuals vanish.
    standardise : bool or pair (location, scale), default=True
        The units in which the network works. True takes y minus its mean over its standard
        deviation, both of the training rows; False takes y itself. A pair takes
        (y − location) / scale, numbers or arrays of shape (n_targets,). False and a pair are for
        networks that were trained elsewhere; `min_variance` stays relative to the spread of y.

    Attributes
    ----------
    noise_variance_ : ndarray of shape (n_targets,)
        If homoscedastic, the learnt variance, in encoded units.
    variance_factor_ : ndarray of shape (n_targets,)
        If heteroscedastic, what multiplies σ² in predictions. Networks fit noise, so residuals of
        their training rows are too small. Where early stopping sets rows apart and each draw is a
        trained network (`DeepEnsemble`, `PointEstimate`), the factor is the mean of squared
        residuals of these rows in units of σ², with 20 rows of 1 added. Otherwise it is 1.

    Notes
    -----
    Beyond s = 4 the link e(s) goes on as its tangent, e⁴ (s − 3), up to 10⁴ times the variance of
    y: rows far from the training data then have a noise that is large, and not absurd.

    References
    ----------
    .. [1] D. Nix and A. Weigend, "Estimating the mean and variance of the target probability
       distribution", ICNN 1994, doi:10.1109/ICNN.1994.374138.
    .. [2] M. Seitzer, A. Tavakoli, D. Antic, G. Martius, "On the Pitfalls of Heteroscedastic
       Uncertainty Estimation with Probabilistic Neural Networks", ICLR 2022, arXiv:2203.09168.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import Gaussian
    >>> likelihood = Gaussian().fit(np.array([[8.0], [12.0]]))
    >>> normal = likelihood.predictive(torch.zeros(1, 2))    # the mean and variance of y itself
    >>> round(float(normal.mean), 3), round(float(normal.variance), 3)
    (10.0, 4.0)
    """

    task = "regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "heteroscedastic": ["boolean"],
        "beta": [Interval(Real, 0, 1, closed="both")],
        "min_variance": [Interval(Real, 0, None, closed="neither")],
        "standardise": ["boolean", tuple, list],
    }

    def __init__(
        self,
        heteroscedastic: bool = True,
        beta: float = 0.5,
        min_variance: float = 1e-6,
        standardise: Any = True,
    ) -> None:
        self.heteroscedastic = heteroscedastic
        self.beta = beta
        self.min_variance = min_variance
        self.standardise = standardise

    @property
    def _outputs_per_target(self) -> int:
        return 2 if self.heteroscedastic else 1

    def fit(self, *args: Any, **kwargs: Any) -> Self:
        super().fit(*args, **kwargs)
        self.noise_variance_ = self.spread_**2
        self.variance_factor_ = np.ones(self.n_targets_)
        return self

    def explain_outputs(self) -> str:
        if self.heteroscedastic:
            return (
                f"a mean and a log-variance for each of {self.n_targets_} targets; "
                "Gaussian(heteroscedastic=False) needs only the means"
            )
        return f"a mean for each of {self.n_targets_} targets"

    def _moments(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance in standardised units, each of shape (..., n_targets_)."""
        if not self.heteroscedastic:
            return output, output.new_tensor(self.noise_variance_).expand_as(output)
        mean, log_variance = output.split(self.n_targets_, dim=-1)
        variance = positive(log_variance, self._linear_from, self._noise_units(2))
        return mean, variance + self._floor(self.min_variance, 2, output)

    def _distribution(
        self, output: Tensor, location: Any = 0.0, scale: Any = 1.0
    ) -> distributions.Normal:
        mean, variance = self._moments(output)
        factor = getattr(self, "variance_factor_", None)  # files of older versions have none
        if self.heteroscedastic and factor is not None:
            variance = variance * output.new_tensor(factor)
        return distributions.Normal(
            location + scale * mean, scale * variance.sqrt(), validate_args=False
        )

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if not self.heteroscedastic:
            return 0.5 * (target - output).square().sum(-1)
        mean, variance = self._moments(output)
        loss = 0.5 * ((target - mean).square() / variance + variance.log())
        if self.beta > 0:
            loss = variance.detach() ** self.beta * loss
        return loss.sum(-1)

    def fisher(self, output: Tensor) -> Tensor:
        _, variance = self._moments(output)
        if not self.heteroscedastic:
            return torch.diag_embed(1 / variance)
        raw, unit = output[..., self.n_targets_ :], self._noise_units(2)
        slope = positive_slope(raw, self._linear_from, unit)
        diagonal = torch.cat([1 / variance, 0.5 * (slope / variance).square()], dim=-1)
        return torch.diag_embed(diagonal)

    @property
    def wants_unseen_rows(self) -> bool:
        return not self.heteroscedastic

    def learn_scale(
        self,
        evaluate: Callable[..., Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
    ) -> None:
        if self.heteroscedastic:
            squares = evaluate(self._squares, target)
            weight = np.ones(len(target)) if sample_weight is None else sample_weight
            total = weight @ squares + _ROWS_OF_ONE
            self.variance_factor_ = total / (weight.sum() + _ROWS_OF_ONE)

    def _squares(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Compute squared residuals in units of the variance, of shape (n_rows, n_targets_)."""
        mean, variance = self._moments(outputs[0])
        return (target - mean).square() / variance

    def finish(
        self,
        evaluate: Callable[..., Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
        given_noise: bool = False,
    ) -> None:
        if not self.heteroscedastic:
            least = self._least_noise(self.min_variance, 2)
            self.noise_variance_ = common_noise(
                evaluate, target, sample_weight, 2, given_noise, least
            )

"""Likelihoods: what the outputs of a network say about a target.

A likelihood is the mathematical object between the raw outputs of a network and the target y. It
says how many outputs the network needs, what to minimise, and which distribution of y the outputs
stand for. It knows nothing of posteriors: every likelihood works with every posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, distributions

from skuq._sklearn_compat import Interval, validate_parameter_constraints
from skuq._softmax import Softmax

__all__ = ["Categorical", "Gaussian", "Likelihood"]


class Likelihood(BaseEstimator):
    """Base class and contract of the likelihoods.

    An estimator clones the likelihood it was given and fits the clone (`likelihood_`), so the
    parameters of a likelihood can be searched and are never changed.

    A subclass gives `task` ("classification" or "regression"), `fit`, `loss`, `predictive` and
    `explain_outputs`; `encode`, `negative_log_likelihood` and `finish` have defaults that may do.
    """

    task: ClassVar[str]
    _parameter_constraints: ClassVar[dict] = {}

    n_outputs_: int

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
    ) -> Likelihood:
        """Learn from the targets what does not need a network; sets ``n_outputs_``.

        Parameters
        ----------
        y : ndarray of shape (n_samples,) of class indices, or (n_samples, n_targets) of floats
        sample_weight : ndarray of shape (n_samples,), default=None
        n_classes : int, default=None
            Of a classification; y need not hold them all.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement fit")

    def validate(self) -> None:
        """Check the parameters; raises ``InvalidParameterError`` (a `ValueError`)."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )

    def explain_outputs(self) -> str:
        """Why ``n_outputs_`` outputs are needed, for the message that a wrong number gets."""
        raise NotImplementedError(f"{type(self).__name__} does not implement explain_outputs")

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Targets in the units in which the network is trained."""
        return y

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """What training minimises, per row.

        Parameters
        ----------
        output : Tensor of shape (n_rows, n_outputs_), raw network outputs
        target : Tensor of shape (n_rows, ...), encoded targets

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement loss")

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        """The true negative log-likelihood per row, which early stopping monitors (nats)."""
        return self.loss(output, target)

    def predictive(self, output: Tensor) -> distributions.Distribution:
        """The distribution of y, in the units of y, for outputs of shape (..., n_outputs_)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement predictive")

    def finish(
        self,
        evaluate: Callable[[Callable[[Tensor], Any]], Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
    ) -> None:
        """Learn what needs the fitted posterior; called once, after it.

        ``evaluate(reduction)`` applies `reduction` to the outputs of all draws, of shape
        (n_draws, n_rows, n_outputs_), on the training rows and returns arrays of n_samples rows.
        """


class Categorical(Likelihood):
    """Classes: the outputs are the logits of a softmax.

    The loss is the cross-entropy from the logits, −log softmax(z)_y; with label smoothing ε the
    target is 1 − ε + ε/K on the label and ε/K on every other of the K classes [1]_.

    Parameters
    ----------
    label_smoothing : float in [0, 1), default=0.0
        ε. Changes the training loss alone: early stopping monitors the true negative
        log-likelihood.

    References
    ----------
    .. [1] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
       CVPR 2016, arXiv:1512.00567.

    Examples
    --------
    >>> import torch
    >>> from skuq.likelihoods import Categorical
    >>> likelihood = Categorical().fit(torch.tensor([0, 1]).numpy(), n_classes=3)
    >>> likelihood.predictive(torch.zeros(1, 3)).probs
    tensor([[0.3333, 0.3333, 0.3333]])
    """

    task = "classification"
    _parameter_constraints: ClassVar[dict] = {
        "label_smoothing": [Interval(Real, 0, 1, closed="left")]
    }

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
    ) -> Categorical:
        self.n_outputs_ = int(np.max(y)) + 1 if n_classes is None else n_classes
        return self

    def explain_outputs(self) -> str:
        return f"one logit for each of {self.n_outputs_} classes"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(
            output, target, reduction="none", label_smoothing=self.label_smoothing
        )

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(output, target, reduction="none")

    def predictive(self, output: Tensor) -> distributions.Categorical:
        return Softmax(output)


class Gaussian(Likelihood):
    """Real targets with normal noise: the outputs are means and, by default, log-variances.

    Targets are standardised inside, and all that is reported is in their own units. Several
    targets are independent given x.

    * heteroscedastic [1]_: outputs [μ_1 … μ_D, s_1 … s_D] with σ² = exp(s) + `min_variance`; the
      loss is β-NLL [2]_, stopgrad(σ^{2β}) · ½[(y − μ)²/σ² + log σ²], summed over the targets.
    * homoscedastic: outputs [μ_1 … μ_D]; the loss is ½(y − μ)², and σ² of each target is the
      mean squared residual on the training rows (of the last call of `partial_fit`) over all
      draws, each draw's maximum-likelihood value. It holds the spread of the draws as well, so
      totals err on the wide side where draws differ much.

    Parameters
    ----------
    heteroscedastic : bool, default=True
        Whether the network gives the noise for each x (2 outputs per target) or one noise level
        holds everywhere (1 output per target).
    beta : float in [0, 1], default=0.5
        β of the β-NLL: 0 is the negative log-likelihood, 1 gives the mean the gradient of the
        squared error. Not used when homoscedastic.
    min_variance : float, default=1e-6
        Added to σ², in units of the variance of y: without it the likelihood is unbounded where
        residuals vanish.

    Notes
    -----
    s is clamped to [-30, 30] where it is exponentiated.

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
    _parameter_constraints: ClassVar[dict] = {
        "heteroscedastic": ["boolean"],
        "beta": [Interval(Real, 0, 1, closed="both")],
        "min_variance": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, heteroscedastic: bool = True, beta: float = 0.5, min_variance: float = 1e-6
    ) -> None:
        self.heteroscedastic = heteroscedastic
        self.beta = beta
        self.min_variance = min_variance

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
    ) -> Gaussian:
        self.n_targets_ = y.shape[1]
        self.n_outputs_ = self.n_targets_ * (2 if self.heteroscedastic else 1)
        self.location_ = np.average(y, axis=0, weights=sample_weight)
        variance = np.average((y - self.location_) ** 2, axis=0, weights=sample_weight)
        constant = variance <= (10 * np.finfo(float).eps * self.location_) ** 2
        unit = np.where(self.location_ == 0, 1.0, np.minimum(1.0, np.abs(self.location_)))
        self.scale_ = np.where(constant, unit, np.sqrt(variance))
        if not (np.isfinite(self.location_).all() and np.isfinite(self.scale_).all()):
            raise ValueError("y is too large: its variance is not finite. Rescale y.")
        self.noise_variance_ = np.ones(self.n_targets_)
        return self

    def explain_outputs(self) -> str:
        if self.heteroscedastic:
            return (
                f"a mean and a log-variance for each of {self.n_targets_} targets; "
                "Gaussian(heteroscedastic=False) needs the means alone"
            )
        return f"a mean for each of {self.n_targets_} targets"

    def encode(self, y: np.ndarray) -> np.ndarray:
        return (y - self.location_) / self.scale_

    def _moments(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance in standardised units, each of shape (..., n_targets_)."""
        if not self.heteroscedastic:
            return output, output.new_tensor(self.noise_variance_).expand_as(output)
        mean, log_variance = output.split(self.n_targets_, dim=-1)
        return mean, log_variance.clamp(-30, 30).exp() + self.min_variance

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if not self.heteroscedastic:
            return 0.5 * (target - output).square().sum(-1)
        mean, variance = self._moments(output)
        loss = 0.5 * ((target - mean).square() / variance + variance.log())
        if self.beta > 0:
            loss = variance.detach() ** self.beta * loss
        return loss.sum(-1)

    def negative_log_likelihood(self, output: Tensor, target: Tensor) -> Tensor:
        mean, variance = self._moments(output)
        normal = distributions.Normal(mean, variance.sqrt(), validate_args=False)
        return output.new_tensor(np.log(self.scale_)).sum() - normal.log_prob(target).sum(-1)

    def predictive(self, output: Tensor) -> distributions.Normal:
        mean, variance = self._moments(output)
        scale = output.new_tensor(self.scale_)
        location = output.new_tensor(self.location_)
        return distributions.Normal(
            location + scale * mean, scale * variance.sqrt(), validate_args=False
        )

    def finish(
        self,
        evaluate: Callable[[Callable[[Tensor], Any]], Any],
        target: np.ndarray,
        sample_weight: np.ndarray | None,
    ) -> None:
        if self.heteroscedastic:
            return
        mean, square = evaluate(lambda output: (output.mean(0), output.square().mean(0)))
        residual = target**2 - 2 * target * mean + square
        noise = np.average(residual, axis=0, weights=sample_weight)
        self.noise_variance_ = np.maximum(noise, self.min_variance)

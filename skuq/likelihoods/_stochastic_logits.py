"""Classes, by normally distributed logits."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skuq._distributions._softmax import Softmax
from skuq._utils._sklearn_compat import Interval
from skuq.likelihoods._base import Likelihood
from skuq.likelihoods._categorical import count_classes
from skuq.likelihoods._links import positive
from skuq.likelihoods._noisy_logits import noisy_cross_entropy

__all__ = ["StochasticLogits"]

_LINEAR_FROM = 8.0  # standard deviations of 55 logits
_BLOCK = 16  # samples of the noise that lie in memory together


class StochasticLogits(Likelihood):
    """Classes by logits with normal noise, whose size is learnt for each x [1]_.

    The outputs are means f and log-variances s of the logits of K classes, [f_1 … f_K, s_1 … s_K],
    and

        P(y = k) = mean_t softmax(f + σ ⊙ ε_t)_k,  σ = exp(s / 2),

    over T samples ε_t; the loss is −log P(y). Where x does not determine the class, a large σ
    flattens the probabilities and attenuates the loss of labels that do not fit.

    `fit` draws the T samples once, from the `random_state` of the estimator: scrambled Sobol
    points, each with its negative, with unit variance in each class. All rows use the same samples,
    in training and in predictions. So the loss is the exact negative log-likelihood of the
    predicted distribution, and predictions are functions of X.

    Parameters
    ----------
    n_samples : int >= 2, default=10
        Number T of samples. Loss and predictions cost T softmaxes; the network runs once.

    Notes
    -----
    exp(s) goes on as its tangent beyond s = 8, up to 10⁴.

    References
    ----------
    .. [1] A. Kendall, Y. Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for
       Computer Vision?", NeurIPS 2017, arXiv:1703.04977.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skuq.likelihoods import StochasticLogits
    >>> likelihood = StochasticLogits(n_samples=1000).fit(np.array([0, 1]))
    >>> quiet, loud = torch.tensor([[3.0, 0.0, -10.0, -10.0], [3.0, 0.0, 4.0, 4.0]])
    >>> float(likelihood.predictive(quiet).probs[0]) > float(likelihood.predictive(loud).probs[0])
    True
    """

    _linear_from: float | None = None  # of likelihoods fitted before there was a linear part
    task = "classification"
    takes_prior_correction = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_samples": [Interval(Integral, 2, None, closed="left")]
    }

    def __init__(self, n_samples: int = 10) -> None:
        self.n_samples = n_samples

    def fit(
        self,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> Self:
        self._linear_from = _LINEAR_FROM
        self.n_classes_ = count_classes(y, n_classes)
        self.n_outputs_ = 2 * self.n_classes_
        self.noise_ = _normal_points(self.n_samples, self.n_classes_, seed)
        return self

    def explain_outputs(self) -> str:
        return f"a mean and a log-variance for the logit of each of {self.n_classes_} classes"

    def links(self) -> list[str]:
        return ["softmax"] * self.n_classes_ + ["exp"] * self.n_classes_

    def _log_proba(self, output: Tensor) -> Tensor:
        mean, log_variance = output.split(self.n_classes_, dim=-1)
        std = positive(log_variance, self._linear_from).sqrt()
        noise = output.new_tensor(self.noise_)
        shape = (-1, *(1 for _ in mean.shape[:-1]), self.n_classes_)
        blocks = [
            (mean + std * samples.reshape(shape)).log_softmax(-1).logsumexp(0)
            for samples in noise.split(_BLOCK)
        ]
        return torch.stack(blocks).logsumexp(0) - math.log(len(noise))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        mean, log_variance = output.mT.contiguous().split(self.n_classes_)
        std = positive(log_variance, self._linear_from).sqrt()
        return noisy_cross_entropy(mean, std, output.new_tensor(self.noise_), target)

    def predictive(self, output: Tensor) -> Softmax:
        return Softmax(self._corrected(self._log_proba(output)))


def _normal_points(n_samples: int, n_classes: int, seed: int) -> np.ndarray:
    """Draw points (n_samples, n_classes), each column with mean 0 and variance 1."""
    n_points = -(-n_samples // 2)
    sobol = torch.quasirandom.SobolEngine(n_classes, scramble=True, seed=seed % 2**32)
    uniform = sobol.draw(n_points, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    normal = torch.special.ndtri(uniform)
    points = torch.stack([normal, -normal], dim=1).flatten(0, 1)[:n_samples]
    points = points - points.mean(0)
    return (points / points.std(0, correction=0)).numpy()

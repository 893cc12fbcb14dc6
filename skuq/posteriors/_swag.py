"""SWAG: a normal distribution of the weights, from the end of training."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skuq._engine._draws import Draws
from skuq._training._hooks import TrainingHook
from skuq._training._problem import Problem
from skuq._utils._random import generator
from skuq._utils._sklearn_compat import Interval
from skuq.posteriors._base import Posterior
from skuq.posteriors._members import stacked_members
from skuq.posteriors._weight_draws import (
    Weights,
    copied_tensors,
    epochs_of_a_walk,
    stacked_weights,
    trained_weights,
)

__all__ = ["SWAG"]


class SWAG(Posterior):
    """A normal distribution of all weights, fitted to a walk of the optimizer [1]_.

    After training, the network goes on for `n_epochs` at a constant learning rate, and after each
    epoch its weights θ_t are recorded. With their mean θ̄, their variances Σ (each weight by itself)
    and the deviations D = [θ_t − θ̄] of the last K ≤ `max_rank` epochs, the draws are

        θ = θ̄ + √scale · [Σ^{½} z₁ / √2 + D z₂ / √(2 (K − 1))],

    with standard normal z₁, z₂: their covariance is scale · ½ [Σ + D Dᵀ / (K − 1)]. The running
    statistics of BatchNorm layers are computed anew for each draw, in one pass over the rows.

    ``scale=0`` is stochastic weight averaging (SWA [2]_): one draw, the mean. ``n_members`` above 1
    is MultiSWAG [3]_: an ensemble, each member of which has such a distribution.

    Parameters
    ----------
    n_epochs : int, default=None
        The epochs of the walk. None takes a third of those that training took, at least 10; with
        ``max_epochs=0``, give the number.
    lr : float > 0, default=None
        The learning rate of the walk. None takes the `lr` of the estimator.
    max_rank : int, default=20
        The largest number of deviations K. Memory holds as many copies of the weights.
    n_draws : int, default=30
        Number of draws, of all members together. Draw m is of member m modulo `n_members`, and does
        not depend on `n_draws`.
    scale : float ≥ 0, default=1.0
        Factor of the covariance.
    n_members : int, default=1
        Number of networks that are trained. If there are more than draws, the others are not used.

    Notes
    -----
    The walk uses the optimizer of the estimator with its options. Early stopping and callbacks only
    belong to training. The walk does not know how much data there are: its spread comes from the
    noise of minibatches, the learning rate and drift, so doubling all sample weights changes
    nothing. Too large an `lr` makes draws too wide, and bad. With one step per epoch there is no
    noise of minibatches, and the draws show only drift.

    The deviations D are from the mean of the whole walk; the reference takes the running mean at
    each epoch, for which the walk need not be over.

    `partial_fit` is not possible, because the walk would only see the last rows. ``warm_start``
    goes on from the trained network, not from the mean.

    References
    ----------
    .. [1] W. Maddox, T. Garipov, P. Izmailov, D. Vetrov, A. Wilson, "A Simple Baseline for Bayesian
       Uncertainty in Deep Learning", NeurIPS 2019, arXiv:1902.02476.
    .. [2] P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. Wilson, "Averaging Weights Leads
       to Wider Optima and Better Generalization", UAI 2018, arXiv:1803.05407.
    .. [3] A. Wilson, P. Izmailov, "Bayesian Deep Learning and a Probabilistic Perspective of
       Generalization", NeurIPS 2020, arXiv:2002.08791.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skuq import TorchClassifier
    >>> from skuq.posteriors import SWAG
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TorchClassifier(posterior=SWAG(), lr=0.01, max_epochs=20, random_state=0)
    >>> classifier.fit(X, y).predict_draws(X).shape
    (30, 150, 3)
    """

    goes_on: ClassVar[bool] = False
    quick: ClassVar[dict[str, Any]] = {"n_epochs": 2, "n_draws": 3}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "max_rank": [Interval(Integral, 2, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "scale": [Interval(Real, 0, None, closed="left")],
        "n_members": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_epochs: int | None = None,
        lr: float | None = None,
        max_rank: int = 20,
        n_draws: int = 30,
        scale: float = 1.0,
        n_members: int = 1,
    ) -> None:
        self.n_epochs = n_epochs
        self.lr = lr
        self.max_rank = max_rank
        self.n_draws = n_draws
        self.scale = scale
        self.n_members = n_members

    def fit(self, problem: Problem) -> Draws:
        networks = problem.train(self.n_members)
        walks = [self._walk(network, problem) for network in networks]
        tensors = stacked_weights(networks[0], self._drawn(networks, walks, problem), problem)
        if len(networks) == 1:
            return Draws(networks[0], tensors)
        return Draws(networks[0], tensors, networks=stacked_members(networks, problem))

    def _walk(self, network: nn.Module, problem: Problem) -> _Moments:
        n_epochs = epochs_of_a_walk(self.n_epochs, network, problem, 3, 10, "SWAG")
        moments = _Moments(self.max_rank)
        options: dict[str, Any] = {} if self.lr is None else {"lr": self.lr}
        problem.explore(network, n_epochs, hook=moments, **options)
        return moments

    def _drawn(
        self, networks: list[nn.Module], walks: list[_Moments], problem: Problem
    ) -> Iterator[Weights]:
        n_draws = self.n_draws if self.scale else min(self.n_draws, len(walks))
        for draw in range(n_draws):
            member = draw % len(walks)
            network, walk = networks[member], walks[member]
            own = trained_weights(network) if len(walks) == 1 else copied_tensors(network)
            if walk.n_epochs:  # 0: Ctrl-C came before
                own.update(walk.draw(self.scale, problem.seed(network=draw)))
            yield own


class _Moments(TrainingHook):
    """The mean and variance of the weights after each epoch, and the last few weights."""

    def __init__(self, max_rank: int) -> None:
        self.n_epochs = 0
        self.mean: dict[str, Tensor] = {}
        self.last: list[dict[str, Tensor]] = []
        self._squares: dict[str, Tensor] = {}  # sums of squared deviations from the mean
        self._max_rank = max_rank

    def after_epoch(self, module: nn.Module, epoch: int) -> None:
        weights = trained_weights(module)
        self.n_epochs += 1
        self.last = [*self.last, weights][-self._max_rank :]
        if self.n_epochs == 1:
            self.mean = {name: value.clone() for name, value in weights.items()}
            self._squares = {name: torch.zeros_like(value) for name, value in weights.items()}
            return
        for name, value in weights.items():
            before = value - self.mean[name]
            self.mean[name] += before / self.n_epochs
            self._squares[name] += before * (value - self.mean[name])

    def variance(self) -> dict[str, Tensor]:
        return {name: total / self.n_epochs for name, total in self._squares.items()}

    def draw(self, scale: float, seed: int) -> dict[str, Tensor]:
        random, drawn = generator(seed), {}
        rank = len(self.last)
        along = torch.randn(rank, generator=random, dtype=torch.float64)
        along *= (scale / (2 * max(rank - 1, 1))) ** 0.5
        for name, variance in self.variance().items():
            mean = self.mean[name]
            noise = torch.randn(mean.shape, generator=random, dtype=mean.dtype).to(mean.device)
            drawn[name] = mean + (scale / 2 * variance).sqrt() * noise
            for factor, weights in zip(along.tolist(), self.last):
                drawn[name] += factor * (weights[name] - mean)
        return drawn
